"""The journaler: on disk first, answered after, and nothing lost while the disk says no."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors import commits
from tbh.actors.journaler import ACCOUNT_SEQ, JournalerActor
from tbh.domain import order as life
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountResynced,
    Position,
    PositionChanged,
    PositionSynced,
    ResyncAccount,
    SyncStatus,
    Trade,
    TradeClosed,
)
from tbh.messages.base import Message
from tbh.messages.journal import Journaled, MarkRelayed, Relayed, StoreFailed, StoreRecovered
from tbh.messages.orders import (
    Declined,
    Fill,
    Flattened,
    Order,
    OrderChanged,
    OrderDrafted,
    OrderStatus,
    OrderType,
    Purpose,
    Recorded,
    Side,
)
from tbh.messages.strategy import Decision, DecisionRecorded, Proposal, RecordDecision, Refused
from tbh.messages.system import DeadLettered, Restarted, Stop
from tbh.ports import Batch, Fatal
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to

ORDER = Order(
    client_order_id="c1", intent_id="entry|0|d1", symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET,
    qty=Decimal("0.5"), purpose=Purpose.ENTRY, strategy="s", bar_open=EPOCH, created_at=EPOCH,
)  # fmt: skip
DRAFT = OrderDrafted(order=ORDER)
CHANGED = OrderChanged(
    state=replace(life.draft(ORDER, EPOCH), status=OrderStatus.ACCEPTED, version=3, exchange_order_id="x1"),
    event="accepted",
)
DECISION = RecordDecision(
    decision=Decision(decision_id="d1", strategy="s", symbol="BTC/USDT", bar_open=EPOCH, bar_index=1, decided_at=EPOCH)
)
ENTERING = RecordDecision(
    decision=replace(
        DECISION.decision,
        proposals=(
            Proposal(
                proposal_id="entry|0|d1", strategy="s", symbol="BTC/USDT", bar_open=EPOCH, bar_index=1, side=Side.BUY,
                purpose=Purpose.ENTRY, reference_price=Decimal(100), expires_at=EPOCH + timedelta(minutes=2),
            ),
        ),
    )
)  # fmt: skip
POSITION = Position(
    symbol="BTC/USDT", strategy="s", position_id="c1", qty=Decimal("0.5"), entry_price=Decimal(100),
    opened_at=EPOCH, bar_open=EPOCH,
)  # fmt: skip
OPENED = PositionChanged(symbol="BTC/USDT", position=POSITION, seq=4)
CLOSED = PositionChanged(symbol="BTC/USDT", position=None, seq=5)
REFUSED = Refused(
    proposal_id="p1", strategy="s", symbol="BTC/USDT", bar_open=EPOCH, purpose=Purpose.ENTRY, rule="paused", detail="x"
)
TRADE_CLOSED = TradeClosed(
    trade=Trade(
        side="long", symbol="BTC/USDT", entry_time=EPOCH, exit_time=EPOCH, entry_price=Decimal(1),
        exit_price=Decimal(2), qty=Decimal(1), fees=Decimal(0), pnl=Decimal(1), exit_reason="signal",
    ),
    side=Side.BUY,
)  # fmt: skip
FLATTENED = Flattened(request_id="flatten:7")
LETTER = DeadLettered(actor="risk", seq=9, message_type="Fill", payload="Fill(...)", reason="ValueError: no")


def fill(seq: int = 4, *, trade_id: str = "") -> Fill:
    return Fill(
        trade_id=trade_id or f"t{seq}", client_order_id="c1", exchange_order_id="x1", symbol="BTC/USDT",
        side=Side.BUY, qty=Decimal("0.1"), price=Decimal(100), fee=Decimal("0.01"), fee_asset="USDT", maker=False,
        at=EPOCH, seq=seq,
    )  # fmt: skip


def synced(status: SyncStatus) -> PositionSynced:
    return PositionSynced(
        symbol="BTC/USDT", status=status, book_qty=Decimal(1), exchange_qty=None, at=EPOCH, reconcile_ms=1.0
    )


def resynced(seq: int = 0) -> AccountResynced:
    return AccountResynced(requester="journaler", seq=seq)


MESSAGES: list[Message] = [
    DECISION, DRAFT, CHANGED, fill(), OPENED, REFUSED, TRADE_CLOSED, FLATTENED, LETTER,
    MarkRelayed(up_to_seq=0), synced(SyncStatus.OK), resynced(), Restarted(actor="risk", incarnation=1, reason=""),
]  # fmt: skip


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(store_id="s1")


def start(store: MemoryStore) -> Probe:
    return Probe(JournalerActor, lambda ctx: JournalerActor(ctx, store=store, bot_id="bot"), name="journaler")


@pytest.fixture
def probe(store: MemoryStore) -> Probe:
    probe = start(store)
    probe.tell(to(probe, resynced()))
    probe.take()
    return probe


def outbox(store: MemoryStore) -> list[tuple[str, Any]]:
    return [(entry.fn, entry.args) for entry in store.outbox(0, limit=100, max_bytes=10**6)]


class TestAnswers:
    def test_a_draft_is_answered_once_it_is_on_disk(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(DRAFT)
        assert probe.take() == [Recorded(client_order_id="c1", intent_id="entry|0|d1"), Journaled(last_seq=1)]
        state = store.order("c1")
        assert state is not None
        assert state.status is OrderStatus.DRAFTED

    def test_a_draft_told_again_is_answered_again_and_changes_nothing(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(DRAFT, CHANGED, DRAFT)
        assert len(probe.take(Recorded)) == 2
        assert store.order("c1") == CHANGED.state

    def test_an_empty_decision_is_answered_and_traced(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(DECISION)
        assert probe.take() == [DecisionRecorded(decision_id="d1")]
        assert store.decision("s", EPOCH) == DECISION.decision
        ((fn, args),) = outbox(store)
        assert fn == "bot_runtime_record_cycle"
        assert args["p_payload"]["outcome"] == "nothing"

    def test_only_what_a_strategy_proposed_is_traced_as_approved(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(DRAFT, OrderDrafted(order=replace(DRAFT.order, client_order_id="c9", purpose=Purpose.STOP)))
        verdicts = [args["p_payload"]["verdict"] for fn, args in outbox(store) if fn.endswith("decision")]
        assert verdicts == ["approved"]

    def test_what_is_relayed_is_answered_with_what_remains(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(CHANGED, fill(), REFUSED)
        probe.take()
        probe.tell(MarkRelayed(up_to_seq=2, refused=((1, "payload_invalid"),)))
        assert probe.take() == [Relayed(up_to_seq=2, pending=1, refused=1)]

    def test_relayed_beyond_what_was_written_ends_the_bot(self, probe: Probe) -> None:
        probe.tell(MarkRelayed(up_to_seq=5))
        assert probe.escalation is not None
        assert probe.escalation[2] == 70


class TestDecisionsToTrade:
    @pytest.fixture
    def commits(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
        """What was committed, one batch a commit."""
        made: list[Batch] = []
        commit = store.commit

        def noted(batch: Batch) -> int:
            last_seq = commit(batch)
            made.append(batch)
            return last_seq

        monkeypatch.setattr(store, "commit", noted)
        return made

    def test_one_lands_with_its_order_in_one_flush(self, probe: Probe, commits: list[Batch]) -> None:
        probe.tell(ENTERING)
        assert (probe.take(), commits) == ([], [])
        probe.tell(DRAFT)
        (batch,) = commits
        assert (batch.decisions, [state.order for state in batch.drafts]) == ([ENTERING.decision], [ORDER])
        assert batch.flushed
        told = [Recorded(client_order_id="c1", intent_id="entry|0|d1"), DecisionRecorded(decision_id="d1")]
        assert probe.take() == [*told, Journaled(last_seq=2)]

    def test_its_entry_in_the_outbox_comes_before_its_orders(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(ENTERING, DRAFT)
        assert [fn for fn, _ in outbox(store)] == ["bot_runtime_record_cycle", "bot_runtime_record_decision"]

    @pytest.mark.parametrize(
        "outcome", [REFUSED, Declined(proposal_id="entry|0|d1", reason="dust")], ids=["no", "none"]
    )
    def test_one_that_leads_to_no_order_lands_with_the_word_of_that(
        self, probe: Probe, commits: list[Batch], outcome: Message
    ) -> None:
        probe.tell(ENTERING, outcome)
        assert [batch.decisions for batch in commits] == [[ENTERING.decision]]
        assert probe.take(DecisionRecorded) == [DecisionRecorded(decision_id="d1")]

    def test_a_word_that_no_decision_waits_for_is_not_worth_a_commit(self, probe: Probe, commits: list[Batch]) -> None:
        probe.tell(Declined(proposal_id="entry|0|d1", reason="dust"))
        assert commits == []

    def test_one_that_leads_to_nothing_lands_when_it_is_told_again(self, probe: Probe, commits: list[Batch]) -> None:
        probe.tell(ENTERING, ENTERING)
        assert [(batch.decisions, batch.flushed) for batch in commits] == [([ENTERING.decision], True)]
        assert probe.take(DecisionRecorded) == [DecisionRecorded(decision_id="d1")]

    def test_one_that_comes_too_late_for_any_order_lands_at_once(self, probe: Probe, commits: list[Batch]) -> None:
        probe.advance(121)
        probe.tell(ENTERING)
        assert [batch.decisions for batch in commits] == [[ENTERING.decision]]

    def test_one_outlasts_a_disk_that_fails_its_order(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("disk_full")
        probe.tell(ENTERING, DRAFT)
        assert store.decision("s", EPOCH) is None
        probe.advance(1)
        assert store.decision("s", EPOCH) == ENTERING.decision
        assert probe.take(DecisionRecorded) == [DecisionRecorded(decision_id="d1")]

    def test_one_lands_before_the_journal_stops(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(ENTERING)
        probe.tell(Stop())
        assert store.decision("s", EPOCH) == ENTERING.decision


class TestOutbox:
    def test_it_grows_with_each_fact_and_says_so(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(CHANGED, fill())
        assert probe.take() == [Journaled(last_seq=1), Journaled(last_seq=2)]
        assert [fn for fn, _ in outbox(store)] == ["bot_runtime_upsert_trade", "bot_runtime_record_fill"]

    @pytest.mark.parametrize("told", [CHANGED, fill(), OPENED, REFUSED, TRADE_CLOSED, FLATTENED], ids=repr)
    def test_a_fact_told_twice_is_one_entry(self, probe: Probe, store: MemoryStore, told: Message) -> None:
        probe.tell(told, told)
        assert len(outbox(store)) == 1
        assert len(probe.take(Journaled)) == 1

    def test_the_database_takes_every_entry(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(*MESSAGES, synced(SyncStatus.MISMATCH), CLOSED)
        rpc = MemoryRpc("bot", monotonic=lambda: 0.0)
        entries = store.outbox(0, limit=100, max_bytes=10**6)
        assert rpc.sync(store_id="s1", first_seq=1, entries=entries).refused == ()
        assert rpc.tables.trades["c1"]["order_status"] == "accepted"
        assert rpc.tables.trades["c1"]["event"] == "entry"
        assert rpc.tables.fills["t4"]["price"] == "100"
        assert rpc.tables.positions["BTC/USDT", "s"]["status"] == "closed"
        kinds = {row["kind"] for row in rpc.tables.events.values()}
        assert {row["verdict"] for row in rpc.tables.decisions.values()} == {"approved", "refused"}
        assert len(rpc.tables.cycles) == 1
        assert kinds == {"trade_closed", "flattened", "dead_letter", "position_sync"}

    def test_a_close_names_the_position_that_closed_even_after_a_restart(
        self, probe: Probe, store: MemoryStore
    ) -> None:
        probe.tell(OPENED)
        probe.restart()
        probe.tell(CLOSED)
        assert outbox(store)[-1][1]["p_payload"] == {
            "position_id": "c1", "symbol": "BTC/USDT", "strategy": "s", "status": "closed", "qty": "0", "seq": 5,
        }  # fmt: skip
        assert store.positions() == {}

    def test_a_reversal_closes_one_position_and_opens_another(self, probe: Probe, store: MemoryStore) -> None:
        short = replace(POSITION, position_id="c2", qty=Decimal("-0.5"))
        probe.tell(OPENED, PositionChanged(symbol="BTC/USDT", position=short, seq=6))
        payloads = [args["p_payload"] for _, args in outbox(store)]
        assert [(row["position_id"], row["status"]) for row in payloads] == [
            ("c1", "open"), ("c1", "closed"), ("c2", "open"),
        ]  # fmt: skip
        assert payloads[-1]["position_side"] == "short"

    def test_a_flat_position_that_was_never_open_tells_the_database_nothing(
        self, probe: Probe, store: MemoryStore
    ) -> None:
        probe.tell(CLOSED)
        assert outbox(store) == []

    def test_only_a_change_of_the_sync_status_is_an_event(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(*(synced(status) for status in [SyncStatus.OK] * 3 + [SyncStatus.MISMATCH] * 2 + [SyncStatus.OK]))
        levels = [args["p_level"] for _, args in outbox(store)]
        # The second "ok" has the time of the first and is the same event; live ones never do.
        assert levels == ["info", "critical"]

    def test_a_flatten_that_is_done_is_kept_as_an_action(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(FLATTENED)
        assert store.actions() == {"flatten:7": "done"}

    def test_a_dead_letter_is_kept_with_its_payload(self, probe: Probe, store: MemoryStore) -> None:
        probe.tell(LETTER)
        assert [(row.actor, row.payload) for row in store.dead_letters()] == [("risk", "Fill(...)")]


class TestAccountEvents:
    def test_it_asks_for_what_it_may_have_missed_until_answered(self, store: MemoryStore) -> None:
        probe = start(store)
        assert probe.take() == [ResyncAccount(requester="journaler", after=0)]
        probe.advance(2.5)
        assert len(probe.take(ResyncAccount)) == 2
        probe.tell(AccountResynced(requester="risk", seq=9))
        assert probe.asking == ["resync"]
        probe.tell(to(probe, resynced(3)))
        assert probe.asking == []

    def test_a_restart_asks_from_the_last_fill_on(self, probe: Probe) -> None:
        probe.tell(fill(4), fill(6))
        probe.restart()
        assert set(probe.take(ResyncAccount)) == {ResyncAccount(requester="journaler:1", after=6)}

    def test_an_answer_to_its_former_incarnation_proves_nothing_of_what_that_one_lost(self, store: MemoryStore) -> None:
        probe = start(store)
        probe.fail_next()
        probe.tell(fill(3), fill(7), resynced(7))  # what was on its way when it failed, and its answer
        probe.advance(1.0)
        assert probe.restarts == 1
        assert int(store.meta(ACCOUNT_SEQ) or 0) < 3
        probe.tell(fill(3), fill(7), to(probe, resynced(7)))
        assert store.meta(ACCOUNT_SEQ) == "7"

    def test_a_fill_behind_a_lost_one_does_not_hide_it(self, probe: Probe, store: MemoryStore) -> None:
        probe.fail_next()
        probe.tell(fill(4))
        probe.advance(1)
        probe.tell(fill(5))
        probe.restart()
        assert probe.take(ResyncAccount)[-1].after == 0
        probe.tell(fill(4), fill(5), to(probe, resynced(5)))
        assert [row.seq for row in store.fills()] == [4, 5]
        assert store.meta(ACCOUNT_SEQ) == "5"


class TestStoreFailure:
    def test_nothing_is_answered_and_nothing_is_lost(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("disk_full", times=3)
        probe.tell(DRAFT, CHANGED, fill())
        assert probe.take() == [StoreFailed(reason="disk_full", detail="disk_full: scripted")]
        probe.advance(10)
        assert [type(sent) for sent in probe.take()] == [StoreRecovered, Recorded, *[Journaled] * 3]
        assert store.order("c1") == CHANGED.state

    def test_what_comes_meanwhile_waits_its_turn(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("broken")
        probe.tell(CHANGED)
        probe.tell(fill())
        assert store.counts().recorded == 0
        probe.advance(1)
        assert [fn for fn, _ in outbox(store)] == ["bot_runtime_upsert_trade", "bot_runtime_record_fill"]

    def test_a_lock_is_a_broken_store(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("locked")
        probe.tell(CHANGED)
        assert probe.take(StoreFailed)[0].reason == "broken"

    def test_it_tries_ever_more_slowly(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("broken", times=7)
        probe.tell(DRAFT)
        for delay_s in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0):
            probe.advance(delay_s)
            assert probe.take(Recorded) == []
        probe.advance(5.0)
        recovered, *_ = probe.take(StoreRecovered)
        assert recovered.down_for_s == pytest.approx(16.2)

    def test_a_repeat_waits_once(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("broken")
        probe.tell(DRAFT, DRAFT, DRAFT)
        probe.advance(1)
        assert len(probe.take(Recorded)) == 1

    def test_what_waits_outlives_a_restart(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("broken", times=2)
        probe.tell(DRAFT, CHANGED)
        probe.restart()
        assert store.order("c1") == CHANGED.state
        assert len(probe.take(Recorded)) == 1

    def test_a_restart_takes_back_what_the_former_incarnation_said(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("broken")
        probe.tell(DRAFT)
        probe.restart()
        assert [type(sent) for sent in probe.take() if isinstance(sent, StoreFailed | StoreRecovered)] == [
            StoreFailed, StoreRecovered,
        ]  # fmt: skip

    def test_whoever_restarts_is_told_again(self, probe: Probe, store: MemoryStore) -> None:
        store.fail_next("disk_full")
        probe.tell(DRAFT)
        probe.take()
        probe.tell(Restarted(actor="risk", incarnation=1, reason="x"))
        assert [sent.reason for sent in probe.take(StoreFailed)] == ["disk_full"]

    def test_too_much_waiting_ends_the_bot(
        self, probe: Probe, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commits, "WAITING_MAX", 2)
        store.fail_next("broken", times=10)
        ends = []
        for seq in (1, 2, 3):
            probe.tell(fill(seq))
            ends.append(probe.escalation)
        assert ends[:2] == [None, None]
        assert "2 messages wait" in str(ends[2])


@pytest.mark.parametrize("told", MESSAGES, ids=lambda told: type(told).__name__)
def test_a_crash_on_any_message_is_followed_by_the_same_result(told: Message) -> None:
    store = MemoryStore()
    probe = start(store)
    probe.fail_next()
    probe.tell(told)
    probe.advance(1, market=False)
    assert probe.restarts == 1
    probe.tell(*MESSAGES)
    whole = MemoryStore()
    start(whole).tell(*MESSAGES)
    assert [args for _, args in outbox(store)] == [args for _, args in outbox(whole)]
    assert store.orders() == whole.orders()


def test_a_position_row_that_can_not_be_read_does_not_stop_the_journal(store: MemoryStore) -> None:
    class Unreadable(MemoryStore):
        def positions(self) -> dict[str, Position]:
            raise Fatal("row_unreadable", exit_code=70)

    probe = start(Unreadable())
    probe.tell(DRAFT)
    assert len(probe.take(Recorded)) == 1
