"""The bars a strategy remembers, as float64 rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from tbh.messages.market import Candle
from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import SERIES, TIME

MAX_HISTORY = 50_000
"""Bars held at most. Then the older half goes: the time of a bar stays bounded, and an indicator that decays has by
then forgotten those bars to far below float noise (``indicators.py`` limits its periods to that end)."""

HELD = (*SERIES, TIME)
"""The rows of a table of bars."""

Row = tuple[float, float, float, float, float, float]
"""One bar, in the order of HELD."""

_FIRST_CAPACITY = 1_024
_VOLUME = SERIES.index("volume")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Rows:
    """Expanding rows of bars, oldest first; ``count`` is all rows ever taken, of which the newest are held.

    What is held is a function of ``count`` alone, so that loading n bars and appending n bars leave the same.
    A row moves a price that differs from the row before, and the volume when anything was traded.
    """

    def __init__(self) -> None:
        self.count = 0
        self.held = 0
        self.newest: Row | None = None
        self._table = np.empty((len(HELD), _FIRST_CAPACITY))
        self._lines = list(self._table)
        # How many rows have moved each of SERIES, up to each row held.
        self._moves = np.empty((len(SERIES), _FIRST_CAPACITY), dtype=np.int64)
        self._moved = [0] * len(SERIES)
        # At which count each of them stood still for the last time.
        self._rested = [0] * len(SERIES)

    def push(self, row: Row) -> None:
        """Take one more row."""
        if self.held == MAX_HISTORY:
            self._move(MAX_HISTORY // 2, MAX_HISTORY)
        elif self.held == self._table.shape[1]:
            self._move(0, min(2 * self.held, MAX_HISTORY))
        moves, moved, held = self._moves, self._moved, self.held
        for line, value in zip(self._lines, row, strict=True):
            line[held] = value
        before, self.newest = self.newest, row
        self.held += 1
        self.count += 1
        for place in range(_VOLUME):
            if before is None or row[place] != before[place]:
                moved[place] += 1
            else:
                self._rested[place] = self.count
        if row[_VOLUME]:
            moved[_VOLUME] += 1
        else:
            self._rested[_VOLUME] = self.count
        moves[:, held] = moved

    def _move(self, start: int, capacity: int) -> None:
        """The rows from ``start`` on in a new table: views of the old one must not change under their readers."""
        kept = self.held - start
        for name in ("_table", "_moves"):
            old = getattr(self, name)
            made = np.empty((len(old), capacity), dtype=old.dtype)
            made[:, :kept] = old[:, start : self.held]
            setattr(self, name, made)
        self._lines = list(self._table)
        self.held = kept

    def moving(self, place: int, rows: int) -> int:
        """The last rows in which this series was moved by at least ``rows``; all that are held if that is too few."""
        if self.held < rows:
            return self.held
        if self.count - self._rested[place] >= rows:
            return rows
        before = self._moved[place] - rows
        return self.held - int(np.searchsorted(self._moves[place, : self.held], before, side="right"))

    def value(self, place: int, back: int) -> float:
        """What stands ``back`` rows before the last; null where nothing is held."""
        return float(self._lines[place][self.held - 1 - back]) if back < self.held else math.nan

    def tail(self, place: int, rows: int) -> FloatArray:
        """A view of the last ``rows``, which must be held."""
        return self._lines[place][self.held - rows : self.held]

    def series(self) -> dict[str, FloatArray]:
        """Read-only views of all rows held, by the name of the series; TIME among them."""
        table = self._table[:, : self.held]
        table.flags.writeable = False
        return dict(zip(HELD, table, strict=True))


class Bars(Rows):
    """Rows of closed bars, taken as candles."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Candle | None = None

    @classmethod
    def of(cls, history: Sequence[Candle]) -> Bars:
        """The bars of ``history``, of which only what is held is looked at. ValueError as for ``append``."""
        made = cls()
        for candle in history[len(history) - held_of(len(history)) :]:
            made.append(candle)
        made.count = len(history)
        return made

    def append(self, candle: Candle) -> Row:
        """Take one more bar. ValueError when it is not newer than the last, or holds no finite numbers."""
        if self.last is not None and candle.open_time <= self.last.open_time:
            raise ValueError(f"bar of {candle.open_time} comes after the bar of {self.last.open_time}")
        row = (
            float(candle.open),
            float(candle.high),
            float(candle.low),
            float(candle.close),
            float(candle.volume),
            (candle.open_time - _EPOCH) / _MS,
        )
        if not math.isfinite(sum(row)):
            raise ValueError(f"bar of {candle.open_time} holds a number that is not finite")
        self.push(row)
        self.last = candle
        return row


def held_of(count: int) -> int:
    """How many of ``count`` bars are held: all up to MAX_HISTORY, then between half of it and all of it."""
    if count <= MAX_HISTORY:
        return count
    half = MAX_HISTORY // 2
    return half + 1 + (count - MAX_HISTORY - 1) % (MAX_HISTORY - half)
