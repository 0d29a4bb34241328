"""The kernel's own words: life, death and restart of actors."""

from __future__ import annotations

from tbh.messages.base import Fact, Message, message


@message
class Restarted(Fact):
    """``actor`` runs again with state rebuilt; ``incarnation`` counts from 0."""

    actor: str
    incarnation: int
    reason: str


@message
class DeadLettered(Fact):
    """A message was set aside: its handler failed, it had expired, or nobody was left to take it.

    ``payload`` is its text (secrets never travel in messages). It is never delivered again by itself.
    """

    actor: str
    seq: int
    message_type: str
    payload: str
    reason: str


@message
class ActorHung(Fact):
    """``actor`` has been at one message for ``for_s`` seconds, past its deadline."""

    actor: str
    message_type: str
    for_s: float


@message
class Urgent(Message):
    """Kernel orders that overtake everything else in a mailbox."""


@message
class Stop(Urgent):
    """Finish: run ``on_stop`` and take nothing more."""


@message
class Halt(Urgent):
    """Stop everything that increases risk; ``on_halt`` runs, the actor lives on. The process is to end with
    ``exit_code``."""

    reason: str
    exit_code: int = 70


@message
class Resume(Urgent):
    """The back-off is over: build the next incarnation."""

    incarnation: int
