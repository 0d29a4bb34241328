"""Every indicator that a family's tables may name can be computed, whether or not a case of it is at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tbh.conformance import lean, skender, stockcharts
from tbh.conformance.readings import Bench, Columns
from tbh.conformance.skender_more import READINGS
from tbh.conformance.tables import Case
from tbh.strategies.indicators import NAMES

SKENDER: dict[str, Any] = {
    "accelerationStep": 0.02,
    "atrPeriods": 10,
    "cyclePeriods": 10,
    "emaPeriods": 20,
    "endType": "EndType.Close",
    "erPeriods": 10,
    "fastLimit": 0.5,
    "fastPeriods": 5,
    "firstSmoothPeriods": 25,
    "jawOffset": 8,
    "jawPeriods": 13,
    "kijunPeriods": 26,
    "leftSpan": 2,
    "lipsOffset": 3,
    "lipsPeriods": 5,
    "longPeriods": 28,
    "lookbackPeriods": 14,
    "maxAccelerationFactor": 0.2,
    "maxTrendPeriods": 20,
    "middlePeriods": 14,
    "multiplier": 3,
    "offset": 0.85,
    "percentChange": 0.2,
    "percentOffset": 2.5,
    "pointType": "PivotPointType.Standard",
    "rankPeriods": 100,
    "rightSpan": 2,
    "rsiPeriods": 3,
    "secondSmoothPeriods": 2,
    "senkouBPeriods": 52,
    "shortPeriods": 7,
    "sigma": 6,
    "signalPeriods": 3,
    "slowLimit": 0.05,
    "slowPeriods": 34,
    "smaPeriods": 5,
    "smoothPeriods": 3,
    "standardDeviations": 2,
    "stochPeriods": 14,
    "streakPeriods": 2,
    "teethOffset": 5,
    "teethPeriods": 8,
    "tenkanPeriods": 9,
    "timePeriods": 35,
    "volumeFactor": 0.7,
    "windowSize": "BarInterval.Day",
    "windowSpan": 2,
}
STOCKCHARTS: dict[str, Any] = {
    "cycle": 10,
    "lbp": 14,
    "smooth1": 3,
    "smooth2": 3,
    "smooth_window": 3,
    "window": 14,
    "window1": 7,
    "window2": 14,
    "window3": 28,
    "window_dev": 2,
    "window_fast": 12,
    "window_sign": 9,
    "window_slow": 26,
}
EMPTY = Case(
    id="family.x",
    indicator="x",
    params={},
    input_files=(),
    expected_file=Path("absent.csv"),
    columns=("Value",),
    absolute=0.0,
    relative=0.0,
)


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Ten days of a random walk, and a second market beside it."""
    rng = np.random.default_rng(7)
    rows = 960
    close = 1_000 + np.cumsum(rng.normal(size=rows))
    return Bench(
        {
            "open": close - 0.1,
            "high": close + rng.uniform(0.5, 2, size=rows),
            "low": close - rng.uniform(0.5, 2, size=rows),
            "close": close,
            "volume": rng.uniform(1, 9, size=rows),
            "time": 1.7e12 + 900_000.0 * np.arange(rows, dtype=np.float64),
            "other_close": close + rng.normal(size=rows),
        }
    )


def check(columns: Columns | None, bench: Bench) -> None:
    assert columns
    for column, how in columns.items():
        values = how.of(bench)
        assert len(values) == 960, column
        assert np.isfinite(values).sum() > (0 if how.note else 100), column


@pytest.mark.parametrize("name", [*skender.BASIC, *READINGS])
def test_every_indicator_of_skender_can_be_computed(name: str, bench: Bench) -> None:
    check(skender.columns(replace(EMPTY, indicator=name, params=SKENDER)), bench)


def test_a_short_chandelier_is_the_short_one(bench: Bench) -> None:
    case = replace(EMPTY, indicator="Chandelier", params={**SKENDER, "type": "ChandelierType.Short"})
    columns = skender.columns(case)
    assert columns is not None
    np.testing.assert_array_equal(
        columns["chandelierExit"].of(bench), bench("chandelier.short", period=14, multiplier=3)
    )


@pytest.mark.parametrize("name", lean.SINGLE)
def test_every_single_column_of_lean_can_be_computed(name: str, bench: Bench) -> None:
    entry, names = lean.SINGLE[name]
    defaults = {each.name: each.default for each in NAMES[entry].parameters}
    given = [float(value) if not isinstance(value, int) else value for value in (defaults[each] for each in names)]
    check(lean.columns(replace(EMPTY, indicator=name, params={"positional": [*given, "Kind.Simple"]})), bench)


@pytest.mark.parametrize(
    ("name", "positional", "columns", "entries"),
    [
        ("BollingerBands", [20, 2.0], ("BB 20 Top", "Moving Average", "BB Bottom"), ("upper", "middle", "lower")),
        ("AverageDirectionalIndex", [14], ("+DI14", "-DI14", "ADX 14"), ("plus_di", "minus_di", "adx")),
        ("ParabolicStopAndReverse", [0.02, 0.02, 0.2], ("PSAR",), ("sar",)),
    ],
)
def test_columns_of_lean_are_told_by_their_words(
    name: str, positional: list[float], columns: tuple[str, ...], entries: tuple[str, ...], bench: Bench
) -> None:
    found = lean.columns(replace(EMPTY, indicator=name, params={"positional": positional}, columns=columns))
    assert found is not None
    assert tuple(found) == columns
    for column, entry in zip(columns, entries, strict=True):
        wanted = f"bbands.{entry}" if name == "BollingerBands" else entry
        given: dict[str, Any] = {} if entry == "sar" else {"period": positional[0]}
        np.testing.assert_array_equal(found[column].of(bench), bench(wanted, **given))


def test_a_stop_whose_acceleration_begins_otherwise_is_not_read_as_another() -> None:
    case = replace(EMPTY, indicator="ParabolicStopAndReverse", params={"positional": [0.01, 0.02, 0.2]})
    assert lean.columns(case) == {}


@pytest.mark.parametrize("name", [*stockcharts.SINGLE, *stockcharts.SEVERAL])
def test_every_indicator_of_stockcharts_can_be_computed(name: str, bench: Bench) -> None:
    check(stockcharts.columns(replace(EMPTY, indicator=name, params=STOCKCHARTS)), bench)


@pytest.mark.parametrize(
    ("name", "columns", "entries"),
    [
        ("ADXIndicator", ("+DI", "-DI", "ADX"), ("plus_di", "minus_di", "adx")),
        ("StochasticOscillator", ("SO", "SO_SIG"), ("stochf.k", "stochf.d")),
    ],
)
def test_columns_of_stockcharts_are_told_by_their_words(
    name: str, columns: tuple[str, ...], entries: tuple[str, ...], bench: Bench
) -> None:
    found = stockcharts.columns(replace(EMPTY, indicator=name, params=STOCKCHARTS, columns=columns))
    assert found is not None
    for column, entry in zip(columns, entries, strict=True):
        np.testing.assert_array_equal(found[column].of(bench), bench(entry, period=14))
