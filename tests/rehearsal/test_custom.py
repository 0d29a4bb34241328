"""A strategy in Python trades by the actors as it does in the fast engine, and fails with the same words."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from bench import _drawn
from tbh.backtest.engine import backtest
from tbh.backtest.native import plain_runner
from tbh.backtest.options import Options
from tbh.infra.simmarket import simulated_market
from tbh.rehearsal.engine import Rehearsal
from tbh.strategies.custom import BarView, StrategyError
from tbh.strategies.runner import CustomRunner
from tests.backtest.test_custom import Cross, CrossAtOnce, Many, Peeking, custom, market_of

BARS = 300


@pytest.mark.parametrize("share", [None, "0.003"], ids=["all volume", "a share of the volume"])
@pytest.mark.parametrize("make", [Cross, CrossAtOnce, Many, lambda: Many(2)], ids=["cross", "at once", "many", "more"])
def test_the_actors_trade_it_as_the_fast_engine_does(make: Callable[[], Any], share: str | None) -> None:
    market = market_of(simulated_market(3, BARS))
    volume_share = None if share is None else Decimal(share)
    options = Options(cash=Decimal(10_000), fee=Decimal("0.00075"), volume_share=volume_share)
    strategy = CustomRunner(custom(make))
    fast = backtest(strategy, [market], options, plain_runner())
    rehearsal = Rehearsal(strategy, market, options)
    made = rehearsal.run()
    assert _drawn.unlike(made, fast) == []
    assert (made.refused, made.statistics) == (fast.refused, fast.statistics)
    assert len(made.trades) > 10
    assert (rehearsal.feed.told == BARS) is not strategy.vectorised


def test_what_it_raises_ends_the_run_with_the_words_of_the_fast_engine() -> None:
    def act(view: BarView) -> Any:
        return 1 // 0 if view.open_time.minute == 7 else ()

    market = market_of(simulated_market(3, 30))
    strategy = CustomRunner(custom(lambda: Peeking(act)))
    with pytest.raises(StrategyError) as fast:
        backtest(strategy, [market], Options(), plain_runner())
    with pytest.raises(StrategyError) as actors:
        Rehearsal(strategy, market, Options()).run()
    assert str(actors.value) == str(fast.value)
    assert "on the bar of 2026-01-01T00:07:00Z" in str(fast.value)
