"""The accountant: what the account is worth at each bar's close, and what each round trip made of it.

After a start it first hears of every fill that the store does not have, and only then rebuilds: fills and closes in the
order in which they happened, so that peak, drawdown and the day's loss come out as if it had never been away.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Final

from tbh.actors.account_reader import requester
from tbh.actors.adjustments import stored_adjustments
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.domain import ids
from tbh.domain.accounting import Account
from tbh.domain.adjustment import in_order
from tbh.messages.account import (
    AccountResynced,
    Adjusted,
    Adjustment,
    Marked,
    ResyncAccount,
    Trade,
    TradeClosed,
)
from tbh.messages.market import Bar, Candle, Market
from tbh.messages.orders import Fill, Purpose, Side
from tbh.messages.system import DeadLettered
from tbh.ports import Failure, Fatal, Feed, StoreReader
from tbh.runtime.actor import Actor, Context, receive

REPEAT_S: Final = 1.0

_RESYNC = "resync"


class AccountantActor(Actor):
    """One symbol's account, in quote, from ``cash`` at the start. A bar belongs to the UTC day in which it opened.

    With a ``feed`` a restart marks the closed bars of its history again; without one peak and day begin anew.
    ``TradeClosed`` is told once: a fill on disk counts as told, unless it waits in the mailbox of a restart.
    """

    sends = (Marked, TradeClosed, ResyncAccount)

    def __init__(
        self,
        ctx: Context,
        *,
        market: Market,
        cash: Decimal,
        bot_id: str,
        store: StoreReader,
        feed: Feed | None = None,
    ) -> None:
        super().__init__(ctx)
        self._market = market
        self._bot_id = bot_id
        self._feed = feed
        self._account = Account(cash, market.symbol, market.base, market.quote, market=market)
        self._bar_index = -1
        self._marked: Marked | None = None
        # Read before the fills: one that is stored in between is then repeated, not lost.
        after = int(store.meta(ACCOUNT_SEQ) or 0)
        # The fills heard of before the rebuild, by trade id; None afterwards.
        self._heard: dict[str, Fill] | None = {fill.trade_id: fill for fill in store.fills()}
        self._adjustments = {one.adjustment_id: one for one in stored_adjustments(store, market.symbol)}
        self._told = set(self._heard) | set(self._adjustments)
        ctx.keep_asking(_RESYNC, ResyncAccount(requester=requester(ctx), after=after), every_s=REPEAT_S)

    @receive
    def on_resynced(self, resynced: AccountResynced) -> None:
        if resynced.requester == requester(self.ctx) and self.ctx.answered(_RESYNC):
            self._rebuild()
            self.ctx.unstash()

    @receive
    def on_fill(self, fill: Fill) -> None:
        if self._heard is None:
            self._apply(fill)
            return
        # Whatever comes while the resync is awaited was not handled by a former incarnation, stored or not.
        self._told.discard(fill.trade_id)
        self._heard.setdefault(fill.trade_id, fill)

    @receive
    def on_adjusted(self, fact: Adjusted) -> None:
        adjustment = fact.adjustment
        if adjustment.symbol != self._market.symbol:
            return
        if self._heard is None:
            self._apply(adjustment)
        else:
            self._told.discard(adjustment.adjustment_id)
            self._adjustments.setdefault(adjustment.adjustment_id, adjustment)

    @receive
    def on_dead_letter(self, letter: DeadLettered) -> None:
        """The fill at which a former incarnation failed: on disk perhaps, but what it closed was never told."""
        if letter.actor == self.ctx.name and letter.message_type == Fill.__name__ and self._heard is not None:
            self._told -= {trade_id for trade_id in self._told if f"trade_id={trade_id!r}" in letter.payload}

    @receive
    def on_bar(self, bar: Bar) -> None:
        if self._heard is not None:
            self.ctx.stash()
            return
        if bar.index > self._bar_index:
            self._marked = self._mark(bar.candle, bar.index, bar.timeframe_s)
        # Whoever has restarted hears of the last bar again, and so of its mark.
        if bar.index == self._bar_index and self._marked is not None:
            self.ctx.send(self._marked)

    def _rebuild(self) -> None:
        fills = sorted((self._heard or {}).values(), key=lambda fill: fill.seq)
        changes = list(in_order(fills, self._adjustments.values()))
        self._heard = None
        done = 0
        if changes and self._feed is not None:
            bar = timedelta(seconds=self._feed.timeframe_s)
            for index, candle in enumerate(self._history(self._feed)):
                while done < len(changes) and changes[done].at < candle.open_time + bar:
                    self._apply(changes[done])
                    done += 1
                if done:  # until the first change the account is its cash, whatever the market does
                    self._marked = self._mark(candle, index, self._feed.timeframe_s)
        for change in changes[done:]:
            self._apply(change)
        self._told.clear()

    def _history(self, feed: Feed) -> Sequence[Candle]:
        try:
            return feed.history()
        except Fatal:
            raise
        except Failure as failure:
            self.ctx.log.warning("marks_not_restored", reason=str(failure))
            return ()

    def _apply(self, change: Fill | Adjustment) -> None:
        if isinstance(change, Fill):
            parts = ids.parse(change.client_order_id, self._bot_id)
            purpose = Purpose.MANUAL if parts is None else parts.purpose
            name, side, trades = change.trade_id, change.side, self._account.apply(change, purpose)
        else:
            side = Side.BUY if change.qty > 0 else Side.SELL
            name, trades = change.adjustment_id, self._account.adjust(change)
        for trade in trades:
            if name not in self._told:
                self._tell(trade, side)

    def _tell(self, trade: Trade, side: Side) -> None:
        self.ctx.log.info("trade_closed", side=trade.side, pnl=str(trade.pnl), reason=trade.exit_reason)
        self.ctx.send(TradeClosed(trade=trade, side=side))

    def _mark(self, candle: Candle, index: int, timeframe_s: int) -> Marked:
        self._bar_index = index
        account, mark = self._account, candle.close
        equity = account.mark(mark, candle.open_time)
        return Marked(
            symbol=self._market.symbol,
            bar_index=index,
            at=candle.open_time + timedelta(seconds=timeframe_s),
            mark=mark,
            cash=account.cash,
            equity=equity,
            realised_pnl=account.realised,
            unrealised_pnl=account.unrealised(mark),
            fees=account.fees,
            drawdown=account.drawdown,
            day_pnl=account.day_pnl,
        )
