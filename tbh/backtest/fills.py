"""What an execution does to the account, the position and the round trip; the order at which price.

These functions and those of ``orders.py`` and ``loop.py`` are the compiled loop: plain arithmetic on arrays laid out in
``slots.py``. ``s`` is the state of one market, ``a`` the account, ``t`` the market's terms.
"""

from __future__ import annotations

from typing import Any

from tbh.backtest import slots as p
from tbh.backtest.exact import Number, add2, compiled, div2, floored, mul2, round_quotient, two_prod

Array = Any
"""A float64 array, or anything that is read and written by index."""


@compiled
def scaled(price: float, t: Array) -> Number:
    """A candle's price in the market's units."""
    return floored(price * t[p.PRICE_SCALE] + 0.5)


@compiled
def on_step(high: float, low: float, divisor: float, t: Array) -> Number:
    """``(high, low) / divisor``, a price in units, on the price step."""
    if t[p.STEP_UNITS] == 1.0:
        return round_quotient(high, low, divisor)
    return round_quotient(high, low, divisor * t[p.STEP_UNITS]) * t[p.STEP_UNITS]


@compiled
def crosses(s: Array, side: float, price_f: float) -> Number:
    """Whether an entry that rests would execute at a price; ``side`` is 1 for a buy."""
    return price_f <= s[p.ENTRY_F] if side > 0.0 else price_f >= s[p.ENTRY_F]


@compiled
def slipped(price: float, sign: float, qty: float, s: Array, t: Array) -> Number:
    """The price (units) that a market order for ``qty`` gets for ``price``; ``sign`` is 1 for a buy."""
    kind = t[p.SLIP_KIND]
    if kind == p.NO_SLIP:
        return price
    if kind == p.FIXED_SLIP:
        moved = price + sign * t[p.SLIP] * t[p.PRICE_SCALE]
    elif kind == p.PROPORTIONAL_SLIP:
        moved = price * (1.0 + sign * t[p.SLIP])
    elif kind == p.RANDOM_SLIP:
        moved = price * (1.0 + sign * (t[p.SLIP] + t[p.SLIP_MORE] * s[p.CHANCE]))
    else:
        part = min(qty / s[p.BAR_VOLUME], 1.0) if s[p.BAR_VOLUME] > 0.0 else 1.0
        moved = price * (1.0 + sign * t[p.SLIP] * part * part)
    return max(on_step(max(moved, 0.0), 0.0, 1.0, t), t[p.STEP_UNITS])


@compiled
def pay(a: Array, t: Array, high: float, low: float, sign: float) -> None:
    """Take a notional (units) and its fee from the cash; ``sign`` is 1 for a buy."""
    high, low = mul2(high, low, sign * t[p.FEE_SCALE] + t[p.FEE])
    if t[p.CASH_UNITS] != 1.0:
        high, low = mul2(high, low, t[p.CASH_UNITS])
    a[p.CASH_H], a[p.CASH_L] = add2(a[p.CASH_H], a[p.CASH_L], -high, -low)


@compiled
def enlarge(s: Array, a: Array, t: Array, qty: float, price: float) -> None:
    """Open a position, or add to it: ``qty`` signed steps at ``price`` units."""
    high, low = two_prod(abs(qty), price)
    pay(a, t, high, low, 1.0 if qty > 0.0 else -1.0)
    if s[p.QTY] == 0.0:
        for place in range(p.TRIP, p.TRIP + p.TRADE_PLACES):
            s[place] = 0.0
        s[p.TRIP + p.T_SIDE] = 1.0 if qty > 0.0 else -1.0
        s[p.TRIP + p.T_ENTRY_BAR] = s[p.ROW]
        s[p.TRIP + p.T_SYMBOL] = s[p.MARKET]
        s[p.AVERAGE_H], s[p.AVERAGE_L] = price, 0.0
        s[p.LAYERS] = 1.0
        # A pyramid that comes when its position is gone begins another, of which its layer counts as filled.
        s[p.BEGUN_AS] = s[p.ENTRY_LAYER] if s[p.ENTRY_MS] >= s[p.NOW_MS] else 0.0
        s[p.BASIS] = s[p.ENTRY_BASIS]
        s[p.BEST_F] = 0.0
        s[p.TIGHTEST] = 0.0
    else:
        held = abs(s[p.QTY])
        cost, rest = mul2(s[p.AVERAGE_H], s[p.AVERAGE_L], held)
        cost, rest = add2(cost, rest, high, low)
        s[p.AVERAGE_H], s[p.AVERAGE_L] = div2(cost, rest, held + abs(qty))
        s[p.LAYERS] = max(s[p.LAYERS], s[p.ENTRY_LAYER] + 1.0)
    s[p.QTY] += qty
    trip = p.TRIP
    s[trip + p.T_QTY] += abs(qty)
    s[trip + p.T_PAID_H], s[trip + p.T_PAID_L] = add2(s[trip + p.T_PAID_H], s[trip + p.T_PAID_L], high, low)
    fees, rest = mul2(high, low, t[p.FEE])
    s[trip + p.T_FEES_H], s[trip + p.T_FEES_L] = add2(s[trip + p.T_FEES_H], s[trip + p.T_FEES_L], fees, rest)
    s[p.MOVED] = 1.0
    a[p.FILLS] += 1.0


@compiled
def cools(s: Array, t: Array, cause: float) -> Number:
    """Whether a cool-down follows the round trip that has just ended."""
    if t[p.COOL_AFTER] == p.A_STOP:
        return cause == p.BY_STOP or cause == p.BY_TRAILING  # noqa: PLR1714 - compiled as it stands
    if t[p.COOL_AFTER] == p.ANY_END:
        return True
    trip = p.TRIP
    side = s[trip + p.T_SIDE] * t[p.FEE_SCALE]
    got, got_low = mul2(s[trip + p.T_GOT_H], s[trip + p.T_GOT_L], side)
    paid, paid_low = mul2(s[trip + p.T_PAID_H], s[trip + p.T_PAID_L], -side)
    net, low = add2(got, got_low, paid, paid_low)
    net, low = add2(net, low, -s[trip + p.T_FEES_H], -s[trip + p.T_FEES_L])
    net, low = add2(net, low, -s[trip + p.T_FUNDING_H], -s[trip + p.T_FUNDING_L])
    return net < 0.0 or (net == 0.0 and low < 0.0)


@compiled
def reduce(s: Array, a: Array, t: Array, qty: float, price: float, cause: float, trades: Array) -> None:
    """Close ``qty`` steps (unsigned, at most the position) at ``price`` units; what closes it all ends the trade."""
    side = 1.0 if s[p.QTY] > 0.0 else -1.0
    high, low = two_prod(qty, price)
    pay(a, t, high, low, -side)
    trip = p.TRIP
    s[trip + p.T_GOT_H], s[trip + p.T_GOT_L] = add2(s[trip + p.T_GOT_H], s[trip + p.T_GOT_L], high, low)
    fees, rest = mul2(high, low, t[p.FEE])
    s[trip + p.T_FEES_H], s[trip + p.T_FEES_L] = add2(s[trip + p.T_FEES_H], s[trip + p.T_FEES_L], fees, rest)
    s[p.QTY] -= side * qty
    s[p.MOVED] = 1.0
    a[p.FILLS] += 1.0
    if s[p.QTY] == 0.0:
        s[trip + p.T_EXIT_BAR] = s[p.ROW]
        s[trip + p.T_CAUSE] = cause
        s[trip + p.T_LAYERS] = s[p.LAYERS]
        count = int(a[p.TRADES])
        for place in range(p.TRADE_PLACES):
            trades[count][place] = s[trip + place]
        a[p.TRADES] += 1.0
        if t[p.COOL_BARS] != 0.0 and cools(s, t, cause):
            s[p.ENDED_MS] = s[p.NOW_MS]
        drop_guards(s)
        s[p.EXIT_QTY] = 0.0
        s[p.ENDED_SIDE] = side


@compiled
def drop_guards(s: Array) -> None:
    """Nothing is left to guard."""
    s[p.STOP] = 0.0
    s[p.STOP_LIVE] = 0.0
    s[p.TARGET] = 0.0
    s[p.TARGET_LIVE] = 0.0


@compiled
def fund(s: Array, a: Array, t: Array, times: float, price: float) -> None:
    """Charge the position ``times`` funding payments at ``price`` units: a long pays a positive rate."""
    high, low = two_prod(abs(s[p.QTY]), price)
    high, low = mul2(high, low, times * t[p.FUNDING_RATE] * (1.0 if s[p.QTY] > 0.0 else -1.0))
    trip = p.TRIP
    s[trip + p.T_FUNDING_H], s[trip + p.T_FUNDING_L] = add2(s[trip + p.T_FUNDING_H], s[trip + p.T_FUNDING_L], high, low)
    if t[p.CASH_UNITS] != 1.0:
        high, low = mul2(high, low, t[p.CASH_UNITS])
    a[p.CASH_H], a[p.CASH_L] = add2(a[p.CASH_H], a[p.CASH_L], -high, -low)
