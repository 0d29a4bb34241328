"""Entries that rest at a price: sent like any order, off the book when their time is over, kept where they filled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.order_resting import BAR_LATE_S
from tbh.messages.account import AccountResynced, Adjusted, Adjustment
from tbh.messages.orders import (
    CancelOrder,
    Declined,
    Order,
    OrderDrafted,
    OrderStatus,
    OrderType,
    OutcomeUnknown,
    PlaceOrder,
    Purpose,
    Side,
    WithdrawEntries,
)
from tbh.runtime.probe import EPOCH
from tests.actors.answers import to
from tests.actors.conftest import MARKET

Desk = Any  # of this folder's conftest
MINUTE = timedelta(minutes=1)
HALF = Decimal("0.5")
WINDOW_S = 90.0
PRICE = Decimal("99.5")


def rest(desk: Desk, *, bars: int = 2, purpose: Purpose = Purpose.ENTRY, bar: int = 0, side: Side = Side.BUY) -> Order:
    """An entry decided on bar ``bar`` that the exchange has on its book."""
    desk.approve(purpose, side, bar=bar, price=PRICE, good_until=EPOCH + (bar + 1 + bars) * MINUTE)
    order: Order = desk.order(purpose)
    desk.accept(order)
    desk.probe.take()
    return order


def canceled(desk: Desk) -> list[str]:
    return [command.client_order_id for command in desk.take(CancelOrder)]


def test_it_is_drafted_recorded_and_sent_as_a_limit_order_that_may_be_late_by_one_bar_at_most(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY, price=PRICE, good_until=EPOCH + 5 * MINUTE)
    (drafted,) = desk.take(OrderDrafted)
    assert desk.take(PlaceOrder) == []
    desk.record(drafted.order)
    (placed,) = desk.take(PlaceOrder)
    assert (placed.order.type, placed.order.price, placed.order.reduce_only) == (OrderType.LIMIT, PRICE, False)
    assert (placed.order.expires_at, placed.order.good_until) == (EPOCH + 2 * MINUTE, EPOCH + 5 * MINUTE)


def test_it_goes_at_the_close_of_its_last_bar_and_not_before(desk: Desk) -> None:
    order = rest(desk)
    desk.bar(101, 100, index=1)
    assert canceled(desk) == []
    desk.bar(101, 100, index=2)
    assert canceled(desk) == [order.client_order_id]


def test_it_goes_when_no_bar_comes(desk: Desk) -> None:
    order = rest(desk)
    desk.probe.advance(120 + BAR_LATE_S + 1)
    assert canceled(desk)[0] == order.client_order_id


def test_one_that_ends_sooner_than_the_one_before_it_goes_in_time_when_no_bar_comes(desk: Desk) -> None:
    desk.cancel(rest(desk, bars=9))
    desk.probe.set_now(EPOCH + 2 * MINUTE)
    order = rest(desk, bars=1, bar=1)
    desk.probe.advance(60 + BAR_LATE_S + 1)
    assert canceled(desk)[0] == order.client_order_id


def test_what_filled_of_it_is_kept_and_guarded(desk: Desk) -> None:
    order = rest(desk)
    desk.fill(order, HALF)
    assert desk.order(Purpose.STOP).qty == HALF
    desk.bar(101, 100)
    desk.cancel(order, HALF)
    assert desk.state(order.client_order_id).status is OrderStatus.CANCELED
    assert desk.probe.actor._book.qty == HALF
    assert desk.order(Purpose.STOP).qty == HALF


def test_a_restart_does_not_forget_its_end(desk: Desk) -> None:
    order = rest(desk)
    desk.keep(desk.open())
    desk.restart()
    desk.resynced()
    desk.found(order, OrderStatus.ACCEPTED)
    desk.probe.take()
    desk.bar(101, 100)
    assert canceled(desk) == [order.client_order_id]


def test_one_that_the_database_gave_back_without_its_end_goes_with_the_next_bar(new_desk: Any, desk: Desk) -> None:
    order = rest(desk, bars=9)
    other = new_desk(ready=False)
    (state,) = desk.open()
    other.keep([replace(state, order=replace(order, expires_at=None, good_until=None))])
    other.restart()
    other.resynced()
    other.found(order, OrderStatus.ACCEPTED)
    other.probe.take()
    other.bar(101, 100, index=1)
    assert canceled(other) == [order.client_order_id]


def test_one_that_was_sent_too_late_is_none(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY, price=PRICE, good_until=EPOCH + 5 * MINUTE)
    order = desk.order(Purpose.ENTRY)
    desk.probe.set_now(EPOCH + 3 * MINUTE)
    desk.record(order)
    assert desk.take(PlaceOrder) == []
    assert desk.state(order.client_order_id).status is OrderStatus.EXPIRED


def test_it_goes_when_entries_are_closed_and_an_entry_at_market_does_not(desk: Desk) -> None:
    order = rest(desk)
    desk.probe.tell(WithdrawEntries(reason="paused"))
    assert canceled(desk) == [order.client_order_id]


def test_an_entry_at_market_is_not_withdrawn(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    desk.accept(desk.order(Purpose.ENTRY))
    desk.probe.take()
    desk.probe.tell(WithdrawEntries(reason="paused"))
    desk.bar(101, 100)
    assert canceled(desk) == []


def test_a_pyramid_goes_with_the_position_that_it_was_to_enlarge(desk: Desk) -> None:
    desk.enter()
    pyramid = rest(desk, purpose=Purpose.PYRAMID, bar=1)
    desk.fill(desk.order(Purpose.STOP))
    assert pyramid.client_order_id in canceled(desk)


def test_a_pyramid_goes_when_an_operator_has_the_book_close_its_position(desk: Desk) -> None:
    desk.enter()
    pyramid = rest(desk, purpose=Purpose.PYRAMID, bar=1)
    closed = Adjustment(
        adjustment_id="a", symbol=pyramid.symbol, qty=-pyramid.qty, price=PRICE, seq=desk.seq, at=EPOCH, reason="sold"
    )
    desk.probe.tell(Adjusted(adjustment=closed))
    assert pyramid.client_order_id in canceled(desk)


def test_an_entry_that_reverses_stays_when_the_position_closes(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = desk.order(Purpose.EXIT)
    desk.accept(leave)
    reversal = rest(desk, bar=1, side=Side.SELL)
    desk.fill(leave)
    assert reversal.client_order_id not in canceled(desk)


def test_its_first_crumbs_do_not_take_it_off(new_desk: Any, desk: Desk) -> None:
    """Below the market's least amount there is no position yet that could have closed."""
    small = new_desk(replace(desk.market, amount_min=Decimal("0.1")))
    order = rest(small)
    for _ in range(3):
        small.fill(order, Decimal("0.04"))
    assert canceled(small) == []
    assert small.probe.actor._book.qty == Decimal("0.12")


@pytest.mark.parametrize("bars", [1, 3])
def test_timers_do_not_pile_up_over_many_of_them(desk: Desk, bars: int) -> None:
    for number in range(30):
        order = rest(desk, bars=bars, bar=2 * number)
        desk.cancel(order)
        desk.probe.set_now(EPOCH + (2 * number + 2) * MINUTE)
    assert len(desk.probe.cell.context._timers) < 5


# What follows one that has ended


def followed(desk: Desk) -> tuple[Order, Order]:
    """An entry taken off at a close, and the one decided on that close, on disk and not sent."""
    first = rest(desk, bars=1, bar=0)
    desk.probe.set_now(EPOCH + 2 * MINUTE)
    desk.bar(101, 100, index=1)
    desk.cancel(first)
    desk.approve(Purpose.ENTRY, Side.BUY, bar=1, price=PRICE, good_until=EPOCH + 3 * MINUTE)
    second: Order = desk.order(Purpose.ENTRY)
    desk.record(second)
    return first, second


def test_the_next_is_sent_once_the_account_has_been_read_again(desk: Desk) -> None:
    _, second = followed(desk)
    assert desk.take(PlaceOrder) == []
    desk.probe.tell(to(desk.probe, AccountResynced(requester="order_manager:ended", seq=0)))
    assert [placed.order for placed in desk.take(PlaceOrder)] == [second]


def waited(desk: Desk, second: Order) -> None:
    """The second is sent after a look at the account that began after the arrival window, and no sooner."""
    desk.probe.tell(to(desk.probe, AccountResynced(requester="order_manager:ended", seq=0)))
    assert desk.take(PlaceOrder) == []
    desk.probe.advance(WINDOW_S, market=False)
    assert desk.take(PlaceOrder) == []
    desk.probe.tell(to(desk.probe, AccountResynced(requester="order_manager:ended", seq=0)))
    assert [placed.order for placed in desk.take(PlaceOrder)] == [second]


def test_the_next_waits_for_the_arrival_window_where_an_exchange_tells_of_fills_after_it_has_cancelled(
    new_desk: Any,
) -> None:
    desk = new_desk(replace(MARKET, cancels_are_final=False), arrival_window_s=WINDOW_S)
    waited(desk, followed(desk)[1])


def test_the_next_waits_for_it_as_well_where_the_exchange_contradicts_itself(new_desk: Any) -> None:
    desk = new_desk(arrival_window_s=WINDOW_S)
    first, second = followed(desk)
    desk.found(first, OrderStatus.ACCEPTED)
    waited(desk, second)


def test_a_restart_does_not_cut_that_wait_short(new_desk: Any) -> None:
    desk = new_desk(replace(MARKET, cancels_are_final=False), arrival_window_s=WINDOW_S)
    first = rest(desk, bars=1, bar=0)
    desk.probe.set_now(EPOCH + 2 * MINUTE)
    desk.bar(101, 100, index=1)
    desk.cancel(first)
    desk.keep([desk.state(first.client_order_id)])
    desk.restart()
    desk.resynced()
    desk.approve(Purpose.ENTRY, Side.BUY, bar=1, price=PRICE, good_until=EPOCH + 3 * MINUTE)
    second: Order = desk.order(Purpose.ENTRY)
    desk.record(second)
    waited(desk, second)


@pytest.mark.parametrize("sent", [True, False])
def test_the_next_waits_as_well_where_the_answer_to_the_last_was_lost(desk: Desk, sent: bool) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY, price=PRICE, good_until=EPOCH + 2 * MINUTE)
    first = desk.order(Purpose.ENTRY)
    if sent:
        desk.record(first)
        desk.probe.tell(OutcomeUnknown(client_order_id=first.client_order_id, reason="timeout"))
    desk.probe.set_now(EPOCH + 2 * MINUTE)
    desk.bar(101, 100, index=1)
    if sent:
        desk.cancel(first)
    state = desk.state(first.client_order_id)
    assert (state.status, state.exchange_order_id) == (OrderStatus.CANCELED, None)
    desk.probe.take()
    desk.approve(Purpose.ENTRY, Side.BUY, bar=1, price=PRICE, good_until=EPOCH + 3 * MINUTE)
    second = desk.order(Purpose.ENTRY)
    desk.record(second)
    assert [placed.order for placed in desk.take(PlaceOrder)] == ([] if sent else [second])


def test_the_next_is_withdrawn_when_the_last_has_filled_after_all(desk: Desk) -> None:
    first, second = followed(desk)
    desk.fill(first)
    assert desk.state(second.client_order_id).status is OrderStatus.CANCELED
    desk.probe.tell(to(desk.probe, AccountResynced(requester="order_manager:ended", seq=1)))
    assert [placed.order.purpose for placed in desk.take(PlaceOrder)] == []
    assert desk.probe.actor._book.qty == first.qty


def test_one_decided_before_the_last_was_known_to_have_filled_is_declined(desk: Desk) -> None:
    first = rest(desk, bars=1, bar=0)
    desk.probe.set_now(EPOCH + 2 * MINUTE)
    desk.bar(101, 100, index=1)
    desk.cancel(first)
    desk.fill(first)
    desk.probe.take()
    desk.approve(Purpose.ENTRY, Side.BUY, bar=1, price=PRICE, good_until=EPOCH + 3 * MINUTE)
    assert [one.reason for one in desk.take(Declined)] == ["position_open"]


def test_one_that_is_called_filled_and_is_short_of_it_is_cancelled_to_be_sure(desk: Desk) -> None:
    order = rest(desk)
    desk.fill(order, HALF)
    desk.probe.take()
    desk.found(order, OrderStatus.FILLED, HALF)
    assert desk.state(order.client_order_id).status is OrderStatus.FILLED
    assert canceled(desk) == [order.client_order_id]
    desk.cancel(order, HALF)
    desk.probe.advance(10, market=False)
    assert canceled(desk) == []


def test_one_that_was_called_filled_and_stands_on_is_taken_off_after_a_restart(desk: Desk) -> None:
    order = rest(desk)
    desk.fill(order, HALF)
    desk.found(order, OrderStatus.FILLED, HALF)
    desk.keep([desk.state(order.client_order_id)])
    desk.restart()
    desk.resynced()
    desk.probe.take()
    desk.found(order, OrderStatus.PARTIALLY_FILLED, HALF)
    assert canceled(desk) == [order.client_order_id]
    desk.cancel(order, HALF)
    desk.probe.advance(10, market=False)
    assert canceled(desk) == []


def test_one_that_has_filled_is_not_cancelled_by_word_from_before(desk: Desk) -> None:
    order = rest(desk)
    desk.fill(order)
    desk.probe.take()
    desk.found(order, OrderStatus.PARTIALLY_FILLED, HALF)
    assert canceled(desk) == []


def test_an_exit_does_not_wait_for_what_a_resting_entry_may_have_filled(desk: Desk) -> None:
    order = rest(desk)
    desk.fill(order, HALF)
    desk.bar(101, 100)
    desk.cancel(order, HALF)
    desk.probe.take()
    desk.approve(Purpose.EXIT, Side.SELL, bar=2)
    leave = desk.order(Purpose.EXIT)
    desk.record(leave)
    assert leave in [placed.order for placed in desk.take(PlaceOrder)]
