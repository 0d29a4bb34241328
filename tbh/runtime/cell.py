"""The cell: what every host drives. It owns one actor's dispatch, stash, requests, timers and incarnation.

Whatever a handler raises ends here. The failing message is set aside as a dead letter, the mailbox is suspended
for the back-off, and the next incarnation is built in place: the reference, the thread and the mailbox survive.
Timers and open requests belong to an incarnation and die with it; a constructor re-arms what its store tells it.

A cell whose thread hangs is fenced: from then on whatever that thread still does has no effect, and an heir may
take over its mailbox.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cached_property
from typing import Any

from tbh.messages.base import Command, Timer
from tbh.messages.system import DeadLettered, Halt, Restarted, Resume, Stop, Urgent
from tbh.runtime.actor import Actor, receivers
from tbh.runtime.context import CellContext, RepeatRequests, TimerDue
from tbh.runtime.host import Host, Intercept
from tbh.runtime.mailbox import Envelope, Mailbox
from tbh.runtime.supervise import ChildSpec, FailureWindow, OnExceeded

__all__ = ["Cell", "CellState", "Host", "Intercept", "describe"]

PAYLOAD_MAX_CHARS = 2_000
FAILURES = (Exception, SystemExit)
"""What counts as an actor's failure. A KeyboardInterrupt is the user's, and a GreenletExit the simulator's own."""


_TICKS = frozenset({RepeatRequests, TimerDue})


class CellState(StrEnum):
    NEW = "new"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    DISABLED = "disabled"
    STOPPED = "stopped"


class Cell:
    """One actor's life. The host calls ``start`` once and ``handle`` for each envelope, always from one thread."""

    def __init__(self, spec: ChildSpec, host: Host) -> None:
        self.spec = spec
        self.name = spec.name
        self.host = host
        self.mailbox = Mailbox(spec.max_waiting, spec.conflates)
        # Neighbours that started earlier may write already; what they send waits for the constructor.
        self.mailbox.suspended = True
        self.state = CellState.NEW
        self.incarnation = 0
        self.handled = 0
        self.restarts = 0
        self.dead_letters = 0
        self.busy = False
        self.fenced = False
        self.actor: Actor | None = None
        self.context: CellContext | None = None
        self.current: Envelope | None = None
        self.stashed: list[Envelope] = []
        self._handler_names = receivers(spec.actor)
        self.receives = frozenset(self._handler_names)
        self.sends = frozenset(spec.actor.sends)
        self._handlers: dict[type[Any], Callable[[Any], None]] = {}
        self._why = ""
        self._halted: Halt | None = None

    @cached_property
    def _failures(self) -> FailureWindow:
        return FailureWindow(self.spec.policy, self.host.random_for(f"{self.name}/backoff"))

    @property
    def open_requests(self) -> int:
        """How many requests wait for their answer. A host may read it while no handler runs."""
        return len(self.context.requests) if self.context is not None else 0

    @property
    def at_rest(self) -> bool:
        """Nothing waits and no handler runs. The order matters to a host that looks from another thread: a reader is
        busy before it takes, so an empty mailbox seen first and no reader seen busy afterwards means just that."""
        return self.mailbox.idle and not self.busy

    @property
    def settled(self) -> bool:
        """Nothing queued, stashed, suspended or asked for: a lock-step replay may go on."""
        return (
            self.at_rest
            and not self.stashed
            and self.state not in (CellState.NEW, CellState.BACKING_OFF)
            and not self.open_requests
        )

    # ------------------------------------------------------------ deliveries

    def start(self) -> None:
        """Build the first incarnation. A constructor that fails counts as a failure and is tried again."""
        if self.state is CellState.NEW:
            self._build()

    def handle(self, envelope: Envelope) -> None:
        """Deliver one envelope. Raises nothing but what FAILURES leaves out."""
        msg = envelope.message
        handler = self._handlers.get(type(msg))
        if handler is None:
            self._handle_other(envelope)
        else:
            self.current = envelope
            try:
                handler(msg)
            except FAILURES as fault:
                self.fail(envelope, fault)
            finally:
                self.current = None
        self.handled += 1

    def _handle_other(self, envelope: Envelope) -> None:
        msg = envelope.message
        if type(msg) in _TICKS:
            self._tick(envelope, msg)
        elif isinstance(msg, Resume):
            if msg.incarnation == self.incarnation + 1 and self.state is CellState.BACKING_OFF:
                self.incarnation += 1
                self._build()
        elif isinstance(msg, Stop):
            self._stop(envelope)
        elif isinstance(msg, Halt):
            self._halted = msg
            self._call(envelope, lambda actor: actor.on_halt(msg.reason, msg.exit_code))
        elif self.state in (CellState.DISABLED, CellState.STOPPED):
            if isinstance(msg, Command):
                self.set_aside(envelope, f"actor is {self.state}")
        elif not isinstance(msg, (Timer, Urgent)):
            self.set_aside(envelope, "no handler")

    def _tick(self, envelope: Envelope, msg: Any) -> None:
        context = self.context
        if envelope.incarnation != self.incarnation or context is None or self.actor is None:
            return
        if type(msg) is RepeatRequests:
            self._call(envelope, lambda _: context.repeat())
        elif context.fires(msg):
            self.handle(Envelope(envelope.seq, self.name, self.name, 0, msg.timer, self.incarnation))

    def unstash(self) -> None:
        """Bring stashed messages back to the front of the mailbox."""
        if self.stashed:
            stashed, self.stashed = self.stashed, []
            self.host.requeue(self, stashed)

    def _call(self, envelope: Envelope | None, act: Callable[[Actor], None]) -> None:
        if self.actor is None:
            return
        self.current = envelope
        try:
            act(self.actor)
        except FAILURES as fault:
            self.fail(envelope, fault)
        finally:
            self.current = None

    # ------------------------------------------------------------ life and death

    def _build(self) -> None:
        context = CellContext(self, self.host, self.incarnation)
        self.context = context
        try:
            actor = self.spec.factory(context)
        except FAILURES as fault:
            self.fail(None, fault)
            return
        if self.fenced:
            return
        self.actor = actor
        self._handlers = {kind: self._handler(kind, getattr(actor, name)) for kind, name in self._handler_names.items()}
        self.state = CellState.RUNNING
        self.host.resume(self)
        if self.incarnation:
            self.restarts += 1
            self.unstash()
            self.host.route(self.name, Restarted(actor=self.name, incarnation=self.incarnation, reason=self._why), 0)
        halted = self._halted
        if halted is not None:  # a halt outlives the incarnation that heard of it
            self._call(None, lambda actor: actor.on_halt(halted.reason, halted.exit_code))

    def _handler(self, kind: type[Any], bound: Callable[[Any], None]) -> Callable[[Any], None]:
        intercept = self.host.intercept
        if intercept is not None:
            bound = self._intercepted(bound, intercept)
        return self._expiring(bound) if issubclass(kind, Command) else bound

    def _intercepted(self, bound: Callable[[Any], None], intercept: Intercept) -> Callable[[Any], None]:
        def intercepted(msg: Any) -> None:
            if self.current is not None:
                intercept(self.name, self.current)
            bound(msg)

        return intercepted

    def _expiring(self, bound: Callable[[Any], None]) -> Callable[[Any], None]:
        def expiring(command: Any) -> None:
            if command.expires_at is not None and self.current is not None and self.host.now() > command.expires_at:
                self.set_aside(self.current, "expired")
            else:
                bound(command)

        return expiring

    def _stop(self, envelope: Envelope) -> None:
        if self.state is CellState.STOPPED:
            return
        try:
            if self.actor is not None:
                self.current = envelope
                self.actor.on_stop()
        except FAILURES as fault:  # the stop goes on whatever the actor says
            self.host.log_for(self.name).error("stop_failed", error=describe(fault))
        finally:
            self.current = None
            if len(self.mailbox) or self.stashed:
                waiting = len(self.mailbox) + len(self.stashed)
                self.host.log_for(self.name).warning("stopped_with_messages_waiting", waiting=waiting)
            self.stashed.clear()
            self._end(CellState.STOPPED)

    def _end(self, state: CellState) -> None:
        if self.context is not None:
            self.context.die()
        self.actor = None
        self._handlers = {}
        self.state = state
        if not self.fenced:
            self.unstash()
            self.host.resume(self)

    def fail(self, envelope: Envelope | None, fault: BaseException) -> None:
        """Set the message aside, then restart after the back-off, or do what ``on_exceeded`` says."""
        if self.fenced or self.state in (CellState.DISABLED, CellState.STOPPED):
            self.host.log_for(self.name).warning("failed_after_its_end", error=describe(fault))
            return
        self._why = reason = describe(fault)
        self.host.log_for(self.name).error("actor_failed", error=reason, incarnation=self.incarnation)
        if self.context is not None:
            self.context.die()
        self.actor = None
        self._handlers = {}
        if envelope is not None:
            if self.stashed and self.stashed[-1] is envelope:  # or the stash would deliver it again
                self.stashed.pop()
            self.set_aside(envelope, reason)
        exit_code = getattr(fault, "exit_code", None)
        backoff_s = self._failures.record(self.host.monotonic())
        if exit_code is not None:
            self._end(CellState.DISABLED)
            self.host.escalate(self.name, reason, int(exit_code))
        elif backoff_s is None:
            self._exceeded(reason)
        else:
            self.state = CellState.BACKING_OFF
            self.host.suspend(self)
            self.host.start_timer(self, backoff_s, Resume(incarnation=self.incarnation + 1), -1)

    def _exceeded(self, reason: str) -> None:
        self._end(CellState.DISABLED)
        self.host.log_for(self.name).error("policy_exceeded", on_exceeded=str(self.spec.on_exceeded))
        if self.spec.on_exceeded is OnExceeded.ESCALATE:
            self.host.escalate(self.name, f"failed too often, last: {reason}", 70)

    def fence(self) -> None:
        """Cut off a cell whose thread hangs. Called from another thread; what the thread does later is ignored."""
        self.fenced = True
        if self.context is not None:
            self.context.die()

    def heir(self, why: str) -> Cell | None:
        """Fence this cell and return one that takes over mailbox, stash and counters; the hang counts as a failure.
        None when that exceeds the policy: then ``on_exceeded`` has been done, and nobody takes over."""
        current = self.current
        self.fence()
        heir = Cell(self.spec, self.host)
        heir.mailbox = self.mailbox
        heir.mailbox.suspended = True
        heir.stashed = list(self.stashed)
        heir.incarnation = self.incarnation + 1
        heir.handled = self.handled
        heir.restarts = self.restarts
        heir.dead_letters = self.dead_letters
        heir._halted = self._halted
        heir._failures = self._failures
        heir._why = why
        if current is not None:
            heir.set_aside(current, why)
        if self._failures.record(self.host.monotonic()) is None:
            self._exceeded(why)
            return None
        return heir

    def set_aside(self, envelope: Envelope, reason: str) -> None:
        """Make a dead letter of it: counted, and told to whoever receives ``DeadLettered``."""
        self.dead_letters += 1
        kind = type(envelope.message)
        if kind is DeadLettered:  # telling about it again would never end
            return
        letter = DeadLettered(
            actor=self.name,
            seq=envelope.seq,
            message_type=kind.__name__,
            payload=repr(envelope.message)[:PAYLOAD_MAX_CHARS],
            reason=reason,
        )
        self.host.route(self.name, letter, envelope.seq)


def describe(fault: BaseException) -> str:
    """One line: the exception's class and text."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}"[:500] if text else type(fault).__name__
