"""Turning points, each known only on the bar that confirms it."""

from __future__ import annotations

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import Indicator, Inputs, bars, everything, real
from tbh.strategies.catalogue.rows import NONE, Params, parameter_rows

GROUP = "swing"


def _peaks(values: FloatArray, left: int, right: int) -> FloatArray:
    """The value of each strict peak, on the row ``right`` rows after it; null elsewhere."""
    made = kit.nulls(len(values))
    if len(values) <= left + right:
        return made
    middle = values[left : len(values) - right]
    before = kit.highest(values, left)[left - 1 : len(values) - right - 1]
    after = kit.highest(values, right)[left + right :]
    made[left + right :] = np.where((middle > before) & (middle > after), middle, np.nan)
    return made


def _steps(points: FloatArray) -> FloatArray:
    """At each point 1 above the point before, -1 below it, 0 at the same; null elsewhere and at the first."""
    made = kit.nulls(len(points))
    rows = np.flatnonzero(~np.isnan(points))
    made[rows[1:]] = np.sign(np.diff(points[rows]))
    return made


def _swings(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    left, right = int(params["left"]), int(params["right"])
    high = _peaks(inputs[0], left, right)
    low = -_peaks(-inputs[1], left, right)
    return high, low, kit.fill(high), kit.fill(low), kit.fill(_steps(high)), kit.fill(_steps(low))


def _zigzag(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source, share = inputs[0], params["percent"] / 100.0
    up_from, down_from = 1.0 + share, 1.0 - share
    points, sides, ages = [], [], []
    point, side = float("nan"), 0.0
    top = bottom = float(source[0])
    top_row = bottom_row = point_row = 0
    for row, value in enumerate(source.tolist()):
        if value > top:
            top, top_row = value, row
        if value < bottom:
            bottom, bottom_row = value, row
        if side <= 0.0 and value >= bottom * up_from and row > bottom_row:
            point, point_row, side = bottom, bottom_row, 1.0
            top, top_row = value, row
        elif side >= 0.0 and value <= top * down_from and row > top_row:
            point, point_row, side = top, top_row, -1.0
            bottom, bottom_row = value, row
        points.append(point)
        sides.append(side)
        ages.append(row - point_row if side else float("nan"))
    return np.array(points), np.array(sides), np.array(ages, dtype=np.float64)


_SPAN = parameter_rows("left") + parameter_rows("right")

ENTRIES = (
    Indicator(
        name="swings",
        aliases=("swing_points", "pivot_highs_lows"),
        summary="highs and lows that left bars before and right bars after stay within, on the bar that confirms them; "
        "the last of each, and whether it lies above (1) or below (-1) the one before",
        group=GROUP,
        source="B. Williams's fractals for any span",
        parameters=(bars("left", 2, maximum=500), bars("right", 2, maximum=500)),
        inputs=("high", "low"),
        outputs=("high", "low", "last_high", "last_low", "high_trend", "low_trend"),
        nulls=_SPAN,
        memory=everything("turn"),
        function=_swings,
        sparse=("high", "low", "last_high", "last_low", "high_trend", "low_trend"),
    ),
    Indicator(
        name="zigzag",
        summary="last turning point that a move of percent has confirmed, the direction since (1, -1; 0 at first) and "
        "its age in bars",
        group=GROUP,
        source="A. Merrill, Filtered Waves (1977), without drawing back",
        parameters=(real("percent", "5", "0.01", "99"),),
        outputs=("point", "trend", "age"),
        nulls=NONE,
        memory=everything("turn"),
        function=_zigzag,
        sparse=("point", "age"),
    ),
)
