"""Bars per second of a replay through the real actors, on threads and with the store on disk.

``floor_bars_per_s`` is what the disk alone would allow: one durable commit per bar and nothing else, measured in
interleaved pairs with the replay.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HELP = "bars per second through the real actors, with the disk's own limit"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Median of three replays (one when quick) of a simulated market."""
    rounds, bars = (1, 2_000) if args.quick else (3, 8_000)
    rates, simulated, floors = [], [], []
    with tempfile.TemporaryDirectory(prefix="tbh-bench-") as folder:
        for number in range(rounds):
            rates.append(_replay(Path(folder, f"threads-{number}"), bars, "threads"))
            simulated.append(_replay(Path(folder, f"simulator-{number}"), bars, "simulator"))
            floors.append(_floor(Path(folder, f"floor-{number}.sqlite")))
    return {
        "bars_per_s": round(median(rates), 1),
        "simulator_bars_per_s": round(median(simulated), 1),
        "floor_bars_per_s": round(median(floors), 1),
        "floor": "one durable SQLite commit per bar and nothing else",
        "bars": bars,
        "runs": rounds,
    }


def _replay(state: Path, bars: int, host: str) -> float:
    command = [
        sys.executable,
        "-m",
        "tbh",
        "demo",
        "--database",
        "memory",
        "--bars",
        str(bars),
        "--speed",
        "max",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--host", host, "--dir", str(state)], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout)["bars_per_s"])


def _floor(path: Path, commits: int = 2_000) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE decided (strategy TEXT PRIMARY KEY, bar INTEGER) WITHOUT ROWID")
    started_s = time.perf_counter()
    for bar in range(commits):
        connection.execute("INSERT OR REPLACE INTO decided VALUES ('s', ?)", (bar,))
    rate = commits / (time.perf_counter() - started_s)
    connection.close()
    return rate
