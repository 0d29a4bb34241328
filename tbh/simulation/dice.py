"""Which faults a seed has to live with, and whether one strikes now."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tbh.simulation.faults import RULES, FaultKind

COMPANY_SHARE: Final = 0.5
CALM_SHARE: Final = 0.03
"""So many seeds have no faults at all: what is red there is no fault's doing."""

_ENDS: Final = (FaultKind.EXCHANGE_CANCELS, FaultKind.EXCHANGE_EXPIRES)

COMPANY: Final[Mapping[FaultKind, tuple[FaultKind, ...]]] = {
    FaultKind.FALSE_STATUS: (FaultKind.FILLS_IN_PARTS,),
    FaultKind.FALSE_DENIAL: (FaultKind.FILLS_IN_PARTS, FaultKind.REPLY_LOST, FaultKind.SERVER_ERROR, *_ENDS),
    FaultKind.FALSE_REFUSAL: _ENDS,
    FaultKind.ADAPTER_FAILS: _ENDS,
    FaultKind.NOT_FOUND_YET: (FaultKind.FILLS_IN_PARTS,),
    FaultKind.EXCHANGE_EXPIRES: (FaultKind.FILLS_IN_PARTS,),
    FaultKind.EXCHANGE_AWAY: (FaultKind.OPERATOR_FLATTENS,),
    FaultKind.DISK_LOST: (FaultKind.OPERATOR_FLATTENS,),
    FaultKind.STORE_DAMAGED: (FaultKind.OPERATOR_FLATTENS,),
}
"""What a kind needs beside it to show the worst of itself: many of the seeds that have it have these, too."""

OFTEN: Final[Mapping[FaultKind, float]] = {FaultKind.FALSE_DENIAL: 2.0, FaultKind.EXCHANGE_CLOSES: 1.3}
"""More seeds have these: they need much company to do their worst, or strike seldom."""


@dataclass(frozen=True, slots=True)
class Mix:
    """The kinds that a seed has to live with, and their rates."""

    rates: Mapping[FaultKind, float]

    def __contains__(self, kind: FaultKind) -> bool:
        return kind in self.rates

    def rate(self, kind: FaultKind) -> float:
        """0 for a kind that this seed does not have."""
        return self.rates.get(kind, 0.0)


def draw(rng: random.Random) -> Mix:
    """A seed's mix: how full of faults it is is drawn first, then each kind by itself, then who comes with it."""
    if rng.random() < CALM_SHARE:
        return Mix({})
    share = rng.uniform(0.05, 0.47)
    drawn = {
        kind: (rng.random() < share * OFTEN.get(kind, 1.0), rng.random(), rng.random() < COMPANY_SHARE)
        for kind in RULES
    }
    chosen = {kind for kind, (itself, _, _) in drawn.items() if itself}
    for kind, company in COMPANY.items():
        itself, _, joined = drawn[kind]
        if itself and joined:
            chosen.update(company)
    rates = {}
    for kind, rule in RULES.items():
        if kind in chosen:
            least, most = rule.rate
            rates[kind] = least * (most / least) ** drawn[kind][1]
    return Mix(rates)


class Dice:
    """Whether a fault strikes at an opportunity: by its rate, or by number where a scenario says so.

    ``at`` holds the numbers of the opportunities at which a kind strikes, beside its rate. ``kinds`` are those that can
    strike at all. ``end`` it, and nothing strikes any more.
    """

    def __init__(self, rng: random.Random, mix: Mix, *, at: Mapping[FaultKind, frozenset[int]] | None = None) -> None:
        self.mix = mix
        self._chance = rng.random
        self._rates: dict[FaultKind, float] = dict(mix.rates)
        self._at = dict(at or {})
        self._seen: dict[FaultKind, int] = {}
        self.kinds = frozenset((*self._rates, *self._at))

    def strikes(self, kind: FaultKind, *, scale: float = 1.0) -> bool:
        """``scale``: how many units of its rate this opportunity is worth."""
        if self._at:
            number = self._seen.get(kind, 0)
            self._seen[kind] = number + 1
            if number in self._at.get(kind, ()):
                return True
        return kind in self._rates and self._chance() < self._rates[kind] * scale

    def wait(self, kind: FaultKind, *, scale: float = 1.0) -> int:
        """How many opportunities pass before the kind strikes next; -1: it does not. For what has thousands of them."""
        numbers = self._at.get(kind)
        seen = self._seen.get(kind, 0)
        upcoming = [number for number in numbers or () if number >= seen]
        rate = self._rates.get(kind, 0.0) * scale
        waits = [min(upcoming) - seen] if upcoming else []
        if rate:
            waits.append(int(math.log(1.0 - self._chance()) / math.log(1.0 - rate)))
        if not waits:
            return -1
        self._seen[kind] = seen + min(waits) + 1
        return min(waits)

    def knows(self, kind: FaultKind) -> bool:
        """Whether it can strike at all."""
        return kind in self.kinds

    def end(self) -> None:
        self._rates = {}
        self._at = {}
