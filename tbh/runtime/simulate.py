"""The simulator host: the whole tree on one thread, in virtual time, repeatable from a seed. The only file that
knows greenlet.

A heap holds what is due: deliveries, timers, arrivals and replies of port calls. Its key is (virtual nanoseconds,
seeded tie-break), so messages of different pairs overtake each other as the seed has it, while one sender's messages
to one receiver keep their order. A call through a port suspends its actor: the request's arrival, its effect and
the reply are three instants, with anybody else's work, or the death of the process, in between.

The loop runs in a *runner* greenlet. A handler that calls a port parks its runner, and the hub starts another to
carry on; when the reply is due, the current runner (which has nothing else on its stack) ends and the hub switches
back to the parked one. So a message that touches no port costs no switch at all.

Death unwinds whatever is parked with GreenletExit, during which no port can be reached: a real process dies without
running its ``finally`` blocks, and what these do to the actor's own memory is seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from heapq import heappop
from typing import Any

import greenlet

from tbh.messages.base import Message
from tbh.messages.system import Resume, Stop
from tbh.runtime.actor import Log
from tbh.runtime.cell import CellState
from tbh.runtime.host import Intercept
from tbh.runtime.mailbox import Envelope
from tbh.runtime.standin import StandIn
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.timeline import NS, TIE_BITS
from tbh.runtime.virtual import Sim, VirtualTree

PortFault = Callable[[str, str, str], BaseException | None]
"""(stage, port, method) -> what to raise in the caller, or None. Stage ``request``: the effect never happens;
``reply``: it has happened and only the answer is lost."""


class ProcessDied(Exception):
    """The simulated process was killed; what only it knew is gone."""


class Simulator(VirtualTree):
    """Runs a tree in virtual time. The arguments are the thread host's; ``port_fault`` injects failures of calls,
    ``trace`` sees each delivery (virtual ns, envelope), and ``deep`` has ``digest`` cover the payloads too.

    ``digest`` hashes every delivery: two runs of one seed are the same run if and only if it is equal.
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
        super().__init__(
            specs,
            now=now,
            seed=seed,
            log=log,
            external=external,
            on_settled=on_settled,
            intercept=intercept,
            deep=deep,
            trace=trace,
        )
        self._port_fault = port_fault
        self._dead = False
        self._done: Callable[[], bool] | None = None
        self._until_ns = 0
        self._escalated_before: tuple[str, str, int] | None = None
        self._hub: greenlet.greenlet | None = None
        self._running = False
        self._parked: set[greenlet.greenlet] = set()
        self._resuming: tuple[greenlet.greenlet, tuple[Any, BaseException | None]] | None = None

    # ------------------------------------------------------------ driving

    def run(self, *, for_s: float = 3600.0, done: Callable[[], bool] | None = None) -> None:
        """Process events for at most ``for_s`` of virtual time, until ``done()`` (asked after each event), until
        nothing is due, or until the tree escalates during this run. ``ProcessDied`` once ``die`` was called."""
        self._run_to(self._time.now_ns + int(for_s * NS), done)

    def _run_to(self, until_ns: int, done: Callable[[], bool] | None) -> None:
        if self._running:
            raise RuntimeError("the simulator is running already")
        self._done = done
        self._until_ns = until_ns
        self._escalated_before = self.escalation
        self._hub = greenlet.getcurrent()
        self._running = True
        try:
            if not self._dead:
                self._run_greenlets()
        finally:
            self._running = False
        if self._dead:
            self.close()
            raise ProcessDied

    def _run_greenlets(self) -> None:
        runner: greenlet.greenlet | None = greenlet.greenlet(self._loop)
        value: Any = None
        while runner is not None:
            finished = runner.switch(value) if value is not None else runner.switch()
            if self._dead:
                return
            if self._resuming is not None:
                (runner, value), self._resuming = self._resuming, None
            elif not runner.dead:
                self._parked.add(runner)
                runner, value = greenlet.greenlet(self._loop), None
            else:
                assert finished == "done"
                return

    def die(self) -> None:
        """Kill the process at this instant: nothing more runs, nothing is flushed. Called by what runs inside the
        simulation (a fault, an effect), it does not return."""
        self._dead = True
        self._time.heap.clear()
        self._resuming = None
        if self._running and greenlet.getcurrent() is not self._hub:
            raise greenlet.GreenletExit

    def close(self) -> None:
        """Unwind the calls under way and drop what is due. To be called when a simulation is given up: a parked
        greenlet is never collected by itself."""
        dead, self._dead = self._dead, True
        self._time.heap.clear()
        for parked in list(self._parked):
            parked.throw(greenlet.GreenletExit)
        self._parked.clear()
        self._dead = dead

    def _loop(self) -> str:
        time, pop = self._time, heappop
        heap = time.heap
        while heap and not self._dead:
            if heap[0][0] >> TIE_BITS > self._until_ns:
                time.now_ns = self._until_ns
                break
            key, _, target, payload = pop(heap)
            time.now_ns = key >> TIE_BITS
            if type(payload) is Envelope:
                if target.awaited:
                    self._pending -= 1
                self._arrive(target, payload)
            else:
                target(*payload)
                if self._resuming is not None:
                    return "handed over"
            if self._pending == 0 and self.on_settled is not None:
                self._look(self.on_settled)
            if self.escalation is not self._escalated_before or (self._done is not None and self._done()):
                break
        return "done"

    # ------------------------------------------------------------ ports

    def port(self, target: Any, name: str, *, local: Iterable[str] = ()) -> Any:
        """A stand-in for ``target`` whose method calls suspend the calling actor, except those in ``local``."""
        return StandIn(self, target, name, frozenset(local))

    def call(self, name: str, method: str, act: Callable[[], Any]) -> Any:
        """One call through a port; from outside a run it is made directly."""
        self.check_alive()
        current = greenlet.getcurrent()
        if not self._running or self._hub is None or current is self._hub:
            return act()
        self._time.after_port(self._effect, current, name, method, act)
        value, fault = self._hub.switch()
        self._parked.discard(current)
        if fault is not None:
            raise fault
        return value

    def check_alive(self) -> None:
        """Keeps what is being unwound from reaching a port. ``ProcessDied`` when asked from outside."""
        if self._dead:
            raise greenlet.GreenletExit if greenlet.getcurrent().parent is not None else ProcessDied

    def _effect(self, caller: greenlet.greenlet, name: str, method: str, act: Callable[[], Any]) -> None:
        self._hash.add_effect(self._time.now_ns, f"{name}.{method}")
        value: Any = None
        fault = self._port_fault("request", name, method) if self._port_fault is not None else None
        if fault is None:
            try:
                value = act()
            except Exception as raised:  # noqa: BLE001 - it belongs to the caller, and is raised there
                fault = raised
            lost = self._port_fault("reply", name, method) if self._port_fault is not None else None
            fault = lost or fault
        self._time.after_port(self._reply, caller, value, fault)

    def _reply(self, caller: greenlet.greenlet, value: Any, fault: BaseException | None) -> None:
        self._resuming = (caller, (value, fault))

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
