"""Arrays in, arrays of equal length out, null (NaN) where a value is not known yet: what the numpy entries are made of.

Sums over windows add and never subtract, so that they are exact to the rounding of their own terms wherever the array
begins, a window of zeros sums to zero, and a null spoils only the windows it is in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib
from numpy.lib.stride_tricks import sliding_window_view

from tbh.strategies.base import BoolArray, FloatArray


def nulls(rows: int) -> FloatArray:
    return np.full(rows, np.nan)


def shift(values: FloatArray, rows: int) -> FloatArray:
    """Each value ``rows`` rows later, nulls before."""
    moved = nulls(len(values))
    if rows < len(values):
        moved[rows:] = values[: len(values) - rows]
    return moved


def change(values: FloatArray, rows: int = 1) -> FloatArray:
    return values - shift(values, rows)


def ratio(above: FloatArray, below: FloatArray, *, otherwise: float = np.nan) -> FloatArray:
    """``above / below``, and ``otherwise`` where the divisor is zero or the quotient overflows."""
    made = np.full(len(above), otherwise)
    with np.errstate(over="ignore"):
        np.divide(above, below, out=made, where=below != 0)
    made[np.isinf(made)] = otherwise
    return made


def log(values: FloatArray) -> FloatArray:
    """Natural logarithm, null of what is not positive."""
    return np.log(values, where=values > 0, out=nulls(len(values)))


def rolling_sum(values: FloatArray, period: int) -> FloatArray:
    """Sum of the last ``period`` values: what is left of one block of that length, and the beginning of the next."""
    rows = len(values)
    if rows < period:
        return nulls(rows)
    blocks = -(-rows // period)
    padded = np.zeros(blocks * period)
    padded[:rows] = values
    table = padded.reshape(blocks, period)
    heads = np.cumsum(table, axis=1).ravel()
    tails = np.cumsum(table[:, ::-1], axis=1)[:, ::-1]
    # A window that is a whole block is in the head already.
    tails[:, 0] = 0.0
    made = nulls(rows)
    np.add(heads[period - 1 : rows], tails.ravel()[: rows - period + 1], out=made[period - 1 :])
    return made


def rolling_mean(values: FloatArray, period: int) -> FloatArray:
    return rolling_sum(values, period) / period


def weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum of the last ``len(weights)`` values, each times its weight; the last weight is the newest value's."""
    made = nulls(len(values))
    if len(values) >= len(weights):
        made[len(weights) - 1 :] = np.convolve(values, weights[::-1], mode="valid")
    return made


def highest(values: FloatArray, period: int) -> FloatArray:
    return values.copy() if period == 1 else np.asarray(talib.MAX(values, timeperiod=period))


def lowest(values: FloatArray, period: int) -> FloatArray:
    return values.copy() if period == 1 else np.asarray(talib.MIN(values, timeperiod=period))


def ema(values: FloatArray, period: int) -> FloatArray:
    """Seeded by the simple average of the first ``period`` values that are not null."""
    return np.asarray(talib.EMA(values, timeperiod=period))


def ema_from_first(values: FloatArray, period: int) -> FloatArray:
    """Seeded by the first value that is not null: so is the simple average of ``period`` copies of it."""
    return _from_first(values, period, talib.EMA)


def wilder(values: FloatArray, period: int) -> FloatArray:
    """Weight 1 / period, seeded by the simple average of the first ``period`` values that are not null."""
    return np.asarray(talib.RMA(values, timeperiod=period))


def wilder_from_first(values: FloatArray, period: int) -> FloatArray:
    """The same, seeded by the first value that is not null."""
    return _from_first(values, period, talib.RMA)


def _from_first(values: FloatArray, period: int, average: Callable[..., FloatArray]) -> FloatArray:
    known = ~np.isnan(values)
    if not known.any():
        return nulls(len(values))
    first = int(np.argmax(known))
    made = nulls(len(values))
    seeded = np.concatenate([np.full(period - 1, values[first]), values[first:]])
    made[first:] = average(seeded, timeperiod=period)[period - 1 :]
    return made


def true_range(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Wilder's: the range of the bar and the close before it. The first row, which has none, is null."""
    return np.asarray(talib.TRANGE(high, low, close))


def rolling_windows(values: FloatArray, period: int) -> FloatArray:
    """The windows as rows of a view, the first one ending at row ``period`` - 1. Needs at least ``period`` values."""
    return sliding_window_view(values, period)


def follow(target: FloatArray, weight: FloatArray) -> FloatArray:
    """y += weight * (target - y) row by row, from the first target that is not null; nulls before it.

    A loop, as each step depends on the one before by a weight of its own: 525,600 rows take some 40 ms.
    """
    made = nulls(len(target))
    known = ~np.isnan(target)
    if not known.any():
        return made
    first = int(np.argmax(known))
    value = float(target[first])
    steps = [value]
    for goal, share in zip(target[first + 1 :].tolist(), weight[first + 1 :].tolist(), strict=True):
        value += share * (goal - value)
        steps.append(value)
    made[first:] = steps
    return made


def since(reset: BoolArray, rows: int) -> FloatArray:
    """How many rows ago ``reset`` was last true, null before the first time."""
    last = np.where(reset, np.arange(rows), -1)
    np.maximum.accumulate(last, out=last)
    made = (np.arange(rows) - last).astype(np.float64)
    made[last < 0] = np.nan
    return made


def fill(values: FloatArray) -> FloatArray:
    """Each null replaced by the last value before it, if there is one."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values)))
    np.maximum.accumulate(rows, out=rows)
    made = nulls(len(values))
    made[rows >= 0] = values[rows[rows >= 0]]
    return made
