"""What a campaign has to go through before its silence means anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tbh.domain.order import TABLE
from tbh.messages.orders import OrderStatus
from tbh.simulation.outcome import Coverage

FULL_SEEDS: Final = 20_000
"""The seeds of a full run, for which the floors below are meant; a shorter one has its share of them."""

TRANSITIONS_MIN: Final = 100
FAULTS_MIN: Final = 1_000
UNKNOWN_MIN: Final = 1_000
MESSAGES_MEAN_MIN: Final = 1_500
ORDERS_MEAN_MIN: Final = 20

_ROWS: Final = {(status, event.value): f"{status}>{to} on {event}" for (status, event), to in TABLE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Something that was covered ``count`` times, and should have been ``at_least``."""

    what: str
    count: int
    at_least: int


def row(before: OrderStatus, event: str, after: OrderStatus) -> str:
    """The word of a transition: that of the table's row, or of the pair itself where the table has none."""
    return _ROWS.get((before, event)) or f"{before}>{after} on {event}"


def transitions(coverage: Coverage) -> dict[str, int]:
    """Each row of the table, in its order, with how often it was taken; then what was taken and is no row."""
    counts = {word: coverage.transitions.get(word, 0) for word in _ROWS.values()}
    return counts | {word: count for word, count in sorted(coverage.transitions.items()) if word not in counts}


def faults(coverage: Coverage, kinds: Iterable[str]) -> dict[str, int]:
    """Each fault with how often it happened; then what happened and is none of ``kinds``."""
    counts = {kind: coverage.faults.get(kind, 0) for kind in kinds}
    return counts | {kind: count for kind, count in sorted(coverage.faults.items()) if kind not in counts}


def shortfalls(coverage: Coverage, kinds: Iterable[str], *, seeds: int) -> list[Shortfall]:
    """What ``seeds`` seeds should have covered more often."""
    return [
        *_short(transitions(coverage), TRANSITIONS_MIN, seeds),
        *_short(faults(coverage, kinds), FAULTS_MIN, seeds),
        *_short(
            {"unknown and found": coverage.unknown_found, "unknown and absent": coverage.unknown_absent},
            UNKNOWN_MIN,
            seeds,
        ),
    ]


def _short(counts: Mapping[str, int], at_least: int, seeds: int) -> list[Shortfall]:
    due = at_least * seeds // FULL_SEEDS
    return [Shortfall(what=what, count=count, at_least=due) for what, count in counts.items() if count < due]
