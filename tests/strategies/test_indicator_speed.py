"""How long the indicators take that go through their rows one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tbh.strategies.indicators import CATALOGUE, SOURCE

ROWS = 525_600
LOOPS = ("fisher", "atr_stop", "super_smoother", "zigzag", "mcginley", "frama", "vidya", "kvo")


@pytest.mark.alone
@pytest.mark.parametrize("name", LOOPS)
def test_a_year_of_minutes_takes_less_than_a_third_of_a_second(name: str) -> None:
    rng = np.random.default_rng(7)
    close = 1_000 * np.exp(np.cumsum(rng.normal(size=ROWS) * 1e-3))
    series = {"high": close + 1, "low": close - 1, "close": close, "volume": rng.uniform(1, 9, size=ROWS)}
    entry = CATALOGUE[name]
    inputs = tuple(series["close" if each == SOURCE else each] for each in entry.inputs)
    params = entry.resolve({})
    best = 1.0
    for _ in range(3):
        began = time.process_time()
        entry.compute(inputs, params)
        best = min(best, time.process_time() - began)
    assert best < 0.3
