"""The session on a real exchange: the same tree, in real time, on a market that waits for nobody.

Everything that comes from outside is asked for again by the actors; what the session itself needs before there is a
tree (the market's rules, where the account begins) is kept from an earlier start, so that a bot with a position starts
while the exchange is silent, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar

from tbh.account_start import AccountSince, AccountStart, find_start, kept_start
from tbh.ending import withdraw_entries
from tbh.infra.ccxt_budget import Budget
from tbh.infra.ccxt_exchange import CcxtExchange
from tbh.infra.ccxt_feed import CcxtFeed
from tbh.infra.ccxt_venues import venue_of
from tbh.infra.clocks import MarketTime
from tbh.infra.codec import CodecError, decode, encode
from tbh.infra.restored import Remembered
from tbh.life import Session
from tbh.messages.market import Market
from tbh.plan import LivePlan, restore
from tbh.ports import Batch, Defer, Exchange, Failure, Fatal, Rpc, Unavailable, Unknown
from tbh.strategies.runner import strategy_of
from tbh.wires import SeenFeed, Unarmed

CALL_S: Final = 10.0
TRIES_MAX: Final = 8
PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 5.0

ACCOUNT_POLL_S: Final = 1.0
CALL_TIMEOUT_S: Final = 4.0
"""The exchange refuses a request that is older than its receive window (3 s), so that waiting longer than that helps no
order, and one that hangs would keep an exit or an operator's kill waiting behind it."""
FEED_POLL_MIN_S, FEED_POLL_MAX_S = 0.2, 1.0
POLLS_PER_BAR: Final = 5
STALE_MIN_S, STALE_MAX_S = 10.0, 60.0
"""How much older than a bar the newest data may be; a bar's length where that lies between the two."""

HISTORY_BARS_MIN, HISTORY_BARS_MAX = 500, 5_000
SETTLED_BARS_MAX, WARM_BARS_MAX = 50_000, 500_000
"""Of what indicators want: so many that their values are those over any longer history, and where that is too little to
have a value at all, so many for that. The exchange gives a thousand at a time, and each takes 200 bytes."""

_MARKET: Final = "exchange_market"

_T = TypeVar("_T")


class LiveSession(Session[LivePlan]):
    """A bot on an exchange of ccxt's."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.clock = MarketTime()
        super().__init__(*arguments, **options)

    def now(self) -> datetime:
        return self.clock.now()

    # The account and the market

    def _connect(self, opened: ExitStack, remembered: Remembered) -> None:
        plan = self.plan
        restore(self.store, remembered)
        venue = venue_of(plan.bot.exchange)
        # The exchange's limits are the address's: the feed and an escalation keep still with the account.
        self._budget = Budget(weight_header=venue.weight_header, weight_max=venue.weight_max)
        account = self._new_account()
        opened.callback(account.close)
        self.clock.exchange_s = account.clock_s
        begun = kept_start(self.store)
        if begun is None:  # a key that has never been of use is a matter of configuration
            self._asked("whether the key is good", lambda: account.verify(timeout_s=CALL_S))
        self.market = self._asked("its rules", lambda: self._read_market(account), otherwise=self._kept_market())
        if begun is None:
            begun = self._asked("the account", lambda: self._found_start(account))
        self._first_seq = begun.first_seq
        self.cash = begun.cash
        self.exchange = self._guarded(account)
        feed = CcxtFeed(
            plan.bot.exchange,
            plan.symbol,
            plan.timeframe_s,
            plan.options,
            history_bars=self._history_bars(),
            budget=self._budget,
        )
        opened.callback(feed.close)
        self._close_feed = feed.close
        self.feed = self._seen = SeenFeed(feed)

    def _new_account(self) -> CcxtExchange:
        plan = self.plan
        return CcxtExchange(
            plan.bot.exchange,
            plan.symbol,
            plan.credentials.get("api_key", ""),
            plan.credentials.get("api_secret", ""),
            plan.options,
            self.clock.now,
            since=plan.since,
            budget=self._budget,
        )

    def _guarded(self, account: Exchange) -> Exchange:
        since: Any = AccountSince(account, self._first_seq)
        return Unarmed(since, self.plan.silent_because) if self.plan.silent_because else since

    def _asked(self, what: str, ask: Callable[[], _T], *, otherwise: _T | None = None) -> _T:
        """The exchange's answer; ``otherwise`` when it gives none, where there is that. ``Fatal`` (69) without."""
        for tried in range(1, TRIES_MAX + 1):
            try:
                return ask()
            except (Unavailable, Unknown, Defer) as failure:
                if otherwise is not None:
                    self.log.warning("exchange_silent", asked=what, reason=str(failure))
                    return otherwise
                if tried == TRIES_MAX:
                    detail = f"{self.plan.bot.exchange} does not tell {what} ({failure}); start again later"
                    raise Fatal("exchange_unreachable", exit_code=69, detail=detail) from failure
                pause_s = failure.after_s if isinstance(failure, Defer) else PAUSE_FIRST_S * 2.0**tried
                self._pause(min(pause_s, PAUSE_MAX_S))
        raise AssertionError("the last try returns or raises")

    def _read_market(self, account: CcxtExchange) -> Market:
        market = account.market(self.plan.symbol)
        text = encode(market)
        if text != self.store.meta(_MARKET):
            self.store.commit(Batch(meta={_MARKET: text}))
        return market

    def _kept_market(self) -> Market | None:
        text = self.store.meta(_MARKET)
        try:
            return None if text is None else decode(Market, text)
        except CodecError as error:
            self.log.warning("market_not_kept", reason=str(error))
            return None

    def _found_start(self, account: CcxtExchange) -> AccountStart:
        return find_start(self.store, account, self.market, self.plan.bot.bot_id, timeout_s=CALL_S)

    def _history_bars(self) -> int:
        """Enough for the indicators, for the day's loss and for what has happened since the position was opened."""
        bar = timedelta(seconds=self.plan.timeframe_s)
        now = self.now()
        since = [now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)] if bar >= _MINUTE else []
        since += [position.bar_open for position in self.store.positions().values()]
        wanted = max([(now - at) // bar for at in since], default=0)
        strategy = strategy_of(self.plan.definition)
        loaded = min(strategy.history_needed, max(SETTLED_BARS_MAX, min(strategy.warmup + 1, WARM_BARS_MAX)))
        if loaded < strategy.history_needed:
            self.log.warning(
                "history_short",
                strategy=strategy.name,
                bars=loaded,
                needed=strategy.history_needed,
                warm=loaded > strategy.warmup,
            )
        return max(loaded, min(max(wanted, HISTORY_BARS_MIN), HISTORY_BARS_MAX))

    def _own_rpc(self) -> Rpc:
        raise Fatal("no_database", exit_code=78, detail="a live bot needs its database: who else would hold its lease?")

    def _own_exchange(self) -> Exchange:
        return self._guarded(self._new_account())

    # The tree

    def _parts(self) -> dict[str, Any]:
        bar_s = float(self.plan.timeframe_s)
        return {
            "poll_s": ACCOUNT_POLL_S,
            "exchange_timeout_s": CALL_TIMEOUT_S,
            "feed_poll_s": min(max(bar_s / POLLS_PER_BAR, FEED_POLL_MIN_S), FEED_POLL_MAX_S),
            "stale_after_s": bar_s + min(max(bar_s, STALE_MIN_S), STALE_MAX_S),
            "machine_ahead_s": lambda: self.clock.machine_ahead().total_seconds(),
        }

    # The life

    def _hold(self) -> None:
        """A real market waits for nobody; what must not be ordered any more the actors know."""

    def _leave_market(self) -> None:
        withdraw_entries(self.host, self.store, self.log)

    def start(self) -> None:
        self.board.on_gate = self._gate_moved
        super().start()

    def _gate_moved(self, gate: tuple[str, ...]) -> None:
        """Entries are ready when the gate is open for the first time; the board hears of that once recovery is done."""
        if not gate and self.trading_after_s is None:
            self._trading()
            try:
                self.state.write_status({"phase": "TRADING", "trading_after_s": self.trading_after_s})
            except Failure as failure:
                self.log.warning("status_not_written", reason=str(failure))

    def _run_for(self, seconds: float) -> None:
        self.host.escalated.wait(min(seconds, 0.05))

    @property
    def ended(self) -> bool:
        return self.plan.bars_max is not None and self.bars >= self.plan.bars_max

    @property
    def bars(self) -> int:
        return self._seen.bars

    @property
    def bars_at_start(self) -> int:
        return 0

    @property
    def bars_total(self) -> int:
        return self.plan.bars_max or 0

    @property
    def mark(self) -> Decimal | None:
        return self._seen.price

    def _close_market(self) -> None:
        self._close_feed()

    def about(self) -> dict[str, Any]:
        return {"simulated": False, "gaps": 0}


_MINUTE: Final = timedelta(minutes=1)
