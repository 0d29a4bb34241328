"""Strategies for which something is known for all bars before the first one is traded.

``ForeseenStrategy`` decides as ``DynamicStrategy`` does, by the same code; only whether a rule is true on a bar is
looked up in what ``evaluate_all`` has found instead of computed from the bars so far. The two agree
(docs/STRATEGIES.md). ``SteppedStrategy`` asks a custom one on each bar, and shows it columns that were computed
beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.stepped import arrays_of
from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.messages.orders import Side
from tbh.strategies.base import View, Wish
from tbh.strategies.custom import StrategyError
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.runner import CustomRunner, held_of
from tbh.strategies.shapes import Definition

_BITS = {
    ("entry", Side.BUY): p.ENTRY_LONG,
    ("entry", Side.SELL): p.ENTRY_SHORT,
    ("exit", Side.BUY): p.EXIT_LONG,
    ("exit", Side.SELL): p.EXIT_SHORT,
    ("pyramid", Side.BUY): p.MORE_LONG,
    ("pyramid", Side.SELL): p.MORE_SHORT,
}


class ForeseenStrategy(DynamicStrategy):
    """``rules`` (n) are the bits of ``engine.wishes`` for the bars that it will be given. It keeps the last one."""

    def __init__(self, definition: Definition, rules: npt.NDArray[np.uint8]) -> None:
        super().__init__(definition)
        self._bits = rules
        self._count = 0
        self._last: Candle | None = None

    @property
    def bar_count(self) -> int:
        return self._count

    @property
    def warm(self) -> bool:
        return self._count > self.warmup

    def load(self, history: Sequence[Candle]) -> None:
        """Go to the end of ``history``; only its length and its last bar are looked at."""
        self._count = len(history)
        self._last = history[-1] if history else None

    def append(self, candle: Candle) -> None:
        self._count += 1
        self._last = candle

    def view(self, position: Position | None) -> View:
        """The last bar; there are no columns, for no rule is computed from them."""
        if self._last is None:
            raise ValueError(f"strategy {self.name!r} has no bar to decide on")
        return View(bar_index=self._count - 1, candle=self._last, position=position, columns={})

    def _true(self, purpose: str, side: Side, view: View) -> bool:
        return bool(self._bits[view.bar_index] & _BITS[purpose, side])


class SteppedStrategy:
    """A Strategy (``tbh/strategies/base.py``) that asks a new instance of ``strategy`` on each bar of ``market``, of
    which it is told. What was raised first is appended to ``raised``."""

    def __init__(self, strategy: CustomRunner, market: Columns, raised: list[StrategyError]) -> None:
        self._strategy = strategy.anew()
        self._columns = self._strategy.columns_over(arrays_of(market))
        self._stamps = market.stamps
        self._raised = raised
        self._count = 0
        self._last: Candle | None = None
        self.name = strategy.name
        self.timeframe_s = strategy.timeframe_s
        self.warmup = strategy.warmup

    @property
    def bar_count(self) -> int:
        return self._count

    @property
    def warm(self) -> bool:
        return self._count > self.warmup

    def load(self, history: Sequence[Candle]) -> None:
        """Go to the end of ``history``; only its length and its last bar are looked at."""
        self._count = len(history)
        self._last = history[-1] if history else None

    def append(self, candle: Candle) -> None:
        self._count += 1
        self._last = candle

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        """Decide on the last bar. ``StrategyError`` as the custom one fails."""
        if self._last is None:
            raise ValueError(f"strategy {self.name!r} has no bar to decide on")
        if not self.warm:
            return ()
        row = self._count - 1
        view = self._strategy.view_of(
            self._columns,
            row,
            position=held_of(position),
            time_ms=int(self._stamps[row]),
            candle=self._last,
        )
        try:
            return self._strategy.decide(view)
        except StrategyError as error:
            self._raised.append(error)
            raise
