"""The thread host: one pykka actor per cell, one timer wheel, and the only file that knows pykka.

pykka gives the thread, its loop and the registry. What it would do with a failure (unregister the actor and drop its
mailbox), with a BaseException (stop every actor) or with a full queue (block the sender) never comes about: the cell
catches everything, and the inbox is our own. Of pykka 4.5 this relies on: the loop calls ``actor_inbox.get`` until
``actor_stopped`` is set, ``tell`` and ``stop`` call ``actor_inbox.put``, and ``stop`` is a message like any other.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import pykka
from pykka import messages as pykka_messages
from pykka._envelope import Envelope as PykkaEnvelope

from tbh.messages.base import Message
from tbh.messages.system import ActorHung, Resume, Stop, Urgent
from tbh.runtime.actor import Log
from tbh.runtime.cell import Cell, CellState, describe
from tbh.runtime.clock import process_clock, wall_clock
from tbh.runtime.host import Intercept
from tbh.runtime.hosting import TreeHost
from tbh.runtime.inbox import MAY_WAIT_S, Doorbell, Inbox
from tbh.runtime.mailbox import Envelope
from tbh.runtime.progress import Progress
from tbh.runtime.settle import Settling
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.timers import TimerToken, TimerWheel

SWITCH_INTERVAL_S = 0.0001
"""How long a thread that computes keeps the interpreter from one that has a message. A hop's p99 beside it is a few of
these: 10.9 ms at the interpreter's own 5 ms, 0.58 ms at 0.2 ms, 0.37 ms at 0.1 ms, 0.28 ms at 0.05 ms. Two computing
threads did 97 % of their work at 0.2 ms and 95 % at 0.1 ms (medians of six; ``bench kernel``)."""

HUNG_CHECK_S = 0.25
_REST_LOOK_S = 0.001


class _PykkaInbox(Inbox):
    """What pykka's loop reads, and where pykka's own ``stop`` arrives (from its registry)."""

    def __init__(self, cell: Cell, host: ThreadHost, before: _PykkaInbox | None = None) -> None:
        super().__init__(cell, host.overflowed, host.came_to_rest, before, host.doorbell)
        self._waiting_for_end: list[pykka.Future[Any]] = []
        self._out: PykkaEnvelope[Any] = PykkaEnvelope(None)  # reused: the one reader is done with it at the next get

    def put(self, item: PykkaEnvelope[Any]) -> None:
        if item.reply_to is not None:
            self._waiting_for_end.append(item.reply_to)
        self.deliver_urgent(Envelope(0, "pykka", self.cell.name, 0, Stop()))
        if self.closed:
            self.close()

    def get(self) -> PykkaEnvelope[Any]:
        envelope = self.next()
        self._out.message = pykka_messages._ActorStop() if envelope is None else envelope
        return self._out

    def empty(self) -> bool:
        return True  # pykka drains the inbox of a stopped actor only to answer asks, which do not exist here

    def close(self) -> None:
        """The actor has ended; whoever waits for that is told."""
        self.closed = True
        while self._waiting_for_end:
            self._waiting_for_end.pop().set(None)


class _PykkaCell(pykka.ThreadingActor):
    use_daemon_thread = True  # a wedged actor must not keep the process alive; the ordered stop has its deadlines

    def __init__(self, cell: Cell, inbox: _PykkaInbox, started: threading.Event) -> None:
        self._cell = cell
        self._inbox = inbox
        self._started = started
        super().__init__()

    def _create_actor_inbox(self) -> _PykkaInbox:  # type: ignore[override]  # pykka declares it static; ours is the cell's
        return self._inbox

    def on_start(self) -> None:
        cell = self._cell
        threading.current_thread().name = f"tbh-{cell.name}"
        cell.busy = True
        try:
            cell.start()
        except BaseException as fault:  # noqa: BLE001 - pykka would stop all actors on SystemExit
            self._broke(None, fault)
        self._started.set()

    def on_receive(self, message: Envelope) -> None:
        cell = self._cell
        try:
            cell.handle(message)
        except BaseException as fault:  # noqa: BLE001 - as above
            self._broke(message, fault)
        if cell.state is CellState.STOPPED or cell.fenced:
            self._stop()

    def on_stop(self) -> None:
        if not self._cell.fenced:
            self._inbox.close()

    def _broke(self, envelope: Envelope | None, fault: BaseException) -> None:
        try:
            self._cell.fail(envelope, fault)
        except BaseException as second:  # noqa: BLE001 - not even the failure could be dealt with
            self._cell.host.escalate(self._cell.name, f"{describe(fault)}, then {describe(second)}", 70)


class _Child:
    """A cell with the pykka actor and inbox that drive it now."""

    def __init__(self, cell: Cell, host: ThreadHost) -> None:
        self.name = cell.name
        self.cell = cell
        # There before the thread is: what earlier actors' constructors send must find a place to wait.
        self.inbox = _PykkaInbox(cell, host)
        self.ref: pykka.ActorRef[_PykkaCell] | None = None
        self.started = threading.Event()
        self.progress = Progress()
        self.abandoned = False

    def spawn(self) -> None:
        self.started = threading.Event()
        self.ref = _PykkaCell.start(self.cell, self.inbox, self.started)

    def abandon(self) -> None:
        """Leave the thread behind; what it still does has no effect."""
        self.cell.fence()
        if self.ref is not None:
            pykka.ActorRegistry.unregister(self.ref)
            self.ref.actor_stopped.set()


class ThreadHost(TreeHost):
    """Runs a tree on threads.

    ``now`` is the market clock (default: the wall clock), ``seed`` seeds every actor's ``rng``. ``on_settled`` is
    called, in some actor's thread, whenever nothing is queued, stashed or asked for outside the background actors.
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
        super().__init__(
            specs,
            now=now or wall_clock,
            seed=seed,
            log=log,
            external=external,
            on_settled=on_settled,
            intercept=intercept,
        )
        self.monotonic = process_clock
        self._seq = itertools.count(1)
        self._settling = Settling(self._all_settled, self._settled, self._failed("on_settled"))
        self._stopping = False
        self._switch_interval_s = sys.getswitchinterval()
        self._wheel = TimerWheel(self._failed("timers"))
        self.doorbell = Doorbell(lambda ring: self._wheel.call_after(MAY_WAIT_S, ring))
        self._children = {spec.name: _Child(Cell(spec, self), self) for spec in self.specs}
        self._awaited = tuple(child for child in self._children.values() if not child.cell.spec.background)
        self._routes: dict[type[Message], tuple[tuple[_Child, bool], ...]] = {}

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Start the children in order, each within its start deadline. ``TimeoutError`` names one that did not."""
        live = self.on_settled is None  # or a replay would wait for those that have time
        for kind, names in self.prove_wiring().items():
            takers = [self._children[name] for name in names]
            self._routes[kind] = tuple((taker, live and taker.inbox.has_time_for(kind)) for taker in takers)
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._wheel.start()
        for child in self._children.values():
            child.spawn()
            if not child.started.wait(child.cell.spec.start_deadline_s):
                raise TimeoutError(f"{child.name} did not start within {child.cell.spec.start_deadline_s:g} s")
        self._wheel.call_after(HUNG_CHECK_S, self._check_progress)

    def stop(self) -> list[str]:
        """Stop in reverse start order: each drains its mailbox, then ends, within its stop deadline. The names of
        those that did not and were left behind (their threads are daemons)."""
        self._stopping = True
        for child in reversed(self._children.values()):
            if child.ref is not None and not child.abandoned and not child.ref.actor_stopped.is_set():
                self._end(child, child.ref)
        self._wheel.stop(timeout_s=1.0)
        sys.setswitchinterval(self._switch_interval_s)
        return [child.name for child in reversed(self._children.values()) if child.abandoned]

    def _end(self, child: _Child, ref: pykka.ActorRef[_PykkaCell]) -> None:
        cell = child.cell
        deadline_s = time.monotonic() + cell.spec.stop_deadline_s
        if not (child.progress.hung and child.progress.stands_still(cell)):  # it has been waited for already
            self.tell(child.name, Resume(incarnation=cell.incarnation + 1))  # a back-off may be longer than we have
            self._wait_at_rest(cell, deadline_s)
            self.tell(child.name, Stop())
            ref.actor_stopped.wait(max(deadline_s - time.monotonic(), 0.05))
        if not ref.actor_stopped.is_set():
            child.abandoned = True
            child.abandon()
            self._log(child.name).error("abandoned", handled=cell.handled)

    def _wait_at_rest(self, cell: Cell, deadline_s: float) -> bool:
        pause = threading.Event()
        while not cell.at_rest or cell.state in (CellState.NEW, CellState.BACKING_OFF):
            if time.monotonic() >= deadline_s:
                return False
            pause.wait(_REST_LOOK_S)
        return True

    # ------------------------------------------------------------ what the composer calls

    def tell(self, name: str, message: Message) -> None:
        self._deliver(self._children[name], "host", message)

    def call_after(self, delay_s: float, act: Callable[[], None]) -> TimerToken:
        """A quick call in the wheel's thread."""
        return self._wheel.call_after(delay_s, act)

    def look_again(self) -> None:
        """See again whether the tree is settled (after a pause of the composer's own)."""
        self._settling.look_again()

    def wait_drained(self, name: str, timeout_s: float) -> bool:
        """Wait until an actor has nothing waiting."""
        return self._wait_at_rest(self._children[name].cell, time.monotonic() + timeout_s)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(child.cell for child in self._children.values())

    # ------------------------------------------------------------ what cells need

    def route(self, sender: str, message: Message, cause: int) -> None:
        takers = self._routes.get(type(message))
        if takers is None:
            self._unrouted(message)
            return
        for child, may_wait in takers:
            self._settling.last_seq = seq = next(self._seq)
            child.inbox.deliver(Envelope(seq, sender, child.name, cause, message), may_wait=may_wait)

    def _deliver(self, child: _Child, sender: str, message: Message, incarnation: int = -1) -> None:
        self._settling.last_seq = seq = next(self._seq)
        envelope = Envelope(seq, sender, child.name, 0, message, incarnation)
        if isinstance(message, Urgent):
            child.inbox.deliver_urgent(envelope)
        else:
            child.inbox.deliver(envelope)

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        self._children[cell.name].inbox.put_back(envelopes)

    def resume(self, cell: Cell) -> None:
        super().resume(cell)
        self._children[cell.name].inbox.pay_back()

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> TimerToken:
        child = self._children[cell.name]
        if self._stopping and isinstance(timer, Resume):
            delay_s = 0.0
        return self._wheel.call_after(delay_s, lambda: self._deliver(child, child.name, timer, incarnation))

    def stop_timer(self, token: TimerToken) -> None:
        token.cancel()

    # ------------------------------------------------------------ progress and settling

    def _check_progress(self) -> None:
        now_s = time.monotonic()
        for child in self._children.values():
            for_s = child.progress.look(child.cell, now_s)
            if for_s is not None:
                self._hung(child, for_s)
        if not self._stopping:
            self._wheel.call_after(HUNG_CHECK_S, self._check_progress)

    def _hung(self, child: _Child, for_s: float) -> None:
        cell = child.cell
        current = cell.current
        kind = type(current.message).__name__ if current is not None else "constructor"
        why = f"hung at {kind} for {for_s:.1f} s"
        self.route(cell.name, ActorHung(actor=cell.name, message_type=kind, for_s=round(for_s, 3)), 0)
        if not cell.spec.replaceable:
            self.escalate(cell.name, why, 70)
            return
        child.abandon()
        heir = cell.heir(why)
        if heir is None:
            child.abandoned = True
            child.inbox.close()
            return
        child.cell = heir
        child.inbox = _PykkaInbox(heir, self, before=child.inbox)
        child.progress = Progress()
        child.spawn()

    def came_to_rest(self) -> None:
        """A cell has run out of messages."""
        if self.on_settled is not None:
            self._settling.look()

    def _all_settled(self) -> bool:
        return all(child.cell.settled for child in self._awaited)

    def _settled(self) -> None:
        if self.on_settled is not None:
            self.on_settled()

    def _failed(self, part: str) -> Callable[[BaseException], None]:
        return lambda fault: self.escalate(part, describe(fault), 70)
