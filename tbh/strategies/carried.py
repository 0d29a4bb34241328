"""Indicators that remember everything, one bar at a time: what the whole array has, without the whole array.

Each maker takes an entry and its parameters and gives a step: the inputs of one bar, in the entry's order, to its
outputs. A step is called for every bar from the first on and keeps what it needs of them. Stops are in
``carried_stops.py``, what knows days in ``carried_days.py``. The operations and their order are those of the arrays.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import talib

from tbh.strategies.carried_days import SESSIONS
from tbh.strategies.carried_stops import STOPS
from tbh.strategies.indicators import Indicator, Params

Step = Callable[..., tuple[float, ...]]
Make = Callable[[Indicator, Params], Step]

NULL = math.nan


def _total(gain: Callable[..., float], *, first: Callable[..., float]) -> Make:
    """The sum of ``gain(*bar, *bar before)`` over all bars, from ``first(*bar)`` on."""

    def make(_: Indicator, __: Params) -> Step:
        total = 0.0
        before: tuple[float, ...] = ()

        def step(*bar: float) -> tuple[float, ...]:
            nonlocal total, before
            total = total + gain(*bar, *before) if before else first(*bar)
            before = bar
            return (total,)

        return step

    return make


def _nothing(*_: float) -> float:
    return 0.0


def _obv(close: float, volume: float, close_before: float, _: float) -> float:
    if close == close_before:
        return 0.0
    return volume if close > close_before else -volume


def _ad(high: float, low: float, close: float, volume: float, *_: float) -> float:
    width = high - low
    return (((close - low) - (high - close)) / width) * volume if width > 0.0 else 0.0


def _wad(high: float, low: float, close: float, _: float, __: float, before: float) -> float:
    if close == before:
        return 0.0
    return close - min(low, before) if close > before else close - max(high, before)


def _pvt(close: float, volume: float, before: float, _: float) -> float:
    return volume * ((close - before) / before) if before else 0.0


def _itself(value: float, *_: float) -> float:
    return value


def _index(takes: Callable[[float, float], bool]) -> Make:
    """The returns of the bars whose volume ``takes(now, before)``, compounded from 1,000."""

    def make(_: Indicator, __: Params) -> Step:
        value, close_before, volume_before = 1_000.0, 0.0, 0.0

        def step(close: float, volume: float) -> tuple[float, ...]:
            nonlocal value, close_before, volume_before
            if close_before and takes(volume, volume_before):
                value += value * ((close - close_before) / close_before)
            close_before, volume_before = close, volume
            return (value,)

        return step

    return make


def _vwap(_: Indicator, __: Params) -> Step:
    paid, traded = 0.0, 0.0

    def step(high: float, low: float, close: float, volume: float) -> tuple[float, ...]:
        nonlocal paid, traded
        paid += (high + low + close) / 3.0 * volume
        traded += volume
        return (paid / traded if traded else NULL,)

    return step


def _vpt_signal(entry: Indicator, params: Params) -> Step:
    length = int(params["period"])
    line = _total(_pvt, first=_nothing)(entry, params)
    last: deque[float] = deque(maxlen=length)

    def step(close: float, volume: float) -> tuple[float, ...]:
        (value,) = line(close, volume)
        last.append(value)
        return value, math.fsum(last) / length if len(last) == length else NULL

    return step


def _extreme(better: Callable[[float, float], bool], params: Params) -> Callable[[float], float]:
    """The row of the best value of the last ``period``; of equals the first one while it is within reach."""
    length = int(params["period"])
    last: deque[float] = deque(maxlen=length)
    row, best = -1, -1

    def step(value: float) -> float:
        nonlocal row, best
        row += 1
        last.append(value)
        oldest = row - length + 1
        if oldest < 0:
            return NULL
        if best < oldest:
            best = oldest
            for place, each in enumerate(last):
                if better(each, last[best - oldest]):
                    best = oldest + place
        elif not better(last[best - oldest], value):
            best = row
        return float(best)

    return step


def _extreme_index(*betters: Callable[[float, float], bool]) -> Make:
    def make(_: Indicator, params: Params) -> Step:
        each = [_extreme(better, params) for better in betters]
        return lambda value: tuple(one(value) for one in each)

    return make


def _above(one: float, other: float) -> bool:
    return one > other


def _below(one: float, other: float) -> bool:
    return one < other


def _mcginley(_: Indicator, params: Params) -> Step:
    length = int(params["period"])
    first: list[float] = []
    value, sound = NULL, True

    def step(source: float) -> tuple[float, ...]:
        nonlocal value, sound
        sound = sound and source > 0.0
        if not sound:
            return (NULL,)
        if len(first) < length:
            first.append(source)
            if len(first) == length:
                value = float(np.mean(first))
        else:
            share = source / value
            share *= share
            value += (source - value) / (length * share * share)
        return (value,)

    return step


def _vidya(_: Indicator, params: Params) -> Step:
    window, length = int(params["window"]), int(params["period"]) + 1
    last: deque[float] = deque(maxlen=window + 1)
    value = NULL

    def step(source: float) -> tuple[float, ...]:
        nonlocal value
        last.append(source)
        if len(last) <= window:
            return (NULL,)
        if math.isnan(value):
            value = source
        else:
            strength = abs(float(talib.CMOU(np.array(last), timeperiod=window)[-1])) / 100.0
            value += strength * 2.0 / length * (source - value)
        return (value,)

    return step


def _swings(_: Indicator, params: Params) -> Step:
    left, right = int(params["left"]), int(params["right"])

    def peaks() -> Callable[[float], tuple[float, float, float]]:
        last: deque[float] = deque(maxlen=left + right + 1)
        point, trend = NULL, NULL

        def step(value: float) -> tuple[float, float, float]:
            nonlocal point, trend
            last.append(value)
            found = NULL
            if len(last) > left + right:
                middle = last[left]
                if all(middle > each for place, each in enumerate(last) if place != left):
                    found = middle
                    if not math.isnan(point):
                        trend = float((middle > point) - (middle < point))
                    point = middle
            return found, point, trend

        return step

    tops, bottoms = peaks(), peaks()

    def step(high: float, low: float) -> tuple[float, ...]:
        (top, last_top, top_trend), (bottom, last_bottom, bottom_trend) = tops(high), bottoms(-low)
        return top, -bottom, last_top, -last_bottom, top_trend, -bottom_trend

    return step


STEPS: Mapping[str, Make] = MappingProxyType(
    {
        "obv": _total(_obv, first=lambda _, volume: volume),
        "ad": _total(_ad, first=_ad),
        "wad": _total(_wad, first=_nothing),
        "pvt": _total(_pvt, first=_nothing),
        "cumsum": _total(_itself, first=_itself),
        "nvi": _index(_below),
        "pvi": _index(_above),
        "vwap": _vwap,
        "vpt_signal": _vpt_signal,
        "maxindex": _extreme_index(_above),
        "minindex": _extreme_index(_below),
        "minmaxindex": _extreme_index(_below, _above),
        "mcginley": _mcginley,
        "vidya": _vidya,
        "swings": _swings,
        **STOPS,
        **SESSIONS,
    }
)
"""By the name of the entry: all whose memory is "all"."""
