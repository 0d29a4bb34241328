"""The simulated market repeats, is sound, and gives a moving average something to do."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.candles import load_candles
from tbh.infra.simmarket import FIRST_OPEN, OpenMarket, simulated_market
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

EXAMPLE = Path(__file__).parents[2] / "examples" / "strategies" / "ema_cross.json"


def text_of(seed: int, bars: int) -> str:
    lines = [
        f"{int(candle.open_time.timestamp())}000,{candle.open},{candle.high},{candle.low},{candle.close},{candle.volume}"
        for candle in simulated_market(seed, bars)
    ]
    return "\n".join(["timestamp,open,high,low,close,volume", *lines, ""])


def test_a_seed_gives_the_same_digits_on_every_machine() -> None:
    digest = hashlib.sha256(text_of(7, 2_000).encode()).hexdigest()
    assert digest == "3a646d34e130a79deaf8f114150a8c93ed9b9be1bc108815383a2409a6324fb2"


def test_another_seed_is_another_market() -> None:
    assert text_of(1, 50) != text_of(2, 50)


def test_more_bars_continue_the_same_market() -> None:
    assert list(simulated_market(3, 900))[:500] == list(simulated_market(3, 500))


@given(seed=st.integers(0, 2**64), bars=st.integers(2, 600))
def test_any_simulated_market_passes_the_check_of_files(
    seed: int, bars: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("market") / "c.csv"
    path.write_text(text_of(seed, bars))
    read = load_candles(path)
    assert (len(read), read.gaps) == (bars, ())
    assert list(read) == list(simulated_market(seed, bars))


def test_bars_join_and_have_two_decimals() -> None:
    market = simulated_market(5, 300)
    assert all(before.close == after.open for before, after in pairwise(market))
    assert {candle.high.as_tuple().exponent for candle in market} == {-2}
    assert market[0].open == Decimal("30000.00")


def test_timeframe_and_start_set_the_times() -> None:
    start = datetime(2025, 5, 5, tzinfo=UTC)
    market = simulated_market(1, 3, timeframe_s=300, start=start)
    assert [candle.open_time for candle in market] == [start + timedelta(minutes=5 * index) for index in range(3)]
    assert (market.timeframe_s, simulated_market(1, 2)[0].open_time) == (300, FIRST_OPEN)


@pytest.mark.parametrize("seed", range(5))
def test_the_demonstrated_strategy_trades_on_it(seed: int) -> None:
    strategy = DynamicStrategy(parse_definition(EXAMPLE.read_text()))
    rules = strategy.evaluate_all(simulated_market(seed, 1_000).arrays)
    assert np.count_nonzero(rules["entry_long"]) >= 8
    assert np.count_nonzero(rules["entry_long"][:300]) >= 1


def test_volatility_clusters() -> None:
    close = simulated_market(11, 20_000).arrays["close"]
    moves = np.abs(np.diff(close) / close[:-1])
    assert np.corrcoef(moves[1:], moves[:-1])[0, 1] > 0.1


@pytest.mark.parametrize("bars", [-1, 0, 1, 1_000_001])
def test_number_of_bars_is_limited(bars: int) -> None:
    with pytest.raises(ValueError, match="2 to 1000000"):
        simulated_market(1, bars)


def test_start_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="not the open of a bar"):
        simulated_market(1, 5, start=FIRST_OPEN + timedelta(seconds=1))


def test_a_market_without_end_has_the_bars_of_the_one_with() -> None:
    open_market, recorded = OpenMarket(7, timeframe_s=300), simulated_market(7, 600, timeframe_s=300)
    assert [open_market[index] for index in (599, 0, 1, 250)] == [recorded[index] for index in (599, 0, 1, 250)]
    assert repr(open_market[42]) == repr(recorded[42])
    with pytest.raises(IndexError):
        open_market[len(open_market)]
