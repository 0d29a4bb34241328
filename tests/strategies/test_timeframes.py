"""Indicators of a higher timeframe see closed bars only, alike on each bar and over whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbh.messages.market import Candle
from tbh.strategies.definition import DefinitionError, json_schema, parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.frames import frame_of
from tbh.strategies.indicators import SERIES
from tbh.strategies.series import IndicatorError

Make = Callable[..., DynamicStrategy]
START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""

BAR_5M = {"id": "h", "name": "bar", "timeframe": "5m"}
UP = {"long": {"left": "close", "op": ">", "right": "h__close"}}


def market(closes: Sequence[float], *, at: Sequence[int] | None = None, bar_s: int = 60) -> list[Candle]:
    """Bars of ``bar_s``, the first one ``at[0]`` bars after START; high and low are 1 away from the close."""
    places = range(len(closes)) if at is None else at
    return [
        Candle(
            open_time=START + timedelta(seconds=bar_s * place),
            open=Decimal(str(close)) - Decimal("0.5"),
            high=Decimal(str(close)) + 1,
            low=Decimal(str(close)) - 1,
            close=Decimal(str(close)),
            volume=Decimal(place % 3 + 1),
        )
        for place, close in zip(places, closes, strict=True)
    ]


def arrays_of(candles: Sequence[Candle]) -> dict[str, Any]:
    made = {name: np.array([float(getattr(candle, name)) for candle in candles]) for name in SERIES}
    return {**made, "time": np.array([candle.open_time.timestamp() * 1_000 for candle in candles])}


def column(made: DynamicStrategy, candles: Sequence[Candle], name: str) -> list[float | None]:
    """The column after each bar, None for null; asserts that the last bar alone sees the same."""
    seen = []
    for candle in candles:
        made.append(candle)
        seen.append(made._live.at(name, 0))
    whole = made.view(None).columns[name]
    np.testing.assert_array_equal(seen, whole)
    return [None if np.isnan(value) else float(value) for value in whole]


def hours(strategy: Make, name: str, *, timeframe: str = "5m", base: str = "1m") -> DynamicStrategy:
    rule = {"left": "close", "op": ">", "right": name}
    return strategy(timeframe=base, indicators=[{**BAR_5M, "timeframe": timeframe}], entry={"long": rule})


def test_a_higher_bar_is_seen_at_the_close_that_ends_it_and_not_before(strategy: Make) -> None:
    made = hours(strategy, "h__close")
    assert column(made, market(range(100, 112)), "h__close") == [None] * 4 + [104] * 5 + [109] * 3


@pytest.mark.parametrize(
    ("name", "value"), [("h__open", 99.5), ("h__high", 110), ("h__low", 99), ("h__close", 101), ("h__volume", 9)]
)
def test_a_higher_bar_is_made_of_the_bars_within_it(name: str, value: float, strategy: Make) -> None:
    assert column(hours(strategy, name), market([100, 105, 109, 104, 101]), name)[-1] == value


def test_a_first_higher_bar_whose_beginning_is_missing_is_not_a_bar(strategy: Make) -> None:
    candles = market(range(100, 112), at=range(1, 13))
    assert column(hours(strategy, "h__close"), candles, "h__close") == [None] * 8 + [108] * 4


def test_a_missing_bar_is_missing_in_the_higher_one_and_closes_it_with_the_next_that_comes(strategy: Make) -> None:
    # Bars 2 and 4 are missing: the higher bar of 0, 1 and 3 is known to be over when bar 5 has closed.
    candles = market([100, 101, 103, 105, 106], at=[0, 1, 3, 5, 6])
    assert column(hours(strategy, "h__close"), candles, "h__close") == [None, None, None, 103, 103]
    assert column(hours(strategy, "h__volume"), candles, "h__volume")[-1] == 1 + 2 + 1


def test_a_higher_bar_of_which_nothing_is_left_is_left_out(strategy: Make) -> None:
    candles = market(range(11), at=[0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15])
    made = strategy(
        indicators=[{"id": "h", "name": "mom", "params": {"period": 1}, "timeframe": "5m"}],
        entry={"long": {"left": "h__value", "op": ">", "right": 0}},
    )
    assert column(made, candles, "h__value") == [None] * 9 + [5, 5]


def test_two_higher_bars_may_close_at_once(strategy: Make) -> None:
    # Bar 1 is missing; bar 3 ends the second higher bar, and shows that the first one is over.
    candles = market([100, 103], at=[0, 3])
    made = strategy(
        indicators=[{"id": "h", "name": "mom", "params": {"period": 1}, "timeframe": "2m"}],
        entry={"long": {"left": "h__value", "op": ">", "right": 0}},
    )
    assert column(made, candles, "h__value") == [None, 3]


def test_weeks_begin_on_monday_and_days_at_midnight(strategy: Make) -> None:
    week = hours(strategy, "h__close", timeframe="1w", base="1d")
    candles = market(range(100, 115), bar_s=86_400)
    assert column(week, candles, "h__close") == [None] * 6 + [106] * 7 + [113] * 2
    day = hours(strategy, "h__close", timeframe="1d", base="8h")
    assert column(day, market(range(7), bar_s=28_800), "h__close") == [None, None, 2, 2, 2, 5, 5]


def test_a_shift_counts_bars_of_the_definition(strategy: Make) -> None:
    rule = {"left": "h__close", "op": ">", "right": {"column": "h__close", "shift": 1}}
    made = strategy(indicators=[BAR_5M], entry={"long": rule})
    candles = market(range(100, 116))
    fired = []
    for candle in candles:
        made.append(candle)
        fired.append(bool(made.on_bar(None)))
    assert np.flatnonzero(fired).tolist() == [9, 14]
    assert fired == made.evaluate_all(arrays_of(candles))["entry_long"].tolist()


def test_an_indicator_of_higher_bars_is_that_of_a_strategy_on_those_bars(strategy: Make) -> None:
    closes = (100 + np.cumsum(np.random.default_rng(3).normal(size=600))).round(2)
    candles = market(closes.tolist())
    made = strategy(
        indicators=[{"id": "r", "name": "rsi", "params": {"period": 3}, "timeframe": "15m"}],
        entry={"long": {"left": "r__value", "op": ">", "right": 50}},
    )
    frame = frame_of(arrays_of(candles), 60, 900)
    alone = strategy(
        timeframe="15m",
        indicators=[{"id": "r", "name": "rsi", "params": {"period": 3}}],
        entry={"long": {"left": "r__value", "op": ">", "right": 50}},
    )
    whole = made.evaluate_all(arrays_of(candles))["entry_long"]
    assert whole[14::15].tolist() == alone.evaluate_all(frame.series)["entry_long"].tolist()
    assert frame.series["close"].tolist() == closes[14::15].tolist()


def test_what_happens_later_changes_nothing(strategy: Make) -> None:
    closes = (100 + np.cumsum(np.random.default_rng(4).normal(size=200))).round(2).tolist()
    made = strategy(
        indicators=[{"id": "e", "name": "ema", "params": {"period": 2}, "timeframe": "15m"}],
        entry={"long": {"left": "close", "op": ">", "right": "e__value"}},
    )
    before = made.evaluate_all(arrays_of(market(closes)))["entry_long"]
    for row in range(100, 131):
        other = [*closes[:row], *(price * 3 for price in closes[row:])]
        after = made.evaluate_all(arrays_of(market(other)))["entry_long"]
        assert after[:row].tolist() == before[:row].tolist()
        cut = made.evaluate_all(arrays_of(market(closes[:row])))["entry_long"]
        assert cut.tolist() == before[:row].tolist()


nodes = st.lists(
    st.one_of(
        st.builds(
            lambda left, op, right: {"left": left, "op": op, "right": right},
            st.sampled_from(["close", "h__high", "e__value", "o__value", "p__pp", {"column": "e__value", "shift": 3}]),
            st.sampled_from(["<", ">", "==", "crosses_above", "crosses_below"]),
            st.sampled_from(["open", "h__close", "e__value", "s__value", {"column": "h__low", "shift": 2}, 100]),
        ),
        st.builds(
            lambda left, op, n: {"left": left, "op": op, "n": n},
            st.sampled_from(["h__close", "e__value", "o__value"]),
            st.sampled_from(["rising", "falling"]),
            st.integers(1, 3),
        ),
    ),
    min_size=1,
    max_size=3,
).map(lambda members: {"any": members})


@settings(max_examples=60)
@given(
    node=nodes,
    steps=st.lists(
        st.tuples(st.integers(1, 40).map(lambda step: max(step - 36, 1)), st.integers(985, 1_015)), max_size=60
    ),
    first=st.integers(0, 40),
    higher=st.sampled_from(["2m", "5m", "15m"]),
    held=st.integers(0, 60),
)
def test_any_rule_agrees_on_each_bar_and_on_whole_arrays_through_gaps(
    node: dict[str, Any], steps: list[tuple[int, int]], first: int, higher: str, held: int, strategy: Make
) -> None:
    made = strategy(
        indicators=[
            {**BAR_5M, "timeframe": higher},
            {"id": "e", "name": "ema", "params": {"period": 2}, "timeframe": higher},
            {"id": "s", "name": "sar", "timeframe": "3m"},
            {"id": "o", "name": "obv", "timeframe": higher},
            {"id": "p", "name": "pivots", "timeframe": "1h"},
        ],
        entry={"long": node},
    )
    places = np.cumsum([first, *(step for step, _ in steps)])[1:].tolist()
    candles = market([tenths / 10 for _, tenths in steps], at=places)
    made.load(candles[:held])
    fired = []
    for candle in candles[held:]:
        made.append(candle)
        fired.append(bool(made.on_bar(None)))
    assert fired == made.evaluate_all(arrays_of(candles))["entry_long"].tolist()[held:]


def test_history_counts_the_bars_of_the_higher_ones(strategy: Make) -> None:
    made = strategy(
        indicators=[{"id": "m", "name": "sma", "params": {"period": 4}, "timeframe": "15m"}],
        entry={"long": {"left": "m__value", "op": "crosses_above", "right": "close"}},
    )
    # Four higher bars, one bar back, and at worst all but one bar of a first and of a last one that do not count.
    assert made.history_needed == 4 * 15 + 1 + 2 * 14
    assert made.warmup == 4 * 15 + 1 + 13
    closes = (100 + np.cumsum(np.random.default_rng(5).normal(size=400))).round(2).tolist()
    candles = market(closes)
    whole = made.evaluate_all(arrays_of(candles))["entry_long"]
    for row in range(200, 260):
        made.load(candles[row + 1 - made.history_needed : row + 1])
        assert bool(made.on_bar(None)) == whole[row]


@pytest.mark.parametrize(
    ("own", "timeframe", "message"),
    [
        ("1m", "7m", "unknown timeframe '7m'"),
        ("5m", "1m", "1m is shorter than the definition's 5m"),
        ("2m", "3m", "3m is no multiple of the definition's 2m; take one of 2m, 10m, 30m, 1h"),
        ("3d", "1w", "1w is no multiple of the definition's 3d; take one of 3d"),
        ("1m", 5, "must be text"),
    ],
)
def test_a_timeframe_that_cannot_be_made_is_refused_with_its_path(
    own: str, timeframe: object, message: str, described: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_definition(described(timeframe=own, indicators=[{**BAR_5M, "timeframe": timeframe}]))
    (problem,) = refused.value.problems
    assert problem.path == "$.indicators[0].timeframe"
    assert problem.message.startswith(message)


def test_the_definitions_own_timeframe_is_the_same_as_none(described: Callable[..., dict[str, Any]]) -> None:
    plain = {"id": "h", "name": "bar"}
    named, unnamed = (
        parse_definition(described(indicators=[use], entry=UP)) for use in ({**plain, "timeframe": "1m"}, plain)
    )
    assert named.fingerprint() == unnamed.fingerprint()
    higher = parse_definition(described(indicators=[BAR_5M], entry=UP))
    assert higher.fingerprint() != unnamed.fingerprint()
    assert parse_definition(higher.canonical_json()).fingerprint() == higher.fingerprint()


def test_the_schema_names_the_timeframes() -> None:
    field = json_schema()["$defs"]["IndicatorUse"]["properties"]["timeframe"]
    (named,) = [each for each in field["anyOf"] if each["type"] == "string"]
    assert {"1m", "15m", "1w"} <= set(named["enum"])


def test_arrays_without_times_are_refused(strategy: Make) -> None:
    made = strategy(indicators=[BAR_5M], entry=UP)
    assert made.reads_times
    with pytest.raises(IndicatorError, match="'h': bar reads the times of the bars"):
        made.evaluate_all({name: np.ones(9) for name in SERIES})
