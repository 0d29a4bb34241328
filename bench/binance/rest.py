"""Binance's REST: which paths there are, who may ask, and what is answered. No faults here; see ``door``."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.binance import replies
from bench.binance.errors import BinanceError, mandatory, no_such_order
from bench.binance.exchange import Exchange
from bench.binance.orders import BookOrder, Trade
from bench.binance.path import INTERVALS_MS
from bench.binance.rules import check_symbol, integer, order_request
from bench.binance.wire import Request

Params = Mapping[str, str]
_RECV_WINDOW_MS = 5_000
_RECV_WINDOW_MAX_MS = 60_000
_AHEAD_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``weight`` is Binance's own; ``symbol`` says that a question without one is refused and counted."""

    answer: Callable[[Exchange, Params], Any]
    weight: int
    signed: bool = False
    symbol: bool = False


def authorise(exchange: Exchange, request: Request) -> None:
    """The API key and the signature over all parameters. Raises -2014, -2015, -1102, -1022."""
    key = request.headers.get("x-mbx-apikey")
    if not key:
        raise BinanceError(-2014, "API-key format invalid.", status=401)
    if key != exchange.api_key:
        raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    text, found, signature = request.signed.rpartition("&signature=")
    if not found:
        raise mandatory("signature")
    right = hmac.new(exchange.api_secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right, signature):
        raise BinanceError(-1022, "Signature for this request is not valid.")


def check_time(exchange: Exchange, params: Params) -> None:
    """The request is neither older than its receive window nor from the future. Raises -1021."""
    sent_ms, window_ms = integer(params, "timestamp"), integer(params, "recvWindow") or _RECV_WINDOW_MS
    if sent_ms is None:
        raise mandatory("timestamp")
    if window_ms > _RECV_WINDOW_MAX_MS:
        raise BinanceError(-1131, "recvWindow must be less than 60000.")
    now_ms = exchange.now_ms()
    if sent_ms >= now_ms + _AHEAD_MS:
        raise BinanceError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - sent_ms > window_ms:
        raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


# -- orders


def place(exchange: Exchange, params: Params, *, thin: bool = False, hidden_ms: int = 0) -> dict[str, Any]:
    """POST order. ``thin`` and ``hidden_ms`` are faults: the book's depth, and how long queries deny the order."""
    now_ms = exchange.now_ms()
    request = order_request(params, exchange.market, generated_id=f"gen{now_ms}")
    exchange.limits.count_order(now_ms)
    order = exchange.book.submit(request, now_ms=now_ms, price=exchange.price(), thin=thin)
    order.hidden_until_ms = now_ms + hidden_ms if hidden_ms else 0
    for trade in order.trades:
        trade.hidden_until_ms = order.hidden_until_ms
    return replies.placed(order, exchange.market)


def _query(exchange: Exchange, params: Params) -> dict[str, Any]:
    order = _named(exchange, params, "origClientOrderId")
    if order is None or _hidden(exchange, order):
        raise no_such_order()
    return replies.order_row(order, exchange.market)


def _cancel(exchange: Exchange, params: Params) -> dict[str, Any]:
    order = exchange.book.cancel(_named(exchange, params, "origClientOrderId"), now_ms=exchange.now_ms())
    cancel_id = params.get("newClientOrderId") or f"cancel{order.order_id}"
    return replies.canceled(order, exchange.market, cancel_id=cancel_id)


def _open_orders(exchange: Exchange, _params: Params) -> list[dict[str, Any]]:
    live = (order for order in exchange.book.orders if order.live and not _hidden(exchange, order))
    return [replies.order_row(order, exchange.market) for order in live]


def _all_orders(exchange: Exchange, params: Params) -> list[dict[str, Any]]:
    rows = [order for order in exchange.book.orders if not _hidden(exchange, order)]
    first, limit = integer(params, "orderId"), _limit(params)
    since, until = integer(params, "startTime"), integer(params, "endTime")
    rows = [order for order in rows if _within(order.at_ms, since, until)]
    if first is not None:
        rows = [order for order in rows if order.order_id >= first][:limit]
    elif since is not None:
        rows = rows[:limit]
    return [replies.order_row(order, exchange.market) for order in rows[-limit:]]


def _my_trades(exchange: Exchange, params: Params) -> list[dict[str, Any]]:
    order_id, first, limit = integer(params, "orderId"), integer(params, "fromId"), _limit(params)
    since, until = integer(params, "startTime"), integer(params, "endTime")
    rows = [trade for trade in _seen(exchange) if _within(trade.at_ms, since, until)]
    if order_id is not None:
        rows = [trade for trade in rows if trade.order_id == order_id]
    if first is not None:
        rows = [trade for trade in rows if trade.trade_id >= first]
    from_the_start = first is not None or since is not None or order_id is not None
    rows = rows[:limit] if from_the_start else rows[-limit:]
    return [replies.trade_row(trade, exchange.market) for trade in rows]


def _named(exchange: Exchange, params: Params, client: str) -> BookOrder | None:
    if (order_id := integer(params, "orderId")) is not None:
        return exchange.book.by_order_id(order_id)
    if not params.get(client):
        raise mandatory(client)
    return exchange.book.by_client_id(params[client])


def _hidden(exchange: Exchange, order: BookOrder) -> bool:
    return order.hidden_until_ms > exchange.now_ms()


def _seen(exchange: Exchange) -> list[Trade]:
    """Trades become visible in the order of their ids: a later one never shows before an earlier one."""
    seen: list[Trade] = []
    for trade in exchange.book.trades:
        if trade.hidden_until_ms > exchange.now_ms():
            break
        seen.append(trade)
    return seen


def _within(at_ms: int, since: int | None, until: int | None) -> bool:
    return (since is None or at_ms >= since) and (until is None or at_ms <= until)


def _limit(params: Params, *, default: int = 500, most: int = 1000) -> int:
    return min(integer(params, "limit") or default, most)


# -- account and market


def _account(exchange: Exchange, params: Params) -> dict[str, Any]:
    omit = params.get("omitZeroBalances", "").lower() == "true"
    return replies.account(exchange.account, exchange.market, exchange.now_ms(), omit_zero=omit)


def _klines(exchange: Exchange, params: Params) -> list[list[Any]]:
    check_symbol(params, exchange.market)
    interval_ms = INTERVALS_MS.get(params.get("interval", ""))
    if interval_ms is None:
        raise BinanceError(-1120, "Invalid interval.")
    now_ms, limit = exchange.now_ms(), _limit(params)
    since, until = integer(params, "startTime"), min(integer(params, "endTime") or now_ms, now_ms)
    opened, bar = exchange.path.open_kline(interval_ms, now_ms)
    if since is None:
        since = until // interval_ms * interval_ms - (limit - 1) * interval_ms
    last = min(until, since + limit * interval_ms, opened - 1)
    rows = [replies.kline(at, interval_ms, row) for at, row in exchange.path.klines(interval_ms, since, last)]
    if since <= opened <= until:
        rows.append(replies.kline(opened, interval_ms, bar))
    return rows[:limit]


def _price(exchange: Exchange, params: Params) -> dict[str, Any]:
    check_symbol(params, exchange.market)
    return {"symbol": exchange.market.symbol, "price": replies.number(exchange.price())}


def _book_ticker(exchange: Exchange, params: Params) -> dict[str, Any]:
    check_symbol(params, exchange.market)
    price, step = exchange.price(), exchange.market.price_step
    sizes = {"bidQty": "10.00000000", "askQty": "10.00000000"}
    told = {"bidPrice": replies.number(price - step), "askPrice": replies.number(price + step)}
    return {"symbol": exchange.market.symbol, **told, **sizes}


def _exchange_info(exchange: Exchange, params: Params) -> dict[str, Any]:
    if params.get("symbol"):
        check_symbol(params, exchange.market)
    return replies.exchange_info(exchange.market, exchange.now_ms(), weight_max=exchange.limits.weight_max)


def _trade_fee(exchange: Exchange, _params: Params) -> list[dict[str, Any]]:
    market = exchange.market
    rates = {
        "makerCommission": replies.number(market.maker_fee),
        "takerCommission": replies.number(market.taker_fee),
    }
    return [{"symbol": market.symbol, **rates}]


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/api/v3/ping"): Route(answer=lambda _exchange, _params: {}, weight=1),
    ("GET", "/api/v3/time"): Route(answer=lambda exchange, _params: {"serverTime": exchange.now_ms()}, weight=1),
    ("GET", "/api/v3/exchangeInfo"): Route(answer=_exchange_info, weight=20),
    ("GET", "/api/v3/klines"): Route(answer=_klines, weight=2),
    ("GET", "/api/v3/ticker/price"): Route(answer=_price, weight=2),
    ("GET", "/api/v3/ticker/bookTicker"): Route(answer=_book_ticker, weight=2),
    ("POST", "/api/v3/order"): Route(answer=place, weight=1, signed=True, symbol=True),
    ("GET", "/api/v3/order"): Route(answer=_query, weight=4, signed=True, symbol=True),
    ("DELETE", "/api/v3/order"): Route(answer=_cancel, weight=1, signed=True, symbol=True),
    ("GET", "/api/v3/openOrders"): Route(answer=_open_orders, weight=6, signed=True, symbol=True),
    ("GET", "/api/v3/allOrders"): Route(answer=_all_orders, weight=20, signed=True, symbol=True),
    ("GET", "/api/v3/myTrades"): Route(answer=_my_trades, weight=20, signed=True, symbol=True),
    ("GET", "/api/v3/account"): Route(answer=_account, weight=20, signed=True),
    ("GET", "/api/v3/account/commission"): Route(
        answer=lambda exchange, _params: replies.commission(exchange.market), weight=20, signed=True, symbol=True
    ),
    ("GET", "/sapi/v1/capital/config/getall"): Route(
        answer=lambda exchange, _params: [replies.coin(asset, exchange.account) for asset in exchange.account.coins],
        weight=10,
        signed=True,
    ),
    ("GET", "/sapi/v1/asset/tradeFee"): Route(answer=_trade_fee, weight=1, signed=True),
    # What ccxt asks besides when it loads every market it knows of: this exchange has none of those.
    ("GET", "/sapi/v1/margin/allPairs"): Route(answer=lambda _exchange, _params: [], weight=1),
    ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(answer=lambda _exchange, _params: [], weight=10, signed=True),
    ("GET", "/fapi/v1/exchangeInfo"): Route(answer=lambda _exchange, _params: {"symbols": []}, weight=1),
    ("GET", "/dapi/v1/exchangeInfo"): Route(answer=lambda _exchange, _params: {"symbols": []}, weight=1),
}
