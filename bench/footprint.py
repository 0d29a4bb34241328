"""What a running paper bot costs: memory and processor time, sampled while it trades with its database.

``floor_rss_mb`` is a bare interpreter with numpy and TA-Lib imported, measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench._stack import running_stack, wait_until

BARS_PER_S = 5.0

HELP = "memory and processor time of a running paper bot, with a floor"

_IDLE = "import numpy, talib, sys; print('up', flush=True); sys.stdin.read()"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Samples over some seconds of a bot that gets five bars a second."""
    seconds = 4.0 if args.quick else 12.0
    with running_stack() as stack:
        made = stack.make_bot(exchange_options={"bars_per_second": BARS_PER_S})
        state = stack.root / "state"
        bot = stack.start_bot(made, state)
        try:
            wait_until(lambda: _written(state / "events.jsonl"), within_s=30, what="the first event")
            before_s, started_s = _cpu_s(bot.pid), time.monotonic()
            samples = []
            while time.monotonic() - started_s < seconds:
                time.sleep(0.25)
                samples.append(_memory_mb(bot.pid))
            cpu_percent = 100 * (_cpu_s(bot.pid) - before_s) / (time.monotonic() - started_s)
        finally:
            bot.terminate()
            bot.communicate(timeout=20)
    floor = subprocess.Popen([sys.executable, "-c", _IDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert floor.stdout is not None
    floor.stdout.readline()
    floor_rss_mb, _ = _memory_mb(floor.pid)
    floor.communicate()
    return {
        "rss_mb": round(max(rss for rss, _ in samples), 1),
        "pss_mb": round(max(pss for _, pss in samples), 1),
        "cpu_percent": round(cpu_percent, 2),
        "floor_rss_mb": round(floor_rss_mb, 1),
        "floor": "python, numpy and talib imported, nothing done",
        "bars_per_s": BARS_PER_S,
        "samples": len(samples),
    }


def _written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _memory_mb(pid: int) -> tuple[float, float]:
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0]) / 1000 * 1.024
    return sizes["Rss"], sizes["Pss"]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
