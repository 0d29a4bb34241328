"""Definitions drawn by chance over slices of recorded candles, traded by the fast engine, the actors and `tbh demo`.

Every trade must be the same to the last digit, and so must cash, fees, equity and position at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from bench import _drawn
from bench.reference import DATA
from tbh.backtest.native import default_cache, runner

HELP = "drawn definitions through the fast engine, the actors and tbh demo, trade for trade"


def options(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    parser.add_argument("--cases", type=int, default=30, help="definitions (default: %(default)s)")
    parser.add_argument("--bars", type=int, default=1_500, help="of each slice (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument("--volume", action="store_true", help="with fills limited by volume")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All cases (three of 300 bars when quick); raises ``SystemExit`` on a difference, with the case in it."""
    count, bars = (3, 300) if args.quick else (args.cases, args.bars)
    run_bars = runner(default_cache(), on_compile=lambda: print("compiling the engine, once", file=sys.stderr))
    totals: dict[str, Any] = {"cases": 0, "trades": 0, "exits": {}}
    unlike: list[str] = []

    @seed(args.seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_drawn.cases(DATA, bars=bars, by_volume=args.volume))
    def compare(case: _drawn.Case) -> None:
        candles = _drawn.candles_of(case, DATA, bars)
        made = _drawn.fast(case, candles, run_bars)
        lines = [f"actors: {line}" for line in _drawn.unlike(_drawn.actors(case, candles), made)]
        lines += [f"demo: {line}" for line in _drawn.differences(made, _drawn.demo(case, candles))]
        totals["cases"] += 1
        totals["trades"] += len(made.trades)
        for name, number in made.trades.causes().items():
            totals["exits"][name] = totals["exits"].get(name, 0) + number
        unlike.extend(f"{case}: {line}" for line in lines[:3])
        print(
            f"{totals['cases']}/{count} {case.market}: {len(made.trades)} trades, {len(lines)} differences",
            file=sys.stderr,
        )

    began_s = time.perf_counter()
    compare()
    if unlike:
        raise SystemExit("\n".join(["the trades differ:", *unlike]))
    return totals | {"differences": 0, "bars": bars, "seconds": round(time.perf_counter() - began_s, 1)}
