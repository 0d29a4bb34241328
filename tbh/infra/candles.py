"""Recorded candles: csv, csv.gz and parquet files with the columns timestamp (ms UTC, bar open), open, high, low,
close, volume.

A file is checked whole before its first bar is used, and a file that fails is refused with one line. Bars that are
merely absent are no failure, since exchanges have outages: they are listed in ``gaps`` and never filled in.

Prices stay as the file has them (text in csv, float64 in parquet) and become Decimal when a bar is asked for, so that
a month of minutes opens at once: Decimal of the text itself, or of the shortest text that names the float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from tbh.infra.candle_formats import CandleError, Columns, read_columns
from tbh.messages.market import Candle

DAY_MS = 86_400_000
EARLIEST_MS = 100_000_000_000
LATEST_MS = 4_102_444_800_000
"""1973-03-03 and 2100-01-01: a number outside is a time in seconds, microseconds or nanoseconds."""

PRICE_MIN, PRICE_MAX = 1e-12, 1e12
VOLUME_MAX = 1e24
"""A number outside is no market's, but a wrong unit or column; within, sums of money stay exact."""

PRICES = ("open", "high", "low", "close")
SERIES = (*PRICES, "volume")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

__all__ = ["CandleError", "CandleFile", "Gap", "load_candles"]


class Gap(NamedTuple):
    """``missing`` bars are absent after the bar that opened at ``after_ms``."""

    after_ms: int
    missing: int


class CandleFile(Sequence[Candle]):
    """Bars of one market, oldest first. A slice (step 1) is a CandleFile too and copies nothing.

    ``timestamps`` is int64, ms UTC; ``arrays`` maps open, high, low, close and volume to float64; all are read-only.
    """

    def __init__(
        self,
        *,
        name: str,
        timeframe_s: int,
        timestamps: npt.NDArray[np.int64],
        arrays: Mapping[str, npt.NDArray[np.float64]],
        texts: Mapping[str, npt.NDArray[np.bytes_]] | None = None,
    ) -> None:
        self.name = name
        self.timeframe_s = timeframe_s
        self.timestamps = _read_only(timestamps)
        self.arrays: Mapping[str, npt.NDArray[np.float64]] = MappingProxyType(
            {column: _read_only(arrays[column]) for column in SERIES}
        )
        self._texts = texts

    def __len__(self) -> int:
        return len(self.timestamps)

    @overload
    def __getitem__(self, index: int) -> Candle: ...

    @overload
    def __getitem__(self, index: slice) -> CandleFile: ...

    def __getitem__(self, index: int | slice) -> Candle | CandleFile:
        if isinstance(index, slice):
            if index.step not in (None, 1):
                raise ValueError("a slice of candles takes no step: it would leave bars out")
            return CandleFile(
                name=self.name,
                timeframe_s=self.timeframe_s,
                timestamps=self.timestamps[index],
                arrays={column: self.arrays[column][index] for column in SERIES},
                texts=None if self._texts is None else {column: self._texts[column][index] for column in SERIES},
            )
        open_time = _EPOCH + timedelta(milliseconds=int(self.timestamps[index]))
        if self._texts is not None:
            texts = self._texts
            values = [Decimal(texts[column][index].decode("ascii")) for column in SERIES]
        else:
            arrays = self.arrays
            values = [Decimal(repr(float(arrays[column][index]))) for column in SERIES]
        return Candle(
            open_time=open_time, open=values[0], high=values[1], low=values[2], close=values[3], volume=values[4]
        )

    def __iter__(self) -> Iterator[Candle]:
        for index in range(len(self)):
            yield self[index]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Where bars are missing between two that are there."""
        step_ms = self.timeframe_s * 1000
        steps = np.diff(self.timestamps)
        return tuple(
            Gap(after_ms=int(self.timestamps[row]), missing=int(steps[row] // step_ms) - 1)
            for row in np.flatnonzero(steps != step_ms)
        )

    def gap_warning(self) -> str | None:
        """One line for the operator when bars are missing; None for a contiguous file."""
        gaps = self.gaps
        if not gaps:
            return None
        widest = max(gaps, key=lambda gap: gap.missing)
        return (
            f"{self.name}: {sum(gap.missing for gap in gaps)} bars of {self.timeframe_s} s are missing in {len(gaps)} "
            f"gap(s), the widest ({widest.missing}) after {iso(widest.after_ms)}; they are not filled in, and"
            " indicators run across them"
        )


def load_candles(path: str | Path, *, timeframe_s: int | None = None) -> CandleFile:
    """Read and check a candle file. ``timeframe_s`` is the wanted bar length; None takes the file's most common step.

    Raises CandleError, one line that says what is wrong, in which file and row, and what to do.
    """
    file = Path(path)
    columns = read_columns(file)
    timestamps = columns.timestamps
    if len(timestamps) < 2:
        raise CandleError(f"{file}: {len(timestamps)} row(s) of candles; a market needs at least 2")
    _check_timestamps(columns)
    step_ms = _step_ms(columns, None if timeframe_s is None else timeframe_s * 1000)
    _check_grid(columns, step_ms)
    _check_prices(columns)
    return CandleFile(
        name=str(file),
        timeframe_s=step_ms // 1000,
        timestamps=timestamps,
        arrays=columns.arrays,
        texts=columns.texts,
    )


def iso(ms: int) -> str:
    """A timestamp of ms UTC for people."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat().replace("+00:00", "Z")


def _check_timestamps(columns: Columns) -> None:
    times = columns.timestamps
    outside = _first((times < EARLIEST_MS) | (times >= LATEST_MS))
    if outside is not None:
        raise CandleError(
            f"{columns.where(outside)}: timestamp {int(times[outside])} is not a time in milliseconds since 1970 (UTC);"
            " convert it"
        )
    steps = np.diff(times)
    backward = _first(steps <= 0)
    if backward is None:
        return
    row = backward + 1
    at = iso(int(times[row]))
    if steps[backward] == 0:
        raise CandleError(f"{columns.where(row)}: timestamp {at} stands there twice; remove the duplicate row")
    raise CandleError(
        f"{columns.where(row)}: timestamp {at} comes after {iso(int(times[backward]))}; sort the rows by time"
    )


def _step_ms(columns: Columns, wanted_ms: int | None) -> int:
    steps, counts = np.unique(np.diff(columns.timestamps), return_counts=True)
    found_ms = int(steps[np.argmax(counts)])
    if found_ms % 1000:
        raise CandleError(f"{columns.file}: bars are {found_ms} ms apart; a timeframe is whole seconds, 1 s at least")
    if wanted_ms is not None and wanted_ms != found_ms:
        raise CandleError(
            f"{columns.file}: bars are {found_ms // 1000} s apart, but the timeframe asked for is"
            f" {wanted_ms // 1000} s; take a file or a timeframe that fits"
        )
    return found_ms


def _check_grid(columns: Columns, step_ms: int) -> None:
    times = columns.timestamps
    # Timeframes that divide a day are counted from midnight UTC by every exchange; longer ones (a week from Monday)
    # are not, and there the file's first bar sets the grid.
    origin = 0 if DAY_MS % step_ms == 0 else int(times[0])
    off = _first((times - origin) % step_ms != 0)
    if off is not None:
        raise CandleError(
            f"{columns.where(off)}: timestamp {iso(int(times[off]))} is not the open of a {step_ms // 1000} s bar;"
            " correct or remove the row"
        )


def _check_prices(columns: Columns) -> None:
    arrays = columns.arrays
    for name in SERIES:
        bad = _first(~np.isfinite(arrays[name]))
        if bad is not None:
            raise _refusal(columns, bad, f"{name} is {arrays[name][bad]}", "every cell needs a finite number")
    for name in PRICES:
        bad = _first(arrays[name] <= 0)
        if bad is not None:
            raise _refusal(columns, bad, f"{name} is {arrays[name][bad]}", "prices are above zero")
        bad = _first((arrays[name] < PRICE_MIN) | (arrays[name] > PRICE_MAX))
        if bad is not None:
            remedy = f"prices lie between {PRICE_MIN:g} and {PRICE_MAX:g}: check the unit"
            raise _refusal(columns, bad, f"{name} is {arrays[name][bad]}", remedy)
    bad = _first((arrays["volume"] < 0) | (arrays["volume"] > VOLUME_MAX))
    if bad is not None:
        remedy = f"a volume is zero or more, at most {VOLUME_MAX:g}"
        raise _refusal(columns, bad, f"volume is {arrays['volume'][bad]}", remedy)
    opened, high, low, close = (arrays[name] for name in PRICES)
    bad = _first((high < opened) | (high < close) | (high < low))
    if bad is not None:
        raise _refusal(columns, bad, f"high {high[bad]} is below open, close or low", "check the row's columns")
    bad = _first((low > opened) | (low > close))
    if bad is not None:
        raise _refusal(columns, bad, f"low {low[bad]} is above open or close", "check the row's columns")


def _refusal(columns: Columns, row: int, what: str, remedy: str) -> CandleError:
    return CandleError(f"{columns.where(row)} ({iso(int(columns.timestamps[row]))}): {what}; {remedy}")


def _first(mask: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(mask)) if mask.any() else None


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
