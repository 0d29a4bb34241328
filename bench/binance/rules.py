"""What Binance checks of an order before it looks at the account: parameters, symbol, steps, bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from bench.binance.errors import BinanceError, filter_failure, mandatory

_CLIENT_ID = re.compile(r"^[.A-Z:/a-z0-9_-]{1,36}$")
_TYPES = {
    "LIMIT": ("timeInForce", "quantity", "price"),
    "MARKET": (),
    "STOP_LOSS": ("quantity", "stopPrice"),
    "STOP_LOSS_LIMIT": ("timeInForce", "quantity", "price", "stopPrice"),
    "TAKE_PROFIT": ("quantity", "stopPrice"),
    "TAKE_PROFIT_LIMIT": ("timeInForce", "quantity", "price", "stopPrice"),
    "LIMIT_MAKER": ("quantity", "price"),
}
ORDER_TYPES = tuple(_TYPES)
_DECIMALS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The one market; fees are fractions, ``notional_min`` is quote."""

    base: str
    quote: str
    amount_step: Decimal = Decimal("0.00001")
    price_step: Decimal = Decimal("0.01")
    amount_max: Decimal = Decimal(9000)
    price_max: Decimal = Decimal(1_000_000)
    notional_min: Decimal = Decimal(5)
    maker_fee: Decimal = Decimal("0.001")
    taker_fee: Decimal = Decimal("0.001")
    open_orders_max: int = 200

    @property
    def symbol(self) -> str:
        return self.base + self.quote


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """An order as it was asked for. ``qty`` is base; ``quote_qty`` instead of it where a market order names that."""

    client_order_id: str
    side: str
    type: str
    qty: Decimal | None
    quote_qty: Decimal | None
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: str
    resp_type: str


def check_symbol(params: Mapping[str, str], market: Market) -> None:
    """Raises -1102 without a symbol, -1121 for another one."""
    if not params.get("symbol"):
        raise mandatory("symbol")
    if params["symbol"] != market.symbol:
        raise BinanceError(-1121, "Invalid symbol.")


def order_request(params: Mapping[str, str], market: Market, *, generated_id: str) -> OrderRequest:
    """The order that ``params`` ask for, form and steps checked. Raises ``BinanceError``."""
    check_symbol(params, market)
    side, type_ = params.get("side", ""), params.get("type", "")
    if side not in ("BUY", "SELL"):
        raise mandatory("side") if not side else BinanceError(-1117, "Invalid side.")
    if type_ not in _TYPES:
        raise mandatory("type") if not type_ else BinanceError(-1116, "Invalid orderType.")
    for name in _TYPES[type_]:
        if not params.get(name):
            raise mandatory(name)
    client_id = params.get("newClientOrderId") or generated_id
    if not _CLIENT_ID.fullmatch(client_id):
        legal = "'^[\\.A-Z\\:/a-z0-9_-]{1,36}$'"
        raise BinanceError(-1100, f"Illegal characters found in parameter 'newClientOrderId'; legal range is {legal}.")
    if type_ == "MARKET" and not params.get("quantity") and not params.get("quoteOrderQty"):
        raise mandatory("quantity")
    tif = params.get("timeInForce") or "GTC"
    if tif not in ("GTC", "IOC", "FOK"):
        raise BinanceError(-1115, "Invalid timeInForce.")
    request = OrderRequest(
        client_order_id=client_id,
        side=side,
        type=type_,
        qty=number(params, "quantity"),
        quote_qty=number(params, "quoteOrderQty"),
        price=number(params, "price"),
        stop_price=number(params, "stopPrice"),
        time_in_force=tif,
        resp_type=params.get("newOrderRespType") or ("FULL" if type_ in ("MARKET", "LIMIT") else "ACK"),
    )
    if "price" not in _TYPES[type_] and request.price is not None:
        raise BinanceError(-1106, "Parameter 'price' sent when not required.")
    check_steps(request, market)
    return request


def check_steps(request: OrderRequest, market: Market) -> None:
    """PRICE_FILTER and LOT_SIZE."""
    for price in (request.price, request.stop_price):
        if price is not None and (not 0 < price <= market.price_max or price % market.price_step):
            raise filter_failure("PRICE_FILTER")
    qty = request.qty
    if qty is not None and (not market.amount_step <= qty <= market.amount_max or qty % market.amount_step):
        raise filter_failure("LOT_SIZE")


def check_notional(request: OrderRequest, qty: Decimal, last: Decimal, market: Market) -> None:
    """NOTIONAL, valued by the order's own price, else its stop's, else the last one."""
    if qty * (request.price or request.stop_price or last) < market.notional_min:
        raise filter_failure("NOTIONAL")


def number(params: Mapping[str, str], name: str) -> Decimal | None:
    """A plain decimal number, or None when it is not there; exponents and more than eight decimals are refused."""
    text = params.get(name)
    if not text:
        return None
    if not re.fullmatch(r"\d{1,20}(\.\d{0,20})?|\.\d{1,20}", text):
        raise BinanceError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^([0-9]{{1,20}})(\\.[0-9]{{1,20}})?$'.",
        )
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise mandatory(name) from None
    if -int(value.normalize().as_tuple().exponent) > _DECIMALS:
        raise BinanceError(-1111, f"Parameter '{name}' has too much precision.")
    return value


def integer(params: Mapping[str, str], name: str) -> int | None:
    """A whole number, or None when it is not there. Raises -1102 for anything else."""
    text = params.get(name)
    if not text:
        return None
    if not text.lstrip("-").isdigit():
        raise mandatory(name)
    return int(text)
