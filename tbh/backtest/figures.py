"""The statistics of a report, each with its definition: those of ``stats.py`` and what a plain run need not compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from typing import Literal

import numpy as np

from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.excursions import Drawdown, drawdown_episodes, excursions, longest_streak, returns_of
from tbh.backtest.stats import YEAR_S
from tbh.strategies.base import FloatArray

Unit = Literal["fraction", "quote", "ratio", "bars", "seconds", "count"]

YEAR_FROM_S = 30 * 86_400
"""What a shorter run grew by says nothing about a year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A statistic. ``value`` is exact text for sums of money that the engine counts, else a number, None where the
    definition divides by nothing."""

    key: str
    group: str
    label: str
    value: float | str | None
    unit: Unit
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All statistics in the order in which they read, and the deepest drawdowns."""

    figures: tuple[Figure, ...]
    drawdowns: tuple[Drawdown, ...]

    def __getitem__(self, key: str) -> Figure:
        return next(figure for figure in self.figures if figure.key == key)


def figures_of(made: Run, markets: Sequence[Columns], cash: Decimal) -> Figures:
    """Every statistic of a run over ``markets`` that began with ``cash``."""
    longest, deepest = drawdown_episodes(made.equity, float(cash), made.stamps, markets[0].timeframe_s)
    groups = (
        _result(made, markets, cash),
        _risk(made, markets[0].timeframe_s, float(cash), longest),
        _trades(made),
        _sizes(made, markets),
        _costs(made, cash),
    )
    return Figures(figures=tuple(figure for group in groups for figure in group), drawdowns=tuple(deepest))


def _result(made: Run, markets: Sequence[Columns], cash: Decimal) -> Iterator[Figure]:
    def figure(key: str, label: str, value: float | str | None, unit: Unit, definition: str) -> Figure:
        return Figure(key=key, group="Result", label=label, value=value, unit=unit, definition=definition)

    profit = Decimal(made.final_equity) - cash
    yield figure(
        "return", "Return", made.statistics.total_return, "fraction", "Last equity over the start cash, less one."
    )
    yield figure("net_profit", "Net profit", format(profit, "f"), "quote", "Last equity less the start cash.")
    yield figure("equity", "Last equity", made.final_equity, "quote", "Cash and what is held, at the last close.")
    yield figure(
        "cagr",
        "Growth a year (CAGR)",
        _yearly(made, markets[0].timeframe_s, cash),
        "fraction",
        "The yearly growth that gives the return over the run's time, with a year of 365 days; none for less than 30"
        " days or when nothing is left.",
    )
    held = [float(market.values[3, -1] / market.values[0, 0]) - 1.0 for market in markets]
    yield figure(
        "buy_and_hold",
        "Buy and hold",
        sum(held) / len(held),
        "fraction",
        "Last close over first open, less one, without fees; the mean of the markets where there are several.",
    )
    yield figure(
        "exposure",
        "Exposure",
        made.statistics.exposure,
        "fraction",
        "Bars at whose close a position was open, over all bars.",
    )


def _yearly(made: Run, timeframe_s: int, cash: Decimal) -> float | None:
    span_s = _span_s(made, timeframe_s)
    growth = float(Decimal(made.final_equity) / cash)
    return growth ** (YEAR_S / span_s) - 1.0 if span_s >= YEAR_FROM_S and growth > 0.0 else None


def _span_s(made: Run, timeframe_s: int) -> float:
    return float(made.stamps[-1] - made.stamps[0]) / 1000 + timeframe_s


def _risk(made: Run, timeframe_s: int, cash: float, longest: Drawdown | None) -> Iterator[Figure]:
    def figure(key: str, label: str, value: float | None, unit: Unit, definition: str) -> Figure:
        return Figure(key=key, group="Risk", label=label, value=value, unit=unit, definition=definition)

    deepest = made.statistics.max_drawdown
    yearly = _yearly(made, timeframe_s, Decimal(repr(cash)))
    deviation, downside, mean = _deviations(made.equity, cash)
    scale = sqrt(YEAR_S / timeframe_s)
    yield figure(
        "max_drawdown",
        "Deepest drawdown",
        deepest,
        "fraction",
        "The deepest fall of the equity at a close below its highest so far (the start cash included), as a fraction of"
        " that.",
    )
    yield figure(
        "longest_drawdown_s",
        "Longest drawdown",
        0.0 if longest is None else longest.seconds,
        "seconds",
        "The longest time from a highest equity to the close that reached it again, or to the last close.",
    )
    yield figure(
        "sharpe",
        "Sharpe ratio",
        made.statistics.sharpe,
        "ratio",
        "Mean of the bars' simple returns over their standard deviation (of the population), times the square root of"
        " the bars in 365 days; no interest is deducted.",
    )
    yield figure(
        "sortino",
        "Sortino ratio",
        mean / downside * scale if mean is not None and downside else None,
        "ratio",
        "Mean of the bars' simple returns over their downside deviation (the root of their mean square, returns above"
        " zero counted as zero), times the square root of the bars in 365 days.",
    )
    yield figure(
        "calmar",
        "Calmar ratio",
        yearly / deepest if yearly is not None and deepest else None,
        "ratio",
        "Growth a year (CAGR) over the deepest drawdown, both of the whole run.",
    )
    yield figure(
        "volatility",
        "Volatility a year",
        None if deviation is None else deviation * scale,
        "fraction",
        "Standard deviation of the bars' simple returns times the square root of the bars in 365 days.",
    )


def _deviations(equity: FloatArray, cash: float) -> tuple[float | None, float, float | None]:
    """Standard and downside deviation and mean of the bars' returns; None when the equity reaches zero."""
    if float(equity.min()) <= 0.0:
        return None, 0.0, None
    returns = np.diff(equity, prepend=cash) / np.concatenate(([cash], equity[:-1]))
    downside = sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.std()), downside, float(returns.mean())


def _trades(made: Run) -> Iterator[Figure]:
    def figure(key: str, label: str, value: float | None, unit: Unit, definition: str) -> Figure:
        return Figure(key=key, group="Trades", label=label, value=value, unit=unit, definition=definition)

    pnl = made.trades.pnl
    won, lost = pnl[pnl > 0], pnl[pnl < 0]
    wins, losses = _mean(won), _mean(lost)
    spread = float(pnl.std()) if len(pnl) > 1 else 0.0
    yield figure("trades", "Closed trades", len(pnl), "count", "Round trips, from no position to no position.")
    yield figure("fills", "Fills", made.fills, "count", "Executions, in part or in full, of entries and exits.")
    yield figure(
        "win_rate", "Won", made.statistics.win_rate, "fraction", "Trades whose PnL after fees is above zero, over all."
    )
    yield figure(
        "profit_factor",
        "Profit factor",
        made.statistics.profit_factor,
        "ratio",
        "The sum of the PnL of the trades above zero over what the others lost.",
    )
    yield figure("expectancy", "Expectancy", _mean(pnl), "quote", "Mean PnL of a trade, after fees and funding.")
    yield figure("average_win", "Average win", wins, "quote", "Mean PnL of the trades above zero.")
    yield figure("average_loss", "Average loss", losses, "quote", "Mean PnL of the trades below zero.")
    yield figure(
        "payoff",
        "Payoff ratio",
        None if wins is None or losses is None else -wins / losses,
        "ratio",
        "Average win over average loss, without its sign.",
    )
    yield figure(
        "sqn",
        "System quality (SQN)",
        float(pnl.mean()) / spread * sqrt(len(pnl)) if spread else None,
        "ratio",
        "Mean PnL over its standard deviation (of the population), times the square root of the number of trades.",
    )
    yield figure("best_trade", "Best trade", _extreme(pnl, 1.0), "quote", "The highest PnL of a trade.")
    yield figure("worst_trade", "Worst trade", _extreme(pnl, -1.0), "quote", "The lowest PnL of a trade.")
    yield figure(
        "wins_in_a_row",
        "Wins in a row",
        longest_streak(pnl > 0),
        "count",
        "The most trades above zero in a row, in order of the exits.",
    )
    yield figure(
        "losses_in_a_row",
        "Losses in a row",
        longest_streak(pnl < 0),
        "count",
        "The most trades below zero in a row, in order of the exits.",
    )


def _sizes(made: Run, markets: Sequence[Columns]) -> Iterator[Figure]:
    def figure(key: str, label: str, value: float | None, unit: Unit, definition: str) -> Figure:
        return Figure(key=key, group="Course of a trade", label=label, value=value, unit=unit, definition=definition)

    trades = made.trades
    against, favour = excursions(trades, markets)
    seconds = (trades.exit_time - trades.entry_time) / 1000
    yield figure(
        "average_return",
        "Average return",
        _mean(returns_of(trades)),
        "fraction",
        "Mean of the trades' PnL over what their entries were worth.",
    )
    yield figure(
        "average_bars",
        "Bars in a trade",
        _mean((trades.exit_row - trades.entry_row).astype(np.float64)),
        "bars",
        "Mean number of closes from the bar of the entry to that of the exit.",
    )
    yield figure(
        "average_s",
        "Time in a trade",
        _mean(seconds),
        "seconds",
        "Mean time from the open of the entry's bar to that of the exit's.",
    )
    yield figure(
        "longest_s",
        "Longest trade",
        float(seconds.max()) if len(seconds) else None,
        "seconds",
        "The longest time from the open of an entry's bar to that of the exit's.",
    )
    yield figure(
        "average_adverse",
        "Went against it",
        _mean(against),
        "fraction",
        "Mean of the furthest that prices went against a trade, of its entry price: over the bars before the exit's,"
        " and the exit price (maximum adverse excursion).",
    )
    yield figure(
        "average_favourable",
        "Went in its favour",
        _mean(favour),
        "fraction",
        "Mean of the furthest that prices went in a trade's favour, of its entry price: over the bars before the"
        " exit's, and the exit price (maximum favourable excursion).",
    )


def _costs(made: Run, cash: Decimal) -> Iterator[Figure]:
    def figure(key: str, label: str, value: float | str | None, unit: Unit, definition: str) -> Figure:
        return Figure(key=key, group="Costs", label=label, value=value, unit=unit, definition=definition)

    trades = made.trades
    turnover = float((trades.qty * (trades.entry_price + trades.exit_price)).sum())
    yield figure("fees", "Fees", made.fees, "quote", "All fees, those of what is still open included.")
    yield figure(
        "fees_of_cash", "Fees of the cash", float(made.fees) / float(cash), "fraction", "Fees over the start cash."
    )
    yield figure("funding", "Funding", made.funding, "quote", "What funding has cost, less what it has brought.")
    yield figure("turnover", "Turnover", turnover, "quote", "What the closed trades bought and sold.")
    yield figure("turnovers", "Turnover of the cash", turnover / float(cash), "ratio", "Turnover over the start cash.")


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _extreme(values: FloatArray, sign: float) -> float | None:
    return sign * float((sign * values).max()) if len(values) else None
