"""The order manager: what each order is for, the position that the fills make, and what guards it.

Every intent keeps its own attempts, so that a proposal that comes twice is one order, and a new attempt is made only
when the last one is proven not to exist. Protection follows the filled position (``order_protection``), and whatever
closes it goes on until it is closed (``order_closing``). It owns the book, so it says what the position is, and says it
again when a neighbour restarts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tbh.actors.order_closing import closing_side
from tbh.actors.order_path import Terms
from tbh.actors.order_resting import RestingEntries
from tbh.domain import ids
from tbh.domain.findings import CLOSERS
from tbh.domain.protection import better
from tbh.messages.account import ExternalTrade, Origin, Position
from tbh.messages.base import replace
from tbh.messages.market import Bar, Market
from tbh.messages.orders import (
    Approved,
    Declined,
    Fill,
    Order,
    OrderState,
    OrderStatus,
    OrderType,
    Protection,
    Purpose,
    Recorded,
    Side,
)
from tbh.ports import StoreReader
from tbh.runtime.actor import Context, receive

_WITH_THE_EXCHANGE: Final = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


class OrderManagerActor(RestingEntries):
    """One symbol's orders and book. The arguments are those of ``Terms``, and the store that it starts from."""

    sends = (*RestingEntries.sends, Recorded, Declined, ExternalTrade)
    unhurried = frozenset({Bar})  # a stop moves, a resting entry ends; the orders of a bar come by themselves

    def __init__(
        self,
        ctx: Context,
        *,
        bot_id: str,
        market: Market,
        store: StoreReader,
        timeframe_s: int,
        unrecorded_after_s: float = 0.05,
        answer_within_s: float = 15.0,
        boot_id: str = "",
        strategy: str = "",
        default_protection: Protection | None = None,
        arrival_window_s: float = 0.0,
    ) -> None:
        terms = Terms(
            bot_id=bot_id,
            market=market,
            unrecorded_after_s=unrecorded_after_s,
            answer_within_s=answer_within_s,
            boot_id=boot_id,
            strategy=strategy,
            default_protection=default_protection,
            arrival_window_s=arrival_window_s,
        )
        super().__init__(ctx, terms=terms, store=store, timeframe_s=timeframe_s)

    # Intents

    @receive
    def on_approved(self, approved: Approved) -> None:
        proposal_id = approved.proposal_id
        if not self._ready:
            self.ctx.stash()
            return
        attempts = self._orders.attempts(proposal_id)
        if attempts:
            last = attempts[-1]
            if last.status is not OrderStatus.DRAFTED:  # a repeat: the proposal is answered, its order goes its way
                self.ctx.send(Recorded(client_order_id=last.order.client_order_id, intent_id=proposal_id))
            return
        order = self._order_for(approved)
        if approved.purpose.increases_risk:
            too_late = order.expires_at is not None and self.ctx.now() > order.expires_at
            served = self._last_served(order.client_order_id) > order.attempt
            overtaken = order.good_until is not None and self._is_held_already(order)
            refused = "expired" if too_late else "sent_before" if served else "position_open" if overtaken else None
            if refused := refused or self._entries_closed():
                self.ctx.send(Declined(proposal_id=proposal_id, reason=refused))
                return
        elif (stray := self._stray_of(order)) is not None:
            # It lives: a former life has sent this very decision, and what it closes must not be closed twice.
            self.ctx.send(Recorded(client_order_id=stray, intent_id=proposal_id))
            return
        else:
            qty = self._exit_qty_with_room(proposal_id, order.purpose, order.side, order=order)
            if qty is None:
                self.ctx.stash()
                return
            if not qty:
                reason = "dust" if self._book.is_dust(self._market) else "nothing_to_exit"
                self.ctx.send(Declined(proposal_id=proposal_id, reason=reason))
                self._protect()  # room may have been made for nothing
                return
            order = replace(order, qty=qty)
        self._draft(order)

    def _draft(self, order: Order) -> None:
        if order.purpose in CLOSERS:
            self._withdraw_entries(order.side.opposite)
        super()._draft(order)

    def _withdraw_entries(self, side: Side) -> None:
        """What is still to fill of the entries on ``side`` would rebuild the position that is being closed. Nothing
        else is begun meanwhile: the order that closes it does not stand yet."""
        clearing, self._clearing = self._clearing, True
        for state in self._orders.open:
            if state.order.purpose.increases_risk and state.order.side is side:
                self._cancel(state, "its position is being closed")
        self._clearing = clearing

    def _order_for(self, approved: Approved) -> Order:
        """The first attempt of an approved intent."""
        entry = approved.purpose.increases_risk
        order = Order(
            client_order_id="",
            intent_id=approved.proposal_id,
            symbol=approved.symbol,
            side=approved.order_side,
            type=OrderType.MARKET if approved.price is None else OrderType.LIMIT,
            qty=approved.qty,
            price=approved.price,
            reduce_only=not entry,
            purpose=approved.purpose,
            strategy=approved.strategy,
            bar_open=approved.bar_open,
            layer=approved.layer,
            created_at=self.ctx.now(),
            expires_at=self._expiry(approved.bar_open) if entry else None,
            good_until=approved.good_until,
            protection=approved.protection,
        )
        return self._attempt(order, 0)

    def _is_held_already(self, order: Order) -> bool:
        """Whether the position has been begun while the entry was on its way here."""
        position = self._position
        return order.purpose is Purpose.ENTRY and position is not None and order.side is not closing_side(position)

    def _expiry(self, bar_open: datetime) -> datetime:
        """An entry is for the bar after the one that it was decided on."""
        return bar_open + 2 * self._bar

    def _dated(self, state: OrderState) -> OrderState:
        order = state.order
        if order.expires_at is not None or not order.purpose.increases_risk:
            return state
        # For how many bars it was to rest is not known: it goes with the first.
        over = self._expiry(order.bar_open)
        good_until = over if order.type is OrderType.LIMIT else None
        return replace(state, order=replace(order, expires_at=over, good_until=good_until))

    # When an order may go

    def _may_place(self, state: OrderState) -> bool:
        order = state.order
        if self._is_unproven(order):
            self._ask_for_proof(order)
            return False
        if not order.purpose.increases_risk:
            return True
        if self._end_unproven():
            return False
        position = self._position
        if position is None or order.side is not closing_side(position):
            return True
        # A reversal: sent before its exit it would do the exit's work, and leave nothing open.
        return any(exit_.status in _WITH_THE_EXCHANGE for exit_ in self._exits(order))

    def _still_waits(self, state: OrderState) -> bool:
        under_way = [one for one in self._exits(state.order) if one.order.client_order_id not in self._given_up]
        if state.order.purpose.increases_risk and self._end_unproven():
            return True
        return self._is_unproven(state.order) or bool(under_way or self._making_room or any(self._retries.values()))

    def _exits(self, entry: Order) -> list[OrderState]:
        """The open orders that close the position which ``entry`` opposes."""
        return [s for s in self._orders.open if s.order.purpose in CLOSERS and s.order.side is entry.side]

    # What orders tell

    def _order_alive(self, state: OrderState) -> None:
        order = state.order
        if order.purpose.is_protection:
            self._protect()
        elif order.purpose.increases_risk and self._entries_closed() and order.client_order_id not in self._given_up:
            self._cancel(state, self._entries_closed() or "")
        elif order.good_until is not None:
            self._watch_resting()

    def _order_done(self, state: OrderState, *, by_us: bool) -> None:
        if self._ready and not state.order.purpose.increases_risk and self._is_residue():
            self._tell_position(self._book.last_seq)  # it was still to be seen whether the rest would go, too
        if state.order.purpose.is_protection:
            self._guard_done(state, by_us=by_us)
        elif state.order.purpose.increases_risk:
            if state.status is OrderStatus.ABSENT:
                self._attempt_again(state)
        else:
            self._exit_ended(state)
            self._protect()
        self._use_room()
        self._pursue()

    def _order_given_up(self, state: OrderState) -> None:
        purpose = state.order.purpose
        if purpose.is_protection:
            self._protect()
        elif purpose in CLOSERS and self._market.enforces_reduce_only:
            self._attempt_again(state)

    # Fills and position

    @receive
    def on_fill(self, fill: Fill) -> None:
        market = self._market
        if fill.symbol != market.symbol:
            return
        state = self._known(fill.client_order_id)
        held, traded = self._book.position, self._position
        new = self._book.apply(fill, order=None if state is None else state.order, base=market.base, quote=market.quote)
        if state is not None or ids.parse(fill.client_order_id, self._bot_id) is not None:
            self._orders.note_fill(fill)
        if new:
            self._position_moved(held)
            self._go_with(traded)
            self._filled_after_all(state)
            if not self._ready:
                self._note_news(fill)
        if state is not None:
            self._count_again(fill.client_order_id)
            self._move(self._orders.caught_up(fill.client_order_id, self.ctx.now(), step=market.amount_step), "fill")
        elif new and self._blank and not self._ready:
            # The account tells its whole history to a store that has none of it: old news, and no alarm.
            self.ctx.log.info("fill_of_old", trade_id=fill.trade_id, client_order_id=fill.client_order_id)
            if ids.parse(fill.client_order_id, self._bot_id) is not None:
                self._note_traded_stray(fill.client_order_id)
        elif new:
            self._tell_unexplained(fill)
        if new:
            self._tell_position(fill.seq)
            self._protect()
            self._place_held()
            self._pursue()

    def _tell_unexplained(self, fill: Fill) -> None:
        """A trade of no order that is known here: it is booked, since the exchange made it, and labelled."""
        origin = ids.origin(fill.client_order_id, self._bot_id)
        whose = "an order of this bot that is not known here"
        if origin is None:
            self._note_traded_stray(fill.client_order_id)
        else:
            whose = "the exchange's own" if origin is Origin.EXCHANGE else "somebody else's order"
            self.ctx.send(ExternalTrade(fill=fill, origin=origin))
        self._call_people(
            f"foreign:{fill.trade_id}", f"{fill.symbol}: {fill.side} {fill.qty} at {fill.price}, of {whose}"
        )

    def _position_moved(self, held: Position | None) -> None:
        position = self._book.position
        if held is not None and (position is None or position.position_id != held.position_id):
            self._forget_position(held.position_id)
            self._best = None

    @receive
    def on_bar(self, bar: Bar) -> None:
        self._take_up_late()
        self._withdraw_expired()
        self._withdraw_resting("its bars are over", over=bar.candle.open_time + self._bar)
        position = self._book.position
        if position is None or position.protection is None or position.protection.trailing is None:
            return
        if bar.candle.open_time >= position.opened_at:
            self._best = better(self._best, bar.candle.high if position.qty > 0 else bar.candle.low, position.qty)
            self._protect()

    def on_halt(self, reason: str, exit_code: int) -> None:
        self._halted = True
        for state in self._orders.open:
            if state.order.purpose.increases_risk:
                self._cancel(state, f"halt: {reason}")
