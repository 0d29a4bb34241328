"""The blotter: every order that one bot has open, the recent ones that are done, and the fills known of each.

Order rows and fills come to the disk by different ways, so either may be ahead of the other when they are read back.
What an order has filled is the sum of its fills, whichever of them its row has counted (``caught_up``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Final

from tbh.domain import order as rules
from tbh.domain.money import EXACT, ZERO, divide
from tbh.messages.base import replace
from tbh.messages.orders import Fill, OrderState

DONE_KEPT_MAX: Final = 2_000


class Blotter:
    """Orders by client id, oldest first. Of those that are done the newest ``DONE_KEPT_MAX`` are kept, so that a late
    fill finds its order. Owned by one actor."""

    def __init__(self, states: Iterable[OrderState] = ()) -> None:
        self._states: dict[str, OrderState] = {}
        self._attempts: dict[str, list[str]] = {}
        self._open: dict[str, OrderState] = {}
        self._done: dict[str, None] = {}
        self._fills: dict[str, dict[str, Fill]] = {}
        for state in states:
            self.put(state)

    def put(self, state: OrderState) -> None:
        """Add an order or its newer state."""
        client_order_id = state.order.client_order_id
        if client_order_id not in self._states:
            self._attempts.setdefault(state.order.intent_id, []).append(client_order_id)
        self._states[client_order_id] = state
        if state.status not in rules.TERMINAL:
            self._open[client_order_id] = state
            self._done.pop(client_order_id, None)
            return
        self._open.pop(client_order_id, None)
        self._done.setdefault(client_order_id)
        if len(self._done) > DONE_KEPT_MAX:
            self._forget(next(iter(self._done)))

    def get(self, client_order_id: str) -> OrderState | None:
        return self._states.get(client_order_id)

    def attempts(self, intent_id: str) -> list[OrderState]:
        """The orders that served one intent, first attempt first."""
        states = [self._states[one] for one in self._attempts.get(intent_id, ())]
        return sorted(states, key=lambda state: state.order.attempt) if len(states) > 1 else states

    @property
    def open(self) -> list[OrderState]:
        """The orders that may still fill, oldest first."""
        return list(self._open.values())

    def recent(self, count: int) -> list[OrderState]:
        """The newest ``count`` orders that are done, oldest first."""
        return [self._states[one] for one in list(self._done)[-count:]]

    # Fills

    def note_fill(self, fill: Fill) -> None:
        """Keep a fill of an order of ours; it may come before the order is known, and more than once."""
        self._fills.setdefault(fill.client_order_id, {}).setdefault(fill.trade_id, fill)
        if len(self._fills) > 2 * DONE_KEPT_MAX:
            self._fills = {one: fills for one, fills in self._fills.items() if one in self._states}

    def fills_of(self, client_order_id: str) -> list[Fill]:
        """The fills that were kept of an order, in the order in which they came."""
        return list(self._fills.get(client_order_id, {}).values())

    def caught_up(self, client_order_id: str, now: datetime, *, step: Decimal) -> OrderState | None:
        """The order with every fill counted that is known of it, or None when its state counts as much already.

        ``step`` is the market's amount step. Raises ``BrokenInvariant`` for fills beyond what was ordered and a step.
        """
        if client_order_id not in self._fills:
            return None
        state = self._states[client_order_id]
        fills = list(self._fills[client_order_id].values())
        with localcontext(EXACT):
            filled_qty = sum((fill.qty for fill in fills), ZERO)
            if filled_qty <= state.filled_qty:
                return None
            *earlier, last = fills
            counted = sum((fill.qty for fill in earlier), ZERO)
            paid = sum((fill.qty * fill.price for fill in earlier), ZERO)
        avg_price = divide(paid, counted) if counted else None
        return rules.on_fill(replace(state, filled_qty=counted, avg_price=avg_price), last, now, step=step)

    def forget(self, client_order_id: str) -> OrderState | None:
        """Take an order out, for another to stand under its id; its fills are kept. None when there is none."""
        state = self._states.get(client_order_id)
        if state is None:
            return None
        self._open.pop(client_order_id, None)
        self._done.pop(client_order_id, None)
        self._take_out(state)
        return state

    def _forget(self, client_order_id: str) -> None:
        self._done.pop(client_order_id)
        self._fills.pop(client_order_id, None)
        self._take_out(self._states[client_order_id])

    def _take_out(self, state: OrderState) -> None:
        client_order_id = state.order.client_order_id
        del self._states[client_order_id]
        attempts = self._attempts[state.order.intent_id]
        attempts.remove(client_order_id)
        if not attempts:
            del self._attempts[state.order.intent_id]
