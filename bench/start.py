"""From exec to the first heartbeat: how long a bot takes to be there.

``floor_s`` is a bare interpreter that imports numpy and TA-Lib, started in turn with the bot: what no program of this
kind can undercut.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HELP = "seconds from exec to the first heartbeat, with a floor"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Median of five starts (three when quick), each with its floor in the pair."""
    rounds = 3 if args.quick else 5
    heartbeats, trading, floors = [], [], []
    with tempfile.TemporaryDirectory(prefix="tbh-bench-") as folder:
        _start(Path(folder, "warm"))
        for number in range(rounds):
            heartbeat_s, trading_s = _start(Path(folder, str(number)))
            heartbeats.append(heartbeat_s)
            trading.append(trading_s)
            floors.append(_floor())
    return {
        "first_heartbeat_s": round(median(heartbeats), 3),
        "first_heartbeat_s_max": round(max(heartbeats), 3),
        "trading_after_s": round(median(trading), 3),
        "floor_s": round(median(floors), 3),
        "floor": "python, numpy and talib imported, nothing done",
        "runs": rounds,
    }


def _start(state: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "tbh", "demo", "--bars", "200", "--speed", "max", "--json", "--dir", str(state)]
    started_s = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    events = [json.loads(line) for line in (state / "events.jsonl").read_text().splitlines()]
    first_ms = min(event["timestamp"] for event in events if event["eventType"] == "BotHeartbeat")
    return first_ms / 1000 - started_s, float(json.loads(done.stdout)["trading_after_s"])


def _floor() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, talib"], check=True)
    return time.perf_counter() - started_s
