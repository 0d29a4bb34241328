"""What the health reporter knows, and the patch that it makes of it (schema 1 of the evidence)."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any, Final

from tbh.actors.identity import BotIdentity
from tbh.actors.rows import utc_text
from tbh.domain.health import HealthWindow
from tbh.messages.account import PositionSynced, SyncStatus
from tbh.messages.health import RequestFailed, RequestSucceeded
from tbh.messages.journal import Journaled, Relayed
from tbh.messages.market import Bar
from tbh.messages.orders import OrderState, OrderStatus
from tbh.ports import Fatal

PENDING_KEPT_MAX = 1_000
UNKNOWN_KEPT_MAX = 1_000
ERROR_CHARS_MAX = 500

ACCOUNT_STAGES: Final = frozenset({"place", "cancel", "query", "account", "events"})
"""Stages of ``RequestFailed`` and ``RequestSucceeded`` that are signed calls to the exchange."""
DATABASE_STAGES: Final = frozenset({"relay"})
"""Those that are calls to the database."""


class Evidence:
    """Told facts with the time; ``patch`` is what the database is given. Times: market time for what is shown as a
    time, seconds of the process clock for what is counted."""

    def __init__(self, identity: BotIdentity, *, tier: str, started_s: float) -> None:
        self.window = HealthWindow()
        self.in_position = False
        self.stale = False
        self.dead_letters = 0
        self.last_tick_at: datetime | None = None
        self._identity = identity
        self._tier = tier
        self._started_s = started_s
        self._auth: dict[str, Any] = {"ok": None, "last_ok_at": None, "last_error": None}
        self._last_bar_at: datetime | None = None
        self._feed_failing = False
        self._unknown: dict[str, None] = {}
        self._last_ack_ms: float | None = None
        self._sync: dict[str, Any] = {"status": SyncStatus.UNKNOWN.value, "last_ok_at": None, "reconcile_ms": None}
        self._mismatch_since: datetime | None = None
        self._pending: deque[tuple[int, float]] = deque(maxlen=PENDING_KEPT_MAX)
        self._newest_seq: int | None = None
        self._outbox_pending = 0

    def bar(self, bar: Bar, now_s: float) -> None:
        self._last_bar_at = bar.candle.open_time + timedelta(seconds=bar.timeframe_s)
        if self._feed_failing:
            self._feed_failing = False
            self.window.add("reconnects", now_s)

    def order(self, state: OrderState) -> None:
        if state.status is not OrderStatus.UNKNOWN:
            self._unknown.pop(state.order.client_order_id, None)
        elif len(self._unknown) < UNKNOWN_KEPT_MAX:
            self._unknown[state.order.client_order_id] = None

    def synced(self, synced: PositionSynced) -> bool:
        """Whether book and exchange have begun to disagree."""
        self._sync["status"] = synced.status.value
        self._sync["reconcile_ms"] = round(synced.reconcile_ms, 3)
        if synced.status is SyncStatus.OK:
            self._sync["last_ok_at"] = utc_text(synced.at)
            self._mismatch_since = None
            return False
        began = self._mismatch_since is None
        self._mismatch_since = self._mismatch_since or synced.at
        return began

    def failed(self, failed: RequestFailed) -> None:
        if failed.stage == "feed":
            self._feed_failing = True
        elif failed.stage in ACCOUNT_STAGES:
            self._auth["last_error"] = f"{failed.stage}: {failed.kind}: {failed.reason}"[:ERROR_CHARS_MAX]
            if failed.kind == Fatal.kind:
                self._auth["ok"] = False

    def succeeded(self, succeeded: RequestSucceeded, now: datetime) -> None:
        if succeeded.stage in ACCOUNT_STAGES:
            self._auth["ok"] = True
            self._auth["last_ok_at"] = utc_text(now)
        if succeeded.stage == "place":
            self._last_ack_ms = round(succeeded.latency_ms, 3)

    def journaled(self, journaled: Journaled, now_s: float) -> None:
        newest = journaled.last_seq - 1 if self._newest_seq is None else self._newest_seq
        self._outbox_pending += max(journaled.last_seq - newest, 0)
        self._newest_seq = max(journaled.last_seq, newest)
        if self._pending and now_s - self._pending[-1][1] < 1:
            self._pending[-1] = (journaled.last_seq, self._pending[-1][1])
        else:
            self._pending.append((journaled.last_seq, now_s))

    def relayed(self, relayed: Relayed) -> None:
        self._outbox_pending = relayed.pending
        while self._pending and self._pending[0][0] <= relayed.up_to_seq:
            self._pending.popleft()

    def patch(
        self, reason: str, *, now: datetime, now_s: float, rss_mb: float, mailbox_high_water: int
    ) -> dict[str, Any]:
        """The evidence as it stands, JSON types only."""

        def count(key: str) -> int:
            return self.window.count(key, now_s)

        bar_at = self._last_bar_at
        return {
            "schema": 1,
            "bot_id": self._identity.bot_id,
            "boot_id": self._identity.boot_id,
            "flushed_at": utc_text(now),
            "reason": reason,
            "tier": self._tier,
            "in_position": self.in_position,
            "auth": dict(self._auth),
            "market_data": {
                "last_bar_at": _time(bar_at),
                "age_s": None if bar_at is None else max((now - bar_at).total_seconds(), 0.0),
                "stale": self.stale,
                "stale_rate_15m": round(self.window.share("stale_checks", "checks", now_s), 4),
                "gaps_15m": count("gaps"),
                "reconnects_15m": count("reconnects"),
            },
            "strategy": {
                "last_tick_at": _time(self.last_tick_at),
                "ticks_15m": count("ticks"),
                "errors_15m": count("strategy_errors"),
                "indicator_errors_15m": count("indicator_errors"),
            },
            "orders": {
                "acks_15m": count("acks"),
                "rejects_15m": count("rejects"),
                "unknown_now": len(self._unknown),
                "last_ack_ms": self._last_ack_ms,
            },
            "position_sync": {
                **self._sync,
                "mismatch_since": _time(self._mismatch_since),
            },
            "db": {
                "writes_15m": count("db_writes"),
                "failures_15m": count("db_failures"),
                "outbox_pending": self._outbox_pending,
                "oldest_pending_s": round(now_s - self._pending[0][1], 3) if self._pending else 0.0,
            },
            "actors": {
                "restarts_15m": count("restarts"),
                "mailbox_high_water": mailbox_high_water,
                "dead_letters": self.dead_letters,
            },
            "runtime": {
                "rss_mb": round(rss_mb, 1),
                "uptime_s": round(now_s - self._started_s, 1),
                "version": self._identity.version,
            },
        }


def _time(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)
