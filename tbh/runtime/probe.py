"""The probe host: one actor in a test, its mailbox simulated and its clocks moved by hand.

probe = Probe(Journaler, lambda ctx: Journaler(ctx, store=store))
probe.tell(OrderDrafted(order=order))
assert probe.take() == [Recorded(...)]
probe.advance(5)
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tbh.messages.base import Message
from tbh.messages.system import DeadLettered, Halt, Restarted, Stop, Urgent
from tbh.runtime.actor import Actor, Context, Log, NullLog
from tbh.runtime.cell import Cell
from tbh.runtime.host import Intercept
from tbh.runtime.mailbox import Envelope, MailboxFull
from tbh.runtime.supervise import ChildSpec, Policy

_A = TypeVar("_A", bound=Actor)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Probe:
    """Drives one actor. ``sent`` is what it sent (``take`` returns and clears it), ``kernel`` what its cell said of
    it (``Restarted``, ``DeadLettered``), ``escalation`` (actor, reason, exit code) once it escalated."""

    def __init__(
        self,
        actor: type[Actor],
        factory: Callable[[Context], Actor],
        *,
        name: str | None = None,
        policy: Policy | None = None,
        start: datetime = EPOCH,
        seed: int | str = 0,
        log: Log | None = None,
    ) -> None:
        self.sent: list[Message] = []
        self.kernel: list[Message] = []
        self.escalation: tuple[str, str, int] | None = None
        self.intercept: Intercept | None = self._maybe_fail
        self._market = start
        self._process_s = 0.0
        self._seed = seed
        self._log: Log = log or NullLog()
        self._seq = itertools.count(1)
        self._heap: list[tuple[float, int, list[Envelope | None]]] = []
        self._planned: list[BaseException] = []
        name = name or actor.__name__.lower()
        self.cell = Cell(ChildSpec(name=name, actor=actor, factory=factory, policy=policy or Policy()), self)
        self.cell.start()

    # ------------------------------------------------------------ driving

    def tell(self, *messages: Message) -> None:
        """Deliver messages, one after the other; while the actor backs off they wait."""
        for message in messages:
            envelope = Envelope(next(self._seq), "probe", self.cell.name, 0, message)
            if isinstance(message, Urgent):
                self.cell.mailbox.offer_urgent(envelope)
            else:
                self._offer(envelope)
            self._pump()

    def advance(self, seconds: float, *, market: bool = True) -> None:
        """Let ``seconds`` pass on the process clock (and the market clock too), firing timers in order."""
        end_s = self._process_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            due_s, _, slot = heapq.heappop(self._heap)
            self._move(due_s - self._process_s, market)
            envelope = slot[0]
            if envelope is None:
                continue
            if isinstance(envelope.message, Urgent):
                self.cell.mailbox.offer_urgent(envelope)
            else:
                self._offer(envelope)
            slot[0] = None
            self._pump()
        self._move(end_s - self._process_s, market)

    def set_now(self, now: datetime) -> None:
        """Set the market clock."""
        self._market = now

    def fail_next(self, fault: BaseException | None = None) -> None:
        """Make the next delivery raise."""
        self._planned.append(fault or RuntimeError("planned fault"))

    def restart(self) -> None:
        """Fail it once and wait out the back-off: what a crash between two messages does."""
        self.cell.fail(None, RuntimeError("restart"))
        self.advance(60, market=False)

    def stop(self) -> None:
        self.tell(Stop())

    def halt(self, reason: str = "test", exit_code: int = 70) -> None:
        self.tell(Halt(reason=reason, exit_code=exit_code))

    def take(self, kind: type[Message] | None = None) -> list[Any]:
        """What was sent since the last take (only ``kind``, when given; the others are dropped)."""
        sent, self.sent = self.sent, []
        return [message for message in sent if kind is None or isinstance(message, kind)]

    # ------------------------------------------------------------ looking

    @property
    def actor(self) -> Any:
        return self.cell.actor

    @property
    def restarts(self) -> int:
        return self.cell.restarts

    @property
    def asking(self) -> list[str]:
        """Keys of the open requests."""
        return sorted(self.cell.context.requests) if self.cell.context is not None else []

    @property
    def dead_letters(self) -> list[DeadLettered]:
        return [message for message in self.kernel if isinstance(message, DeadLettered)]

    # ------------------------------------------------------------ what the cell needs

    def now(self) -> datetime:
        return self._market

    def monotonic(self) -> float:
        return self._process_s

    def route(self, sender: str, message: Message, cause: int) -> None:
        (self.kernel if isinstance(message, (Restarted, DeadLettered)) else self.sent).append(message)

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        cell.mailbox.put_back(envelopes)

    def suspend(self, cell: Cell) -> None:
        cell.mailbox.suspended = True

    def resume(self, cell: Cell) -> None:
        cell.mailbox.suspended = False

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> list[Envelope | None]:
        slot: list[Envelope | None] = [Envelope(next(self._seq), cell.name, cell.name, 0, timer, incarnation)]
        heapq.heappush(self._heap, (self._process_s + delay_s, next(self._seq), slot))
        return slot

    def stop_timer(self, token: list[Envelope | None]) -> None:
        token[0] = None

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        self.escalation = self.escalation or (actor, reason, exit_code)

    def random_for(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    def log_for(self, name: str) -> Log:
        return self._log

    def _offer(self, envelope: Envelope) -> None:
        try:
            self.cell.mailbox.offer(envelope)
        except MailboxFull:
            self.escalate(self.cell.name, f"mailbox full ({self.cell.spec.max_waiting})", 70)
            self.cell.set_aside(envelope, "mailbox full")

    def _pump(self) -> None:
        while (envelope := self.cell.mailbox.take()) is not None:
            self.cell.handle(envelope)

    def _move(self, seconds: float, market: bool) -> None:
        if seconds > 0:
            self._process_s += seconds
            if market:
                self._market += timedelta(seconds=seconds)

    def _maybe_fail(self, actor: str, envelope: Envelope) -> None:
        if self._planned:
            raise self._planned.pop(0)
