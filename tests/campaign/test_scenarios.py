"""What went wrong elsewhere, played through here: the fault really happens, and every promise holds."""

from __future__ import annotations

import pytest

from tbh.campaign.runs import run_chunk
from tbh.campaign.scenarios import SCENARIOS

SEEDS = range(4)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_went_wrong_elsewhere_happens_here_and_breaks_nothing(name: str) -> None:
    totals = run_chunk(SEEDS, name)
    assert totals.violations == []
    assert {kind for kind in SCENARIOS[name].strikes if not totals.coverage.faults[kind]} == set()
    # Requests overtake each other wherever their latencies differ.
    assert set(totals.coverage.faults) <= {*SCENARIOS[name].strikes, "requests_reordered"}
    assert totals.orders > 0
