"""Oscillators of one source that TA-Lib lacks."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_EMA_PERIOD,
    Indicator,
    Inputs,
    bars,
    ema_decay,
    ordered,
    period,
)
from tbh.strategies.catalogue.rows import PERIOD, SIGNAL, SLOW, Params, Rows, largest, parameter_rows

GROUP = "momentum"
SMOOTH_K = parameter_rows("smooth_k")
SMOOTH_D = parameter_rows("smooth_d")


def _kst(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    made = np.zeros(len(inputs[0]))
    for weight in (1, 2, 3, 4):
        change = talib.ROC(inputs[0], timeperiod=int(params[f"roc{weight}"]))
        made = made + weight * talib.SMA(change, timeperiod=int(params[f"sma{weight}"]))
    return made, talib.SMA(made, timeperiod=int(params["signal"]))


def _stc(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source, length = inputs[0], int(params["period"])
    line = kit.ema_from_first(source, int(params["fast"])) - kit.ema_from_first(source, int(params["slow"]))
    for name in ("smooth_k", "smooth_d"):
        low, high = kit.lowest(line, length), kit.highest(line, length)
        place = 100.0 * kit.ratio(line - low, high - low, otherwise=0.0)
        place[np.isnan(low)] = np.nan
        line = kit.ema_from_first(place, int(params[name]))
    return (line,)


def _pmo(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    change = talib.ROC(inputs[0], timeperiod=1)
    once = _custom(change, int(params["fast_smoothing"]))
    twice = _custom(10.0 * once, int(params["second_smoothing"]))
    return twice, kit.ema(twice, int(params["signal"]))


def _custom(values: FloatArray, length: int) -> FloatArray:
    """Weight 2 / length, seeded by the simple average: an EMA of length - 1."""
    return kit.ema(values, length - 1)


def _premier(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length, smoothing = int(params["period"]), int(params["smoothing"])
    bottom, top = kit.lowest(low, length), kit.highest(high, length)
    place = 10.0 * kit.ratio(close - bottom, top - bottom, otherwise=0.0) - 5.0
    place[np.isnan(bottom)] = np.nan
    return (np.tanh(kit.ema(kit.ema(place, smoothing), smoothing) / 2.0),)


def _spike(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source, length = inputs[0], int(params["period"])
    logs = np.log(source, where=source > 0, out=kit.nulls(len(source)))
    spread = talib.STDDEV(kit.change(logs), timeperiod=length)
    return (kit.ratio(kit.change(source), kit.shift(spread, 1) * kit.shift(source, 1)),)


def _gravity(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    weights = np.arange(length, 0, -1, dtype=np.float64)
    return (-kit.ratio(kit.weighted(inputs[0], weights), kit.rolling_sum(inputs[0], length)),)


def _bias(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    mean = talib.SMA(inputs[0], timeperiod=int(params["period"]))
    return (100.0 * kit.ratio(inputs[0] - mean, mean),)


def _tsi_signal(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    line = talib.TSI(inputs[0], firstperiod=int(params["first"]), secondperiod=int(params["second"]))
    return line, kit.ema(line, int(params["signal"]))


def _roc_pair(number: int) -> Rows:
    return parameter_rows(f"roc{number}") + parameter_rows(f"sma{number}") - 1


_KST_NULLS = largest(*(_roc_pair(number) for number in (1, 2, 3, 4)))
_KST = tuple(
    bars(f"{name}{number}", default)
    for number, defaults in enumerate(((10, 10), (15, 10), (20, 10), (30, 15)), 1)
    for name, default in zip(("roc", "sma"), defaults, strict=True)
)
_FIRST, _SECOND = parameter_rows("first"), parameter_rows("second")

ENTRIES = (
    Indicator(
        name="kst",
        aliases=("know_sure_thing",),
        summary="four smoothed rates of change, weighted 1 to 4, and the simple average of their sum",
        group=GROUP,
        source="M. Pring, Stocks & Commodities 10:9 (1992)",
        parameters=(*_KST, bars("signal", 9)),
        outputs=("kst", "signal"),
        nulls=(_KST_NULLS, _KST_NULLS + SIGNAL - 1),
        function=_kst,
    ),
    Indicator(
        name="stc",
        aliases=("schaff_trend_cycle",),
        summary="MACD through two smoothed stochastics, 0 to 100",
        group=GROUP,
        source="D. Schaff, The Schaff Trend Cycle (2008), with the smoothing of StockCharts' spreadsheet",
        parameters=(
            bars("period", 10, maximum=1_000),
            bars("fast", 23, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("slow", 50, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("smooth_k", 3, maximum=MAX_EMA_PERIOD),
            bars("smooth_d", 3, maximum=MAX_EMA_PERIOD),
        ),
        nulls=2 * PERIOD - 2,
        memory=ema_decay(largest(SLOW, SMOOTH_K, SMOOTH_D), stages=3),
        function=_stc,
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="pmo",
        aliases=("price_momentum_oscillator",),
        summary="ten times the percent change, smoothed twice with weights 2 / period, and its EMA",
        group=GROUP,
        source="C. Swenlin's DecisionPoint price momentum oscillator",
        parameters=(
            bars("fast_smoothing", 35, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("second_smoothing", 20, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("signal", 10, maximum=MAX_EMA_PERIOD),
        ),
        outputs=("pmo", "signal"),
        nulls=(
            parameter_rows("fast_smoothing") + parameter_rows("second_smoothing") - 3,
            parameter_rows("fast_smoothing") + parameter_rows("second_smoothing") + SIGNAL - 4,
        ),
        memory=ema_decay(largest(*(parameter_rows(f"{each}_smoothing") for each in ("fast", "second")), SIGNAL), 3),
        function=_pmo,
    ),
    Indicator(
        name="pso",
        aliases=("premier_stochastic",),
        summary="fast stochastic smoothed twice and pressed between -1 and 1",
        group=GROUP,
        source="L. Leibfarth, Stocks & Commodities 26:8 (2008)",
        parameters=(bars("period", 8, maximum=2_000), bars("smoothing", 5, maximum=MAX_EMA_PERIOD)),
        inputs=HLC,
        nulls=PERIOD + 2 * parameter_rows("smoothing") - 3,
        memory=ema_decay(parameter_rows("smoothing"), stages=2),
        function=_premier,
    ),
    Indicator(
        name="price_spike",
        aliases=("augen_price_spike", "aps"),
        summary="change in standard deviations of the returns of the period bars before; null where they did not move",
        group=GROUP,
        source="J. Augen, The Volatility Edge in Options Trading (2008)",
        parameters=(period(20),),
        nulls=PERIOD + 1,
        function=_spike,
        sparse=("value",),
    ),
    Indicator(
        name="center_of_gravity",
        aliases=("cg",),
        summary="where the weight of the last values lies, from -1 (newest) to -period (oldest); null at a sum of zero",
        group=GROUP,
        source="J. Ehlers, Stocks & Commodities 20:5 (2002)",
        parameters=(period(10, maximum=1_000),),
        nulls=PERIOD - 1,
        function=_gravity,
        sparse=("value",),
    ),
    Indicator(
        name="bias",
        summary="distance from the simple average in percent of it",
        group=GROUP,
        source="definition",
        parameters=(period(26),),
        nulls=PERIOD - 1,
        function=_bias,
        sparse=("value",),
    ),
    Indicator(
        name="tsi_signal",
        summary="true strength index and its EMA",
        group=GROUP,
        source="W. Blau, Stocks & Commodities 9:11 (1991); TA-Lib TSI",
        parameters=(
            bars("first", 25, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("second", 13, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("signal", 7, maximum=MAX_EMA_PERIOD),
        ),
        outputs=("tsi", "signal"),
        nulls=(_FIRST + _SECOND - 1, _FIRST + _SECOND + SIGNAL - 2),
        memory=ema_decay(largest(_FIRST, _SECOND, SIGNAL), stages=3),
        function=_tsi_signal,
    ),
)
