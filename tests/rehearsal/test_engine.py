"""The actor engine: its trades are the fast engine's, with and without the bars that it passes over."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import _drawn, _market, reference
from bench.reference import DATA
from tbh.backtest.columns import Columns, columns_of, load_columns
from tbh.backtest.engine import backtest
from tbh.backtest.native import plain_runner
from tbh.backtest.options import Options, Slippage, SlippageKind
from tbh.backtest.trades import fingerprint
from tbh.rehearsal.engine import ActorFailed, Rehearsal, unserved
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

BARS = 200
DRAWN = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
CASH, FEE = Decimal(_market.CASH), Decimal(str(_market.FEE))
RUNS = {"bt-sma-btc5m": 1_000, "bt-sma-btc5m-fee-short": 1_000, "bt-rsi-ltc1m": 1_760, "bt-donchian-ethd": 1_000}
"""How many bars of each reference run: ten trades or more."""


@pytest.mark.parametrize("by_volume", [False, True], ids=["all volume", "a share of the volume"])
def test_a_drawn_definition_trades_as_bar_by_bar_and_as_the_fast_engine(shared_data: Path, by_volume: bool) -> None:
    assert shared_data == DATA
    trades = []

    @DRAWN
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        case = data.draw(_drawn.cases(DATA, bars=BARS, by_volume=by_volume))
        candles = _drawn.candles_of(case, DATA, BARS)
        fast = _drawn.fast(case, candles, plain_runner())
        sparse = _drawn.actors(case, candles)
        assert _drawn.unlike(sparse, fast) == []
        assert _drawn.unlike(_drawn.actors(case, candles, every_bar=True), sparse) == []
        assert sparse.refused == fast.refused
        assert sparse.statistics == fast.statistics
        trades.append(len(fast.trades))

    compare()
    assert sum(trades) > 0, "nothing was traded: the cases prove nothing"


@pytest.mark.parametrize("run_id", RUNS)
def test_the_first_trades_of_a_reference_run_come_out_exactly(run_id: str, shared_data: Path) -> None:
    assert shared_data == DATA
    recorded = next(one for one in reference.references() if one["id"] == run_id)
    definition = parse_definition((reference.DEFINITIONS / f"{run_id}.json").read_bytes())
    market = load_columns(DATA / recorded["data"]["file"], timeframe_s=definition.timeframe_s, cache=None)
    account = recorded["account"]
    options = Options(cash=Decimal(account["start_cash"]), fee=Decimal(str(account["commission_ratio_per_side"])))
    made = Rehearsal(DynamicStrategy(definition), market.first(RUNS[run_id]), options).run()
    assert len(made.trades) >= 10
    assert reference.differences(recorded, {"bars": made.bars, "trades": list(made.trades.rows())}) == []


def rehearsal(bars: int, *, stops: bool, every_bar: bool = False) -> tuple[Rehearsal, Columns]:
    stamps, values = _market.bars_of(1, bars)
    market = columns_of("bench", 60, stamps, values)
    strategy = DynamicStrategy(parse_definition(_market.definition(stops=stops)))
    return Rehearsal(strategy, market, Options(cash=CASH, fee=FEE), every_bar=every_bar), market


@pytest.mark.parametrize("stops", [False, True])
def test_the_bars_of_the_benchmark_are_passed_over_without_a_trace(stops: bool) -> None:
    bars = 3_000
    sparse, market = rehearsal(bars, stops=stops)
    made = sparse.run()
    strategy = DynamicStrategy(parse_definition(_market.definition(stops=stops)))
    fast = backtest(strategy, [market], Options(cash=CASH, fee=FEE), plain_runner())
    assert fingerprint(made.trades.rows()) == fingerprint(fast.trades.rows())
    assert made.statistics == fast.statistics
    assert (made.equity == fast.equity).all()
    assert len(made.trades) > 30
    assert sparse.feed.told < bars / (8 if stops else 20)


def test_a_strategy_that_can_not_be_foreseen_is_told_every_bar() -> None:
    foreseen, market = rehearsal(600, stops=True)
    definition = parse_definition(_market.definition(stops=True))
    live = Rehearsal(
        DynamicStrategy(definition),
        market,
        Options(cash=CASH, fee=FEE),
        new_strategy=lambda: DynamicStrategy(definition),
    )
    assert _drawn.unlike(live.run(), foreseen.run()) == []
    assert live.feed.told == 600


def test_what_is_reported_is_what_the_accountant_has_told() -> None:
    sparse, _ = rehearsal(2_000, stops=True)
    made = list(sparse.run().trades.rows())
    told = [closed.trade for closed in sparse.trades]
    assert len(made) == len(told) > 20
    for row, trade in zip(made, told, strict=True):
        assert (row["side"], Decimal(row["qty"]), Decimal(row["pnl"]), Decimal(row["fees"])) == (
            trade.side,
            trade.qty,
            trade.pnl,
            trade.fees,
        )
        assert (Decimal(row["entry_price"]), Decimal(row["exit_price"])) == (trade.entry_price, trade.exit_price)
        assert row["exit_reason"] == trade.exit_reason


def test_all_actors_of_the_bot_take_part() -> None:
    sparse, _ = rehearsal(1_000, stops=False)
    sparse.run()
    handled = {cell.name: cell.handled for cell in sparse.host.cells}
    assert len(handled) == 14
    assert min(handled.values()) > 0
    assert sparse.store.counts().recorded > 0
    assert sparse.store.counts().pending == 0


def test_the_same_run_twice_is_the_same_run() -> None:
    first, second = (rehearsal(1_000, stops=True)[0] for _ in range(2))
    assert first.run().trades.raw.tobytes() == second.run().trades.raw.tobytes()
    assert first.host.messages == second.host.messages


def test_a_run_in_which_an_actor_fails_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    sparse, _ = rehearsal(500, stops=False)
    monkeypatch.setattr("tbh.backtest.foreseen.ForeseenStrategy.on_bar", broken)
    with pytest.raises(ActorFailed, match=r"strategy.*broken"):
        sparse.run()


@pytest.mark.parametrize(
    ("options", "markets", "name"),
    [
        (Options(), 2, "several markets"),
        (Options(slippage=Slippage(kind=SlippageKind.FIXED, rate=Decimal(1))), 1, "--slippage"),
        (Options(latency_bars=1), 1, "--latency-bars"),
        (Options(latency_ms=1), 1, "--latency-ms"),
        (Options(funding_rate=Decimal("0.0001")), 1, "--funding"),
        (Options(volume_share=Decimal("0.1"), positions_max=1), 1, None),
    ],
)
def test_what_the_actors_can_not_serve_is_named(options: Options, markets: int, name: str | None) -> None:
    assert unserved(options, markets) == name
