"""Binance's requests and replies, in the shapes in which it sends them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tbh.infra.ccxt_binance import BinanceSpot
from tbh.infra.ccxt_shapes import Fees, Rules
from tbh.messages.orders import Order, OrderStatus, OrderType, Purpose, Side

D = Decimal
SPOT = BinanceSpot()
AT = datetime(2026, 1, 5, tzinfo=UTC)
ORDER = Order(
    client_order_id="0" * 31 + "1",
    intent_id="i",
    symbol="BTC/USDT",
    side=Side.SELL,
    type=OrderType.MARKET,
    qty=D("0.00100000"),
    purpose=Purpose.EXIT,
    strategy="s",
    bar_open=AT,
    created_at=AT,
)
FILTERS: list[dict[str, Any]] = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "0.00000000", "tickSize": "0.01000000"},
    {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "75.5", "stepSize": "0.00000000"},
    {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
]
ORDER_ROW = {
    "symbol": "BTCUSDT",
    "orderId": 3001,
    "orderListId": -1,
    "clientOrderId": "0" * 31 + "1",
    "price": "0.00000000",
    "origQty": "0.00300000",
    "executedQty": "0.00300000",
    "cummulativeQuoteQty": "100.00000000",
    "status": "FILLED",
    "timeInForce": "GTC",
    "type": "MARKET",
    "side": "SELL",
}


def rules(*types: str) -> Rules:
    row = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "orderTypes": types, "filters": FILTERS}
    return SPOT.rules({"symbols": [row]}, "BTC/USDT", Fees(maker=D("0.0008"), taker=D("0.001")))


def request(**more: Any) -> dict[str, str | int]:
    return SPOT.order(replace(ORDER, **more), rules("STOP_LOSS", "STOP_LOSS_LIMIT"), at_ms=1, window_ms=900)


def test_a_market_order_is_plain_text_with_our_id_and_a_small_answer() -> None:
    assert request() == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "MARKET",
        "quantity": "0.001",
        "newClientOrderId": "0" * 31 + "1",
        "newOrderRespType": "RESULT",
        "timestamp": 1,
        "recvWindow": 900,
    }


def test_amounts_are_never_written_with_an_exponent() -> None:
    assert request(qty=D("1E-7"))["quantity"] == "0.0000001"
    assert request(qty=D("1E+2"))["quantity"] == "100"


def test_a_limit_order_stands_until_canceled_and_a_post_only_one_makes() -> None:
    limit = request(type=OrderType.LIMIT, price=D("50000.10"))
    assert (limit["type"], limit["price"], limit["timeInForce"]) == ("LIMIT", "50000.1", "GTC")
    maker = request(type=OrderType.LIMIT, price=D("50000.10"), post_only=True)
    assert (maker["type"], maker["price"], "timeInForce" in maker) == ("LIMIT_MAKER", "50000.1", False)


def test_a_stop_is_a_market_stop_where_the_market_takes_one() -> None:
    stop = request(type=OrderType.STOP_MARKET, stop_price=D(40000))
    assert (stop["type"], stop["stopPrice"], "price" in stop) == ("STOP_LOSS", "40000", False)


@pytest.mark.parametrize(("side", "limit"), [(Side.SELL, "38000.01"), (Side.BUY, "42000.02")])
def test_elsewhere_a_stop_has_a_limit_beyond_it(side: Side, limit: str) -> None:
    stop = replace(ORDER, side=side, type=OrderType.STOP_MARKET, stop_price=D("40000.02"))
    sent = SPOT.order(stop, rules("LIMIT", "STOP_LOSS_LIMIT"), at_ms=1, window_ms=900)
    assert (sent["type"], sent["stopPrice"], sent["price"]) == ("STOP_LOSS_LIMIT", "40000.02", limit)
    assert sent["timeInForce"] == "GTC"


def test_a_market_without_stops_takes_none() -> None:
    stop = replace(ORDER, type=OrderType.STOP_MARKET, stop_price=D(40000))
    with pytest.raises(ValueError, match="no stop orders"):
        SPOT.order(stop, rules("LIMIT"), at_ms=1, window_ms=900)


def test_the_rules_are_exact_and_zero_is_no_limit() -> None:
    market = rules("LIMIT").market
    assert (market.price_step, market.amount_step, market.amount_min) == (D("0.01"), D("0.00001"), D("0.00001"))
    assert (market.price_min, market.price_max) == (D("0.01"), None)
    assert (market.amount_max, market.notional_min) == (D("75.5"), D(5))
    assert (market.maker_fee, market.taker_fee) == (D("0.0008"), D("0.001"))


def test_a_market_that_is_not_there_is_missed() -> None:
    with pytest.raises(LookupError):
        SPOT.rules({"symbols": []}, "BTC/USDT", Fees(maker=D(0), taker=D(0)))


def test_a_report_is_what_the_exchange_says_of_the_order() -> None:
    report = SPOT.report(ORDER_ROW)
    assert (report.client_order_id, report.exchange_order_id) == ("0" * 31 + "1", "3001")
    assert (report.status, report.filled_qty, report.qty) == (OrderStatus.FILLED, D("0.003"), D("0.003"))
    assert report.avg_price == D("33333.33333333333333333333333333333")


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ({"price": "0.00000000", "stopPrice": "0.00000000"}, None),
        ({}, None),
        ({"price": "101.50000000"}, D("101.5")),
        ({"price": "101.50000000", "stopPrice": "0.00000000"}, D("101.5")),
        ({"price": "0.00000000", "stopPrice": "98.10000000"}, D("98.1")),
        ({"price": "93.19000000", "stopPrice": "98.10000000"}, D("98.1")),
    ],
)
def test_an_order_stands_at_its_stop_price_or_its_limit(prices: dict[str, str], expected: Decimal | None) -> None:
    bare = {name: value for name, value in ORDER_ROW.items() if name not in ("price", "stopPrice")}
    assert SPOT.report(bare | prices).price == expected


def test_a_canceled_orders_id_is_the_orders_and_not_the_cancels() -> None:
    row = {**ORDER_ROW, "origClientOrderId": "ours", "clientOrderId": "the cancel's", "status": "CANCELED"}
    assert SPOT.report(row).client_order_id == "ours"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("NEW", OrderStatus.ACCEPTED),
        ("PARTIALLY_FILLED", OrderStatus.PARTIALLY_FILLED),
        ("CANCELED", OrderStatus.CANCELED),
        ("PENDING_CANCEL", OrderStatus.ACCEPTED),
        ("EXPIRED", OrderStatus.EXPIRED),
        ("EXPIRED_IN_MATCH", OrderStatus.EXPIRED),
        ("REJECTED", OrderStatus.REJECTED),
    ],
)
def test_each_status_has_its_meaning(status: str, expected: OrderStatus) -> None:
    assert SPOT.report({**ORDER_ROW, "status": status}).status is expected


def test_a_status_that_nobody_knows_is_no_report() -> None:
    with pytest.raises(KeyError):
        SPOT.report({**ORDER_ROW, "status": "NOVEL"})


def test_an_average_that_the_exchange_no_longer_knows_is_none() -> None:
    assert SPOT.report({**ORDER_ROW, "cummulativeQuoteQty": "-1.00000000"}).avg_price is None


def test_a_trade_is_a_fill_with_its_fee_in_any_coin() -> None:
    row = {
        "symbol": "BTCUSDT",
        "id": 28457,
        "orderId": 100234,
        "price": "4.00000100",
        "qty": "12.00000000",
        "quoteQty": "48.000012",
        "commission": "0.00010000",
        "commissionAsset": "BNB",
        "time": 1499865549590,
        "isBuyer": False,
        "isMaker": True,
        "isBestMatch": True,
    }
    fill = SPOT.fill(row, "ours", "BTC/USDT")
    assert (fill.trade_id, fill.seq, fill.exchange_order_id, fill.client_order_id) == ("28457", 28457, "100234", "ours")
    assert (fill.side, fill.qty, fill.price, fill.fee, fill.fee_asset) == (
        Side.SELL,
        D(12),
        D("4.000001"),
        D("0.0001"),
        "BNB",
    )
    assert fill.maker
    assert fill.at == datetime(2017, 7, 12, 13, 19, 9, 590_000, tzinfo=UTC)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC/USDT:USDT", "BTC/", "/USDT", "BTC USDT"])
def test_only_spot_symbols_have_a_market(symbol: str) -> None:
    with pytest.raises(ValueError, match="BASE/QUOTE"):
        SPOT.market_id(symbol)
