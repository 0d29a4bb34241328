"""The health reporter: tells the database how the bot is, as evidence merged into one row per bot.

It listens to everybody and is asked by nobody; a failing database costs it nothing but another try. What it knows is
volatile, so a restart begins with empty windows.
"""

from __future__ import annotations

from collections.abc import Callable

from tbh.actors.evidence import DATABASE_STAGES, Evidence
from tbh.actors.identity import POLLING_TIERS_S, BotIdentity
from tbh.domain.health import FlushSchedule
from tbh.domain.order import is_terminal
from tbh.messages.account import PositionChanged, PositionSynced
from tbh.messages.base import Timer, message
from tbh.messages.controls import HeartbeatSent, TokenRefused
from tbh.messages.health import FlushHealth, HealthFlushed, RequestFailed, RequestSucceeded
from tbh.messages.journal import Journaled, Relayed, StoreFailed
from tbh.messages.market import Bar, FeedRecovered, FeedStale, GapFound
from tbh.messages.orders import OrderAccepted, OrderChanged, OrderRejected, OutcomeUnknown
from tbh.messages.strategy import IndicatorFailed, StrategyTicked
from tbh.messages.system import ActorHung, DeadLettered, Restarted
from tbh.ports import Defer, Failure, Rpc
from tbh.runtime.actor import Actor, Context, receive

CHECK_EVERY_S = 5.0
RETRY_FIRST_S = 3.0
RETRY_MAX_S = 60.0


@message
class _Check(Timer):
    """Is evidence due?"""


@message
class _Debounced(Timer):
    """The debounce, or the back-off, is over for what was asked for."""


class HealthReporterActor(Actor):
    """``tier`` is the polling tier, whose interval counts. ``rss_mb`` and ``mailbox_high_water`` read the process;
    ``started_s`` is when it began, on the process clock (None: with this actor)."""

    sends = (HealthFlushed,)

    def __init__(
        self,
        ctx: Context,
        *,
        rpc: Rpc,
        identity: BotIdentity,
        tier: str,
        rss_mb: Callable[[], float],
        mailbox_high_water: Callable[[], int] = lambda: 0,
        started_s: float | None = None,
    ) -> None:
        super().__init__(ctx)
        self._rpc = rpc
        self._rss_mb = rss_mb
        self._mailbox_high_water = mailbox_high_water
        self._evidence = Evidence(identity, tier=tier, started_s=ctx.monotonic() if started_s is None else started_s)
        self._schedule = FlushSchedule(interval_s=POLLING_TIERS_S[tier], now_s=ctx.monotonic())
        self._debouncing: int | None = None
        self._flushes = 0
        self._failures = 0
        ctx.every(CHECK_EVERY_S, _Check())
        self._started = bool(ctx.incarnation)
        if self._started:
            self._flush_now("restarted")

    @receive
    def on_flush_health(self, command: FlushHealth) -> None:
        self._flush_now(command.reason)

    @receive
    def on_check(self, _: _Check) -> None:
        self._count("checks")
        if self._evidence.stale:
            self._count("stale_checks")
        self._flush_if_due()

    @receive
    def on_debounced(self, _: _Debounced) -> None:
        self._debouncing = None
        self._flush_if_due()
        self._wait()

    def _flush_now(self, reason: str) -> None:
        self._schedule.ask(reason)
        self._wait()

    def _wait(self) -> None:
        # Even what may go at once goes by timer: facts that come in one burst are one flush.
        wait_s = self._schedule.wait_s(self.ctx.monotonic())
        if wait_s is not None and self._debouncing is None:
            self._debouncing = self.ctx.after(wait_s, _Debounced())

    def _flush_if_due(self) -> None:
        now_s, evidence = self.ctx.monotonic(), self._evidence
        reason = self._schedule.due(now_s, in_position=evidence.in_position)
        if reason is None:
            return
        self._schedule.begun(now_s)
        patch = evidence.patch(
            reason,
            now=self.ctx.now(),
            now_s=now_s,
            rss_mb=self._rss_mb(),
            mailbox_high_water=self._mailbox_high_water(),
        )
        try:
            self._rpc.upsert_health(patch)
        except Failure as failure:
            # Even a fatal one: whether the bot may go on is for those to say who hold the lease and the journal.
            self._on_failure(failure, reason, now_s)
            return
        self._count("db_writes")
        self._failures = 0
        self._schedule.done()
        self._flushes += 1
        latency_ms = round((self.ctx.monotonic() - now_s) * 1000, 3)
        self.ctx.log.info("health_flushed", reason=reason, in_position=evidence.in_position, latency_ms=latency_ms)
        self.ctx.send(HealthFlushed(reason=reason, count=self._flushes))

    def _on_failure(self, failure: Failure, reason: str, now_s: float) -> None:
        self._count("db_failures")
        retry_s = min(RETRY_FIRST_S * 2.0 ** min(self._failures, 10), RETRY_MAX_S) * self.ctx.rng.uniform(0.8, 1.2)
        if isinstance(failure, Defer):
            retry_s = failure.after_s
        self._failures += 1
        self._schedule.failed(now_s, retry_s)
        self.ctx.log.warning("health_not_flushed", reason=reason, error=str(failure), retry_s=round(retry_s, 1))
        self._wait()

    def _count(self, key: str) -> None:
        self._evidence.window.add(key, self.ctx.monotonic())

    # The market and the strategy

    @receive
    def on_bar(self, bar: Bar) -> None:
        self._evidence.bar(bar, self.ctx.monotonic())

    @receive
    def on_feed_stale(self, _: FeedStale) -> None:
        self._evidence.stale = True
        self._flush_now("feed_stale")

    @receive
    def on_feed_recovered(self, _: FeedRecovered) -> None:
        self._evidence.stale = False
        self._flush_now("feed_recovered")

    @receive
    def on_gap(self, _: GapFound) -> None:
        self._count("gaps")

    @receive
    def on_ticked(self, _: StrategyTicked) -> None:
        self._evidence.last_tick_at = self.ctx.now()
        self._count("ticks")

    @receive
    def on_indicator_failed(self, _: IndicatorFailed) -> None:
        self._count("indicator_errors")
        self._flush_now("indicator_error")

    # Orders and the account

    @receive
    def on_accepted(self, _: OrderAccepted) -> None:
        self._count("acks")
        self._flush_now("order_ack")

    @receive
    def on_rejected(self, _: OrderRejected) -> None:
        self._count("rejects")
        self._flush_now("order_reject")

    @receive
    def on_outcome_unknown(self, _: OutcomeUnknown) -> None:
        self._flush_now("order_unknown")

    @receive
    def on_order_changed(self, changed: OrderChanged) -> None:
        self._evidence.order(changed.state)
        if is_terminal(changed.state.status):
            self._flush_now(f"order_{changed.state.status.value}")

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        self._evidence.in_position = changed.held is not None

    @receive
    def on_position_synced(self, synced: PositionSynced) -> None:
        if self._evidence.synced(synced):
            self._flush_now(f"position_{synced.status.value}")

    # Calls and the journal

    @receive
    def on_request_failed(self, failed: RequestFailed) -> None:
        self._evidence.failed(failed)
        if failed.stage in DATABASE_STAGES:
            self._count("db_failures")
            self._flush_now("db_failure")
        elif failed.stage == "feed":
            self._flush_now("feed_failed")

    @receive
    def on_request_succeeded(self, succeeded: RequestSucceeded) -> None:
        self._evidence.succeeded(succeeded, self.ctx.now())

    @receive
    def on_token_refused(self, _: TokenRefused) -> None:
        self._count("db_failures")
        self._flush_now("token_refused")

    @receive
    def on_journaled(self, journaled: Journaled) -> None:
        self._evidence.journaled(journaled, self.ctx.monotonic())

    @receive
    def on_relayed(self, relayed: Relayed) -> None:
        self._evidence.relayed(relayed)
        self._count("db_writes")

    @receive
    def on_heartbeat_sent(self, _: HeartbeatSent) -> None:
        self._count("db_writes")
        if not self._started:  # before it has the lease, the database takes no evidence from anybody
            self._started = True
            self._flush_now("started")

    @receive
    def on_store_failed(self, failed: StoreFailed) -> None:
        self._count("db_failures")
        self._flush_now(f"store_{failed.reason}")

    # The actors

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        self._count("restarts")
        if restarted.actor == "strategy":
            self._count("strategy_errors")
        self._flush_now("actor_restarted")

    @receive
    def on_dead_lettered(self, _: DeadLettered) -> None:
        self._evidence.dead_letters += 1

    @receive
    def on_hung(self, hung: ActorHung) -> None:
        self._flush_now(f"hung_{hung.actor}")
