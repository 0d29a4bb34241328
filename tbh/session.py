"""A session: from a plan to adapters, from adapters to a tree, and the life of the bot around it.

Whatever host drives the tree, a session is the same: open the state directory (and with it the claim to be the only
process on it), the store and the account; catch the market up with what has been decided; start the actors; release the
market step by step while nothing is under way; stop in order, or escalate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
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
from tbh.lockstep import LockStep
from tbh.messages.market import Advance
from tbh.plan import DEMO_BOT, DemoPlan, check_account_kept, check_same_market, identity_of, paper_market
from tbh.ports import Fatal, Unavailable, Unknown
from tbh.report import Board, Snapshot, Tally, actor_lines, order_counts, paths_of, result_of
from tbh.runtime.actor import Log
from tbh.runtime.cell import Intercept
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.within import within
from tbh.strategies.dynamic import DynamicStrategy
from tbh.tree import Parts, build_tree
from tbh.wires import RpcNotices, make_host

DISK_FULL_AFTER_S = 3.0
"""A replay has nothing to protect from a full disk; a live bot goes on without entries instead."""

STALLED_AFTER_S = 45.0
"""Longer than the longest wait of any actor (30 s), so that a lost answer is found out by its owner first."""

CLOSE_S = 3.0
"""For each thing that is closed at the end: a disk that hangs must not keep the process."""


class DemoSession:
    """A replay through the real tree. ``open``, ``start``, ``wait`` until true, ``close``, then ``result``."""

    def __init__(
        self, plan: DemoPlan, state: StateDir, opened: ExitStack, *, intercept: Intercept | None = None
    ) -> None:
        self.plan = plan
        self._intercept = intercept
        self.state = state
        self._started_s = time.monotonic()
        self._log: Log = logs.configure(state.logs)
        opened.callback(logs.close, self._log)
        self._market = paper_market(plan.symbol, plan.fee, price=plan.candles[0].open)
        self._clock = MarketClock()
        self._store = SqliteStore.open(state.store, clock=self._clock.now)
        opened.callback(self._store.close)
        check_account_kept(self._store, state.paper)
        self._exchange = PaperExchange(
            state.paper, self._market, cash=plan.cash, clock=self._clock, volume_share=plan.volume_share
        )
        opened.callback(self._exchange.close)
        self._feed = ReplayMarket(
            plan.candles,
            symbol=plan.symbol,
            timeframe_s=plan.candles.timeframe_s,
            exchange=self._exchange,
            clock=self._clock,
        )
        check_same_market(self._store, plan)
        decided = self._store.last_decision(plan.definition.name)
        if decided is not None:
            self._feed.catch_up(decided.bar_open)
        self._first_bar = self._feed.position
        self._rpc = MemoryRpc(DEMO_BOT, monotonic=lambda: float(self._host.monotonic()), boot_id=state.boot_id)
        self._events = JsonLines(state.events)
        opened.callback(self._events.close)
        self._board = Board(self._events)
        self._tally = Tally(self._store, cash=plan.cash, market=self._market, bot_id=DEMO_BOT)
        self._stop_asked = threading.Event()
        self._no_room: tuple[str, str, int] | None = None
        # Virtual time needs no pace of real time.
        pace = None if plan.host == "simulator" else plan.bars_per_s
        self._lockstep = LockStep(self._feed, bars_per_s=pace, on_first=self._trading)
        self._run_s: float | None = None
        self._exit_code: int | None = None
        self._final: Snapshot | None = None
        self._result: dict[str, Any] = {}
        self._trading_after_s: float | None = None
        self._host = self._lockstep.host = self._make_host()

    @classmethod
    def open(cls, plan: DemoPlan, *, intercept: Intercept | None = None) -> DemoSession:
        """Take the state directory and everything in it. ``intercept`` is called before each delivery and may raise,
        which is then the actor's failure (fault campaigns).

        Raises ``Fatal``: 78 for what a person has to put right first, a full disk too; 75 when somebody else has it.
        """
        with ExitStack() as opened:
            state = StateDir.open(plan.root)
            opened.callback(state.close)
            try:
                session = cls(plan, state, opened, intercept=intercept)
            except (Unavailable, Unknown) as failure:
                exit_code = 75 if failure.reason == "locked" else 78
                raise Fatal(failure.reason, exit_code=exit_code, detail=failure.detail) from failure
            opened.pop_all()  # from here on ``close`` closes them, each within its deadline
            return session

    # The tree

    def _make_host(self) -> Any:
        return make_host(
            self.plan.host,
            self._tree,
            now=self._clock.now,
            seed=self.plan.seed,
            log=self._log_for,
            external=(Advance,),
            intercept=self._intercept,
            on_settled=self._lockstep.settled,
        )

    def _tree(self, through: Callable[[str, Any], Any]) -> tuple[ChildSpec, ...]:
        plan = self.plan
        parts = Parts(
            identity=identity_of(plan, self.state.boot_id),
            market=self._market,
            new_strategy=lambda: DynamicStrategy(plan.definition),
            feed=through("feed", self._feed),
            exchange=through("exchange", self._exchange),
            store=through("store", self._store),
            rpc=through("rpc", self._rpc),
            sink=self._board,
            channels=(RpcNotices(self._rpc),),
            limits=RiskLimits(),
            cash=plan.cash,
            previous_boot_id=self.state.previous_boot_id,
            killed_locally=lambda: self.state.killed,
            rss_mb=rss_mb,
            mailbox_high_water=lambda: max(cell.mailbox.high_water for cell in self._host.cells),
        )
        return build_tree(parts)

    def _log_for(self, name: str) -> Log:
        return self._log.bind(actor=name)  # type: ignore[attr-defined,no-any-return]  # structlog's bound logger

    def _trading(self) -> None:
        self._trading_after_s = process_age_s()
        self._log.info("trading", after_s=self._trading_after_s, bar=self._feed.position)

    # The life of a session

    def start(self) -> None:
        """Start the actors, and with them the market."""
        self._started_s = time.monotonic()
        try:
            self._host.start()
        except TimeoutError as late:
            self._host.escalate("start", str(late), 70)

    def wait(self, timeout_s: float) -> bool:
        """True once the replay has ended, the tree has escalated, or a stop was asked for."""
        deadline_s = time.monotonic() + timeout_s
        while not self._over() and (left_s := deadline_s - time.monotonic()) > 0:
            if self.plan.host == "simulator":
                slice_end_s = time.monotonic() + min(left_s, 0.1)
                self._host.run(for_s=1e6, done=lambda end_s=slice_end_s: self._over() or time.monotonic() > end_s)
            else:
                self._host.escalated.wait(min(left_s, 0.02))
            self._check_stall()
        return self._over()

    def _check_stall(self) -> None:
        """A market that stands still although nobody holds it waits for something that does not come."""
        gate = self._board.gate
        limit_s = DISK_FULL_AFTER_S if "disk_full" in gate else STALLED_AFTER_S
        if self._lockstep.stalled_s() <= limit_s:
            return
        where = f"at bar {self._feed.position}, state in {self.state.root}"
        if "disk_full" not in gate:
            reason = f"nothing moved for {limit_s:g} s {where} (gate: {', '.join(gate) or 'open'})"
            self._host.escalate("replay", reason, 70)
        elif self.state.store.exists():
            # No escalation: it would cancel entries that the next start goes on with.
            reason = f"the store can't be written {where}: make room on the disk and start again with the same --dir"
            self._no_room = ("replay", reason, 70)
        else:
            self._host.escalate("replay", f"the store has been removed {where}: start in another folder", 70)

    @property
    def trouble(self) -> tuple[str, str, int] | None:
        """Who ended the session and why, with the exit code; None while all is well."""
        escalation: tuple[str, str, int] | None = self._host.escalation
        return escalation or self._no_room

    def _over(self) -> bool:
        return self._lockstep.ended.is_set() or self._stop_asked.is_set() or self.trouble is not None

    def request_stop(self) -> None:
        """Ask for an ordered stop; safe in a signal handler."""
        self._lockstep.hold()
        self._stop_asked.set()

    def close(self) -> int:
        """Stop in order, or escalate first; the exit code. Everything on disk is closed afterwards."""
        if self._exit_code is not None:
            return self._exit_code
        if self._run_s is None:
            self._run_s = time.monotonic() - self._started_s
        self._lockstep.hold()
        exit_code = 0 if self._no_room is None else self._no_room[2]
        if self._host.escalation is not None:
            supervisor = supervisor_of(
                self.plan,
                boot_id=self.state.boot_id,
                market=self._market,
                exchange=self._exchange,
                rpc=self._rpc,
                store=self._store,
                host=self._host,
                now=self._clock.now,
                log=self._log,
            )
            exit_code = supervisor.escalate(*self._host.escalation, run=within)
        left_behind = self._host.stop()
        if left_behind:
            self._log.warning("actors_left_behind", actors=left_behind)
        release_lease(self._rpc, exit_code, self._log)
        self._exit_code = exit_code
        if not self._finish("report", self._conclude):
            exit_code = self._exit_code = exit_code or 70
        self._finish("account", self._exchange.close)
        self._finish("store", self._store.close)
        self._finish("events", self._events.close)
        status = {"phase": "CLOSED", "exit_code": exit_code, "bars": self._feed.position}
        self._finish("status", lambda: self.state.write_status(status))
        logs.close(self._log)
        self.state.close()
        return exit_code

    def _conclude(self) -> None:
        self._final = self.snapshot()
        self._result = self._report()

    def _finish(self, what: str, act: Callable[[], None]) -> bool:
        """One of the last acts, within its deadline; one that fails keeps no other from being done. Whether it is."""
        try:
            within(CLOSE_S, act)
            return True
        except Exception as fault:  # noqa: BLE001 - whatever it was, the rest is still worth closing
            self._log.error("not_finished", what=what, error=f"{type(fault).__name__}: {fault}")
            return False

    # What people see

    def snapshot(self) -> Snapshot:
        """The session at a glance; cheap enough for several times a second."""
        if self._final is not None:
            return self._final
        self._tally.update()
        account = self._tally.account
        price = self._exchange.last_price
        elapsed_s = self._run_s or (time.monotonic() - self._started_s)
        released = self._feed.position - self._first_bar
        return Snapshot(
            phase=self._phase(),
            bar_index=self._feed.position,
            bars_total=len(self.plan.candles),
            bar_time=self._clock.now(),
            price=price,
            position_qty=account.qty,
            entry_price=account.entry_price,
            cash=account.cash,
            equity=account.cash if price is None else account.equity(price),
            realised_pnl=account.realised,
            fees=account.fees,
            orders=order_counts(self._store.orders_by_status()),
            fills=self._tally.fills,
            trades=len(self._tally.trades),
            gate=self._board.gate,
            heartbeats=self._rpc.calls["heartbeat"],
            health_flushes=self._rpc.calls["upsert_health"],
            actors=actor_lines(self._host.cells),
            bars_per_s=released / elapsed_s if elapsed_s > 0 else 0.0,
            elapsed_s=elapsed_s,
        )

    def _phase(self) -> str:
        if self.trouble is not None:
            return "escalated"
        if self._lockstep.ended.is_set():
            return "ended"
        return "stopping" if self._stop_asked.is_set() else "running"

    def result(self) -> dict[str, Any]:
        """What ``tbh demo --json`` prints; complete after ``close``, or empty if the store could not be read then."""
        return dict(self._result)

    def _report(self) -> dict[str, Any]:
        plan = self.plan
        mark = self._exchange.last_price
        report = result_of(store=self._store, tally=self._tally, mark=mark, cells=self._host.cells)
        bars = self._feed.position
        seconds = self._run_s or 0.0
        return {
            "simulated": plan.simulated,
            "strategy": plan.definition.name,
            "symbol": plan.symbol,
            "timeframe_s": plan.candles.timeframe_s,
            "bars": bars,
            "gaps": len(plan.candles.gaps),
            **report,
            "health_flushes": self._rpc.calls["upsert_health"],
            "heartbeats": self._rpc.calls["heartbeat"],
            "gate": list(self._board.gate),
            "escalation": None if self.trouble is None else list(self.trouble),
            "exit_code": self._exit_code,
            "trading_after_s": self._trading_after_s,
            "seconds": round(seconds, 3),
            "bars_per_s": round((bars - self._first_bar) / seconds, 1) if seconds else 0.0,
            "paths": paths_of(self.state),
        }
