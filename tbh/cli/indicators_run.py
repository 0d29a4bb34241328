"""``tbh indicators compute`` and ``verify``: the catalogue at work on candles, and against published values."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from tbh.cli.parser import EXIT_USAGE, CommandError, one_line
from tbh.conformance.tables import TableError, read_manifest
from tbh.conformance.verify import Finding, verify_case, verify_oracle
from tbh.infra.candles import CandleError, CandleFile, iso, load_candles
from tbh.strategies.indicators import NAMES, SERIES, SOURCE, TIME, Indicator
from tbh.strategies.references import unknown

EXIT_DIFFERS = 1


def run_compute(args: argparse.Namespace) -> int:
    """Compute one indicator over a candle file and print its last rows."""
    entry = NAMES.get(args.name)
    if entry is None:
        raise CommandError(f"{unknown('indicator', args.name, NAMES)}; see 'tbh indicators list'", exit_code=EXIT_USAGE)
    params = entry.resolve(_given(entry, args.param or ()))
    if entry.rule is not None and (broken := entry.rule(params)) is not None:
        raise CommandError(f"{entry.name}: {broken}", exit_code=EXIT_USAGE)
    source = args.source or "close"
    if source not in SERIES:
        raise CommandError(unknown("source", source, SERIES), exit_code=EXIT_USAGE)
    if args.source and not entry.takes_source:
        raise CommandError(
            f"{entry.name} always reads {', '.join(entry.inputs)}; leave --source out", exit_code=EXIT_USAGE
        )
    candles = _candles(args)
    series = {**candles.arrays, TIME: candles.timestamps.astype(np.float64)}
    inputs = (np.ascontiguousarray(series[source if each == SOURCE else each]) for each in entry.inputs)
    outputs = entry.compute(tuple(inputs), params)
    rows = range(max(len(candles) - args.last, 0) if args.last else 0, len(candles))
    values = [
        {"time": iso(int(candles.timestamps[row])), **_row(entry, [float(each[row]) for each in outputs])}
        for row in rows
    ]
    if args.json:
        facts = {
            "name": entry.name,
            "params": dict(params),
            "rows": len(candles),
            "null_rows": entry.warmup(params),
            "columns": list(entry.outputs),
            "values": values,
        }
        print(json.dumps(facts))
        return 0
    widths = [max(len(output), 14) for output in entry.outputs]
    print(
        "  ".join(["time".ljust(24), *(name.rjust(width) for name, width in zip(entry.outputs, widths, strict=True))])
    )
    for value in values:
        cells = ("null" if value[name] is None else f"{value[name]:.8g}" for name in entry.outputs)
        print(
            "  ".join(
                [value["time"].ljust(24), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]
            )
        )
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Compare the catalogue with every case of a manifest; 1 when one of them differs."""
    started = time.perf_counter()
    try:
        cases, oracles = read_manifest(args.manifest)
        found = [verify_case(case) for case in cases]
        talib = [finding for oracle in oracles for finding in verify_oracle(oracle)]
    except TableError as error:
        raise CommandError(one_line(str(error))) from error
    report = {**_summary(found), "talib": _summary(talib), "differing": _differing(found)}
    report["seconds"] = round(time.perf_counter() - started, 3)
    if args.json:
        print(json.dumps(report))
    else:
        _print_report(found, talib)
    return EXIT_DIFFERS if any(each.state == "failed" for each in (*found, *talib)) else 0


def _given(entry: Indicator, texts: Sequence[str]) -> dict[str, int | Decimal]:
    """``NAME=VALUE`` texts as parameters. CommandError (64) for one that the indicator does not take."""
    known = {each.name: each for each in entry.parameters}
    given: dict[str, int | Decimal] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise CommandError(unknown(f"parameter of {entry.name}", name, known), exit_code=EXIT_USAGE)
        try:
            number = int(value) if known[name].whole else Decimal(value)
        except (ValueError, InvalidOperation):
            raise CommandError(f"{name}: {value!r} is no number", exit_code=EXIT_USAGE) from None
        problem = known[name].problem(number)
        if problem is not None:
            raise CommandError(f"{name} {problem}", exit_code=EXIT_USAGE)
        given[name] = number
    return given


def _candles(args: argparse.Namespace) -> CandleFile:
    try:
        return load_candles(args.candles)
    except CandleError as error:
        raise CommandError(str(error)) from error


def _row(entry: Indicator, values: list[float]) -> dict[str, Any]:
    return {name: None if math.isnan(value) else value for name, value in zip(entry.outputs, values, strict=True)}


def _summary(found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "cases": len(found),
        "passed": sum(each.state == "passed" for each in found),
        "failed": [{"id": each.id, "detail": each.detail} for each in found if each.state == "failed"],
        "unsupported": [each.id for each in found if each.state == "unsupported"],
    }


def _differing(found: Sequence[Finding]) -> list[dict[str, str]]:
    """The columns that are compared in another form than value by value, and in which."""
    return [{"id": each.id, "column": column, "what": what} for each in found for column, what in each.notes.items()]


def _print_report(found: Sequence[Finding], talib: Sequence[Finding]) -> None:
    for each in (*found, *talib):
        if each.state != "passed":
            print(f"{each.state}: {each.id}: {each.detail}", file=sys.stderr)
    for what, these in (("cases", found), ("functions of TA-Lib's tables", talib)):
        passed = sum(each.state == "passed" for each in these)
        if these:
            print(f"{passed} of {len(these)} {what} agree")
