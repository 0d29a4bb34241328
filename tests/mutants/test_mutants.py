"""The simulator can fail: each deliberate defect is caught, and what catches it is clean without the defect."""

from __future__ import annotations

import pytest

from tests.mutants.defects import DEFECTS, apply
from tests.mutants.search import find, known

FOUND = known()
TRIED_MAX = 60
"""A change of the product changes what happens under a seed: one of the first does as well as the recorded one."""


ESCAPES = {
    "account_mark_ahead",
    "decision_not_recorded",
    "mismatch_does_not_gate",
    "never_compared",
    "notice_dropped_on_error",
    "position_not_counted",
    "stop_left_after_close",
}
"""What the first 500 seeds do not catch: too rare among them, or made harmless by a second safeguard. Not excused: a
defect that joins them, or leaves them, has to be named here."""


def test_there_are_at_least_twenty_defects_and_a_seed_below_500_for_all_but_the_known_escapes() -> None:
    assert len(FOUND) >= 20
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
