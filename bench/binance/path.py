"""The price as a function of time: random access, the same for a seed, whoever asks and in whatever order.

A sum of slow and fast swings around a base, with a little noise of its own for every tick. ``bar_ms`` sets the pace:
the main swing takes about a dozen bars, so that a strategy on bars finds something to do. ``freeze`` and ``set_price``
overrule it from a moment on, and ``run`` lets it go on; what was before stays what it was.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

TICK_MS = 100
_SAMPLES_MAX = 60
_PERIODS = ((11.3, 0.0030), (37.0, 0.0050), (173.0, 0.0110), (1201.0, 0.0200))
_NOISE = 0.0004

INTERVALS_MS = {
    "1s": 1_000,
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
    "3d": 259_200_000,
    "1w": 604_800_000,
}
"""The names that Binance gives its bars, without the calendar month."""


class PricePath:
    """``price_at`` any time in milliseconds since 1970; prices lie on ``price_step``."""

    def __init__(self, *, seed: int, bar_ms: int, base_price: Decimal, price_step: Decimal) -> None:
        rng = random.Random(seed)
        self._swings = [
            (2 * math.pi / (bars * bar_ms * rng.uniform(0.9, 1.1)), size * rng.uniform(0.8, 1.2), rng.uniform(0, 6.28))
            for bars, size in _PERIODS
        ]
        self._seed = seed
        self._base = float(base_price)
        self._step = price_step
        self._since_ms: list[int] = []
        self._fixed: list[Decimal | None] = []
        self.price_at = lru_cache(maxsize=50_000)(self._price_at)
        self._closed = lru_cache(maxsize=20_000)(self._bar)

    def set_price(self, price: Decimal, *, from_ms: int) -> None:
        """The price stays at ``price`` from then on."""
        self._overrule(price, from_ms)

    def freeze(self, *, from_ms: int) -> None:
        """The price stays where it is at ``from_ms``."""
        self._overrule(self.price_at(from_ms), from_ms)

    def run(self, *, from_ms: int) -> None:
        """The price goes its own way again."""
        self._overrule(None, from_ms)

    def klines(self, interval_ms: int, first_ms: int, last_ms: int) -> list[tuple[int, tuple[Decimal, ...]]]:
        """Bars that open from ``first_ms`` to ``last_ms``: (open time, (open, high, low, close, volume))."""
        start = -(-first_ms // interval_ms) * interval_ms
        return [(at, self._closed(at, interval_ms)) for at in range(start, last_ms + 1, interval_ms)]

    def open_kline(self, interval_ms: int, now_ms: int) -> tuple[int, tuple[Decimal, ...]]:
        """The bar that is under way, as far as it has come."""
        opened = now_ms // interval_ms * interval_ms
        return opened, self._sampled(opened, interval_ms, now_ms)

    def _bar(self, opened_ms: int, interval_ms: int) -> tuple[Decimal, ...]:
        return self._sampled(opened_ms, interval_ms, opened_ms + interval_ms - 1)

    def _sampled(self, opened_ms: int, interval_ms: int, until_ms: int) -> tuple[Decimal, ...]:
        pace_ms = max(TICK_MS, interval_ms // _SAMPLES_MAX // TICK_MS * TICK_MS)
        prices = [self.price_at(at) for at in range(opened_ms, until_ms + 1, pace_ms)]
        volume = Decimal(self._chance(opened_ms, interval_ms).randint(100, 9_900)) / 100
        return prices[0], max(prices), min(prices), prices[-1], volume

    def _price_at(self, at_ms: int) -> Decimal:
        overruling = bisect_right(self._since_ms, at_ms) - 1
        if overruling >= 0 and (fixed := self._fixed[overruling]) is not None:
            return fixed
        tick_ms = at_ms // TICK_MS * TICK_MS
        factor = 1.0 + sum(size * math.sin(speed * tick_ms + phase) for speed, size, phase in self._swings)
        factor += _NOISE * (self._chance(tick_ms, 0).random() - 0.5)
        return (Decimal(self._base * factor) / self._step).quantize(Decimal(1), ROUND_HALF_EVEN) * self._step

    def _overrule(self, price: Decimal | None, from_ms: int) -> None:
        if self._since_ms and from_ms < self._since_ms[-1]:
            raise ValueError("the market's past can't be changed")
        self._since_ms.append(from_ms)
        self._fixed.append(price)
        self.price_at.cache_clear()
        self._closed.cache_clear()

    def _chance(self, at_ms: int, salt: int) -> random.Random:
        return random.Random(self._seed * 1_000_003 + at_ms * 31 + salt)
