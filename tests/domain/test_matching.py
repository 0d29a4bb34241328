"""What an exchange does with orders when all it knows of the market are bars."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tbh.domain.admission import Refusal
from tbh.domain.matching import OPEN_ORDERS_MAX, Accepted, Event, Matcher
from tbh.domain.money import EXACT
from tbh.domain.venue import VenueState
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderStatus, OrderType, Purpose, Side

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
PLENTY = D(10**9)

MARKET = Market(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    price_step=D("0.1"),
    amount_step=D("0.01"),
    taker_fee=D("0.001"),
    maker_fee=D("0.0004"),
)
FREE = replace(MARKET, taker_fee=D(0), maker_fee=D(0))
SPOT = replace(MARKET, allows_short=False, enforces_reduce_only=False)

_numbers = count(1)


def order(side: str, qty: str, *, limit: str | None = None, stop: str | None = None, **more: Any) -> Order:
    type_ = OrderType.LIMIT if limit else OrderType.STOP_MARKET if stop else OrderType.MARKET
    fields: dict[str, Any] = {
        "client_order_id": f"c{next(_numbers)}",
        "intent_id": "i",
        "symbol": "BTC/USDT",
        "side": Side(side),
        "type": type_,
        "qty": D(qty),
        "price": D(limit) if limit else None,
        "stop_price": D(stop) if stop else None,
        "purpose": Purpose.ENTRY,
        "strategy": "s",
        "bar_open": START,
        "created_at": START,
    }
    return Order(**{**fields, **more})


def bar(matcher: Matcher, open_: str, high: str, low: str, close: str, *, volume: str = "1000") -> list[Event]:
    at = START if matcher.bar_open is None else matcher.bar_open + timedelta(minutes=1)
    events = matcher.open_bar(at, D(open_), volume=D(volume))
    events = events + matcher.range_bar(D(high), D(low))
    return events + matcher.close_bar(D(close))


def opened(market: Market = FREE, *, at: str = "100", cash: Decimal = PLENTY, **more: Any) -> Matcher:
    """A matcher that has seen one quiet bar."""
    matcher = Matcher(market, cash=cash, **more)
    bar(matcher, at, at, at, at)
    return matcher


def put(matcher: Matcher, request: Order) -> str:
    verdict = matcher.submit(request, at=START)
    assert isinstance(verdict, Accepted), verdict
    return request.client_order_id


def holding(qty: str, market: Market = FREE, **more: Any) -> Matcher:
    """A matcher with a position of ``qty`` bought or sold at 100, after one bar at 100."""
    matcher = opened(market, **more)
    put(matcher, order("buy" if D(qty) > 0 else "sell", str(abs(D(qty)))))
    bar(matcher, "100", "100", "100", "100")
    assert matcher.account.qty == D(qty)
    return matcher


def refused(matcher: Matcher, request: Order, *, at: datetime = START) -> str:
    before = matcher.state()
    verdict = matcher.submit(request, at=at)
    assert isinstance(verdict, Refusal), verdict
    assert matcher.state() == before
    assert verdict.detail
    return verdict.reason


def prices(events: list[Event]) -> list[str]:
    return [str(event.price) for event in events if isinstance(event, Fill)]


# Phases


def test_market_order_after_the_close_fills_at_the_next_open_as_taker():
    matcher = opened(MARKET)
    put(matcher, order("buy", "2"))
    (fill,) = bar(matcher, "105", "110", "101", "102")
    assert isinstance(fill, Fill)
    assert (fill.price, fill.qty, fill.maker, fill.at) == (D(105), D(2), False, START + timedelta(minutes=1))
    assert (fill.fee, fill.fee_asset) == (D("0.21"), "USDT")


def test_market_order_between_open_and_range_fills_at_the_open():
    matcher = opened()
    matcher.open_bar(START, D(105), volume=D(1))
    put(matcher, order("buy", "1"))
    assert prices(matcher.range_bar(D(110), D(90))) == ["105"]


def test_market_order_between_range_and_close_fills_at_the_close():
    matcher = opened()
    matcher.open_bar(START, D(105), volume=D(1))
    matcher.range_bar(D(110), D(90))
    put(matcher, order("buy", "1"))
    assert prices(matcher.close_bar(D(107))) == ["107"]


def test_stop_within_the_bar_fills_at_its_price_as_taker():
    matcher = holding("1", MARKET)
    put(matcher, order("sell", "1", stop="95", reduce_only=True))
    (fill,) = bar(matcher, "100", "101", "94", "96")
    assert isinstance(fill, Fill)
    assert (fill.price, fill.maker) == (D(95), False)


def test_stop_beyond_which_the_bar_opens_fills_at_the_open():
    matcher = holding("1")
    put(matcher, order("sell", "1", stop="95", reduce_only=True))
    assert prices(bar(matcher, "93", "99", "92", "98")) == ["93"]


def test_target_within_the_bar_fills_at_its_price_as_maker():
    matcher = holding("1", MARKET)
    put(matcher, order("sell", "1", limit="105", reduce_only=True))
    (fill,) = bar(matcher, "100", "106", "99", "100")
    assert isinstance(fill, Fill)
    assert (fill.price, fill.maker, fill.fee) == (D(105), True, D("0.042"))


def test_target_fills_at_the_open_when_that_is_already_better():
    matcher = holding("1")
    put(matcher, order("sell", "1", limit="105", reduce_only=True))
    (fill,) = bar(matcher, "107", "108", "106", "107")
    assert isinstance(fill, Fill)
    assert (fill.price, fill.maker) == (D(107), True)


@pytest.mark.parametrize("first", ["stop", "target"])
def test_stop_wins_when_one_bar_touches_both(first):
    matcher = holding("1")
    pair = [
        order("sell", "1", stop="95", reduce_only=True),
        order("sell", "1", limit="105", reduce_only=True),
    ]
    ids = [put(matcher, request) for request in (pair if first == "stop" else reversed(pair))]
    target = ids[1] if first == "stop" else ids[0]
    fill, canceled = bar(matcher, "100", "106", "94", "100")
    assert isinstance(fill, Fill)
    assert fill.price == 95
    assert isinstance(canceled, OrderCanceled)
    assert (canceled.client_order_id, canceled.reason) == (target, "reduce_only")


def test_stop_set_after_the_entry_is_live_in_the_entry_bar():
    matcher = opened()
    put(matcher, order("buy", "1"))
    matcher.open_bar(START, D(100), volume=D(1))
    put(matcher, order("sell", "1", stop="95", reduce_only=True))
    assert prices(matcher.range_bar(D(101), D(94))) == ["95"]


def test_stop_set_beyond_the_price_gets_the_price_and_not_its_own():
    matcher = opened()
    put(matcher, order("buy", "1"))
    matcher.open_bar(START, D(100), volume=D(1))
    put(matcher, order("sell", "1", stop="103", reduce_only=True))
    assert prices(matcher.range_bar(D(110), D(90))) == ["100"]


def test_limit_that_crosses_the_price_fills_at_the_price_as_taker():
    matcher = opened()
    matcher.open_bar(START, D(100), volume=D(1))
    put(matcher, order("buy", "1", limit="103"))
    (fill,) = matcher.range_bar(D(110), D(90))
    assert isinstance(fill, Fill)
    assert (fill.price, fill.maker) == (D(100), False)


def test_crossing_limit_that_the_next_open_leaves_behind_rests_as_maker():
    matcher = opened()
    put(matcher, order("buy", "1", limit="103"))
    (fill,) = bar(matcher, "105", "106", "102", "104")
    assert isinstance(fill, Fill)
    assert (fill.price, fill.maker) == (D(103), True)


def test_an_untouched_order_stays():
    matcher = holding("1")
    stop = put(matcher, order("sell", "1", stop="95", reduce_only=True))
    assert bar(matcher, "100", "101", "95.1", "100") == []
    assert list(matcher.resting) == [stop]


def test_returned_events_are_not_changed_by_later_calls():
    matcher = opened()
    matcher.open_bar(START, D(100), volume=D(1))
    put(matcher, order("buy", "1", limit="50"))
    quiet = matcher.range_bar(D(101), D(99))
    put(matcher, order("buy", "1"))
    assert matcher.close_bar(D(100))
    assert quiet == []


# Reduce-only


def test_reduce_only_closes_at_most_the_position():
    matcher = holding("1")
    put(matcher, order("sell", "3", reduce_only=True))
    fill, canceled = bar(matcher, "100", "100", "100", "100")
    assert isinstance(fill, Fill)
    assert (fill.qty, matcher.account.qty) == (D(1), D(0))
    assert isinstance(canceled, OrderCanceled)
    assert (canceled.reason, canceled.filled_qty) == ("reduce_only", D(1))


def test_reduce_only_is_refused_with_nothing_to_reduce():
    assert refused(opened(), order("sell", "1", reduce_only=True)) == "reduce_only_nothing_to_reduce"
    assert refused(holding("-1"), order("sell", "1", reduce_only=True)) == "reduce_only_nothing_to_reduce"


def test_reversal_cancels_the_old_positions_protection():
    matcher = holding("1")
    stop = put(matcher, order("sell", "1", stop="95", reduce_only=True))
    put(matcher, order("sell", "1", reduce_only=True))
    put(matcher, order("sell", "1"))
    exit_, canceled, entry = bar(matcher, "100", "100", "90", "91")
    assert isinstance(canceled, OrderCanceled)
    assert canceled.client_order_id == stop
    assert prices([exit_, entry]) == ["100", "100"]
    assert matcher.account.qty == -1


def test_reduce_only_means_nothing_where_the_market_does_not_enforce_it():
    matcher = holding("1", replace(FREE, enforces_reduce_only=False))
    put(matcher, order("sell", "2", reduce_only=True))
    bar(matcher, "100", "100", "100", "100")
    assert matcher.account.qty == -1


# Admission


@pytest.mark.parametrize(
    ("request_", "limits", "reason"),
    [
        (order("buy", "1", limit="99.95"), {}, "price_off_step"),
        (order("sell", "1", stop="99.95"), {}, "price_off_step"),
        (order("buy", "1.005"), {}, "amount_off_step"),
        (order("buy", "0"), {}, "amount_off_step"),
        (order("buy", "-1"), {}, "amount_off_step"),
        (order("buy", "0.01"), {"amount_min": D("0.02")}, "amount_below_min"),
        (order("buy", "3"), {"amount_max": D(2)}, "amount_above_max"),
        (order("buy", "1", limit="9"), {"price_min": D(10)}, "price_below_min"),
        (order("buy", "1", limit="99"), {"price_max": D(98)}, "price_above_max"),
        (order("buy", "0.04"), {"notional_min": D(5)}, "notional_below_min"),
        (order("buy", "1", limit="90"), {"notional_max": D(89)}, "notional_above_max"),
        (order("buy", "1", symbol="ETH/USDT"), {}, "unknown_symbol"),
        (order("buy", "1", post_only=True), {}, "post_only_needs_limit"),
        (order("buy", "1", limit="100", post_only=True), {}, "post_only_would_cross"),
        (order("buy", "1", type=OrderType.LIMIT), {}, "price_invalid"),
        (order("buy", "1", limit="9", type=OrderType.MARKET), {}, "price_invalid"),
        (order("buy", "1", type=OrderType.STOP_MARKET), {}, "stop_price_invalid"),
        (order("buy", "1", limit="9", stop_price=D(9)), {}, "stop_price_invalid"),
    ],
)
def test_an_order_outside_the_markets_rules_is_refused(request_, limits, reason):
    assert refused(opened(replace(FREE, **limits)), request_) == reason


def test_an_order_past_its_expiry_is_refused():
    request = order("buy", "1", expires_at=START)
    assert refused(opened(), request, at=START + timedelta(seconds=1)) == "expired"
    assert isinstance(opened().submit(request, at=START), Accepted)


def test_an_order_before_the_first_price_is_refused():
    assert refused(Matcher(FREE, cash=PLENTY), order("buy", "1")) == "no_price_yet"


def test_post_only_rests_and_fills_as_maker():
    matcher = opened()
    put(matcher, order("buy", "1", limit="99", post_only=True))
    (fill,) = bar(matcher, "100", "100", "98", "99")
    assert isinstance(fill, Fill)
    assert fill.maker


def test_a_sunk_position_can_be_closed_below_the_minimum_notional():
    matcher = holding("1", replace(FREE, notional_min=D(100)))
    bar(matcher, "10", "10", "10", "10")
    put(matcher, order("sell", "1", reduce_only=True))


def test_the_number_of_open_orders_is_limited():
    matcher = opened()
    for _ in range(OPEN_ORDERS_MAX):
        put(matcher, order("buy", "1", limit="1"))
    assert refused(matcher, order("buy", "1", limit="1")) == "too_many_orders"


def test_the_same_id_is_not_put_on_the_book_twice():
    matcher = opened()
    request = order("buy", "1", limit="1")
    put(matcher, request)
    with pytest.raises(ValueError, match="rests already"):
        matcher.submit(request, at=START)


# Funds


def test_an_entry_needs_its_notional_and_the_takers_fee():
    assert refused(opened(MARKET, cash=D("100.09")), order("buy", "1")) == "insufficient_funds"
    put(opened(MARKET, cash=D("100.1")), order("buy", "1"))


def test_a_short_needs_funds_too():
    assert refused(opened(cash=D(99)), order("sell", "1")) == "insufficient_funds"
    put(opened(cash=D(100)), order("sell", "1"))


def test_a_pyramid_counts_the_position():
    matcher = holding("1", cash=D(199))
    assert refused(matcher, order("buy", "1")) == "insufficient_funds"
    put(matcher, order("buy", "0.99"))


def test_resting_entries_are_counted():
    matcher = opened(cash=D(150))
    put(matcher, order("buy", "1", limit="90"))
    assert refused(matcher, order("buy", "1", limit="90")) == "insufficient_funds"


def test_a_resting_target_is_not_counted_as_done():
    matcher = holding("1", cash=D(150))
    put(matcher, order("sell", "1", limit="105", reduce_only=True))
    assert refused(matcher, order("buy", "1")) == "insufficient_funds"


def test_a_reversal_with_all_the_equity_is_accepted():
    matcher = holding("1", cash=D(100))
    put(matcher, order("sell", "1", reduce_only=True))
    put(matcher, order("sell", "1"))
    bar(matcher, "100", "100", "100", "100")
    assert matcher.account.qty == -1


def test_a_plain_order_that_only_closes_needs_no_funds():
    matcher = holding("1", cash=D(100))
    bar(matcher, "10", "10", "10", "10")
    put(matcher, order("sell", "1"))


def test_without_shorts_only_what_is_held_can_be_sold():
    matcher = holding("1", SPOT)
    assert refused(opened(SPOT), order("sell", "1")) == "insufficient_position"
    assert refused(matcher, order("sell", "1.01")) == "insufficient_position"
    put(matcher, order("sell", "0.6", limit="105"))
    assert refused(matcher, order("sell", "0.5", reduce_only=True)) == "insufficient_position"
    put(matcher, order("sell", "0.4", stop="95"))


# Fees, ids, fills by shares of the volume


def test_a_fee_in_the_received_coin_shrinks_a_bought_position():
    matcher = opened(MARKET, fee_in="received")
    put(matcher, order("buy", "2"))
    (fill,) = bar(matcher, "100", "100", "100", "100")
    assert isinstance(fill, Fill)
    assert (fill.fee, fill.fee_asset) == (D("0.002"), "BTC")
    assert matcher.account.qty == D("1.998")
    assert matcher.account.cash == PLENTY - 200


def test_a_fee_in_the_received_coin_of_a_sale_is_quote():
    matcher = opened(MARKET, fee_in="received")
    put(matcher, order("sell", "2"))
    (fill,) = bar(matcher, "100", "100", "100", "100")
    assert isinstance(fill, Fill)
    assert (fill.fee, fill.fee_asset) == (D("0.2"), "USDT")


def test_a_remainder_below_the_step_counts_as_nothing_to_reduce():
    matcher = opened(MARKET, fee_in="received")
    put(matcher, order("buy", "2"))
    bar(matcher, "100", "100", "100", "100")
    stop = put(matcher, order("sell", "2", stop="90", reduce_only=True))
    exit_ = put(matcher, order("sell", "2", reduce_only=True))
    canceled = [event for event in bar(matcher, "100", "100", "100", "100") if isinstance(event, OrderCanceled)]
    assert matcher.account.qty == D("0.008")
    assert [event.client_order_id for event in canceled] == [stop, exit_]
    assert not matcher.resting


def test_ids_are_functions_of_the_order_of_arrival():
    matcher = opened(volume_share=D("0.5"))
    put(matcher, order("buy", "1"))
    put(matcher, order("buy", "2"))
    events = bar(matcher, "100", "100", "100", "100", volume="4") + bar(matcher, "100", "100", "100", "100", volume="4")
    assert [event.trade_id for event in events if isinstance(event, Fill)] == [
        "P00000001-1",
        "P00000002-1",
        "P00000002-2",
    ]
    assert [event.seq for event in events] == [1, 2, 3]


def test_a_tag_is_in_every_id_and_events_are_numbered_above_the_first_number():
    matcher = opened(volume_share=D("0.5"), tag="b2", first_seq=40)
    first = put(matcher, order("buy", "4"))
    (fill,) = bar(matcher, "100", "100", "100", "100", volume="4")
    canceled = matcher.cancel(first)
    put(matcher, order("buy", "1"))
    (other,) = bar(matcher, "100", "100", "100", "100", volume="4")
    assert isinstance(fill, Fill)
    assert isinstance(other, Fill)
    assert canceled is not None
    assert (fill.exchange_order_id, fill.trade_id) == ("Pb2-00000001", "Pb2-00000001-1")
    assert (other.exchange_order_id, other.trade_id) == ("Pb2-00000002", "Pb2-00000002-1")
    assert (fill.seq, canceled.seq, other.seq) == (41, 42, 43)


def test_a_restored_state_brings_its_own_tag_and_numbers():
    matcher = opened(tag="old", first_seq=7)
    put(matcher, order("buy", "1"))
    other = Matcher(FREE, cash=PLENTY, tag="new", first_seq=900)
    other.restore(VenueState.from_json(matcher.state().to_json()))
    put(other, order("buy", "1"))
    events = bar(other, "100", "100", "100", "100")
    assert [(event.exchange_order_id, event.seq) for event in events if isinstance(event, Fill)] == [
        ("Pold-00000001", 8),
        ("Pold-00000002", 9),
    ]


@pytest.mark.parametrize("wrong", [{"tag": "a b"}, {"tag": "é"}, {"tag": "x" * 41}, {"tag": "a\n"}, {"first_seq": -1}])
def test_a_tag_or_first_number_that_no_id_can_have_is_refused(wrong):
    with pytest.raises(ValueError, match=r"an account's (tag is|events are numbered)"):
        Matcher(FREE, cash=PLENTY, **wrong)


def test_a_volume_share_leaves_the_rest_of_a_market_order_waiting():
    matcher = opened(volume_share=D("0.1"))
    entry = put(matcher, order("buy", "1"))
    (fill,) = bar(matcher, "100", "101", "99", "100", volume="6.66")
    assert isinstance(fill, Fill)
    assert fill.qty == D("0.66")
    standing = matcher.standing(entry)
    assert standing is not None
    assert (standing.status, standing.filled_qty) == (OrderStatus.PARTIALLY_FILLED, D("0.66"))
    (rest,) = bar(matcher, "102", "103", "101", "102")
    assert isinstance(rest, Fill)
    assert (rest.qty, rest.price) == (D("0.34"), D(102))
    assert matcher.touched == {}


def test_a_stop_set_off_without_volume_executes_at_the_next_open():
    matcher = holding("1", volume_share=D(1))
    put(matcher, order("sell", "1", stop="95", reduce_only=True))
    assert bar(matcher, "100", "100", "94", "99", volume="0") == []
    assert prices(bar(matcher, "99", "99", "99", "99")) == ["99"]


def test_a_cancel_is_an_event_and_happens_once():
    matcher = opened()
    resting = put(matcher, order("buy", "1", limit="90"))
    event = matcher.cancel(resting)
    assert event is not None
    assert (event.reason, event.seq, event.filled_qty) == ("requested", 1, D(0))
    assert matcher.touched[resting].status is OrderStatus.CANCELED
    assert matcher.cancel(resting) is None


def test_entry_price_is_the_average_cost():
    matcher = opened()
    for price in ("100", "110"):
        put(matcher, order("buy", "1"))
        bar(matcher, price, price, price, price)
    assert matcher.account.entry_price == 105
    put(matcher, order("sell", "1", reduce_only=True))
    bar(matcher, "120", "120", "120", "120")
    assert matcher.account.entry_price == 105
    put(matcher, order("sell", "2"))
    bar(matcher, "130", "130", "130", "130")
    assert (matcher.account.qty, matcher.account.entry_price) == (D(-1), D(130))


def test_a_state_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not the state"):
        VenueState.from_json({"orders": []})


def test_money_is_never_rounded_by_the_threads_context():
    market = replace(FREE, price_step=D("1e-8"), amount_step=D("1e-8"), taker_fee=D("0.00075"))
    matcher = Matcher(market, cash=D("1e15"))
    matcher.open_bar(START, D("123456789.12345678"), volume=D(1))
    put(matcher, order("buy", "1234567.87654321"))
    matcher.range_bar(D("123456789.12345678"), D("123456789.12345678"))
    notional = EXACT.multiply(D("123456789.12345678"), D("1234567.87654321"))
    spent = EXACT.multiply(notional, D("1.00075"))
    assert EXACT.add(matcher.account.cash, spent) == D("1e15")


# Any sequence of orders and bars

amounts = st.integers(1, 400).map(lambda n: str(D(n) / 100))
ticks = st.integers(900, 1100).map(lambda n: str(D(n) / 10))


class AnyMarket(RuleBasedStateMachine):
    """Orders, cancellations and bars in any order keep the books straight."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.cash = D(1000)
        self.matcher = Matcher(MARKET, cash=self.cash, **self.options)
        self.orders: dict[str, Order] = {}
        self.events: list[Event] = []
        self.phase = "close"
        self.executed_in_bar = D(0)
        self.candle = [D(100)] * 4
        self.volume = D(0)
        self.see(self.matcher.open_bar(START, D(100), volume=D(0)))
        self.see(self.matcher.close_bar(D(100)))

    def see(self, events: list[Event]) -> None:
        self.events += events
        self.executed_in_bar += sum((event.qty for event in events if isinstance(event, Fill)), D(0))

    @rule(
        side=st.sampled_from(["buy", "sell"]),
        qty=amounts,
        kind=st.sampled_from(["market", "limit", "stop"]),
        price=ticks,
        reduce_only=st.booleans(),
    )
    def submit(self, side, qty, kind, price, reduce_only):
        at = {} if kind == "market" else {kind: price}
        request = order(side, qty, reduce_only=reduce_only, **at)
        if isinstance(self.matcher.submit(request, at=START), Accepted):
            self.orders[request.client_order_id] = request

    @precondition(lambda self: self.matcher.resting)
    @rule(data=st.data())
    def cancel(self, data):
        event = self.matcher.cancel(data.draw(st.sampled_from(sorted(self.matcher.resting))))
        assert event is not None
        self.see([event])

    @rule(path=st.lists(ticks, min_size=4, max_size=4), volume=amounts)
    def move(self, path, volume):
        if self.phase == "close":
            self.candle = [D(price) for price in path]
            self.volume = D(volume)
            self.executed_in_bar = D(0)
            assert self.matcher.bar_open is not None
            at = self.matcher.bar_open + timedelta(minutes=1)
            before = list(self.matcher.resting.values())
            self.phase = "open"
            self.see(events := self.matcher.open_bar(at, self.candle[0], volume=self.volume))
            self.check_first_come_first_served([o.client_order_id for o in before if o.marketable], events)
        elif self.phase == "open":
            self.phase = "range"
            self.see(self.matcher.range_bar(max(self.candle), min(self.candle)))
        else:
            self.phase = "close"
            self.see(self.matcher.close_bar(self.candle[3]))

    def check_first_come_first_served(self, waiting: list[str], events: list[Event]) -> None:
        filled = [event.client_order_id for event in events if isinstance(event, Fill)]
        served = [client_order_id for client_order_id in filled if client_order_id in waiting]
        assert served == [client_order_id for client_order_id in waiting if client_order_id in served]
        assert filled[: len(served)] == served

    @rule()
    def kill_and_restore(self):
        matcher = Matcher(MARKET, cash=self.cash, **self.options)
        matcher.restore(VenueState.from_json(self.matcher.state().to_json()))
        assert matcher.state() == self.matcher.state()
        self.matcher = matcher

    @invariant()
    def nothing_is_made_or_lost(self):
        cash, qty = self.cash, D(0)
        for event in self.events:
            if isinstance(event, Fill):
                cash -= event.side.sign * event.qty * event.price
                qty += event.side.sign * event.qty
                if event.fee_asset == "BTC":
                    qty -= event.fee
                else:
                    cash -= event.fee
        assert (self.matcher.account.cash, self.matcher.account.qty) == (cash, qty)
        assert self.matcher.equity(D(100)) == cash + qty * 100

    @invariant()
    def no_order_overfills(self):
        for client_order_id, request in self.orders.items():
            filled = sum(
                (e.qty for e in self.events if isinstance(e, Fill) and e.client_order_id == client_order_id), D(0)
            )
            resting = self.matcher.resting.get(client_order_id)
            assert 0 <= filled <= request.qty
            if resting is not None:
                assert resting.filled == filled < request.qty

    @invariant()
    def reduce_only_never_grows_or_flips(self):
        qty = D(0)
        for event in self.events:
            if isinstance(event, Fill):
                change = event.side.sign * event.qty
                if self.orders[event.client_order_id].reduce_only:
                    assert qty * change < 0
                    assert abs(change) <= abs(qty)
                qty += change - (event.fee if event.fee_asset == "BTC" else 0)

    @invariant()
    def no_reduce_only_order_outlives_its_position(self):
        qty = self.matcher.account.qty
        assert all(qty * resting.side.sign < 0 for resting in self.matcher.resting.values() if resting.reduce_only)

    @invariant()
    def events_are_numbered_without_a_gap(self):
        assert [event.seq for event in self.events] == list(range(1, len(self.events) + 1))

    @invariant()
    def no_limit_order_pays_more_than_its_limit(self):
        for event in self.events:
            if isinstance(event, Fill) and (limit := self.orders[event.client_order_id].price) is not None:
                assert event.side.sign * (limit - event.price) >= 0

    @invariant()
    def the_share_of_the_volume_is_kept(self):
        share = self.options.get("volume_share")
        if share is not None:
            assert self.executed_in_bar <= self.volume * share


class SharedVolume(AnyMarket):
    options: ClassVar[dict[str, Any]] = {"volume_share": D("0.3"), "fee_in": "received"}


TestAnyMarket = AnyMarket.TestCase
TestAnyMarket.settings = settings(stateful_step_count=40, deadline=None)
TestSharedVolume = SharedVolume.TestCase
TestSharedVolume.settings = settings(stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), amounts, ticks), max_size=12))
@settings(deadline=None)
def test_the_same_calls_give_the_same_events(calls):
    requests = [(order(side, qty), price) for side, qty, price in calls]
    outcomes = []
    for _ in range(2):
        matcher, events = opened(MARKET, cash=D(500)), []
        for request, price in requests:
            matcher.submit(request, at=START)
            events += bar(matcher, price, price, price, price)
        outcomes.append((events, matcher.state()))
    assert outcomes[0] == outcomes[1]
