"""How much to trade: from a sizing rule to a quantity that the market takes, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final

from tbh.domain.money import EXACT, ONE, ZERO, divide, floor_to_step, plain, round_to_step
from tbh.messages.market import Market
from tbh.messages.orders import Side
from tbh.messages.strategy import Limit, Sizing, SizingKind

GROWS_WITH_EQUITY: Final = frozenset({SizingKind.EQUITY_FRACTION, SizingKind.RISK_FRACTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRefusal:
    """No quantity fits. ``rule`` is a stable word for programs, ``detail`` a line for people."""

    rule: str
    detail: str


def quantity(
    sizing: Sizing,
    *,
    reference_price: Decimal,
    equity: Decimal,
    stop_fraction: Decimal | None,
    market: Market,
    max_notional: Decimal | None,
) -> Decimal | SizeRefusal:
    """The quantity in base, on the market's amount step and within its limits.

    Floored: never more than was asked. What grows with equity is cut to ``max_notional`` (quote) and to the market's
    greatest order; a fixed size is meant as it stands and refused beyond them. Below the market's least order all are
    refused, never raised to it. ``risk_fraction`` is the fraction of equity lost when price moves against the position
    by ``stop_fraction`` (fraction of price): ``equity * value / (price * stop_fraction)``.
    Raises ``ValueError`` for a price that is not positive.
    """
    if not reference_price > 0:
        raise ValueError(f"a reference price is positive: {reference_price}")
    wanted = _wanted(sizing, reference_price, equity, stop_fraction)
    if isinstance(wanted, SizeRefusal):
        return wanted
    limits = [
        ("max_notional", None if max_notional is None else divide(max_notional, reference_price)),
        ("notional_max", None if market.notional_max is None else divide(market.notional_max, reference_price)),
        ("amount_max", market.amount_max),
    ]
    for rule, limit in limits:
        if limit is None or wanted <= limit:
            continue
        if sizing.kind not in GROWS_WITH_EQUITY:
            return SizeRefusal(rule=rule, detail=f"{plain(wanted)} {market.base} asked, {plain(limit)} allowed")
        wanted = limit
    return _within(floor_to_step(max(wanted, ZERO), market.amount_step), reference_price, market)


def limit_price(limit: Limit, *, reference_price: Decimal, side: Side, market: Market) -> Decimal:
    """The price (quote, on its step) at which an entry rests; zero where the step is too coarse for one."""
    with localcontext(EXACT):
        return round_to_step(reference_price * (ONE - side.sign * limit.offset), market.price_step)


def _wanted(sizing: Sizing, price: Decimal, equity: Decimal, stop_fraction: Decimal | None) -> Decimal | SizeRefusal:
    if sizing.kind is SizingKind.FIXED_QUANTITY:
        return sizing.value
    if sizing.kind is SizingKind.FIXED_NOTIONAL:
        return divide(sizing.value, price)
    if not equity > 0:
        return SizeRefusal(rule="equity", detail=f"{sizing.kind} of an equity of {plain(equity)} is nothing")
    with localcontext(EXACT):
        share = equity * sizing.value
        if sizing.kind is SizingKind.EQUITY_FRACTION:
            return divide(share, price)
        if stop_fraction is None or not stop_fraction > 0:
            return SizeRefusal(rule="stop_missing", detail="risk_fraction needs a stop loss: it is what is lost there")
        return divide(share, price * stop_fraction)


def _within(qty: Decimal, price: Decimal, market: Market) -> Decimal | SizeRefusal:
    if not qty:
        return SizeRefusal(
            rule="amount_step", detail=f"less than one step of {plain(market.amount_step)} {market.base}"
        )
    if market.amount_min is not None and qty < market.amount_min:
        detail = f"{plain(qty)} {market.base} is below the market's least amount {plain(market.amount_min)}"
        return SizeRefusal(rule="amount_min", detail=detail)
    notional = EXACT.multiply(qty, price)
    if market.notional_min is not None and notional < market.notional_min:
        detail = f"{plain(notional)} {market.quote} is below the market's least notional {plain(market.notional_min)}"
        return SizeRefusal(rule="notional_min", detail=detail)
    return qty
