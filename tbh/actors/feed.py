"""The feed: what the market did, told in order, each closed bar with its index.

A bar is told at least once. Whoever restarts may have lost the last one, so it is told again then, and after a restart
of the feed itself; its index says that it is the same. Bars that the market does not have are counted, never invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from tbh.messages.base import Timer, message
from tbh.messages.health import RequestFailed
from tbh.messages.market import Advance, Bar, Candle, GapFound, MarketMoved, Phase, ReplayEnded
from tbh.messages.system import Restarted
from tbh.ports import Defer, Failure, Fatal, Feed, FeedStep
from tbh.runtime.actor import Actor, Context, receive

RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0

_MARKET = "market"


@message
class _PollTime(Timer):
    """The pause between two polls of a live market is over."""


@message
class _TryAgain(Timer):
    """The source did not answer; ask it again."""


class FeedActor(Actor):
    """One symbol and timeframe. ``poll_s`` is the pause between polls of a live market; None is lock-step, where each
    ``Advance`` is one poll, and a source that does not answer holds the replay until it does.

    Passes ``Fatal`` up. Raises ``ValueError`` when the source says that a bar came before the one it follows.
    """

    sends = (MarketMoved, Bar, ReplayEnded, GapFound, RequestFailed)

    def __init__(self, ctx: Context, *, feed: Feed, poll_s: float | None) -> None:
        super().__init__(ctx)
        self._feed = feed
        self._lockstep = poll_s is None
        self._bar = timedelta(seconds=feed.timeframe_s)
        self._last: Bar | None = None
        self._recalled = False
        self._owed = False
        self._ended = False
        self._retrying = False
        self._failures = 0
        self._serve()
        if poll_s is not None:
            ctx.every(poll_s, _PollTime())

    @receive
    def on_advance(self, _: Advance) -> None:
        self._owed = True
        self._serve()

    @receive
    def on_poll_time(self, _: _PollTime) -> None:
        self._owed = True
        if not self._retrying:
            self._serve()

    @receive
    def on_try_again(self, _: _TryAgain) -> None:
        self._retrying = False
        self._serve()

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if restarted.actor != self.ctx.name and self._last is not None:
            self.ctx.send(self._last)

    def _serve(self) -> None:
        """Recall where the market stands, once, and then poll it if a poll is owed."""
        try:
            if not self._recalled:
                self._recall(self._feed.history())
            if self._owed:
                steps = self._feed.poll()
                self._owed = False
                self._tell(steps)
        except Fatal:
            raise
        except Failure as failure:
            self._failed(failure)
        else:
            self._failures = 0
            self.ctx.answered(_MARKET)

    def _failed(self, failure: Failure) -> None:
        self.ctx.send(RequestFailed(stage="feed", kind=failure.kind, reason=str(failure)))
        if self._lockstep:
            self.ctx.expect(_MARKET)
        if not self._retrying:
            delay_s = min(RETRY_FIRST_S * 2.0 ** min(self._failures, 10), RETRY_MAX_S)
            self._failures += 1
            self._retrying = True
            self.ctx.after(failure.after_s if isinstance(failure, Defer) else delay_s, _TryAgain())

    def _recall(self, history: Sequence[Candle]) -> None:
        """Tell the last closed bar again: a former incarnation may have polled it and died before it was told. The same
        goes for a later phase, and the account's events of that one are read when the market is said to have moved."""
        self._recalled = True
        if not history:
            return
        candle = history[-1]
        self._last = self._bar_of(candle, len(history) - 1)
        self._moved(FeedStep(phase=Phase.CLOSE, bar_open=candle.open_time, price=candle.close, index=self._last.index))
        self.ctx.send(self._last)

    def _tell(self, steps: Sequence[FeedStep] | None) -> None:
        if steps is None:
            if not self._ended:
                self._ended = True
                self.ctx.send(ReplayEnded(bars=0 if self._last is None else self._last.index + 1))
            return
        for step in steps:
            self._moved(step)
            if step.candle is not None:
                self._closed(step.candle, step.index)

    def _moved(self, step: FeedStep) -> None:
        self.ctx.send(MarketMoved(symbol=self._feed.symbol, bar_open=step.bar_open, phase=step.phase, price=step.price))

    def _closed(self, candle: Candle, index: int) -> None:
        last = self._last
        if last is not None:
            if index <= last.index:
                return
            since = candle.open_time - last.candle.open_time
            if since <= timedelta(0):
                raise ValueError(
                    f"bar {index} opens at {candle.open_time}, bar {last.index} at {last.candle.open_time}"
                )
            missing = since // self._bar - (index - last.index)  # those that were counted and not told are there
            if missing > 0:
                self.ctx.send(GapFound(symbol=self._feed.symbol, at=candle.open_time, missing=missing))
        self._last = self._bar_of(candle, index)
        self.ctx.send(self._last)

    def _bar_of(self, candle: Candle, index: int) -> Bar:
        return Bar(symbol=self._feed.symbol, timeframe_s=self._feed.timeframe_s, index=index, candle=candle)
