"""The checks find what spoils a backtest, say where, and let sound strategies pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tbh.backtest.checks import Outcome
from tbh.backtest.columns import Columns, columns_of
from tbh.backtest.lookahead import check_lookahead
from tbh.backtest.recursion import check_recursion
from tbh.infra.candles import SERIES
from tbh.infra.simmarket import simulated_market
from tbh.strategies import series
from tbh.strategies.catalogue.base import WINDOW, Memory
from tbh.strategies.custom import BarView, Side
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import NAMES
from tbh.strategies.runner import CustomRunner, custom_of

REPOSITORY = Path(__file__).resolve().parents[2]
SOUND = sorted(
    [
        *(REPOSITORY / "tests/strategies/definitions").glob("*.json"),
        *(REPOSITORY / "examples/strategies").glob("*.json"),
    ]
)


def market_of(bars: int, timeframe_s: int = 60) -> Columns:
    made = simulated_market(7, bars, timeframe_s=timeframe_s)
    return columns_of(made.name, timeframe_s, made.timestamps, np.stack([made.arrays[name] for name in SERIES]))


@pytest.fixture(scope="module")
def market() -> Columns:
    return market_of(1_200)


def runner(kind: Any) -> CustomRunner:
    return CustomRunner(custom_of(reference="x", name="x", timeframe="1m", params={}, make=kind))


def defined(**parts: Any) -> DynamicStrategy:
    shape = {"name": "s", "timeframe": "1m", "sizing": {"kind": "fixed_quantity", "value": "1"}}
    return DynamicStrategy(parse_definition({**shape, **parts}))


def found(outcome: Outcome) -> dict[str, str]:
    return {one.what: one.detail for one in outcome.findings}


class Both:
    """Long while a series that is made of whole arrays is positive; what ``on_bar`` says does not matter here."""

    history = 3
    sizing: Any = {"kind": "fixed_quantity", "value": "0.01"}  # noqa: RUF012 - as people write it

    def on_bar(self, view: BarView) -> Any:
        return ()

    def signal(self, close: Any) -> Any:
        return close - np.concatenate((close[:1], close[:-1]))

    def evaluate_all(self, columns: Mapping[str, Any]) -> Any:
        signal = self.signal(columns["close"])
        return {"entry_long": signal > 0, "exit_long": signal < 0}


class Tomorrow(Both):
    def signal(self, close: Any) -> Any:
        return np.concatenate((close[1:], close[-1:])) - close


class Centred(Both):
    def signal(self, close: Any) -> Any:
        return close - np.convolve(close, np.ones(9) / 9, mode="same")


class OfTheHighest(Both):
    def signal(self, close: Any) -> Any:
        return close / close.max() - 0.995


class OfTheMean(Both):
    def signal(self, close: Any) -> Any:
        return close - close.mean()


@pytest.mark.parametrize(
    ("kind", "ahead"), [(Tomorrow, "1 bar"), (Centred, "bars"), (OfTheHighest, "bars"), (OfTheMean, "bars")]
)
def test_decisions_at_once_that_know_the_future_are_found(market: Columns, kind: Any, ahead: str) -> None:
    outcome = check_lookahead(runner(kind), market)
    assert not outcome.ok
    assert {"entry_long", "exit_long"} <= set(found(outcome))
    assert ahead in found(outcome)["entry_long"]
    assert all(0 <= one.row < len(market) and one.time.startswith("2026-01-01T") for one in outcome.findings)


def test_decisions_at_once_that_know_the_past_alone_pass(market: Columns) -> None:
    strategy = runner(Both)
    outcome = check_lookahead(strategy, market)
    assert outcome.ok
    assert "evaluate_all wishes" in outcome.notes[0], "and that on_bar says something else is told"
    assert check_recursion(strategy, market).ok


@pytest.mark.parametrize("kind", [OfTheHighest, OfTheMean])
def test_decisions_by_a_figure_of_all_bars_depend_on_the_first_one(market: Columns, kind: Any) -> None:
    outcome = check_recursion(runner(kind), market)
    assert "over all" in found(outcome)["entry_long"]
    assert "no figure over all bars" in outcome.findings[0].advice


class Asked:
    """Asked bar by bar."""

    history = 3
    sizing: Any = {"kind": "fixed_quantity", "value": "0.01"}  # noqa: RUF012 - as people write it

    def __init__(self) -> None:
        self.calls = 0
        self.average = 0.0

    def wants(self, view: BarView) -> bool:
        close = view.columns["close"]
        return bool(close[-1] > close[0])

    def on_bar(self, view: BarView) -> Any:
        if self.wants(view):
            return [view.enter(Side.BUY)] if view.position is None else []
        return [] if view.position is None else [view.leave()]


class BehindTheView(Asked):
    def wants(self, view: BarView) -> bool:
        whole: Any = view.columns["close"]
        while whole.base is not None and isinstance(whole.base, np.ndarray):
            whole = whole.base
        return bool(whole.ravel().sum() % 2 > 1) if whole.size == 3 else bool(view.columns["close"][-1] > 0)


class Counting(Asked):
    def wants(self, view: BarView) -> bool:
        self.calls += 1
        return self.calls % 10 < 5


class Averaging(Asked):
    def wants(self, view: BarView) -> bool:
        close = float(view.columns["close"][-1])
        self.average = close if not self.average else 0.99 * self.average + 0.01 * close
        return close > self.average


def test_what_is_read_behind_the_view_is_found(market: Columns) -> None:
    outcome = check_lookahead(runner(BehindTheView), market)
    assert list(found(outcome)) == ["on_bar (bars behind)"]


@pytest.mark.parametrize("kind", [Counting, Averaging])
def test_what_is_remembered_between_calls_is_found_by_both_checks(market: Columns, kind: Any) -> None:
    ahead, back = check_lookahead(runner(kind), market), check_recursion(runner(kind), market)
    assert list(found(ahead)) == ["on_bar (memory)"]
    assert "asked on this bar alone" in found(ahead)["on_bar (memory)"]
    assert "on_bar (memory)" in found(back)
    assert "keep nothing between calls" in ahead.findings[0].advice


def test_a_pure_strategy_passes_both_checks(market: Columns) -> None:
    for check in (check_lookahead, check_recursion):
        outcome = check(runner(Asked), market)
        assert (outcome.ok, outcome.notes) == (True, [])
        assert "on_bar" in outcome.looked


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``catalogue(name, field=...)``: an entry that is not what it says."""

    def change(name: str, **fields: Any) -> None:
        monkeypatch.setattr(series, "NAMES", {**NAMES, name: dataclasses.replace(NAMES[name], **fields)})

    return change


CROSS: dict[str, Any] = {
    "indicators": [{"id": "a", "name": "ema", "params": {"period": 30}}],
    "entry": {"long": {"left": "close", "op": "crosses_above", "right": "a__value"}},
    "exit": {"long": {"left": "close", "op": "crosses_below", "right": "a__value"}},
}


def test_an_indicator_that_looks_ahead_is_found_with_its_column(
    market: Columns, catalogue: Callable[..., None]
) -> None:
    sound = NAMES["ema"].function
    catalogue("ema", function=lambda inputs, params: tuple(np.roll(each, -2) for each in sound(inputs, params)))
    outcome = check_lookahead(defined(**CROSS), market)
    assert "2 bars ahead" in found(outcome)["column a__value"]
    assert {"entry_long", "exit_long"} & set(found(outcome))


def test_an_indicator_that_declares_too_short_a_history_is_found(
    market: Columns, catalogue: Callable[..., None]
) -> None:
    catalogue("ema", memory=Memory(kind="window", rows=lambda _: 60))
    outcome = check_recursion(defined(**CROSS), market)
    assert "60 were declared to suffice" in found(outcome)["column a__value"]
    (deviation,) = outcome.deviations
    assert deviation.history == 60
    off = [deviation.shares[share] for share in (0.25, 1.0, 2.0)]
    assert off[0] > off[1] > off[2] > 1e-8  # type: ignore[operator]  # there are bars enough
    catalogue("ema", memory=WINDOW)
    assert not check_recursion(defined(**CROSS), market).ok


def test_a_sum_since_the_first_bar_that_is_compared_with_a_number_is_found(market: Columns) -> None:
    half = float(np.cumsum(np.sign(np.diff(market.values[3])) * market.values[4][1:])[600:].mean())
    uses = [{"id": "v", "name": "obv"}]
    rule = {"left": "v__value", "op": ">", "right": round(half, 2)}
    outcome = check_recursion(defined(indicators=uses, entry={"long": rule}), market)
    assert "over the last 500" in found(outcome)["entry_long"]
    assert "compare v with its own past" in outcome.findings[0].advice
    assert outcome.notes == ["v (obv) remembers everything; its differences agree between two starts"]
    assert check_lookahead(defined(indicators=uses, entry={"long": rule}), market).ok


def test_what_agrees_from_its_next_turn_on_needs_an_earlier_history() -> None:
    uses = [{"id": "z", "name": "zigzag"}]
    rule = {"left": "z__point", "op": ">", "right": 0}
    outcome = check_recursion(defined(indicators=uses, entry={"long": rule}), market_of(3_000))
    assert "entry_long" in found(outcome)
    assert outcome.findings[0].advice.startswith(
        "let the history begin earlier: two starts agree after the next turn of z"
    )


def test_a_sum_since_the_first_bar_that_is_compared_with_its_past_passes(market: Columns) -> None:
    rule = {"left": "v__value", "op": "rising", "n": 3}
    outcome = check_recursion(defined(indicators=[{"id": "v", "name": "obv"}], entry={"long": rule}), market)
    assert outcome.ok
    assert [one.memory for one in outcome.deviations] == ["all"]


@pytest.mark.parametrize("file", SOUND, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_reference_definitions_pass(file: Path) -> None:
    strategy = DynamicStrategy(parse_definition(file.read_bytes()))
    candles = market_of(1_000, strategy.timeframe_s)
    for check in (check_lookahead, check_recursion):
        outcome = check(strategy, candles)
        assert (outcome.ok, outcome.notes) == (True, []), outcome.findings
