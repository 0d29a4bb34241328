"""A strategy in Python runs as a bot: it fails, its package goes away, and the position keeps its stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

DEFINITION = {"custom": "holding", "name": "holding", "timeframe": "1m", "params": {"share": "0.5"}}
MODULE = """
from dataclasses import dataclass
from decimal import Decimal
from tbh.strategies.custom import Side

@dataclass
class Params:
    share: Decimal

class Holding:
    Params = Params
    history = 2
    stops = {"stop_loss": "0.2"}

    def __init__(self, params):
        self.sizing = {"kind": "equity_fraction", "value": str(params.share)}

    def on_bar(self, view):
        return [view.no_such_thing] if view.position else [view.enter(Side.BUY)]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a package as pip would leave it, which offers the strategy."""
    about = tmp_path / "site" / "holding-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: holding\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tbh.strategies]\nholding = holding:Holding\n")
    (about.parent / "holding.py").write_text(MODULE)
    return about.parent


def stops(fleet: Any, bot: Any) -> list[str]:
    rows = fleet.stack.query(
        "select order_status from bot_runtime.bot_trades where bot_id = %s and event = 'stop'", bot.bot_id
    )
    return [status for (status,) in rows]


def notices(fleet: Any, bot: Any) -> list[tuple[str, str]]:
    told = "select payload ->> 'kind', payload ->> 'text' from bot_runtime.notifications where bot_id = %s order by id"
    return list(fleet.stack.query(told, bot.bot_id))


def test_its_failure_and_the_want_of_its_package_are_a_line_each_and_the_stop_stands(fleet: Any, site: Path) -> None:
    bot = fleet.make(DEFINITION)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    code, out, told = fleet.ended(fleet.start(bot, PYTHONPATH=path))
    assert "by holding (holding 1.0), epoch " in out
    assert (code, told.count("\n")) == (70, 1)
    assert told.startswith(
        "tbh: the bot stopped itself: strategy: failed too often, last: StrategyError: strategy 'hol"
    )
    assert ": AttributeError: 'BarView' object has no attribute 'no_such_thing' (holding.py, line 19); posi" in told
    assert "; position: its stop stands: " in told
    assert stops(fleet, bot) == ["accepted"]

    code, out, told = fleet.ended(fleet.start(bot))
    assert (code, out, told.count("\n")) == (78, "", 1)
    assert told.startswith(
        "tbh: strategy_invalid: context.strategy.definition: $.custom: unknown installed strategy 'h"
    )
    assert fleet.lease_of(bot)[0] is None
    assert [kind for kind, _ in notices(fleet, bot)] == ["started", "escalated", "not_started"]
    assert notices(fleet, bot)[-1][1] == told.strip().removeprefix("tbh: ")
    assert stops(fleet, bot) == ["accepted"]
