"""The demo on its own local database: rows in every table, a quick second start, nothing left by a kill."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench._stack import wait_until
from tests.stack.strategies import BUSY

BARS = 120
FILLED = {
    "bot_runtime", "bot_leases", "bot_state", "bot_positions", "bot_trades", "bot_fills", "bot_events",
    "bot_health_evidence", "risk_decisions", "cycle_trace", "run_metrics", "notifications", "sessions", "sync_streams",
    "subscriptions", "audit_log",
}  # fmt: skip
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def demo(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tbh", "demo", "--json", "--dir", str(tmp_path / "state"), *arguments]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        running.append(
            subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return running[-1]

    yield demo
    for process in running:
        process.kill()
        process.communicate()


def fills_in(store: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM fills").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (0, "")
    told: dict[str, Any] = json.loads(out)
    return told


def test_it_fills_every_table_is_killed_and_goes_on(start: Start, tmp_path: Path) -> None:
    strategy = tmp_path / "busy.json"
    strategy.write_text(json.dumps(BUSY))
    market = ("--bars", str(BARS), "--strategy", str(strategy), "--speed", "40")
    killed = start(*market)
    wait_until(lambda: fills_in(tmp_path / "state" / "store.sqlite") >= 6, within_s=60, what="some trades")
    killed.kill()
    killed.communicate()
    told = ended(start(*market))
    assert told["bars"] == BARS
    assert told["journal"]["pending"] == 0
    rows = told["database"]["rows"]
    assert {table for table in FILLED if not rows[table]} == set()
    assert rows["cycle_trace"] == BARS
    assert rows["bot_fills"] == told["fills"]
    assert rows["dead_letters"] == 0
    assert rows["sessions"] == 2
