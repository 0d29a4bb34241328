"""Who need not be woken for a bar at once, which depends on the limits that a bot has."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tbh.domain.papermarket import paper_market
from tbh.domain.risk import RiskLimits
from tbh.messages.market import Bar
from tbh.runtime.supervise import ChildSpec
from tbh.tree import Parts, build_tree


def accountant_of(limits: RiskLimits) -> ChildSpec:
    nothing: Any = None
    identity: Any = SimpleNamespace(bot_id="bot")
    parts = Parts(
        identity=identity,
        market=paper_market("BASE/QUOTE", Decimal(0)),
        new_strategy=nothing,
        feed=nothing,
        exchange=nothing,
        store=nothing,
        rpc=nothing,
        sink=nothing,
        channels=(),
        limits=limits,
        cash=Decimal(0),
    )
    return next(spec for spec in build_tree(parts) if spec.name == "accountant")


@pytest.mark.parametrize(
    ("limits", "has_time"),
    [
        (RiskLimits(), True),
        (RiskLimits(max_trades=3), True),
        (RiskLimits(daily_loss_limit=Decimal("0.05")), False),
        (RiskLimits(max_drawdown=Decimal("0.2")), False),
    ],
)
def test_the_accountant_has_time_for_a_bar_unless_a_verdict_waits_for_what_it_says(
    limits: RiskLimits, has_time: bool
) -> None:
    assert (Bar in accountant_of(limits).unhurried) is has_time
