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
from dataclasses import MISSING, Field, dataclass, fields
from dataclasses import replace as _replace_any
from datetime import datetime
from typing import Any, ClassVar, TypeVar, dataclass_transform

_T = TypeVar("_T", bound=type)
_V = TypeVar("_V")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: _T) -> _T:
    """Class decorator: a frozen, slotted, keyword-only dataclass."""
    own = vars(cls)
    checks = "__post_init__" in own
    made_by: Callable[[Any], Any] = dataclass(frozen=True, slots=True, kw_only=True, init=checks, eq=False, repr=False)
    made: _T = made_by(cls)
    for name, body in _ON_DEMAND.items():
        if name not in own:
            setattr(made, name, _on_demand(made, name, body))
    if not checks:
        made.__init__ = _quick_init(made)  # type: ignore[misc]
        _QUICK.add(made)
    return made


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(cls: _T) -> _T:
    """The same, for what actors send."""
    return frozen(cls)


def _equal(given: list[Field[Any]]) -> str:
    ours, theirs = ("".join(f"{who}.{field.name}," for field in given if field.compare) for who in ("self", "other"))
    same = "other.__class__ is self.__class__"
    return f"(self, other):\n return ({ours}) == ({theirs}) if {same} else NotImplemented\n"


def _hashed(given: list[Field[Any]]) -> str:
    parts = "".join(f"self.{field.name}," for field in given if (field.compare if field.hash is None else field.hash))
    return f"(self):\n return hash(({parts}))\n"


def _shown(given: list[Field[Any]]) -> str:
    parts = ", ".join(f"{field.name}={{self.{field.name}!r}}" for field in given if field.repr)
    return f"(self):\n return f'{{self.__class__.__qualname__}}({parts})'\n"


_ON_DEMAND: dict[str, Callable[[list[Field[Any]]], str]] = {"__eq__": _equal, "__hash__": _hashed, "__repr__": _shown}


def _on_demand(made: type, name: str, body: Callable[[list[Field[Any]]], str]) -> Callable[..., Any]:
    """The method that the dataclass would have, written when it is first called: most types are never compared, hashed
    or shown, and compiling these three took a third of what a type costs a start."""

    def first(self: Any, *others: Any) -> Any:
        written: dict[str, Callable[..., Any]] = {}
        exec(f"def {name}{body(list(fields(made)))}", written)  # noqa: S102  # from field names
        method = written[name]
        method.__qualname__ = f"{made.__qualname__}.{name}"
        setattr(made, name, method)
        return method(self, *others)

    return first


_QUICK: set[type] = set()
"""The types that may be copied slot by slot."""

_COPIERS: dict[type, tuple[Callable[[Any], Any], dict[str, Callable[[Any, Any], None]]]] = {}
"""Of each type that was copied so far: how to copy one, and the setters of its slots."""


def replace(value: _V, /, **changes: Any) -> _V:
    """``dataclasses.replace`` for messages and values, at a third of its price: an order is replaced at each of its
    transitions. ``TypeError`` for a field that there is none of."""
    kind = type(value)
    known = _COPIERS.get(kind)
    if known is None:
        if kind not in _QUICK:
            return _replace_any(value, **changes)  # type: ignore[type-var]  # it has a __post_init__, or is no message
        known = _COPIERS[kind] = _quick_copy(kind)
    copied, setters = known
    made: _V = copied(value)
    for name, change in changes.items():
        setter = setters.get(name)
        if setter is None:
            raise TypeError(f"{type(value).__name__} has no field {name!r}")
        setter(made, change)
    return made


def _quick_copy(made: type) -> tuple[Callable[[Any], Any], dict[str, Callable[[Any, Any], None]]]:
    setters: dict[str, Callable[[Any, Any], None]] = {
        field.name: getattr(made, field.name).__set__ for field in fields(made)
    }
    given: dict[str, Any] = {"_new": object.__new__, "_made": made}
    given |= {f"_set_{name}": setter for name, setter in setters.items()}
    body = "".join(f" _set_{name}(new, value.{name})\n" for name in setters)
    exec(f"def copied(value):\n new = _new(_made)\n{body} return new\n", given)  # noqa: S102  # from field names
    return given["copied"], setters


def _quick_init(made: type) -> Callable[..., None]:
    """The constructor that the dataclass has, but that it sets each slot by its own descriptor instead of looking up
    ``object.__setattr__``, by name, for each: a quarter less, for what is made some ten times an order."""
    given: dict[str, Any] = {}
    arguments, body = [], []
    for field in fields(made):
        if not field.init or field.default_factory is not MISSING:
            raise TypeError(f"{made.__name__}.{field.name}: a message's field is an argument, its default a value")
        given[f"_set_{field.name}"] = getattr(made, field.name).__set__
        body.append(f" _set_{field.name}(self, {field.name})")
        if field.default is MISSING:
            arguments.append(field.name)
        else:
            given[f"_else_{field.name}"] = field.default
            arguments.append(f"{field.name}=_else_{field.name}")
    after_self = f", *, {', '.join(arguments)}" if arguments else ""
    exec(f"def __init__(self{after_self}):\n" + "\n".join(body or [" pass"]), given)  # noqa: S102  # from field names
    init: Callable[..., None] = given["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    return init


@message
class Value:
    """An immutable part of a message (or a row of the store); never sent by itself."""


@message
class Message:
    """Anything that may stand in a mailbox. ``unhurried``: nobody acts on it before something else comes, so its
    receivers need not be woken at once."""

    unhurried: ClassVar[bool] = False


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
