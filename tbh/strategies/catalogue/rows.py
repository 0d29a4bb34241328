"""Numbers of rows as expressions of parameters: what is computed is what the documents print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Params = Mapping[str, int | float]

_Term = tuple[str, Callable[[Params], int], int]


@dataclass(frozen=True, slots=True)
class Rows:
    """A sum of terms with whole coefficients, and a constant. ``rows(params)`` is its value, ``str(rows)`` its text."""

    terms: tuple[_Term, ...] = ()
    constant: int = 0

    def __call__(self, params: Params) -> int:
        return self.constant + sum(coefficient * value(params) for _, value, coefficient in self.terms)

    def __add__(self, other: Rows | int) -> Rows:
        added = other if isinstance(other, Rows) else Rows((), other)
        terms = {text: (text, value, coefficient) for text, value, coefficient in self.terms}
        for text, value, coefficient in added.terms:
            before = terms[text][2] if text in terms else 0
            terms[text] = (text, value, before + coefficient)
        return Rows(tuple(term for term in terms.values() if term[2]), self.constant + added.constant)

    def __sub__(self, other: Rows | int) -> Rows:
        return self + other * -1

    def __mul__(self, factor: int) -> Rows:
        terms = tuple((text, value, coefficient * factor) for text, value, coefficient in self.terms if factor)
        return Rows(terms, self.constant * factor)

    __rmul__ = __mul__

    def __str__(self) -> str:
        parts = []
        for text, _, coefficient in self.terms:
            size = text if abs(coefficient) == 1 else f"{abs(coefficient)}·{text}"
            parts.append(("− " if coefficient < 0 else "+ ") + size)
        if self.constant or not parts:
            parts.append(("− " if self.constant < 0 else "+ ") + str(abs(self.constant)))
        return " ".join(parts).removeprefix("+ ")


def parameter_rows(name: str) -> Rows:
    return Rows(((name, lambda params: int(params[name]), 1),))


def fixed(count: int) -> Rows:
    return Rows((), count)


def largest(*rows: Rows) -> Rows:
    text = f"max({', '.join(str(each) for each in rows)})"
    return Rows(((text, lambda params: max(each(params) for each in rows), 1),))


def derived(text: str, value: Callable[[Params], int]) -> Rows:
    """Rows that no sum of parameters says: ``text`` for the documents, ``value`` for the count."""
    return Rows(((text, value, 1),))


PERIOD = parameter_rows("period")
FAST = parameter_rows("fast")
SLOW = parameter_rows("slow")
SIGNAL = parameter_rows("signal")
NONE = fixed(0)
