"""TA-Lib's statistics, price transforms and Ehlers' cycle by the Hilbert transform."""

from __future__ import annotations

import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_SORTED_PERIOD,
    OHLC,
    SERIES,
    Indicator,
    Inputs,
    decay,
    period,
    real,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, Params, fixed
from tbh.strategies.catalogue.talibs import talib_entry

STATISTICS = "statistics"
PRICE = "price"
CYCLE = "cycle"
_PAIR = ("high", "low")
_HILBERT = decay(1_000)


def _bar(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    return tuple(each.copy() for each in inputs)


ENTRIES = (
    talib_entry(
        "avgdev",
        talib.AVGDEV,
        "mean absolute deviation from the mean",
        group=STATISTICS,
        aliases=("mean_absolute_deviation",),
        parameters=(period(14, maximum=MAX_SORTED_PERIOD),),
        nulls=PERIOD - 1,
    ),
    Indicator(
        name="bar",
        aliases=("ohlcv",),
        summary="the bar itself; with a timeframe the last closed one of that",
        group=PRICE,
        source="definition",
        inputs=SERIES,
        outputs=SERIES,
        nulls=NONE,
        function=_bar,
    ),
    talib_entry(
        "avgprice",
        talib.AVGPRICE,
        "mean of open, high, low and close",
        group=PRICE,
        aliases=("ohlc4", "average_price"),
        inputs=OHLC,
        nulls=NONE,
    ),
    talib_entry(
        "ha",
        talib.HA,
        "Heikin-Ashi candles",
        group=PRICE,
        aliases=("heikin_ashi", "heikinashi"),
        inputs=OHLC,
        outputs=("open", "high", "low", "close"),
        nulls=NONE,
        # The open halves what it remembers with every bar.
        memory=decay(60),
    ),
    talib_entry(
        "medprice",
        talib.MEDPRICE,
        "middle of the bar: (high + low) / 2",
        group=PRICE,
        aliases=("hl2", "median_price"),
        inputs=_PAIR,
        nulls=NONE,
    ),
    talib_entry(
        "typprice",
        talib.TYPPRICE,
        "typical price: (high + low + close) / 3",
        group=PRICE,
        aliases=("hlc3", "typical_price"),
        inputs=HLC,
        nulls=NONE,
    ),
    talib_entry(
        "wclprice",
        talib.WCLPRICE,
        "weighted close: (high + low + 2 close) / 4",
        group=PRICE,
        aliases=("hlcc4", "weighted_close_price"),
        inputs=HLC,
        nulls=NONE,
    ),
    talib_entry(
        "beta",
        talib.BETA,
        "slope of the returns of the high on those of the low",
        group=STATISTICS,
        parameters=(period(5, minimum=1),),
        inputs=_PAIR,
        nulls=PERIOD,
    ),
    talib_entry(
        "correl",
        talib.CORREL,
        "Pearson's correlation of high and low",
        group=STATISTICS,
        aliases=("correlation",),
        parameters=(period(30),),
        inputs=_PAIR,
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "linearreg",
        talib.LINEARREG,
        "end of the line of least squares over period bars",
        group=STATISTICS,
        aliases=("lsma", "epma", "least_squares_moving_average"),
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "linearreg_angle",
        talib.LINEARREG_ANGLE,
        "slope of the line of least squares in degrees",
        group=STATISTICS,
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "linearreg_intercept",
        talib.LINEARREG_INTERCEPT,
        "beginning of the line of least squares over period bars",
        group=STATISTICS,
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "linearreg_slope",
        talib.LINEARREG_SLOPE,
        "slope of the line of least squares, per bar",
        group=STATISTICS,
        aliases=("slope",),
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "tsf",
        talib.TSF,
        "forecast of the next bar by the line of least squares",
        group=STATISTICS,
        aliases=("time_series_forecast",),
        parameters=(period(14),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "percentile",
        talib.PERCENTILE,
        "percentile of the last period values, 50 for their median",
        group=STATISTICS,
        aliases=("quantile",),
        parameters=(period(30, maximum=MAX_SORTED_PERIOD), real("percentile", "50", "0", "100")),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "percentrank",
        talib.PERCENTRANK,
        "share of the period values before that lie below this one, 0 to 100",
        group=STATISTICS,
        aliases=("percent_rank",),
        parameters=(period(100, maximum=MAX_SORTED_PERIOD),),
        nulls=PERIOD,
    ),
    talib_entry(
        "var",
        talib.VAR,
        "population variance",
        group=STATISTICS,
        aliases=("variance",),
        parameters=(period(5),),
        nulls=PERIOD - 1,
    ),
    talib_entry(
        "ht_dcperiod",
        talib.HT_DCPERIOD,
        "period of the dominant cycle, in bars",
        group=CYCLE,
        aliases=("dominant_cycle_period",),
        nulls=fixed(32),
        memory=_HILBERT,
    ),
    talib_entry(
        "ht_dcphase",
        talib.HT_DCPHASE,
        "phase of the dominant cycle, in degrees",
        group=CYCLE,
        aliases=("dominant_cycle_phase",),
        nulls=fixed(63),
        memory=_HILBERT,
    ),
    talib_entry(
        "ht_phasor",
        talib.HT_PHASOR,
        "components of the phasor of the dominant cycle",
        group=CYCLE,
        aliases=("phasor",),
        outputs=("inphase", "quadrature"),
        nulls=fixed(32),
        memory=_HILBERT,
    ),
    talib_entry(
        "ht_sine",
        talib.HT_SINE,
        "sine of the phase of the dominant cycle, and the one 45 degrees ahead",
        group=CYCLE,
        aliases=("sine_wave",),
        outputs=("sine", "lead"),
        nulls=fixed(63),
        memory=_HILBERT,
    ),
    talib_entry(
        "ht_trendmode",
        talib.HT_TRENDMODE,
        "1 in a trend, 0 in a cycle",
        group=CYCLE,
        aliases=("trend_mode",),
        nulls=fixed(63),
        memory=_HILBERT,
        whole=True,
    ),
)
