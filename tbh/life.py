"""The life of a bot's process around its tree, whatever market it trades.

Open the state directory (and with it the claim to be the only process on it), the store and the account; start the
actors; wait; stop in order, or escalate. ``tbh/session.py`` is the life on the paper exchange, ``tbh/live.py`` that on
a real one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, Self, TypeVar

from tbh.domain.risk import RiskLimits
from tbh.ending import release_lease, supervisor_of
from tbh.infra import logs
from tbh.infra.clocks import wall_clock
from tbh.infra.events import JsonLines
from tbh.infra.process import process_age_s, rss_mb
from tbh.infra.restored import NOTHING, Remembered
from tbh.infra.statedir import StateDir
from tbh.infra.store_rescue import Damage, open_or_set_aside
from tbh.marketside import MarketSide
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Advance
from tbh.messages.orders import WithdrawEntries
from tbh.plan import Plan, identity_of, package_of
from tbh.ports import Fatal, Rpc, Unavailable, Unknown
from tbh.report import Board, Snapshot, Tally
from tbh.runtime.actor import Log
from tbh.runtime.cell import Intercept
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.within import within
from tbh.sight import report_of, snapshot_of
from tbh.strategies.runner import default_protection, strategy_of
from tbh.tree import Parts, build_tree
from tbh.wires import Counted, RpcNotices, make_host

CLOSE_S = 3.0
"""For each thing that is closed at the end: a disk that hangs must not keep the process."""

_PlanT = TypeVar("_PlanT", bound=Plan)


class Session(MarketSide, Generic[_PlanT]):
    """A bot through the real tree. ``open``, ``start``, ``wait`` until true, ``close``, then ``result``.

    A subclass is the market's side. Its ``now`` is not called before ``_connect``, which finds
    ``plan``, ``state``, ``log`` and ``store``.
    """

    def __init__(
        self,
        plan: _PlanT,
        state: StateDir,
        opened: ExitStack,
        *,
        rpc: Rpc | None,
        remembered: Remembered,
        intercept: Intercept | None,
        pause: Callable[[float], None],
    ) -> None:
        self.plan = plan
        self.state = state
        self.started_s = time.monotonic()
        self._intercept = intercept
        self._pause = pause
        self.log: Log = logs.configure(state.log_file.parent, file_name=state.log_file.name)
        opened.callback(logs.close, self.log)
        self.damage: Damage | None
        # The store only dates its rows: market time must not be asked before the market is connected.
        self.store, self.damage = open_or_set_aside(state.store, clock=wall_clock)
        opened.callback(self.store.close)
        if self.damage is not None:
            self.log.error("store_set_aside", kept=str(self.damage.kept), reason=self.damage.reason)
        self._connect(opened, remembered)
        self.package = package_of(self.store, plan, self.log)
        self.rpc = Counted(rpc if rpc is not None else self._own_rpc())
        self._events = JsonLines(state.events)
        opened.callback(self._events.close)
        self.board = Board(self._events)
        self.tally = Tally(self.store, cash=self.cash, market=self.market, bot_id=plan.bot.bot_id)
        self.stop_asked = threading.Event()
        self.run_s: float | None = None
        self.exit_code: int | None = None
        self.trading_after_s: float | None = None
        self.position_told = ""
        """What an escalation has made of the position, once it is over."""
        self._final: Snapshot | None = None
        self._result: dict[str, Any] = {}
        self.host = self._make_host()

    @classmethod
    def open(
        cls,
        plan: _PlanT,
        *,
        state: StateDir | None = None,
        rpc: Rpc | None = None,
        remembered: Remembered = NOTHING,
        intercept: Intercept | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Take the state directory (``state``, if the caller has it already) and everything in it.

        ``rpc`` is the database, None for one in memory where that will do, and ``remembered`` is what it knows of the
        bot. ``intercept`` is called before each delivery and may raise, which is then the actor's failure (fault
        campaigns). ``pause`` sleeps between two tries, and may be cut short. Raises ``Fatal``: 78 for what a person has
        to put right first, a full disk too; 75 when somebody else has it; 69 when the exchange does not answer.
        ``state`` is closed then, too.
        """
        with ExitStack() as opened:
            state = StateDir.open(plan.root) if state is None else state
            opened.callback(state.close)
            try:
                session = cls(plan, state, opened, rpc=rpc, remembered=remembered, intercept=intercept, pause=pause)
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
            now=self.now,
            seed=self.plan.seed,
            log=self._log_for,
            external=(Advance, Notice, WithdrawEntries),
            intercept=self._intercept,
            **self._host_options(),
        )

    def _tree(self, through: Callable[[str, Any], Any]) -> tuple[ChildSpec, ...]:
        plan = self.plan
        parts: dict[str, Any] = {
            "identity": identity_of(plan, self.state.boot_id, package=self.package),
            "market": self.market,
            "new_strategy": lambda: strategy_of(plan.definition),
            "default_protection": default_protection(plan.definition),
            "feed": through("feed", self.feed),
            "exchange": through("exchange", self.exchange),
            "store": through("store", self.store),
            "rpc": through("rpc", self.rpc),
            "sink": self.board,
            "channels": (RpcNotices(self.rpc),),
            "limits": RiskLimits(),
            "cash": self.cash,
            "previous_boot_ids": self.state.previous_boot_ids,
            "flags": plan.flags,
            "lease_s": plan.lease_s,
            "lease_margin_s": plan.lease_margin_s,
            "tier_s": plan.tier_s,
            "jitter_s": plan.jitter_s,
            "killed_locally": lambda: self.state.killed,
            "rss_mb": rss_mb,
            "mailbox_high_water": lambda: max(cell.mailbox.high_water for cell in self.host.cells),
        }
        return build_tree(Parts(**(parts | self._parts())))

    def _log_for(self, name: str) -> Log:
        return self.log.bind(actor=name)  # type: ignore[attr-defined,no-any-return]  # structlog's bound logger

    def _trading(self) -> None:
        """Entries are ready; the first time counts."""
        if self.trading_after_s is None:
            self.trading_after_s = process_age_s()
            self.log.info("trading", after_s=self.trading_after_s, bar=self.bars)

    # The life

    def start(self) -> None:
        """Start the actors, and with them the market."""
        self.started_s = time.monotonic()
        try:
            self.host.start()
        except TimeoutError as late:
            self.host.escalate("start", str(late), 70)
            return
        if self.damage is not None:
            self.host.publish(
                Notice(
                    key=f"store_set_aside:{self.damage.kept.name}",
                    severity=Severity.CRITICAL,
                    kind="store_set_aside",
                    text=f"{self.plan.bot.name}: {self.damage.line()}",
                )
            )

    def wait(self, timeout_s: float) -> bool:
        """True once the market is over, the tree has escalated, or a stop was asked for."""
        deadline_s = time.monotonic() + timeout_s
        while not self._over() and (left_s := deadline_s - time.monotonic()) > 0:
            self._run_for(left_s)
        return self._over()

    @property
    def trouble(self) -> tuple[str, str, int] | None:
        """Who ended the session and why, with the exit code; None while all is well."""
        escalation: tuple[str, str, int] | None = self.host.escalation
        return escalation

    def trouble_told(self) -> str:
        """The same in one line, after ``close``: who, why, what became of the position, where the log is. Empty while
        all is well."""
        if self.trouble is None:
            return ""
        actor, reason, _ = self.trouble
        position = f"; position: {self.position_told}" if self.position_told else ""
        return " ".join(f"{actor}: {reason}{position}; see {self.state.log_file}".split())

    def _over(self) -> bool:
        return self.ended or self.stop_asked.is_set() or self.trouble is not None

    def request_stop(self) -> None:
        """Ask for an ordered stop; safe in a signal handler."""
        self._hold()
        self.stop_asked.set()

    def close(self) -> int:
        """Stop in order, or escalate first; the exit code. Everything on disk is closed afterwards."""
        if self.exit_code is not None:
            return self.exit_code
        if self.run_s is None:
            self.run_s = time.monotonic() - self.started_s
        self._hold()
        exit_code = 0 if self.trouble is None else self.trouble[2]
        if self.host.escalation is not None:
            supervisor = supervisor_of(
                self.plan,
                boot_id=self.state.boot_id,
                market=self.market,
                exchange=self._own_exchange,
                rpc=self.rpc,
                store=self.store,
                host=self.host,
                now=self.now,
                log=self.log,
                lease_holds=self.rpc.lease_holds,
            )
            exit_code = supervisor.escalate(*self.host.escalation, run=within)
            self.position_told = supervisor.position_told
        else:
            self._finish("market_left", self._leave_market)
        left_behind = self.host.stop()
        if left_behind:
            self.log.warning("actors_left_behind", actors=left_behind)
        self.exit_code = exit_code
        if not self._finish("report", self._conclude):
            exit_code = self.exit_code = exit_code or 70
        self._finish("account", self.exchange.close)
        self._finish("market", self._close_market)
        self._finish("store", self.store.close)
        self._finish("events", self._events.close)
        status = {"phase": "CLOSED", "exit_code": exit_code, "bars": self.bars}
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
