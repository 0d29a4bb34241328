"""The paper exchange as its callers see it: idempotent, ordered, and never ahead of its file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.paper import PaperExchange
from tbh.infra.paper_account import read_account
from tbh.infra.replay import MarketClock
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderStatus, OrderType, Purpose, Side
from tbh.ports import AccountEvent, Exchange, Rejected, Unavailable

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=D("0.1"),
    amount_step=D("0.01"),
    taker_fee=D("0.001"),
    maker_fee=D("0.0004"),
)


def order(client_order_id: str, side: str, qty: str, **more: Any) -> Order:
    fields: dict[str, Any] = {
        "intent_id": "i",
        "symbol": SYMBOL,
        "type": OrderType.LIMIT
        if "price" in more
        else OrderType.STOP_MARKET
        if "stop_price" in more
        else OrderType.MARKET,
        "purpose": Purpose.ENTRY,
        "strategy": "s",
        "bar_open": START,
        "created_at": START,
    }
    return Order(client_order_id=client_order_id, side=Side(side), qty=D(qty), **{**fields, **more})


def candle(index: int, *prices: str) -> Candle:
    open_, high, low, close = (D(price) for price in prices * (4 // len(prices)))
    at = START + index * timedelta(minutes=1)
    return Candle(open_time=at, open=open_, high=high, low=low, close=close, volume=D(100))


def play(exchange: PaperExchange, index: int, *prices: str) -> list[AccountEvent]:
    bar = candle(index, *prices)
    return [event for phase in Phase for event in exchange.play(index, phase, bar)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.db"


@pytest.fixture
def clock() -> MarketClock:
    return MarketClock(START)


@pytest.fixture
def exchange(path: Path, clock: MarketClock) -> Iterator[PaperExchange]:
    exchange = PaperExchange(path, MARKET, cash=D(10_000), clock=clock)
    play(exchange, 0, "100")
    yield exchange
    exchange.close()


def test_it_is_an_exchange(exchange):
    port: Exchange = exchange
    assert port.market(SYMBOL) is MARKET
    assert port.arrival_window_s() == 0


def test_an_accepted_order_is_on_the_disk_before_the_answer(exchange, path):
    report = exchange.place(order("a", "buy", "1"), timeout_s=1)
    assert (report.exchange_order_id, report.status) == ("P00000001", OrderStatus.ACCEPTED)
    record = read_account(path)
    assert [row.standing.client_order_id for row in record.orders] == ["a"]
    assert record.venue.orders[0].exchange_order_id == "P00000001"


def test_a_fill_is_on_the_disk_before_anyone_hears_of_it(exchange, path):
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    events = exchange.play(1, Phase.OPEN, candle(1, "101"))
    record = read_account(path)
    assert list(record.events) == list(events)
    assert record.cursor is not None
    assert (record.cursor.index, record.cursor.phase) == (1, Phase.OPEN)
    assert record.orders[0].standing.status is OrderStatus.FILLED


def test_the_same_request_again_is_answered_with_the_order_as_it_stands(exchange):
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    play(exchange, 1, "100")
    again = exchange.place(order("a", "buy", "1.00", attempt=3), timeout_s=1)
    assert (again.status, again.filled_qty, again.avg_price) == (OrderStatus.FILLED, D(1), D(100))
    assert exchange.account_summary().orders_accepted == 1


def test_the_same_request_is_answered_even_after_its_expiry(exchange, clock):
    request = order("a", "buy", "1", expires_at=START)
    exchange.place(request, timeout_s=1)
    clock.set(START + timedelta(hours=1))
    assert exchange.place(request, timeout_s=1).status is OrderStatus.ACCEPTED
    with pytest.raises(Rejected, match="expired"):
        exchange.place(replace(request, client_order_id="b"), timeout_s=1)


def test_a_known_id_with_another_request_is_rejected(exchange):
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    with pytest.raises(Rejected) as refusal:
        exchange.place(order("a", "buy", "2"), timeout_s=1)
    assert refusal.value.reason == "client_order_id_reused"


def test_a_rejected_order_does_not_exist(exchange, path):
    with pytest.raises(Rejected) as refusal:
        exchange.place(order("a", "buy", "1000"), timeout_s=1)
    assert refusal.value.reason == "insufficient_funds"
    assert exchange.order("a", SYMBOL, timeout_s=1) is None
    assert read_account(path).orders == ()


def test_another_symbol_is_rejected(exchange):
    for call in (exchange.order, exchange.cancel):
        with pytest.raises(Rejected, match="unknown_symbol"):
            call("a", "ETH/USDT", timeout_s=1)


def test_a_canceled_order_is_off_the_book_and_told_once(exchange):
    exchange.place(order("a", "buy", "1", price=D(90)), timeout_s=1)
    assert exchange.cancel("a", SYMBOL, timeout_s=1).status is OrderStatus.CANCELED
    (event,) = exchange.events(0, timeout_s=1)
    assert isinstance(event, OrderCanceled)
    assert exchange.open_orders(SYMBOL, timeout_s=1) == ()
    with pytest.raises(Rejected, match="order_done"):
        exchange.cancel("a", SYMBOL, timeout_s=1)


def test_an_unknown_order_cannot_be_canceled(exchange):
    with pytest.raises(Rejected, match="order_unknown"):
        exchange.cancel("a", SYMBOL, timeout_s=1)


def test_events_after_a_mark_are_the_same_from_memory_and_from_the_file(exchange, path, clock):
    for number in range(3):
        exchange.place(order(f"a{number}", "buy", "1"), timeout_s=1)
        play(exchange, number + 1, "100")
    from_memory = exchange.events(1, timeout_s=1)
    assert [event.seq for event in from_memory] == [2, 3]
    assert exchange.events(exchange.last_seq(), timeout_s=1) == ()
    exchange.close()
    reopened = PaperExchange(path, MARKET, cash=D(10_000), clock=clock)
    assert reopened.last_seq() == 3
    assert reopened.events(1, timeout_s=1) == from_memory
    reopened.close()


def test_events_older_than_the_memory_come_from_the_file(exchange):
    exchange._recent = deque(maxlen=2)
    for number in range(5):
        exchange.place(order(f"a{number}", "buy", "1"), timeout_s=1)
        play(exchange, number + 1, "100")
    assert [event.seq for event in exchange.events(0, timeout_s=1)] == [1, 2, 3, 4, 5]
    assert [event.seq for event in exchange.events(3, timeout_s=1)] == [4, 5]


def traded(path: Path, clock: MarketClock, **numbering: Any) -> list[AccountEvent]:
    """The events of a new account after a fill and a cancellation."""
    exchange = PaperExchange(path, MARKET, cash=D(10_000), clock=clock, **numbering)
    play(exchange, 0, "100")
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    exchange.place(order("b", "buy", "1", price=D(90)), timeout_s=1)
    play(exchange, 1, "100")
    exchange.cancel("b", SYMBOL, timeout_s=1)
    events = list(exchange.events(0, timeout_s=1))
    exchange.close()
    return events


def test_accounts_with_different_tags_and_numbers_share_none(tmp_path, clock):
    paths = (tmp_path / "one", tmp_path / "two")
    first = traded(paths[0], clock, tag="one")
    second = traded(paths[1], clock, tag="two", first_seq=first[-1].seq)
    assert [event.seq for event in first + second] == [1, 2, 3, 4]
    fills = [event for event in first + second if isinstance(event, Fill)]
    assert [fill.trade_id for fill in fills] == ["Pone-00000001-1", "Ptwo-00000001-1"]
    ids = [row.standing.exchange_order_id for path in paths for row in read_account(path).orders]
    assert ids == ["Pone-00000001", "Pone-00000002", "Ptwo-00000001", "Ptwo-00000002"]


@pytest.mark.parametrize("later", [{}, {"tag": "new", "first_seq": 500}])
def test_a_restart_keeps_the_accounts_tag_and_numbers(path, clock, later):
    before = traded(path, clock, tag="old", first_seq=70)
    exchange = PaperExchange(path, MARKET, cash=D(10_000), clock=clock, **later)
    assert list(exchange.events(0, timeout_s=1)) == before
    assert exchange.place(order("c", "buy", "1"), timeout_s=1).exchange_order_id == "Pold-00000003"
    (fill,) = play(exchange, 2, "100")
    assert (fill.seq, exchange.last_seq()) == (73, 73)
    exchange.close()


def test_an_account_without_events_stands_at_its_first_number(path, clock):
    for _ in range(2):
        exchange = PaperExchange(path, MARKET, cash=D(10_000), clock=clock, tag="t", first_seq=70)
        assert exchange.last_seq() == exchange.account_summary().last_seq == 70
        assert exchange.events(0, timeout_s=1) == exchange.events(70, timeout_s=1) == ()
        exchange.close()


def test_events_since_ever_come_from_memory_also_above_a_first_number(path, clock, monkeypatch):
    exchange = PaperExchange(path, MARKET, cash=D(10_000), clock=clock, first_seq=70)
    play(exchange, 0, "100")
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    played = play(exchange, 1, "100")
    monkeypatch.setattr(exchange._file, "events", None)
    assert list(exchange.events(0, timeout_s=1)) == played
    exchange.close()


def test_position_and_balances_are_those_of_the_fills(exchange):
    exchange.place(order("a", "buy", "2"), timeout_s=1)
    play(exchange, 1, "100")
    position = exchange.position(SYMBOL, timeout_s=1)
    assert (position.qty, position.entry_price) == (D(2), D(100))
    quote, base = exchange.balances(timeout_s=1)
    assert (quote.asset, quote.free, quote.locked) == ("USDT", D("9799.8"), D(0))
    assert (base.asset, base.free, base.locked) == ("BTC", D(2), D(0))


def test_a_spot_markets_resting_orders_lock_their_coins(path, clock):
    spot = replace(MARKET, allows_short=False, enforces_reduce_only=False)
    exchange = PaperExchange(path, spot, cash=D(1000), clock=clock)
    play(exchange, 0, "100")
    exchange.place(order("a", "buy", "2"), timeout_s=1)
    play(exchange, 1, "100")
    exchange.place(order("b", "sell", "1.5", price=D(110)), timeout_s=1)
    exchange.place(order("c", "buy", "1", price=D(90)), timeout_s=1)
    quote, base = exchange.balances(timeout_s=1)
    assert (quote.free, quote.locked) == (D("709.8"), D(90))
    assert (base.free, base.locked) == (D("0.5"), D("1.5"))
    exchange.close()


def test_phases_come_in_order(exchange):
    bar = candle(1, "100")
    for index, phase in [(1, Phase.RANGE), (1, Phase.CLOSE), (2, Phase.OPEN), (0, Phase.CLOSE)]:
        with pytest.raises(ValueError, match="does not follow"):
            exchange.play(index, phase, bar)


def test_a_quiet_phase_is_not_committed_and_close_notes_how_far_the_market_came(exchange, path):
    play(exchange, 1, "100")
    assert read_account(path).cursor is None
    exchange.close()
    cursor = read_account(path).cursor
    assert cursor is not None
    assert (cursor.index, cursor.phase) == (1, Phase.CLOSE)


def test_callers_wait_for_each_other_no_longer_than_they_say(exchange):
    with exchange._held(1), pytest.raises(Unavailable, match="busy"):
        exchange.place(order("a", "buy", "1"), timeout_s=0.01)


def test_orders_from_several_threads_all_count_once(exchange):
    def place(name: str) -> None:
        for number in range(10):
            exchange.place(order(f"{name}{number}", "buy", "0.1"), timeout_s=5)
            exchange.place(order(f"{name}{number}", "buy", "0.1"), timeout_s=5)

    threads = [threading.Thread(target=place, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fills = [event for event in play(exchange, 1, "100") if isinstance(event, Fill)]
    assert len({fill.exchange_order_id for fill in fills}) == len(fills) == 30
    assert exchange.position(SYMBOL, timeout_s=1).qty == 3


def test_the_summary_tells_cash_fees_and_counts(exchange):
    exchange.place(order("a", "buy", "2"), timeout_s=1)
    play(exchange, 1, "100")
    exchange.place(order("b", "buy", "1", price=D(90)), timeout_s=1)
    summary = exchange.account_summary()
    assert (summary.start_cash, summary.cash, summary.qty) == (D(10_000), D("9799.8"), D(2))
    assert (summary.fees_quote, summary.fees_base) == (D("0.2"), D(0))
    assert (summary.orders_accepted, summary.orders_open, summary.fills, summary.last_seq) == (2, 1, 1, 1)


def in_memory(clock: MarketClock) -> PaperExchange:
    return PaperExchange(None, MARKET, cash=D(10_000), clock=clock)


def test_an_account_in_memory_answers_as_one_in_a_file(path, clock):
    told = []
    for exchange in (PaperExchange(path, MARKET, cash=D(10_000), clock=clock), in_memory(clock)):
        play(exchange, 0, "100")
        placed = exchange.place(order("a", "buy", "1"), timeout_s=1)
        again = exchange.place(order("a", "buy", "1"), timeout_s=1)
        exchange.place(order("b", "sell", "1", stop_price=D("90")), timeout_s=1)
        with pytest.raises(Rejected, match="client_order_id_reused"):
            exchange.place(order("a", "buy", "2"), timeout_s=1)
        play(exchange, 1, "100")
        canceled = exchange.cancel("b", SYMBOL, timeout_s=1)
        with pytest.raises(Rejected, match="order_done"):
            exchange.cancel("b", SYMBOL, timeout_s=1)
        reports = [exchange.order(name, SYMBOL, timeout_s=1) for name in ("a", "b", "c")]
        events = [exchange.events(after, timeout_s=1) for after in range(4)]
        told.append((placed, again, canceled, reports, events, exchange.account_summary()))
        exchange.close()
    assert told[0] == told[1]


def test_events_older_than_the_memory_are_kept_by_an_account_in_memory(clock):
    exchange = in_memory(clock)
    play(exchange, 0, "100")
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    play(exchange, 1, "100")
    exchange._recent = deque(maxlen=0)
    assert [event.seq for event in exchange.events(0, timeout_s=1)] == [1]
    assert exchange.events(1, timeout_s=1) == ()


def test_bars_that_meet_nothing_are_passed_over_in_one_step(clock):
    exchange = in_memory(clock)
    play(exchange, 0, "100")
    exchange.place(order("a", "buy", "1"), timeout_s=1)
    with pytest.raises(ValueError, match="waits for the next price"):
        exchange.pass_over(5, START, D(100))
    play(exchange, 1, "100")
    exchange.place(order("b", "sell", "1", stop_price=D("90"), reduce_only=True), timeout_s=1)
    exchange.pass_over(9, START + timedelta(minutes=9), D(105))
    assert exchange.last_price == 105
    assert list(exchange.resting) == ["b"]
    assert exchange.qty == 1
    with pytest.raises(ValueError, match="can't be passed over"):
        exchange.pass_over(9, START, D(105))
    (fill,) = [event for event in play(exchange, 10, "89") if isinstance(event, Fill)]
    assert (fill.client_order_id, fill.price) == ("b", D(89))


def test_the_rest_of_a_bar_is_passed_over_too(clock):
    exchange = in_memory(clock)
    play(exchange, 0, "100")
    exchange.play(1, Phase.OPEN, candle(1, "100"))
    exchange.pass_over(1, START + timedelta(minutes=1), D(101))
    assert play(exchange, 2, "100") == []
