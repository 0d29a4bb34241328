"""A strategy whose rules are known for all bars before the first one is traded.

It decides as ``DynamicStrategy`` does, by the same code; only whether a rule is true on a bar is looked up in what
``evaluate_all`` has found instead of computed from the bars so far. The two agree (docs/STRATEGIES.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.messages.orders import Side
from tbh.strategies.base import View
from tbh.strategies.dynamic import DynamicStrategy
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
