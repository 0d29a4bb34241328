"""The stand-in for Binance: it answers as Binance does, and its ledger adds up."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench.binance.process import FakeBinance, running_exchange

WITHIN_S = 5.0


def polled(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_market_order_fills_in_parts_and_the_fee_is_taken_from_what_it_brings_in(
    client: Any, new_id: Callable[[], str]
) -> None:
    before, name = client.coins(), new_id()
    status, placed = client.order(name)
    assert (status, placed["status"], placed["clientOrderId"]) == (200, "FILLED", name)
    assert len(placed["fills"]) in (2, 3)
    assert {fill["commissionAsset"] for fill in placed["fills"]} == {"BTC"}
    bought = sum(Decimal(fill["qty"]) - Decimal(fill["commission"]) for fill in placed["fills"])
    cost = sum(Decimal(fill["qty"]) * Decimal(fill["price"]) for fill in placed["fills"])
    after = client.coins()
    assert after["BTC"] - before["BTC"] == bought
    assert before["USDT"] - after["USDT"] == cost == Decimal(placed["cummulativeQuoteQty"])
    first = min(fill["tradeId"] for fill in placed["fills"])
    _, trades, _ = client.ask("GET", "/api/v3/myTrades", fromId=first)
    assert [trade["id"] for trade in trades] == [fill["tradeId"] for fill in placed["fills"]]


def test_a_client_id_is_refused_while_its_order_is_open_and_taken_again_afterwards(
    client: Any, new_id: Callable[[], str]
) -> None:
    name = new_id()
    limit = {"type_": "LIMIT", "price": "40000", "timeInForce": "GTC"}
    assert client.order(name, **limit)[0] == 200
    assert client.order(name, **limit) == (400, {"code": -2010, "msg": "Duplicate order sent."})
    assert client.ask("DELETE", "/api/v3/order", origClientOrderId=name)[1]["status"] == "CANCELED"
    assert client.ask("DELETE", "/api/v3/order", origClientOrderId=name)[1]["code"] == -2011
    assert client.order(name, **limit)[0] == 200


def test_a_stop_waits_for_the_price_locks_its_coins_and_is_no_stop_beyond_the_price(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    client.order(new_id(), quantity="0.02")
    name = new_id()
    stop = {"side": "SELL", "type_": "STOP_LOSS", "stopPrice": "49000"}
    assert client.order(name, **stop)[0] == 200
    (resting,) = client.ask("GET", "/api/v3/openOrders")[1]
    assert (resting["clientOrderId"], resting["isWorking"]) == (name, False)
    refused = client.order(new_id(), **{**stop, "stopPrice": "50000"})
    assert refused == (400, {"code": -2010, "msg": "Stop price would trigger immediately."})
    exchange.tell("market", price="48900")
    assert client.query(name)[1]["status"] == "FILLED"


def test_a_limit_fills_a_part_at_a_time_at_its_own_price(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    name = new_id()
    client.order(name, type_="LIMIT", price="49500", timeInForce="GTC")
    exchange.tell("market", price="49400")
    order = polled(lambda: (row := client.query(name)[1])["status"] == "FILLED" and row)
    assert Decimal(order["cummulativeQuoteQty"]) == Decimal("49500") * Decimal("0.01")
    trades = client.ask("GET", "/api/v3/myTrades", orderId=order["orderId"])[1]
    assert all(trade["isMaker"] for trade in trades)


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.000000001"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "0.00005"}, -1013, "Filter failure: NOTIONAL"),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "1.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "900"}, -2010, "Account has insufficient balance for requested action."),
        ({"side": "SELL", "quantity": "900"}, -2010, "Account has insufficient balance for requested action."),
        ({"symbol": "ETHUSDT"}, -1121, "Invalid symbol."),
        ({"type": "STOP_MARKET"}, -1116, "Invalid orderType."),
        ({"newClientOrderId": "a" * 37}, -1100, None),
        ({"type": "LIMIT"}, -1102, None),
        ({"symbol": None}, -1102, None),
    ],
)
def test_what_binance_refuses_is_refused_in_its_words(
    client: Any, new_id: Callable[[], str], params: dict[str, Any], code: int, words: str | None
) -> None:
    asked = {"side": "BUY", "type": "MARKET", "quantity": "0.01", "newClientOrderId": new_id()} | params
    status, body, _ = client.ask("POST", "/api/v3/order", **asked)
    assert (status, body["code"]) == (400, code)
    assert words is None or body["msg"] == words


def test_signatures_keys_and_times_are_checked(client: Any) -> None:
    now_ms = time.time_ns() // 1_000_000
    query = client.signed({"symbol": "BTCUSDT", "timestamp": now_ms})
    assert client.raw("GET", "/api/v3/openOrders", query)[0] == 200
    assert client.raw("GET", "/api/v3/openOrders", query.replace("BTC", "ETH"))[1]["code"] == -1022
    assert client.ask("GET", "/api/v3/account", at_ms=now_ms - 6_000)[1]["code"] == -1021
    assert client.ask("GET", "/api/v3/account", at_ms=now_ms - 6_000, recvWindow=10_000)[0] == 200
    assert client.ask("GET", "/api/v3/account", at_ms=now_ms + 5_000)[1]["code"] == -1021
    client.key = "stranger"
    assert client.ask("GET", "/api/v3/account")[:2] == (
        401,
        {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    )


def test_a_question_without_a_symbol_is_refused_and_counted(client: Any, exchange: FakeBinance) -> None:
    before = exchange.ledger()["unscoped"]
    assert client.ask("GET", "/api/v3/openOrders", symbol=None)[1]["code"] == -1102
    assert exchange.ledger()["unscoped"] == before + 1


def test_request_weights_are_told_and_held(new_client: Callable[[FakeBinance], Any]) -> None:
    with running_exchange(weight_max=50) as small:
        client = new_client(small)
        assert client.ask("GET", "/api/v3/account")[2]["x-mbx-used-weight-1m"] == "20"
        replies = [client.ask("GET", "/api/v3/account") for _ in range(12)]
        assert {status for status, _, _ in replies} >= {429, 418}
        assert int(replies[-1][2]["Retry-After"]) > 0


def test_of_each_weight_a_share_can_count(new_client: Callable[[FakeBinance], Any]) -> None:
    with running_exchange(weight_share=0.1) as patient:
        assert new_client(patient).ask("GET", "/api/v3/account")[2]["x-mbx-used-weight-1m"] == "2"


def test_klines_agree_with_each_other_whoever_asks_and_when(client: Any, exchange: FakeBinance) -> None:
    exchange.tell("market", run=True)
    _, seconds, _ = client.raw("GET", "/api/v3/klines", "symbol=BTCUSDT&interval=1s&limit=120")
    assert [row[0] for row in seconds] == [seconds[0][0] + 1000 * n for n in range(120)]
    assert seconds[-1][6] > time.time_ns() // 1_000_000 - 2_000
    ask = f"symbol=BTCUSDT&interval=1s&startTime={seconds[0][0]}&endTime={seconds[99][0]}"
    assert client.raw("GET", "/api/v3/klines", ask)[1] == seconds[:100]
    assert all(Decimal(row[3]) <= Decimal(row[4]) <= Decimal(row[2]) for row in seconds)
    _, minutes, _ = client.raw("GET", "/api/v3/klines", "symbol=BTCUSDT&interval=1m&limit=3")
    assert [row[6] - row[0] for row in minutes] == [59_999] * 3


def test_an_order_of_somebody_else_is_on_the_same_account(client: Any, exchange: FakeBinance) -> None:
    row = exchange.tell("foreign", side="BUY", type="LIMIT", quantity="0.01", price="30000", timeInForce="GTC")
    assert row["clientOrderId"] in [order["clientOrderId"] for order in client.ask("GET", "/api/v3/openOrders")[1]]
    assert exchange.ledger()["orders"][-1]["foreign"]


def test_the_ledger_adds_up_to_the_balances(client: Any, exchange: FakeBinance, new_id: Callable[[], str]) -> None:
    client.order(new_id(), quantity="0.03")
    client.order(new_id(), "SELL", quantity="0.01")
    client.order(new_id(), "SELL", "LIMIT", price="60000", timeInForce="GTC")
    ledger = exchange.ledger()
    held = {asset: Decimal(amount) for asset, amount in ledger["start"].items()}
    for trade in ledger["trades"]:
        qty, cost = Decimal(trade["qty"]), Decimal(trade["qty"]) * Decimal(trade["price"])
        sign = 1 if trade["side"] == "BUY" else -1
        held["BTC"] += sign * qty
        held["USDT"] -= sign * cost
        held[trade["fee_asset"]] -= Decimal(trade["fee"])
    assert held == client.coins()


def test_ccxt_trades_on_it_without_knowing_the_difference(exchange: FakeBinance, new_id: Callable[[], str]) -> None:
    ccxt = pytest.importorskip("ccxt")
    exchange.tell("market", price="50000")
    client = ccxt.binance({"apiKey": exchange.api_key, "secret": exchange.api_secret})
    client.urls["api"] = {
        name: exchange.url + urlsplit(url).path for name, url in client.urls["api"].items() if isinstance(url, str)
    }
    markets = client.load_markets()
    assert list(markets) == ["BTC/USDT"]
    assert (markets["BTC/USDT"]["precision"]["amount"], markets["BTC/USDT"]["limits"]["cost"]["min"]) == (1e-05, 5.0)
    entry, stop = new_id(), new_id()
    placed = client.create_order("BTC/USDT", "market", "buy", 0.01, None, {"clientOrderId": entry})
    assert (placed["status"], placed["filled"]) == ("closed", 0.01)
    guard = {"clientOrderId": stop, "stopLossPrice": 40_000}
    assert client.create_order("BTC/USDT", "market", "sell", 0.005, None, guard)["status"] == "open"
    assert [order["clientOrderId"] for order in client.fetch_open_orders("BTC/USDT")] == [stop]
    client.cancel_order(None, "BTC/USDT", {"clientOrderId": stop})
    assert client.fetch_order(None, "BTC/USDT", {"clientOrderId": stop})["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(None, "BTC/USDT", {"clientOrderId": stop})
    assert {trade["order"] for trade in client.fetch_my_trades("BTC/USDT", limit=2)} == {placed["id"]}
    assert len(client.fetch_ohlcv("BTC/USDT", "1s", limit=50)) == 50
