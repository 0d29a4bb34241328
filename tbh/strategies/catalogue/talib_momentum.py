"""TA-Lib's oscillators of averages: what rises and falls around zero, and its signal lines."""

from __future__ import annotations

import talib

from tbh.strategies.catalogue.base import (
    HLC,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    OHLC,
    Parameter,
    bars,
    ema_decay,
    ordered,
    period,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import FAST, NONE, PERIOD, SIGNAL, SLOW, derived, largest, parameter_rows
from tbh.strategies.catalogue.talib_overlap import MA_KINDS, MA_NULLS, ma_nulls, ma_type
from tbh.strategies.catalogue.talibs import talib_entry

GROUP = "momentum"
WILDER = 13
"""TA-Lib's number of the moving average that its table of kinds calls Wilder's."""
MACD = ("macd", "signal", "hist")
_FAST_SLOW = (
    bars("fast", 12, minimum=2, maximum=MAX_EMA_PERIOD),
    bars("slow", 26, minimum=2, maximum=MAX_EMA_PERIOD),
)


def simple_pair(fast: int, slow: int) -> tuple[Parameter, Parameter]:
    """Two windows, the second the longer one."""
    return bars("fast", fast, minimum=2), bars("slow", slow, minimum=2)


ENTRIES = (
    talib_entry(
        "apo",
        talib.APO,
        f"absolute price oscillator: difference of two moving averages ({MA_KINDS})",
        group=GROUP,
        aliases=("absolute_price_oscillator",),
        parameters=(*_FAST_SLOW, ma_type(1)),
        nulls=ma_nulls("slow"),
        memory=ema_decay(SLOW, stages=3),
        keywords={"ma_type": "matype"},
        rule=ordered("fast", "slow"),
    ),
    talib_entry(
        "ppo",
        talib.PPO,
        f"percentage price oscillator: difference of two moving averages in percent of the slow one ({MA_KINDS})",
        group=GROUP,
        aliases=("percentage_price_oscillator",),
        parameters=(*_FAST_SLOW, ma_type(1)),
        nulls=ma_nulls("slow"),
        memory=ema_decay(SLOW, stages=3),
        keywords={"ma_type": "matype"},
        rule=ordered("fast", "slow"),
    ),
    talib_entry(
        "macdext",
        talib.MACDEXT,
        f"MACD of moving averages of any kind ({MA_KINDS})",
        group=GROUP,
        aliases=("macd_extended",),
        parameters=(
            bars("fast", 12, minimum=2, maximum=MAX_EMA_PERIOD),
            ma_type(0, "fast_type"),
            bars("slow", 26, minimum=2, maximum=MAX_EMA_PERIOD),
            ma_type(0, "slow_type"),
            bars("signal", 9, maximum=MAX_EMA_PERIOD),
            ma_type(0, "signal_type"),
        ),
        outputs=MACD,
        nulls=derived(
            "slow + signal − 2 with simple averages",
            lambda params: (
                max(MA_NULLS[int(params[f"{name}_type"])] * (int(params[name]) - 1) for name in ("fast", "slow"))
                + MA_NULLS[int(params["signal_type"])] * (int(params["signal"]) - 1)
            ),
        ),
        memory=ema_decay(largest(SLOW, SIGNAL), stages=6),
        keywords={"fast_type": "fastmatype", "slow_type": "slowmatype", "signal_type": "signalmatype"},
        rule=ordered("fast", "slow"),
    ),
    talib_entry(
        "macdfix",
        talib.MACDFIX,
        "MACD of 12 and 26 bars with the weights 0.15 and 0.075",
        group=GROUP,
        aliases=("macd_fixed",),
        parameters=(bars("signal", 9, maximum=MAX_EMA_PERIOD),),
        outputs=MACD,
        nulls=SIGNAL + 24,
        memory=ema_decay(SIGNAL + 26, stages=2),
    ),
    talib_entry(
        "trix",
        talib.TRIX,
        "percent change of a triple smoothed EMA",
        group=GROUP,
        parameters=(period(30, minimum=1, maximum=MAX_EMA_PERIOD),),
        nulls=3 * PERIOD - 2,
        memory=ema_decay(PERIOD, stages=3),
    ),
    talib_entry(
        "tsi",
        talib.TSI,
        "true strength index: change smoothed twice, in percent of its size smoothed twice",
        group=GROUP,
        aliases=("true_strength_index",),
        parameters=(
            bars("first", 25, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("second", 13, minimum=2, maximum=MAX_EMA_PERIOD),
        ),
        nulls=parameter_rows("first") + parameter_rows("second") - 1,
        memory=ema_decay(largest(parameter_rows("first"), parameter_rows("second")), stages=2),
        keywords={"first": "firstperiod", "second": "secondperiod"},
    ),
    talib_entry(
        "smi",
        talib.SMI,
        "stochastic momentum index: distance from the middle of the range, smoothed twice, and its signal",
        group=GROUP,
        aliases=("stochastic_momentum_index",),
        parameters=(
            bars("period", 13, minimum=2, maximum=1_000),
            bars("fast", 2, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("slow", 25, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("signal", 9, minimum=2, maximum=MAX_EMA_PERIOD),
        ),
        inputs=HLC,
        outputs=("smi", "signal"),
        nulls=PERIOD + FAST + SLOW + SIGNAL - 4,
        memory=ema_decay(largest(FAST, SLOW, SIGNAL), stages=3),
    ),
    talib_entry(
        "ao",
        talib.AO,
        "awesome oscillator: difference of two simple averages of the middle of the bar",
        group=GROUP,
        aliases=("awesome", "awesome_oscillator"),
        parameters=simple_pair(5, 34),
        inputs=("high", "low"),
        nulls=SLOW - 1,
        rule=ordered("fast", "slow"),
    ),
    talib_entry(
        "ac",
        talib.AC,
        "accelerator oscillator: the awesome oscillator less its simple average",
        group=GROUP,
        aliases=("accelerator_oscillator",),
        parameters=(*simple_pair(5, 34), bars("signal", 5, minimum=2)),
        inputs=("high", "low"),
        nulls=SLOW + SIGNAL - 2,
        rule=ordered("fast", "slow"),
    ),
    talib_entry(
        "eri",
        talib.ERI,
        "Elder ray: high and low as they stand to an EMA of the close",
        group=GROUP,
        aliases=("elder_ray",),
        parameters=(period(13, maximum=MAX_EMA_PERIOD),),
        inputs=HLC,
        outputs=("bull", "bear"),
        nulls=PERIOD - 1,
        memory=ema_decay(PERIOD),
    ),
    talib_entry(
        "adxr",
        talib.ADXR,
        "mean of the ADX and the ADX of period - 1 bars before",
        group=GROUP,
        aliases=("average_directional_index_rating",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=3 * PERIOD - 2,
        memory=wilder_decay(PERIOD, stages=2),
    ),
    talib_entry(
        "dx",
        talib.DX,
        "Wilder's directional movement index, 0 to 100, not smoothed",
        group=GROUP,
        aliases=("directional_movement_index",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "plus_di",
        talib.PLUS_DI,
        "Wilder's plus directional indicator, 0 to 100",
        group=GROUP,
        aliases=("pdi",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "minus_di",
        talib.MINUS_DI,
        "Wilder's minus directional indicator, 0 to 100",
        group=GROUP,
        aliases=("mdi",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "plus_dm",
        talib.PLUS_DM,
        "Wilder's plus directional movement, smoothed sum over period bars",
        group=GROUP,
        aliases=("plus_directional_movement",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=("high", "low"),
        nulls=PERIOD - 1,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "minus_dm",
        talib.MINUS_DM,
        "Wilder's minus directional movement, smoothed sum over period bars",
        group=GROUP,
        aliases=("minus_directional_movement",),
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        inputs=("high", "low"),
        nulls=PERIOD - 1,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "bop",
        talib.BOP,
        "balance of power: (close - open) / (high - low)",
        group=GROUP,
        aliases=("balance_of_power",),
        inputs=OHLC,
        nulls=NONE,
    ),
    talib_entry(
        "kdj",
        talib.KDJ,
        "stochastic with Wilder's smoothing, and J = 3K - 2D",
        group=GROUP,
        parameters=(
            bars("period", 9),
            bars("smooth_k", 3, maximum=MAX_WILDER_PERIOD),
            bars("smooth_d", 3, maximum=MAX_WILDER_PERIOD),
        ),
        inputs=HLC,
        outputs=("k", "d", "j"),
        nulls=PERIOD + parameter_rows("smooth_k") + parameter_rows("smooth_d") - 3,
        memory=wilder_decay(largest(parameter_rows("smooth_k"), parameter_rows("smooth_d")), stages=2),
        keywords={"period": "fastk_period", "smooth_k": "slowk_period", "smooth_d": "slowd_period"},
        fixed={"slowk_matype": WILDER, "slowd_matype": WILDER},
    ),
)
