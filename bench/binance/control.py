"""What a test or a campaign tells the exchange: ``/control/...``, no signature, loopback only.

GET  ledger                        everything (``Exchange.ledger``)
POST faults   {"rules": [...]}     these rules and no others; {"add": {...}} one more
POST kill     {"when", "pid", ...} signal a process on the next order (``faults.Kill``); {} disarms
POST market   {"freeze": true} | {"price": "1"} | {"run": true}
POST foreign  {order parameters}   an order of somebody else on the same account, unsigned
POST expire   {"clientOrderId"}    the exchange itself takes an order off the book
POST deposit  {"asset", "amount"}  coins come, or with a minus go
POST clock    {"offset_ms": 0}     the exchange's clock against this machine's
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from bench.binance import replies
from bench.binance.errors import BinanceError
from bench.binance.exchange import Exchange
from bench.binance.rules import order_request
from bench.binance.wire import Reply, Request

Body = dict[str, Any]


def control(exchange: Exchange, request: Request) -> Reply:
    """Answer 200 with what there is to say, or 400 with ``{"error"}``."""
    answer = _ANSWERS.get((request.method, request.path.removeprefix("/control/")))
    if answer is None:
        return Reply(status=404, body={"error": f"there is no {request.method} {request.path}"})
    try:
        return Reply(body=answer(exchange, request.json()))
    except (ValueError, TypeError, KeyError, InvalidOperation, BinanceError) as error:
        return Reply(status=400, body={"error": f"{type(error).__name__}: {error}"})


def _pulse(exchange: Exchange, _body: Body) -> Body:
    book = exchange.book
    own = sum(not arrival.foreign for arrival in book.arrivals)
    return {"arrivals": own, "kills": len(exchange.faults.kills), "now_ms": exchange.now_ms()}


def _faults(exchange: Exchange, body: Body) -> Body:
    if "rules" in body:
        exchange.faults.replace(body["rules"])
    if "add" in body:
        exchange.faults.add(body["add"])
    return {"rules": len(exchange.faults.rules)}


def _kill(exchange: Exchange, body: Body) -> Body:
    if body:
        exchange.faults.arm(body)
    else:
        exchange.faults.kill = None
    return {"armed": exchange.faults.kill is not None}


def _market(exchange: Exchange, body: Body) -> Body:
    now_ms = exchange.now_ms()
    if "price" in body:
        exchange.path.set_price(Decimal(body["price"]), from_ms=now_ms)
    elif body.get("freeze"):
        exchange.path.freeze(from_ms=now_ms)
    elif body.get("run"):
        exchange.path.run(from_ms=now_ms)
    else:
        raise ValueError("say 'price', 'freeze' or 'run'")
    exchange.tick()
    return {"price": f"{exchange.price():f}"}


def _foreign(exchange: Exchange, body: Body) -> Body:
    params = {"symbol": exchange.market.symbol} | {name: str(value) for name, value in body.items()}
    now_ms = exchange.now_ms()
    request = order_request(params, exchange.market, generated_id=f"web_{now_ms}")
    order = exchange.book.submit(request, now_ms=now_ms, price=exchange.price(), foreign=True)
    return replies.order_row(order, exchange.market)


def _expire(exchange: Exchange, body: Body) -> Body:
    order = exchange.book.by_client_id(body["clientOrderId"])
    if order is None or not order.live:
        raise ValueError("no such order is open")
    exchange.book.expire(order, now_ms=exchange.now_ms())
    return replies.order_row(order, exchange.market)


def _deposit(exchange: Exchange, body: Body) -> Body:
    exchange.account.move(body["asset"], Decimal(body["amount"]))
    return {"free": f"{exchange.account.free(body['asset']):f}"}


def _clock(exchange: Exchange, body: Body) -> Body:
    exchange.clock_ms = int(body["offset_ms"])
    return {"now_ms": exchange.now_ms()}


_ANSWERS: dict[tuple[str, str], Callable[[Exchange, Body], Body]] = {
    ("GET", "ledger"): lambda exchange, _body: exchange.ledger(),
    ("GET", "pulse"): _pulse,
    ("POST", "faults"): _faults,
    ("POST", "kill"): _kill,
    ("POST", "market"): _market,
    ("POST", "foreign"): _foreign,
    ("POST", "expire"): _expire,
    ("POST", "deposit"): _deposit,
    ("POST", "clock"): _clock,
}
