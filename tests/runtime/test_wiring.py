"""The types are the wiring, and it is proven before anything runs."""

from __future__ import annotations

import pytest

from tbh.messages.base import Command, Fact, Message, Timer, message
from tbh.messages.system import Halt, Restarted
from tbh.runtime.actor import Actor, WiringError, receive, receivers
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.wiring import check_wiring, topology


@message
class Happened(Fact):
    pass


@message
class Unheard(Fact):
    pass


@message
class Unsaid(Fact):
    pass


@message
class Do(Command):
    pass


@message
class Tick(Timer):
    pass


@message
class Loose(Message):
    pass


class Source(Actor):
    sends = (Happened, Do)


class Taker(Actor):
    @receive
    def on_happened(self, fact: Happened) -> None: ...

    @receive
    def on_do(self, command: Do) -> None: ...

    @receive
    def on_tick(self, tick: Tick) -> None: ...

    @receive
    def on_restarted(self, fact: Restarted) -> None: ...


class Wrong(Actor):
    sends = (Unheard, Tick, Halt, Loose)

    @receive
    def on_do(self, command: Do) -> None: ...

    @receive
    def on_unsaid(self, fact: Unsaid) -> None: ...


def spec(name: str, actor: type[Actor]) -> ChildSpec:
    return ChildSpec(name=name, actor=actor, factory=actor)


def test_a_message_goes_to_every_actor_that_receives_its_type_in_start_order() -> None:
    routes = check_wiring([spec("b", Source), spec("taker", Taker)])
    assert routes[Happened] == ("taker",)
    assert routes[Do] == ("taker",)
    assert Tick not in routes


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(WiringError) as told:
        check_wiring([spec("source", Source), spec("taker", Taker), spec("wrong", Wrong), spec("wrong", Taker)])
    lines = str(told.value).splitlines()
    for start in (
        "two actors are called 'wrong'",
        "Do: a command has one receiver, this one has 3",
        "Unheard: sent by wrong, received by nobody",
        "Unsaid: received by wrong, sent by nobody",
        "Tick: sent by wrong, but it never travels between actors",
        "Halt: sent by wrong, but it never travels between actors",
        "Loose: neither a fact nor a command",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert len(lines) == 7


def test_what_the_composer_sends_counts_as_sent() -> None:
    class Lonely(Actor):
        @receive
        def on_unsaid(self, fact: Unsaid) -> None: ...

    assert check_wiring([spec("lonely", Lonely)], external=[Unsaid]) == {Unsaid: ("lonely",)}


def test_a_command_that_nobody_takes_is_a_problem() -> None:
    with pytest.raises(WiringError, match=r"Do: a command has one receiver, this one has 0"):
        check_wiring([spec("source", Source)])


def test_topology_draws_commands_solid_and_facts_dotted() -> None:
    assert topology([spec("source", Source), spec("taker", Taker)]).splitlines() == [
        "flowchart LR",
        "  supervisor([supervisor])",
        "  supervisor --- source",
        "  supervisor --- taker",
        '  source -.->|"Happened"| taker',
        '  source -->|"Do"| taker',
    ]


def test_a_handler_without_a_message_type_is_refused() -> None:
    class Vague(Actor):
        @receive
        def on_anything(self, thing: object) -> None: ...

    with pytest.raises(WiringError, match=r"Vague\.on_anything: a handler takes one argument"):
        receivers(Vague)


def test_two_handlers_of_one_type_are_refused() -> None:
    class Double(Actor):
        @receive
        def a(self, fact: Happened) -> None: ...

        @receive
        def b(self, fact: Happened) -> None: ...

    with pytest.raises(WiringError, match="Happened has two handlers, a and b"):
        receivers(Double)
