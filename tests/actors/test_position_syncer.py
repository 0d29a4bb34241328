"""The position syncer: what it believes about book and exchange, and on what evidence."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.position_syncer import CONFIRM_AFTER_S, REPEAT_S, TRIES_MAX, PositionSyncerActor
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountQueryFailed,
    AccountResynced,
    AccountSnapshot,
    Position,
    PositionChanged,
    PositionSynced,
    QueryAccount,
    ResyncAccount,
    SyncStatus,
)
from tbh.messages.base import Message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Market
from tbh.messages.orders import Fill, OrderCanceled, OrderExpired, Side
from tbh.ports import Batch
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to

D = Decimal
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL, base="BTC", quote="USDT", price_step=D("0.01"), amount_step=D("0.001"), amount_min=D("0.01"),
    taker_fee=D(0), maker_fee=D(0),
)  # fmt: skip
SYNC_S = 60.0


def book(qty: str, seq: int) -> PositionChanged:
    position = Position(
        symbol=SYMBOL, strategy="s", position_id="p", qty=D(qty), entry_price=D(100), opened_at=EPOCH, bar_open=EPOCH
    )
    return PositionChanged(symbol=SYMBOL, position=position if D(qty) else None, seq=seq)


def fill(seq: int) -> Fill:
    return Fill(
        trade_id=f"t{seq}", client_order_id="c", exchange_order_id="x", symbol=SYMBOL, side=Side.BUY, qty=D(1),
        price=D(100), fee=D(0), fee_asset="USDT", maker=False, at=EPOCH, seq=seq,
    )  # fmt: skip


def canceled(seq: int) -> OrderCanceled:
    return OrderCanceled(client_order_id="c", filled_qty=D(0), reason="x", seq=seq)


def resynced(seq: int) -> AccountResynced:
    return AccountResynced(requester="position_syncer", seq=seq)


class Case:
    """One actor that has heard of ``seq`` account events; ``answer`` answers its newest question."""

    def __init__(self, *, seq: int = 0, stored: tuple[Fill, ...] = (), sync_s: float = SYNC_S) -> None:
        self.store = MemoryStore()
        self.store.commit(Batch(fills=list(stored), meta={ACCOUNT_SEQ: str(seq)}))
        self.probe = Probe(
            PositionSyncerActor,
            lambda ctx: PositionSyncerActor(ctx, market=MARKET, store=self.store, sync_s=sync_s),
            name="position_syncer",
        )
        self.probe.tell(to(self.probe, resynced(seq)))
        self.probe.take()

    def questions(self) -> list[QueryAccount]:
        return [one for one in self.probe.sent if isinstance(one, QueryAccount)]

    def snapshot(self, qty: str, seq: int, *, seq_before: int | None = None) -> AccountSnapshot:
        return AccountSnapshot(
            request_id=self.questions()[-1].request_id, symbol=SYMBOL, qty=D(qty), entry_price=None, balances=(),
            seq_before=seq if seq_before is None else seq_before, seq_after=seq, at=EPOCH, latency_ms=1.0,
        )  # fmt: skip

    def answer(self, qty: str, seq: int, *, seq_before: int | None = None) -> None:
        self.probe.tell(self.snapshot(qty, seq, seq_before=seq_before))

    def fail(self) -> None:
        self.probe.tell(AccountQueryFailed(request_id=self.questions()[-1].request_id, reason="timeout"))

    def told(self) -> list[SyncStatus]:
        return [one.status for one in self.probe.sent if isinstance(one, PositionSynced)]


# Telling again


def test_a_disagreement_is_told_again_to_whoever_begins_anew_until_a_comparison_says_otherwise() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    for _ in range(2):
        case.answer("3", 1)
        case.probe.advance(CONFIRM_AFTER_S)
    assert case.told() == [SyncStatus.MISMATCH]
    (believed,) = case.probe.take(PositionSynced)
    case.probe.tell(book("1", 1))  # the order manager's answer to a restart
    assert [one for one in case.probe.sent if isinstance(one, PositionSynced)] == [believed]
    case.answer("1", 1)
    assert case.told() == [SyncStatus.MISMATCH, SyncStatus.OK]
    case.probe.take(PositionSynced)
    case.probe.tell(book("1", 1))
    assert case.told() == []


def test_a_book_that_has_moved_is_compared_before_anything_is_told_of_it() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    for _ in range(2):
        case.answer("3", 1)
        case.probe.advance(CONFIRM_AFTER_S)
    case.probe.take(PositionSynced)
    case.probe.tell(book("2", 2))
    assert case.told() == []


# Asking


def test_nothing_is_asked_before_the_book_is_known() -> None:
    case = Case(sync_s=10)
    case.probe.advance(60)
    assert case.questions() == []


def test_the_book_is_compared_as_soon_as_it_is_known() -> None:
    case = Case(seq=4)
    case.probe.tell(book("1", 4))
    (question,) = case.questions()
    assert question.symbol == SYMBOL
    case.answer("1", 4)
    (synced,) = case.probe.take(PositionSynced)
    assert (synced.symbol, synced.status, synced.book_qty, synced.exchange_qty, synced.at) == (
        SYMBOL, SyncStatus.OK, D(1), D(1), EPOCH,
    )  # fmt: skip


def test_a_start_hears_first_of_the_events_that_the_store_does_not_have() -> None:
    store = MemoryStore()
    store.commit(Batch(meta={ACCOUNT_SEQ: "7"}))
    probe = Probe(
        PositionSyncerActor,
        lambda ctx: PositionSyncerActor(ctx, market=MARKET, store=store, sync_s=SYNC_S),
        name="position_syncer",
    )
    probe.advance(1)
    assert probe.take() == [ResyncAccount(requester="position_syncer", after=7)] * 2
    probe.tell(AccountResynced(requester="risk", seq=7))
    assert probe.asking == ["resync"]


def test_it_compares_at_the_usual_time_although_nothing_changed() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("1", 1)
    case.probe.take()
    case.probe.advance(SYNC_S - 1)
    assert case.questions() == []
    case.probe.advance(2)
    assert len(case.questions()) == 1


def test_one_question_is_open_at_a_time_and_a_change_meanwhile_asks_another() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1), fill(2), book("2", 2), fill(3), book("3", 3))
    assert len(case.questions()) == 1
    case.answer("1", 1)
    assert len(case.questions()) == 2
    case.answer("3", 3)
    assert case.told() == [SyncStatus.OK]
    assert case.probe.asking == []


def test_a_question_is_repeated_until_it_is_answered() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.probe.advance(REPEAT_S + 1)
    first, second = case.questions()
    assert first == second
    case.answer("1", 1)
    case.probe.tell(case.snapshot("1", 1))
    assert case.told() == [SyncStatus.OK]


def test_an_answer_to_another_question_is_none() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.probe.tell(replace(case.snapshot("1", 1), request_id="other"))
    case.probe.tell(AccountQueryFailed(request_id="other", reason="x"))
    assert (case.told(), case.probe.asking) == ([], ["account"])


# What counts


def test_a_snapshot_counts_although_an_order_was_cancelled_since_the_last_fill() -> None:
    case = Case(seq=0)
    case.probe.tell(fill(1), canceled(2), OrderExpired(client_order_id="c", filled_qty=D(0), reason="x", seq=3))
    case.probe.tell(book("1", 1))
    case.answer("1", 3)
    assert case.told() == [SyncStatus.OK]


def test_a_snapshot_during_which_something_happened_says_nothing() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("2", 2, seq_before=1)
    assert case.told() == []


def test_a_snapshot_before_the_book_has_taken_the_last_fill_says_nothing() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1), fill(2))
    case.answer("2", 2)
    assert case.told() == []
    case.probe.tell(book("2", 2))
    case.answer("2", 2)
    assert case.told() == [SyncStatus.OK]


def test_a_snapshot_of_events_that_were_never_told_says_nothing() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("5", 9)
    assert case.told() == []


def test_what_settles_nothing_is_asked_again_a_few_times_and_then_at_the_usual_time() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    for _ in range(TRIES_MAX):
        case.answer("1", 9)
        case.probe.advance(0.5)
    assert len(case.questions()) == TRIES_MAX
    assert case.probe.asking == []
    case.probe.advance(SYNC_S)
    assert len(case.questions()) == TRIES_MAX + 1


def test_that_nothing_is_known_is_said_once() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    for _ in range(3 * TRIES_MAX):
        if case.probe.asking:
            case.fail()
        case.probe.advance(SYNC_S / 2)
    (synced,) = case.probe.take(PositionSynced)
    assert (synced.status, synced.exchange_qty) == (SyncStatus.UNKNOWN, None)


def test_a_failed_query_says_nothing_about_the_position() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.fail()
    assert case.told() == []
    case.probe.advance(0.5)
    case.answer("1", 1)
    assert case.told() == [SyncStatus.OK]


# What is believed


def test_one_disagreement_is_not_believed() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("2", 1)
    assert case.told() == []
    case.probe.advance(CONFIRM_AFTER_S)
    case.answer("1", 1)
    assert case.told() == [SyncStatus.OK]


def test_a_reading_that_lags_behind_the_events_accuses_nobody() -> None:
    """The exchange tells a fill at once, and its own position some seconds later."""
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("0", 1)
    case.probe.advance(CONFIRM_AFTER_S / 2)
    case.probe.tell(book("1", 1))
    case.answer("0", 1)
    assert case.told() == []
    case.probe.advance(CONFIRM_AFTER_S)
    case.answer("1", 1)
    assert case.told() == [SyncStatus.OK]


def test_a_process_that_stood_still_between_two_readings_of_one_lag_accuses_nobody() -> None:
    """Asked for soon after the first, the second is heard long after it, and is no younger for that."""
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("0", 1)
    case.probe.tell(book("1", 1))
    case.probe.advance(2 * CONFIRM_AFTER_S)
    case.answer("0", 1)
    assert case.told() == []
    case.probe.advance(CONFIRM_AFTER_S)
    case.answer("0", 1)
    assert case.told() == [SyncStatus.MISSING]


@pytest.mark.parametrize(("exchange", "status"), [("2", SyncStatus.MISMATCH), ("0", SyncStatus.MISSING)])
def test_two_that_agree_are_believed_and_call_people(exchange: str, status: SyncStatus) -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer(exchange, 1)
    case.probe.advance(CONFIRM_AFTER_S)
    case.answer(exchange, 1)
    assert case.told() == [status]
    (notice,) = case.probe.take(Notice)
    assert (notice.severity, notice.kind) == (Severity.CRITICAL, "position_mismatch")
    assert f"the book says 1, the exchange {exchange}" in notice.text


def test_people_are_called_once_for_a_spell_and_again_for_the_next() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    for exchange in ("2", "2", "2", "1", "2", "2", "2"):  # the last but one was asked for too early
        case.answer(exchange, 1)
        case.probe.advance(SYNC_S)
    assert len([one for one in case.probe.sent if isinstance(one, Notice)]) == 2
    assert case.told() == [SyncStatus.MISMATCH, SyncStatus.MISMATCH, SyncStatus.OK, SyncStatus.MISMATCH]


def test_residues_that_nobody_could_trade_away_agree() -> None:
    case = Case(seq=1)
    case.probe.tell(book("0", 1))
    case.answer("0.009", 1)
    assert case.told() == [SyncStatus.OK]


# Restarts


MESSAGES: list[Message] = [
    book("2", 2), fill(2), canceled(2), OrderExpired(client_order_id="c", filled_qty=D(0), reason="x", seq=2),
    resynced(2), AccountQueryFailed(request_id="x", reason="x"),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_failure_at_any_message_is_followed_by_a_comparison(message: Message) -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.answer("1", 1)
    case.probe.take()
    case.probe.fail_next()
    case.probe.tell(message)
    case.probe.advance(1)
    # What the neighbours say to whoever has restarted: the gateway the events again, the order manager the position.
    case.probe.tell(fill(2), to(case.probe, resynced(2)), book("2", 2))
    case.answer("2", 2)
    assert case.probe.restarts == 1
    assert case.told() == [SyncStatus.OK]
    assert case.probe.asking == []


def test_a_failure_at_a_snapshot_is_followed_by_a_comparison() -> None:
    case = Case(seq=1)
    case.probe.tell(book("1", 1))
    case.probe.fail_next()
    case.answer("1", 1)
    case.probe.advance(1)
    case.probe.tell(to(case.probe, resynced(1)), book("1", 1))
    case.answer("1", 1)
    assert case.told() == [SyncStatus.OK]


def test_a_restart_knows_the_last_fill_from_the_store() -> None:
    case = Case(seq=2, stored=(fill(1), fill(2)))
    case.probe.tell(book("1", 1))
    case.answer("1", 2)
    assert case.told() == []
    case.probe.tell(book("2", 2))
    case.answer("2", 2)
    assert case.told() == [SyncStatus.OK]


def test_an_older_word_of_the_book_changes_nothing() -> None:
    case = Case(seq=0)
    case.probe.tell(fill(1), fill(2), book("2", 2), book("1", 1))
    case.answer("2", 2)
    assert case.told() == [SyncStatus.OK]
