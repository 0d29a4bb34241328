"""Binance spot: the shapes of its requests and replies (https://developers.binance.com/docs/binance-spot-api-docs).

Amounts travel as text both ways, so they stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tbh.domain.money import EXACT, ZERO, dec, divide, floor_to_step, plain
from tbh.infra.ccxt_shapes import Fees, Params, Rules
from tbh.messages.account import Balance
from tbh.messages.market import Candle, Market
from tbh.messages.orders import Fill, Order, OrderStatus, OrderType, Side
from tbh.ports import OrderReport

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
STOP_LIMIT_DISTANCE: Final = Decimal("0.05")
"""Where a market takes no stop at market, the stop's limit lies this far beyond it: far enough to be filled at once,
near enough for the exchange's bounds on prices."""

STATUSES: Final = {
    "NEW": OrderStatus.ACCEPTED,
    "PENDING_NEW": OrderStatus.ACCEPTED,
    "PENDING_CANCEL": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
    "REJECTED": OrderStatus.REJECTED,
}


class BinanceSpot:
    """Implements ``Dialect``."""

    def market_id(self, symbol: str) -> str:
        base, slash, quote = symbol.partition("/")
        if not slash or not base.isalnum() or not quote.isalnum():
            raise ValueError(f"a spot market is BASE/QUOTE, as BTC/USDT, not {symbol!r}")
        return f"{base}{quote}".upper()

    def market_query(self, market_id: str) -> Params:
        return {"symbol": market_id}

    def rules(self, reply: Any, symbol: str, fees: Fees) -> Rules:
        market_id = self.market_id(symbol)
        row = next((one for one in reply["symbols"] if one["symbol"] == market_id), None)
        if row is None:
            raise LookupError(market_id)
        filters = {one["filterType"]: one for one in row["filters"]}
        price, lot, at_market = filters["PRICE_FILTER"], filters["LOT_SIZE"], filters.get("MARKET_LOT_SIZE", {})
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
        largest = [one for one in (_limit(lot, "maxQty"), _limit(at_market, "maxQty")) if one is not None]
        smallest = [one for one in (_limit(lot, "minQty"), _limit(at_market, "minQty")) if one is not None]
        market = Market(
            symbol=symbol,
            base=row["baseAsset"],
            quote=row["quoteAsset"],
            price_step=_step(price, "tickSize"),
            amount_step=_step(lot, "stepSize"),
            amount_min=max(smallest, default=None),
            amount_max=min(largest, default=None),
            price_min=_limit(price, "minPrice"),
            price_max=_limit(price, "maxPrice"),
            notional_min=_limit(notional, "minNotional"),
            notional_max=_limit(notional, "maxNotional"),
            taker_fee=fees.taker,
            maker_fee=fees.maker,
            enforces_reduce_only=False,
            allows_short=False,
            cancels_are_final=True,  # ``executedQty`` is the matching engine's
        )
        taken = row.get("orderTypes", ())
        stop_type = next((one for one in ("STOP_LOSS", "STOP_LOSS_LIMIT") if one in taken), None)
        return Rules(market=market, market_id=market_id, stop_type=stop_type)

    def fees(self, account: Any) -> Fees | None:
        rates = account.get("commissionRates")
        return None if not rates else Fees(maker=dec(rates["maker"]), taker=dec(rates["taker"]))

    def may_trade(self, account: Any) -> bool:
        return account.get("canTrade") is not False

    def balances(self, account: Any) -> Sequence[Balance]:
        rows = account["balances"]
        return [Balance(asset=row["asset"], free=dec(row["free"]), locked=dec(row["locked"])) for row in rows]

    def server_ms(self, reply: Any) -> int:
        return int(reply["serverTime"])

    # Orders

    def order(self, order: Order, rules: Rules, *, at_ms: int, window_ms: int) -> Params:
        params: Params = {
            "symbol": rules.market_id,
            "side": order.side.value.upper(),
            "quantity": plain(order.qty),
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "RESULT",
            "timestamp": at_ms,
            "recvWindow": window_ms,
        }
        if order.type is OrderType.MARKET:
            return params | {"type": "MARKET"}
        if order.type is OrderType.LIMIT:
            price = {"price": plain(_given(order.price, "price"))}
            if order.post_only:
                return params | price | {"type": "LIMIT_MAKER"}
            return params | price | {"type": "LIMIT", "timeInForce": "GTC"}
        if rules.stop_type is None:
            raise ValueError(f"{rules.market_id} takes no stop orders")
        stop = _given(order.stop_price, "stop price")
        params |= {"type": rules.stop_type, "stopPrice": plain(stop)}
        if rules.stop_type == "STOP_LOSS":
            return params
        beyond = EXACT.add(Decimal(1), EXACT.multiply(STOP_LIMIT_DISTANCE, Decimal(order.side.sign)))
        limit = floor_to_step(EXACT.multiply(stop, beyond), rules.market.price_step)
        return params | {"price": plain(limit), "timeInForce": "GTC"}

    def by_client_id(self, client_order_id: str, market_id: str) -> Params:
        return {"symbol": market_id, "origClientOrderId": client_order_id}

    def by_exchange_id(self, exchange_order_id: str, market_id: str) -> Params:
        return {"symbol": market_id, "orderId": exchange_order_id}

    def of_market(self, market_id: str) -> Params:
        return {"symbol": market_id}

    def orders_from(self, exchange_order_id: str | None, market_id: str) -> Params:
        params: Params = {"symbol": market_id, "limit": 1000}
        return params if exchange_order_id is None else params | {"orderId": exchange_order_id}

    def report(self, row: Any) -> OrderReport:
        filled = dec(row.get("executedQty", "0"))
        spent = dec(row.get("cummulativeQuoteQty", "0"))
        return OrderReport(
            # A cancel's answer has an id of its own under clientOrderId.
            client_order_id=str(row.get("origClientOrderId") or row["clientOrderId"]),
            exchange_order_id=str(int(row["orderId"])),
            status=STATUSES[row.get("status", "NEW")],
            filled_qty=filled,
            # For some old orders the exchange no longer knows what was spent, and says so by a negative number.
            avg_price=divide(spent, filled) if filled and spent > 0 else None,
            qty=dec(row["origQty"]) if "origQty" in row else None,
            # Whatever does not apply is left out, or 0.
            price=dec(row.get("stopPrice", "0")) or dec(row.get("price", "0")) or None,
        )

    # Trades

    def trades_after(self, seq: int, market_id: str) -> Params:
        return {"symbol": market_id, "fromId": seq + 1, "limit": 1000}

    def trades_since(self, since_ms: int, market_id: str) -> Params:
        return {"symbol": market_id, "startTime": since_ms, "limit": 1}

    def newest_trade(self, market_id: str) -> Params:
        return {"symbol": market_id, "limit": 1}

    def trade_seq(self, row: Any) -> int:
        return int(row["id"])

    def trade_order(self, row: Any) -> str:
        return str(int(row["orderId"]))

    def fill(self, row: Any, client_order_id: str, symbol: str) -> Fill:
        return Fill(
            trade_id=str(int(row["id"])),
            client_order_id=client_order_id,
            exchange_order_id=str(int(row["orderId"])),
            symbol=symbol,
            side=Side.BUY if _flag(row, "isBuyer") else Side.SELL,
            qty=dec(row["qty"]),
            price=dec(row["price"]),
            fee=dec(row["commission"]),
            fee_asset=str(row["commissionAsset"]),
            maker=_flag(row, "isMaker"),
            at=_time(row["time"]),
            seq=int(row["id"]),
        )

    # Bars

    def candles_since(self, open_ms: int, interval: str, market_id: str, limit: int) -> Params:
        return {"symbol": market_id, "interval": interval, "startTime": open_ms, "limit": limit}

    def candle(self, row: Any) -> tuple[Candle, int]:
        opened, *amounts = row[:6]
        open_, high, low, close, volume = map(dec, amounts)
        candle = Candle(open_time=_time(opened), open=open_, high=high, low=low, close=close, volume=volume)
        return candle, int(row[6])


def _time(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=int(ms))


def _given(value: Decimal | None, name: str) -> Decimal:
    if value is None:
        raise ValueError(f"an order without its {name}")
    return value


def _flag(row: Mapping[str, Any], name: str) -> bool:
    if not isinstance(row[name], bool):
        raise TypeError(f"{name} is neither true nor false")
    return bool(row[name])


def _step(row: Mapping[str, Any], name: str) -> Decimal:
    step = dec(row[name])
    if step <= 0:
        raise ValueError(f"{name} {step}")
    return step


def _limit(row: Mapping[str, Any], name: str) -> Decimal | None:
    """A limit; the exchange writes 0 where it has none."""
    value = dec(row.get(name, "0"))
    return value if value > ZERO else None
