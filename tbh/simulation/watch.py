"""The observer of a seed: holds every promise against every step, and counts what was covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tbh.domain.order import OrderEvent
from tbh.messages.orders import OrderStatus
from tbh.simulation import coverage, steps
from tbh.simulation.history import FOLDS, Fold, History
from tbh.simulation.invariants import INVARIANTS, Judge
from tbh.simulation.outcome import Coverage, Violation
from tbh.simulation.telling import told

VIOLATIONS_MAX: Final = 3
"""Violations kept per invariant and seed: one fault breaks a promise again and again."""

_PROVES: Final = frozenset(
    event.value
    for event in (
        OrderEvent.ACCEPTED,
        OrderEvent.FILL,
        OrderEvent.LAST_FILL,
        OrderEvent.CANCELED,
        OrderEvent.EXPIRED,
    )
)

_Plan = tuple[tuple[tuple[str, Judge], ...], Fold | None]

_PLANS: Final[dict[type, _Plan]] = {
    kind: (tuple((each.name, each.judge) for each in INVARIANTS if each.on is kind), FOLDS.get(kind))
    for kind in {*FOLDS, *(each.on for each in INVARIANTS)}
}
"""Of each kind of step, who judges it, and how it becomes history."""
_NO_PLAN: Final[_Plan] = ((), None)


class Watch:
    """``now_ns`` is the virtual clock; ``trace`` is told of each step and violation, (what, detail)."""

    def __init__(
        self,
        seed: int,
        terms: steps.Terms,
        *,
        now_ns: Callable[[], int],
        trace: Callable[[str, str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.history = History(terms)
        self.violations: list[Violation] = []
        self._coverage = Coverage()
        self._judged: Counter[type] = Counter()
        self._now_ns = now_ns
        self._trace = trace
        self._broken: Counter[str] = Counter()

    @property
    def coverage(self) -> Coverage:
        """What was covered so far."""
        for kind, times in self._judged.items():
            for name, _ in _PLANS[kind][0]:
                self._coverage.checks[name] += times
        self._judged.clear()
        return self._coverage

    def step(self, step: steps.Step) -> None:
        """Judge what is about to be true against what was so far; then it is."""
        history = self.history
        history.now_ns = self._now_ns()
        if self._trace is not None:
            self._trace(type(step).__name__, told(step))
        kind = type(step)
        judges, fold = _PLANS.get(kind, _NO_PLAN)
        if judges:
            self._judged[kind] += 1
            for name, judge in judges:
                detail = judge(history, step)
                if detail is not None:
                    self._violated(name, detail)
        if kind is steps.Transition:
            self._count_transition(step)
        elif kind is steps.FaultHappened:
            self._coverage.faults[step.kind] += 1  # type: ignore[union-attr]
        if fold is not None:
            fold(history, step)

    def unrest(self, rest: steps.AtRest) -> str | None:
        """What would be broken if this were the end, the first of it; nothing is recorded."""
        self.history.now_ns = self._now_ns()
        for name, judge in _PLANS[steps.AtRest][0]:
            detail = judge(self.history, rest)
            if detail is not None:
                return f"{name}: {detail}"
        return None

    def _violated(self, name: str, detail: str) -> None:
        self._broken[name] += 1
        if self._trace is not None:
            self._trace("VIOLATION", f"{name}: {detail}")
        if self._broken[name] <= VIOLATIONS_MAX:
            at_ns = self.history.now_ns
            self.violations.append(Violation(seed=self.seed, invariant=name, detail=detail, at_ns=at_ns))

    def _count_transition(self, step: Any) -> None:
        before: OrderStatus = step.before.status
        after: OrderStatus = before if step.after is None else step.after.status
        self._coverage.transitions[coverage.row(before, step.event, after)] += 1
        if before is OrderStatus.UNKNOWN and after is not before:
            if after is OrderStatus.ABSENT:
                self._coverage.unknown_absent += 1
            elif step.event in _PROVES:
                self._coverage.unknown_found += 1
