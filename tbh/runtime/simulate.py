"""The simulator host: whole trees on one thread, in virtual time, repeatable from a seed. The only file that knows
greenlet.

A heap holds what is due: deliveries, timers, arrivals and replies of port calls. Its key is (virtual nanoseconds,
seeded tie-break), so messages of different pairs overtake each other as the seed has it, while one sender's messages
to one receiver keep their order. A call through a port suspends its actor: the request's arrival, its effect and
the reply are three instants, with anybody else's work, or the death of the process, in between.

The loop runs in a *runner* greenlet. A handler that calls a port parks its runner, and switches to another that carries
on; when the reply is due, the current runner (which has nothing else on its stack) switches back to the parked one, and
waits idly until the next handler parks. So a message that touches no port costs no switch at all, and a call two.

Death unwinds whatever is parked with GreenletExit, during which no port can be reached: a real process dies without
running its ``finally`` blocks, and what these do to the actor's own memory is seen by nobody.

A ``Hub`` may carry several trees, each a process of its own that lives, stands still and dies by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from heapq import heappop
from typing import Any

import greenlet

from tbh.messages.base import Message
from tbh.runtime.actor import Log
from tbh.runtime.host import Intercept
from tbh.runtime.mailbox import Envelope
from tbh.runtime.standin import StandIn
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.timeline import NS, TIE_BITS, Process, Timeline
from tbh.runtime.virtual import VirtualTree
from tbh.runtime.wiring import Routes

PortFault = Callable[[str, str, str], BaseException | None]
"""(stage, port, method) -> what to raise in the caller, or None. Stage ``request``: the effect never happens;
``reply``: it has happened and only the answer is lost."""

Answer = Callable[[Any, BaseException | None], None]
"""Ends a wait with a value, or with what is raised in the waiting actor. The first answer counts."""


class ProcessDied(Exception):
    """The simulated process was killed; what only it knew is gone."""


class _Killed(BaseException):
    """The process whose code runs has just died; what it was doing ends here."""


class _Waiting:
    __slots__ = ("answered", "caller", "hub", "owner")

    def __init__(self, hub: Hub, owner: Process | None, caller: greenlet.greenlet) -> None:
        self.hub = hub
        self.owner = owner
        self.caller = caller
        self.answered = False

    def answer(self, value: Any, fault: BaseException | None) -> None:
        if self.answered:
            return
        self.answered = True
        hub = self.hub
        if hub._running and hub.time.acting is None and hub._resuming is None:
            self.resume(value, fault)  # nobody's code is interrupted: it goes on once this act is over
        else:
            hub.time.exactly(0, self.resume, value, fault)

    def resume(self, value: Any, fault: BaseException | None) -> None:
        owner = self.owner
        if owner is None or not owner.out or not owner.misses(self.resume, value, fault):
            self.hub._resuming = (self, (value, fault))


class Hub:
    """Runs one timeline: the trees on it, and acts of the composer's own (``time.after``)."""

    def __init__(self, seed: int | str) -> None:
        self.time = Timeline(seed)
        self.watch: Callable[[], None] | None = None
        self._done: Callable[[], bool] | None = None
        self._until_ns = 0
        self._end_key = 0
        self._hub: greenlet.greenlet | None = None
        self._running = False
        self._interrupted = False
        self._asks = False
        self._idle: list[greenlet.greenlet] = []
        self._parked: dict[greenlet.greenlet, Process | None] = {}
        self._resuming: tuple[_Waiting, tuple[Any, BaseException | None]] | None = None

    @property
    def inside(self) -> bool:
        """Whether the caller is part of the simulation, and can be suspended."""
        return self._running and greenlet.getcurrent() is not self._hub

    def run_to(self, until_ns: int, done: Callable[[], bool] | None = None) -> None:
        """Process events until ``until_ns``, until ``done()`` (asked after each), until nothing is due, or until
        ``interrupt``."""
        if self._running:
            raise RuntimeError("the simulator is running already")
        self._done = done
        self._until_ns, self._end_key = until_ns, (until_ns + 1) << TIE_BITS
        self._hub = greenlet.getcurrent()
        self._running, self._interrupted = True, False
        self._asks = done is not None or self.watch is not None
        try:
            ended = greenlet.greenlet(self._loop, self._hub).switch()
            assert ended is None, "a call was made for a process that is dead"
        finally:
            self._running = False
            while self._idle:
                _end(self._idle.pop())

    def _loop(self) -> None:
        time, pop = self.time, heappop
        heap = time.heap
        while heap:
            if heap[0][0] >= self._end_key:
                time.now_ns = self._until_ns
                return
            key, _, target, payload = pop(heap)
            time.now_ns = key >> TIE_BITS
            try:
                if type(payload) is Envelope:
                    target.deliver(target, payload)
                else:
                    time.acting = None
                    target(*payload)
                    if self._resuming is not None:
                        self._idle.append(greenlet.getcurrent())
                        self._resumed()
                        continue
            except _Killed:
                pass  # the process has died in the middle of its work, the world goes on
            if self._asks and self._is_over():
                return

    def _is_over(self) -> bool:
        if self.watch is not None:
            self.watch()
        return self._interrupted or (self._done is not None and self._done())

    def _resumed(self) -> Any:
        """Go on with the one whose answer is there; back when somebody switches to the caller."""
        assert self._resuming is not None
        (waiting, answer), self._resuming = self._resuming, None
        return answer if waiting.caller is greenlet.getcurrent() else waiting.caller.switch(answer)

    def interrupt(self) -> None:
        """Let ``run_to`` return after this event."""
        self._asks = self._interrupted = True

    def wait(self, owner: Process | None, begin: Callable[[Answer], None]) -> Any:
        """Suspend the caller, which belongs to the process ``owner``, until ``begin``'s argument is called."""
        if owner is not None and owner.dead:
            raise greenlet.GreenletExit
        current = greenlet.getcurrent()
        assert self._hub is not None
        self._parked[current] = owner
        begin(_Waiting(self, owner, current).answer)
        if self._resuming is not None:
            value, fault = self._resumed()
        else:
            value, fault = (self._idle.pop() if self._idle else greenlet.greenlet(self._loop, self._hub)).switch()
        del self._parked[current]
        self.time.acting = owner
        if fault is not None:
            raise fault
        return value

    def sleep(self, owner: Process | None, seconds: float) -> None:
        """Suspend the caller for so much virtual time."""
        self.wait(owner, lambda answer: self.time.after(int(seconds * NS), answer, None, None))

    def kill(self, process: Process) -> None:
        """End the process at this instant. Called by its own code (a fault at a delivery), it does not return."""
        process.end()
        if self._resuming is not None and self._resuming[0].owner is process:
            self._resuming = None
        if self.inside and self.time.acting is process:
            raise _Killed

    def unwind_all(self) -> None:
        """The same for everybody: the simulation is over."""
        self.time.heap.clear()
        for process in dict.fromkeys(self._parked.values()):
            if process is not None:
                process.end()
            self.unwind(process)

    def unwind(self, owner: Process | None) -> None:
        """Let go of the calls under way of a process that has ended: a parked greenlet is never collected by itself."""
        current = greenlet.getcurrent()
        for parked in [parked for parked, whose in self._parked.items() if whose is owner and parked is not current]:
            del self._parked[parked]
            _end(parked)


def _end(parked: greenlet.greenlet) -> None:
    parked.parent = greenlet.getcurrent()
    parked.throw(greenlet.GreenletExit)


class Simulator(VirtualTree):
    """Runs a tree in virtual time. The arguments are the thread host's; ``port_fault`` injects failures of calls,
    ``trace`` sees each delivery (virtual ns, envelope), and ``deep`` has ``digest`` cover the payloads too. On a
    ``hub`` it is the tree of one ``process`` of several, and the hub's owner runs them and is told by ``on_escalated``;
    ``routes`` are those of a wiring that has been proven.

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
        hub: Hub | None = None,
        process: Process | None = None,
        on_escalated: Callable[[], None] | None = None,
        routes: Routes | None = None,
        heard: Mapping[type[Message], Callable[[Any], None]] | None = None,
    ) -> None:
        self.hub = Hub(seed) if hub is None else hub
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
            timeline=self.hub.time,
            process=process,
            routes=routes,
            heard=heard,
        )
        self._port_fault = port_fault
        self._on_escalated = self.hub.interrupt if on_escalated is None else on_escalated
        if hub is None:
            self.hub.watch = self._watch

    # ------------------------------------------------------------ driving

    def run(self, *, for_s: float = 3600.0, done: Callable[[], bool] | None = None) -> None:
        """Process events for at most ``for_s`` of virtual time, until ``done()`` (asked after each event), until
        nothing is due, or until the tree escalates during this run. ``ProcessDied`` once ``die`` was called."""
        self._run_to(self._time.now_ns + int(for_s * NS), done)

    def _run_to(self, until_ns: int, done: Callable[[], bool] | None) -> None:
        if not self.process.dead:
            self.hub.run_to(until_ns, done)
        if self.process.dead:
            self.close()
            raise ProcessDied

    def _watch(self) -> None:
        if self._pending == 0 and self.on_settled is not None:
            self._look(self.on_settled)

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        first = self.escalation is None
        super().escalate(actor, reason, exit_code)
        if first:
            self._on_escalated()

    def die(self) -> None:
        """Kill the process at this instant: nothing more runs, nothing is flushed. Called by what runs inside the
        simulation as a part of this process (a fault, an effect), it does not return."""
        self.hub.interrupt()
        self.hub.kill(self.process)

    def close(self) -> None:
        """Unwind the calls under way and drop what is due. To be called when a simulation is given up."""
        dead, self.process.dead = self.process.dead, True
        self._time.heap.clear()
        self.hub.unwind(self.process)
        self.process.dead = dead

    # ------------------------------------------------------------ ports

    def port(self, target: Any, name: str, *, local: Iterable[str] = ()) -> Any:
        """A stand-in for ``target`` whose method calls suspend the calling actor, except those in ``local``."""
        return StandIn(self, target, name, frozenset(local))

    def call(self, name: str, method: str, act: Callable[[], Any]) -> Any:
        """One call through a port; from outside a run it is made directly."""
        self.check_alive()
        if not self.hub.inside:
            return act()
        return self.hub.wait(
            self.process, lambda answer: self._time.after_port(self._effect, answer, name, method, act)
        )

    def check_alive(self) -> None:
        """Keeps what is being unwound from reaching a port. ``ProcessDied`` when asked from outside."""
        if self.process.dead:
            raise greenlet.GreenletExit if greenlet.getcurrent().parent is not None else ProcessDied

    def _effect(self, answer: Answer, name: str, method: str, act: Callable[[], Any]) -> None:
        if self.process.misses(self._effect, answer, name, method, act):
            return
        self._time.acting = self.process
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
        self._time.after_port(answer, value, fault)
