"""What a strategy's wish becomes: an entry for so many amount steps, or none, by the rules of ``tbh/domain/risk.py``
and ``tbh/domain/sizing.py``. A part of the compiled loop, see ``fills.py``."""

from __future__ import annotations

from tbh.backtest import slots as p
from tbh.backtest.exact import Number, add2, compiled, floor_quotient, mul2, two_prod
from tbh.backtest.fills import Array, crosses, on_step, scaled


@compiled
def worth(state: Array, a: Array, terms: Array, markets: int) -> tuple[float, float]:
    """The account at the last closes, in its units."""
    high, low = a[p.CASH_H], a[p.CASH_L]
    for k in range(markets):
        s, t = state[k], terms[k]
        if s[p.QTY] != 0.0:
            more, rest = two_prod(s[p.QTY], scaled(s[p.LAST_F], t))
            more, rest = mul2(more, rest, t[p.FEE_SCALE] * t[p.CASH_UNITS])
            high, low = add2(high, low, more, rest)
    return high, low


@compiled
def room_left(
    k: int, state: Array, terms: Array, markets: int, adding: bool, high: float, low: float
) -> tuple[float, float]:
    """What of the worth ``(high, low)`` no position and no entry of any market claims; an entry claims its fee as well.
    A reversal leaves its own."""
    for j in range(markets):
        s, t = state[j], terms[j]
        if s[p.QTY] != 0.0 and (j != k or adding):
            more, rest = two_prod(abs(s[p.QTY]), scaled(s[p.LAST_F], t))
            more, rest = mul2(more, rest, t[p.FEE_SCALE] * t[p.CASH_UNITS])
            high, low = add2(high, low, -more, -rest)
        if s[p.ENTRY_QTY] != 0.0 and j != k:
            more, rest = two_prod(abs(s[p.ENTRY_QTY]), scaled(s[p.LAST_F], t))
            more, rest = mul2(more, rest, (t[p.FEE_SCALE] + t[p.FEE]) * t[p.CASH_UNITS])
            high, low = add2(high, low, -more, -rest)
    return high, low


@compiled
def wanted(room: float, room_low: float, high: float, low: float, price: float, t: Array) -> Number:
    """How many amount steps an entry at ``price`` units is for; ``(high, low)`` is the account's worth. 0 for none."""
    kind = t[p.SIZE_KIND]
    if kind == p.FIXED_QUANTITY:
        return t[p.SIZE_H]
    if kind == p.FIXED_NOTIONAL:
        return floor_quotient(t[p.SIZE_H], t[p.SIZE_L], price, 0.0)
    if not high > 0.0:
        return 0.0
    high, low = mul2(high, low, t[p.SIZE_H])
    share, share_low = two_prod(price * t[p.CASH_UNITS], t[p.FEE_SCALE] * t[p.SIZE_SCALE])
    if kind == p.RISK_FRACTION:
        if t[p.STOP_LOSS] == 0.0:
            return 0.0
        high, low = mul2(high, low, t[p.FRACTIONS])
        share, share_low = mul2(share, share_low, t[p.STOP_LOSS])
    unit, unit_low = two_prod(price * t[p.CASH_UNITS], t[p.FEE_SCALE] + t[p.FEE])
    return min(floor_quotient(high, low, share, share_low), floor_quotient(room, room_low, unit, unit_low))


@compiled
def others_open(k: int, state: Array, markets: int) -> Number:
    """In how many other markets there is a position, or an entry under way."""
    count = 0.0
    for j in range(markets):
        if j != k and (state[j][p.QTY] != 0.0 or state[j][p.ENTRY_QTY] != 0.0):
            count += 1.0
    return count


@compiled
def enter(k: int, state: Array, a: Array, terms: Array, markets: int, side: float, layer: float) -> None:
    """Send an entry (``layer`` 0) or a pyramid, at the close of the market ``k``'s bar, or count why there is none."""
    s, t = state[k], terms[k]
    if s[p.ENTRY_QTY] != 0.0 or (layer != 0.0 and (s[p.EXIT_QTY] != 0.0 or s[p.BEGUN_AS] == layer)):
        a[p.REFUSED_OPEN] += 1.0
        return
    if layer == 0.0 and t[p.COOL_BARS] != 0.0 and s[p.NOW_MS] - s[p.ENDED_MS] <= (t[p.COOL_BARS] - 1.0) * t[p.BAR_MS]:
        a[p.REFUSED_COOLDOWN] += 1.0
        return
    if layer == 0.0 and others_open(k, state, markets) >= t[p.POSITIONS_MAX]:
        a[p.REFUSED_COUNT] += 1.0
        return
    price = close = scaled(s[p.LAST_F], t)
    if t[p.REST_BARS] != 0.0:
        high, low = two_prod(close, t[p.FRACTIONS] - side * t[p.REST_OFFSET])
        price = on_step(high, low, t[p.FRACTIONS], t)
        if not price > 0.0:
            a[p.REFUSED_SIZE] += 1.0
            return
    high, low = worth(state, a, terms, markets)
    room, room_low = room_left(k, state, terms, markets, layer != 0.0, high, low)
    if not room > 0.0:
        a[p.REFUSED_FUNDS] += 1.0
        return
    steps = wanted(room, room_low, high, low, price, t)
    if not steps > 0.0:
        a[p.REFUSED_SIZE] += 1.0
        return
    cost, rest = two_prod(steps, price)
    cost, rest = mul2(cost, rest, (t[p.FEE_SCALE] + t[p.FEE]) * t[p.CASH_UNITS])
    over, over_low = add2(cost, rest, -room, -room_low)
    if over > 0.0 or (over == 0.0 and over_low > 0.0):
        a[p.REFUSED_FUNDS] += 1.0
        return
    a[p.SEQ] += 1.0
    s[p.ENTRY_QTY] = side * steps
    s[p.ENTRY_DUE] = s[p.ROW] + 1.0 + t[p.DELAY_BARS]
    s[p.ENTRY_SEQ] = a[p.SEQ]
    s[p.ENTRY_MS] = s[p.NOW_MS] + t[p.BAR_MS]
    s[p.ENTRY_LAYER] = layer
    s[p.ENTRY_BASIS] = close if t[p.FROM_CLOSE] != 0.0 else 0.0
    s[p.ENTRY_PRICE] = 0.0
    s[p.ENTRY_LIVE] = 1.0
    if t[p.REST_BARS] != 0.0:
        s[p.ENTRY_PRICE] = price
        s[p.ENTRY_F] = price / t[p.PRICE_SCALE]
        s[p.ENTRY_LIVE] = 1.0 if crosses(s, side, s[p.LAST_F]) else 0.0
        s[p.ENTRY_UNTIL] = s[p.NOW_MS] + (t[p.REST_BARS] + 1.0) * t[p.BAR_MS]


@compiled
def leave(s: Array, a: Array, t: Array) -> None:
    """Send an exit for all of the position, and take back what is still to fill of its entries."""
    side = 1.0 if s[p.QTY] > 0.0 else -1.0
    if s[p.ENTRY_QTY] * side > 0.0:
        s[p.ENTRY_QTY] = 0.0
    if s[p.EXIT_QTY] == 0.0:
        a[p.SEQ] += 1.0
        s[p.EXIT_DUE] = s[p.ROW] + 1.0 + t[p.DELAY_BARS]
        s[p.EXIT_SEQ] = a[p.SEQ]
    s[p.EXIT_QTY] = abs(s[p.QTY])


@compiled
def decide(k: int, state: Array, a: Array, terms: Array, markets: int, rules: int) -> None:
    """Act on the rules that are true at the close of the market ``k``'s bar, as ``DynamicStrategy.decide`` wishes."""
    s, t = state[k], terms[k]
    qty = s[p.QTY]
    if qty == 0.0:
        both = rules & (p.ENTRY_LONG | p.ENTRY_SHORT)
        if both == p.ENTRY_LONG or both == p.ENTRY_SHORT:  # noqa: PLR1714 - compiled as it stands
            enter(k, state, a, terms, markets, 1.0 if both == p.ENTRY_LONG else -1.0, 0.0)
        return
    long = qty > 0.0
    if rules & (p.EXIT_LONG if long else p.EXIT_SHORT):
        leave(s, a, t)
        against = p.ENTRY_SHORT if long else p.ENTRY_LONG
        alone = (rules & (p.ENTRY_LONG | p.ENTRY_SHORT)) == against
        if alone and (t[p.COOL_BARS] == 0.0 or t[p.COOL_AFTER] == p.A_STOP):
            enter(k, state, a, terms, markets, -1.0 if long else 1.0, 0.0)
    elif s[p.LAYERS] <= t[p.MAX_LAYERS] and rules & (p.MORE_LONG if long else p.MORE_SHORT):
        enter(k, state, a, terms, markets, 1.0 if long else -1.0, s[p.LAYERS])
