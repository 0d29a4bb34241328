"""The backtest benchmark's market and its floor: the same for the same seed, and the same work as the engine's."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import numpy as np

from bench import _market
from bench import backtest as bench
from tbh.backtest.columns import columns_of
from tbh.backtest.engine import backtest
from tbh.backtest.native import plain_runner
from tbh.backtest.options import Options
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

BARS = 4_000


def test_the_market_is_a_matter_of_the_seed() -> None:
    stamps, values = _market.bars_of(1, BARS)
    assert hashlib.sha256(values.tobytes()).hexdigest()[:12] == "e3eaffae59cd"
    assert (values != _market.bars_of(2, BARS)[1]).any()
    assert set(np.diff(stamps)) == {60_000}
    opened, high, low, close, volume = values
    assert (high >= np.maximum(opened, close)).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (volume > 0).all()


def test_the_floor_does_the_same_work_and_the_stops_are_hit() -> None:
    stamps, values = _market.bars_of(1, BARS)
    market = columns_of("bench", 60, stamps, values)
    options = Options(cash=Decimal(_market.CASH), fee=Decimal(str(_market.FEE)))
    made = {
        stops: backtest(
            DynamicStrategy(parse_definition(_market.definition(stops=stops))), [market], options, plain_runner()
        )
        for stops in (False, True)
    }
    assert abs(bench._floor(values) - len(made[False].trades)) <= 1
    causes = made[True].trades.causes()
    assert min(causes[name] for name in ("stop", "trailing", "target")) >= 0.1 * sum(causes.values())
