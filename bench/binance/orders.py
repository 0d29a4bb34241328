"""What the book holds: orders, trades, arrivals; and their rows in the ledger, money as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bench.binance.account import ZERO
from bench.binance.rules import OrderRequest

LIVE = ("NEW", "PARTIALLY_FILLED")


@dataclass(slots=True, kw_only=True)
class Trade:
    trade_id: int
    order_id: int
    client_order_id: str
    side: str
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    at_ms: int
    hidden_until_ms: int = 0


@dataclass(slots=True, kw_only=True)
class BookOrder:
    """``locked`` is what of the account's coins it holds back; ``paid`` the quote of its trades."""

    order_id: int
    request: OrderRequest
    qty: Decimal
    foreign: bool
    at_ms: int
    updated_ms: int
    status: str = "NEW"
    working: bool = True
    executed: Decimal = ZERO
    paid: Decimal = ZERO
    locked: Decimal = ZERO
    ended_ms: int | None = None
    hidden_until_ms: int = 0
    trades: list[Trade] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.status in LIVE

    @property
    def left(self) -> Decimal:
        return self.qty - self.executed


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An order that reached the exchange, and what it was told: ``accepted`` or the refusal's code and words."""

    client_order_id: str
    at_ms: int
    outcome: str
    foreign: bool


def row_of(value: Trade | Arrival) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in value.__slots__}


def order_row(order: BookOrder) -> dict[str, Any]:
    request = order.request
    own = {name: _plain(getattr(order, name)) for name in order.__slots__ if name not in ("request", "trades")}
    return own | {name: _plain(getattr(request, name)) for name in request.__slots__ if name != "qty"}


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value
