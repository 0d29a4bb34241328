"""The accountant: the account at each close, each round trip once, and both the same after any restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.accountant import AccountantActor
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.domain import ids
from tbh.domain.money import divide, plain
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import AccountResynced, Marked, ResyncAccount, TradeClosed
from tbh.messages.base import Message
from tbh.messages.market import Bar, Candle, Market
from tbh.messages.orders import Fill, Purpose, Side
from tbh.messages.system import DeadLettered
from tbh.ports import Batch, Unavailable
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to

D = Decimal
MINUTE = timedelta(minutes=1)
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL, base="BTC", quote="USDT", price_step=D("0.01"), amount_step=D("0.001"), taker_fee=D(0),
    maker_fee=D(0),
)  # fmt: skip


def bar(index: int, close: int, *, at: timedelta | None = None) -> Bar:
    price = D(close)
    opened = EPOCH + (index * MINUTE if at is None else at)
    candle = Candle(open_time=opened, open=price, high=price, low=price, close=price, volume=D(1))
    return Bar(symbol=SYMBOL, timeframe_s=60, index=index, candle=candle)


def fill(seq: int, side: Side, price: int, *, at: int, qty: str = "1", fee: str = "0", purpose: str = "entry") -> Fill:
    """Fill number ``seq`` during the bar that opened at minute ``at``."""
    client_order_id = ids.client_order_id(
        "bot", bar_open=EPOCH, strategy="s", purpose=Purpose(purpose), layer=0, attempt=seq
    )
    return Fill(
        trade_id=f"t{seq}", client_order_id=client_order_id, exchange_order_id=f"x{seq}", symbol=SYMBOL, side=side,
        qty=D(qty), price=D(price), fee=D(fee), fee_asset="USDT", maker=False, at=EPOCH + at * MINUTE, seq=seq,
    )  # fmt: skip


BUY = fill(1, Side.BUY, 100, at=1)
SELL = fill(2, Side.SELL, 110, at=3, fee="2", purpose="exit")
RESYNCED = AccountResynced(requester="accountant", seq=2)
BARS = (bar(0, 100), bar(1, 90), bar(2, 130), bar(3, 110))


@dataclass
class History:
    """A feed of which only the history is asked."""

    bars: list[Bar] = field(default_factory=list)
    silences: int = 0
    symbol: str = SYMBOL
    timeframe_s: int = 60

    def history(self) -> Sequence[Candle]:
        if self.silences:
            self.silences -= 1
            raise Unavailable("refused")
        return tuple(bar.candle for bar in self.bars)

    def poll(self) -> None:
        raise AssertionError("the feed alone polls")


def probe_of(*stored: Fill, feed: History | None = None, meta: str | None = None, ready: bool = True) -> Probe:
    store = MemoryStore()
    store.commit(Batch(fills=list(stored), meta={} if meta is None else {ACCOUNT_SEQ: meta}))
    return probe_over(store, feed=feed, ready=ready)


def probe_over(store: MemoryStore, *, feed: History | None = None, ready: bool = True) -> Probe:
    def accountant(ctx: Any) -> AccountantActor:
        return AccountantActor(ctx, market=MARKET, cash=D(1000), bot_id="bot", store=store, feed=feed)

    probe = Probe(AccountantActor, accountant, name="accountant")
    if ready:
        probe.tell(to(probe, RESYNCED))
    return probe


def trades(probe: Probe) -> list[tuple[str, str]]:
    """Side and PnL of the round trips told so far."""
    return [(fact.trade.side, plain(fact.trade.pnl)) for fact in probe.sent if isinstance(fact, TradeClosed)]


def marks(probe: Probe) -> list[Marked]:
    return [fact for fact in probe.sent if isinstance(fact, Marked)]


def test_a_bar_is_marked_at_its_close() -> None:
    probe = probe_of()
    probe.tell(BUY, bar(1, 90))
    (marked,) = marks(probe)
    assert marked == Marked(
        symbol=SYMBOL, bar_index=1, at=EPOCH + 2 * MINUTE, mark=D(90), cash=D(900), equity=D(990),
        realised_pnl=D(0), unrealised_pnl=D(-10), fees=D(0), drawdown=D("0.01"), day_pnl=D(-10),
    )  # fmt: skip


def test_equity_is_cash_plus_realised_plus_unrealised_less_fees() -> None:
    probe = probe_of()
    probe.tell(*BARS[:1], BUY, *BARS[1:3], SELL, BARS[3])
    for marked in marks(probe):
        assert marked.equity == 1000 + marked.realised_pnl + marked.unrealised_pnl - marked.fees
    assert marks(probe)[-1].equity == 1008


def test_a_bar_told_again_is_marked_with_the_same_figures() -> None:
    probe = probe_of()
    probe.tell(BUY, bar(1, 90), bar(2, 95), bar(2, 95))
    first, second, third = marks(probe)
    assert (first.bar_index, second, third.bar_index) == (1, third, 2)


def test_an_older_bar_is_not_marked() -> None:
    probe = probe_of()
    probe.tell(bar(2, 95), bar(1, 90))
    assert [marked.bar_index for marked in marks(probe)] == [2]


def test_the_days_loss_begins_with_the_day_in_which_a_bar_opened() -> None:
    probe = probe_of()
    midnight = timedelta(days=1)
    probe.tell(
        BUY, bar(1, 90), bar(2, 80, at=midnight - MINUTE), bar(3, 70, at=midnight), bar(4, 75, at=midnight + MINUTE)
    )
    assert [int(marked.day_pnl) for marked in marks(probe)] == [-10, -20, -10, -5]


def test_a_round_trip_is_told_with_its_profit_and_the_reason_of_its_exit() -> None:
    probe = probe_of()
    probe.tell(BUY, SELL)
    (closed,) = probe.take(TradeClosed)
    assert (closed.side, closed.trade.pnl, closed.trade.exit_reason) == (Side.SELL, D(8), "exit")


def test_an_exit_of_an_order_that_is_not_ours_is_manual() -> None:
    probe = probe_of()
    probe.tell(BUY, replace(SELL, client_order_id="someone"))
    assert [closed.trade.exit_reason for closed in probe.take(TradeClosed)] == ["manual"]


def test_a_fill_told_twice_counts_once() -> None:
    probe = probe_of()
    probe.tell(BUY, BUY, SELL, SELL, BUY)
    assert trades(probe) == [("long", "8")]
    probe.tell(bar(3, 110))
    assert marks(probe)[-1].cash == 1008


def test_it_asks_for_what_the_store_may_not_have_until_it_has_it() -> None:
    probe = probe_of(BUY, meta="1", ready=False)
    assert probe.take() == [ResyncAccount(requester="accountant", after=1)]
    probe.advance(1)
    assert probe.take() == [ResyncAccount(requester="accountant", after=1)]
    probe.tell(AccountResynced(requester="risk", seq=2))
    assert probe.asking == ["resync"]
    probe.tell(to(probe, RESYNCED))
    assert probe.asking == []


def test_bars_wait_until_the_account_is_complete() -> None:
    probe = probe_of(ready=False)
    probe.tell(bar(1, 90))
    assert marks(probe) == []
    probe.tell(BUY, to(probe, RESYNCED))
    assert [marked.equity for marked in marks(probe)] == [990]


def test_a_stored_round_trip_is_not_told_again() -> None:
    assert trades(probe_of(BUY, SELL)) == []


def test_a_round_trip_that_the_store_missed_is_told_after_the_resync() -> None:
    probe = probe_of(BUY, ready=False)
    probe.tell(SELL, to(probe, RESYNCED))
    assert trades(probe) == [("long", "8")]


def test_a_fill_at_which_it_failed_is_told_though_it_is_on_disk_by_now() -> None:
    store = MemoryStore()
    probe = probe_over(store)
    probe.tell(BUY)
    probe.fail_next()
    probe.tell(SELL)
    store.commit(Batch(fills=[BUY, SELL]))
    probe.advance(1)
    (letter,) = probe.dead_letters
    probe.tell(letter, to(probe, RESYNCED))
    assert trades(probe) == [("long", "8")]


def test_a_fill_that_waited_in_the_mailbox_of_a_restart_is_told_though_it_is_on_disk_by_now() -> None:
    store = MemoryStore()
    probe = probe_over(store)
    probe.tell(BUY)
    probe.fail_next()
    probe.tell(bar(1, 90), SELL)
    store.commit(Batch(fills=[BUY, SELL]))
    probe.advance(1)
    probe.tell(to(probe, RESYNCED))
    assert trades(probe) == [("long", "8")]


def test_a_round_trip_that_was_told_is_not_told_again_after_a_restart() -> None:
    store = MemoryStore()
    probe = probe_over(store)
    probe.tell(BUY, SELL)
    store.commit(Batch(fills=[BUY, SELL]))
    probe.restart()
    probe.tell(to(probe, RESYNCED))
    assert trades(probe) == [("long", "8")]


def test_a_dead_letter_of_somebody_else_is_none_of_its_business() -> None:
    probe = probe_of(BUY, SELL, ready=False)
    for actor, kind in (("risk", "Fill"), ("accountant", "Bar")):
        probe.tell(DeadLettered(actor=actor, seq=1, message_type=kind, payload=repr(SELL), reason="x"))
    probe.tell(to(probe, RESYNCED))
    assert trades(probe) == []


def test_a_restart_rebuilds_peak_and_day_from_fills_and_candles() -> None:
    through = probe_of()
    through.tell(*BARS[:1], BUY, *BARS[1:3], SELL, BARS[3])
    again = probe_of(BUY, SELL, feed=History(list(BARS)))
    again.tell(BARS[3])
    assert marks(again) == marks(through)[-1:]
    assert marks(again)[0].drawdown == divide(D(22), D(1030))


def test_a_fill_of_the_resync_is_rebuilt_in_its_place() -> None:
    through = probe_of()
    through.tell(*BARS[:1], BUY, *BARS[1:3], SELL, BARS[3])
    again = probe_of(BUY, feed=History(list(BARS)), ready=False)
    again.tell(SELL, BARS[3], to(again, RESYNCED))
    assert marks(again) == marks(through)[-1:]


def test_a_history_that_is_not_there_leaves_the_account_right_and_the_marks_new() -> None:
    probe = probe_of(BUY, feed=History(list(BARS), silences=1))
    probe.tell(BARS[3])
    assert [(marked.equity, marked.drawdown) for marked in marks(probe)] == [(D(1010), D(0))]
    assert probe.restarts == 0


@pytest.mark.parametrize(
    "message",
    [BARS[3], SELL, RESYNCED, DeadLettered(actor="risk", seq=1, message_type="Fill", payload="", reason="x")],
    ids=lambda message: type(message).__name__,
)
def test_a_failure_at_any_message_leaves_the_same_account(message: Message) -> None:
    store = MemoryStore()
    history = History(list(BARS[:3]))
    probe = probe_over(store, feed=history)
    probe.tell(BARS[0], BUY, BARS[1], BARS[2])
    store.commit(Batch(fills=[BUY]))
    probe.fail_next()
    probe.tell(message)
    probe.advance(1)
    if probe.dead_letters:
        probe.tell(*probe.dead_letters)
    probe.tell(SELL, to(probe, RESYNCED))
    history.bars.append(BARS[3])
    probe.tell(BARS[3])
    assert probe.restarts == 1
    assert trades(probe) == [("long", "8")]
    assert (marks(probe)[-1].equity, marks(probe)[-1].drawdown) == (D(1008), divide(D(22), D(1030)))
