"""Defects of what becomes of an order: its record, its id, its silence, its end, and what guards the position."""

from __future__ import annotations

from dataclasses import replace

from tbh.actors import order_protection
from tbh.actors.gateway import GatewayActor
from tbh.actors.order_closing import PositionCloser
from tbh.actors.order_evidence import OrderEvidence
from tbh.actors.order_manager import OrderManagerActor
from tbh.actors.order_path import OrderPath
from tbh.actors.order_protection import PositionGuard
from tbh.actors.order_recovery import OrderRecovery
from tbh.domain import book, ids
from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.domain.book import Book, TradeIds
from tbh.messages.orders import Flattened, OrderRejected, OrderStatus, PlaceOrder
from tests.mutants.mutation import also, defect

# The record


@defect("an order goes to the exchange without waiting for its record", OrderPath, "_draft")
def sent_before_recorded(original, self, order):
    original(self, order)
    self._place(self._orders.get(order.client_order_id))


@defect("what was recorded and perhaps sent is sent by the next process", OrderRecovery, "_recover")
def recorded_resent_after_restart(original, self, state):
    if state.status not in (OrderStatus.DRAFTED, OrderStatus.RECORDED):
        return original(self, state)
    self._orders.put(state)
    return self.ctx.send(PlaceOrder(order=state.order))


@defect("an order that was read back is taken to be where its row says", OrderRecovery, "_recover")
def open_orders_not_asked_for_after_restart(original, self, state):
    self._placed.add(state.order.client_order_id)


@defect("an order of a former incarnation keeps its version", OrderRecovery, "_recover")
def versions_do_not_leap(original, self, state):
    original(self, state)
    now_at = self._orders.get(state.order.client_order_id)
    if now_at is not None:
        self._orders.put(replace(now_at, version=state.version))


@defect("an empty disk is taken to prove that nothing was sent", OrderManagerActor, "_is_unproven")
def empty_disk_proves_absence(original, self, order):
    return False


@also("empty_disk_proves_absence", GatewayActor, "on_halt")
def _while_its_former_owner_sends_on(original, self, reason, exit_code):
    """The second safeguard: a process that has been told of another is quiet at once."""
    original(self, reason, 70)


# The id


@defect("an entry that nobody answered is tried again under a new id", OrderPath, "on_outcome_unknown")
def new_id_on_retry(original, self, fact):
    original(self, fact)
    state = self._orders.get(fact.client_order_id)
    if state is not None and state.status is OrderStatus.UNKNOWN:
        self._attempt_again(state)


@defect("each attempt of an exit has the first one's id", PositionCloser, "_attempt")
def same_id_for_each_attempt(original, self, order, attempt):
    return replace(original(self, order, 0), attempt=attempt)


@defect("an order that nobody answered in time is sent once more", OrderPath, "on_answer_overdue")
def resent_after_time_out(original, self, overdue):
    state = self._orders.get(overdue.client_order_id)
    if state is not None:
        self.ctx.send(PlaceOrder(order=state.order))


@also("resent_after_time_out", GatewayActor, "_note_handled")
def _forgets(original, self, client_order_id):
    """What was handled is not remembered."""


# Silence


@defect("no answer is read as a refusal", OrderPath, "on_outcome_unknown")
def silence_read_as_refusal(original, self, fact):
    self.on_rejected(OrderRejected(client_order_id=fact.client_order_id, reason=fact.reason))


@defect("no answer is read as an acceptance", OrderPath, "on_outcome_unknown")
def silence_read_as_acceptance(original, self, fact):
    state = self._orders.get(fact.client_order_id)
    if state is not None:
        self._move(rules.on_accepted(state, "unknown", self.ctx.now()), "accepted")


@defect("the first denial proves that an order never arrived", GatewayActor, "_query")
def not_found_believed_at_once(original, self, client_order_id, symbol, *, conclusive):
    original(self, client_order_id, symbol, conclusive=True)


@defect("nobody asks what became of an unknown order", OrderEvidence, "_query")
def unknown_never_resolved(original, self, order):
    """No query."""


@defect("an order that has gone from the book without a word is thought to stand", OrderEvidence, "on_open_orders")
def gone_order_not_missed(original, self, fact):
    """Nobody asks how it has ended."""


# Fills


@defect("a fill that comes twice is booked twice", TradeIds, "add")
def fill_not_deduplicated(original, self, fill):
    original(self, fill)
    return True


@defect("a fill of an order that has ended is dropped", OrderManagerActor, "on_fill")
def late_fill_dropped(original, self, fill):
    state = self._orders.get(fill.client_order_id)
    if state is None or not rules.is_terminal(state.status):
        original(self, fill)


@defect("a fill of nobody's order is not booked", OrderManagerActor, "on_fill")
def foreign_fill_ignored(original, self, fill):
    if ids.parse(fill.client_order_id, self._bot_id) is not None:
        original(self, fill)


@defect("a fee in the base coin leaves the holding as it is", book, "holding_change")
def fee_in_base_ignored(original, fill, base):
    return fill.side.sign * fill.qty


@defect("only the newest fill of an order counts", Blotter, "note_fill")
def order_counts_newest_fill_only(original, self, fill):
    self._fills[fill.client_order_id] = {fill.trade_id: fill}


# The exit


@defect("no order is reduce-only", OrderPath, "_draft")
def reduce_only_dropped(original, self, order):
    original(self, replace(order, reduce_only=False))


@defect("a residue that can't be traded is closed again and again", Book, "is_dust")
def dust_retried(original, self, market, mark=None):
    return False


@defect("a flatten is reported as soon as it is asked for", PositionCloser, "on_flatten")
def flattened_at_once(original, self, flatten):
    original(self, flatten)
    self.ctx.send(Flattened(request_id=flatten.request_id))


# What guards the position


@defect("a stop is not made anew when the position grows", order_protection, "_fits")
def stop_not_resized(original, state, guard):
    return state.order.side is guard.side


@defect("protection stays on the book when its position is closed", PositionGuard, "_protect")
def stop_left_after_close(original, self):
    if self._position is not None:
        original(self)


@defect("no protective order is ever sent", PositionGuard, "_draft_guard")
def position_left_bare(original, self, guard, position):
    """None is drafted."""


@defect("whatever order is found that is not known here is cancelled", PositionGuard, "_found_stray")
def foreign_orders_canceled(original, self, found):
    self._ask_cancel(found.client_order_id, self._market.symbol)
