"""How orders meet a market of which only the bars are known.

A bar is three events. *Open* is one price. *Range* is everything between the bar's low and high, in an order that
nobody knows. *Close* is one price again. Whoever drives the matcher calls ``open_bar``, ``range_bar``, ``close_bar``
for each bar and may submit or cancel between them, as a bot does that reacts to its fills.

At one price (open, close), in this order, first come first served within each group:

1. market orders execute at it, as takers; so do stops and limits that were beyond the price of their submission
   (``Resting.marketable``): a stop set too late gets the price there is, never the better one it asked for;
2. stops that the price has reached or jumped over execute at it, as takers;
3. limits that the price has reached or jumped over execute at it, as makers. It may be better than they asked.

Within the range:

1. marketable orders, which can only have come since the open, execute at the open's price;
2. every stop between low and high executes at its stop price, as taker;
3. every limit between low and high executes at its limit, as maker. When one bar touches both, the stop wins.

The range does not move the last price: which of its prices came last is unknown until the close.

A reduce-only order closes at most the position, and the exchange cancels it (``reduce_only``) the moment nothing is
left for it to close; where the market does not enforce reduce-only, the flag does nothing, as on real exchanges.
With a volume share, at most that share of the bar's volume executes per bar, over all orders; the rest waits,
also of market orders. Everything is exact: no product or sum is ever rounded, only average prices are (34 digits).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tbh.domain.admission import Refusal, check_form, check_funds, check_limits, check_position
from tbh.domain.money import EXACT, floor_to_step, plain
from tbh.domain.venue import Account, Resting, Standing, VenueState, crosses, reducible, standing, triggers
from tbh.messages.base import message, replace
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderExpired, OrderStatus, OrderType, Side

FeeIn = Literal["quote", "received"]
Event = Fill | OrderCanceled | OrderExpired

OPEN_ORDERS_MAX = 200
"""Resting orders per account and symbol; Binance's MAX_NUM_ORDERS filter has this value."""


@message
class Accepted:
    exchange_order_id: str


class Matcher:
    """One account on one market. Deterministic: the same calls give the same events, ids and numbers.

    ``volume_share`` is the fraction of each bar's volume that may execute (None: no limit). ``fee_in`` is the coin
    of the fees: always quote, or the coin that the fill brings in. ``tag`` and ``first_seq`` are ``Account``'s; a
    restored state brings its own. ``touched`` holds the standing of every order that the last call changed.
    """

    def __init__(
        self,
        market: Market,
        *,
        cash: Decimal,
        volume_share: Decimal | None = None,
        fee_in: FeeIn = "quote",
        tag: str = "",
        first_seq: int = 0,
    ) -> None:
        if volume_share is not None and not 0 < volume_share <= 1:
            raise ValueError(f"a share of the volume lies within 0 and 1: {volume_share}")
        if fee_in not in ("quote", "received"):
            raise ValueError(f"fees are taken in 'quote' or in the coin 'received', not in {fee_in!r}")
        self.market = market
        self.volume_share = volume_share
        self.fee_in = fee_in
        self.account = Account.opened(cash, tag=tag, first_seq=first_seq)
        self.last_price: Decimal | None = None
        self.bar_open: datetime | None = None
        self.touched: dict[str, Standing] = {}
        self._orders: dict[str, Resting] = {}
        self._volume_left: Decimal | None = None
        self._events: list[Event] = []

    @property
    def resting(self) -> Mapping[str, Resting]:
        """Open orders by client id, as they came."""
        return self._orders

    def equity(self, mark: Decimal) -> Decimal:
        """Cash and position at the price ``mark``, in quote."""
        return EXACT.add(self.account.cash, EXACT.multiply(self.account.qty, mark))

    def standing(self, client_order_id: str) -> Standing | None:
        """Where a resting order stands; None when it is not on the book."""
        order = self._orders.get(client_order_id)
        return None if order is None else standing(order)

    # -- requests

    def submit(self, order: Order, *, at: datetime) -> Accepted | Refusal:
        """Put an order on the book at market time ``at``; what executes does so in the next phase.

        Funds are judged by the last price (limit or stop price where there is one), so an opening gap can still
        cost more than the cash there is, as it can on margin. Raises ``ValueError`` for a client id that rests
        already: knowing the past ids is the caller's part.
        """
        if order.client_order_id in self._orders:
            raise ValueError(f"order {order.client_order_id} rests already")
        self._begin()
        last = self.last_price
        if last is None:
            return Refusal(reason="no_price_yet", detail="the market has not opened")
        if refusal := self._refusal(order, at, last):
            return refusal
        self.account = replace(self.account, accepted=self.account.accepted + 1)
        resting = Resting(
            client_order_id=order.client_order_id,
            exchange_order_id=self.account.last_order_id,
            side=order.side,
            type=order.type,
            qty=order.qty,
            price=order.price,
            stop_price=order.stop_price,
            reduce_only=order.reduce_only,
            marketable=_is_marketable(order, last),
        )
        self._keep(resting)
        return Accepted(exchange_order_id=resting.exchange_order_id)

    def cancel(self, client_order_id: str) -> OrderCanceled | None:
        """Take an order off the book; None when it is not there (unknown, filled, canceled)."""
        self._begin()
        order = self._orders.get(client_order_id)
        return None if order is None else self._cancel(order, "requested")

    # -- the market

    def open_bar(self, at: datetime, price: Decimal, *, volume: Decimal) -> list[Event]:
        """The bar that opens at ``at`` begins with ``price``; ``volume`` (base) is the whole bar's.

        Every fill of the bar carries ``at``.
        """
        self.bar_open = at
        if self.volume_share is not None:
            share = EXACT.multiply(volume, self.volume_share)
            self._volume_left = floor_to_step(share, self.market.amount_step)
        return self._see(price)

    def range_bar(self, high: Decimal, low: Decimal) -> list[Event]:
        """The market went from ``low`` to ``high`` in an unknown order."""
        self._begin()
        if not self._orders:
            return []
        last = self.last_price
        assert last is not None
        self._execute_marketable(last)
        for order in self._by_type(OrderType.STOP_MARKET):
            assert order.stop_price is not None
            if triggers(order.side, order.stop_price, high if order.side is Side.BUY else low):
                self._trigger(order, order.stop_price)
        for order in self._by_type(OrderType.LIMIT):
            assert order.price is not None
            if crosses(order.side, order.price, low if order.side is Side.BUY else high):
                self._fill(order, order.price, maker=True)
        return self._events

    def close_bar(self, price: Decimal) -> list[Event]:
        """The bar ends at ``price``. Orders that came after the range was played meet it."""
        return self._see(price)

    def pass_over(self, at: datetime, price: Decimal) -> None:
        """Stand at the close of the bar that opened at ``at``: the caller has seen that nothing until then meets what
        rests. ``ValueError`` when an order would execute at any price."""
        if any(order.marketable for order in self._orders.values()):
            raise ValueError("an order waits for the next price: no bar can be passed over")
        self.bar_open, self.last_price = at, price

    # -- state

    def state(self) -> VenueState:
        """All of it but the settings; frozen, so it is cheap to take and safe to keep."""
        return VenueState(
            orders=tuple(self._orders.values()),
            account=self.account,
            last_price=self.last_price,
            bar_open=self.bar_open,
            volume_left=self._volume_left,
        )

    def restore(self, state: VenueState) -> None:
        """Return to ``state``, as if nothing had been called since."""
        self._orders = {order.client_order_id: order for order in state.orders}
        self.account = state.account
        self.last_price = state.last_price
        self.bar_open = state.bar_open
        self._volume_left = state.volume_left
        self._begin()

    # -- inside

    def _begin(self) -> None:
        if self.touched:
            self.touched = {}
        self._events = []

    def _refusal(self, order: Order, at: datetime, last: Decimal) -> Refusal | None:
        market, account, resting = self.market, self.account, self._orders.values()
        if len(self._orders) >= OPEN_ORDERS_MAX:
            return Refusal(reason="too_many_orders", detail=f"at most {OPEN_ORDERS_MAX} orders rest at a time")
        refusal = check_form(order, market, at=at) or check_limits(order, market, last)
        if refusal is None and order.post_only and order.price is not None and crosses(order.side, order.price, last):
            detail = f"the last price is {plain(last)}"
            refusal = Refusal(reason="post_only_would_cross", detail=detail)
        return (
            refusal
            or check_position(order, market, account.qty, resting)
            or check_funds(order, market, qty=account.qty, equity=self.equity(last), last=last, resting=resting)
        )

    def _see(self, price: Decimal) -> list[Event]:
        self._begin()
        self.last_price = price
        if not self._orders:
            return []
        self._execute_marketable(price)
        for order in self._by_type(OrderType.STOP_MARKET):
            assert order.stop_price is not None
            if triggers(order.side, order.stop_price, price):
                self._trigger(order, price)
        for order in self._by_type(OrderType.LIMIT):
            assert order.price is not None
            if crosses(order.side, order.price, price):
                self._fill(order, price, maker=True)
        return self._events

    def _execute_marketable(self, price: Decimal) -> None:
        for order in [order for order in self._orders.values() if order.marketable]:
            if order.client_order_id not in self._orders:
                continue
            if order.price is not None and not crosses(order.side, order.price, price):
                self._keep(replace(order, marketable=False))
            else:
                self._fill(order, price, maker=False)

    def _by_type(self, type_: OrderType) -> list[Resting]:
        return [order for order in self._orders.values() if order.type is type_ and not order.marketable]

    def _trigger(self, order: Resting, price: Decimal) -> None:
        if order.client_order_id in self._orders:
            triggered = replace(order, marketable=True)
            self._keep(triggered)
            self._fill(triggered, price, maker=False)

    def _fill(self, order: Resting, price: Decimal, *, maker: bool) -> None:
        if order.client_order_id not in self._orders:
            return
        qty = order.open_qty
        if order.reduce_only and self.market.enforces_reduce_only:
            qty = min(qty, reducible(self.market, self.account.qty, order.side))
        elif order.side is Side.SELL and not self.market.allows_short:
            qty = min(qty, reducible(self.market, self.account.qty, Side.SELL))
            if not qty:
                self._cancel(order, "insufficient_position")
        if self._volume_left is not None:
            qty = min(qty, self._volume_left)
            self._volume_left = EXACT.subtract(self._volume_left, qty)
        if not qty:
            return
        order = order.executed(qty, price)
        self._book(order, qty, price, maker)
        self._keep(order)
        if self.market.enforces_reduce_only:
            self._drop_reduce_only()

    def _book(self, order: Resting, qty: Decimal, price: Decimal, maker: bool) -> None:
        if self.bar_open is None:
            raise ValueError("an order can only execute within a bar: open_bar comes first")
        market = self.market
        rate = market.maker_fee if maker else market.taker_fee
        in_base = self.fee_in == "received" and order.side is Side.BUY
        fee = EXACT.multiply(qty if in_base else EXACT.multiply(qty, price), rate)
        self.account = self.account.executed(order.side, qty, price, fee=fee, fee_in_base=in_base)
        self._events.append(
            Fill(
                trade_id=f"{order.exchange_order_id}-{order.fills}",
                client_order_id=order.client_order_id,
                exchange_order_id=order.exchange_order_id,
                symbol=market.symbol,
                side=order.side,
                qty=qty,
                price=price,
                fee=fee,
                fee_asset=market.base if in_base else market.quote,
                maker=maker,
                at=self.bar_open,
                seq=self.account.seq,
            )
        )

    def _keep(self, order: Resting) -> None:
        if order.open_qty:
            self._orders[order.client_order_id] = order
        else:
            del self._orders[order.client_order_id]
        self.touched[order.client_order_id] = standing(order)

    def _drop_reduce_only(self) -> None:
        for order in [order for order in self._orders.values() if order.reduce_only]:
            if not reducible(self.market, self.account.qty, order.side):
                self._cancel(order, "reduce_only")

    def _cancel(self, order: Resting, reason: str) -> OrderCanceled:
        del self._orders[order.client_order_id]
        self.account = replace(self.account, seq=self.account.seq + 1, canceled=self.account.canceled + 1)
        canceled = replace(standing(order), status=OrderStatus.CANCELED, reason=reason)
        self.touched[order.client_order_id] = canceled
        event = OrderCanceled(
            client_order_id=order.client_order_id, filled_qty=order.filled, reason=reason, seq=self.account.seq
        )
        self._events.append(event)
        return event


def _is_marketable(order: Order, last: Decimal) -> bool:
    if order.stop_price is not None:
        return triggers(order.side, order.stop_price, last)
    return order.price is None or crosses(order.side, order.price, last)
