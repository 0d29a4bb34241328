"""The simulator can fail: each deliberate defect is caught, and what catches it is clean without the defect."""

from __future__ import annotations

import pytest

from tests.mutants.defects import DEFECTS, apply
from tests.mutants.search import find, known

FOUND = known()
TRIED_MAX = 60
"""A change of the product changes what happens under a seed: one of the first does as well as the recorded one."""

ESCAPES: frozenset[str] = frozenset()
"""What the first 500 seeds do not catch: nothing. A defect that joins has to be named here."""


def test_there_are_at_least_sixty_defects_and_a_seed_below_500_for_each_that_is_not_said_to_escape() -> None:
    assert len(DEFECTS) >= 60
    assert set(DEFECTS) - set(FOUND) == ESCAPES
    assert max(found["seed"] for found in FOUND.values()) < 500


@pytest.mark.parametrize("name", sorted(FOUND))
def test_each_defect_is_caught(name: str) -> None:
    seeds = [FOUND[name]["seed"], *range(TRIED_MAX)]
    assert find(name, seeds) is not None, f"not by seed {seeds[0]}: python -m tests.mutants --find {name}"


def test_a_defect_is_gone_when_it_is_not_applied_any_more() -> None:
    before = [vars(site.owner)[site.attribute] for one in DEFECTS.values() for site in one.sites]
    for name in DEFECTS:
        with apply(name):
            assert all(vars(site.owner)[site.attribute] not in before for site in DEFECTS[name].sites)
    assert [vars(site.owner)[site.attribute] for one in DEFECTS.values() for site in one.sites] == before
