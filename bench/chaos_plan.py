"""How each life of the campaign's bot ends: drawn from a seed, so that a leg can be run again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BY_ORDER = ("before_effect", "after_effect", "before_reply")

_BURSTS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"fault": "drop_reply", "p": 0.3, "methods": ["POST", "DELETE"]},),
    ({"fault": "drop_request", "p": 0.3, "methods": ["POST", "DELETE"]},),
    ({"fault": "error_after", "p": 0.2}, {"fault": "error_before", "p": 0.2}),
    ({"fault": "timeout_after", "p": 0.3, "methods": ["POST"]}, {"fault": "html", "p": 0.1}),
    (
        {"fault": "delay", "p": 0.3, "ms": 700, "methods": ["POST", "DELETE"]},
        {"fault": "delay_reply", "p": 0.2, "ms": 300},
    ),
    ({"fault": "not_found", "p": 0.5, "ms": 800}, {"fault": "drop_reply", "p": 0.3, "methods": ["POST"]}),
    ({"fault": "stale", "p": 0.3}, {"fault": "cut", "p": 0.1}),
    ({"fault": "rate_limit", "p": 0.05}, {"fault": "empty", "p": 0.1}),
    ({"fault": "thin", "p": 0.6},),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a life ends.

    ``hook`` is the point of an order's way at which the exchange kills (None: the campaign does, ``after_s`` later
    than ``orders`` orders, or, with no order to wait for, after the start). ``effect`` False: the order that kills
    is itself lost. ``moved``: the life begins with an empty state directory. ``database_s``: PostgreSQL is killed in
    mid-life and is away for so long. ``burst``: the faults of its requests, from its start on if ``early``.
    """

    hook: str | None
    effect: bool
    orders: int
    after_s: float
    moved: bool
    database_s: float | None
    burst: tuple[dict[str, Any], ...]
    early: bool

    def words(self) -> str:
        """For the progress line."""
        told = [self.hook or ("at random" if self.orders else "during its start")]
        told += ["the order lost"] if self.hook and not self.effect else []
        told += ["on another machine"] if self.moved else []
        told += ["database killed"] if self.database_s is not None else []
        told += [f"faults {'+'.join(rule['fault'] for rule in self.burst)}"] if self.burst else []
        return ", ".join(told)


def endings(seed: int, kills: int, *, brisk: bool = False) -> Iterator[Ending]:
    """One for each kill: every second one is fired by an order, in turn at each point of its way. ``brisk``: the kills
    come sooner, the database and faults in the requests are left alone."""
    rng = random.Random(seed)
    for number in range(kills):
        hook = BY_ORDER[number // 2 % len(BY_ORDER)] if number % 2 == 0 else None
        at_start = hook is None and rng.random() < 0.2
        yield Ending(
            hook=hook,
            effect=hook != "before_effect" or rng.random() < 0.5,
            orders=0 if at_start else rng.randint(1, 3) if brisk else rng.randint(3, 5),
            after_s=rng.uniform(0.05, 0.3 if brisk else 1.5),
            moved=number > 0 and rng.random() < 0.1,
            database_s=rng.uniform(0.3, 3.0) if number % 10 == 5 and not brisk else None,
            burst=rng.choice(_BURSTS) if rng.random() < 0.5 and not brisk else (),
            early=rng.random() < 0.3,
        )
