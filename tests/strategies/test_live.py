"""What a running strategy computes for a bar is what the whole array has there: every indicator, and every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.strategies import bars as held_bars
from tbh.strategies.carried import STEPS
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.history import DAYS, depends_on_start, rows_needed
from tbh.strategies.indicators import CATALOGUE, SERIES, SOURCE, Indicator
from tbh.strategies.live import EXACT, Live
from tbh.strategies.series import Computation

Array = npt.NDArray[np.float64]
START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 9_000
BARS = 25
"""How many bars a strategy is followed after its start."""
BACK = 3

FOREVER = [name for name, entry in CATALOGUE.items() if entry.memory.kind == "all"]
BOUNDED = [name for name in CATALOGUE if name not in FOREVER]


def candles_of(closes: Iterable[float], volumes: Iterable[float], *, minutes: int = 15) -> list[Candle]:
    """Bars around closes, with two decimals; from bar to bar they share no price."""
    made = []
    for row, (close, volume) in enumerate(zip(closes, volumes, strict=True)):
        price = Decimal(f"{close:.2f}")
        reach = Decimal(f"{0.5 + row * 0.37 % 1:.2f}")
        made.append(
            Candle(
                open_time=START + timedelta(minutes=minutes * row),
                open=price - reach / 4,
                high=price + reach,
                low=price - reach / 2,
                close=price,
                volume=Decimal(f"{volume:.1f}"),
            )
        )
    return made


def arrays_of(candles: Sequence[Candle]) -> dict[str, Array]:
    made = {name: np.array([float(getattr(candle, name)) for candle in candles]) for name in SERIES}
    return {**made, "time": np.array([candle.open_time.timestamp() * 1_000 for candle in candles])}


@pytest.fixture(scope="module")
def market() -> tuple[list[Candle], dict[str, Array]]:
    """A random walk."""
    rng = np.random.default_rng(5)
    candles = candles_of(1_000 + np.cumsum(rng.normal(size=ROWS)), rng.uniform(1, 9, size=ROWS))
    return candles, arrays_of(candles)


def computation_of(name: str, chosen: Mapping[str, int | Decimal] | None = None) -> Computation:
    entry = CATALOGUE[name]
    return Computation(
        indicator_id="x",
        entry=entry,
        params=entry.resolve(chosen or {}),
        inputs=tuple("close" if each == SOURCE else each for each in entry.inputs),
        columns=tuple(f"x__{output}" for output in entry.outputs),
    )


def drawn(entry: Indicator) -> dict[str, int | Decimal]:
    """Whole parameters a little above their lower bounds; the defaults where a rule refuses those."""
    chosen: dict[str, int | Decimal] = {}
    for place, parameter in enumerate(each for each in entry.parameters if each.whole):
        chosen[parameter.name] = min(int(parameter.minimum) + 3 + 4 * place, int(parameter.maximum))
    refused = entry.rule is not None and entry.rule(entry.resolve(chosen)) is not None
    return {} if refused else chosen


def live_of(computation: Computation) -> Live:
    plan = dict.fromkeys(computation.columns, computation)
    return Live(plan, [(column, BACK) for column in computation.columns], 900)


def agree(live: Live, computation: Computation, whole: Sequence[Array], row: int) -> None:
    for column, values in zip(computation.columns, whole, strict=True):
        known = np.abs(values[~np.isnan(values)])
        usual = float(known.mean()) if len(known) else 0.0
        for back in (0, BACK):
            want, got = float(values[row - back]), live.at(column, back)
            # What crosses zero is judged by its usual size.
            limit = 1e-9 * max(abs(want), usual)
            assert np.isnan(want) == np.isnan(got), (column, row, want, got)
            assert np.isnan(want) or abs(got - want) <= limit, (column, row, want, got)


def follow(computation: Computation, candles: list[Candle], arrays: Mapping[str, Array], start: int, rows: int) -> None:
    """A strategy that starts with ``rows`` bars from ``start`` on, against all bars from the first on."""
    end = start + rows + BARS
    whole = computation.compute(tuple(arrays[name][:end].copy() for name in computation.inputs))
    live = live_of(computation)
    live.load(candles[start : start + rows])
    agree(live, computation, whole, start + rows - 1)
    for row in range(start + rows, end):
        live.append(candles[row])
        agree(live, computation, whole, row)


@pytest.mark.parametrize("name", BOUNDED)
def test_from_its_declared_history_on_a_live_value_is_that_of_the_whole_array(
    name: str, market: tuple[list[Candle], dict[str, Array]]
) -> None:
    for chosen in ({}, drawn(CATALOGUE[name])):
        computation = computation_of(name, chosen)
        rows = rows_needed(computation, BACK, 900)
        assert rows + 700 + BARS <= ROWS
        follow(computation, *market, 700, rows)


@pytest.mark.parametrize("name", FOREVER)
def test_what_remembers_everything_is_carried_from_the_first_bar_on(
    name: str, market: tuple[list[Candle], dict[str, Array]]
) -> None:
    candles, arrays = market
    chosen = {"percent": Decimal(1)} if name == "zigzag" else {}
    for computation in (computation_of(name, chosen), computation_of(name, {**drawn(CATALOGUE[name]), **chosen})):
        whole = computation.compute(tuple(arrays[each][:400].copy() for each in computation.inputs))
        live = live_of(computation)
        for row in range(400):
            live.append(candles[row])
            if row >= BACK:
                agree(live, computation, whole, row)


@pytest.mark.parametrize("name", DAYS)
def test_what_knows_days_agrees_from_a_start_of_so_many_whole_days(
    name: str, market: tuple[list[Candle], dict[str, Array]]
) -> None:
    for span in (0, 1):
        computation = computation_of(name, {"span": span} if "span" in computation_of(name).params else {})
        assert not depends_on_start(computation)
        follow(computation, *market, 700, rows_needed(computation, BACK, 900))


def test_every_indicator_that_remembers_everything_can_be_carried() -> None:
    assert set(STEPS) == set(FOREVER)


@pytest.mark.parametrize("name", [name for name in BOUNDED if CATALOGUE[name].group == "pattern" or name in EXACT])
def test_what_counts_as_exact_over_few_rows_is_exact(name: str, market: tuple[list[Candle], dict[str, Array]]) -> None:
    computation = computation_of(name)
    rows = rows_needed(computation, 0, 900)
    whole = computation.compute(tuple(market[1][each] for each in computation.inputs))
    for row in range(500, 800):
        few = computation.compute(tuple(market[1][each][row + 1 - rows : row + 1] for each in computation.inputs))
        assert [values[-1] for values in few] == [values[row] for values in whole]


@cache
def sleepy(rests: str) -> tuple[list[Candle], dict[str, Array]]:
    """A market in which nobody trades on the bars that do not move: they stand at the close before."""
    moves = RESTS[rests]
    rng = np.random.default_rng(6)
    rows = len(moves)
    candles = candles_of(1_000 + np.cumsum(rng.normal(size=rows)), rng.uniform(1, 9, size=rows))
    for row in range(1, rows):
        if not moves[row]:
            at, close = candles[row].open_time, candles[row - 1].close
            candles[row] = Candle(open_time=at, open=close, high=close, low=close, close=close, volume=Decimal(0))
    return candles, arrays_of(candles)


RESTS = {
    "long": [not 300 <= row < 1_200 for row in range(1_230)],
    "often": (np.random.default_rng(4).random(900) < 0.15).tolist(),
}


@pytest.mark.parametrize("rests", RESTS)
@pytest.mark.parametrize("name", [name for name in BOUNDED if CATALOGUE[name].memory.kind == "decay"])
def test_while_a_market_stands_still_nothing_is_forgotten(name: str, rests: str) -> None:
    candles, arrays = sleepy(rests)
    computation = computation_of(name)
    whole = computation.compute(tuple(arrays[each] for each in computation.inputs))
    live = live_of(computation)
    for row, candle in enumerate(candles):
        live.append(candle)
        if row >= BACK and (row % 50 == 0 or row >= len(candles) - 30):
            agree(live, computation, whole, row)


def rules_on_each_bar(made: DynamicStrategy, candles: Sequence[Candle]) -> list[bool]:
    """Whether each bar enters; what each would leave is compared as well."""
    entered, left = [], []
    held = Position(
        symbol="BTC/USDT",
        strategy="s",
        position_id="p",
        qty=Decimal(1),
        entry_price=Decimal(100),
        opened_at=START,
        bar_open=START,
        layers=1,
    )
    for candle in candles:
        made.append(candle)
        entered.append(bool(made.on_bar(None)))
        left.append(bool(made.on_bar(held)))
    whole = made.evaluate_all(arrays_of(candles))
    assert entered == whole["entry_long"].tolist()
    assert left == whole["exit_long"].tolist()
    return entered


def above(left: str, right: Any) -> dict[str, Any]:
    return {"left": left, "op": ">", "right": right}


TIES = [
    ("sma", {"period": 5}, "value", "close"),
    ("wma", {}, "value", "close"),
    ("bbands", {"period": 5}, "upper", "close"),
    ("trima", {"period": 3}, "value", "close"),
    ("hma", {}, "value", "close"),
    ("zlema", {"period": 3}, "value", "close"),
    ("vwma", {"period": 5}, "value", "close"),
    ("linearreg", {"period": 5}, "value", "close"),
    ("linearreg_slope", {}, "value", 0),
    ("coppock", {}, "value", 0),
    ("dpo", {"period": 5}, "value", 0),
    ("kst", {}, "kst", 0),
    ("stochrsi", {"period": 3}, "d", 0),
    ("rsi", {"period": 2}, "value", 50),
    ("macd", {"fast": 2, "slow": 3, "signal": 2}, "macd", 0),
]


@pytest.fixture(scope="module")
def resting() -> list[Candle]:
    """Few prices and long rests, so that averages come to stand at the price itself."""
    rng = np.random.default_rng(9)
    close = np.repeat(rng.choice([100.1, 100.2, 100.7], size=40), rng.integers(1, 60, size=40))
    return candles_of(close, np.ones(len(close)))


@pytest.mark.parametrize(("name", "params", "output", "right"), TIES)
def test_a_comparison_that_hangs_on_float_noise_comes_out_as_over_whole_arrays(
    name: str, params: dict[str, int], output: str, right: Any, resting: list[Candle], strategy: Callable[..., Any]
) -> None:
    column = f"a__{output}"
    equal = {"left": column, "op": "==", "right": right}
    made = strategy(
        timeframe="15m",
        indicators=[{"id": "a", "name": name, "params": params}],
        entry={"long": {"any": [above(column, right), {"all": [equal, {"left": column, "op": "rising"}]}]}},
        exit={"long": {"not": {"all": [{"not": equal}, {"left": column, "op": "crosses_above", "right": right}]}}},
    )
    rules_on_each_bar(made, resting)


def test_a_bar_costs_no_more_rows_than_its_history_and_what_rules_look_back(
    strategy: Callable[..., DynamicStrategy], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    compute = Indicator.compute

    def counted(entry: Indicator, inputs: tuple[Array, ...], params: Any) -> tuple[Array, ...]:
        taken.append(len(inputs[0]))
        return compute(entry, inputs, params)

    monkeypatch.setattr(Indicator, "compute", counted)
    made = strategy(
        timeframe="15m",
        indicators=[{"id": "m", "name": "sma", "params": {"period": 30}}, {"id": "o", "name": "obv"}],
        entry={
            "long": {
                "all": [
                    {"left": "m__value", "op": "rising", "n": 4},
                    above("o__value", {"column": "o__value", "shift": 2}),
                ]
            }
        },
    )
    assert made.history_needed == 201 + 2
    candles = candles_of(1_000 + np.cumsum(np.random.default_rng(1).normal(size=900)), np.ones(900))
    made.load(candles[:600])
    for candle in candles[600:]:
        made.append(candle)
        made.on_bar(None)
    assert set(taken) == {30 + 4}
    assert len(taken) == 300


def test_dropping_old_bars_changes_no_rule(
    strategy: Callable[..., DynamicStrategy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bars, "MAX_HISTORY", 160)
    rng = np.random.default_rng(2)
    candles = candles_of(1_000 + np.cumsum(rng.normal(size=2_000)), rng.uniform(1, 9, size=2_000))
    fired = rules_on_each_bar(
        strategy(
            timeframe="15m",
            indicators=[
                {"id": "e", "name": "ema", "params": {"period": 3}},
                {"id": "s", "name": "sar"},
                {"id": "o", "name": "obv"},
                {"id": "h", "name": "ema", "params": {"period": 2}, "timeframe": "30m"},
            ],
            entry={
                "long": {
                    "any": [
                        {"left": "e__value", "op": "crosses_above", "right": "s__value"},
                        {"all": [above("o__value", {"column": "o__value", "shift": 5}), above("e__value", "h__value")]},
                    ]
                }
            },
        ),
        candles,
    )
    assert 300 < sum(fired) < 1_700
