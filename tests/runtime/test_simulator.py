"""The simulator: order, suspended port calls, death at any instant, and a hash that repeats."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import greenlet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.messages.base import Fact, Timer, message
from tbh.runtime.actor import Actor, Context, receive
from tbh.runtime.cell import CellState
from tbh.runtime.simulate import ProcessDied, Simulator
from tbh.runtime.supervise import ChildSpec, Policy


@message
class Start(Fact):
    n: int = 0


@message
class Said(Fact):
    sender: str
    n: int


@message
class Tick(Timer):
    pass


class Ledger:
    """The other side of a port."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.rows: list[int] = []

    def write(self, n: int) -> int:
        self.log.append(f"effect {n}")
        self.rows.append(n)
        return len(self.rows)

    def count(self) -> int:
        return len(self.rows)


class Writer(Actor):
    """Writes each start to the ledger through its port."""

    def __init__(self, ctx: Context, ledger: Any, log: list[str]) -> None:
        super().__init__(ctx)
        self._ledger = ledger
        self._log = log

    @receive
    def on_start(self, start: Start) -> None:
        self._log.append(f"asked {start.n}")
        try:
            self._log.append(f"answered {self._ledger.write(start.n)}")
        except OSError as fault:
            self._log.append(str(fault))
        finally:
            self._log.append("left")


class Other(Actor):
    def __init__(self, ctx: Context, log: list[str]) -> None:
        super().__init__(ctx)
        self._log = log
        ctx.every(0.00005, Tick())

    @receive
    def on_tick(self, tick: Tick) -> None:
        self._log.append("tick")


class World:
    """A writer on a ledger beside somebody who ticks, and the log of what happened in which order."""

    def __init__(self, **arguments: Any) -> None:
        self.log: list[str] = []
        self.ledger = Ledger(self.log)
        specs = [
            ChildSpec(name="writer", actor=Writer, factory=lambda ctx: Writer(ctx, self.port, self.log)),
            ChildSpec(name="other", actor=Other, factory=lambda ctx: Other(ctx, self.log)),
        ]
        self.simulator = Simulator(specs, external=[Start], **arguments)
        self.port = self.simulator.port(self.ledger, "ledger", local=["count"])
        self.simulator.start()
        self.simulator.publish(Start(n=1))

    def run(self, until: str, times: int = 1) -> None:
        self.simulator.run(for_s=1, done=lambda: self.log.count(until) == times)


def live_greenlets() -> int:
    gc.collect()
    # The type, not isinstance: that asks a weak proxy for its object's class, and the object may be gone.
    return sum(1 for item in gc.get_objects() if issubclass(type(item), greenlet.greenlet) and not item.dead)


def test_request_effect_and_reply_are_three_instants_with_others_in_between() -> None:
    world = World()
    world.run("left")
    order = [word for word in world.log if word != "tick"]
    assert order == ["asked 1", "effect 1", "answered 1", "left"]
    asked, effect, answered = (world.log.index(word) for word in ("asked 1", "effect 1", "answered 1"))
    assert "tick" in world.log[asked:effect]
    assert "tick" in world.log[effect:answered]
    world.simulator.close()


def test_a_suspended_actors_mailbox_waits_until_its_call_returns() -> None:
    world = World()
    world.simulator.publish(Start(n=2))
    world.run("left", times=2)
    assert [word for word in world.log if word != "tick"] == [
        *("asked 1", "effect 1", "answered 1", "left"),
        *("asked 2", "effect 2", "answered 2", "left"),
    ]
    world.simulator.close()


@pytest.mark.parametrize(("stage", "rows"), [("request", []), ("reply", [1])])
def test_a_port_fault_loses_the_request_or_the_reply(stage: str, rows: list[int]) -> None:
    def fault(at: str, port: str, method: str) -> BaseException | None:
        return OSError("lost") if (at, port, method) == (stage, "ledger", "write") else None

    world = World(port_fault=fault)
    world.run("left")
    assert "lost" in world.log
    assert world.ledger.rows == rows
    world.simulator.close()


def test_local_methods_and_calls_from_outside_are_made_directly() -> None:
    world = World()
    assert world.port.count() == 0
    assert world.port.write(9) == 1
    assert world.port.rows == [9]


@pytest.mark.parametrize(("instant", "rows"), [("asked 1", []), ("effect 1", [1])])
def test_death_between_request_effect_and_reply_leaves_what_had_happened(instant: str, rows: list[int]) -> None:
    world = World()
    world.run(instant)
    world.simulator.die()
    with pytest.raises(ProcessDied):
        world.simulator.run()
    assert world.ledger.rows == rows
    assert "answered 1" not in world.log
    with pytest.raises(ProcessDied):
        world.port.count()


def test_death_inside_a_delivery_ends_it_there() -> None:
    world: World

    def intercept(actor: str, envelope: Any) -> None:
        if actor == "writer":
            world.simulator.die()

    world = World(intercept=intercept)
    with pytest.raises(ProcessDied):
        world.simulator.run(for_s=1)
    assert "asked 1" not in world.log


def test_what_is_unwound_at_death_reaches_no_port() -> None:
    reached: list[str] = []

    class Careful(Actor):
        def __init__(self, ctx: Context, port: Any) -> None:
            super().__init__(ctx)
            self._port = port

        @receive
        def on_start(self, start: Start) -> None:
            try:
                self._port.write(start.n)
            finally:
                reached.append("unwound")
                reached.append(str(self._port.count()))

    log: list[str] = []
    simulator = Simulator(
        [ChildSpec(name="careful", actor=Careful, factory=lambda ctx: Careful(ctx, port))], external=[Start]
    )
    port = simulator.port(Ledger(log), "ledger", local=["count"])
    simulator.start()
    simulator.publish(Start(n=1))
    simulator.run(for_s=1, done=lambda: log != [])
    simulator.die()
    with pytest.raises(ProcessDied):
        simulator.run()
    assert reached == ["unwound"]


def test_no_greenlet_outlives_death_close_or_stop() -> None:
    before = live_greenlets()
    for end in ("die", "close", "stop"):
        world = World()
        world.run("asked 1")
        if end == "die":
            world.simulator.die()
            with pytest.raises(ProcessDied):
                world.simulator.run()
        else:
            getattr(world.simulator, end)()
        del world
    assert live_greenlets() == before


def test_a_run_goes_on_where_the_last_one_ended_with_calls_still_under_way() -> None:
    world = World()
    world.run("asked 1")
    world.run("tick", times=8)
    world.run("left")
    assert world.ledger.rows == [1]
    world.simulator.close()


def test_a_constructor_may_call_a_port_and_the_next_child_starts_after_it() -> None:
    log: list[str] = []

    class First(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            port.write(1)
            log.append("first")

    class Second(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            log.append("second")

    specs = [ChildSpec(name="a", actor=First, factory=First), ChildSpec(name="b", actor=Second, factory=Second)]
    simulator = Simulator(specs)
    port = simulator.port(Ledger(log), "ledger")
    simulator.start()
    simulator.run(for_s=1)
    assert log == ["effect 1", "first", "second"]


def test_many_actors_may_be_inside_calls_at_once() -> None:
    log: list[str] = []
    specs = [
        ChildSpec(name=f"w{i}", actor=Writer, factory=lambda ctx: Writer(ctx, port, log)) for i in range(10)
    ]  # fmt: skip
    simulator = Simulator(specs, external=[Start], seed=3)
    ledger = Ledger([])
    port = simulator.port(ledger, "ledger")
    simulator.start()
    simulator.publish(Start(n=1))
    simulator.run(for_s=1)
    assert len(ledger.rows) == 10
    assert log.count("left") == 10
    assert log[:10] == ["asked 1"] * 10


def test_an_escalation_ends_the_run_and_the_tree_can_still_be_stopped_in_order() -> None:
    stopped: list[str] = []

    class Halting(Actor):
        @receive
        def on_start(self, start: Start) -> None:
            self.ctx.halt("enough")

        def on_stop(self) -> None:
            stopped.append(self.ctx.name)

    specs = [ChildSpec(name=name, actor=Halting, factory=Halting) for name in ("a", "b")]
    simulator = Simulator(specs, external=[Start])
    simulator.start()
    simulator.publish(Start())
    simulator.run()
    assert simulator.escalation is not None
    assert simulator.escalation[1:] == ("enough", 70)
    assert simulator.stop() == []
    assert stopped == ["b", "a"]


def test_virtual_time_moves_only_with_events_and_timers_are_exact() -> None:
    heard: list[float] = []

    class Timed(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            ctx.after(2.5, Tick())

        @receive
        def on_tick(self, tick: Tick) -> None:
            heard.append(self.ctx.monotonic())

    simulator = Simulator([ChildSpec(name="timed", actor=Timed, factory=Timed)])
    simulator.start()
    simulator.run(for_s=1)
    assert heard == []
    simulator.run(for_s=2)
    assert heard == [2.5]


def test_run_inside_run_is_refused() -> None:
    simulator = Simulator([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    simulator.start()
    simulator.call_after(0.1, simulator.run)
    with pytest.raises(RuntimeError, match="running already"):
        simulator.run()


class Talker(Actor):
    sends = (Said,)

    def __init__(self, ctx: Context, plan: list[int]) -> None:
        super().__init__(ctx)
        self._plan = plan

    @receive
    def on_start(self, start: Start) -> None:
        for n in range(self._plan[start.n]):
            self.ctx.send(Said(sender=self.ctx.name, n=1_000 * start.n + n))


class Listener(Actor):
    def __init__(self, ctx: Context, heard: list[Said]) -> None:
        super().__init__(ctx)
        self._heard = heard

    @receive
    def on_said(self, said: Said) -> None:
        if self.ctx.incarnation == 0 and len(self._heard) == 5:
            raise ValueError("once")
        self._heard.append(said)


def conversation(seed: int | str, plan: list[int], **arguments: Any) -> tuple[Simulator, list[list[Said]]]:
    heard: list[list[Said]] = [[], []]
    policy = Policy(first_backoff_s=0.00005, backoff_max_s=0.001)
    specs = [
        ChildSpec(name=f"listener{i}", actor=Listener, factory=lambda ctx, i=i: Listener(ctx, heard[i]), policy=policy)  # type: ignore[misc]
        for i in range(2)
    ]
    specs += [ChildSpec(name=f"talker{i}", actor=Talker, factory=lambda ctx: Talker(ctx, plan)) for i in range(3)]
    simulator = Simulator(specs, seed=seed, external=[Start], **arguments)
    simulator.start()
    for n in range(len(plan)):
        simulator.publish(Start(n=n))
    simulator.run(for_s=10)
    return simulator, heard


@given(seed=st.integers(0, 2**32), plan=st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_one_senders_messages_keep_their_order_whatever_the_seed(seed: int, plan: list[int]) -> None:
    _, heard = conversation(seed, plan)
    for each in heard:
        for talker in range(3):
            numbers = [said.n for said in each if said.sender == f"talker{talker}"]
            assert numbers == sorted(numbers)
        assert len(each) >= 3 * sum(plan) - 1, "all but the dead letter"


def test_different_senders_overtake_each_other_differently_with_each_seed() -> None:
    orders = {tuple(said.sender for said in conversation(seed, [3, 3])[1][0]) for seed in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize("deep", [False, True])
def test_a_seed_repeats_to_the_last_delivery_and_another_seed_does_not(deep: bool) -> None:
    digests = [conversation(seed, [3, 2, 4], deep=deep)[0].digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_only_a_deep_hash_covers_payloads() -> None:
    shallow = {conversation(1, plan)[0].digest for plan in ([2, 2, 0], [2, 2, 0])}
    assert len(shallow) == 1
    assert conversation(1, [2])[0].digest != conversation(1, [2], deep=True)[0].digest


def test_the_trace_shows_each_delivery_in_virtual_order() -> None:
    rows: list[tuple[int, str]] = []
    simulator, _ = conversation(1, [2, 1], trace=lambda ns, envelope: rows.append((ns, envelope.to)))
    assert len(rows) == simulator.messages
    assert [ns for ns, _ in rows] == sorted(ns for ns, _ in rows)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import test_simulator as this
world = this.World(seed=5)
world.run("left")
print(this.conversation("a seed", [3, 2, 4])[0].digest, world.simulator.digest)
"""


def test_the_hash_is_the_same_in_another_process_with_other_string_hashing() -> None:
    digests = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_straggler_inside_a_call_is_reported_by_stop() -> None:
    class Stuck(Actor):
        @receive
        def on_start(self, start: Start) -> None:
            for _ in range(10_000):
                port.write(1)

    specs = [ChildSpec(name=name, actor=Stuck, factory=Stuck, stop_deadline_s=0.5) for name in ("quiet", "stuck")]
    simulator = Simulator(specs, external=[Start])
    port = simulator.port(Ledger([]), "ledger")
    simulator.start()
    simulator.run(for_s=0.1)
    simulator.publish(Start())
    simulator.run(for_s=0.1)
    assert simulator.stop() == ["stuck", "quiet"]
    assert {cell.state for cell in simulator.cells} == {CellState.RUNNING}
