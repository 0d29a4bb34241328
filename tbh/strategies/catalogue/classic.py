"""The indicators every definition begins with. Others stand beside them; these keep their place and their names."""

from __future__ import annotations

import talib
from talib._ta_lib import MA_Type

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue.base import (
    HLC,
    HLCV,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    bars,
    ema_decay,
    everything,
    ordered,
    period,
    real,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, SIGNAL, SLOW, Params, largest, parameter_rows
from tbh.strategies.catalogue.talibs import talib_entry

SMOOTH_K = parameter_rows("smooth_k")
SMOOTH_D = parameter_rows("smooth_d")


def _bbands(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    upper, middle, lower = talib.BBANDS(
        inputs[0],
        timeperiod=int(params["period"]),
        nbdevup=float(params["stddev"]),
        nbdevdn=float(params["stddev"]),
        matype=MA_Type.SMA,
    )
    return upper, middle, lower


def _donchian(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    upper = talib.MAX(inputs[0], timeperiod=int(params["period"]))
    lower = talib.MIN(inputs[1], timeperiod=int(params["period"]))
    return upper, lower, (upper + lower) / 2.0


ENTRIES = (
    talib_entry(
        "sma",
        talib.SMA,
        "simple moving average",
        group="overlap",
        aliases=("simple_moving_average",),
        parameters=(period(20, minimum=1),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "ema",
        talib.EMA,
        "exponential moving average, seeded by the simple one",
        group="overlap",
        aliases=("exponential_moving_average",),
        parameters=(period(20, minimum=1, maximum=MAX_EMA_PERIOD),),
        nulls=PERIOD - 1,
        memory=ema_decay(PERIOD),
    ),
    talib_entry(
        "wma",
        talib.WMA,
        "linearly weighted moving average",
        group="overlap",
        aliases=("weighted_moving_average",),
        parameters=(period(20, minimum=1),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "rsi",
        talib.RSI,
        "Wilder's relative strength index, 0 to 100",
        group="momentum",
        aliases=("relative_strength_index",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "macd",
        talib.MACD,
        "difference of two EMAs, its EMA, and the difference of both",
        group="momentum",
        aliases=("moving_average_convergence_divergence",),
        parameters=(
            bars("fast", 12, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("slow", 26, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("signal", 9, maximum=MAX_EMA_PERIOD),
        ),
        outputs=("macd", "signal", "hist"),
        nulls=SLOW + SIGNAL - 2,
        memory=ema_decay(largest(SLOW, SIGNAL), stages=2),
        # TA-Lib would swap the two without a word.
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="bbands",
        aliases=("bollinger", "bollinger_bands"),
        summary="simple moving average, and stddev population standard deviations above and below",
        group="overlap",
        source="TA-Lib BBANDS",
        parameters=(period(20), real("stddev", "2", "0.01", "100")),
        outputs=("upper", "middle", "lower"),
        nulls=PERIOD - 1,
        function=_bbands,
    ),
    talib_entry(
        "atr",
        talib.ATR,
        "Wilder's average true range, in quote",
        group="volatility",
        aliases=("average_true_range",),
        parameters=(period(14, minimum=1, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "adx",
        talib.ADX,
        "Wilder's average directional index, 0 to 100",
        group="momentum",
        aliases=("average_directional_index",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=2 * PERIOD - 1,
        memory=wilder_decay(PERIOD, stages=2),
    ),
    talib_entry(
        "stoch",
        talib.STOCH,
        "slow stochastic, 0 to 100: %K over period smoothed by smooth_k, %D its mean over smooth_d",
        group="momentum",
        aliases=("stochastic",),
        parameters=(bars("period", 14), bars("smooth_k", 3), bars("smooth_d", 3)),
        inputs=HLC,
        outputs=("k", "d"),
        nulls=PERIOD + SMOOTH_K + SMOOTH_D - 3,
        keywords={"period": "fastk_period", "smooth_k": "slowk_period", "smooth_d": "slowd_period"},
        fixed={"slowk_matype": MA_Type.SMA, "slowd_matype": MA_Type.SMA},
    ),
    talib_entry(
        "obv",
        talib.OBV,
        "on-balance volume, counted from the first bar on: compare it with its past, not with a number",
        group="volume",
        aliases=("on_balance_volume",),
        inputs=("close", "volume"),
        nulls=NONE,
        memory=everything("differences"),
    ),
    Indicator(
        name="donchian",
        aliases=("donchian_channel",),
        summary="highest high, lowest low and their mean over period bars, the current one included",
        group="overlap",
        source="TA-Lib MAX and MIN",
        parameters=(period(20),),
        inputs=("high", "low"),
        outputs=("upper", "lower", "middle"),
        nulls=PERIOD - 1,
        function=_donchian,
    ),
    talib_entry(
        "stddev",
        talib.STDDEV,
        "population standard deviation",
        group="statistics",
        aliases=("stdev",),
        parameters=(period(20),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "roc",
        talib.ROC,
        "percent change over period bars",
        group="momentum",
        aliases=("rate_of_change",),
        parameters=(period(10, minimum=1),),
        nulls=PERIOD,
    ),
    talib_entry(
        "cci",
        talib.CCI,
        "commodity channel index",
        group="momentum",
        aliases=("commodity_channel_index",),
        parameters=(period(20),),
        inputs=HLC,
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "mfi",
        talib.MFI,
        "money flow index, 0 to 100",
        group="volume",
        aliases=("money_flow_index",),
        parameters=(period(14),),
        inputs=HLCV,
        nulls=PERIOD,
    ),
    talib_entry(
        "willr",
        talib.WILLR,
        "Williams' %R, -100 to 0",
        group="momentum",
        aliases=("williams_r",),
        parameters=(period(14),),
        inputs=HLC,
        nulls=PERIOD - 1,
    ),
)
