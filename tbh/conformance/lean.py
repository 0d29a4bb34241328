"""The columns of LEAN's tables in the words of the catalogue.

A table has the parameters in its file's test, by position, and most have one column: that column is the indicator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tbh.conformance.readings import Columns, Reading, by_words, late, made, reading
from tbh.conformance.tables import Case

_PERIOD = ("period",)
_PAIR = ("fast", "slow")
_PRINTED = "inputs and values are printed with two decimals"

# One column: the entry, and its parameters in the order of theirs.
SINGLE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "AccumulationDistribution": ("ad", ()),
    "ArnaudLegouxMovingAverage": ("alma", ("period",)),
    "AroonOscillator": ("aroonosc", _PERIOD),
    "AugenPriceSpike": ("price_spike", _PERIOD),
    "AverageRange": ("adr", _PERIOD),
    "AverageTrueRange": ("atr_from_first", _PERIOD),
    "AwesomeOscillator": ("ao", _PAIR),
    "BalanceOfPower": ("bop", ()),
    "ChaikinMoneyFlow": ("cmf", _PERIOD),
    "ChandeMomentumOscillator": ("cmo", _PERIOD),
    "ChoppinessIndex": ("chop", _PERIOD),
    "CommodityChannelIndex": ("cci", _PERIOD),
    "CoppockCurve": ("coppock", ("fast", "slow", "period")),
    "DeMarkerIndicator": ("demarker", _PERIOD),
    "DerivativeOscillatorIndicator": ("derivative_oscillator", ("period", "first", "second", "signal")),
    "DetrendedPriceOscillator": ("dpo", _PERIOD),
    "DoubleExponentialMovingAverage": ("dema", _PERIOD),
    "ExponentialMovingAverage": ("ema", _PERIOD),
    "FisherTransform": ("fisher", _PERIOD),
    "ForceIndex": ("efi", _PERIOD),
    "FractalAdaptiveMovingAverage": ("frama", _PERIOD),
    "HullMovingAverage": ("hma", _PERIOD),
    "HurstExponent": ("hurst", ("period", "max_lag")),
    "InternalBarStrength": ("ibs", ()),
    "KaufmanAdaptiveMovingAverage": ("kama", _PERIOD),
    "KaufmanEfficiencyRatio": ("er", _PERIOD),
    "LeastSquaresMovingAverage": ("linearreg", _PERIOD),
    "LinearWeightedMovingAverage": ("wma", _PERIOD),
    "LogReturn": ("log_return", _PERIOD),
    "MassIndex": ("massi", _PAIR),
    "Maximum": ("max", _PERIOD),
    "McGinleyDynamic": ("mcginley", _PERIOD),
    "MidPoint": ("midpoint", _PERIOD),
    "MidPrice": ("midprice", _PERIOD),
    "Minimum": ("min", _PERIOD),
    "Momentum": ("mom", _PERIOD),
    "MoneyFlowIndex": ("mfi", _PERIOD),
    "NormalizedAverageTrueRange": ("natr", _PERIOD),
    "PremierStochasticOscillator": ("pso", ("period", "smoothing")),
    "RateOfChange": ("rocp", _PERIOD),
    "RateOfChangePercent": ("roc", _PERIOD),
    "RateOfChangeRatio": ("rocr", _PERIOD),
    "RelativeDailyVolume": ("relative_daily_volume", _PERIOD),
    "RelativeMovingAverage": ("relative_moving_average", _PERIOD),
    "RogersSatchellVolatility": ("rogers_satchell", _PERIOD),
    "StandardDeviation": ("stddev", _PERIOD),
    "Sum": ("sum", _PERIOD),
    "SuperTrend": ("supertrend", ("period", "multiplier")),
    "TripleExponentialMovingAverage": ("tema", _PERIOD),
    "Trix": ("trix", _PERIOD),
    "TrueRange": ("trange", ()),
    "TrueStrengthIndex": ("tsi", ("first", "second")),
    "UltimateOscillator": ("ultosc", ("short", "middle", "long")),
    "Variance": ("var", _PERIOD),
    "VolumeWeightedAveragePriceIndicator": ("vwap_rolling", _PERIOD),
    "WilderMovingAverage": ("rma", _PERIOD),
    "WilliamsPercentR": ("willr", _PERIOD),
    "ZeroLagExponentialMovingAverage": ("zlema", _PERIOD),
}
# Two moving averages, simple ones where the test names no other kind.
_SIMPLE = {"AbsolutePriceOscillator": "apo", "PercentagePriceOscillator": "ppo"}
_KST = ("roc1", "sma1", "roc2", "sma2", "roc3", "sma3", "roc4", "sma4", "signal")


def _numbers(case: Case) -> list[Any]:
    """Their parameters by position: kinds of averages and other words are left out."""
    given = case.params.get("positional")
    if given is None:
        given = [case.params[name] for name in ("fastPeriod", "slowPeriod", "period") if name in case.params]
    return [value for value in given if isinstance(value, int | float)]


def _named(case: Case, *names: str) -> dict[str, Any]:
    return dict(zip(names, _numbers(case), strict=False))


def _volume_oscillator(case: Case) -> Reading:
    return reading("adosc", tail=200, note="another start: compared on the last 200 rows", **_named(case, *_PAIR))


def _harami() -> Reading:
    return made(
        lambda b: np.where(np.abs(b("cdlharami")) == 80, 0.0, b("cdlharami")),
        "80 is a body that shares an end with the one around it: TA-Lib counted none before",
    )


def _strengths(case: Case) -> Columns:
    return {
        "RSI 14 Wilder": reading("rsi", **_named(case, *_PERIOD)),
        "RSI 14": reading("cutler_rsi", **_named(case, *_PERIOD)),
    }


def _mesa(case: Case) -> Columns:  # noqa: ARG001 - one signature for all cases
    return {"mama": made(lambda b: b("mama.mama", inputs=(b("medprice"),)), "over the middle of the bar")}


def _bollinger(case: Case) -> Columns:
    given = _named(case, "period", "stddev")
    upper, middle, lower = (reading(f"bbands.{band}", **given) for band in ("upper", "middle", "lower"))
    return by_words(
        case.columns,
        {"top": upper, "upper": upper, "bottom": lower, "lower": lower, "average": middle, "mid": middle},
    )


def _directional(case: Case) -> Columns:
    given = _named(case, *_PERIOD)
    words = {"+": "plus_di", "-": "minus_di", "adxr": "adxr", "adx": "adx"}
    return by_words(case.columns, {word: late(entry, within=1e-3, **given) for word, entry in words.items()})


def _stop(case: Case) -> Columns:
    given = _numbers(case)
    if len(given) == 3 and given[0] != given[1]:
        return {}
    params = dict(zip(("acceleration", "maximum"), given[1:], strict=False))
    return {case.columns[0]: reading("sar", **params)}


SEVERAL: Mapping[str, Callable[[Case], Columns]] = {
    "AccelerationBands": lambda case: {
        f"{band}Band": reading(f"accbands.{band.lower()}", **_named(case, *_PERIOD))
        for band in ("Upper", "Middle", "Lower")
        if case.params.get("width", 4) == 4
    },
    "AccumulationDistributionOscillator": lambda case: {case.columns[0]: _volume_oscillator(case)},
    "AverageDirectionalIndex": _directional,
    "BollingerBands": _bollinger,
    "CandlestickPatterns (TA-Lib CDL*)": lambda case: {
        column: _harami() if column == "CDLHARAMI" else reading(column.lower()) for column in case.columns
    },
    "ConnorsRelativeStrengthIndex": lambda case: {
        case.columns[0]: reading(
            "crsi",
            keep_streak=1,
            note="a bar without change keeps the streak (keep_streak 1)",
            **_named(case, "period", "streak", "rank"),
        )
    },
    "EaseOfMovementValue": lambda case: {case.columns[0]: reading("emv", scale=10_000)},
    "KlingerVolumeOscillator": lambda case: {
        case.columns[0]: reading(
            "kvo", tail=300, note="another start: compared on the last 300 rows", **_named(case, *_PAIR)
        )
    },
    "KnowSureThing": lambda case: {
        output: reading(f"kst.{output}", **_named(case, *_KST)) for output in ("kst", "signal")
    },
    "MesaAdaptiveMovingAverage": _mesa,
    "ParabolicStopAndReverse": _stop,
    "RelativeStrengthIndex": _strengths,
    "RelativeVigorIndex": lambda case: {
        "RVI": reading("rvgi", **_named(case, *_PERIOD)),
        "RVI_S": reading("rvgi.signal", **_named(case, *_PERIOD)),
    },
    "SimpleMovingAverage": lambda case: {
        case.columns[0]: reading("sma", within=0.006, note=_PRINTED, **_named(case, *_PERIOD))
    },
    "StochasticRelativeStrengthIndex": lambda case: {
        output: reading(f"stochrsi_slow.{output}", **_named(case, "period", "window", "smooth_k", "smooth_d"))
        for output in ("k", "d")
    },
    "TriangularMovingAverage": lambda case: {
        column: reading("trima", period=int(column.rpartition("_")[2])) for column in case.columns
    },
}


def columns(case: Case) -> Columns | None:
    """What the columns of a case are; None for an indicator that is not known here."""
    several = SEVERAL.get(case.indicator)
    if several is not None:
        return several(case)
    if len(case.columns) != 1:
        return None
    if case.indicator in _SIMPLE:
        return {case.columns[0]: reading(_SIMPLE[case.indicator], ma_type=0, **_named(case, *_PAIR))}
    single = SINGLE.get(case.indicator)
    return None if single is None else {case.columns[0]: reading(single[0], **_named(case, *single[1]))}
