"""`kill -9` at random instants of a replay: nothing is lost, nothing is done twice, and it trades again at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.paper_account import read_account
from tbh.infra.store import SqliteStore
from tbh.messages.orders import Fill

pytestmark = pytest.mark.alone

KILLS = 20
BARS = 1_600
SPEED = "100"
"""Bars a second: as many as the kills leave time for. At each second bar there is an order on its way."""
TRADING_WITHIN_S = 2.0


def command(state: Path, definition: Path, *more: str) -> list[str]:
    market = ("--bars", str(BARS), "--seed", "8", "--symbol", "BTC/USDT", "--cash", "100000")
    demo = (sys.executable, "-m", "tbh", "demo", "--database", "memory", "--json")
    return [*demo, *market, "--strategy", str(definition), "--dir", str(state), *more]


def finish(state: Path, definition: Path, *more: str) -> dict[str, Any]:
    asked = command(state, definition, "--speed", "max", *more)
    done = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def kill_somewhere(state: Path, definition: Path, rng: random.Random) -> str:
    """Start, let it live for a random while, kill; where it was: ``starting`` or ``trading``."""
    log = state / "logs" / "tradebothub.log"
    known = log.stat().st_size if log.exists() else 0
    asked = command(state, definition, "--speed", SPEED)
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time_up = time.monotonic() + rng.uniform(0.1, 2.2)
    try:
        process.wait(max(time_up - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), errors
    text = log.read_bytes()[known:].decode() if log.exists() else ""
    return "trading" if '"event":"trading"' in text else "starting"


def test_twenty_kills_lose_nothing_double_nothing_and_change_no_trade(tmp_path: Path, definition: Path) -> None:
    # In virtual time, which trades alike and takes half as long.
    undisturbed = finish(tmp_path / "undisturbed", definition, "--host", "simulator")
    state = tmp_path / "killed"
    rng = random.Random(20)
    lives = [kill_somewhere(state, definition, rng) for _ in range(KILLS)]
    assert lives.count("trading") >= KILLS // 3, lives
    result = finish(state, definition)

    account = read_account(state / "paper.sqlite")
    store = SqliteStore.open(state / "store.sqlite")
    fills = store.fills()
    executed = [event for event in account.events if isinstance(event, Fill)]
    orders = store.orders()
    position = store.positions().get("BTC/USDT")
    store.close()

    assert [fill.trade_id for fill in fills] == [fill.trade_id for fill in executed]
    assert fills == executed
    assert Decimal(result["position"]["qty"]) == account.venue.account.qty
    assert (position.qty if position is not None else Decimal(0)) == account.venue.account.qty
    assert Decimal(result["cash"]) == account.venue.account.cash
    assert {row.standing.client_order_id for row in account.orders} <= {s.order.client_order_id for s in orders}
    standing = {row.standing.client_order_id: row.standing for row in account.orders}
    for stored in orders:
        known = standing.get(stored.order.client_order_id)
        assert stored.filled_qty == (known.filled_qty if known is not None else 0)
    assert result["orders"]["unknown"] == 0
    assert result["trades"] == undisturbed["trades"]
    assert result["equity"] == undisturbed["equity"]

    starts = [
        json.loads(line)["after_s"]
        for line in (state / "logs" / "tradebothub.log").read_text().splitlines()
        if '"event":"trading"' in line
    ]
    assert max(starts) < TRADING_WITHIN_S, starts
