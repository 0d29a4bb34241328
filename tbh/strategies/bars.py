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
    ``still`` counts for each of SERIES the last rows in which a price did not change, or no volume was traded.
    """

    def __init__(self) -> None:
        self.count = 0
        self.held = 0
        self.still = [0] * len(SERIES)
        self.newest: Row | None = None
        self._table = np.empty((len(HELD), _FIRST_CAPACITY))

    def push(self, row: Row) -> None:
        """Take one more row."""
        if self.held == MAX_HISTORY:
            kept = self._table[:, MAX_HISTORY // 2 : self.held]
            # A new buffer: views of the old one have been handed out and must not change under their readers.
            self._table = np.empty((len(HELD), MAX_HISTORY))
            self.held = kept.shape[1]
            self._table[:, : self.held] = kept
        elif self.held == self._table.shape[1]:
            grown = np.empty((len(HELD), min(2 * self.held, MAX_HISTORY)))
            grown[:, : self.held] = self._table
            self._table = grown
        table, held = self._table, self.held
        for place, value in enumerate(row):
            table[place, held] = value
        self.held += 1
        self.count += 1
        before, self.newest = self.newest, row
        if before is not None:
            still = self.still
            for place in range(_VOLUME):
                still[place] = still[place] + 1 if row[place] == before[place] else 0
            still[_VOLUME] = 0 if row[_VOLUME] else still[_VOLUME] + 1

    def value(self, place: int, back: int) -> float:
        """What stands ``back`` rows before the last; null where nothing is held."""
        return float(self._table[place, self.held - 1 - back]) if back < self.held else math.nan

    def tail(self, place: int, rows: int) -> FloatArray:
        """A view of the last ``rows``, which must be held."""
        return self._table[place, self.held - rows : self.held]

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
