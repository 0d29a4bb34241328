"""Stops that turn and follow, one bar at a time (see ``carried.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tbh.strategies.indicators import Indicator, Params

NULL = math.nan


def _average_range(length: int) -> Callable[[float, float, float], float]:
    """Wilder's average true range, null before it has one."""
    before, total, count, value = NULL, 0.0, 0, NULL

    def step(high: float, low: float, close: float) -> float:
        nonlocal before, total, count, value
        if not math.isnan(before):
            width = max(high - low, abs(before - high), abs(before - low))
            count += 1
            if count <= length:
                total += width
                value = total / length if count == length else NULL
            else:
                value = (value * (length - 1) + width) / length
        before = close
        return value

    return step


def _parabolic(*, signed: bool) -> Callable[[Indicator, Params], Callable[..., tuple[float, ...]]]:
    """W. Wilder's stop and reverse; ``signed`` with sarext's parameters, negative while short."""

    def make(_: Indicator, params: Params) -> Callable[..., tuple[float, ...]]:
        if not signed:
            most = float(params["maximum"])
            start, offset = 0.0, 0.0
            first = more = {side: min(float(params["acceleration"]), most) for side in (True, False)}
            top = {True: most, False: most}
        else:
            start, offset = float(params["start"]), float(params["offset_on_reverse"])
            sides = {True: "long", False: "short"}
            top = {side: float(params[f"acceleration_max_{word}"]) for side, word in sides.items()}
            first = {side: min(float(params[f"acceleration_init_{word}"]), top[side]) for side, word in sides.items()}
            more = {side: min(float(params[f"acceleration_{word}"]), top[side]) for side, word in sides.items()}
        return _sar(start, offset, first, more, top, signed=signed)

    return make


def _sar(
    start: float,
    offset: float,
    first: Mapping[bool, float],
    more: Mapping[bool, float],
    top: Mapping[bool, float],
    *,
    signed: bool,
) -> Callable[..., tuple[float, ...]]:
    before: tuple[float, float] | None = None
    up, speed, extreme, stop, begun = True, 0.0, 0.0, 0.0, False

    def begin(high: float, low: float, high_before: float, low_before: float) -> tuple[float, float]:
        """The extreme and the stop of the second bar, where the indicator begins."""
        nonlocal up, speed
        down = low_before - low
        up = start > 0.0 if start else not (down > 0.0 and high - high_before < down)
        speed = first[up]
        at = abs(start) if start else (low_before if up else high_before)
        # TA-Lib knows this bar already when it judges it.
        return (high if up else low), at

    def step(high: float, low: float) -> tuple[float, ...]:
        nonlocal before, up, speed, extreme, stop, begun
        if before is None:
            before = (high, low)
            return (NULL,)
        if not begun:
            extreme, stop = begin(high, low, *before)
            before, begun = (high, low), True
        high_before, low_before = before
        before = (high, low)
        crossed = low <= stop if up else high >= stop
        if crossed:
            up = not up
            stop = min(extreme, low_before, low) if up else max(extreme, high_before, high)
            if offset:
                stop += -stop * offset if up else stop * offset
            shown, speed = stop, first[up]
            extreme = high if up else low
        else:
            shown = stop
            if high > extreme if up else low < extreme:
                extreme = high if up else low
                speed = min(speed + more[up], top[up])
        side = up
        stop += speed * (extreme - stop)
        stop = min(stop, low_before, low) if up else max(stop, high_before, high)
        return (shown if side or not signed else -shown,)

    return step


def _supertrend(_: Indicator, params: Params) -> Callable[..., tuple[float, ...]]:
    multiplier = float(params["multiplier"])
    range_of = _average_range(int(params["period"]))
    upper, lower, side, before = NULL, NULL, NULL, NULL

    def step(high: float, low: float, close: float) -> tuple[float, ...]:
        nonlocal upper, lower, side, before
        width = multiplier * range_of(high, low, close)
        if math.isnan(width):
            before = close
            return NULL, NULL, NULL, NULL
        middle = (high + low) / 2.0
        top, bottom = middle + width, middle - width
        if math.isnan(side):
            upper, lower, side = top, bottom, 1.0
        else:
            upper = top if top < upper or before > upper else upper
            lower = bottom if bottom > lower or before < lower else lower
            if side > 0.0:
                side = -1.0 if close < lower else 1.0
            else:
                side = 1.0 if close > upper else -1.0
        before = close
        value = lower if side > 0.0 else upper
        return value, side, NULL if side > 0.0 else value, value if side > 0.0 else NULL

    return step


def _atr_stop(_: Indicator, params: Params) -> Callable[..., tuple[float, ...]]:
    multiplier = float(params["multiplier"])
    range_of = _average_range(int(params["period"]))
    stop, up = NULL, True

    def step(high: float, low: float, close: float) -> tuple[float, ...]:
        nonlocal stop, up
        away = multiplier * range_of(high, low, close)
        if math.isnan(away):
            return NULL, NULL
        if math.isnan(stop):
            stop = close - away
        if up:
            if close < stop:
                up, stop = False, close + away
            elif close - away > stop:
                stop = close - away
        elif close > stop:
            up, stop = True, close - away
        elif close + away < stop:
            stop = close + away
        return stop, 1.0 if up else -1.0

    return step


def _zigzag(_: Indicator, params: Params) -> Callable[..., tuple[float, ...]]:
    share = params["percent"] / 100.0
    up_from, down_from = 1.0 + share, 1.0 - share
    row = top_row = bottom_row = point_row = -1
    top = bottom = point = NULL
    side = 0.0

    def step(value: float) -> tuple[float, ...]:
        nonlocal row, top_row, bottom_row, point_row, top, bottom, point, side
        row += 1
        if row == 0:
            top, bottom, top_row, bottom_row = value, value, 0, 0
        if value > top:
            top, top_row = value, row
        if value < bottom:
            bottom, bottom_row = value, row
        if side <= 0.0 and value >= bottom * up_from and row > bottom_row:
            point, point_row, side = bottom, bottom_row, 1.0
            top, top_row = value, row
        elif side >= 0.0 and value <= top * down_from and row > top_row:
            point, point_row, side = top, top_row, -1.0
            bottom, bottom_row = value, row
        return point, side, row - point_row if side else NULL

    return step


STOPS: Mapping[str, Callable[[Indicator, Params], Callable[..., tuple[float, ...]]]] = MappingProxyType(
    {
        "sar": _parabolic(signed=False),
        "sarext": _parabolic(signed=True),
        "supertrend": _supertrend,
        "atr_stop": _atr_stop,
        "zigzag": _zigzag,
    }
)
"""By the name of the entry."""
