"""Orders as the database remembers them, for a store that does not: an empty disk, or one that was left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from tbh.domain.money import dec
from tbh.infra.codec import CodecError, from_json
from tbh.messages.orders import Order, OrderState, OrderStatus, OrderType, Protection, Purpose, Side
from tbh.ports import Fatal


def order_states(rows: Sequence[Mapping[str, Any]]) -> list[OrderState]:
    """The rows of ``bot_runtime_get_open_trades`` as the store keeps orders; those of other origin (no client id, no
    intent: a document-3 caller's, a manual trade) are left out, since no decision of this bot stands behind them.

    ``Fatal`` (70) for a row that can't be read: a position may hang on it.
    """
    try:
        return [_state(row) for row in rows if row.get("client_order_id") and row.get("intent_id")]
    except (KeyError, TypeError, ValueError, CodecError) as error:
        detail = f"bot_runtime_get_open_trades: {type(error).__name__}: {error}"
        raise Fatal("orders_unreadable", exit_code=70, detail=detail) from error


def _state(row: Mapping[str, Any]) -> OrderState:
    order = Order(
        client_order_id=row["client_order_id"],
        intent_id=row["intent_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        type=OrderType(row["order_type"]),
        qty=dec(row["qty"]),
        price=_money(row["order_price"]),
        stop_price=_money(row["stop_price"]),
        reduce_only=bool(row["reduce_only"]),
        purpose=Purpose(row["event"]),
        strategy=row["strategy"] or "",
        bar_open=datetime.fromisoformat(row["bar_open"]),
        layer=row["layer"] or 0,
        attempt=row["attempt"] or 0,
        created_at=datetime.fromisoformat(row["created_at"]),
        protection=None if row["protection"] is None else from_json(Protection, row["protection"]),
    )
    return OrderState(
        order=order,
        status=OrderStatus(row["order_status"]),
        version=row["version"] or 0,
        filled_qty=dec(row["filled_qty"]),
        avg_price=_money(row["avg_fill_price"]),
        exchange_order_id=row["exchange_order_id"],
        seen_at=datetime.fromisoformat(row["changed_at"]),
        reason=row["reason"] or "",
    )


def _money(text: str | None) -> Decimal | None:
    return None if text is None else dec(text)
