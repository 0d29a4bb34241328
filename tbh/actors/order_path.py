"""The way of one order: drafted, recorded on disk, sent once, answered.

``OrderPath`` knows nothing of why an order exists; those who extend it know nothing else. What is asked when no answer
comes is in ``order_evidence``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Final

from tbh.actors.order_retries import REPEAT_S
from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.messages.base import Message, Timer, message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Market
from tbh.messages.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderChanged,
    OrderDrafted,
    OrderExpired,
    OrderRejected,
    OrderState,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    Protection,
    Recorded,
)
from tbh.runtime.actor import Actor, Context, receive

HOLD_MAX_S: Final = 10.0
"""How long an order may be held back before it is withdrawn; longer than any neighbour takes to ask again."""

_IN_FLIGHT: Final = (OrderStatus.RECORDED, OrderStatus.SUBMITTED)


@message
class _DraftOverdue(Timer):
    """The journal has not answered in time: what reduces risk goes without it."""

    client_order_id: str


@message
class _AnswerOverdue(Timer):
    """The gateway has not answered in time: the order's fate is unknown."""

    client_order_id: str


@message
class _HeldLong(Timer):
    """The order has been held back as long as it may."""

    client_order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Whose orders, on which market. ``unrecorded_after_s`` is how long an order that reduces risk waits for the disk,
    ``answer_within_s`` how long any order waits for the gateway; ``boot_id`` names the process. An entry known by its
    id alone counts as ``strategy``'s if the id says so, and its position gets ``default_protection``. What a former
    process has sent may arrive for ``arrival_window_s``."""

    bot_id: str
    market: Market
    unrecorded_after_s: float
    answer_within_s: float
    boot_id: str = ""
    strategy: str = ""
    default_protection: Protection | None = None
    arrival_window_s: float = 0.0


class OrderPath(Actor):
    """Drives orders through the table of ``tbh/domain/order.py``. The methods without a body are for subclasses."""

    sends: ClassVar[tuple[type[Message], ...]] = (
        OrderDrafted,
        PlaceOrder,
        OrderChanged,
        Notice,
    )

    def __init__(self, ctx: Context, *, terms: Terms, orders: Blotter) -> None:
        super().__init__(ctx)
        self._bot_id = terms.bot_id
        self._market = terms.market
        self._orders = orders
        self._unrecorded_after_s = terms.unrecorded_after_s
        self._answer_within_s = terms.answer_within_s
        self._placed: set[str] = set()
        self._held: dict[str, None] = {}
        self._canceling: set[str] = set()
        self._timers: dict[str, int] = {}

    def _recall(self, client_order_id: str) -> OrderState | None:
        """An order that this incarnation has not met, if it is one of ours and can be found."""
        return None

    def _may_place(self, state: OrderState) -> bool:
        """Whether a recorded order may go now; one that may not is held back."""
        return True

    def _still_waits(self, state: OrderState) -> bool:
        """Whether what a held order waits for is still under way."""
        return False

    def _order_alive(self, state: OrderState) -> None:
        """An order has moved, or was found, and is still open."""

    def _order_done(self, state: OrderState, *, by_us: bool) -> None:
        """An order has just become terminal; ``by_us``: it was to be cancelled."""

    def _query(self, order: Order) -> None:
        """Ask what became of the order."""

    def _cancel(self, state: OrderState, reason: str) -> None:
        """Take the order off the book; one that was never sent is withdrawn."""

    def _stray_over(self, client_order_id: str, status: OrderStatus, filled_qty: Decimal) -> None:
        """An order that nobody here knows has ended."""

    def _reopen(self, state: OrderState) -> None:
        """There is new word of an order: what was asked in vain may be asked again."""

    def _surprised(self, state: OrderState) -> None:
        """An order that was proven not to exist does."""

    def _known(self, client_order_id: str) -> OrderState | None:
        state = self._orders.get(client_order_id)
        return self._recall(client_order_id) if state is None else state

    def _call_people(self, key: str, text: str, severity: Severity = Severity.CRITICAL) -> None:
        self.ctx.send(Notice(key=key, severity=severity, kind="order", text=text))

    # Draft, record, send

    def _draft(self, order: Order) -> None:
        client_order_id = order.client_order_id
        self._orders.put(rules.draft(order, self.ctx.now()))
        self.ctx.keep_asking(f"draft:{client_order_id}", OrderDrafted(order=order), every_s=REPEAT_S)
        if not order.purpose.increases_risk:
            self._set_timer(client_order_id, self._unrecorded_after_s, _DraftOverdue(client_order_id=client_order_id))

    @receive
    def on_recorded(self, recorded: Recorded) -> None:
        self.ctx.answered(f"draft:{recorded.client_order_id}")
        state = self._known(recorded.client_order_id)
        if state is not None:
            state = rules.on_recorded(state, self.ctx.now())
        if state is not None:
            self._orders.put(state)  # the journal wrote this very transition; telling it again would be one commit more
            self._place(state)

    @receive
    def on_draft_overdue(self, overdue: _DraftOverdue) -> None:
        state = self._orders.get(overdue.client_order_id)
        if state is not None and state.status is OrderStatus.DRAFTED:
            self.ctx.log.warning("exit_sent_unrecorded", client_order_id=overdue.client_order_id)
            self._place(state)

    def _place(self, state: OrderState) -> None:
        order = state.order
        client_order_id = order.client_order_id
        if client_order_id in self._placed:
            return
        if order.expires_at is not None and self.ctx.now() > order.expires_at:
            self._move(rules.on_expired(state, state.filled_qty, "too late to be sent", self.ctx.now()), "expired")
            return
        self.ctx.expect(f"outcome:{client_order_id}")
        if not self._may_place(state):
            if client_order_id not in self._held:
                self._held[client_order_id] = None
                self._set_timer(client_order_id, HOLD_MAX_S, _HeldLong(client_order_id=client_order_id))
            return
        self._held.pop(client_order_id, None)
        self._placed.add(client_order_id)
        # The gateway looks at the order's own expiry and answers; an expired command would only be set aside.
        self.ctx.send(PlaceOrder(order=order))
        self._set_timer(client_order_id, self._answer_within_s, _AnswerOverdue(client_order_id=client_order_id))

    def _place_held(self) -> None:
        """What was held back may go once the orders before it have moved."""
        for client_order_id in list(self._held):
            state = self._orders.get(client_order_id)
            if client_order_id in self._held and state is not None and not rules.is_terminal(state.status):
                self._place(state)

    @receive
    def on_held_long(self, timer: _HeldLong) -> None:
        state = self._orders.get(timer.client_order_id)
        if state is None or timer.client_order_id not in self._held:
            return
        if self._still_waits(state):
            self._set_timer(timer.client_order_id, HOLD_MAX_S, timer)
        else:
            self._cancel(state, "what it had to wait for did not come")

    def _withdraw_expired(self) -> None:
        """End the entries whose bar was over before the disk, or what else they wait for, let them go."""
        for state in self._orders.open:
            expires_at = state.order.expires_at
            waits = state.order.client_order_id not in self._placed
            if waits and expires_at is not None and self.ctx.now() > expires_at:
                self._place(state)

    # Answers

    @receive
    def on_submitted(self, fact: OrderSubmitted) -> None:
        if (state := self._known(fact.client_order_id)) is not None:
            self._move(rules.on_submitted(state, self.ctx.now()), "submitted")

    @receive
    def on_accepted(self, fact: OrderAccepted) -> None:
        if (state := self._known(fact.client_order_id)) is not None:
            self._move(rules.on_accepted(state, fact.exchange_order_id, self.ctx.now()), "accepted")

    @receive
    def on_rejected(self, fact: OrderRejected) -> None:
        if (state := self._known(fact.client_order_id)) is not None:
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
        if (state := self._known(client_order_id)) is not None:
            self._move(rules.on_silence(state, reason, self.ctx.now()), "unknown")

    def _gateway_restarted(self) -> None:
        """What was on its way may have been sent or not; what was to be cancelled is asked for again by itself."""
        for state in self._orders.open:
            if state.order.client_order_id in self._placed:
                self._silent(state.order.client_order_id, "the gateway restarted")

    @receive
    def on_canceled(self, fact: OrderCanceled) -> None:
        state = self._known(fact.client_order_id)
        if state is None or rules.is_terminal(state.status):
            self.ctx.answered(f"cancel:{fact.client_order_id}")
        if state is None:
            self._stray_over(fact.client_order_id, OrderStatus.CANCELED, fact.filled_qty)
            return
        self._move(rules.on_canceled(state, fact.filled_qty, fact.reason, self.ctx.now()), "canceled")

    @receive
    def on_expired(self, fact: OrderExpired) -> None:
        state = self._known(fact.client_order_id)
        if state is None:
            self._stray_over(fact.client_order_id, OrderStatus.EXPIRED, fact.filled_qty)
            return
        self._move(rules.on_expired(state, fact.filled_qty, fact.reason, self.ctx.now()), "expired")

    # Every transition passes here

    def _move(self, state: OrderState | None, event: str) -> bool:
        """Take the order's new state, tell it, and open or close what is asked; False when nothing changed."""
        if state is None:
            return False
        client_order_id = state.order.client_order_id
        before = self._orders.get(client_order_id) or state
        self._orders.put(state)
        self.ctx.send(OrderChanged(state=state, event=event))
        if state.status is not before.status or state.filled_qty != before.filled_qty:
            self._reopen(state)
        if state.status not in _IN_FLIGHT:
            self.ctx.answered(f"outcome:{client_order_id}")
            self._held.pop(client_order_id, None)
            self._drop_timer(client_order_id)
        if rules.is_surprise(before, state):
            self._surprised(state)
        if rules.is_terminal(state.status):
            if not rules.is_terminal(before.status):
                self._end(state)
        else:
            self._placed.add(client_order_id)
            if state.status is OrderStatus.UNKNOWN:
                if not self.ctx.asking(f"query:{client_order_id}"):
                    self._query(state.order)
            elif before.status is OrderStatus.UNKNOWN:
                self.ctx.answered(f"query:{client_order_id}")
            self._order_alive(state)
        self._place_held()
        return True

    def _end(self, state: OrderState) -> None:
        client_order_id = state.order.client_order_id
        for request in ("draft", "cancel", "query"):
            self.ctx.answered(f"{request}:{client_order_id}")
        by_us = client_order_id in self._canceling
        self._placed.discard(client_order_id)
        self._canceling.discard(client_order_id)
        self._order_done(state, by_us=by_us)

    # Timers: one per order, for whatever is next overdue

    def _set_timer(self, client_order_id: str, after_s: float, timer: Timer) -> None:
        self._drop_timer(client_order_id)
        self._timers[client_order_id] = self.ctx.after(after_s, timer)

    def _drop_timer(self, client_order_id: str) -> None:
        handle = self._timers.pop(client_order_id, None)
        if handle is not None:
            self.ctx.cancel(handle)
