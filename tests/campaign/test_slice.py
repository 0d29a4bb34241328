"""A slice of the campaign: three hundred seeds, each with faults of its own, in none of which a promise is broken."""

from __future__ import annotations

import pytest

from tbh.campaign.runs import run_chunk

SLICES = [range(first, first + 30) for first in range(0, 300, 30)]


@pytest.mark.parametrize("seeds", SLICES, ids=[f"{seeds.start}-{seeds.stop - 1}" for seeds in SLICES])
def test_no_promise_is_broken_whatever_fails(seeds: range) -> None:
    totals = run_chunk(seeds, None)
    assert totals.violations == []
    assert totals.orders > 10 * len(seeds)
    assert totals.messages > 500 * len(seeds)
