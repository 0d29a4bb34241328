"""What a former life has done that nobody here remembers: it is found out, and nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.domain import ids
from tbh.messages.account import AccountResynced, ResyncAccount, StrayEnded
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Declined,
    Flatten,
    Flattened,
    Order,
    OrderCanceled,
    OrderDrafted,
    OrderStatus,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Side,
)
from tbh.runtime.probe import EPOCH
from tests.actors.answers import to
from tests.actors.conftest import GUARDED, MINUTE, ONE, SPOT

BOT = "bot"
WINDOW_S = 6.0
READ_ONCE_MORE = AccountResynced(requester="order_manager:flat", seq=0)
ENTRY_ID = ids.client_order_id(BOT, bar_open=EPOCH, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0)


def test_a_stray_that_ended_before_the_account_was_read_has_its_end_journaled_after_that(new_desk: Any) -> None:
    desk = new_desk(ready=False)
    stray = ids.protection_order_id(BOT, ENTRY_ID, Purpose.STOP, 9)
    desk.probe.tell(OrderCanceled(client_order_id=stray, filled_qty=Decimal(0), reason="requested"))
    desk.probe.tell(OrderCanceled(client_order_id="web_1", filled_qty=Decimal(0), reason="requested"))
    assert desk.take(StrayEnded) == []
    desk.resynced()
    assert [(one.client_order_id, one.status) for one in desk.take(StrayEnded)] == [(stray, OrderStatus.CANCELED)]


def test_a_flatten_that_a_former_life_has_sent_is_not_sent_again_while_it_lives(new_desk: Any, an_entry: Order) -> None:
    desk = new_desk(ready=False)
    desk.fill(an_entry)
    former = replace(
        an_entry,
        client_order_id=ids.flatten_order_id(BOT, "flatten:2", 0, purpose=Purpose.FLATTEN),
        side=an_entry.side.opposite,
    )
    desk.fill(former, Decimal("0.4"))
    desk.probe.tell(Flatten(request_id="flatten:2", reason=""))
    desk.found(former, OrderStatus.PARTIALLY_FILLED, Decimal("0.4"))
    desk.resynced()
    assert desk.take(OrderDrafted) == []
    desk.found(former, OrderStatus.CANCELED, Decimal("0.4"))
    (drafted,) = desk.take(OrderDrafted)
    assert (drafted.order.purpose, drafted.order.qty) == (Purpose.FLATTEN, Decimal("0.6"))
    assert drafted.order.client_order_id != former.client_order_id


def test_a_fill_against_an_order_decided_anew_says_what_the_former_life_had_sent(desk: Any) -> None:
    """The process before this one held another position, and sent another order under the id of this decision."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    drafted = desk.order(Purpose.ENTRY)
    desk.fill(replace(drafted, side=drafted.side.opposite))
    assert desk.probe.restarts == 0
    state = desk.state(drafted.client_order_id)
    assert (state.status, state.filled_qty, state.order.side) == (OrderStatus.FILLED, drafted.qty, Side.SELL)
    assert desk.probe.actor._book.qty == -drafted.qty


# What it has sent, and may still be on its way


@pytest.fixture
def heir(new_desk: Any, an_entry: Order) -> Any:
    """A process that begins on an empty disk, with a position that its predecessor had opened."""
    desk = new_desk(ready=False, arrival_window_s=WINDOW_S, default_protection=GUARDED, strategy="s")
    desk.probe.actor._unproven_until = EPOCH + 5 * MINUTE
    desk.fill(an_entry)
    desk.resynced()
    desk.found(an_entry, OrderStatus.FILLED, an_entry.qty)
    desk.accept(desk.order(Purpose.STOP), desk.order(Purpose.TARGET))
    desk.probe.take()
    return desk


def look_again(desk: Any) -> None:
    desk.probe.advance(WINDOW_S, market=False)
    desk.probe.tell(to(desk.probe, AccountResynced(requester="order_manager:look", seq=0)))


def begin_flatten(desk: Any) -> Order:
    desk.probe.tell(Flatten(request_id="flatten:2", reason=""))
    order: Order = desk.order(Purpose.FLATTEN)
    desk.record(order)
    return order


def attempt_of(order: Order, attempt: int) -> Order:
    return replace(order, client_order_id=ids.flatten_order_id(BOT, "flatten:2", attempt))


def test_without_a_memory_a_flatten_waits_until_the_open_orders_are_read_after_the_arrival_window(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.deny(order)
    heir.resynced()
    heir.probe.advance(WINDOW_S, market=False)
    sent = heir.probe.take()
    assert not [one for one in sent if isinstance(one, PlaceOrder)]
    assert [one.symbol for one in sent if isinstance(one, ResyncAccount)] == [order.symbol]
    heir.probe.tell(to(heir.probe, AccountResynced(requester="order_manager:look", seq=0)))
    assert heir.take(PlaceOrder) == [PlaceOrder(order=order)]


def test_a_later_attempt_of_a_former_life_keeps_the_earlier_one_from_being_sent(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.deny(order)
    former = attempt_of(order, 1)
    heir.found(former, OrderStatus.ACCEPTED)
    look_again(heir)
    heir.probe.advance(30, market=False)
    assert (heir.take(PlaceOrder), heir.open(Purpose.FLATTEN)) == ([], [])
    heir.fill(former, Decimal("0.4"))
    heir.found(former, OrderStatus.CANCELED, Decimal("0.4"))
    heir.probe.advance(10, market=False)
    again = heir.order(Purpose.FLATTEN)
    assert (again.attempt, again.qty) == (2, Decimal("0.6"))


def test_what_fills_while_a_flatten_waits_makes_it_smaller(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.deny(order)
    heir.fill(attempt_of(order, 1), Decimal("0.4"))
    look_again(heir)
    heir.probe.advance(2, market=False)
    heir.record(heir.order(Purpose.FLATTEN))
    sent = [one.order for one in heir.take(PlaceOrder) if one.order.purpose is Purpose.FLATTEN]
    assert [(one.attempt, one.qty) for one in sent] == [(2, Decimal("0.6"))]


def test_a_flatten_that_waits_is_not_sent_for_a_position_that_is_gone(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.deny(order)
    former = attempt_of(order, 1)
    heir.fill(former, order.qty)
    heir.found(former, OrderStatus.FILLED, order.qty)
    look_again(heir)
    heir.probe.advance(2, market=False)
    for stood in heir.open():
        heir.cancel(stood.order)
    heir.probe.tell(READ_ONCE_MORE)
    sent = heir.probe.take()
    assert not [one for one in sent if isinstance(one, PlaceOrder)]
    assert [one.request_id for one in sent if isinstance(one, Flattened)] == ["flatten:2"]


def test_an_order_that_is_found_while_it_waits_may_fill_more_than_was_decided_here(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.found(order, OrderStatus.PARTIALLY_FILLED)
    heir.fill(order, order.qty)
    heir.fill(order, ONE)
    assert (heir.probe.restarts, heir.state(order.client_order_id).filled_qty) == (0, order.qty + ONE)
    assert heir.take(PlaceOrder) == []


def test_an_exit_of_a_bar_that_this_life_has_seen_close_does_not_wait(heir: Any) -> None:
    heir.approve(Purpose.EXIT, Side.SELL, bar=5)
    order = heir.order(Purpose.EXIT)
    heir.record(order)
    assert heir.take(PlaceOrder) == [PlaceOrder(order=order)]


def test_an_exit_of_a_bar_before_this_life_waits(heir: Any) -> None:
    heir.approve(Purpose.EXIT, Side.SELL, bar=3)
    heir.record(heir.order(Purpose.EXIT))
    assert heir.take(PlaceOrder) == []


def test_without_a_memory_protection_has_ids_that_no_former_life_has_used(new_desk: Any, an_entry: Order) -> None:
    desk = new_desk(ready=False, arrival_window_s=WINDOW_S, default_protection=GUARDED, strategy="s")
    desk.probe.actor._unproven_until = EPOCH + 5 * MINUTE
    desk.fill(an_entry)
    desk.resynced()
    desk.found(an_entry, OrderStatus.FILLED, an_entry.qty)
    stop = desk.order(Purpose.STOP)
    parts = ids.parse(stop.client_order_id, BOT)
    assert parts is not None
    assert (parts.bar_open, parts.layer) == (EPOCH + 5 * MINUTE, 8)
    desk.record(stop)
    assert PlaceOrder(order=stop) in desk.take(PlaceOrder)


def test_an_entry_of_which_a_former_life_has_made_a_later_attempt_is_not_made_again(desk: Any, an_entry: Order) -> None:
    later = ids.client_order_id(BOT, bar_open=EPOCH, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=1)
    desk.found(replace(an_entry, client_order_id=later), OrderStatus.ACCEPTED)
    desk.approve(Purpose.ENTRY, Side.BUY)
    assert [one.reason for one in desk.take(Declined)] == ["sent_before"]
    assert desk.take(OrderDrafted) == []


def test_a_denial_by_a_read_that_may_lag_does_not_make_a_stray_dead(heir: Any) -> None:
    order = begin_flatten(heir)
    former = attempt_of(order, 1)
    heir.found(former, OrderStatus.ACCEPTED)
    heir.deny(former, conclusive=False)
    heir.deny(order)
    look_again(heir)
    heir.probe.advance(10, market=False)
    assert (heir.take(PlaceOrder), heir.open(Purpose.FLATTEN)) == ([], [])


# A stop of a position that nobody here knows


@pytest.mark.parametrize("refused", [False, True])
def test_on_spot_a_stop_that_was_left_standing_makes_room_for_a_flatten(
    new_desk: Any, an_entry: Order, refused: bool
) -> None:
    desk = new_desk(SPOT, ready=False)
    stop = replace(an_entry, client_order_id=ids.protection_order_id(BOT, ENTRY_ID, Purpose.STOP, 0))
    desk.fill(an_entry)
    desk.found(stop, OrderStatus.ACCEPTED)
    desk.resynced()
    assert desk.take(CancelOrder) == []
    desk.probe.tell(Flatten(request_id="flatten:2", reason=""))
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stop.client_order_id]
    assert desk.open() == []
    if refused:
        desk.found(an_entry, OrderStatus.FILLED, an_entry.qty)
        desk.probe.tell(CancelRefused(client_order_id=stop.client_order_id, reason="order_done"))
        assert stop.client_order_id in [one.client_order_id for one in desk.take(QueryOrder)]
        desk.found(stop, OrderStatus.CANCELED)
    else:
        desk.cancel(stop)
    assert desk.order(Purpose.FLATTEN).qty == an_entry.qty


def test_without_a_memory_no_two_positions_of_before_share_a_protective_id(heir: Any, an_entry: Order) -> None:
    drafted = {order.client_order_id for order in (one.order for one in heir.open())}
    heir.fill(replace(an_entry, client_order_id="web_1", side=Side.SELL))
    later = ids.client_order_id(BOT, bar_open=EPOCH + MINUTE, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0)
    second = replace(an_entry, client_order_id=later)
    heir.fill(second)
    heir.found(second, OrderStatus.FILLED, second.qty)
    guards = {one.order.client_order_id for one in heir.open(Purpose.STOP, Purpose.TARGET)}
    assert len(guards - drafted) == 2
    (stop,) = [one.order for one in heir.open(Purpose.STOP) if one.order.client_order_id not in drafted]
    assert later in stop.intent_id


def test_a_flatten_is_done_only_once_the_account_has_been_read_after_the_last_order_ended(new_desk: Any) -> None:
    """The exchange tells that the entry has expired without a trade, and of its trade after that."""
    desk = new_desk(arrival_window_s=WINDOW_S)
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.probe.tell(Flatten(request_id="flatten:2", reason=""))
    desk.cancel(entry)
    sent = desk.probe.take()
    assert not [one for one in sent if isinstance(one, Flattened)]
    assert "order_manager:flat" in [one.requester for one in sent if isinstance(one, ResyncAccount)]
    desk.fill(entry, Decimal("0.4"))
    desk.probe.tell(READ_ONCE_MORE)
    assert desk.take(Flattened) == []
    flatten = desk.order(Purpose.FLATTEN)
    assert flatten.qty == Decimal("0.4")
    desk.found(flatten, OrderStatus.ACCEPTED)
    desk.fill(flatten)
    for stood in desk.open():
        desk.cancel(stood.order)
    assert desk.take(Flattened) == []
    desk.probe.tell(READ_ONCE_MORE)
    assert [one.request_id for one in desk.take(Flattened)] == ["flatten:2"]


def test_a_proven_order_that_waits_is_not_asked_after_again(heir: Any) -> None:
    order = begin_flatten(heir)
    heir.deny(order)
    heir.probe.take()
    heir.fill(replace(order, client_order_id="web_1"), Decimal("0.01"))
    heir.probe.advance(5, market=False)
    assert order.client_order_id not in [one.client_order_id for one in heir.take(QueryOrder)]


def test_a_denial_that_a_former_incarnation_asked_for_proves_nothing(desk: Any) -> None:
    """It may have asked before it sent the order, and the answer comes to the next one."""
    order = desk.entry_in_doubt()
    desk.keep([desk.state(order.client_order_id)])
    desk.restart()
    desk.deny(order)
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    desk.resynced()
    desk.deny(order)
    assert desk.state(order.client_order_id).status is OrderStatus.ABSENT
