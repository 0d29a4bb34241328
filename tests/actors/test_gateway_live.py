"""The gateway on a real account: it polls on its own time, and lets nothing outlive the lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.account_reader import GATHER_S, OPEN_ORDERS_S
from tbh.actors.gateway import GatewayActor
from tbh.actors.signing import CLOSED_BY_PEOPLE
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import (
    AccountQueryFailed,
    AccountSnapshot,
    Balance,
    OpenOrdersRead,
    QueryAccount,
    ResyncAccount,
)
from tbh.messages.controls import LeaseRenewed
from tbh.messages.health import GateChanged
from tbh.messages.market import MarketMoved, Phase
from tbh.messages.orders import (
    CancelOrder,
    Fill,
    Order,
    OrderCanceled,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Purpose,
    QueryOrder,
    Side,
)
from tbh.ports import AccountEvent, Defer, OrderReport, PositionReport, Rejected, Unknown
from tbh.runtime.mailbox import Envelope
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.entry_at_gateway import ENTRY, OPEN, SYMBOL
from tests.actors.entry_at_gateway import FILL as FIRST_FILL

POLL_S = 1.0
D = Decimal
FILL = replace(FIRST_FILL, trade_id="7", seq=7)


class Account:
    """An exchange that knows of its events only what it has been asked for, as a real one's adapter does."""

    def __init__(self) -> None:
        self.log: list[AccountEvent] = []
        self.newest = 0
        self.polls = 0
        self.failure: Exception | None = None
        self.placed: list[Order] = []
        self.deadlines: list[float | None] = []
        self.during_account: list[AccountEvent] = []
        self.filled_qty = D(0)
        self.open: list[OrderReport] = []
        self.slow: Callable[[], None] = lambda: None
        self.asked: list[str] = []
        self.order_failure: Exception | None = None

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        self.placed.append(order)
        self.deadlines.append(deadline_s)
        return OrderReport(
            client_order_id=order.client_order_id,
            exchange_order_id="x",
            status=OrderStatus.FILLED if self.filled_qty else OrderStatus.ACCEPTED,
            filled_qty=self.filled_qty,
            avg_price=None,
        )

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        self.asked.append(client_order_id)
        self.slow()
        if self.order_failure is not None:
            raise self.order_failure
        return None

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        self.asked.append(f"cancel {client_order_id}")
        self.slow()
        raise Rejected("order_unknown")

    def open_orders(self, symbol: str, *, timeout_s: float) -> list[OrderReport]:
        return self.open

    def events(self, after: int, *, timeout_s: float) -> list[AccountEvent]:
        self.polls += 1
        if self.failure is not None:
            raise self.failure
        told = [event for event in self.log if event.seq > after or event.seq == 0]
        self.log = [event for event in self.log if event.seq > 0]
        self.newest = max([self.newest, after, *(event.seq for event in told)])
        return told

    def last_seq(self) -> int:
        return self.newest

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        self.log += self.during_account
        return PositionReport(symbol=symbol, qty=D(1), entry_price=None)

    def balances(self, *, timeout_s: float) -> list[Balance]:
        return []

    def arrival_window_s(self) -> float:
        return 5.0


def gateway(account: Account) -> Probe:
    exchange: Any = account
    return Probe(GatewayActor, lambda ctx: GatewayActor(ctx, exchange=exchange, store=MemoryStore(), poll_s=POLL_S))


def leased(account: Account, *, deadline_s: float) -> Probe:
    probe = gateway(account)
    probe.tell(LeaseRenewed(epoch=1, deadline_s=deadline_s, renewals=1), OPEN)
    return probe


def test_an_entry_expires_with_the_lease_so_that_the_exchange_refuses_a_late_one() -> None:
    account = Account()
    leased(account, deadline_s=1.5).tell(PlaceOrder(order=ENTRY))
    assert [order.expires_at for order in account.placed] == [EPOCH + timedelta(seconds=1.5)]
    assert account.deadlines == [1.5]


def test_an_entry_that_expires_before_the_lease_keeps_its_own_expiry() -> None:
    account = Account()
    leased(account, deadline_s=1_000.0).tell(PlaceOrder(order=ENTRY))
    assert account.placed == [ENTRY]


def test_an_exit_is_not_bound_by_the_lease() -> None:
    account = Account()
    exit_order = Order(
        client_order_id="exit",
        intent_id="i",
        symbol=SYMBOL,
        side=Side.SELL,
        type=OrderType.MARKET,
        qty=D(1),
        purpose=Purpose.EXIT,
        strategy="s",
        bar_open=EPOCH,
        created_at=EPOCH,
    )
    leased(account, deadline_s=1.5).tell(PlaceOrder(order=exit_order))
    assert account.placed == [exit_order]


def test_the_account_is_polled_on_its_own_time_and_not_at_every_price() -> None:
    account = Account()
    probe = gateway(account)
    polls = account.polls
    for _ in range(5):
        probe.tell(MarketMoved(symbol=SYMBOL, bar_open=EPOCH, phase=Phase.RANGE, price=D(100)))
    assert account.polls == polls
    probe.advance(POLL_S)
    assert account.polls == polls + 1


def test_a_poll_that_something_else_has_just_done_is_left_out() -> None:
    account = Account()
    account.filled_qty = D(1)
    probe = leased(account, deadline_s=1_000.0)
    probe.advance(POLL_S * 0.9)
    probe.tell(PlaceOrder(order=ENTRY))
    polls = account.polls
    probe.advance(POLL_S * 0.2)
    assert account.polls == polls
    probe.advance(POLL_S)
    assert account.polls == polls + 1


def test_an_end_without_a_number_is_told_once() -> None:
    account = Account()
    probe = gateway(account)
    ended = OrderCanceled(client_order_id="entry", filled_qty=D(0), reason="by hand", seq=0)
    account.log = [FILL, ended]
    probe.advance(POLL_S)
    probe.advance(POLL_S)
    assert [message for message in probe.sent if isinstance(message, Fill | OrderCanceled)] == [FILL, ended]


def test_a_snapshot_shows_that_an_event_fell_into_it() -> None:
    account = Account()
    probe = gateway(account)
    account.during_account = [FILL]
    probe.tell(QueryAccount(request_id="q", symbol=SYMBOL))
    snapshot = next(message for message in probe.sent if isinstance(message, AccountSnapshot))
    assert (snapshot.seq_before, snapshot.seq_after) == (0, 7)
    assert FILL in probe.sent


def test_a_snapshot_is_not_given_when_the_events_beside_it_cannot_be_read() -> None:
    account = Account()
    probe = gateway(account)
    account.failure = Unknown("reply_lost")
    probe.tell(QueryAccount(request_id="q", symbol=SYMBOL))
    assert not [message for message in probe.sent if isinstance(message, AccountSnapshot)]
    assert [message for message in probe.sent if isinstance(message, AccountQueryFailed)]


def test_a_pause_that_the_exchange_asked_for_is_kept() -> None:
    account = Account()
    account.failure = Defer("rate_limited", after_s=5.0)
    probe = gateway(account)
    polls = account.polls
    account.failure = None
    probe.advance(0.6)
    assert account.polls == polls
    probe.advance(5.0)
    assert account.polls > polls


def test_an_order_that_rests_costs_no_poll() -> None:
    account = Account()
    probe = leased(account, deadline_s=1_000.0)
    polls = account.polls
    probe.tell(PlaceOrder(order=ENTRY))
    assert account.polls == polls


def test_open_orders_are_told_now_and_then_so_that_a_forgotten_one_shows() -> None:
    account = Account()
    probe = gateway(account)
    ghost = OrderReport(
        client_order_id="ghost", exchange_order_id="9", status=OrderStatus.ACCEPTED, filled_qty=D(0), avg_price=None
    )
    probe.tell(ResyncAccount(requester="r", after=0, symbol=SYMBOL))
    probe.advance(GATHER_S)
    account.open = [ghost]
    probe.advance(OPEN_ORDERS_S + POLL_S)
    found = [message.client_order_id for message in probe.sent if isinstance(message, OrderFound)]
    assert found == ["ghost"]


def test_what_stands_on_the_book_is_told_as_a_whole_so_that_what_is_gone_shows() -> None:
    account = Account()
    probe = gateway(account)
    standing = OrderReport(
        client_order_id="stop", exchange_order_id="9", status=OrderStatus.ACCEPTED, filled_qty=D(0), avg_price=None
    )
    account.open = [standing]
    probe.tell(ResyncAccount(requester="r", after=0, symbol=SYMBOL))
    probe.advance(GATHER_S)
    account.open = []
    probe.advance(OPEN_ORDERS_S + POLL_S)
    read = [message for message in probe.sent if isinstance(message, OpenOrdersRead)]
    assert read == [
        OpenOrdersRead(symbol=SYMBOL, client_order_ids=("stop",)),
        OpenOrdersRead(symbol=SYMBOL, client_order_ids=()),
    ]


def waiting(probe: Probe, *commands: CancelOrder | QueryOrder, call_s: float = 1.0) -> Callable[[], None]:
    """A call that takes ``call_s``; the ``commands`` come during the first such."""
    left = list(commands)

    def slow() -> None:
        probe._move(call_s, market=True)
        while left:
            probe._offer(Envelope(next(probe._seq), "probe", probe.cell.name, 0, left.pop(0)))

    return slow


QUERY, CANCEL = (kind(client_order_id="one", symbol=SYMBOL) for kind in (QueryOrder, CancelOrder))
OTHER = QueryOrder(client_order_id="other", symbol=SYMBOL)


@pytest.mark.parametrize("failure", [None, Unknown("reply_lost")])
def test_what_is_asked_again_during_its_own_slow_call_is_not_asked_again(failure: Exception | None) -> None:
    account = Account()
    probe = gateway(account)
    account.order_failure = failure
    account.slow = waiting(probe, QUERY, OTHER, QUERY)
    probe.tell(QUERY)
    probe.advance(0.1)
    assert account.asked == ["one", "other"]
    probe.tell(QUERY)  # it came after the answer: whoever asks is no wiser
    assert account.asked == ["one", "other", "one"]


def test_a_cancel_that_comes_again_during_its_own_slow_call_is_not_sent_again() -> None:
    account = Account()
    probe = gateway(account)
    account.slow = waiting(probe, CANCEL, QUERY)
    probe.tell(CANCEL)
    probe.advance(0.1)
    assert account.asked == ["cancel one", "one"]
    probe.tell(CANCEL)
    assert account.asked == ["cancel one", "one", "cancel one"]


def test_what_is_asked_again_after_a_fast_call_is_put_again() -> None:
    account = Account()
    probe = gateway(account)
    account.slow = waiting(probe, QUERY, call_s=0.01)
    probe.tell(QUERY)
    probe.advance(0.1)
    assert account.asked == ["one", "one"]


def test_questions_that_come_faster_than_answers_keep_nothing_else_from_its_turn() -> None:
    account = Account()
    probe = gateway(account)
    orders = [replace(QUERY, client_order_id=f"{n}") for n in range(4)]
    waited: list[int] = []

    def offer(*messages: Any) -> None:
        for message in messages:
            probe._offer(Envelope(next(probe._seq), "probe", probe.cell.name, 0, message))

    def slow() -> None:
        """A second for each answer, and four orders that are each asked after every two."""
        probe._move(1.0, market=True)
        calls = len(account.asked)
        if calls % 2 == 0 and calls < 80:
            offer(*orders)
        if calls == 60:
            offer(QueryAccount(request_id="q", symbol=SYMBOL))

    def position(symbol: str, *, timeout_s: float) -> PositionReport:
        waited.append(len(account.asked) - 60)
        return PositionReport(symbol=symbol, qty=D(1), entry_price=None)

    account.slow = slow
    account.position = position  # type: ignore[method-assign]
    for _ in range(80):
        probe.tell(*orders)
        probe.advance(0.1)
    assert len(waited) == 1
    assert waited[0] <= 2 * len(orders)


@pytest.mark.parametrize("reason", sorted(CLOSED_BY_PEOPLE))
def test_an_entry_approved_before_the_operators_word_is_not_sent_after_it(reason: str) -> None:
    account = Account()
    probe = leased(account, deadline_s=1_000.0)
    probe.tell(GateChanged(reasons=(reason,), exits_allowed=True))
    probe.tell(PlaceOrder(order=ENTRY))
    assert account.placed == []
    assert [message.client_order_id for message in probe.sent if isinstance(message, OrderRejected)] == ["entry"]
    probe.tell(GateChanged(reasons=(), exits_allowed=True))
    probe.tell(PlaceOrder(order=replace(ENTRY, client_order_id="next")))
    assert [order.client_order_id for order in account.placed] == ["next"]


def test_an_entry_that_waited_behind_a_slow_call_hears_what_came_meanwhile_first() -> None:
    account = Account()
    probe = leased(account, deadline_s=1_000.0)

    def slow() -> None:
        """The call takes a second; meanwhile the entry comes, and after it the operator's word."""
        probe._move(1.0, market=True)
        for message in (PlaceOrder(order=ENTRY), GateChanged(reasons=("killed",), exits_allowed=True)):
            probe._offer(Envelope(next(probe._seq), "probe", probe.cell.name, 0, message))

    account.slow = slow
    probe.tell(QueryOrder(client_order_id="other", symbol=SYMBOL))
    probe.advance(0.1)
    assert account.placed == []
    assert OrderRejected(client_order_id="entry", reason="entries are closed: killed") in probe.sent


def test_an_entry_that_expires_behind_slow_calls_is_refused_although_there_is_no_end_of_them() -> None:
    account = Account()
    probe = leased(account, deadline_s=1_000.0)
    over_s = 120

    def offer(message: Any) -> None:
        probe._offer(Envelope(next(probe._seq), "probe", probe.cell.name, 0, message))

    def slow() -> None:
        """Each call takes a second; the entry comes during the first."""
        probe._move(1.0, market=True)
        if len(account.asked) == 1:
            offer(PlaceOrder(order=replace(ENTRY, expires_at=EPOCH + timedelta(seconds=over_s))))

    account.slow = slow
    probe.tell(OTHER)
    for number in range(2 * over_s):
        offer(replace(OTHER, client_order_id=f"{number}"))  # there before the gateway has heard all that came
        probe.advance(0.1)
    answers = [message for message in probe.sent if isinstance(message, OrderNotFound | OrderRejected)]
    refused = [number for number, message in enumerate(answers) if isinstance(message, OrderRejected)]
    assert account.placed == []
    assert len(refused) == 1
    assert abs(refused[0] - over_s) < over_s / 5
