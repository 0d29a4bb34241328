"""Bars of a higher timeframe, made of the bars there are.

A higher bar begins at a multiple of its length in UTC: days at midnight, weeks on Monday, three days counted from
1970-01-01. It holds the bars that open within it, and is closed at the first close of a bar at or after its end; from
then on, and not before, it is seen. A bar that is missing is missing in it, one of which nothing is left is left out,
and a first one whose beginning nobody saw is not a bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbh.strategies.bars import Row
from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import SERIES, TIME

WEEK_S = 604_800
# 1970-01-01 was a Thursday; weeks begin on Mondays.
_WEEK_OFFSET_MS = 4 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """``series``: the closed higher bars by SERIES and TIME (m rows). ``rows`` (n): for each bar the row of the last
    higher one that had closed by its close, -1 for none."""

    series: Mapping[str, FloatArray]
    rows: npt.NDArray[np.int64]

    def spread(self, values: FloatArray) -> FloatArray:
        """Values of the higher bars (m) as values of the bars (n), null before the first."""
        # Row -1 is the last one: a null stands there.
        return np.append(values, np.nan)[self.rows]


def offset_ms(timeframe_s: int) -> int:
    """Where bars of ``timeframe_s`` begin, in ms after a multiple of their length."""
    return _WEEK_OFFSET_MS if timeframe_s == WEEK_S else 0


def combined(table: FloatArray, starts: npt.NDArray[np.int64]) -> FloatArray:
    """The bars of ``table`` (5, n; SERIES) as one bar from each of ``starts`` (m) to before the next: (5, m)."""
    made = np.empty((len(SERIES), len(starts)))
    ends = np.append(starts[1:], table.shape[1]) - 1
    made[0] = table[0][starts]
    np.maximum.reduceat(table[1], starts, out=made[1])
    np.minimum.reduceat(table[2], starts, out=made[2])
    made[3] = table[3][ends]
    np.add.reduceat(table[4], starts, out=made[4])
    return made


def frame_of(series: Mapping[str, FloatArray], timeframe_s: int, higher_s: int) -> Frame:
    """``series`` of bars of ``timeframe_s`` (n rows, TIME among them) in bars of ``higher_s``, a multiple of it."""
    length, step = higher_s * 1_000, timeframe_s * 1_000
    times = series[TIME].astype(np.int64) - offset_ms(higher_s)
    buckets = times // length
    if not len(times):
        return Frame(series={name: np.empty(0) for name in (*SERIES, TIME)}, rows=buckets)
    starts = np.append(0, np.flatnonzero(buckets[1:] != buckets[:-1]) + 1)
    lengths = np.diff(np.append(starts, len(times)))
    ends = (buckets[starts] + 1) * length
    rows = np.repeat(np.arange(len(starts)), lengths)
    rows -= times + step < np.repeat(ends, lengths)
    closed = int(rows[-1]) + 1
    # The first bar of what is there opens later than the higher bar's own first would.
    unseen = int(times[0] - buckets[0] * length >= step)
    if unseen:
        rows = np.maximum(rows - 1, -1)
    table = combined(np.stack([series[name] for name in SERIES]), starts)[:, unseen:closed]
    opens = ((ends - length) + offset_ms(higher_s))[unseen:closed].astype(np.float64)
    columns = dict(zip(SERIES, np.ascontiguousarray(table), strict=True))
    return Frame(series={**columns, TIME: opens}, rows=rows)


class HigherBars:
    """The same, one bar at a time: ``append`` gives the higher bars that its close closes (none, one, or two)."""

    def __init__(self, timeframe_s: int, higher_s: int) -> None:
        self._step = timeframe_s * 1_000
        self._length = higher_s * 1_000
        self._offset = offset_ms(higher_s)
        self._bucket: int | None = None
        self._begun = False
        self._open: list[Row] = []

    def append(self, row: Row) -> list[Row]:
        """``row`` is SERIES and TIME, later than the row before."""
        time = int(row[len(SERIES)]) - self._offset
        bucket = time // self._length
        closed = []
        if bucket != self._bucket:
            if self._open:
                closed += self._close()
            self._begun = self._bucket is not None or time - bucket * self._length < self._step
            self._bucket = bucket
        self._open.append(row)
        if time + self._step >= (bucket + 1) * self._length:
            closed += self._close()
        return closed

    def _close(self) -> list[Row]:
        rows, self._open = self._open, []
        if not self._begun or self._bucket is None:
            return []
        table = np.ascontiguousarray(np.array(rows).T)
        opened, high, low, close, volume = combined(table, np.zeros(1, dtype=np.int64))[:, 0].tolist()
        return [(opened, high, low, close, volume, float(self._bucket * self._length + self._offset))]
