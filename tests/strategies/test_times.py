"""Indicators that read the times of bars, per bar and over arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tbh.messages.market import Candle
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import SERIES
from tbh.strategies.series import IndicatorError


@pytest.fixture
def early(strategy: Callable[..., DynamicStrategy]) -> DynamicStrategy:
    """Enters in the first ten minutes of a day, above the day's average price."""
    return strategy(
        indicators=[{"id": "now", "name": "clock"}, {"id": "vwap", "name": "vwap_anchored"}],
        entry={
            "long": {
                "all": [
                    {"left": "now__minute", "op": "<", "right": 10},
                    {"left": "close", "op": ">", "right": "vwap__value"},
                ]
            }
        },
    )


def arrays(bars: list[Candle]) -> dict[str, Any]:
    made = {name: np.array([float(getattr(bar, name)) for bar in bars]) for name in SERIES}
    return {**made, "time": np.array([bar.open_time.timestamp() * 1_000 for bar in bars])}


def test_a_bar_sees_the_time_it_opened(early: DynamicStrategy, candles: Callable[..., list[Candle]]) -> None:
    bars = candles([*range(100, 120), *range(100, 1_540)])
    whole = early.evaluate_all(arrays(bars))["entry_long"]
    # The first bar equals the day's average; the second day begins with bar 1,440.
    assert np.flatnonzero(whole).tolist() == [*range(1, 10), *range(1_441, 1_450)]
    per_bar = []
    for bar in bars:
        early.append(bar)
        per_bar.append(bool(early.on_bar(None)))
    assert per_bar == whole.tolist()


def test_arrays_without_times_are_refused_by_the_indicator_that_needs_them(
    early: DynamicStrategy, candles: Callable[..., list[Candle]]
) -> None:
    given = arrays(candles([1, 2, 3]))
    del given["time"]
    with pytest.raises(IndicatorError, match="'now': clock reads the times of the bars"):
        early.evaluate_all(given)


def test_the_time_is_no_column_of_a_definition(strategy: Callable[..., DynamicStrategy]) -> None:
    with pytest.raises(ValueError, match="unknown column 'time'"):
        strategy(entry={"long": {"left": "time", "op": ">", "right": 0}})
    with pytest.raises(ValueError, match="unknown source 'time'"):
        strategy(indicators=[{"id": "a", "name": "sma", "source": "time"}])
