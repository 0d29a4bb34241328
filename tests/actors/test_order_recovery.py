"""The order manager after a start: it knows again what disk and exchange know, and doubts the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.order_findings import VERSION_LEAP
from tbh.domain import ids
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import ResyncAccount
from tbh.messages.orders import (
    CancelOrder,
    Order,
    OrderCanceled,
    OrderChanged,
    OrderState,
    OrderStatus,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Recorded,
    Side,
)
from tbh.messages.system import Restarted
from tbh.ports import Batch, Unavailable
from tbh.runtime.probe import EPOCH

Desk = Any  # of this folder's conftest
SYMBOL = "BTC/USDT"
BOT = "bot"
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)
HALF = Decimal("0.5")


def _state(order: Order, status: OrderStatus, version: int = 1, **more: Any) -> OrderState:
    return OrderState(order=order, status=status, version=version, seen_at=EPOCH, **more)


@pytest.mark.parametrize("status", [OrderStatus.DRAFTED, OrderStatus.RECORDED, OrderStatus.SUBMITTED])
def test_an_order_read_back_as_sent_or_about_to_be_is_unknown(
    status: OrderStatus, an_entry: Order, new_desk: Any
) -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[_state(an_entry, status)]))
    desk = new_desk(store=store, ready=False)
    assert desk.state(an_entry.client_order_id).status is OrderStatus.UNKNOWN
    sent = desk.probe.take()
    assert not [one for one in sent if isinstance(one, PlaceOrder)]
    assert len([one for one in sent if isinstance(one, QueryOrder)]) == 1


def test_an_order_read_back_as_accepted_is_asked_after(an_entry: Order, new_desk: Any) -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[_state(an_entry, OrderStatus.ACCEPTED, exchange_order_id="x")]))
    desk = new_desk(store=store, ready=False)
    assert len(desk.take(QueryOrder)) == 1
    desk.found(an_entry, OrderStatus.ACCEPTED)
    assert desk.probe.asking == ["resync"]


def test_a_fill_on_disk_that_the_order_row_has_not_counted_is_counted(
    an_entry: Order, fill_of: Any, new_desk: Any
) -> None:
    """The order manager failed at the fill; the journal, which heard of it too, did not."""
    store = MemoryStore()
    accepted = _state(an_entry, OrderStatus.ACCEPTED, exchange_order_id="x")
    store.commit(Batch(orders=[accepted], fills=[fill_of(an_entry, 1)], meta={ACCOUNT_SEQ: "1"}))
    desk = new_desk(store=store)
    state = desk.state(an_entry.client_order_id)
    assert (state.status, state.filled_qty) == (OrderStatus.FILLED, ONE)
    assert desk.probe.actor._book.qty == ONE


def test_an_order_row_that_is_ahead_of_its_fills_counts_each_once(an_entry: Order, fill_of: Any, new_desk: Any) -> None:
    """The process died between the commit of the order and that of its fill."""
    store = MemoryStore()
    filled = _state(an_entry, OrderStatus.FILLED, 4, exchange_order_id="x", filled_qty=ONE, avg_price=Decimal(100))
    store.commit(Batch(orders=[filled]))
    desk = new_desk(store=store, ready=False)
    desk.probe.tell(fill_of(an_entry, 1))
    assert desk.probe.restarts == 0
    assert desk.state(an_entry.client_order_id).filled_qty == ONE
    assert desk.probe.actor._book.qty == ONE


def test_events_are_repeated_from_where_the_journal_has_them_all(an_entry: Order, fill_of: Any, new_desk: Any) -> None:
    """The newest fill on disk is no mark: an earlier one may have been the message at which the journal failed."""
    store = MemoryStore()
    partial = _state(an_entry, OrderStatus.PARTIALLY_FILLED, 3, exchange_order_id="x", filled_qty=HALF)
    store.commit(Batch(orders=[partial], fills=[fill_of(an_entry, 6, HALF)], meta={ACCOUNT_SEQ: "4"}))
    desk = new_desk(store=store, ready=False)
    assert [one.after for one in desk.take(ResyncAccount)] == [4]


def test_a_row_still_on_its_way_to_the_disk_does_not_outrank_what_is_found_out_now(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.store.commit(Batch(drafts=[desk.state(order.client_order_id)]))
    desk.accept(order)
    told = max(one.state.version for one in desk.take(OrderChanged))
    desk.restart()
    first = desk.take(OrderChanged)[0].state.version
    assert first > told
    desk.restart()
    assert desk.take(OrderChanged)[0].state.version > first


def test_a_draft_that_reaches_the_disk_after_a_restart_is_not_lost(desk: Desk) -> None:
    """The strategy takes the journal's word for an answer, so nobody would ask for this exit again."""
    desk.enter()
    entry = desk.probe.actor._orders.recent(1)[0]
    fill = desk.probe.actor._orders._fills[entry.order.client_order_id]["t1"]
    desk.keep([entry], [fill], 1)
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    draft = desk.state(desk.order(Purpose.EXIT).client_order_id)
    desk.restart()
    desk.resynced()
    desk.store.commit(Batch(drafts=[draft]))
    desk.record(draft.order)
    assert desk.state(draft.order.client_order_id).status is OrderStatus.UNKNOWN
    desk.deny(draft.order)
    assert desk.order(Purpose.EXIT).attempt == 1


def test_an_order_that_reaches_the_disk_after_a_restart_without_its_draft_is_asked_after_with_the_next_bar(
    desk: Desk,
) -> None:
    """The answer went to an order manager that failed at it, and the journal failed at the draft: nobody tells it."""
    desk.enter()
    lost = _state(desk.order(Purpose.STOP), OrderStatus.SUBMITTED)
    desk.restart()
    desk.resynced()
    desk.store.commit(Batch(orders=[lost]))
    desk.take(QueryOrder)
    desk.bar(100, 100)
    assert desk.state(lost.order.client_order_id).status is OrderStatus.UNKNOWN
    assert [one.client_order_id for one in desk.take(QueryOrder)] == [lost.order.client_order_id]
    desk.deny(lost.order)
    desk.bar(100, 100, index=3)
    assert desk.take(QueryOrder) == []


def test_an_exit_that_was_a_stray_until_its_record_reached_the_disk_is_tried_again_once_it_has_ended(
    desk: Desk,
) -> None:
    desk.enter()
    entry = desk.probe.actor._orders.recent(1)[0]
    fill = desk.probe.actor._orders._fills[entry.order.client_order_id]["t1"]
    desk.keep([entry], [fill], 1)
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = desk.order(Purpose.EXIT)
    draft = desk.state(leave.client_order_id)
    desk.restart()
    desk.found(leave, OrderStatus.ACCEPTED)
    desk.resynced()
    desk.store.commit(Batch(drafts=[draft]))
    desk.record(leave)
    desk.found(leave, OrderStatus.ACCEPTED)
    desk.cancel(leave)
    desk.probe.advance(1.1, market=False)
    assert desk.order(Purpose.EXIT).attempt == 1


def test_a_disk_that_breaks_after_a_restart_does_not_make_the_order_manager_fail_at_each_bar(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*, open_only: bool = False) -> list[OrderState]:
        raise Unavailable("broken", detail=f"open only: {open_only}")

    desk.restart()
    desk.resynced()
    monkeypatch.setattr(desk.store, "orders", broken)
    desk.bar(100, 100)
    assert desk.probe.actor is not None


@pytest.mark.parametrize("status", [OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.ABSENT, OrderStatus.FILLED])
def test_an_exit_that_was_owed_another_attempt_is_taken_up_after_a_restart(desk: Desk, status: OrderStatus) -> None:
    desk.enter()
    entry = desk.probe.actor._orders.recent(1)[0]
    fill = desk.probe.actor._orders._fills[entry.order.client_order_id]["t1"]
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = desk.order(Purpose.EXIT)
    desk.keep([entry, _state(leave, status)], [fill], 1)
    desk.restart()
    desk.resynced()
    desk.probe.advance(1.1, market=False)
    assert desk.order(Purpose.EXIT).attempt == 1


def test_fills_before_their_order_is_known_make_it_ours(desk: Desk, an_entry: Order) -> None:
    """A former incarnation sent it, and its draft never reached the disk; the strategy asks for it again."""
    desk.fill(an_entry)
    assert desk.open(Purpose.STOP) == []
    desk.approve(Purpose.ENTRY, Side.BUY)
    assert desk.state(an_entry.client_order_id).status is OrderStatus.FILLED
    assert desk.probe.actor._book.position.strategy == "s"
    desk.bar(101, 99)
    desk.probe.tell(Restarted(actor="risk", incarnation=1, reason=""))
    assert desk.take(PlaceOrder) == []


def test_an_exit_that_a_former_life_has_sent_is_not_sent_again_while_that_one_lives(
    desk: Desk, an_entry: Order
) -> None:
    """What a forgotten order under that id was for, and how much, nobody here can say: it is the same decision's."""
    desk.enter()
    stray = ids.client_order_id(BOT, bar_open=EPOCH + MINUTE, strategy="s", purpose=Purpose.EXIT, layer=0, attempt=0)
    desk.found(replace(an_entry, client_order_id=stray), OrderStatus.ACCEPTED)
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert desk.open(Purpose.EXIT) == []
    assert [one.client_order_id for one in desk.take(Recorded)] == [stray]
    desk.found(replace(an_entry, client_order_id=stray), OrderStatus.CANCELED)
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert desk.order(Purpose.EXIT).attempt == 1


def test_a_protective_order_that_nobody_remembers_is_cancelled_and_its_id_not_used(desk: Desk) -> None:
    entry = desk.enter()
    stray = ids.protection_order_id(BOT, entry.client_order_id, Purpose.STOP, 1)
    desk.found(replace(entry, client_order_id=stray), OrderStatus.ACCEPTED)
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stray]
    desk.probe.tell(OrderCanceled(client_order_id=stray, filled_qty=Decimal(0), reason="requested"))
    assert desk.probe.asking == []
    desk.fill(desk.order(Purpose.STOP), HALF, Decimal(90))
    desk.fill(replace(entry, client_order_id="by-hand"), HALF)
    assert stray not in {state.order.client_order_id for state in desk.open(Purpose.STOP)}
    assert len(desk.open(Purpose.STOP)) == 2


def test_somebody_elses_open_order_is_left_alone(desk: Desk, an_entry: Order) -> None:
    desk.found(replace(an_entry, client_order_id="by-hand"), OrderStatus.ACCEPTED)
    assert desk.probe.take() == []


def test_without_a_memory_an_entry_of_a_past_bar_is_proven_absent_before_it_is_sent(new_desk: Any) -> None:
    """A former life on another disk may have sent this very order."""
    desk = new_desk()
    desk.probe.actor._unproven_until = EPOCH + MINUTE
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    sent = desk.probe.take()
    assert not [one for one in sent if isinstance(one, PlaceOrder)]
    assert [one.client_order_id for one in sent if isinstance(one, QueryOrder)] == [order.client_order_id]
    desk.deny(order, conclusive=False)
    assert desk.take(PlaceOrder) == []
    desk.deny(order)
    assert desk.take(PlaceOrder) == [PlaceOrder(order=order)]
    assert desk.probe.asking == [f"outcome:{order.client_order_id}"]


def test_without_a_memory_an_entry_that_was_sent_already_is_taken_over(new_desk: Any) -> None:
    desk = new_desk()
    desk.probe.actor._unproven_until = EPOCH + MINUTE
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.found(order, OrderStatus.ACCEPTED)
    assert desk.take(PlaceOrder) == []
    assert desk.state(order.client_order_id).status is OrderStatus.ACCEPTED


def test_an_end_on_the_disk_outranks_what_a_former_incarnation_still_has_on_its_way_there(desk: Desk) -> None:
    """It had read the order as open; its reading may come to the disk after the end, which came late itself."""
    order = desk.entry_in_doubt()
    desk.deny(order)
    ended = desk.state(order.client_order_id)
    desk.keep([ended])
    desk.probe.take()
    desk.restart()
    now_at = desk.state(order.client_order_id)
    assert (now_at.status, now_at.version - ended.version > VERSION_LEAP) == (OrderStatus.ABSENT, True)
    assert [one.state for one in desk.take(OrderChanged) if one.state.status is OrderStatus.ABSENT] == [now_at]


def test_after_a_restart_of_the_gateway_the_open_orders_are_asked_for_again(new_desk: Any) -> None:
    """It lists them now and then from when it is asked, and has forgotten that it was."""
    desk = new_desk()
    desk.probe.take()
    desk.probe.tell(Restarted(actor="gateway", incarnation=1, reason="x"))
    assert [one.symbol is not None for one in desk.probe.take(ResyncAccount)] == [True]


def test_an_exit_that_another_life_had_sent_for_more_is_as_large_as_its_fills_say(desk: Desk) -> None:
    """Two processes decided the same exit, each by what it held; the exchange has one of them under the one id."""
    desk.enter()
    entry = desk.probe.actor._orders.recent(1)[0]
    fill = desk.probe.actor._orders._fills[entry.order.client_order_id]["t1"]
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = replace(desk.order(Purpose.EXIT), qty=HALF)
    desk.keep([entry, _state(leave, OrderStatus.ACCEPTED, exchange_order_id="x")], [fill], 1)
    desk.restart()
    restarts = desk.probe.restarts
    desk.resynced()
    desk.fill(leave, ONE)
    assert desk.probe.restarts == restarts
    assert desk.state(leave.client_order_id).status is OrderStatus.FILLED
    assert desk.probe.actor._book.position is None


def test_an_order_read_back_as_a_draft_is_cancelled_at_the_exchange_once_its_refused_forerunner_fills(
    desk: Desk, an_entry: Order, fill_of: Any
) -> None:
    """Withdrawn, it would be called over while it stands there, and nobody would ever take it off the book."""
    desk.enter(Decimal(2))
    entry = desk.probe.actor._orders.recent(1)[0]
    bought = desk.probe.actor._orders._fills[entry.order.client_order_id]["t1"]
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    refused = desk.order(Purpose.EXIT)
    desk.reject(refused)
    desk.probe.advance(1.1, market=False)
    again = desk.order(Purpose.EXIT)
    states = [entry, _state(refused, OrderStatus.REJECTED, 3), _state(again, OrderStatus.DRAFTED, 0)]
    desk.keep(states, [bought, fill_of(refused, 2, HALF)], 2)
    desk.probe.take()
    desk.restart()
    sent = desk.probe.take()
    assert again.client_order_id in {one.client_order_id for one in sent if isinstance(one, CancelOrder)}
    told = [one.state for one in sent if isinstance(one, OrderChanged)]
    assert [one.status for one in told if one.order == again] == [OrderStatus.UNKNOWN]
