"""What only the thread host has to promise: threads that hang, tokens, and a pykka that never sees a failure."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from typing import Any

import pykka
import pytest

from tbh.messages.base import Command, Fact, Timer, message
from tbh.messages.system import ActorHung, DeadLettered, Stop
from tbh.runtime.actor import Actor, Context, receive
from tbh.runtime.cell import Cell, CellState
from tbh.runtime.inbox import Inbox
from tbh.runtime.mailbox import Envelope
from tbh.runtime.probe import Probe
from tbh.runtime.settle import Settling
from tbh.runtime.supervise import ChildSpec, OnExceeded, Policy
from tbh.runtime.threads import SWITCH_INTERVAL_S, ThreadHost
from tbh.runtime.timers import COMPACT_MIN, TimerWheel

DEADLINE_S = 10.0


@message
class Work(Fact):
    n: int


@message
class Ask(Command):
    n: int


@message
class Tick(Timer):
    pass


class Hanging(Actor):
    """Hangs at work 0 until ``release`` is set, and notes what it does."""

    def __init__(self, ctx: Context, release: threading.Event, seen: list[Any]) -> None:
        super().__init__(ctx)
        self._release = release
        self._seen = seen

    @receive
    def on_work(self, work: Work) -> None:
        if work.n == 0:
            self._release.wait(DEADLINE_S)
            if self.ctx.incarnation == 0:
                raise ValueError("too late")
        self._seen.append((self.ctx.incarnation, work.n))


class Witness(Actor):
    def __init__(self, ctx: Context, seen: list[Any]) -> None:
        super().__init__(ctx)
        self._seen = seen

    @receive
    def on_hung(self, fact: ActorHung) -> None:
        self._seen.append(fact)

    @receive
    def on_letter(self, letter: DeadLettered) -> None:
        self._seen.append(letter)


@pytest.fixture
def release() -> Any:
    event = threading.Event()
    yield event
    event.set()


def tree_of(release: threading.Event, seen: list[Any], told: list[Any], **options: Any) -> list[ChildSpec]:
    return [
        ChildSpec(name="witness", actor=Witness, factory=lambda ctx: Witness(ctx, told)),
        ChildSpec(
            name="hanging",
            actor=Hanging,
            factory=lambda ctx: Hanging(ctx, release, seen),
            hung_after_s=0.05,
            stop_deadline_s=0.2,
            **options,
        ),
    ]


def test_a_hung_actor_escalates_and_is_reported_as_left_behind(threads: Any, release: threading.Event) -> None:
    told: list[Any] = []
    host = threads.start(tree_of(release, [], told), external=[Work])
    threads.publish(Work(n=0))
    assert host.escalated.wait(DEADLINE_S)
    assert host.escalation[0] == "hanging"
    assert "hung at Work" in host.escalation[1]
    threads.until(lambda: told != [])
    assert (told[0].actor, told[0].message_type) == ("hanging", "Work")
    assert threads.stop() == ["hanging"]


def test_a_hung_replaceable_actor_is_replaced_and_its_mailbox_kept(threads: Any, release: threading.Event) -> None:
    seen: list[Any] = []
    told: list[Any] = []
    host = threads.start(tree_of(release, seen, told, replaceable=True), external=[Work])
    lost = threads.cell("hanging")
    threads.publish(Work(n=0), Work(n=1), Work(n=2))
    threads.until(lambda: len(seen) == 2)
    assert seen == [(1, 1), (1, 2)]
    assert host.escalation is None
    threads.until(lambda: len(told) == 2)
    letters = [fact for fact in told if isinstance(fact, DeadLettered)]
    assert [letter.payload for letter in letters] == ["Work(n=0)"]
    release.set()
    threads.publish(Work(n=3))
    threads.until(lambda: len(seen) == 3)
    assert seen[2] == (1, 3), "the late failure of the lost thread has suspended nothing"
    assert lost.fenced
    assert lost.state is CellState.RUNNING
    assert threads.stop() == []


def test_replacements_are_bounded_by_the_policy(threads: Any, release: threading.Event) -> None:
    policy = Policy(max_failures=1, first_backoff_s=0.001)
    host = threads.start(tree_of(release, [], [], replaceable=True, policy=policy), external=[Work])
    threads.publish(Work(n=0), Work(n=0), Work(n=0))
    assert host.escalated.wait(DEADLINE_S)
    assert host.escalation[1].startswith("failed too often, last: hung at Work")
    assert threads.stop() == ["hanging"]


def test_a_hung_disabled_actor_takes_nothing_more(threads: Any, release: threading.Event) -> None:
    policy = Policy(max_failures=0, first_backoff_s=0.001)
    specs = tree_of(release, [], [], replaceable=True, policy=policy, on_exceeded=OnExceeded.DISABLE, max_waiting=2)
    host = threads.start(specs, external=[Work])
    cell = threads.cell("hanging")
    threads.publish(Work(n=0))
    threads.until(lambda: cell.state is CellState.DISABLED)
    threads.publish(*(Work(n=n) for n in range(1, 9)))
    assert host.escalation is None


def test_an_actor_that_does_not_start_in_time_is_named(release: threading.Event) -> None:
    class Slow(Actor):
        def __init__(self, ctx: Context) -> None:
            super().__init__(ctx)
            release.wait(DEADLINE_S)

    host = ThreadHost([ChildSpec(name="slow", actor=Slow, factory=Slow, start_deadline_s=0.05, stop_deadline_s=0.05)])
    with pytest.raises(TimeoutError, match=r"slow did not start within 0\.05 s"):
        host.start()
    assert host.stop() == ["slow"]


def test_a_straggler_is_left_behind_at_its_deadline_and_the_others_end(threads: Any, release: threading.Event) -> None:
    seen: list[Any] = []
    threads.start(tree_of(release, seen, []), external=[Work])
    witness = threads.cell("witness")
    threads.publish(Work(n=0))
    threads.until(lambda: threads.cell("hanging").busy)
    started_s = time.monotonic()
    assert threads.stop() == ["hanging"]
    assert time.monotonic() - started_s < 2.0
    assert witness.state is CellState.STOPPED


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_pykka_never_sees_a_base_exception(threads: Any, fault: BaseException) -> None:
    class Wild(Actor):
        @receive
        def on_work(self, work: Work) -> None:
            if work.n == 0:
                raise fault

    wild = ChildSpec(name="wild", actor=Wild, factory=Wild, policy=Policy(first_backoff_s=0.001))
    threads.start([wild, ChildSpec(name="other", actor=Hanging, factory=lambda c: Hanging(c, threading.Event(), []))],
                  external=[Work])  # fmt: skip
    threads.host.tell("wild", Work(n=0))
    threads.until(lambda: threads.cell("wild").restarts == 1)
    assert len(pykka.ActorRegistry.get_all()) == 2


def test_pykkas_own_stop_ends_actors_in_order_and_is_answered(threads: Any) -> None:
    stopped: list[str] = []

    class Quiet(Actor):
        def on_stop(self) -> None:
            stopped.append(self.ctx.name)

    threads.start([ChildSpec(name=name, actor=Quiet, factory=Quiet) for name in ("a", "b")])
    pykka.ActorRegistry.stop_all(block=True, timeout=DEADLINE_S)
    assert stopped == ["b", "a"]
    assert threads.stop() == []


def test_a_failure_of_on_settled_escalates(threads: Any) -> None:
    def fails() -> None:
        raise ValueError("composer")

    host = threads.start([ChildSpec(name="quiet", actor=Actor, factory=Actor)], on_settled=fails)
    assert host.escalated.wait(DEADLINE_S)
    assert host.escalation == ("on_settled", "ValueError: composer", 70)


def test_the_switch_interval_is_the_products_while_it_runs_and_restored_after(threads: Any) -> None:
    before_s = sys.getswitchinterval()
    threads.start([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    threads.stop()
    assert sys.getswitchinterval() == pytest.approx(before_s)


def test_threads_carry_their_actors_names(threads: Any) -> None:
    threads.start([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    assert "tbh-quiet" in {thread.name for thread in threading.enumerate()}


def test_messages_to_an_unknown_type_are_refused(threads: Any) -> None:
    host = threads.start([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    with pytest.raises(LookupError, match="Work has no route"):
        host.publish(Work(n=1))


def test_stop_may_be_asked_for_before_start_and_twice() -> None:
    host = ThreadHost([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    assert host.stop() == []
    host = ThreadHost([ChildSpec(name="quiet", actor=Actor, factory=Actor)])
    host.start()
    assert (host.stop(), host.stop()) == ([], [])


def test_many_senders_and_a_restarting_reader_lose_and_double_nothing(threads: Any) -> None:
    """Tokens, owed tokens, the stash and back-offs under load: every fact is handled once or is a dead letter."""
    seen: list[int] = []

    class Reader(Actor):
        @receive
        def on_work(self, work: Work) -> None:
            if work.n % 997 == 5:
                raise ValueError("now and then")
            seen.append(work.n)

    policy = Policy(max_failures=30, max_failures_daily=100, first_backoff_s=0.0005, backoff_max_s=0.001)
    host = threads.start(
        [ChildSpec(name="reader", actor=Reader, factory=Reader, policy=policy, max_waiting=50_000)], external=[Work]
    )
    senders = [
        threading.Thread(target=lambda k=k: [host.publish(Work(n=n)) for n in range(k, 20_000, 4)]) for k in range(4)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert host.wait_drained("reader", DEADLINE_S)
    lost = {n for n in range(20_000) if n % 997 == 5}
    assert sorted(seen) == sorted(set(range(20_000)) - lost)
    assert threads.cell("reader").dead_letters == len(lost)
    for k in range(4):
        mine = [n for n in seen if n % 4 == k]
        assert mine == sorted(mine)


def seq_of(envelope: Envelope | None) -> int:
    assert envelope is not None
    return envelope.seq


def test_the_token_of_a_message_that_waits_for_a_resume_is_given_back() -> None:
    cell = Probe(Hanging, lambda ctx: Hanging(ctx, threading.Event(), [])).cell
    inbox = Inbox(cell, lambda *_: None, lambda: None)
    cell.mailbox.suspended = True
    inbox.deliver(Envelope(1, "a", "b", 0, Work(n=1)))
    inbox.deliver_urgent(Envelope(2, "a", "b", 0, Stop()))
    inbox.deliver(Envelope(3, "a", "b", 0, Work(n=3)))
    first = inbox.next()
    assert first is not None
    assert isinstance(first.message, Stop)
    inbox.deliver_urgent(Envelope(4, "a", "b", 0, Stop()))
    assert seq_of(inbox.next()) == 4
    cell.mailbox.suspended = False
    inbox.pay_back()
    assert [seq_of(inbox.next()) for _ in range(2)] == [1, 3]


def test_a_fenced_reader_leaves_the_token_to_its_heir() -> None:
    cell = Probe(Hanging, lambda ctx: Hanging(ctx, threading.Event(), [])).cell
    inbox = Inbox(cell, lambda *_: None, lambda: None)
    inbox.deliver(Envelope(1, "a", "b", 0, Work(n=1)))
    heir = cell.heir("hung")
    assert heir is not None
    assert inbox.next() is None
    heir.mailbox.suspended = False
    after = Inbox(heir, lambda *_: None, lambda: None, before=inbox).next()
    assert after is not None
    assert after.seq == 1


def test_a_send_during_the_look_keeps_the_tree_unsettled() -> None:
    acted: list[int] = []

    def look() -> bool:
        settling.last_seq += 1
        return True

    settling = Settling(look, lambda: acted.append(1), lambda fault: None)
    settling.look()
    assert acted == []


def test_a_cell_that_comes_to_rest_while_another_looks_is_looked_at_again() -> None:
    looks = itertools.count()
    acted: list[int] = []

    def look() -> bool:
        if next(looks) == 0:
            other = threading.Thread(target=settling.look)  # finds the lock taken and leaves its mark
            other.start()
            other.join()
            return False
        return True

    settling = Settling(look, lambda: acted.append(1), lambda fault: None)
    settling.look()
    assert acted == [1]


def test_a_cell_is_never_at_rest_between_mailbox_and_handler() -> None:
    cell: Cell = Probe(Hanging, lambda ctx: Hanging(ctx, threading.Event(), [])).cell
    inbox = Inbox(cell, lambda *_: None, lambda: None)
    inbox.deliver(Envelope(1, "a", "b", 0, Work(n=1)))
    assert not cell.at_rest
    inbox.next()
    assert not cell.at_rest


def test_timers_fire_in_the_order_of_their_due_times() -> None:
    fired: list[int] = []
    done = threading.Event()
    wheel = TimerWheel(lambda fault: None)
    for n, delay_s in ((3, 0.03), (1, 0.01), (2, 0.02)):
        wheel.call_after(delay_s, lambda n=n: fired.append(n))  # type: ignore[misc]
    wheel.call_after(0.04, done.set)
    wheel.start()
    assert done.wait(DEADLINE_S)
    wheel.stop(DEADLINE_S)
    assert fired == [1, 2, 3]


def test_a_timer_that_raises_is_reported_and_the_wheel_goes_on() -> None:
    faults: list[BaseException] = []
    done = threading.Event()
    wheel = TimerWheel(faults.append)

    def fails() -> None:
        raise ValueError("bad call")

    wheel.call_after(0.0, fails)
    wheel.call_after(0.001, done.set)
    wheel.start()
    assert done.wait(DEADLINE_S)
    wheel.stop(DEADLINE_S)
    assert [str(fault) for fault in faults] == ["bad call"]


def test_cancelled_timers_do_not_pile_up() -> None:
    wheel = TimerWheel(lambda fault: None)
    for _ in range(10 * COMPACT_MIN):
        wheel.call_after(3600.0, lambda: None).cancel()
    assert len(wheel._heap) <= COMPACT_MIN
