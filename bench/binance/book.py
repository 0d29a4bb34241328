"""The orders of the account, their trades, and every order that ever arrived: the exchange's own ledger.

A market order takes what there is at once, in two or three trades, each a price step worse; on a thin book
(``thin``) the rest expires, as on Binance. A limit order that the price has reached fills over several ticks, a part
at a time, as maker; one that is beyond the price when it comes takes a first part as taker. A stop waits for the price,
then behaves as the market or limit order it is. Fees are taken from the coin that a trade brings in.

Trade ids belong to the whole market, so between two of this account's some are missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from bench.binance.account import ZERO, Account
from bench.binance.errors import BinanceError, duplicate, filter_failure, unknown_cancel
from bench.binance.orders import Arrival, BookOrder, Trade, order_row, row_of
from bench.binance.rules import Market, OrderRequest, check_notional

_CENT = Decimal("0.00000001")


class Book:
    """Every method takes the time and the price; nothing here reads a clock."""

    def __init__(self, market: Market, account: Account, *, seed: int) -> None:
        self.market = market
        self.account = account
        self.orders: list[BookOrder] = []
        self.trades: list[Trade] = []
        self.arrivals: list[Arrival] = []
        self._rng = random.Random(seed)
        self._order_id = 1_000_000 + self._rng.randrange(1_000_000)
        self._trade_id = 5_000_000 + self._rng.randrange(1_000_000)

    # -- requests

    def submit(
        self, request: OrderRequest, *, now_ms: int, price: Decimal, foreign: bool = False, thin: bool = False
    ) -> BookOrder:
        """Take the order, or raise ``BinanceError``; either way it is among the ``arrivals``."""
        try:
            order = self._submit(request, now_ms, price, foreign, thin)
        except BinanceError as error:
            self._arrived(request, now_ms, f"{error.code} {error.msg}", foreign)
            raise
        self._arrived(request, now_ms, "accepted", foreign)
        return order

    def cancel(self, order: BookOrder | None, *, now_ms: int) -> BookOrder:
        """Raises -2011 for an order that is not there or over."""
        if order is None or not order.live:
            raise unknown_cancel()
        self._end(order, "CANCELED", now_ms)
        return order

    def expire(self, order: BookOrder, *, now_ms: int) -> None:
        """The exchange itself takes the order off the book."""
        self._end(order, "EXPIRED", now_ms)

    def tick(self, *, now_ms: int, price: Decimal) -> None:
        """The price is ``price`` now: stops are set off, limits fill a part."""
        for order in [order for order in self.orders if order.live]:
            if not order.working and self._set_off(order, price):
                order.working = True
                if order.request.price is None:
                    self._take_all(order, now_ms, price, thin=False)
                    continue
            if order.working and self._crosses(order, price):
                self._fill_part(order, now_ms, price, maker=True)

    # -- what is known

    def by_client_id(self, client_order_id: str) -> BookOrder | None:
        """The newest order of that client id."""
        found = (order for order in reversed(self.orders) if order.request.client_order_id == client_order_id)
        return next(found, None)

    def by_order_id(self, order_id: int) -> BookOrder | None:
        return next((order for order in reversed(self.orders) if order.order_id == order_id), None)

    def to_json(self) -> dict[str, Any]:
        """The ledger, money as text, times in ms."""
        return {
            "orders": [order_row(order) for order in self.orders],
            "trades": [row_of(trade) for trade in self.trades],
            "arrivals": [row_of(arrival) for arrival in self.arrivals],
        }

    # -- inside

    def _submit(self, request: OrderRequest, now_ms: int, price: Decimal, foreign: bool, thin: bool) -> BookOrder:
        live = [order for order in self.orders if order.live]
        if any(order.request.client_order_id == request.client_order_id for order in live):
            raise duplicate()
        if len(live) >= self.market.open_orders_max:
            raise filter_failure("MAX_NUM_ORDERS")
        qty = request.qty if request.qty is not None else self._bought_for(request.quote_qty or ZERO, price)
        check_notional(request, qty, price, self.market)
        self._order_id += self._rng.randint(1, 9)
        waits = request.stop_price is not None
        order = BookOrder(
            order_id=self._order_id,
            request=request,
            qty=qty,
            foreign=foreign,
            at_ms=now_ms,
            updated_ms=now_ms,
            working=not waits,
        )
        if waits and self._set_off(order, price):
            raise BinanceError(-2010, "Stop price would trigger immediately.")
        crosses = self._crosses(order, price)
        if request.type == "LIMIT_MAKER" and crosses:
            raise BinanceError(-2010, "Order would immediately match and take.")
        self._lock(order, price)
        self.orders.append(order)
        if request.type == "MARKET" or (request.time_in_force == "FOK" and crosses and not waits):
            self._take_all(order, now_ms, price, thin=thin)
        elif order.working and crosses:
            self._fill_part(order, now_ms, price, maker=False)
        if order.live and order.working and request.time_in_force in ("IOC", "FOK"):
            self._end(order, "EXPIRED", now_ms)
        return order

    def _lock(self, order: BookOrder, price: Decimal) -> None:
        request = order.request
        if request.side == "SELL":
            amount = order.qty
        elif request.price is not None or request.stop_price is not None:
            amount = order.qty * (request.price or request.stop_price or ZERO)
        else:
            amount = sum((qty * at for qty, at in self._parts(order, price, (1, 1, 1))), ZERO)
        self.account.lock(self._held(order), amount)
        order.locked = amount

    def _take_all(self, order: BookOrder, now_ms: int, price: Decimal, *, thin: bool) -> None:
        if order.request.side == "BUY" and order.request.price is None:
            self.account.unlock(self._held(order), order.locked)
            order.locked = ZERO
        shares = tuple(self._rng.randint(1, 9) for _ in range(self._rng.choice((2, 3))))
        parts = list(self._parts(order, price, shares))
        for qty, at in parts[: 1 if thin and len(parts) > 1 else None]:
            if order.request.side == "BUY" and qty * at > self.account.free(self.market.quote) + order.locked:
                break
            self._execute(order, qty, at, now_ms, maker=False)
        if order.live:
            self._end(order, "EXPIRED", now_ms)

    def _parts(self, order: BookOrder, price: Decimal, shares: tuple[int, ...]) -> Iterator[tuple[Decimal, Decimal]]:
        """What is left, in parts of those shares, each a step worse than the one before."""
        step, left, worse = self.market.amount_step, order.left, ZERO
        for index, share in enumerate(shares):
            last = index == len(shares) - 1
            qty = left if last else min(left, _floor(order.left * share / sum(shares), step))
            if qty:
                yield qty, price + worse if order.request.side == "BUY" else price - worse
                worse += self.market.price_step
                left -= qty

    def _fill_part(self, order: BookOrder, now_ms: int, price: Decimal, *, maker: bool) -> None:
        limit = order.request.price
        assert limit is not None
        step = self.market.amount_step
        part = _floor(order.left * self._rng.randint(30, 130) / 100, step)
        self._execute(order, min(max(part, step), order.left), limit if maker else price, now_ms, maker=maker)

    def _execute(self, order: BookOrder, qty: Decimal, price: Decimal, now_ms: int, *, maker: bool) -> None:
        market, buys = self.market, order.request.side == "BUY"
        held = self._held(order)
        cost = qty * price
        spent = cost if buys else qty
        # A buy that takes has let go of all its coins before; one that rests holds its limit for each coin it buys.
        release = min(order.locked, qty * (order.request.price or ZERO) if buys else qty)
        self.account.unlock(held, release)
        order.locked -= release
        self.account.spend(held, spent)
        received, asset = (qty, market.base) if buys else (cost, market.quote)
        fee = (received * (market.maker_fee if maker else market.taker_fee)).quantize(_CENT, ROUND_HALF_UP)
        self.account.receive(asset, received - fee)
        self._trade_id += self._rng.randint(1, 4)
        trade = Trade(
            trade_id=self._trade_id,
            order_id=order.order_id,
            client_order_id=order.request.client_order_id,
            side=order.request.side,
            price=price,
            qty=qty,
            fee=fee,
            fee_asset=asset,
            maker=maker,
            at_ms=now_ms,
            hidden_until_ms=order.hidden_until_ms,
        )
        self.trades.append(trade)
        order.trades.append(trade)
        order.executed += qty
        order.paid += cost
        order.updated_ms = now_ms
        order.status = "PARTIALLY_FILLED" if order.left else "FILLED"
        if not order.left:
            order.ended_ms = now_ms

    def _end(self, order: BookOrder, status: str, now_ms: int) -> None:
        self.account.unlock(self._held(order), order.locked)
        order.locked = ZERO
        order.status = status
        order.updated_ms = order.ended_ms = now_ms

    def _held(self, order: BookOrder) -> str:
        return self.market.quote if order.request.side == "BUY" else self.market.base

    def _bought_for(self, quote: Decimal, price: Decimal) -> Decimal:
        qty = _floor(quote / price, self.market.amount_step)
        if not qty:
            raise filter_failure("LOT_SIZE")
        return qty

    def _crosses(self, order: BookOrder, price: Decimal) -> bool:
        limit = order.request.price
        return limit is not None and (price <= limit if order.request.side == "BUY" else price >= limit)

    def _set_off(self, order: BookOrder, price: Decimal) -> bool:
        stop = order.request.stop_price
        assert stop is not None
        rising = (order.request.side == "BUY") is order.request.type.startswith("STOP_LOSS")
        return price >= stop if rising else price <= stop

    def _arrived(self, request: OrderRequest, now_ms: int, outcome: str, foreign: bool) -> None:
        arrival = Arrival(client_order_id=request.client_order_id, at_ms=now_ms, outcome=outcome, foreign=foreign)
        self.arrivals.append(arrival)


def _floor(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).quantize(Decimal(1), ROUND_DOWN) * step
