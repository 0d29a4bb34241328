"""One seed is one run: in any process, beside any other seed, whatever Python's hashes are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tbh.campaign.runs import Totals, outcome_of, run_chunk, run_seeds

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = range(40, 46)
PRINTS_THE_DIGEST = f"""
from tbh.campaign.runs import run_chunk
print(run_chunk(range({SEEDS.start}, {SEEDS.stop}), None).digest)
"""


@pytest.fixture(scope="module")
def alone() -> Totals:
    return run_chunk(SEEDS, None)


def test_a_seed_run_twice_in_one_process_is_the_same_run(alone: Totals) -> None:
    assert run_chunk(SEEDS, None).digest == alone.digest


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_hashes_of_another_process_change_nothing(hash_seed: str, alone: Totals) -> None:
    environ = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(
        [sys.executable, "-c", PRINTS_THE_DIGEST], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.strip() == alone.digest


def test_a_seed_does_not_depend_on_those_run_before_it() -> None:
    backwards = [outcome_of(seed).digest for seed in reversed(SEEDS)]
    assert [outcome_of(seed).digest for seed in SEEDS] == backwards[::-1]


def test_two_processes_come_to_what_one_does() -> None:
    one, two = run_seeds(range(4), jobs=1), run_seeds(range(4), jobs=2)
    assert (two.seeds, two.messages, two.orders, two.boots) == (one.seeds, one.messages, one.orders, one.boots)
    assert two.digest == one.digest
    assert two.coverage == one.coverage
    assert two.violations == one.violations


def test_seeds_differ() -> None:
    assert len({outcome_of(seed).digest for seed in SEEDS}) == len(SEEDS)


def test_a_seed_with_a_trace_is_the_same_run() -> None:
    from tbh.campaign.world import run_seed

    lines: list[str] = []
    assert run_seed(SEEDS[0], trace=lines.append).digest == outcome_of(SEEDS[0]).digest
    assert len(lines) > 100
