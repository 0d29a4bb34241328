"""The thread host: one pykka actor per cell, one timer wheel, and the only file that knows pykka.

pykka gives the thread, the registry and the reference. What it would do with a failure (unregister the actor and
drop its mailbox), with a BaseException (stop every actor) or with a full queue (block the sender) never comes
about: the cell catches everything, and the inbox is our own. FACTS on pykka 4.5: `tell` checks `actor_stopped` and
calls `inbox.put`, the loop calls `inbox.get`, and `stop` is a message like any other.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pykka
from pykka import messages as pykka_messages
from pykka._envelope import Envelope as PykkaEnvelope

from tbh.messages.base import Message
from tbh.messages.system import ActorHung, Halt, Resume, Stop, Urgent
from tbh.runtime.actor import Log, NullLog
from tbh.runtime.cell import Cell, CellState, Intercept
from tbh.runtime.mailbox import Envelope, Mailbox
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.timers import TimerToken, TimerWheel
from tbh.runtime.wiring import KERNEL_SENDS, check_wiring

SWITCH_INTERVAL_S = 0.0002
"""The interpreter's own 5 ms would be a hop's p99 beside any thread that computes; measured by ``bench kernel``."""

HUNG_CHECK_S = 0.25


class _Inbox:
    """What pykka's loop reads: our mailbox plus one token per waiting message.

    Tokens come from a C queue, which is the fastest hand-off between threads there is here; the mailbox itself
    decides which message a token buys. A token taken while the mailbox is suspended is owed and given back.
    """

    def __init__(self, cell: Cell, host: ThreadHost) -> None:
        self.cell = cell
        self.fenced = False
        self._host = host
        self._mailbox: Mailbox = cell.mailbox
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._owed = 0
        self._out: PykkaEnvelope[Any] = PykkaEnvelope(None)  # reused: the one reader is done with it at the next get

    def put(self, item: Any) -> None:
        envelope = item.message
        if type(envelope) is not Envelope:  # pykka's own stop, sent by the registry in tests and at exit
            envelope = Envelope(0, "pykka", self.cell.name, 0, Stop())
        if isinstance(envelope.message, Urgent):
            self._mailbox.offer_urgent(envelope)
        elif not self._mailbox.takes_new(envelope):
            self._mailbox.offer(envelope)
            return
        elif not self._mailbox.offer(envelope):
            self._host.overflowed(self.cell, envelope)
            return
        self._tokens.put(True)

    def put_back(self, envelopes: list[Envelope]) -> None:
        self._mailbox.put_back(envelopes)
        for _ in envelopes:
            self._tokens.put(True)

    def get(self) -> PykkaEnvelope[Any]:
        cell = self.cell
        while True:
            if self._mailbox.idle:
                cell.busy = False
                self._host.went_idle()
            elif self._mailbox.suspended:
                cell.busy = False
            self._tokens.get()
            if self.fenced:
                self._tokens.put(True)  # the successor shares the mailbox, and needs the token
                return PykkaEnvelope(pykka_messages._ActorStop())
            cell.busy = True
            envelope = self._mailbox.take()
            if envelope is not None:
                self._out.message = envelope
                return self._out
            self._owed += 1

    def pay_back(self) -> None:
        """Resumed: the tokens taken in vain buy messages again. Called in the reading thread."""
        owed, self._owed = self._owed, 0
        for _ in range(owed):
            self._tokens.put(True)

    def empty(self) -> bool:
        return True  # pykka drains the inbox of a stopped actor only to answer asks, which do not exist here


class _PykkaCell(pykka.ThreadingActor):
    use_daemon_thread = True  # a wedged actor must not keep the process alive; the ordered stop has its deadlines

    def __init__(self, cell: Cell, inbox: _Inbox, started: threading.Event) -> None:
        self._cell = cell
        self._inbox = inbox
        self._started = started
        super().__init__()

    def _create_actor_inbox(self) -> _Inbox:  # type: ignore[override]  # pykka declares it static; ours is the cell's
        return self._inbox

    def on_start(self) -> None:
        if self._cell.state is CellState.NEW:
            self._guard(None, self._cell.start)
        self._started.set()

    def on_receive(self, message: Envelope) -> None:
        cell = self._cell
        try:
            cell.handle(message)
        except BaseException as fault:  # noqa: BLE001 - pykka would stop all actors on SystemExit
            cell.fail(message, fault)
        if cell.state is CellState.STOPPED or self._inbox.fenced:
            self._stop()

    def _guard(self, envelope: Envelope | None, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as fault:  # noqa: BLE001 - as above
            self._cell.fail(envelope, fault)


class _Child:
    """A cell with the pykka actor and inbox that drive it now."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.inbox: _Inbox
        self.ref: pykka.ActorRef[_PykkaCell]
        self.started = threading.Event()
        self.progress = (-1, 0.0)


class ThreadHost:
    """Runs a tree on threads.

    ``now`` is the market clock (default: the wall clock), ``seed`` seeds every actor's ``rng``. ``start`` proves the
    wiring and starts the children in order; ``escalated`` is set once, with ``escalation`` holding (actor, reason,
    exit code); ``stop`` ends the tree in reverse order. ``on_settled`` is called, in some actor's thread, whenever
    nothing is queued, stashed or asked for outside the background actors (lock-step replay).
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        now: Callable[[], datetime] | None = None,
        seed: int | str = 0,
        log: Callable[[str], Log] | None = None,
        external: Iterable[type[Message]] = (),
        on_settled: Callable[[], None] | None = None,
        intercept: Intercept | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.now: Callable[[], datetime] = now or _utc_now
        self.monotonic = time.monotonic
        self.intercept = intercept
        self.escalated = threading.Event()
        self.escalation: tuple[str, str, int] | None = None
        self.on_settled = on_settled
        self._seed = seed
        self._log = log or (lambda _name: NullLog())
        self._external = tuple(external)
        self._seq = itertools.count(1)
        self._last_seq = 0
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._rescan = False
        self._settled_at = -1
        self._stopping = False
        self._abandoned: list[str] = []
        self._wheel = TimerWheel(self._wheel_failed)
        self._children = {spec.name: _Child(Cell(spec, self)) for spec in self.specs}
        self._routes: dict[type[Message], tuple[_Child, ...]] = {}

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Start the children in order, each within its start deadline. ``TimeoutError`` names one that did not."""
        routes = check_wiring(self.specs, external=self._external)
        self._routes = {kind: tuple(self._children[n] for n in names) for kind, names in routes.items()}
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._wheel.start()
        for child in self._children.values():
            child.inbox = _Inbox(child.cell, self)
        for child in self._children.values():
            self._spawn(child)
            if not child.started.wait(child.cell.spec.start_deadline_s):
                raise TimeoutError(f"{child.cell.name} did not start within {child.cell.spec.start_deadline_s:g} s")
        self._wheel.call_after(HUNG_CHECK_S, self._check_progress)

    def _spawn(self, child: _Child) -> None:
        child.started = threading.Event()
        child.ref = _PykkaCell.start(child.cell, child.inbox, child.started)

    def stop(self) -> list[str]:
        """Stop in reverse start order: each drains its mailbox, then ends, within its stop deadline. The names of
        those that did not and were left behind (their threads are daemons)."""
        self._stopping = True
        for child in reversed(self._children.values()):
            deadline_s = time.monotonic() + child.cell.spec.stop_deadline_s
            if child.cell.name in self._abandoned or not child.started.is_set():
                continue
            self._drain(child, deadline_s)
            self.tell(child.cell.name, Stop())
            if not child.ref.actor_stopped.wait(max(deadline_s - time.monotonic(), 0.05)):
                self._abandoned.append(child.cell.name)
                self._abandon(child)
        self._wheel.stop(1.0)
        return list(self._abandoned)

    def _drain(self, child: _Child, deadline_s: float) -> None:
        cell = child.cell
        idle_since_seq = -1
        while time.monotonic() < deadline_s:
            if cell.mailbox.idle and not cell.busy:
                if idle_since_seq == cell.handled:
                    return
                idle_since_seq = cell.handled
            threading.Event().wait(0.002)

    def _abandon(self, child: _Child) -> None:
        child.inbox.fenced = True
        if child.cell.context is not None:
            child.cell.context.die()
        pykka.ActorRegistry.unregister(child.ref)
        child.ref.actor_stopped.set()
        self._log(child.cell.name).error("abandoned", handled=child.cell.handled)

    # ------------------------------------------------------------ what cells need

    def random_for(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    def log_for(self, name: str) -> Log:
        return self._log(name)

    def route(self, sender: str, message: Message, cause: int) -> None:
        takers = self._routes.get(type(message))
        if takers is None:
            if isinstance(message, KERNEL_SENDS):
                return
            raise LookupError(f"{type(message).__name__} has no route")
        for child in takers:
            self._deliver(child, sender, message, cause)

    def _deliver(self, child: _Child, sender: str, message: Message, cause: int, incarnation: int = -1) -> None:
        self._last_seq = seq = next(self._seq)
        # A stopped actor takes nothing more; what comes after its end is part of the shutdown.
        with contextlib.suppress(pykka.ActorDeadError):
            child.ref.tell(Envelope(seq, sender, child.cell.name, cause, message, incarnation))

    def tell(self, name: str, message: Message) -> None:
        """From the composer to one actor by name (kernel orders)."""
        self._deliver(self._children[name], "host", message, 0)

    def publish(self, message: Message) -> None:
        """From the composer to whoever receives the type (one of ``external``)."""
        self.route("host", message, 0)

    def halt(self, reason: str) -> None:
        """Tell every actor, urgently, to take no more risk."""
        for name in self._children:
            self.tell(name, Halt(reason=reason))

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        self._children[cell.name].inbox.put_back(envelopes)

    def suspend(self, cell: Cell) -> None:
        cell.mailbox.suspended = True

    def resume(self, cell: Cell) -> None:
        cell.mailbox.suspended = False
        self._children[cell.name].inbox.pay_back()

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> TimerToken:
        child = self._children[cell.name]
        if self._stopping and isinstance(timer, Resume):
            delay_s = 0.0
        return self._wheel.call_after(delay_s, lambda: self._deliver(child, cell.name, timer, 0, incarnation))

    def stop_timer(self, token: TimerToken) -> None:
        token.cancel()

    def call_after(self, delay_s: float, act: Callable[[], None]) -> TimerToken:
        """For the composer: a quick call in the wheel's thread."""
        return self._wheel.call_after(delay_s, act)

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        with self._lock:
            if self.escalation is None:
                self.escalation = (actor, reason, exit_code)
        self._log(actor).error("escalated", reason=reason, exit_code=exit_code)
        self.escalated.set()

    def overflowed(self, cell: Cell, envelope: Envelope) -> None:
        """A fact or command found the mailbox full: nothing may be lost in silence, so the bot halts."""
        reason = f"mailbox full ({cell.spec.max_waiting}), {type(envelope.message).__name__} from {envelope.sender}"
        self.escalate(cell.name, reason, 70)

    # ------------------------------------------------------------ progress and settling

    def _check_progress(self) -> None:
        now_s = time.monotonic()
        for child in self._children.values():
            cell = child.cell
            if not cell.busy or child.progress[0] != cell.handled:
                child.progress = (cell.handled, now_s)
            elif now_s - child.progress[1] > cell.spec.hung_after_s and cell.name not in self._abandoned:
                self._hung(child, now_s - child.progress[1])
        if not self._stopping:
            self._wheel.call_after(HUNG_CHECK_S, self._check_progress)

    def _hung(self, child: _Child, for_s: float) -> None:
        cell = child.cell
        current = cell.current
        kind = type(current.message).__name__ if current is not None else "constructor"
        self.route(cell.name, ActorHung(actor=cell.name, message_type=kind, for_s=round(for_s, 3)), 0)
        if not cell.spec.replaceable:
            self._abandoned.append(cell.name)
            self.escalate(cell.name, f"hung at {kind} for {for_s:.1f} s", 70)
            return
        self._abandon(child)
        successor = Cell(cell.spec, self)
        successor.mailbox = cell.mailbox
        successor.incarnation = cell.incarnation + 1
        successor.restarts = cell.restarts
        successor.dead_letters = cell.dead_letters
        child.cell = successor
        old = child.inbox
        child.inbox = _Inbox(successor, self)
        child.inbox._tokens = old._tokens
        child.progress = (-1, time.monotonic())
        self._spawn(child)
        if current is not None:
            successor.set_aside(current, f"hung for {for_s:.1f} s")

    def went_idle(self) -> None:
        """A cell ran out of messages. If none has any, call ``on_settled``, once per settling."""
        if self.on_settled is None:
            return
        self._rescan = True
        while self._rescan and self._scanning.acquire(blocking=False):
            # Whoever fails to get the lock has set _rescan, so the one who holds it looks again.
            self._rescan = False
            try:
                seq = self._last_seq
                quiet = seq != self._settled_at and all(
                    child.cell.settled for child in self._children.values() if not child.cell.spec.background
                )
                # A send during the scan has changed _last_seq: what looked quiet may not be.
                if quiet and seq == self._last_seq:
                    self._settled_at = seq
                    self.on_settled()
            finally:
                self._scanning.release()

    def look_again(self) -> None:
        """Re-examine whether the tree is settled (after a pause of the composer's own)."""
        self._settled_at = -1
        self.went_idle()

    # ------------------------------------------------------------ what people look at

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, for reading their counters (restarts, dead letters, high water)."""
        return tuple(child.cell for child in self._children.values())

    def wait_drained(self, name: str, timeout_s: float) -> bool:
        """Wait until an actor has nothing waiting."""
        child = self._children[name]
        deadline_s = time.monotonic() + timeout_s
        self._drain(child, deadline_s)
        return child.cell.mailbox.idle

    def _wheel_failed(self, fault: BaseException) -> None:
        self.escalate("timers", f"{type(fault).__name__}: {fault}", 70)


def _utc_now() -> datetime:
    return datetime.now(UTC)
