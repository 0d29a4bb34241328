"""Exits, reversals, flatten and halt: each goes on until the position is what it was to become."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.order_retries import ATTEMPTS_MAX
from tbh.messages.health import Notice
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Declined,
    Flatten,
    Flattened,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderDrafted,
    OrderExpired,
    OrderRejected,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    Purpose,
    Side,
)
from tbh.messages.system import Halt

Desk = Any  # of this folder's conftest
SYMBOL = "BTC/USDT"
BOT = "bot"
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)
HALF = Decimal("0.5")


# Exits


def test_an_exit_with_nothing_to_exit_is_declined(desk: Desk) -> None:
    approved = desk.approve(Purpose.EXIT, Side.SELL)
    assert desk.probe.take() == [Declined(proposal_id=approved.proposal_id, reason="nothing_to_exit")]


def test_a_refused_exit_is_tried_again_and_a_replay_waits_for_it(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    for attempt in range(ATTEMPTS_MAX):
        order = desk.order(Purpose.EXIT)
        assert order.attempt == attempt
        desk.record(order)
        desk.probe.tell(OrderRejected(client_order_id=order.client_order_id, reason="no"))
        waits = attempt + 1 < ATTEMPTS_MAX
        assert desk.probe.asking == ([f"retry:{order.client_order_id}"] if waits else [])
        desk.probe.advance(attempt + 1.1, market=False)
    assert desk.open(Purpose.EXIT) == []
    desk.probe.advance(60, market=False)
    assert desk.order(Purpose.EXIT).attempt == ATTEMPTS_MAX
    assert desk.take(Notice) != []


@pytest.mark.parametrize("end", [OrderCanceled, OrderExpired])
def test_an_exit_taken_off_the_book_goes_on_with_what_is_left(desk: Desk, end: type[Any]) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.accept(order)
    desk.fill(order, Decimal("0.4"))
    desk.probe.tell(end(client_order_id=order.client_order_id, filled_qty=Decimal("0.4"), reason="venue"))
    desk.probe.advance(1.1, market=False)
    assert desk.order(Purpose.EXIT).qty == Decimal("0.6")


def test_an_exit_that_the_exchange_calls_filled_short_of_what_it_was_for_goes_on_with_what_is_left(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.accept(order)
    desk.fill(order, Decimal("0.4"))
    desk.found(order, OrderStatus.FILLED, Decimal("0.4"))
    assert desk.state(order.client_order_id).status is OrderStatus.FILLED
    desk.probe.advance(1.1, market=False)
    again = desk.order(Purpose.EXIT)
    assert (again.qty, again.attempt) == (Decimal("0.6"), 1)


def test_an_exit_that_ended_with_its_position_is_not_tried_again(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.record(order)
    desk.fill(desk.order(Purpose.STOP), price=Decimal(90))
    desk.probe.tell(OrderRejected(client_order_id=order.client_order_id, reason="reduce_only_nothing_to_reduce"))
    assert f"retry:{order.client_order_id}" not in desk.probe.asking


def test_an_exit_does_not_close_a_position_that_was_opened_after_it(desk: Desk) -> None:
    desk.enter(bar=1)
    approved = desk.approve(Purpose.EXIT, Side.SELL, bar=0)
    assert desk.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="nothing_to_exit")]


# Reversal


def reverse(desk: Desk) -> tuple[Order, Order]:
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    desk.approve(Purpose.ENTRY, Side.SELL, bar=1)
    return desk.order(Purpose.EXIT), desk.order(Purpose.ENTRY)


def test_the_entry_of_a_reversal_waits_until_the_exchange_has_the_exit(desk: Desk) -> None:
    """Sent first it would do the exit's work, and the account would end flat instead of reversed."""
    desk.enter()
    leave, enter = reverse(desk)
    desk.record(enter)
    assert desk.take(PlaceOrder) == []
    assert f"outcome:{enter.client_order_id}" in desk.probe.asking
    desk.record(leave)
    assert desk.take(PlaceOrder) == [PlaceOrder(order=leave)]
    desk.probe.tell(OrderSubmitted(client_order_id=leave.client_order_id))
    assert desk.take(PlaceOrder) == []
    desk.probe.tell(OrderAccepted(client_order_id=leave.client_order_id, exchange_order_id="x"))
    assert desk.take(PlaceOrder) == [PlaceOrder(order=enter)]


def test_the_entry_of_a_reversal_goes_when_the_position_is_gone(desk: Desk) -> None:
    desk.enter()
    leave, enter = reverse(desk)
    desk.record(leave, enter)
    desk.probe.take()
    desk.fill(desk.order(Purpose.STOP), price=Decimal(90))
    assert desk.take(PlaceOrder) == [PlaceOrder(order=enter)]


def test_the_entry_of_a_reversal_waits_through_a_retry_of_its_exit(desk: Desk) -> None:
    desk.enter()
    leave, enter = reverse(desk)
    desk.record(leave, enter)
    desk.probe.tell(OrderRejected(client_order_id=leave.client_order_id, reason="no"))
    desk.probe.advance(1.1, market=False)
    desk.probe.take()
    desk.accept(desk.order(Purpose.EXIT))
    assert PlaceOrder(order=enter) in desk.probe.take()


def test_the_entry_of_a_reversal_without_an_exit_is_withdrawn(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.ENTRY, Side.SELL, bar=1)
    enter = desk.order(Purpose.ENTRY)
    desk.record(enter)
    desk.probe.advance(11, market=False)
    assert desk.state(enter.client_order_id).status is OrderStatus.CANCELED
    assert desk.probe.asking == []
    assert PlaceOrder(order=enter) not in desk.probe.take()


def test_fills_that_go_through_zero_leave_guards_of_the_new_side_only(desk: Desk) -> None:
    desk.enter()
    old = desk.order(Purpose.STOP)
    leave, enter = reverse(desk)
    desk.accept(leave)
    desk.accept(enter)
    desk.fill(leave)
    desk.fill(enter)
    assert old.client_order_id in [one.client_order_id for one in desk.take(CancelOrder)]
    (stop,) = [state.order for state in desk.open(Purpose.STOP) if state.order.side is Side.BUY]
    assert (stop.qty, stop.stop_price) == (ONE, Decimal("110.00"))


# Flatten and halt


def test_flatten_closes_everything_and_says_so_once_nothing_is_left(desk: Desk) -> None:
    desk.enter()
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    order = desk.order(Purpose.FLATTEN)
    desk.accept(order)
    desk.fill(order)
    assert desk.take(Flattened) == []
    for state in desk.open(Purpose.STOP, Purpose.TARGET):
        desk.probe.tell(
            OrderCanceled(client_order_id=state.order.client_order_id, filled_qty=Decimal(0), reason="requested")
        )
    assert desk.take(Flattened) == [Flattened(request_id="flatten:1")]
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    assert desk.probe.take() == [Flattened(request_id="flatten:1")]


def test_flatten_withdraws_drafts_and_no_entry_is_begun_meanwhile(desk: Desk) -> None:
    desk.enter()
    _, enter = reverse(desk)
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    assert desk.state(enter.client_order_id).status is OrderStatus.CANCELED
    approved = desk.approve(Purpose.ENTRY, Side.BUY, bar=2)
    assert desk.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="flattening")]


def test_flatten_is_not_done_while_an_order_is_unknown(desk: Desk) -> None:
    """What may still fill may bring a position back."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    assert desk.take(CancelOrder) != []
    desk.probe.tell(CancelRefused(client_order_id=order.client_order_id, reason="order_unknown"))
    assert desk.take(Flattened) == []
    desk.deny(order)
    assert desk.open() == []
    assert desk.take(Flattened) == [Flattened(request_id="flatten:1")]


def test_an_entry_found_alive_during_a_flatten_is_cancelled(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    desk.probe.tell(CancelRefused(client_order_id=order.client_order_id, reason="order_unknown"))
    desk.found(order, OrderStatus.ACCEPTED)
    desk.probe.take()
    desk.probe.advance(2.1, market=False)
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [order.client_order_id]


def test_a_flatten_after_a_restart_goes_on_with_the_other_side(desk: Desk) -> None:
    """Its first order was meant for a long position; a late fill has made it short."""
    desk.enter()
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    first = desk.order(Purpose.FLATTEN)
    desk.record(first)
    desk.probe.tell(OrderRejected(client_order_id=first.client_order_id, reason="no"))
    desk.fill(replace(first, client_order_id="by-hand"), Decimal(3))
    second = desk.order(Purpose.FLATTEN)
    assert (second.side, second.qty, second.attempt) == (Side.BUY, Decimal(2), 1)


def test_a_halt_withdraws_drafts_cancels_entries_and_keeps_protection(desk: Desk) -> None:
    desk.enter()
    _, enter = reverse(desk)
    desk.probe.tell(Halt(reason="test"))
    assert desk.state(enter.client_order_id).status is OrderStatus.CANCELED
    approved = desk.approve(Purpose.ENTRY, Side.BUY, bar=2)
    assert desk.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="halted")]
    assert len(desk.open(Purpose.STOP)) == 1


def test_a_halt_outlives_a_restart(desk: Desk) -> None:
    desk.probe.tell(Halt(reason="test"))
    desk.restart()
    desk.resynced()
    approved = desk.approve(Purpose.ENTRY, Side.BUY)
    assert desk.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="halted")]


def test_a_process_that_halts_goes_on_with_a_flatten_and_never_calls_it_done(desk: Desk) -> None:
    """It may have lost the bot while it stood still, and what it hears now is what the account held before."""
    desk.enter()
    desk.probe.tell(Flatten(request_id="flatten:1", reason=""))
    desk.probe.tell(Halt(reason="another process has the bot"))
    order = desk.order(Purpose.FLATTEN)
    desk.accept(order)
    desk.fill(order)
    for state in desk.open(Purpose.STOP, Purpose.TARGET):
        desk.cancel(state.order)
    assert (desk.open(), desk.take(Flattened)) == ([], [])


# An exchange that does not enforce reduce-only


def test_on_spot_only_the_stop_stands(spot: Desk) -> None:
    spot.enter()
    assert [state.order.purpose for state in spot.open()] == [Purpose.STOP]


def test_on_spot_an_exit_waits_until_the_stop_has_freed_its_coins(spot: Desk) -> None:
    spot.enter()
    stop = spot.order(Purpose.STOP)
    spot.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert [one.client_order_id for one in spot.take(CancelOrder)] == [stop.client_order_id]
    assert spot.open(Purpose.EXIT) == []
    spot.probe.tell(OrderCanceled(client_order_id=stop.client_order_id, filled_qty=Decimal(0), reason="requested"))
    assert spot.order(Purpose.EXIT).qty == ONE
    assert [one.order.purpose for one in spot.take(OrderDrafted)] == [Purpose.EXIT]


def test_on_spot_a_stop_that_fills_meanwhile_leaves_nothing_to_exit(spot: Desk) -> None:
    spot.enter()
    stop = spot.order(Purpose.STOP)
    approved = spot.approve(Purpose.EXIT, Side.SELL, bar=1)
    spot.fill(stop, price=Decimal(90))
    assert spot.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="nothing_to_exit")]
    assert spot.open() == []


def test_on_spot_the_old_stop_goes_before_the_new_one(spot: Desk) -> None:
    spot.approve(Purpose.ENTRY, Side.BUY)
    order = spot.order(Purpose.ENTRY)
    spot.accept(order)
    spot.fill(order, HALF)
    first = spot.order(Purpose.STOP)
    spot.accept(first)
    spot.fill(order, HALF)
    assert [state.order for state in spot.open(Purpose.STOP)] == [first]
    spot.probe.tell(OrderCanceled(client_order_id=first.client_order_id, filled_qty=Decimal(0), reason="requested"))
    assert spot.order(Purpose.STOP).qty == ONE


def test_on_spot_the_stop_comes_back_when_the_exit_has_failed_for_good(spot: Desk) -> None:
    spot.enter()
    stop = spot.order(Purpose.STOP)
    spot.approve(Purpose.EXIT, Side.SELL, bar=1)
    spot.probe.tell(OrderCanceled(client_order_id=stop.client_order_id, filled_qty=Decimal(0), reason="requested"))
    for attempt in range(ATTEMPTS_MAX):
        order = spot.order(Purpose.EXIT)
        spot.record(order)
        spot.probe.tell(OrderRejected(client_order_id=order.client_order_id, reason="no"))
        spot.probe.advance(attempt + 1.1, market=False)
    assert spot.order(Purpose.STOP).qty == ONE


def test_on_spot_flatten_frees_the_coins_first(spot: Desk) -> None:
    spot.enter()
    stop = spot.order(Purpose.STOP)
    spot.probe.tell(Flatten(request_id="flatten:1", reason=""))
    assert [one.client_order_id for one in spot.take(CancelOrder)] == [stop.client_order_id]
    spot.probe.tell(OrderCanceled(client_order_id=stop.client_order_id, filled_qty=Decimal(0), reason="requested"))
    assert spot.order(Purpose.FLATTEN).qty == ONE


def test_refused_cancels_of_an_order_in_doubt_do_not_end_the_questions(desk: Desk) -> None:
    """It may still be on its way; only the exchange's denial, once nothing can arrive any more, is an answer."""
    order = desk.entry_in_doubt()
    desk.probe.tell(Flatten(request_id="f", reason=""))
    for _ in range(20):
        desk.probe.tell(CancelRefused(client_order_id=order.client_order_id, reason="order_unknown"))
        desk.deny(order, conclusive=False)
        desk.probe.advance(2, market=False)
    cid = order.client_order_id
    assert desk.probe.asking == [f"cancel:{cid}", f"query:{cid}"]


def test_a_cancel_that_is_refused_for_good_is_not_asked_for_ever(desk: Desk) -> None:
    """The exchange says that the order is open, and will not cancel it."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.probe.tell(Flatten(request_id="f", reason=""))
    for _ in range(20):
        desk.probe.tell(CancelRefused(client_order_id=order.client_order_id, reason="no"))
        desk.found(order, OrderStatus.ACCEPTED)
        desk.probe.advance(2, market=False)
    assert desk.probe.asking == []
    assert desk.take(Notice) != []
    assert desk.take(Flattened) == []


def test_on_spot_a_stop_that_was_never_sent_makes_room_at_once(spot: Desk) -> None:
    spot.approve(Purpose.ENTRY, Side.BUY)
    order = spot.order(Purpose.ENTRY)
    spot.accept(order)
    spot.fill(order)
    stop = spot.order(Purpose.STOP)
    spot.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert spot.probe.restarts == 0
    assert spot.state(stop.client_order_id).status is OrderStatus.CANCELED
    assert [state.order.purpose for state in spot.open()] == [Purpose.EXIT]


def test_on_spot_flatten_with_a_stop_that_was_never_sent_goes_at_once(spot: Desk) -> None:
    spot.approve(Purpose.ENTRY, Side.BUY)
    order = spot.order(Purpose.ENTRY)
    spot.accept(order)
    spot.fill(order)
    spot.probe.tell(Flatten(request_id="f", reason=""))
    assert spot.probe.restarts == 0
    assert [state.order.purpose for state in spot.open()] == [Purpose.FLATTEN]
