"""A strategy in Python trades in the fast engine as it does in a demo, and as the definition that says the same."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import _drawn
from tbh.backtest.columns import Columns, columns_of
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import plain_runner
from tbh.backtest.options import Options
from tbh.backtest.trades import fingerprint
from tbh.infra.candles import SERIES, CandleFile
from tbh.infra.simmarket import simulated_market
from tbh.messages.base import replace
from tbh.messages.strategy import Cooldown, CooldownAfter, Limit
from tbh.plan import PaperPlan
from tbh.session import PaperSession
from tbh.strategies.custom import BarView, Protection, Side, Sizing, SizingKind, StrategyError, Trailing, Wish
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.runner import Custom, CustomRunner, custom_of

CROSS: dict[str, Any] = {
    "indicators": [
        {"id": "fast", "name": "ema", "params": {"period": 5}},
        {"id": "slow", "name": "ema", "params": {"period": 12}},
    ],
    "stops": {"stop_loss": "0.004", "take_profit": "0.006", "trailing": {"distance": "0.003"}},
    "sizing": {"kind": "equity_fraction", "value": "0.5"},
}
DEFINITION: dict[str, Any] = CROSS | {
    "name": "cross",
    "timeframe": "1m",
    "entry": {
        "long": {"left": "fast__value", "op": "crosses_above", "right": "slow__value"},
        "short": {"left": "fast__value", "op": "crosses_below", "right": "slow__value"},
    },
    "exit": {
        "long": {"left": "fast__value", "op": "crosses_below", "right": "slow__value"},
        "short": {"left": "fast__value", "op": "crosses_above", "right": "slow__value"},
    },
}


class Cross:
    """The definition above, in Python."""

    history = 2
    indicators = CROSS["indicators"]
    stops: Any = CROSS["stops"]
    sizing = CROSS["sizing"]

    def on_bar(self, view: BarView) -> Sequence[Wish]:
        (fast_before, fast), (slow_before, slow) = view.columns["fast__value"], view.columns["slow__value"]
        up, down = fast_before <= slow_before and fast > slow, fast_before >= slow_before and fast < slow
        if view.position is None:
            return [view.enter(Side.BUY)] if up else [view.enter(Side.SELL)] if down else []
        against = down if view.position.side is Side.BUY else up
        return [view.enter(view.position.side.opposite), view.leave()] if against else []


class CrossAtOnce(Cross):
    """The same, which also offers all decisions at once."""

    def evaluate_all(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        fast, slow = columns["fast__value"], columns["slow__value"]
        up, down = np.zeros(len(fast), dtype=bool), np.zeros(len(fast), dtype=bool)
        up[1:] = (fast[:-1] <= slow[:-1]) & (fast[1:] > slow[1:])
        down[1:] = (fast[:-1] >= slow[:-1]) & (fast[1:] < slow[1:])
        return {"entry_long": up, "entry_short": down, "exit_long": down, "exit_short": up}


@dataclass
class Many:
    """Does everything that can be wished, by the digits of the prices: sizes and stops of its own with each entry."""

    seed: int = 0
    history: int = 3

    def on_bar(self, view: BarView) -> Sequence[Wish]:
        closes = view.columns["close"]
        drawn = round(float(closes.sum()) * 100) * 2_654_435_761 + self.seed * 97
        drawn = (drawn ^ (drawn >> 13)) & 0xFFFF
        held = view.position
        side = Side.BUY if drawn & 1 else Side.SELL
        entry = view.enter(side, sizing=self.size(drawn >> 1, view), protection=self.guard(drawn >> 4, view))
        if held is None:
            return (entry,) if drawn % 3 else ()
        late = (view.open_time - held.since).total_seconds() > 1_200
        if late or drawn % 13 == 0:
            return (entry, view.leave()) if side is not held.side else (view.leave(),)
        price = float(held.entry_price)
        if drawn % 5 == 0 and held.layers < 4 and abs(closes[-1] / price - 1) > 0.0002:
            return (view.add(sizing=Sizing(kind=SizingKind.FIXED_NOTIONAL, value=Decimal("321.5"))),)
        return ()

    def size(self, drawn: int, view: BarView) -> Sizing:
        kinds = [
            (SizingKind.FIXED_QUANTITY, "0.0123"),
            (SizingKind.FIXED_NOTIONAL, "777.77"),
            (SizingKind.EQUITY_FRACTION, "0.3"),
            (SizingKind.RISK_FRACTION, "0.0007"),
        ]
        kind, value = kinds[drawn % 4]
        return Sizing(kind=kind, value=Decimal(value))

    def guard(self, drawn: int, view: BarView) -> Protection:
        whole = Decimal(5 + drawn % 31)
        return Protection(
            stop_loss=whole / 10_000,
            take_profit=None if drawn % 7 == 0 else whole / Decimal("8000"),
            trailing=Trailing(distance=whole / 20_000, activate_at=Decimal("0.0004")) if drawn % 3 == 0 else None,
            basis_price=view.candle.close if drawn % 2 else None,
        )


def custom(make: Callable[[], Any]) -> Custom:
    return custom_of(reference="x", name="cross", timeframe="1m", params={}, make=make)


def market_of(candles: CandleFile) -> Columns:
    values = np.stack([candles.arrays[name] for name in SERIES])
    return columns_of(candles.name, candles.timeframe_s, candles.timestamps, values)


@pytest.fixture(scope="module")
def candles() -> CandleFile:
    return simulated_market(3, 300)


@pytest.fixture(scope="module")
def market(candles: CandleFile) -> Columns:
    return market_of(candles)


def run(make: Callable[[], Any], *markets: Columns, **options: Any) -> Run:
    settings: dict[str, Any] = {"cash": Decimal(10_000), "fee": Decimal("0.00075")} | options
    return backtest(CustomRunner(custom(make)), markets, Options(**settings), plain_runner())


def printed(made: Run) -> str:
    return fingerprint(made.trades.rows())


def demo(make: Callable[[], Any], candles: CandleFile, volume_share: Decimal | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tbh-parity-") as folder:
        plan = PaperPlan(
            candles=candles,
            simulated=False,
            definition=custom(make),
            symbol="BASE/QUOTE",
            cash=Decimal(10_000),
            fee=Decimal("0.00075"),
            bars_per_s=None,
            root=Path(folder) / "state",
            host="threads",
            volume_share=volume_share,
        )
        session = PaperSession.open(plan)
        try:
            session.start()
            assert session.wait(60)
        finally:
            session.close()
        return session.result()


@pytest.mark.parametrize("make", [Cross, CrossAtOnce])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"volume_share": Decimal("0.002")},
        {"latency_bars": 2, "latency_ms": 12_000},
        {"funding_rate": Decimal("0.0001"), "funding_hours": 1},
    ],
    ids=["plain", "little volume", "late", "funding"],
)
def test_a_strategy_in_python_trades_as_the_definition_that_says_the_same(
    market: Columns, make: Callable[[], Any], options: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"cash": Decimal(10_000), "fee": Decimal("0.00075")} | options
    defined = backtest(DynamicStrategy(parse_definition(DEFINITION)), [market], Options(**settings), plain_runner())
    made = run(make, market, **options)
    assert len(made.trades) > 10
    assert printed(made) == printed(defined)
    assert (made.final_equity, made.refused) == (defined.final_equity, defined.refused)


def test_several_markets_share_the_account_as_they_do_with_a_definition() -> None:
    markets = [market_of(simulated_market(seed, 300)) for seed in (3, 4)]
    settings: dict[str, Any] = {"cash": Decimal(10_000), "fee": Decimal("0.00075"), "positions_max": 1}
    defined = backtest(DynamicStrategy(parse_definition(DEFINITION)), markets, Options(**settings), plain_runner())
    for make in (Cross, CrossAtOnce):
        assert printed(run(make, *markets, positions_max=1)) == printed(defined)


@pytest.mark.parametrize("make", [Cross, CrossAtOnce])
def test_a_strategy_in_python_trades_in_a_demo_as_in_the_fast_engine(
    candles: CandleFile, market: Columns, make: Callable[[], Any]
) -> None:
    made = run(make, market)
    assert _drawn.differences(made, demo(make, candles)) == []


@pytest.mark.parametrize(("seed", "share"), [(0, None), (2, "0.003")])
def test_sizes_and_stops_of_each_entry_are_the_demos(
    candles: CandleFile, market: Columns, seed: int, share: str | None
) -> None:
    volume_share = None if share is None else Decimal(share)
    made = run(lambda: Many(seed), market, volume_share=volume_share)
    assert len(made.trades) > 10
    assert {cause for cause, count in made.trades.causes().items() if count} == {"exit", "stop", "trailing", "target"}
    assert made.trades.layers.max() > 1
    assert _drawn.differences(made, demo(lambda: Many(seed), candles, volume_share)) == []


class Peeking:
    """Tries what a strategy may not do with what it is shown."""

    history = 4
    sizing: Any = {"kind": "fixed_quantity", "value": "0.01"}  # noqa: RUF012 - as people write it

    def __init__(self, act: Callable[[BarView], Any]) -> None:
        self.act = act

    def on_bar(self, view: BarView) -> Any:
        return self.act(view)


def spoilt(view: BarView) -> None:
    view.columns["close"][-1] = 1.0


def test_nothing_that_a_strategy_is_shown_can_be_written_to(market: Columns) -> None:
    with pytest.raises(StrategyError, match="ValueError: assignment destination is read-only"):
        run(lambda: Peeking(spoilt), market)


def test_a_strategy_is_shown_as_many_closed_bars_as_it_asks_for(market: Columns) -> None:
    seen: list[tuple[Any, ...]] = []

    def look(view: BarView) -> tuple[()]:
        columns = {name: values.tolist() for name, values in view.columns.items()}
        seen.append((view.open_time, view.candle, columns))
        return ()

    run(lambda: Peeking(look), market.first(9))
    assert len(seen) == 6
    for row, (opened, candle, columns) in enumerate(seen, start=3):
        assert int(opened.timestamp() * 1000) == candle.open_time.timestamp() * 1000 == market.stamps[row]
        assert columns == {name: values[row - 3 : row + 1].tolist() for name, values in market.arrays.items()}
        assert float(candle.close) == columns["close"][-1]


WRONG: dict[str, tuple[Callable[[BarView], Any], str]] = {
    "nothing": (lambda view: None, "on_bar returned NoneType; it must return a list of wishes, () for none"),
    "words": (lambda view: ["buy"], "on_bar returned a str in its list; use view.enter, view.add, view.leave"),
    "a failure": (lambda view: 1 / 0, "ZeroDivisionError: division by zero (test_custom.py, line "),
    "an exit of the process": (lambda view: sys.exit(3), "SystemExit: 3"),
    "an exit of nothing": (lambda view: [view.leave()], "there is no position to leave"),
    "an addition to nothing": (lambda view: [view.add()], "there is no position to add to"),
    "two entries": (lambda view: [view.enter(Side.BUY), view.enter(Side.SELL)], "more than one exit or more than one"),
    "a float for a stop": (
        lambda view: [view.enter(Side.BUY, protection=Protection(stop_loss=0.1))],  # type: ignore[arg-type]
        "stop_loss is a Decimal above 0 and below 1, not 0.1",
    ),
    "a stop of 150 %": (
        lambda view: [view.enter(Side.BUY, protection=Protection(stop_loss=Decimal("1.5")))],
        "stop_loss is a Decimal above 0 and below 1, not Decimal('1.5')",
    ),
    "twice the equity": (
        lambda view: [view.enter(Side.BUY, sizing=Sizing(kind=SizingKind.EQUITY_FRACTION, value=Decimal(2)))],
        "equity_fraction is a share of equity, at most 1, not 2",
    ),
    "risk without a stop": (
        lambda view: [view.enter(Side.BUY, sizing=Sizing(kind=SizingKind.RISK_FRACTION, value=Decimal("0.1")))],
        "risk_fraction needs a stop_loss",
    ),
    "an entry on an entry": (
        lambda view: [view.enter(Side.BUY)],
        "an entry while a position is held; leave it on the same bar and enter the other side",
    ),
    "a limit": (
        lambda view: [replace(view.enter(Side.BUY), limit=Limit(offset=Decimal("0.001"), until=view.open_time))],
        "a strategy in Python enters at the next open, and has neither a limit nor a cool-down",
    ),
    "a cool-down": (
        lambda view: [
            replace(view.enter(Side.BUY), cooldown=Cooldown(after=CooldownAfter.ANY, bars=3, since=view.open_time))
        ],
        "a strategy in Python enters at the next open, and has neither a limit nor a cool-down",
    ),
    "a column that there is none of": (
        lambda view: view.columns["fast__value"],
        "KeyError: \"unknown column 'fast__value'; known: ",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_goes_wrong_on_a_bar_names_strategy_bar_and_what_it_was(market: Columns, wrong: str) -> None:
    act, told = WRONG[wrong]
    with pytest.raises(StrategyError) as caught:
        run(lambda: Peeking(act), market)
    assert str(caught.value).startswith("strategy 'cross' on the bar of 2026-01-01T00:0")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


class Otherwise(CrossAtOnce):
    def evaluate_all(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(super().evaluate_all(columns)) | {"exit_short": np.zeros(len(columns["close"]), dtype=bool)}


class WithAStop(CrossAtOnce):
    def on_bar(self, view: BarView) -> Sequence[Wish]:
        return [
            view.enter(wish.side, protection=Protection(stop_loss=Decimal("0.5")))
            for wish in super().on_bar(view)
            if wish.purpose == "entry"
        ]


class OfAnotherLength(CrossAtOnce):
    def evaluate_all(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"entry_long": np.zeros(3, dtype=bool)}


class OfAnotherName(CrossAtOnce):
    def evaluate_all(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"enter": np.zeros(3, dtype=bool)}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Otherwise, "while short, evaluate_all wishes nothing, and on_bar entry (buy) and exit (buy)"),
        (WithAStop, "on_bar names stops, which evaluate_all can't"),
        (OfAnotherLength, "entry_long must be an array of 300 booleans, one for each bar"),
        (OfAnotherName, "'enter' is none of entry_long, entry_short, exit_long, exit_short"),
    ],
)
def test_all_decisions_at_once_that_are_not_those_of_each_bar_are_refused(
    market: Columns, make: Callable[[], Any], told: str
) -> None:
    with pytest.raises(StrategyError) as caught:
        run(make, market)
    assert told in str(caught.value)
