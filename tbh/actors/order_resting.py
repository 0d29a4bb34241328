"""Entries that rest at a price: when they go, and what may follow them.

Each ends at the close of its last bar, by a cancel like any other. Another entry may be wished on that very close, and
an exchange may tell that an order has ended, and of its last trade only then: so the account is read once more before
the next entry is sent, and that is withdrawn when the one before it has filled after all.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tbh.actors.account_reader import requester
from tbh.actors.order_closing import closing_side
from tbh.actors.order_former import FormerLives
from tbh.actors.order_path import Terms
from tbh.domain import order as rules
from tbh.messages.account import AccountResynced, Adjusted, Position
from tbh.messages.base import Timer, message
from tbh.messages.orders import OrderFound, OrderState, OrderStatus, Side, WithdrawEntries
from tbh.ports import StoreReader
from tbh.runtime.actor import Context, receive

BAR_LATE_S: Final = 10.0
"""A bar is told so long after its end at most; an entry that rests goes then without it."""

_ENDED: Final = "ended"
_RECENT: Final = 16
"""Of so many orders that have ended one may have rested a moment ago."""
_TAKEN_OFF: Final = (OrderStatus.CANCELED, OrderStatus.EXPIRED)


@message
class _BarLate(Timer):
    """The last bar of an entry that rests should have been told."""


@message
class _Arrived(Timer):
    """Whatever had happened when an entry ended is to be seen by now."""


class RestingEntries(FormerLives):
    """``FormerLives`` with the entries whose orders have a ``good_until``. Where there are none it does nothing."""

    def __init__(self, ctx: Context, *, terms: Terms, store: StoreReader, timeframe_s: int) -> None:
        self._watching: tuple[datetime, int] | None = None
        self._awaited: int | None = None
        super().__init__(ctx, terms=terms, store=store, timeframe_s=timeframe_s)
        since = ctx.now() - timedelta(seconds=terms.arrival_window_s)
        if any(one.order.good_until is not None and one.seen_at > since for one in self._orders.recent(_RECENT)):
            self._give_it_time()  # a former incarnation may have been at it

    # When they go

    def _withdraw_resting(self, reason: str, *, over: datetime | None = None, side: Side | None = None) -> None:
        """Take them off: all, those whose bars are ``over`` by then, those on one ``side``."""
        for state in self._orders.open:
            order = state.order
            stays = order.good_until is None or (over is not None and over < order.good_until)
            if not stays and side in (None, order.side) and order.client_order_id not in self._given_up:
                self._cancel(state, reason)

    @receive
    def on_withdraw_entries(self, command: WithdrawEntries) -> None:
        self._withdraw_resting(f"entries are closed: {command.reason}")

    def _watch_resting(self) -> None:
        """A bar that does not come must not leave an entry on the book."""
        ends = [state.order.good_until for state in self._orders.open if state.order.good_until is not None]
        if not ends or (self._watching is not None and self._watching[0] <= min(ends)):
            return
        if self._watching is not None:
            self.ctx.cancel(self._watching[1])
        left_s = max((min(ends) - self.ctx.now()).total_seconds(), 0.0)
        self._watching = min(ends), self.ctx.after(left_s + BAR_LATE_S, _BarLate())

    @receive
    def on_bar_late(self, _: _BarLate) -> None:
        self._watching = None
        self._withdraw_resting("its bars are over", over=self.ctx.now())
        self._watch_resting()

    def _go_with(self, traded: Position | None) -> None:
        """Once the position ``traded`` is over, what rests to begin or to enlarge it would begin another, without a
        reason of its own."""
        if traded is not None and (self._position is None or self._position.position_id != traded.position_id):
            self._withdraw_resting("its position is closed", side=closing_side(traded).opposite)

    @receive
    def on_adjusted(self, fact: Adjusted) -> None:
        traded = self._position
        super().on_adjusted(fact)
        self._go_with(traded)

    @receive
    def on_found(self, fact: OrderFound) -> None:
        super().on_found(fact)
        state = self._orders.get(fact.client_order_id)
        if state is None or state.order.good_until is None or rules.is_terminal(fact.status):
            return
        if state.status in _TAKEN_OFF:
            self._give_it_time()  # it was called ended, and is called open: which of the two is late nobody can say
        if state.status is OrderStatus.FILLED and state.filled_qty < state.order.qty:
            self._revived(state)  # called filled, and short of it: whoever was to take it off may not have lived to

    # What follows them

    def _end(self, state: OrderState) -> None:
        sent = state.order.client_order_id in self._placed
        super()._end(state)
        # The id that the exchange gave it may never have come: the end of one that was sent says that it stood there.
        if state.exchange_order_id is not None or (sent and state.status in _TAKEN_OFF):
            self._resting_done(state)

    def _resting_done(self, state: OrderState) -> None:
        order = state.order
        if order.good_until is None or state.filled_qty >= order.qty:
            return
        if state.status is OrderStatus.FILLED and not self.ctx.asking(f"cancel:{order.client_order_id}"):
            self._ask_cancel(order.client_order_id, order.symbol)  # called filled, and short of it: it may stand on
        if not self._market.cancels_are_final:
            self._give_it_time()
        elif not self.ctx.asking(_ENDED):
            self._ask_to_look(_ENDED)

    def _give_it_time(self) -> None:
        """A trade of an entry that has ended may be told late: the account is read when all has had its time."""
        if self._awaited is not None:
            self.ctx.cancel(self._awaited)
        self._awaited = self.ctx.after(self._terms.arrival_window_s, _Arrived())

    @receive
    def on_arrived(self, _: _Arrived) -> None:
        self._awaited = None
        self._ask_to_look(_ENDED)

    def _end_unproven(self) -> bool:
        """Whether it is not known yet what an entry that has ended may have filled."""
        return self._awaited is not None or self.ctx.asking(_ENDED)

    @receive
    def on_resynced(self, fact: AccountResynced) -> None:
        if fact.requester == requester(self.ctx, _ENDED) and self.ctx.answered(_ENDED):
            if self._awaited is None:
                self._place_held()
        else:
            super().on_resynced(fact)

    def _filled_after_all(self, state: OrderState | None) -> None:
        """A trade has come of ``state``: what was to follow one that had ended is not sent."""
        if state is None or state.order.good_until is None or not rules.is_terminal(state.status):
            return
        for other in self._orders.open:
            if other.order.purpose.increases_risk and other.order.client_order_id not in self._placed:
                self._cancel(other, "the entry before it has filled after all")
