"""The watchdog: judges the market data by its age, and counts what goes wrong again and again.

A feed that is connected and silent looks like a quiet market, so what counts is how old the newest data is. A replay
moves market time with its bars and can't be late; there only the counting is left. A machine whose own clock is far
from market time counts as stale, too: somebody has set it, and what else that has moved nobody knows yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from tbh.messages.base import Timer, message
from tbh.messages.health import FlushHealth, Notice, RequestFailed, RequestSucceeded, Severity
from tbh.messages.market import Bar, FeedRecovered, FeedStale, MarketMoved, ReplayEnded
from tbh.messages.orders import OrderRejected
from tbh.messages.system import Restarted
from tbh.runtime.actor import Actor, Context, receive

STAGES_MAX = 32
CLOCKS_APART_MAX_S = 30.0


@message
class _Check(Timer):
    """How old is the newest data?"""


class WatchdogActor(Actor):
    """``stale_after_s`` is the age of the newest data, in market time, beyond which the feed is stale; ``check_s`` of
    process time lie between two looks.

    ``rejects_max`` rejected orders within ``rejects_window_s`` of market time, and ``failures_max`` failed calls of one
    stage in a row, are told to people once per spell; with ``halt_on_rejects`` the former halts the bot.
    ``machine_ahead_s`` says by how much the machine's clock is ahead of market time; entries stop while that is more
    than ``CLOCKS_APART_MAX_S`` either way. ``symbol`` names the feed until its data does. Raises ``ValueError`` when
    ``stale_after_s`` isn't longer than a bar: between two bars every feed would be stale.
    """

    sends = (FeedStale, FeedRecovered, Notice, FlushHealth)

    def __init__(
        self,
        ctx: Context,
        *,
        timeframe_s: int,
        stale_after_s: float,
        check_s: float,
        market_clock_live: bool,
        rejects_max: int = 5,
        rejects_window_s: float = 300.0,
        failures_max: int = 10,
        halt_on_rejects: bool = False,
        machine_ahead_s: Callable[[], float] = lambda: 0.0,
        symbol: str = "",
    ) -> None:
        super().__init__(ctx)
        if market_clock_live and stale_after_s <= timeframe_s:
            raise ValueError(f"stale_after_s must be above the bar's {timeframe_s} s: {stale_after_s:g}")
        self._symbol = symbol
        self._stale_after_s = stale_after_s
        self._newest_at = ctx.now()
        self._stale: FeedStale | None = None
        self._stale_since: datetime | None = None
        # A former incarnation may have said that the feed is stale, and nobody else would ever take that back.
        self._owes_recovery = ctx.incarnation > 0
        self._rejects: deque[datetime] = deque(maxlen=rejects_max)
        self._rejects_told_at: datetime | None = None
        self._rejects_window = timedelta(seconds=rejects_window_s)
        self._halt_on_rejects = halt_on_rejects
        self._failures_max = failures_max
        self._failures: dict[str, int] = {}
        self._machine_ahead_s = machine_ahead_s
        self._watching = market_clock_live
        if market_clock_live:
            ctx.every(check_s, _Check())

    # The age of the data

    @receive
    def on_bar(self, bar: Bar) -> None:
        self._symbol = bar.symbol
        self._hear(bar.candle.open_time + timedelta(seconds=bar.timeframe_s))

    @receive
    def on_market_moved(self, moved: MarketMoved) -> None:
        self._symbol = moved.symbol
        self._hear(moved.bar_open)

    def _hear(self, at: datetime) -> None:
        self._newest_at = max(self._newest_at, at)
        waits = self._stale is not None or self._owes_recovery
        if waits and self._age_s(at) <= self._stale_after_s and not self._clocks_apart():
            since = self._stale_since or self.ctx.now()
            stale_for_s = max((self.ctx.now() - since).total_seconds(), 0.0)
            self._stale = self._stale_since = None
            self._owes_recovery = False
            self.ctx.send(FeedRecovered(symbol=self._symbol, stale_for_s=stale_for_s))

    def _age_s(self, at: datetime) -> float:
        return (self.ctx.now() - at).total_seconds()

    def _clocks_apart(self) -> bool:
        return abs(self._machine_ahead_s()) > CLOCKS_APART_MAX_S

    @receive
    def on_check(self, _: _Check) -> None:
        if not self._watching or self._stale is not None:
            return
        age_s = self._age_s(self._newest_at)
        if self._clocks_apart():
            ahead_s = self._machine_ahead_s()
            where = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the exchange's"
            self._call_stale(age_s, "clock_off", f"this machine's clock is {where}; no entries until it is set right")
        elif age_s > self._stale_after_s:
            text = (
                f"{self._symbol}: the newest market data is {age_s:.0f} s old, {self._stale_after_s:.0f} s are "
                "allowed; no entries until data comes again"
            )
            self._call_stale(age_s, "feed_stale", text)

    def _call_stale(self, age_s: float, kind: str, text: str) -> None:
        self._stale = FeedStale(symbol=self._symbol, age_s=age_s, limit_s=self._stale_after_s)
        self._stale_since = self._newest_at
        self._owes_recovery = False
        self.ctx.send(self._stale)
        self._notice(f"{kind}:{self._symbol}:{self._newest_at.isoformat()}", kind, text)

    @receive
    def on_replay_ended(self, _: ReplayEnded) -> None:
        self._watching = False

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if self._stale is not None and restarted.actor != self.ctx.name:
            self.ctx.send(self._stale)

    # What goes wrong again and again

    @receive
    def on_rejected(self, rejected: OrderRejected) -> None:
        now = self.ctx.now()
        self._rejects.append(now)
        first = self._rejects[0]
        if len(self._rejects) < (self._rejects.maxlen or 0) or now - first > self._rejects_window:
            return
        if self._rejects_told_at is not None and now - self._rejects_told_at <= self._rejects_window:
            return
        self._rejects_told_at = now
        text = f"{len(self._rejects)} orders rejected since {first.isoformat()}, the last one: {rejected.reason}"
        self._notice(f"rejects:{self._symbol}:{now.isoformat()}", "repeated_rejects", text)
        if self._halt_on_rejects:
            self.ctx.halt(text)

    @receive
    def on_request_failed(self, failed: RequestFailed) -> None:
        if failed.stage not in self._failures and len(self._failures) >= STAGES_MAX:
            return
        count = self._failures[failed.stage] = self._failures.get(failed.stage, 0) + 1
        if count == self._failures_max:
            self._notice(
                f"failing:{failed.stage}:{self.ctx.now().isoformat()}",
                "repeated_failures",
                f"{count} calls in a row failed at {failed.stage}, the last one: {failed.kind}: {failed.reason}",
            )

    @receive
    def on_request_succeeded(self, succeeded: RequestSucceeded) -> None:
        self._failures.pop(succeeded.stage, None)

    def _notice(self, key: str, kind: str, text: str) -> None:
        self.ctx.log.error(kind, text=text)
        self.ctx.send(Notice(key=key, severity=Severity.CRITICAL, kind=kind, text=text))
        self.ctx.send(FlushHealth(reason=kind))
