"""Indicators that know days: prices anchored at a day, week or month in UTC, pivots of the one before, times of day."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLCV,
    OHLC,
    TIME,
    Function,
    Indicator,
    Inputs,
    Parameter,
    bars,
    everything,
    period,
)
from tbh.strategies.catalogue.rows import NONE, Params, fixed, parameter_rows

DAY_MS = 86_400_000
MINUTE_MS = 60_000
# 1970-01-01 was a Thursday; weeks begin on Mondays.
_DAYS_INTO_WEEK = 3
_EPOCH = date(1970, 1, 1)

IntArray = npt.NDArray[np.int64]


def _days(time: FloatArray, params: Params) -> IntArray:
    """The number of the day each bar opens in, for days that begin ``offset_minutes`` after midnight UTC."""
    return np.floor((time - params["offset_minutes"] * MINUTE_MS) / DAY_MS).astype(np.int64)


def _spans(time: FloatArray, params: Params) -> IntArray:
    """A number that changes with every day, week or month, as the parameter ``span`` says."""
    days = _days(time, params)
    if params["span"] == 0:
        return days
    if params["span"] == 1:
        return (days + _DAYS_INTO_WEEK) // 7
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def span_of(time: float, params: Params) -> int:
    """The number of the day, week or month of a bar that opens at ``time`` (ms UTC), as ``_spans`` has it."""
    day = math.floor((time - params["offset_minutes"] * MINUTE_MS) / DAY_MS)
    if params["span"] == 0:
        return day
    if params["span"] == 1:
        return (day + _DAYS_INTO_WEEK) // 7
    at = _EPOCH + timedelta(days=day)
    return (at.year - _EPOCH.year) * 12 + at.month - 1


def _starts(spans: IntArray) -> IntArray:
    """The first row of each span."""
    return np.concatenate([[0], np.flatnonzero(np.diff(spans)) + 1])


def _running_sums(values: FloatArray, starts: IntArray) -> FloatArray:
    """Sums from the first row of the span on, each span by itself: a difference of running sums would lose digits."""
    made = np.empty(len(values))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True):
        np.cumsum(values[start:end], out=made[start:end])
    return made


def _vwap(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close, volume, time = inputs
    starts = _starts(_spans(time, params))
    traded = _running_sums(volume, starts)
    typical = (high + low + close) / 3.0
    return (kit.ratio(_running_sums(typical * volume, starts), traded),)


def _before(inputs: Inputs, params: Params) -> tuple[tuple[FloatArray, ...], FloatArray]:
    """Open, high, low and close of the span before each bar's, and the open of its own."""
    start, high, low, close, time = inputs
    starts = _starts(_spans(time, params))
    lengths = np.diff(np.append(starts, len(time)))
    ends = starts + lengths - 1
    spans = (start[starts], np.maximum.reduceat(high, starts), np.minimum.reduceat(low, starts), close[ends])
    return tuple(np.repeat(kit.shift(each, 1), lengths) for each in spans), np.repeat(start[starts], lengths)


def _levels(center: FloatArray, ups: list[FloatArray], downs: list[FloatArray]) -> tuple[FloatArray, ...]:
    return center, *ups, *downs


def _standard(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    (_, high, low, close), _ = _before(inputs, params)
    center = (high + low + close) / 3.0
    return _levels(
        center,
        [2.0 * center - low, center + (high - low), high + 2.0 * (center - low)],
        [2.0 * center - high, center - (high - low), low - 2.0 * (high - center)],
    )


def _fibonacci(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    (_, high, low, close), _ = _before(inputs, params)
    center, reach = (high + low + close) / 3.0, high - low
    shares = (0.382, 0.618, 1.0)
    return _levels(center, [center + share * reach for share in shares], [center - share * reach for share in shares])


def _camarilla(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    (_, high, low, close), _ = _before(inputs, params)
    steps = [1.1 / parts * (high - low) for parts in (12, 6, 4, 2)]
    return _levels((high + low + close) / 3.0, [close + step for step in steps], [close - step for step in steps])


def _woodie(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    (_, high, low, _), opened = _before(inputs, params)
    center = (high + low + 2.0 * opened) / 4.0
    center[np.isnan(high)] = np.nan
    return _levels(
        center,
        [2.0 * center - low, center + high - low, high + 2.0 * (center - low)],
        [2.0 * center - high, center - high + low, low - 2.0 * (high - center)],
    )


def _demark(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    (start, high, low, close), _ = _before(inputs, params)
    extra = np.where(close < start, low, np.where(close > start, high, close))
    total = high + low + close + extra
    return total / 4.0, total / 2.0 - low, total / 2.0 - high


def _clock(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    days = _days(inputs[0], params)
    minutes = np.floor(inputs[0] / MINUTE_MS - params["offset_minutes"]) - days * 1_440.0
    weekday = ((days + _DAYS_INTO_WEEK) % 7).astype(np.float64)
    month_day = (
        days - days.astype("datetime64[D]").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    ) + 1
    return np.floor(minutes / 60.0), minutes, weekday, month_day.astype(np.float64)


def _relative_volume(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    volume, time = inputs
    days = _days(time, params)
    running = _running_sums(volume, _starts(days))
    length = int(params["period"])
    # Bars of one time of day side by side, the oldest first; a window must not reach into another time of day.
    order = np.lexsort((days, time - params["offset_minutes"] * MINUTE_MS - days * float(DAY_MS)))
    times = (time - days * float(DAY_MS))[order]
    means = kit.shift(kit.rolling_mean(running[order], length), 1)
    alike = np.zeros(len(time), dtype=np.bool_)
    alike[length:] = times[length:] == times[: len(times) - length]
    means[~alike] = np.nan
    made = kit.nulls(len(time))
    made[order] = kit.ratio(running[order], means)
    return (made,)


_OFFSET = bars("offset_minutes", 0, minimum=-720, maximum=720)
_UPS_DOWNS = ("pp", "r1", "r2", "r3", "s1", "s2", "s3")


def _span(default: int) -> Parameter:
    return bars("span", default, minimum=0, maximum=2)


def _pivots(name: str, kind: str, function: Function, outputs: tuple[str, ...], source: str) -> Indicator:
    return Indicator(
        name=name,
        summary=f"{kind} pivot points of the day (span 0), week (1) or month (2) before; a day begins "
        "offset_minutes after midnight UTC",
        group="session",
        source=source,
        parameters=(_span(0), _OFFSET),
        inputs=(*OHLC, TIME),
        outputs=outputs,
        nulls=fixed(1),
        memory=everything("turn"),
        function=function,
        sparse=outputs,
    )


ENTRIES = (
    Indicator(
        name="vwap_anchored",
        aliases=("vwap_session", "anchored_vwap"),
        summary="average of the typical price weighted by volume since the day (span 0), week (1) or month (2) began, "
        "offset_minutes after midnight UTC; null until something is traded",
        group="session",
        source="sum of price times volume over sum of volume",
        parameters=(_span(0), _OFFSET),
        inputs=(*HLCV, TIME),
        nulls=NONE,
        memory=everything("turn"),
        function=_vwap,
        sparse=("value",),
    ),
    _pivots("pivots", "standard", _standard, _UPS_DOWNS, "floor traders' pivots"),
    _pivots("pivots_fibonacci", "Fibonacci", _fibonacci, _UPS_DOWNS, "floor traders' pivot, Fibonacci's ratios"),
    _pivots(
        "pivots_camarilla",
        "Camarilla",
        _camarilla,
        ("pp", "r1", "r2", "r3", "r4", "s1", "s2", "s3", "s4"),
        "N. Scott's Camarilla equation",
    ),
    _pivots("pivots_woodie", "Woodie's", _woodie, _UPS_DOWNS, "K. Wood's pivots, with the open of the span itself"),
    _pivots("pivots_demark", "DeMark's", _demark, ("pp", "r1", "s1"), "T. DeMark, New Market Timing Techniques (1997)"),
    Indicator(
        name="clock",
        aliases=("time_of_day",),
        summary="when the bar opens: hour, minute of the day, weekday (0 Monday) and day of the month, for days that "
        "begin offset_minutes after midnight UTC",
        group="session",
        source="definition",
        parameters=(_OFFSET,),
        inputs=(TIME,),
        outputs=("hour", "minute", "weekday", "day"),
        nulls=NONE,
        function=_clock,
    ),
    Indicator(
        name="relative_daily_volume",
        aliases=("rdv",),
        summary="volume of the day so far over its mean at this time of the period days before that have such a bar",
        group="session",
        source="relative volume at time, as LEAN has it",
        parameters=(period(2, minimum=1, maximum=365), _OFFSET),
        inputs=("volume", TIME),
        nulls=parameter_rows("period"),
        memory=everything("turn"),
        function=_relative_volume,
        sparse=("value",),
    ),
)
