"""The catalogue's values and warm-ups, against recorded tables and against themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.strategies.indicators import CATALOGUE, NAMES, SERIES, Indicator

Array = npt.NDArray[np.float64]

# Where the recorded table of TA-Lib's own values names parameters and outputs otherwise than the catalogue does.
PARAMETERS = {
    "timeperiod": "period",
    "fastperiod": "fast",
    "slowperiod": "slow",
    "signalperiod": "signal",
    "fastk_period": "period",
    "slowk_period": "smooth_k",
    "slowd_period": "smooth_d",
    "nbdevup": "stddev",
}
OUTPUTS = {
    "real": "value",
    "macdsignal": "signal",
    "macdhist": "hist",
    "upperband": "upper",
    "middleband": "middle",
    "lowerband": "lower",
    "slowk": "k",
    "slowd": "d",
}
# (indicator, parameters, output) and (file, column) of the other family where it shares TA-Lib's conventions.
SKENDER = {
    ("rsi", 14, "value"): ("rsi", "rsi"),
    ("ema", 20, "value"): ("ema", "ema"),
    ("sma", 20, "value"): ("sma", "sma"),
    ("wma", 14, "value"): ("wma", "wma"),
    ("bbands", 20, "upper"): ("bb", "upperBand"),
    ("bbands", 20, "middle"): ("bb", "sma"),
    ("bbands", 20, "lower"): ("bb", "lowerBand"),
    ("atr", 14, "value"): ("atr", "atr"),
    ("cci", 20, "value"): ("cci", "cci"),
    ("mfi", 14, "value"): ("mfi", "mfi"),
    ("roc", 14, "value"): ("roc", "roc"),
    ("stddev", 14, "value"): ("stdev", "stdDev"),
}


def computed(name: str, given_params: Mapping[str, int | Decimal], series: Mapping[str, Array]) -> dict[str, Array]:
    entry = CATALOGUE[name]
    names = ("close",) if entry.takes_source else entry.inputs
    outputs = entry.compute(tuple(np.ascontiguousarray(series[each]) for each in names), entry.resolve(given_params))
    return dict(zip(entry.outputs, outputs, strict=True))


@pytest.fixture(scope="module")
def talib_tables(shared_data: Path) -> list[tuple[dict[str, Any], dict[str, Array]]]:
    """(functions by name, columns) of each recorded table."""
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = json.loads((shared_data / "indicators" / "manifest.json").read_text())
    tables = []
    for oracle in manifest["talib_oracle"]:
        table = parquet.read_table(shared_data / oracle["file"])
        columns = {name: table[name].to_numpy() for name in table.column_names if name != "t"}
        tables.append(({each["function"]: each for each in oracle["functions"]}, columns))
    return tables


def skender_column(shared_data: Path, file: str, column: str) -> Array:
    with (shared_data / "indicators" / "skender" / file).open() as text:
        return np.array([float(row[column] or "nan") for row in csv.DictReader(text)])


@pytest.fixture(scope="module")
def skender_series(shared_data: Path) -> dict[str, Array]:
    return {name: skender_column(shared_data, "input_default.csv", name) for name in SERIES}


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != "donchian"])
def test_values_equal_the_recorded_talib_values(
    name: str, talib_tables: list[tuple[dict[str, Any], dict[str, Array]]]
) -> None:
    assert talib_tables
    for functions, columns in talib_tables:
        recorded = functions[name.upper()]
        chosen = {PARAMETERS[key]: value for key, value in recorded["params"].items() if key in PARAMETERS}
        values = computed(name, chosen, columns)
        for output, place in recorded["outputs"].items():
            actual = values[OUTPUTS.get(output, output)]
            np.testing.assert_allclose(actual, columns[place["column"]], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", SKENDER, ids=lambda case: f"{case[0]}.{case[2]}")
def test_values_equal_the_second_family_where_conventions_agree(
    case: tuple[str, int, str], shared_data: Path, skender_series: dict[str, Array]
) -> None:
    name, period, output = case
    file, column = SKENDER[case]
    expected = skender_column(shared_data, f"expected_{file}.csv", column)
    values = computed(name, {"period": period}, skender_series)[output]
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-6)


def test_obv_differs_from_the_second_family_only_by_where_it_starts(
    shared_data: Path, skender_series: dict[str, Array]
) -> None:
    expected = skender_column(shared_data, "expected_obv.csv", "obv")
    values = computed("obv", {}, skender_series)["value"]
    np.testing.assert_allclose(values - values[0], expected - expected[0], rtol=1e-12)


def test_donchian_shifted_by_one_is_the_channel_of_the_bars_before(
    shared_data: Path, skender_series: dict[str, Array]
) -> None:
    values = computed("donchian", {"period": 20}, skender_series)
    for output, column in (("upper", "upperBand"), ("lower", "lowerBand"), ("middle", "centerline")):
        expected = skender_column(shared_data, "expected_donchian.csv", column)
        np.testing.assert_allclose(values[output][:-1], expected[1:], rtol=1e-9, atol=1e-6)


@st.composite
def settings_of(draw: st.DrawFn) -> tuple[Indicator, dict[str, int | Decimal]]:
    entry = draw(st.sampled_from(list(CATALOGUE.values())))
    chosen: dict[str, int | Decimal] = {}
    for parameter in entry.parameters:
        if parameter.whole:
            low = int(parameter.minimum)
            chosen[parameter.name] = draw(st.one_of(st.integers(low, low + 2), st.integers(low, low + 40)))
    if entry.rule is not None and entry.rule(entry.resolve(chosen)) is not None:
        chosen["slow"] = chosen["fast"] + 1
    return entry, chosen


@given(settings_of(), st.integers(0, 200))
def test_warmup_is_exactly_the_leading_nulls(made: tuple[Indicator, dict[str, int | Decimal]], rows: int) -> None:
    entry, chosen = made
    series = walk(rows)
    expected = min(entry.warmup(entry.resolve(chosen)), rows)
    for values in computed(entry.name, chosen, series).values():
        assert len(values) == rows
        assert np.isnan(values[:expected]).all()
        assert np.isfinite(values[expected:]).all()


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_bounds_of_the_parameters_are_computable(name: str, bound: str) -> None:
    entry = CATALOGUE[name]
    chosen = {parameter.name: getattr(parameter, bound) for parameter in entry.parameters}
    for values in computed(name, chosen, walk(50)).values():
        assert len(values) == 50


@pytest.mark.parametrize("name", CATALOGUE)
def test_values_do_not_depend_on_later_bars(name: str) -> None:
    series = walk(300)
    whole = computed(name, {}, series)
    for rows in (1, 60, 299):
        part = computed(name, {}, {key: values[:rows] for key, values in series.items()})
        for output, values in part.items():
            np.testing.assert_array_equal(values, whole[output][:rows])


def test_aliases_name_one_indicator_each() -> None:
    assert NAMES["bollinger"] is CATALOGUE["bbands"]
    assert len(NAMES) == sum(1 + len(entry.aliases) for entry in CATALOGUE.values())


@pytest.mark.parametrize("value", [0, 5_001, True, "20", Decimal("20.0"), None])
def test_a_period_that_is_no_number_of_bars_is_refused(value: object) -> None:
    assert CATALOGUE["sma"].parameters[0].problem(value) is not None


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal(0), 101])
def test_a_width_of_bands_that_is_out_of_bounds_is_refused(value: object) -> None:
    assert CATALOGUE["bbands"].parameters[1].problem(value) is not None


def walk(rows: int) -> dict[str, Array]:
    """A repeatable random walk of ``rows`` bars."""
    rng = np.random.default_rng(7)
    close = 1_000 + np.cumsum(rng.normal(size=rows))
    return {
        "open": close - 0.1,
        "high": close + rng.uniform(0.5, 2, size=rows),
        "low": close - rng.uniform(0.5, 2, size=rows),
        "close": close,
        "volume": rng.uniform(1, 9, size=rows),
    }
