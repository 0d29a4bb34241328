"""The simulated exchange: one account on one market, and a ledger of everything that ever happened on it.

What orders do to each other and to the account is the matcher's (``tbh/domain/matching.py``), as on the paper exchange.
This adds what a real exchange has around it: client ids that it remembers, a receive window, reads that lag behind
(``horizon_ns``), people and the exchange itself who trade on the same account. How requests travel is ``network``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from tbh.domain.admission import Refusal, stands_at
from tbh.domain.matching import FeeIn, Matcher
from tbh.domain.money import EXACT, ZERO, floor_to_step
from tbh.domain.venue import Standing, locked_coins
from tbh.messages.account import Balance
from tbh.messages.base import replace
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderExpired, OrderStatus, OrderType, Purpose, Side
from tbh.ports import AccountEvent, OrderReport, PositionReport, Rejected
from tbh.simulation.keeping import KeepingMatcher
from tbh.simulation.market import START

FOREIGN, CLOSING = "web_", "autoclose-"
"""How the client ids of what people and of what the exchange itself has ordered begin."""

_HALF = Decimal("0.5")
_ENDED = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)


@dataclass(slots=True)
class Entry:
    """An order that was taken: how it stood, and since when (ns), oldest first."""

    order: Order
    reports: list[tuple[int, OrderReport]] = field(default_factory=list)

    @property
    def now(self) -> OrderReport:
        return self.reports[-1][1]

    def at(self, horizon_ns: int | None) -> OrderReport | None:
        """As a read sees it that lags behind to ``horizon_ns``; None before it was there."""
        if horizon_ns is None:
            return self.reports[-1][1]
        found = None
        for since_ns, report in self.reports:
            if since_ns > horizon_ns:
                break
            found = report
        return found


class Venue:
    """``now_ns`` is the exchange's clock. ``on_fill`` and ``on_end`` are told of the bot's orders, ``on_foreign`` of
    what others did to position and cash. ``tells_cancels``: the account's events hold cancels too, not fills alone.
    ``keeps_reduce_only``: see ``KeepingMatcher``.
    """

    def __init__(
        self,
        market: Market,
        *,
        cash: Decimal,
        fee_in: FeeIn,
        volume_share: Decimal | None,
        tells_cancels: bool,
        now_ns: Callable[[], int],
        keeps_reduce_only: bool = False,
    ) -> None:
        self.market = market
        self.tells_cancels = tells_cancels
        self.ledger: dict[str, Entry] = {}
        self.events: list[tuple[int, AccountEvent]] = []
        self.on_fill: Callable[[Fill], None] = lambda _: None
        self.on_end: Callable[[str, OrderStatus], None] = lambda *_: None
        self.on_foreign: Callable[[str, Decimal, Decimal], None] = lambda *_: None
        matcher = KeepingMatcher if keeps_reduce_only else Matcher
        self._matcher = matcher(market, cash=cash, volume_share=volume_share, fee_in=fee_in)
        self._now_ns = now_ns
        self._foreign = 0

    # -- what is true

    @property
    def qty(self) -> Decimal:
        return self._matcher.account.qty

    @property
    def cash(self) -> Decimal:
        return self._matcher.account.cash

    @property
    def price(self) -> Decimal:
        price = self._matcher.last_price
        assert price is not None
        return price

    @property
    def now(self) -> datetime:
        return START + timedelta(microseconds=self._now_ns() // 1_000)

    def standing(self) -> list[Order]:
        """The orders on the book, in the order of their arrival; foreign ones too."""
        return [self.ledger[name].order for name in self._matcher.resting]

    # -- the market

    def tick(self, price: Decimal, *, opens: datetime | None, volume: Decimal) -> None:
        """The price is ``price``; with ``opens`` a bar begins with it, in which ``volume`` will be traded."""
        matcher = self._matcher
        self._keep(matcher.close_bar(price) if opens is None else matcher.open_bar(opens, price, volume=volume))

    def match(self) -> None:
        """Execute what can be executed at the price as it is."""
        if self._matcher.resting:
            self._keep(self._matcher.close_bar(self.price))

    def reach(self, client_order_id: str, *, part: bool = False) -> bool:
        """The price reaches a resting order for an instant; whether anything executed by that. ``part``: half of it."""
        before, price = len(self.events), self.price
        self._keep(self._touch(client_order_id, part=part))
        if not part:
            self._keep(self._matcher.close_bar(price))
        return len(self.events) > before

    def _touch(self, client_order_id: str, *, part: bool) -> Sequence[AccountEvent]:
        """What the order's own price executes; ``part``: no more than half of what is open of it."""
        matcher, entry = self._matcher, self.ledger[client_order_id]
        order, limit = entry.order, matcher._volume_left
        if part:
            half = EXACT.multiply(EXACT.subtract(order.qty, entry.now.filled_qty), _HALF)
            matcher._volume_left = floor_to_step(half, self.market.amount_step)
        events = matcher.close_bar(order.stop_price or order.price or self.price)
        if part:
            matcher._volume_left = limit
        return events

    # -- requests

    def place(self, order: Order) -> OrderReport:
        """Take an order; ``Rejected`` with the exchange's word. A client id that was ever taken is answered with the
        order that has it."""
        known = self.ledger.get(order.client_order_id)
        if known is not None:
            return known.now
        # When it is too late is said by the request's own time stamp, which the network has looked at.
        verdict = self._matcher.submit(replace(order, expires_at=None), at=self.now)
        if isinstance(verdict, Refusal):
            raise Rejected(verdict.reason, detail=verdict.detail)
        self.ledger[order.client_order_id] = Entry(order)
        self._keep(())
        return self.ledger[order.client_order_id].now

    def cancel(self, client_order_id: str) -> OrderReport:
        """``Rejected`` for an order that is not on the book."""
        event = self._matcher.cancel(client_order_id)
        if event is None:
            known = client_order_id in self.ledger
            raise Rejected("order_done" if known else "order_unknown", detail=client_order_id)
        self._keep((event,))
        return self.ledger[client_order_id].now

    def expire(self, client_order_id: str) -> None:
        """The exchange takes an order off its book by itself; ``Rejected`` when it is not there."""
        event = self._matcher.cancel(client_order_id)
        if event is None:
            raise Rejected("order_done", detail=client_order_id)
        expired = OrderExpired(
            client_order_id=client_order_id, filled_qty=event.filled_qty, reason="expired", seq=event.seq
        )
        self._keep((expired,), ended=(client_order_id, OrderStatus.EXPIRED))

    def end_late(
        self, client_order_id: str, *, expires: bool, part: bool = False, counted: bool = False
    ) -> OrderReport | None:
        """A fill meets the order's end, and the end is told first; None without a fill. ``part``: the fill leaves a
        rest. ``counted``: the end counts the fill, if that leaves a rest; else it speaks as if it had not been."""
        before, price = self.ledger[client_order_id].now, self.price
        events = self._touch(client_order_id, part=part)
        own = [event for event in events if event.client_order_id == client_order_id and isinstance(event, Fill)]
        if not own:
            self._keep(events)
            self._keep(self._matcher.close_bar(price))
            return None
        touched = dict(self._matcher.touched)
        canceled = self._matcher.cancel(client_order_id)
        filled_qty = canceled.filled_qty if counted and canceled is not None else before.filled_qty
        told = (OrderExpired if expires else OrderCanceled)(
            client_order_id=client_order_id, filled_qty=filled_qty, reason="overtaken", seq=events[0].seq
        )
        later = [replace(event, seq=event.seq + 1) for event in events]
        if canceled is None:  # the fill was its last: the cancel's number is one that nothing else has
            self._matcher.account = replace(self._matcher.account, seq=self._matcher.account.seq + 1)
        self._matcher.touched = touched | self._matcher.touched
        status = OrderStatus.EXPIRED if expires else OrderStatus.CANCELED
        self._keep((told, *later), ended=(client_order_id, status) if canceled is not None else None)
        self._keep(self._matcher.close_bar(price))
        return replace(before, status=status, filled_qty=filled_qty)

    def order(self, client_order_id: str, horizon_ns: int | None = None) -> OrderReport | None:
        entry = self.ledger.get(client_order_id)
        return None if entry is None else entry.at(horizon_ns)

    def open_orders(self, horizon_ns: int | None = None) -> Sequence[OrderReport]:
        if horizon_ns is None:
            return [self.ledger[name].now for name in self._matcher.resting]
        seen = [entry.at(horizon_ns) for entry in self.ledger.values()]
        return [report for report in seen if report is not None and report.status not in _ENDED]

    def events_after(self, after: int, horizon_ns: int | None = None) -> Sequence[AccountEvent]:
        if not self.events or self.events[-1][1].seq <= after:
            return ()
        first = len(self.events)
        while first and self.events[first - 1][1].seq > after:
            first -= 1
        return [event for at_ns, event in self.events[first:] if horizon_ns is None or at_ns <= horizon_ns]

    def position(self, horizon_ns: int | None = None) -> PositionReport:
        account = self._matcher.account
        qty = account.qty
        if horizon_ns is not None:
            for at_ns, event in reversed(self.events):
                if at_ns <= horizon_ns:
                    break
                if isinstance(event, Fill):
                    qty = EXACT.subtract(qty, self._change(event)[0])
        entry_price = account.entry_price if qty else None
        return PositionReport(symbol=self.market.symbol, qty=qty, entry_price=entry_price)

    def balances(self) -> Sequence[Balance]:
        account, market = self._matcher.account, self.market
        base = quote = ZERO
        if not market.allows_short:
            base, quote = locked_coins(self._matcher.resting.values(), account.qty, self.price)
        return (
            Balance(asset=market.quote, free=EXACT.subtract(account.cash, quote), locked=quote),
            Balance(asset=market.base, free=EXACT.subtract(account.qty, base), locked=base),
        )

    # -- others on the same account

    def heal(self) -> None:
        """From now on whatever can execute does so in full."""
        self._matcher.volume_share = self._matcher._volume_left = None

    def trade_foreign(self, side: Side, qty: Decimal, *, closing: bool = False) -> bool:
        """Somebody buys or sells at market, or the exchange closes (``closing``); False when nothing came of it."""
        before = len(self.events)
        try:
            self.place(self._foreign_order(side, qty, None, CLOSING if closing else FOREIGN))
        except Rejected:
            return False
        self.match()
        return len(self.events) > before

    def rest_foreign(self, side: Side, qty: Decimal, price: Decimal) -> bool:
        """Somebody puts a limit order on the book."""
        try:
            self.place(self._foreign_order(side, qty, price, FOREIGN))
        except Rejected:
            return False
        return True

    def closable(self) -> tuple[Side, Decimal]:
        """The market order that would close the position, as far as a step of the market goes."""
        return (Side.SELL if self.qty > 0 else Side.BUY), floor_to_step(self.qty.copy_abs(), self.market.amount_step)

    def _foreign_order(self, side: Side, qty: Decimal, price: Decimal | None, prefix: str) -> Order:
        self._foreign += 1
        return Order(
            client_order_id=f"{prefix}{self._foreign}",
            intent_id="",
            symbol=self.market.symbol,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            qty=qty,
            price=price,
            purpose=Purpose.MANUAL,
            strategy="",
            bar_open=START,
            created_at=self.now,
        )

    # -- the ledger

    def _keep(self, events: Sequence[AccountEvent], *, ended: tuple[str, OrderStatus] | None = None) -> None:
        """Take what the matcher has just done into the ledger, and tell it. ``ended``: which order the exchange has
        taken off its book, and as what; the same price may have touched others, which stand as the matcher has them."""
        now_ns = self._now_ns()
        for event in events:
            if isinstance(event, Fill):
                self._fill(replace(event, at=self.now), now_ns)
            elif self.tells_cancels:
                self.events.append((now_ns, event))
        for name, standing in self._matcher.touched.items():
            entry, status = self.ledger[name], ended[1] if ended and ended[0] == name else standing.status
            entry.reports.append((now_ns, _report(standing, status, entry.order)))
            if standing.status in _ENDED and not name.startswith((FOREIGN, CLOSING)):
                self.on_end(name, status)

    def _fill(self, fill: Fill, now_ns: int) -> None:
        self.events.append((now_ns, fill))
        if fill.client_order_id.startswith((FOREIGN, CLOSING)):
            self.on_foreign(fill.trade_id, *self._change(fill))
        else:
            self.on_fill(fill)

    def _change(self, fill: Fill) -> tuple[Decimal, Decimal]:
        """What a fill did to position and cash."""
        qty = fill.qty if fill.side is Side.BUY else fill.qty.copy_negate()
        cash = EXACT.multiply(qty, fill.price).copy_negate()
        if fill.fee_asset == self.market.base:
            return EXACT.subtract(qty, fill.fee), cash
        return qty, EXACT.subtract(cash, fill.fee)


def _report(standing: Standing, status: OrderStatus, order: Order) -> OrderReport:
    return OrderReport(
        client_order_id=standing.client_order_id,
        exchange_order_id=standing.exchange_order_id,
        status=status,
        filled_qty=standing.filled_qty,
        avg_price=standing.avg_price,
        qty=order.qty,
        price=stands_at(order),
    )
