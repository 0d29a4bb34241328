"""What a run's equity and trades come to.

Definitions: *return* is the last equity over the start cash, less one. *Drawdown* of a bar is how far the equity at its
close lies below its highest so far (the start cash included), as a fraction of that. *Sharpe* is the mean of the bars'
simple returns over their standard deviation (of the population), times the square root of the bars in a year of 365
days; no interest is deducted. *Win rate* is the share of trades whose PnL after fees is above zero, *profit factor*
their PnL over what the others lost. *Exposure* is the share of bars at whose close a position was open. Only closed
trades count; a position that is open at the end counts in the equity alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from tbh.strategies.base import FloatArray

YEAR_S = 365 * 86_400
BLOCK = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Fractions, but for ``sharpe`` and ``profit_factor``; None where the definition divides by nothing."""

    total_return: float
    max_drawdown: float
    sharpe: float | None
    win_rate: float | None
    profit_factor: float | None
    exposure: float


def statistics(equity: FloatArray, *, cash: float, pnl: FloatArray, held_bars: int, timeframe_s: int) -> Statistics:
    """``equity`` (n >= 1) at each bar's close and ``pnl`` (one per closed trade), in quote."""
    bars = len(equity)
    won, lost = float(pnl[pnl > 0].sum()), float(-pnl[pnl < 0].sum())
    return Statistics(
        total_return=float(equity[-1]) / cash - 1.0,
        max_drawdown=_max_drawdown(equity, cash),
        sharpe=_sharpe(equity, cash, timeframe_s),
        win_rate=float((pnl > 0).mean()) if len(pnl) else None,
        profit_factor=won / lost if lost else None,
        exposure=held_bars / bars,
    )


def drawdowns(equity: FloatArray, cash: float) -> FloatArray:
    """The drawdown of each bar (n), a fraction."""
    peaks = np.maximum.accumulate(equity)
    np.maximum(peaks, cash, out=peaks)
    return 1.0 - equity / peaks


def _max_drawdown(equity: FloatArray, cash: float) -> float:
    deepest, peak = 0.0, cash
    for part in _blocks(equity):
        highest, lowest = float(part.max()), float(part.min())
        if highest <= peak:  # the peak stays what it was, and the lowest bar lies deepest below it
            deepest = max(deepest, 1.0 - lowest / peak)
        elif lowest < 0.0 or 1.0 - lowest / highest > deepest:
            peaks = np.maximum.accumulate(part)
            np.maximum(peaks, peak, out=peaks)
            np.divide(part, peaks, out=peaks)
            deepest = max(deepest, 1.0 - float(peaks.min()))
        peak = max(peak, highest)
    return deepest


def _sharpe(equity: FloatArray, cash: float, timeframe_s: int) -> float | None:
    if float(equity.min()) <= 0.0:
        return None  # a return on nothing is none
    total = squares = 0.0
    before = cash
    for part in _blocks(equity):
        returns = np.empty_like(part)
        returns[0] = part[0] / before
        np.divide(part[1:], part[:-1], out=returns[1:])
        returns -= 1.0
        before = float(part[-1])
        total += float(returns.sum())
        squares += float(np.dot(returns, returns))
    mean = total / len(equity)
    variance = squares / len(equity) - mean * mean
    # What is left of a constant after rounding is no deviation.
    return mean / sqrt(variance) * sqrt(YEAR_S / timeframe_s) if variance > 1e-30 else None


def _blocks(values: FloatArray) -> Iterator[FloatArray]:
    """A piece at a time: what fits the cache is read once, and no array as long as the run is made."""
    for start in range(0, len(values), BLOCK):
        yield values[start : start + BLOCK]
