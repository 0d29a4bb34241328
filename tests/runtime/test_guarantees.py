"""What docs/GUARANTEES.md promises, over every host of a tree."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tbh.messages.base import Command, Fact, Timer, message
from tbh.messages.system import DeadLettered, Restarted
from tbh.runtime.actor import Actor, Context, receive
from tbh.runtime.cell import CellState
from tbh.runtime.supervise import ChildSpec, OnExceeded, Policy

QUICK = Policy(max_failures=3, window_s=60.0, first_backoff_s=0.001, backoff_max_s=0.002)


@message
class Counted(Fact):
    n: int
    fail: bool = False


@message
class Passed(Fact):
    n: int


@message
class Quote(Fact):
    symbol: str
    n: int


@message
class Order(Command):
    n: int


@message
class Tick(Timer):
    n: int = 0


class Recorder(Actor):
    """Notes everything it is told in ``seen``; fails when told to."""

    def __init__(self, ctx: Context, seen: list[Any], gate: threading.Event | None = None) -> None:
        super().__init__(ctx)
        self._seen = seen
        self._gate = gate
        seen.append("built")

    @receive
    def on_counted(self, fact: Counted) -> None:
        if self._gate is not None and fact.n == 0:
            self._gate.wait(10)
        if fact.fail:
            raise ValueError(f"no {fact.n}")
        self._seen.append(fact.n)

    @receive
    def on_quote(self, quote: Quote) -> None:
        self._seen.append((quote.symbol, quote.n))

    @receive
    def on_order(self, order: Order) -> None:
        self._seen.append(order)

    def on_halt(self, reason: str, exit_code: int) -> None:
        self._seen.append(f"halt {reason} {exit_code}")

    def on_stop(self) -> None:
        self._seen.append("stopped")


class Letters(Actor):
    def __init__(self, ctx: Context, seen: list[Any]) -> None:
        super().__init__(ctx)
        self._seen = seen

    @receive
    def on_letter(self, letter: DeadLettered) -> None:
        self._seen.append(letter)

    @receive
    def on_restarted(self, fact: Restarted) -> None:
        self._seen.append(fact)


EXTERNAL = (Counted, Quote, Order)


def recorder(seen: list[Any], gate: threading.Event | None = None, **options: Any) -> ChildSpec:
    options.setdefault("policy", QUICK)
    return ChildSpec(name="recorder", actor=Recorder, factory=lambda ctx: Recorder(ctx, seen, gate), **options)


def letters(seen: list[Any]) -> ChildSpec:
    return ChildSpec(name="letters", actor=Letters, factory=lambda ctx: Letters(ctx, seen))


def test_one_senders_messages_arrive_in_order(tree: Any) -> None:
    seen: list[Any] = []
    tree.start([recorder(seen)], external=EXTERNAL)
    tree.publish(*(Counted(n=n) for n in range(200)))
    tree.until(lambda: len(seen) == 201)
    assert seen == ["built", *range(200)]


def test_a_failure_sets_the_message_aside_with_its_payload_and_keeps_the_rest(tree: Any) -> None:
    seen: list[Any] = []
    told: list[Any] = []
    tree.start([letters(told), recorder(seen)], external=EXTERNAL)
    tree.publish(Counted(n=1), Counted(n=2, fail=True), Counted(n=3), Counted(n=4))
    tree.until(lambda: 4 in seen and len(told) == 2)
    assert seen == ["built", 1, "built", 3, 4]
    letter = next(fact for fact in told if isinstance(fact, DeadLettered))
    assert (letter.actor, letter.message_type) == ("recorder", "Counted")
    assert letter.payload == "Counted(n=2, fail=True)"
    assert letter.reason == "ValueError: no 2"
    assert Restarted(actor="recorder", incarnation=1, reason="ValueError: no 2") in told
    assert (tree.cell("recorder").restarts, tree.cell("recorder").dead_letters) == (1, 1)


def test_system_exit_in_a_handler_is_an_ordinary_failure(tree: Any) -> None:
    class Exits(Actor):
        @receive
        def on_counted(self, fact: Counted) -> None:
            if fact.fail:
                raise SystemExit(3)

    spec = ChildSpec(name="exits", actor=Exits, factory=Exits, policy=QUICK)
    tree.start([spec], external=[Counted])
    tree.publish(Counted(n=1, fail=True))
    tree.until(lambda: tree.cell("exits").restarts == 1)
    assert tree.host.escalation is None


def test_what_early_constructors_send_waits_for_actors_not_yet_started(tree: Any) -> None:
    seen: list[Any] = []

    class Early(Actor):
        sends = (Passed,)

        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            ctx.send(Passed(n=7))

    class Late(Actor):
        @receive
        def on_passed(self, fact: Passed) -> None:
            seen.append(fact.n)

    specs = [ChildSpec(name="early", actor=Early, factory=Early), ChildSpec(name="late", actor=Late, factory=Late)]
    tree.start(specs)
    tree.until(lambda: seen == [7])
    assert tree.cell("late").dead_letters == 0


def test_a_constructor_that_fails_at_first_is_tried_again_and_messages_wait(tree: Any) -> None:
    seen: list[Any] = []
    faults = [RuntimeError("one"), RuntimeError("two")]

    def factory(ctx: Context) -> Recorder:
        if faults:
            raise faults.pop()
        return Recorder(ctx, seen)

    tree.start([ChildSpec(name="recorder", actor=Recorder, factory=factory, policy=QUICK)], external=EXTERNAL)
    tree.publish(Counted(n=1))
    tree.until(lambda: seen == ["built", 1])
    assert tree.cell("recorder").incarnation == 2


def test_a_constructor_that_always_fails_escalates(tree: Any) -> None:
    def factory(ctx: Context) -> Recorder:
        raise RuntimeError("never")

    tree.start([ChildSpec(name="recorder", actor=Recorder, factory=factory, policy=QUICK)], external=EXTERNAL)
    tree.until(lambda: tree.host.escalation is not None)
    assert tree.host.escalation == ("recorder", "failed too often, last: RuntimeError: never", 70)
    assert tree.cell("recorder").state is CellState.DISABLED


def test_more_failures_than_the_policy_allows_escalate(tree: Any) -> None:
    tree.start([recorder([])], external=EXTERNAL)
    tree.publish(*(Counted(n=n, fail=True) for n in range(4)))
    tree.until(lambda: tree.host.escalation is not None)
    assert tree.host.escalation == ("recorder", "failed too often, last: ValueError: no 3", 70)


def test_a_disabled_actor_leaves_the_others_alone_and_dead_letters_its_commands(tree: Any) -> None:
    told: list[Any] = []
    specs = [letters(told), recorder([], on_exceeded=OnExceeded.DISABLE)]
    tree.start(specs, external=EXTERNAL)
    tree.publish(*(Counted(n=n, fail=True) for n in range(4)), Counted(n=9), Order(n=1))
    tree.until(lambda: any(getattr(fact, "message_type", "") == "Order" for fact in told))
    assert tree.host.escalation is None
    assert told[-1].reason == "actor is disabled"
    assert tree.cell("letters").state is CellState.RUNNING


def test_an_exception_with_an_exit_code_escalates_at_once(tree: Any) -> None:
    class Fenced(Exception):
        exit_code = 75

    class Owner(Actor):
        @receive
        def on_counted(self, fact: Counted) -> None:
            raise Fenced("another runtime owns the bot")

    tree.start([ChildSpec(name="owner", actor=Owner, factory=Owner)], external=[Counted])
    tree.publish(Counted(n=1))
    tree.until(lambda: tree.host.escalation is not None)
    assert tree.host.escalation == ("owner", "Fenced: another runtime owns the bot", 75)
    assert tree.cell("owner").restarts == 0


def test_the_first_escalation_counts(tree: Any) -> None:
    tree.start([recorder([])], external=EXTERNAL)
    tree.host.escalate("a", "first", 70)
    tree.host.escalate("b", "second", 75)
    assert tree.host.escalation == ("a", "first", 70)
    assert tree.host.escalated.is_set()


def test_an_expired_command_is_set_aside(tree: Any) -> None:
    seen: list[Any] = []
    told: list[Any] = []
    now = datetime(2026, 1, 1, tzinfo=UTC)
    tree.start([letters(told), recorder(seen)], external=EXTERNAL, now=lambda: now)
    late, due = Order(n=1, expires_at=now - timedelta(seconds=1)), Order(n=2, expires_at=now)
    tree.publish(late, due, Order(n=3))
    tree.until(lambda: len(seen) == 3 and len(told) == 1)
    assert seen == ["built", due, Order(n=3)]
    assert told[0].reason == "expired"


class Stasher(Actor):
    """Keeps facts for later until an order comes."""

    def __init__(self, ctx: Context, seen: list[Any]) -> None:
        super().__init__(ctx)
        self._seen = seen
        self._ready = False

    @receive
    def on_counted(self, fact: Counted) -> None:
        if self._ready:
            self._seen.append(fact.n)
            return
        self.ctx.stash()
        if fact.fail:
            raise ValueError("after stashing")

    @receive
    def on_order(self, order: Order) -> None:
        if order.n < 0:
            raise ValueError("no")
        self._ready = True
        self.ctx.unstash()


def stasher(seen: list[Any]) -> ChildSpec:
    return ChildSpec(name="stasher", actor=Stasher, factory=lambda ctx: Stasher(ctx, seen), policy=QUICK)


def test_stashed_messages_come_back_in_order_before_what_waits(tree: Any) -> None:
    seen: list[Any] = []
    tree.start([stasher(seen)], external=(Counted, Order))
    tree.publish(Counted(n=1), Counted(n=2), Order(n=1), Counted(n=3))
    tree.until(lambda: len(seen) == 3)
    assert seen == [1, 2, 3]


def test_the_stash_survives_a_restart(tree: Any) -> None:
    seen: list[Any] = []
    tree.start([stasher(seen)], external=(Counted, Order))
    tree.publish(Counted(n=1), Counted(n=2), Order(n=-1), Order(n=1), Counted(n=3))
    tree.until(lambda: len(seen) == 3)
    assert seen == [1, 2, 3]
    assert tree.cell("stasher").restarts == 1


def test_a_message_stashed_by_the_handler_that_then_failed_is_not_delivered_again(tree: Any) -> None:
    seen: list[Any] = []
    tree.start([stasher(seen)], external=(Counted, Order))
    tree.publish(Counted(n=1, fail=True), Counted(n=2), Order(n=1))
    tree.until(lambda: seen == [2])
    tree.settle()
    assert (seen, tree.cell("stasher").dead_letters) == ([2], 1)


def test_timers_and_requests_die_with_their_incarnation(tree: Any) -> None:
    seen: list[Any] = []

    class Armed(Actor):
        sends = (Passed,)

        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            if ctx.incarnation == 0:
                ctx.every(0.005, Tick(n=1))
                ctx.keep_asking("key", Passed(n=1), every_s=0.005)
            else:
                ctx.after(0.05, Tick(n=2))

        @receive
        def on_order(self, order: Order) -> None:
            seen.clear()
            raise ValueError("restart")

        @receive
        def on_tick(self, tick: Tick) -> None:
            seen.append(tick.n)

    class Listener(Actor):
        @receive
        def on_passed(self, fact: Passed) -> None:
            seen.append("asked")

    armed = ChildSpec(name="armed", actor=Armed, factory=Armed, policy=QUICK)
    tree.start([ChildSpec(name="listener", actor=Listener, factory=Listener), armed], external=[Order])
    tree.until(lambda: seen.count(1) > 1 and seen.count("asked") > 1)
    tree.publish(Order(n=1))
    tree.until(lambda: 2 in seen)
    assert 1 not in seen
    assert seen.count("asked") <= 1, "one may have been under way to its receiver"


def test_a_full_mailbox_escalates_and_keeps_the_payload(tree: Any) -> None:
    gate = threading.Event()
    told: list[Any] = []
    faults = iter([ValueError("first")])
    seen: list[Any] = []

    def factory(ctx: Context) -> Recorder:
        for fault in faults:
            raise fault
        return Recorder(ctx, seen, gate)

    slow = Policy(max_failures=1, window_s=60.0, first_backoff_s=0.3, backoff_max_s=0.3)
    spec = ChildSpec(name="recorder", actor=Recorder, factory=factory, policy=slow, max_waiting=3)
    gate.set()
    tree.start([letters(told), spec], external=EXTERNAL)
    tree.publish(*(Counted(n=n) for n in range(4)))
    tree.until(lambda: tree.host.escalation is not None)
    assert tree.host.escalation == ("recorder", "mailbox full (3), Counted from host", 70)
    tree.until(lambda: len(told) > 0)
    assert (told[0].payload, told[0].reason) == ("Counted(n=3, fail=False)", "mailbox full")
    tree.until(lambda: seen == ["built", 0, 1, 2])


def test_quotes_are_conflated_per_symbol_while_the_actor_is_away(tree: Any) -> None:
    seen: list[Any] = []
    spec = recorder(seen, conflates=frozenset([Quote]), policy=Policy(first_backoff_s=0.2, jitter=0.0))
    tree.start([spec], external=EXTERNAL)
    tree.publish(Counted(n=1, fail=True))
    tree.until(lambda: tree.cell("recorder").state is CellState.BACKING_OFF)
    tree.publish(Quote(symbol="A", n=1), Counted(n=2), Quote(symbol="B", n=1), Quote(symbol="A", n=2))
    tree.publish(Quote(symbol="A", n=3), Counted(n=3))
    tree.until(lambda: 3 in seen)
    assert seen == ["built", "built", ("A", 3), 2, ("B", 1), 3]


def test_halt_overtakes_what_waits_and_reaches_later_incarnations_too(tree: Any) -> None:
    seen: list[Any] = []
    tree.start([recorder(seen, policy=Policy(first_backoff_s=0.2, jitter=0.0))], external=EXTERNAL)
    tree.publish(Counted(n=1, fail=True))
    tree.until(lambda: tree.cell("recorder").state is CellState.BACKING_OFF)
    tree.publish(Counted(n=2))
    tree.host.halt("drawdown", 75)
    tree.until(lambda: 2 in seen)
    assert seen == ["built", "built", "halt drawdown 75", 2], "it was in back-off when it was told"


def test_stop_is_in_reverse_order_and_drains_first(tree: Any) -> None:
    order: list[str] = []

    class Writer(Actor):
        sends = (Passed,)

        @receive
        def on_counted(self, fact: Counted) -> None:
            self.ctx.send(Passed(n=fact.n))

        def on_stop(self) -> None:
            order.append("writer")

    class Reader(Actor):
        @receive
        def on_passed(self, fact: Passed) -> None:
            order.append(f"passed {fact.n}")

        def on_stop(self) -> None:
            order.append("reader")

    specs = [ChildSpec(name="reader", actor=Reader, factory=Reader)]
    specs += [ChildSpec(name="writer", actor=Writer, factory=Writer)]
    tree.start(specs, external=[Counted])
    tree.until(lambda: tree.cell("writer").state is CellState.RUNNING)
    tree.publish(*(Counted(n=n) for n in range(5)))
    assert tree.stop() == []
    passed = [f"passed {n}" for n in range(5)]
    assert [item for item in order if item in passed] == passed
    assert [item for item in order if item not in passed] == ["writer", "reader"]
    assert order[-1] == "reader"


def test_an_actor_in_back_off_is_rebuilt_at_once_to_stop_in_order(tree: Any) -> None:
    seen: list[Any] = []
    policy = Policy(max_failures=1, first_backoff_s=50.0, backoff_max_s=50.0, window_s=120.0)
    tree.start([recorder(seen, policy=policy)], external=EXTERNAL)
    tree.publish(Counted(n=1, fail=True))
    tree.until(lambda: tree.cell("recorder").state is CellState.BACKING_OFF)
    tree.publish(Counted(n=2))
    assert tree.stop() == []
    assert seen == ["built", "built", 2, "stopped"]


def test_a_failing_on_stop_does_not_keep_the_tree_from_ending(tree: Any) -> None:
    class Stubborn(Actor):
        def on_stop(self) -> None:
            raise SystemExit(1)

    tree.start([ChildSpec(name="stubborn", actor=Stubborn, factory=Stubborn)])
    cell = tree.cell("stubborn")
    tree.until(lambda: cell.state is CellState.RUNNING)
    assert tree.stop() == []
    assert cell.state is CellState.STOPPED


def test_nothing_is_settled_while_a_request_is_open(tree: Any) -> None:
    log: list[str] = []

    class Asker(Actor):
        sends = (Order,)

        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            self._asked = 0

        @receive
        def on_counted(self, fact: Counted) -> None:
            log.append("asked")
            self.ctx.keep_asking("order", Order(n=fact.n), every_s=0.002)

        @receive
        def on_passed(self, fact: Passed) -> None:
            log.append("answered")
            self.ctx.answered("order")

    class Answerer(Actor):
        sends = (Passed,)

        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            self._times = 0

        @receive
        def on_order(self, order: Order) -> None:
            self._times += 1
            if self._times == 3:
                self.ctx.send(Passed(n=order.n))

    specs = [ChildSpec(name="asker", actor=Asker, factory=Asker)]
    specs += [ChildSpec(name="answerer", actor=Answerer, factory=Answerer)]
    tree.start(specs, external=[Counted], on_settled=lambda: log.append("settled"))
    tree.until(lambda: all(cell.state is CellState.RUNNING for cell in tree.host.cells))
    tree.settle()
    log.clear()
    tree.publish(Counted(n=1))
    tree.until(lambda: "settled" in log)
    assert log[:3] == ["asked", "answered", "settled"]


def test_settling_is_told_once(tree: Any) -> None:
    log: list[str] = []
    tree.start([recorder(log)], external=EXTERNAL, on_settled=lambda: log.append("settled"))
    tree.until(lambda: "settled" in log)
    tree.publish(Counted(n=1))
    tree.until(lambda: log.count("settled") == 2)
    tree.settle()
    assert log == ["built", "settled", 1, "settled"]
    tree.host.look_again()
    tree.until(lambda: log.count("settled") == 3)


def test_a_lock_step_of_many_turns_neither_stops_nor_runs_ahead(tree: Any) -> None:
    turns: list[int] = []
    early: list[int] = []
    published = [0]
    done = threading.Event()

    class Worker(Actor):
        sends = (Passed,)

        @receive
        def on_counted(self, fact: Counted) -> None:
            self.ctx.send(Passed(n=fact.n))

    class Last(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            self._left = 3

        @receive
        def on_passed(self, fact: Passed) -> None:
            self._left -= 1
            if self._left == 0:
                self._left = 3
                turns.append(fact.n)

    def advance() -> None:
        n = published[0]
        if len(turns) != n:
            early.append(n)
        if n == 300:
            done.set()
            return
        published[0] += 1
        tree.host.publish(Counted(n=n))

    specs = [ChildSpec(name=f"worker{i}", actor=Worker, factory=Worker) for i in range(3)]
    specs.append(ChildSpec(name="last", actor=Last, factory=Last))
    tree.start(specs, external=[Counted], on_settled=advance)
    tree.until(done.is_set)
    assert (early, len(turns)) == ([], 300)


@pytest.mark.parametrize("seed", [1, "two"])
def test_chance_depends_on_seed_name_and_incarnation_alone(tree: Any, seed: int | str) -> None:
    drawn: list[float] = []

    class Gambler(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            drawn.append(ctx.rng.random())

        @receive
        def on_counted(self, fact: Counted) -> None:
            raise ValueError("again")

    tree.start([ChildSpec(name="gambler", actor=Gambler, factory=Gambler, policy=QUICK)], external=[Counted], seed=seed)
    tree.publish(Counted(n=1))
    tree.until(lambda: len(drawn) == 2)
    assert drawn == [random.Random(f"{seed}/gambler/{i}").random() for i in range(2)]
