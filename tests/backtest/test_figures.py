"""The statistics of a report, worked out once more from their definitions."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pytest

from tbh.backtest.excursions import drawdown_episodes, excursions, longest_streak
from tbh.backtest.figures import figures_of
from tests.backtest.reports import START_MS, subject_of, walk

MINUTE_MS = 60_000


def test_a_drawdown_lasts_from_its_highest_equity_to_the_close_that_reached_it_again() -> None:
    equity = np.array([90.0, 100.0, 120.0, 108.0, 114.0, 120.0, 121.0, 60.5, 70.0])
    stamps = START_MS + MINUTE_MS * np.arange(len(equity), dtype=np.int64)
    longest, deepest = drawdown_episodes(equity, 100.0, stamps, 60)
    assert [round(one.depth, 6) for one in deepest] == [0.5, 0.1, 0.1]
    last = deepest[0]
    assert (last.recovered, last.began_ms, last.deepest_ms) == (False, stamps[7], stamps[8])
    first = next(one for one in deepest if one.began_ms == START_MS)
    assert (first.recovered, first.ended_ms) == (True, stamps[2])
    assert longest is not None
    assert (longest.began_ms, longest.seconds, longest.recovered) == (stamps[3], 180.0, True)


def test_an_equity_that_never_falls_has_no_drawdown() -> None:
    stamps = START_MS + MINUTE_MS * np.arange(3, dtype=np.int64)
    assert drawdown_episodes(np.array([100.0, 100.0, 101.0]), 100.0, stamps, 60) == (None, [])


def test_streaks_are_the_longest_rows_of_true_values() -> None:
    assert longest_streak(np.array([], dtype=np.bool_)) == 0
    assert longest_streak(np.array([False, False])) == 0
    assert longest_streak(np.array([True, False, True, True])) == 2


def test_excursions_leave_out_what_came_after_the_exit(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, [walk(1_500)])
    trades, (market,) = subject.made.trades, subject.markets
    against, favour = excursions(trades, subject.markets)
    for row in range(len(trades)):
        entry, left, price = trades.entry_row[row], trades.exit_row[row], trades.entry_price[row]
        out = trades.exit_price[row]
        low = min([out, *market.values[2, entry:left]])
        high = max([out, *market.values[1, entry:left]])
        worse, better = (price - low, high - price) if trades.side[row] > 0 else (high - price, price - low)
        assert against[row] == pytest.approx(max(worse, 0) / price, abs=1e-12)
        assert favour[row] == pytest.approx(max(better, 0) / price, abs=1e-12)


def test_each_statistic_is_what_its_definition_says(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, [walk(3_000)])
    made, cash = subject.made, 10_000.0
    found = {figure.key: figure.value for figure in figures_of(made, subject.markets, Decimal(10_000)).figures}
    curve = [cash, *made.equity.tolist()]
    returns = [now / before - 1 for before, now in pairwise(curve)]
    yearly = (365 * 24 * 60) ** 0.5
    downside = fmean(min(each, 0.0) ** 2 for each in returns) ** 0.5
    assert found["sortino"] == pytest.approx(fmean(returns) / downside * yearly)
    assert found["sharpe"] == pytest.approx(fmean(returns) / pstdev(returns) * yearly)
    assert found["volatility"] == pytest.approx(pstdev(returns) * yearly)
    pnl = [float(row["pnl"]) for row in subject.told["trades"]]
    won, lost = [each for each in pnl if each > 0], [each for each in pnl if each < 0]
    assert found["expectancy"] == pytest.approx(fmean(pnl))
    assert found["sqn"] == pytest.approx(fmean(pnl) / pstdev(pnl) * len(pnl) ** 0.5)
    assert found["payoff"] == pytest.approx(-fmean(won) / fmean(lost))
    assert found["profit_factor"] == pytest.approx(-sum(won) / sum(lost))
    assert [found["best_trade"], found["worst_trade"]] == pytest.approx([max(pnl), min(pnl)])
    assert Decimal(str(found["net_profit"])) == Decimal(made.final_equity) - 10_000
    spans = [_seconds(row["exit_time"]) - _seconds(row["entry_time"]) for row in subject.told["trades"]]
    assert found["average_s"] == pytest.approx(fmean(spans))
    assert (found["cagr"], found["calmar"]) == (None, None)  # two days say nothing about a year


def test_growth_a_year_is_what_compounds_to_the_return(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, [walk(60 * 24 * 40)])
    found = {each.key: each.value for each in figures_of(subject.made, subject.markets, Decimal(10_000)).figures}
    assert isinstance(found["cagr"], float)
    assert (1 + found["cagr"]) ** (40 / 365) == pytest.approx(1 + subject.made.statistics.total_return)
    assert found["calmar"] == pytest.approx(found["cagr"] / subject.made.statistics.max_drawdown)


def test_a_run_without_trades_has_no_mean_and_no_error(tmp_path: Path) -> None:
    never = {"left": "close", "op": "<", "right": 0}
    definition = {
        "name": "never",
        "timeframe": "1m",
        "entry": {"long": never},
        "sizing": {"kind": "fixed_quantity", "value": "1"},
    }
    subject = subject_of(tmp_path, [walk(50)], definition=definition)
    found = {each.key: each.value for each in figures_of(subject.made, subject.markets, Decimal(10_000)).figures}
    assert [found[key] for key in ("expectancy", "sqn", "best_trade", "sharpe", "sortino")] == [None] * 5
    assert found["trades"] == found["longest_drawdown_s"] == 0


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
