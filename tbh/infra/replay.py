"""A recorded market, released phase by phase, with the paper exchange in lock-step.

The replay plays each bar's open, range and close on the exchange before anyone hears of it. A phase that did nothing
to the account has nobody to react to it and is passed over in silence, except for the close, which carries the bar.
After a phase that did something ``poll`` returns, so that the bot can react before the market goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from tbh.infra.paper import PaperExchange
from tbh.infra.paper_rows import Cursor
from tbh.messages.market import Candle, Phase
from tbh.ports import Fatal, FeedStep

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Candles(Protocol):
    """A recording: ``len`` and one candle at a time, so that it need not exist as objects all at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Candle: ...


class MarketClock:
    """Market time in a replay: it stands still until it is set, and never goes back."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._now = _utc(start)

    def now(self) -> datetime:
        return self._now

    def set(self, time: datetime) -> None:
        """Raises ``ValueError`` for a time that is not aware UTC or lies before ``now``."""
        if _utc(time) < self._now:
            raise ValueError(f"market time can't go back from {self._now} to {time}")
        self._now = time


class ReplayMarket:
    """Implements ``tbh.ports.Feed`` over ``candles`` of ``timeframe_s`` seconds, for one ``exchange``.

    The first ``warmup_bars`` are history from the start. Where the exchange's account has been in the market before,
    the replay goes on right behind its last commit. ``clock`` shows the bar's opening time in the phase OPEN, its
    middle in RANGE, its end in CLOSE. Raises ``Fatal`` (78) for no candles, for a warm-up that leaves none, and for
    an account that has been in another market.
    """

    def __init__(
        self,
        candles: Candles,
        *,
        symbol: str,
        timeframe_s: int,
        exchange: PaperExchange,
        clock: MarketClock,
        warmup_bars: int = 0,
    ) -> None:
        if not 0 <= warmup_bars < len(candles):
            detail = f"{len(candles)} candles leave nothing to replay after a warm-up of {warmup_bars}"
            raise Fatal("replay_too_short", exit_code=78, detail=detail)
        self.symbol = symbol
        self.timeframe_s = timeframe_s
        self._candles = candles
        self._exchange = exchange
        self._clock = clock
        self._bar = timedelta(seconds=timeframe_s)
        if exchange.cursor is None and warmup_bars:
            exchange.play(warmup_bars - 1, Phase.CLOSE, candles[warmup_bars - 1])
        self._index, self._phase = self._resume(exchange.cursor)
        self._candle = candles[self._index] if self._index < len(candles) else None
        self._owed: FeedStep | None = None

    @property
    def position(self) -> int:
        """Bars that have closed, warm-up included."""
        return self._index

    @property
    def ended(self) -> bool:
        """Whether the last bar has closed."""
        return self._candle is None and self._owed is None

    def catch_up(self, bar_open: datetime) -> None:
        """Play on until the bar of ``bar_open`` has closed.

        Phases that did nothing to the account are not committed, so after a kill the market may stand a few quiet bars
        behind what the bot has decided already; played again they are as quiet as they were.
        """
        while self._candle is not None and self._candle.open_time <= bar_open:
            self.poll()
        self._owed = None

    def history(self) -> Sequence[Candle]:
        return tuple(self._candles[index] for index in range(self._index))

    def poll(self) -> Sequence[FeedStep] | None:
        """One step: the next phase that did something to the account, or the bar's close; None after the last one.

        A step's price is the last one known to have traded: in RANGE that is still the open. Raises what the
        exchange raises when it could not commit; the phase is then played again by the next call.
        """
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return (owed,)
        while (candle := self._candle) is not None:
            index, phase = self._index, self._phase
            self._clock.set(self._time(candle, phase))
            events = self._exchange.play(index, phase, candle)
            self._advance()
            if phase is Phase.CLOSE:
                step = FeedStep(phase=phase, bar_open=candle.open_time, price=candle.close, index=index, candle=candle)
                if not events:
                    return (step,)
                # What the close did to the account is known to all before anybody decides on the bar.
                self._owed = step
                return (replace(step, candle=None),)
            if events:
                return (FeedStep(phase=phase, bar_open=candle.open_time, price=candle.open, index=index),)
        return None

    def _advance(self) -> None:
        self._index, self._phase = _after(self._index, self._phase)
        if self._phase is Phase.OPEN:
            self._candle = self._candles[self._index] if self._index < len(self._candles) else None

    def _resume(self, cursor: Cursor | None) -> tuple[int, Phase]:
        if cursor is None:
            self._clock.set(self._candles[0].open_time)
            return 0, Phase.OPEN
        at = f"bar {cursor.index} of {cursor.bar_open:%Y-%m-%dT%H:%M:%SZ}"
        if cursor.index >= len(self._candles) or self._candles[cursor.index].open_time != cursor.bar_open:
            detail = f"the paper account stands at {at}, which these candles do not have: use the same candles"
            raise Fatal("replay_mismatch", exit_code=78, detail=detail)
        self._clock.set(self._time(self._candles[cursor.index], cursor.phase))
        return _after(cursor.index, cursor.phase)

    def _time(self, candle: Candle, phase: Phase) -> datetime:
        if phase is Phase.OPEN:
            return candle.open_time
        return candle.open_time + (self._bar / 2 if phase is Phase.RANGE else self._bar)


def _after(index: int, phase: Phase) -> tuple[int, Phase]:
    if phase is Phase.CLOSE:
        return index + 1, Phase.OPEN
    return index, Phase.RANGE if phase is Phase.OPEN else Phase.CLOSE


def _utc(time: datetime) -> datetime:
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"market time is aware and UTC: {time!r}")
    return time
