"""The relay: in order, one batch in flight, nothing blocked by what the database refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tbh.actors.relay import LOOK_EVERY_S, RelayActor
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.memory_store import MemoryStore
from tbh.messages.health import Notice, RequestFailed, RequestSucceeded, Severity
from tbh.messages.journal import Journaled, MarkRelayed, Relayed
from tbh.ports import Batch, Defer, Fatal, OutboxEntry, Rejected, SyncResult, Unavailable, Unknown
from tbh.runtime.probe import Probe


class Bench:
    """A store, a database, and the journaler's side of the talk, which ``settle`` plays."""

    def __init__(self, rpc: MemoryRpc | None = None) -> None:
        self.store = MemoryStore(store_id="s1")
        self.rpc = rpc or MemoryRpc("bot", monotonic=lambda: 0.0)
        self.probe = Probe(RelayActor, lambda ctx: RelayActor(ctx, store=self.store, rpc=self.rpc, store_id="s1"))
        self.written = 0
        self.seen: list[Any] = []

    def write(self, count: int = 1, *, pad: int = 0, kind: str = "k") -> None:
        for _ in range(count):
            self.written += 1
            args = {"p_kind": kind, "p_level": "info", "p_payload": {"x": "x" * pad}, "p_key": f"key{self.written}"}
            self.store.commit(Batch(outbox=[("bot_runtime_write_event", args, f"key{self.written}")]))

    def journaled(self) -> None:
        self.probe.tell(Journaled(last_seq=self.written))

    def settle(self) -> None:
        while marks := [sent for sent in self._take() if isinstance(sent, MarkRelayed)]:
            for mark in marks:
                self.store.commit(Batch(relayed_up_to=mark.up_to_seq, refused=list(mark.refused)))
                counts = self.store.counts()
                told = Relayed(up_to_seq=mark.up_to_seq, pending=counts.pending, refused=counts.refused)
                self.probe.tell(told)

    def _take(self) -> list[Any]:
        sent = self.probe.take()
        self.seen += sent
        return sent

    def of(self, kind: type[Any]) -> list[Any]:
        self._take()
        return [sent for sent in self.seen if isinstance(sent, kind)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_is_journaled_reaches_the_database(bench: Bench) -> None:
    bench.write(3)
    bench.journaled()
    bench.settle()
    assert sorted(bench.rpc.tables.events) == ["key1", "key2", "key3"]
    assert bench.store.counts().pending == 0
    assert [sent.stage for sent in bench.of(RequestSucceeded)] == ["relay"]


def test_what_was_left_by_the_last_process_goes_without_being_told() -> None:
    bench = Bench()
    bench.write(2)
    bench.probe.advance(0)
    bench.settle()
    assert bench.store.counts().pending == 0


def test_no_batch_goes_before_the_last_one_is_marked(bench: Bench) -> None:
    bench.write()
    bench.journaled()
    bench.write()
    bench.journaled()
    assert bench.rpc.calls["sync"] == 1
    bench.settle()
    assert bench.rpc.calls["sync"] == 2


def test_a_batch_holds_at_most_200_entries(bench: Bench) -> None:
    bench.write(450)
    bench.journaled()
    bench.settle()
    assert bench.rpc.calls["sync"] == 3
    assert [sent.up_to_seq for sent in bench.of(MarkRelayed)] == [200, 400, 450]


def test_a_batch_holds_at_most_256_kb(bench: Bench) -> None:
    bench.write(5, pad=100_000)
    bench.journaled()
    bench.settle()
    assert [sent.up_to_seq for sent in bench.of(MarkRelayed)] == [2, 4, 5]


def test_a_service_key_that_is_refused_is_waited_out(bench: Bench) -> None:
    bench.rpc.fail_next(Fatal("service_key_refused", exit_code=78), times=2)
    bench.write(2)
    bench.journaled()
    assert bench.of(MarkRelayed) == []
    bench.probe.advance(5)
    bench.settle()
    assert bench.probe.escalation is None
    assert bench.store.counts().pending == 0


def test_a_lost_reply_is_followed_by_the_same_batch_and_nothing_is_doubled(bench: Bench) -> None:
    bench.rpc.lose_reply_next()
    bench.write(2)
    bench.journaled()
    assert bench.of(MarkRelayed) == []
    bench.probe.advance(1)
    bench.settle()
    assert len(bench.rpc.tables.events) == 2
    assert [(sent.stage, sent.kind) for sent in bench.of(RequestFailed)] == [("relay", "unknown")]


def test_it_tries_ever_more_slowly_and_keeps_trying(bench: Bench) -> None:
    bench.rpc.fail_next(Unavailable("refused"), times=12)
    bench.write()
    bench.journaled()
    bench.probe.advance(60)
    assert 5 <= bench.rpc.calls["sync"] <= 8
    bench.probe.advance(240)
    bench.settle()
    assert bench.store.counts().pending == 0


def test_what_is_journaled_during_the_back_off_waits_for_it(bench: Bench) -> None:
    bench.rpc.fail_next(Unavailable("refused"))
    bench.write()
    bench.journaled()
    bench.journaled()
    bench.probe.advance(0.3)
    assert bench.rpc.calls["sync"] == 1


def test_it_waits_as_long_as_the_database_asks_for(bench: Bench) -> None:
    bench.rpc.fail_next(Defer("rate_limit", after_s=40))
    bench.write()
    bench.journaled()
    bench.probe.advance(39)
    assert bench.rpc.calls["sync"] == 1
    bench.probe.advance(2)
    assert bench.rpc.calls["sync"] == 2


def test_a_lost_word_of_the_journal_is_healed_by_looking(bench: Bench) -> None:
    bench.probe.advance(1)
    bench.write()
    bench.probe.advance(5)
    bench.settle()
    assert bench.store.counts().pending == 0


def test_a_mark_that_is_not_answered_is_told_again(bench: Bench) -> None:
    bench.write()
    bench.journaled()
    bench.probe.take()
    bench.probe.advance(LOOK_EVERY_S)
    assert bench.probe.take(MarkRelayed) == [MarkRelayed(up_to_seq=1)]


def test_what_is_refused_for_good_is_set_aside_and_people_are_told(bench: Bench) -> None:
    bench.store.commit(Batch(outbox=[("no_such_function", {}, "bad")]))
    bench.written = 1
    bench.write(2)
    bench.journaled()
    bench.settle()
    assert [(entry.seq, reason) for entry, reason in bench.store.refused()] == [
        (1, "function_unknown: no_such_function")
    ]
    assert len(bench.rpc.tables.events) == 2
    notice, *_ = bench.of(Notice)
    assert notice.severity is Severity.WARNING
    assert "no_such_function" in notice.text


class Strict(MemoryRpc):
    """Refuses a whole batch for one entry in it, as a gateway with a smaller limit would."""

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        if any(entry.args["p_kind"] == "poison" for entry in entries):
            raise Rejected("payload_invalid", detail="too deep")
        return super().sync(store_id=store_id, first_seq=first_seq, entries=entries)


def test_a_batch_refused_as_a_whole_is_halved_until_the_culprit_stands_alone() -> None:
    bench = Bench(Strict("bot", monotonic=lambda: 0.0))
    bench.write(5)
    bench.write(kind="poison")
    bench.write(5)
    bench.journaled()
    for _ in range(20):
        bench.settle()
        bench.probe.advance(31)
    assert [entry.seq for entry, _ in bench.store.refused()] == [6]
    assert len(bench.rpc.tables.events) == 10


def test_a_refusal_that_is_not_about_the_content_sets_nothing_aside(bench: Bench) -> None:
    bench.rpc.fail_next(Rejected("runtime_token_invalid"), times=3)
    bench.write()
    bench.journaled()
    bench.probe.advance(30)
    bench.settle()
    assert bench.store.refused() == []
    assert len(bench.rpc.tables.events) == 1


class Answers(MemoryRpc):
    """Answers as it was told to."""

    answer = SyncResult(last_seq=0)

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        self.calls["sync"] += 1
        return self.answer


def test_a_database_that_makes_no_progress_is_a_failure() -> None:
    rpc = Answers("bot", monotonic=lambda: 0.0)
    bench = Bench(rpc)
    bench.write(2)
    bench.journaled()
    assert bench.of(MarkRelayed) == []
    assert [sent.reason for sent in bench.of(RequestFailed)] == ["no_progress: the database stays at 0"]


def test_a_database_that_knows_more_than_the_store_wrote_ends_the_bot() -> None:
    rpc = Answers("bot", monotonic=lambda: 0.0)
    rpc.answer = SyncResult(last_seq=99)
    bench = Bench(rpc)
    bench.write(2)
    bench.journaled()
    assert bench.probe.escalation is not None
    assert bench.probe.escalation[2] == 70


def test_refusals_of_entries_that_were_not_sent_are_not_marked() -> None:
    rpc = Answers("bot", monotonic=lambda: 0.0)
    rpc.answer = SyncResult(last_seq=1, refused=((1, "a"), (2, "b"), (77, "c")))
    bench = Bench(rpc)
    bench.write(2)
    bench.journaled()
    assert bench.of(MarkRelayed)[0] == MarkRelayed(up_to_seq=1, refused=((1, "a"),))


@pytest.mark.parametrize("on", ["Journaled", "Relayed"])
def test_a_crash_loses_nothing(bench: Bench, on: str) -> None:
    bench.write(3)
    if on == "Relayed":
        bench.journaled()
    bench.probe.fail_next()
    if on == "Journaled":
        bench.journaled()
    bench.settle()
    bench.probe.advance(10)
    bench.settle()
    bench.probe.advance(10)
    bench.settle()
    assert bench.probe.restarts == 1
    assert bench.store.counts().pending == 0
    assert len(bench.rpc.tables.events) == 3


def test_a_restart_between_sync_and_mark_doubles_nothing(bench: Bench) -> None:
    bench.write(3)
    bench.journaled()
    bench.probe.take()
    bench.probe.restart()
    bench.settle()
    assert bench.store.counts().pending == 0
    assert len(bench.rpc.tables.events) == 3


def test_a_stop_takes_along_what_is_left(bench: Bench) -> None:
    bench.write(300)
    bench.journaled()
    bench.probe.stop()
    assert len(bench.rpc.tables.events) == 300


def test_a_stop_does_not_wait_for_a_database_that_is_away(bench: Bench) -> None:
    bench.rpc.fail_next(Unknown("timeout"), times=100)
    bench.write(300)
    bench.journaled()
    bench.probe.stop()
    assert bench.rpc.calls["sync"] == 1
