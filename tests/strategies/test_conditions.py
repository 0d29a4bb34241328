"""Conditions mean the same on one bar and on all of them, and what they mean is what their names say."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.candles import load_candles
from tbh.messages.market import Candle
from tbh.strategies.conditions import compile_rule
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

NAN = math.nan
INDICATORS = [
    {"id": "a", "name": "ema", "params": {"period": 3}},
    {"id": "b", "name": "sma", "params": {"period": 4}, "source": ["close", "high"]},
    {"id": "bb", "name": "bbands", "params": {"period": 5, "stddev": 1}},
    {"id": "r", "name": "rsi", "params": {"period": 3}},
    {"id": "dc", "name": "donchian", "params": {"period": 3}},
    {"id": "m", "name": "macd", "params": {"fast": 2, "slow": 4, "signal": 2}},
]
COLUMNS = [
    "open",
    "close",
    "volume",
    "a__value",
    "b__close__value",
    "b__high__value",
    "bb__upper",
    "r__value",
    "dc__upper",
    "m__hist",
]

columns = st.one_of(
    st.sampled_from(COLUMNS),
    st.builds(lambda name, shift: {"column": name, "shift": shift}, st.sampled_from(COLUMNS), st.integers(0, 6)),
)
operands = st.one_of(columns, st.integers(-5, 120), st.integers(0, 1_200).map(lambda tenths: tenths / 10))
conditions = st.one_of(
    st.builds(
        lambda left, op, right: {"left": left, "op": op, "right": right},
        columns,
        st.sampled_from(["<", "<=", ">", ">=", "==", "crosses_above", "crosses_below"]),
        operands,
    ),
    st.builds(
        lambda left, low, high: {"left": left, "op": "between", "right": [low, high]}, columns, columns, operands
    ),
    st.builds(
        lambda left, op, n: {"left": left, "op": op, "n": n},
        columns,
        st.sampled_from(["rising", "falling"]),
        st.integers(1, 4),
    ),
)
nodes = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda members: {"all": members}),
        st.lists(inner, min_size=1, max_size=3).map(lambda members: {"any": members}),
        inner.map(lambda member: {"not": member}),
    ),
    max_leaves=6,
)
markets = st.lists(st.integers(980, 1_020).map(lambda tenths: Decimal(tenths) / 10), min_size=1, max_size=40)


def per_bar(strategy: DynamicStrategy, bars: list[Candle]) -> list[bool]:
    fired = []
    for bar in bars:
        strategy.append(bar)
        fired.append(bool(strategy.on_bar(None)))
    return fired


def arrays_of(bars: list[Candle]) -> dict[str, Any]:
    return {
        name: np.array([float(getattr(bar, name)) for bar in bars])
        for name in ("open", "high", "low", "close", "volume")
    }


@given(node=nodes, closes=markets)
def test_any_rule_agrees_on_each_bar_and_on_whole_arrays(
    node: Any,
    closes: list[Decimal],
    strategy: Callable[..., DynamicStrategy],
    candles: Callable[..., list[Candle]],
) -> None:
    made = strategy(indicators=INDICATORS, entry={"long": node})
    bars = candles(closes)
    assert per_bar(made, bars) == made.evaluate_all(arrays_of(bars))["entry_long"].tolist()


def test_rules_agree_on_every_bar_of_a_real_market(shared_data: Path, strategy: Callable[..., DynamicStrategy]) -> None:
    file = load_candles(shared_data / "candles" / "binance_usdm_BTCUSDT_5m.parquet")[:3_000]
    node = {
        "any": [
            {"left": "a__value", "op": "crosses_above", "right": "b__close__value"},
            {"all": [{"left": "r__value", "op": "<", "right": 30}, {"left": "bb__lower", "op": "falling", "n": 2}]},
            {"left": "close", "op": ">", "right": {"column": "dc__upper", "shift": 1}},
            {"not": {"left": "m__hist", "op": "between", "right": [-20, "m__signal"]}},
        ]
    }
    made = strategy(indicators=INDICATORS, timeframe="5m", entry={"long": node})
    whole = made.evaluate_all(file.arrays)["entry_long"].tolist()
    assert 100 < sum(whole) < 2_900
    assert per_bar(made, list(file)) == whole


def evaluated(node: dict[str, Any], **series: list[float]) -> list[bool]:
    """The rule ``node`` over the columns given; names outside the five series need no indicator here."""
    definition = parse_definition(
        {
            "name": "s",
            "timeframe": "1m",
            "entry": {"long": node},
            "sizing": {"kind": "fixed_quantity", "value": 1},
        }
    )
    rule = compile_rule(definition.entry.long)
    assert rule is not None
    arrays = {name: np.array(values, dtype=np.float64) for name, values in series.items()}
    rows = len(next(iter(arrays.values())))
    return [bool(each) for each in rule.evaluate(arrays, 0, rows)]


def test_crosses_above_needs_at_or_below_before_and_above_now() -> None:
    node = {"left": "close", "op": "crosses_above", "right": "open"}
    assert evaluated(node, close=[1, 2, 3, 3, 2, 3], open=[2, 2, 2, 2, 2, 2]) == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_crosses_below_needs_at_or_above_before_and_below_now() -> None:
    node = {"left": "close", "op": "crosses_below", "right": 2}
    assert evaluated(node, close=[1, 2, 1, 1, 3, 1]) == [False, False, True, False, False, True]


def test_between_includes_both_bounds() -> None:
    node = {"left": "close", "op": "between", "right": [2, "open"]}
    assert evaluated(node, close=[1, 2, 3, 4, 5], open=[4, 4, 4, 4, 4]) == [False, True, True, True, False]


def test_rising_is_strict_on_each_of_its_bars() -> None:
    node = {"left": "close", "op": "rising", "n": 2}
    assert evaluated(node, close=[1, 2, 3, 3, 4, 5]) == [False, False, True, False, False, True]


def test_falling_mirrors_rising() -> None:
    node = {"left": "close", "op": "falling", "n": 2}
    assert evaluated(node, close=[5, 4, 3, 3, 2, 1]) == [False, False, True, False, False, True]


def test_shift_looks_at_a_former_bar_and_is_null_before_the_first() -> None:
    node = {"left": "close", "op": ">", "right": {"column": "close", "shift": 2}}
    assert evaluated(node, close=[1, 2, 3, 2, 1]) == [False, False, True, False, False]


@pytest.mark.parametrize("op", ["<", "<=", ">", ">=", "==", "crosses_above", "crosses_below"])
def test_comparison_with_null_is_false(op: str) -> None:
    assert not any(evaluated({"left": "close", "op": op, "right": "open"}, close=[1, NAN, 3], open=[NAN, 2, NAN]))


@pytest.mark.parametrize("op", ["rising", "falling"])
def test_trend_through_null_is_false(op: str) -> None:
    assert not any(evaluated({"left": "close", "op": op}, close=[1, NAN, 3]))


def test_not_of_a_comparison_with_null_is_true() -> None:
    assert evaluated({"not": {"left": "close", "op": ">", "right": 2}}, close=[NAN, 1, 3]) == [True, True, False]


def test_nested_groups_combine() -> None:
    low = {"left": "close", "op": "<", "right": 2}
    high = {"left": "close", "op": ">", "right": 4}
    node = {"all": [{"any": [low, high]}, {"not": {"left": "close", "op": "==", "right": 5}}]}
    assert evaluated(node, close=[1, 3, 5, 6]) == [True, False, False, True]


def test_a_settled_group_leaves_its_other_members_alone() -> None:
    node = {"all": [{"left": "close", "op": ">", "right": 9}, {"left": "open", "op": ">", "right": 0}]}
    assert evaluated(node, close=[1, 2]) == [False, False]


def test_rule_tells_people_what_it_says() -> None:
    definition = parse_definition(
        {
            "name": "s",
            "timeframe": "1m",
            "entry": {"long": {"all": [{"left": {"column": "close", "shift": 1}, "op": ">", "right": 2}]}},
            "sizing": {"kind": "fixed_quantity", "value": 1},
        }
    )
    rule = compile_rule(definition.entry.long)
    assert rule is not None
    assert rule.text == "all(close[-1] > 2)"
