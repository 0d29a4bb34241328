"""What guards a position: a function of the filled position, and of nothing that was merely ordered.

A stop and a target are fractions of the price they are based on: the average fill price, or the close that gave the
signal. A trailing stop follows the best price since the entry once the gain reached its activation, and never retreats.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from operator import is_

from tbh.domain.money import EXACT, ONE, floor_to_step, round_to_step
from tbh.messages.account import Position
from tbh.messages.base import message
from tbh.messages.market import Market
from tbh.messages.orders import Purpose, Side


@message
class Guard:
    """One protective order that should stand: ``price`` triggers a stop and limits a target (quote, on its step)."""

    purpose: Purpose
    side: Side
    qty: Decimal
    price: Decimal


def guards(
    position: Position | None, market: Market, *, best_price: Decimal | None, reached: Decimal | None = None
) -> dict[Purpose, Guard]:
    """The protective orders of ``position``; none when flat.

    ``best_price`` is the best since the entry, ``reached`` the tightest stop that the position has had; None: not
    known. Only a trailing stop looks at them.
    """
    if position is None or position.protection is None or not position.qty:
        return {}
    protection = position.protection
    sign = 1 if position.qty > 0 else -1
    basis = position.entry_price if protection.basis_price is None else protection.basis_price
    prices: dict[Purpose, Decimal] = {}
    with localcontext(EXACT):
        if protection.stop_loss is not None:
            prices[Purpose.STOP] = basis * (ONE - sign * protection.stop_loss)
        if protection.take_profit is not None:
            prices[Purpose.TARGET] = basis * (ONE + sign * protection.take_profit)
        trailing = protection.trailing
        if trailing is not None:
            trailed = reached
            if best_price is not None and sign * (best_price - basis) >= trailing.activate_at * basis:
                trailed = better(reached, best_price * (ONE - sign * trailing.distance), position.qty)
            if trailed is not None:
                prices[Purpose.STOP] = better(prices.get(Purpose.STOP), trailed, position.qty)
    side = Side.SELL if sign > 0 else Side.BUY
    held = position.qty.copy_abs()
    # A stop for a part is better than none: one order may have no more than this.
    qty = floor_to_step(held if market.amount_max is None else min(held, market.amount_max), market.amount_step)
    on_step = {purpose: round_to_step(price, market.price_step) for purpose, price in prices.items()}
    return {
        purpose: Guard(purpose=purpose, side=side, qty=qty, price=price)
        for purpose, price in on_step.items()
        if price > 0 and qty  # a price below half a step is none that an exchange takes
    }


class Guards:
    """``guards`` on one market, worked out anew only when one of the values that they rest on is another."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._given: tuple[Position, Decimal | None, Decimal | None] | None = None
        self._guards: dict[Purpose, Guard] = {}

    def of(self, position: Position, *, best_price: Decimal | None, reached: Decimal | None) -> dict[Purpose, Guard]:
        """The caller's own copy."""
        given = (position, best_price, reached)
        if self._given is None or not all(map(is_, given, self._given)):
            self._guards = guards(position, self._market, best_price=best_price, reached=reached)
            self._given = given
        return dict(self._guards)


def better(best: Decimal | None, candidate: Decimal, qty: Decimal) -> Decimal:
    """The better of two prices for a holder of ``qty`` (signed)."""
    if best is None:
        return candidate
    return max(best, candidate) if qty > 0 else min(best, candidate)
