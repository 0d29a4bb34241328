"""A stand-in for Binance for each module of tests, and a client that signs by itself, without ccxt."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from bench.binance.process import FakeBinance, running_exchange

WITHIN_S = 5.0


class Client:
    """Signed requests, one connection each; (status, body, headers) of the reply."""

    def __init__(self, exchange: FakeBinance) -> None:
        self.exchange = exchange
        self.key, self.secret = exchange.api_key, exchange.api_secret

    def ask(
        self, method: str, path: str, *, at_ms: int | None = None, **params: Any
    ) -> tuple[int, Any, dict[str, str]]:
        asked = {"symbol": "BTCUSDT", **params, "timestamp": at_ms or time.time_ns() // 1_000_000}
        return self.raw(method, path, self.signed({name: value for name, value in asked.items() if value is not None}))

    def signed(self, params: dict[str, Any]) -> str:
        query = urlencode(params)
        return f"{query}&signature={hmac.new(self.secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"

    def raw(self, method: str, path: str, query: str) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection(urlsplit(self.exchange.url).netloc, timeout=WITHIN_S)
        try:
            if method == "POST":
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", path, query, {"X-MBX-APIKEY": self.key, **kind})
            else:
                connection.request(method, f"{path}?{query}", headers={"X-MBX-APIKEY": self.key})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        body = json.loads(text) if text.startswith((b"{", b"[")) else text
        return reply.status, body, dict(reply.getheaders())

    def order(self, client_id: str, side: str = "BUY", type_: str = "MARKET", **params: Any) -> tuple[int, Any]:
        asked = {"side": side, "type": type_, "quantity": "0.01", "newClientOrderId": client_id, **params}
        return self.ask("POST", "/api/v3/order", **asked)[:2]

    def query(self, client_id: str) -> tuple[int, Any]:
        return self.ask("GET", "/api/v3/order", origClientOrderId=client_id)[:2]

    def coins(self) -> dict[str, Decimal]:
        """Free and locked together."""
        _, account, _ = self.ask("GET", "/api/v3/account", symbol=None)
        return {row["asset"]: Decimal(row["free"]) + Decimal(row["locked"]) for row in account["balances"]}


@pytest.fixture(scope="module")
def exchange() -> Iterator[FakeBinance]:
    with running_exchange(seed=3, quote_coins=100_000, weight_max=100_000) as running:
        yield running


@pytest.fixture
def client(exchange: FakeBinance) -> Iterator[Client]:
    exchange.tell("market", price="50000")
    yield Client(exchange)
    exchange.faults()
    for row in exchange.ledger()["orders"]:
        if row["status"] in ("NEW", "PARTIALLY_FILLED"):
            exchange.tell("expire", clientOrderId=row["client_order_id"])


@pytest.fixture
def new_client() -> Callable[[FakeBinance], Client]:
    return Client


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: f"t{time.time_ns():x}"
