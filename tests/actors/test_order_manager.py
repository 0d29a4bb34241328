"""The order manager: one order per intent, evidence before a second try, and a book that the fills make.

What went wrong in other people's bots has its case here; the letters in the docstrings say what happened to them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.order_evidence import EVIDENCE_TRIES_MAX
from tbh.domain import ids
from tbh.messages.account import PositionChanged, ResyncAccount
from tbh.messages.health import Notice
from tbh.messages.orders import (
    CancelOrder,
    Declined,
    Flatten,
    OrderCanceled,
    OrderChanged,
    OrderDrafted,
    OrderRejected,
    OrderStatus,
    OutcomeUnknown,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Recorded,
    Side,
)
from tbh.messages.system import Restarted
from tbh.runtime.probe import EPOCH

Desk = Any  # of this folder's conftest
SYMBOL = "BTC/USDT"
BOT = "bot"
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)
HALF = Decimal("0.5")


# Drafted, recorded, sent


def test_nothing_new_begins_before_the_account_is_known(new_desk: Any) -> None:
    desk = new_desk(ready=False)
    assert desk.take(ResyncAccount) == [ResyncAccount(requester="order_manager", after=0, symbol=SYMBOL)]
    desk.approve(Purpose.ENTRY, Side.BUY)
    assert desk.take(OrderDrafted) == []
    desk.resynced()
    assert len(desk.take(OrderDrafted)) == 1


def test_an_entry_is_sent_only_after_it_is_on_disk(desk: Desk) -> None:
    """L8: an order was filled, and then the insert failed."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    (drafted,) = desk.take(OrderDrafted)
    desk.probe.advance(30, market=False)
    assert desk.take(PlaceOrder) == []
    desk.record(drafted.order)
    assert desk.take(PlaceOrder) == [PlaceOrder(order=drafted.order)]


def test_an_exit_does_not_wait_for_a_silent_disk(desk: Desk) -> None:
    """L9: with the disk full, nothing could be sold."""
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    desk.probe.advance(0.04)
    assert desk.take(PlaceOrder) == []
    desk.probe.advance(0.02)
    (placed,) = desk.take(PlaceOrder)
    assert placed.order.purpose is Purpose.EXIT
    desk.record(placed.order)
    assert desk.take(PlaceOrder) == []


def test_a_draft_is_asked_for_until_it_is_recorded(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    (first,) = desk.take(OrderDrafted)
    desk.probe.advance(2.1, market=False)
    assert desk.take(OrderDrafted) == [first, first]


def test_an_approval_that_comes_twice_is_one_order(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    desk.approve(Purpose.ENTRY, Side.BUY)
    (drafted,) = desk.take(OrderDrafted)
    desk.record(drafted.order)
    desk.probe.take()
    approved = desk.approve(Purpose.ENTRY, Side.BUY)
    assert desk.probe.take() == [
        Recorded(client_order_id=drafted.order.client_order_id, intent_id=approved.proposal_id)
    ]


def test_an_approval_that_is_too_old_is_declined(desk: Desk) -> None:
    desk.probe.set_now(EPOCH + 3 * MINUTE)
    approved = desk.approve(Purpose.ENTRY, Side.BUY)
    assert desk.probe.take() == [Declined(proposal_id=approved.proposal_id, reason="expired")]


def test_a_draft_that_waited_past_its_bar_is_not_sent(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.probe.set_now(EPOCH + 3 * MINUTE)
    desk.record(order)
    assert desk.take(PlaceOrder) == []
    assert desk.state(order.client_order_id).status is OrderStatus.EXPIRED


def test_a_draft_that_is_never_recorded_ends_with_its_bar(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.probe.set_now(EPOCH + 3 * MINUTE)
    desk.bar(101, 99)
    assert desk.state(order.client_order_id).status is OrderStatus.EXPIRED
    assert desk.probe.asking == []


def test_timers_do_not_pile_up_over_many_orders(desk: Desk) -> None:
    for number in range(50):
        desk.approve(Purpose.ENTRY, Side.BUY, bar=number)
        desk.probe.set_now(EPOCH + (number + 1) * MINUTE)
        for state in desk.open(Purpose.ENTRY):
            desk.accept(state.order)
            desk.fill(state.order)
        for state in desk.open():
            desk.accept(state.order)
    assert len(desk.probe.cell.context._timers) < 5


# Silence and evidence


@pytest.mark.parametrize("how", ["gateway_says_so", "no_answer", "gateway_restarted"])
def test_silence_is_unknown_and_nothing_is_sent_again(desk: Desk, how: str) -> None:
    """L1, L3: time-outs were taken for failures; orders were dropped, or sent again and doubled."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.take()
    if how == "gateway_says_so":
        desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    elif how == "no_answer":
        desk.probe.advance(15.1, market=False)
    else:
        desk.probe.tell(Restarted(actor="gateway", incarnation=1, reason=""))
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    desk.probe.advance(60, market=False)
    sent = desk.probe.take()
    assert not [one for one in sent if isinstance(one, PlaceOrder)]
    assert len([one for one in sent if isinstance(one, QueryOrder)]) > 5


def test_a_query_needs_nothing_but_the_client_id(desk: Desk) -> None:
    """L2: the query needed an exchange id that had never come."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    (query, *_) = desk.take(QueryOrder)
    assert query == QueryOrder(client_order_id=order.client_order_id, symbol=SYMBOL, signed_until=EPOCH + 2 * MINUTE)


def test_a_denial_that_is_not_conclusive_proves_nothing(desk: Desk) -> None:
    """L4, L25: "order not found" right after the creation, and any exception counted as that."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    for _ in range(20):
        desk.deny(order, conclusive=False)
        desk.probe.advance(2, market=False)
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    assert desk.probe.asking == [f"query:{order.client_order_id}"]


def test_proven_absence_makes_the_next_attempt_under_the_next_id(desk: Desk) -> None:
    """L6: ids were minted at random, so a restart doubled the order."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    desk.deny(order)
    assert desk.state(order.client_order_id).status is OrderStatus.ABSENT
    second = desk.order(Purpose.ENTRY)
    parts = ids.parse(second.client_order_id, BOT)
    assert (second.intent_id, second.attempt, second.qty) == (order.intent_id, 1, order.qty)
    assert parts is not None
    assert parts.attempt == 1


def test_an_absent_entry_whose_bar_is_over_is_not_tried_again(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    desk.probe.set_now(EPOCH + 3 * MINUTE)
    desk.deny(order)
    assert desk.open() == []
    assert desk.probe.asking == []


def test_an_order_found_filled_waits_for_its_fills_and_invents_none(desk: Desk) -> None:
    """L5: it had filled and closed during the time-out. L24: a reconciliation invented fills."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    desk.probe.take()
    desk.found(order, OrderStatus.FILLED, ONE)
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    assert desk.probe.actor._book.position is None
    assert desk.take(ResyncAccount) == [ResyncAccount(requester="order_manager", after=0, symbol=SYMBOL)]
    desk.fill(order)
    assert desk.state(order.client_order_id).status is OrderStatus.FILLED
    assert desk.probe.actor._book.qty == ONE


def test_fills_that_never_come_are_not_asked_for_ever(desk: Desk) -> None:
    """L11: a reconciliation that never converged. A lock-step replay would stand still behind it."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.record(order)
    desk.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
    for _ in range(EVIDENCE_TRIES_MAX + 1):
        desk.probe.advance(2, market=False)
        desk.found(order, OrderStatus.FILLED, ONE)
        desk.resynced()
    assert desk.probe.asking == []
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    (notice,) = desk.take(Notice)
    assert order.client_order_id in notice.text
    desk.fill(order)
    assert desk.state(order.client_order_id).status is OrderStatus.FILLED


def test_an_accepted_order_that_is_denied_is_in_doubt_and_not_absent(desk: Desk) -> None:
    order = desk.enter()
    stop = desk.order(Purpose.STOP)
    desk.probe.tell(Flatten(request_id="f", reason=""))
    desk.probe.tell(OrderRejected(client_order_id=stop.client_order_id, reason="?"))
    assert desk.state(stop.client_order_id).status is OrderStatus.UNKNOWN
    for _ in range(EVIDENCE_TRIES_MAX):
        desk.deny(stop)
        desk.probe.advance(2, market=False)
    assert desk.state(stop.client_order_id).status is OrderStatus.UNKNOWN
    assert desk.state(order.client_order_id).status is OrderStatus.FILLED


def test_an_order_in_doubt_for_good_guards_nothing(desk: Desk) -> None:
    """A stop that the exchange denies is replaced, whatever became of it."""
    desk.enter()
    stop = desk.order(Purpose.STOP)
    desk.probe.tell(OrderRejected(client_order_id=stop.client_order_id, reason="?"))
    for _ in range(EVIDENCE_TRIES_MAX + 1):
        desk.probe.advance(2, market=False)
        desk.deny(stop)
    stops = [state.order for state in desk.open(Purpose.STOP)]
    assert [one.client_order_id == stop.client_order_id for one in stops] == [True, False]


def test_repeats_answered_in_one_burst_are_one_answer(desk: Desk) -> None:
    desk.enter()
    stop = desk.order(Purpose.STOP)
    desk.probe.tell(OrderRejected(client_order_id=stop.client_order_id, reason="?"))
    for _ in range(EVIDENCE_TRIES_MAX * 2):
        desk.deny(stop)
    assert desk.take(Notice) == []
    assert desk.probe.asking == [f"query:{stop.client_order_id}"]


def test_an_order_proven_absent_that_fills_stops_the_other_attempt(desk: Desk) -> None:
    """L7: one intent met two live orders."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    first = desk.order(Purpose.ENTRY)
    desk.record(first)
    desk.probe.tell(OutcomeUnknown(client_order_id=first.client_order_id, reason="timeout"))
    desk.deny(first)
    second = desk.order(Purpose.ENTRY)
    desk.probe.take()
    desk.fill(first)
    assert desk.state(first.client_order_id).status is OrderStatus.FILLED
    assert desk.state(second.client_order_id).status is OrderStatus.CANCELED
    assert desk.take(Notice) != []


# Fills and position


def test_fill_after_cancel_is_kept(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.probe.tell(OrderCanceled(client_order_id=order.client_order_id, filled_qty=Decimal(0), reason="requested"))
    desk.fill(order, HALF)
    assert desk.state(order.client_order_id).filled_qty == HALF
    assert desk.probe.actor._book.qty == HALF
    assert desk.order(Purpose.STOP).qty == HALF


def test_an_exit_takes_the_rest_of_its_entry_off_the_book(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry, HALF)
    desk.probe.take()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    sent = desk.probe.take()
    (cancel,) = [one for one in sent if isinstance(one, CancelOrder) and one.client_order_id == entry.client_order_id]
    (drafted,) = [one for one in sent if isinstance(one, OrderDrafted) and one.order.purpose is Purpose.EXIT]
    assert sent.index(cancel) < sent.index(drafted)
    assert drafted.order.qty == HALF


def test_a_fill_counts_once(desk: Desk) -> None:
    order = desk.enter()
    fill = desk.probe.actor._orders._fills[order.client_order_id]["t1"]
    desk.probe.tell(fill, fill)
    assert desk.probe.actor._book.qty == ONE
    assert desk.state(order.client_order_id).filled_qty == ONE
    assert desk.probe.take() == []


def test_a_fee_in_the_bought_coin_makes_position_and_stop_smaller(desk: Desk) -> None:
    """L26: selling the filled quantity was refused."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    order = desk.order(Purpose.ENTRY)
    desk.accept(order)
    desk.fill(order, fee=Decimal("0.011"), fee_asset="BTC")
    assert desk.order(Purpose.STOP).qty == Decimal("0.98")
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    assert desk.order(Purpose.EXIT).qty == Decimal("0.98")


def test_a_fill_that_is_not_ours_moves_the_book_and_calls_people(desk: Desk, an_entry: Any) -> None:
    stranger = replace(an_entry, client_order_id="by-hand")
    desk.fill(stranger)
    assert desk.probe.actor._book.qty == ONE
    assert desk.open() == []
    assert len(desk.take(Notice)) == 1


def test_the_position_is_told_again_when_a_neighbour_restarts(desk: Desk) -> None:
    order = desk.enter()
    desk.probe.tell(Restarted(actor="strategy", incarnation=1, reason=""))
    (changed,) = [one for one in desk.probe.sent if isinstance(one, PositionChanged)]
    assert changed.position is not None
    assert changed.position.position_id == order.client_order_id


@pytest.mark.parametrize("actor", ["journaler", "risk"])
def test_orders_that_are_done_are_told_again_to_who_keeps_orders(desk: Desk, actor: str) -> None:
    """The last word of an order may have been the message at which the neighbour failed."""
    order = desk.enter()
    desk.probe.tell(Restarted(actor=actor, incarnation=1, reason=""))
    retold = {one.state.order.client_order_id: one.state.status for one in desk.take(OrderChanged)}
    assert retold[order.client_order_id] is OrderStatus.FILLED
    assert len(retold) == 3
