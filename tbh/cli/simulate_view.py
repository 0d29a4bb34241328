"""What ``tbh simulate`` shows: progress while it runs, and the report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from tbh.campaign.runs import Totals
from tbh.simulation import coverage
from tbh.simulation.faults import FaultKind
from tbh.simulation.invariants import INVARIANTS
from tbh.simulation.script import Scenario

WIDTH = 78
SHOWN_MAX = 20
REDRAW_S = 0.5
FIRST_S = 2.0
"""What is over sooner needs no progress."""

_KINDS = tuple(kind.value for kind in FaultKind)


class Progress:
    """One line on a terminal, drawn over itself."""

    def __init__(self, stream: TextIO, seeds: int, *, shown: bool) -> None:
        self._stream = stream
        self._seeds = seeds
        self._shown = shown
        self._next_s = time.monotonic() + FIRST_S
        self._drawn = False

    def show(self, totals: Totals) -> None:
        """Draw it anew, at most twice a second."""
        if not self._shown or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + REDRAW_S
        self._drawn = True
        left_s = totals.seconds / totals.seeds * (self._seeds - totals.seeds) if totals.seeds else 0.0
        line = f"{totals.seeds:,} of {self._seeds:,} seeds, {totals.violated:,} with violations, {_span(left_s)} left"
        print(f"\r{line:<{WIDTH}}", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Leave the line as it was."""
        if self._drawn:
            print(f"\r{'':<{WIDTH}}\r", end="", file=self._stream, flush=True)


def as_json(totals: Totals, scenario: str | None) -> dict[str, Any]:
    """The report as one object."""
    covered, seeds = totals.coverage, totals.seeds or 1
    return {
        "seeds": totals.seeds,
        "asked": totals.asked,
        "scenario": scenario,
        "messages": totals.messages,
        "orders": totals.orders,
        "messages_mean": round(totals.messages / seeds, 1),
        "orders_mean": round(totals.orders / seeds, 1),
        "boots": totals.boots,
        "virtual_s": round(totals.virtual_s, 3),
        "coverage": {
            "transitions": coverage.transitions(covered),
            "faults": coverage.faults(covered, _KINDS),
            "unknown_found": covered.unknown_found,
            "unknown_absent": covered.unknown_absent,
            "invariants": {each.name: covered.checks.get(each.name, 0) for each in INVARIANTS},
            "other": dict(sorted(covered.other.items())),
        },
        "violations": [
            {"seed": each.seed, "invariant": each.invariant, "detail": each.detail, "at_s": each.at_ns / 1e9}
            for each in totals.violations
        ],
        "violated_seeds": totals.violated,
        "digest": totals.digest,
        "seconds": round(totals.seconds, 3),
        "cpu_ms_mean": round(totals.cpu_s * 1000 / seeds, 2),
        "slowest": {"seed": totals.slowest_seed, "cpu_s": round(totals.slowest_s, 3)},
    }


def print_report(totals: Totals, scenario: str | None) -> None:
    """The report for people: what was covered, and every violation with the command that replays it."""
    covered, seeds = totals.coverage, totals.seeds or 1
    _table("orders: each row of the table, and how often it was taken", coverage.transitions(covered))
    _table("faults, and how often each happened", coverage.faults(covered, _KINDS))
    _table("promises, and how often each was checked", {e.name: covered.checks.get(e.name, 0) for e in INVARIANTS})
    print(f"unknown and found {covered.unknown_found:,}, unknown and absent {covered.unknown_absent:,}")
    short = [] if scenario else coverage.shortfalls(covered, _KINDS, seeds=totals.seeds)
    if short:
        told = [f"{each.what} ({each.count:,} of {each.at_least:,})" for each in short[:SHOWN_MAX]]
        more = f" and {len(short) - SHOWN_MAX} more" if len(short) > SHOWN_MAX else ""
        print(f"covered too rarely: {', '.join(told)}{more}")
    print(
        f"{totals.seeds:,} seeds in {_span(totals.seconds)}, {totals.cpu_s * 1000 / seeds:.0f} ms of CPU each; "
        f"a seed has {totals.messages / seeds:,.0f} messages, {totals.orders / seeds:.1f} orders, "
        f"{totals.boots / seeds:.1f} process lives"
    )
    print(f"digest {totals.digest}")
    if totals.seeds < totals.asked:
        print(f"interrupted: {totals.asked - totals.seeds:,} seeds were not run")
    _print_violations(totals, scenario)


def _print_violations(totals: Totals, scenario: str | None) -> None:
    if not totals.violated:
        print("every promise held")
        return
    named = f" --scenario {scenario}" if scenario else ""
    for violation in totals.violations[:SHOWN_MAX]:
        print(f"VIOLATION {violation.invariant} after {violation.at_ns / 1e9:.3f} s: {violation.detail}")
        print(f"  replay: tbh simulate --seed {violation.seed}{named} --trace")
    if len(totals.violations) > SHOWN_MAX:
        print(f"... and more: --json lists {len(totals.violations)}")
    print(f"{totals.violated:,} of {totals.seeds:,} seeds broke a promise")


def print_scenarios(scenarios: Iterable[Scenario]) -> None:
    """Name, lessons and title of each."""
    for scenario in scenarios:
        print(f"{scenario.name}  [{', '.join(scenario.lessons)}]\n  {scenario.title}")


def _table(title: str, counts: Mapping[str, int]) -> None:
    """Two columns of words and counts."""
    print(title)
    cells = [f"{count:>10,}  {word}" for word, count in counts.items()]
    half = (len(cells) + 1) // 2
    width = max(map(len, cells), default=0)
    for index in range(half):
        right = cells[index + half] if index + half < len(cells) else ""
        print(f"{cells[index]:<{width}}  {right}".rstrip())
    print()


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
