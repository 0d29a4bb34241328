"""The orders of one market and the phases of its bars, by the rules of ``tbh/domain/matching.py`` and of those who
guard a position (``tbh/domain/protection.py``). A part of the compiled loop, see ``fills.py``.

At most four orders rest: an entry, an exit, a stop and a target. An order is *live* when it executes at the next price
that is seen; live orders do so in the order of their arrival.
"""

from __future__ import annotations

from tbh.backtest import slots as p
from tbh.backtest.exact import Number, add2, compiled, mul2, two_prod
from tbh.backtest.fills import Array, crosses, enlarge, on_step, reduce, scaled, slipped


@compiled
def due(s: Array, t: Array, row: float, arrived: bool) -> bool:
    """Whether an order for the bar ``row`` is at the market; ``arrived``: so is what comes in the middle of a bar."""
    return s[p.ROW] > row or (s[p.ROW] == row and (arrived or t[p.DELAY_PART] == 0.0))


@compiled
def close_by(s: Array, a: Array, t: Array, place: int, price: float, cause: float, trades: Array) -> None:
    """Let the closing order whose quantity is at ``place`` execute, as far as position and volume allow."""
    qty = min(s[place], abs(s[p.QTY]), s[p.LEFT])
    if qty <= 0.0:
        return
    s[p.LEFT] -= qty
    s[place] -= qty
    buys = -1.0 if s[p.QTY] > 0.0 else 1.0
    if cause != p.BY_TARGET:
        price = slipped(price, buys, qty, s, t)
    reduce(s, a, t, qty, price, cause, trades)
    if s[p.STOP_QTY] <= 0.0:
        s[p.STOP] = 0.0
    if s[p.TARGET_QTY] <= 0.0:
        s[p.TARGET] = 0.0


@compiled
def open_by_entry(s: Array, a: Array, t: Array, price: float) -> None:
    """Let the entry execute, as far as the volume allows."""
    qty = min(abs(s[p.ENTRY_QTY]), s[p.LEFT])
    if qty <= 0.0:
        return
    s[p.LEFT] -= qty
    side = 1.0 if s[p.ENTRY_QTY] > 0.0 else -1.0
    s[p.ENTRY_QTY] -= side * qty
    if s[p.ENTRY_PRICE] == 0.0:
        price = slipped(price, side, qty, s, t)
    enlarge(s, a, t, side * qty, price)


@compiled
def entry_lives(s: Array, t: Array, arrived: bool) -> Number:
    """Whether there is an entry that executes at the next price."""
    return s[p.ENTRY_QTY] != 0.0 and s[p.ENTRY_LIVE] != 0.0 and due(s, t, s[p.ENTRY_DUE], arrived)


@compiled
def open_live(s: Array, a: Array, t: Array, price_f: float, price: float) -> None:
    """Let an entry execute at a price that is not beyond its own, if it has one; beyond it the entry rests from now."""
    if s[p.ENTRY_PRICE] == 0.0 or crosses(s, s[p.ENTRY_QTY], price_f):
        open_by_entry(s, a, t, price)
    else:
        s[p.ENTRY_LIVE] = 0.0


@compiled
def execute_live(s: Array, a: Array, t: Array, price_f: float, arrived: bool, trades: Array) -> None:
    """Live orders meet one price, first come first served."""
    price = scaled(price_f, t)
    done = -1.0
    while True:
        which, first = 0, 1e300
        if s[p.STOP] != 0.0 and s[p.STOP_LIVE] != 0.0 and done < s[p.STOP_SEQ] < first:
            which, first = 1, s[p.STOP_SEQ]
        if s[p.TARGET] != 0.0 and s[p.TARGET_LIVE] != 0.0 and done < s[p.TARGET_SEQ] < first:
            which, first = 2, s[p.TARGET_SEQ]
        if s[p.EXIT_QTY] != 0.0 and due(s, t, s[p.EXIT_DUE], arrived) and done < s[p.EXIT_SEQ] < first:
            which, first = 3, s[p.EXIT_SEQ]
        if entry_lives(s, t, arrived) and done < s[p.ENTRY_SEQ] < first:
            which, first = 4, s[p.ENTRY_SEQ]
        if which == 0:
            return
        done = first
        if which == 1:
            close_by(s, a, t, p.STOP_QTY, price, s[p.STOP_CAUSE], trades)
        elif which == 3:
            close_by(s, a, t, p.EXIT_QTY, price, p.BY_EXIT, trades)
        elif which == 4:
            open_live(s, a, t, price_f, price)
        elif price_f >= s[p.TARGET_F] if s[p.QTY] > 0.0 else price_f <= s[p.TARGET_F]:
            close_by(s, a, t, p.TARGET_QTY, price, p.BY_TARGET, trades)
        else:
            s[p.TARGET_LIVE] = 0.0


@compiled
def meet(s: Array, a: Array, t: Array, low_f: float, high_f: float, at: float) -> None:
    """Let an entry that rests meet the prices from ``low_f`` to ``high_f``, once it is at the market. In the bar in the
    middle of which it comes it meets the straight line alone (``loop.py``)."""
    if s[p.ENTRY_QTY] == 0.0 or s[p.ENTRY_LIVE] != 0.0 or not due(s, t, s[p.ENTRY_DUE], False):
        return
    if crosses(s, s[p.ENTRY_QTY], low_f if s[p.ENTRY_QTY] > 0.0 else high_f):
        open_by_entry(s, a, t, at if at != 0.0 else s[p.ENTRY_PRICE])


@compiled
def trigger(
    s: Array,
    a: Array,
    t: Array,
    low_f: float,
    high_f: float,
    at: float,
    trades: Array,
) -> None:
    """Stop, then target and resting entry, meet the prices from ``low_f`` to ``high_f``. ``at`` (units) is the price of
    all, 0 for their own."""
    if s[p.STOP] != 0.0 and s[p.STOP_LIVE] == 0.0 and s[p.QTY] != 0.0:
        hit = low_f <= s[p.STOP_F] if s[p.QTY] > 0.0 else high_f >= s[p.STOP_F]
        if hit:
            s[p.STOP_LIVE] = 1.0
            price = at if at != 0.0 else s[p.STOP]
            close_by(s, a, t, p.STOP_QTY, price, s[p.STOP_CAUSE], trades)
    if t[p.REST_BARS] != 0.0 and s[p.ENTRY_SEQ] < s[p.TARGET_SEQ]:
        meet(s, a, t, low_f, high_f, at)
    if s[p.TARGET] != 0.0 and s[p.TARGET_LIVE] == 0.0 and s[p.QTY] != 0.0:
        hit = high_f >= s[p.TARGET_F] if s[p.QTY] > 0.0 else low_f <= s[p.TARGET_F]
        if hit:
            price = at if at != 0.0 else s[p.TARGET]
            close_by(s, a, t, p.TARGET_QTY, price, p.BY_TARGET, trades)
    if t[p.REST_BARS] != 0.0 and s[p.ENTRY_SEQ] >= s[p.TARGET_SEQ]:
        meet(s, a, t, low_f, high_f, at)


@compiled
def trailed(s: Array, t: Array) -> Number:
    """Where the trailing stop would stand by the best price so far (units); 0 before its activation."""
    if s[p.BEST_F] == 0.0:
        return 0.0
    sign = 1.0 if s[p.QTY] > 0.0 else -1.0
    basis, rest = (s[p.BASIS], 0.0) if s[p.BASIS] != 0.0 else (s[p.AVERAGE_H], s[p.AVERAGE_L])
    whole = t[p.FRACTIONS]
    best = scaled(s[p.BEST_F], t)
    gain, gain_low = add2(sign * best, 0.0, -sign * basis, -sign * rest)
    gain, gain_low = mul2(gain, gain_low, whole)
    need, need_low = mul2(basis, rest, t[p.ACTIVATE])
    gain, gain_low = add2(gain, gain_low, -need, -need_low)
    if gain < 0.0 or (gain == 0.0 and gain_low < 0.0):
        return 0.0
    high, low = two_prod(best, whole - sign * t[p.TRAILING])
    return on_step(high, low, whole, t)


@compiled
def set_stop(s: Array, a: Array, stop: float, cause: float, last_f: float, t: Array) -> None:
    """Let a stop for all of the position stand at ``stop`` units, in place of the one that stood."""
    long = s[p.QTY] > 0.0
    s[p.STOP], s[p.STOP_QTY], s[p.STOP_CAUSE] = stop, abs(s[p.QTY]), cause
    s[p.STOP_F] = stop / t[p.PRICE_SCALE]
    s[p.STOP_LIVE] = 1.0 if (last_f <= s[p.STOP_F] if long else last_f >= s[p.STOP_F]) else 0.0
    a[p.SEQ] += 1.0
    s[p.STOP_SEQ] = a[p.SEQ]
    tightest = s[p.TIGHTEST]
    if tightest == 0.0 or (stop > tightest if long else stop < tightest):
        s[p.TIGHTEST] = stop


@compiled
def protect(s: Array, a: Array, t: Array, last_f: float) -> None:
    """See that the stop and the target stand which the position needs; a new one is live when ``last_f`` is beyond."""
    s[p.MOVED] = 0.0
    if s[p.ENDED_SIDE] != 0.0:
        # What rests to begin or to enlarge a position that has ended goes with it.
        if s[p.ENTRY_PRICE] != 0.0 and s[p.ENTRY_QTY] * s[p.ENDED_SIDE] > 0.0:
            s[p.ENTRY_QTY] = 0.0
        s[p.ENDED_SIDE] = 0.0
    if s[p.QTY] == 0.0:
        return
    long = s[p.QTY] > 0.0
    sign = 1.0 if long else -1.0
    held = abs(s[p.QTY])
    basis, rest = (s[p.BASIS], 0.0) if s[p.BASIS] != 0.0 else (s[p.AVERAGE_H], s[p.AVERAGE_L])
    whole = t[p.FRACTIONS]
    stop, cause = 0.0, p.BY_STOP
    if t[p.STOP_LOSS] != 0.0:
        high, low = mul2(basis, rest, whole - sign * t[p.STOP_LOSS])
        stop = on_step(high, low, whole, t)
    if t[p.TRAILING] != 0.0:
        # A stop that trails never retreats, whatever became of the average price.
        for found in (s[p.TIGHTEST], trailed(s, t)):
            if found != 0.0 and (stop == 0.0 or sign * found > sign * stop):
                stop, cause = found, p.BY_TRAILING
    if stop > 0.0 and (s[p.STOP] != stop or s[p.STOP_QTY] != held):
        set_stop(s, a, stop, cause, last_f, t)
    if t[p.TAKE_PROFIT] == 0.0:
        return
    high, low = mul2(basis, rest, whole + sign * t[p.TAKE_PROFIT])
    target = on_step(high, low, whole, t) if high > 0.0 else 0.0
    if target > 0.0 and (s[p.TARGET] != target or s[p.TARGET_QTY] != held):
        s[p.TARGET], s[p.TARGET_QTY] = target, held
        s[p.TARGET_F] = target / t[p.PRICE_SCALE]
        s[p.TARGET_LIVE] = 1.0 if (last_f >= s[p.TARGET_F] if long else last_f <= s[p.TARGET_F]) else 0.0
        a[p.SEQ] += 1.0
        s[p.TARGET_SEQ] = a[p.SEQ]


@compiled
def watch(s: Array) -> None:
    """Note from which prices on a bar concerns the market's orders at all; most bars don't, and are passed over."""
    s[p.LOW_GUARD], s[p.HIGH_GUARD] = -1e300, 1e300
    live = (s[p.STOP] != 0.0 and s[p.STOP_LIVE] != 0.0) or (s[p.TARGET] != 0.0 and s[p.TARGET_LIVE] != 0.0)
    if live or s[p.ENTRY_QTY] != 0.0 or s[p.EXIT_QTY] != 0.0:
        s[p.LOW_GUARD] = 1e300
        return
    if s[p.STOP] != 0.0:
        s[p.LOW_GUARD if s[p.QTY] > 0.0 else p.HIGH_GUARD] = s[p.STOP_F]
    if s[p.TARGET] != 0.0:
        s[p.HIGH_GUARD if s[p.QTY] > 0.0 else p.LOW_GUARD] = s[p.TARGET_F]


@compiled
def follow(s: Array, a: Array, t: Array, best_f: float, close_f: float) -> None:
    """At a bar's close the trailing stop learns of the bar's best price."""
    long = s[p.QTY] > 0.0
    best = s[p.BEST_F]
    if best != 0.0 and (best_f <= best if long else best_f >= best):
        return
    s[p.BEST_F] = best_f
    stop = trailed(s, t)
    if stop != 0.0 and (s[p.STOP] == 0.0 or (stop > s[p.STOP] if long else stop < s[p.STOP])):
        set_stop(s, a, stop, p.BY_TRAILING, close_f, t)
        watch(s)
