"""An operator's word on its way: from the controls to the correction on the disk, to every book, and back, once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.accountant import AccountantActor
from tbh.actors.adjustments import ADJUSTMENTS, stored_adjustments
from tbh.actors.control_poller import ControlPollerActor
from tbh.actors.identity import BotIdentity
from tbh.actors.journaler import ACCOUNT_SEQ, RESTORED_POSITION, JournalerActor
from tbh.actors.position_syncer import CONFIRM_AFTER_S, PositionSyncerActor
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountResynced,
    AccountSnapshot,
    Adjusted,
    Adjustment,
    AdoptPosition,
    ExternalTrade,
    Finding,
    Marked,
    Origin,
    Position,
    PositionChanged,
    PositionSynced,
    QueryAccount,
    RecordAdjustment,
    Recovered,
    SyncStatus,
    TradeClosed,
)
from tbh.messages.controls import RequestDone, ResolveOrder
from tbh.messages.market import Bar, Candle, MarketMoved, Phase
from tbh.messages.orders import Fill, OrderStatus, Side
from tbh.ports import Batch, Fatal
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to
from tests.actors.conftest import MARKET, SYMBOL

D = Decimal
ADOPT = AdoptPosition(request_id="adopt:7", reason="withdrawn")
ADJUSTMENT = Adjustment(
    adjustment_id="adopt:7", symbol=SYMBOL, qty=D("-0.4"), price=D(90), seq=1, at=EPOCH, reason="withdrawn"
)
POSITION = Position(
    symbol=SYMBOL, strategy="s", position_id="p", qty=D(1), entry_price=D(100), opened_at=EPOCH, bar_open=EPOCH
)
IDENTITY = BotIdentity(
    bot_id="bot", bot_name="demo", user_id="u", strategy="s", mode="paper", exchange="paper", symbol=SYMBOL,
    boot_id="boot-1", run_id="run-1", version="1", provider="local", region="here", machine_id="m",
    polling_tier="standard", timeframe_s=60,
)  # fmt: skip
FILL = Fill(
    trade_id="t1", client_order_id="c", exchange_order_id="x", symbol=SYMBOL, side=Side.BUY, qty=D(1), price=D(100),
    fee=D(0), fee_asset="USDT", maker=False, at=EPOCH, seq=1,
)  # fmt: skip


def book(qty: str, *, adjustments: int = 0) -> PositionChanged:
    position = Position(
        symbol=SYMBOL, strategy="s", position_id="p", qty=D(qty), entry_price=D(100), opened_at=EPOCH, bar_open=EPOCH
    )
    return PositionChanged(symbol=SYMBOL, position=position, seq=1, adjustments=adjustments)


class Syncer:
    """A position syncer whose book says 1 and has taken the account's only event."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.store.commit(Batch(fills=[FILL], meta={ACCOUNT_SEQ: "1"}))
        self.probe = Probe(
            PositionSyncerActor,
            lambda ctx: PositionSyncerActor(ctx, market=MARKET, store=self.store, sync_s=60),
            name="position_syncer",
        )
        self.probe.tell(AccountResynced(requester="position_syncer", seq=1))
        self.probe.tell(book("1"))

    def answer(self, qty: str) -> None:
        request_id = [one for one in self.probe.sent if isinstance(one, QueryAccount)][-1].request_id
        self.probe.tell(
            AccountSnapshot(
                request_id=request_id, symbol=SYMBOL, qty=D(qty), entry_price=None, balances=(), seq_before=1,
                seq_after=1, at=EPOCH, latency_ms=1.0,
            )
        )  # fmt: skip

    def confirm(self, qty: str) -> None:
        self.answer(qty)
        self.answer(qty)  # what was asked for while the first was on its way: heard at once, it confirms nothing
        self.probe.advance(CONFIRM_AFTER_S)
        self.answer(qty)

    def said(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.probe.sent if isinstance(one, kind)]


# The position syncer


def test_an_adoption_waits_for_two_snapshots_and_corrects_by_what_is_missing() -> None:
    case = Syncer()
    case.probe.tell(MarketMoved(symbol=SYMBOL, bar_open=EPOCH, phase=Phase.CLOSE, price=D(90)))
    case.probe.tell(ADOPT)
    case.answer("0.6")
    case.answer("0.6")
    assert case.said(RecordAdjustment) == []
    case.probe.advance(CONFIRM_AFTER_S)
    case.answer("0.6")
    (command,) = case.said(RecordAdjustment)
    assert command.adjustment == ADJUSTMENT
    assert case.said(RequestDone) == []


def test_it_is_done_once_the_journal_has_it_and_no_second_one_follows_from_the_same_snapshots() -> None:
    case = Syncer()
    case.probe.tell(ADOPT)
    case.confirm("0.6")
    case.probe.tell(Adjusted(adjustment=ADJUSTMENT))
    assert [one.request_id for one in case.said(RequestDone)] == ["adopt:7"]
    case.probe.tell(AdoptPosition(request_id="adopt:9", reason="again"))
    case.confirm("0.6")  # the book has not taken the correction yet
    assert len(case.said(RecordAdjustment)) == 1
    case.probe.tell(book("0.6", adjustments=1))
    case.answer("0.6")
    assert case.said(PositionSynced)[-1].status is SyncStatus.OK
    assert case.said(RequestDone)[-1].outcome.startswith("nothing to adopt")


def test_where_both_agree_there_is_nothing_to_adopt() -> None:
    case = Syncer()
    case.probe.tell(ADOPT)
    case.answer("1")
    assert [one.outcome for one in case.said(RequestDone)] == ["nothing to adopt: book and exchange have 1"]
    assert case.said(RecordAdjustment) == []


def test_a_correction_that_is_on_the_disk_is_not_made_again_after_a_restart() -> None:
    store = MemoryStore()
    probe = Probe(JournalerActor, lambda ctx: JournalerActor(ctx, store=store, bot_id="bot"), name="journaler")
    probe.tell(RecordAdjustment(adjustment=ADJUSTMENT))
    case = Syncer(store)
    case.probe.tell(ADOPT)
    assert [one.outcome for one in case.said(RequestDone)] == ["the book was corrected"]
    case.confirm("0.6")
    assert case.said(RecordAdjustment) == []


# The journal


def _journal(store: MemoryStore) -> Probe:
    return Probe(JournalerActor, lambda ctx: JournalerActor(ctx, store=store, bot_id="bot"), name="journaler")


def _keys(store: MemoryStore) -> list[str]:
    return [entry.key for entry in store.outbox(0, limit=100, max_bytes=10**6)]


def test_a_correction_is_on_the_disk_before_anybody_counts_with_it_and_made_once() -> None:
    store = MemoryStore()
    probe = _journal(store)
    store.fail_next("disk_full")
    probe.tell(RecordAdjustment(adjustment=ADJUSTMENT))
    assert [one for one in probe.sent if isinstance(one, Adjusted)] == []
    probe.advance(1)
    assert probe.take(Adjusted) == [Adjusted(adjustment=ADJUSTMENT)]
    other = Adjustment(
        adjustment_id="adopt:7", symbol=SYMBOL, qty=D(5), price=D(1), seq=9, at=EPOCH, reason="computed anew"
    )
    probe.tell(RecordAdjustment(adjustment=other))
    assert probe.take(Adjusted) == [Adjusted(adjustment=ADJUSTMENT)]
    assert stored_adjustments(store) == (ADJUSTMENT,)
    assert _keys(store).count("adjustment:adopt:7") == 1


def test_adjustments_that_cannot_be_read_end_the_start() -> None:
    store = MemoryStore()
    store.commit(Batch(meta={ADJUSTMENTS: "no json"}))
    with pytest.raises(Fatal, match="row_unreadable"):
        stored_adjustments(store)


def test_what_was_found_and_done_is_in_the_outbox_once() -> None:
    store = MemoryStore()
    probe = _journal(store)
    found = Recovered(start="boot-1:0", findings=(Finding(kind="orphan", subject="o", detail="d"),), at=EPOCH)
    for _ in range(2):
        probe.tell(found)
        probe.tell(ExternalTrade(fill=FILL, origin=Origin.EXCHANGE))
        probe.tell(RequestDone(request_id="adopt:7", outcome="done"))
    assert _keys(store) == ["recovery:boot-1:0", "external:BTC/USDT:t1", "request:adopt:7"]
    assert store.actions() == {"adopt:7": "done"}


def test_a_position_row_after_a_correction_is_newer_than_the_one_before() -> None:
    store = MemoryStore()
    probe = _journal(store)
    probe.tell(book("1"))
    probe.tell(book("0.6", adjustments=1))
    probe.tell(PositionChanged(symbol=SYMBOL, position=None, seq=1, adjustments=2))
    assert _keys(store) == ["position:p:1", "position:p:2", "position:p:3:closed"]
    assert store.positions() == {}


def test_dust_closes_the_row_and_is_told() -> None:
    store = MemoryStore()
    probe = _journal(store)
    probe.tell(book("1"))
    left = PositionChanged(symbol=SYMBOL, position=book("0.001").position, seq=2, dust=True)
    probe.tell(left)
    assert _keys(store) == ["position:p:1", "position:p:2:closed", "dust:p:0:0.001"]


def test_dust_is_the_same_news_to_the_database_at_whatever_event_a_new_disk_finds_it() -> None:
    told = []
    for seq in (2, 3):
        store = MemoryStore()
        probe = _journal(store)
        probe.tell(book("1"))
        probe.tell(PositionChanged(symbol=SYMBOL, position=book("0.001").position, seq=seq, dust=True))
        told.append([(row.key, row.args) for row in store.outbox(0, limit=9, max_bytes=10**6) if "dust" in row.key])
    assert told[0] == told[1] != []


def _synced(qty: str, status: SyncStatus = SyncStatus.OK) -> PositionSynced:
    return PositionSynced(symbol=SYMBOL, status=status, book_qty=D(0), exchange_qty=D(qty), at=EPOCH, reconcile_ms=1.0)


def test_a_position_that_only_the_database_remembers_is_closed_when_the_exchange_has_none() -> None:
    """The account that held it is lost, or somebody closed it while no bot ran."""
    store = MemoryStore()
    store.commit(Batch(positions=[(SYMBOL, POSITION, 3)], meta={RESTORED_POSITION: "p"}))
    probe = _journal(store)
    probe.tell(PositionChanged(symbol=SYMBOL, position=None, seq=9))
    probe.tell(_synced("1", SyncStatus.MISMATCH))
    assert "position:p:9:closed" not in _keys(store)
    probe.tell(_synced("0"))
    assert "position:p:9:closed" in _keys(store)
    assert store.positions() == {}


def test_one_that_the_accounts_fills_make_again_goes_on() -> None:
    store = MemoryStore()
    store.commit(Batch(positions=[(SYMBOL, POSITION, 3)], meta={RESTORED_POSITION: "p"}))
    probe = _journal(store)
    probe.tell(PositionChanged(symbol=SYMBOL, position=POSITION, seq=9))
    probe.tell(PositionChanged(symbol=SYMBOL, position=None, seq=10))
    assert _keys(store) == ["position:p:9", "position:p:10:closed"]


# The control poller


def _poller(rpc: MemoryRpc) -> Probe:
    return Probe(
        ControlPollerActor,
        lambda ctx: ControlPollerActor(
            ctx, rpc=rpc, identity=IDENTITY, tier_s=10, lease_s=30, margin_s=5, previous_boot_ids=(),
            killed_locally=lambda: False, environment_killed=False,
        ),
        name="control_poller",
    )  # fmt: skip


def test_requests_are_passed_on_and_acknowledged_when_all_of_them_are_done() -> None:
    rpc = MemoryRpc("bot", monotonic=lambda: 0.0)
    adopt = rpc.ask("adopt", reason="withdrawn")
    resolve = rpc.ask("resolve", reason="seen", client_order_id="o1", outcome=OrderStatus.ABSENT)
    probe = _poller(rpc)
    sent = probe.take()
    assert [one.request_id for one in sent if isinstance(one, AdoptPosition)] == [adopt.request_id]
    (command,) = [one for one in sent if isinstance(one, ResolveOrder)]
    assert (command.client_order_id, command.outcome, command.reason) == ("o1", OrderStatus.ABSENT, "seen")
    probe.tell(RequestDone(request_id=resolve.request_id, outcome="o1 is absent"))
    probe.advance(30)
    assert rpc.tables.acknowledged == []
    probe.tell(RequestDone(request_id=adopt.request_id, outcome="corrected"))
    assert rpc.tables.acknowledged == [resolve.version]
    assert rpc.tables.controls.requests == ()


def test_a_request_is_repeated_until_it_is_done_and_not_after() -> None:
    rpc = MemoryRpc("bot", monotonic=lambda: 0.0)
    request = rpc.ask("adopt")
    probe = _poller(rpc)
    probe.advance(11)
    assert len([one for one in probe.take() if isinstance(one, AdoptPosition)]) == 3
    probe.tell(RequestDone(request_id=request.request_id, outcome="done"))
    probe.advance(30)
    assert [one for one in probe.take() if isinstance(one, AdoptPosition)] == []


# The accountant


def test_the_accountant_takes_a_correction_in_its_place_and_again_after_a_restart() -> None:
    store = MemoryStore()
    store.commit(Batch(fills=[FILL], meta={ACCOUNT_SEQ: "1"}))
    probe = Probe(
        AccountantActor,
        lambda ctx: AccountantActor(ctx, market=MARKET, cash=D(1000), bot_id="bot", store=store),
        name="accountant",
    )
    probe.tell(to(probe, AccountResynced(requester="accountant", seq=1)))
    whole = Adjustment(adjustment_id="adopt:7", symbol=SYMBOL, qty=D(-1), price=D(90), seq=1, at=EPOCH, reason="r")
    probe.tell(Adjusted(adjustment=whole))
    (closed,) = probe.take(TradeClosed)
    assert (closed.trade.exit_reason, closed.trade.pnl, closed.side) == ("adopted", D(-10), Side.SELL)
    journal = _journal(store)
    journal.tell(RecordAdjustment(adjustment=whole))
    probe.restart()
    probe.tell(to(probe, AccountResynced(requester="accountant", seq=1)))
    candle = Candle(open_time=EPOCH, open=D(90), high=D(90), low=D(90), close=D(90), volume=D(1))
    probe.tell(Bar(symbol=SYMBOL, timeframe_s=60, index=0, candle=candle))
    sent = probe.take()
    assert [one for one in sent if isinstance(one, TradeClosed)] == []
    (marked,) = [one for one in sent if isinstance(one, Marked)]
    assert (marked.cash, marked.equity, marked.realised_pnl) == (D(900), D(900), D(-10))
