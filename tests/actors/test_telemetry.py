"""Telemetry: the five events with their attributes, and a sink that may fail as it likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.identity import BotIdentity
from tbh.actors.telemetry import TEXT_MAX, TelemetryActor
from tbh.domain import order as life
from tbh.messages.account import Marked, Position, PositionChanged, Trade, TradeClosed
from tbh.messages.base import Message
from tbh.messages.controls import HeartbeatSent
from tbh.messages.health import GateChanged, HealthFlushed, NoticeFailed, RequestFailed, RequestSucceeded
from tbh.messages.journal import Relayed, StoreFailed
from tbh.messages.market import Bar, Candle, ReplayEnded
from tbh.messages.orders import Fill, Order, OrderChanged, OrderStatus, OrderType, Purpose, Side
from tbh.messages.strategy import IndicatorFailed
from tbh.messages.system import ActorHung, DeadLettered, Restarted
from tbh.ports import Failure, Fatal, Unavailable
from tbh.runtime.probe import EPOCH, Probe

ONE = Decimal(1)
IDENTITY = BotIdentity(
    bot_id="bot", bot_name="demo", user_id="u", strategy="s", mode="paper", exchange="paper", symbol="BTC/USDT",
    boot_id="boot-1", run_id="run-1", version="1.2.3", provider="local", region="here", machine_id="m",
    polling_tier="fast_5s", timeframe_s=60,
)  # fmt: skip
COMMON = {
    "eventType",
    "bot_id",
    "bot_name",
    "user_id",
    "strategy",
    "mode",
    "exchange",
    "symbol",
    "boot_id",
    "run_id",
    "cycle_id",
    "version",
    "provider",
    "region",
    "machine_id",
    "polling_tier",
    "poll_requested_s",
    "poll_effective_s",
    "gate_reason",
    "severity",
    "in_position",
    "position_side",
    "position_qty",
    "position_entry",
    "position_mark",
    "position_unrealised",
    "errors_15m",
    "rejects_15m",
    "db_failures_15m",
}
POSITION = Position(
    symbol="BTC/USDT", strategy="s", position_id="c1", qty=Decimal("-0.5"), entry_price=Decimal(100),
    opened_at=EPOCH, bar_open=EPOCH,
)  # fmt: skip
OPENED = PositionChanged(symbol="BTC/USDT", position=POSITION, seq=1)
MARKED = Marked(
    symbol="BTC/USDT", bar_index=3, at=EPOCH, mark=Decimal(99), cash=Decimal(900), equity=Decimal("1000.5"),
    realised_pnl=Decimal(0), unrealised_pnl=Decimal("0.5"), fees=Decimal(0), drawdown=Decimal(0), day_pnl=Decimal(1),
)  # fmt: skip
BAR = Bar(
    symbol="BTC/USDT", timeframe_s=60, index=0,
    candle=Candle(open_time=EPOCH, open=ONE, high=ONE, low=ONE, close=ONE, volume=ONE),
)  # fmt: skip
FAILED = RequestFailed(stage="relay", kind="unavailable", reason="refused")
CLOSED = TradeClosed(
    trade=Trade(
        side="long", symbol="BTC/USDT", entry_time=EPOCH, exit_time=EPOCH, entry_price=ONE, exit_price=ONE, qty=ONE,
        fees=ONE, pnl=Decimal("2.5"), exit_reason="signal",
    ),
    side=Side.SELL,
)  # fmt: skip


def changed(name: str, purpose: Purpose, status: OrderStatus = OrderStatus.FILLED, filled: int = 1) -> OrderChanged:
    order = Order(
        client_order_id=name, intent_id="i", symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET, qty=ONE,
        purpose=purpose, strategy="s", bar_open=EPOCH, created_at=EPOCH,
    )  # fmt: skip
    state = replace(
        life.draft(order, EPOCH), status=status, version=5, exchange_order_id="x1", filled_qty=Decimal(filled),
        avg_price=Decimal(100),
    )  # fmt: skip
    return OrderChanged(state=state, event="last_fill")


def fill(name: str, trade_id: str) -> Fill:
    return Fill(
        trade_id=trade_id, client_order_id=name, exchange_order_id="x1", symbol="BTC/USDT", side=Side.BUY,
        qty=Decimal("0.5"), price=Decimal(100), fee=Decimal("0.05"), fee_asset="USDT", maker=False, at=EPOCH, seq=1,
    )  # fmt: skip


class Sink:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.flushes = 0
        self.failure: Failure | None = None

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        assert attributes["eventType"] == event_type
        self.events.append(dict(attributes))

    def flush(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.flushes += 1


class Bench:
    def __init__(self) -> None:
        self.sink = Sink()
        self.probe = Probe(
            TelemetryActor,
            lambda ctx: TelemetryActor(ctx, sink=self.sink, identity=IDENTITY, mailbox_high_water=lambda: 7),
        )

    def take(self, event_type: str) -> list[dict[str, Any]]:
        events, self.sink.events = self.sink.events, []
        return [event for event in events if event["eventType"] == event_type]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_heartbeat_is_a_heartbeat_and_a_loop(bench: Bench) -> None:
    bench.probe.tell(MARKED, HeartbeatSent(beat=4, latency_ms=12.5))
    heartbeat, loop = bench.sink.events
    assert set(heartbeat) == COMMON | {"heartbeat_seq", "equity"}
    assert (heartbeat["heartbeat_seq"], heartbeat["equity"], heartbeat["cycle_id"]) == (4, 1000.5, "run-1:4")
    assert set(loop) == COMMON | {
        "loop_ms",
        "sleep_ms",
        "exchange_calls",
        "db_writes",
        "mailbox_max",
        "bar_to_order_ms",
    }
    assert bench.sink.flushes == 1


def test_a_loop_counts_what_happened_since_the_last_one(bench: Bench) -> None:
    place, feed = RequestSucceeded(stage="place", latency_ms=1), RequestSucceeded(stage="feed", latency_ms=1)
    bench.probe.tell(place, feed, replace(FAILED, stage="query"), Relayed(up_to_seq=1, pending=0, refused=0))
    bench.probe.tell(HealthFlushed(reason="x", count=1), HeartbeatSent(beat=1, latency_ms=1))
    bench.probe.tell(HeartbeatSent(beat=2, latency_ms=1))
    loops = bench.take("BotLoop")
    assert [(loop["exchange_calls"], loop["db_writes"], loop["mailbox_max"]) for loop in loops] == [
        (2, 3, 7),
        (0, 1, 7),
    ]


def test_the_effective_interval_is_measured(bench: Bench) -> None:
    bench.probe.tell(HeartbeatSent(beat=1, latency_ms=0))
    bench.probe.advance(8)
    bench.probe.tell(HeartbeatSent(beat=2, latency_ms=500))
    first, second = bench.take("BotLoop")
    assert (first["poll_requested_s"], first["poll_effective_s"]) == (5.0, 5.0)
    assert (second["poll_effective_s"], second["sleep_ms"]) == (8.0, 7500.0)


def test_the_position_goes_with_every_event(bench: Bench) -> None:
    bench.probe.tell(OPENED, MARKED, GateChanged(reasons=(), exits_allowed=True))
    (event,) = bench.take("BotGate")
    position = {key: event[key] for key in event if key.startswith(("position", "in_"))}
    assert position == {
        "in_position": True, "position_side": "short", "position_qty": -0.5, "position_entry": 100.0,
        "position_mark": 99.0, "position_unrealised": 0.5,
    }  # fmt: skip


def test_an_open_gate_is_told_once_the_position_is_known(bench: Bench) -> None:
    bench.probe.tell(GateChanged(reasons=(), exits_allowed=True))
    assert bench.sink.events == []
    bench.probe.tell(OPENED)
    (gate,) = bench.sink.events
    assert (gate["eventType"], gate["gate_reason"], gate["in_position"]) == ("BotGate", "", True)


def test_a_gate_that_closes_before_the_position_is_known_is_told_at_once_and_alone(bench: Bench) -> None:
    bench.probe.tell(GateChanged(reasons=(), exits_allowed=True), GateChanged(reasons=("paused",), exits_allowed=True))
    bench.probe.tell(OPENED)
    assert [event["gate_reason"] for event in bench.sink.events] == ["paused"]


def test_a_change_of_the_gate_is_an_event_and_stays_a_reason(bench: Bench) -> None:
    bench.probe.tell(GateChanged(reasons=("paused", "drawdown"), exits_allowed=True))
    bench.probe.tell(HeartbeatSent(beat=1, latency_ms=0))
    gate, heartbeat, _ = bench.sink.events
    assert (gate["blocked"], gate["allowed_exits"], gate["gate_reason"]) == (True, True, "paused,drawdown")
    assert (heartbeat["gate_reason"], heartbeat["severity"]) == ("paused,drawdown", "warning")


class TestTrades:
    def test_an_entry_is_told_with_its_fees(self, bench: Bench) -> None:
        bench.probe.tell(changed("c1", Purpose.ENTRY), fill("c1", "t1"), fill("c1", "t2"))
        bench.probe.advance(1)
        (event,) = bench.take("BotTrade")
        assert {key: event[key] for key in event if key not in COMMON} == {
            "event": "entry", "client_order_id": "c1", "exchange_order_id": "x1", "side": "buy", "qty": 1.0,
            "price": 100.0, "fee": 0.1, "pnl": 0.0,
        }  # fmt: skip

    @pytest.mark.parametrize("late", [False, True])
    def test_an_exit_is_told_with_its_profit_whoever_speaks_first(self, bench: Bench, late: bool) -> None:
        told: list[Message] = [CLOSED, changed("c2", Purpose.STOP)]
        bench.probe.tell(*(reversed(told) if late else told))
        bench.probe.advance(1)
        (event,) = bench.take("BotTrade")
        assert (event["event"], event["pnl"]) == ("stop", 2.5)

    def test_a_profit_is_not_given_to_an_entry(self, bench: Bench) -> None:
        bench.probe.tell(CLOSED, changed("c1", Purpose.ENTRY), changed("c2", Purpose.EXIT))
        bench.probe.advance(1)
        assert [event["pnl"] for event in bench.take("BotTrade")] == [0.0, 2.5]

    def test_an_order_is_told_once(self, bench: Bench) -> None:
        bench.probe.tell(changed("c1", Purpose.ENTRY), changed("c1", Purpose.ENTRY))
        bench.probe.advance(10)
        assert len(bench.take("BotTrade")) == 1

    def test_a_part_that_filled_before_a_cancel_is_a_trade(self, bench: Bench) -> None:
        bench.probe.tell(changed("c1", Purpose.ENTRY, OrderStatus.CANCELED))
        bench.probe.tell(changed("c2", Purpose.ENTRY, OrderStatus.CANCELED, filled=0))
        bench.probe.tell(changed("c3", Purpose.ENTRY, OrderStatus.PARTIALLY_FILLED))
        bench.probe.advance(10)
        assert [event["client_order_id"] for event in bench.take("BotTrade")] == ["c1"]

    @pytest.mark.parametrize("end", ["stop", "replay"])
    def test_what_still_waits_at_the_end_is_told(self, bench: Bench, end: str) -> None:
        bench.probe.tell(changed("c1", Purpose.ENTRY), FAILED, FAILED)
        if end == "stop":
            bench.probe.stop()
        else:
            bench.probe.tell(ReplayEnded(bars=1))
        assert [event["eventType"] for event in bench.sink.events] == ["BotError", "BotTrade", "BotError"]
        assert bench.sink.flushes == 1

    def test_the_way_from_bar_to_order_is_timed(self, bench: Bench) -> None:
        bench.probe.tell(BAR)
        bench.probe.advance(0.25)
        bench.probe.tell(changed("c1", Purpose.ENTRY, OrderStatus.SUBMITTED, filled=0))
        bench.probe.tell(HeartbeatSent(beat=1, latency_ms=0))
        assert bench.take("BotLoop")[0]["bar_to_order_ms"] == 250.0


class TestErrors:
    @pytest.mark.parametrize(
        ("told", "stage", "error_class"),
        [
            (FAILED, "relay", "unavailable"),
            (StoreFailed(reason="disk_full", detail="x"), "journaler", "disk_full"),
            (Restarted(actor="risk", incarnation=1, reason="ValueError: no"), "risk", "ValueError"),
            (
                DeadLettered(actor="risk", seq=1, message_type="Fill", payload="", reason="x"),
                "risk",
                "dead_letter:Fill",
            ),
            (ActorHung(actor="gateway", message_type="PlaceOrder", for_s=31), "gateway", "hung"),
            (NoticeFailed(key="k", reason="x"), "notifier", "notice_failed"),
            (IndicatorFailed(strategy="s", indicator="ema", detail="x"), "strategy", "indicator:ema"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Message) else None,
    )
    def test_an_error_is_told_at_once(self, bench: Bench, told: Message, stage: str, error_class: str) -> None:
        bench.probe.tell(told)
        (event,) = bench.take("BotError")
        assert set(event) == COMMON - {"position_mark"} | {
            "stage",
            "error_class",
            "message",
            "count",
            "retry",
            "backoff_s",
        }
        assert (event["stage"], event["error_class"], event["count"]) == (stage, error_class, 1)

    def test_a_storm_is_two_events_a_minute(self, bench: Bench) -> None:
        bench.probe.tell(*[FAILED] * 500)
        bench.probe.advance(65)
        assert [event["count"] for event in bench.take("BotError")] == [1, 499]

    def test_errors_roll_over_fifteen_minutes(self, bench: Bench) -> None:
        bench.probe.tell(FAILED, FAILED, changed("c1", Purpose.ENTRY, OrderStatus.REJECTED, filled=0))
        bench.probe.tell(HeartbeatSent(beat=1, latency_ms=0))
        bench.probe.advance(901)
        bench.probe.tell(HeartbeatSent(beat=2, latency_ms=0))
        figures = [
            (event["errors_15m"], event["rejects_15m"], event["db_failures_15m"])
            for event in bench.take("BotHeartbeat")
        ]
        assert figures == [(2, 1, 2), (0, 0, 0)]

    def test_a_long_text_is_cut(self, bench: Bench) -> None:
        bench.probe.tell(replace(FAILED, reason="x" * 1000))
        assert len(bench.take("BotError")[0]["message"]) == TEXT_MAX


@pytest.mark.parametrize("failure", [Unavailable("refused"), Fatal("bad_key", exit_code=78)], ids=repr)
def test_a_sink_that_fails_stops_nobody(bench: Bench, failure: Failure) -> None:
    bench.sink.failure = failure
    bench.probe.tell(HeartbeatSent(beat=1, latency_ms=0), FAILED)
    bench.sink.failure = None
    bench.probe.tell(HeartbeatSent(beat=2, latency_ms=0))
    assert (bench.probe.escalation, bench.probe.restarts) == (None, 0)
    assert len(bench.take("BotHeartbeat")) == 1


RECEIVED: list[Message] = [
    HeartbeatSent(beat=1, latency_ms=0), MARKED, OPENED, BAR, FAILED, CLOSED, fill("c1", "t1"),
    changed("c1", Purpose.ENTRY), GateChanged(reasons=(), exits_allowed=True), ReplayEnded(bars=1),
    RequestSucceeded(stage="place", latency_ms=1), Relayed(up_to_seq=1, pending=0, refused=0),
    HealthFlushed(reason="x", count=1), StoreFailed(reason="broken", detail="x"), NoticeFailed(key="k", reason="x"),
    Restarted(actor="risk", incarnation=1, reason="x"), ActorHung(actor="a", message_type="Bar", for_s=31),
    DeadLettered(actor="risk", seq=1, message_type="Bar", payload="", reason=""),
    IndicatorFailed(strategy="s", indicator="ema", detail="x"),
]  # fmt: skip


@pytest.mark.parametrize("told", RECEIVED, ids=lambda told: type(told).__name__)
def test_a_crash_on_any_message_is_followed_by_events_again(bench: Bench, told: Message) -> None:
    bench.probe.fail_next()
    bench.probe.tell(told)
    bench.probe.advance(1)
    bench.probe.tell(*RECEIVED)
    bench.probe.advance(2)
    assert bench.probe.restarts == 1
    kinds = {event["eventType"] for event in bench.sink.events}
    assert kinds == {"BotHeartbeat", "BotLoop", "BotGate", "BotTrade", "BotError"}


def test_no_event_has_more_than_sixty_attributes(bench: Bench) -> None:
    bench.probe.tell(*RECEIVED)
    assert max(len(event) for event in bench.sink.events) <= 60
    assert all(isinstance(value, str | int | float) for event in bench.sink.events for value in event.values())
