"""Bands, channels and trailing stops that TA-Lib lacks."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLC,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    bars,
    ema_decay,
    period,
    real,
    slowest,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import PERIOD, Params, Rows, largest, parameter_rows

GROUP = "overlap"
BANDS = ("upper", "middle", "lower")
ATR_PERIOD = parameter_rows("atr_period")
TENKAN, KIJUN, SENKOU = (parameter_rows(name) for name in ("tenkan", "kijun", "senkou"))


def _keltner(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    middle = kit.ema(close, int(params["period"]))
    width = params["multiplier"] * talib.ATR(high, low, close, timeperiod=int(params["atr_period"]))
    middle = np.where(np.isnan(width), np.nan, middle)
    return middle + width, middle, middle - width


def _starc(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    width = params["multiplier"] * talib.ATR(high, low, close, timeperiod=int(params["atr_period"]))
    middle = np.where(np.isnan(width), np.nan, talib.SMA(close, timeperiod=int(params["period"])))
    return middle + width, middle, middle - width


def _envelope(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    middle = talib.SMA(inputs[0], timeperiod=int(params["period"]))
    share = params["percent"] / 100.0
    return middle * (1.0 + share), middle, middle * (1.0 - share)


def _price_channel(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    upper = kit.shift(kit.highest(inputs[0], int(params["period"])), 1)
    lower = kit.shift(kit.lowest(inputs[1], int(params["period"])), 1)
    return upper, (upper + lower) / 2.0, lower


def _bbands_place(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    middle = talib.SMA(inputs[0], timeperiod=int(params["period"]))
    width = params["stddev"] * talib.STDDEV(inputs[0], timeperiod=int(params["period"]))
    return kit.ratio(inputs[0] - middle + width, 2.0 * width), kit.ratio(2.0 * width, middle)


def _donchian_place(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    upper, lower = kit.highest(high, int(params["period"])), kit.lowest(low, int(params["period"]))
    return kit.ratio(close - lower, upper - lower), upper - lower


def _ichimoku(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs

    def middle(length: int) -> FloatArray:
        return (kit.highest(high, length) + kit.lowest(low, length)) / 2.0

    tenkan, kijun, senkou = (middle(int(params[name])) for name in ("tenkan", "kijun", "senkou"))
    ahead = int(params["displacement"])
    return tenkan, kijun, kit.shift((tenkan + kijun) / 2.0, ahead), kit.shift(senkou, ahead), kit.shift(close, ahead)


def _alligator(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    middle = (inputs[0] + inputs[1]) / 2.0
    return tuple(
        kit.shift(kit.wilder(middle, int(params[name])), int(params[f"{name}_shift"]))
        for name in ("jaw", "teeth", "lips")
    )


def _gator(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    jaw, teeth, lips = _alligator(inputs, params)
    return np.abs(jaw - teeth), -np.abs(teeth - lips)


def _line(name: str) -> Rows:
    return parameter_rows(name) + parameter_rows(f"{name}_shift") - 1


_LINES = tuple(
    each
    for name, length, ahead in (("jaw", 13, 8), ("teeth", 8, 5), ("lips", 5, 3))
    for each in (
        bars(name, length, maximum=MAX_WILDER_PERIOD),
        bars(f"{name}_shift", ahead, minimum=0, maximum=1_000),
    )
)
_LINES_DECAY = wilder_decay(largest(*(parameter_rows(name) for name in ("jaw", "teeth", "lips"))))

ENTRIES = (
    Indicator(
        name="keltner",
        aliases=("keltner_channel",),
        summary="EMA of the close, and multiples of the average true range above and below",
        group=GROUP,
        source="C. Keltner's channel in L. Raschke's form",
        parameters=(
            period(20, maximum=MAX_EMA_PERIOD),
            bars("atr_period", 10, maximum=MAX_WILDER_PERIOD),
            real("multiplier", "2", "0.01", "100"),
        ),
        inputs=HLC,
        outputs=BANDS,
        nulls=largest(PERIOD - 1, ATR_PERIOD),
        memory=slowest(ema_decay(PERIOD), wilder_decay(ATR_PERIOD)),
        function=_keltner,
    ),
    Indicator(
        name="starc",
        aliases=("starc_bands", "stoller_bands"),
        summary="simple average of the close, and multiples of the average true range above and below",
        group=GROUP,
        source="M. Stoller's average range channel",
        parameters=(
            period(5),
            bars("atr_period", 15, maximum=MAX_WILDER_PERIOD),
            real("multiplier", "2", "0.01", "100"),
        ),
        inputs=HLC,
        outputs=BANDS,
        nulls=largest(PERIOD - 1, ATR_PERIOD),
        memory=wilder_decay(ATR_PERIOD),
        function=_starc,
    ),
    Indicator(
        name="envelope",
        aliases=("ma_envelope",),
        summary="simple average, and percent of it above and below",
        group=GROUP,
        source="moving average envelope",
        parameters=(period(20, minimum=1), real("percent", "2.5", "0.001", "99")),
        outputs=BANDS,
        nulls=PERIOD - 1,
        function=_envelope,
    ),
    Indicator(
        name="price_channel",
        aliases=("donchian_before",),
        summary="Donchian channel of the period bars before this one: what a breakout breaks out of",
        group=GROUP,
        source="R. Donchian's channel without the current bar",
        parameters=(period(20, minimum=1),),
        inputs=("high", "low"),
        outputs=BANDS,
        nulls=PERIOD,
        function=_price_channel,
    ),
    Indicator(
        name="bbands_place",
        aliases=("bollinger_percent_b",),
        summary="place within the Bollinger bands (0 lower, 1 upper; null where they have no width), and their width "
        "over the middle",
        group=GROUP,
        source="J. Bollinger's %b and BandWidth",
        parameters=(period(20), real("stddev", "2", "0.01", "100")),
        outputs=("percent", "width"),
        nulls=PERIOD - 1,
        function=_bbands_place,
        sparse=("percent", "width"),
    ),
    Indicator(
        name="donchian_place",
        aliases=("donchian_percent",),
        summary="place of the close within the Donchian channel (0 lower, 1 upper), and the channel's width in quote",
        group=GROUP,
        source="R. Donchian's channel",
        parameters=(period(20),),
        inputs=HLC,
        outputs=("percent", "width"),
        nulls=PERIOD - 1,
        function=_donchian_place,
        sparse=("percent",),
    ),
    Indicator(
        name="ichimoku",
        aliases=("ichimoku_cloud",),
        summary="tenkan and kijun, the cloud that stands over this bar (span_a, span_b, drawn displacement bars ago), "
        "and the close that the lagging span compares this one with",
        group=GROUP,
        source="G. Hosoda's ichimoku kinko hyo",
        parameters=(
            bars("tenkan", 9),
            bars("kijun", 26),
            bars("senkou", 52),
            bars("displacement", 26, minimum=0, maximum=1_000),
        ),
        inputs=HLC,
        outputs=("tenkan", "kijun", "span_a", "span_b", "lagged"),
        nulls=(
            TENKAN - 1,
            KIJUN - 1,
            largest(TENKAN, KIJUN) + parameter_rows("displacement") - 1,
            SENKOU + parameter_rows("displacement") - 1,
            parameter_rows("displacement"),
        ),
        function=_ichimoku,
    ),
    Indicator(
        name="alligator",
        aliases=("williams_alligator",),
        summary="three smoothed averages of the middle of the bar, each drawn some bars ahead",
        group=GROUP,
        source="B. Williams, Trading Chaos (1995)",
        parameters=_LINES,
        inputs=("high", "low"),
        outputs=("jaw", "teeth", "lips"),
        nulls=(_line("jaw"), _line("teeth"), _line("lips")),
        memory=_LINES_DECAY,
        function=_alligator,
    ),
    Indicator(
        name="gator",
        aliases=("gator_oscillator",),
        summary="how far the alligator's jaw and teeth are apart, and, negative, its teeth and lips",
        group="momentum",
        source="B. Williams, New Trading Dimensions (1998)",
        parameters=_LINES,
        inputs=("high", "low"),
        outputs=("upper", "lower"),
        nulls=(largest(_line("jaw"), _line("teeth")), largest(_line("teeth"), _line("lips"))),
        memory=_LINES_DECAY,
        function=_gator,
    ),
)
