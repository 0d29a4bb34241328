"""Moving averages that TA-Lib lacks, and oscillators of averages that start at their first value."""

from __future__ import annotations

import math

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLCV,
    MAX_EMA_PERIOD,
    Indicator,
    Inputs,
    Memory,
    bars,
    decay,
    ema_decay,
    everything,
    period,
    real,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, Params, derived, fixed, parameter_rows

GROUP = "overlap"


def _alma(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    center, spread = params["offset"] * (length - 1), length / params["sigma"]
    weights = np.exp(-((np.arange(length) - center) ** 2) / (2 * spread * spread))
    return (kit.weighted(inputs[0], weights / weights.sum()),)


def _swma(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    return (kit.weighted(inputs[0], np.array([1.0, 2.0, 2.0, 1.0]) / 6.0),)


def _sinwma(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    weights = np.sin(np.pi * np.arange(1, length + 1) / (length + 1))
    return (kit.weighted(inputs[0], weights / weights.sum()),)


def _ewma(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return (kit.ema_from_first(inputs[0], int(params["period"])),)


def _relative(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    short, middle, long = (talib.SMA(inputs[0], timeperiod=int(params["period"]) * times) for times in (1, 2, 3))
    return (short - middle + long,)


def _mcginley(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source, length = inputs[0], int(params["period"])
    made = kit.nulls(len(source))
    sound = source > 0
    # What is not positive ends it; the bars before know nothing of that.
    rows = len(source) if sound.all() else int(np.argmin(sound))
    if rows < length:
        return (made,)
    value = float(source[:length].mean())
    values = [value]
    for price in source[length:rows].tolist():
        share = price / value
        share *= share
        value += (price - value) / (length * share * share)
        values.append(value)
    made[length - 1 : rows] = values
    return (made,)


def _frama(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low = inputs
    half = int(params["period"]) // 2
    middle = (high + low) / 2.0
    near = (kit.highest(high, half) - kit.lowest(low, half)) / half
    whole = (kit.highest(high, 2 * half) - kit.lowest(low, 2 * half)) / (2 * half)
    both = near + kit.shift(near, half)
    dimension = np.log2(kit.ratio(both, whole, otherwise=1.0), where=both > 0, out=np.zeros(len(middle)))
    weight = np.clip(np.exp(-4.6 * (dimension - 1.0)), 0.01, 1.0)
    start = middle.copy()
    start[: 2 * half - 1] = np.nan
    return (kit.follow(start, weight),)


def _vidya(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    strength = np.abs(talib.CMOU(inputs[0], timeperiod=int(params["window"]))) / 100.0
    start = inputs[0].copy()
    start[np.isnan(strength)] = np.nan
    return (kit.follow(start, strength * 2.0 / (int(params["period"]) + 1)),)


def _super_smoother(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source, length = inputs[0], int(params["period"])
    # Numbers of Python: NumPy's own would make the loop three times as slow.
    damping = math.exp(-math.sqrt(2.0) * math.pi / length)
    second = 2.0 * damping * math.cos(math.sqrt(2.0) * math.pi / length)
    third = -damping * damping
    drive = (1.0 - second - third) * (source + np.concatenate([source[:1], source[:-1]])) / 2.0
    before = last = float(source[0])
    values = []
    for pushed in drive.tolist():
        before, last = last, pushed + second * last + third * before
        values.append(last)
    return (np.array(values),)


def _vwap_rolling(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close, volume = inputs
    length = int(params["period"])
    typical = (high + low + close) / 3.0
    return (kit.ratio(kit.rolling_sum(typical * volume, length), kit.rolling_sum(volume, length)),)


ENTRIES = (
    Indicator(
        name="alma",
        aliases=("arnaud_legoux_moving_average",),
        summary="average weighted by a bell around offset of the window, period / sigma wide",
        group=GROUP,
        source="A. Legoux and D. Kouzis-Loukas, ALMA (2009)",
        parameters=(
            period(9, minimum=1, maximum=1_000),
            real("offset", "0.85", "0", "1"),
            real("sigma", "6", "0.1", "100"),
        ),
        nulls=PERIOD - 1,
        function=_alma,
    ),
    Indicator(
        name="swma",
        aliases=("symmetric_weighted_moving_average",),
        summary="average of four values with the weights 1, 2, 2, 1",
        group=GROUP,
        source="binomial smoothing; the window TradingView calls swma",
        nulls=fixed(3),
        function=_swma,
    ),
    Indicator(
        name="sinwma",
        aliases=("sine_weighted_moving_average",),
        summary="average weighted by half a period of the sine",
        group=GROUP,
        source="sine window of signal processing",
        parameters=(period(14, minimum=1, maximum=1_000),),
        nulls=PERIOD - 1,
        function=_sinwma,
    ),
    Indicator(
        name="ewma",
        aliases=("ema_from_first",),
        summary="exponential moving average that starts at the first value",
        group=GROUP,
        source="weights 2 / (period + 1), as pandas' ewm(adjust=False)",
        parameters=(period(20, minimum=1, maximum=MAX_EMA_PERIOD),),
        nulls=NONE,
        memory=ema_decay(PERIOD),
        function=_ewma,
    ),
    Indicator(
        name="relative_moving_average",
        aliases=("sma_blend",),
        summary="simple averages over one, two and three periods: the first less the second plus the third",
        group=GROUP,
        source="Hutson's relative moving average, as LEAN has it",
        parameters=(period(20, minimum=1, maximum=1_500),),
        nulls=3 * PERIOD - 1,
        function=_relative,
    ),
    Indicator(
        name="mcginley",
        aliases=("mcginley_dynamic",),
        summary="average that follows a falling source faster than a rising one; null after a value that is not "
        "positive",
        group=GROUP,
        source="J. McGinley, Journal of Technical Analysis 36 (1990)",
        parameters=(period(14, minimum=1),),
        nulls=PERIOD - 1,
        # Far below its average a source gets a weight above 1, and what was small becomes large.
        memory=everything("start"),
        function=_mcginley,
        sparse=("value",),
    ),
    Indicator(
        name="frama",
        aliases=("fractal_adaptive_moving_average",),
        summary="average whose weight follows the fractal dimension of highs and lows; odd periods count as one less",
        group=GROUP,
        source="J. Ehlers, FRAMA - Fractal Adaptive Moving Average (2005)",
        parameters=(period(16, minimum=4),),
        inputs=("high", "low"),
        nulls=2 * derived("⌊period / 2⌋", lambda params: int(params["period"]) // 2) - 1,
        # The weight is never below 0.01.
        memory=decay(3_300),
        function=_frama,
    ),
    Indicator(
        name="vidya",
        aliases=("variable_index_dynamic_average",),
        summary="EMA whose weight is multiplied by the size of Chande's momentum over window bars",
        group=GROUP,
        source="T. Chande, Stocks & Commodities 10:3 (1992), with the momentum oscillator as index",
        parameters=(period(14, minimum=1, maximum=MAX_EMA_PERIOD), bars("window", 9, minimum=2)),
        nulls=parameter_rows("window"),
        # In a market without direction the weight is zero, for as long as that lasts.
        memory=everything("start"),
        function=_vidya,
    ),
    Indicator(
        name="super_smoother",
        aliases=("ehlers_super_smoother",),
        summary="low-pass filter of second order that leaves out what is shorter than period bars",
        group=GROUP,
        source="J. Ehlers, Cycle Analytics for Traders (2013), chapter 3",
        parameters=(period(10, maximum=MAX_EMA_PERIOD),),
        nulls=NONE,
        # The poles lie at exp(-√2·π / period).
        memory=Memory(kind="decay", rows=lambda params: int(36.0 * int(params["period"]) / 4.44) + 1),
        function=_super_smoother,
    ),
    Indicator(
        name="vwap_rolling",
        aliases=("rolling_vwap",),
        summary="average of the typical price weighted by volume over period bars; null where none was traded",
        group=GROUP,
        source="sum of price times volume over sum of volume",
        parameters=(period(20, minimum=1),),
        inputs=HLCV,
        nulls=PERIOD - 1,
        function=_vwap_rolling,
        sparse=("value",),
    ),
)
