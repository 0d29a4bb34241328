"""The loop over the bars: a part of what is compiled, see ``fills.py``. ``tbh/backtest/native.py`` compiles it and
``tbh/backtest/engine.py`` calls it."""

from __future__ import annotations

from tbh.backtest import slots as p
from tbh.backtest.exact import Number, compiled, floor_quotient, floored, two_prod
from tbh.backtest.fills import Array, crosses, fund, scaled
from tbh.backtest.orders import execute_live, follow, open_by_entry, protect, trigger, watch
from tbh.backtest.sizes import decide


@compiled
def arrive(s: Array, a: Array, t: Array, cols: Array, i: int, trades: Array) -> Number:
    """Orders come in the middle of a bar: the price walks from open to close at an even pace. The price they get."""
    opened, close = cols[p.OPEN][i], cols[p.CLOSE][i]
    reached = opened + (close - opened) * t[p.DELAY_PART]
    units = t[p.STEP_UNITS]
    reached = floored(scaled(reached, t) / units + 0.5) * units / t[p.PRICE_SCALE]
    reached = min(max(reached, cols[p.LOW][i]), cols[p.HIGH][i])
    trigger(s, a, t, min(opened, reached), max(opened, reached), 0.0, trades)
    execute_live(s, a, t, reached, True, trades)
    if s[p.MOVED] != 0.0:
        protect(s, a, t, reached)
    return reached


@compiled
def come_to_rest(s: Array, a: Array, t: Array, reached: float, close: float) -> None:
    """An entry that rests has come in the middle of a bar: it meets the price there, and what lies between that and the
    close."""
    if s[p.ENTRY_QTY] == 0.0 or s[p.ENTRY_LIVE] != 0.0:
        return
    if crosses(s, s[p.ENTRY_QTY], reached):
        open_by_entry(s, a, t, scaled(reached, t))
    elif crosses(s, s[p.ENTRY_QTY], close):
        open_by_entry(s, a, t, s[p.ENTRY_PRICE])


@compiled
def close_bar(s: Array, a: Array, t: Array, close: float, trades: Array) -> None:
    """Orders that came or were left over within the bar meet its close; an entry whose bars are over goes."""
    execute_live(s, a, t, close, True, trades)
    trigger(s, a, t, close, close, scaled(close, t), trades)
    if s[p.MOVED] != 0.0:
        protect(s, a, t, close)
    if s[p.ENTRY_PRICE] != 0.0 and s[p.NOW_MS] + t[p.BAR_MS] >= s[p.ENTRY_UNTIL]:
        s[p.ENTRY_QTY] = 0.0


@compiled
def trade_bar(s: Array, a: Array, t: Array, cols: Array, i: int, noise: Array, trades: Array) -> None:
    """The orders of one market go through its bar ``i``: open, range, close."""
    opened, high, low = cols[p.OPEN][i], cols[p.HIGH][i], cols[p.LOW][i]
    if t[p.SLIP_KIND] == p.RANDOM_SLIP:
        s[p.CHANCE] = noise[0][i]
    if t[p.SHARE] != 0.0 or t[p.SLIP_KIND] == p.SHARE_SLIP:
        s[p.BAR_VOLUME] = floored(cols[p.VOLUME][i] * t[p.AMOUNT_SCALE] + 0.5)
    if t[p.SHARE] != 0.0:
        part, rest = two_prod(s[p.BAR_VOLUME], t[p.SHARE])
        s[p.LEFT] = floor_quotient(part, rest, t[p.SHARE_SCALE], 0.0)
    execute_live(s, a, t, opened, False, trades)
    trigger(s, a, t, opened, opened, scaled(opened, t), trades)
    if s[p.MOVED] != 0.0:
        protect(s, a, t, opened)
    last = opened
    if t[p.DELAY_PART] != 0.0:
        last = arrive(s, a, t, cols, i, trades)
    if t[p.SLIP_KIND] == p.RANDOM_SLIP:
        s[p.CHANCE] = noise[1][i]
    if s[p.QTY] != 0.0 or t[p.SHARE] != 0.0 or t[p.REST_BARS] != 0.0:
        execute_live(s, a, t, last, True, trades)
        trigger(s, a, t, low, high, 0.0, trades)
        if t[p.DELAY_PART] != 0.0 and t[p.REST_BARS] != 0.0 and s[p.ROW] == s[p.ENTRY_DUE]:
            come_to_rest(s, a, t, last, cols[p.CLOSE][i])
        if s[p.MOVED] != 0.0:
            protect(s, a, t, last)
    if t[p.SHARE] != 0.0 or t[p.REST_BARS] != 0.0:
        close_bar(s, a, t, cols[p.CLOSE][i], trades)


@compiled
def fund_bar(s: Array, a: Array, t: Array, price_f: float, at_ms: float) -> None:
    """Funding that has fallen due since the last bar, at the open, on what is held."""
    times = floored(at_ms / t[p.FUNDING_MS])
    if s[p.QTY] != 0.0 and s[p.FUNDED] != 0.0 and times > s[p.FUNDED]:
        fund(s, a, t, times - s[p.FUNDED], scaled(price_f, t))
    s[p.FUNDED] = times


@compiled
def pass_over(m: int, s: Array, a: Array, t: Array, cols: Array, rules: Array, equity: Array) -> int:
    """Value the bars from ``m`` on that change nothing on the only market there is: no order meets them, no rule is
    true, no trailing stop learns of a better price. The first that may, or how many there are. What ``run_bars`` does
    on them comes to this; by itself, the compiler keeps it out of the arrays of the account."""
    qty, scale, free = s[p.QTY], t[p.AMOUNT_SCALE], a[p.CASH_H] / t[p.CASH_SCALE]
    lowest, highest = -1e300, 1e300
    if t[p.FUNDING_MS] != 0.0:
        return m
    if qty != 0.0 and t[p.TRAILING] != 0.0:
        if s[p.BEST_F] == 0.0:
            return m
        if qty > 0.0:
            highest = s[p.BEST_F]
        else:
            lowest = s[p.BEST_F]
    lows, highs, closes = cols[p.LOW], cols[p.HIGH], cols[p.CLOSE]
    low_guard, high_guard = s[p.LOW_GUARD], s[p.HIGH_GUARD]
    end = len(equity)
    for i in range(m, end):
        low, high = lows[i], highs[i]
        if low <= low_guard or high >= high_guard or low < lowest or high > highest or rules[i] != 0:
            end = i
            break
        value = 0.0
        if qty != 0.0:
            value += qty * closes[i] / scale
        equity[i] = free + value
    if end > m:
        s[p.LAST_F] = closes[end - 1]
        if qty != 0.0:
            a[p.HELD_BARS] += end - m
    return end


@compiled
def run_bars(  # noqa: PLR0917 - one call, from C as well
    bars: int,
    markets: int,
    cols: Array,
    stamps: Array,
    rules: Array,
    rows: Array,
    noise: Array,
    terms: Array,
    state: Array,
    a: Array,
    trades: Array,
    equity: Array,
) -> None:
    """Run ``bars`` instants. ``cols`` (5, n) and ``rules`` (n) hold the markets' bars one market after the other;
    ``rows`` (markets, bars) is which of them a market has at an instant, -1 for none; one market needs none."""
    opens, highs, lows, closes = cols[p.OPEN], cols[p.HIGH], cols[p.LOW], cols[p.CLOSE]
    s, t = state[0], terms[0]
    cash_scale = t[p.CASH_SCALE]
    m = 0
    while m < bars:
        m = pass_over(m, s, a, t, cols, rules, equity) if markets == 1 else m
        if m == bars:
            break
        held = 0.0
        value = 0.0
        for k in range(markets):
            i = m
            if markets > 1:
                i = rows[k][m]
                s, t = state[k], terms[k]
            if i >= 0:
                s[p.ROW] = i
                if t[p.FUNDING_MS] != 0.0:
                    fund_bar(s, a, t, opens[i], float(stamps[i]))
                if lows[i] <= s[p.LOW_GUARD] or highs[i] >= s[p.HIGH_GUARD]:
                    s[p.NOW_MS] = stamps[i]
                    trade_bar(s, a, t, cols, i, noise, trades)
                    watch(s)
                s[p.LAST_F] = closes[i]
                if s[p.QTY] != 0.0 and t[p.TRAILING] != 0.0:
                    follow(s, a, t, highs[i] if s[p.QTY] > 0.0 else lows[i], closes[i])
            if s[p.QTY] != 0.0:
                held = 1.0
                value += s[p.QTY] * s[p.LAST_F] / t[p.AMOUNT_SCALE]
        a[p.HELD_BARS] += held
        equity[m] = a[p.CASH_H] / cash_scale + value
        for k in range(markets):
            i = m if markets == 1 else rows[k][m]
            if i >= 0 and rules[i] != 0:
                state[k][p.NOW_MS] = stamps[i]
                decide(k, state, a, terms, markets, int(rules[i]))
                watch(state[k])
        m += 1
