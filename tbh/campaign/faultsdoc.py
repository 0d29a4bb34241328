"""``docs/FAULTS.md``, written from the simulator's own tables: what can fail, what then happens, and what shows it.

``python -m tbh.campaign.faultsdoc FILE`` (``make docs``) takes the figures of the last full run from ``RUN_FILE`` in
FILE's folder, where ``tbh simulate --seeds 0:20000 --json`` has put them.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tbh.campaign.matrix import COURSES
from tbh.campaign.scenarios import ELSEWHERE, SCENARIOS
from tbh.simulation.faults import RULES, FaultKind
from tbh.simulation.invariants import INVARIANTS
from tbh.simulation.judging import Invariant

RUN_FILE = "faults-run.json"
WIDTH = 120

HEAD = """\
# Faults

What can fail around a bot, what happens then, and what shows it. Written by `make docs` from the tables of the fault
simulator (`tbh simulate`), so that nothing stands here that is not simulated.

A *seed* is one bot on one simulated account: its tree of actors (nine times of ten without the two that
only report), several lives of its process, an exchange, a
database and disks on virtual time. The seed draws the market, the strategy and the faults: which kinds, and how often
each. After a while everything heals, and the system must come to rest. An observer who sees everything, the exchange's
own ledger included, holds each promise against each step; one that is broken is a violation, and the seed repeats it.

```sh
tbh simulate --seeds 0:2000
tbh simulate --seed 8123 --trace
tbh simulate --list
```
"""

GROUPS = {
    "network": "On the way to the exchange and back",
    "exchange": "At the exchange",
    "database": "At the database",
    "disk": "At the disk",
    "process": "In the process",
    "people": "By the operator",
}


def render(run: Mapping[str, Any] | None) -> str:
    """The document; ``run`` is the JSON of the last full run, None when there was none."""
    parts = [HEAD, *_promises(), *_matrix(run), *_scenarios(), *_figures(run)]
    return "\n".join(parts).rstrip() + "\n"


def _promises() -> Iterator[str]:
    yield "## What holds, whatever fails"
    yield _wrapped(
        "Each promise is a function of its own in `tbh/simulation/invariants.py`, judged at each step that concerns it,"
        " or in `tbh/simulation/at_rest.py`, judged over the whole picture once all has come to rest."
    )
    yield ""
    for each in INVARIANTS:
        yield _item(f"`{each.name}`: {each.promise}")
    yield ""


def _matrix(run: Mapping[str, Any] | None) -> Iterator[str]:
    counts: Mapping[str, int] = {} if run is None else run["coverage"]["faults"]
    yield "## The faults"
    yield _wrapped(
        "*Possible* is what the bot can still do while it lasts; *judged by* names the promises that the fault puts to"
        " the test first (all of them hold always). The count is of the last full run."
    )
    yield ""
    for group, kinds in groupby(FaultKind, key=lambda kind: RULES[kind].group):
        yield f"### {GROUPS[group]}\n"
        for kind in kinds:
            yield from _fault(kind, counts.get(kind.value))


def _fault(kind: FaultKind, count: int | None) -> Iterator[str]:
    rule, course = RULES[kind], COURSES[kind]
    shown = [scenario.name for scenario in SCENARIOS.values() if kind in scenario.strikes]
    counted = "" if count is None else f" ({count:,} times)"
    yield f"**{_words(kind)}**{counted}: {rule.what}."
    yield _item(f"The bot: {rule.do}.")
    yield _item(f"Possible: {course.possible}. Ends: {course.ends}.")
    yield _item(f"Judged by {_names(course.judges)}.")
    if shown:
        yield _item(f"Shown by {', '.join(f'`{name}`' for name in shown)}.")
    yield ""


def _scenarios() -> Iterator[str]:
    yield "## Scenarios"
    yield _wrapped(
        "Things that went wrong in other trading bots, played through here. The ids are those of the project's"
        " list of such lessons. `tbh simulate --scenario NAME --seeds 0:50` plays one."
    )
    yield "\n| id | scenario | what happens |\n| --- | --- | --- |"
    rows = [(lesson, scenario) for scenario in SCENARIOS.values() for lesson in scenario.lessons or ("",)]
    for lesson, scenario in sorted(rows, key=lambda row: (int(row[0][1:] or 99), row[1].name)):
        yield f"| {lesson} | `{scenario.name}` | {scenario.title} |"
    yield "\nWhat a simulated world can't express is held elsewhere, or is not held yet:\n"
    yield "| id | what went wrong there | where it is held |\n| --- | --- | --- |"
    for lesson, (what, where) in ELSEWHERE.items():
        yield f"| {lesson} | {what} | {where} |"
    yield ""


def _figures(run: Mapping[str, Any] | None) -> Iterator[str]:
    yield "## The last recorded run"
    if run is None:
        yield f"None is recorded. `tbh simulate --seeds 0:20000 --json > docs/{RUN_FILE} && make docs` records one."
        return
    yield _wrapped(
        f"{run['seeds']:,} seeds, {run['messages']:,} messages, {run['orders']:,} orders, {run['boots']:,} process"
        f" lives, {run['virtual_s'] / 3600:,.0f} hours of virtual time in {run['seconds'] / 60:.1f} minutes;"
        f" {run['messages_mean']:,.0f} messages and {run['orders_mean']:.1f} orders a seed."
        f" {run['violated_seeds']:,} seeds broke a promise."
        f" Orders in doubt: {run['coverage']['unknown_found']:,} found,"
        f" {run['coverage']['unknown_absent']:,} proven absent."
    )
    yield ""
    yield _wrapped(
        f"Recorded by `tbh simulate --seeds 0:{run['seeds']} --json > docs/{RUN_FILE} && make docs`; the digest of all"
        f" deliveries is `{run['digest'][:16]}`, and with the same sources always the same."
    )
    yield ""
    yield from _broken(run.get("violations", ()))
    yield from _counts("each row of the order's table was taken", run["coverage"]["transitions"])
    yield from _counts("each promise was checked", run["coverage"]["invariants"])


def _broken(violations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which promises were broken, by which seeds: each of them repeats it."""
    seeds: dict[str, set[int]] = {}
    for violation in violations:
        seeds.setdefault(violation["invariant"], set()).add(violation["seed"])
    if seeds:
        yield "| promise that was broken | by seeds |"
        yield "|---|---|"
        yield from (f"| `{name}` | {' '.join(map(str, sorted(by)))} |" for name, by in sorted(seeds.items()))
        yield ""


def _counts(what: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield f"How often {what}:\n\n```text"
    yield from (f"{count:>12,}  {word}" for word, count in counts.items())
    yield "```\n"


def _words(kind: FaultKind) -> str:
    text = kind.value.replace("_", " ")
    return text[0].upper() + text[1:]


def _names(judges: Iterable[Invariant]) -> str:
    return ", ".join(f"`{each.name}`" for each in judges)


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def main(arguments: Sequence[str]) -> int:
    """Write the document to the file that is named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tbh.campaign.faultsdoc FILE\n")
        return 64
    target = Path(arguments[0])
    recorded = target.parent / RUN_FILE
    run = json.loads(recorded.read_text("utf-8")) if recorded.exists() else None
    target.write_text(render(run), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
