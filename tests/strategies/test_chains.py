"""Indicators of indicators: begun where their source begins, alike live and over arrays, and never in a circle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import talib

from tbh.messages.market import Candle
from tbh.strategies.base import FloatArray
from tbh.strategies.definition import DefinitionError, parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import Inputs
from tbh.strategies.series import Computation
from tests.strategies.test_live import arrays_of, candles_of, rules_on_each_bar, sleepy

Make = Callable[..., DynamicStrategy]

RSI = {"id": "r", "name": "rsi", "params": {"period": 5}}
SMOOTH = {"id": "s", "name": "ema", "params": {"period": 3}, "source": "r__value"}
BANDS = {"id": "b", "name": "bbands", "params": {"period": 6, "stddev": 1}, "source": "s__value"}
VOLUME = {"id": "o", "name": "obv"}
TREND = {"id": "t", "name": "ema", "params": {"period": 4}, "source": "o__value"}

CHAINS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "of one that decays": ([SMOOTH, RSI], {"left": "s__value", "op": ">", "right": 55}),
    "of one that rules ask for, too": ([SMOOTH, RSI], {"left": "r__value", "op": ">", "right": "s__value"}),
    "that takes its first value as it comes": (
        [RSI, {"id": "f", "name": "super_smoother", "params": {"period": 4}, "source": "r__value"}],
        {"left": "r__value", "op": "crosses_above", "right": "f__value"},
    ),
    "of one that is one itself": (
        [BANDS, SMOOTH, RSI],
        {"left": "s__value", "op": "crosses_above", "right": "b__upper"},
    ),
    "of one that remembers everything": (
        [VOLUME, TREND],
        {"left": "o__value", "op": "crosses_above", "right": {"column": "t__value", "shift": 2}},
    ),
    "of several": (
        [RSI, {"id": "m", "name": "sma", "params": {"period": 4}, "source": ["r__value", "close"]}],
        {
            "all": [
                {"left": "m__r__value__value", "op": "rising", "n": 2},
                {"left": "close", "op": ">", "right": "m__close__value"},
            ]
        },
    ),
    "of a higher timeframe": (
        [{**use, "timeframe": "1h"} for use in (RSI, SMOOTH, BANDS)],
        {"left": "s__value", "op": ">", "right": "b__upper"},
    ),
}


@pytest.fixture(scope="module")
def market() -> list[Candle]:
    rng = np.random.default_rng(12)
    return candles_of(1_000 + np.cumsum(rng.normal(size=1_500)), rng.uniform(1, 9, size=1_500))


def chained(strategy: Make, name: str, **parts: Any) -> DynamicStrategy:
    uses, rule = CHAINS[name]
    return strategy(timeframe="15m", indicators=uses, entry={"long": rule}, **parts)


@pytest.mark.parametrize("name", CHAINS)
def test_a_rule_on_a_chain_agrees_on_each_bar_and_on_whole_arrays(
    name: str, strategy: Make, market: list[Candle]
) -> None:
    assert 20 < sum(rules_on_each_bar(chained(strategy, name), market)) < 1_400


@pytest.mark.parametrize("rests", ["long", "often"])
@pytest.mark.parametrize("name", ["of one that rules ask for, too", "of one that is one itself"])
def test_a_chain_agrees_in_a_market_that_stands_still(name: str, rests: str, strategy: Make) -> None:
    assert sum(rules_on_each_bar(chained(strategy, name), sleepy(rests)[0])) > 2


@pytest.mark.parametrize("name", [name for name in CHAINS if "everything" not in name])
def test_a_start_with_the_history_that_adds_up_decides_as_one_long_before(
    name: str, strategy: Make, market: list[Candle]
) -> None:
    made = chained(strategy, name)
    whole = made.evaluate_all(arrays_of(market))["entry_long"]
    for end in range(1_450, 1_500):
        made.load(market[end - made.history_needed : end])
        assert bool(made.on_bar(None)) == whole[end - 1]


def test_an_indicator_of_an_indicator_is_that_of_its_values(strategy: Make, market: list[Candle]) -> None:
    made = chained(strategy, "of one that decays")
    made.load(market)
    columns = made.view(None).columns
    rsi = talib.RSI(columns["close"].copy(), 5)
    np.testing.assert_array_equal(columns["s__value"][5:], talib.EMA(rsi[5:], 3))
    assert np.isnan(columns["s__value"][:7]).all()
    assert columns["s__value"][7] == pytest.approx(rsi[5:8].mean())


def test_null_rows_and_histories_add_up(strategy: Make) -> None:
    made = chained(strategy, "of one that is one itself")
    assert made.warmup == 5 + 2 + 5 + 1
    alone = strategy(timeframe="15m", indicators=[RSI], entry={"long": {"left": "r__value", "op": ">", "right": 50}})
    smooth = strategy(
        timeframe="15m",
        indicators=[{**SMOOTH, "source": "close"}],
        entry={"long": {"left": "s__value", "op": ">", "right": 50}},
    )
    # One bar more for the crossing.
    assert made.history_needed == alone.history_needed + (smooth.history_needed - 1) + (6 - 1) + 1
    hourly = chained(strategy, "of a higher timeframe")
    assert hourly.warmup == 4 * (5 + 2 + 5 + 2) - 2
    assert hourly.history_needed == 4 * (made.history_needed - 1) + 2 * 3


def test_what_a_chain_is_made_of_is_named_where_it_depends_on_the_start(strategy: Make) -> None:
    uses, _ = CHAINS["of one that remembers everything"]
    made = strategy(indicators=uses, entry={"long": {"left": "t__value", "op": "rising"}})
    assert [computation.indicator_id for computation in made.starting] == ["o"]


def test_a_chain_takes_no_more_rows_than_add_up(
    strategy: Make, market: list[Candle], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = chained(strategy, "of one that is one itself")
    made.load(market[:1_400])
    taken: list[int] = []
    compute = Computation.compute

    def counted(computation: Computation, inputs: Inputs) -> tuple[FloatArray, ...]:
        taken.append(len(inputs[0]))
        return compute(computation, inputs)

    monkeypatch.setattr(Computation, "compute", counted)
    for candle in market[1_400:]:
        made.append(candle)
        made.on_bar(None)
    assert max(taken) == made.history_needed
    assert len(taken) == 3 * 100


def use(name: str, source: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "name": "ema", "source": source, **more}


@pytest.mark.parametrize(
    ("uses", "path", "message"),
    [
        ([use("a", "a__value")], "[0].source", "goes round in a circle: 'a__value' is made of what 'a' makes"),
        ([use("a", "b__value"), use("b", "a__value")], "[1].source", "goes round in a circle"),
        (
            [use("a", "b__value"), use("b", "c__value"), use("c", "a__value"), use("d", "a__value")],
            "[2].source",
            "goes round in a circle: 'a__value' is made of what 'c' makes",
        ),
        ([RSI, use("a", "r__vlue")], "[1].source", "unknown source 'r__vlue'; nearest: 'r__value'"),
        ([RSI, use("a", "r")], "[1].source", "unknown source 'r'"),
        (
            [{"id": "t", "name": "supertrend"}, use("a", "t__upper")],
            "[1].source",
            "'t__upper' can be null at any time",
        ),
        ([RSI, {**use("a", "r__value"), "name": "zigzag"}], "[1].source", "zigzag remembers everything"),
        ([RSI, use("a", "r__value", timeframe="5m")], "[1].source", "'r__value' is of 1m bars; give both the same"),
        (
            [{**RSI, "timeframe": "5m"}, {**use("a", "close"), "source": ["close", "r__value"]}],
            "[1].source[1]",
            "'r__value' is of 5m bars; give both the same timeframe",
        ),
    ],
)
def test_what_an_indicator_cannot_read_is_refused_with_its_path(
    uses: Sequence[dict[str, Any]], path: str, message: str, described: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_definition(described(indicators=uses))
    (problem,) = refused.value.problems
    assert problem.path == f"$.indicators{path}"
    assert problem.message.startswith(message)


def test_an_indicator_of_a_doubtful_one_is_not_called_wrong_as_well(described: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_definition(described(indicators=[{**RSI, "name": "rsj"}, use("a", "r__value")]))
    assert [problem.path for problem in refused.value.problems] == ["$.indicators[0].name"]
