"""The database's rules, as its double keeps them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.memory_rpc import BATCH_BYTES_MAX, ENTRIES_MAX, MemoryRpc
from tbh.messages.orders import OrderStatus
from tbh.ports import Controls, OutboxEntry, Rejected, SyncResult, Unavailable, Unknown


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rpc(clock: Clock) -> MemoryRpc:
    return MemoryRpc("bot-1", monotonic=clock)


def event(seq: int, **payload: Any) -> OutboxEntry:
    args = {"p_kind": "order", "p_level": "info", "p_payload": payload, "p_key": f"k{seq}"}
    return OutboxEntry(seq=seq, fn="bot_runtime_write_event", args=args, key=f"k{seq}")


def trade(seq: int, status: str, filled: str = "0", *, exchange_id: str | None = None, **more: Any) -> OutboxEntry:
    payload = {"order_status": status, "filled_qty": filled, "symbol": "BTC/USDT", **more}
    args = {"p_client_order_id": "c1", "p_exchange_order_id": exchange_id, "p_payload": payload}
    return OutboxEntry(seq=seq, fn="bot_runtime_upsert_trade", args=args, key=f"t{seq}")


def position(seq: int, at: int, **payload: Any) -> OutboxEntry:
    row = {"symbol": "BTC/USDT", "strategy": "ema", "status": "open", "qty": "1", "seq": at, **payload}
    return OutboxEntry(seq=seq, fn="bot_runtime_upsert_position", args={"p_payload": row}, key=f"p{seq}")


def fill(seq: int, **payload: Any) -> OutboxEntry:
    row = {"trade_id": "t1", "client_order_id": "c1", "symbol": "BTC/USDT", "qty": "1", "price": "100", **payload}
    return OutboxEntry(seq=seq, fn="bot_runtime_record_fill", args={"p_payload": row}, key=f"f{seq}")


def sync(rpc: MemoryRpc, *entries: OutboxEntry, store_id: str = "s1") -> SyncResult:
    return rpc.sync(store_id=store_id, first_seq=entries[0].seq if entries else 1, entries=entries)


class TestSync:
    def test_entries_at_or_below_the_last_sequence_are_skipped(self, rpc: MemoryRpc) -> None:
        assert sync(rpc, event(1), event(2)).last_seq == 2
        assert sync(rpc, event(1, other="x"), event(2, other="x"), event(3)) == SyncResult(last_seq=3)
        assert sorted(rpc.tables.events) == ["k1", "k2", "k3"]

    def test_each_store_has_its_own_sequence(self, rpc: MemoryRpc) -> None:
        sync(rpc, event(5))
        assert sync(rpc, fill(1), store_id="s2").last_seq == 1
        assert rpc.tables.fills["t1"]["qty"] == "1"

    def test_a_refused_entry_does_not_block_the_rest(self, rpc: MemoryRpc) -> None:
        unknown = OutboxEntry(seq=2, fn="drop_everything", args={}, key="x")
        result = sync(rpc, event(1), unknown, trade(3, "sold"), event(4))
        assert result.last_seq == 4
        assert [seq for seq, _ in result.refused] == [2, 3]
        assert result.refused[0][1] == "function_unknown: drop_everything"
        assert sorted(rpc.tables.events) == ["k1", "k4"]

    def test_a_repeat_tells_the_refusals_again(self, rpc: MemoryRpc) -> None:
        rpc.lose_reply_next()
        with pytest.raises(Unknown):
            sync(rpc, event(1), trade(2, "sold"))
        result = sync(rpc, event(1), trade(2, "sold"))
        assert [seq for seq, _ in result.refused] == [2]

    def test_another_bots_entry_is_refused(self, rpc: MemoryRpc) -> None:
        foreign = OutboxEntry(
            seq=1, fn="upsert_bot_health_evidence", args={"p_bot_id": "bot-2", "p_patch": {}}, key="h"
        )
        assert sync(rpc, foreign).refused == ((1, "not_your_bot: upsert_bot_health_evidence"),)

    def test_arguments_that_json_can_not_carry_are_refused_alone(self, rpc: MemoryRpc) -> None:
        assert [seq for seq, _ in sync(rpc, event(1, qty=Decimal(1)), event(2)).refused] == [1]

    def test_entries_out_of_order_are_refused_whole(self, rpc: MemoryRpc) -> None:
        with pytest.raises(Rejected):
            sync(rpc, event(2), event(1))
        with pytest.raises(Rejected):
            rpc.sync(store_id="s1", first_seq=1, entries=[event(2)])
        assert rpc.tables.events == {}

    def test_a_batch_above_the_limits_is_refused_whole(self, rpc: MemoryRpc) -> None:
        with pytest.raises(Rejected, match="batch_too_large"):
            sync(rpc, *(event(n) for n in range(1, ENTRIES_MAX + 2)))
        with pytest.raises(Rejected, match="batch_too_large"):
            sync(rpc, event(1, pad="x" * BATCH_BYTES_MAX), event(2))

    def test_an_entry_above_the_limit_by_itself_is_refused_alone(self, rpc: MemoryRpc) -> None:
        assert [seq for seq, _ in sync(rpc, event(1, pad="x" * BATCH_BYTES_MAX)).refused] == [1]

    def test_no_entries_give_the_last_sequence(self, rpc: MemoryRpc) -> None:
        sync(rpc, event(7))
        assert sync(rpc) == SyncResult(last_seq=7)


class TestRows:
    def test_a_late_trade_row_changes_nothing(self, rpc: MemoryRpc) -> None:
        sync(rpc, trade(1, "filled", "1", exchange_id="x1", avg_fill_price="100"))
        standing = dict(rpc.tables.trades["c1"])
        sync(rpc, trade(2, "accepted", "0", note="late"), trade(3, "partially_filled", "0.5", avg_fill_price="99"))
        assert rpc.tables.trades["c1"] == standing

    def test_the_exchange_id_arrives_later_and_stays(self, rpc: MemoryRpc) -> None:
        sync(rpc, trade(1, "recorded"), trade(2, "accepted", exchange_id="x1"), trade(3, "filled", "1"))
        assert rpc.tables.trades["c1"]["exchange_order_id"] == "x1"
        assert "exchange_order_id_conflict" in sync(rpc, trade(4, "filled", "1", exchange_id="x2")).refused[0][1]

    def test_a_fill_after_a_cancel_raises_the_filled_quantity(self, rpc: MemoryRpc) -> None:
        sync(rpc, trade(1, "canceled", "0.5"), trade(2, "partially_filled", "0.7", avg_fill_price="101"))
        row = rpc.tables.trades["c1"]
        assert (row["order_status"], row["filled_qty"], row["avg_fill_price"]) == ("canceled", "0.7", "101")

    @pytest.mark.parametrize("late", ["filled", "accepted"])
    def test_of_two_sizes_of_an_order_the_greater_stands(self, rpc: MemoryRpc, late: str) -> None:
        sync(rpc, trade(1, "accepted", qty="9"), trade(2, "filled", "0.5", qty="10"), trade(3, "filled", "2", qty="2"))
        assert rpc.tables.trades["c1"]["qty"] == "10"
        sync(rpc, trade(4, late, qty="11"))
        assert (rpc.tables.trades["c1"]["qty"], rpc.tables.trades["c1"]["filled_qty"]) == ("11", "2")

    @given(
        st.lists(st.tuples(st.sampled_from(list(OrderStatus)), st.integers(0, 5)), min_size=1, max_size=8), st.randoms()
    )
    def test_filled_quantity_never_shrinks_in_any_order(self, rows: list[tuple[str, int]], rng: Any) -> None:
        rpc = MemoryRpc("bot-1", monotonic=Clock())
        before = Decimal(0)
        for seq, (status, filled) in enumerate(rows, 1):
            assert sync(rpc, trade(seq, status, str(filled))).refused == ()
            now = Decimal(rpc.tables.trades["c1"]["filled_qty"])
            assert now == max(before, Decimal(filled))
            before = now

    def test_a_position_of_a_lower_seq_is_a_no_op(self, rpc: MemoryRpc) -> None:
        sync(rpc, position(1, at=5, qty="2"), position(2, at=4, qty="1"))
        assert rpc.tables.positions["BTC/USDT", "ema"]["qty"] == "2"

    def test_positions_of_two_strategies_stand_apart(self, rpc: MemoryRpc) -> None:
        sync(rpc, position(1, at=1), position(2, at=1, strategy="rsi", qty="-3"))
        assert {key: row["qty"] for key, row in rpc.tables.positions.items()} == {
            ("BTC/USDT", "ema"): "1",
            ("BTC/USDT", "rsi"): "-3",
        }

    def test_closing_needs_the_positions_identity(self, rpc: MemoryRpc) -> None:
        refused = sync(rpc, position(1, at=1, status="closed")).refused
        assert refused == ((1, "position_identity_missing: position_id"),)
        assert sync(rpc, position(2, at=1, status="closed", position_id="c1")).refused == ()

    def test_money_must_be_text(self, rpc: MemoryRpc) -> None:
        assert "qty is not money as text" in sync(rpc, position(1, at=1, qty=1.5)).refused[0][1]

    def test_a_fill_is_recorded_once(self, rpc: MemoryRpc) -> None:
        assert sync(rpc, fill(1), fill(2)).refused == ()
        assert "key_conflict" in sync(rpc, fill(3, price="101")).refused[0][1]
        assert rpc.tables.fills["t1"]["price"] == "100"

    def test_health_is_merged_deeply(self, rpc: MemoryRpc) -> None:
        rpc.upsert_health({"orders": {"acks_15m": 1, "rejects_15m": 2}, "tier": "fast_5s"})
        rpc.upsert_health({"orders": {"acks_15m": 3}})
        assert rpc.tables.health == {"orders": {"acks_15m": 3, "rejects_15m": 2}, "tier": "fast_5s"}

    def test_a_repeated_event_or_notice_changes_nothing(self, rpc: MemoryRpc) -> None:
        for _ in range(2):
            rpc.write_event(kind="start", level="info", payload={"a": 1}, key="e1")
            rpc.notify(channel="in_app", payload={"text": "x"}, key="n1")
        assert len(rpc.tables.events) == len(rpc.tables.notifications) == 1
        with pytest.raises(Rejected, match="key_conflict"):
            rpc.notify(channel="in_app", payload={"text": "y"}, key="n1")


def claim(rpc: MemoryRpc, previous: str | None = None, seen: int | None = None) -> int:
    return rpc.claim(previous_boot_id=previous, seen_renewals=seen, lease_s=30).epoch


class TestLease:
    def test_a_rival_waits_until_the_lease_has_expired(self, rpc: MemoryRpc, clock: Clock) -> None:
        assert claim(rpc) == 1
        rival = rpc.connect("boot-2")
        clock.now_s += 29.9
        with pytest.raises(Rejected, match="lease_held"):
            claim(rival)
        clock.now_s += 0.1
        with pytest.raises(Rejected, match="lease_held"):
            claim(rival)
        assert claim(rival, seen=1) == 2

    def test_a_rival_that_saw_another_counter_waits(self, rpc: MemoryRpc, clock: Clock) -> None:
        claim(rpc)
        rpc.heartbeat({})
        clock.now_s += 60
        with pytest.raises(Rejected, match="lease_held"):
            claim(rpc.connect("boot-2"), seen=1)
        assert claim(rpc.connect("boot-2"), seen=2) == 2

    def test_naming_the_former_boot_takes_over_at_once(self, rpc: MemoryRpc) -> None:
        claim(rpc)
        assert claim(rpc.connect("boot-2"), previous="boot-1") == 2
        with pytest.raises(Rejected, match="lease_held"):
            claim(rpc.connect("boot-3"), previous="boot-1")

    def test_a_repeated_claim_keeps_the_epoch(self, rpc: MemoryRpc) -> None:
        assert (claim(rpc), claim(rpc)) == (1, 1)

    def test_a_heartbeat_renews_the_lease(self, rpc: MemoryRpc, clock: Clock) -> None:
        claim(rpc)
        clock.now_s += 25
        lease, version = rpc.heartbeat({"event": "tick"})
        assert (lease.epoch, lease.renewals, lease.expires_in_s, version) == (1, 2, 30, 1)
        clock.now_s += 25
        with pytest.raises(Rejected):
            claim(rpc.connect("boot-2"))
        assert rpc.tables.state == {"event": "tick"}

    def test_a_fenced_boot_is_refused_claims_but_delivers_facts(self, rpc: MemoryRpc) -> None:
        claim(rpc)
        claim(rpc.connect("boot-2"), previous="boot-1")
        for act in (lambda: rpc.heartbeat({}), lambda: rpc.upsert_health({}), lambda: rpc.acknowledge(1)):
            with pytest.raises(Rejected, match="stale_epoch"):
                act()
        assert sync(rpc, fill(1)) == SyncResult(last_seq=1)
        rpc.write_event(kind="fenced", level="error", payload={}, key="e")

    def test_a_heartbeat_without_a_claim_is_refused(self, rpc: MemoryRpc) -> None:
        with pytest.raises(Rejected, match="stale_epoch"):
            rpc.heartbeat({})

    def test_a_released_lease_is_free(self, rpc: MemoryRpc) -> None:
        claim(rpc)
        rpc.connect("boot-2").release()
        with pytest.raises(Rejected):
            claim(rpc.connect("boot-2"))
        rpc.release()
        assert claim(rpc.connect("boot-2")) == 2


class TestControls:
    def test_a_change_raises_the_version(self, rpc: MemoryRpc) -> None:
        claim(rpc)
        rpc.set_controls(paused=True)
        assert rpc.heartbeat({})[1] == 2
        assert rpc.refresh_controls() == Controls(version=2, paused=True)

    def test_an_acknowledgement_counts_once(self, rpc: MemoryRpc) -> None:
        rpc.set_controls(killed=True)
        rpc.acknowledge(2)
        rpc.acknowledge(2)
        assert rpc.tables.acknowledged == [2]
        with pytest.raises(Rejected):
            rpc.acknowledge(3)


class TestFaults:
    def test_a_scripted_failure_changes_nothing_and_passes(self, rpc: MemoryRpc) -> None:
        rpc.fail_next(Unavailable("refused"), times=2)
        for _ in range(2):
            with pytest.raises(Unavailable):
                sync(rpc, event(1))
        assert rpc.tables.events == {}
        assert sync(rpc, event(1)).last_seq == 1
        assert rpc.calls["sync"] == 3

    def test_a_failure_may_wait_for_one_method(self, rpc: MemoryRpc) -> None:
        rpc.fail_next(Unavailable("refused"), on="notify")
        sync(rpc, event(1))
        with pytest.raises(Unavailable):
            rpc.notify(channel="in_app", payload={}, key="n")

    def test_a_lost_reply_has_been_carried_out(self, rpc: MemoryRpc) -> None:
        rpc.lose_reply_next()
        with pytest.raises(Unknown):
            rpc.notify(channel="in_app", payload={}, key="n")
        assert list(rpc.tables.notifications) == ["n"]

    def test_a_lost_refusal_is_unknown_too(self, rpc: MemoryRpc) -> None:
        rpc.lose_reply_next()
        with pytest.raises(Unknown):
            rpc.heartbeat({})
