"""Lines that Stock.Indicators draws back from points it learns of later, drawn from the catalogue's points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tbh.conformance.readings import Bench, Settings
from tbh.strategies.base import FloatArray


def line(rows: npt.NDArray[np.intp], values: FloatArray, length: int, limit: int) -> tuple[FloatArray, FloatArray]:
    """Straight lines between neighbours at most ``limit`` rows apart, and the sign of their slope."""
    line, slope = np.full(length, np.nan), np.full(length, np.nan)
    for start, end, low, high in zip(rows[:-1], rows[1:], values[:-1], values[1:], strict=True):
        if end - start <= limit:
            line[start : end + 1] = np.linspace(low, high, int(end - start) + 1)
            slope[start + 1 : end + 1] = np.sign(high - low)
    return line, slope


def last_line(bench: Bench, period: int) -> FloatArray:
    """The line of least squares through the last ``period`` closes, null before them."""
    begin, slope = (bench(f"linearreg_{part}", period=period)[-1] for part in ("intercept", "slope"))
    drawn = np.full(len(bench.close), np.nan)
    drawn[-period:] = begin + slope * np.arange(period)
    return drawn


def swing_lines(settings: Settings, side: str, place: int) -> Callable[[Bench], FloatArray]:
    """Between the ``high`` or ``low`` swings: the line (place 0), or the number of its direction (1)."""
    left, right = settings["leftSpan"], settings["rightSpan"]

    def drawn(bench: Bench) -> FloatArray:
        points = bench(f"swings.{side}", left=left, right=right)
        rows = np.flatnonzero(~np.isnan(points))
        lines = line(rows - right, points[rows], len(points), settings["maxTrendPeriods"])
        if place == 0:
            return lines[0]
        # Their numbers: 0 and 1 for a higher and a lower high, 2 and 3 for a higher and a lower low.
        falls = np.where(np.isnan(lines[1]), np.nan, (lines[1] < 0).astype(np.float64))
        return falls if side == "high" else falls + 2.0

    return drawn


def zigzag(settings: Settings, what: str) -> Callable[[Bench], FloatArray]:
    """``line`` through all turning points, through the ``high`` or the ``low`` ones, or their ``type`` (1 and -1)."""

    def drawn(bench: Bench) -> FloatArray:
        point, trend, age = (
            bench(f"zigzag.{output}", percent=settings["percentChange"]) for output in ("point", "trend", "age")
        )
        turns = np.flatnonzero(np.diff(trend, prepend=0.0))
        rows, values, kinds = turns - age[turns].astype(np.intp), point[turns], -trend[turns]
        # The last leg is drawn to the extreme since the last turning point.
        rest = bench.close[rows[-1] :]
        end = int(np.argmax(rest * -kinds[-1]))
        rows, values = np.append(rows, rows[-1] + end), np.append(values, rest[end])
        kinds = np.append(kinds, -kinds[-1])
        if what == "type":
            types = np.full(len(point), np.nan)
            types[rows[:-1]] = kinds[:-1]
            return types
        chosen = {"line": kinds != 0, "high": kinds > 0, "low": kinds < 0}[what]
        return line(rows[chosen], values[chosen], len(point), len(point))[0]

    return drawn
