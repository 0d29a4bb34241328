"""TA-Lib's averages, bands and stops, on the scale of their source."""

from __future__ import annotations

from math import isqrt

import talib

from tbh.strategies.catalogue.base import (
    HLC,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    SOURCE,
    Memory,
    Parameter,
    bars,
    decay,
    ema_decay,
    everything,
    period,
    real,
    slowest,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import PERIOD, Params, Rows, derived, fixed, largest, parameter_rows
from tbh.strategies.catalogue.talibs import talib_entry

GROUP = "overlap"
BANDS = ("upper", "middle", "lower")
MA_NULLS = (1, 1, 1, 2, 3, 1)
"""The kinds of moving average, 0 to 5 (sma, ema, wma, dema, tema, trima): n has n · (period − 1) leading nulls."""
MA_KINDS = "0 sma, 1 ema, 2 wma, 3 dema, 4 tema, 5 trima"


def ma_nulls(name: str, kind: str = "ma_type") -> Rows:
    """The leading nulls of a moving average whose kind is a parameter."""
    return derived(
        f"{name} − 1 (dema 2·{name} − 2, tema 3·{name} − 3)",
        lambda params: MA_NULLS[int(params[kind])] * (int(params[name]) - 1),
    )


def ma_type(default: int, name: str = "ma_type") -> Parameter:
    """The parameter that chooses a kind of moving average, by TA-Lib's numbers."""
    return bars(name, default, minimum=0, maximum=len(MA_NULLS) - 1)


def _kama_decay(params: Params) -> int:
    # At no efficiency at all the weight is (2 / 31)^2.
    return int(32.3 * 31**2 / 4) + int(params["period"])


def _mama_decay(params: Params) -> int:
    # FAMA follows MAMA with half its weight, which is never below slow_limit.
    return int(36.0 * 2 / float(params["slow_limit"])) + 1_000


ENTRIES = (
    talib_entry(
        "accbands",
        talib.ACCBANDS,
        "acceleration bands: means of high and low widened by their distance, around the mean close",
        group=GROUP,
        aliases=("acceleration_bands",),
        parameters=(period(20),),
        inputs=HLC,
        outputs=BANDS,
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "dema",
        talib.DEMA,
        "double exponential moving average",
        group=GROUP,
        aliases=("double_exponential_moving_average",),
        parameters=(period(30, minimum=1, maximum=MAX_EMA_PERIOD),),
        nulls=2 * PERIOD - 2,
        memory=ema_decay(PERIOD, stages=2),
    ),
    talib_entry(
        "tema",
        talib.TEMA,
        "triple exponential moving average",
        group=GROUP,
        aliases=("triple_exponential_moving_average",),
        parameters=(period(30, minimum=1, maximum=MAX_EMA_PERIOD),),
        nulls=3 * PERIOD - 3,
        memory=ema_decay(PERIOD, stages=3),
    ),
    talib_entry(
        "t3",
        talib.T3,
        "Tillson's T3: six exponential averages in a row, weighted by the volume factor",
        group=GROUP,
        aliases=("tillson_t3",),
        parameters=(period(5, maximum=500), real("volume_factor", "0.7", "0", "1")),
        nulls=6 * PERIOD - 6,
        memory=ema_decay(PERIOD, stages=6),
        keywords={"volume_factor": "vfactor"},
    ),
    talib_entry(
        "trima",
        talib.TRIMA,
        "triangular moving average: a simple average of a simple average",
        group=GROUP,
        aliases=("triangular_moving_average",),
        parameters=(period(30),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "kama",
        talib.KAMA,
        "Kaufman's adaptive moving average, between EMAs of 2 and 30 bars",
        group=GROUP,
        aliases=("kaufman_adaptive_moving_average",),
        parameters=(period(30),),
        nulls=PERIOD,
        memory=Memory(kind="decay", rows=_kama_decay),
    ),
    talib_entry(
        "mama",
        talib.MAMA,
        "Ehlers' MESA adaptive moving average and the following one",
        group=GROUP,
        aliases=("mesa_adaptive_moving_average",),
        parameters=(real("fast_limit", "0.5", "0.01", "0.99"), real("slow_limit", "0.05", "0.01", "0.99")),
        outputs=("mama", "fama"),
        nulls=fixed(32),
        memory=Memory(kind="decay", rows=_mama_decay),
        keywords={"fast_limit": "fastlimit", "slow_limit": "slowlimit"},
    ),
    talib_entry(
        "ht_trendline",
        talib.HT_TRENDLINE,
        "Ehlers' instantaneous trend line by the Hilbert transform",
        group=GROUP,
        aliases=("hilbert_trendline",),
        nulls=fixed(63),
        memory=decay(1_000),
    ),
    talib_entry(
        "hma",
        talib.HMA,
        "Hull moving average: weighted averages of half and whole period, smoothed over the root of it",
        group=GROUP,
        aliases=("hull_moving_average",),
        parameters=(period(20),),
        nulls=PERIOD + derived("⌊√period⌋", lambda params: isqrt(int(params["period"]))) - 2,
    ),
    talib_entry(
        "rma",
        talib.RMA,
        "Wilder's smoothed moving average: weight 1 / period, seeded by the simple one",
        group=GROUP,
        aliases=("wilder_moving_average", "smma", "smoothed_moving_average"),
        parameters=(period(14, minimum=1, maximum=MAX_WILDER_PERIOD),),
        nulls=PERIOD - 1,
        memory=wilder_decay(PERIOD),
    ),
    talib_entry(
        "zlema",
        talib.ZLEMA,
        "zero-lag exponential moving average: an EMA of the source and its last change over half the period",
        group=GROUP,
        aliases=("zero_lag_exponential_moving_average",),
        parameters=(period(20, maximum=MAX_EMA_PERIOD),),
        nulls=PERIOD + derived("⌊(period − 1) / 2⌋", lambda params: (int(params["period"]) - 1) // 2) - 1,
        memory=ema_decay(PERIOD),
    ),
    talib_entry(
        "vwma",
        talib.VWMA,
        "moving average weighted by volume",
        group=GROUP,
        aliases=("volume_weighted_moving_average",),
        parameters=(period(20, minimum=1),),
        inputs=(SOURCE, "volume"),
        nulls=PERIOD - 1,
        unbounded=True,
    ),
    talib_entry(
        "ma",
        talib.MA,
        f"moving average of a kind: {MA_KINDS}",
        group=GROUP,
        aliases=("moving_average",),
        parameters=(
            period(30, minimum=1, maximum=MAX_EMA_PERIOD),
            ma_type(0),
        ),
        nulls=ma_nulls("period"),
        memory=ema_decay(PERIOD, stages=3),
        keywords={"ma_type": "matype"},
    ),
    talib_entry(
        "midpoint",
        talib.MIDPOINT,
        "middle between the highest and the lowest value of the source over period bars",
        group=GROUP,
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "midprice",
        talib.MIDPRICE,
        "middle between the highest high and the lowest low over period bars",
        group=GROUP,
        parameters=(period(14),),
        inputs=("high", "low"),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "kc",
        talib.KC,
        "Keltner channel as TA-Lib has it: EMA of the typical price, and multiples of ATR above and below",
        group=GROUP,
        aliases=("keltner_channel_typical",),
        parameters=(
            period(20, maximum=MAX_EMA_PERIOD),
            bars("atr_period", 10, maximum=MAX_WILDER_PERIOD),
            real("multiplier", "2", "0.01", "100"),
        ),
        inputs=HLC,
        outputs=BANDS,
        nulls=largest(PERIOD - 1, parameter_rows("atr_period")),
        memory=slowest(ema_decay(PERIOD), wilder_decay(parameter_rows("atr_period"))),
        keywords={"atr_period": "atrperiod", "multiplier": "nbdev"},
    ),
    talib_entry(
        "sar",
        talib.SAR,
        "Wilder's parabolic stop and reverse",
        group=GROUP,
        aliases=("psar", "parabolic_sar"),
        parameters=(real("acceleration", "0.02", "0.0001", "1"), real("maximum", "0.2", "0.001", "1")),
        inputs=("high", "low"),
        nulls=fixed(1),
        memory=everything("turn"),
    ),
    talib_entry(
        "sarext",
        talib.SAREXT,
        "parabolic stop with a side of its own for each parameter; negative while short",
        group=GROUP,
        aliases=("parabolic_sar_extended",),
        parameters=(
            real("start", "0", "-1000000000", "1000000000"),
            real("offset_on_reverse", "0", "0", "10"),
            real("acceleration_init_long", "0.02", "0.0001", "1"),
            real("acceleration_long", "0.02", "0.0001", "1"),
            real("acceleration_max_long", "0.2", "0.001", "1"),
            real("acceleration_init_short", "0.02", "0.0001", "1"),
            real("acceleration_short", "0.02", "0.0001", "1"),
            real("acceleration_max_short", "0.2", "0.001", "1"),
        ),
        inputs=("high", "low"),
        nulls=fixed(1),
        memory=everything("turn"),
        keywords={
            "start": "startvalue",
            "offset_on_reverse": "offsetonreverse",
            "acceleration_init_long": "accelerationinitlong",
            "acceleration_long": "accelerationlong",
            "acceleration_max_long": "accelerationmaxlong",
            "acceleration_init_short": "accelerationinitshort",
            "acceleration_short": "accelerationshort",
            "acceleration_max_short": "accelerationmaxshort",
        },
    ),
)
