"""The way of one order: drafted, recorded on disk, sent once, answered, or asked after until there is evidence.

``OrderPath`` knows nothing of why an order exists; the order manager, which extends it, knows nothing else.
"""

from __future__ import annotations

from typing import ClassVar

from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.messages.base import Message, Timer, message
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderChanged,
    OrderDrafted,
    OrderExpired,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderState,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    QueryOrder,
    Recorded,
)
from tbh.runtime.actor import Actor, Context, receive

REPEAT_S = 1.0
QUERY_EVERY_S = 2.0

_IN_FLIGHT = (OrderStatus.RECORDED, OrderStatus.SUBMITTED)


@message
class _DraftOverdue(Timer):
    """The journal has not answered in time: what reduces risk goes without it."""

    client_order_id: str


@message
class _AnswerOverdue(Timer):
    """The gateway has not answered in time: the order's fate is unknown."""

    client_order_id: str


class OrderPath(Actor):
    """Drives orders through the table of ``tbh/domain/order.py``.

    ``unrecorded_after_s`` is how long an order that reduces risk waits for the disk, ``answer_within_s`` how long any
    waits for the gateway. Subclasses implement ``_order_done`` and ``_account_behind``.
    """

    sends: ClassVar[tuple[type[Message], ...]] = (OrderDrafted, PlaceOrder, CancelOrder, QueryOrder, OrderChanged)

    def __init__(self, ctx: Context, *, orders: Blotter, unrecorded_after_s: float, answer_within_s: float) -> None:
        super().__init__(ctx)
        self._orders = orders
        self._unrecorded_after_s = unrecorded_after_s
        self._answer_within_s = answer_within_s
        self._placed: set[str] = set()
        self._canceling: set[str] = set()

    def _order_done(self, state: OrderState) -> None:
        """An order has just become terminal."""

    def _account_behind(self) -> None:
        """The exchange has counted fills that have not come here."""

    # Draft, record, send

    def _draft(self, order: Order) -> None:
        client_order_id = order.client_order_id
        self._orders.put(rules.draft(order, self.ctx.now()))
        self.ctx.keep_asking(f"draft:{client_order_id}", OrderDrafted(order=order), every_s=REPEAT_S)
        if not order.purpose.increases_risk:
            self.ctx.after(self._unrecorded_after_s, _DraftOverdue(client_order_id=client_order_id))

    @receive
    def on_recorded(self, recorded: Recorded) -> None:
        self.ctx.answered(f"draft:{recorded.client_order_id}")
        state = self._orders.get(recorded.client_order_id)
        if state is not None:
            state = rules.on_recorded(state, self.ctx.now())
        if state is not None:
            self._orders.put(state)  # the journal wrote this very transition; telling it again would be one commit more
            self._place(state.order)

    @receive
    def on_draft_overdue(self, overdue: _DraftOverdue) -> None:
        state = self._orders.get(overdue.client_order_id)
        if state is not None and state.status is OrderStatus.DRAFTED:
            self.ctx.log.warning("exit_sent_unrecorded", client_order_id=overdue.client_order_id)
            self._place(state.order)

    def _place(self, order: Order) -> None:
        client_order_id = order.client_order_id
        if client_order_id in self._placed:
            return
        self._placed.add(client_order_id)
        self.ctx.expect(f"outcome:{client_order_id}")
        self.ctx.after(self._answer_within_s, _AnswerOverdue(client_order_id=client_order_id))
        self.ctx.send(PlaceOrder(order=order, expires_at=order.expires_at))

    # Answers

    @receive
    def on_submitted(self, fact: OrderSubmitted) -> None:
        if (state := self._orders.get(fact.client_order_id)) is not None:
            self._move(rules.on_submitted(state, self.ctx.now()), "submitted")

    @receive
    def on_accepted(self, fact: OrderAccepted) -> None:
        if (state := self._orders.get(fact.client_order_id)) is not None:
            self._move(rules.on_accepted(state, fact.exchange_order_id, self.ctx.now()), "accepted")

    @receive
    def on_rejected(self, fact: OrderRejected) -> None:
        if (state := self._orders.get(fact.client_order_id)) is not None:
            self._move(rules.on_rejected(state, fact.reason, self.ctx.now()), "rejected")

    @receive
    def on_outcome_unknown(self, fact: OutcomeUnknown) -> None:
        self._silent(fact.client_order_id, fact.reason)

    @receive
    def on_answer_overdue(self, overdue: _AnswerOverdue) -> None:
        state = self._orders.get(overdue.client_order_id)
        if state is not None and (state.status in _IN_FLIGHT or state.status is OrderStatus.DRAFTED):
            self._silent(overdue.client_order_id, f"no answer within {self._answer_within_s:g} s")

    def _silent(self, client_order_id: str, reason: str) -> None:
        if (state := self._orders.get(client_order_id)) is not None:
            self._move(rules.on_silence(state, reason, self.ctx.now()), "unknown")

    def _gateway_restarted(self) -> None:
        """What was on its way may have been sent or not; what was to be cancelled is asked for again by itself."""
        for state in self._orders.open:
            if state.order.client_order_id in self._placed:
                self._silent(state.order.client_order_id, "the gateway restarted")

    @receive
    def on_canceled(self, fact: OrderCanceled) -> None:
        if (state := self._orders.get(fact.client_order_id)) is not None:
            self._move(rules.on_canceled(state, fact.filled_qty, fact.reason, self.ctx.now()), "canceled")

    @receive
    def on_expired(self, fact: OrderExpired) -> None:
        if (state := self._orders.get(fact.client_order_id)) is not None:
            self._move(rules.on_expired(state, fact.filled_qty, fact.reason, self.ctx.now()), "expired")

    # Evidence

    def _query(self, order: Order) -> None:
        query = QueryOrder(client_order_id=order.client_order_id, symbol=order.symbol, signed_until=order.expires_at)
        self.ctx.keep_asking(f"query:{order.client_order_id}", query, every_s=QUERY_EVERY_S)

    @receive
    def on_found(self, fact: OrderFound) -> None:
        state = self._orders.get(fact.client_order_id)
        if state is None:
            return
        moved = rules.on_found(state, fact, self.ctx.now())
        self._move(moved, "found")
        now_at = moved or state
        if now_at.status is not OrderStatus.UNKNOWN:
            self.ctx.answered(f"query:{fact.client_order_id}")
        elif fact.filled_qty > now_at.filled_qty:
            self._account_behind()

    @receive
    def on_not_found(self, fact: OrderNotFound) -> None:
        state = self._orders.get(fact.client_order_id)
        if state is None or not fact.conclusive:
            return
        self._move(rules.on_not_found(state, fact.conclusive, self.ctx.now()), "absent")
        if state.status is not OrderStatus.UNKNOWN:
            self.ctx.answered(f"query:{fact.client_order_id}")

    # Cancel

    def _cancel(self, state: OrderState, reason: str) -> None:
        """Take the order off the book; one that was never sent is withdrawn here."""
        client_order_id = state.order.client_order_id
        if client_order_id in self._canceling:
            return
        never_sent = state.status in (OrderStatus.DRAFTED, OrderStatus.RECORDED) and client_order_id not in self._placed
        if never_sent:
            self._move(rules.on_canceled(state, state.filled_qty, reason, self.ctx.now()), "withdrawn")
            return
        self._canceling.add(client_order_id)
        command = CancelOrder(client_order_id=client_order_id, symbol=state.order.symbol)
        self.ctx.keep_asking(f"cancel:{client_order_id}", command, every_s=QUERY_EVERY_S)

    @receive
    def on_cancel_refused(self, fact: CancelRefused) -> None:
        self.ctx.answered(f"cancel:{fact.client_order_id}")
        self._canceling.discard(fact.client_order_id)
        state = self._orders.get(fact.client_order_id)
        if state is not None and not rules.is_terminal(state.status):
            self._query(state.order)

    # Every transition passes here

    def _move(self, state: OrderState | None, event: str) -> bool:
        """Take the order's new state, tell it, and open or close what is asked; False when nothing changed."""
        if state is None:
            return False
        client_order_id = state.order.client_order_id
        before = self._orders.get(client_order_id)
        self._orders.put(state)
        self.ctx.send(OrderChanged(state=state, event=event))
        if state.status not in _IN_FLIGHT:
            self.ctx.answered(f"outcome:{client_order_id}")
        if state.status is OrderStatus.UNKNOWN:
            if not self.ctx.asking(f"query:{client_order_id}"):
                self._query(state.order)
        elif before is not None and before.status is OrderStatus.UNKNOWN:
            self.ctx.answered(f"query:{client_order_id}")
        if rules.is_terminal(state.status) and not (before is not None and rules.is_terminal(before.status)):
            for request in ("draft", "cancel", "query"):
                self.ctx.answered(f"{request}:{client_order_id}")
            self._placed.discard(client_order_id)
            self._canceling.discard(client_order_id)
            self._order_done(state)
        return True
