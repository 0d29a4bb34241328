"""``tbh strategy``: the shape of a definition, and whether a file has it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tbh.cli.parser import EXIT_CONFIGURATION, CommandError, one_line
from tbh.strategies.definition import MAX_BYTES, Definition, DefinitionError, json_schema, parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.history import AGREEING


def run_schema(args: argparse.Namespace) -> int:
    """Print the JSON schema."""
    print(json.dumps(json_schema(), indent=None if args.json else 2))
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Say whether a definition is sound; 78 when it is not."""
    try:
        definition = parse_definition(read_text(args.file))
    except DefinitionError as error:
        if args.json:
            problems = [{"path": each.path, "message": each.message} for each in error.problems]
            print(json.dumps({"ok": False, "problems": problems}))
        else:
            for problem in error.problems:
                print(one_line(f"{args.file}: {problem}"), file=sys.stderr)
        return EXIT_CONFIGURATION
    strategy = DynamicStrategy(definition)
    facts = {
        "ok": True,
        "problems": [],
        "name": definition.name,
        "timeframe": definition.timeframe,
        "indicators": len(definition.indicators),
        "fingerprint": definition.fingerprint(),
        "warmup": strategy.warmup,
        "history": strategy.history_needed,
        "depends_on_start": [
            {"id": each.indicator_id, "name": each.entry.name, "compared": each.entry.memory.compared}
            for each in strategy.starting
        ],
    }
    if args.json:
        print(json.dumps(facts))
    else:
        told = f"sound: {definition.name}, {definition.timeframe}, {facts['indicators']} indicator(s)"
        print(f"{one_line(str(args.file))}: {told}")
        print(f"fingerprint {facts['fingerprint']}")
        print(f"first decision after {strategy.warmup + 1} bars; a start loads {strategy.history_needed}")
        for each in strategy.starting:
            told = AGREEING[each.entry.memory.compared]
            print(f"note: {each.indicator_id} ({each.entry.name}) depends on where the history begins: {told}")
    return 0


def load_definition(file: Path) -> Definition:
    """The definition in ``file``. CommandError, one line with the first problem, when it is refused."""
    try:
        return parse_definition(read_text(file))
    except DefinitionError as error:
        # An indicator that is wrong makes its columns unknown: it is named before them.
        first = next((each for each in error.problems if each.path.startswith("$.indicators")), error.problems[0])
        others = len(error.problems) - 1
        more = f" ({others} more: tbh strategy check {file})" if others else ""
        raise CommandError(f"{file}: {first}{more}") from error


def read_text(file: Path) -> bytes:
    """The bytes of a definition. CommandError when there is none to read."""
    try:
        if file.is_dir():
            raise CommandError(f"{file}: is a folder; name a strategy file in it (.json)")
        if file.exists() and not file.is_file():
            # A pipe that nobody writes to would keep the command for ever.
            raise CommandError(f"{file}: is a pipe or a device; name a strategy file (.json)")
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CommandError(f"{file}: no such strategy file; check the path") from error
    except OSError as error:
        raise CommandError(f"{file}: can't be read ({error.strerror}); check the file and its rights") from error
