"""The blotter: every order that one bot has open, and the recent ones that are done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tbh.domain.order import is_terminal
from tbh.messages.orders import OrderState

DONE_KEPT_MAX: Final = 2_000


class Blotter:
    """Orders by client id, oldest first. Of those that are done the newest ``DONE_KEPT_MAX`` are kept, so that a late
    fill finds its order. Owned by one actor."""

    def __init__(self, states: Iterable[OrderState] = ()) -> None:
        self._states: dict[str, OrderState] = {}
        self._attempts: dict[str, list[str]] = {}
        self._open: dict[str, None] = {}
        self._done: dict[str, None] = {}
        for state in states:
            self.put(state)

    def put(self, state: OrderState) -> None:
        """Add an order or its newer state."""
        client_order_id = state.order.client_order_id
        if client_order_id not in self._states:
            self._attempts.setdefault(state.order.intent_id, []).append(client_order_id)
        self._states[client_order_id] = state
        if not is_terminal(state.status):
            self._open[client_order_id] = None
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
        return [self._states[one] for one in self._attempts.get(intent_id, ())]

    @property
    def open(self) -> list[OrderState]:
        """The orders that may still fill, oldest first."""
        return [self._states[one] for one in self._open]

    def recent(self, count: int) -> list[OrderState]:
        """The newest ``count`` orders that are done, oldest first."""
        return [self._states[one] for one in list(self._done)[-count:]]

    def _forget(self, client_order_id: str) -> None:
        self._done.pop(client_order_id)
        state = self._states.pop(client_order_id)
        attempts = self._attempts[state.order.intent_id]
        attempts.remove(client_order_id)
        if not attempts:
            del self._attempts[state.order.intent_id]
