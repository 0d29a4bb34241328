"""What guards the position: a stop and a target that follow the fills, and never outlive it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tbh.actors.order_protection import REFUSALS_MAX
from tbh.domain import ids
from tbh.messages.health import Notice
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Declined,
    Order,
    OrderCanceled,
    OrderDrafted,
    OrderRejected,
    OrderStatus,
    PlaceOrder,
    Protection,
    Purpose,
    Side,
    Trailing,
)

Desk = Any  # of this folder's conftest
SYMBOL = "BTC/USDT"
BOT = "bot"
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)
HALF = Decimal("0.5")


def test_the_stop_follows_each_partial_fill(desk: Desk) -> None:
    """L12: the stop was sized wrong after a partial fill."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order, HALF)
    first = desk.order(Purpose.STOP)
    assert (first.qty, first.stop_price, first.reduce_only) == (HALF, Decimal("90.00"), True)
    desk.accept(first)
    desk.fill(order, HALF, Decimal(102))
    standing = [state.order for state in desk.open(Purpose.STOP)]
    assert [(one.qty, one.stop_price) for one in standing] == [(HALF, Decimal("90.00")), (ONE, Decimal("90.90"))]


def test_the_new_stop_goes_before_the_old_one_is_cancelled(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order, HALF)
    desk.accept(*(state.order for state in desk.open(Purpose.STOP, Purpose.TARGET)))
    desk.probe.take()
    desk.fill(order, HALF)
    kinds = [type(one) for one in desk.probe.take() if isinstance(one, OrderDrafted | CancelOrder)]
    assert kinds == [OrderDrafted, CancelOrder, OrderDrafted, CancelOrder]


def test_no_protection_outlives_its_position(desk: Desk) -> None:
    """L13: a stop was left behind and opened a position of its own."""
    desk.enter()
    stop, target = desk.order(Purpose.STOP), desk.order(Purpose.TARGET)
    desk.fill(stop, price=Decimal(90))
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [target.client_order_id]
    desk.probe.tell(OrderCanceled(client_order_id=target.client_order_id, filled_qty=Decimal(0), reason="requested"))
    assert desk.open() == []
    assert desk.probe.asking == []


def test_a_stop_drafted_for_a_position_that_is_gone_is_withdrawn(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order)
    stop = desk.order(Purpose.STOP)
    desk.fill(replace(order, client_order_id="by-hand", side=Side.SELL))
    assert desk.state(stop.client_order_id).status is OrderStatus.CANCELED
    desk.record(stop)
    assert desk.take(PlaceOrder) != [PlaceOrder(order=stop)]
    assert desk.open() == []


def test_dust_is_the_end_of_a_position(desk: Desk, new_desk: Any) -> None:
    """L14: an immortal trade below the minimum, and a loop that tried to sell it."""
    dusty = new_desk(replace(desk.market, amount_min=Decimal("0.1")))
    dusty.enter()
    stop = dusty.order(Purpose.STOP)
    dusty.fill(stop, Decimal("0.95"), Decimal(90))
    assert {one.client_order_id for one in dusty.take(CancelOrder)} >= {stop.client_order_id}
    approved = dusty.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert dusty.take(Declined) == [Declined(proposal_id=approved.proposal_id, reason="dust")]
    assert dusty.open(Purpose.EXIT) == []


def test_a_stop_that_is_refused_again_and_again_ends_in_an_exit_at_market(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order)
    for number in range(REFUSALS_MAX):
        stop = desk.order(Purpose.STOP)
        assert ids.protection_order_id(BOT, order.client_order_id, Purpose.STOP, number) == stop.client_order_id
        desk.record(stop)
        desk.probe.tell(OrderRejected(client_order_id=stop.client_order_id, reason="would trigger"))
    assert desk.open(Purpose.STOP) == []
    emergency = desk.order(Purpose.EMERGENCY)
    assert (emergency.qty, emergency.side, emergency.reduce_only) == (ONE, Side.SELL, True)
    assert len(desk.take(Notice)) == 1


def test_a_target_that_is_refused_is_given_up_and_the_stop_stays(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order)
    for _ in range(REFUSALS_MAX):
        target = desk.order(Purpose.TARGET)
        desk.record(target)
        desk.probe.tell(OrderRejected(client_order_id=target.client_order_id, reason="no"))
    assert desk.open(Purpose.TARGET, Purpose.EMERGENCY) == []
    assert len(desk.open(Purpose.STOP)) == 1


def test_a_stop_that_the_exchange_keeps_cancelling_counts_as_refused(desk: Desk) -> None:
    """Otherwise it would be made anew without end."""
    desk.enter()
    for _ in range(REFUSALS_MAX):
        stop = desk.order(Purpose.STOP)
        desk.accept(stop)
        desk.probe.tell(OrderCanceled(client_order_id=stop.client_order_id, filled_qty=Decimal(0), reason="venue"))
    assert desk.open(Purpose.STOP) == []
    assert len(desk.open(Purpose.EMERGENCY)) == 1


TRAILING = Protection(trailing=Trailing(distance=Decimal("0.1"), activate_at=Decimal("0.05")))


def test_a_trailing_stop_follows_the_best_price_and_never_retreats(desk: Desk) -> None:
    desk.enter(protection=TRAILING)
    assert desk.open(Purpose.STOP) == []
    desk.bar(110, 99)
    assert desk.order(Purpose.STOP).stop_price == Decimal("99.00")
    desk.accept(desk.order(Purpose.STOP))
    desk.bar(105, 100, index=3)
    assert desk.order(Purpose.STOP).stop_price == Decimal("99.00")


def test_a_trailing_stop_does_not_retreat_over_a_restart(desk: Desk) -> None:
    """The best price is forgotten; how tight the stop has been is on the disk."""
    entry = desk.enter(protection=TRAILING)
    desk.bar(110, 99)
    stop = desk.order(Purpose.STOP)
    desk.accept(stop)
    fill = desk.probe.actor._orders._fills[entry.client_order_id]["t1"]
    desk.keep([desk.state(entry.client_order_id), desk.state(stop.client_order_id)], [fill], 1)
    desk.restart()
    desk.resynced()
    desk.found(stop, OrderStatus.ACCEPTED)
    desk.bar(106, 100, index=3)
    assert desk.order(Purpose.STOP) == stop


def test_a_stop_that_is_being_cancelled_guards_nothing(desk: Desk) -> None:
    """The position has shrunk and grown again: what fits it is on its way out."""
    entry = desk.enter()
    stop = desk.order(Purpose.STOP)
    by_hand = replace(entry, client_order_id="by-hand", side=Side.SELL)
    desk.fill(by_hand, HALF)
    desk.fill(replace(by_hand, side=Side.BUY), HALF)
    desk.probe.tell(CancelRefused(client_order_id=stop.client_order_id, reason="?"))
    standing = [state.order for state in desk.open(Purpose.STOP) if state.order.qty == ONE]
    assert len(standing) == 2


def test_a_process_that_numbers_its_stops_never_goes_on_in_the_numbers_of_another(desk: Desk) -> None:
    """Else a process that has not heard yet that it lost the bot asks under the new owner's next id."""
    entry, stop = _half_guarded(desk)
    another_s = 19 * ids.REVISIONS_PER_SECOND + ids.REVISIONS_PER_SECOND // 2
    _see_stop(desk, stop, entry, another_s + 1)
    desk.fill(entry, HALF)
    assert _newest_stop(desk) == ids.protection_order_id(BOT, entry.client_order_id, Purpose.STOP, 1)


def test_a_stop_that_is_on_no_disk_is_followed_by_the_next_number_of_its_own_part(desk: Desk) -> None:
    entry, stop = _half_guarded(desk)
    _see_stop(desk, stop, entry, 3)
    desk.fill(entry, HALF)
    assert _newest_stop(desk) == ids.protection_order_id(BOT, entry.client_order_id, Purpose.STOP, 4)


def test_who_has_numbered_no_stop_of_the_position_goes_on_where_another_got_to(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY, protection=Protection())
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry, HALF)
    later = 19 * ids.REVISIONS_PER_SECOND + 5
    for revision in (3, later, 4):
        _see_stop(desk, entry, entry, revision)
    actor = desk.probe.actor
    assert actor._revisions[Purpose.STOP, entry.client_order_id] == later


def _half_guarded(desk: Desk) -> tuple[Order, Order]:
    """An entry of which half is filled, and the stop of that half."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry, HALF)
    stop = desk.order(Purpose.STOP)
    desk.accept(stop)
    return entry, stop


def _see_stop(desk: Desk, like: Order, entry: Order, revision: int) -> None:
    """The exchange has a stop of the position of which nobody here knows."""
    stray = ids.protection_order_id(BOT, entry.client_order_id, Purpose.STOP, revision)
    desk.found(replace(like, client_order_id=stray), OrderStatus.ACCEPTED)


def _newest_stop(desk: Desk) -> str:
    name: str = desk.open(Purpose.STOP)[-1].order.client_order_id
    return name
