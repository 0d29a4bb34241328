"""What an exchange's entry consists of: ``Venue`` (data) and ``Dialect`` (its requests and replies)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from tbh.infra.ccxt_errors import Verdict
from tbh.messages.account import Balance
from tbh.messages.market import Candle, Market
from tbh.messages.orders import Fill, Order
from tbh.ports import OrderReport

Params = dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A market as this exchange has it. ``stop_type`` is how it calls a stop, None where it takes none."""

    market: Market
    market_id: str
    stop_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """Of each side of a trade, as fractions."""

    maker: Decimal
    taker: Decimal


class Dialect(Protocol):
    """The requests and replies of one exchange. The readers raise ``KeyError``, ``TypeError`` or ``ValueError`` for a
    reply of another shape; what they return is exact."""

    def market_id(self, symbol: str) -> str:
        """How the exchange calls ``BASE/QUOTE``. ``ValueError`` for a symbol of another kind."""

    def market_query(self, market_id: str) -> Params: ...

    def rules(self, reply: Any, symbol: str, fees: Fees) -> Rules:
        """``LookupError`` when the exchange has no such market."""

    def fees(self, account: Any) -> Fees | None:
        """What this account pays, where the exchange tells it."""

    def may_trade(self, account: Any) -> bool: ...

    def balances(self, account: Any) -> Sequence[Balance]: ...

    def server_ms(self, reply: Any) -> int: ...

    def order(self, order: Order, rules: Rules, *, at_ms: int, window_ms: int) -> Params:
        """The request that places ``order``, signed for ``at_ms`` (the exchange's time) and refused ``window_ms``
        later. ``ValueError`` for one that this market does not take."""

    def by_client_id(self, client_order_id: str, market_id: str) -> Params: ...

    def by_exchange_id(self, exchange_order_id: str, market_id: str) -> Params: ...

    def of_market(self, market_id: str) -> Params: ...

    def orders_from(self, exchange_order_id: str | None, market_id: str) -> Params:
        """All orders from that one on, or the newest ones."""

    def trades_after(self, seq: int, market_id: str) -> Params: ...

    def trades_since(self, since_ms: int, market_id: str) -> Params:
        """The first trade since an instant."""

    def newest_trade(self, market_id: str) -> Params: ...

    def report(self, row: Any) -> OrderReport: ...

    def trade_seq(self, row: Any) -> int: ...

    def trade_order(self, row: Any) -> str:
        """The exchange's id of the order that a trade is of."""

    def fill(self, row: Any, client_order_id: str, symbol: str) -> Fill: ...

    def candles_since(self, open_ms: int, interval: str, market_id: str, limit: int) -> Params: ...

    def candle(self, row: Any) -> tuple[Candle, int]:
        """A bar, and the millisecond after which it can't change any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """One exchange. Endpoints are the names of the library's methods."""

    id: str
    ccxt_class: str
    dialect: Dialect
    endpoints: Mapping[str, str]
    codes: Mapping[str, Verdict]
    """By the exchange's own error code."""

    texts: Mapping[tuple[str, str], Verdict] = field(default_factory=dict)
    """By code and a part of the message, looked at first."""

    weight_header: str
    weight_max: int
    page_max: int
    receive_window_s: float
    clock_tolerance_s: float
    """How far ahead of its clock the exchange takes a request's time: our own error ahead can't be more than this."""

    arrival_margin_s: float
    fees: Fees
    intervals: Mapping[int, str]
    ccxt_options: Mapping[str, Any] = field(default_factory=dict)
