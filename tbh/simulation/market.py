"""A seed's market: a price that walks in ticks, and the bars that they make. Time is the exchange's."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tbh.messages.market import Candle

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The exchange's time at virtual instant 0."""

HISTORY_BARS = 5
_JUMP_SHARE = 0.02


class PricePath:
    """``per_bar`` ticks to a bar of ``bar_s`` seconds; prices in steps of ``step``.

    ``candles`` are the bars that have closed. The first ``HISTORY_BARS`` have ended by instant 0, and the first
    ``advance`` after that is the open of the next one.
    """

    def __init__(
        self, rng: random.Random, *, bar_s: int, per_bar: int, step: Decimal, price: Decimal, volatility: float
    ) -> None:
        self.bar_s = bar_s
        self.per_bar = per_bar
        self.price = price
        self.candles: list[Candle] = []
        self._rng = rng
        self._step = step
        self._volatility = volatility
        self._units = int(price / step)
        self._ticks = 0
        self._bar = timedelta(seconds=bar_s)
        self._open_time = START - HISTORY_BARS * self._bar
        self._seen: list[int] = []
        for _ in range(HISTORY_BARS * per_bar):
            self.advance()

    @property
    def opens(self) -> bool:
        """Whether the next tick is the first of a bar."""
        return self._ticks % self.per_bar == 0

    @property
    def bar_open(self) -> datetime:
        """When the bar under way opened."""
        return self._open_time

    def advance(self) -> Decimal:
        """The next tick's price. The first tick of a bar ends the bar before it."""
        if self.opens and self._seen:
            self._close()
        scale = self._volatility * (8.0 if self._rng.random() < _JUMP_SHARE else 1.0)
        move = int(self._units * self._rng.uniform(-scale, scale))
        self._units = max(self._units + move, 100)
        self._seen.append(self._units)
        self.price = self._units * self._step
        self._ticks += 1
        return self.price

    def _close(self) -> None:
        seen, self._seen = self._seen, []
        first, last = seen[0] * self._step, seen[-1] * self._step
        self.candles.append(
            Candle(
                open_time=self._open_time,
                open=first,
                high=max(seen) * self._step,
                low=min(seen) * self._step,
                close=last,
                volume=Decimal(self._rng.randint(1, 400)) / 10,
            )
        )
        self._open_time += self._bar
