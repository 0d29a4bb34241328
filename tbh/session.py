"""A session: from a plan to adapters, from adapters to a tree, and the life of the bot around it.

Whatever host drives the tree, a session is the same: open the state directory (and with it the claim to be the only
process on it), the store and the account; catch the market up with what has been decided; start the actors; release the
market step by step while nothing is under way; stop in order, or escalate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from tbh.domain.risk import RiskLimits
from tbh.ending import release_lease, supervisor_of
from tbh.infra import logs
from tbh.infra.events import JsonLines
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.paper import PaperExchange
from tbh.infra.process import process_age_s, rss_mb
from tbh.infra.replay import MarketClock, ReplayMarket
from tbh.infra.statedir import StateDir
from tbh.infra.store import SqliteStore
from tbh.lockstep import BarsPerSecond, LockStep, OpenSince, Pace, at_once
from tbh.messages.market import Advance
from tbh.messages.orders import OrderState
from tbh.plan import PaperPlan, check_account_kept, check_same_market, identity_of, paper_market, restore
from tbh.ports import Fatal, Rpc, Unavailable, Unknown
from tbh.report import Board, Snapshot, Tally
from tbh.runtime.actor import Log
from tbh.runtime.cell import Intercept
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.within import within
from tbh.sight import report_of, snapshot_of
from tbh.strategies.dynamic import DynamicStrategy
from tbh.tree import Parts, build_tree
from tbh.wires import Counted, RpcNotices, make_host

DISK_FULL_AFTER_S = 3.0
"""A replay has nothing to protect from a full disk; a live bot goes on without entries instead."""

STALLED_AFTER_S = 45.0
"""Longer than the longest wait of any actor (30 s), so that a lost answer is found out by its owner first."""

CLOSE_S = 3.0
"""For each thing that is closed at the end: a disk that hangs must not keep the process."""


class PaperSession:
    """A bot on the paper exchange, through the real tree. ``open``, ``start``, ``wait`` until true, ``close``, then
    ``result``."""

    def __init__(
        self,
        plan: PaperPlan,
        state: StateDir,
        opened: ExitStack,
        *,
        rpc: Rpc | None = None,
        remembered: Sequence[OrderState] = (),
        intercept: Intercept | None = None,
    ) -> None:
        self.plan = plan
        self._intercept = intercept
        self.state = state
        self.started_s = time.monotonic()
        self.log: Log = logs.configure(state.log_file.parent, file_name=state.log_file.name)
        opened.callback(logs.close, self.log)
        self.market = paper_market(plan.symbol, plan.fee, price=plan.candles[0].open)
        self.clock = MarketClock()
        self.store = SqliteStore.open(state.store, clock=self.clock.now)
        opened.callback(self.store.close)
        account = plan.account or state.paper
        if check_account_kept(self.store, account):  # a new account knows nothing of what was ordered at another
            restore(self.store, remembered)
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
            timeframe_s=plan.candles.timeframe_s,
            exchange=self.exchange,
            clock=self.clock,
        )
        check_same_market(self.store, plan)
        self._catch_up()
        self.first_bar = self.feed.position
        if rpc is None:
            rpc = MemoryRpc(plan.bot.bot_id, monotonic=lambda: float(self.host.monotonic()), boot_id=state.boot_id)
        self.rpc = Counted(rpc)
        self._events = JsonLines(state.events)
        opened.callback(self._events.close)
        self.board = Board(self._events)
        self.tally = Tally(self.store, cash=plan.cash, market=self.market, bot_id=plan.bot.bot_id)
        self.stop_asked = threading.Event()
        self._no_room: tuple[str, str, int] | None = None
        self.lockstep = LockStep(self.feed, pace=_pace(plan), bars_max=plan.bars_max, on_first=self._trading)
        self.run_s: float | None = None
        self.exit_code: int | None = None
        self._final: Snapshot | None = None
        self._result: dict[str, Any] = {}
        self.trading_after_s: float | None = None
        self.host = self.lockstep.host = self._make_host()

    @classmethod
    def open(
        cls,
        plan: PaperPlan,
        *,
        state: StateDir | None = None,
        rpc: Rpc | None = None,
        remembered: Sequence[OrderState] = (),
        intercept: Intercept | None = None,
    ) -> PaperSession:
        """Take the state directory (``state``, if the caller has it already) and everything in it.

        ``rpc`` is the database, None for one in memory, and ``remembered`` are the orders that it knows to matter.
        ``intercept`` is called before each delivery and may raise, which is then the actor's failure (fault
        campaigns). Raises ``Fatal``: 78 for what a person has to put right first, a full disk too; 75 when somebody
        else has it. ``state`` is closed then, too.
        """
        with ExitStack() as opened:
            state = StateDir.open(plan.root) if state is None else state
            opened.callback(state.close)
            try:
                session = cls(plan, state, opened, rpc=rpc, remembered=remembered, intercept=intercept)
            except (Unavailable, Unknown) as failure:
                exit_code = 75 if failure.reason == "locked" else 78
                raise Fatal(failure.reason, exit_code=exit_code, detail=failure.detail) from failure
            opened.pop_all()  # from here on ``close`` closes them, each within its deadline
            return session

    def _catch_up(self) -> None:
        """Play on, without the bot, what it has decided already, and what went by while it was not there."""
        decided = self.store.last_decision(self.plan.definition.name)
        if decided is not None:
            self.feed.catch_up(decided.bar_open)
        due = self.plan.bars_due(datetime.now(UTC))
        if due > self.feed.position:
            self.feed.catch_up(self.plan.candles[due - 1].open_time)

    # The tree

    def _make_host(self) -> Any:
        return make_host(
            self.plan.host,
            self._tree,
            now=self.clock.now,
            seed=self.plan.seed,
            log=self._log_for,
            external=(Advance,),
            intercept=self._intercept,
            on_settled=self.lockstep.settled,
        )

    def _tree(self, through: Callable[[str, Any], Any]) -> tuple[ChildSpec, ...]:
        plan = self.plan
        parts = Parts(
            identity=identity_of(plan, self.state.boot_id),
            market=self.market,
            new_strategy=lambda: DynamicStrategy(plan.definition),
            feed=through("feed", self.feed),
            exchange=through("exchange", self.exchange),
            store=through("store", self.store),
            rpc=through("rpc", self.rpc),
            sink=self.board,
            channels=(RpcNotices(self.rpc),),
            limits=RiskLimits(),
            cash=plan.cash,
            previous_boot_ids=self.state.previous_boot_ids,
            flags=plan.flags,
            lease_s=plan.lease_s,
            lease_margin_s=plan.lease_margin_s,
            tier_s=plan.tier_s,
            jitter_s=plan.jitter_s,
            killed_locally=lambda: self.state.killed,
            rss_mb=rss_mb,
            mailbox_high_water=lambda: max(cell.mailbox.high_water for cell in self.host.cells),
        )
        return build_tree(parts)

    def _log_for(self, name: str) -> Log:
        return self.log.bind(actor=name)  # type: ignore[attr-defined,no-any-return]  # structlog's bound logger

    def _trading(self) -> None:
        self.trading_after_s = process_age_s()
        self.log.info("trading", after_s=self.trading_after_s, bar=self.feed.position)

    # The life of a session

    def start(self) -> None:
        """Start the actors, and with them the market."""
        self.started_s = time.monotonic()
        try:
            self.host.start()
        except TimeoutError as late:
            self.host.escalate("start", str(late), 70)

    def wait(self, timeout_s: float) -> bool:
        """True once the replay has ended, the tree has escalated, or a stop was asked for."""
        deadline_s = time.monotonic() + timeout_s
        while not self._over() and (left_s := deadline_s - time.monotonic()) > 0:
            if self.plan.host == "simulator":
                slice_end_s = time.monotonic() + min(left_s, 0.1)
                self.host.run(for_s=1e6, done=lambda end_s=slice_end_s: self._over() or time.monotonic() > end_s)
            else:
                self.host.escalated.wait(min(left_s, 0.02))
            self._check_stall()
        return self._over()

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
        """Who ended the session and why, with the exit code; None while all is well."""
        escalation: tuple[str, str, int] | None = self.host.escalation
        return escalation or self._no_room

    def _over(self) -> bool:
        return self.lockstep.ended.is_set() or self.stop_asked.is_set() or self.trouble is not None

    def request_stop(self) -> None:
        """Ask for an ordered stop; safe in a signal handler."""
        self.lockstep.hold()
        self.stop_asked.set()

    def close(self) -> int:
        """Stop in order, or escalate first; the exit code. Everything on disk is closed afterwards."""
        if self.exit_code is not None:
            return self.exit_code
        if self.run_s is None:
            self.run_s = time.monotonic() - self.started_s
        self.lockstep.hold()
        exit_code = 0 if self._no_room is None else self._no_room[2]
        if self.host.escalation is not None:
            supervisor = supervisor_of(
                self.plan,
                boot_id=self.state.boot_id,
                market=self.market,
                exchange=self.exchange,
                rpc=self.rpc,
                store=self.store,
                host=self.host,
                now=self.clock.now,
                log=self.log,
            )
            exit_code = supervisor.escalate(*self.host.escalation, run=within)
        left_behind = self.host.stop()
        if left_behind:
            self.log.warning("actors_left_behind", actors=left_behind)
        self.exit_code = exit_code
        if not self._finish("report", self._conclude):
            exit_code = self.exit_code = exit_code or 70
        self._finish("account", self.exchange.close)
        self._finish("store", self.store.close)
        self._finish("events", self._events.close)
        status = {"phase": "CLOSED", "exit_code": exit_code, "bars": self.feed.position}
        self._finish("status", lambda: self.state.write_status(status))
        release_lease(self.rpc, exit_code, self.log, left_behind=left_behind)
        logs.close(self.log)
        self.state.close()
        return exit_code

    def _conclude(self) -> None:
        self._final = self.snapshot()
        self._result = report_of(self)

    def _finish(self, what: str, act: Callable[[], None]) -> bool:
        """One of the last acts, within its deadline; one that fails keeps no other from being done. Whether it is."""
        try:
            within(CLOSE_S, act)
            return True
        except Exception as fault:  # noqa: BLE001 - whatever it was, the rest is still worth closing
            self.log.error("not_finished", what=what, error=f"{type(fault).__name__}: {fault}")
            return False

    def snapshot(self) -> Snapshot:
        """The session at a glance; cheap enough for several times a second."""
        return self._final or snapshot_of(self)

    def result(self) -> dict[str, Any]:
        """What ``tbh demo --json`` prints; complete after ``close``, or empty if the store could not be read then."""
        return dict(self._result)


def _pace(plan: PaperPlan) -> Pace:
    if plan.bars_per_s is None or plan.host == "simulator":  # virtual time needs no pace of real time
        return at_once
    return BarsPerSecond(plan.bars_per_s) if plan.opened_at is None else OpenSince(plan.opened_at, plan.bars_per_s)
