"""A scenario: which faults strike and when, said by hand where a seed would draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """When one kind of fault strikes, counted in its own opportunities, of which the first is 0.

    ``at`` names the opportunities by number. ``rate`` is the share of all others, drawn from the seed.
    """

    at: tuple[int, ...] = ()
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A seed with this scenario has the faults of ``strikes`` (by the fault's word) and no others; the market, the
    trader and the moments that are left to chance are still the seed's.

    ``lessons`` are the ids of what went wrong elsewhere, ``title`` says in one line what happens and what must come of
    it. ``settings`` fix what the seed would draw otherwise, by the world's own words.
    """

    name: str
    lessons: tuple[str, ...]
    title: str
    strikes: Mapping[str, Strike] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
