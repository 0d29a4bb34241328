"""``tbh indicators``: the catalogue that a strategy may use."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tbh.cli.parser import EXIT_USAGE, CommandError
from tbh.strategies.indicators import CATALOGUE, NAMES, SERIES, SOURCE, Indicator
from tbh.strategies.references import unknown

_ANY = f"any of {', '.join(SERIES)}"


def run_list(args: argparse.Namespace) -> int:
    """One line for each indicator."""
    if args.json:
        print(json.dumps({"indicators": [_facts(entry) for entry in CATALOGUE.values()]}))
        return 0
    rows = [
        (
            entry.name,
            ", ".join(f"{each.name}={each.default}" for each in entry.parameters) or "-",
            ", ".join(entry.outputs),
            entry.summary,
        )
        for entry in CATALOGUE.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]))
    return 0


def run_show(args: argparse.Namespace) -> int:
    """All about one indicator. CommandError (64) for a name that is none."""
    entry = NAMES.get(args.name)
    if entry is None:
        raise CommandError(f"{unknown('indicator', args.name, NAMES)}; see 'tbh indicators list'", exit_code=EXIT_USAGE)
    facts = _facts(entry)
    if args.json:
        print(json.dumps(facts))
        return 0
    print(f"{entry.name}: {entry.summary}")
    print(f"aliases    {', '.join(entry.aliases) or '-'}")
    for each in entry.parameters:
        kind = "whole number" if each.whole else "number"
        print(f"parameter  {each.name} = {each.default} ({kind} from {each.minimum} to {each.maximum})")
    print(f"reads      {', '.join(_ANY if each == SOURCE else each for each in entry.inputs)}")
    print(f"columns    {', '.join(f'ID__{output}' for output in entry.outputs)}")
    print(f"null rows  {facts['null_rows']} with these parameters ({'; '.join(facts['null_rows_of'])})")
    print(f"remembers  {_remembers(entry)}")
    print(f"source     {entry.source}")
    return 0


def _facts(entry: Indicator) -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "summary": entry.summary,
        "parameters": [
            {
                "name": each.name,
                "default": _plain(each.default),
                "minimum": _plain(each.minimum),
                "maximum": _plain(each.maximum),
                "whole": each.whole,
            }
            for each in entry.parameters
        ],
        "reads": list(entry.inputs),
        "columns": list(entry.outputs),
        "sparse": list(entry.sparse),
        "null_rows": entry.warmup(entry.resolve({})),
        "null_rows_of": [str(each) for each in (entry.nulls if isinstance(entry.nulls, tuple) else (entry.nulls,))],
        "memory": entry.memory.kind,
        "history": entry.history(entry.resolve({})),
        "compared": entry.memory.compared or None,
        "group": entry.group,
        "source": entry.source,
    }


def _remembers(entry: Indicator) -> str:
    history = entry.history(entry.resolve({}))
    if entry.memory.kind == "all":
        return f"all rows; two starts agree by {entry.memory.compared}"
    rows = f"the last {history} rows with these parameters"
    return rows if entry.memory.kind == "window" else f"all rows, but no digit of what is before {rows}"


def _plain(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)
