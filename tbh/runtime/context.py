"""The context of one incarnation: its way to send, its timers, its open requests."""

from __future__ import annotations

import math
import random
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tbh.messages.base import Message, Timer, message
from tbh.runtime.actor import WiringError
from tbh.runtime.host import Host

if TYPE_CHECKING:
    from tbh.runtime.cell import Cell

STASH_MAX = 10_000
TIMERS_MAX = 10_000
REQUESTS_MAX = 10_000
_SWEEP_MIN_S = 0.001


@message
class RepeatRequests(Timer):
    """Time to repeat the open requests that are due."""


_REPEAT = RepeatRequests()


@message
class TimerDue(Timer):
    """``timer`` is due, under the handle that ``after`` or ``every`` returned; ``period_s`` is 0 for one that fires
    once. The handle is looked up on delivery, so a timer cancelled while it waited in the mailbox is not delivered."""

    handle: int
    timer: Timer
    period_s: float


class _Request:
    __slots__ = ("due_s", "every_s", "message", "until")

    def __init__(self, message: Message | None, every_s: float, due_s: float, until: datetime | None) -> None:
        self.message = message
        self.every_s = every_s
        self.due_s = due_s
        self.until = until


class CellContext:
    """The :class:`~tbh.runtime.actor.Context` of one incarnation. Once dead, it sends and schedules nothing."""

    def __init__(self, cell: Cell, host: Host, incarnation: int) -> None:
        self.name = cell.name
        self.incarnation = incarnation
        self.log = host.log_for(cell.name)
        self.now = host.now
        self.monotonic = host.monotonic
        self.requests: dict[str, _Request] = {}
        self._cell = cell
        self._host = host
        self._sends = cell.sends
        self._timers: dict[int, Any] = {}
        self._next_handle = 0
        self._sweep: tuple[float, Any] | None = None
        self._dead = False

    @cached_property
    def rng(self) -> random.Random:
        """Seeded when it is first asked: few incarnations ever are."""
        return self._host.random_for(f"{self.name}/{self.incarnation}")

    def send(self, message: Message) -> None:
        if type(message) not in self._sends:
            raise WiringError(f"{self.name} sends {type(message).__name__}, which its `sends` does not list")
        if self._dead:
            return
        current = self._cell.current
        self._host.route(self.name, message, current.seq if current is not None else 0)

    def after(self, delay_s: float, timer: Timer) -> int:
        return self._arm(delay_s, timer, 0.0)

    def every(self, period_s: float, timer: Timer) -> int:
        if period_s <= 0:
            raise ValueError("period_s must be above 0")
        return self._arm(period_s, timer, period_s)

    def _arm(self, delay_s: float, timer: Timer, period_s: float) -> int:
        if type(timer) not in self._cell.receives:
            raise WiringError(f"{self.name} sets a {type(timer).__name__}, for which it has no handler")
        if self._dead:
            return 0
        if len(self._timers) >= TIMERS_MAX:
            raise WiringError(f"{self.name}: more than {TIMERS_MAX} timers pending")
        self._next_handle = handle = self._next_handle + 1
        due = TimerDue(handle=handle, timer=timer, period_s=period_s)
        self._timers[handle] = self._host.start_timer(self._cell, delay_s, due, self.incarnation)
        return handle

    def cancel(self, handle: int) -> None:
        token = self._timers.pop(handle, None)
        if token is not None:
            self._host.stop_timer(token)

    def fires(self, due: TimerDue) -> bool:
        """Whether a timer that is due still stands. A periodic one is armed again before its handler runs, counted
        from now: after a stall there is one tick, not a burst."""
        if due.handle not in self._timers:
            return False
        if due.period_s:
            self._timers[due.handle] = self._host.start_timer(self._cell, due.period_s, due, self.incarnation)
        else:
            del self._timers[due.handle]
        return True

    def keep_asking(self, key: str, request: Message, *, every_s: float, until: datetime | None = None) -> None:
        if every_s <= 0:
            raise ValueError("every_s must be above 0")
        if self._dead:
            return
        self._open(key, _Request(request, every_s, self.monotonic() + every_s, until))
        self.send(request)
        self._sweep_by(self.requests[key].due_s)

    def expect(self, key: str) -> None:
        if not self._dead:
            self._open(key, _Request(None, 0.0, math.inf, None))

    def _open(self, key: str, request: _Request) -> None:
        if len(self.requests) >= REQUESTS_MAX and key not in self.requests:
            raise WiringError(f"{self.name}: more than {REQUESTS_MAX} requests open")
        self.requests[key] = request

    def answered(self, key: str) -> bool:
        return self.requests.pop(key, None) is not None

    def asking(self, key: str) -> bool:
        return key in self.requests

    def repeat(self) -> None:
        """Send again what is due; one timer serves all open requests."""
        now_s = self.monotonic()
        self._sweep = None
        for key, request in list(self.requests.items()):
            if request.until is not None and self.now() > request.until:
                del self.requests[key]
                self.log.warning("request_lapsed", key=key)
            elif request.due_s <= now_s and request.message is not None:
                request.due_s = now_s + request.every_s
                self.send(request.message)
        self._sweep_by(min((request.due_s for request in self.requests.values()), default=math.inf))

    def _sweep_by(self, due_s: float) -> None:
        if due_s == math.inf or (self._sweep is not None and self._sweep[0] <= due_s):
            return
        if self._sweep is not None:
            self._host.stop_timer(self._sweep[1])
        delay_s = max(due_s - self.monotonic(), _SWEEP_MIN_S)
        token = self._host.start_timer(self._cell, delay_s, _REPEAT, self.incarnation)
        self._sweep = (due_s, token)

    def stash(self) -> None:
        envelope = self._cell.current
        if envelope is None:
            raise WiringError(f"{self.name}: stash() outside a handler")
        if self._dead:
            return
        if len(self._cell.stashed) >= STASH_MAX:
            raise WiringError(f"{self.name}: more than {STASH_MAX} messages stashed")
        self._cell.stashed.append(envelope)

    def unstash(self) -> None:
        if not self._dead:
            self._cell.unstash()

    def halt(self, reason: str, *, exit_code: int = 70) -> None:
        if not self._dead:
            self._host.escalate(self.name, reason, exit_code)

    def die(self) -> None:
        """The incarnation is over: its timers and requests go with it. The one method that another thread may call
        (for a thread that hangs), so it walks over copies."""
        self._dead = True
        for token in list(self._timers.values()):
            self._host.stop_timer(token)
        if self._sweep is not None:
            self._host.stop_timer(self._sweep[1])
        self._timers.clear()
        self.requests.clear()
