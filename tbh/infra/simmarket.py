"""A seeded market for demonstrations and tests; whoever shows it calls it simulated.

Prices walk through regimes (a drift and a volatility that last some hours), with volatility that clusters. The same
seed gives the same digits on every machine: chance is the Mersenne Twister's integers, arithmetic is in whole
numbers, and no function of the C library, whose last digit is its own affair, has a part in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

import numpy as np

from tbh.infra.candles import SERIES, CandleFile, Gap
from tbh.messages.market import Candle

MAX_BARS = 1_000_000
FIRST_OPEN = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_PRICE_CENTS = 3_000_000
_BILLION = 1_000_000_000
_LOWEST_CENTS = 10_000
_HIGHEST_CENTS = 1_000_000_000

_DRIFTS_PPM = (-90, -45, 0, 0, 45, 90)
"""Per bar, in millionths: strong enough against the volatility for a moving average to catch a trend."""
_VOLATILITIES_PPM = (300, 450, 700, 1_100)
"""Standard deviation per bar, in millionths, before clusters raise it."""


def simulated_market(
    seed: int, bars: int, *, timeframe_s: int = 60, start: datetime = FIRST_OPEN, name: str | None = None
) -> CandleFile:
    """``bars`` candles from ``start`` (aware, on the timeframe's grid), prices with 2 decimals, volume with 3.

    ValueError for fewer than 2 or more than MAX_BARS bars, or a start that is not on the grid.
    """
    if not 2 <= bars <= MAX_BARS:
        raise ValueError(f"a simulated market has 2 to {MAX_BARS} bars, not {bars}")
    start_s = int(start.timestamp())
    if timeframe_s < 1 or start.microsecond or start_s % timeframe_s:
        raise ValueError(f"the start {start} is not the open of a bar of {timeframe_s} s")
    cells: dict[str, list[bytes]] = {column: [] for column in SERIES}
    for opened, high, low, close, volume in islice(_walk(random.Random(seed)), bars):
        for column, cents in zip(SERIES, (opened, high, low, close), strict=False):
            cells[column].append(b"%d.%02d" % divmod(cents, 100))
        cells["volume"].append(b"%d.%03d" % divmod(volume, 1000))
    texts = {column: np.array(values, dtype=np.bytes_) for column, values in cells.items()}
    return CandleFile(
        name=name or f"simulated market, seed {seed}",
        timeframe_s=timeframe_s,
        timestamps=(start_s + timeframe_s * np.arange(bars, dtype=np.int64)) * 1000,
        arrays={column: values.astype(np.float64) for column, values in texts.items()},
        texts=texts,
    )


class OpenMarket:
    """The same market without an end to it: bars are made when they are asked for, and the same for the same seed.

    What a bot trades that nobody stops: ``len`` is MAX_BARS. IndexError beyond.
    """

    def __init__(self, seed: int, *, timeframe_s: int, start: datetime = FIRST_OPEN) -> None:
        self.name = f"simulated market, seed {seed}"
        self.timeframe_s = timeframe_s
        self.gaps: tuple[Gap, ...] = ()
        self._start = start
        self._walk = _walk(random.Random(seed))
        self._rows: list[tuple[int, int, int, int, int]] = []

    def __len__(self) -> int:
        return MAX_BARS

    def __getitem__(self, index: int) -> Candle:
        if not 0 <= index < MAX_BARS:
            raise IndexError(f"bar {index} of {MAX_BARS}")
        missing = index + 1 - len(self._rows)
        if missing > 0:
            self._rows += islice(self._walk, missing)
        opened, high, low, close, volume = self._rows[index]
        return Candle(
            open_time=self._start + timedelta(seconds=index * self.timeframe_s),
            open=Decimal(opened).scaleb(-2),
            high=Decimal(high).scaleb(-2),
            low=Decimal(low).scaleb(-2),
            close=Decimal(close).scaleb(-2),
            volume=Decimal(volume).scaleb(-3),
        )


def _walk(rng: random.Random) -> Iterator[tuple[int, int, int, int, int]]:
    """(open, high, low, close) in cents and the volume in thousandths of the base asset, one per bar."""
    price, left, drift, base, excited = FIRST_PRICE_CENTS, 0, 0, 0, 0
    while True:
        if left == 0:
            left = 60 + rng.randrange(420)
            drift = _DRIFTS_PPM[rng.randrange(len(_DRIFTS_PPM))]
            base = _VOLATILITIES_PPM[rng.randrange(len(_VOLATILITIES_PPM))]
        left -= 1
        spread = base + excited
        shock = _rounded(spread * _normal_ppm(rng))
        # Large moves are followed by large ones: a part of each surprise raises the next bars' volatility.
        excited = min((excited * 18 + abs(shock)) // 20, 2 * base)
        close = min(max(price + _rounded(price * (drift + shock)), _LOWEST_CENTS), _HIGHEST_CENTS)
        reach = price * spread // 1_000_000
        high = max(price, close) + rng.randrange(reach // 2 + 1)
        low = max(min(price, close) - rng.randrange(reach // 2 + 1), 1)
        volume = 500 + rng.randrange(4_000) + 8 * abs(shock)
        yield price, high, low, close, volume
        price = close


def _rounded(millionths: int) -> int:
    # To the nearest: rounding down each time would be a drift of its own.
    return (millionths + 500_000) // 1_000_000


def _normal_ppm(rng: random.Random) -> int:
    """A nearly normal number in millionths: the sum of 12 uniforms less its mean has variance 1."""
    return sum(rng.randrange(_BILLION) for _ in range(12)) // 1000 - 6_000_000
