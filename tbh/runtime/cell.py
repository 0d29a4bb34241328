"""The cell: what every host drives. It owns one actor's dispatch, stash, requests, timers and incarnation.

Whatever a handler raises ends here. The failing message is set aside as a dead letter, the mailbox is suspended
for the back-off, and the next incarnation is built in place: the reference, the thread and the mailbox survive.
Timers and open requests belong to an incarnation and die with it; a constructor re-arms what its store tells it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from tbh.messages.base import Command, Message, Timer, message
from tbh.messages.system import DeadLettered, Halt, Restarted, Resume, Stop, Urgent
from tbh.runtime.actor import Actor, Log, WiringError, receivers
from tbh.runtime.mailbox import Envelope, Mailbox
from tbh.runtime.supervise import ChildSpec, FailureWindow, OnExceeded

PAYLOAD_MAX_CHARS = 2_000
STASH_MAX = 10_000


class CellState(StrEnum):
    NEW = "new"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    DISABLED = "disabled"
    STOPPED = "stopped"


@message
class _Repeat(Timer):
    """Time to repeat the open requests that are due."""


@message
class _Periodic(Timer):
    """One tick of a periodic timer; ``handle`` is the one that ``every`` returned."""

    period_s: float
    timer: Timer
    handle: int


Intercept = Callable[[str, Envelope], None]
"""Called before each delivery with the actor's name; what it raises is the actor's failure (fault injection)."""


class Host(Protocol):
    """What a cell needs of whoever drives it."""

    intercept: Intercept | None

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def route(self, sender: str, message: Message, cause: int) -> None: ...
    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None: ...
    def suspend(self, cell: Cell) -> None: ...
    def resume(self, cell: Cell) -> None: ...
    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> Any: ...
    def stop_timer(self, token: Any) -> None: ...
    def escalate(self, actor: str, reason: str, exit_code: int) -> None: ...
    def random_for(self, name: str) -> random.Random: ...
    def log_for(self, name: str) -> Log: ...


class _Request:
    __slots__ = ("due_s", "every_s", "message", "until")

    def __init__(self, message: Message | None, every_s: float, due_s: float, until: datetime | None) -> None:
        self.message = message
        self.every_s = every_s
        self.due_s = due_s
        self.until = until


class Cell:
    """One actor's life. The host calls ``start`` once and ``handle`` for each envelope, always from one thread."""

    def __init__(self, spec: ChildSpec, host: Host) -> None:
        self.spec = spec
        self.name = spec.name
        self.host = host
        self.mailbox = Mailbox(spec.max_waiting, spec.conflates)
        self.state = CellState.NEW
        self.incarnation = 0
        self.handled = 0
        self.restarts = 0
        self.dead_letters = 0
        self.busy = False
        self.actor: Actor | None = None
        self.context: CellContext | None = None
        self.current: Envelope | None = None
        self.stashed: list[Envelope] = []
        self._handler_names = receivers(spec.actor)
        self._allowed = frozenset(spec.actor.sends)
        self._handlers: dict[type[Message], Callable[[Any], None]] = {}
        self._why = ""
        self._failures = FailureWindow(spec.policy, host.random_for(f"{spec.name}/backoff"))

    @property
    def open_requests(self) -> int:
        """How many requests wait for their answer. A host may read it while no handler runs."""
        return len(self.context.requests) if self.context is not None else 0

    @property
    def settled(self) -> bool:
        """Nothing queued, stashed, suspended or asked for: a lock-step replay may go on."""
        return (
            self.mailbox.idle
            and not self.busy
            and not self.stashed
            and self.state not in (CellState.NEW, CellState.BACKING_OFF)
            and not self.open_requests
        )

    def start(self) -> None:
        """Build the first incarnation. A constructor that fails counts as a failure and is tried again."""
        self._build()

    def handle(self, envelope: Envelope) -> None:
        """Deliver one envelope. Never raises, but for the simulator's own end of a greenlet."""
        handler = self._handlers.get(type(envelope.message))
        if handler is None:
            self._handle_other(envelope)
            return
        if envelope.incarnation >= 0 and envelope.incarnation != self.incarnation:
            return
        msg = envelope.message
        if isinstance(msg, Command) and msg.expires_at is not None and self.host.now() > msg.expires_at:
            self.set_aside(envelope, "expired")
            return
        self.current = envelope
        try:
            handler(msg)
        except Exception as fault:  # noqa: BLE001 - the one place where an actor's failure ends
            self.fail(envelope, fault)
        finally:
            self.current = None
        self.handled += 1

    def _handle_other(self, envelope: Envelope) -> None:
        msg = envelope.message
        if isinstance(msg, (_Repeat, _Periodic)):
            self._tick(envelope, msg)
        elif isinstance(msg, Resume):
            if msg.incarnation == self.incarnation + 1 and self.state is CellState.BACKING_OFF:
                self.incarnation += 1
                self._build()
        elif isinstance(msg, Stop):
            self._stop(envelope)
        elif isinstance(msg, Halt):
            self._call(envelope, lambda actor: actor.on_halt(msg.reason))
        elif self.state in (CellState.DISABLED, CellState.STOPPED):
            if isinstance(msg, Command):
                self.set_aside(envelope, f"actor is {self.state}")
        elif not isinstance(msg, (Timer, Urgent)):
            self.set_aside(envelope, "no handler")
        self.handled += 1

    def _tick(self, envelope: Envelope, msg: _Repeat | _Periodic) -> None:
        context = self.context
        if envelope.incarnation != self.incarnation or context is None or self.actor is None:
            return
        if isinstance(msg, _Periodic):
            context.periodic(msg)
            self.handle(Envelope(envelope.seq, self.name, self.name, 0, msg.timer, self.incarnation))
        else:
            self._call(envelope, lambda _: context.repeat())

    def unstash(self) -> None:
        """Bring stashed messages back to the front of the mailbox."""
        if self.stashed:
            stashed, self.stashed = self.stashed, []
            self.host.requeue(self, stashed)

    def _call(self, envelope: Envelope, act: Callable[[Actor], None]) -> None:
        if self.actor is None:
            return
        self.current = envelope
        try:
            act(self.actor)
        except Exception as fault:  # noqa: BLE001 - as in handle
            self.fail(envelope, fault)
        finally:
            self.current = None

    def _stop(self, envelope: Envelope) -> None:
        if self.state is CellState.STOPPED:
            return
        if self.state is CellState.RUNNING and self.actor is not None:
            self.current = envelope
            try:
                self.actor.on_stop()
            except Exception as fault:  # noqa: BLE001 - the stop goes on whatever the actor says
                self.host.log_for(self.name).error("stop_failed", error=describe(fault))
            finally:
                self.current = None
        self._end(CellState.STOPPED)

    def _end(self, state: CellState) -> None:
        if self.context is not None:
            self.context.die()
        self.state = state
        self.actor = None
        self._handlers = {}
        self.host.resume(self)

    def _build(self) -> None:
        context = CellContext(self, self.host, self.incarnation)
        self.context = context
        try:
            actor = self.spec.factory(context)
        except Exception as fault:  # noqa: BLE001 - a constructor is a handler like any other
            self.fail(None, fault)
            return
        self.actor = actor
        self._handlers = {kind: self._handler(getattr(actor, name)) for kind, name in self._handler_names.items()}
        self.state = CellState.RUNNING
        self.host.resume(self)
        if self.incarnation:
            self.restarts += 1
            self.unstash()
            self.host.route(self.name, Restarted(actor=self.name, incarnation=self.incarnation, reason=self._why), 0)

    def _handler(self, bound: Callable[[Any], None]) -> Callable[[Any], None]:
        intercept = self.host.intercept
        if intercept is None:
            return bound

        def intercepted(msg: Any) -> None:
            if self.current is not None:
                intercept(self.name, self.current)
            bound(msg)

        return intercepted

    def fail(self, envelope: Envelope | None, fault: BaseException) -> None:
        """Set the message aside, then restart after the back-off, or do what ``on_exceeded`` says."""
        self._why = reason = describe(fault)
        self.host.log_for(self.name).error("actor_failed", error=reason, incarnation=self.incarnation)
        if self.context is not None:
            self.context.die()
        self.actor = None
        self._handlers = {}
        if envelope is not None:
            self.set_aside(envelope, reason)
        exit_code = getattr(fault, "exit_code", None)
        backoff_s = self._failures.record(self.host.monotonic())
        if exit_code is not None:
            self._end(CellState.DISABLED)
            self.host.escalate(self.name, reason, int(exit_code))
        elif backoff_s is not None:
            self.state = CellState.BACKING_OFF
            self.host.suspend(self)
            self.host.start_timer(self, backoff_s, Resume(incarnation=self.incarnation + 1), -1)
        else:
            self._end(CellState.DISABLED)
            self.host.log_for(self.name).error("policy_exceeded", on_exceeded=str(self.spec.on_exceeded))
            if self.spec.on_exceeded is OnExceeded.ESCALATE:
                self.host.escalate(self.name, f"failed too often, last: {reason}", 70)

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


class CellContext:
    """The :class:`~tbh.runtime.actor.Context` of one incarnation. Once dead, it sends and schedules nothing."""

    def __init__(self, cell: Cell, host: Host, incarnation: int) -> None:
        self.name = cell.name
        self.incarnation = incarnation
        self.rng = host.random_for(f"{cell.name}/{incarnation}")
        self.log = host.log_for(cell.name)
        self.now = host.now
        self.monotonic = host.monotonic
        self.requests: dict[str, _Request] = {}
        self._cell = cell
        self._host = host
        self._allowed = cell._allowed
        self._timers: dict[int, Any] = {}
        self._next_handle = 0
        self._sweep_due_s: float | None = None
        self._dead = False

    def send(self, message: Message) -> None:
        if type(message) not in self._allowed:
            raise WiringError(f"{self.name} sends {type(message).__name__}, which its `sends` does not list")
        if self._dead:
            return
        current = self._cell.current
        self._host.route(self.name, message, current.seq if current is not None else 0)

    def after(self, delay_s: float, timer: Timer) -> int:
        if self._dead:
            return 0
        self._next_handle += 1
        self._timers[self._next_handle] = self._host.start_timer(self._cell, delay_s, timer, self.incarnation)
        return self._next_handle

    def every(self, period_s: float, timer: Timer) -> int:
        if period_s <= 0:
            raise ValueError("period_s must be above 0")
        return self.after(period_s, _Periodic(period_s=period_s, timer=timer, handle=self._next_handle + 1))

    def cancel(self, handle: int) -> None:
        token = self._timers.pop(handle, None)
        if token is not None:
            self._host.stop_timer(token)

    def periodic(self, tick: _Periodic) -> None:
        """Re-arm a periodic timer before its handler runs, unless it was cancelled."""
        if not self._dead and tick.handle in self._timers:
            self._timers[tick.handle] = self._host.start_timer(self._cell, tick.period_s, tick, self.incarnation)

    def keep_asking(self, key: str, request: Message, *, every_s: float, until: datetime | None = None) -> None:
        if self._dead:
            return
        due_s = self.monotonic() + every_s
        self.requests[key] = _Request(request, every_s, due_s, until)
        self.send(request)
        if self._sweep_due_s is None or due_s < self._sweep_due_s:
            self._sweep_due_s = due_s
            self._host.start_timer(self._cell, every_s, _Repeat(), self.incarnation)

    def expect(self, key: str) -> None:
        if not self._dead:
            self.requests[key] = _Request(None, 0.0, math.inf, None)

    def answered(self, key: str) -> bool:
        return self.requests.pop(key, None) is not None

    def asking(self, key: str) -> bool:
        return key in self.requests

    def repeat(self) -> None:
        """Send again what is due; one timer serves all open requests."""
        now_s = self.monotonic()
        self._sweep_due_s = None
        for key, request in list(self.requests.items()):
            if request.until is not None and self.now() > request.until:
                del self.requests[key]
                self.log.warning("request_lapsed", key=key)
            elif request.due_s <= now_s and request.message is not None:
                request.due_s = now_s + request.every_s
                self.send(request.message)
        next_due_s = min((request.due_s for request in self.requests.values()), default=math.inf)
        if next_due_s < math.inf:
            self._sweep_due_s = next_due_s
            delay_s = max(self._sweep_due_s - now_s, 0.001)
            self._host.start_timer(self._cell, delay_s, _Repeat(), self.incarnation)

    def stash(self) -> None:
        envelope = self._cell.current
        if envelope is None:
            raise WiringError(f"{self.name}: stash() outside a handler")
        if len(self._cell.stashed) >= STASH_MAX:
            raise WiringError(f"{self.name}: more than {STASH_MAX} messages stashed")
        self._cell.stashed.append(envelope)

    def unstash(self) -> None:
        self._cell.unstash()

    def halt(self, reason: str, *, exit_code: int = 70) -> None:
        self._host.escalate(self.name, reason, exit_code)

    def die(self) -> None:
        """The incarnation is over: its timers and requests go with it."""
        self._dead = True
        for token in self._timers.values():
            self._host.stop_timer(token)
        self._timers.clear()
        self.requests.clear()


def describe(fault: BaseException) -> str:
    """One line: the exception's class and text."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}"[:500] if text else type(fault).__name__
