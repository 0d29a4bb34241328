"""What a running strategy looks at: the last values of the columns that its rules reach, at little cost per bar.

An indicator is computed over the last rows that suffice for its last value (``Indicator.history``), and over as many
more as the rules look back. What remembers everything is carried on from bar to bar (``carried.py``), from the first
bar loaded. An indicator of higher bars is computed when one of those closes.

A value over few rows may be float noise off the one over all of them. Where a comparison hangs on that, both sides are
computed over all rows held, so that a live rule is what the rule over whole arrays is. A ratio of averages forgets only
while something changes; rows in which nothing moved are therefore taken in addition.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np

from tbh.messages.market import Candle
from tbh.strategies.bars import HELD, MAX_HISTORY, Bars, Row, Rows
from tbh.strategies.base import FloatArray
from tbh.strategies.carried import STEPS, Step
from tbh.strategies.conditions import Rule
from tbh.strategies.frames import HigherBars
from tbh.strategies.indicators import SERIES
from tbh.strategies.series import Columns, Computation

_PLACES = {name: place for place, name in enumerate(HELD)}
_NOISE, _LEAST = 1e-12, math.ulp(0.0)
"""Of the size of the inputs: what may be left of a difference of two of them. Never nothing."""

EXACT = frozenset({"clock"})
"""Entries outside the group of patterns whose values over few rows are those over all of them, to the last bit."""


class _Made:
    """The last values of one computation over ``rows``, the rows of its bars; ``reach`` bars back are asked for.

    ``values`` are those at ``count`` rows, over some of them; ``kept`` those of what is carried, a bar each.
    """

    __slots__ = (
        "asked",
        "computation",
        "count",
        "exact",
        "fed",
        "frame",
        "history",
        "kept",
        "moving",
        "noise",
        "places",
        "prices",
        "reach",
        "reads",
        "rows",
        "step",
        "values",
    )

    def __init__(self, computation: Computation, rows: Rows, frame: _Higher | None, reads: list[_Made]) -> None:
        entry, params = computation.entry, computation.params
        self.computation = computation
        self.rows = rows
        self.frame = frame
        self.reads = reads
        # Rules ask so many bars back (-1: they do not ask), and what reads this one for so many of its rows.
        self.reach, self.fed = -1, 0
        self.places = tuple(_PLACES.get(name, -1) for name in computation.inputs)
        prices = {place for place in self.places if 0 <= place < len(SERIES)}
        self.prices: tuple[int, ...] = tuple(prices.union(*(read.prices for read in reads)))
        self.moving = self.prices if entry.memory.kind == "decay" else ()
        self.exact = not reads and (entry.group == "pattern" or entry.name in EXACT)
        history = entry.history(params)
        self.history = 0 if history is None else history
        self.step: Step | None = STEPS[entry.name](entry, params) if history is None else None
        self.count, self.asked = -1, 0
        self.values: tuple[FloatArray, ...] = ()
        self.noise = 0.0
        self.kept: deque[tuple[float, ...]] = deque(maxlen=1)

    def feed(self, rows: int) -> None:
        """Whatever reads this one asks for its last ``rows``."""
        self.fed = max(self.fed, rows)
        for read in self.reads:
            read.feed(self.history - 1 + max(self.fed, self.reach + 1))


class _Higher:
    """Closed bars of a higher timeframe, and how many of them there were at each of the last bars."""

    def __init__(self, timeframe_s: int, higher_s: int, reach: int) -> None:
        self.rows = Rows()
        self.bars = HigherBars(timeframe_s, higher_s)
        self.counts: deque[int] = deque(maxlen=reach + 1)
        self.closed: list[Row] = []

    def append(self, row: Row) -> None:
        """Take one more bar; ``closed`` are the higher ones that it closes."""
        self.closed = self.bars.append(row)
        for each in self.closed:
            self.rows.push(each)
        self.counts.append(self.rows.count)

    def ago(self, back: int) -> int:
        """How many higher bars have closed in the last ``back`` bars; -1 where there was no bar."""
        return self.rows.count - self.counts[-1 - back] if back < len(self.counts) else -1


class Live:
    """The bars of a strategy of ``timeframe_s``, of whose ``plan`` the columns in ``needs`` (column, bars back) are
    asked for."""

    def __init__(self, plan: Mapping[str, Computation], needs: Iterable[tuple[str, int]], timeframe_s: int) -> None:
        self._plan = plan
        self._timeframe_s = timeframe_s
        self._needs = [(column, back) for column, back in needs if column in plan]
        self._begin()

    def _begin(self) -> None:
        self.bars = Bars()
        self._frames: dict[int, _Higher] = {}
        self._made: dict[str, tuple[_Made, int]] = {}
        farthest = max((back for _, back in self._needs), default=0)
        for column, back in self._needs:
            made, _ = self._add(self._plan[column], farthest)[column]
            made.reach = max(made.reach, back)
        every = {id(made): made for made, _ in self._made.values()}.values()
        for made in every:
            made.feed(0)
        self._carried = [made for made in every if made.step is not None]
        for made in self._carried:
            # What others go on from is kept as long as the bars are.
            made.kept = deque(maxlen=MAX_HISTORY if made.fed else made.reach + 1)

    def _add(self, computation: Computation, farthest: int) -> dict[str, tuple[_Made, int]]:
        """Take in a computation and what it reads, once; all columns so far."""
        if computation.columns[0] not in self._made:
            reads = [self._add(read, farthest)[read.columns[0]][0] for read in computation.reads]
            frame, rows = None, None
            if computation.timeframe_s is not None:
                higher_s = computation.timeframe_s
                frame = self._frames.setdefault(higher_s, _Higher(self._timeframe_s, higher_s, farthest))
                rows = frame.rows
            made = _Made(computation, self.bars if rows is None else rows, frame, reads)
            self._made.update({column: (made, index) for index, column in enumerate(computation.columns)})
        return self._made

    def load(self, history: Sequence[Candle]) -> None:
        """Replace everything by ``history``. ValueError on a candle that cannot be one."""
        self._begin()
        if self._carried or self._frames:
            for candle in history:
                self.append(candle)
        else:
            self.bars = Bars.of(history)
            for made, _ in self._made.values():
                made.rows = self.bars

    def append(self, candle: Candle) -> None:
        """Take one more closed bar. ValueError when it is not newer than the last, or holds no finite numbers."""
        row = self.bars.append(candle)
        for frame in self._frames.values():
            frame.append(row)
        for made in self._carried:
            assert made.step is not None
            for each in (row,) if made.frame is None else made.frame.closed:
                made.kept.append(made.step(*[each[place] for place in made.places]))

    def columns(self) -> Columns:
        """Every column over the bars held."""
        return Columns(self.bars.series(), self._plan, self._timeframe_s)

    def decide(self, rule: Rule) -> bool:
        """Whether ``rule``, all of whose needs were named, is true on the last bar. IndicatorError as it may be."""
        true, doubtful = rule.decide(_LastValues(self))
        if doubtful:
            true, _ = rule.decide(_WholeValues(self))
        return true

    def at(self, column: str, back: int, *, known: dict[int, tuple[FloatArray, ...]] | None = None) -> float:
        """The value of ``column`` so many bars before the last, NaN for null; with ``known``, which keeps what has been
        computed, over all rows held."""
        place = _PLACES.get(column)
        if place is not None:
            return self.bars.value(place, back)
        made, index = self._made[column]
        ago = back if made.frame is None else made.frame.ago(back)
        if ago < 0:
            return math.nan
        if made.step is not None:
            return made.kept[-1 - ago][index] if ago < len(made.kept) else math.nan
        values = (self._few(made) if known is None else self._all(made, known))[index]
        return float(values[-1 - ago]) if ago < len(values) else math.nan

    def noise(self, column: str) -> float:
        """How far the last values of ``column`` may be off where they are near zero, 0.0 when they are exact."""
        if column in _PLACES:
            return 0.0
        made, _ = self._made[column]
        if made.step is None:
            self._few(made)
        return made.noise

    def _few(self, made: _Made, asked: int = 0) -> tuple[FloatArray, ...]:
        """The values over the last rows that suffice, for at least ``asked`` of them; once for each bar."""
        rows = made.rows
        if made.count == rows.count and made.asked >= asked:
            return made.values
        ago = made.reach
        if made.frame is not None and ago >= 0:
            ago = made.frame.ago(min(ago, len(made.frame.counts) - 1))
        asked = max(asked, made.fed, ago + 1)
        take = min(made.history - 1 + asked, rows.held)
        for place in made.moving:
            take = max(take, rows.moving(place, made.history - 1 + asked))
        inputs = [
            rows.tail(place, take) if place >= 0 else self._last(name, take)
            for place, name in zip(made.places, made.computation.inputs, strict=True)
        ]
        made.values = made.computation.compute(tuple(inputs))
        made.count, made.asked = rows.count, asked
        if (take == rows.count and not made.reads) or made.exact:
            made.noise = 0.0
        else:
            newest = rows.newest
            made.noise = _LEAST
            if newest is not None:
                made.noise += _NOISE * max([abs(newest[place]) for place in made.prices], default=0.0)
        return made.values

    def _last(self, name: str, rows: int) -> FloatArray:
        """The last ``rows`` values of a column of an indicator."""
        read, index = self._made[name]
        if read.step is None:
            return self._few(read, rows)[index][-rows:] if rows else np.empty(0)
        kept = [each[index] for each in islice(reversed(read.kept), rows)]
        return np.array(kept[::-1], dtype=np.float64)

    def _all(self, made: _Made, known: dict[int, tuple[FloatArray, ...]]) -> tuple[FloatArray, ...]:
        if id(made) not in known:
            rows, inputs = made.rows, []
            for place, name in zip(made.places, made.computation.inputs, strict=True):
                if place >= 0:
                    inputs.append(rows.tail(place, rows.held))
                    continue
                read, index = self._made[name]
                carried = read.step is not None
                inputs.append(self._last(name, rows.held) if carried else self._all(read, known)[index])
            known[id(made)] = made.computation.compute(tuple(inputs))
        return known[id(made)]


class _LastValues:
    """What a rule asks about the last bar (``conditions.LastValues``)."""

    def __init__(self, live: Live) -> None:
        self.at = live.at
        self.noise = live.noise


class _WholeValues:
    """The same, with what may be off computed over all rows held."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._known: dict[int, tuple[FloatArray, ...]] = {}

    def at(self, column: str, back: int) -> float:
        return self._live.at(column, back, known=self._known)

    def noise(self, column: str) -> float:
        return 0.0
