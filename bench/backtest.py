"""The engines: bars per second from candles in memory to trades, equity and statistics, and the whole process.

A year of minutes by seed, EMA 12/26 cross, 0.1 % fee; once more with stop, target and trailing stop. ``floor`` is the
same work in plain numpy with nothing of an engine. The whole process is `tbh backtest --json`, from the column cache
and from parquet. backtesting.py and vectorbt do the same work beside it where they are installed, here or under the
interpreter of ``--peers-python``. The actor engine does it last, and its trades must be the fast engine's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import talib

from bench import _market
from tbh.backtest.columns import columns_of
from tbh.backtest.engine import backtest
from tbh.backtest.native import default_cache, runner
from tbh.backtest.options import Options
from tbh.backtest.trades import fingerprint
from tbh.rehearsal.engine import Rehearsal
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

HELP = "the engines on a year of minutes: bars per second, whole process, peers beside it"

PEERS = ("backtesting", "vectorbt")
PEER_TIMEOUT_S = 300.0
CHECKOUT = Path(__file__).resolve().parent.parent


def options(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    parser.add_argument("--seed", type=int, default=1, help="of the market (default: %(default)s)")
    parser.add_argument(
        "--peers-python", metavar="FILE", default=sys.executable, help="the interpreter that has the peers (this one)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Medians of interleaved rounds: nine in memory (three when quick), five of the process (one)."""
    bars = 50_000 if args.quick else _market.BARS
    stamps, values = _market.bars_of(args.seed, bars)
    with tempfile.TemporaryDirectory(prefix="tbh-bench-") as folder:
        files = _write(Path(folder), stamps, values)
        found = _in_memory(stamps, values, rounds=3 if args.quick else 9)
        found |= _processes(files, rounds=1 if args.quick else 5)
        found |= _by_actors(stamps, values)
        peers = {} if args.quick else {name: _peer(args.peers_python, name, files["bars"]) for name in PEERS}
    found["peers"] = {name: report for name, report in peers.items() if report is not None}
    found["ratios"] = {
        name: {
            "bars_per_s": round(found["bars_per_s"] / report["bars_per_s"], 1),
            "process_s": round(report["process_s"] / found["process_s"], 1),
        }
        for name, report in found["peers"].items()
    }
    return found | {"bars": bars, "seed": args.seed}


def _in_memory(stamps: Any, values: Any, *, rounds: int) -> dict[str, Any]:
    market = columns_of("bench", 60, stamps, values)
    settings = Options(cash=Decimal(_market.CASH), fee=Decimal(str(_market.FEE)))
    run_bars = runner(default_cache(), on_compile=lambda: print("compiling the engine, once", file=sys.stderr))
    plain, stopped = (DynamicStrategy(parse_definition(_market.definition(stops=stops))) for stops in (False, True))
    works: dict[str, Callable[[], Any]] = {
        "bars_per_s": lambda: backtest(plain, [market], settings, run_bars),
        "bars_per_s_stops": lambda: backtest(stopped, [market], settings, run_bars),
        "floor_bars_per_s": lambda: _floor(values),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    made: dict[str, Any] = {name: work() for name, work in works.items()}  # pages and caches are warm from here on
    for _ in range(rounds):
        for name, work in works.items():
            began_s = time.perf_counter()
            made[name] = work()
            seconds[name].append(time.perf_counter() - began_s)
    began_s = time.perf_counter()
    thirty = DynamicStrategy(parse_definition(_market.thirty_indicators()))
    backtest(thirty, [market], settings, run_bars)
    thirty_s = time.perf_counter() - began_s
    causes = made["bars_per_s_stops"].trades.causes()
    count = sum(causes.values())
    if abs(made["floor_bars_per_s"] - len(made["bars_per_s"].trades)) > 1:
        raise SystemExit(f"the floor has {made['floor_bars_per_s']} trades, not {len(made['bars_per_s'].trades)}")
    return {name: round(len(stamps) / median(taken)) for name, taken in seconds.items()} | {
        "trades": len(made["bars_per_s"].trades),
        "trades_stops": count,
        "thirty_indicators_s": round(thirty_s, 3),
        "exit_shares": {name: round(number / count, 3) for name, number in causes.items()},
        "floor": "talib.EMA twice, numpy comparisons, trades and equity as array sums",
    }


def _by_actors(stamps: Any, values: Any) -> dict[str, Any]:
    """The work by the actors, once, in this process."""
    market = columns_of("bench", 60, stamps, values)
    settings = Options(cash=Decimal(_market.CASH), fee=Decimal(str(_market.FEE)))
    strategy = DynamicStrategy(parse_definition(_market.definition(stops=False)))
    fast = backtest(strategy, [market], settings, runner(default_cache()))
    rehearsal = Rehearsal(strategy, market, settings)
    made = rehearsal.run()
    if fingerprint(made.trades.rows()) != fingerprint(fast.trades.rows()):
        raise SystemExit("the actors' trades are not the fast engine's")
    return {
        "actors_bars_per_s": round(made.bars / made.seconds),
        "actors_s": round(made.seconds, 2),
        "actors_us_per_fill": round(made.seconds / made.fills * 1e6),
        "actors_messages": rehearsal.host.messages,
        "actors_bars_told": rehearsal.feed.told,
    }


def _floor(values: Any) -> int:
    """The work without an engine: whole arrays, no account, no order, no rule; the number of trades."""
    opened, close = values[0], values[3]
    fast, slow = talib.EMA(close, 12), talib.EMA(close, 26)
    above = fast > slow
    entered = np.flatnonzero(above[1:] & (fast[:-1] <= slow[:-1])) + 2
    left = np.flatnonzero((fast[1:] < slow[1:]) & (fast[:-1] >= slow[:-1])) + 2
    entered, left = entered[entered < len(close)], left[left < len(close)]
    left = left[left > entered[0]]
    count = min(len(entered), len(left))
    entry, out = opened[entered[:count]], opened[left[:count]]
    pnl = 0.01 * (out - entry - _market.FEE * (out + entry))
    held = np.zeros(len(close))
    held[entered[:count]] = 1.0
    held[left[:count]] -= 1.0
    equity = _market.CASH + np.cumsum(np.cumsum(held)[:-1] * np.diff(close)) * 0.01
    peaks = np.maximum.accumulate(equity)
    returns = np.diff(equity) / equity[:-1]
    figures = (pnl.sum(), (1 - equity / peaks).max(), returns.mean() / returns.std())
    return count if np.isfinite(figures).all() else -1


def _write(folder: Path, stamps: Any, values: Any) -> dict[str, Path]:
    import pyarrow as pa  # noqa: PLC0415 - not in memory while the engine is measured
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    names = ("open", "high", "low", "close", "volume")
    table = pa.table({"timestamp": stamps} | dict(zip(names, values, strict=True)))
    files = {name: folder / name for name in ("bars.parquet", "strategy.json", "bars.npy")}
    pq.write_table(table, files["bars.parquet"])
    files["strategy.json"].write_text(json.dumps(_market.definition(stops=False)))
    np.save(files["bars.npy"], np.vstack([stamps.astype(np.float64), values]))
    return {
        "parquet": files["bars.parquet"],
        "strategy": files["strategy.json"],
        "bars": files["bars.npy"],
        "cache": folder / "cache",
    }


def _processes(files: dict[str, Path], *, rounds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tbh", "backtest", "--json", "--cash", str(_market.CASH)]
    command += ["--fee", str(_market.FEE), "--strategy", str(files["strategy"]), "--candles", str(files["parquet"])]
    files["cache"].mkdir()
    for code in default_cache().glob("loop-*"):  # was compiled, or found, for the runs in memory
        shutil.copy2(code, files["cache"])
    _measured(command, files["cache"])  # keeps the columns
    kept, read = [], []
    for _ in range(rounds):
        kept.append(_measured(command, files["cache"]))
        read.append(_measured([*command, "--no-cache"], files["cache"]))
    return {
        "process_s": round(median(seconds for seconds, _ in kept), 3),
        "peak_rss_mb": round(max(mb for _, mb in kept), 1),
        "process_s_parquet": round(median(seconds for seconds, _ in read), 3),
        "peak_rss_mb_parquet": round(max(mb for _, mb in read), 1),
    }


_LAUNCHER = """
import json, os, sys, time
began_s = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", 1, 0)])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([time.perf_counter() - began_s, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]))
"""
"""A process counts the memory of whoever started it as its own peak: so a small one starts it."""


def _measured(command: list[str], cache: Path) -> tuple[float, float]:
    """Seconds from start to end of a process, and its peak of memory in MB."""
    environment = os.environ | {"TBH_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    launch = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launch, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak_mb, code = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return seconds, peak_mb


def _peer(python: str, name: str, bars: Path) -> dict[str, Any] | None:
    """What the peer makes of the same work; None where it is not installed."""
    command = [python, str(CHECKOUT / "bench" / "_peers.py"), name, str(bars)]
    began_s = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PEER_TIMEOUT_S, check=False, cwd=bars.parent
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: not done after {PEER_TIMEOUT_S:g} s", file=sys.stderr)
        return None
    seconds = time.perf_counter() - began_s
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        print(f"{name}: left out ({last})", file=sys.stderr)
        return None
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report | {"process_s": round(seconds, 3)}
