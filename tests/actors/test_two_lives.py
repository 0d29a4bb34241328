"""Two processes may decide one order, each by what it holds: the exchange has the one that it heard first."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.gateway import GatewayActor
from tbh.infra.memory_store import MemoryStore
from tbh.messages.orders import (
    CancelOrder,
    Fill,
    Order,
    OrderAccepted,
    OrderChanged,
    OrderFound,
    OrderStatus,
    OrderSubmitted,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Side,
)
from tbh.runtime.probe import Probe
from tests.actors.conftest import SPOT
from tests.actors.entry_at_gateway import ENTRY, FILL
from tests.actors.test_gateway import Scripted, report

Desk = Any  # of this folder's conftest
LESS, REST = Decimal("0.4"), Decimal("0.6")
EXIT = replace(ENTRY, client_order_id="exit", side=Side.SELL, purpose=Purpose.EXIT, reduce_only=True, expires_at=None)


def found(
    of: Order, qty: Decimal | None, status: OrderStatus = OrderStatus.ACCEPTED, *, price: Decimal | None = None
) -> OrderFound:
    return OrderFound(
        client_order_id=of.client_order_id,
        exchange_order_id="x",
        status=status,
        filled_qty=Decimal(0),
        avg_price=None,
        qty=qty,
        price=price,
    )


@pytest.fixture
def leave(desk: Desk) -> Order:
    """An exit of 1, the whole position, that the exchange has accepted."""
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order: Order = desk.order(Purpose.EXIT)
    desk.accept(order)
    desk.probe.take()
    return order


def test_an_exit_that_the_exchange_has_for_less_ends_with_that_and_goes_on_with_the_rest(
    desk: Desk, leave: Order
) -> None:
    desk.probe.tell(found(leave, LESS))
    desk.fill(leave, LESS)
    assert desk.state(leave.client_order_id).status is OrderStatus.FILLED
    again = desk.order(Purpose.EXIT)
    assert (again.attempt, again.qty) == (1, REST)


def test_an_exit_whose_fills_came_before_its_size_was_known_has_ended(desk: Desk, leave: Order) -> None:
    desk.fill(leave, LESS)
    assert desk.state(leave.client_order_id).status is OrderStatus.PARTIALLY_FILLED
    desk.probe.tell(found(leave, LESS))
    assert desk.state(leave.client_order_id).status is OrderStatus.FILLED
    assert desk.order(Purpose.EXIT).qty == REST


def test_an_exit_that_the_exchange_has_for_more_takes_all_its_fills(desk: Desk) -> None:
    desk.enter(Decimal(2))
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.accept(order)
    restarts = desk.probe.restarts
    desk.probe.tell(found(order, Decimal(3)))
    desk.fill(order, Decimal(3))
    assert desk.probe.restarts == restarts
    assert desk.state(order.client_order_id).filled_qty == 3


def test_that_an_order_has_another_size_is_told(desk: Desk, leave: Order) -> None:
    desk.probe.tell(found(leave, LESS))
    (told,) = desk.take(OrderChanged)
    assert (told.state.order.qty, told.state.status) == (LESS, OrderStatus.ACCEPTED)


@pytest.mark.parametrize("qty", [None, Decimal("1.00")])
def test_an_order_found_as_it_was_sent_stays_as_it_is(desk: Desk, leave: Order, qty: Decimal | None) -> None:
    before = desk.state(leave.client_order_id)
    desk.probe.tell(found(leave, qty))
    assert desk.state(leave.client_order_id) == before
    assert desk.take(OrderChanged) == []


def test_an_order_that_is_over_keeps_its_size(desk: Desk, leave: Order) -> None:
    desk.fill(leave)
    before = desk.state(leave.client_order_id)
    desk.probe.tell(found(leave, LESS, OrderStatus.FILLED))
    assert desk.state(leave.client_order_id) == before


def test_a_stop_that_the_exchange_has_for_less_than_the_position_is_made_anew(desk: Desk) -> None:
    desk.enter()
    stop = desk.order(Purpose.STOP)
    desk.probe.tell(found(stop, LESS))
    assert stop.client_order_id in [one.client_order_id for one in desk.take(CancelOrder)]


def test_a_stop_that_the_exchange_has_elsewhere_is_made_anew_where_it_belongs(desk: Desk) -> None:
    desk.enter()
    stop = desk.order(Purpose.STOP)
    assert stop.stop_price is not None
    desk.probe.tell(found(stop, stop.qty, price=stop.stop_price - 1))
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stop.client_order_id]
    _, again = desk.open(Purpose.STOP)
    assert (again.order.stop_price, again.order.qty) == (stop.stop_price, stop.qty)


def test_that_a_target_stands_elsewhere_is_told(desk: Desk) -> None:
    desk.enter()
    target = desk.order(Purpose.TARGET)
    desk.probe.take()
    desk.probe.tell(found(target, None, price=Decimal(123)))
    (told, *_) = desk.take(OrderChanged)
    assert (told.state.order.price, told.state.order.qty, told.event) == (123, target.qty, "corrected")


@pytest.mark.parametrize("price", [None, Decimal("90.00")])
def test_a_stop_found_where_it_was_sent_stays_as_it_is(desk: Desk, price: Decimal | None) -> None:
    desk.enter()
    stop = desk.order(Purpose.STOP)
    assert stop.stop_price == 90
    desk.probe.take()
    desk.probe.tell(found(stop, stop.qty, price=price))
    assert desk.take(CancelOrder) == []


def test_an_order_at_market_has_no_price_to_be_corrected(desk: Desk, leave: Order) -> None:
    before = desk.state(leave.client_order_id)
    desk.probe.tell(found(leave, leave.qty, price=Decimal(5)))
    assert desk.state(leave.client_order_id) == before


@pytest.mark.parametrize("told", ["traded", "found"])
def test_a_guard_of_what_another_process_has_entered_is_cancelled_at_the_exchange_though_it_was_not_sent_here(
    new_desk: Any, told: str
) -> None:
    """The other guards the position under the same ids: a stop withdrawn as a draft may stand there as the other's."""
    desk = new_desk(SPOT)
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    if told == "found":
        desk.probe.tell(found(entry, entry.qty))
    desk.fill(entry, LESS)
    stop = desk.order(Purpose.STOP)
    desk.probe.take()
    desk.fill(entry, REST)
    assert desk.state(stop.client_order_id).status is OrderStatus.UNKNOWN
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stop.client_order_id]
    assert desk.order(Purpose.STOP) == stop  # no other beside it, for the coins may be locked
    desk.deny(stop)
    assert desk.state(stop.client_order_id).status is OrderStatus.ABSENT
    assert desk.order(Purpose.STOP).qty == entry.qty


def test_a_guard_of_what_was_entered_here_is_withdrawn_before_it_is_sent(new_desk: Any) -> None:
    desk = new_desk(SPOT)
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.record(entry)
    desk.fill(entry, LESS)
    stop = desk.order(Purpose.STOP)
    desk.fill(entry, REST)
    assert desk.state(stop.client_order_id).status is OrderStatus.CANCELED
    assert desk.take(CancelOrder) == []
    assert desk.order(Purpose.STOP).qty == entry.qty


def test_a_position_is_not_taken_for_opened_here_when_its_entry_traded_before_it_was_sent(new_desk: Any) -> None:
    """Its stop waits like one of a former life's position, until that one has been denied."""
    desk = new_desk(SPOT, arrival_window_s=6.0)
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.fill(entry)
    stop = desk.order(Purpose.STOP)
    desk.probe.take()
    desk.record(stop)
    sent = desk.probe.take()
    assert [one for one in sent if isinstance(one, PlaceOrder)] == []
    assert stop.client_order_id in [one.client_order_id for one in sent if isinstance(one, QueryOrder)]


def placed(answered_qty: Decimal | None, *fills: Fill) -> list[Any]:
    """What a gateway says of an exit of ``EXIT.qty`` whose answer counts that much, and whose fills are there."""
    exchange = Scripted()
    exchange.answers["place"] = report("exit", qty=answered_qty)
    exchange.before = lambda method: exchange.log.extend(fills) if method == "place" else None
    probe = Probe(GatewayActor, lambda ctx: GatewayActor(ctx, exchange=exchange, store=MemoryStore()), name="gateway")
    probe.tell(PlaceOrder(order=EXIT))
    return [one for one in probe.take() if isinstance(one, (OrderSubmitted, OrderAccepted, OrderFound, Fill))]


def test_of_an_order_of_another_size_that_is_told_before_its_fills() -> None:
    sold = replace(FILL, client_order_id="exit", side=Side.SELL)
    submitted, accepted, other, fill = placed(EXIT.qty / 2, sold)
    assert (type(submitted), type(accepted), type(fill)) == (OrderSubmitted, OrderAccepted, Fill)
    assert (other.client_order_id, other.qty) == ("exit", EXIT.qty / 2)


@pytest.mark.parametrize("qty", [None, EXIT.qty])
def test_an_answer_about_the_order_as_it_was_sent_is_told_once(qty: Decimal | None) -> None:
    assert [type(one) for one in placed(qty)] == [OrderSubmitted, OrderAccepted]
