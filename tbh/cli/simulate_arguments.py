"""The options of ``tbh simulate``."""

from __future__ import annotations

import argparse
import re
from typing import Any

from tbh.cli.parser import whole

SEED_END_MAX = 1_000_000_000
JOBS_MAX = 256

_EXAMPLES = """examples:
  tbh simulate --seeds 0:2000                       two thousand seeds, on every core
  tbh simulate --seed 8123 --trace                  one seed, step by step
  tbh simulate --list                               the named scenarios
  tbh simulate --scenario submit_times_out_and_fills --seeds 0:50

Each seed is a bot on a simulated exchange and database, in virtual time, with its own mix of faults; the same seed is
the same run, always. Nothing leaves this machine. Exit code 1: a promise was broken; the last lines say how to
replay it."""


def add_simulate_command(commands: Any, *, add: Any) -> None:
    """Add the command to the parser."""
    command = add(
        commands,
        "simulate",
        run="simulate:run",
        does="let everything fail in a simulated world, and check that no order is lost or doubled",
        examples=_EXAMPLES,
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--seeds", metavar="A:B", type=seeds, help="the seeds from A up to, not including, B (default: 0:200)"
    )
    which.add_argument("--seed", metavar="N", type=whole(0, SEED_END_MAX), help="this seed alone")
    which.add_argument("--list", action="store_true", help="list the scenarios and what they are about")
    command.add_argument(
        "--scenario", metavar="NAME", help="with the faults of this scenario, instead of the seed's own"
    )
    command.add_argument("--trace", action="store_true", help="with --seed: print every step")
    command.add_argument(
        "--jobs", metavar="N", type=whole(1, JOBS_MAX), default=0, help="processes (default: one for each core)"
    )


def seeds(text: str) -> range:
    """A range of seeds, ``A:B`` without ``B``."""
    found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: must look like 0:2000")
    first, end = int(found[1]), int(found[2])
    if not first < end <= SEED_END_MAX:
        raise argparse.ArgumentTypeError(f"{text}: the second number must be above the first, at most {SEED_END_MAX}")
    return range(first, end)
