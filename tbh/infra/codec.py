"""Values of ``tbh.messages`` as JSON text and back, driven by their type hints.

One form per type, and the same value always gives the same text:

===================  ====================================================================
Decimal              plain text without exponent (``"0.00000001"``), finite, at most 10^±400
datetime             ISO-8601 in UTC ending in ``Z``; a naive one is refused
enum                 its value
tuple                array (``tuple[X, ...]`` or of fixed length)
frozen dataclass     object with every field, in the order of the class
str int float bool   themselves; a float must be finite
``X | None``         null or X
===================  ====================================================================

Reading is strict, since what is read is acted upon: a key that the class does not have, a wrong type or a missing
field raises ``CodecError``. A missing field that has a default takes it, so that a later version may add fields
without rewriting the rows of an earlier one.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_Step = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXPONENT_MAX = 400
_PLAIN_NUMBER = re.compile(rf"-?[0-9]{{1,{_EXPONENT_MAX + 1}}}(\.[0-9]{{1,{_EXPONENT_MAX}}})?")
_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class CodecError(ValueError):
    """A value that has no text, or a text that is no such value; the message names the field."""


def encode(value: Any) -> str:
    """The JSON text (ASCII) of a frozen dataclass of ``tbh.messages``; ``CodecError`` if a field breaks its type."""
    return _dump(to_json(value))


def decode(cls: type[_T], text: str | bytes) -> _T:
    """The value of class ``cls`` that ``text`` holds; ``CodecError`` for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{cls.__name__}: not JSON: {error}") from error
    return from_json(cls, data)


def to_json(value: Any) -> dict[str, Any]:
    """``value`` as a dict of JSON types, for a payload that holds more than one value."""
    made: dict[str, Any] = _writer(cast(Any, type(value)))(value)
    return made


def from_json(cls: type[_T], data: Any) -> _T:
    """The value of class ``cls`` from what ``to_json`` gave."""
    made: _T = _reader(cast(Any, cls))(data)
    return made


def epoch_us(at: datetime) -> int:
    """Microseconds since 1970 UTC, exact."""
    if at.tzinfo is None:
        raise CodecError(f"a naive datetime: {at!r}")
    return (at - _EPOCH) // _MICROSECOND


def json_text(data: Any) -> str:
    """Compact ASCII JSON of JSON types; ``CodecError`` for NaN, Decimal, dates and other strangers."""
    try:
        return _dump(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"not JSON types: {error}") from error


# The rest builds one function per type hint, once, so that a value costs a walk over ready-made steps.


def _wrong(expected: str, value: Any) -> CodecError:
    return CodecError(f"expected {expected}, not {type(value).__name__} {value!r:.80}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong("str", value)


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise _wrong("bool", value)


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong("int", value)


def _float(value: Any) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise _wrong("a finite float", value) from None
        if math.isfinite(number):
            return number
    raise _wrong("a finite float", value)


def _write_decimal(value: Any) -> str:
    if isinstance(value, Decimal) and value.is_finite():
        text = str(value)
        if "E" not in text and len(text) <= _EXPONENT_MAX:
            return text
        text = format(value, "f") if abs(value.as_tuple().exponent) <= _EXPONENT_MAX else ""  # type: ignore[arg-type]  # finite: an int
        if _PLAIN_NUMBER.fullmatch(text):
            return text
    raise _wrong("a finite Decimal of ordinary size", value)


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value):
        return Decimal(value)
    raise _wrong("a plain number as text", value)


def _write_datetime(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc.isoformat()[:-6] + "Z"
    raise _wrong("an aware datetime", value)


def _read_datetime(value: Any) -> datetime:
    if isinstance(value, str) and value.endswith("Z"):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise _wrong("an ISO-8601 time ending in Z", value)


_WRITE_LEAF: dict[Any, _Step] = {
    str: _text, bool: _bool, int: _int, float: _float, Decimal: _write_decimal, datetime: _write_datetime,
}  # fmt: skip
_READ_LEAF: dict[Any, _Step] = {**_WRITE_LEAF, Decimal: _read_decimal, datetime: _read_datetime}


@cache
def _writer(hint: Any) -> _Step:
    return _step(hint, _WRITE_LEAF, _writer, _write_enum, _write_class, list)


@cache
def _reader(hint: Any) -> _Step:
    return _step(hint, _READ_LEAF, _reader, _read_enum, _read_class, tuple)


def _step(
    hint: Any,
    leaves: dict[Any, _Step],
    again: Callable[[Any], _Step],
    of_enum: Callable[[Any], _Step],
    of_class: Callable[[Any], _Step],
    sequence: type[list[Any]] | type[tuple[Any, ...]],
) -> _Step:
    if hint in leaves:
        return leaves[hint]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not types.NoneType]
        if len(inner) == 1 and len(get_args(hint)) == 2:
            return _optional(again(inner[0]))
    elif origin is tuple:
        return _sequence(tuple(get_args(hint)), again, sequence)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        return of_enum(hint)
    elif isinstance(hint, type) and is_dataclass(hint):
        return of_class(hint)
    raise CodecError(f"no text form for the type {hint!r}")


def _optional(inner: _Step) -> _Step:
    return lambda value: None if value is None else inner(value)


def _sequence(
    args: tuple[Any, ...], again: Callable[[Any], _Step], made: type[list[Any]] | type[tuple[Any, ...]]
) -> _Step:
    if len(args) == 2 and args[1] is Ellipsis:
        item = again(args[0])

        def of_any_length(value: Any) -> Any:
            if not isinstance(value, list | tuple):
                raise _wrong("an array", value)
            return made([item(part) for part in value])

        return of_any_length
    items = tuple(again(arg) for arg in args)

    def of_fixed_length(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise _wrong(f"an array of {len(items)}", value)
        return made([item(part) for item, part in zip(items, value, strict=True)])

    return of_fixed_length


def _write_enum(cls: type[Enum]) -> _Step:
    def write(value: Any) -> Any:
        if isinstance(value, cls):
            return value.value
        raise _wrong(cls.__name__, value)

    return write


def _read_enum(cls: type[Enum]) -> _Step:
    members = {member.value: member for member in cls}

    def read(value: Any) -> Enum:
        if isinstance(value, str | int) and value in members:
            return members[value]
        raise _wrong(f"one of {', '.join(map(str, members))}", value)

    return read


def _steps(cls: type[Any], of: Callable[[Any], _Step]) -> list[tuple[Field[Any], _Step]]:
    hints = get_type_hints(cls)
    return [(field, of(hints[field.name])) for field in fields(cls)]


def _write_class(cls: type[Any]) -> _Step:
    steps = [(field.name, step) for field, step in _steps(cls, _writer)]
    names = [name for name, _ in steps]
    # attrgetter gives a bare value for one name and a tuple for more; asking for the first twice keeps it a tuple.
    values_of = attrgetter(names[0], *names) if names else lambda _: ((),)

    def write(value: Any) -> dict[str, Any]:
        if type(value) is not cls:
            raise _wrong(cls.__name__, value)
        name = ""
        try:
            made = {}
            for (name, step), part in zip(steps, values_of(value)[1:], strict=True):
                made[name] = step(part)
        except CodecError as error:
            raise CodecError(f"{cls.__name__}.{name}: {error}") from error
        return made

    return write


def _read_class(cls: type[Any]) -> _Step:
    steps = [
        (field.name, step, field.default is MISSING and field.default_factory is MISSING)
        for field, step in _steps(cls, _reader)
    ]
    known = frozenset(name for name, _, _ in steps)

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            raise _wrong(f"an object ({cls.__name__})", data)
        if not known.issuperset(data):
            raise CodecError(f"{cls.__name__}: unknown field {min(set(data) - known)!r:.80}")
        made = {}
        name = ""
        try:
            for name, step, required in steps:
                if name in data:
                    made[name] = step(data[name])
                elif required:
                    raise CodecError("missing")
        except CodecError as error:
            raise CodecError(f"{cls.__name__}.{name}: {error}") from error
        return cls(**made)

    return read
