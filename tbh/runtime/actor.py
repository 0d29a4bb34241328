"""What an actor is, and what it is given.

An actor is a plain class. It owns its state, learns of the world through messages and ports, and reads time,
chance and identity only from its :class:`Context`. Its constructor rebuilds the state from the store, so the
first start and every restart are the same thing.

    class Counter(Actor):
        sends = (Counted,)

        @receive
        def on_bar(self, bar: Bar) -> None:
            self.ctx.send(Counted(...))

``@receive`` marks a handler; the annotation of its one argument says the type it takes, exactly (no subclasses).
The types are the wiring: nobody addresses anybody.
"""

from __future__ import annotations

import inspect
import random
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from tbh.messages.base import Message, Timer

_F = TypeVar("_F", bound=Callable[..., None])
_MARK = "__tbh_receives__"


class WiringError(Exception):
    """The tree of actors cannot work as declared; the text lists every problem, one a line."""


class Log(Protocol):
    """A structured logger: an event's name and its fields."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class NullLog:
    """A log that keeps nothing."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


class Context(Protocol):
    """All that an actor has of the outside, besides its ports. Valid in its own handlers only."""

    @property
    def name(self) -> str: ...

    @property
    def incarnation(self) -> int: ...

    @property
    def rng(self) -> random.Random:
        """Chance, seeded from the host's seed, the actor's name and its incarnation."""

    @property
    def log(self) -> Log: ...

    def now(self) -> datetime:
        """Market time, aware UTC: the clock of bars, expiry and staleness. A replay moves it."""

    def monotonic(self) -> float:
        """Process time in seconds: the clock of leases, time-outs and back-off. Nothing moves it but time."""

    def send(self, message: Message) -> None:
        """To every actor that receives its type. ``WiringError`` when ``sends`` does not list the type."""

    def after(self, delay_s: float, timer: Timer) -> int:
        """Tell this actor ``timer`` once, ``delay_s`` of process time from now; a handle for ``cancel``."""

    def every(self, period_s: float, timer: Timer) -> int:
        """Tell this actor ``timer`` each ``period_s`` of process time; a handle for ``cancel``."""

    def cancel(self, handle: int) -> None:
        """Forget a timer; one that is gone already is no error."""

    def keep_asking(self, key: str, request: Message, *, every_s: float, until: datetime | None = None) -> None:
        """Send ``request`` now and again each ``every_s`` of process time, until ``answered(key)`` (or until market
        time passes ``until``). An open request under the same key is replaced. A lock-step replay waits for it."""

    def expect(self, key: str) -> None:
        """Open a request that must not be repeated (an order on its way): only ``answered`` closes it."""

    def answered(self, key: str) -> bool:
        """Close the request; False when none was open (a late or second answer)."""

    def asking(self, key: str) -> bool:
        """Whether the request is open."""

    def stash(self) -> None:
        """Set the message at hand aside; ``unstash`` brings all such messages back, in order. Survives a restart."""

    def unstash(self) -> None: ...

    def halt(self, reason: str, *, exit_code: int = 70) -> None:
        """Stop the whole bot by escalation (ARCHITECTURE §4)."""


class Actor:
    """Base class. ``sends`` lists every type that the actor may send, ``unhurried`` those that it receives and need not
    be woken for at once, although others must."""

    sends: ClassVar[tuple[type[Message], ...]] = ()
    unhurried: ClassVar[frozenset[type[Message]]] = frozenset()

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx

    def on_stop(self) -> None:
        """Last act of an ordered stop; runs in the actor's own thread, within its stop deadline."""

    def on_halt(self, reason: str, exit_code: int) -> None:
        """The bot halts, and will end with ``exit_code``: take no more risk. Facts and exits are still served."""


def receive(handler: _F) -> _F:
    """Mark a method as the handler of the message type that its argument is annotated with."""
    setattr(handler, _MARK, True)
    return handler


_RECEIVERS: dict[type[Actor], Mapping[type[Message], str]] = {}


def receivers(cls: type[Actor]) -> Mapping[type[Message], str]:
    """Message type -> name of the method that handles it. ``WiringError`` on a bad or doubled handler."""
    known = _RECEIVERS.get(cls)
    if known is not None:
        return known
    found: dict[type[Message], str] = {}
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if not getattr(member, _MARK, False):
            continue
        hints = typing.get_type_hints(member)
        hints.pop("return", None)
        types = list(hints.values())
        if len(types) != 1 or not (isinstance(types[0], type) and issubclass(types[0], Message)):
            raise WiringError(f"{cls.__name__}.{name}: a handler takes one argument annotated with a message type")
        if types[0] in found:
            raise WiringError(f"{cls.__name__}: {types[0].__name__} has two handlers, {found[types[0]]} and {name}")
        found[types[0]] = name
    _RECEIVERS[cls] = found
    return found
