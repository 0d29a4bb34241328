"""The tree of one bot: which actors there are, in which order they start, and how each is supervised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any

from tbh.actors.accountant import AccountantActor
from tbh.actors.control_poller import ControlPollerActor
from tbh.actors.feed import FeedActor
from tbh.actors.gateway import GatewayActor
from tbh.actors.health_reporter import HealthReporterActor
from tbh.actors.identity import BotIdentity
from tbh.actors.journaler import JournalerActor
from tbh.actors.notifier import NotifierActor
from tbh.actors.order_manager import OrderManagerActor
from tbh.actors.position_syncer import PositionSyncerActor
from tbh.actors.relay import RelayActor
from tbh.actors.risk import RiskActor
from tbh.actors.strategy import StrategyActor
from tbh.actors.telemetry import TelemetryActor
from tbh.actors.watchdog import WatchdogActor
from tbh.domain.risk import RiskLimits
from tbh.messages.market import Bar, Market
from tbh.messages.orders import Protection
from tbh.ports import Exchange, Feed, Notify, Rpc, Store, StoreReader, Telemetry
from tbh.runtime.actor import Actor, Context
from tbh.runtime.supervise import ChildSpec, OnExceeded, Policy
from tbh.strategies.base import Strategy

LOCAL_CALLS = {
    "exchange": ("market", "last_seq", "arrival_window_s", "close"),
    "feed": ("symbol", "timeframe_s"),
    "store": ("reader", "close", "store_id"),
    "rpc": (),
}
"""Calls that reach no outside world: a simulator makes them at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a tree is made of. ``new_strategy`` makes a fresh strategy for each incarnation; ``poll_s`` is the pause
    between polls of feed and account (None: a lock-step replay moves them), ``feed_poll_s`` that of the feed where it
    differs; ``exchange_timeout_s`` bounds each call to the account; ``machine_ahead_s`` by how much the machine's clock
    is ahead of market time; ``flags`` are gate reasons that hold for the whole session; ``tier_s`` stands for the
    interval of the bot's tier; ``stale_after_s`` None switches the staleness of data off (a replay's market stands
    still). ``default_protection`` guards a position of which no more is known than that the bot has opened it."""

    identity: BotIdentity
    market: Market
    new_strategy: Callable[[], Strategy]
    feed: Feed
    exchange: Exchange
    store: Store
    rpc: Rpc
    sink: Telemetry
    channels: Sequence[Notify]
    limits: RiskLimits
    cash: Decimal
    flags: tuple[str, ...] = ()
    poll_s: float | None = None
    feed_poll_s: float | None = None
    exchange_timeout_s: float = 10.0
    machine_ahead_s: Callable[[], float] = lambda: 0.0
    sync_s: float = 15.0
    stale_after_s: float | None = None
    tier_s: float | None = None
    jitter_s: float = 0.0
    lease_s: float = 30.0
    lease_margin_s: float = 5.0
    previous_boot_ids: tuple[str, ...] = ()
    killed_locally: Callable[[], bool] | None = None
    rss_mb: Callable[[], float] = lambda: 0.0
    mailbox_high_water: Callable[[], int] = lambda: 0
    disable_failed_strategy: bool = False
    default_protection: Protection | None = None


def build_tree(parts: Parts) -> tuple[ChildSpec, ...]:
    """The children in start order; they stop in the reverse."""
    # One reader for all, made when the first actor is: it has a connection for each thread, and lives as long as the
    # store, so that a restart opens none.
    read = cache(lambda: parts.store.reader())  # noqa: PLW0108  # a described tree has no store yet
    foreground = _foreground(parts, read)
    if not parts.limits.rest_on_value:
        # No verdict waits for the account's value: to find it out must not keep the interpreter from one.
        foreground["accountant"] = replace(foreground["accountant"], unhurried=frozenset({Bar}))
    background = _background(parts, read)
    order = (
        *("journaler", "relay", "telemetry", "notifier", "health_reporter", "watchdog"),
        *("gateway", "accountant", "position_syncer", "order_manager", "risk", "strategy", "feed", "control_poller"),
    )
    return tuple({**foreground, **background}[name] for name in order)


def _spec(name: str, actor: type[Actor], factory: Callable[[Context], Actor], **more: Any) -> ChildSpec:
    return ChildSpec(name=name, actor=actor, factory=factory, **more)


def _foreground(parts: Parts, read: Callable[[], StoreReader]) -> dict[str, ChildSpec]:
    """The actors that a replay waits for: all through whose hands an order goes."""
    store, identity, market = parts.store, parts.identity, parts.market
    bot_id = identity.bot_id
    exceeded = OnExceeded.DISABLE if parts.disable_failed_strategy else OnExceeded.ESCALATE
    specs = [
        _spec(
            "journaler",
            JournalerActor,
            lambda ctx: JournalerActor(ctx, store=store, bot_id=bot_id),
            stop_deadline_s=5.0,
        ),
        _spec(
            "gateway",
            GatewayActor,
            lambda ctx: GatewayActor(
                ctx, exchange=parts.exchange, store=read(), timeout_s=parts.exchange_timeout_s, poll_s=parts.poll_s
            ),
            hung_after_s=45.0,
        ),
        _spec(
            "accountant",
            AccountantActor,
            lambda ctx: AccountantActor(
                ctx, market=market, cash=parts.cash, bot_id=bot_id, store=read(), feed=parts.feed
            ),
        ),
        _spec(
            "position_syncer",
            PositionSyncerActor,
            lambda ctx: PositionSyncerActor(ctx, market=market, store=read(), sync_s=parts.sync_s),
        ),
        _spec(
            "order_manager",
            OrderManagerActor,
            lambda ctx: OrderManagerActor(
                ctx,
                bot_id=bot_id,
                boot_id=identity.boot_id,
                strategy=identity.strategy,
                default_protection=parts.default_protection,
                market=market,
                store=read(),
                timeframe_s=identity.timeframe_s,
                arrival_window_s=parts.exchange.arrival_window_s(),
            ),
        ),
        _spec(
            "risk",
            RiskActor,
            lambda ctx: RiskActor(
                ctx,
                market=market,
                limits=parts.limits,
                cash=parts.cash,
                bot_id=bot_id,
                store=read(),
                flags=parts.flags,
            ),
        ),
        _spec(
            "strategy",
            StrategyActor,
            lambda ctx: StrategyActor(ctx, strategy=parts.new_strategy(), feed=parts.feed, store=read()),
            policy=Policy(max_failures=3, max_failures_daily=20),
            on_exceeded=exceeded,
        ),
        _spec("feed", FeedActor, lambda ctx: FeedActor(ctx, feed=parts.feed, poll_s=parts.feed_poll_s or parts.poll_s)),
    ]
    return {spec.name: spec for spec in specs}


def _background(parts: Parts, read: Callable[[], StoreReader]) -> dict[str, ChildSpec]:
    """The actors that report, and must never keep an order waiting."""
    identity, rpc = parts.identity, parts.rpc
    specs = [
        _spec(
            "relay",
            RelayActor,
            lambda ctx: RelayActor(ctx, store=read(), rpc=rpc, store_id=parts.store.store_id),
        ),
        _spec(
            "telemetry",
            TelemetryActor,
            lambda ctx: TelemetryActor(
                ctx, sink=parts.sink, identity=identity, mailbox_high_water=parts.mailbox_high_water
            ),
            replaceable=True,
            on_exceeded=OnExceeded.DISABLE,
        ),
        _spec(
            "notifier",
            NotifierActor,
            lambda ctx: NotifierActor(ctx, channels=parts.channels),
            replaceable=True,
            on_exceeded=OnExceeded.DISABLE,
        ),
        _spec(
            "health_reporter",
            HealthReporterActor,
            lambda ctx: HealthReporterActor(
                ctx,
                rpc=rpc,
                identity=identity,
                tier=identity.polling_tier,
                rss_mb=parts.rss_mb,
                mailbox_high_water=parts.mailbox_high_water,
            ),
        ),
        _spec(
            "watchdog",
            WatchdogActor,
            lambda ctx: WatchdogActor(
                ctx,
                timeframe_s=identity.timeframe_s,
                stale_after_s=parts.stale_after_s or 0.0,
                check_s=5.0,
                market_clock_live=parts.stale_after_s is not None,
                machine_ahead_s=parts.machine_ahead_s,
            ),
        ),
        _spec(
            "control_poller",
            ControlPollerActor,
            lambda ctx: ControlPollerActor(
                ctx,
                rpc=rpc,
                identity=identity,
                tier_s=parts.tier_s or identity.tier_s,
                jitter_s=parts.jitter_s,
                lease_s=parts.lease_s,
                margin_s=parts.lease_margin_s,
                previous_boot_ids=parts.previous_boot_ids,
                killed_locally=parts.killed_locally,
                environment_killed="kill_switch" in parts.flags,
            ),
        ),
    ]
    return {spec.name: _in_background(spec) for spec in specs}


def _in_background(spec: ChildSpec) -> ChildSpec:
    return replace(spec, background=True)
