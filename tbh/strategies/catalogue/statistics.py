"""Statistics of one source that TA-Lib lacks: returns, shapes of distributions, fit and persistence."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    MAX_SORTED_PERIOD,
    Indicator,
    Inputs,
    bars,
    period,
)
from tbh.strategies.catalogue.rows import PERIOD, Params

GROUP = "statistics"
_BLOCK = 512
"""Windows at a time: as many as stay in the processor's cache."""


def _natural_return(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    logs = kit.log(inputs[0])
    return (logs - kit.shift(logs, int(params["period"])),)


def _zscore(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    mean = talib.SMA(inputs[0], timeperiod=length)
    return (kit.ratio(inputs[0] - mean, talib.STDDEV(inputs[0], timeperiod=length)),)


def _sample_stddev(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    return (talib.STDDEV(inputs[0], timeperiod=length) * np.sqrt(length / (length - 1.0)),)


def _moment(inputs: Inputs, params: Params, power: int) -> FloatArray:
    """Mean of the standardised deviations to a power, over windows; null where nothing moved."""
    length = int(params["period"])
    made = kit.nulls(len(inputs[0]))
    if len(inputs[0]) < length:
        return made
    # A block of windows at a time: the deviations of all of them would be rows times period numbers.
    for start in range(0, len(made) - length + 1, _BLOCK):
        windows = kit.rolling_windows(inputs[0][start : start + _BLOCK + length - 1], length)
        away = windows - windows.mean(axis=1, keepdims=True)
        spread = np.sqrt((away * away).mean(axis=1))
        # Below the rounding of the values themselves there is no spread.
        level = spread <= 1e-12 * np.abs(windows[:, -1])
        rows = slice(start + length - 1, start + length - 1 + len(windows))
        made[rows] = kit.ratio((away**power).mean(axis=1), np.where(level, 0.0, spread**power))
    return made


def _skew(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return (_moment(inputs, params, 3),)


def _kurtosis(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return (_moment(inputs, params, 4) - 3.0,)


def _r_squared(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    # The slope as a sum of weighted changes: weights on the values themselves would cancel all but their last digits.
    away = np.arange(length) - (length - 1) / 2.0
    weights = np.cumsum(away[:0:-1])[::-1] / (away @ away)
    slope = np.concatenate([kit.nulls(1), kit.weighted(np.diff(inputs[0]), weights)])
    explained = slope * slope * (length * length - 1.0) / 12.0
    return (np.minimum(kit.ratio(explained, talib.VAR(inputs[0], timeperiod=length)), 1.0),)


def _hurst(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length, lags = int(params["period"]), np.arange(2, int(params["max_lag"]) + 1)
    steps = np.log(lags)
    weights = (steps - steps.mean()) / ((steps - steps.mean()) ** 2).sum()
    made = np.zeros(len(inputs[0]))
    for lag, weight in zip(lags.tolist(), weights.tolist(), strict=True):
        spread = talib.STDDEV(kit.change(inputs[0], lag), timeperiod=length - lag)
        made += weight * kit.log(spread)
    return (made,)


def _drawdown(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return (kit.ratio(inputs[0], kit.highest(inputs[0], int(params["period"]))) - 1.0,)


ENTRIES = (
    Indicator(
        name="log_return",
        aliases=("logr",),
        summary="natural logarithm of the ratio to the value of period bars before",
        group=GROUP,
        source="definition",
        parameters=(period(1, minimum=1),),
        nulls=PERIOD,
        function=_natural_return,
        sparse=("value",),
    ),
    Indicator(
        name="zscore",
        aliases=("z_score",),
        summary="distance from the simple average in population standard deviations; null where nothing moved",
        group=GROUP,
        source="definition",
        parameters=(period(20),),
        nulls=PERIOD - 1,
        function=_zscore,
        sparse=("value",),
    ),
    Indicator(
        name="sample_stddev",
        aliases=("sample_standard_deviation",),
        summary="sample standard deviation: divided by period - 1",
        group=GROUP,
        source="definition",
        parameters=(period(20),),
        nulls=PERIOD - 1,
        function=_sample_stddev,
    ),
    Indicator(
        name="skew",
        aliases=("skewness",),
        summary="population skewness; null where nothing moved",
        group=GROUP,
        source="definition",
        parameters=(period(30, minimum=3, maximum=200),),
        nulls=PERIOD - 1,
        function=_skew,
        sparse=("value",),
    ),
    Indicator(
        name="kurtosis",
        aliases=("excess_kurtosis",),
        summary="population kurtosis less 3; null where nothing moved",
        group=GROUP,
        source="definition",
        parameters=(period(30, minimum=4, maximum=200),),
        nulls=PERIOD - 1,
        function=_kurtosis,
        sparse=("value",),
    ),
    Indicator(
        name="r_squared",
        aliases=("r2",),
        summary="share of the variance that the line of least squares explains, 0 to 1; null where nothing moved",
        group=GROUP,
        source="definition",
        parameters=(period(14, maximum=MAX_SORTED_PERIOD),),
        nulls=PERIOD - 1,
        function=_r_squared,
        sparse=("value",),
    ),
    Indicator(
        name="hurst",
        aliases=("hurst_exponent",),
        summary="exponent at which the spread of changes grows with their lag, of 2 to max_lag; 0.5 for chance",
        group=GROUP,
        source="slope of log spread on log lag, as in E. Chan, Algorithmic Trading (2013)",
        parameters=(period(252, minimum=52), bars("max_lag", 20, minimum=4, maximum=50)),
        nulls=PERIOD - 1,
        function=_hurst,
        sparse=("value",),
    ),
    Indicator(
        name="drawdown",
        aliases=("rolling_drawdown",),
        summary="fall from the highest value of period bars, a fraction from 0 down",
        group=GROUP,
        source="definition",
        parameters=(period(100),),
        nulls=PERIOD - 1,
        function=_drawdown,
        sparse=("value",),
    ),
)
