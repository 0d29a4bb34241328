"""The simulator host: the whole tree on one thread, in virtual time, repeatable from a seed. The only file that
knows greenlet.

A heap holds what is due: deliveries, timers, arrivals and replies of port calls. Its key is (virtual nanoseconds,
seeded tie-break), so messages of different pairs overtake each other as the seed has it, while one sender's messages
to one receiver keep their order. A call through a port suspends its actor: the request's arrival, its effect and
the reply are three instants, with anybody else's work, or the death of the process, in between.

The loop runs in a *runner* greenlet. A handler that calls a port parks its runner, and the hub starts another to
carry on; when the reply is due, the current runner (which has nothing else on its stack) ends and the hub switches
back to the parked one. So a message that touches no port costs no switch at all.

``digest`` hashes every delivery (due time, receiver, type, seq, cause; with ``deep`` the payload too): two runs of
one seed are the same run if and only if it is equal.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import greenlet

from tbh.messages.base import Message
from tbh.messages.system import Halt, Stop, Urgent
from tbh.runtime.actor import Log, NullLog
from tbh.runtime.cell import Cell, Intercept
from tbh.runtime.mailbox import Envelope
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.wiring import KERNEL_SENDS, check_wiring

NS = 1_000_000_000
_HOP_MIN_NS = 5_000
_HOP_BITS = 16  # up to 65 µs more
_TIE_BITS = 12
_TIE_MASK = (1 << _TIE_BITS) - 1
_PORT_MIN_NS = 50_000
_PORT_BITS = 20  # up to 1 ms more
_START = datetime(2026, 1, 1, tzinfo=UTC)

PortFault = Callable[[str, str, str], BaseException | None]
"""(stage, port, method) -> what to raise in the caller, or None. Stage ``request``: the effect never happens;
``reply``: it has happened and only the answer is lost."""


class ProcessDied(Exception):
    """The simulated process was killed; what only it knew is gone."""


class _Sim:
    """A cell in the simulator: ``ident`` is its number in the hash, ``last_key`` orders each sender's messages."""

    __slots__ = ("cell", "foreground", "ident", "last_key")

    def __init__(self, cell: Cell, ident: int) -> None:
        self.cell = cell
        self.ident = ident
        self.foreground = not cell.spec.background
        self.last_key: dict[str, int] = {}


class Simulator:
    """Runs a tree in virtual time. The arguments are the thread host's; ``port_fault`` injects failures of calls.

    ``run`` goes on until the tree escalates, ``done()`` is true, or the limits are reached.
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
        port_fault: PortFault | None = None,
        deep: bool = False,
        trace: Callable[[int, Envelope], None] | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.now: Callable[[], datetime] = now or self._virtual_now
        self.intercept = intercept
        self.on_settled = on_settled
        self.escalation: tuple[str, str, int] | None = None
        self.messages = 0
        self._seed = seed
        self._log = log or (lambda _name: NullLog())
        self._port_fault = port_fault
        self._deep = deep
        self._trace = trace
        self._bits = random.Random(f"{seed}/order").getrandbits
        self._now_ns = 0
        self._seq = 0
        self._count = itertools.count()
        self._heap: list[tuple[int, int, Any, Any]] = []
        self._pending = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._hashed = bytearray()
        self._kinds: dict[type[Message], int] = {}
        self._dead = False
        self._done: Callable[[], bool] = lambda: False
        self._until_ns = 0
        self._hub: greenlet.greenlet | None = None
        self._resuming: tuple[greenlet.greenlet, tuple[Any, BaseException | None]] | None = None
        self._sims = {spec.name: _Sim(Cell(spec, self), i) for i, spec in enumerate(self.specs)}
        routes = check_wiring(self.specs, external=external)
        self._routes = {kind: tuple(self._sims[n] for n in names) for kind, names in routes.items()}

    # ------------------------------------------------------------ driving

    def start(self) -> None:
        """Schedule the start of every child, in order; they start when ``run`` does."""
        for i, sim in enumerate(self._sims.values()):
            self._at(self._now_ns + i * 1_000, self._start_cell, sim)

    def _start_cell(self, sim: _Sim) -> None:
        sim.cell.busy = True
        sim.cell.start()
        sim.cell.busy = False
        self._pump(sim)

    def run(self, *, for_s: float = 3600.0, done: Callable[[], bool] | None = None) -> None:
        """Process events for at most ``for_s`` of virtual time, until ``done()`` (asked after each event) or the
        tree escalates. ``ProcessDied`` when ``die`` was called."""
        self._done = done or (lambda: False)
        self._until_ns = self._now_ns + int(for_s * NS)
        self._hub = greenlet.getcurrent()
        runner: greenlet.greenlet | None = greenlet.greenlet(self._loop)
        value: Any = None
        while runner is not None:
            finished = runner.switch(value) if value is not None else runner.switch()
            if self._resuming is not None:
                (runner, value), self._resuming = self._resuming, None
            elif finished == "parked":
                runner, value = greenlet.greenlet(self._loop), None
            else:
                runner = None
        if self._dead:
            raise ProcessDied
        self._flush_hash()

    def die(self) -> None:
        """Kill the process at this instant: nothing more runs, nothing is flushed."""
        self._dead = True
        self._heap.clear()

    def _loop(self) -> str:
        heap, pop = self._heap, heapq.heappop
        while heap and self.escalation is None and not self._dead:
            if heap[0][0] >> _TIE_BITS > self._until_ns:
                self._now_ns = self._until_ns
                break
            key, _, target, payload = pop(heap)
            self._now_ns = key >> _TIE_BITS
            if type(payload) is Envelope:
                self._arrive(target, payload)
            else:
                target(*payload)
                if self._resuming is not None:
                    return "handed over"
            if self._pending == 0 and self.on_settled is not None:
                self._look()
            if self._done():
                break
        return "done"

    def _arrive(self, sim: _Sim, envelope: Envelope) -> None:
        message = envelope.message
        kind = type(message)
        ident = self._kinds.get(kind)
        if ident is None:
            ident = self._kinds[kind] = zlib.crc32(kind.__name__.encode())
        self._hashed += _PACK(self._now_ns, envelope.seq, envelope.cause, sim.ident, ident)
        if self._deep:
            self._hashed += repr(message).encode()
        if len(self._hashed) > 65_536:
            self._flush_hash()
        if self._trace is not None:
            self._trace(self._now_ns, envelope)
        self.messages += 1
        cell = sim.cell
        if sim.foreground and envelope.incarnation < 0:
            self._pending -= 1
        mailbox = cell.mailbox
        if not cell.busy and not mailbox.suspended and mailbox.idle:
            cell.busy = True
            cell.handle(envelope)
            cell.busy = False
        elif isinstance(message, Urgent):
            mailbox.offer_urgent(envelope)
        elif not mailbox.offer(envelope):
            self.escalate(cell.name, f"mailbox full ({cell.spec.max_waiting}), {kind.__name__}", 70)
        if not mailbox.idle:
            self._pump(sim)

    def _pump(self, sim: _Sim) -> None:
        cell = sim.cell
        while not cell.busy and not self._dead and (envelope := cell.mailbox.take()) is not None:
            cell.busy = True
            cell.handle(envelope)
            cell.busy = False

    def _look(self) -> None:
        for sim in self._sims.values():
            if sim.foreground and not sim.cell.settled:
                return
        if self.on_settled is not None:
            self.on_settled()

    # ------------------------------------------------------------ ports

    def port(self, target: Any, name: str, *, local: Iterable[str] = ()) -> Any:
        """A stand-in for ``target`` whose method calls suspend the calling actor, except those in ``local``."""
        return _Port(self, target, name, frozenset(local))

    def call(self, name: str, method: str, act: Callable[[], Any]) -> Any:
        """One call through a port; from outside an actor it is made directly."""
        current = greenlet.getcurrent()
        if self._hub is None or current is self._hub:
            return act()
        self._at(self._now_ns + _PORT_MIN_NS + self._bits(_PORT_BITS), self._effect, current, name, method, act)
        value, fault = self._hub.switch("parked")
        if fault is not None:
            raise fault
        return value

    def _effect(self, caller: greenlet.greenlet, name: str, method: str, act: Callable[[], Any]) -> None:
        value: Any = None
        fault = self._port_fault("request", name, method) if self._port_fault is not None else None
        if fault is None:
            try:
                value = act()
            except Exception as raised:  # noqa: BLE001 - it belongs to the caller, and is raised there
                fault = raised
            lost = self._port_fault("reply", name, method) if self._port_fault is not None else None
            fault = lost or fault
        self._at(self._now_ns + _PORT_MIN_NS + self._bits(_PORT_BITS), self._reply, caller, value, fault)

    def _reply(self, caller: greenlet.greenlet, value: Any, fault: BaseException | None) -> None:
        self._resuming = (caller, (value, fault))

    # ------------------------------------------------------------ what cells need

    def _virtual_now(self) -> datetime:
        return _START + timedelta(microseconds=self._now_ns // 1_000)

    def monotonic(self) -> float:
        return self._now_ns / NS

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
        for sim in takers:
            self._send(sim, sender, message, cause)

    def _send(self, sim: _Sim, sender: str, message: Message, cause: int) -> None:
        self._seq = seq = self._seq + 1
        bits = self._bits(_HOP_BITS + _TIE_BITS)
        key = ((self._now_ns + _HOP_MIN_NS + (bits >> _TIE_BITS)) << _TIE_BITS) | (bits & _TIE_MASK)
        last = sim.last_key.get(sender, 0)
        if key <= last:
            key = last + 1
        sim.last_key[sender] = key
        if sim.foreground:
            self._pending += 1
        heapq.heappush(self._heap, (key, seq, sim, Envelope(seq, sender, sim.cell.name, cause, message)))

    def tell(self, name: str, message: Message) -> None:
        self._send(self._sims[name], "host", message, 0)

    def publish(self, message: Message) -> None:
        self.route("host", message, 0)

    def halt(self, reason: str) -> None:
        for name in self._sims:
            self.tell(name, Halt(reason=reason))

    def stop(self) -> list[str]:
        """Stop every child in reverse start order, in virtual time; the names of those that did not end."""
        for name in reversed(self._sims):
            self.tell(name, Stop())
            cell = self._sims[name].cell
            self.run(for_s=cell.spec.stop_deadline_s, done=lambda c=cell: c.state == "stopped")  # type: ignore[misc]
        return [name for name, sim in self._sims.items() if sim.cell.state != "stopped"]

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        cell.mailbox.put_back(envelopes)
        self._at(self._now_ns, self._pump, self._sims[cell.name])

    def suspend(self, cell: Cell) -> None:
        cell.mailbox.suspended = True

    def resume(self, cell: Cell) -> None:
        cell.mailbox.suspended = False
        self._at(self._now_ns, self._pump, self._sims[cell.name])

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> list[bool]:
        alive = [True]
        self._seq = seq = self._seq + 1
        envelope = Envelope(seq, cell.name, cell.name, 0, timer, max(incarnation, 0))
        self._at(self._now_ns + int(delay_s * NS), self._fire, self._sims[cell.name], envelope, alive)
        return alive

    def _fire(self, sim: _Sim, envelope: Envelope, alive: list[bool]) -> None:
        if alive[0]:
            self._arrive(sim, envelope)

    def stop_timer(self, token: list[bool]) -> None:
        token[0] = False

    def call_after(self, delay_s: float, act: Callable[[], None]) -> None:
        """For the composer: a call at a virtual time."""
        self._at(self._now_ns + int(delay_s * NS), act)

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        if self.escalation is None:
            self.escalation = (actor, reason, exit_code)

    def _at(self, due_ns: int, act: Callable[..., Any], *args: Any) -> None:
        key = (due_ns << _TIE_BITS) | self._bits(_TIE_BITS)
        heapq.heappush(self._heap, (key, -next(self._count), act, args))

    # ------------------------------------------------------------ what people look at

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(sim.cell for sim in self._sims.values())

    @property
    def digest(self) -> str:
        """Hash over every delivery so far."""
        self._flush_hash()
        return self._hash.hexdigest()

    def _flush_hash(self) -> None:
        self._hash.update(self._hashed)
        self._hashed.clear()


_PACK = struct.Struct("<QIIHI").pack


class _Port:
    """A port's stand-in: attribute reads pass through, calls suspend."""

    def __init__(self, simulator: Simulator, target: Any, name: str, local: frozenset[str]) -> None:
        self._simulator = simulator
        self._target = target
        self._name = name
        self._local = local

    def __getattr__(self, method: str) -> Any:
        value = getattr(self._target, method)
        if method in self._local or not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._simulator.call(self._name, method, lambda: value(*args, **kwargs))

        return call
