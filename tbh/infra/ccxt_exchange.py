"""A real account on an exchange, through the ccxt library: implements ``tbh.ports.Exchange`` for one symbol.

What an order became is told by evidence alone. A placed order is known by the exchange's own answer; one that is asked
for is looked up by client id, then among the open ones and the latest of all, and only when the exchange denies it in
its own words everywhere is it ``None``. Fills are the account's trades, numbered by their trade ids. Orders that left
the book otherwise (canceled by hand, expired) are noticed by comparing the open ones every few seconds, and told with
``seq`` 0, for the exchange does not number them.

A live bot's parts are made from its context::

    keys = context.credentials(credentials_key)  # {"api_key": ..., "api_secret": ...}
    exchange = CcxtExchange(
        "binance",
        "BTC/USDT",
        keys["api_key"],
        keys["api_secret"],
        context.bot.exchange_options,
        now,
        since=first_start,
    )
    exchange.verify(timeout_s=10)  # a key that was never good: Fatal(78)
    feed = CcxtFeed("binance", "BTC/USDT", timeframe_s, context.bot.exchange_options, history_bars=500)

``now`` is the bot's market time; it may be ``exchange.time``. Each instance is one connection; the escalation makes
its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tbh.domain.money import EXACT, ZERO
from tbh.infra.ccxt_binance import EPOCH
from tbh.infra.ccxt_budget import Budget
from tbh.infra.ccxt_client import READ_TIMEOUT_S, CcxtClient, read_options
from tbh.infra.ccxt_clock import process_s
from tbh.infra.ccxt_errors import Duplicate, KeyRefused, NotFound, bad_reply
from tbh.infra.ccxt_history import TradeHistory
from tbh.infra.ccxt_orders import OrderLookup, checked
from tbh.infra.ccxt_shapes import Fees, Rules
from tbh.infra.ccxt_venues import venue_of
from tbh.messages.account import Balance
from tbh.messages.market import Market
from tbh.messages.orders import Order, OrderCanceled, OrderExpired, OrderStatus
from tbh.ports import AccountEvent, Fatal, OrderReport, PositionReport, Rejected, Unavailable, Unknown

WINDOW_MIN_MS: Final = 50
"""An order with less time than this to reach the exchange is not sent."""

OPEN_ORDERS_EVERY_S: Final = 5.0
SAME_INSTANT_S: Final = 1.0
SENT_KEPT_MAX: Final = 10_000
_LIVE = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


class CcxtExchange:
    """The account of ``api_key`` on ``symbol`` (``BASE/QUOTE``) at the exchange ``venue_id``.

    ``options`` are the bot's exchange options: the ccxt constructor's, and ``reserved``, coins that are not the bot's
    (``{"BTC": "0.5"}``), left out of position and balances. ``since`` is the bot's first start: what the account traded
    before it is no business of the bot's; None tells every trade that it ever made. ``budget`` is the process's, where
    it has several connections. ``Fatal(78)`` for an exchange that is not served, and for options or credentials that
    can't be used.
    """

    def __init__(
        self,
        venue_id: str,
        symbol: str,
        api_key: str,
        api_secret: str,
        options: Mapping[str, Any],
        now: Callable[[], datetime],
        *,
        since: datetime | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._venue = venue_of(venue_id)
        self._dialect = self._venue.dialect
        settings = read_options(self._venue, options)
        try:
            self._market_id = self._dialect.market_id(symbol)
        except ValueError as error:
            raise Fatal("symbol_not_served", exit_code=78, detail=str(error)) from error
        self._symbol = symbol
        self._now = now
        self._reserved = settings.reserved
        self._window_ms = int(settings.receive_window_s * 1000)
        self._client = CcxtClient(self._venue, settings, api_key=api_key, api_secret=api_secret, budget=budget)
        self._lookup = OrderLookup(self._client, self._market_id)
        self._trades = TradeHistory(self._client, self._lookup, symbol=symbol, market_id=self._market_id, since=since)
        self._rules: Rules | None = None
        self._fees: Fees | None = None
        self._sent: dict[str, None] = {}
        self._live: set[str] = set()
        self._compared_s = process_s()
        self._account: tuple[float, Sequence[Balance]] | None = None

    # The market and the clock

    def market(self, symbol: str) -> Market:
        """The exchange's rules for the symbol, read once; the fees are the account's own where there is a key."""
        self._check(symbol)
        return self._rules_now(time.monotonic() + READ_TIMEOUT_S).market

    def time(self) -> datetime:
        """The exchange's time, aware UTC; it follows no step of this machine's clock. Asks the exchange when it is not
        known yet."""
        return EPOCH + timedelta(milliseconds=self._client.time_ms())

    def clock_s(self) -> float | None:
        """The exchange's time in seconds since 1970 as far as it is known; asks nobody and waits for nothing."""
        clock = self._client.clock
        return clock.now_ms() / 1000 if clock.known else None

    def verify(self, *, timeout_s: float) -> None:
        """``Fatal(78)`` when the exchange refuses the key, or the key may not trade; other failures as they are.

        For a first start. Later a refused key is ``Unavailable``: the same key may be taken again a minute later.
        """
        try:
            account = self._ask_account(time.monotonic() + timeout_s)
        except KeyRefused as error:
            detail = f"{error.detail}; check EXCHANGE_API_KEY, EXCHANGE_API_SECRET, and the key's rights and addresses"
            raise Fatal("exchange_key_refused", exit_code=78, detail=detail) from error
        if not self._dialect.may_trade(account):
            detail = f"{self._venue.id}: the account may not trade; allow spot trading for this key"
            raise Fatal("exchange_key_may_not_trade", exit_code=78, detail=detail)

    def arrival_window_s(self) -> float:
        """Receive window, plus what the clocks may differ, plus the time until an accepted order shows in queries."""
        return self._window_ms / 1000 + self._venue.clock_tolerance_s + self._venue.arrival_margin_s

    # Orders

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        """Send one order, signed so that the exchange refuses it after ``expires_at``, and after ``deadline_s`` on
        ``process_s``."""
        self._check(order.symbol)
        until_s = time.monotonic() + timeout_s
        client_order_id = order.client_order_id
        if client_order_id in self._sent:
            return self._as_it_stands(client_order_id, until_s, "sent before")
        rules = self._rules_now(until_s)
        # The time that is signed is read first: if the process is stopped from here on, it only gets older, and the
        # exchange refuses the order when it goes on too late.
        at_ms = int(self._client.time_ms())
        try:
            params = self._dialect.order(order, rules, at_ms=at_ms, window_ms=self._window_of(order, deadline_s))
        except ValueError as error:
            raise Rejected("order_not_taken", detail=str(error)) from error
        self._note_sent(client_order_id)
        try:
            reply = self._client.call("place", params, until_s=until_s)
        except Duplicate:
            return self._as_it_stands(client_order_id, until_s, "the exchange has an order of this id")
        except NotFound as error:
            raise Unknown(error.reason, detail=error.detail) from error
        except (Rejected, Unavailable):
            del self._sent[client_order_id]  # provably not there
            raise
        report = self._lookup.report(reply, "place", expected=client_order_id)
        self._follow(report)
        return report

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        self._check(symbol)
        params = self._dialect.by_client_id(client_order_id, self._market_id)
        reply = self._client.call("cancel", params, until_s=time.monotonic() + timeout_s)
        report = self._lookup.report(reply, "cancel", expected=client_order_id)
        self._follow(report)
        return report

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        self._check(symbol)
        report = self._lookup.find(client_order_id, time.monotonic() + timeout_s)
        if report is not None:
            self._follow(report)
        return report

    def open_orders(self, symbol: str, *, timeout_s: float) -> Sequence[OrderReport]:
        self._check(symbol)
        return self._lookup.open_orders(time.monotonic() + timeout_s)

    # The account

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        """The account's trades after that id, whoever made them; then the orders of ours that left the book unfilled
        since the last call, with ``seq`` 0."""
        until_s = time.monotonic() + timeout_s
        ended = self._ended(until_s)  # before the trades, so that those hold all that filled until then
        fills = self._trades.after(after, until_s)
        for event in ended:
            self._live.discard(event.client_order_id)
        return [*fills, *ended]

    def last_seq(self) -> int:
        return self._trades.newest

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        """The base coin, free and locked, without what is reserved. The balances asked for next are those of the same
        instant."""
        self._check(symbol)
        until_s = time.monotonic() + timeout_s
        base = self._rules_now(until_s).market.base
        balances = self._read_balances(until_s)
        self._account = (process_s(), balances)
        held = next((one for one in balances if one.asset == base), None)
        # The list leaves out coins of which there are none; that there is a list has been checked.
        qty = EXACT.add(held.free, held.locked) if held else EXACT.minus(self._reserved.get(base, ZERO))
        return PositionReport(symbol=symbol, qty=qty, entry_price=None)

    def balances(self, *, timeout_s: float) -> Sequence[Balance]:
        account, self._account = self._account, None
        if account is not None and process_s() - account[0] < SAME_INSTANT_S:
            return account[1]
        return self._read_balances(time.monotonic() + timeout_s)

    def close(self) -> None:
        self._client.close()

    # Inside

    def _check(self, symbol: str) -> None:
        if symbol != self._symbol:
            raise Rejected("unknown_symbol", detail=f"this account trades {self._symbol}, not {symbol}")

    def _rules_now(self, until_s: float) -> Rules:
        if self._rules is None:
            if self._client.signs and self._fees is None:
                self._ask_account(until_s)
            reply = self._client.call("market", self._dialect.market_query(self._market_id), until_s=until_s)
            with checked("market"):
                try:
                    self._rules = self._dialect.rules(reply, self._symbol, self._fees or self._venue.fees)
                except LookupError as error:
                    if isinstance(error, KeyError):
                        raise
                    detail = f"{self._venue.id} has no market {self._symbol}: correct the bot's symbols"
                    raise Fatal("symbol_not_served", exit_code=78, detail=detail) from error
        return self._rules

    def _window_of(self, order: Order, deadline_s: float | None) -> int:
        """How long the exchange may take the order, in ms: never beyond its expiry nor the process's deadline."""
        window_ms = self._window_ms
        if deadline_s is not None:
            window_ms = min(window_ms, int((deadline_s - process_s()) * 1000))
            if window_ms < WINDOW_MIN_MS:
                raise Rejected("expired", detail="the time to send it has run out; it was not sent")
        if order.expires_at is None:
            return window_ms
        left_ms = int((order.expires_at - self._now()).total_seconds() * 1000)
        if left_ms < WINDOW_MIN_MS:
            raise Rejected("expired", detail=f"valid until {order.expires_at:%Y-%m-%dT%H:%M:%SZ}; it was not sent")
        return min(left_ms, window_ms)

    def _note_sent(self, client_order_id: str) -> None:
        self._sent[client_order_id] = None
        if len(self._sent) > SENT_KEPT_MAX:
            del self._sent[next(iter(self._sent))]

    def _as_it_stands(self, client_order_id: str, until_s: float, why: str) -> OrderReport:
        report = self._lookup.find(client_order_id, until_s)
        if report is None:
            raise Unknown("order_unknown", detail=f"{client_order_id}: {why}, and it can't be found yet")
        self._follow(report)
        return report

    def _follow(self, report: OrderReport) -> None:
        if report.status in _LIVE:
            self._live.add(report.client_order_id)
        else:
            self._live.discard(report.client_order_id)

    def _ended(self, until_s: float) -> list[OrderCanceled | OrderExpired]:
        """Orders that were live and have left the book without a word; those that were filled are told by trades."""
        if not self._live or process_s() - self._compared_s < OPEN_ORDERS_EVERY_S:
            return []
        standing = {report.client_order_id for report in self._lookup.open_orders(until_s, poll=True)}
        ended: list[OrderCanceled | OrderExpired] = []
        for client_order_id in sorted(self._live - standing):
            report = self._lookup.direct(client_order_id, until_s)
            if report is None:
                continue  # accepted so lately that the exchange's lists lack it
            word = f"{report.status.value} by the exchange or by hand"
            if report.status is OrderStatus.CANCELED:
                ended.append(OrderCanceled(client_order_id=client_order_id, filled_qty=report.filled_qty, reason=word))
            elif report.status is OrderStatus.EXPIRED:
                ended.append(OrderExpired(client_order_id=client_order_id, filled_qty=report.filled_qty, reason=word))
            elif report.status not in _LIVE:
                self._live.discard(client_order_id)
        self._compared_s = process_s()
        return ended

    def _ask_account(self, until_s: float) -> Any:
        account = self._client.call("account", {"omitZeroBalances": "true"}, until_s=until_s)
        if not isinstance(account, dict):
            raise bad_reply("account", "no account")
        with checked("account"):
            self._fees = self._dialect.fees(account) or self._venue.fees
        return account

    def _read_balances(self, until_s: float) -> Sequence[Balance]:
        account = self._ask_account(until_s)
        with checked("account"):
            return tuple(self._owned(balance) for balance in self._dialect.balances(account))

    def _owned(self, balance: Balance) -> Balance:
        reserved: Decimal | None = self._reserved.get(balance.asset)
        if not reserved:
            return balance
        return Balance(asset=balance.asset, free=EXACT.subtract(balance.free, reserved), locked=balance.locked)
