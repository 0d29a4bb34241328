"""What people are shown is what the store holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tbh.actors.adjustments import ADJUSTMENTS
from tbh.domain.adjustment import to_text
from tbh.domain.ids import client_order_id
from tbh.domain.papermarket import paper_market
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import Adjustment
from tbh.messages.orders import Fill, Purpose, Side
from tbh.plan import DEMO_BOT
from tbh.ports import Batch
from tbh.report import Board, Tally, order_counts

START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(number: int, side: Side, price: str, purpose: Purpose) -> Fill:
    bar = START + timedelta(minutes=number)
    order_id = client_order_id(DEMO_BOT, bar_open=bar, strategy="s", purpose=purpose, layer=0, attempt=0)
    return Fill(
        trade_id=f"t{number}",
        client_order_id=order_id,
        exchange_order_id=f"e{number}",
        symbol="A/B",
        side=side,
        qty=Decimal(2),
        price=Decimal(price),
        fee=Decimal("0.5"),
        fee_asset="B",
        maker=False,
        at=bar,
        seq=number,
    )


def test_the_tally_reads_each_fill_once() -> None:
    store = MemoryStore()
    tally = Tally(store, cash=Decimal(100), market=paper_market("A/B", Decimal(0)), bot_id=DEMO_BOT)
    store.commit(Batch(fills=[fill(1, Side.BUY, "10", Purpose.ENTRY)]))
    tally.update()
    tally.update()
    assert (tally.fills, tally.account.qty, tally.trades) == (1, Decimal(2), [])
    store.commit(Batch(fills=[fill(2, Side.SELL, "11", Purpose.EXIT)]))
    tally.update()
    (trade,) = tally.trades
    assert (trade.pnl, trade.exit_reason, tally.account.cash) == (Decimal(1), "exit", Decimal(101))


def test_an_order_that_never_left_is_not_submitted() -> None:
    counts = order_counts({"drafted": 1, "recorded": 2, "filled": 3, "canceled": 4})
    assert counts["submitted"] == 7
    assert (counts["filled"], counts["canceled"], counts["unknown"]) == (3, 4, 0)


@pytest.mark.parametrize(
    ("reason", "gate"), [("", ()), ("paused", ("paused",)), ("paused,killed", ("paused", "killed"))]
)
def test_the_board_remembers_the_gate_and_passes_everything_on(reason: str, gate: tuple[str, ...]) -> None:
    seen: list[str] = []

    class Sink:
        def emit(self, event_type: str, attributes: object) -> None:
            seen.append(event_type)

        def flush(self) -> None:
            seen.append("flush")

    board = Board(Sink())
    board.emit("BotGate", {"gate_reason": reason})
    board.flush()
    assert board.gate == gate
    assert seen == ["BotGate", "flush"]


def test_a_symbol_says_its_coins() -> None:
    assert (paper_market("BTC/USDT:USDT", Decimal(0)).base, paper_market("BTC/USDT:USDT", Decimal(0)).quote) == (
        "BTC",
        "USDT",
    )


def test_the_tally_counts_what_an_operator_has_corrected() -> None:
    store = MemoryStore()
    tally = Tally(store, cash=Decimal(100), market=paper_market("A/B", Decimal(0)), bot_id=DEMO_BOT)
    store.commit(Batch(fills=[fill(1, Side.BUY, "10", Purpose.ENTRY)]))
    gone = Adjustment(
        adjustment_id="adopt:1", symbol="A/B", qty=Decimal(-2), price=Decimal(12), seq=1, at=START, reason="withdrawn"
    )
    elsewhere = replace(gone, adjustment_id="adopt:2", symbol="C/B")
    store.commit(Batch(meta={ADJUSTMENTS: to_text([gone, elsewhere])}))
    for _ in range(2):
        tally.update()
        assert (tally.account.qty, tally.fills) == (Decimal(0), 1)
        assert [trade.exit_reason for trade in tally.trades] == ["adopted"]
