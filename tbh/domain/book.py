"""The book: what one symbol's fills made of the account, and nothing else.

A position is what was received, not what was ordered: a fee taken in the base coin makes a bought holding smaller than
the filled quantity, and a sold one smaller still; selling the filled quantity would then be refused. A fee in quote
leaves the cash, and a fee in a third coin leaves neither.

Fills come twice and late, so each is applied once, by its trade id, in whatever order it comes. An operator's
adjustment moves the holding too, and is no trade: no fee, no flow of quote.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Final

from tbh.domain import ids
from tbh.domain.money import EXACT, ZERO, divide, floor_to_step
from tbh.domain.order import BrokenInvariant
from tbh.messages.account import Adjustment, Position
from tbh.messages.base import replace
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, Purpose, Side

TRADE_IDS_MAX: Final = 100_000


class TradeIds:
    """The last ``limit`` trade ids. Beyond them a fill is known by ``seq``: what is older than the oldest was seen."""

    def __init__(self, limit: int = TRADE_IDS_MAX) -> None:
        self._limit = limit
        self._seqs: dict[str, int] = {}
        self._forgotten_up_to: int | None = None

    def add(self, fill: Fill) -> bool:
        """Whether the fill is new."""
        if fill.trade_id in self._seqs:
            return False
        if self._forgotten_up_to is not None and fill.seq <= self._forgotten_up_to:
            return False
        self._seqs[fill.trade_id] = fill.seq
        if len(self._seqs) > self._limit:
            seq = self._seqs.pop(next(iter(self._seqs)))
            self._forgotten_up_to = max(seq, self._forgotten_up_to or seq)
        return True


def holding_change(fill: Fill, base: str) -> Decimal:
    """By how much the fill changed the base holding, signed: the quantity less a fee that was taken in base."""
    change = fill.qty if fill.side is Side.BUY else fill.qty.copy_negate()
    return EXACT.subtract(change, fill.fee) if fill.fee_asset == base else change


def check_fill(fill: Fill, symbol: str, base: str) -> None:
    """Raise ``BrokenInvariant`` for a fill of another symbol, of nothing, or with a base fee that eats the trade."""
    if fill.symbol != symbol:
        raise BrokenInvariant(f"fill {fill.trade_id} of {fill.symbol} came to the book of {symbol}")
    if not (fill.qty > 0 and fill.price > 0) or (fill.fee_asset == base and abs(fill.fee) >= fill.qty):
        raise BrokenInvariant(f"fill {fill.trade_id}: {fill.qty} at {fill.price}, fee {fill.fee} {fill.fee_asset}")


class Book:
    """One symbol's position, fees and flow of quote, from fills. Owned by one actor.

    ``cash_flow`` is quote received less quote paid, quote fees included; ``fees`` is what was paid, by coin;
    ``last_seq`` the highest account event taken, 0 before the first. With a ``market`` what is below its minimum is the
    end of a position: the next entry begins another one, which takes the residue in. An order that is not known was an
    entry if its id says so, and is one of ``bot_id``'s.
    """

    def __init__(self, symbol: str, *, market: Market | None = None, bot_id: str | None = None) -> None:
        self.symbol = symbol
        self._bot_id = bot_id
        self._market = market
        self.position: Position | None = None
        self.cash_flow = ZERO
        self.fees: dict[str, Decimal] = {}
        self.last_seq = 0
        self._trade_ids = TradeIds()
        self._adjusted: set[str] = set()
        self._last_closed: tuple[str, int] | None = None
        self._sized: tuple[Position, Market, bool] | None = None

    @property
    def qty(self) -> Decimal:
        """The net holding, signed base; zero when flat."""
        return ZERO if self.position is None else self.position.qty

    def apply(self, fill: Fill, *, order: Order | None, base: str, quote: str) -> bool:
        """Take one fill into the account; False when its trade id was seen before, and then nothing changes.

        ``order`` is the order that it fills, None when none is known: what it opens then belongs to no strategy.
        A fill that goes through zero closes the position and opens another at the same price.
        Raises ``BrokenInvariant`` for a fill that can't be (``check_fill``) or is not of ``order``.
        """
        check_fill(fill, self.symbol, base)
        if order is not None and order.client_order_id != fill.client_order_id:
            raise BrokenInvariant(f"fill {fill.trade_id} is not of order {order.client_order_id}")
        if not self._trade_ids.add(fill):
            return False
        self.last_seq = max(self.last_seq, fill.seq)
        change = holding_change(fill, base)
        with localcontext(EXACT):
            self.cash_flow -= fill.side.sign * fill.qty * fill.price
            if fill.fee:
                self.fees[fill.fee_asset] = self.fees.get(fill.fee_asset, ZERO) + fill.fee
                if fill.fee_asset == quote:
                    self.cash_flow -= fill.fee
            qty = self.qty + change
        known = order or (None if self._bot_id is None else ids.parse(fill.client_order_id, self._bot_id))
        purpose = None if known is None else known.purpose
        layers = known.layer + 1 if known is not None and purpose is Purpose.PYRAMID else 1
        opened = self._opened(fill, order, qty)
        self._move(qty, fill.price, opened, layers=layers, anew=purpose is Purpose.ENTRY and self._is_residue(opened))
        return True

    def _is_residue(self, opened: Position) -> bool:
        """Whether what is held is the end of another position than ``opened``."""
        ended = self._market is not None and self.is_dust(self._market)
        return ended and self.position is not None and self.position.position_id != opened.position_id

    @property
    def adjustments(self) -> int:
        """How many corrections it has taken."""
        return len(self._adjusted)

    def adjust(self, adjustment: Adjustment) -> bool:
        """Correct the holding, once by the adjustment's id; whether that was new. What it opens is no strategy's, and
        is named by the adjustment. Raises ``BrokenInvariant`` for another symbol's."""
        if adjustment.symbol != self.symbol:
            raise BrokenInvariant(
                f"{adjustment.adjustment_id} of {adjustment.symbol} came to the book of {self.symbol}"
            )
        if adjustment.adjustment_id in self._adjusted:
            return False
        self._adjusted.add(adjustment.adjustment_id)
        qty = EXACT.add(self.qty, adjustment.qty)
        opened = Position(
            symbol=self.symbol,
            strategy="",
            position_id=adjustment.adjustment_id,
            qty=qty,
            entry_price=adjustment.price,
            opened_at=adjustment.at,
            bar_open=adjustment.at,
        )
        self._move(qty, adjustment.price, opened)
        return True

    def observe(self, seq: int) -> None:
        """Take note of an account event that is no fill (a cancel, an expiry): it changes nothing but ``last_seq``."""
        self.last_seq = max(self.last_seq, seq)

    def is_dust(self, market: Market, mark: Decimal | None = None) -> bool:
        """Whether there is a position too small for the exchange to take an order that closes it.

        Such a residue is the end of a position, not one to be closed again and again. It is valued at ``mark``, or at
        its entry price.
        """
        position = self.position
        if position is None:
            return False
        if mark is not None:
            return is_dust(position.qty, market, mark)
        if self._sized is None or self._sized[0] is not position or self._sized[1] is not market:
            self._sized = position, market, is_dust(position.qty, market, position.entry_price)
        return self._sized[2]

    def _move(self, qty: Decimal, price: Decimal, opened: Position, *, layers: int = 1, anew: bool = False) -> None:
        """Take the holding to ``qty`` by a change at ``price``; ``opened`` is the position if that begins one, which it
        does ``anew`` where what was held is over."""
        before = self.position
        if not qty:
            self._close()
        elif before is None or (qty > 0) != (before.qty > 0):
            self._close()
            self.position = opened
        else:
            entry_price = before.entry_price
            if abs(qty) > abs(before.qty):
                with localcontext(EXACT):
                    cost = before.entry_price * before.qty + price * (qty - before.qty)
                entry_price = divide(cost, qty)
            if anew:
                self._close()
                self.position = replace(opened, entry_price=entry_price)
                return
            self.position = replace(
                before,
                qty=qty,
                entry_price=entry_price,
                layers=max(before.layers, layers),
                revision=before.revision + 1,
            )

    def _close(self) -> None:
        if self.position is not None:
            self._last_closed = (self.position.position_id, self.position.revision)
        self.position = None

    def _opened(self, fill: Fill, order: Order | None, qty: Decimal) -> Position:
        # An entry that was stopped out half filled can fill on and open its position anew. Its stops are named by
        # position and revision, so the revisions go on where they were.
        revision = 0
        if self._last_closed is not None and self._last_closed[0] == fill.client_order_id:
            revision = self._last_closed[1] + 1
        return Position(
            symbol=self.symbol,
            strategy="" if order is None else order.strategy,
            position_id=fill.client_order_id,
            qty=qty,
            entry_price=fill.price,
            opened_at=fill.at,
            bar_open=fill.at if order is None else order.bar_open,
            revision=revision,
            protection=None if order is None else order.protection,
        )


def is_dust(qty: Decimal, market: Market, price: Decimal) -> bool:
    """Whether ``qty`` (signed base, not zero) is below what the market takes: step, least amount, least notional.

    What is no whole step of it can't be traded, and counts for none of these.
    """
    size = floor_to_step(abs(qty), market.amount_step)
    return bool(qty) and (
        not size
        or (market.amount_min is not None and size < market.amount_min)
        or (market.notional_min is not None and EXACT.multiply(size, price) < market.notional_min)
    )
