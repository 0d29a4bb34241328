"""Defects of how a position is closed and guarded, and of what is believed of an order that is to go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tbh.actors import order_closing
from tbh.actors.account_reader import AccountReader
from tbh.actors.order_closing import PositionCloser
from tbh.actors.order_evidence import OrderEvidence
from tbh.actors.order_manager import OrderManagerActor
from tbh.actors.order_protection import PositionGuard
from tbh.domain.money import ZERO
from tbh.domain.reconcile import Reconciler
from tbh.messages.orders import OrderCanceled
from tbh.ports import Exchange, Failure, PositionReport
from tests.mutants.mutation import also, defect

# The exit


@defect("an exit is as large as the position, whatever else is closing it", order_closing, "exitable")
def exit_ignores_open_exits(original, position_qty, open_orders, enforces_reduce_only):
    return abs(position_qty)


@defect("an exit that has failed is not tried again", PositionCloser, "_retry_later")
def failed_exit_given_up(original, self, state):
    """Nothing follows."""


@defect("what is still to fill of an entry stays on the book beside its exit", OrderManagerActor, "_withdraw_entries")
def entry_left_beside_its_exit(original, self, side):
    """They fill on."""


@defect("a flatten, and whatever closes the position for it, leaves entries on the book", PositionCloser, "_pursue")
def flatten_leaves_entries(original, self):
    cancel = self._cancel
    self._cancel = lambda state, reason: None if reason == "flatten" else cancel(state, reason)
    try:
        original(self)
    finally:
        vars(self).pop("_cancel", None)  # it may have pursued from within


@also("flatten_leaves_entries", OrderManagerActor, "_withdraw_entries")
def _but_for_exits(original, self, side):
    if not self._flatten:
        original(self, side)


@also("flatten_leaves_entries", OrderManagerActor, "_order_alive")
def _lets_them_live(original, self, state):
    if not state.order.purpose.increases_risk:
        original(self, state)


# What guards the position


@defect("a stop is for what was ordered, not for what has filled", PositionGuard, "_wanted")
def stop_sized_by_order(original, self, position):
    entry = None if position is None else self._orders.get(position.position_id)
    if entry is not None and abs(position.qty) < entry.order.qty:
        position = replace(position, qty=entry.order.qty.copy_sign(position.qty))
    return original(self, position)


@defect("a position whose stop is refused for good is kept", PositionCloser, "_stop_impossible")
def no_emergency_exit(original, self, position):
    """It stays bare."""


# What is believed


@defect("an order counts as cancelled as soon as that is asked for", OrderEvidence, "_ask_cancel")
def cancel_believed_when_asked(original, self, client_order_id, symbol):
    original(self, client_order_id, symbol)
    state = self._orders.get(client_order_id)
    if state is not None:
        self.on_canceled(OrderCanceled(client_order_id=client_order_id, filled_qty=state.filled_qty, reason="asked"))


class _FlatWhenSilent:
    """An account that holds nothing whenever it can't be asked."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        try:
            return self._exchange.position(symbol, timeout_s=timeout_s)
        except Failure:
            return PositionReport(symbol=symbol, qty=ZERO, entry_price=None)


@defect("a question about the position that failed is read as flat", AccountReader, "on_query_account")
def failed_query_read_as_flat(original, self, command):
    exchange, self._exchange = self._exchange, _FlatWhenSilent(self._exchange)
    try:
        original(self, command)
    finally:
        self._exchange = exchange


@defect("a snapshot counts although an event fell into it", Reconciler, "judge")
def snapshot_believed_across_an_event(original, self, snapshot, book_qty, book_seq, **rest):
    level = max(book_seq, snapshot.seq_after)
    return original(self, replace(snapshot, seq_before=level, seq_after=level), book_qty, level, **rest)
