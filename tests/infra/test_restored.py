"""What the database remembers, and what a store takes of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.adjustments import stored_adjustments
from tbh.actors.journaler import ACCOUNT_SEQ, RESTORED_POSITION
from tbh.actors.order_recovery import RESTORED
from tbh.infra.memory_store import MemoryStore
from tbh.infra.restored import NOTHING, remembered_by
from tbh.plan import restore
from tbh.ports import Batch, Fatal

AT = "2026-01-01T00:00:00.000000Z"
ORDER = {
    "client_order_id": "o1", "intent_id": "entry|0|d", "symbol": "S", "side": "buy", "order_type": "market", "qty": "1",
    "order_price": None, "stop_price": None, "reduce_only": False, "event": "entry", "strategy": "s", "bar_open": AT,
    "layer": 0, "attempt": 0, "created_at": AT, "protection": {"stop_loss": "0.1"}, "order_status": "accepted",
    "version": 3, "filled_qty": "0", "avg_fill_price": None, "exchange_order_id": "x1", "changed_at": AT,
    "reason": None,
}  # fmt: skip
MANUAL = ORDER | {"client_order_id": "manual-1", "intent_id": None}
ADJUSTMENT = {
    "adjustment_id": "adopt:2", "symbol": "S", "qty": "-0.1", "price": "90", "seq": 7, "at": AT, "reason": "withdrawn",
}  # fmt: skip
POSITION = {
    "symbol": "S", "strategy": "s", "position_id": "o0", "qty": "0.5", "entry_price": "100", "opened_at": AT,
    "bar_open": AT, "layers": 1, "revision": 2, "best_price": None, "seq": 9, "updated_at": AT,
}  # fmt: skip


class Memory:
    """A database with one row of each kind, or with ``changes`` in its rows."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def get_open_trades(self, *, symbol: str | None = None) -> list[dict[str, Any]]:
        assert symbol == "S"
        return [ORDER | self.changes, MANUAL]

    def get_adjustments(self, *, symbol: str | None = None) -> list[dict[str, Any]]:
        assert symbol == "S"
        return [ADJUSTMENT]

    def get_position(self, *, status: str = "open", symbol: str | None = None) -> dict[str, Any]:
        assert (status, symbol) == ("open", "S")
        return POSITION


def test_an_empty_store_takes_orders_corrections_and_the_open_position() -> None:
    store = MemoryStore()
    restore(store, remembered_by(Memory(), "S"))
    assert [state.order.client_order_id for state in store.orders()] == ["o1"]
    assert store.meta(RESTORED) is not None
    assert [(one.adjustment_id, one.qty) for one in stored_adjustments(store)] == [("adopt:2", Decimal("-0.1"))]
    assert (store.positions()["S"].position_id, store.meta(RESTORED_POSITION)) == ("o0", "o0")


def test_a_store_that_has_a_memory_takes_no_position_and_no_correction_twice() -> None:
    store = MemoryStore()
    store.commit(Batch(meta={ACCOUNT_SEQ: "5"}))
    for _ in range(2):
        restore(store, remembered_by(Memory(), "S"))
    assert len(stored_adjustments(store)) == 1
    assert store.positions() == {}


def test_nothing_remembered_leaves_no_mark() -> None:
    store = MemoryStore()
    restore(store, NOTHING)
    assert (store.meta(RESTORED), store.orders()) == (None, [])


def test_a_row_that_cannot_be_read_ends_the_start() -> None:
    """A position may hang on it."""
    with pytest.raises(Fatal, match="bot_runtime_get_open_trades") as caught:
        remembered_by(Memory(side="up"), "S")
    assert caught.value.exit_code == 70
