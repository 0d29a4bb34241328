"""More of Stock.Indicators (Skender): what is read as simply as its parameters and results are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tbh.conformance.readings import Bench, Columns, Reading, Settings, late, made, reading
from tbh.strategies.base import FloatArray


def _chop(settings: Settings) -> Columns:
    def true_ranges(bench: Bench) -> FloatArray:
        before = np.concatenate([bench.close[:1], bench.close[:-1]])
        inputs = (np.maximum(bench.high, before), np.minimum(bench.low, before), bench.close)
        return bench("chop", inputs=inputs, period=settings["lookbackPeriods"])

    return {"chop": made(true_ranges, "highs and lows reach to the close before")}


def _detrended(settings: Settings) -> Columns:
    length = settings["lookbackPeriods"]
    ahead = length // 2 + 1
    note = "drawn back: the average it is measured from is known later"
    return {
        "dpo": reading("dpo", period=length, ahead=ahead, note=note),
        "sma": reading("sma", period=length, ahead=ahead, note=note),
    }


def _connors(settings: Settings) -> Columns:
    given = {"period": settings["rsiPeriods"], "streak": settings["streakPeriods"], "rank": settings["rankPeriods"]}
    return {
        "rsi": reading("rsi", period=given["period"]),
        "rsiStreak": made(lambda b: b("rsi", inputs=(b("streak"),), period=given["streak"])),
        "percentRank": made(lambda b: b("percentrank", inputs=(b("rocp", period=1),), period=given["rank"])),
        "connorsRsi": reading("crsi", **given),
    }


def _signalled(wanted: str, columns: Mapping[str, str], **names: str) -> Callable[[Settings], Columns]:
    """Columns of one entry, whose parameters have other names there; averages start otherwise."""

    def read(settings: Settings) -> Columns:
        given = {ours: settings[theirs] for ours, theirs in names.items()}
        return {column: late(f"{wanted}.{output}", **given) for column, output in columns.items()}

    return read


def _alligator(wanted: str, columns: Mapping[str, str]) -> Callable[[Settings], Columns]:
    lines = ("jaw", "teeth", "lips")
    names = {line: f"{line}Periods" for line in lines} | {f"{line}_shift": f"{line}Offset" for line in lines}
    return _signalled(wanted, columns, **names)


def _middle(wanted: str) -> Callable[[Settings], Reading]:
    """An entry over the middle of the bar."""
    return lambda p: made(
        lambda b: b(wanted, inputs=(b("medprice"),), fast_limit=p["fastLimit"], slow_limit=p["slowLimit"]), tail=100
    )


def _fractal(settings: Settings) -> Columns:
    span = settings["windowSpan"]
    note = "drawn on the turning point itself, known later"
    return {
        f"fractal{kind}": reading(f"swings.{side}", left=span, right=span, ahead=span, note=note)
        for kind, side in (("Bear", "high"), ("Bull", "low"))
    }


READINGS: Mapping[str, Callable[[Settings], Columns]] = {
    "Alligator": _alligator("alligator", {"jaw": "jaw", "teeth": "teeth", "lips": "lips"}),
    "Bop": lambda p: {
        "bop": made(lambda b: b("sma", inputs=(b("bop"),), period=p["smoothPeriods"]), "smoothed by a simple average")
    },
    "ChaikinOsc": lambda p: {
        "moneyFlowMultiplier": made(lambda b: 2.0 * b("ibs") - 1.0),
        "moneyFlowVolume": made(lambda b: (2.0 * b("ibs") - 1.0) * b.volume),
        "adl": reading("ad"),
        "oscillator": late("adosc", fast=p["fastPeriods"], slow=p["slowPeriods"]),
    },
    "Chandelier": lambda p: {
        "chandelierExit": reading(
            f"chandelier.{'short' if str(p.get('type', '')).endswith('Short') else 'long'}",
            period=p["lookbackPeriods"],
            multiplier=p["multiplier"],
        )
    },
    "Chop": _chop,
    "ConnorsRsi": _connors,
    "Dpo": _detrended,
    "Fractal": _fractal,
    "Gator": _alligator("gator", {"upper": "upper", "lower": "lower"}),
    "Kvo": _signalled(
        "kvo",
        {"oscillator": "value", "signal": "signal"},
        fast="fastPeriods",
        slow="slowPeriods",
        signal="signalPeriods",
    ),
    "MaEnvelopes": lambda p: {
        column: reading(f"envelope.{output}", period=p["lookbackPeriods"], percent=p["percentOffset"])
        for column, output in (("centerline", "middle"), ("upperEnvelope", "upper"), ("lowerEnvelope", "lower"))
    },
    "Mama": lambda p: {name: _middle(f"mama.{name}")(p) for name in ("mama", "fama")},
    "Pmo": _signalled(
        "pmo",
        {"pmo": "pmo", "signal": "signal"},
        fast_smoothing="timePeriods",
        second_smoothing="smoothPeriods",
        signal="signalPeriods",
    ),
    "Pvo": _signalled(
        "pvo_ewm",
        {"pvo": "pvo", "signal": "signal", "histogram": "hist"},
        fast="fastPeriods",
        slow="slowPeriods",
        signal="signalPeriods",
    ),
    "Smi": _signalled(
        "smi",
        {"smi": "smi", "signal": "signal"},
        period="lookbackPeriods",
        slow="firstSmoothPeriods",
        fast="secondSmoothPeriods",
        signal="signalPeriods",
    ),
    "StarcBands": lambda p: {
        column: reading(
            f"starc.{output}", period=p["smaPeriods"], multiplier=p["multiplier"], atr_period=p["atrPeriods"]
        )
        for column, output in (("centerline", "middle"), ("upperBand", "upper"), ("lowerBand", "lower"))
    },
    "Stc": _signalled("stc", {"stc": "value"}, period="cyclePeriods", fast="fastPeriods", slow="slowPeriods"),
    "StochRsi": _signalled(
        "stochrsi_slow",
        {"stochRsi": "k", "signal": "d"},
        period="rsiPeriods",
        window="stochPeriods",
        smooth_k="smoothPeriods",
        smooth_d="signalPeriods",
    ),
    "Tsi": _signalled(
        "tsi_signal",
        {"tsi": "tsi", "signal": "signal"},
        first="lookbackPeriods",
        second="smoothPeriods",
        signal="signalPeriods",
    ),
}
