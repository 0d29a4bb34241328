"""One contract, both stores; then what only a file on a disk can suffer."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra import store_schema
from tbh.infra.memory_store import MemoryStore
from tbh.infra.store import SqliteStore
from tbh.messages.account import Position
from tbh.messages.orders import Fill, Order, OrderState, OrderStatus, OrderType, Purpose, Side
from tbh.messages.strategy import Decision, Proposal
from tbh.ports import Batch, DeadLetter, Fatal, StoreReader, Unavailable

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EitherStore = SqliteStore | MemoryStore


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EitherStore]:
    made: EitherStore = SqliteStore.open(tmp_path / "store.sqlite") if request.param == "sqlite" else MemoryStore()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def decision(bar: int, *, strategy: str = "ema", proposals: int = 0) -> Decision:
    at = T0 + bar * MINUTE
    wanted = tuple(
        Proposal(
            proposal_id=f"{bar}-{n}",
            strategy=strategy,
            symbol="BTC/USDT",
            bar_open=at,
            bar_index=bar,
            side=Side.BUY,
            purpose=Purpose.ENTRY,
            reference_price=Decimal("100.5"),
        )
        for n in range(proposals)
    )
    return Decision(
        decision_id=f"{strategy}-{bar}",
        strategy=strategy,
        symbol="BTC/USDT",
        bar_open=at,
        bar_index=bar,
        decided_at=at + MINUTE,
        proposals=wanted,
    )


def order_state(name: str, status: OrderStatus = OrderStatus.RECORDED, version: int = 1) -> OrderState:
    order = Order(
        client_order_id=name,
        intent_id=f"intent-{name}",
        symbol="BTC/USDT",
        side=Side.BUY,
        type=OrderType.MARKET,
        qty=Decimal("0.10"),
        purpose=Purpose.ENTRY,
        strategy="ema",
        bar_open=T0,
        created_at=T0,
    )
    return OrderState(order=order, status=status, version=version, seen_at=T0)


def fill(name: str, seq: int, price: str = "100") -> Fill:
    return Fill(
        trade_id=name,
        client_order_id="a",
        exchange_order_id="P1",
        symbol="BTC/USDT",
        side=Side.BUY,
        qty=Decimal("0.1"),
        price=Decimal(price),
        fee=Decimal("0.01"),
        fee_asset="USDT",
        maker=False,
        at=T0,
        seq=seq,
    )


def position(qty: str) -> Position:
    return Position(
        symbol="BTC/USDT",
        strategy="ema",
        position_id="a",
        qty=Decimal(qty),
        entry_price=Decimal(100),
        opened_at=T0,
        bar_open=T0,
    )


def entries(*numbers: int, size: int = 1) -> Batch:
    return Batch(outbox=[("bot_runtime_write_event", {"n": n, "pad": "x" * size}, f"k{n}") for n in numbers])


def pending(store: StoreReader, *, after: int = 0, limit: int = 200, max_bytes: int = 256_000) -> list[int]:
    return [entry.seq for entry in store.outbox(after, limit=limit, max_bytes=max_bytes)]


class TestContract:
    def test_a_new_store_is_empty(self, store: EitherStore) -> None:
        assert (store.orders(), store.fills(), store.positions(), store.actions()) == ([], [], {}, {})
        assert store.meta("x") is None
        assert store.last_decision("ema") is None
        assert store.order("a") is None
        assert store.counts().recorded == 0

    def test_rows_come_back_as_they_were_written(self, store: EitherStore) -> None:
        batch = Batch(
            decisions=[decision(1, proposals=2)],
            drafts=[order_state("a")],
            fills=[fill("t1", 1)],
            positions=[("BTC/USDT", position("0.1"), 1)],
            actions=[("flatten-1", "requested", "operator")],
            meta={"cash": "10000"},
        )
        store.commit(batch)
        assert store.decision("ema", T0 + MINUTE) == batch.decisions[0]
        assert store.orders() == batch.drafts
        assert store.order("a") == batch.drafts[0]
        assert store.fills() == batch.fills
        assert store.positions() == {"BTC/USDT": position("0.1")}
        assert store.actions() == {"flatten-1": "requested"}
        assert store.meta("cash") == "10000"

    def test_an_empty_batch_changes_nothing(self, store: EitherStore) -> None:
        store.commit(entries(1, 2))
        assert store.commit(Batch()) == 2

    def test_a_decision_that_is_there_stays(self, store: EitherStore) -> None:
        store.commit(Batch(decisions=[decision(1, proposals=1)]))
        store.commit(Batch(decisions=[decision(1, proposals=2)]))
        store.commit(Batch(decisions=[decision(1)]))
        assert store.decision("ema", T0 + MINUTE) == decision(1, proposals=1)

    def test_an_empty_decision_is_not_changed_into_one_that_trades(self, store: EitherStore) -> None:
        store.commit(Batch(decisions=[decision(1)]))
        store.commit(Batch(decisions=[decision(1, proposals=1)]))
        assert store.decision("ema", T0 + MINUTE) == decision(1)

    def test_only_the_newest_empty_decision_is_kept(self, store: EitherStore) -> None:
        for bar in (1, 3, 2):
            store.commit(Batch(decisions=[decision(bar)]))
        assert [store.decision("ema", T0 + bar * MINUTE) for bar in (1, 2)] == [None, None]
        assert store.last_decision("ema") == decision(3)

    def test_the_last_decision_is_the_newest_of_either_kind(self, store: EitherStore) -> None:
        store.commit(Batch(decisions=[decision(1), decision(2, proposals=1)]))
        assert store.last_decision("ema") == decision(2, proposals=1)
        store.commit(Batch(decisions=[decision(3)]))
        assert store.last_decision("ema") == decision(3)
        assert store.decision("ema", T0 + 2 * MINUTE) == decision(2, proposals=1)

    def test_strategies_decide_apart(self, store: EitherStore) -> None:
        store.commit(Batch(decisions=[decision(5), decision(4, strategy="rsi")]))
        assert store.last_decision("rsi") == decision(4, strategy="rsi")

    def test_a_draft_never_replaces_an_order(self, store: EitherStore) -> None:
        store.commit(Batch(drafts=[order_state("a")], orders=[order_state("a", OrderStatus.ACCEPTED, 3)]))
        store.commit(Batch(drafts=[order_state("a", version=9)]))
        assert store.order("a") == order_state("a", OrderStatus.ACCEPTED, 3)

    @pytest.mark.parametrize("version", [1, 2])
    def test_an_order_moves_to_higher_versions_only(self, store: EitherStore, version: int) -> None:
        store.commit(Batch(orders=[order_state("a", OrderStatus.ACCEPTED, 2)]))
        store.commit(Batch(orders=[order_state("a", OrderStatus.UNKNOWN, version)]))
        assert store.order("a") == order_state("a", OrderStatus.ACCEPTED, 2)

    def test_open_orders_leave_out_the_terminal_ones(self, store: EitherStore) -> None:
        states = [order_state(status.value, status) for status in OrderStatus]
        store.commit(Batch(orders=states))
        ended = {"filled", "canceled", "expired", "rejected", "absent"}
        assert {state.order.client_order_id for state in store.orders(open_only=True)} == set(OrderStatus) - ended
        assert store.orders() == states

    def test_a_fill_is_kept_once_and_as_it_came_first(self, store: EitherStore) -> None:
        store.commit(Batch(fills=[fill("t2", 2), fill("t1", 1)]))
        store.commit(Batch(fills=[fill("t1", 1, price="999")]))
        assert store.fills() == [fill("t1", 1), fill("t2", 2)]

    def test_a_position_moves_to_a_higher_seq_only(self, store: EitherStore) -> None:
        store.commit(Batch(positions=[("BTC/USDT", position("1"), 5)]))
        store.commit(Batch(positions=[("BTC/USDT", position("2"), 5), ("BTC/USDT", None, 4)]))
        assert store.positions() == {"BTC/USDT": position("1")}
        store.commit(Batch(positions=[("BTC/USDT", None, 6)]))
        assert store.positions() == {}
        store.commit(Batch(positions=[("BTC/USDT", position("1"), 5)]))
        assert store.positions() == {}

    def test_an_action_takes_its_new_status(self, store: EitherStore) -> None:
        store.commit(Batch(actions=[("f", "requested", "")]))
        store.commit(Batch(actions=[("f", "done", "")]))
        assert store.actions() == {"f": "done"}

    def test_outbox_entries_are_numbered_without_gaps(self, store: EitherStore) -> None:
        assert store.commit(entries(1, 2)) == 2
        assert store.commit(entries(3)) == 3
        assert [(e.seq, e.fn, e.args["n"], e.key) for e in store.outbox(1, limit=9, max_bytes=9999)] == [
            (2, "bot_runtime_write_event", 2, "k2"),
            (3, "bot_runtime_write_event", 3, "k3"),
        ]

    def test_a_key_is_taken_once_even_after_its_entry_was_relayed(self, store: EitherStore) -> None:
        store.commit(entries(1, 2, 2))
        store.commit(Batch(relayed_up_to=2))
        assert store.commit(entries(1, 2)) == 2
        assert pending(store) == []

    def test_the_outbox_is_cut_by_number_and_by_size(self, store: EitherStore) -> None:
        store.commit(entries(1, 2, 3, 4, size=1000))
        assert pending(store, limit=2) == [1, 2]
        assert pending(store, max_bytes=2500) == [1, 2]

    def test_an_entry_larger_than_the_limit_is_given_alone(self, store: EitherStore) -> None:
        store.commit(entries(1, 2, size=1000))
        assert pending(store, max_bytes=10) == [1]

    def test_counts_follow_an_entry_from_recorded_to_relayed_or_refused(self, store: EitherStore) -> None:
        store.commit(entries(1, 2, 3, 4, 5))
        store.commit(Batch(relayed_up_to=3, refused=[(2, "payload_invalid"), (5, "payload_invalid")]))
        counts = store.counts()
        assert (counts.recorded, counts.relayed, counts.refused, counts.pending) == (5, 2, 2, 1)
        assert pending(store) == [4]
        assert [(entry.seq, reason) for entry, reason in store.refused()] == [
            (2, "payload_invalid"),
            (5, "payload_invalid"),
        ]

    def test_marking_the_same_entries_again_changes_nothing(self, store: EitherStore) -> None:
        store.commit(entries(1, 2, 3))
        mark = Batch(relayed_up_to=2, refused=[(1, "x")])
        store.commit(mark)
        before = store.counts()
        store.commit(mark)
        store.commit(Batch(relayed_up_to=1))
        assert store.counts() == before

    def test_an_acknowledgement_of_entries_never_written_is_fatal(self, store: EitherStore) -> None:
        store.commit(entries(1))
        with pytest.raises(Fatal, match="entry 2"):
            store.commit(Batch(relayed_up_to=2, meta={"a": "b"}))
        assert store.meta("a") is None
        assert store.counts().pending == 1

    def test_arguments_that_are_not_json_are_refused_whole(self, store: EitherStore) -> None:
        with pytest.raises(Fatal, match="not_storable"):
            store.commit(Batch(meta={"a": "b"}, outbox=[("f", {"qty": Decimal(1)}, "k")]))
        assert store.meta("a") is None
        assert store.counts().recorded == 0

    def test_arguments_changed_after_the_commit_do_not_reach_the_store(self, store: EitherStore) -> None:
        args: dict[str, Any] = {"deep": {"n": 1}}
        store.commit(Batch(outbox=[("f", args, "k")]))
        args["deep"]["n"] = 2
        assert store.outbox(0, limit=1, max_bytes=99)[0].args == {"deep": {"n": 1}}

    def test_a_dead_letter_is_kept_once(self, store: EitherStore) -> None:
        letter = DeadLetter(actor="risk", seq=4, message_type="Bar", payload="{}", reason="ValueError", at=T0)
        store.commit(Batch(dead_letters=[letter]))
        store.commit(Batch(dead_letters=[letter, replace(letter, at=T0 + MINUTE)]))
        assert store.dead_letters() == [letter, replace(letter, at=T0 + MINUTE)]
        assert store.counts().dead_letters == 2

    def test_a_reader_sees_what_was_committed(self, store: EitherStore) -> None:
        reader = store.reader()
        assert reader.orders() == []
        store.commit(Batch(drafts=[order_state("a")]))
        assert reader.orders() == [order_state("a")]
        reader.close()

    def test_a_reader_works_in_another_thread(self, store: EitherStore) -> None:
        store.commit(entries(1))
        reader, seen = store.reader(), []
        assert pending(reader) == [1]
        thread = threading.Thread(target=lambda: seen.append(pending(reader)))
        thread.start()
        thread.join()
        assert seen == [[1]]
        reader.close()


def test_a_closed_store_leaves_its_file_and_its_mark(path: Path) -> None:
    store = SqliteStore.open(path)
    reader = store.reader()
    store.commit(entries(1))
    assert pending(reader) == pending(store) == [1]
    reader.close()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}-mark"]


def test_a_scripted_failure_writes_nothing_and_passes() -> None:
    store = MemoryStore()
    store.fail_next("disk_full")
    with pytest.raises(Unavailable, match="disk_full"):
        store.commit(entries(1))
    assert store.commit(entries(1)) == 1


def test_the_store_is_the_same_after_it_was_closed(path: Path) -> None:
    store = SqliteStore.open(path)
    store.commit(Batch(drafts=[order_state("a")], outbox=entries(1).outbox))
    store.close()
    again = SqliteStore.open(path)
    assert again.store_id == store.store_id
    assert again.orders() == [order_state("a")]
    assert again.commit(entries(1, 2)) == 2
    again.close()


def test_two_files_have_two_ids(tmp_path: Path) -> None:
    stores = [SqliteStore.open(tmp_path / name) for name in ("a", "b")]
    assert stores[0].store_id != stores[1].store_id
    for store in stores:
        store.close()


def test_commits_are_flushed_and_logged_ahead(path: Path) -> None:
    store = SqliteStore.open(path)
    assert store._writer is not None
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_empty_decisions_do_not_grow_the_file(path: Path) -> None:
    store = SqliteStore.open(path)
    for bar in range(300):
        store.commit(Batch(decisions=[decision(bar)]))
    store.close()
    assert path.stat().st_size < 200_000
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM empty_decisions").fetchone() == (1,)
    connection.close()


def test_dead_letters_have_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbh.infra.store_rows.DEAD_LETTERS_MAX", 3)
    store = SqliteStore.open(path)
    letters = [DeadLetter(actor="a", seq=n, message_type="Bar", payload="", reason="", at=T0) for n in range(5)]
    for letter in letters:
        store.commit(Batch(dead_letters=[letter]))
    assert store.dead_letters() == letters[2:]
    store.close()


def test_the_attempts_of_an_intent_are_counted(path: Path) -> None:
    store = SqliteStore.open(path)
    store.commit(Batch(drafts=[order_state("a"), order_state("b", OrderStatus.ABSENT)]))
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT intent_id, attempts, open_orders FROM intents").fetchall() == [
        ("intent-a", 1, 1),
        ("intent-b", 1, 0),
    ]
    connection.close()


class TestBadFiles:
    def test_a_store_of_a_newer_version_is_refused_with_both_versions(self, path: Path) -> None:
        SqliteStore.open(path).close()
        edit(path, "INSERT INTO schema_version VALUES (99, 0)")
        line = refusal(lambda: SqliteStore.open(path), exit_code=78)
        assert "version 99" in line
        assert f"up to {store_schema.VERSION}" in line

    def test_a_reader_refuses_a_newer_version_too(self, path: Path) -> None:
        store = SqliteStore.open(path)
        store.close()
        edit(path, "INSERT INTO schema_version VALUES (99, 0)")
        assert "version 99" in refusal(lambda: store.reader().orders(), exit_code=78)

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"not a database at all " * 500)
        before = path.read_bytes()
        assert "store_corrupt" in refusal(lambda: SqliteStore.open(path), exit_code=78)
        assert path.read_bytes() == before

    def test_a_damaged_page_is_found_on_opening(self, path: Path) -> None:
        store = SqliteStore.open(path)
        store.commit(Batch(drafts=[order_state(str(n)) for n in range(200)]))
        store.close()
        with path.open("r+b") as file:
            file.seek(4096 * 5)
            file.write(os.urandom(4096 * 20))
        assert "store_corrupt" in refusal(lambda: SqliteStore.open(path), exit_code=78)

    def test_another_programs_database_is_refused(self, path: Path) -> None:
        edit(path, "CREATE TABLE notes (text)")
        assert "store_foreign" in refusal(lambda: SqliteStore.open(path), exit_code=78)

    def test_a_folder_that_is_none_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "store_unusable" in refusal(lambda: SqliteStore.open(tmp_path / "file" / "s.sqlite"), exit_code=78)

    def test_a_folder_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        assert "store_unusable" in refusal(lambda: SqliteStore.open(tmp_path / "gone" / "s.sqlite"), exit_code=78)

    def test_a_row_that_can_not_be_read_is_named(self, path: Path) -> None:
        store = SqliteStore.open(path)
        store.commit(Batch(drafts=[order_state("a")]))
        edit(path, """UPDATE orders SET body = '{"order":1}'""")
        assert "order a" in refusal(store.orders, exit_code=70)
        store.close()


def edit(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql)
    connection.close()


def refusal(act: Callable[[], object], *, exit_code: int) -> str:
    with pytest.raises(Fatal) as caught:
        act()
    assert caught.value.exit_code == exit_code
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestMigration:
    STEPS = (*store_schema.MIGRATIONS, ("ALTER TABLE meta ADD COLUMN note TEXT", "CREATE TABLE extra (x)"))

    def later(self, monkeypatch: pytest.MonkeyPatch, steps: tuple[tuple[str, ...], ...]) -> None:
        monkeypatch.setattr("tbh.infra.store.MIGRATIONS", steps)
        monkeypatch.setattr("tbh.infra.store.VERSION", len(steps))
        monkeypatch.setattr("tbh.infra.store_reader.VERSION", len(steps))

    def test_an_older_file_is_migrated_and_keeps_its_rows(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = SqliteStore.open(path)
        store.commit(Batch(drafts=[order_state("a")]))
        store.close()
        self.later(monkeypatch, self.STEPS)
        again = SqliteStore.open(path)
        assert again.store_id == store.store_id
        assert again.orders() == [order_state("a")]
        again.close()

    def test_a_migration_that_fails_leaves_the_former_version_whole(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        SqliteStore.open(path).close()
        with monkeypatch.context() as patch:
            self.later(patch, (*self.STEPS[:-1], ("CREATE TABLE extra (x)", "ALTER TABLE gone ADD COLUMN y")))
            refusal(lambda: SqliteStore.open(path), exit_code=78)
        store = SqliteStore.open(path)
        store.commit(entries(1))
        store.close()
        self.later(monkeypatch, self.STEPS)
        SqliteStore.open(path).close()

    def test_a_reader_waits_for_the_migration(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = SqliteStore.open(path)
        store.close()
        self.later(monkeypatch, self.STEPS)
        with pytest.raises(Unavailable, match="not at version"):
            store.reader().orders()


class TestFailures:
    def test_a_full_disk_says_so_and_the_batch_can_be_repeated(self, path: Path) -> None:
        store = SqliteStore.open(path)
        assert store._writer is not None
        ((pages,),) = store._writer.execute("PRAGMA page_count")
        store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        batch = Batch(drafts=[order_state(str(n)) for n in range(100)], meta={"a": "b"})
        with pytest.raises(Unavailable, match="disk_full"):
            store.commit(batch)
        assert store.orders() == []
        assert store.meta("a") is None
        store._writer.execute("PRAGMA max_page_count = 100000")
        store.commit(batch)
        assert len(store.orders()) == 100
        store.close()

    def test_a_locked_store_says_so(self, path: Path) -> None:
        store = SqliteStore.open(path, busy_timeout_s=0.05)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            store.commit(entries(1))
        other.execute("ROLLBACK")
        other.close()
        assert store.commit(entries(1)) == 1
        store.close()

    def test_a_file_removed_under_the_store_is_noticed(self, path: Path) -> None:
        store = SqliteStore.open(path)
        path.unlink()
        with pytest.raises(Unavailable, match="broken"):
            store.commit(entries(1))
        path.write_bytes(b"")
        with pytest.raises(Unavailable, match="removed or replaced"):
            store.commit(entries(1))
        store.close()

    def test_a_number_that_no_column_takes_writes_nothing(self, path: Path) -> None:
        store = SqliteStore.open(path)
        with pytest.raises(Fatal, match="not_storable"):
            store.commit(Batch(meta={"a": "b"}, orders=[order_state("a", version=2**70)]))
        assert store.meta("a") is None
        assert store.commit(entries(1)) == 1
        store.close()

    def test_a_failed_connection_is_replaced(self, path: Path) -> None:
        store = SqliteStore.open(path)
        assert store._writer is not None
        store._writer.close()
        with pytest.raises(Unavailable, match="broken"):
            store.commit(entries(1))
        assert store.commit(entries(1)) == 1
        store.close()


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from tbh.infra.store import SqliteStore
from tbh.ports import Batch, Unavailable
store = SqliteStore.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        store.commit(Batch(meta={str(written): "x" * 2000}))
        written += 1
except Unavailable as failure:
    assert failure.reason == "disk_full", failure
assert store.meta(str(written)) is None and store.meta(str(written - 1)) is not None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.commit(Batch(meta={str(written): "there is room again"}))
print(written)
"""


def test_a_write_beyond_the_files_limit_is_a_full_disk_and_heals(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILE_LIMIT, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = SqliteStore.open(path)
    assert store.meta(done.stdout.strip()) == "there is room again"
    store.close()


CHILD = """
import sys
from tbh.infra.store import SqliteStore
from tbh.ports import Batch
store = SqliteStore.open(sys.argv[1])
number = int(store.meta("number") or 0)
while True:
    number += 1
    rows = [("bot_runtime_write_event", {"n": number, "part": part}, f"{number}-{part}") for part in range(3)]
    store.commit(Batch(meta={"number": str(number), f"row-{number}": "x" * 500}, outbox=rows))
    print(number, flush=True)
"""


def test_what_a_commit_returned_from_survives_kill_9_and_no_batch_is_half_there(path: Path) -> None:
    rng = random.Random(20260101)
    committed = 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            committed = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        committed = int(([str(committed), *child.stdout.read().split()])[-1])
        child.stdout.close()
        child.wait()
        store = SqliteStore.open(path)
        number = int(store.meta("number") or 0)
        assert number in (committed, committed + 1)
        assert store.counts().recorded == 3 * number
        found = store.outbox(0, limit=10**6, max_bytes=10**9)
        assert [(entry.args["n"], entry.args["part"]) for entry in found] == [
            (n, part) for n in range(1, number + 1) for part in range(3)
        ]
        assert all(store.meta(f"row-{n}") for n in range(1, number + 1))
        store.close()
