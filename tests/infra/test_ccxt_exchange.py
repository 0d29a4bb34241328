"""The adapter against a process that answers as Binance does: orders, evidence, trades, position, time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from bench.binance.process import FakeBinance, running_exchange
from tbh.infra import ccxt_exchange
from tbh.infra.ccxt_clock import process_s
from tbh.infra.ccxt_exchange import CcxtExchange
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderExpired, OrderStatus, OrderType, Purpose, Side
from tbh.ports import Exchange, Fatal, Rejected, Unavailable, Unknown
from tests.infra.scripted_http import reply, scripted

SYMBOL = "BTC/USDT"
WITHIN_S = 5.0
D = Decimal
Connect = Callable[..., CcxtExchange]
_numbers = itertools.count(1)


def now() -> datetime:
    return datetime.now(UTC)


def order(side: Side = Side.BUY, **more: Any) -> Order:
    client_order_id = f"{next(_numbers):032x}"
    made = Order(
        client_order_id=client_order_id,
        intent_id="i",
        symbol=SYMBOL,
        side=side,
        type=OrderType.MARKET,
        qty=D("0.01"),
        purpose=Purpose.ENTRY if side is Side.BUY else Purpose.EXIT,
        strategy="s",
        bar_open=now(),
        created_at=now(),
    )
    return replace(made, **more)


def resting(side: Side = Side.BUY, **more: Any) -> Order:
    """A limit order far from the market, which stands at 50,000."""
    price = D("30000.50") if side is Side.BUY else D("90000.50")
    return order(side, type=OrderType.LIMIT, price=price, **more)


@pytest.fixture(scope="module")
def venue() -> Iterator[FakeBinance]:
    with running_exchange(seed=5, base_coins="1", quote_coins="1000000", weight_share=0.01) as exchange:
        exchange.tell("market", price="50000")
        exchange.tell("market", freeze=True)
        yield exchange


@pytest.fixture
def connect(venue: FakeBinance) -> Iterator[Connect]:
    """Makes connections, each another bot's life on the same account."""
    made: list[CcxtExchange] = []

    def make(**more: Any) -> CcxtExchange:
        options = {**venue.exchange_options(), **more.pop("options", {})}
        key, secret = more.pop("key", venue.api_key), more.pop("secret", venue.api_secret)
        made.append(CcxtExchange("binance", SYMBOL, key, secret, options, now, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def exchange(venue: FakeBinance, connect: Connect) -> Iterator[CcxtExchange]:
    venue.faults()
    yield connect()
    venue.faults()
    for one in venue.ledger()["orders"]:
        if one["status"] in ("NEW", "PARTIALLY_FILLED"):
            venue.tell("expire", clientOrderId=one["client_order_id"])


def newest(exchange: Exchange) -> int:
    """The seq of the account's newest event."""
    exchange.events(0, timeout_s=WITHIN_S)
    return exchange.last_seq()


def known(venue: FakeBinance, client_order_id: str) -> list[dict[str, Any]]:
    return [one for one in venue.ledger()["orders"] if one["client_order_id"] == client_order_id]


# Placing


def test_a_market_order_is_filled_and_told_trade_by_trade(exchange: CcxtExchange) -> None:
    before = newest(exchange)
    sent = order()
    report = exchange.place(sent, timeout_s=WITHIN_S)
    fills = [one for one in exchange.events(before, timeout_s=WITHIN_S) if isinstance(one, Fill)]
    assert report.status is OrderStatus.FILLED
    assert len(fills) > 1
    assert sum(fill.qty for fill in fills) == report.filled_qty == sent.qty
    assert {fill.client_order_id for fill in fills} == {sent.client_order_id}
    assert {fill.fee_asset for fill in fills} == {"BTC"}
    assert [fill.seq for fill in fills] == sorted({int(fill.trade_id) for fill in fills})
    assert exchange.last_seq() == fills[-1].seq
    assert exchange.events(fills[-1].seq, timeout_s=WITHIN_S) == []


def test_the_fee_in_the_coin_received_makes_the_position_smaller_than_the_fills(exchange: CcxtExchange) -> None:
    held = exchange.position(SYMBOL, timeout_s=WITHIN_S).qty
    before = newest(exchange)
    exchange.place(order(), timeout_s=WITHIN_S)
    fills = [one for one in exchange.events(before, timeout_s=WITHIN_S) if isinstance(one, Fill)]
    received = sum((fill.qty - fill.fee for fill in fills), D(0))
    assert exchange.position(SYMBOL, timeout_s=WITHIN_S).qty == held + received


def test_a_limit_order_rests_and_is_canceled_once(exchange: CcxtExchange) -> None:
    sent = resting()
    assert exchange.place(sent, timeout_s=WITHIN_S).status is OrderStatus.ACCEPTED
    standing = exchange.open_orders(SYMBOL, timeout_s=WITHIN_S)
    assert [one.client_order_id for one in standing] == [sent.client_order_id]
    canceled = exchange.cancel(sent.client_order_id, SYMBOL, timeout_s=WITHIN_S)
    assert (canceled.client_order_id, canceled.status) == (sent.client_order_id, OrderStatus.CANCELED)
    with pytest.raises(Rejected):
        exchange.cancel(sent.client_order_id, SYMBOL, timeout_s=WITHIN_S)


def test_a_protective_stop_rests_on_the_exchange(exchange: CcxtExchange, venue: FakeBinance) -> None:
    stop = order(Side.SELL, type=OrderType.STOP_MARKET, stop_price=D("40000"), purpose=Purpose.STOP)
    assert exchange.place(stop, timeout_s=WITHIN_S).status is OrderStatus.ACCEPTED
    assert known(venue, stop.client_order_id)[0]["type"] == "STOP_LOSS"


def test_a_stop_that_would_trigger_at_once_is_rejected(exchange: CcxtExchange) -> None:
    stop = order(Side.SELL, type=OrderType.STOP_MARKET, stop_price=D("60000"), purpose=Purpose.STOP)
    with pytest.raises(Rejected):
        exchange.place(stop, timeout_s=WITHIN_S)


def test_an_order_beyond_the_balance_is_rejected(exchange: CcxtExchange) -> None:
    with pytest.raises(Rejected, match="insufficient"):
        exchange.place(order(Side.SELL, qty=D(400)), timeout_s=WITHIN_S)


def test_the_same_id_again_is_answered_and_not_sent(exchange: CcxtExchange, venue: FakeBinance) -> None:
    sent = order()
    first = exchange.place(sent, timeout_s=WITHIN_S)
    posted = venue.ledger()["requests"]["POST /api/v3/order"]
    assert exchange.place(sent, timeout_s=WITHIN_S) == first
    assert venue.ledger()["requests"]["POST /api/v3/order"] == posted


def test_a_duplicate_is_the_order_that_stands_and_no_rejection(
    exchange: CcxtExchange, venue: FakeBinance, connect: Connect
) -> None:
    sent = resting()
    first = exchange.place(sent, timeout_s=WITHIN_S)
    assert connect().place(sent, timeout_s=WITHIN_S) == first
    assert len(known(venue, sent.client_order_id)) == 1


def test_an_order_past_its_expiry_is_not_sent(exchange: CcxtExchange, venue: FakeBinance) -> None:
    late = order(expires_at=now() - timedelta(seconds=1))
    with pytest.raises(Rejected, match="expired"):
        exchange.place(late, timeout_s=WITHIN_S)
    assert known(venue, late.client_order_id) == []


def test_the_exchange_refuses_an_order_that_arrives_after_its_expiry(
    exchange: CcxtExchange, venue: FakeBinance
) -> None:
    exchange.market(SYMBOL)
    venue.faults({"fault": "delay", "next": 1, "methods": ["POST"], "ms": 500})
    late = order(expires_at=now() + timedelta(seconds=0.25))
    with pytest.raises(Unknown):
        exchange.place(late, timeout_s=WITHIN_S)
    assert exchange.order(late.client_order_id, SYMBOL, timeout_s=WITHIN_S) is None


def test_an_order_past_the_process_deadline_is_not_sent(exchange: CcxtExchange, venue: FakeBinance) -> None:
    """Market time may stand still."""
    late = order(expires_at=now() + timedelta(hours=1))
    with pytest.raises(Rejected, match="expired"):
        exchange.place(late, timeout_s=WITHIN_S, deadline_s=process_s() - 1)
    assert known(venue, late.client_order_id) == []


def test_the_exchange_refuses_an_order_that_arrives_after_the_process_deadline(
    exchange: CcxtExchange, venue: FakeBinance
) -> None:
    exchange.market(SYMBOL)
    venue.faults({"fault": "delay", "next": 1, "methods": ["POST"], "ms": 500})
    late = order(expires_at=now() + timedelta(hours=1))
    with pytest.raises(Unknown):
        exchange.place(late, timeout_s=WITHIN_S, deadline_s=process_s() + 0.25)
    assert exchange.order(late.client_order_id, SYMBOL, timeout_s=WITHIN_S) is None


@pytest.mark.parametrize("fault", ["drop_reply", "error_after", "timeout_after", "html", "empty", "cut"])
def test_an_order_whose_reply_is_lost_is_unknown_and_then_found(
    exchange: CcxtExchange, venue: FakeBinance, fault: str
) -> None:
    sent = order()
    venue.faults({"fault": fault, "next": 1, "methods": ["POST"]})
    with pytest.raises(Unknown):
        exchange.place(sent, timeout_s=WITHIN_S)
    found = exchange.order(sent.client_order_id, SYMBOL, timeout_s=WITHIN_S)
    assert found is not None
    assert found.status is OrderStatus.FILLED
    assert len(known(venue, sent.client_order_id)) == 1


@pytest.mark.parametrize("fault", ["drop_request", "error_before", "html_before"])
def test_an_order_that_never_arrived_is_unknown_and_then_denied(
    exchange: CcxtExchange, venue: FakeBinance, fault: str
) -> None:
    sent = order()
    venue.faults({"fault": fault, "next": 1, "methods": ["POST"]})
    with pytest.raises(Unknown):
        exchange.place(sent, timeout_s=WITHIN_S)
    assert exchange.order(sent.client_order_id, SYMBOL, timeout_s=WITHIN_S) is None


# Evidence


@pytest.mark.parametrize("holder", ["openOrders", "allOrders"])
def test_an_order_is_found_where_only_a_list_has_it(holder: str) -> None:
    client_order_id = f"{next(_numbers):032x}"
    row = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": client_order_id, "status": "NEW", "executedQty": "0"}

    def answer(method: str, path: str, params: dict[str, str]) -> bytes:
        leaf = path.rpartition("/")[2]
        if leaf == "time":
            return reply({"serverTime": int(time.time() * 1000)})
        if leaf == "order":
            return reply({"code": -2013, "msg": "Order does not exist."}, status=400)
        return reply([row] if leaf == holder else [])

    with scripted(answer) as server:
        alone = CcxtExchange("binance", SYMBOL, "k" * 16, "s" * 16, {"urls": {"api": server.url}}, now)
        found = alone.order(client_order_id, SYMBOL, timeout_s=WITHIN_S)
        alone.close()
    assert found is not None
    assert (found.exchange_order_id, found.status) == ("7", OrderStatus.ACCEPTED)


@pytest.mark.parametrize("path", ["order", "openOrders", "allOrders"])
def test_a_denial_counts_only_when_every_list_was_read(exchange: CcxtExchange, venue: FakeBinance, path: str) -> None:
    venue.faults({"fault": "error_before", "next": 1, "methods": ["GET"], "paths": [path]})
    with pytest.raises(Unknown):
        exchange.order(f"{next(_numbers):032x}", SYMBOL, timeout_s=WITHIN_S)


def test_a_former_life_is_told_with_the_client_ids_of_its_orders(exchange: CcxtExchange, connect: Connect) -> None:
    before = newest(exchange)
    sent = [order() for _ in range(6)]
    for one in sent:
        exchange.place(one, timeout_s=WITHIN_S)
    for after, expected in ((before, sent), (newest(exchange) - 1, sent[-1:])):
        fills = connect().events(after, timeout_s=WITHIN_S)
        assert list(dict.fromkeys(one.client_order_id for one in fills)) == [one.client_order_id for one in expected]


def test_what_was_traded_before_the_bot_began_is_not_told(exchange: CcxtExchange, connect: Connect) -> None:
    exchange.place(order(), timeout_s=WITHIN_S)
    began = exchange.time() + timedelta(milliseconds=1)
    later = connect(since=began)
    assert later.events(0, timeout_s=WITHIN_S) == []
    assert later.last_seq() == newest(exchange)
    sent = order()
    exchange.place(sent, timeout_s=WITHIN_S)
    for one in (later, connect(since=began)):
        assert {fill.client_order_id for fill in one.events(0, timeout_s=WITHIN_S)} == {sent.client_order_id}


def test_a_trade_by_hand_is_told_under_its_own_id(exchange: CcxtExchange, venue: FakeBinance) -> None:
    before = newest(exchange)
    venue.tell("foreign", side="SELL", type="MARKET", quantity="0.001", newClientOrderId="web_1")
    fills = exchange.events(before, timeout_s=WITHIN_S)
    assert {fill.client_order_id for fill in fills} == {"web_1"}


def test_an_order_that_left_the_book_is_told_once(
    exchange: CcxtExchange, venue: FakeBinance, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr(ccxt_exchange, "OPEN_ORDERS_EVERY_S", 0.0)
    before = newest(exchange)
    expired, stays = resting(), resting()
    canceled = resting()
    for one in (expired, stays, canceled):
        exchange.place(one, timeout_s=WITHIN_S)
    assert exchange.events(before, timeout_s=WITHIN_S) == []
    venue.tell("expire", clientOrderId=expired.client_order_id)
    connect().cancel(canceled.client_order_id, SYMBOL, timeout_s=WITHIN_S)
    told = exchange.events(before, timeout_s=WITHIN_S)
    assert {(type(one), one.client_order_id, one.seq) for one in told} == {
        (OrderExpired, expired.client_order_id, 0),
        (OrderCanceled, canceled.client_order_id, 0),
    }
    assert exchange.events(before, timeout_s=WITHIN_S) == []


def test_an_order_that_was_filled_is_told_by_its_trades_alone(
    exchange: CcxtExchange, venue: FakeBinance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccxt_exchange, "OPEN_ORDERS_EVERY_S", 0.0)
    before = newest(exchange)
    sent = resting(Side.SELL)
    exchange.place(sent, timeout_s=WITHIN_S)
    venue.tell("market", price="95000")
    deadline_s = time.monotonic() + WITHIN_S
    told: list[Any] = []
    while sum((one.qty for one in told), D(0)) < sent.qty and time.monotonic() < deadline_s:
        told += exchange.events(max([before, *(one.seq for one in told)]), timeout_s=WITHIN_S)
    venue.tell("market", price="50000")
    assert {type(one) for one in told} == {Fill}
    assert sum((one.qty for one in told), D(0)) == sent.qty


# Position, balances, market, time


def test_position_and_balances_are_those_of_one_instant(exchange: CcxtExchange, venue: FakeBinance) -> None:
    exchange.market(SYMBOL)
    asked = venue.ledger()["requests"]["GET /api/v3/account"]
    position = exchange.position(SYMBOL, timeout_s=WITHIN_S)
    balances = {one.asset: one for one in exchange.balances(timeout_s=WITHIN_S)}
    assert position.qty == balances["BTC"].free + balances["BTC"].locked
    assert venue.ledger()["requests"]["GET /api/v3/account"] == asked + 1


def test_reserved_coins_are_not_the_bots(exchange: CcxtExchange, connect: Connect) -> None:
    whole = exchange.position(SYMBOL, timeout_s=WITHIN_S).qty
    careful = connect(options={"reserved": {"BTC": "0.5"}})
    assert careful.position(SYMBOL, timeout_s=WITHIN_S).qty == whole - D("0.5")
    balances = {one.asset: one for one in careful.balances(timeout_s=WITHIN_S)}
    assert balances["BTC"].free + balances["BTC"].locked == whole - D("0.5")


def test_an_account_that_cannot_be_read_is_not_flat(exchange: CcxtExchange, venue: FakeBinance) -> None:
    for fault in ("html", "empty", "error_after", "cut"):
        exchange.market(SYMBOL)
        venue.faults({"fault": fault, "next": 2, "paths": ["account"]})
        with pytest.raises(Unknown):
            exchange.position(SYMBOL, timeout_s=WITHIN_S)
        venue.faults()


def test_the_market_has_the_exchanges_own_rules(exchange: CcxtExchange) -> None:
    market = exchange.market(SYMBOL)
    assert (market.base, market.quote) == ("BTC", "USDT")
    assert market.price_step == D("0.01")
    assert market.amount_step == D("0.00001")
    assert market.notional_min == 5
    assert market.taker_fee == D("0.001")
    assert not market.allows_short
    assert not market.enforces_reduce_only


def test_another_symbol_is_refused_and_none_is_ever_left_out(
    exchange: CcxtExchange, venue: FakeBinance, connect: Connect
) -> None:
    with pytest.raises(Rejected, match="unknown_symbol"):
        exchange.open_orders("ETH/USDT", timeout_s=WITHIN_S)
    with pytest.raises(Fatal) as raised:
        CcxtExchange("binance", "BTC", venue.api_key, venue.api_secret, venue.exchange_options(), now)
    assert raised.value.exit_code == 78
    assert venue.ledger()["unscoped"] == 0


def test_a_step_of_the_exchanges_clock_costs_one_refusal(exchange: CcxtExchange, venue: FakeBinance) -> None:
    exchange.place(order(), timeout_s=WITHIN_S)
    venue.tell("clock", offset_ms=-60_000)
    try:
        with pytest.raises(Unknown):
            exchange.place(order(), timeout_s=WITHIN_S)
        assert exchange.place(order(), timeout_s=WITHIN_S).status is OrderStatus.FILLED
        assert abs((exchange.time() - now()).total_seconds() + 60) < 1
    finally:
        venue.tell("clock", offset_ms=0)


def test_a_request_can_arrive_no_longer_than_the_arrival_window_says(connect: Connect) -> None:
    assert connect().arrival_window_s() == 5.0
    assert connect(options={"options": {"recvWindow": 1_000}}).arrival_window_s() == 3.0


# Keys


def test_a_key_that_was_never_good_is_a_matter_of_configuration(connect: Connect) -> None:
    for wrong in ({"key": "x" * 64}, {"secret": "x" * 64}):
        with pytest.raises(Fatal) as raised:
            connect(**wrong).verify(timeout_s=WITHIN_S)
        assert raised.value.exit_code == 78
    connect().verify(timeout_s=WITHIN_S)


def test_a_key_that_is_refused_later_is_unavailable_and_never_fatal(connect: Connect) -> None:
    refused = connect(secret="x" * 64)
    with pytest.raises(Unavailable):
        refused.place(order(), timeout_s=WITHIN_S)
    with pytest.raises(Unavailable):
        refused.events(0, timeout_s=WITHIN_S)
