"""Telemetry: the structured events that dashboards read, made of the facts that everybody tells.

A bot trades on whether or not anybody looks: what the sink refuses is counted and logged, and nothing else. Numbers are
floats here, since a dashboard computes with them and no one trades on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from tbh.actors.evidence import ACCOUNT_STAGES, DATABASE_STAGES
from tbh.actors.identity import BotIdentity
from tbh.actors.trade_events import TradeEvents
from tbh.domain.health import ErrorCluster, ErrorClusters, HealthWindow
from tbh.messages.account import Marked, Position, PositionChanged, TradeClosed
from tbh.messages.base import Timer, message
from tbh.messages.controls import HeartbeatSent
from tbh.messages.health import (
    GateChanged,
    HealthFlushed,
    NoticeFailed,
    RequestFailed,
    RequestSucceeded,
    Severity,
)
from tbh.messages.journal import Relayed, StoreFailed
from tbh.messages.market import Bar, ReplayEnded
from tbh.messages.orders import Fill, OrderChanged, OrderStatus
from tbh.messages.strategy import IndicatorFailed
from tbh.messages.system import ActorHung, DeadLettered, Restarted
from tbh.ports import Failure, Telemetry
from tbh.runtime.actor import Actor, Context, receive

CHECK_EVERY_S = 5.0
TEXT_MAX = 255
"""New Relic cuts longer values."""

_TRANSIENT: Final = frozenset({"unknown", "unavailable", "defer"})


@message
class _Settle(Timer):
    """Orders that wait have waited long enough."""


@message
class _Check(Timer):
    """Are clusters of errors over?"""


class TelemetryActor(Actor):
    """``mailbox_high_water`` reads the fullest mailbox there was."""

    sends = ()

    def __init__(
        self,
        ctx: Context,
        *,
        sink: Telemetry,
        identity: BotIdentity,
        mailbox_high_water: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(ctx)
        self._sink = sink
        self._identity = identity
        self._mailbox_high_water = mailbox_high_water
        self._window = HealthWindow()
        self._clusters = ErrorClusters()
        self._dropped = 0
        self._beat = 0
        self._beat_at_s: float | None = None
        self._poll_effective_s = identity.tier_s
        self._exchange_calls = 0
        self._db_writes = 0
        self._bar_at_s: float | None = None
        self._bar_to_order_ms = 0.0
        self._gate: tuple[str, ...] = ()
        self._gate_held: GateChanged | None = None
        self._position_known = False
        self._position: Position | None = None
        self._marked: Marked | None = None
        self._trades = TradeEvents()
        self._settling = False
        ctx.every(CHECK_EVERY_S, _Check())

    # Events

    def _emit(self, event_type: str, severity: Severity, **attributes: Any) -> None:
        event = self._common(event_type, severity) | attributes
        try:
            self._sink.emit(event_type, {key: _plain(value) for key, value in event.items() if value is not None})
        except Failure as failure:
            self._drop(failure)

    def _flush(self) -> None:
        try:
            self._sink.flush()
        except Failure as failure:
            self._drop(failure)

    def _drop(self, failure: Failure) -> None:
        self._dropped += 1
        if self._dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: a dead sink must not fill the log
            self.ctx.log.warning("telemetry_dropped", error=str(failure), dropped=self._dropped)

    def _common(self, event_type: str, severity: Severity) -> dict[str, Any]:
        bot, position, marked, now_s = self._identity, self._position, self._marked, self.ctx.monotonic()
        return {
            "eventType": event_type,
            "bot_id": bot.bot_id,
            "bot_name": bot.bot_name,
            "user_id": bot.user_id,
            "strategy": bot.strategy,
            "mode": bot.mode,
            "exchange": bot.exchange,
            "symbol": bot.symbol,
            "boot_id": bot.boot_id,
            "run_id": bot.run_id,
            "cycle_id": f"{bot.run_id}:{self._beat}",
            "version": bot.version,
            "provider": bot.provider,
            "region": bot.region,
            "machine_id": bot.machine_id,
            "polling_tier": bot.polling_tier,
            "poll_requested_s": bot.tier_s,
            "poll_effective_s": round(self._poll_effective_s, 3),
            "gate_reason": ",".join(self._gate),
            "severity": severity.value,
            "in_position": position is not None,
            "position_side": "flat" if position is None else "long" if position.qty > 0 else "short",
            "position_qty": 0.0 if position is None else position.qty,
            "position_entry": 0.0 if position is None else position.entry_price,
            "position_mark": None if marked is None else marked.mark,
            "position_unrealised": 0.0 if position is None or marked is None else marked.unrealised_pnl,
            "errors_15m": self._window.count("errors", now_s),
            "rejects_15m": self._window.count("rejects", now_s),
            "db_failures_15m": self._window.count("db_failures", now_s),
        }

    # BotHeartbeat and BotLoop

    @receive
    def on_heartbeat(self, sent: HeartbeatSent) -> None:
        now_s = self.ctx.monotonic()
        if self._beat_at_s is not None:
            self._poll_effective_s = now_s - self._beat_at_s
        self._beat_at_s = now_s
        self._beat = sent.beat
        self._db_writes += 1
        severity = Severity.WARNING if self._gate else Severity.INFO
        equity = None if self._marked is None else self._marked.equity
        self._emit("BotHeartbeat", severity, heartbeat_seq=sent.beat, equity=equity)
        self._emit(
            "BotLoop",
            Severity.INFO,
            loop_ms=round(sent.latency_ms, 3),
            sleep_ms=round(max(self._poll_effective_s * 1000 - sent.latency_ms, 0.0), 3),
            exchange_calls=self._exchange_calls,
            db_writes=self._db_writes,
            mailbox_max=self._mailbox_high_water(),
            bar_to_order_ms=round(self._bar_to_order_ms, 3),
        )
        self._exchange_calls = self._db_writes = 0
        self._flush()

    @receive
    def on_marked(self, marked: Marked) -> None:
        self._marked = marked

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        self._position = changed.held
        self._position_known = True
        if self._gate_held is not None:
            self._tell_gate(self._gate_held)

    @receive
    def on_bar(self, _: Bar) -> None:
        self._bar_at_s = self.ctx.monotonic()

    @receive
    def on_request_succeeded(self, succeeded: RequestSucceeded) -> None:
        self._exchange_calls += succeeded.stage in ACCOUNT_STAGES

    @receive
    def on_relayed(self, _: Relayed) -> None:
        self._db_writes += 1

    @receive
    def on_health_flushed(self, _: HealthFlushed) -> None:
        self._db_writes += 1

    # BotGate

    @receive
    def on_gate_changed(self, changed: GateChanged) -> None:
        self._gate = changed.reasons
        if changed.reasons or self._position_known:
            self._tell_gate(changed)
        else:
            self._gate_held = changed  # no entry can be made before the start knows its position, too

    def _tell_gate(self, changed: GateChanged) -> None:
        self._gate_held = None
        severity = Severity.WARNING if changed.reasons else Severity.INFO
        self._emit("BotGate", severity, blocked=bool(changed.reasons), allowed_exits=changed.exits_allowed)

    # BotTrade

    @receive
    def on_fill(self, fill: Fill) -> None:
        self._trades.fill(fill)

    @receive
    def on_order_changed(self, changed: OrderChanged) -> None:
        state, now_s = changed.state, self.ctx.monotonic()
        if state.status is OrderStatus.SUBMITTED and self._bar_at_s is not None:
            self._bar_to_order_ms = (now_s - self._bar_at_s) * 1000
        if state.status is OrderStatus.REJECTED:
            self._window.add("rejects", now_s)
        self._trades.order(state, now_s)
        self._wait()

    @receive
    def on_trade_closed(self, closed: TradeClosed) -> None:
        self._trades.closed(closed)

    @receive
    def on_settle(self, _: _Settle) -> None:
        self._settling = False
        self._tell_trades(self.ctx.monotonic())
        self._wait()

    def _wait(self) -> None:
        wait_s = self._trades.wait_s(self.ctx.monotonic())
        if wait_s is not None and not self._settling:
            self._settling = True
            self.ctx.after(wait_s, _Settle())

    def _tell_trades(self, until_s: float) -> None:
        for attributes in self._trades.settled(until_s):
            self._emit("BotTrade", Severity.INFO, **attributes)

    @receive
    def on_replay_ended(self, _: ReplayEnded) -> None:
        self.on_stop()

    def on_stop(self) -> None:
        """Tell what still waits."""
        self._tell_trades(math.inf)
        self._emit_errors(self._clusters.all())
        self._flush()

    # BotError

    @receive
    def on_check(self, _: _Check) -> None:
        self._emit_errors(self._clusters.over(self.ctx.monotonic()))

    @receive
    def on_request_failed(self, failed: RequestFailed) -> None:
        self._exchange_calls += failed.stage in ACCOUNT_STAGES
        if failed.stage in DATABASE_STAGES:
            self._window.add("db_failures", self.ctx.monotonic())
        self._error(failed.stage, failed.kind, failed.reason)

    @receive
    def on_store_failed(self, failed: StoreFailed) -> None:
        self._window.add("db_failures", self.ctx.monotonic())
        self._error("journaler", failed.reason, failed.detail)

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        error_class, _, text = restarted.reason.partition(":")
        self._error(restarted.actor, error_class, text.strip() or error_class)

    @receive
    def on_dead_lettered(self, letter: DeadLettered) -> None:
        self._error(letter.actor, f"dead_letter:{letter.message_type}", letter.reason)

    @receive
    def on_hung(self, hung: ActorHung) -> None:
        self._error(hung.actor, "hung", f"{hung.message_type} for {hung.for_s:.1f} s")

    @receive
    def on_notice_failed(self, failed: NoticeFailed) -> None:
        self._error("notifier", "notice_failed", failed.reason)

    @receive
    def on_indicator_failed(self, failed: IndicatorFailed) -> None:
        self._error("strategy", f"indicator:{failed.indicator}", failed.detail)

    def _error(self, stage: str, error_class: str, text: str) -> None:
        now_s = self.ctx.monotonic()
        self._window.add("errors", now_s)
        self._emit_errors(self._clusters.add(stage, error_class, text, now_s))

    def _emit_errors(self, clusters: list[ErrorCluster]) -> None:
        for cluster in clusters:
            self._emit(
                "BotError",
                Severity.WARNING,
                stage=cluster.stage,
                error_class=cluster.error_class,
                message=cluster.message,
                count=cluster.count,
                retry=cluster.error_class in _TRANSIENT,
                backoff_s=0.0,
            )


def _plain(value: Any) -> str | int | float | bool:
    if isinstance(value, Decimal):
        return float(value)
    return value[:TEXT_MAX] if isinstance(value, str) else value
