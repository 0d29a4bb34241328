"""That the order path's benchmark measures what it says. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_each_order_passes_one_commit_and_the_wire_and_the_parts_are_told() -> None:
    command = [sys.executable, "-m", "bench", "order_path", "--quick", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    promised = "us_p50 us_p99 commit_us_p50 request_us_p50 bare_commit_us_p50 round_trip_us_p50 hops_us_p50 orders"
    for name in promised.split():
        assert figures[name] > 0, name
    assert figures["commits"] == 1
    assert figures["overhead_us_p50"] < figures["us_p50"]
