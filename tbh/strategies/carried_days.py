"""Indicators that know days, one bar at a time (see ``carried.py``)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from tbh.strategies.catalogue.sessions import DAY_MS, MINUTE_MS, span_of
from tbh.strategies.indicators import Indicator, Params

Step = Callable[..., tuple[float, ...]]

NULL = math.nan
PIVOTS = ("pivots", "pivots_fibonacci", "pivots_camarilla", "pivots_woodie", "pivots_demark")


def _vwap_anchored(_: Indicator, params: Params) -> Step:
    paid, traded, span = 0.0, 0.0, -1

    def step(high: float, low: float, close: float, volume: float, time: float) -> tuple[float, ...]:
        nonlocal paid, traded, span
        now = span_of(time, params)
        if now != span:
            paid, traded, span = 0.0, 0.0, now
        paid += (high + low + close) / 3.0 * volume
        traded += volume
        return (paid / traded if traded else NULL,)

    return step


def _pivots(entry: Indicator, params: Params) -> Step:
    """The span before, as one bar, and the first of this span are all that the levels depend on."""
    nulls = (NULL,) * len(entry.outputs)
    span: int | None = None
    bar: list[float] = []
    levels = nulls

    def step(*row: float) -> tuple[float, ...]:
        nonlocal span, bar, levels
        now = span_of(row[4], params)
        if now != span:
            if span is not None:
                two = tuple(np.array(pair) for pair in zip(bar, row, strict=True))
                levels = tuple(float(level[-1]) for level in entry.compute(two, params))
            span, bar = now, list(row)
        else:
            bar[1], bar[2], bar[3] = max(bar[1], row[1]), min(bar[2], row[2]), row[3]
        return levels

    return step


def _relative_daily_volume(_: Indicator, params: Params) -> Step:
    length, offset = int(params["period"]), float(params["offset_minutes"]) * MINUTE_MS
    before: dict[float, deque[float]] = {}
    day: int | None = None
    running = 0.0

    def step(volume: float, time: float) -> tuple[float, ...]:
        nonlocal day, running
        today = math.floor((time - offset) / DAY_MS)
        running = running + volume if today == day else volume
        day = today
        alike = before.setdefault(time - offset - today * DAY_MS, deque(maxlen=length))
        mean = math.fsum(alike) / length if len(alike) == length else 0.0
        alike.append(running)
        return (running / mean if mean else NULL,)

    return step


SESSIONS: Mapping[str, Callable[[Indicator, Params], Step]] = MappingProxyType(
    {
        "vwap_anchored": _vwap_anchored,
        **dict.fromkeys(PIVOTS, _pivots),
        "relative_daily_volume": _relative_daily_volume,
    }
)
"""By the name of the entry."""
