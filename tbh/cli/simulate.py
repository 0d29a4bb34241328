"""``tbh simulate``: seeds in which everything fails, and what was found in them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.util import find_spec

from tbh.campaign.runs import Totals, WorkerDied, run_seeds
from tbh.campaign.scenarios import SCENARIOS
from tbh.cli.parser import EXIT_FAULT, EXIT_USAGE, CommandError
from tbh.cli.simulate_view import Progress, as_json, print_report, print_scenarios
from tbh.stopping import stop_signals

EXIT_VIOLATED = 1
EXIT_INTERRUPTED = 130
DEFAULT_SEEDS = range(200)


def run(args: argparse.Namespace) -> int:
    """Run the seeds: 0 when every promise held, 1 when one was broken, 130 when it was interrupted before the end."""
    if args.list:
        return _list(as_text=not args.json)
    if args.scenario is not None and args.scenario not in SCENARIOS:
        raise CommandError(f"{args.scenario!r} is no scenario; see 'tbh simulate --list'", exit_code=EXIT_USAGE)
    if args.trace and args.seed is None:
        raise CommandError("--trace shows one seed: name it with --seed N", exit_code=EXIT_USAGE)
    if find_spec("greenlet") is None:
        raise CommandError("the simulator needs greenlet: pip install 'tbh[simulation]'")
    return _trace(args) if args.trace else _run(args)


def _run(args: argparse.Namespace) -> int:
    seeds: range = range(args.seed, args.seed + 1) if args.seed is not None else args.seeds or DEFAULT_SEEDS
    progress = Progress(sys.stderr, len(seeds), shown=sys.stderr.isatty() and not args.json)
    with stop_signals() as stop:
        try:
            totals = run_seeds(
                seeds, scenario=args.scenario, jobs=args.jobs, stopped=lambda: stop.asked, progress=progress.show
            )
        except WorkerDied as lost:
            raise CommandError(f"{lost}; run them with --jobs 1 to see why", exit_code=EXIT_FAULT) from lost
        finally:
            progress.clear()
    _print(totals, args)
    return _exit_code(totals)


def _trace(args: argparse.Namespace) -> int:
    """One seed, step by step. The trace is printed as it comes: a simulation that never ends shows where it is."""
    from tbh.campaign.world import run_seed  # noqa: PLC0415 - the whole tree comes with it

    lines: list[str] = []
    began_s = time.monotonic()
    outcome = run_seed(
        args.seed,
        scenario=None if args.scenario is None else SCENARIOS[args.scenario],
        trace=lines.append if args.json else print,
    )
    totals = Totals(asked=1, seconds=time.monotonic() - began_s)
    totals.take(outcome, totals.seconds)
    if args.json:
        print(json.dumps(as_json(totals, args.scenario) | {"trace": lines}))
    else:
        for violation in totals.violations:
            print(f"VIOLATION {violation.invariant}: {violation.detail}")
        print(f"seed {args.seed}: {outcome.messages} messages, {outcome.orders} orders, digest {outcome.digest}")
    return _exit_code(totals)


def _print(totals: Totals, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(as_json(totals, args.scenario)))
    else:
        print_report(totals, args.scenario)


def _exit_code(totals: Totals) -> int:
    if totals.violated:
        return EXIT_VIOLATED
    return 0 if totals.seeds == totals.asked else EXIT_INTERRUPTED


def _list(*, as_text: bool) -> int:
    if as_text:
        print_scenarios(SCENARIOS.values())
    else:
        told = {each.name: {"lessons": list(each.lessons), "title": each.title} for each in SCENARIOS.values()}
        print(json.dumps({"scenarios": told}))
    return 0
