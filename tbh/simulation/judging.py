"""What an invariant is: a name, the promise in words, the kind of step that it judges, and the judgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from tbh.simulation.history import History

_StepT = TypeVar("_StepT")

Judge = Callable[[History, Any], str | None]
"""(what has happened, the step) -> how the promise is broken, or None."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """``promise`` is one sentence; ``on`` the type of the steps that are judged."""

    name: str
    promise: str
    on: type
    judge: Judge

    def __call__(self, past: History, step: Any) -> str | None:
        return self.judge(past, step)


def invariant(judge: Callable[[History, _StepT], str | None]) -> Invariant:
    """An invariant of a function: its name and docstring, and the type that its second argument is annotated with."""
    hints = {name: kind for name, kind in get_type_hints(judge).items() if name != "return"}
    on = list(hints.values())[1]
    promise = " ".join((judge.__doc__ or "").split("\n\n")[0].split())
    return Invariant(name=judge.__name__, promise=promise, on=on, judge=judge)
