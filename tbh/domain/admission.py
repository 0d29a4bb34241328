"""What an exchange checks before it takes an order: the market's limits, the account's position, its funds.

Each check is a pure function that answers with a ``Refusal`` or ``None``; ``Matcher.submit`` asks them in the order
in which they stand here, and the first refusal wins. ``reason`` is a stable word for programs, ``detail`` a line
for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from tbh.domain.money import EXACT, ONE, ZERO, is_on_step, plain
from tbh.domain.venue import Resting, reducible, reference_price, signed
from tbh.messages.base import message
from tbh.messages.market import Market
from tbh.messages.orders import Order, OrderType, Side


@message
class Refusal:
    reason: str
    detail: str


def stands_at(order: Order) -> Decimal | None:
    """Where it stands on the book: a stop's stop price, a limit's limit, None at market."""
    return order.price if order.stop_price is None else order.stop_price


def check_form(order: Order, market: Market, *, at: datetime) -> Refusal | None:
    """The request itself: symbol, time, and the prices that its type needs."""
    if order.symbol != market.symbol:
        return Refusal(reason="unknown_symbol", detail=f"this account trades {market.symbol}, not {order.symbol}")
    if order.expires_at is not None and at > order.expires_at:
        return Refusal(reason="expired", detail=f"valid until {order.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    if (order.type is OrderType.LIMIT) is not (order.price is not None):
        return Refusal(reason="price_invalid", detail="a limit order, and no other, has a price")
    if (order.type is OrderType.STOP_MARKET) is not (order.stop_price is not None):
        return Refusal(reason="stop_price_invalid", detail="a stop order, and no other, has a stop price")
    if order.post_only and order.type is not OrderType.LIMIT:
        return Refusal(reason="post_only_needs_limit", detail=f"a {order.type} order can't be post-only")
    return None


def check_limits(order: Order, market: Market, last: Decimal) -> Refusal | None:
    """Steps and bounds of price, amount and notional. A reduce-only order has no minimum notional where it is enforced,
    so that a position whose value has sunk can still be closed."""
    for price in (order.price, order.stop_price):
        if price is None:
            continue
        if price <= 0 or not is_on_step(price, market.price_step):
            return Refusal(reason="price_off_step", detail=f"{plain(price)} is no multiple of {market.price_step}")
        if refusal := _bounds("price", price, market.price_min, market.price_max):
            return refusal
    if order.qty <= 0 or not is_on_step(order.qty, market.amount_step):
        return Refusal(reason="amount_off_step", detail=f"{plain(order.qty)} is no multiple of {market.amount_step}")
    if refusal := _bounds("amount", order.qty, market.amount_min, market.amount_max):
        return refusal
    exempt = order.reduce_only and market.enforces_reduce_only
    notional = EXACT.multiply(order.qty, reference_price(order, last))
    return _bounds("notional", notional, None if exempt else market.notional_min, market.notional_max)


def check_position(order: Order, market: Market, qty: Decimal, resting: Iterable[Resting]) -> Refusal | None:
    """Reduce-only needs something to reduce; where shorts are not allowed, a sell needs the coins.

    Without enforced reduce-only each resting sell locks its coins; with it, exits may overlap, since the exchange
    itself lets no more than the position go.
    """
    if order.reduce_only and market.enforces_reduce_only:
        if not reducible(market, qty, order.side):
            detail = f"the position is {plain(qty)} {market.base}"
            return Refusal(reason="reduce_only_nothing_to_reduce", detail=detail)
        return None
    if market.allows_short or order.side is Side.BUY:
        return None
    free = qty
    for held in resting:
        if held.side is Side.SELL and not (held.reduce_only and market.enforces_reduce_only):
            free = EXACT.subtract(free, held.open_qty)
    if order.qty > free:
        return Refusal(
            reason="insufficient_position", detail=f"{plain(max(free, ZERO))} {market.base} are free to sell"
        )
    return None


def check_funds(
    order: Order, market: Market, *, qty: Decimal, equity: Decimal, last: Decimal, resting: Iterable[Resting]
) -> Refusal | None:
    """Leverage 1: what the account would hold in the worst case, fees included, must not exceed its equity.

    The worst case on the order's side is the position, every resting order on that side that could enlarge it, and
    the order. Resting exits count as not done, except for those that wait to execute at the next price: they
    come before this order, so an exit and an opposite entry may be sent together (a reversal).
    """
    if order.reduce_only and market.enforces_reduce_only:
        return None
    pending_qty = pending_notional = ZERO
    for held in resting:
        open_qty = held.open_qty
        if held.marketable and (against := signed(held.side.opposite, qty)) > 0:
            closed = min(open_qty, against)
            qty = EXACT.add(qty, signed(held.side, closed))
            open_qty = EXACT.subtract(open_qty, closed)
        if held.side is order.side and not (held.reduce_only and market.enforces_reduce_only):
            pending_qty = EXACT.add(pending_qty, open_qty)
            pending_notional = EXACT.add(pending_notional, EXACT.multiply(open_qty, reference_price(held, last)))
    opposed = max(signed(order.side.opposite, qty), ZERO)
    increase = min(order.qty, EXACT.subtract(EXACT.add(pending_qty, order.qty), opposed))
    if increase <= 0:
        return None
    price = reference_price(order, last)
    pending = EXACT.subtract(pending_notional, EXACT.multiply(min(opposed, pending_qty), price))
    entering = EXACT.add(max(pending, ZERO), EXACT.multiply(increase, price))
    held_notional = EXACT.multiply(max(signed(order.side, qty), ZERO), last)
    needed = EXACT.add(held_notional, EXACT.multiply(entering, EXACT.add(ONE, market.taker_fee)))
    if needed > equity:
        detail = f"needs {plain(needed)} {market.quote} with what is held and pending, equity is {plain(equity)}"
        return Refusal(reason="insufficient_funds", detail=detail)
    return None


def _bounds(what: str, value: Decimal, least: Decimal | None, most: Decimal | None) -> Refusal | None:
    if least is not None and value < least:
        return Refusal(reason=f"{what}_below_min", detail=f"{plain(value)} is less than {plain(least)}")
    if most is not None and value > most:
        return Refusal(reason=f"{what}_above_max", detail=f"{plain(value)} is more than {plain(most)}")
    return None
