"""The blotter: orders and their fills, in whatever order they become known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest

from tbh.domain.blotter import DONE_KEPT_MAX, Blotter
from tbh.domain.order import BrokenInvariant, draft
from tbh.messages.orders import Fill, Order, OrderState, OrderStatus, OrderType, Purpose, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEP = Decimal("0.01")
ORDER = Order(
    client_order_id="a",
    intent_id="i",
    symbol="BTC/USDT",
    side=Side.BUY,
    type=OrderType.MARKET,
    qty=Decimal(3),
    purpose=Purpose.ENTRY,
    strategy="s",
    bar_open=NOW,
    created_at=NOW,
)


def fill(number: int, qty: int = 1, price: int = 100, client_order_id: str = "a") -> Fill:
    return Fill(
        trade_id=f"t{number}",
        client_order_id=client_order_id,
        exchange_order_id="x",
        symbol="BTC/USDT",
        side=Side.BUY,
        qty=Decimal(qty),
        price=Decimal(price),
        fee=Decimal(0),
        fee_asset="USDT",
        maker=False,
        at=NOW,
        seq=number,
    )


def state(status: OrderStatus = OrderStatus.ACCEPTED, order: Order = ORDER, filled: int = 0) -> OrderState:
    avg_price = Decimal(100) if filled else None
    return replace(
        draft(order, NOW), status=status, version=5, filled_qty=Decimal(filled), avg_price=avg_price,
        exchange_order_id="x",
    )  # fmt: skip


def test_open_orders_come_oldest_first_and_leave_when_done() -> None:
    blotter = Blotter([state(), state(order=replace(ORDER, client_order_id="b"))])
    assert [one.order.client_order_id for one in blotter.open] == ["a", "b"]
    blotter.put(state(OrderStatus.CANCELED))
    assert [one.order.client_order_id for one in blotter.open] == ["b"]
    assert [one.order.client_order_id for one in blotter.recent(10)] == ["a"]


def test_a_done_order_that_turns_out_alive_is_open_again() -> None:
    blotter = Blotter([state(OrderStatus.ABSENT)])
    blotter.put(state(OrderStatus.PARTIALLY_FILLED, filled=1))
    assert len(blotter.open) == 1
    assert blotter.recent(10) == []


def test_attempts_come_in_their_order_whatever_the_disk_says() -> None:
    second = replace(ORDER, client_order_id="b", attempt=1)
    blotter = Blotter([state(order=second), state(OrderStatus.ABSENT)])
    assert [one.order.attempt for one in blotter.attempts("i")] == [0, 1]
    assert blotter.attempts("unknown") == []


def test_the_oldest_of_what_is_done_is_forgotten_with_its_fills() -> None:
    blotter = Blotter()
    for number in range(DONE_KEPT_MAX + 1):
        order = replace(ORDER, client_order_id=str(number), intent_id=str(number))
        blotter.note_fill(fill(number, client_order_id=str(number)))
        blotter.put(state(OrderStatus.CANCELED, order))
    assert blotter.get("0") is None
    assert blotter.attempts("0") == []
    assert blotter.get("1") is not None
    assert len(blotter._fills) == DONE_KEPT_MAX


def test_fills_of_orders_that_never_become_known_are_bounded() -> None:
    blotter = Blotter([state()])
    blotter.note_fill(fill(1))
    for number in range(2 * DONE_KEPT_MAX):
        blotter.note_fill(fill(number, client_order_id=f"stray{number}"))
    assert len(blotter._fills) < 2 * DONE_KEPT_MAX
    assert blotter.caught_up("a", NOW, step=STEP) is not None


@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
def test_every_order_of_the_fills_fills_it(order: tuple[int, ...]) -> None:
    blotter = Blotter([state()])
    for number in order:
        blotter.note_fill(fill(number, price=100 + number))
        counted = blotter.caught_up("a", NOW, step=STEP)
        assert counted is not None
        blotter.put(counted)
    filled = blotter.get("a")
    assert filled is not None
    assert (filled.status, filled.filled_qty, filled.avg_price) == (OrderStatus.FILLED, Decimal(3), Decimal(102))
    assert filled.version == 8


def test_a_fill_that_comes_twice_counts_once() -> None:
    blotter = Blotter([state()])
    blotter.note_fill(fill(1))
    blotter.put(blotter.caught_up("a", NOW, step=STEP) or state())
    blotter.note_fill(fill(1))
    assert blotter.caught_up("a", NOW, step=STEP) is None


def test_fills_that_the_row_has_counted_already_change_nothing() -> None:
    blotter = Blotter([state(OrderStatus.PARTIALLY_FILLED, filled=2)])
    blotter.note_fill(fill(1))
    assert blotter.caught_up("a", NOW, step=STEP) is None
    blotter.note_fill(fill(2))
    assert blotter.caught_up("a", NOW, step=STEP) is None
    blotter.note_fill(fill(3, price=106))
    counted = blotter.caught_up("a", NOW, step=STEP)
    assert counted is not None
    assert (counted.status, counted.filled_qty, counted.avg_price) == (OrderStatus.FILLED, Decimal(3), Decimal(102))


def test_fills_that_came_before_their_order_are_counted_when_it_is_known() -> None:
    blotter = Blotter()
    blotter.note_fill(fill(1, qty=3))
    blotter.put(draft(ORDER, NOW))
    counted = blotter.caught_up("a", NOW, step=STEP)
    assert counted is not None
    assert counted.status is OrderStatus.FILLED


def test_more_than_was_ordered_cannot_be() -> None:
    blotter = Blotter([state()])
    blotter.note_fill(fill(1, qty=4))
    with pytest.raises(BrokenInvariant):
        blotter.caught_up("a", NOW, step=STEP)
