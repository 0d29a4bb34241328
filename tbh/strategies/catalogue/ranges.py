"""Oscillators of bars that TA-Lib lacks, and facts about single candles."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    OHLC,
    Indicator,
    Inputs,
    Memory,
    bars,
    ema_decay,
    period,
    real,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, SIGNAL, Params, fixed, largest, parameter_rows

MOMENTUM = "momentum"
CANDLE = "candle"


def _fisher(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    middle = (inputs[0] + inputs[1]) / 2.0
    length = int(params["period"])
    low, high = kit.lowest(middle, length), kit.highest(middle, length)
    made, before = kit.nulls(len(middle)), kit.nulls(len(middle))
    if len(middle) < length:
        return made, before
    pushes = 0.66 * (kit.ratio(middle - low, high - low, otherwise=0.5) - 0.5)[length - 1 :]
    value, values = 0.0, []
    for push in pushes.tolist():
        value = push + 0.67 * value
        if value > 0.999:
            value = 0.999
        elif value < -0.999:
            value = -0.999
        values.append(value)
    # Half of the value before is an EMA over 3 bars that starts at zero.
    doubled = 2.0 * np.arctanh(np.array(values))
    made[length - 1 :] = kit.ema_from_first(np.concatenate([[0.0], doubled]), 3)[1:]
    return made, kit.shift(made, 1)


def _demarker(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low = inputs
    length = int(params["period"])
    rise = kit.rolling_sum(np.maximum(np.diff(high), 0.0), length)
    fall = kit.rolling_sum(np.maximum(-np.diff(low), 0.0), length)
    return (np.concatenate([kit.nulls(1), kit.ratio(rise, rise + fall)]),)


def _ibs(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    high, low, close = inputs
    return (kit.ratio(close - low, high - low),)


_VIGOR = np.array([1.0, 2.0, 2.0, 1.0]) / 6.0


def _vigor(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    start, high, low, close = inputs
    body, reach = kit.weighted(close - start, _VIGOR)[3:], kit.weighted(high - low, _VIGOR)[3:]
    length = int(params["period"])
    line = kit.ratio(kit.rolling_sum(body, length), kit.rolling_sum(reach, length), otherwise=0.0)
    line = np.concatenate([kit.nulls(min(3, len(close))), line])
    line[: length + 2] = np.nan
    return line, kit.weighted(line, _VIGOR)


def _rwi(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length = int(params["period"])
    reach = talib.ATR(high, low, close, timeperiod=length) * np.sqrt(length)
    return kit.ratio(high - kit.shift(low, length), reach), kit.ratio(kit.shift(high, length) - low, reach)


def _squeeze(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length = int(params["period"])
    bands = params["stddev"] * talib.STDDEV(close, timeperiod=length)
    channel = params["multiplier"] * talib.ATR(high, low, close, timeperiod=length)
    mean = talib.SMA(close, timeperiod=length)
    middle = ((kit.highest(high, length) + kit.lowest(low, length)) / 2.0 + mean) / 2.0
    on = (bands < channel).astype(np.float64)
    on[np.isnan(channel)] = np.nan
    return on, talib.LINEARREG(close - middle, timeperiod=length)


def _wavetrend(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    typical = (inputs[0] + inputs[1] + inputs[2]) / 3.0
    channel = kit.ema_from_first(typical, int(params["channel"]))
    spread = kit.ema_from_first(np.abs(typical - channel), int(params["channel"]))
    place = kit.ratio(typical - channel, 0.015 * spread, otherwise=0.0)
    line = kit.ema_from_first(place, int(params["average"]))
    return line, talib.SMA(line, timeperiod=int(params["signal"]))


def _parts(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    start, high, low, close = inputs
    top, bottom = np.maximum(start, close), np.minimum(start, close)
    return close - start, high - top, bottom - low, high - low, kit.ratio(np.abs(close - start), high - low)


def _relation(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    start, high, low, close = inputs
    above, below = kit.shift(high, 1), kit.shift(low, 1)
    known = np.where(np.isnan(above), np.nan, 0.0)
    inside = known + ((high <= above) & (low >= below))
    outside = known + ((high > above) & (low < below))
    return inside, outside, kit.ratio(start - kit.shift(close, 1), kit.shift(close, 1))


def _recent(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    # Aroon counts over one bar more, and the newest of equal extremes.
    length = int(params["period"]) - 1
    down, up = talib.AROON(inputs[0], inputs[1], timeperiod=length)
    high, low = (np.rint(length * (1.0 - each / 100.0)) for each in (up, down))
    return high, low


def _narrow(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    reach = inputs[0] - inputs[1]
    length = int(params["period"])
    made = (reach <= kit.lowest(reach, length)).astype(np.float64)
    made[: length - 1] = np.nan
    return (made,)


ENTRIES = (
    Indicator(
        name="fisher",
        aliases=("fisher_transform",),
        summary="Fisher transform of the place of the middle of the bar in its range, and its value of the bar before",
        group=MOMENTUM,
        source="J. Ehlers, Stocks & Commodities 20:11 (2002)",
        parameters=(period(10),),
        inputs=("high", "low"),
        outputs=("value", "trigger"),
        nulls=(PERIOD - 1, PERIOD),
        # The place is smoothed by 0.67 and the transform by 0.5; what the first forgets, the second magnifies.
        memory=Memory(kind="decay", rows=lambda _: 130),
        function=_fisher,
    ),
    Indicator(
        name="demarker",
        aliases=("dem",),
        summary="rises of the high over those and the falls of the low, 0 to 1; null where neither moved",
        group=MOMENTUM,
        source="T. DeMark, The New Science of Technical Analysis (1994)",
        parameters=(period(14, minimum=1),),
        inputs=("high", "low"),
        nulls=PERIOD,
        function=_demarker,
        sparse=("value",),
    ),
    Indicator(
        name="rvgi",
        aliases=("relative_vigor_index",),
        summary="bodies over ranges, both weighted 1, 2, 2, 1 and summed over period bars, and the signal likewise",
        group=MOMENTUM,
        source="J. Ehlers, Stocks & Commodities 20:1 (2002)",
        parameters=(period(10, minimum=1),),
        inputs=OHLC,
        outputs=("value", "signal"),
        nulls=(PERIOD + 2, PERIOD + 5),
        function=_vigor,
    ),
    Indicator(
        name="rwi",
        aliases=("random_walk_index",),
        summary="distance gone in period bars over what a random walk would go, upwards and downwards",
        group=MOMENTUM,
        source="M. Poulos, Stocks & Commodities 9:2 (1991), for one lookback",
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        outputs=("high", "low"),
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
        function=_rwi,
        sparse=("high", "low"),
    ),
    Indicator(
        name="squeeze",
        aliases=("ttm_squeeze",),
        summary="1 while the Bollinger bands lie within the Keltner channel, and momentum by a line of least squares",
        group=MOMENTUM,
        source="J. Carter, Mastering the Trade (2005)",
        parameters=(
            period(20, maximum=MAX_WILDER_PERIOD),
            real("stddev", "2", "0.01", "100"),
            real("multiplier", "1.5", "0.01", "100"),
        ),
        inputs=HLC,
        outputs=("on", "momentum"),
        nulls=(PERIOD, 2 * PERIOD - 2),
        memory=wilder_decay(PERIOD),
        function=_squeeze,
    ),
    Indicator(
        name="wavetrend",
        aliases=("wave_trend",),
        summary="distance of the typical price from its average in mean distances, smoothed, and its simple average",
        group=MOMENTUM,
        source="the channel index of D. Lambert's kind that TradingView users call WaveTrend",
        parameters=(
            bars("channel", 10, maximum=MAX_EMA_PERIOD),
            bars("average", 21, maximum=MAX_EMA_PERIOD),
            bars("signal", 4, minimum=2, maximum=1_000),
        ),
        inputs=HLC,
        outputs=("value", "signal"),
        nulls=(NONE, SIGNAL - 1),
        memory=ema_decay(largest(parameter_rows("channel"), parameter_rows("average")), stages=3),
        function=_wavetrend,
    ),
    Indicator(
        name="ibs",
        aliases=("internal_bar_strength", "close_position"),
        summary="place of the close in its bar, 0 low to 1 high; null in a bar without range",
        group=CANDLE,
        source="definition",
        inputs=HLC,
        nulls=NONE,
        function=_ibs,
        sparse=("value",),
    ),
    Indicator(
        name="candle",
        aliases=("candle_parts",),
        summary="body (signed), upper and lower wick and range in quote, and the body's share of the range",
        group=CANDLE,
        source="definition",
        inputs=OHLC,
        outputs=("body", "upper", "lower", "range", "share"),
        nulls=NONE,
        function=_parts,
        sparse=("share",),
    ),
    Indicator(
        name="bar_relation",
        aliases=("inside_outside",),
        summary="1 for a bar inside (outside) the one before it, else 0, and the gap to its close as a fraction",
        group=CANDLE,
        source="definition",
        inputs=OHLC,
        outputs=("inside", "outside", "gap"),
        nulls=fixed(1),
        function=_relation,
        sparse=("gap",),
    ),
    Indicator(
        name="bars_since",
        aliases=("bars_since_extreme",),
        summary="bars since the highest high and the lowest low of period bars, the newest where several are equal",
        group=CANDLE,
        source="TA-Lib AROON",
        parameters=(period(20, minimum=3),),
        inputs=("high", "low"),
        outputs=("high", "low"),
        nulls=PERIOD - 1,
        function=_recent,
    ),
    Indicator(
        name="narrow_range",
        aliases=("nr",),
        summary="1 where the bar's range is the smallest of period bars, else 0",
        group=CANDLE,
        source="T. Crabel, Day Trading with Short Term Price Patterns (1990)",
        parameters=(period(7),),
        inputs=("high", "low"),
        nulls=PERIOD - 1,
        function=_narrow,
    ),
)
