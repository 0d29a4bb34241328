"""Orders that did not go, or may have gone before: what is tried again, when, and under which id."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.order_protection import REFUSALS_AGE_S, REFUSALS_MAX
from tbh.actors.order_retries import ATTEMPTS_MAX, SLOW_RETRY_S
from tbh.domain import ids
from tbh.messages.account import AccountResynced
from tbh.messages.controls import RequestDone, ResolveOrder
from tbh.messages.health import Notice
from tbh.messages.orders import (
    NOT_SENT,
    Flatten,
    Order,
    OrderRejected,
    OrderStatus,
    OrderSubmitted,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Side,
)
from tests.actors.conftest import MARKET, SPOT

Desk = Any  # of this folder's conftest
ONE = Decimal(1)
WINDOW_S = 6.0
LOOKED = AccountResynced(requester="order_manager:look", seq=0)
FLATTEN = Flatten(request_id="flatten:1", reason="asked")


def not_sent(desk: Desk, order: Order) -> None:
    desk.record(order)
    desk.probe.tell(OrderRejected(client_order_id=order.client_order_id, reason=f"{NOT_SENT}the holding is not known"))


def bare(desk: Desk) -> Order:
    """A position whose stop is drafted."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry)
    stop: Order = desk.order(Purpose.STOP)
    return stop


def look_again(desk: Desk) -> None:
    """Nothing of a former process can arrive any more, and the open orders are read after that."""
    desk.probe.advance(WINDOW_S, market=False)
    desk.probe.tell(LOOKED)


def keys(desk: Desk) -> list[str]:
    return [notice.key.split(":")[0] for notice in desk.take(Notice)]


# Not sent


def test_stops_that_were_not_sent_never_sell_the_position(spot: Desk) -> None:
    bare(spot)
    for _ in range(4 * REFUSALS_MAX):
        not_sent(spot, spot.order(Purpose.STOP))
        assert spot.open() == []
        spot.probe.advance(0.9, market=False)
        assert spot.open() == []
        spot.probe.advance(9.2, market=False)
    assert spot.open(Purpose.EMERGENCY) == []
    stop = spot.order(Purpose.STOP)
    spot.accept(stop)
    assert spot.state(stop.client_order_id).status is OrderStatus.ACCEPTED
    assert keys(spot) == ["target"]


def test_an_exit_that_was_not_sent_goes_soon_and_calls_nobody(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    for tried in range(2 * ATTEMPTS_MAX):
        not_sent(desk, desk.order(Purpose.EXIT))
        assert desk.open(Purpose.EXIT) == []
        desk.probe.advance(tried + 1.1, market=False)
    assert desk.order(Purpose.EXIT).attempt == 2 * ATTEMPTS_MAX
    assert keys(desk) == []


# Never the end of it


def test_a_request_whose_ids_are_used_up_goes_on_under_new_ones(desk: Desk) -> None:
    desk.enter()
    desk.probe.tell(FLATTEN)
    seen: set[str] = set()
    for _ in range(ids.ATTEMPT_MAX + 3):
        order = desk.order(Purpose.FLATTEN)
        assert order.client_order_id not in seen
        seen.add(order.client_order_id)
        desk.record(order)
        desk.reject(order)
        desk.probe.advance(SLOW_RETRY_S + 1, market=False)
    order = desk.order(Purpose.FLATTEN)
    assert order.intent_id == ids.intent_id(Purpose.FLATTEN, FLATTEN.request_id, 1)
    desk.accept(order)
    desk.fill(order)
    assert desk.probe.actor._position is None


def test_an_exit_whose_ids_are_used_up_goes_on_as_an_emergency(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    for _ in range(ids.ATTEMPT_MAX + 1):
        order = desk.order(Purpose.EXIT)
        desk.record(order)
        desk.reject(order)
        desk.probe.advance(SLOW_RETRY_S + 1, market=False)
    assert desk.order(Purpose.EMERGENCY).qty == ONE


def test_a_refused_stop_is_tried_again_after_a_while(desk: Desk) -> None:
    bare(desk)
    for _ in range(REFUSALS_MAX):
        stop = desk.order(Purpose.STOP)
        desk.record(stop)
        desk.reject(stop)
    emergency = desk.order(Purpose.EMERGENCY)
    assert desk.open(Purpose.STOP) == []
    desk.probe.advance(REFUSALS_AGE_S + 1, market=False)
    desk.record(emergency)
    desk.reject(emergency)
    desk.accept(desk.order(Purpose.STOP))


# No more than one order may have


def test_a_position_beyond_the_largest_order_is_closed_in_parts(new_desk: Any) -> None:
    desk = new_desk(replace(MARKET, amount_max=ONE))
    desk.enter(Decimal("2.5"))
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    parts = []
    while desk.probe.actor._position is not None:
        order = desk.order(Purpose.EXIT)
        parts.append(order.qty)
        desk.accept(order)
        desk.fill(order)
    assert parts == [ONE, ONE, Decimal("0.5")]
    assert len({one.order.client_order_id for one in desk.probe.actor._orders.attempts(order.intent_id)}) == 3
    assert "attempts" not in keys(desk)


def test_a_stop_for_a_part_stands_and_people_know_what_is_bare(new_desk: Any) -> None:
    desk = new_desk(replace(SPOT, amount_max=ONE))
    desk.approve(Purpose.ENTRY, Side.BUY, Decimal("2.5"))
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry)
    assert desk.order(Purpose.STOP).qty == ONE
    (told,) = [one for one in desk.take(Notice) if one.key.startswith("cut:")]
    assert "1.5 of the position is not guarded" in told.text


# What a former process may have sent


@pytest.fixture
def lived(new_desk: Any) -> Desk:
    """A process that has just started with a position that its predecessor had opened."""
    former = new_desk(SPOT)
    former.approve(Purpose.ENTRY, Side.BUY)
    entry = former.order(Purpose.ENTRY)
    former.accept(entry)
    fill = former.fill(entry)
    former.keep([former.state(entry.client_order_id)], [fill], account_seq=fill.seq)
    desk = new_desk(SPOT, store=former.store, arrival_window_s=WINDOW_S)
    desk.seq = former.seq
    return desk


def test_a_young_process_guards_what_it_has_bought_itself_at_once(new_desk: Any) -> None:
    desk = new_desk(SPOT, arrival_window_s=WINDOW_S)
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry)
    stop = desk.order(Purpose.STOP)
    desk.record(stop)
    assert desk.take(PlaceOrder)[-1] == PlaceOrder(order=stop)


def test_a_young_process_asks_after_an_exit_before_it_sends_it(lived: Desk) -> None:
    stop = lived.order(Purpose.STOP)
    lived.record(stop)
    sent = lived.probe.take()
    assert [one.client_order_id for one in sent if isinstance(one, QueryOrder)] == [stop.client_order_id]
    assert PlaceOrder(order=stop) not in sent
    lived.deny(stop, conclusive=False)
    assert lived.take(PlaceOrder) == []
    look_again(lived)
    assert lived.take(PlaceOrder) == []
    lived.deny(stop)
    assert lived.take(PlaceOrder) == [PlaceOrder(order=stop)]


def test_an_exit_that_a_former_process_has_sent_is_not_sent_again(lived: Desk) -> None:
    stop = lived.order(Purpose.STOP)
    lived.record(stop)
    lived.deny(stop)
    look_again(lived)
    lived.probe.tell(OrderSubmitted(client_order_id=stop.client_order_id))
    assert [one.order.purpose for one in lived.take(PlaceOrder)] == [Purpose.STOP]


def test_an_exit_that_is_found_while_it_waits_is_not_sent(lived: Desk) -> None:
    lived.probe.tell(FLATTEN)
    flatten = lived.order(Purpose.FLATTEN)
    lived.record(flatten)
    lived.found(flatten, OrderStatus.FILLED, ONE)
    lived.fill(flatten)
    look_again(lived)
    assert lived.take(PlaceOrder) == []
    assert lived.probe.actor._position is None


def test_an_exit_waits_for_the_answer_however_long_it_takes(lived: Desk) -> None:
    stop = lived.order(Purpose.STOP)
    lived.record(stop)
    lived.probe.advance(60, market=False)
    lived.deny(stop)
    assert lived.take(PlaceOrder) == []
    lived.probe.tell(LOOKED)
    assert lived.take(PlaceOrder) == [PlaceOrder(order=stop)]


@pytest.mark.parametrize("market", [SPOT, MARKET])
def test_an_exit_is_not_delayed_once_nothing_of_a_former_process_can_arrive(new_desk: Any, market: Any) -> None:
    desk = new_desk(market, arrival_window_s=WINDOW_S)
    look_again(desk)
    stop = bare(desk)
    desk.record(stop)
    assert PlaceOrder(order=stop) in desk.take(PlaceOrder)


# By hand


def _resolve(desk: Desk, order: Order, outcome: OrderStatus, number: int = 1) -> str:
    desk.probe.tell(
        ResolveOrder(
            request_id=f"resolve:{number}", client_order_id=order.client_order_id, outcome=outcome, reason="seen"
        )
    )
    outcome_told: str = desk.take(RequestDone)[-1].outcome
    return outcome_told


@pytest.mark.parametrize("outcome", [OrderStatus.ABSENT, OrderStatus.REJECTED])
def test_an_order_that_may_still_arrive_is_not_resolved_away(desk: Desk, outcome: OrderStatus) -> None:
    order = desk.entry_in_doubt()
    desk.deny(order, conclusive=False)
    assert _resolve(desk, order, outcome).startswith("not resolved: it may still arrive")
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    desk.probe.actor._given_up.add(order.client_order_id)
    assert _resolve(desk, order, outcome, number=2) == f"{order.client_order_id} is {outcome}: seen"
    desk.probe.advance(SLOW_RETRY_S, market=False)
    assert desk.open() == []


def test_an_exit_ended_by_hand_is_not_sent_anew_and_a_flatten_is(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = desk.order(Purpose.EXIT)
    desk.record(leave)
    desk.probe.tell(OrderSubmitted(client_order_id=leave.client_order_id))
    desk.probe.advance(16, market=False)
    desk.probe.actor._given_up.add(leave.client_order_id)
    assert _resolve(desk, leave, OrderStatus.ABSENT).endswith("is absent: seen")
    desk.probe.advance(SLOW_RETRY_S, market=False)
    assert desk.open(Purpose.EXIT) == []
    desk.probe.tell(FLATTEN)
    assert desk.order(Purpose.FLATTEN).qty == ONE
