"""What a run's equity and trades went through on their way: drawdowns as episodes, excursions of trades, streaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.trades import Trades
from tbh.strategies.base import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawdown:
    """From a highest equity to the close that reached it again (``recovered``) or to the last. Times are ms UTC,
    ``depth`` is a fraction of the highest."""

    began_ms: int
    deepest_ms: int
    ended_ms: int
    recovered: bool
    depth: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.ended_ms - self.began_ms) / 1000


def drawdown_episodes(
    equity: FloatArray, cash: float, stamps: npt.NDArray[np.int64], timeframe_s: int
) -> tuple[Drawdown | None, list[Drawdown]]:
    """The longest, and the five deepest with the deepest first. ``stamps`` (n, ms UTC) open the bars at whose close
    ``equity`` (n) stood; what falls below ``cash`` from the first bar on began with that bar's open."""
    peaks = np.maximum(np.maximum.accumulate(equity), cash)
    depths = 1.0 - equity / peaks
    edges = np.diff(np.concatenate(([0], (equity < peaks).astype(np.int8), [0])))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(begins):
        return None, []
    closes = stamps + timeframe_s * 1000
    began = np.where(begins == 0, stamps[0], closes[begins - 1])
    recovered = ends < len(equity)
    ended = closes[np.minimum(ends, len(equity) - 1)]

    def told(number: int) -> Drawdown:
        first, end = int(begins[number]), int(ends[number])
        deepest = first + int(np.argmax(depths[first:end]))
        return Drawdown(
            began_ms=int(began[number]),
            deepest_ms=int(closes[deepest]),
            ended_ms=int(ended[number]),
            recovered=bool(recovered[number]),
            depth=float(depths[deepest]),
        )

    most = np.maximum.reduceat(depths, begins)
    deepest = np.argsort(-most, kind="stable")[:5]
    return told(int(np.argmax(ended - began))), [told(int(number)) for number in deepest]


def returns_of(trades: Trades) -> FloatArray:
    """PnL of each trade (n) as a fraction of what its entries were worth."""
    return trades.pnl / (trades.entry_price * trades.qty)


def excursions(trades: Trades, markets: Sequence[Columns]) -> tuple[FloatArray, FloatArray]:
    """The furthest that prices went against each trade and in its favour (n each), as fractions of its entry price, 0
    or more: over the bars from its entry to before its exit, and its exit price. Of the exit's bar nothing else is
    known to have come before the exit."""
    lows, highs = trades.exit_price.copy(), trades.exit_price.copy()
    for number, market in enumerate(markets):
        mine = np.flatnonzero((trades.symbol == number) & (trades.exit_row > trades.entry_row))
        if not len(mine):
            continue
        pairs = np.stack([trades.entry_row[mine], trades.exit_row[mine]], axis=1).ravel()
        lows[mine] = np.minimum(lows[mine], np.minimum.reduceat(market.values[p.LOW], pairs)[::2])
        highs[mine] = np.maximum(highs[mine], np.maximum.reduceat(market.values[p.HIGH], pairs)[::2])
    fell, rose = 1.0 - lows / trades.entry_price, highs / trades.entry_price - 1.0
    long = trades.side > 0
    return np.maximum(np.where(long, fell, rose), 0.0), np.maximum(np.where(long, rose, fell), 0.0)


def longest_streak(hits: BoolArray) -> int:
    """The longest row of true values."""
    if not len(hits):
        return 0
    edges = np.diff(np.concatenate(([0], hits.astype(np.int8), [0])))
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    return int(lengths.max(initial=0))
