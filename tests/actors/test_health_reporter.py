"""The health reporter: evidence of the contract, on time, and never in anybody's way."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.health_reporter import HealthReporterActor
from tbh.actors.identity import BotIdentity
from tbh.domain import order as life
from tbh.infra.memory_rpc import MemoryRpc
from tbh.messages.account import Position, PositionChanged, PositionSynced, SyncStatus
from tbh.messages.base import Message
from tbh.messages.controls import HeartbeatSent, TokenRefused
from tbh.messages.health import FlushHealth, HealthFlushed, RequestFailed, RequestSucceeded
from tbh.messages.journal import Journaled, Relayed, StoreFailed
from tbh.messages.market import Bar, Candle, FeedRecovered, FeedStale, GapFound
from tbh.messages.orders import (
    Order,
    OrderAccepted,
    OrderChanged,
    OrderRejected,
    OrderStatus,
    OrderType,
    OutcomeUnknown,
    Purpose,
    Side,
)
from tbh.messages.strategy import IndicatorFailed, StrategyTicked
from tbh.messages.system import ActorHung, DeadLettered, Restarted
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable, Unknown
from tbh.runtime.probe import EPOCH, Probe

ONE = Decimal(1)
IDENTITY = BotIdentity(
    bot_id="bot", bot_name="demo", user_id="u", strategy="s", mode="paper", exchange="paper", symbol="BTC/USDT",
    boot_id="boot-1", run_id="run-1", version="1.2.3", provider="local", region="here", machine_id="m",
    polling_tier="standard", timeframe_s=60,
)  # fmt: skip
ORDER = Order(
    client_order_id="c1", intent_id="i1", symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET, qty=ONE,
    purpose=Purpose.ENTRY, strategy="s", bar_open=EPOCH, created_at=EPOCH,
)  # fmt: skip
UNKNOWN_STATE = replace(life.draft(ORDER, EPOCH), status=OrderStatus.UNKNOWN, version=1)
REJECTED_STATE = replace(UNKNOWN_STATE, status=OrderStatus.REJECTED, version=2)
POSITION = Position(
    symbol="BTC/USDT", strategy="s", position_id="c1", qty=ONE, entry_price=ONE, opened_at=EPOCH, bar_open=EPOCH
)
BAR = Bar(
    symbol="BTC/USDT", timeframe_s=60, index=0,
    candle=Candle(open_time=EPOCH, open=ONE, high=ONE, low=ONE, close=ONE, volume=ONE),
)  # fmt: skip
OPENED = PositionChanged(symbol="BTC/USDT", position=POSITION, seq=1)


def failed(stage: str, kind: str = "unavailable") -> RequestFailed:
    return RequestFailed(stage=stage, kind=kind, reason="x")


def synced(status: SyncStatus) -> PositionSynced:
    return PositionSynced(symbol="BTC/USDT", status=status, book_qty=ONE, exchange_qty=ONE, at=EPOCH, reconcile_ms=12.5)


CRITICAL: list[tuple[Message, str]] = [
    (FlushHealth(reason="halt"), "halt"),
    (OrderAccepted(client_order_id="c1", exchange_order_id="x1"), "order_ack"),
    (OrderRejected(client_order_id="c1", reason="no"), "order_reject"),
    (OutcomeUnknown(client_order_id="c1", reason="timeout"), "order_unknown"),
    (OrderChanged(state=REJECTED_STATE, event="rejected"), "order_rejected"),
    (IndicatorFailed(strategy="s", indicator="ema", detail="x"), "indicator_error"),
    (failed("relay"), "db_failure"),
    (failed("feed"), "feed_failed"),
    (FeedStale(symbol="BTC/USDT", age_s=200, limit_s=120), "feed_stale"),
    (FeedRecovered(symbol="BTC/USDT", stale_for_s=80), "feed_recovered"),
    (synced(SyncStatus.MISMATCH), "position_mismatch"),
    (StoreFailed(reason="disk_full", detail="x"), "store_disk_full"),
    (Restarted(actor="risk", incarnation=1, reason="x"), "actor_restarted"),
    (TokenRefused(reason="x"), "token_refused"),
    (ActorHung(actor="gateway", message_type="PlaceOrder", for_s=40), "hung_gateway"),
]
ROUTINE: list[Message] = [
    BAR, GapFound(symbol="BTC/USDT", at=EPOCH, missing=1), OPENED, synced(SyncStatus.OK), failed("place"),
    StrategyTicked(strategy="s", bar_index=0, warm=True, proposals=0), RequestSucceeded(stage="place", latency_ms=3),
    OrderChanged(state=UNKNOWN_STATE, event="recovered"), HeartbeatSent(beat=1, latency_ms=1),
    Journaled(last_seq=1), Relayed(up_to_seq=1, pending=0, refused=0),
    DeadLettered(actor="risk", seq=1, message_type="Bar", payload="", reason=""),
]  # fmt: skip


class Bench:
    def __init__(self, tier: str = "standard") -> None:
        self.rpc = MemoryRpc("bot", monotonic=lambda: 0.0)
        self.probe = Probe(
            HealthReporterActor,
            lambda ctx: HealthReporterActor(
                ctx, rpc=self.rpc, identity=IDENTITY, tier=tier, rss_mb=lambda: 61.25, mailbox_high_water=lambda: 17
            ),
        )

    def started(self) -> Bench:
        """Past the first flush and its debounce."""
        self.probe.tell(HeartbeatSent(beat=1, latency_ms=1.0))
        self.probe.advance(4)
        self.probe.take()
        return self

    @property
    def row(self) -> dict[str, Any]:
        return self.rpc.tables.health

    def flushed(self) -> list[str]:
        return [sent.reason for sent in self.probe.take(HealthFlushed)]


@pytest.fixture
def bench() -> Bench:
    return Bench().started()


class TestWhen:
    def test_the_start_is_told_as_soon_as_the_lease_is_ours(self) -> None:
        bench = Bench()
        bench.probe.advance(0)
        assert bench.probe.take() == []
        bench.probe.tell(HeartbeatSent(beat=1, latency_ms=1.0))
        bench.probe.advance(0)
        assert bench.probe.take() == [HealthFlushed(reason="started", count=1)]

    def test_without_a_heartbeat_evidence_goes_by_its_interval(self) -> None:
        bench = Bench("fast_5s")
        bench.probe.advance(6)
        assert len(bench.probe.take(HealthFlushed)) == 1

    @pytest.mark.parametrize(("tier", "flushes"), [("fast_5s", 24), ("ultra_15s", 8), ("fast_30s", 4), ("standard", 2)])
    def test_each_tier_has_its_interval(self, tier: str, flushes: int) -> None:
        bench = Bench(tier).started()
        bench.probe.advance(120)
        assert bench.flushed() == ["interval"] * flushes

    def test_in_a_position_it_reports_every_fifteen_seconds_at_least(self, bench: Bench) -> None:
        bench.probe.tell(OPENED)
        bench.probe.advance(60)
        assert bench.flushed() == ["interval"] * 4

    @pytest.mark.parametrize(("told", "reason"), CRITICAL, ids=[reason for _, reason in CRITICAL])
    def test_what_is_critical_is_told_now(self, bench: Bench, told: Message, reason: str) -> None:
        bench.probe.tell(told)
        bench.probe.advance(0)
        assert bench.flushed() == [reason]

    @pytest.mark.parametrize("told", ROUTINE, ids=lambda told: type(told).__name__)
    def test_what_is_routine_waits_for_the_interval(self, bench: Bench, told: Message) -> None:
        bench.probe.tell(told)
        bench.probe.advance(0.9)
        assert bench.flushed() == []

    def test_a_second_critical_event_waits_for_the_debounce_and_is_not_lost(self, bench: Bench) -> None:
        bench.probe.tell(FlushHealth(reason="a"))
        bench.probe.advance(0.5)
        bench.probe.tell(FlushHealth(reason="b"), FlushHealth(reason="c"))
        bench.probe.advance(2.4)
        assert bench.flushed() == ["a"]
        bench.probe.advance(0.2)
        assert bench.flushed() == ["b,c"]

    def test_a_storm_is_one_flush_per_debounce(self, bench: Bench) -> None:
        for _ in range(300):
            bench.probe.tell(CRITICAL[1][0])
            bench.probe.advance(0.1)
        assert 9 <= len(bench.flushed()) <= 11


class TestFailure:
    @pytest.mark.parametrize(
        "failure",
        [Unavailable("refused"), Unknown("timeout"), Rejected("stale_epoch"), Defer("busy", after_s=5), Fatal("x")],
        ids=lambda failure: failure.kind,
    )
    def test_a_flush_that_failed_is_tried_again_and_stops_nobody(self, bench: Bench, failure: Failure) -> None:
        bench.rpc.fail_next(failure)
        bench.probe.tell(FlushHealth(reason="a"))
        bench.probe.advance(0)
        assert bench.flushed() == []
        bench.probe.advance(6)
        assert bench.flushed() == ["a,retry"]
        assert (bench.probe.escalation, bench.probe.restarts) == (None, 0)
        assert bench.row["db"]["failures_15m"] == 1

    def test_it_tries_ever_more_slowly(self, bench: Bench) -> None:
        bench.rpc.fail_next(Unavailable("refused"), times=1000)
        bench.probe.tell(FlushHealth(reason="a"))
        before = bench.rpc.calls["upsert_health"]
        bench.probe.advance(600)
        assert 10 <= bench.rpc.calls["upsert_health"] - before <= 16

    @pytest.mark.parametrize("told", [told for told, _ in CRITICAL] + ROUTINE, ids=lambda told: type(told).__name__)
    def test_a_crash_on_any_message_is_followed_by_evidence_again(self, bench: Bench, told: Message) -> None:
        bench.probe.fail_next()
        bench.probe.tell(told)
        bench.probe.advance(1)
        assert bench.probe.restarts == 1
        assert bench.flushed() == ["restarted"]


class TestEvidence:
    def test_it_has_the_shape_of_the_contract(self, bench: Bench) -> None:
        assert {key: sorted(part) if isinstance(part, dict) else part for key, part in bench.row.items()} == {
            "schema": 1, "bot_id": "bot", "boot_id": "boot-1", "flushed_at": "2026-01-01T00:00:00Z",
            "reason": "started", "tier": "standard", "in_position": False,
            "auth": ["last_error", "last_ok_at", "ok"],
            "market_data": ["age_s", "gaps_15m", "last_bar_at", "reconnects_15m", "stale", "stale_rate_15m"],
            "strategy": ["errors_15m", "indicator_errors_15m", "last_tick_at", "ticks_15m"],
            "orders": ["acks_15m", "last_ack_ms", "rejects_15m", "unknown_now"],
            "position_sync": ["last_ok_at", "mismatch_since", "reconcile_ms", "status"],
            "db": ["failures_15m", "oldest_pending_s", "outbox_pending", "writes_15m"],
            "actors": ["dead_letters", "mailbox_high_water", "restarts_15m"],
            "runtime": ["rss_mb", "uptime_s", "version"],
        }  # fmt: skip

    def flush(self, bench: Bench, *told: Message) -> dict[str, Any]:
        bench.probe.tell(*told, FlushHealth(reason="now"))
        bench.probe.advance(4)
        return bench.row

    def test_orders_are_counted(self, bench: Bench) -> None:
        accepted, rejected = CRITICAL[1][0], CRITICAL[2][0]
        latency = RequestSucceeded(stage="place", latency_ms=3.25)
        row = self.flush(bench, accepted, accepted, rejected, latency, OrderChanged(state=UNKNOWN_STATE, event="x"))
        assert row["orders"] == {"acks_15m": 2, "rejects_15m": 1, "unknown_now": 1, "last_ack_ms": 3.25}
        assert self.flush(bench, OrderChanged(state=REJECTED_STATE, event="x"))["orders"]["unknown_now"] == 0

    def test_counts_leave_the_window_after_fifteen_minutes(self, bench: Bench) -> None:
        assert self.flush(bench, CRITICAL[1][0])["orders"]["acks_15m"] == 1
        bench.probe.advance(900)
        assert self.flush(bench)["orders"]["acks_15m"] == 0

    def test_the_age_of_the_data_counts_from_the_close_of_the_bar(self, bench: Bench) -> None:
        bench.probe.set_now(BAR.candle.open_time.replace(minute=3))
        row = self.flush(bench, BAR)
        assert row["market_data"]["last_bar_at"] == "2026-01-01T00:01:00Z"
        assert row["market_data"]["age_s"] == pytest.approx(120.0)

    def test_staleness_is_a_share_of_the_looks(self, bench: Bench) -> None:
        bench.probe.tell(CRITICAL[7][0])
        bench.probe.advance(16)
        bench.probe.tell(CRITICAL[8][0])
        bench.probe.advance(20)
        row = self.flush(bench, CRITICAL[9][0])
        assert (row["market_data"]["stale"], row["market_data"]["stale_rate_15m"]) == (False, 0.5)

    def test_a_bar_after_a_failed_feed_is_a_reconnect(self, bench: Bench) -> None:
        row = self.flush(bench, failed("feed"), failed("feed"), BAR, BAR)
        assert row["market_data"]["reconnects_15m"] == 1

    def test_a_mismatch_lasts_from_its_first_word_to_the_all_clear(self, bench: Bench) -> None:
        row = self.flush(bench, synced(SyncStatus.MISMATCH))
        assert (row["position_sync"]["status"], row["position_sync"]["mismatch_since"]) == (
            "mismatch", "2026-01-01T00:00:00Z",
        )  # fmt: skip
        row = self.flush(bench, synced(SyncStatus.OK))
        assert row["position_sync"]["mismatch_since"] is None
        assert row["position_sync"]["last_ok_at"] == "2026-01-01T00:00:00Z"

    def test_the_outbox_is_counted_and_its_oldest_entry_timed(self, bench: Bench) -> None:
        bench.probe.tell(Journaled(last_seq=4), Journaled(last_seq=6))
        bench.probe.advance(10)
        row = self.flush(bench, Journaled(last_seq=7))
        assert row["db"]["outbox_pending"] == 4
        assert row["db"]["oldest_pending_s"] == pytest.approx(10.0)
        row = self.flush(bench, Relayed(up_to_seq=7, pending=0, refused=0))
        assert (row["db"]["outbox_pending"], row["db"]["oldest_pending_s"]) == (0, 0.0)

    def test_an_answered_call_proves_the_keys_and_a_fatal_one_disproves_them(self, bench: Bench) -> None:
        assert self.flush(bench)["auth"]["ok"] is None
        assert self.flush(bench, RequestSucceeded(stage="account", latency_ms=1))["auth"]["ok"] is True
        row = self.flush(bench, failed("account"))
        assert (row["auth"]["ok"], row["auth"]["last_error"]) == (True, "account: unavailable: x")
        assert self.flush(bench, failed("account", "fatal"))["auth"]["ok"] is False

    def test_the_process_and_its_actors_are_measured(self, bench: Bench) -> None:
        letter = DeadLettered(actor="risk", seq=1, message_type="Bar", payload="", reason="")
        row = self.flush(bench, letter, Restarted(actor="strategy", incarnation=1, reason="x"))
        assert row["actors"] == {"restarts_15m": 1, "mailbox_high_water": 17, "dead_letters": 1}
        assert row["strategy"]["errors_15m"] == 1
        assert row["runtime"] == {"rss_mb": 61.2, "uptime_s": 4.0, "version": "1.2.3"}
