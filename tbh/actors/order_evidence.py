"""What became of an order: queries, cancels, and when to stop asking.

Nothing here waits for ever. What the exchange contradicts itself about, or never gives the fills of, is asked a few
times; then people are called, the order stays unknown (which keeps entries closed), and any further word of it opens
the question anew.
"""

from __future__ import annotations

from typing import ClassVar, Final

from tbh.actors.order_path import OrderPath, Terms
from tbh.domain import order as rules
from tbh.domain.admission import stands_at
from tbh.domain.blotter import Blotter
from tbh.domain.money import plain
from tbh.messages.account import OpenOrdersRead
from tbh.messages.base import Message, replace
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Order,
    OrderChanged,
    OrderFound,
    OrderNotFound,
    OrderState,
    OrderStatus,
    QueryOrder,
)
from tbh.runtime.actor import Context, receive

QUERY_EVERY_S: Final = 2.0
EVIDENCE_TRIES_MAX: Final = 10

_ON_THE_BOOK: Final = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
_TAKEN_OFF: Final = (OrderStatus.CANCELED, OrderStatus.EXPIRED)


class OrderEvidence(OrderPath):
    """``OrderPath`` with its questions. The methods without a body are for subclasses."""

    sends: ClassVar[tuple[type[Message], ...]] = (*OrderPath.sends, CancelOrder, QueryOrder)

    def __init__(self, ctx: Context, *, terms: Terms, orders: Blotter) -> None:
        super().__init__(ctx, terms=terms, orders=orders)
        self._tries: dict[str, tuple[int, float]] = {}
        self._given_up: set[str] = set()
        self._denied: set[str] = set()
        self._resized: set[str] = set()

    def _order_given_up(self, state: OrderState) -> None:
        """An order stays unknown: nothing more is asked about it."""

    def _found_stray(self, found: OrderFound) -> None:
        """The exchange knows an order that nobody here does."""

    def _account_behind(self) -> None:
        """The exchange has counted fills that have not come here."""

    def _look_around(self) -> None:
        """An order that should have been taken was refused: what stands in its way may be one that is thought dead."""

    def _ended_stray(self, found: OrderFound) -> None:
        """The exchange tells how an order ended that nobody here knows."""

    def _doubts_changed(self) -> None:
        """An order was given up, or there is new word of one that was."""

    # Evidence

    def _query(self, order: Order) -> None:
        query = QueryOrder(client_order_id=order.client_order_id, symbol=order.symbol, signed_until=order.expires_at)
        self.ctx.keep_asking(f"query:{order.client_order_id}", query, every_s=QUERY_EVERY_S)

    @receive
    def on_found(self, fact: OrderFound) -> None:
        state = self._known(fact.client_order_id)
        if state is None:
            if rules.is_terminal(fact.status):
                self.ctx.answered(f"cancel:{fact.client_order_id}")
                self._ended_stray(fact)
            else:
                self._found_stray(fact)
            return
        if state.status in _TAKEN_OFF and not rules.is_terminal(fact.status):
            self._revived(state)
        meant, state = state, self._as_ordered(state, fact)
        if state is not meant and state.filled_qty >= state.order.qty:  # of what was ordered nothing is left
            fact = replace(fact, status=OrderStatus.FILLED)
        moved = rules.on_found(state, fact, self.ctx.now())
        if not self._move(moved, "found") and state is not meant:
            self.ctx.send(OrderChanged(state=state, event="corrected"))
        now_at = self._orders.get(fact.client_order_id) or state
        if now_at.status is not OrderStatus.UNKNOWN:
            self.ctx.answered(f"query:{fact.client_order_id}")
        elif fact.filled_qty > now_at.filled_qty:
            self._account_behind()
        if rules.is_terminal(now_at.status):
            return
        if self._asking_about(fact.client_order_id):
            self._no_wiser(now_at, f"found {fact.status} with {fact.filled_qty} filled, {now_at.filled_qty} came here")
        if moved is None:
            self._order_alive(now_at)

    def _as_ordered(self, state: OrderState, found: OrderFound) -> OrderState:
        """The order, for as much and at the price that the exchange says, where it does. Two processes may have decided
        it, each by what it held and knew; under one id the exchange has the one that it heard first."""
        order, meant_at = state.order, stands_at(state.order)
        qty = order.qty if found.qty is None else found.qty
        at = meant_at if found.price is None else found.price
        moved = meant_at is not None and at != meant_at
        if rules.is_terminal(state.status) or (qty == order.qty and not moved):
            return state
        client_order_id = order.client_order_id
        self.ctx.log.warning(
            "order_corrected",
            client_order_id=client_order_id,
            meant=[plain(order.qty), meant_at and plain(meant_at)],
            found=[plain(qty), at and plain(at)],
        )
        if qty != order.qty:
            self._resized.add(client_order_id)
        if moved:
            order = replace(order, stop_price=at) if order.stop_price is not None else replace(order, price=at)
        state = replace(state, order=replace(order, qty=qty), version=state.version + 1)
        self._orders.put(state)
        return state

    @receive
    def on_not_found(self, fact: OrderNotFound) -> None:
        state = self._known(fact.client_order_id)
        if state is None or not fact.conclusive:
            return
        # Of an order that was seen, a denial proves no absence: the exchange contradicts itself.
        moved = rules.on_not_found(state, fact.conclusive, self.ctx.now())
        if moved is None and state.status in _ON_THE_BOOK:
            moved = rules.on_rejected(state, "seen, and denied later", self.ctx.now())
        self._move(moved, "denied")
        now_at = self._orders.get(fact.client_order_id) or state
        if now_at.status is OrderStatus.UNKNOWN:
            self._denied.add(fact.client_order_id)
            self._no_wiser(now_at, "denied")
        else:
            self.ctx.answered(f"query:{fact.client_order_id}")

    @receive
    def on_open_orders(self, fact: OpenOrdersRead) -> None:
        """Ask after what is thought to stand and is not on the book any more: an exchange may tell of fills alone, and
        a word of an order's end may be lost."""
        standing = {*fact.client_order_ids, *self._given_up}
        for state in self._orders.open:
            client_order_id = state.order.client_order_id
            gone = state.status in _ON_THE_BOOK and client_order_id not in standing
            if gone and not self._asking_about(client_order_id):
                self._query(state.order)

    def _asking_about(self, client_order_id: str) -> bool:
        return self.ctx.asking(f"query:{client_order_id}") or self.ctx.asking(f"cancel:{client_order_id}")

    def _no_wiser(self, state: OrderState, last_word: str) -> None:
        """The exchange has answered, and the question stays open; after a few times nothing more is asked."""
        client_order_id = state.order.client_order_id
        tries, counted_s = self._tries.get(client_order_id, (0, -QUERY_EVERY_S))
        now_s = self.ctx.monotonic()
        if now_s - counted_s < QUERY_EVERY_S / 2:
            return  # repeats that had queued up are answered in one burst, and are one answer
        self._tries[client_order_id] = (tries + 1, now_s)
        if tries + 1 < EVIDENCE_TRIES_MAX or client_order_id in self._given_up:
            return
        self._given_up.add(client_order_id)
        self._doubts_changed()
        for request in ("query", "cancel"):
            self.ctx.answered(f"{request}:{client_order_id}")
        self._call_people(
            f"unresolved:{client_order_id}:{state.version}",
            f"{state.order.purpose} order {client_order_id} of {state.order.symbol} is unresolved ({last_word})",
        )
        self._order_given_up(state)

    # Cancel

    def _cancel(self, state: OrderState, reason: str) -> None:
        """Take the order off the book; one that was never sent is withdrawn here."""
        client_order_id = state.order.client_order_id
        if client_order_id in self._canceling:
            return
        never_sent = state.status in (OrderStatus.DRAFTED, OrderStatus.RECORDED) and client_order_id not in self._placed
        self._canceling.add(client_order_id)
        if never_sent:
            self._move(rules.on_canceled(state, state.filled_qty, reason, self.ctx.now()), "withdrawn")
        else:
            self._ask_cancel(client_order_id, state.order.symbol)

    def _ask_cancel(self, client_order_id: str, symbol: str) -> None:
        command = CancelOrder(client_order_id=client_order_id, symbol=symbol)
        self.ctx.keep_asking(f"cancel:{client_order_id}", command, every_s=QUERY_EVERY_S)

    @receive
    def on_cancel_refused(self, fact: CancelRefused) -> None:
        state = self._orders.get(fact.client_order_id)
        if state is None or rules.is_terminal(state.status):
            self.ctx.answered(f"cancel:{fact.client_order_id}")
            return
        # The cancel is asked for on: an order that is not there yet may still arrive. Of such a one a refusal says
        # nothing, but one that was on the book should have ended, and its end can be asked for.
        if state.status in _ON_THE_BOOK:
            self._no_wiser(state, f"cancel refused: {fact.reason}")
        if fact.client_order_id not in self._given_up and not self.ctx.asking(f"query:{fact.client_order_id}"):
            self._query(state.order)

    def _reopen(self, state: OrderState) -> None:
        client_order_id = state.order.client_order_id
        self._tries.pop(client_order_id, None)
        self._denied.discard(client_order_id)
        if client_order_id in self._given_up:
            self._given_up.discard(client_order_id)
            self._doubts_changed()
            if client_order_id in self._canceling and not rules.is_terminal(state.status):
                self._ask_cancel(client_order_id, state.order.symbol)

    # Against the proof

    def _revived(self, state: OrderState) -> None:
        """An order that was taken off the book stands on it. The word may be an old one; a cancel more does no harm."""
        client_order_id = state.order.client_order_id
        self.ctx.log.warning("order_revived", client_order_id=client_order_id, status=state.status.value)
        if not self.ctx.asking(f"cancel:{client_order_id}"):
            self._ask_cancel(client_order_id, state.order.symbol)

    def _surprised(self, state: OrderState) -> None:
        """An order that was proven not to exist does. No intent may fill twice: whatever of it is open is cancelled."""
        order = state.order
        self._call_people(
            f"surprise:{order.client_order_id}",
            f"{order.client_order_id} was {order.purpose}, denied, and {state.status}",
        )
        if not rules.is_terminal(state.status):
            self._query(order)
        attempts = self._orders.attempts(order.intent_id)
        for one in attempts if len(attempts) > 1 else ():
            if not rules.is_terminal(one.status):
                self._cancel(one, "another attempt of its intent turned out to exist")
