"""What the catalogue declares of each indicator, held against what it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tbh.strategies.definition import DefinitionError, parse_definition
from tbh.strategies.indicators import CATALOGUE, NAMES, SOURCE, Indicator

Array = npt.NDArray[np.float64]
Series = Mapping[str, Array]

FOREVER = [name for name, entry in CATALOGUE.items() if entry.memory.kind == "all"]
BOUNDED = [name for name in CATALOGUE if name not in FOREVER]


def computed(name: str, given_params: Mapping[str, int | Decimal], series: Series) -> dict[str, Array]:
    entry = CATALOGUE[name]
    names = ("close" if each == SOURCE else each for each in entry.inputs)
    outputs = entry.compute(tuple(np.ascontiguousarray(series[each]) for each in names), entry.resolve(given_params))
    return dict(zip(entry.outputs, outputs, strict=True))


def part(series: Series, start: int, end: int) -> Series:
    return {name: values[start:end] for name, values in series.items()}


def walk(rows: int, *, minutes: int = 15) -> dict[str, Array]:
    """A repeatable random walk of ``rows`` bars."""
    rng = np.random.default_rng(7)
    close = 1_000 + np.cumsum(rng.normal(size=rows))
    return {
        "open": close - 0.1,
        "high": close + rng.uniform(0.5, 2, size=rows),
        "low": close - rng.uniform(0.5, 2, size=rows),
        "close": close,
        "volume": rng.uniform(1, 9, size=rows),
        "time": 1.7e12 + 60_000.0 * minutes * np.arange(rows, dtype=np.float64),
    }


@pytest.fixture(scope="module")
def long_walk() -> dict[str, Array]:
    return walk(12_000)


@pytest.fixture(scope="module")
def minutes(shared_data: Path) -> dict[str, Array]:
    """Real candles of 43,199 minutes."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(shared_data / "candles" / "binance_usdm_BTCUSDT_1m.parquet")
    series = {name: np.ascontiguousarray(table[name].to_numpy()) for name in ("open", "high", "low", "close", "volume")}
    return {**series, "time": table["timestamp"].to_numpy().astype(np.float64)}


def drawn(entry: Indicator, seed: int) -> dict[str, int | Decimal]:
    """Whole parameters near their lower bounds, the same for the same seed; the defaults where a rule refuses those."""
    rng = np.random.default_rng(seed)
    chosen: dict[str, int | Decimal] = {}
    for parameter in entry.parameters:
        if parameter.whole:
            low = int(parameter.minimum)
            chosen[parameter.name] = int(rng.integers(low, min(low + 30, int(parameter.maximum)) + 1))
    refused = entry.rule is not None and entry.rule(entry.resolve(chosen)) is not None
    return {} if refused else chosen


@st.composite
def settings_of(draw: st.DrawFn) -> tuple[Indicator, dict[str, int | Decimal]]:
    entry = draw(st.sampled_from(list(CATALOGUE.values())))
    chosen: dict[str, int | Decimal] = {}
    for parameter in entry.parameters:
        if parameter.whole:
            low, high = int(parameter.minimum), int(parameter.maximum)
            chosen[parameter.name] = draw(
                st.one_of(st.integers(low, min(low + 2, high)), st.integers(low, min(low + 40, high)))
            )
    assume(entry.rule is None or entry.rule(entry.resolve(chosen)) is None)
    return entry, chosen


def leading(values: Array) -> int:
    known = ~np.isnan(values)
    return int(np.argmax(known)) if known.any() else len(values)


def check_nulls(entry: Indicator, chosen: Mapping[str, int | Decimal], series: Series) -> None:
    rows = len(series["close"])
    declared = entry.leading(entry.resolve(chosen))
    for (output, values), nulls in zip(computed(entry.name, chosen, series).items(), declared, strict=True):
        assert len(values) == rows
        assert values.dtype == np.float64
        assert not np.isinf(values).any()
        if output in entry.sparse:
            assert leading(values) >= min(nulls, rows), output
        else:
            assert leading(values) == min(nulls, rows), output
            assert np.isfinite(values[nulls:]).all(), output


@settings(max_examples=200)
@given(settings_of(), st.integers(0, 300))
def test_warmup_is_exactly_the_leading_nulls(made: tuple[Indicator, dict[str, int | Decimal]], rows: int) -> None:
    check_nulls(*made, walk(rows))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_leading_nulls_are_those_declared(name: str) -> None:
    entry, series = CATALOGUE[name], walk(700)
    for chosen in ({}, *(drawn(entry, seed) for seed in range(3))):
        check_nulls(entry, chosen, series)


@pytest.mark.parametrize("name", CATALOGUE)
def test_values_do_not_depend_on_later_bars(name: str) -> None:
    series = walk(600)
    for chosen in ({}, drawn(CATALOGUE[name], 4)):
        whole = computed(name, chosen, series)
        for rows in (1, 2, 60, 300, 599):
            for output, values in computed(name, chosen, part(series, 0, rows)).items():
                np.testing.assert_array_equal(values, whole[output][:rows])


def check_history(name: str, chosen: Mapping[str, int | Decimal], series: Series) -> None:
    """The last value of the declared history is the value of the whole, at some rows."""
    entry, rows = CATALOGUE[name], len(series["close"])
    history = entry.history(entry.resolve(chosen))
    assert history is not None
    assert history < rows
    whole = computed(name, chosen, series)
    for end in (rows, rows - 1, (rows + history) // 2, history):
        for output, values in computed(name, chosen, part(series, end - history, end)).items():
            # What crosses zero is judged by its usual size.
            known = np.abs(whole[output][~np.isnan(whole[output])])
            size = max(abs(float(whole[output][end - 1])), float(known.mean())) if len(known) else 0.0
            np.testing.assert_allclose(values[-1], whole[output][end - 1], rtol=0, atol=1e-9 * size, err_msg=output)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_history_it_declares_is_enough_for_the_last_value(name: str, long_walk: Series) -> None:
    for chosen in ({}, *(drawn(CATALOGUE[name], seed) for seed in range(2))):
        check_history(name, chosen, long_walk)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_history_it_declares_is_enough_on_real_minutes(name: str, minutes: Series) -> None:
    check_history(name, {}, minutes)


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.group == "pattern"])
def test_a_pattern_is_found_in_its_history_alone(name: str, minutes: Series) -> None:
    entry = CATALOGUE[name]
    history = entry.history(entry.resolve({}))
    assert history is not None
    (whole,) = computed(name, {}, minutes).values()
    found = np.flatnonzero(np.nan_to_num(whole))
    for row in found[found >= history][:50]:
        (values,) = computed(name, {}, part(minutes, row + 1 - history, row + 1)).values()
        assert values[-1] == whole[row]


@pytest.mark.parametrize("name", BOUNDED)
def test_the_longest_history_is_within_what_a_live_strategy_keeps(name: str) -> None:
    entry = CATALOGUE[name]
    history = entry.history(entry.resolve({each.name: each.maximum for each in entry.parameters}))
    assert history is not None
    assert history <= 25_000


# Where a computation that began later agrees with the whole: on rows on which the first of these outputs, or functions
# of the series, has changed for the second time.
TURNS: Mapping[str, Callable[[Series, Mapping[str, Array]], Array]] = {
    "sar": lambda series, made: np.sign(series["close"] - made["value"]),
    "sarext": lambda series, made: np.sign(made["value"]),
    "supertrend": lambda series, made: made["trend"],
    "atr_stop": lambda series, made: made["trend"],
    "zigzag": lambda series, made: made["trend"],
    "swings": lambda series, made: np.nancumsum(~np.isnan(made["high"])) // 2,
}


def of_day(series: Series, made: Mapping[str, Array]) -> Array:
    return np.floor(series["time"] / 86_400_000)


@pytest.mark.parametrize("name", [name for name in FOREVER if CATALOGUE[name].memory.compared == "turn"])
def test_a_later_start_agrees_after_the_second_common_turn(name: str, long_walk: Series) -> None:
    chosen: dict[str, int | Decimal] = {"percent": Decimal(1)} if name == "zigzag" else {}
    whole = computed(name, chosen, long_walk)
    later = part(long_walk, 1_000, 12_000)
    values = computed(name, chosen, later)
    turning = TURNS.get(name, of_day)(later, values)
    turns = np.flatnonzero(np.diff(turning[~np.isnan(turning)])) + int(np.isnan(turning).sum()) + 1
    # Average true ranges have forgotten their start by then, too.
    first = max(int(turns[1]), 1_200)
    assert first < 6_000
    for output, made in values.items():
        np.testing.assert_allclose(made[first:], whole[output][1_000 + first :], rtol=1e-9, err_msg=output)


@pytest.mark.parametrize("name", [name for name in FOREVER if CATALOGUE[name].memory.compared == "differences"])
def test_a_later_start_gains_what_the_whole_gains(name: str, long_walk: Series) -> None:
    whole, later = computed(name, {}, long_walk), computed(name, {}, part(long_walk, 1_000, 12_000))
    for output, values in later.items():
        gained = whole[output][1_000:] - whole[output][-1]
        np.testing.assert_allclose((values - values[-1])[100:], gained[100:], rtol=1e-9, atol=1e-6, err_msg=output)


@pytest.mark.parametrize("name", [name for name in FOREVER if CATALOGUE[name].memory.compared == "ratios"])
def test_a_later_start_grows_as_the_whole_does(name: str, long_walk: Series) -> None:
    whole, later = computed(name, {}, long_walk), computed(name, {}, part(long_walk, 1_000, 12_000))
    for output, values in later.items():
        np.testing.assert_allclose(values / values[-1], whole[output][1_000:] / whole[output][-1], rtol=1e-9)


def test_whatever_remembers_everything_says_how_it_can_be_compared() -> None:
    assert {CATALOGUE[name].memory.compared for name in FOREVER} <= {"differences", "ratios", "turn", "start"}
    assert all(CATALOGUE[name].history(CATALOGUE[name].resolve({})) is None for name in FOREVER)
    assert {"obv", "ad", "sar", "supertrend", "vwap_anchored"} <= set(FOREVER)


ODD: Mapping[str, Callable[[Array], Array]] = {
    "zero": lambda values: values * 0.0,
    "constant": lambda values: values * 0.0 + 5.0,
    "null": lambda values: values * np.nan,
    "null once": lambda values: np.where(np.arange(len(values)) == 100, np.nan, values),
    "largest": lambda values: values / values.max() * 1e12,
    "smallest": lambda values: values / values.max() * 1e-12,
    "negative": lambda values: -values,
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_odd_input_is_null_and_never_infinite_nor_an_exception(name: str) -> None:
    series = walk(300)
    cases = [{key: series[key] if key == "time" else odd(series[key]) for key in series} for odd in ODD.values()]
    cases.append({**series, "volume": np.zeros(300)})
    for case in cases:
        for output, values in computed(name, {}, case).items():
            assert not np.isinf(values).any(), output


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_bounds_of_the_parameters_are_computable(name: str, bound: str) -> None:
    entry = CATALOGUE[name]
    chosen = {parameter.name: getattr(parameter, bound) for parameter in entry.parameters}
    for values in computed(name, chosen, walk(50)).values():
        assert len(values) == 50


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.parameters])
def test_a_parameter_out_of_range_is_refused_with_its_path(name: str, described: Callable[..., dict[str, Any]]) -> None:
    for parameter in CATALOGUE[name].parameters:
        for value in (parameter.minimum - 1, parameter.maximum + 1, True, "many", None):
            use = {"id": "a", "name": name, "params": {parameter.name: value}}
            raw = json.dumps(described(indicators=[use]), default=str)
            with pytest.raises(DefinitionError) as refused:
                parse_definition(raw)
            paths = [problem.path for problem in refused.value.problems]
            assert f"$.indicators[0].params.{parameter.name}" in paths


def test_a_rule_between_parameters_is_refused_with_its_path(described: Callable[..., dict[str, Any]]) -> None:
    ruled = [entry for entry in CATALOGUE.values() if entry.rule is not None]
    assert len(ruled) > 10
    for entry in ruled:
        names = [each.name for each in entry.parameters if each.name in ("fast", "slow", "short", "middle", "long")]
        use = {"id": "a", "name": entry.name, "params": dict.fromkeys(names, 7)}
        with pytest.raises(DefinitionError, match=r"indicators\[0\].params: \w+ must be smaller than"):
            parse_definition(described(indicators=[use]))


def test_every_name_and_alias_names_one_indicator() -> None:
    assert NAMES["bollinger"] is CATALOGUE["bbands"]
    assert len(NAMES) == sum(1 + len(entry.aliases) for entry in CATALOGUE.values())
    assert all(name == name.lower() and name.replace("_", "").isalnum() for name in NAMES)


def test_the_catalogue_has_what_a_definition_can_expect() -> None:
    assert len(CATALOGUE) >= 150
    assert list(CATALOGUE)[:4] == ["sma", "ema", "wma", "rsi"]
    assert all(entry.summary and entry.source and entry.group for entry in CATALOGUE.values())
    assert sum(entry.group == "pattern" for entry in CATALOGUE.values()) == 61


def test_a_donchian_channel_shifted_by_one_is_the_channel_of_the_bars_before() -> None:
    series = walk(300)
    current, before = computed("donchian", {}, series), computed("price_channel", {}, series)
    for output in ("upper", "middle", "lower"):
        np.testing.assert_array_equal(before[output][1:], current[output][:-1])


@pytest.mark.parametrize("value", [0, 5_001, True, "20", Decimal("20.0"), None])
def test_a_period_that_is_no_number_of_bars_is_refused(value: object) -> None:
    assert CATALOGUE["sma"].parameters[0].problem(value) is not None


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal(0), 101])
def test_a_width_of_bands_that_is_out_of_bounds_is_refused(value: object) -> None:
    assert CATALOGUE["bbands"].parameters[1].problem(value) is not None
