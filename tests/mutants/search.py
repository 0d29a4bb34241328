"""Finding the seed that catches a defect, and the file in which those that were found are kept."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from tbh.campaign.scenarios import SCENARIOS
from tbh.campaign.world import run_seed
from tbh.ports import Failure
from tbh.simulation.script import Scenario
from tests.mutants.defects import DEFECTS, apply

SEEDS = Path(__file__).with_name("seeds.json")
SEED_MAX_S = 60
"""A defect may keep a bot busy for ever; such a seed is passed over."""


class TooLong(Exception):
    """A seed took longer than ``SEED_MAX_S``."""


@cache
def is_clean(seed: int, scenario: str | None = None) -> bool:
    """Whether nothing is wrong with the seed while nothing is wrong with the product."""
    return not run_seed(seed, scenario=_scenario(scenario)).violations


def _scenario(name: str | None) -> Scenario | None:
    return None if name is None else SCENARIOS[name]


def caught_by(name: str, seed: int) -> list[str]:
    """The invariants that the defect breaks under the seed; none when its code was never reached."""
    with apply(name) as reached:
        outcome = run_seed(seed, scenario=_scenario(DEFECTS[name].scenario))
    first = DEFECTS[name].sites[0].where  # a defect whose code was not reached has caused nothing
    return sorted({violation.invariant for violation in outcome.violations}) if reached[first] else []


def find(name: str, seeds: Iterable[int]) -> dict[str, Any] | None:
    """The first seed that catches the defect and is clean without it, with what it breaks; None when none does."""
    signal.signal(signal.SIGALRM, _too_long)
    for seed in seeds:
        signal.alarm(SEED_MAX_S)
        try:
            broken = caught_by(name, seed)
        except TooLong:
            continue
        except Failure:  # an exchange that the defect has brought to what it does not expect: no verdict
            continue
        finally:
            signal.alarm(0)
        if broken and is_clean(seed, DEFECTS[name].scenario):
            return {"seed": seed, "breaks": broken}
    return None


def find_timed(work: tuple[str, int, int]) -> tuple[str, dict[str, Any] | None, float]:
    """``find`` for a pool of processes: (name, first seed, the seed after the last) -> (name, result, seconds).

    The seed that is known comes first: what was changed since may have left it as it is.
    """
    name, first, last = work
    began_s = time.monotonic()
    kept = known().get(name, {"seed": first})["seed"]
    found = find(name, [kept, *(seed for seed in range(first, last) if seed != kept)])
    return name, found, time.monotonic() - began_s


def _too_long(_: int, __: FrameType | None) -> None:
    raise TooLong


def known() -> dict[str, dict[str, Any]]:
    """What was found, by the defect's name."""
    if not SEEDS.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(SEEDS.read_text())
    return found


def keep(found: dict[str, dict[str, Any]]) -> None:
    """Write the file anew."""
    SEEDS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
