"""The session on the paper exchange: a recorded or simulated market, released step by step while nothing is under way.

The account is in this process. It is caught up with what has been decided before the actors start; then a bar is
released whenever the tree has come to rest.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tbh.domain.papermarket import paper_market
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.paper import PaperExchange
from tbh.infra.replay import MarketClock, ReplayMarket
from tbh.infra.restored import Remembered
from tbh.life import Session
from tbh.lockstep import BarsPerSecond, LockStep, OpenSince, Pace, at_once
from tbh.plan import PaperPlan, check_account_kept, check_same_market, restore
from tbh.ports import Exchange, Rpc
from tbh.wires import Borrowed

DISK_FULL_AFTER_S = 3.0
"""A replay has nothing to protect from a full disk; a live bot goes on without entries instead."""

STALLED_AFTER_S = 45.0
"""Longer than the longest wait of any actor (30 s), so that a lost answer is found out by its owner first."""


class PaperSession(Session[PaperPlan]):
    """A bot on the paper exchange."""

    exchange: PaperExchange
    feed: ReplayMarket

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.clock = MarketClock()
        super().__init__(*arguments, **options)
        self.lockstep.host = self.host

    # The market

    def now(self) -> datetime:
        return self.clock.now()

    def _connect(self, opened: ExitStack, remembered: Remembered) -> None:
        plan = self.plan
        self.cash = plan.cash
        self.market = paper_market(plan.symbol, plan.fee, price=plan.candles[0].open)
        account = plan.account or self.state.paper
        # A new account knows nothing of what was ordered at another; the position that was open there is over.
        kept = check_account_kept(self.store, account)
        restore(self.store, remembered if kept else replace(remembered, orders=(), adjustments=()))
        self.exchange = PaperExchange(
            account,
            self.market,
            cash=plan.cash,
            clock=self.clock,
            volume_share=plan.volume_share,
            tag=plan.account_tag,
            first_seq=plan.account_first_seq,
        )
        opened.callback(self.exchange.close)
        self.feed = ReplayMarket(
            plan.candles,
            symbol=plan.symbol,
            timeframe_s=plan.timeframe_s,
            exchange=self.exchange,
            clock=self.clock,
        )
        check_same_market(self.store, plan)
        self._catch_up()
        self._first_bar = self.feed.position
        self._no_room: tuple[str, str, int] | None = None
        self.lockstep = LockStep(self.feed, pace=_pace(plan), bars_max=plan.bars_max, on_first=self._trading)

    def _catch_up(self) -> None:
        """Play on, without the bot, what it has decided already, and what went by while it was not there."""
        decided = self.store.last_decision(self.plan.definition.name)
        if decided is not None:
            self.feed.catch_up(decided.bar_open)
        due = self.plan.bars_due(datetime.now(UTC))
        if due > self.feed.position:
            self.feed.catch_up(self.plan.candles[due - 1].open_time)

    def _own_rpc(self) -> Rpc:
        return MemoryRpc(
            self.plan.bot.bot_id, monotonic=lambda: float(self.host.monotonic()), boot_id=self.state.boot_id
        )

    def _own_exchange(self) -> Exchange:
        return Borrowed(self.exchange)

    def _host_options(self) -> dict[str, Any]:
        return {"on_settled": self.lockstep.settled}

    def _hold(self) -> None:
        self.lockstep.hold()

    def _leave_market(self) -> None:
        """The market stands still with the bot, and what rests in it goes on with both."""

    def _close_market(self) -> None:
        """The recording needs no closing."""

    @property
    def ended(self) -> bool:
        return self.lockstep.ended.is_set()

    @property
    def bars(self) -> int:
        return self.feed.position

    @property
    def bars_at_start(self) -> int:
        return self._first_bar

    @property
    def bars_total(self) -> int:
        return len(self.plan.candles)

    @property
    def mark(self) -> Decimal | None:
        return self.exchange.last_price

    def about(self) -> dict[str, Any]:
        return {"simulated": self.plan.simulated, "gaps": len(self.plan.candles.gaps)}

    # The life

    def _run_for(self, seconds: float) -> None:
        if self.plan.host == "simulator":
            slice_end_s = time.monotonic() + min(seconds, 0.1)
            self.host.run(for_s=1e6, done=lambda: self._over() or time.monotonic() > slice_end_s)
        else:
            self.host.escalated.wait(min(seconds, 0.02))
        self._check_stall()

    def _check_stall(self) -> None:
        """A market that stands still although nobody holds it waits for something that does not come."""
        gate = self.board.gate
        limit_s = DISK_FULL_AFTER_S if "disk_full" in gate else STALLED_AFTER_S
        if self.lockstep.stalled_s() <= limit_s:
            return
        where = f"at bar {self.feed.position}, state in {self.state.root}"
        if "disk_full" not in gate:
            reason = f"nothing moved for {limit_s:g} s {where} (gate: {', '.join(gate) or 'open'})"
            self.host.escalate("replay", reason, 70)
        elif self.state.store.exists():
            # No escalation: it would cancel entries that the next start goes on with.
            reason = f"the store can't be written {where}: make room on the disk and start again with the same --dir"
            self._no_room = ("replay", reason, 70)
        else:
            self.host.escalate("replay", f"the store has been removed {where}: start in another folder", 70)

    @property
    def trouble(self) -> tuple[str, str, int] | None:
        return super().trouble or self._no_room


def _pace(plan: PaperPlan) -> Pace:
    if plan.bars_per_s is None or plan.host == "simulator":  # virtual time needs no pace of real time
        return at_once
    return BarsPerSecond(plan.bars_per_s) if plan.opened_at is None else OpenSince(plan.opened_at, plan.bars_per_s)
