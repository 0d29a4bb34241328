"""What a former life has done that nobody here remembers: it is found out, and nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from tbh.domain import ids
from tbh.messages.account import StrayEnded
from tbh.messages.orders import Flatten, Order, OrderCanceled, OrderDrafted, OrderStatus, Purpose, Side
from tbh.runtime.probe import EPOCH

BOT = "bot"
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
