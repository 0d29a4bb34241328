"""The hand-over to a reader that has time: it is woken later, for all that has come, and for what is urgent at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tbh.messages.base import Fact, message
from tbh.runtime.actor import Actor, receive
from tbh.runtime.cell import Cell
from tbh.runtime.inbox import Doorbell, Inbox
from tbh.runtime.mailbox import Envelope
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.threads import ThreadHost


@message
class Told(Fact):
    number: int


@message
class Called(Fact):
    pass


class Tolling:
    """An inbox, and what its doorbell has asked to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []
        spec = ChildSpec(name="reader", actor=Actor, factory=Actor)
        cell = Cell(spec, ThreadHost([spec]))
        cell.mailbox.suspended = False
        bell = Doorbell(self.later.append)
        self.inbox = Inbox(cell, lambda *_: None, lambda: None, doorbell=bell)

    def tell(self, number: int, *, may_wait: bool) -> None:
        self.inbox.deliver(Envelope(number, "", "reader", 0, Told(number=number)), may_wait=may_wait)

    @property
    def ready(self) -> int:
        return self.inbox._tokens.qsize()


def test_what_may_wait_is_handed_out_in_one_ring() -> None:
    tolling = Tolling()
    for number in range(3):
        tolling.tell(number, may_wait=True)
    assert (tolling.ready, len(tolling.later)) == (0, 1)
    tolling.later.pop()()
    assert tolling.ready == 3


def test_what_comes_during_a_ring_is_not_forgotten() -> None:
    tolling = Tolling()
    tolling.tell(1, may_wait=True)
    tolling.later.pop()()
    tolling.tell(2, may_wait=True)
    tolling.later.pop()()
    assert tolling.ready == 2


def test_what_may_not_wait_takes_along_what_came_before_it() -> None:
    tolling = Tolling()
    tolling.tell(1, may_wait=True)
    tolling.tell(2, may_wait=False)
    assert tolling.ready == 2
    taken = [tolling.inbox.next(), tolling.inbox.next()]
    assert [envelope.seq for envelope in taken if envelope is not None] == [1, 2]
    tolling.later.pop()()
    assert tolling.ready == 0


def test_a_background_actor_is_told_everything_in_its_order() -> None:
    numbers: list[int] = []
    complete = threading.Event()

    class Background(Actor):
        @receive
        def on_told(self, told: Told) -> None:
            numbers.append(told.number)
            if told.number == 99:
                complete.set()

    host = ThreadHost(
        [ChildSpec(name="background", actor=Background, factory=Background, background=True)], external=(Told,)
    )
    host.start()
    for number in range(100):
        host.publish(Told(number=number))
    assert complete.wait(5.0)
    assert numbers == list(range(100))
    host.stop()


def test_a_background_actor_handles_what_it_was_told_before_it_stops() -> None:
    numbers: list[int] = []

    class Background(Actor):
        @receive
        def on_told(self, told: Told) -> None:
            numbers.append(told.number)

    host = ThreadHost(
        [ChildSpec(name="background", actor=Background, factory=Background, background=True)], external=(Told,)
    )
    host.start()
    host.publish(Told(number=1))
    assert host.stop() == []
    assert numbers == [1]


class Unhurried(Actor):
    """Has time for what it is told, and none for a call."""

    unhurried = frozenset({Told})

    @receive
    def on_told(self, told: Told) -> None: ...

    @receive
    def on_called(self, called: Called) -> None: ...


def unhurried_host(later: list[Callable[[], None]], **more: Any) -> ThreadHost:
    spec = ChildSpec(name="reader", actor=Unhurried, factory=Unhurried)
    host = ThreadHost([spec], external=(Told, Called), **more)
    host.start()
    host.doorbell._call_later = later.append
    return host


def test_an_actor_is_not_woken_for_what_it_has_time_for() -> None:
    later: list[Callable[[], None]] = []
    host = unhurried_host(later)
    (reader,) = host.cells
    host.publish(Told(number=1))
    assert (len(reader.mailbox), len(later)) == (1, 1)
    later.pop()()
    assert host.wait_drained("reader", 5.0)
    host.publish(Told(number=2))
    host.publish(Called())
    assert host.wait_drained("reader", 5.0)
    assert reader.handled == 3
    host.stop()


def test_a_replay_waits_for_nobody_who_has_time() -> None:
    later: list[Callable[[], None]] = []
    host = unhurried_host(later, on_settled=lambda: None)
    host.publish(Told(number=1))
    assert later == []
    assert host.wait_drained("reader", 5.0)
    host.stop()
