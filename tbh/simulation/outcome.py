"""What a simulated seed came to: its size, what it covered, and every promise that was broken in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that did not hold. ``detail`` is one line for people, ``at_ns`` the virtual instant."""

    seed: int
    invariant: str
    detail: str
    at_ns: int


@dataclass(slots=True)
class Coverage:
    """What the seeds went through, each counted as often as it happened.

    ``transitions`` by "from>to on event", ``faults`` by the fault's word, ``checks`` by the invariant's name, and
    ``other`` by a word of the world's own (exit codes, ways of a start). ``unknown_found`` and ``unknown_absent``
    count the orders in doubt that evidence showed to exist, and not to exist.
    """

    transitions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    unknown_found: int = 0
    unknown_absent: int = 0

    def add(self, more: Coverage) -> None:
        """Count what ``more`` counted as well."""
        for name in ("transitions", "faults", "checks", "other"):
            counts: Counter[str] = getattr(self, name)
            counts.update(getattr(more, name))
        self.unknown_found += more.unknown_found
        self.unknown_absent += more.unknown_absent


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One seed. ``messages`` counts deliveries, ``orders`` the orders of ours that reached the exchange, ``digest``
    is equal if and only if two runs were the same, ``virtual_s`` is how long it lasted in its own time."""

    seed: int
    messages: int
    orders: int
    digest: str
    virtual_s: float
    boots: int
    violations: list[Violation] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
