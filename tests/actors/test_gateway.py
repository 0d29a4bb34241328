"""The gateway: one send per id, nothing after the lease or the expiry, and no error taken for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.account_reader import GATHER_S
from tbh.actors.gateway import GatewayActor
from tbh.actors.signing import HEARD_WITHIN_S
from tbh.domain.order import draft
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountQueryFailed,
    AccountResynced,
    AccountSnapshot,
    Balance,
    QueryAccount,
    ResyncAccount,
)
from tbh.messages.base import Message
from tbh.messages.controls import LeaseLapsed, LeaseLost, LeaseRenewed
from tbh.messages.health import GateChanged, RequestFailed
from tbh.messages.market import Market, MarketMoved, Phase
from tbh.messages.orders import (
    NOT_SENT,
    CancelOrder,
    CancelRefused,
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderState,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Side,
)
from tbh.ports import AccountEvent, Batch, Defer, Fatal, OrderReport, PositionReport, Rejected, Unavailable, Unknown
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.entry_at_gateway import ENTRY, FILL, OPEN, SYMBOL

LEASE = LeaseRenewed(epoch=1, deadline_s=25.0, renewals=1)
MOVED = MarketMoved(symbol=SYMBOL, bar_open=EPOCH, phase=Phase.OPEN, price=Decimal(100))
FUTURES = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal(0),
    maker_fee=Decimal(0),
)
EXIT = replace(ENTRY, client_order_id="exit", side=Side.SELL, purpose=Purpose.EXIT, reduce_only=True, expires_at=None)


def report(client_order_id: str, status: OrderStatus = OrderStatus.ACCEPTED, **more: Any) -> OrderReport:
    standing = OrderReport(
        client_order_id=client_order_id, exchange_order_id="x", status=status, filled_qty=Decimal(0), avg_price=None
    )
    return replace(standing, **more)


class Scripted:
    """An exchange that answers what it is told to; ``answers`` by method, an exception is raised."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}
        self.log: list[AccountEvent] = []
        self.window_s = 0.0
        self.rules = FUTURES
        self.before: Callable[[str], None] = lambda method: None

    def _answer(self, method: str, about: str, default: Any) -> Any:
        self.calls.append((method, about))
        self.before(method)
        answer = self.answers.get(method, default)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sent(self, method: str) -> list[str]:
        return [about for one, about in self.calls if one == method]

    def market(self, symbol: str) -> Market:
        return self.rules

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        answer: OrderReport = self._answer("place", order.client_order_id, report(order.client_order_id))
        return answer

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        answer: OrderReport = self._answer("cancel", client_order_id, report(client_order_id, OrderStatus.CANCELED))
        return answer

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        answer: OrderReport | None = self._answer("order", client_order_id, None)
        return answer

    def open_orders(self, symbol: str, *, timeout_s: float) -> list[OrderReport]:
        answer: list[OrderReport] = self._answer("open_orders", symbol, [])
        return answer

    def events(self, after: int, *, timeout_s: float) -> list[AccountEvent]:
        answer: list[AccountEvent] = self._answer(
            "events", str(after), [event for event in self.log if event.seq > after]
        )
        return answer

    def last_seq(self) -> int:
        return max((event.seq for event in self.log), default=0)

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        qty = self._answer("position", symbol, Decimal(0))
        return PositionReport(symbol=symbol, qty=qty, entry_price=None)

    def balances(self, *, timeout_s: float) -> list[Balance]:
        answer: list[Balance] = self._answer("balances", "", [])
        return answer

    def arrival_window_s(self) -> float:
        return self.window_s

    def close(self) -> None: ...


class Gate:
    def __init__(
        self,
        *,
        store: MemoryStore | None = None,
        lease: Message | None = LEASE,
        gate: Message | None = OPEN,
        **more: Any,
    ) -> None:
        self.exchange = exchange = Scripted()
        kept = store or MemoryStore()
        self.probe = Probe(
            GatewayActor, lambda ctx: GatewayActor(ctx, exchange=exchange, store=kept, **more), name="gateway"
        )
        if lease is not None:
            self.probe.tell(lease)
        if gate is not None:
            self.probe.tell(gate)
        self.probe.take()

    def tell(self, *messages: Message) -> list[Message]:
        """What is said of it, requests that went well left aside."""
        self.probe.tell(*messages)
        return [one for one in self.probe.take() if type(one).__name__ != "RequestSucceeded"]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def submitted(order: Order) -> OrderSubmitted:
    return OrderSubmitted(client_order_id=order.client_order_id)


def refused(order: Order, reason: str) -> OrderRejected:
    return OrderRejected(client_order_id=order.client_order_id, reason=reason)


# Placing


def test_an_order_is_submitted_sent_and_accepted_in_that_order(gate: Gate) -> None:
    gate.exchange.before = lambda method: gate.exchange.log.append(FILL) if method == "place" else None
    assert gate.tell(PlaceOrder(order=ENTRY)) == [
        submitted(ENTRY),
        OrderAccepted(client_order_id="entry", exchange_order_id="x"),
        FILL,
    ]


def test_no_id_is_sent_twice(gate: Gate) -> None:
    """L3. A second command for it asks where it stands."""
    gate.tell(PlaceOrder(order=ENTRY))
    gate.exchange.answers["order"] = report("entry")
    assert [type(one) for one in gate.tell(PlaceOrder(order=ENTRY))] == [OrderFound]
    assert gate.exchange.sent("place") == ["entry"]


def test_an_id_that_was_refused_here_is_not_sent_later(gate: Gate) -> None:
    gate.tell(LeaseLapsed(epoch=1), PlaceOrder(order=ENTRY), LEASE)
    assert gate.tell(PlaceOrder(order=ENTRY)) == [OrderNotFound(client_order_id="entry", conclusive=False)]
    assert gate.exchange.sent("place") == []


@pytest.mark.parametrize(
    "failure", [Unknown("timeout"), Unavailable("dns"), Defer("busy", after_s=1)], ids=lambda one: one.kind
)
def test_whatever_is_no_refusal_leaves_the_outcome_unknown(gate: Gate, failure: Exception) -> None:
    """L1: orders were marked as failed during a DNS outage."""
    gate.exchange.answers["place"] = failure
    said = gate.tell(PlaceOrder(order=ENTRY))
    assert said[:2] == [submitted(ENTRY), OutcomeUnknown(client_order_id="entry", reason=str(failure))]
    assert [type(one) for one in said[2:]] == [RequestFailed]


def test_a_refusal_by_the_exchange_is_a_rejection(gate: Gate) -> None:
    gate.exchange.answers["place"] = Rejected("insufficient_funds")
    assert refused(ENTRY, "insufficient_funds") in gate.tell(PlaceOrder(order=ENTRY))


def test_an_answer_without_an_order_id_proves_nothing(gate: Gate) -> None:
    gate.exchange.answers["place"] = report("entry", exchange_order_id="")
    assert OutcomeUnknown(client_order_id="entry", reason="an answer without an order id") in gate.tell(
        PlaceOrder(order=ENTRY)
    )


def test_an_order_that_is_over_already_is_told_with_its_end(gate: Gate) -> None:
    """The id was known: its events went to an incarnation that is gone."""
    gate.exchange.answers["place"] = report("exit", OrderStatus.CANCELED)
    assert [type(one) for one in gate.tell(PlaceOrder(order=EXIT))] == [OrderSubmitted, OrderAccepted, OrderFound]


def test_an_expired_order_is_answered_and_not_sent(gate: Gate) -> None:
    gate.probe.set_now(EPOCH + timedelta(minutes=3))
    assert gate.tell(PlaceOrder(order=ENTRY)) == [refused(ENTRY, "expired before it was sent")]
    assert gate.exchange.sent("place") == []


def test_a_fatal_failure_is_passed_up(gate: Gate) -> None:
    gate.exchange.answers["place"] = Fatal("keys", exit_code=78)
    gate.tell(PlaceOrder(order=ENTRY))
    assert gate.probe.escalation is not None
    assert gate.probe.escalation[2] == 78


# The lease


def test_after_the_deadline_no_entry_is_sent_and_exits_are(gate: Gate) -> None:
    gate.probe.advance(25)
    assert gate.tell(PlaceOrder(order=ENTRY)) == [refused(ENTRY, "lease_lapsed")]
    assert submitted(EXIT) in gate.tell(PlaceOrder(order=EXIT))


def test_a_lost_lease_lets_nothing_through(gate: Gate) -> None:
    gate.tell(LeaseLost(reason="epoch 2"), LEASE)
    assert gate.tell(PlaceOrder(order=EXIT)) == [refused(EXIT, "lease_lost: epoch 2")]
    assert gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL)) == [
        CancelRefused(client_order_id="entry", reason="lease_lost: epoch 2")
    ]
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []


def test_a_halt_stops_entries_and_not_exits(gate: Gate) -> None:
    gate.probe.halt("test")
    assert gate.tell(PlaceOrder(order=ENTRY)) == [refused(ENTRY, "halted: test")]
    assert submitted(EXIT) in gate.tell(PlaceOrder(order=EXIT))


def test_a_halt_because_another_owns_the_bot_lets_nothing_through(gate: Gate) -> None:
    gate.probe.halt("lease_lost", exit_code=75)
    assert gate.tell(PlaceOrder(order=EXIT)) == [refused(EXIT, "lease_lost: another runtime owns the bot")]
    assert [type(one) for one in gate.tell(CancelOrder(client_order_id="stop", symbol=SYMBOL))] == [CancelRefused]
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []


def test_what_waits_before_the_word_that_another_owns_the_bot_is_not_sent_by_a_restarted_gateway(gate: Gate) -> None:
    """The gate's word among it is older, too; the halt overtakes all of it."""
    gate.probe.cell.fail(None, RuntimeError("restart"))
    gate.tell(
        CancelOrder(client_order_id="stop", symbol=SYMBOL),
        PlaceOrder(order=EXIT),
        GateChanged(reasons=(), exits_allowed=True),
    )
    gate.probe.halt("lease_lost", exit_code=75)
    gate.tell(LeaseLost(reason="epoch 2"))
    gate.probe.advance(60, market=False)
    assert gate.probe.restarts == 1
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []


def test_an_entry_waits_for_the_first_word_of_the_lease_and_an_exit_does_not() -> None:
    gate = Gate(lease=None)
    assert gate.tell(PlaceOrder(order=ENTRY)) == []
    assert submitted(EXIT) in gate.tell(PlaceOrder(order=EXIT))
    assert submitted(ENTRY) in gate.tell(LEASE)


def test_a_query_does_not_overtake_the_order_that_waits() -> None:
    """Denied first and sent then, the order and its next attempt would both be there."""
    gate = Gate(lease=None)
    query = QueryOrder(client_order_id="entry", symbol=SYMBOL)
    assert gate.tell(PlaceOrder(order=ENTRY), query) == []
    gate.exchange.answers["order"] = report("entry")
    assert [type(one) for one in gate.tell(LEASE)] == [OrderSubmitted, OrderAccepted, OrderFound]


def test_what_waits_keeps_its_order_over_a_restart() -> None:
    gate = Gate(lease=None)
    gate.tell(PlaceOrder(order=ENTRY), CancelOrder(client_order_id="entry", symbol=SYMBOL))
    gate.probe.restart()
    assert gate.exchange.sent("place") == []
    gate.tell(replace(LEASE, deadline_s=1e9))
    assert gate.exchange.sent("place") == []
    gate.tell(OPEN)
    assert [one for one in gate.exchange.calls if one[1] == "entry"] == [("place", "entry"), ("cancel", "entry")]


def test_a_restarted_gateway_sends_no_entry_before_it_has_heard_the_operators_word() -> None:
    killed = GateChanged(reasons=("killed",), exits_allowed=True)
    gate = Gate(lease=replace(LEASE, deadline_s=1e9), gate=killed)
    gate.probe.restart()
    gate.tell(PlaceOrder(order=ENTRY), replace(LEASE, deadline_s=1e9))
    assert gate.tell(killed) == [refused(ENTRY, "entries are closed: killed")]
    assert gate.exchange.sent("place") == []


def test_an_exit_waits_for_nobodys_word() -> None:
    gate = Gate(lease=None, gate=None)
    gate.tell(PlaceOrder(order=EXIT))
    assert gate.exchange.sent("place") == ["exit"]


def test_without_lease_and_reduce_only_an_exit_is_sent_up_to_what_is_held(gate: Gate) -> None:
    """Another process may have sold it already."""
    gate.exchange.rules = replace(FUTURES, enforces_reduce_only=False)
    gate.tell(LeaseLapsed(epoch=1))
    gate.exchange.answers["position"] = Decimal("0.5")
    (answer,) = gate.tell(PlaceOrder(order=EXIT))
    assert isinstance(answer, OrderRejected)
    gate.exchange.answers["position"] = Decimal(1)
    gate.tell(PlaceOrder(order=replace(EXIT, client_order_id="exit-2")))
    assert gate.exchange.sent("place") == ["exit-2"]
    gate.exchange.answers["position"] = Unknown("timeout")
    gate.tell(PlaceOrder(order=replace(EXIT, client_order_id="exit-3")))
    assert gate.exchange.sent("place") == ["exit-2"]


@pytest.mark.parametrize("holding", [Decimal("0.5"), Unknown("timeout"), Defer("rate_limited", after_s=60)], ids=str)
def test_an_exit_that_is_held_back_for_want_of_evidence_is_told_as_not_sent(gate: Gate, holding: object) -> None:
    """The exchange has refused nothing: whoever counts refusals must be able to tell."""
    gate.exchange.rules = replace(FUTURES, enforces_reduce_only=False)
    gate.exchange.answers["position"] = holding
    gate.tell(LeaseLapsed(epoch=1))
    (answer,) = [one for one in gate.tell(PlaceOrder(order=EXIT)) if isinstance(one, OrderRejected)]
    assert answer.reason.startswith(NOT_SENT)
    assert gate.exchange.sent("place") == []


# Evidence


def test_a_denial_proves_absence_once_the_request_can_no_longer_arrive(gate: Gate) -> None:
    """L4: "order not found" right after the creation."""
    gate.exchange.window_s = 5
    gate.exchange.answers["place"] = Unknown("timeout")
    gate.tell(PlaceOrder(order=ENTRY))
    query = QueryOrder(client_order_id="entry", symbol=SYMBOL, signed_until=ENTRY.expires_at)
    assert gate.tell(query) == [OrderNotFound(client_order_id="entry", conclusive=False)]
    gate.probe.advance(5.1)
    assert gate.tell(query) == [OrderNotFound(client_order_id="entry", conclusive=True)]


def test_an_exit_without_an_expiry_can_be_proven_absent_too(gate: Gate) -> None:
    gate.exchange.window_s = 5
    gate.exchange.answers["place"] = Unknown("timeout")
    gate.tell(PlaceOrder(order=EXIT))
    query = QueryOrder(client_order_id="exit", symbol=SYMBOL)
    assert gate.tell(query) == [OrderNotFound(client_order_id="exit", conclusive=False)]
    gate.probe.advance(5.1)
    assert gate.tell(query) == [OrderNotFound(client_order_id="exit", conclusive=True)]


def test_the_window_of_what_a_former_incarnation_sent_begins_with_this_one(gate: Gate) -> None:
    gate.exchange.window_s = 5
    gate.tell(PlaceOrder(order=EXIT))
    gate.probe.advance(60)
    gate.probe.restart()
    query = QueryOrder(client_order_id="exit", symbol=SYMBOL)
    assert gate.tell(query)[-1] == OrderNotFound(client_order_id="exit", conclusive=False)
    gate.probe.advance(5.1)
    assert gate.tell(query)[-1] == OrderNotFound(client_order_id="exit", conclusive=True)


@pytest.mark.parametrize("leap_s", [6, 3600])
def test_a_leap_of_market_time_proves_no_absence(gate: Gate, leap_s: int) -> None:
    """The first answer of the exchange moves it from the machine's clock to the exchange's."""
    gate.exchange.window_s = 5
    query = QueryOrder(client_order_id="of a former process", symbol=SYMBOL, signed_until=EPOCH - timedelta(hours=1))
    gate.probe.set_now(EPOCH + timedelta(seconds=leap_s))
    assert [one.conclusive for one in gate.tell(query) if isinstance(one, OrderNotFound)] == [False]
    gate.probe.advance(5.1)
    assert [one.conclusive for one in gate.tell(query) if isinstance(one, OrderNotFound)] == [True]


def test_the_process_clock_alone_proves_no_absence_either(gate: Gate) -> None:
    gate.exchange.window_s = 5
    gate.exchange.answers["place"] = Unknown("timeout")
    gate.tell(PlaceOrder(order=EXIT))
    gate.probe.advance(3600, market=False)
    answers = gate.tell(QueryOrder(client_order_id="exit", symbol=SYMBOL))
    assert answers[-1] == OrderNotFound(client_order_id="exit", conclusive=False)


def test_a_failed_query_is_no_denial(gate: Gate) -> None:
    """L25: any exception was counted as "not found"."""
    gate.exchange.answers["order"] = Rejected("order not found")
    (failed,) = gate.tell(QueryOrder(client_order_id="entry", symbol=SYMBOL))
    assert isinstance(failed, RequestFailed)


def test_events_are_told_before_the_answer_that_rests_on_them(gate: Gate) -> None:
    gate.exchange.log.append(FILL)
    gate.exchange.answers["order"] = report("entry", OrderStatus.FILLED, filled_qty=Decimal(1))
    said = gate.tell(QueryOrder(client_order_id="entry", symbol=SYMBOL))
    assert [type(one) for one in said] == [Fill, OrderFound]


# Cancelling


def test_a_cancel_is_told_once_by_the_accounts_own_event(gate: Gate) -> None:
    event = OrderCanceled(client_order_id="entry", filled_qty=Decimal(0), reason="requested", seq=1)
    gate.exchange.before = lambda method: gate.exchange.log.append(event) if method == "cancel" else None
    assert gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL)) == [event]


def test_a_cancel_without_an_event_is_told_from_the_answer(gate: Gate) -> None:
    (canceled,) = gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL))
    assert isinstance(canceled, OrderCanceled)


def test_a_cancel_that_found_the_order_filled_says_so(gate: Gate) -> None:
    gate.exchange.answers["cancel"] = report("entry", OrderStatus.FILLED, filled_qty=Decimal(1))
    (found,) = gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL))
    assert isinstance(found, OrderFound)


def test_a_refused_cancel_is_told_after_the_events_that_explain_it(gate: Gate) -> None:
    gate.exchange.log.append(FILL)
    gate.exchange.answers["cancel"] = Rejected("order_done")
    assert gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL)) == [
        FILL,
        CancelRefused(client_order_id="entry", reason="order_done"),
    ]


def test_a_cancel_without_an_answer_says_nothing_of_the_order(gate: Gate) -> None:
    gate.exchange.answers["cancel"] = Unknown("timeout")
    (failed,) = gate.tell(CancelOrder(client_order_id="entry", symbol=SYMBOL))
    assert isinstance(failed, RequestFailed)


# The account


def test_each_event_is_told_once(gate: Gate) -> None:
    gate.exchange.log.append(FILL)
    assert gate.tell(MOVED) == [FILL]
    assert gate.tell(MOVED) == []


def test_a_restart_goes_on_behind_the_newest_fill_on_disk() -> None:
    store = MemoryStore()
    store.commit(Batch(fills=[FILL]))
    gate = Gate(store=store)
    gate.exchange.log += [FILL, replace(FILL, trade_id="t2", seq=2)]
    assert [one.trade_id for one in gate.tell(MOVED) if isinstance(one, Fill)] == ["t2"]


def test_a_replay_waits_until_the_events_could_be_read(gate: Gate) -> None:
    gate.exchange.log.append(FILL)
    gate.exchange.answers["events"] = Unavailable("dns")
    (failed,) = gate.tell(MOVED)
    assert isinstance(failed, RequestFailed)
    assert gate.probe.asking == ["events"]
    del gate.exchange.answers["events"]
    gate.probe.advance(0.5)
    assert FILL in gate.probe.take()
    assert gate.probe.asking == []


def test_failing_polls_do_not_pile_up_timers(gate: Gate) -> None:
    gate.exchange.answers["events"] = Unavailable("dns")
    for _ in range(20):
        gate.tell(MOVED)
    gate.exchange.calls.clear()
    gate.probe.advance(0.5)
    assert gate.exchange.sent("events") == ["0"]


def test_a_snapshot_says_which_events_were_told_before_it(gate: Gate) -> None:
    gate.exchange.log.append(FILL)
    *_, snapshot = gate.tell(QueryAccount(request_id="q", symbol=SYMBOL))
    assert isinstance(snapshot, AccountSnapshot)
    assert (snapshot.seq_before, snapshot.seq_after) == (1, 1)


def test_a_fill_that_falls_into_a_snapshot_spoils_it(gate: Gate) -> None:
    gate.exchange.before = lambda method: gate.exchange.log.append(FILL) if method == "position" else None
    *_, snapshot = gate.tell(QueryAccount(request_id="q", symbol=SYMBOL))
    assert isinstance(snapshot, AccountSnapshot)
    assert (snapshot.seq_before, snapshot.seq_after) == (0, 1)


@pytest.mark.parametrize("method", ["events", "position", "balances"])
def test_a_snapshot_that_could_not_be_taken_is_no_flat_position(gate: Gate, method: str) -> None:
    gate.exchange.answers[method] = Unknown("timeout")
    *_, failed = gate.tell(QueryAccount(request_id="q", symbol=SYMBOL))
    assert isinstance(failed, AccountQueryFailed)


def resynced(gate: Gate, *commands: ResyncAccount) -> list[Any]:
    """What is said once the time in which such commands are gathered is over."""
    for command in commands:
        gate.tell(command)
    gate.probe.advance(GATHER_S)
    return gate.probe.take()


def test_a_resync_repeats_the_events_and_tells_the_open_orders_before_its_answer(gate: Gate) -> None:
    gate.exchange.log += [FILL, replace(FILL, trade_id="t2", seq=2)]
    gate.tell(MOVED)
    gate.exchange.answers["open_orders"] = [report("stop")]
    said = resynced(gate, ResyncAccount(requester="me", after=1, symbol=SYMBOL))
    assert [type(one) for one in said] == [Fill, OrderFound, AccountResynced]
    assert said[-1] == AccountResynced(requester="me", seq=2)


@pytest.mark.parametrize("method", ["events", "open_orders"])
def test_a_resync_that_failed_is_not_answered(gate: Gate, method: str) -> None:
    gate.exchange.answers[method] = Unknown("timeout")
    said = resynced(gate, ResyncAccount(requester="me", after=0, symbol=SYMBOL))
    assert gate.exchange.sent(method)
    assert not [one for one in said if isinstance(one, AccountResynced)]


def test_those_who_ask_together_are_answered_by_one_reading_from_the_earliest_mark(gate: Gate) -> None:
    gate.exchange.log += [FILL, replace(FILL, trade_id="t2", seq=2)]
    gate.tell(MOVED)
    read_before = len(gate.exchange.sent("events"))
    late = ResyncAccount(requester="late", after=2)
    said = resynced(gate, late, ResyncAccount(requester="new", after=0, symbol=SYMBOL), late)
    assert [one.trade_id for one in said if isinstance(one, Fill)] == [FILL.trade_id, "t2"]
    assert [one for one in said if isinstance(one, AccountResynced)] == [
        AccountResynced(requester="late", seq=2),
        AccountResynced(requester="new", seq=2),
    ]
    assert len(gate.exchange.sent("events")) == read_before + 2  # what is new, and what is repeated
    assert resynced(gate) == []


def test_a_live_account_is_polled_by_itself() -> None:
    gate = Gate(poll_s=1.0)
    gate.exchange.log.append(FILL)
    gate.probe.advance(1.1)
    assert FILL in gate.probe.take()


@pytest.mark.parametrize(
    "message",
    [PlaceOrder(order=ENTRY), CancelOrder(client_order_id="entry", symbol=SYMBOL), MOVED, LEASE],
    ids=lambda one: type(one).__name__,
)
def test_a_failure_at_any_message_loses_no_event(gate: Gate, message: Message) -> None:
    gate.exchange.log.append(FILL)
    gate.probe.fail_next()
    gate.tell(message)
    gate.probe.advance(1)
    assert gate.probe.restarts == 1
    assert FILL in gate.probe.take() or FILL in gate.tell(MOVED)
    assert gate.exchange.sent("place") == []


def test_a_gateway_that_restarts_in_an_ousted_process_learns_it_from_the_gate(gate: Gate) -> None:
    """Who heard it from the database has ended by it, and can't say it again."""
    gate.tell(GateChanged(reasons=("lease_lost",), exits_allowed=False))
    assert gate.tell(PlaceOrder(order=EXIT)) == [
        OrderRejected(client_order_id="exit", reason="lease_lost: another runtime owns the bot")
    ]
    assert [type(one) for one in gate.tell(CancelOrder(client_order_id="stop", symbol=SYMBOL))] == [CancelRefused]
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []


def restarted_just_now(gate: Gate) -> None:
    gate.probe.cell.fail(None, RuntimeError("restart"))
    while not gate.probe.restarts:
        gate.probe.advance(0.01, market=False)


def test_a_restarted_gateway_sends_nothing_before_it_has_heard_that_it_still_may(gate: Gate) -> None:
    restarted_just_now(gate)
    gate.tell(PlaceOrder(order=EXIT), CancelOrder(client_order_id="stop", symbol=SYMBOL))
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []
    gate.tell(GateChanged(reasons=("lease_lost",), exits_allowed=False))
    assert gate.exchange.sent("place") == gate.exchange.sent("cancel") == []


def test_a_restarted_gateway_that_nobody_tells_anything_reduces_risk_after_a_second(gate: Gate) -> None:
    restarted_just_now(gate)
    gate.tell(PlaceOrder(order=EXIT), CancelOrder(client_order_id="stop", symbol=SYMBOL))
    gate.probe.advance(HEARD_WITHIN_S + 0.01)
    assert gate.exchange.sent("place") == ["exit"]
    assert gate.exchange.sent("cancel") == ["stop"]


@pytest.mark.parametrize(
    ("drafted_at", "placed"), [(EXIT.created_at, ["exit"]), (EXIT.created_at - timedelta(seconds=5), [])]
)
def test_a_restarted_gateway_asks_after_an_order_of_which_the_disk_has_another_draft(
    drafted_at: datetime, placed: list[str]
) -> None:
    """Both have restarted: who drafted it while the disk was slow, and who may have signed it."""
    store = MemoryStore()
    gate = Gate(store=store)
    restarted_just_now(gate)
    store.commit(Batch(drafts=[draft(replace(EXIT, created_at=drafted_at), drafted_at)]))
    gate.tell(OPEN)
    said = gate.tell(PlaceOrder(order=EXIT))
    assert gate.exchange.sent("place") == placed
    assert (OrderNotFound(client_order_id="exit", conclusive=False) in said) == (not placed)


def test_a_disk_that_cannot_be_read_keeps_an_entry_from_a_restarted_gateway_and_no_exit() -> None:
    class Unreadable(MemoryStore):
        def order(self, client_order_id: str) -> OrderState | None:
            raise Unavailable("broken")

    gate = Gate(store=Unreadable())
    restarted_just_now(gate)
    gate.tell(LEASE, OPEN, PlaceOrder(order=ENTRY), PlaceOrder(order=EXIT))
    assert gate.exchange.sent("place") == ["exit"]
