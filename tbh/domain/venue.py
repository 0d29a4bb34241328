"""The exchange's own record of one account on one market: what rests on the book and what is owned.

Values only; the rules that change them are in ``matching`` and ``admission``. No operator here may round: the
default decimal context rounds even a sign change or ``abs``, so signs go through ``signed`` and ``copy_abs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from tbh.domain.money import EXACT, ZERO, dec, divide, floor_to_step
from tbh.messages.base import message, replace
from tbh.messages.market import Market
from tbh.messages.orders import Order, OrderStatus, OrderType, Side

_TAG = re.compile(r"[A-Za-z0-9._-]{0,40}")


@message
class Resting:
    """An order on the book. ``marketable`` ones execute at the next price that is seen, as takers.

    ``filled`` is base, ``paid`` the sum of qty * price of the ``fills`` so far.
    """

    client_order_id: str
    exchange_order_id: str
    side: Side
    type: OrderType
    qty: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    reduce_only: bool
    marketable: bool
    filled: Decimal = ZERO
    paid: Decimal = ZERO
    fills: int = 0

    @property
    def open_qty(self) -> Decimal:
        return EXACT.subtract(self.qty, self.filled)

    def executed(self, qty: Decimal, price: Decimal) -> Resting:
        return replace(
            self,
            filled=EXACT.add(self.filled, qty),
            paid=EXACT.add(self.paid, EXACT.multiply(qty, price)),
            fills=self.fills + 1,
        )


@message
class Standing:
    """Where an order stands after a call touched it: its row. ``reason`` says why it was canceled."""

    client_order_id: str
    exchange_order_id: str
    status: OrderStatus
    filled_qty: Decimal
    avg_price: Decimal | None
    reason: str | None = None


@message
class Account:
    """``cash`` in quote moves by qty * price and by fees; ``qty`` is the signed position in base.

    ``entry_price`` is the average cost, None when flat. ``seq`` numbers the events, from above ``first_seq``;
    ``accepted`` numbers the orders, whose ids bear the ``tag``. Accounts of one bot that differ in tag and range of
    numbers never give the same id or number twice.
    """

    cash: Decimal
    qty: Decimal = ZERO
    entry_price: Decimal | None = None
    fees_quote: Decimal = ZERO
    fees_base: Decimal = ZERO
    seq: int = 0
    accepted: int = 0
    fills: int = 0
    canceled: int = 0
    tag: str = ""
    first_seq: int = 0

    @classmethod
    def opened(cls, cash: Decimal, *, tag: str = "", first_seq: int = 0) -> Account:
        """A new account. ``ValueError`` for negative ``cash`` or ``first_seq``, or a ``tag`` that can't be in an id."""
        if cash < 0:
            raise ValueError(f"an account starts with cash of 0 or more: {cash}")
        if first_seq < 0:
            raise ValueError(f"an account's events are numbered from above 0 or more: {first_seq}")
        if not _TAG.fullmatch(tag):
            raise ValueError(f"an account's tag is up to 40 letters, digits, dots, underscores or hyphens: {tag!r}")
        return cls(cash=cash, seq=first_seq, tag=tag, first_seq=first_seq)

    @property
    def last_order_id(self) -> str:
        """The exchange's id of the order that was accepted last."""
        return f"P{self.tag}-{self.accepted:08d}" if self.tag else f"P{self.accepted:08d}"

    def executed(self, side: Side, qty: Decimal, price: Decimal, *, fee: Decimal, fee_in_base: bool) -> Account:
        """The account after a fill of ``qty`` at ``price``; ``fee`` (positive) is taken from the coin it is in."""
        cash = EXACT.subtract(self.cash, signed(side, EXACT.multiply(qty, price)))
        position = EXACT.add(self.qty, signed(side, qty))
        if fee_in_base:
            position = EXACT.subtract(position, fee)
        else:
            cash = EXACT.subtract(cash, fee)
        return replace(
            self,
            cash=cash,
            qty=position,
            entry_price=_entry_price(self, position, price),
            fees_base=EXACT.add(self.fees_base, fee) if fee_in_base else self.fees_base,
            fees_quote=self.fees_quote if fee_in_base else EXACT.add(self.fees_quote, fee),
            seq=self.seq + 1,
            fills=self.fills + 1,
        )


@message
class VenueState:
    """All that the exchange knows of the account and of the bar it is in, at one instant.

    ``volume_left`` is what may still execute in the bar (base), None without a limit.
    """

    orders: tuple[Resting, ...]
    account: Account
    last_price: Decimal | None
    bar_open: datetime | None
    volume_left: Decimal | None

    def to_json(self) -> dict[str, Any]:
        """JSON types, money as text."""
        return {
            "account": _row(self.account),
            "orders": [_row(order) for order in self.orders],
            "last_price": _text(self.last_price),
            "bar_open": None if self.bar_open is None else self.bar_open.isoformat(),
            "volume_left": _text(self.volume_left),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> VenueState:
        """Raises ``ValueError`` when ``row`` is not what ``to_json`` made."""
        try:
            bar_open = row["bar_open"]
            return cls(
                orders=tuple(_resting(order) for order in row["orders"]),
                account=_account(row["account"]),
                last_price=_money(row["last_price"]),
                bar_open=None if bar_open is None else datetime.fromisoformat(bar_open),
                volume_left=_money(row["volume_left"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of an account: {error!r}") from error


def signed(side: Side, qty: Decimal) -> Decimal:
    """``qty`` as it changes a position: positive for a buy, negative for a sell; never rounded."""
    return qty if side is Side.BUY else qty.copy_negate()


def crosses(side: Side, limit: Decimal, price: Decimal) -> bool:
    """Whether a limit order can execute at ``price`` or better."""
    return price <= limit if side is Side.BUY else price >= limit


def triggers(side: Side, stop: Decimal, price: Decimal) -> bool:
    """Whether a stop order is set off by ``price``."""
    return price >= stop if side is Side.BUY else price <= stop


def reducible(market: Market, qty: Decimal, side: Side) -> Decimal:
    """How much of the signed position ``qty`` an order on ``side`` can close, on the market's amount step."""
    opposed = signed(side.opposite, qty)
    return floor_to_step(opposed, market.amount_step) if opposed > 0 else ZERO


def reference_price(order: Order | Resting, last: Decimal) -> Decimal:
    """The price at which an order is valued before it fills, in quote."""
    if order.type is OrderType.STOP_MARKET and order.stop_price is not None:
        return order.stop_price
    if order.type is OrderType.LIMIT and order.price is not None:
        return order.price if order.side is Side.BUY else max(order.price, last)
    return last


def standing(order: Resting) -> Standing:
    if not order.open_qty:
        status = OrderStatus.FILLED
    else:
        status = OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.ACCEPTED
    return Standing(
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        status=status,
        filled_qty=order.filled,
        avg_price=divide(order.paid, order.filled) if order.filled else None,
    )


def locked_coins(orders: Iterable[Resting], qty: Decimal, last: Decimal) -> tuple[Decimal, Decimal]:
    """(base, quote) that resting orders hold back on a market without shorts; exits never more than the holding."""
    base = quote = ZERO
    for order in orders:
        if order.side is Side.SELL:
            base = EXACT.add(base, order.open_qty)
        else:
            quote = EXACT.add(quote, EXACT.multiply(order.open_qty, reference_price(order, last)))
    return min(base, max(qty, ZERO)), quote


def _entry_price(before: Account, position: Decimal, price: Decimal) -> Decimal | None:
    """Average cost after a fill at ``price`` took the account to ``position``: it moves only when one grows."""
    if not position:
        return None
    if before.entry_price is None or (before.qty > 0) is not (position > 0):
        return price
    held = before.qty.copy_abs()
    size = position.copy_abs()
    if size <= held:
        return before.entry_price
    cost = EXACT.add(EXACT.multiply(held, before.entry_price), EXACT.multiply(EXACT.subtract(size, held), price))
    return divide(cost, size)


def _row(value: Account | Resting) -> dict[str, Any]:
    return {field.name: _text(getattr(value, field.name)) for field in fields(value)}


def _account(row: Mapping[str, Any]) -> Account:
    money = ("cash", "qty", "entry_price", "fees_quote", "fees_base")
    return Account(**{**row, **{name: _money(row[name]) for name in money}})


def _resting(row: Mapping[str, Any]) -> Resting:
    money = {name: _money(row[name]) for name in ("qty", "price", "stop_price", "filled", "paid")}
    return Resting(**{**row, "side": Side(row["side"]), "type": OrderType(row["type"]), **money})


def _money(text: str | None) -> Decimal | None:
    return None if text is None else dec(text)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
