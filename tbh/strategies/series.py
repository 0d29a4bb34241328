"""The bars a strategy remembers, as float64 series, and the columns computed from them.

Each indicator is computed over all bars held, every time: so the live value is the whole-array value to the last bit,
with no second implementation to keep in step. A column is computed when something asks for it, at most once per bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from tbh.messages.market import Candle
from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import NAMES, SERIES, SOURCE, TIME, Indicator, Params
from tbh.strategies.references import columns_of
from tbh.strategies.shapes import Definition

MAX_HISTORY = 50_000
"""Bars held at most. Then the older half goes: the time of a bar stays bounded, and an indicator that decays has by
then forgotten those bars to far below float noise (``indicators.py`` limits its periods to that end). Whole windows
move by at most the rounding of a running sum; what remembers everything counts from the oldest bar held."""

_FIRST_CAPACITY = 1_024
_HELD = (*SERIES, TIME)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class IndicatorError(ValueError):
    """An indicator could not be computed; ``indicator`` is its id in the definition."""

    def __init__(self, indicator: str, detail: str) -> None:
        super().__init__(f"indicator {indicator!r}: {detail}")
        self.indicator = indicator
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """One indicator over one source: the series it reads and the columns it makes, in the order of its outputs."""

    indicator_id: str
    entry: Indicator
    params: Params
    inputs: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def warmup(self) -> int:
        return self.entry.warmup(self.params)


def computations(definition: Definition) -> dict[str, Computation]:
    """Column name to the computation that makes it, for every indicator column of a checked definition."""
    made: dict[str, Computation] = {}
    for use in definition.indicators:
        entry = NAMES[use.name]
        sources = (use.source or ("close",)) if entry.takes_source else ()
        named = tuple(columns_of(use.id, entry, sources))
        for source in sources or ("",):
            computation = Computation(
                indicator_id=use.id,
                entry=entry,
                params=entry.resolve(use.params),
                inputs=tuple(source if each == SOURCE else each for each in entry.inputs),
                columns=tuple(column for column, of, _ in named if of == source),
            )
            made.update(dict.fromkeys(computation.columns, computation))
    return made


class Columns(Mapping[str, FloatArray]):
    """Read-only columns over one set of bars: the five series, and indicators as they are asked for.

    Without TIME among the series, an indicator that reads it is an IndicatorError.
    """

    def __init__(self, series: Mapping[str, FloatArray], plan: Mapping[str, Computation]) -> None:
        self._plan = plan
        self._known = dict(series)

    def __getitem__(self, column: str) -> FloatArray:
        known = self._known.get(column)
        if known is not None:
            return known
        computation = self._plan[column]
        if TIME in computation.inputs and TIME not in self._known:
            raise IndicatorError(computation.indicator_id, f"{computation.entry.name} reads the times of the bars")
        inputs = tuple(self._known[name] for name in computation.inputs)
        try:
            outputs = computation.entry.compute(inputs, computation.params)
        except Exception as error:  # TA-Lib raises bare Exception for every refusal; it goes on as one with its name.
            raise IndicatorError(computation.indicator_id, str(error)) from error
        for name, values in zip(computation.columns, outputs, strict=True):
            values.flags.writeable = False
            self._known[name] = values
        return self._known[column]

    def __iter__(self) -> Iterator[str]:
        yield from SERIES
        yield from self._plan

    def __len__(self) -> int:
        return len(SERIES) + len(self._plan)


class Bars:
    """Expanding series of closed bars; ``count`` is all bars ever taken, of which the newest are held.

    What is held is a function of ``count`` alone, so that loading n bars and appending n bars leave the same.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last: Candle | None = None
        self._held = 0
        self._rows = np.empty((len(_HELD), _FIRST_CAPACITY))

    def load(self, history: Sequence[Candle]) -> None:
        """Replace everything by ``history``. ValueError on a candle that cannot be one."""
        self.count, self._held, self.last = len(history), 0, None
        held = held_of(len(history))
        self._rows = np.empty((len(_HELD), max(held, _FIRST_CAPACITY)))
        for candle in history[len(history) - held :]:
            self._put(candle)

    def append(self, candle: Candle) -> None:
        """Take one more bar. ValueError when it is not newer than the last, or holds no finite numbers."""
        if self._held == MAX_HISTORY:
            kept = self._rows[:, MAX_HISTORY // 2 : self._held]
            # A new buffer: views of the old one have been handed out and must not change under their readers.
            self._rows = np.empty((len(_HELD), MAX_HISTORY))
            self._held = kept.shape[1]
            self._rows[:, : self._held] = kept
        elif self._held == self._rows.shape[1]:
            grown = np.empty((len(_HELD), min(2 * self._held, MAX_HISTORY)))
            grown[:, : self._held] = self._rows
            self._rows = grown
        self._put(candle)
        self.count += 1

    def series(self) -> dict[str, FloatArray]:
        """Read-only views of the bars held, by the name of the series; TIME among them."""
        rows = self._rows[:, : self._held]
        rows.flags.writeable = False
        return dict(zip(_HELD, rows, strict=True))

    def _put(self, candle: Candle) -> None:
        if self.last is not None and candle.open_time <= self.last.open_time:
            raise ValueError(f"bar of {candle.open_time} comes after the bar of {self.last.open_time}")
        values = (
            float(candle.open),
            float(candle.high),
            float(candle.low),
            float(candle.close),
            float(candle.volume),
        )
        if not math.isfinite(sum(values)):
            raise ValueError(f"bar of {candle.open_time} holds a number that is not finite")
        self._rows[:, self._held] = (*values, (candle.open_time - _EPOCH) / _MS)
        self._held += 1
        self.last = candle


def held_of(count: int) -> int:
    """How many of ``count`` bars are held: all up to MAX_HISTORY, then between half of it and all of it."""
    if count <= MAX_HISTORY:
        return count
    half = MAX_HISTORY // 2
    return half + 1 + (count - MAX_HISTORY - 1) % (MAX_HISTORY - half)
