"""The columns that a definition's indicators make, all rows at a time.

A column is computed when something asks for it, once. What a live strategy looks at is in ``live.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.frames import Frame, frame_of
from tbh.strategies.indicators import NAMES, SERIES, SOURCE, TIME, Indicator, Inputs, Params
from tbh.strategies.references import columns_of, id_of
from tbh.strategies.shapes import TIMEFRAMES, Definition, IndicatorUse


class IndicatorError(ValueError):
    """An indicator could not be computed; ``indicator`` is its id in the definition."""

    def __init__(self, indicator: str, detail: str) -> None:
        super().__init__(f"indicator {indicator!r}: {detail}")
        self.indicator = indicator
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """One indicator over one source: the columns it reads and those it makes, in the order of its outputs.

    ``timeframe_s`` is that of the bars it reads, None for the definition's own; ``ratio`` how many of those make one.
    ``reads`` holds what makes those of its ``inputs`` that are columns of indicators, which have the same timeframe.
    """

    indicator_id: str
    entry: Indicator
    params: Params
    inputs: tuple[str, ...]
    columns: tuple[str, ...]
    timeframe_s: int | None = None
    ratio: int = 1
    reads: tuple[Computation, ...] = ()

    @property
    def nulls(self) -> int:
        """The leading null rows at most, on the bars that it reads."""
        return self.entry.warmup(self.params) + max((read.nulls for read in self.reads), default=0)

    @property
    def warmup(self) -> int:
        """The leading rows on which a column is null, at most: the bars may begin within a higher one."""
        return self.nulls if self.timeframe_s is None else self.ratio * (self.nulls + 2) - 2

    @property
    def reads_times(self) -> bool:
        return TIME in self.inputs or self.timeframe_s is not None

    def compute(self, inputs: Inputs) -> tuple[FloatArray, ...]:
        """One array for each of ``columns``. IndicatorError for whatever the indicator refuses."""
        # An indicator of an indicator begins where that does.
        start = max(_leading_nulls(each) for each in inputs) if self.reads else 0
        try:
            made = self.entry.compute(tuple(each[start:] for each in inputs) if start else inputs, self.params)
        except Exception as error:  # TA-Lib raises bare Exception for every refusal; it goes on as one with its name.
            raise IndicatorError(self.indicator_id, str(error)) from error
        return tuple(np.concatenate((np.full(start, np.nan), each)) for each in made) if start else made


def _leading_nulls(values: FloatArray) -> int:
    known = ~np.isnan(values)
    return int(np.argmax(known)) if known.any() else len(values)


def computations(definition: Definition) -> dict[str, Computation]:
    """Column name to the computation that makes it, for every indicator column of a checked definition; what is read
    stands before what reads it."""
    uses = {use.id: use for use in definition.indicators}
    made: dict[str, Computation] = {}

    def add(use: IndicatorUse) -> None:
        for source in use.source or ():
            if source not in SERIES and source not in made:
                add(uses[id_of(source)])
        made.update(_of(use, definition, made))

    for use in definition.indicators:
        if not any(id_of(column) == use.id for column in made):
            add(use)
    return made


def _of(use: IndicatorUse, definition: Definition, known: Mapping[str, Computation]) -> dict[str, Computation]:
    entry = NAMES[use.name]
    sources = (use.source or ("close",)) if entry.takes_source else ()
    named = tuple(columns_of(use.id, entry, sources))
    ratio = 1 if use.timeframe is None else TIMEFRAMES[use.timeframe] // definition.timeframe_s
    made: dict[str, Computation] = {}
    for source in sources or ("",):
        computation = Computation(
            indicator_id=use.id,
            entry=entry,
            params=entry.resolve(use.params),
            inputs=tuple(source if each == SOURCE else each for each in entry.inputs),
            columns=tuple(column for column, of, _ in named if of == source),
            timeframe_s=None if ratio == 1 else ratio * definition.timeframe_s,
            ratio=ratio,
            reads=(known[source],) if source in known else (),
        )
        made.update(dict.fromkeys(computation.columns, computation))
    return made


class Columns(Mapping[str, FloatArray]):
    """Read-only columns over one set of bars of ``timeframe_s``: the five series, and indicators as they are asked for.

    Without TIME among the series, an indicator that reads it, or higher bars, is an IndicatorError.
    """

    def __init__(self, series: Mapping[str, FloatArray], plan: Mapping[str, Computation], timeframe_s: int) -> None:
        self._plan = plan
        self._timeframe_s = timeframe_s
        self._series = series
        self._known = dict(series)
        self._frames: dict[int, Frame] = {}
        # The columns of higher bars, a row for each of those.
        self._higher: dict[str, FloatArray] = {}

    def __getitem__(self, column: str) -> FloatArray:
        known = self._known.get(column)
        if known is not None:
            return known
        computation = self._plan[column]
        if computation.reads_times and TIME not in self._series:
            raise IndicatorError(computation.indicator_id, f"{computation.entry.name} reads the times of the bars")
        if computation.timeframe_s is None:
            self._keep(self._known, computation, [self[name] for name in computation.inputs])
        else:
            frame = self._frame(computation.timeframe_s)
            for name in computation.inputs:
                if name in self._plan:
                    self[name]
            self._keep(self._higher, computation, [self._read(name, frame) for name in computation.inputs])
            for name in computation.columns:
                values = self._known[name] = frame.spread(self._higher[name])
                values.flags.writeable = False
        return self._known[column]

    def _read(self, name: str, frame: Frame) -> FloatArray:
        return frame.series[name] if name in frame.series else self._higher[name]

    def _keep(self, known: dict[str, FloatArray], computation: Computation, inputs: list[FloatArray]) -> None:
        for name, values in zip(computation.columns, computation.compute(tuple(inputs)), strict=True):
            values.flags.writeable = False
            known[name] = values

    def __iter__(self) -> Iterator[str]:
        yield from SERIES
        yield from self._plan

    def __len__(self) -> int:
        return len(SERIES) + len(self._plan)

    def _frame(self, timeframe_s: int) -> Frame:
        if timeframe_s not in self._frames:
            self._frames[timeframe_s] = frame_of(self._series, self._timeframe_s, timeframe_s)
        return self._frames[timeframe_s]
