"""The columns of StockCharts' spreadsheets, as the ta library keeps them, in the words of the catalogue.

The tables are short, and their averages start at the first bar: where that is another definition the catalogue has an
entry of its own for it (``rsi_ewm``, ``macd_ewm``, ``ppo_ewm``, ``pvo_ewm``, ``atr_from_first``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tbh.conformance.readings import Bench, Columns, Reading, Settings, by_words, made, reading
from tbh.conformance.tables import Case
from tbh.strategies.base import FloatArray

_ROUNDED = 0.00501
_PRINTED = "printed with two decimals"

# One column: the entry, and its parameters by the names of theirs.
SINGLE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "AccDistIndexIndicator": ("ad", {}),
    "AverageTrueRange": ("atr_from_first", {"window": "period"}),
    "CCIIndicator": ("cci", {"window": "period"}),
    "ChaikinMoneyFlowIndicator": ("cmf", {"window": "period"}),
    "ForceIndexIndicator": ("efi", {"window": "period"}),
    "KAMAIndicator": ("kama", {"window": "period"}),
    "MFIIndicator": ("mfi", {"window": "period"}),
    "ROCIndicator": ("roc", {"window": "period"}),
    "RSIIndicator": ("rsi_ewm", {"window": "period"}),
    "UlcerIndex": ("ulcer", {"window": "period"}),
    "UltimateOscillator": ("ultosc", {"window1": "short", "window2": "middle", "window3": "long"}),
    "WMAIndicator": ("wma", {"window": "period"}),
    "WilliamsRIndicator": ("willr", {"lbp": "period"}),
}

# Entries of their own for definitions that differ from the usual ones of that name.
_OTHERS = {
    "atr_from_first": "as `atr_from_first`: `atr` leaves the first bar out and is up to 0.026 away here",
    "rsi_ewm": "as `rsi_ewm`: `rsi` is seeded by a mean and up to 3.7 away here",
}
_EWM = "as `{}`, whose averages start at the first bar"


def _above(bench: Bench, settings: Settings, band: str) -> FloatArray:
    """1 where the close is beyond a Bollinger band, else 0."""
    edge = bench(f"bbands.{band}", period=settings["window"], stddev=settings["window_dev"])
    beyond = (bench.close > edge) if band == "upper" else (bench.close < edge)
    return np.where(np.isnan(edge), np.nan, beyond.astype(np.float64))


def _bollinger(settings: Settings) -> Columns:
    given = {"period": settings["window"], "stddev": settings["window_dev"]}
    return {
        "HighBand": reading("bbands.upper", **given),
        "MiddleBand": reading("bbands.middle", **given),
        "LowBand": reading("bbands.lower", **given),
        "PercentageBand": reading("bbands_place.percent", **given),
        "WidthBand": made(lambda b: 100.0 * b("bbands_place.width", **given)),
        "CrossUp": made(lambda b: _above(b, settings, "upper")),
        "CrossDown": made(lambda b: _above(b, settings, "lower")),
    }


def _donchian(settings: Settings) -> Columns:
    given = {"period": settings["window"]}
    return {
        "upper_band": reading("donchian.upper", **given),
        "lower_band": reading("donchian.lower", **given),
        "middle_band": reading("donchian.middle", within=_ROUNDED, note=_PRINTED, **given),
        "dc_percentage": reading("donchian_place.percent", **given),
        "dc_band_width": made(lambda b: 100.0 * b("donchian_place.width", **given) / b("sma", **given)),
    }


def _oscillator(wanted: str, names: Mapping[str, str], settings: Settings, **more: Any) -> dict[str, Reading]:
    given = {"fast": settings["window_fast"], "slow": settings["window_slow"], "signal": settings["window_sign"]}
    return {
        column: reading(f"{wanted}.{output}", **{"note": _EWM.format(wanted), **more}, **given)
        for column, output in names.items()
    }


def _macd(settings: Settings) -> Columns:
    late = {"tail": 80, "note": "the sheet's signal starts otherwise: compared on the last 80 rows"}
    return {
        **_oscillator("macd_ewm", {"MACD_line": "macd"}, settings),
        **_oscillator("macd_ewm", {"MACD_signal": "signal", "MACD_diff": "hist"}, settings, **late),
    }


def _trend_cycle(settings: Settings) -> Columns:
    return {
        "stc": reading(
            "stc",
            tail=90,
            note="the sheet counts windows that are not full yet: compared on the last 90 rows",
            period=settings["cycle"],
            fast=settings["window_fast"],
            slow=settings["window_slow"],
            smooth_k=settings["smooth1"],
            smooth_d=settings["smooth2"],
        )
    }


def _true_strength(settings: Settings) -> Columns:
    note = "the sheet rounds the weight 2 / 26 to 0.0769, which is up to 0.011 away on a scale of 100"
    return {
        "TSI": reading("tsi", within=0.012, note=note, first=settings["window_slow"], second=settings["window_fast"])
    }


def _directional(case: Case) -> Columns:
    words = {"+": "plus_di", "pos": "plus_di", "-": "minus_di", "neg": "minus_di", "adx": "adx"}
    note = "another start: compared on the last 20 rows"
    given = {"period": case.params["window"], "tail": 20, "note": note}
    return by_words(case.columns, {word: reading(entry, **given) for word, entry in words.items()})


def _stochastic(case: Case) -> Columns:
    given = {"period": case.params["window"], "smooth_d": case.params["smooth_window"]}
    signal = reading("stochf.d", **given)
    return by_words(case.columns, {"sig": signal, "_d": signal, "": reading("stochf.k", **given)})


SEVERAL: Mapping[str, Callable[[Settings], Columns]] = {
    "BollingerBands": _bollinger,
    "DonchianChannel": _donchian,
    "EaseOfMovementIndicator": lambda p: {
        "EMV": reading("emv", period=p["window"]),
        "SMA_EMV": reading("emv.mean", period=p["window"]),
    },
    "MACDIndicator": _macd,
    "OnBalanceVolumeIndicator": lambda _: {
        "OBV": reading("obv", form="differences", note="counted from another first bar")
    },
    "PercentagePriceOscillator": lambda p: _oscillator(
        "ppo_ewm", {"PPO": "ppo", "PPO_Signal_Line": "signal", "PPO_Histogram": "hist"}, p
    ),
    "PercentageVolumeOscillator": lambda p: _oscillator(
        "pvo_ewm", {"PVO": "pvo", "PVO_Signal_Line": "signal", "PVO_Histogram": "hist"}, p
    ),
    "STCIndicator": _trend_cycle,
    "TSIIndicator": _true_strength,
    "VolumePriceTrendIndicator": lambda _: {
        "unsmoothed vpt": reading("pvt", form="differences", note="counted from another first bar"),
        "14-smoothed vpt": reading("vpt_signal.signal", form="differences", note="counted from another first bar"),
    },
}


def columns(case: Case) -> Columns | None:
    """What the columns of a case are; None for an indicator that is not known here."""
    several = SEVERAL.get(case.indicator)
    if several is not None:
        return several(case.params)
    worded = {"ADXIndicator": _directional, "StochasticOscillator": _stochastic}.get(case.indicator)
    if worded is not None:
        return worded(case)
    single = SINGLE.get(case.indicator)
    if single is None or len(case.columns) != 1:
        return None
    entry, names = single
    given = {ours: case.params[theirs] for theirs, ours in names.items() if theirs in case.params}
    return {case.columns[0]: reading(entry, note=_OTHERS.get(entry, ""), **given)}
