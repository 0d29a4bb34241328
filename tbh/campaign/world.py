"""The world of one seed: an exchange, a database, machines with disks, and the lives of a bot among them.

Everything happens on one virtual timeline. In the safety phase the seed's faults strike; then all heals, and the system
has to come to rest within ``CONVERGE_S``. Each step is told to the observer, who judges it.
"""

from __future__ import annotations

import gc
import hashlib
import math
import random
from collections.abc import Callable
from typing import Any, Final

from tbh.campaign import setup as setups
from tbh.campaign.boot import Boot
from tbh.campaign.chaos import Chaos
from tbh.campaign.disk import Disk
from tbh.campaign.floor import Floor, arrival_window_s
from tbh.campaign.insight import look_into
from tbh.campaign.rest import at_rest, unsettled
from tbh.campaign.setup import BOT_ID
from tbh.campaign.trials import Trials
from tbh.campaign.watching import moves_told
from tbh.infra.memory_rpc import MemoryRpc
from tbh.messages.health import Notice
from tbh.messages.market import Advance
from tbh.runtime.mailbox import Envelope
from tbh.runtime.simulate import Hub
from tbh.simulation import dice, steps
from tbh.simulation.dice import Dice, Mix
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS
from tbh.simulation.outcome import Outcome
from tbh.simulation.script import Scenario
from tbh.simulation.telling import told
from tbh.simulation.watch import Watch

CONVERGE_S: Final = 150.0
SETTLE_S: Final = 5.0
LOOK_S: Final = 0.7
RESTART_S: Final = (0.2, 3.0)

AGAIN_SHARE: Final = 0.25
"""So often one actor's failure is followed by another's."""

_INSIDE: Final = {FaultKind.ACTOR_FAILED: 1.0, FaultKind.PROCESS_KILLED: 0.03}
"""What strikes at a delivery, and how many units of its rate each is worth."""

Trace = Callable[[str], None]


def run_seed(seed: int, *, scenario: Scenario | None = None, trace: Trace | None = None) -> Outcome:
    """Play one seed. The outcome is a function of ``seed`` and ``scenario`` alone; ``trace`` is told of every delivery,
    step and violation, one line each."""
    collects = gc.isenabled()
    gc.disable()  # a seed is short, and looking for its garbage takes a tenth of it
    world = World(seed, scenario, trace)
    try:
        return world.play()
    finally:
        world.hub.unwind_all()
        if collects:
            gc.enable()


class World:
    """``chance`` is what the world draws from while it runs; what a seed is drawn with has streams of its own, so that
    a further fault leaves the market as it was. ``may`` are the faults that can strike in this seed. Of the deliveries
    ``intercepted`` so far, something strikes inside a process at number ``strikes_at``, or at the one aimed at."""

    def __init__(self, seed: int, scenario: Scenario | None, trace: Trace | None) -> None:
        self.seed = seed
        self.external = (Advance, Notice)
        self._trace = trace
        mix, at = _mix(seed, scenario)
        self.setup = setup = setups.draw(seed, mix, None if scenario is None else scenario.settings)
        self.chance = random.Random(f"{seed}/world")
        self.dice = Dice(random.Random(f"{seed}/dice"), mix, at=at)
        self.strikes = self.dice.strikes
        self.may = self.dice.kinds
        self.intercepted = 0
        self._inside = {kind: self._next_strike(kind) for kind in _INSIDE}
        self.strikes_at = min(self._inside.values())
        self.hub = Hub(seed)
        terms = steps.Terms(
            bot_id=BOT_ID,
            market=setup.market,
            exposure_max=setup.exposure_max,
            cash=setup.cash,
            bar_s=setup.bar_s,
            window_s=arrival_window_s(setup),
        )
        time = self.hub.time
        self.watch = Watch(seed, terms, now_ns=lambda: time.now_ns, trace=None if trace is None else self._trace_step)
        self.tell = self.watch.step
        self.rpc = MemoryRpc(BOT_ID, monotonic=self._database_s, boot_id="operator")
        self.tables = self.rpc.tables
        self.tables.wire = False
        self.database_away = False
        self.database_ahead_s = 0.0
        self._renewed_ns = 0
        self.inherited: dict[str, int] = {}
        self.disks: list[Disk] = []
        self.boots: list[Boot] = []
        self.living: list[Boot] = []
        self.healed = False
        self.floor = Floor(self)
        self.chaos = Chaos(self)
        self.trials = Trials(self, at)
        self.intercepts = self.strikes_at < math.inf or self.trials.watches_fills

    # -- time, and what everybody needs

    @property
    def now_ns(self) -> int:
        return self.hub.time.now_ns

    def after(self, seconds: float, act: Callable[..., Any], *args: Any) -> None:
        self.hub.time.after(int(seconds * NS), act, *args)

    def fault(self, kind: FaultKind, detail: str = "") -> None:
        """A fault does its work now."""
        self.tell(steps.FaultHappened(kind=kind._value_, detail=detail))

    def _database_s(self) -> float:
        return self.now_ns / NS + self.database_ahead_s

    def lease_renewed(self) -> None:
        self._renewed_ns = self.now_ns

    def lease_left_s(self) -> float:
        """What is left of the lease by true time."""
        return max(0.0, self.tables.lease.lease_s - (self.now_ns - self._renewed_ns) / NS)

    def next_inside(self, actor: str) -> FaultKind | None:
        """What strikes at this delivery to ``actor``, the one that was ``intercepted`` last."""
        struck = FaultKind.ACTOR_FAILED if self.chaos.fails(actor) else None
        if self.intercepted < self.strikes_at:
            return struck
        for kind, number in self._inside.items():
            if number == self.intercepted and not self.healed:
                struck = kind
                self._inside[kind] = self._next_strike(kind)
                if kind is FaultKind.ACTOR_FAILED and self.chance.random() < AGAIN_SHARE:
                    self._inside[kind] = self.intercepted + 1 + self.chance.randrange(200)
        self.strikes_at = math.inf if self.healed else min(self._inside.values())
        return struck

    def _next_strike(self, kind: FaultKind) -> float:
        """The number of the delivery at which the kind strikes next."""
        wait = self.dice.wait(kind, scale=_INSIDE[kind])
        return math.inf if wait < 0 else self.intercepted + 1 + wait

    def bar(self) -> None:
        """A bar of the market has begun."""
        if not self.healed:
            self.chaos.bar()
            self.trials.bar()
        for boot in self.living:
            self.tell(look_into(boot))

    # -- machines and processes

    def start(self, disk: Disk) -> Boot:
        boot = Boot(self, disk, len(self.boots) + 1)
        self.boots.append(boot)
        self.living.append(boot)
        self.tell(steps.BootStarted(boot=boot.boot_id, machine=disk.name))
        self.after(0.0, boot.live)
        return boot

    def new_disk(self) -> Disk:
        disk = Disk(f"machine{len(self.disks) + 1}")
        self.disks.append(disk)
        return disk

    def stop_process(self, boot: Boot) -> None:
        """It stands still, for a moment or past its lease."""
        if boot.process.out:
            return
        lease_s = self.setup.lease_s
        still_s = (
            self.chance.uniform(0.05, 1.0) if self.chance.random() < 0.4 else self.chance.uniform(0.5, 2.5) * lease_s
        )
        still_s = self.trials.stand_still(still_s)
        self.fault(FaultKind.PROCESS_STOPPED, f"{boot.boot_id} for {still_s:.1f} s")
        boot.process.stand_still()
        self.after(still_s, boot.process.go_on)

    def kill(self, boot: Boot) -> None:
        """kill -9. Called by the process's own code it does not return."""
        self._gone(boot, None, "killed")
        self.after(0.0, self.hub.unwind, boot.process)
        self.hub.kill(boot.process)

    def ended(self, boot: Boot, exit_code: int, reason: str) -> None:
        """The process has come to its own end."""
        self._gone(boot, exit_code, reason)
        self.after(0.0, self.hub.unwind, boot.process)

    def _gone(self, boot: Boot, exit_code: int | None, reason: str) -> None:
        if boot.disk.owner is boot:
            boot.disk.owner = None
        self.living.remove(boot)
        self.tell(steps.BootEnded(boot=boot.boot_id, exit_code=exit_code, reason=reason))
        self.watch.coverage.other[f"exit {exit_code}"] += 1
        if not self.living:
            self.after(self.chance.uniform(*RESTART_S), self._restart, boot.disk)

    def _restart(self, disk: Disk) -> None:
        if not self.living:
            self.start(self.chaos.next_disk(disk))

    # -- a seed

    def play(self) -> Outcome:
        setup = self.setup
        self.start(self.new_disk())
        self.hub.time.after(0, self.floor.tick)
        self.chaos.begin()
        with moves_told(self._order_moved):
            self.hub.run_to(int(setup.bars * setup.bar_s * NS))
            self._heal()
            reason = self._converge()
            self.tell(at_rest(self, reason))
        return self._outcome()

    def _heal(self) -> None:
        self.healed = True
        self.dice.end()
        self.floor.heal()
        self.chaos.end()
        self.trials.end()
        self.tell(steps.Healed())

    def _converge(self) -> str | None:
        until_ns = self.now_ns + int(CONVERGE_S * NS)
        reason: str | None = "nothing was looked at"
        self.hub.run_to(self.now_ns + int(SETTLE_S * NS))
        while self.now_ns < until_ns:
            reason = unsettled(self) or self.watch.unrest(at_rest(self, None))
            if reason is None:
                return None
            self.hub.run_to(self.now_ns + int(LOOK_S * NS))
        return reason

    def _order_moved(self, event: str, before: Any, after: Any) -> None:
        acting = self.hub.time.acting
        boot_id = "" if acting is None else acting.name
        if after is not None and self.chaos.watches_orders:
            self.chaos.order_moved(after.order.client_order_id, after.status)
        self.tell(steps.Transition(boot=boot_id, event=event, before=before, after=after))

    def _outcome(self) -> Outcome:
        told = hashlib.blake2b(digest_size=16)
        messages = 0
        for boot in self.boots:
            if boot.tree is not None:
                messages += boot.tree.messages
                told.update(boot.tree.digest.encode())
        told.update(
            f"{self.now_ns} {self.floor.venue.qty} {self.floor.venue.cash} {len(self.floor.venue.events)}".encode()
        )
        return Outcome(
            seed=self.seed,
            messages=messages,
            orders=self.floor.orders,
            digest=told.hexdigest(),
            virtual_s=self.now_ns / NS,
            boots=len(self.boots),
            violations=self.watch.violations,
            coverage=self.watch.coverage,
        )

    # -- the trace

    @property
    def deliveries(self) -> Callable[[int, Envelope], None] | None:
        return None if self._trace is None else self._trace_delivery

    def _trace_delivery(self, now_ns: int, envelope: Envelope) -> None:
        assert self._trace is not None
        self._trace(f"{now_ns / NS:12.6f}   {envelope.sender} -> {envelope.to}: {told(envelope.message)}")

    def _trace_step(self, what: str, detail: str) -> None:
        assert self._trace is not None
        self._trace(f"{self.now_ns / NS:12.6f} * {detail if what != 'VIOLATION' else f'VIOLATION {detail}'}")


def _mix(seed: int, scenario: Scenario | None) -> tuple[Mix, dict[FaultKind, frozenset[int]]]:
    if scenario is None:
        return dice.draw(random.Random(f"{seed}/mix")), {}
    rates = {FaultKind(word): strike.rate for word, strike in scenario.strikes.items() if strike.rate}
    at = {FaultKind(word): frozenset(strike.at) for word, strike in scenario.strikes.items() if strike.at}
    return Mix(rates), at
