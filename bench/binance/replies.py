"""The exchange's answers in Binance's shapes: numbers as text with eight decimals, times in milliseconds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bench.binance.account import Account
from bench.binance.orders import BookOrder, Trade
from bench.binance.rules import ORDER_TYPES, Market

_ZERO = Decimal(0)


def number(value: Decimal | None) -> str:
    return f"{value or _ZERO:.8f}"


def exchange_info(market: Market, now_ms: int, *, weight_max: int) -> dict[str, Any]:
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_max},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
        {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
    ]
    filters: list[dict[str, Any]] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": number(market.price_step),
            "maxPrice": number(market.price_max),
            "tickSize": number(market.price_step),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": number(market.amount_step),
            "maxQty": number(market.amount_max),
            "stepSize": number(market.amount_step),
        },
        {"filterType": "MARKET_LOT_SIZE", "minQty": number(None), "maxQty": number(Decimal(500)), "stepSize": "0.0"},
        {
            "filterType": "NOTIONAL",
            "minNotional": number(market.notional_min),
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": market.open_orders_max},
    ]
    symbol = {
        "symbol": market.symbol,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": limits,
        "exchangeFilters": [],
        "symbols": [symbol],
    }


def order_row(order: BookOrder, market: Market) -> dict[str, Any]:
    """As GET order, openOrders and allOrders tell it."""
    request = order.request
    return {
        **_common(order, market),
        "stopPrice": number(request.stop_price),
        "icebergQty": number(None),
        "time": order.at_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working,
        "workingTime": order.at_ms if order.working else -1,
    }


def placed(order: BookOrder, market: Market) -> dict[str, Any]:
    """The reply to POST order, as small as was asked for."""
    request = order.request
    ack = {
        "symbol": market.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": request.client_order_id,
        "transactTime": order.at_ms,
    }
    if request.resp_type == "ACK":
        return ack
    result = _common(order, market) | ack | {"workingTime": order.at_ms if order.working else -1}
    if request.stop_price is not None:
        result["stopPrice"] = number(request.stop_price)
    if request.resp_type == "FULL":
        result["fills"] = [
            {
                "price": number(trade.price),
                "qty": number(trade.qty),
                "commission": number(trade.fee),
                "commissionAsset": trade.fee_asset,
                "tradeId": trade.trade_id,
            }
            for trade in order.trades
        ]
    return result


def canceled(order: BookOrder, market: Market, *, cancel_id: str) -> dict[str, Any]:
    """The reply to DELETE order."""
    names = {"origClientOrderId": order.request.client_order_id, "clientOrderId": cancel_id}
    return _common(order, market) | names | {"transactTime": order.updated_ms}


def trade_row(trade: Trade, market: Market) -> dict[str, Any]:
    """As myTrades tells it."""
    return {
        "symbol": market.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": number(trade.price),
        "qty": number(trade.qty),
        "quoteQty": number(trade.qty * trade.price),
        "commission": number(trade.fee),
        "commissionAsset": trade.fee_asset,
        "time": trade.at_ms,
        "isBuyer": trade.side == "BUY",
        "isMaker": trade.maker,
        "isBestMatch": True,
    }


def account(held: Account, market: Market, now_ms: int, *, omit_zero: bool) -> dict[str, Any]:
    rates = {"maker": number(market.maker_fee), "taker": number(market.taker_fee)}
    return {
        "makerCommission": int(market.maker_fee * 10_000),
        "takerCommission": int(market.taker_fee * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": rates | {"buyer": number(None), "seller": number(None)},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": now_ms,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": number(coins.free), "locked": number(coins.locked)}
            for asset, coins in held.coins.items()
            if not omit_zero or coins.free or coins.locked
        ],
        "permissions": ["SPOT"],
        "uid": 354_937_868,
    }


def commission(market: Market) -> dict[str, Any]:
    """The reply to GET account/commission."""
    standard = {"maker": number(market.maker_fee), "taker": number(market.taker_fee)}
    none = dict.fromkeys(("maker", "taker", "buyer", "seller"), number(None))
    return {
        "symbol": market.symbol,
        "standardCommission": standard | {"buyer": number(None), "seller": number(None)},
        "specialCommission": none,
        "taxCommission": none,
        "discount": {"enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "BNB", "discount": "0.75"},
    }


def coin(asset: str, held: Account) -> dict[str, Any]:
    """One coin of the wallet's list, which ccxt reads when it loads its markets with keys."""
    coins = held.coins[asset]
    return {
        "coin": asset,
        "name": asset,
        "depositAllEnable": True,
        "withdrawAllEnable": True,
        "trading": True,
        "isLegalMoney": False,
        "free": number(coins.free),
        "locked": number(coins.locked),
        "networkList": [],
    }


def kline(opened_ms: int, interval_ms: int, bar: tuple[Decimal, ...]) -> list[Any]:
    first, high, low, last, volume = bar
    quote = number(volume * last)
    half = volume / 2
    return [
        opened_ms,
        *(number(value) for value in (first, high, low, last, volume)),
        opened_ms + interval_ms - 1,
        quote,
        10,
        number(half),
        number(half * last),
        "0",
    ]


def _common(order: BookOrder, market: Market) -> dict[str, Any]:
    request = order.request
    return {
        "symbol": market.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": request.client_order_id,
        "price": number(request.price),
        "origQty": number(order.qty),
        "executedQty": number(order.executed),
        "origQuoteOrderQty": number(request.quote_qty),
        "cummulativeQuoteQty": number(order.paid),
        "status": order.status,
        "timeInForce": request.time_in_force,
        "type": request.type,
        "side": request.side,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
