"""Finished orders as trade events: each is told once, when its fees and its profit have had time to arrive.

The order's end, its fills and the round trip that it closed are told by three actors, in any order.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

from tbh.domain.order import is_terminal
from tbh.messages.account import TradeClosed
from tbh.messages.orders import Fill, OrderState

SETTLE_S = 1.0
"""How long a finished order waits for its fees and its profit."""
KEPT_MAX = 1_000
PNLS_MAX = 100


class _Finished:
    __slots__ = ("due_s", "pnl", "state")

    def __init__(self, state: OrderState, due_s: float, pnl: Decimal | None) -> None:
        self.state = state
        self.due_s = due_s
        self.pnl = pnl


class TradeEvents:
    """Takes facts in, gives the attributes of ``BotTrade`` out. Everything in it is bounded by ``KEPT_MAX``."""

    def __init__(self) -> None:
        self._fees: dict[str, Decimal] = {}
        self._finished: deque[_Finished] = deque()
        self._seen: dict[str, None] = {}
        self._pnls: deque[Decimal] = deque(maxlen=PNLS_MAX)

    def fill(self, fill: Fill) -> None:
        self._fees[fill.client_order_id] = self._fees.get(fill.client_order_id, Decimal(0)) + fill.fee
        if len(self._fees) > KEPT_MAX:
            del self._fees[next(iter(self._fees))]

    def order(self, state: OrderState, now_s: float) -> None:
        """Take in an order; one that is done, has traded and is new waits from here on."""
        client_order_id = state.order.client_order_id
        if not is_terminal(state.status) or not state.filled_qty or client_order_id in self._seen:
            return
        self._seen[client_order_id] = None
        if len(self._seen) > KEPT_MAX:
            del self._seen[next(iter(self._seen))]
        closes = not state.order.purpose.increases_risk
        pnl = self._pnls.popleft() if closes and self._pnls else None
        self._finished.append(_Finished(state, now_s + SETTLE_S, pnl))

    def closed(self, closed: TradeClosed) -> None:
        """The oldest exit without a profit gets this one; or the next exit does."""
        for finished in self._finished:
            if finished.pnl is None and not finished.state.order.purpose.increases_risk:
                finished.pnl = closed.trade.pnl
                return
        self._pnls.append(closed.trade.pnl)

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until the next event is due; None when none waits."""
        return max(self._finished[0].due_s - now_s, 0.0) if self._finished else None

    def settled(self, now_s: float) -> list[dict[str, Any]]:
        """The attributes of every event that is due at ``now_s``, and of those that there is no room for."""
        events = []
        while self._finished and (self._finished[0].due_s <= now_s or len(self._finished) > KEPT_MAX):
            events.append(self._attributes(self._finished.popleft()))
        return events

    def _attributes(self, finished: _Finished) -> dict[str, Any]:
        state, order = finished.state, finished.state.order
        return {
            "event": order.purpose.value,
            "client_order_id": order.client_order_id,
            "exchange_order_id": state.exchange_order_id,
            "side": order.side.value,
            "qty": state.filled_qty,
            "price": state.avg_price,
            "fee": self._fees.pop(order.client_order_id, None),
            "pnl": 0.0 if finished.pnl is None and order.purpose.increases_risk else finished.pnl,
        }
