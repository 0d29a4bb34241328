"""A tree of actors in virtual time: deliveries, timers, starts. What runs it is in ``simulate``."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tbh.messages.base import Message
from tbh.messages.system import Resume, Stop, Urgent
from tbh.runtime.actor import Log
from tbh.runtime.cell import Cell, CellState
from tbh.runtime.deliveries import DeliveryHash
from tbh.runtime.host import Intercept
from tbh.runtime.hosting import TreeHost
from tbh.runtime.mailbox import Envelope, MailboxFull
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.timeline import NS, Process, Timeline
from tbh.runtime.wiring import Routes

_START = datetime(2026, 1, 1, tzinfo=UTC)


class Sim:
    """A cell in the simulator: ``ident`` is its number in the hash, ``last_key`` orders each sender's messages."""

    __slots__ = ("awaited", "cell", "deliver", "ident", "last_key", "mailbox", "name", "tree")

    def __init__(self, cell: Cell, ident: int, tree: VirtualTree) -> None:
        self.cell = cell
        self.name = cell.name
        self.mailbox = cell.mailbox
        self.deliver = tree.deliver
        self.tree = tree
        self.ident = ident
        self.awaited = not cell.spec.background
        self.last_key: dict[str, int] = {}


class VirtualTree(TreeHost):
    """The part of the simulator that needs no greenlets. ``messages`` counts the deliveries.

    Several trees, each of a process of its own, may share a timeline. ``heard`` is told of each message of the types
    that it maps, as it is sent.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        now: Callable[[], datetime] | None,
        seed: int | str,
        log: Callable[[str], Log] | None,
        external: Iterable[type[Message]],
        on_settled: Callable[[], None] | None,
        intercept: Intercept | None,
        deep: bool,
        trace: Callable[[int, Envelope], None] | None,
        timeline: Timeline,
        process: Process | None,
        routes: Routes | None,
        heard: Mapping[type[Message], Callable[[Message], None]] | None,
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
        self._trace = trace
        self._time = timeline
        self._heard = heard or {}
        self.process = Process(timeline) if process is None else process
        self._seq = 0
        self._pending = 0
        self._settled_at = -1
        self._hash = DeliveryHash(deep)
        self._note = self._hash.add
        self._sims = {spec.name: Sim(Cell(spec, self), i, self) for i, spec in enumerate(self.specs)}
        self._awaited = tuple(sim for sim in self._sims.values() if sim.awaited)
        proven = self.prove_wiring() if routes is None else routes
        self._routes: dict[type[Message], tuple[tuple[Sim, ...], int]] = {}
        for kind, names in proven.items():
            takers = tuple(self._sims[name] for name in names)
            self._routes[kind] = (takers, sum(sim.awaited for sim in takers))

    def start(self) -> None:
        """Schedule the start of the children; they start when ``run`` does, each when the one before has started."""
        self._time.after(0, self._start_cells, list(self._sims.values()))

    def _start_cells(self, sims: list[Sim]) -> None:
        if not sims or self.process.misses(self._start_cells, sims):
            return
        self._time.acting = self.process
        cell = sims[0].cell
        cell.busy = True
        cell.start()
        cell.busy = False
        self._pump(sims[0])
        self._time.after(1_000, self._start_cells, sims[1:])

    def deliver(self, sim: Sim, envelope: Envelope) -> None:
        """An envelope is due."""
        process, time = self.process, self._time
        if process.out and process.misses(self.deliver, sim, envelope):
            return
        if sim.awaited:
            self._pending -= 1
        time.acting = process
        self._note(time.now_ns, sim.ident, envelope)
        if self._trace is not None:
            self._trace(time.now_ns, envelope)
        self.messages += 1
        cell, mailbox = sim.cell, sim.mailbox
        if cell.busy or mailbox.suspended or mailbox.items or mailbox.urgent:
            self._keep(sim, envelope)
        else:
            cell.busy = True
            cell.handle(envelope)
            cell.busy = False
        if mailbox.items or mailbox.urgent:
            self._pump(sim)

    def _keep(self, sim: Sim, envelope: Envelope) -> None:
        if isinstance(envelope.message, Urgent):
            sim.mailbox.offer_urgent(envelope)
            return
        try:
            sim.mailbox.offer(envelope)
        except MailboxFull:
            self.overflowed(sim.cell, envelope)

    def _pump(self, sim: Sim) -> None:
        if self.process.out and self.process.misses(self._pump, sim):
            return
        self._time.acting = self.process
        cell = sim.cell
        while not cell.busy and (envelope := cell.mailbox.take()) is not None:
            cell.busy = True
            cell.handle(envelope)
            cell.busy = False

    def _look(self, on_settled: Callable[[], None]) -> None:
        if self._seq != self._settled_at and all(sim.cell.settled for sim in self._awaited):
            self._settled_at = self._seq
            on_settled()

    def stop(self) -> list[str]:
        """Stop every child in reverse start order, in virtual time, each after what it has and what is on its way to
        it; the names of those that did not end within their deadlines. The simulation is over then."""
        for sim in reversed(self._sims.values()):
            self._stop_one(sim)
        left = [sim.cell.name for sim in reversed(self._sims.values()) if sim.cell.state is not CellState.STOPPED]
        self.close()
        return left

    def _stop_one(self, sim: Sim) -> None:
        cell = sim.cell
        until_ns = self._time.now_ns + int(cell.spec.stop_deadline_s * NS)

        def drained() -> bool:
            return (
                cell.at_rest
                and cell.state not in (CellState.NEW, CellState.BACKING_OFF)
                and not any(entry[2] is sim for entry in self._time.heap)
            )

        self.tell(cell.name, Resume(incarnation=cell.incarnation + 1))  # a back-off may be longer than the deadline
        self._run_until(drained, until_ns)
        self.tell(cell.name, Stop())
        self._run_until(lambda: cell.state is CellState.STOPPED, max(until_ns, self._time.now_ns + NS // 20))

    def _run_until(self, done: Callable[[], bool], until_ns: int) -> None:
        """Unlike ``run``, through escalations."""
        while self._time.heap and self._time.now_ns < until_ns and not done():
            self._run_to(until_ns, done)

    @abstractmethod
    def _run_to(self, until_ns: int, done: Callable[[], bool] | None) -> None:
        """Process what is due until then, until ``done`` or until nothing is."""

    @abstractmethod
    def close(self) -> None:
        """Unwind the calls under way and drop what is due."""

    # ------------------------------------------------------------ what cells need

    def _virtual_now(self) -> datetime:
        return _START + timedelta(microseconds=self._time.now_ns // 1_000)

    def monotonic(self) -> float:
        return self._time.now_ns / NS

    def route(self, sender: str, message: Message, cause: int) -> None:
        kind = type(message)
        if kind in self._heard:
            self._heard[kind](message)
        route = self._routes.get(kind)
        if route is None:
            self._unrouted(message)
            return
        takers, awaited = route
        self._pending += awaited
        self._seq = self._time.send(takers, sender, message, cause, self._seq)

    def tell(self, name: str, message: Message) -> None:
        sim = self._sims[name]
        self._pending += sim.awaited
        self._seq = self._time.send((sim,), "host", message, 0, self._seq)

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        cell.mailbox.put_back(envelopes)
        self._time.after(0, self._pump, self._sims[cell.name])

    def resume(self, cell: Cell) -> None:
        super().resume(cell)
        self._time.after(0, self._pump, self._sims[cell.name])

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> list[bool]:
        alive = [True]
        self._time.after(_timer_ns(delay_s), self._fire, self._sims[cell.name], timer, incarnation, alive)
        return alive

    def _fire(self, sim: Sim, timer: Message, incarnation: int, alive: list[bool]) -> None:
        if alive[0] and not self.process.misses(self._fire, sim, timer, incarnation, alive):
            self._seq = seq = self._seq + 1
            if sim.awaited:
                self._pending += 1
            self.deliver(sim, Envelope(seq, sim.name, sim.name, 0, timer, incarnation))

    def stop_timer(self, token: list[bool]) -> None:
        token[0] = False

    def look_again(self) -> None:
        """Re-examine whether the tree is settled (after a pause of the composer's own)."""
        self._settled_at = -1
        self._time.after(0, lambda: None)

    def call_after(self, delay_s: float, act: Callable[[], None]) -> None:
        """For the composer: a call at a virtual time."""
        self._time.after(int(delay_s * NS), act)

    # ------------------------------------------------------------ what people look at

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(sim.cell for sim in self._sims.values())

    def cell(self, name: str) -> Cell | None:
        """The one of that name, if there is one."""
        sim = self._sims.get(name)
        return None if sim is None else sim.cell

    @property
    def digest(self) -> str:
        """Hash over every delivery so far."""
        return self._hash.hexdigest


def _timer_ns(delay_s: float) -> int:
    """Never early, and never at the same instant again: an actor that re-arms "the rest" would otherwise stop time."""
    delay_ns = math.ceil(delay_s * NS)
    return delay_ns if delay_ns > 1_000 else 1_000
