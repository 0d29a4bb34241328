"""What the history keeps of each order on the exchange, and of each disk."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tbh.domain.money import EXACT, ZERO
from tbh.messages.orders import Order, OrderStatus


@dataclass(slots=True)
class VenueOrder:
    """An order of ours that took effect; ``status`` is None while it stands on the book."""

    order: Order
    boot: str
    arrived_ns: int
    filled: Decimal = ZERO
    status: OrderStatus | None = None

    @property
    def remaining(self) -> Decimal:
        return ZERO if self.status is not None else max(EXACT.subtract(self.order.qty, self.filled), ZERO)


@dataclass(slots=True)
class StoreKeys:
    """The outbox of one store by sequence number: what was written, and what the database applied, in its order."""

    written: dict[int, str]
    applied: dict[int, str]
    last_applied: int = 0
