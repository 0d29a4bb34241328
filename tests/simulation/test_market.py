"""The seeded price path: ticks, bars and their times."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

from tbh.simulation.market import HISTORY_BARS, START, PricePath


def path(seed: str = "a", *, price: str = "100.00") -> PricePath:
    return PricePath(
        random.Random(seed), bar_s=5, per_bar=4, step=Decimal("0.01"), price=Decimal(price), volatility=0.01
    )


def test_the_history_ends_when_the_first_tick_comes() -> None:
    market = path()
    assert len(market.candles) == HISTORY_BARS - 1
    market.advance()
    assert [candle.open_time for candle in market.candles] == [
        START - (HISTORY_BARS - index) * timedelta(seconds=5) for index in range(HISTORY_BARS)
    ]
    assert market.bar_open == START


def test_a_bar_holds_what_its_ticks_were() -> None:
    market = path()
    ticks = [market.advance() for _ in range(8)]
    market.advance()
    for candle, seen in zip(market.candles[-2:], (ticks[:4], ticks[4:]), strict=True):
        assert (candle.open, candle.high, candle.low, candle.close) == (seen[0], max(seen), min(seen), seen[-1])


def test_prices_stay_on_the_step_and_above_nothing() -> None:
    market = path(price="1.50")
    ticks = [market.advance() for _ in range(2_000)]
    assert all(price > 0 and price == price.quantize(Decimal("0.01")) for price in ticks)


def test_a_seed_repeats_its_path() -> None:
    first, again, other = path("a"), path("a"), path("b")
    ticks = [[market.advance() for _ in range(40)] for market in (first, again, other)]
    assert ticks[0] == ticks[1]
    assert ticks[0] != ticks[2]
