"""What the loop is told of a definition, and statistics against their definitions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from tbh.backtest.stats import BLOCK, drawdowns, statistics
from tbh.backtest.terms import pair
from tbh.strategies import shapes, trading

KNOWN = {
    shapes.Definition: {
        *("name", "timeframe", "indicators", "entry", "exit", "pyramid", "stops", "cooldown", "orders", "sizing")
    },
    shapes.Sides: {"long", "short"},
    shapes.Pyramid: {"long", "short", "max_layers"},
    trading.Stops: {"basis", "stop_loss", "take_profit", "trailing"},
    trading.TrailingStop: {"distance", "activate_at"},
    trading.CooldownRule: {"bars", "after"},
    trading.Orders: {"entry", "exit"},
    trading.MarketEntry: {"kind"},
    trading.LimitEntry: {"kind", "offset", "expires_bars"},
    trading.ExitOrder: {"kind"},
    trading.SizingRule: {"kind", "value"},
}


@pytest.mark.parametrize("shape", KNOWN, ids=lambda shape: shape.__name__)
def test_the_engine_knows_every_field_of_a_definition(shape) -> None:
    assert set(shape.model_fields) == KNOWN[shape], "tbh/backtest/terms.py would trade as if the new one were not there"


@pytest.mark.parametrize("text", ["0", "1", "123456789012345678901234567890", "-0.1", "1e25"])
def test_a_pair_holds_thirty_digits(text: str) -> None:
    high, low = pair(Decimal(text))
    wanted = Fraction(Decimal(text))
    assert abs(Fraction(high) + Fraction(low) - wanted) <= abs(wanted) / 10**30


def test_statistics_are_what_their_definitions_say() -> None:
    equity = 1_000 + np.cumsum(np.random.Generator(np.random.PCG64(3)).standard_normal(3 * BLOCK + 17))
    pnl = np.array([5.0, -2.0, 0.0, 1.0])
    found = statistics(equity, cash=1_000.0, pnl=pnl, held_bars=BLOCK, timeframe_s=3_600)
    returns = np.diff(np.concatenate(([1_000.0], equity))) / np.concatenate(([1_000.0], equity[:-1]))
    assert found.total_return == pytest.approx(equity[-1] / 1_000 - 1)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std() * np.sqrt(365 * 24))
    peaks = np.maximum.accumulate(np.concatenate(([1_000.0], equity)))[1:]
    assert found.max_drawdown == pytest.approx((1 - equity / peaks).max())
    assert found.max_drawdown == pytest.approx(drawdowns(equity, 1_000.0).max())
    assert (found.win_rate, found.profit_factor) == (0.5, 3.0)
    assert found.exposure == BLOCK / len(equity)


def test_what_divides_by_nothing_is_none() -> None:
    still = statistics(np.full(10, 5.0), cash=5.0, pnl=np.array([]), held_bars=0, timeframe_s=60)
    assert (still.sharpe, still.win_rate, still.profit_factor, still.max_drawdown) == (None, None, None, 0.0)
    ruined = statistics(np.array([5.0, -1.0]), cash=5.0, pnl=np.array([-6.0]), held_bars=1, timeframe_s=60)
    assert (ruined.sharpe, ruined.profit_factor, ruined.max_drawdown) == (None, 0.0, 1.2)


@pytest.mark.parametrize(
    "shape",
    [
        lambda steps: 1_000 + np.cumsum(steps),
        lambda steps: 1_000 - np.cumsum(np.abs(steps)),
        lambda steps: 1_000 + np.cumsum(np.abs(steps)),
        lambda steps: 50 + np.cumsum(30 * steps),
    ],
    ids=["to and fro", "falling", "rising", "through zero"],
)
@pytest.mark.parametrize("rows", [1, BLOCK, 4 * BLOCK + 3])
def test_the_deepest_drawdown_is_the_deepest_of_the_bars(shape, rows: int) -> None:
    for seed in range(5):
        equity = shape(np.random.Generator(np.random.PCG64(seed)).standard_normal(rows))
        found = statistics(equity, cash=1_000.0, pnl=np.array([]), held_bars=0, timeframe_s=60)
        assert found.max_drawdown == max(0.0, drawdowns(equity, 1_000.0).max())
