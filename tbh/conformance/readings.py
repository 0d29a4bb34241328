"""How a published column is read as something of the catalogue, and how closely it must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import NAMES, SOURCE

Settings = Mapping[str, Any]


class Unsupported(Exception):
    """The catalogue has nothing for a case; the text says what is missing."""


class Bench:
    """The series of one case, and whatever of the catalogue is asked for over them."""

    def __init__(self, series: Mapping[str, FloatArray]) -> None:
        self.series = series

    def __getattr__(self, name: str) -> FloatArray:
        try:
            return self.series[name]
        except KeyError:
            raise Unsupported(f"the input has no {name}") from None

    def __call__(self, wanted: str, *, inputs: tuple[FloatArray, ...] | None = None, **params: Any) -> FloatArray:
        """``"macd.signal"`` with its parameters, over the close or the series it reads, or over ``inputs``."""
        name, _, output = wanted.partition(".")
        entry = NAMES[name]
        given: dict[str, int | Decimal] = {}
        for parameter in entry.parameters:
            if parameter.name in params:
                value = params.pop(parameter.name)
                number = value if parameter.whole else Decimal(str(value))
                problem = parameter.problem(number)
                if problem is not None:
                    raise Unsupported(f"{name}.{parameter.name} {problem}")
                given[parameter.name] = number
        if params:
            raise Unsupported(f"{name} has no parameter {', '.join(params)}")
        resolved = entry.resolve(given)
        if entry.rule is not None and (broken := entry.rule(resolved)) is not None:
            raise Unsupported(f"{name}: {broken}")
        if inputs is None:
            inputs = tuple(getattr(self, "close" if each == SOURCE else each) for each in entry.inputs)
        made = entry.compute(tuple(np.ascontiguousarray(each) for each in inputs), resolved)
        return made[entry.outputs.index(output or "value")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One published column. ``of`` computes it from the case's series.

    ``form``: ``differences`` compares what the values have gained since the first common row. ``ahead``: the family
    draws a value this many rows before the row on which it is known. ``tail``: only the last rows are compared, as the
    family's averages start otherwise; ``within`` then replaces the case's absolute tolerance. ``note`` says why.
    """

    of: Callable[[Bench], FloatArray]
    form: Literal["values", "differences"] = "values"
    ahead: int = 0
    tail: int | None = None
    within: float | None = None
    note: str = ""


Columns = Mapping[str, Reading]


def reading(
    wanted: str,
    *,
    form: Literal["values", "differences"] = "values",
    ahead: int = 0,
    tail: int | None = None,
    within: float | None = None,
    note: str = "",
    **params: Any,
) -> Reading:
    """The column is ``wanted`` (``"macd.signal"``) with its parameters."""
    return Reading(
        of=lambda bench: bench(wanted, **params), form=form, ahead=ahead, tail=tail, within=within, note=note
    )


SEED = "another start: compared on the last 100 rows"


def late(wanted: str, **params: Any) -> Reading:
    """The column is ``wanted``, once the start of both is forgotten."""
    return reading(wanted, tail=100, note=SEED, **params)


def by_words(columns: Sequence[str], words: Mapping[str, Reading]) -> Columns:
    """Each column is the reading of the first word that is part of its name; none for a name without any."""
    found: dict[str, Reading] = {}
    for column in columns:
        for word, how in words.items():
            if word in column.lower():
                found[column] = how
                break
    return found


def made(of: Callable[[Bench], FloatArray], note: str = "", **more: Any) -> Reading:
    """The column is simple arithmetic on what the catalogue has."""
    return Reading(of=of, note=note, **more)


def disagreement(
    expected: FloatArray, actual: FloatArray, how: Reading, absolute: float, relative: float
) -> str | None:
    """Where ``actual`` is not ``expected``, in one line; None where they agree.

    A null of the family is not compared. A null of ours is, unless it is one of the leading nulls: those may be more
    than the family's, up to half of the rows that have a value.
    """
    if how.ahead:
        actual = np.concatenate([actual[how.ahead :], np.full(how.ahead, np.nan)])
    known, ours = ~np.isnan(expected), ~np.isnan(actual)
    both = np.flatnonzero(known & ours)
    if not len(both) or 2 * len(both) < int(known.sum()):
        return f"only {len(both)} of {int(known.sum())} values can be compared"
    if how.tail is not None:
        both = both[-how.tail :]
    first, end = int(both[0]), len(expected) - how.ahead
    missing = np.flatnonzero(known[first:end] & ~ours[first:end])
    if len(missing):
        row = first + int(missing[0])
        return f"row {row} is null, not {float(expected[row]):g}"
    wanted, got = expected[both], actual[both]
    if how.form == "differences":
        wanted, got = wanted - wanted[0], got - got[0]
    away = np.abs(wanted - got)
    allowed = np.maximum(absolute if how.within is None else how.within, relative * np.abs(wanted))
    if (away <= allowed).all():
        return None
    worst = int(np.argmax(away - allowed))
    return (
        f"{int((away > allowed).sum())} of {len(both)} values differ, the most on row {int(both[worst])}: "
        f"{float(got[worst]):.10g}, not {float(wanted[worst]):.10g}"
    )
