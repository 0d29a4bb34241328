"""A recorded market that tells a bar only where it concerns anybody.

It plays the bars to the paper exchange as ``ReplayMarket`` does, phase by phase and in lock-step with the bot. But a
bar is played only if it can move the account, and told only if the strategy or a guard can make something of it:

- while an order waits for the next price, or one rests that is no guard of the position, every bar is played;
- a stop or a target has the next bar played whose range reaches it;
- a rule that is true, and counts by what is held, has its bar told;
- a trailing stop has each bar told that is better than the best since the last fill;
- bars with an order at rest that is no guard are told, and so is the last bar.

All others are passed over in one step: the exchange is put at the close of the last of them. Once nothing rests any
more, the rest of a bar is passed over like any other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf, nextafter
from typing import overload

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.infra.paper import PaperExchange
from tbh.infra.replay import MarketClock
from tbh.messages.market import Candle, Phase
from tbh.messages.orders import Side
from tbh.ports import FeedStep
from tbh.strategies.base import FloatArray

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LOOKED_AT = 64

Rules = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """What decides whether a bar is told: the ``rules`` (n) that are true on it, as the bits of ``engine.wishes``;
    whether the definition ``pyramids`` and whether its stop ``trails``."""

    rules: Rules
    pyramids: bool
    trails: bool


class CandlesOf(Sequence[Candle]):
    """The first ``count`` bars of ``market``, made when they are asked for; ``last`` if it is there already."""

    def __init__(self, market: Columns, count: int, last: Candle | None = None) -> None:
        self._market = market
        self._count = count
        self._last = last

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Candle: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candle]: ...
    def __getitem__(self, index: int | slice) -> Candle | Sequence[Candle]:
        places = range(self._count)[index]
        return [self._at(place) for place in places] if isinstance(places, range) else self._at(places)

    def _at(self, place: int) -> Candle:
        if self._last is not None and place == self._count - 1:
            return self._last
        market = self._market
        opened, high, low, close, volume = map(repr, market.values[:, place].tolist())
        return Candle(
            open_time=EPOCH + int(market.stamps[place]) * _MS,
            open=Decimal(opened),
            high=Decimal(high),
            low=Decimal(low),
            close=Decimal(close),
            volume=Decimal(volume),
        )


class SparseMarket:
    """Implements ``tbh.ports.Feed`` over the bars of ``market``, for one ``exchange``. ``sparse`` None plays and tells
    every bar. Raises what the exchange raises."""

    def __init__(
        self, market: Columns, *, symbol: str, exchange: PaperExchange, clock: MarketClock, sparse: Sparse | None
    ) -> None:
        self.symbol = symbol
        self.timeframe_s = market.timeframe_s
        self.played = 0
        self.told = 0
        self._market = market
        self._exchange = exchange
        self._clock = clock
        self._bar = timedelta(seconds=market.timeframe_s)
        self._bars = CandlesOf(market, len(market))
        self._index = 0
        self._phase = Phase.OPEN
        self._candle = self._bars[0]
        self._owed: FeedStep | None = None
        self._told_index = -1
        self._best: float | None = None
        self._sparse = sparse
        self._wanted = {} if sparse is None else _wanted(sparse)
        clock.set(self._candle.open_time)

    @property
    def position(self) -> int:
        """Bars that have closed."""
        return self._index

    @property
    def ended(self) -> bool:
        """Whether the last bar has closed."""
        return self._index >= len(self._market) and self._owed is None

    def history(self) -> Sequence[Candle]:
        last = self._candle if self._told_index == self._index - 1 else None
        return CandlesOf(self._market, self._index, last)

    def poll(self) -> Sequence[FeedStep] | None:
        """One step: the next phase that did something to the account, or the next close that concerns anybody; None
        after the last one."""
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return (owed,)
        bars, sparse = len(self._market), self._sparse
        while self._index < bars:
            if sparse is not None and self._pass_over(sparse):
                return (self._closed(),)
            if self._index < bars and (step := self._play()) is not None:
                return (step,)
        return None

    # A bar, phase by phase

    def _play(self) -> FeedStep | None:
        """The next phase; what there is to tell of it."""
        phase, index = self._phase, self._index
        if phase is Phase.OPEN:
            self._candle = self._bars[index]
        candle = self._candle
        self._clock.set(self._time(candle, phase))
        events = self._exchange.play(index, phase, candle)
        if events:
            self._best = None  # another position, perhaps: the bar is told whatever it is
        if phase is not Phase.CLOSE:
            self._phase = Phase.RANGE if phase is Phase.OPEN else Phase.CLOSE
            if not events:
                return None
            return FeedStep(phase=phase, bar_open=candle.open_time, price=candle.open, index=index)
        self.played += 1
        step = self._closed() if self._sparse is None or self._concerns(index, self._sparse) else None
        if step is None:
            self._index, self._phase = index + 1, Phase.OPEN
        if not events:
            return step
        # What the close did to the account is known to all before anybody decides on the bar.
        self._owed = step
        return FeedStep(phase=phase, bar_open=candle.open_time, price=candle.close, index=index)

    def _closed(self) -> FeedStep:
        """Tell the close of the bar at which the exchange stands."""
        index, candle = self._index, self._candle
        self._index, self._phase = index + 1, Phase.OPEN
        self._told_index = index
        self.told += 1
        sparse = self._sparse
        if sparse is not None and sparse.trails and (held := self._exchange.qty):
            reached = float(self._market.values[p.HIGH if held > 0 else p.LOW, index])
            better = self._best is None or (reached > self._best if held > 0 else reached < self._best)
            self._best = reached if better else self._best
        self._clock.set(candle.open_time + self._bar)
        return FeedStep(phase=Phase.CLOSE, bar_open=candle.open_time, price=candle.close, index=index, candle=candle)

    def _time(self, candle: Candle, phase: Phase) -> datetime:
        if phase is Phase.OPEN:
            return candle.open_time
        return candle.open_time + (self._bar / 2 if phase is Phase.RANGE else self._bar)

    # Which bars there are to play, and to tell

    def _pass_over(self, sparse: Sparse) -> bool:
        """Go to the close of the next bar that is told, or to the open of the next one that has to be played, whichever
        comes first. Whether that is a bar to tell."""
        index, resting = self._index, self._exchange.resting
        for order in resting.values():
            if order.marketable or not order.reduce_only:
                return False
        if self._phase is not Phase.OPEN and resting:
            return False  # in the middle of a bar, new orders have only the rest of it before them
        told = self._next_told(index, sparse)
        played = self._next_reached(index, told + 1)
        if played <= told:
            if played > index:
                self._stand_at(played - 1)
                self._index, self._phase = played, Phase.OPEN
            return False
        self._stand_at(told)
        return True

    def _stand_at(self, index: int) -> None:
        """Go to the close of that bar."""
        if index != self._index or self._phase is Phase.OPEN:
            self._candle = self._bars[index]
        self._exchange.pass_over(index, self._candle.open_time, self._candle.close)
        self._index = index

    def _next_told(self, index: int, sparse: Sparse) -> int:
        """The first bar from ``index`` on whose close concerns anybody."""
        held = self._exchange.qty
        wanted = self._wanted[(held > 0) - (held < 0)]
        place = bisect_left(wanted, index)
        first = wanted[place] if place < len(wanted) else len(self._market) - 1
        if not (sparse.trails and held):
            return first
        if self._best is None:
            return index
        # Better than the best: at the next float beyond it.
        if held > 0:
            return _first_from(self._market.values[p.HIGH], index, first, nextafter(self._best, inf), above=True)
        return _first_from(self._market.values[p.LOW], index, first, nextafter(self._best, -inf), above=False)

    def _next_reached(self, index: int, end: int) -> int:
        """The first bar from ``index`` on, and before ``end``, whose range reaches what rests; ``end`` for none."""
        highs, lows = self._market.values[p.HIGH], self._market.values[p.LOW]
        for order in self._exchange.resting.values():
            price = order.stop_price if order.stop_price is not None else order.price
            assert price is not None  # what has neither is marketable
            # A buy stop and a sell limit wait for a higher price. Floats keep the order of the decimals that they stand
            # for, so that no bar is missed.
            if (order.side is Side.BUY) is (order.stop_price is not None):
                end = _first_from(highs, index, end, float(price), above=True)
            else:
                end = _first_from(lows, index, end, float(price), above=False)
        return end

    def _concerns(self, index: int, sparse: Sparse) -> bool:
        """Whether the close of bar ``index``, which has been played, concerns anybody."""
        if self._next_told(index, sparse) == index:
            return True
        return any(not order.reduce_only for order in self._exchange.resting.values())


def _wanted(sparse: Sparse) -> dict[int, list[int]]:
    """By the sign of what is held: the bars on which a rule is true that counts then."""
    masks = {
        0: p.ENTRY_LONG | p.ENTRY_SHORT,
        1: p.EXIT_LONG | (p.MORE_LONG if sparse.pyramids else 0),
        -1: p.EXIT_SHORT | (p.MORE_SHORT if sparse.pyramids else 0),
    }
    return {sign: np.flatnonzero(sparse.rules & np.uint8(mask)).tolist() for sign, mask in masks.items()}


def _first_from(values: FloatArray, start: int, end: int, level: float, *, above: bool) -> int:
    """The first row within ``start`` and ``end`` at ``level`` or beyond it; ``end`` for none."""
    width = _LOOKED_AT
    while start < end:
        part = values[start : min(start + width, end)]
        found = part >= level if above else part <= level
        place = int(found.argmax())
        if found[place]:
            return start + place
        start += len(part)
        width *= 4
    return end
