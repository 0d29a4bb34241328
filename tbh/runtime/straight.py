"""The straight host: a whole tree on one thread, every message delivered at once and in the order of its sending.

Nothing is drawn and no port call takes time, so a run is a function of what the tree is told, at the least price that a
delivery can have. The cells, the actors and the wiring are those of every other host. Actors in the background hear of
things a few hundred messages at a time, or as soon as the others have nothing to do but wait.

Process time moves in two ways. Each time the tree has come to rest, and something outside (``on_settled``) goes on, a
``turn_s`` has passed. And when somebody waits for a timer, time leaps to the next one that is due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from math import inf
from typing import Any

from tbh.messages.base import Message
from tbh.messages.system import Resume, Stop, Urgent
from tbh.runtime.actor import Log
from tbh.runtime.cell import Cell, CellState
from tbh.runtime.host import Intercept
from tbh.runtime.hosting import TreeHost
from tbh.runtime.mailbox import Envelope, MailboxFull
from tbh.runtime.supervise import ChildSpec

TURN_S = 0.01
_UNSETTLED = (CellState.NEW, CellState.BACKING_OFF)
_START = datetime(2026, 1, 1, tzinfo=UTC)
BACKGROUND_MAX = 512
"""So many messages for the background may wait while the foreground goes on."""

_Delivery = tuple[Cell, Envelope]
_Queue = deque[_Delivery]


class StraightHost(TreeHost):
    """Runs a tree in its caller's thread. The arguments are those of the other hosts; ``heard`` is told of each message
    of the types that it maps, as it is sent. ``messages`` counts the deliveries."""

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
        heard: dict[type[Message], Callable[[Any], None]] | None = None,
        turn_s: float = TURN_S,
    ) -> None:
        super().__init__(
            specs,
            now=now or self._virtual_now,
            seed=seed,
            log=log,
            external=external,
            on_settled=on_settled,
            intercept=intercept,
        )
        self.messages = 0
        self._turn_s = turn_s
        self._now_s = 0.0
        self._seq = 0
        self._settled_at = -1
        self._queue: _Queue = deque()
        self._behind: _Queue = deque()
        self._timers: list[tuple[float, int, Cell, Message, int, list[bool]]] = []
        self._heard = heard or {}
        self._cells = {spec.name: Cell(spec, self) for spec in self.specs}
        self._awaited = tuple(cell for cell in self._cells.values() if not cell.spec.background)
        self._takers = {kind: self._takers_of(names) for kind, names in self.prove_wiring().items()}
        self._to_pump: list[Cell] = []

    def _takers_of(self, names: tuple[str, ...]) -> tuple[str, tuple[tuple[Cell, Callable[[_Delivery], None]], ...]]:
        """Whom to name on the envelope, and each with the way into its queue."""
        cells = [self._cells[name] for name in names]
        return ", ".join(names), tuple((cell, self._queue_of(cell).append) for cell in cells)

    def _queue_of(self, cell: Cell) -> _Queue:
        return self._behind if cell.spec.background else self._queue

    # ------------------------------------------------------------ driving

    def start(self) -> None:
        """Start the children, in their order."""
        for cell in self._cells.values():
            cell.start()
            self._pump(cell)

    def run(self, *, for_s: float = inf, done: Callable[[], bool] | None = None) -> None:
        """Deliver for at most ``for_s`` of process time, until ``done()`` (asked whenever nothing is left to deliver),
        until nothing is due, or until the tree escalates during this run."""
        until_s, before = self._now_s + for_s, self.escalation
        while self.escalation is before:
            self._deliver(self._queue)
            if self.on_settled is not None and self._seq != self._settled_at and self._settled():
                if len(self._behind) > BACKGROUND_MAX:
                    self._deliver(self._behind)
                elif self._turn(self.on_settled):
                    continue
            if self._behind:
                self._deliver(self._behind)
            elif not self._queue and ((done is not None and done()) or not self._leap(until_s)):
                return

    def _turn(self, on_settled: Callable[[], None]) -> bool:
        """The tree has come to rest: a turn passes. Whether that gives anybody anything to do."""
        self._settled_at = self._seq
        self._now_s += self._turn_s
        timers = self._timers
        while timers and timers[0][0] <= self._now_s:
            self._fire(heappop(timers))
        on_settled()
        return bool(self._queue)

    def _settled(self) -> bool:
        # ``Cell.settled``, written out for cells of which none has a handler running: it is asked at each turn.
        for cell in self._awaited:
            context, mailbox = cell.context, cell.mailbox
            if context is None or context.requests or cell.stashed or mailbox.items or mailbox.urgent:
                return False
            if cell.state in _UNSETTLED:
                return False
        return True

    def _deliver(self, queue: _Queue) -> None:
        """Everything that waits in ``queue``; of the background only while the foreground has nothing."""
        popleft = queue.popleft
        foreground, to_pump = self._queue, self._to_pump
        delivered = 0
        while queue:
            cell, envelope = popleft()
            delivered += 1
            mailbox = cell.mailbox
            if mailbox.suspended or mailbox.items or mailbox.urgent:
                self._keep(cell, envelope)
                self._pump(cell)
            else:
                cell.handle(envelope)
            if to_pump:
                self._pump_all()
            if foreground and queue is not foreground:
                break
        self.messages += delivered

    def _keep(self, cell: Cell, envelope: Envelope) -> None:
        if isinstance(envelope.message, Urgent):
            cell.mailbox.offer_urgent(envelope)
            return
        try:
            cell.mailbox.offer(envelope)
        except MailboxFull:
            self.overflowed(cell, envelope)

    def _pump(self, cell: Cell) -> None:
        while (envelope := cell.mailbox.take()) is not None:
            cell.handle(envelope)

    def _pump_all(self) -> None:
        while self._to_pump:
            self._pump(self._to_pump.pop())

    def _leap(self, until_s: float) -> bool:
        """Go to the next timer that stands; False when there is none by then."""
        while self._timers and self._timers[0][0] <= until_s:
            timer = heappop(self._timers)
            self._now_s = max(self._now_s, timer[0])
            if self._fire(timer):
                return True
        return False

    def _fire(self, timer: tuple[float, int, Cell, Message, int, list[bool]]) -> bool:
        _, _, cell, message, incarnation, alive = timer
        if alive[0]:
            self._seq += 1
            self._queue_of(cell).append((cell, Envelope(self._seq, cell.name, cell.name, 0, message, incarnation)))
        return alive[0]

    def stop(self) -> list[str]:
        """Stop every child in reverse start order, each after what it has and what is on its way to it; the names of
        those that did not end."""
        self._deliver_all()
        for cell in reversed(self._cells.values()):
            self.tell(cell.name, Resume(incarnation=cell.incarnation + 1))  # nobody waits for the end of a back-off
            self._deliver_all()
            self.tell(cell.name, Stop())
            self._deliver_all()
        return [cell.name for cell in reversed(self._cells.values()) if cell.state is not CellState.STOPPED]

    def _deliver_all(self) -> None:
        while self._queue or self._behind:
            self._deliver(self._queue)
            self._deliver(self._behind)

    # ------------------------------------------------------------ what cells need

    def _virtual_now(self) -> datetime:
        return _START + timedelta(seconds=self._now_s)

    def monotonic(self) -> float:
        return self._now_s

    def route(self, sender: str, message: Message, cause: int) -> None:
        kind = type(message)
        if kind in self._heard:
            self._heard[kind](message)
        found = self._takers.get(kind)
        if found is None:
            self._unrouted(message)
            return
        names, takers = found
        self._seq += 1
        envelope = Envelope(self._seq, sender, names, cause, message)  # one for all: it is read, and never changed
        for cell, append in takers:
            append((cell, envelope))

    def tell(self, name: str, message: Message) -> None:
        cell = self._cells[name]
        self._seq += 1
        self._queue_of(cell).append((cell, Envelope(self._seq, "host", name, 0, message)))

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        cell.mailbox.put_back(envelopes)
        self._to_pump.append(cell)

    def resume(self, cell: Cell) -> None:
        super().resume(cell)
        self._to_pump.append(cell)

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> list[bool]:
        alive = [True]
        self._seq += 1
        heappush(self._timers, (self._now_s + max(delay_s, 1e-6), self._seq, cell, timer, incarnation, alive))
        return alive

    def stop_timer(self, token: list[bool]) -> None:
        token[0] = False

    def look_again(self) -> None:
        """Tell again that the tree has come to rest, although nothing was sent since the last time."""
        self._settled_at = -1

    def call_after(self, delay_s: float, act: Callable[[], None]) -> None:
        """A pause costs no time here."""
        act()

    # ------------------------------------------------------------ what people look at

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self._cells.values())
