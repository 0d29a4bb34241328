"""What the checks of a strategy share: what they find, how they ask a strategy, and which bars they look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest.agreement import positions, spread, state_of
from tbh.backtest.columns import Columns
from tbh.backtest.stepped import arrays_of, candle_of
from tbh.messages.orders import Side
from tbh.strategies.base import FloatArray, Wish
from tbh.strategies.custom import Held, Window
from tbh.strategies.indicators import SERIES
from tbh.strategies.runner import AnyStrategy, CustomRunner

WALK_MAX = 20_000
"""Bars on which a custom strategy is asked one after the other: the last so many."""
TOLERANCE = 1e-9
"""Two floats that differ by less, relative to their size, are one value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Arrays = dict[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: ``what`` (a rule, a column, on_bar), on which bar first, how it shows, what to do."""

    what: str
    row: int
    time: str
    detail: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far a column is off with ``share`` times its declared history, at worst, as a fraction of its size; None
    where there are too few bars to say."""

    column: str
    history: int | None
    memory: str
    shares: Mapping[float, float | None]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a check came to on one market. ``looked`` says what it has looked at."""

    check: str
    looked: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    deviations: list[Deviation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, market: Columns, row: int, *, what: str, detail: str, advice: str) -> None:
        """One more finding; of each thing the earliest is kept."""
        for place, known in enumerate(self.findings):
            if known.what == what:
                if row >= known.row:
                    return
                del self.findings[place]
                break
        at = time_of(market, row)
        self.findings.append(Finding(what=what, row=row, time=at, detail=detail, advice=advice))


def time_of(market: Columns, row: int) -> str:
    """When the bar ``row`` opened."""
    return f"{_EPOCH + timedelta(milliseconds=int(market.stamps[row])):%Y-%m-%dT%H:%M:%SZ}"


def part_of(arrays: Mapping[str, FloatArray], start: int, stop: int) -> Arrays:
    """Copies of the rows from ``start`` to before ``stop``: nothing leads from them to other rows."""
    return {name: values[start:stop].copy() for name, values in arrays.items()}


def rules_of(strategy: AnyStrategy, arrays: Arrays) -> dict[str, npt.NDArray[np.bool_]]:
    """The rules over arrays, none for a strategy that offers no ``evaluate_all``."""
    if isinstance(strategy, CustomRunner) and not strategy.vectorised:
        return {}
    return strategy.evaluate_all(arrays)


def columns_of(strategy: AnyStrategy, arrays: Arrays) -> dict[str, FloatArray]:
    """The columns that indicators make, over arrays."""
    columns = strategy.columns_over(arrays)
    return {name: columns[name] for name in columns if name not in SERIES}


def unlike(one: FloatArray, other: FloatArray) -> npt.NDArray[np.bool_]:
    """Where two columns (n) are not the same value; null is like null."""
    null = np.isnan(one) | np.isnan(other)
    size = np.maximum(np.abs(one), np.abs(other))
    # What cancels out to nearly nothing keeps the noise of what it was made of.
    floor = 1e-3 * float(np.nanmax(size, initial=0.0)) if len(one) else 0.0
    with np.errstate(invalid="ignore"):
        differs = np.abs(one - other) > TOLERANCE * np.maximum(size, floor)
    return np.where(null, np.isnan(one) != np.isnan(other), differs)


class Asked:
    """A custom strategy that is asked on bars of ``market``, by one instance in the order of the calls.

    ``columns`` begin with the bar ``offset``.
    """

    def __init__(
        self, strategy: CustomRunner, market: Columns, columns: Mapping[str, FloatArray], *, offset: int = 0
    ) -> None:
        self._strategy = strategy.anew()
        self._market = market
        self._columns = columns
        self._offset = offset

    def at(self, row: int, side: Side | None, *, cut: bool = False) -> tuple[Wish, ...]:
        """What it wishes on the bar ``row`` while flat or holding ``side``; ``cut`` takes the bars behind it away."""
        strategy, market = self._strategy, self._market
        view = strategy.view_of(
            _copied(self._columns, row, strategy.custom.history) if cut else self._columns,
            strategy.custom.history - 1 if cut else row - self._offset,
            position=held_at(market, row, side),
            time_ms=int(market.stamps[row]),
            candle=lambda: candle_of(market, row),
        )
        return strategy.decide(view)


def held_at(market: Columns, row: int, side: Side | None) -> Held | None:
    """The position of a strategy that is asked."""
    return next(each for each in positions(market, row) if (None if each is None else each.side) is side)


def walked(strategy: CustomRunner, market: Columns, first: int) -> dict[Side | None, dict[int, tuple[Wish, ...]]]:
    """What one instance wishes that is asked on each bar from ``first`` on; one while flat, and one for each side that
    it enters."""
    columns = strategy.columns_over(arrays_of(market))

    def walk(side: Side | None) -> dict[int, tuple[Wish, ...]]:
        asked = Asked(strategy, market, columns)
        return {row: asked.at(row, side) for row in range(first, len(market))}

    made: dict[Side | None, dict[int, tuple[Wish, ...]]] = {None: walk(None)}
    entered = {wish.side for wishes in made[None].values() for wish in wishes}
    return made | {side: walk(side) for side in Side if side in entered}


def first_walked(strategy: CustomRunner, market: Columns) -> int:
    """Where a walk begins."""
    return max(strategy.warmup, len(market) - WALK_MAX)


def chosen(wishes: Mapping[int, tuple[Wish, ...]], signals: int, others: int) -> list[int]:
    """Bars to look at: those with wishes, and others, evenly spread."""
    rows = np.array(list(wishes), dtype=np.int64)
    deciding = np.array([bool(each) for each in wishes.values()], dtype=np.bool_)
    picked: list[int] = np.union1d(spread(rows[deciding], signals), spread(rows[~deciding], others)).tolist()
    return picked


def told(wishes: Iterable[Wish], side: Side | None, market: Columns, row: int) -> str:
    """Wishes for people, with the position in which they were wished."""
    texts = [f"{wish.purpose} ({wish.side})" for wish in wishes]
    return f"{' and '.join(texts) or 'nothing'} while {state_of(held_at(market, row, side))}"


def _copied(columns: Mapping[str, FloatArray], row: int, history: int) -> Mapping[str, FloatArray]:
    window = Window(columns, row + 1 - history, row + 1)
    return _Copies(window)


class _Copies(dict[str, FloatArray]):
    """Copies of a window's columns, made as they are asked for."""

    def __init__(self, window: Mapping[str, Any]) -> None:
        super().__init__()
        self._window = window

    def __missing__(self, column: str) -> FloatArray:
        values = np.array(self._window[column])
        values.flags.writeable = False
        self[column] = values
        return values
