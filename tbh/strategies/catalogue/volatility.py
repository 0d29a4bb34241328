"""How much prices move: volatilities from bars, true ranges and choppiness."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_WILDER_PERIOD,
    OHLC,
    Indicator,
    Inputs,
    bars,
    period,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import PERIOD, Params

GROUP = "volatility"


def _root_mean(values: FloatArray, length: int) -> FloatArray:
    return np.asarray(np.sqrt(np.maximum(kit.rolling_mean(values, length), 0.0)))


def _hv(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    logs = kit.log(inputs[0])
    spread = talib.STDDEV(kit.change(logs), timeperiod=length) * np.sqrt(length / (length - 1.0))
    return (100.0 * spread * np.sqrt(params["bars_per_year"]),)


def _parkinson(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    reach = kit.log(inputs[0]) - kit.log(inputs[1])
    return (_root_mean(reach * reach / (4.0 * np.log(2.0)), int(params["period"])),)


def _rogers_satchell_terms(inputs: Inputs) -> FloatArray:
    start, high, low, close = (kit.log(each) for each in inputs)
    return np.asarray((high - close) * (high - start) + (low - close) * (low - start))


def _rogers_satchell(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return (_root_mean(_rogers_satchell_terms(inputs), int(params["period"])),)


def _garman_klass(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    start, high, low, close = (kit.log(each) for each in inputs)
    terms = 0.5 * (high - low) ** 2 - (2.0 * np.log(2.0) - 1.0) * (close - start) ** 2
    return (_root_mean(terms, int(params["period"])),)


def _yang_zhang(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    start, _, _, close = (kit.log(each) for each in inputs)
    unbiased = length / (length - 1.0)
    overnight = unbiased * talib.VAR(start - kit.shift(close, 1), timeperiod=length)
    within = unbiased * talib.VAR(close - start, timeperiod=length)
    share = 0.34 / (1.34 + (length + 1.0) / (length - 1.0))
    drift = kit.rolling_mean(_rogers_satchell_terms(inputs), length)
    return (np.sqrt(np.maximum(overnight + share * within + (1.0 - share) * drift, 0.0)),)


def _chop(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    length = int(params["period"])
    moved = kit.rolling_sum(kit.true_range(high, low, close)[1:], length)
    reach = (kit.highest(high, length) - kit.lowest(low, length))[1:]
    made = kit.nulls(len(close))
    shares = kit.ratio(moved, reach)
    np.log10(shares, where=shares > 0, out=made[1:])
    return (100.0 * made / np.log10(length),)


def _ulcer(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    length = int(params["period"])
    fall = 100.0 * (kit.ratio(inputs[0], kit.highest(inputs[0], length), otherwise=1.0) - 1.0)
    fall[: length - 1] = np.nan
    made = kit.nulls(len(fall))
    made[length - 1 :] = _root_mean(fall[length - 1 :] ** 2, length)
    return (made,)


def _atr_from_first(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    ranges = kit.true_range(*inputs)
    ranges[0] = inputs[0][0] - inputs[1][0]
    return (kit.wilder(ranges, int(params["period"])),)


ENTRIES = (
    Indicator(
        name="hv",
        aliases=("historical_volatility",),
        summary="sample standard deviation of log returns, in percent a year of bars_per_year bars",
        group=GROUP,
        source="close-to-close estimator",
        parameters=(period(20), bars("bars_per_year", 365, maximum=31_536_000)),
        nulls=PERIOD,
        function=_hv,
        sparse=("value",),
    ),
    Indicator(
        name="parkinson",
        aliases=("parkinson_volatility",),
        summary="volatility per bar from highs and lows, a fraction",
        group=GROUP,
        source="M. Parkinson, Journal of Business 53 (1980)",
        parameters=(period(20, minimum=1),),
        inputs=("high", "low"),
        nulls=PERIOD - 1,
        function=_parkinson,
        sparse=("value",),
    ),
    Indicator(
        name="rogers_satchell",
        aliases=("rogers_satchell_volatility",),
        summary="volatility per bar that a drift does not disturb, a fraction",
        group=GROUP,
        source="L. Rogers and S. Satchell, Annals of Applied Probability 1 (1991)",
        parameters=(period(20, minimum=1),),
        inputs=OHLC,
        nulls=PERIOD - 1,
        function=_rogers_satchell,
        sparse=("value",),
    ),
    Indicator(
        name="garman_klass",
        aliases=("garman_klass_volatility",),
        summary="volatility per bar from open, high, low and close, a fraction",
        group=GROUP,
        source="M. Garman and M. Klass, Journal of Business 53 (1980)",
        parameters=(period(20, minimum=1),),
        inputs=OHLC,
        nulls=PERIOD - 1,
        function=_garman_klass,
        sparse=("value",),
    ),
    Indicator(
        name="yang_zhang",
        aliases=("yang_zhang_volatility",),
        summary="volatility per bar with the gaps between bars, a fraction",
        group=GROUP,
        source="D. Yang and Q. Zhang, Journal of Business 73 (2000)",
        parameters=(period(20),),
        inputs=OHLC,
        nulls=PERIOD,
        function=_yang_zhang,
        sparse=("value",),
    ),
    Indicator(
        name="chop",
        aliases=("choppiness", "choppiness_index"),
        summary="choppiness: the true ranges of period bars over their whole range, 100 without and 0 with a trend",
        group=GROUP,
        source="E. Dreiss's choppiness index",
        parameters=(period(14),),
        inputs=HLC,
        nulls=PERIOD,
        function=_chop,
        sparse=("value",),
    ),
    Indicator(
        name="atr_from_first",
        summary="Wilder's average true range that counts the range of the first bar as well, in quote",
        group=GROUP,
        source="StockCharts' spreadsheet of the ATR",
        parameters=(period(14, minimum=1, maximum=MAX_WILDER_PERIOD),),
        inputs=HLC,
        nulls=PERIOD - 1,
        memory=wilder_decay(PERIOD),
        function=_atr_from_first,
    ),
    Indicator(
        name="ulcer",
        aliases=("ulcer_index",),
        summary="root mean square of the percent falls from the highest value of period bars",
        group=GROUP,
        source="P. Martin, The Investor's Guide to Fidelity Funds (1989)",
        parameters=(period(14),),
        nulls=2 * PERIOD - 2,
        function=_ulcer,
    ),
)
