"""The columns of Stock.Indicators (Skender) in the words of the catalogue.

Its averages are seeded as TA-Lib's are for most indicators; where they are not, values are compared once both starts
are forgotten, on the last 100 of 502 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tbh.conformance.drawings import last_line, swing_lines, zigzag
from tbh.conformance.readings import SEED, Bench, Columns, Reading, Settings, late, made, reading
from tbh.conformance.skender_more import READINGS
from tbh.conformance.tables import Case
from tbh.strategies.base import FloatArray

_DRAWN = "drawn back from a later row: compared with the same drawing of what is known by then"


def _turned(bench: Bench, params: Mapping[str, Any]) -> FloatArray:
    """1 on the bars on which the stop changes sides."""
    side = np.sign(bench.close - bench("sar", **params))
    return np.concatenate([[np.nan], (np.diff(side) != 0).astype(np.float64)])


def _tilted(bench: Bench, wanted: str, period: int) -> FloatArray:
    """Aroon that counts the oldest of equal extremes: a tilt below the steps of prices breaks the ties."""
    tilt = 1e-12 * np.arange(len(bench.close))
    return bench(wanted, inputs=(bench.high * (1.0 - tilt), bench.low * (1.0 + tilt)), period=period)


def _aroon(settings: Settings) -> Columns:
    def tied(wanted: str) -> Reading:
        note = "of equal extremes the oldest counts: compared after a tilt that breaks ties so"
        return made(lambda b: _tilted(b, wanted, settings["lookbackPeriods"]), note)

    return {"aroonUp": tied("aroon.up"), "aroonDown": tied("aroon.down"), "oscillator": tied("aroonosc")}


def _stochastic(settings: Settings) -> Columns:
    given = {
        "period": settings["lookbackPeriods"],
        "smooth_k": settings["smoothPeriods"],
        "smooth_d": settings["signalPeriods"],
    }
    k, d = reading("stoch.k", **given), reading("stoch.d", **given)
    j = made(lambda b: 3.0 * k.of(b) - 2.0 * d.of(b))
    return {"oscillator": k, "k": k, "signal": d, "d": d, "percentJ": j, "j": j}


def _rated(bench: Bench, period: int) -> FloatArray:
    adx = bench("adx", period=period)
    before = np.concatenate([np.full(period, np.nan), adx[:-period]])
    return np.asarray((adx + before) / 2.0)


def _channel(wanted: str, **params: Any) -> dict[str, Reading]:
    def width(bench: Bench) -> FloatArray:
        upper, lower = bench(f"{wanted}.upper", **params), bench(f"{wanted}.lower", **params)
        return (upper - lower) / bench(f"{wanted}.middle", **params)

    return {
        "upperBand": reading(f"{wanted}.upper", **params),
        "centerline": reading(f"{wanted}.middle", **params),
        "lowerBand": reading(f"{wanted}.lower", **params),
        "width": made(width),
    }


def _correlation(settings: Settings) -> Columns:
    length = settings["lookbackPeriods"]

    def correl(bench: Bench) -> FloatArray:
        return bench("correl", inputs=(bench.other_close, bench.close), period=length)

    def other(bench: Bench, wanted: str) -> FloatArray:
        return bench(wanted, inputs=(bench.other_close,), period=length)

    return {
        "varianceA": made(lambda b: other(b, "var")),
        "varianceB": reading("var", period=length),
        "covariance": made(lambda b: correl(b) * other(b, "stddev") * b("stddev", period=length)),
        "correlation": made(correl),
        "rSquared": made(lambda b: correl(b) ** 2),
    }


def _slope(settings: Settings) -> Columns:
    length = settings["lookbackPeriods"]

    def intercept(bench: Bench) -> FloatArray:
        # Theirs is at row 0 of the table counted from 1, ours at the first bar of the window.
        begins = np.arange(len(bench.close)) + 2.0 - length
        slope = bench("linearreg_slope", period=length)
        return np.asarray(bench("linearreg_intercept", period=length) - begins * slope)

    return {
        "slope": reading("linearreg_slope", period=length),
        "intercept": made(intercept, "counted from the first row of the table"),
        "stdDev": reading("stddev", period=length),
        "rSquared": reading("r_squared", period=length),
        "line": made(lambda b: last_line(b, length), "the line of the last window, drawn back over it"),
    }


def _one(wanted: str, column: str, **more: Any) -> Callable[[Settings], Columns]:
    return lambda p: {column: reading(wanted, period=p["lookbackPeriods"], **more)}


_FLOW = {
    "moneyFlowMultiplier": made(lambda b: 2.0 * b("ibs") - 1.0),
    "moneyFlowVolume": made(lambda b: (2.0 * b("ibs") - 1.0) * b.volume),
}


def _thrice(bench: Bench, period: int) -> FloatArray:
    values = bench.close
    for _ in range(3):
        values = bench("ema", inputs=(values,), period=period)
    return values


_CONFIRMED = "drawn on the turning point itself, known right rows later"
_SPANS = {"BarInterval.Day": 0, "BarInterval.Week": 1, "BarInterval.Month": 2}

BASIC: Mapping[str, Callable[[Settings], Columns]] = {
    "Adl": lambda _: {"adl": reading("ad"), **_FLOW},
    "Adx": lambda p: {
        "pdi": late("plus_di", period=p["lookbackPeriods"], within=1e-5),
        "mdi": late("minus_di", period=p["lookbackPeriods"], within=1e-5),
        "dx": late("dx", period=p["lookbackPeriods"], within=1e-5),
        "adx": late("adx", period=p["lookbackPeriods"], within=1e-5),
        "adxr": made(
            lambda b: _rated(b, p["lookbackPeriods"]),
            "the mean with the ADX of period bars before, not of period − 1: made of our ADX",
            tail=100,
            within=1e-5,
        ),
    },
    "Alma": lambda p: {"alma": reading("alma", period=p["lookbackPeriods"], offset=p["offset"], sigma=p["sigma"])},
    "Aroon": _aroon,
    "Atr": lambda p: {
        "tr": reading("trange"),
        "atr": reading("atr", period=p["lookbackPeriods"]),
        "atrp": reading("natr", period=p["lookbackPeriods"]),
    },
    "Awesome": lambda p: {
        "oscillator": reading("ao", fast=p["fastPeriods"], slow=p["slowPeriods"]),
        "normalized": made(lambda b: 100.0 * b("ao", fast=p["fastPeriods"], slow=p["slowPeriods"]) / b("medprice")),
    },
    "BollingerBands": lambda p: {
        "sma": reading("sma", period=p["lookbackPeriods"]),
        "upperBand": reading("bbands.upper", period=p["lookbackPeriods"], stddev=p["standardDeviations"]),
        "lowerBand": reading("bbands.lower", period=p["lookbackPeriods"], stddev=p["standardDeviations"]),
        "percentB": reading("bbands_place.percent", period=p["lookbackPeriods"], stddev=p["standardDeviations"]),
        "zScore": reading("zscore", period=p["lookbackPeriods"]),
        "width": reading("bbands_place.width", period=p["lookbackPeriods"], stddev=p["standardDeviations"]),
    },
    "Cci": _one("cci", "cci"),
    "Cmf": lambda p: {"cmf": reading("cmf", period=p["lookbackPeriods"]), **_FLOW},
    "Cmo": _one("cmou", "cmo"),
    "Correlation": _correlation,
    "Dema": lambda p: {"dema": late("dema", period=p["lookbackPeriods"])},
    "Donchian": lambda p: _channel("price_channel", period=p["lookbackPeriods"]),
    "ElderRay": lambda p: {
        "ema": reading("ema", period=p["lookbackPeriods"]),
        "bullPower": reading("eri.bull", period=p["lookbackPeriods"]),
        "bearPower": reading("eri.bear", period=p["lookbackPeriods"]),
    },
    "Ema": _one("ema", "ema"),
    "Epma": _one("linearreg", "epma"),
    "ForceIndex": _one("efi", "forceIndex"),
    "HeikinAshi": lambda _: {
        **{column: reading(f"ha.{column}") for column in ("open", "high", "low", "close")},
        "volume": made(lambda b: b.volume),
        "date": made(lambda b: b.time),
    },
    "Hma": _one("hma", "hma"),
    "Ichimoku": lambda p: {
        "tenkanSen": reading("ichimoku.tenkan", tenkan=p["tenkanPeriods"]),
        "kijunSen": reading("ichimoku.kijun", kijun=p["kijunPeriods"]),
        "senkouSpanA": reading(
            "ichimoku.span_a", tenkan=p["tenkanPeriods"], kijun=p["kijunPeriods"], displacement=p["kijunPeriods"]
        ),
        "senkouSpanB": reading("ichimoku.span_b", senkou=p["senkouBPeriods"], displacement=p["kijunPeriods"]),
        "chikouSpan": made(lambda b: b.close, "the close of a later row, drawn back", ahead=p["kijunPeriods"]),
    },
    "Kama": lambda p: {
        "er": reading("er", period=p["erPeriods"]),
        "kama": reading("kama", period=p["erPeriods"]),
    },
    "Keltner": lambda p: _channel(
        "keltner", period=p["emaPeriods"], multiplier=p["multiplier"], atr_period=p["atrPeriods"]
    ),
    "Macd": lambda p: {
        "macd": reading("apo", fast=p["fastPeriods"], slow=p["slowPeriods"]),
        "signal": late("macd.signal", fast=p["fastPeriods"], slow=p["slowPeriods"], signal=p["signalPeriods"]),
        "histogram": late("macd.hist", fast=p["fastPeriods"], slow=p["slowPeriods"], signal=p["signalPeriods"]),
        "fastEma": reading("ema", period=p["fastPeriods"]),
        "slowEma": reading("ema", period=p["slowPeriods"]),
    },
    "Mfi": _one("mfi", "mfi"),
    "Obv": lambda _: {"obv": reading("obv", form="differences", note="counted from another first bar")},
    "ParabolicSar": lambda p: {
        "sar": late("sar", acceleration=p["accelerationStep"], maximum=p["maxAccelerationFactor"]),
        "isReversal": made(
            lambda b: _turned(b, {"acceleration": p["accelerationStep"], "maximum": p["maxAccelerationFactor"]}),
            SEED,
            tail=100,
        ),
    },
    "PivotPoints": lambda p: {
        column: reading(f"pivots.{column}", span=_SPANS[p["windowSize"]])
        for column in ("pp", "r1", "r2", "r3", "s1", "s2", "s3")
        if p["pointType"].endswith("Standard")
    },
    "Pivots": lambda p: {
        "highPoint": reading(
            "swings.high", left=p["leftSpan"], right=p["rightSpan"], ahead=p["rightSpan"], note=_CONFIRMED
        ),
        "lowPoint": reading(
            "swings.low", left=p["leftSpan"], right=p["rightSpan"], ahead=p["rightSpan"], note=_CONFIRMED
        ),
        **{
            f"{side}{name}": made(swing_lines(p, side, place), _DRAWN)
            for side in ("high", "low")
            for place, name in enumerate(("Line", "Trend"))
        },
    },
    "Roc": lambda p: {
        "momentum": reading("mom", period=p["lookbackPeriods"]),
        "roc": reading("roc", period=p["lookbackPeriods"]),
    },
    "Rsi": _one("rsi", "rsi"),
    "Slope": _slope,
    "Sma": _one("sma", "sma"),
    "Smma": _one("rma", "smma"),
    "StdDev": lambda p: {
        "stdDev": reading("stddev", period=p["lookbackPeriods"]),
        "mean": reading("sma", period=p["lookbackPeriods"]),
        "zScore": reading("zscore", period=p["lookbackPeriods"]),
    },
    "Stoch": _stochastic,
    "SuperTrend": lambda p: {
        "superTrend": reading("supertrend", period=p["lookbackPeriods"], multiplier=p["multiplier"]),
        "upperBand": reading("supertrend.upper", period=p["lookbackPeriods"], multiplier=p["multiplier"]),
        "lowerBand": reading("supertrend.lower", period=p["lookbackPeriods"], multiplier=p["multiplier"]),
    },
    "T3": lambda p: {"t3": late("t3", period=p["lookbackPeriods"], volume_factor=p["volumeFactor"])},
    "Tema": lambda p: {"tema": late("tema", period=p["lookbackPeriods"])},
    "Tr": lambda _: {"tr": reading("trange")},
    "Trix": lambda p: {
        "ema3": made(lambda b: _thrice(b, p["lookbackPeriods"]), SEED, tail=100),
        "trix": late("trix", period=p["lookbackPeriods"]),
    },
    "Ultimate": lambda p: {
        "ultimate": reading("ultosc", short=p["shortPeriods"], middle=p["middlePeriods"], long=p["longPeriods"])
    },
    "Vortex": lambda p: {
        "pvi": reading("vortex.plus", period=p["lookbackPeriods"]),
        "nvi": reading("vortex.minus", period=p["lookbackPeriods"]),
    },
    "Vwap": lambda _: {"vwap": reading("vwap")},
    "Vwma": _one("vwma", "vwma"),
    "WilliamsR": _one("willr", "williamsR"),
    "Wma": _one("wma", "wma"),
    "ZigZag": lambda p: {
        column: made(zigzag(p, what), _DRAWN)
        for column, what in (("zigZag", "line"), ("pointType", "type"), ("retraceHigh", "high"), ("retraceLow", "low"))
        if p["endType"].endswith("Close")
    },
}


def columns(case: Case) -> Columns | None:
    """What the columns of a case are; None for an indicator that is not known here."""
    known = BASIC.get(case.indicator) or READINGS.get(case.indicator)
    return None if known is None else known(case.params)
