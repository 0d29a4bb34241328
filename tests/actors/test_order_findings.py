"""What a start finds and what stays open: told once, never guessed, and no entry while something can't be explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.order_evidence import EVIDENCE_TRIES_MAX, QUERY_EVERY_S
from tbh.actors.order_findings import SLOW_AFTER_S
from tbh.domain import ids
from tbh.domain.findings import Kind
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountDoubted,
    Adjusted,
    Adjustment,
    ExternalTrade,
    OpenOrdersRead,
    Origin,
    PositionChanged,
    Recovered,
    ResyncAccount,
    StrayEnded,
)
from tbh.messages.controls import RequestDone, ResolveOrder
from tbh.messages.health import Notice
from tbh.messages.orders import (
    CancelOrder,
    Order,
    OrderCanceled,
    OrderChanged,
    OrderState,
    OrderStatus,
    Protection,
    Purpose,
    QueryOrder,
    Side,
)
from tbh.messages.system import Restarted
from tbh.ports import Batch
from tbh.runtime.probe import EPOCH
from tests.actors.conftest import MARKET

Desk = Any  # of this folder's conftest
BOT = "bot"
SYMBOL = "BTC/USDT"
ONE = Decimal(1)
HALF = Decimal("0.5")
HOUR = timedelta(hours=1)


def _state(order: Order, status: OrderStatus, **more: Any) -> OrderState:
    return OrderState(order=order, status=status, version=1, seen_at=EPOCH, **more)


def _adjusted(qty: str, number: int = 7) -> Adjusted:
    return Adjusted(
        adjustment=Adjustment(
            adjustment_id=f"adopt:{number}", symbol=SYMBOL, qty=Decimal(qty), price=Decimal(90), seq=1, at=EPOCH,
            reason="withdrawn",
        )
    )  # fmt: skip


def _of(sent: list[Any], kind: type[Any]) -> list[Any]:
    return [one for one in sent if isinstance(one, kind)]


def _resolve(order: Order, outcome: OrderStatus, number: int = 3) -> ResolveOrder:
    return ResolveOrder(
        request_id=f"resolve:{number}", client_order_id=order.client_order_id, outcome=outcome, reason="seen"
    )


def _stray(purpose: Purpose, attempt: int = 0) -> str:
    return ids.flatten_order_id(BOT, "escalation:boot-0", attempt, purpose=purpose)


# What a start finds


def test_a_start_tells_once_how_memory_and_exchange_compare(an_entry: Order, fill_of: Any, new_desk: Any) -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[_state(an_entry, OrderStatus.ACCEPTED, exchange_order_id="x")], meta={ACCOUNT_SEQ: "0"}))
    desk = new_desk(store=store, ready=False)
    desk.found(an_entry, OrderStatus.PARTIALLY_FILLED, HALF)
    desk.found(replace(an_entry, client_order_id="by-hand"), OrderStatus.ACCEPTED)
    desk.probe.tell(fill_of(an_entry, 1, HALF))
    assert desk.take(Recovered) == []
    desk.resynced()
    (recovered,) = desk.take(Recovered)
    assert [one.kind for one in recovered.findings] == [Kind.BEHIND, Kind.FOREIGN, Kind.ADOPT_FILL]
    desk.resynced()
    assert desk.take(Recovered) == []


def test_a_start_that_finds_nothing_tells_nothing(new_desk: Any) -> None:
    desk = new_desk(ready=False)
    desk.resynced()
    assert desk.take(Recovered) == []


def test_people_are_called_when_the_account_cannot_be_read_at_a_start(new_desk: Any) -> None:
    desk = new_desk(ready=False)
    desk.probe.advance(SLOW_AFTER_S + 1)
    assert [one.key.split(":")[0] for one in desk.take(Notice)] == ["start_slow"]
    desk.resynced()
    desk.probe.advance(10 * SLOW_AFTER_S)
    assert desk.take(Notice) == []


# What can't be explained


def test_an_order_that_stays_unknown_closes_entries_until_there_is_word_of_it(desk: Desk) -> None:
    order = desk.entry_in_doubt()
    desk.fill(order, HALF)
    desk.probe.take()
    for _ in range(EVIDENCE_TRIES_MAX):
        desk.probe.advance(QUERY_EVERY_S)
        desk.deny(order)
    (doubted,) = desk.take(AccountDoubted)
    assert order.client_order_id in doubted.causes[0]
    desk.probe.tell(Restarted(actor="risk", incarnation=1, reason=""))
    assert desk.take(AccountDoubted) == [doubted]
    desk.found(order, OrderStatus.ACCEPTED)
    assert [one.causes for one in desk.take(AccountDoubted)] == [()]


def test_a_stored_order_that_cannot_be_closes_entries_and_nothing_else(
    an_entry: Order, fill_of: Any, new_desk: Any
) -> None:
    """To fail at it at every start would leave the position alone."""
    store = MemoryStore()
    filled = _state(an_entry, OrderStatus.PARTIALLY_FILLED, exchange_order_id="x", filled_qty=HALF)
    store.commit(Batch(orders=[filled], fills=[fill_of(an_entry, 1), fill_of(an_entry, 2)], meta={ACCOUNT_SEQ: "2"}))
    desk = new_desk(store=store)
    assert desk.probe.restarts == 0
    assert desk.probe.actor._book.qty == 2
    assert len(desk.probe.actor._doubts) == 1
    assert desk.open(Purpose.STOP)


# What nobody here has ordered


@pytest.mark.parametrize(("client_order_id", "origin"), [("web_1", Origin.MANUAL), ("autoclose-9", Origin.EXCHANGE)])
def test_a_closure_that_was_not_ours_is_booked_labelled_and_withdraws_the_guards(
    desk: Desk, client_order_id: str, origin: Origin
) -> None:
    entry = desk.enter()
    desk.fill(replace(entry, client_order_id=client_order_id, side=Side.SELL))
    sent = desk.probe.take()
    (trade,) = _of(sent, ExternalTrade)
    assert (trade.origin, trade.fill.trade_id) == (origin, "t2")
    assert _of(sent, PositionChanged)[-1].position is None
    assert {one.client_order_id for one in _of(sent, CancelOrder)} == {
        state.order.client_order_id for state in desk.open(Purpose.STOP, Purpose.TARGET)
    }
    assert len(_of(sent, Notice)) == 1


def test_an_order_that_an_escalation_sent_is_journaled_as_it_ended(desk: Desk, an_entry: Order) -> None:
    desk.enter()
    sent = replace(an_entry, client_order_id=_stray(Purpose.EMERGENCY), side=Side.SELL)
    desk.fill(sent)
    assert [one.client_order_id for one in desk.take(QueryOrder)] == [sent.client_order_id]
    desk.found(sent, OrderStatus.FILLED, ONE)
    (changed,) = [one for one in desk.take(OrderChanged) if one.event == "adopted"]
    assert (changed.state.status, changed.state.filled_qty) == (OrderStatus.FILLED, ONE)
    assert changed.state.order.purpose is Purpose.EMERGENCY
    assert f"query:{sent.client_order_id}" not in desk.probe.asking


def test_a_stray_that_ends_without_a_trade_has_its_end_journaled(desk: Desk) -> None:
    entry = desk.enter()
    stray = ids.protection_order_id(BOT, entry.client_order_id, Purpose.STOP, 9)
    desk.found(replace(entry, client_order_id=stray), OrderStatus.ACCEPTED)
    desk.probe.tell(OrderCanceled(client_order_id=stray, filled_qty=Decimal(0), reason="requested"))
    (ended,) = desk.take(StrayEnded)
    assert (ended.client_order_id, ended.purpose, ended.status) == (stray, Purpose.STOP, OrderStatus.CANCELED)


def test_an_adopted_order_that_goes_on_filling_was_meant_for_more(desk: Desk, an_entry: Order) -> None:
    """The exchange called it filled, and was wrong."""
    desk.enter(Decimal(2))
    sent = replace(an_entry, client_order_id=_stray(Purpose.EMERGENCY), side=Side.SELL)
    desk.fill(sent, HALF)
    desk.found(sent, OrderStatus.FILLED, HALF)
    desk.fill(sent, ONE)
    assert desk.probe.restarts == 0
    assert desk.state(sent.client_order_id).filled_qty == Decimal("1.5")


def test_a_former_lifes_traded_orders_are_asked_after_at_each_start(
    an_entry: Order, fill_of: Any, new_desk: Any
) -> None:
    """The process died between the question and its answer."""
    sent = replace(an_entry, client_order_id=_stray(Purpose.FLATTEN))
    store = MemoryStore()
    other = _state(replace(an_entry, client_order_id="other"), OrderStatus.ABSENT)
    store.commit(Batch(orders=[other], fills=[fill_of(sent, 1)], meta={ACCOUNT_SEQ: "1"}))
    desk = new_desk(store=store, ready=False)
    desk.resynced()
    assert [one.client_order_id for one in desk.take(QueryOrder)] == [sent.client_order_id]


def test_on_an_empty_disk_an_entry_known_by_its_id_gets_the_guard_of_the_present_definition(
    new_desk: Any, an_entry: Order
) -> None:
    guard = Protection(stop_loss=Decimal("0.1"))
    desk = new_desk(ready=False, strategy="s", default_protection=guard)
    desk.fill(an_entry)
    desk.resynced()
    desk.found(an_entry, OrderStatus.FILLED, ONE)
    position = desk.take(PositionChanged)[-1].position
    assert (position.strategy, position.protection) == ("s", guard)
    assert desk.open(Purpose.STOP)


def test_on_an_empty_disk_the_entry_after_a_residue_opens_its_own_position_and_is_guarded(
    new_desk: Any, an_entry: Order
) -> None:
    guard = Protection(stop_loss=Decimal("0.1"))
    desk = new_desk(replace(MARKET, amount_min=HALF / 5), ready=False, strategy="s", default_protection=guard)
    later = ids.client_order_id(
        BOT, bar_open=an_entry.bar_open + HOUR, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0
    )
    last = replace(an_entry, client_order_id=later)
    desk.fill(an_entry)
    desk.fill(replace(an_entry, client_order_id=_stray(Purpose.FLATTEN), side=Side.SELL), Decimal("0.95"))
    desk.fill(last)
    desk.resynced()
    for order in (an_entry, last):
        desk.found(order, OrderStatus.FILLED, ONE)
    position = desk.take(PositionChanged)[-1].position
    assert (position.position_id, position.strategy) == (later, "s")
    assert desk.open(Purpose.STOP)


def test_without_one_the_position_is_told_as_unguarded_and_no_entry_is_made(new_desk: Any, an_entry: Order) -> None:
    desk = new_desk(ready=False)
    desk.fill(an_entry)
    desk.resynced()
    desk.found(an_entry, OrderStatus.FILLED, ONE)
    sent = desk.probe.take()
    assert [one.key.split(":")[0] for one in _of(sent, Notice)] == ["unguarded"]
    assert "was opened by no order" in _of(sent, AccountDoubted)[-1].causes[0]


def test_an_order_that_was_taken_off_the_book_and_stands_on_it_is_cancelled_again(desk: Desk) -> None:
    entry = desk.enter()
    (stop,) = desk.open(Purpose.STOP)
    desk.fill(replace(entry, client_order_id="by-hand", side=Side.SELL))
    desk.cancel(stop.order)
    desk.take(CancelOrder)
    desk.found(stop.order, OrderStatus.ACCEPTED)
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stop.order.client_order_id]
    desk.cancel(stop.order)
    assert f"cancel:{stop.order.client_order_id}" not in desk.probe.asking


def test_a_stop_that_was_withdrawn_unsent_and_was_sent_by_a_former_life_is_cancelled_where_it_stands(
    desk: Desk,
) -> None:
    """A life before has sent the same stop, and its disk could not say so: it is under that id on the book."""
    desk.approve(Purpose.ENTRY, Side.BUY)
    entry = desk.order(Purpose.ENTRY)
    desk.accept(entry)
    desk.fill(entry)
    stop = desk.order(Purpose.STOP)
    desk.fill(replace(entry, client_order_id="by-hand", side=Side.SELL))
    assert desk.state(stop.client_order_id).status is OrderStatus.CANCELED
    desk.take(CancelOrder)
    desk.found(stop, OrderStatus.ACCEPTED)
    assert [one.client_order_id for one in desk.take(CancelOrder)] == [stop.client_order_id]


def test_a_refused_exit_looks_for_what_stands_in_its_way(desk: Desk) -> None:
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.record(order)
    desk.take(ResyncAccount)
    desk.reject(order)
    assert [one.symbol for one in desk.take(ResyncAccount)] == [SYMBOL]


# The operator's word


def test_a_correction_moves_position_and_stop_and_is_told(desk: Desk) -> None:
    desk.enter(Decimal(2))
    desk.probe.tell(_adjusted("-0.5"))
    sent = desk.probe.take()
    changed = _of(sent, PositionChanged)[-1]
    assert (changed.position.qty, changed.adjustments) == (Decimal("1.5"), 1)
    assert {state.order.qty for state in desk.open(Purpose.STOP)} >= {Decimal("1.5")}
    assert "withdrawn" in _of(sent, Notice)[0].text
    desk.probe.tell(_adjusted("-0.5"))
    assert desk.take(PositionChanged) == []


def test_a_correction_to_nothing_withdraws_the_guards_and_one_from_nothing_has_no_stop(desk: Desk) -> None:
    desk.enter()
    desk.probe.tell(_adjusted("-1"))
    sent = desk.probe.take()
    assert _of(sent, PositionChanged)[-1].position is None
    assert len(_of(sent, CancelOrder)) == 2
    desk.probe.tell(_adjusted("3", number=8))
    sent = desk.probe.take()
    assert "has no stop" in _of(sent, Notice)[0].text
    assert _of(sent, AccountDoubted) == []


@pytest.mark.parametrize("outcome", [OrderStatus.ABSENT, OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_unknown_order_ends_as_its_operator_says_once(desk: Desk, outcome: OrderStatus) -> None:
    order = desk.entry_in_doubt()
    desk.probe.actor._given_up.add(order.client_order_id)
    desk.probe.tell(_resolve(order, outcome))
    assert desk.state(order.client_order_id).status is outcome
    assert desk.state(order.client_order_id).reason == "resolved by hand: seen"
    desk.probe.tell(_resolve(order, outcome))
    assert [one.outcome for one in desk.take(RequestDone)] == [
        f"{order.client_order_id} is {outcome}: seen",
        "done before",
    ]


def test_an_operators_word_against_the_facts_is_told_and_changes_nothing(desk: Desk) -> None:
    entry = desk.enter()
    desk.probe.tell(_resolve(entry, OrderStatus.CANCELED))
    desk.probe.tell(_resolve(replace(entry, client_order_id="0" * 32), OrderStatus.ABSENT, number=4))
    told = [one.outcome for one in desk.take(RequestDone)]
    assert told == ["not resolved: it is not unknown, but filled", f"no order {'0' * 32} is known here"]


def test_an_order_that_has_filled_is_never_resolved_as_absent(desk: Desk) -> None:
    order = desk.entry_in_doubt()
    desk.fill(order, HALF)
    desk.probe.tell(_resolve(order, OrderStatus.ABSENT))
    assert desk.state(order.client_order_id).status is OrderStatus.UNKNOWN
    assert desk.take(RequestDone)[0].outcome.startswith("not resolved: 0.5 of it has filled")


# Dust


def test_what_is_left_below_the_minimum_is_told_as_dust_once_nothing_can_trade_it(new_desk: Any) -> None:
    desk = new_desk(replace(MARKET, amount_min=Decimal("0.1")))
    desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    order = desk.order(Purpose.EXIT)
    desk.accept(order)
    desk.fill(order, Decimal("0.95"))
    assert desk.take(PositionChanged)[-1].dust is False
    desk.cancel(order, Decimal("0.95"))
    for state in desk.open():
        desk.cancel(state.order)
    changed = desk.take(PositionChanged)[-1]
    assert (changed.dust, changed.held, changed.position.qty) == (True, None, Decimal("0.05"))
    assert desk.open() == []


# What is not on the book any more


def _read(*orders: Order) -> OpenOrdersRead:
    return OpenOrdersRead(symbol=SYMBOL, client_order_ids=tuple(order.client_order_id for order in orders))


def _asked(desk: Desk) -> list[str]:
    return [query.client_order_id for query in desk.take(QueryOrder)]


def test_an_order_that_has_gone_without_a_word_is_asked_after_and_its_guard_made_anew(desk: Desk) -> None:
    desk.enter()
    stop, target = desk.order(Purpose.STOP), desk.order(Purpose.TARGET)
    desk.probe.tell(_read(target))
    assert _asked(desk) == [stop.client_order_id]
    desk.found(stop, OrderStatus.CANCELED)
    anew = desk.order(Purpose.STOP)
    assert anew.client_order_id != stop.client_order_id
    desk.probe.advance(QUERY_EVERY_S)
    assert _asked(desk) == []


def test_an_order_that_a_late_reading_lacked_stays_as_it_is(desk: Desk) -> None:
    desk.enter()
    stop, target = desk.order(Purpose.STOP), desk.order(Purpose.TARGET)
    desk.probe.tell(_read(target))
    desk.take(QueryOrder)
    desk.found(stop, OrderStatus.ACCEPTED)
    desk.probe.advance(QUERY_EVERY_S)
    assert _asked(desk) == []
    assert desk.state(stop.client_order_id).status is OrderStatus.ACCEPTED


def test_an_order_that_is_filled_in_part_and_gone_goes_on_for_the_rest(desk: Desk) -> None:
    entry = desk.enter()
    desk.approve(Purpose.EXIT, Side.SELL, bar=1)
    leave = desk.order(Purpose.EXIT)
    desk.accept(leave)
    desk.fill(leave, HALF)
    desk.probe.take()
    desk.probe.tell(_read(*(state.order for state in desk.open() if state.order is not leave)))
    assert _asked(desk) == [leave.client_order_id]
    desk.found(leave, OrderStatus.CANCELED, HALF)
    desk.probe.advance(5.0)
    again = desk.order(Purpose.EXIT)
    assert (again.attempt, again.qty) == (1, HALF)
    assert entry.client_order_id not in _asked(desk)


def test_an_order_that_was_not_seen_on_the_book_is_not_missed_there(desk: Desk) -> None:
    desk.approve(Purpose.ENTRY, Side.BUY)
    desk.record(desk.order(Purpose.ENTRY))
    desk.probe.take()
    desk.probe.tell(_read())
    assert _asked(desk) == []


def test_an_order_that_is_asked_after_already_is_not_asked_after_twice(desk: Desk) -> None:
    desk.enter()
    desk.probe.tell(_read())
    assert len(_asked(desk)) == 2
    desk.probe.tell(_read())
    assert _asked(desk) == []
