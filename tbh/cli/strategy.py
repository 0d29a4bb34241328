"""``tbh strategy``: the shape of a definition, and whether a file has it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tbh.cli.parser import EXIT_CONFIGURATION, EXIT_USAGE, CommandError, one_line
from tbh.infra.plugins import NAME, is_reference, load_custom, parse_strategy
from tbh.strategies.definition import MAX_BYTES, TIMEFRAMES, DefinitionError, json_schema, load_json
from tbh.strategies.history import AGREEING
from tbh.strategies.runner import AnyDefinition, Custom, strategy_of

FILE_ENDINGS = (".json", ".csv", ".gz", ".parquet", ".py", ".txt")
"""Names that end so are files, there or not."""


def run_schema(args: argparse.Namespace) -> int:
    """Print the JSON schema."""
    print(json.dumps(json_schema(), indent=None if args.json else 2))
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Say whether a definition is sound; 78 when it is not."""
    try:
        definition = parse_strategy(read_text(args.file), any_code=True)
    except DefinitionError as error:
        if args.json:
            problems = [{"path": each.path, "message": each.message} for each in error.problems]
            print(json.dumps({"ok": False, "problems": problems}))
        else:
            for problem in error.problems:
                print(one_line(f"{args.file}: {problem}"), file=sys.stderr)
        return EXIT_CONFIGURATION
    shape = definition.shell if isinstance(definition, Custom) else definition
    strategy = strategy_of(definition)
    facts = {
        "ok": True,
        "problems": [],
        "name": definition.name,
        "timeframe": definition.timeframe,
        "indicators": len(shape.indicators),
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


def load_strategy(given: Path, params: str | None, timeframe: Callable[[], str]) -> AnyDefinition:
    """What ``--strategy`` names: a file with a definition, or a strategy written in Python by its name, which has
    ``params`` (JSON, or a file that holds it) and the ``timeframe``. CommandError, one line, when it is refused."""
    text = str(given)
    if not is_name(given):
        if params is not None:
            raise CommandError(f"--params: {given} is a file, which holds its own parameters", exit_code=EXIT_USAGE)
        return load_definition(given)
    values = {} if params is None else _params(params)
    try:
        return load_custom(text, values, timeframe=timeframe())
    except DefinitionError as error:
        first = error.problems[0]
        if first.path.startswith("$.params"):
            raise CommandError(f"--params: {first.path.replace('.params', '', 1)}: {first.message}") from error
        where = "" if first.path == "$.custom" else f"{first.path.removeprefix('$.')}: "
        unknown = "unknown" in first.message and not is_reference(text)
        hint = "; or name a file (.json), module:Class or file.py:Class" if unknown else ""
        raise CommandError(f"--strategy {text}: {where}{first.message}{hint}") from error


def is_name(given: Path) -> bool:
    """Whether ``given`` names a strategy in Python, installed or by its code, and not a file with a definition."""
    text = str(given)
    return is_reference(text) or bool(NAME.fullmatch(text) and given.suffix not in FILE_ENDINGS and not given.exists())


def _params(text: str) -> dict[str, Any]:
    where = "--params"
    try:
        data: str | bytes = text
        if not text.lstrip().startswith("{"):
            where = f"--params {text}"
            data = read_text(Path(text), what="parameters")
        found = load_json(data)
    except DefinitionError as error:
        raise CommandError(f"{where}: {error.problems[0]}") from error
    if not isinstance(found, dict):
        raise CommandError(f'{where}: must be an object, such as {{"period": 20}}')
    return found


def timeframe_of(name: str, timeframe_s: int) -> str:
    """What a timeframe of so many seconds is called; ``name`` is the market's. CommandError where it has no name."""
    for timeframe, seconds in TIMEFRAMES.items():
        if seconds == timeframe_s:
            return timeframe
    raise CommandError(f"{name}: bars of {timeframe_s} s are no timeframe; known: {', '.join(TIMEFRAMES)}")


def load_definition(file: Path, *, any_code: bool = True) -> AnyDefinition:
    """The definition in ``file``; ``any_code`` as ``parse_strategy`` has it. CommandError, one line with the first
    problem, when it is refused."""
    try:
        return parse_strategy(read_text(file), any_code=any_code)
    except DefinitionError as error:
        # An indicator that is wrong makes its columns unknown: it is named before them.
        first = next((each for each in error.problems if each.path.startswith("$.indicators")), error.problems[0])
        others = len(error.problems) - 1
        more = f" ({others} more: tbh strategy check {file})" if others else ""
        raise CommandError(f"{file}: {first}{more}") from error


def read_text(file: Path, *, what: str = "strategy") -> bytes:
    """The bytes of a definition (``what`` it is called). CommandError when there is none to read."""
    try:
        if file.is_dir():
            raise CommandError(f"{file}: is a folder; name a {what} file in it (.json)")
        if file.exists() and not file.is_file():
            # A pipe that nobody writes to would keep the command for ever.
            raise CommandError(f"{file}: is a pipe or a device; name a {what} file (.json)")
        with file.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CommandError(f"{file}: no such {what} file; check the path") from error
    except OSError as error:
        raise CommandError(f"{file}: can't be read ({error.strerror}); check the file and its rights") from error
