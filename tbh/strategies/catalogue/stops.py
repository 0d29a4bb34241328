"""Trailing stops by average true ranges."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    bars,
    everything,
    period,
    real,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import PERIOD, Params, parameter_rows

GROUP = "overlap"
_MULTIPLIER = real("multiplier", "3", "0.01", "100")
_WILDER = period(10, maximum=MAX_WILDER_PERIOD)


def _supertrend(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    value, trend = talib.SUPERTREND(
        high, low, close, timeperiod=int(params["period"]), multiplier=float(params["multiplier"])
    )
    rising = trend > 0
    side = trend.astype(np.float64)
    side[np.isnan(value)] = np.nan
    return value, side, np.where(rising, np.nan, value), np.where(rising, value, np.nan)


def _chandelier(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length = int(params["period"])
    width = params["multiplier"] * talib.ATR(high, low, close, timeperiod=length)
    return kit.highest(high, length) - width, kit.lowest(low, length) + width


def _chande_kroll(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length, again = int(params["period"]), int(params["window"])
    width = params["multiplier"] * talib.ATR(high, low, close, timeperiod=length)
    return (
        kit.lowest(kit.lowest(low, length) + width, again),
        kit.highest(kit.highest(high, length) - width, again),
    )


def _atr_stop(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    width = params["multiplier"] * talib.ATR(high, low, close, timeperiod=int(params["period"]))
    start = int(params["period"])
    made, side = kit.nulls(len(close)), kit.nulls(len(close))
    if len(close) <= start:
        return made, side
    stop, up = float(close[start] - width[start]), True
    stops, sides = [], []
    for price, away in zip(close[start:].tolist(), width[start:].tolist(), strict=True):
        if up:
            if price < stop:
                up, stop = False, price + away
            elif price - away > stop:
                stop = price - away
        elif price > stop:
            up, stop = True, price - away
        elif price + away < stop:
            stop = price + away
        stops.append(stop)
        sides.append(up)
    made[start:], side[start:] = stops, np.where(sides, 1.0, -1.0)
    return made, side


ENTRIES = (
    Indicator(
        name="supertrend",
        summary="ATR bands around the middle of the bar that only tighten: the one that holds, 1 up or -1 down, and "
        "the same by its side",
        group=GROUP,
        source="O. Seban's supertrend; TA-Lib SUPERTREND",
        parameters=(_WILDER, _MULTIPLIER),
        inputs=HLC,
        outputs=("value", "trend", "upper", "lower"),
        nulls=PERIOD,
        memory=everything("turn"),
        function=_supertrend,
        sparse=("upper", "lower"),
    ),
    Indicator(
        name="chandelier",
        aliases=("chandelier_exit",),
        summary="stops that hang from the highest high (long) and stand on the lowest low (short), by multiples of ATR",
        group=GROUP,
        source="C. Le Beau's chandelier exit",
        parameters=(period(22, maximum=MAX_WILDER_PERIOD), _MULTIPLIER),
        inputs=HLC,
        outputs=("long", "short"),
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
        function=_chandelier,
    ),
    Indicator(
        name="chande_kroll",
        aliases=("chande_kroll_stop",),
        summary="stops by ATR from the extremes of period bars, themselves the extremes over window bars",
        group=GROUP,
        source="T. Chande and S. Kroll, The New Technical Trader (1994)",
        parameters=(
            period(10, maximum=MAX_WILDER_PERIOD),
            bars("window", 9),
            real("multiplier", "1", "0.01", "100"),
        ),
        inputs=HLC,
        outputs=("short", "long"),
        nulls=PERIOD + parameter_rows("window") - 1,
        memory=wilder_decay(PERIOD),
        function=_chande_kroll,
    ),
    Indicator(
        name="atr_stop",
        aliases=("atr_trailing_stop",),
        summary="stop that follows the close at multiples of ATR and changes sides when it is crossed: 1 up, -1 down",
        group=GROUP,
        source="W. Wilder's volatility system, on closes",
        parameters=(period(21, maximum=MAX_WILDER_PERIOD), _MULTIPLIER),
        inputs=HLC,
        outputs=("value", "trend"),
        nulls=PERIOD,
        memory=everything("turn"),
        function=_atr_stop,
    ),
)
