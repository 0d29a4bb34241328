"""From exec to the first heartbeat's row in the database: how long a bot takes to be there.

The database and its gateway are up. ``floor_s`` is a bare interpreter that imports numpy and TA-Lib,
started in turn with the bot: what no program of this kind can undercut. ``trading_after_s`` is the bot's own word, from
exec to the first release of its market.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench._stack import Stack, running_stack, wait_until

LEASE_S = 2.0

HELP = "seconds from exec to the first heartbeat's row in the database, with a floor"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Median of five starts (three when quick), each with its floor in the pair; then starts after ``kill -9``."""
    rounds = 3 if args.quick else 5
    heartbeats, trading, floors, again = [], [], [], []
    with running_stack() as stack:
        _start(stack, "warm")
        for number in range(rounds):
            first, second = _start(stack, str(number))
            heartbeats.append(first[0])
            trading.append(first[1])
            again.append(second[1])
            floors.append(_floor())
        takeovers = [_takeover(stack, f"takeover-{number}") for number in range(rounds)]
    return {
        "first_heartbeat_s": round(median(heartbeats), 3),
        "first_heartbeat_s_max": round(max(heartbeats), 3),
        "trading_after_s": round(median(trading), 3),
        "trading_after_kill_s": round(median(again), 3),
        "trading_after_kill_s_max": round(max(again), 3),
        "takeover_s": round(median(takeovers), 3),
        "takeover_s_max": round(max(takeovers), 3),
        "takeover_lease_s": LEASE_S,
        "floor_s": round(median(floors), 3),
        "floor": "python, numpy and talib imported, nothing done",
        "runs": rounds,
    }


def _start(stack: Stack, name: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """(seconds to the row, seconds to trading) of a first start, then of one after ``kill -9`` on the same state."""
    bot = stack.make_bot(exchange_options={"bars_per_second": 20})
    state = stack.root / name
    timed: list[tuple[float, float]] = []
    for epoch_after in range(2):
        sessions = epoch_after + 1
        started_s = time.time()
        process = stack.start_bot(bot, state)
        try:
            row_s = wait_until(
                partial(_beaten, stack, bot.bot_id, sessions),
                within_s=30,
                what="a heartbeat",
                every_s=0.004,
            )
            after_s = wait_until(partial(_trading, state, sessions), within_s=30, what="trading")
        finally:
            process.kill()
            process.communicate()
        timed.append((row_s - started_s, after_s))
    return timed[0], timed[1]


def _takeover(stack: Stack, name: str) -> float:
    """Seconds from exec to trading on another state directory, right after the owner was killed."""
    folder = stack.root / name
    folder.mkdir()
    opened_at = datetime.now(UTC).isoformat()
    options = {"bars_per_second": 20, "account": str(folder / "account.sqlite"), "opened_at": opened_at}
    bot = stack.make_bot(exchange_options=options)
    lease = {"TBH_LEASE_S": str(LEASE_S)}
    owner = stack.start_bot(bot, folder / "here", **lease)
    rival = None
    try:
        wait_until(partial(_trading, folder / "here", 1), within_s=30, what="trading")
        wait_until(partial(_beaten, stack, bot.bot_id, 1), within_s=30, what="a heartbeat")
        owner.kill()
        rival = stack.start_bot(bot, folder / "there", **lease)
        return float(wait_until(partial(_trading, folder / "there", 1), within_s=30, what="trading elsewhere"))
    finally:
        for process in (owner, rival):
            if process is not None:
                process.kill()
                process.communicate()


def _beaten(stack: Stack, bot_id: str, boots: int) -> float:
    """When the first heartbeat of the newest boot was written (seconds since 1970), once as many boots have beaten."""
    rows = stack.query(
        "select count(*), extract(epoch from max(first_at)) from bot_runtime.run_metrics where bot_id = %s", bot_id
    )
    count, first_s = rows[0]
    return float(first_s) if count >= boots else 0.0


def _trading(state: Path, starts: int) -> float:
    try:
        lines = (state / "logs" / "tradebothub.log").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    told = [event for event in map(json.loads, lines) if event["event"] == "trading"]
    return float(told[-1]["after_s"]) if len(told) >= starts else 0.0


def _floor() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, talib"], check=True)
    return time.perf_counter() - started_s
