"""What the rows of a paper account's file hold, to and from text; money is text, times are ISO 8601 in UTC."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tbh.domain.money import dec, plain
from tbh.domain.venue import Standing
from tbh.messages.market import Market, Phase
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderExpired, OrderStatus, OrderType, Side
from tbh.ports import AccountEvent, OrderReport

_Kind = type[Fill] | type[OrderCanceled] | type[OrderExpired]
_KINDS: dict[str, _Kind] = {"fill": Fill, "canceled": OrderCanceled, "expired": OrderExpired}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}
_MONEY = ("qty", "price", "fee", "filled_qty")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last phase of the market that the account has been through; ``bar_open`` tells whether it is the same one."""

    index: int
    phase: Phase
    bar_open: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order that was accepted at some time. ``request`` is its payload as ``request_text`` writes it."""

    request: str
    accepted_at: datetime
    standing: Standing


def request_text(order: Order) -> str:
    """The part of an order that reaches the exchange, one text per request: equal texts are the same order."""
    what = (order.symbol, order.side, order.type)
    return _request_text(*what, order.qty, order.price, order.stop_price, order.reduce_only, order.post_only)


@lru_cache(maxsize=64)
def _request_text(  # noqa: PLR0917 - one field after the other
    symbol: str,
    side: Side,
    type_: OrderType,
    qty: Decimal,
    price: Decimal | None,
    stop_price: Decimal | None,
    reduce_only: bool,
    post_only: bool,
) -> str:
    money = {"qty": qty, "price": price, "stop_price": stop_price}
    request = {name: None if value is None else plain(value) for name, value in money.items()}
    flags = {"reduce_only": reduce_only, "post_only": post_only}
    return json.dumps({"symbol": symbol, "side": side, "type": type_, **request, **flags})


def order_row(row: tuple[Any, ...]) -> OrderRow:
    """The order of a row, columns as in the table. Raises ``ValueError`` or ``TypeError``, as all decoders here."""
    client_order_id, exchange_order_id, request, accepted_at, status, filled_qty, avg_price, reason = row
    return OrderRow(
        request=request,
        accepted_at=datetime.fromisoformat(accepted_at),
        standing=Standing(
            client_order_id=client_order_id,
            exchange_order_id=exchange_order_id,
            status=OrderStatus(status),
            filled_qty=dec(filled_qty),
            avg_price=None if avg_price is None else dec(avg_price),
            reason=reason,
        ),
    )


def standing_row(standing: Standing) -> tuple[str, str, str | None, str | None, str]:
    """Status, filled quantity, average price, reason, client id: what changes of an order, and whose it is."""
    avg_price = None if standing.avg_price is None else str(standing.avg_price)
    return standing.status, str(standing.filled_qty), avg_price, standing.reason, standing.client_order_id


def cursor_text(cursor: Cursor | None) -> str:
    return json.dumps(None if cursor is None else [cursor.index, cursor.phase, cursor.bar_open.isoformat()])


def decoded_cursor(text: str) -> Cursor | None:
    place = json.loads(text)
    return None if place is None else Cursor(place[0], Phase(place[1]), datetime.fromisoformat(place[2]))


def event_row(event: AccountEvent) -> tuple[int, str, str]:
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return event.seq, _KIND_OF[type(event)], json.dumps(values, default=_plain_json)


def _plain_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def decoded_event(kind: str, text: str) -> AccountEvent:
    values = json.loads(text)
    for name in _MONEY:
        if name in values:
            values[name] = dec(values[name])
    if "side" in values:
        values["side"] = Side(values["side"])
        values["at"] = datetime.fromisoformat(values["at"])
    return _KINDS[kind](**values)


def report_of(standing: Standing) -> OrderReport:
    """An order as the exchange answers of it."""
    return OrderReport(
        client_order_id=standing.client_order_id,
        exchange_order_id=standing.exchange_order_id,
        status=standing.status,
        filled_qty=standing.filled_qty,
        avg_price=standing.avg_price,
    )


def settings_of(market: Market, *, cash: Decimal, volume_share: Decimal | None, fee_in: str) -> dict[str, Any]:
    """What the account is made with, as JSON types: each name maps to one text, so that a difference can be told."""
    rules = {field.name: getattr(market, field.name) for field in fields(market)}
    values = {**rules, "cash": cash, "volume_share": volume_share, "fee_in": fee_in}
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
