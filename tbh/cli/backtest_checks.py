"""``tbh backtest --check``: what spoils a backtest, as a table for people or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from tbh.backtest.checks import Outcome
from tbh.backtest.columns import Columns
from tbh.backtest.lookahead import check_lookahead
from tbh.backtest.recursion import ALLOWED, SHARES, check_recursion
from tbh.cli.backtest_view import Stages
from tbh.cli.parser import CommandError
from tbh.strategies.custom import StrategyError
from tbh.strategies.runner import AnyStrategy
from tbh.strategies.series import IndicatorError

EXIT_FOUND = 1

_CHECKS: dict[str, Callable[[AnyStrategy, Columns], Outcome]] = {
    "lookahead": check_lookahead,
    "recursion": check_recursion,
}
_CLEAN = {
    "lookahead": "nothing changes with the bars behind it",
    "recursion": "nothing depends on where the history begins",
}


def run_checks(
    args: argparse.Namespace,
    strategy: AnyStrategy,
    symbols: Sequence[str],
    markets: Sequence[Columns],
    stages: Stages,
) -> int:
    """Run the checks that are asked for on each market and print what they found; 1 when that is anything."""
    found: list[tuple[str, Columns, Outcome]] = []
    for name in dict.fromkeys(args.check):
        for symbol, market in zip(symbols, markets, strict=True):
            stages.begin(f"{name} on {symbol}")
            try:
                found.append((symbol, market, _CHECKS[name](strategy, market)))
            except IndicatorError as error:
                raise CommandError(f"{args.strategy}: {error}") from error
            except StrategyError as error:
                raise CommandError(str(error)) from error
    stages.end()
    ok = all(outcome.ok for _, _, outcome in found)
    if args.json:
        checks = [_as_json(symbol, market, outcome) for symbol, market, outcome in found]
        print(json.dumps({"strategy": strategy.name, "ok": ok, "checks": checks}, allow_nan=False))
    else:
        for symbol, market, outcome in found:
            for line in _lines(f"{outcome.check}: {strategy.name} on {symbol}, {len(market):,} bars", outcome):
                print(line)
    return 0 if ok else EXIT_FOUND


def _as_json(symbol: str, market: Columns, outcome: Outcome) -> dict[str, Any]:
    return {
        "check": outcome.check,
        "symbol": symbol,
        "bars": len(market),
        "ok": outcome.ok,
        "looked": outcome.looked,
        "findings": [
            {"what": one.what, "bar": one.row, "time": one.time, "detail": one.detail, "advice": one.advice}
            for one in outcome.findings
        ],
        "notes": outcome.notes,
        "columns": [
            {
                "column": one.column,
                "memory": one.memory,
                "history": one.history,
                "deviations": [
                    {"share": share, "deviation": _finite(off)} for share, off in sorted(one.shares.items())
                ],
            }
            for one in outcome.deviations
        ],
    }


def _finite(off: float | None) -> float | None:
    """JSON has no infinity; a value where the other is null is off by all of it."""
    return off if off is None else min(off, 1e9)


def _lines(title: str, outcome: Outcome) -> list[str]:
    lines = [title, f"  looked at      {outcome.looked or 'columns'}"]
    if outcome.deviations:
        lines += ["", *_table(outcome), ""]
    lines += [f"  note           {note}" for note in outcome.notes]
    if outcome.ok:
        lines.append(f"  found          nothing: {_CLEAN[outcome.check]}")
    for one in outcome.findings:
        lines += [
            f"  found          {one.what}, first on the bar of {one.time} (bar {one.row:,})",
            f"                 {one.detail}",
            f"                 what to do: {one.advice}",
        ]
    return lines


def _table(outcome: Outcome) -> list[str]:
    heads = ["column", "declared history", *(f"with {share:g} of it" for share in SHARES)]
    rows = []
    for one in outcome.deviations:
        if one.history is None:
            rows.append([one.column, "everything", *("" for _ in SHARES)])
        else:
            rows.append([one.column, f"{one.history:,} bars", *(_off(one.shares[share]) for share in SHARES)])
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    return [f"  {line.rstrip()}" for line in lines]


def _off(off: float | None) -> str:
    if off is None:
        return "too few bars"
    if off <= ALLOWED:
        return "agrees"
    return "null" if off > 1e9 else f"off by {off:.1g}"
