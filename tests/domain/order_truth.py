"""Two orders as the exchange has them, and as the bot's rules make them out from what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.domain.book import Book, holding_change
from tbh.domain.order import TERMINAL
from tbh.messages.orders import (
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderState,
    OrderStatus,
    OrderType,
    OutcomeUnknown,
    Purpose,
    Side,
)

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
STEP: Final = Decimal("0.01")
QTY: Final = Decimal(1)
LEAP: Final = 1_000
"""By how much a new incarnation raises the version of what it reads back, so that no older row can outrank it."""

Word = Fill | OrderAccepted | OrderRejected | OrderCanceled | OrderExpired | OutcomeUnknown | OrderFound | OrderNotFound


def an_order(name: str, side: Side) -> Order:
    return Order(
        client_order_id=name, intent_id=f"i{name}", symbol="BTC/USDT", side=side, type=OrderType.MARKET, qty=QTY,
        purpose=Purpose.ENTRY if side is Side.BUY else Purpose.EXIT, strategy="s", bar_open=NOW, created_at=NOW,
    )  # fmt: skip


class Request(StrEnum):
    """Where the request to place the order is."""

    UNSENT = "unsent"
    FLYING = "flying"
    ARRIVED = "arrived"
    LOST = "lost"


@dataclass
class Truth:
    """One order as the exchange has it. ``status`` is None until it arrives, ``counted`` what the word of its end
    counts as filled, and ``lied``: something untrue was said about it."""

    order: Order
    request: Request = Request.UNSENT
    status: OrderStatus | None = None
    fills: list[Fill] = field(default_factory=list)
    counted: Decimal = Decimal(0)
    lied: bool = False

    @property
    def name(self) -> str:
        return self.order.client_order_id

    @property
    def filled(self) -> Decimal:
        return sum((fill.qty for fill in self.fills), Decimal(0))

    @property
    def live(self) -> bool:
        return self.status is OrderStatus.ACCEPTED

    @property
    def may_fill(self) -> bool:
        return self.live or self.request is Request.FLYING

    @property
    def exists(self) -> bool:
        return self.status not in (None, OrderStatus.REJECTED)

    def trade(self, qty: Decimal, price: int, seq: int) -> Fill:
        fill = Fill(
            trade_id=f"t{seq}", client_order_id=self.name, exchange_order_id="x", symbol="BTC/USDT",
            side=self.order.side, qty=qty, price=Decimal(price), fee=qty / 1000, fee_asset="BTC", maker=False, at=NOW,
            seq=seq,
        )  # fmt: skip
        self.fills.append(fill)
        if self.filled >= QTY:
            self.counted = self.filled if self.live else self.counted
            self.status = OrderStatus.FILLED
        return fill

    def answer(self) -> OrderFound | OrderNotFound:
        """What an honest exchange answers when it is asked for the order."""
        if self.status is None or not self.exists:
            return OrderNotFound(client_order_id=self.name, conclusive=self.request is not Request.FLYING)
        partial = self.live and self.fills
        status = OrderStatus.PARTIALLY_FILLED if partial else self.status
        return OrderFound(
            client_order_id=self.name, exchange_order_id="x", status=status, filled_qty=self.filled, avg_price=None
        )  # fmt: skip


class Desk:
    """The bot's side: one incarnation's blotter and book, and what is checked at each thing that it learns."""

    def __init__(self, rows: list[OrderState], fills: list[Fill], incarnation: int = 0) -> None:
        self.incarnation = incarnation
        self.blotter = Blotter(rows)
        self.book = Book("BTC/USDT")
        self.rows = {row.order.client_order_id: row for row in rows}
        self.noted: dict[str, Fill] = {}
        self.versions = {row.order.client_order_id: row.version for row in rows}
        for fill in fills:
            self.take(fill)

    def state(self, name: str) -> OrderState:
        state = self.blotter.get(name)
        assert state is not None
        return state

    def take(self, fill: Fill) -> None:
        order = self.rows[fill.client_order_id].order
        new = self.book.apply(fill, order=order, base="BTC", quote="USDT")
        assert new is (fill.trade_id not in self.noted), "a fill counts once, by its trade id"
        self.noted[fill.trade_id] = fill
        self.blotter.note_fill(fill)

    def recover(self, name: str) -> None:
        row = self.state(name)
        if row.status not in TERMINAL:
            self.blotter.put(replace(row, version=row.version + LEAP * (self.incarnation + 1)))
        self.learn(self.blotter.caught_up(name, NOW, step=STEP))
        self.learn(rules.on_recovered(self.state(name), NOW))
        sure = (OrderStatus.UNKNOWN, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, *TERMINAL)
        assert self.state(name).status in sure, "nobody knows whether what was about to be sent has been sent"

    def hear(self, word: Word) -> None:
        state = self.state(word.client_order_id)
        match word:
            case Fill():
                self.take(word)
                self.learn(self.blotter.caught_up(word.client_order_id, NOW, step=STEP))
            case OrderAccepted():
                self.learn(rules.on_accepted(state, word.exchange_order_id, NOW))
            case OrderRejected():
                self.learn(rules.on_rejected(state, word.reason, NOW))
            case OrderCanceled():
                self.learn(rules.on_canceled(state, word.filled_qty, word.reason, NOW))
            case OrderExpired():
                self.learn(rules.on_expired(state, word.filled_qty, word.reason, NOW))
            case OutcomeUnknown():
                self.learn(rules.on_silence(state, word.reason, NOW))
            case OrderFound():
                self.learn(rules.on_found(state, word, NOW))
            case OrderNotFound():
                self.learn(rules.on_not_found(state, word.conclusive, NOW))

    def learn(self, after: OrderState | None) -> None:
        if after is None:
            return
        before = self.state(after.order.client_order_id)
        untold = before.status in (OrderStatus.DRAFTED, OrderStatus.RECORDED) and after.version == before.version + 2
        if untold:
            before = replace(before, status=OrderStatus.SUBMITTED, version=before.version + 1)
        assert after.version == before.version + 1, "the version rises by one with each row"
        assert after.filled_qty >= before.filled_qty, "what was filled stays filled"
        assert is_legal(before, after)
        self.versions[after.order.client_order_id] = after.version
        self.blotter.put(after)


def is_legal(before: OrderState, after: OrderState) -> bool:
    moves = {to for (status, _), to in rules.TABLE.items() if status is before.status}
    if OrderStatus.ACCEPTED in moves and after.filled_qty:
        moves.add(OrderStatus.PARTIALLY_FILLED)
    return after.status in moves


def position_of(fills: list[Fill]) -> Decimal:
    return sum((holding_change(fill, "BTC") for fill in fills), Decimal(0))
