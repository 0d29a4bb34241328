"""Small replays through the whole tree, for the campaigns in this folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.actors.supervisor import PositionPolicy
from tbh.infra.simmarket import simulated_market
from tbh.plan import PaperPlan
from tbh.runtime.cell import Intercept
from tbh.session import PaperSession
from tbh.strategies.definition import parse_definition

DEFINITION = {
    "name": "campaign",
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


@pytest.fixture(scope="session")
def plan_in() -> Callable[..., PaperPlan]:
    """Makes the plan of a small replay that enters, exits, reverses, and is stopped both ways, in a folder."""

    def make(folder: Path, name: str = "state", *, bars: int = 45, **changes: Any) -> PaperPlan:
        settings: dict[str, Any] = {
            "candles": simulated_market(59, bars),
            "simulated": True,
            "definition": parse_definition(DEFINITION),
            "symbol": "BTC/USDT",
            "cash": Decimal(100_000),
            "fee": Decimal("0.0005"),
            "bars_per_s": None,
            "seed": 7,
            "root": folder / name,
            "host": "simulator",
            "policy": PositionPolicy.PROTECT,
        }
        return PaperPlan(**(settings | changes))

    return make


@pytest.fixture
def plan(plan_in: Callable[..., PaperPlan], tmp_path: Path) -> Callable[..., PaperPlan]:
    """The same in the test's own folder."""
    return functools.partial(plan_in, tmp_path)


@pytest.fixture(scope="session")
def replay() -> Callable[..., dict[str, Any]]:
    """Runs a plan to its end (or its escalation) and gives the result."""

    def run(plan: PaperPlan, *, intercept: Intercept | None = None, within_s: float = 60.0) -> dict[str, Any]:
        session = PaperSession.open(plan, intercept=intercept)
        try:
            session.start()
            assert session.wait(within_s), f"the replay stands at bar {session.snapshot().bar_index}"
        finally:
            session.close()
        return session.result()

    return run


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """The campaign's strategy as a file."""
    path = tmp_path / "campaign.json"
    path.write_text(json.dumps(DEFINITION))
    return path
