"""What a message is.

Actors share nothing; all they ever exchange are values of these classes: frozen, slotted, keyword-only
dataclasses whose fields are immutable themselves (str, int, bool, Decimal, aware UTC datetime, enum,
tuple, another frozen value). Two kinds travel between actors and one stays at home:

- a *fact* says what happened, in the past tense. It goes to every actor that receives its type, and it
  never expires: what happened stays true.
- a *command* asks for something, in the imperative. Exactly one actor receives its type. It may carry
  ``expires_at`` (market time); whoever executes it refuses it afterwards.
- a *timer* is what an actor tells itself later. It never leaves its actor and takes no part in the wiring.

The kernel adds the envelope (sequence, sender, receiver, cause), so a message carries no address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T", bound=type)

_frozen: Callable[[Any], Any] = dataclass(frozen=True, slots=True, kw_only=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(cls: _T) -> _T:
    """Class decorator: a frozen, slotted, keyword-only dataclass."""
    made: _T = _frozen(cls)
    return made


@message
class Value:
    """An immutable part of a message (or a row of the store); never sent by itself."""


@message
class Message:
    """Anything that may stand in a mailbox."""


@message
class Fact(Message):
    """Something that happened. Past tense; never expires; one receiver or more."""


@message
class Command(Message):
    """Something asked for. Imperative; one receiver; refused by it after ``expires_at`` (market time)."""

    expires_at: datetime | None = None


@message
class Timer(Message):
    """What an actor sends to itself later (``ctx.after``, ``ctx.every``); dies with its incarnation."""
