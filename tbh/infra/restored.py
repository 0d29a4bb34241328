"""What the database remembers, for a store that does not: an empty disk, or one that was left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

from tbh.domain.money import dec
from tbh.infra.codec import CodecError, from_json
from tbh.messages.account import Adjustment, Position
from tbh.messages.orders import Order, OrderState, OrderStatus, OrderType, Protection, Purpose, Side
from tbh.ports import Fatal

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The orders that matter still, every correction of the book, and the position that was open when it was last told
    of, at ``position_seq`` of the account."""

    orders: Sequence[OrderState] = ()
    adjustments: Sequence[Adjustment] = ()
    position: Position | None = None
    position_seq: int = 0


NOTHING: Final = Remembered()


class Memory(Protocol):
    """The database's side: what ``SupabaseRpc`` gives."""

    def get_open_trades(self, *, symbol: str | None = None) -> Sequence[Mapping[str, Any]]: ...

    def get_adjustments(self, *, symbol: str | None = None) -> Sequence[Mapping[str, Any]]: ...

    def get_position(self, *, status: str = "open", symbol: str | None = None) -> Mapping[str, Any] | None: ...


def remembered_by(rpc: Memory, symbol: str) -> Remembered:
    """Ask for everything. Raises the failures of ``tbh.ports``; ``Fatal`` (70) for a row that can't be read."""
    row = rpc.get_position(symbol=symbol)
    return Remembered(
        orders=order_states(rpc.get_open_trades(symbol=symbol)),
        adjustments=_read("bot_runtime_get_adjustments", rpc.get_adjustments(symbol=symbol), _adjustment),
        position=None if row is None else _read("bot_runtime_get_position", [row], _position)[0],
        position_seq=0 if row is None else row.get("seq") or 0,
    )


def order_states(rows: Sequence[Mapping[str, Any]]) -> list[OrderState]:
    """The rows of ``bot_runtime_get_open_trades`` as the store keeps orders; those of other origin (no client id, no
    intent: a document-3 caller's, a manual trade) are left out, since no decision of this bot stands behind them.

    ``Fatal`` (70) for a row that can't be read: a position may hang on it.
    """
    decided = [row for row in rows if row.get("client_order_id") and row.get("intent_id")]
    return _read("bot_runtime_get_open_trades", decided, _state)


def _read(fn: str, rows: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], _Row]) -> list[_Row]:
    try:
        return [read(row) for row in rows]
    except (KeyError, TypeError, ValueError, CodecError) as error:
        raise Fatal("rows_unreadable", exit_code=70, detail=f"{fn}: {type(error).__name__}: {error}") from error


def _adjustment(row: Mapping[str, Any]) -> Adjustment:
    return Adjustment(
        adjustment_id=row["adjustment_id"],
        symbol=row["symbol"],
        qty=dec(row["qty"]),
        price=dec(row["price"]),
        seq=row["seq"],
        at=datetime.fromisoformat(row["at"]),
        reason=row["reason"] or "",
    )


def _position(row: Mapping[str, Any]) -> Position:
    opened_at = datetime.fromisoformat(row["opened_at"] or row["updated_at"])
    return Position(
        symbol=row["symbol"],
        strategy=row["strategy"] or "",
        position_id=row["position_id"],
        qty=dec(row["qty"]),
        entry_price=dec(row["entry_price"] or "0"),
        opened_at=opened_at,
        bar_open=datetime.fromisoformat(row["bar_open"]) if row["bar_open"] else opened_at,
        layers=row["layers"] or 1,
        revision=row["revision"] or 0,
        best_price=_money(row["best_price"]),
    )


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
