"""One seed is one run, delivery for delivery, and no run of a market has other trades than another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.simmarket import simulated_market
from tbh.plan import PaperPlan
from tbh.session import PaperSession
from tbh.strategies.definition import parse_definition

BARS = 150

DEFINITION = {
    "name": "both-ways",
    "timeframe": "1m",
    "indicators": [
        {"id": "fast", "name": "ema", "params": {"period": 3}},
        {"id": "slow", "name": "ema", "params": {"period": 8}},
    ],
    "entry": {
        "long": {"all": [{"left": "fast__value", "op": "crosses_above", "right": "slow__value"}]},
        "short": {"all": [{"left": "fast__value", "op": "crosses_below", "right": "slow__value"}]},
    },
    "exit": {
        "long": {"any": [{"left": "fast__value", "op": "crosses_below", "right": "slow__value"}]},
        "short": {"any": [{"left": "fast__value", "op": "crosses_above", "right": "slow__value"}]},
    },
    "stops": {"basis": "entry", "stop_loss": "0.003", "take_profit": "0.004"},
    "sizing": {"kind": "fixed_quantity", "value": "0.5"},
}


def played(host: str, *, seed: int = 7, bars_per_s: float | None = None) -> dict[str, Any]:
    """What a replay comes to, and on the simulator the digest of all deliveries."""
    with tempfile.TemporaryDirectory() as folder:
        plan = PaperPlan(
            candles=simulated_market(8, BARS),
            simulated=True,
            definition=parse_definition(DEFINITION),
            symbol="BTC/USDT",
            cash=Decimal(100_000),
            fee=Decimal("0.0005"),
            bars_per_s=bars_per_s,
            seed=seed,
            root=Path(folder) / "state",
            host=host,
        )
        session = PaperSession.open(plan)
        try:
            session.start()
            assert session.wait(60)
            digest = session.host.digest if host == "simulator" else ""
        finally:
            session.close()
        result = session.result()
    assert result["exit_code"] == 0
    return {"digest": digest} | {name: result[name] for name in ("trades", "equity", "position", "fills", "orders")}


SCRIPT = """
import json, sys
sys.path.insert(0, {folder!r})
import test_determinism
print(json.dumps(test_determinism.played("simulator")))
"""


def played_elsewhere(hash_seed: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent))],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def played_here() -> dict[str, Any]:
    return played("simulator")


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_a_seed_is_the_same_run_in_another_process_with_other_string_hashing(
    hash_seed: str, played_here: dict[str, Any]
) -> None:
    assert played_elsewhere(hash_seed) == played_here
    assert len(played_here["trades"]) >= 10


def test_other_seeds_deliver_in_another_order_and_trade_the_same(played_here: dict[str, Any]) -> None:
    runs = [dict(played_here), *(played("simulator", seed=seed) for seed in (8, 9))]
    assert len({run.pop("digest") for run in runs}) == 3
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("bars_per_s", [None, 200.0])
def test_threads_trade_as_the_simulator_does_at_any_speed(
    bars_per_s: float | None, played_here: dict[str, Any]
) -> None:
    simulated = dict(played_here)
    del simulated["digest"]
    threaded = played("threads", bars_per_s=bars_per_s)
    assert threaded.pop("digest") == ""
    assert threaded == simulated
