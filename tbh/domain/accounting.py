"""What the account is worth, and what each round trip made of it.

Everything rests on one identity, exact to the last digit for any fills and any mark:

    equity(mark) = start cash + adjusted + realised + unrealised(mark) - fees

``adjusted`` is the worth of the coins by which operators had the holding corrected: they came or went without a trade.

It is exact because the position is kept as its total *cost*, never as an average price: closing a part takes a share
of the cost away, rounded on a fixed grid, and the rest keeps what rounding left. Fees are quote: a fee in base is
valued at its fill's price, which makes it a sale whose proceeds pay it. A fee in a third coin has no price here; it
changes neither holding nor cash, and stands in ``fees_by_asset`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, localcontext

from tbh.domain.book import TradeIds, check_fill, holding_change, is_dust
from tbh.domain.money import EXACT, ZERO, divide, round_to_step
from tbh.messages.account import Adjustment, Trade
from tbh.messages.base import message
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Purpose

ADOPTED = "adopted"
"""The exit reason of a round trip that ended without a trade."""

_GRID = Decimal("1e-24")


@message
class _Change:
    """What a fill or an adjustment does to the holding: signed base, quote, and why a round trip would end with it."""

    qty: Decimal
    price: Decimal
    fee: Decimal
    at: datetime
    reason: str


@dataclass(slots=True, kw_only=True)
class _RoundTrip:
    """A round trip under way: unsigned base and quote sums of what entered and left; ``last`` is what left last."""

    long: bool
    entry_time: datetime
    entered: Decimal = ZERO
    paid: Decimal = ZERO
    left: Decimal = ZERO
    received: Decimal = ZERO
    fees: Decimal = ZERO
    last: _Change | None = None


class Account:
    """One symbol's cash, holding, profit and loss, in quote. Owned by one actor.

    ``realised`` is the profit of what was closed, by average cost and before fees; ``fees`` what fees cost; ``net``
    their difference. ``peak`` is the highest equity marked, the start cash included. Fills rebuild all but the marks;
    ``restore`` brings those back, so that a restart doesn't forget a day's loss.

    With a ``market`` a round trip that left less than it takes has ended all the same. That shows when the next one
    begins, since what is left may still be sold, and so it is told then; the next one takes the residue in at its cost.
    """

    def __init__(self, cash: Decimal, symbol: str, base: str, quote: str, *, market: Market | None = None) -> None:
        self._market = market
        self.symbol = symbol
        self.start_cash = cash
        self.cash = cash
        self.qty = ZERO
        self.realised = ZERO
        self.fees = ZERO
        self.fees_by_asset: dict[str, Decimal] = {}
        self.adjusted = ZERO
        self.peak = cash
        self.day: date | None = None
        self.day_start_equity = cash
        self.marked_equity = cash
        self._base = base
        self._quote = quote
        self._cost = ZERO
        self._trip: _RoundTrip | None = None
        self._trade_ids = TradeIds()
        self._adjustments: set[str] = set()

    @property
    def net(self) -> Decimal:
        """Realised profit less fees."""
        return EXACT.subtract(self.realised, self.fees)

    @property
    def entry_price(self) -> Decimal | None:
        """The average cost of what is held; None when flat."""
        return divide(self._cost, self.qty) if self.qty else None

    @property
    def drawdown(self) -> Decimal:
        """How far the last marked equity is below the peak, as a fraction of it; zero when nothing was ever had."""
        return divide(EXACT.subtract(self.peak, self.marked_equity), self.peak) if self.peak > 0 else ZERO

    @property
    def day_pnl(self) -> Decimal:
        """The last marked equity less the one before the UTC day's first mark, in quote."""
        return EXACT.subtract(self.marked_equity, self.day_start_equity)

    def unrealised(self, mark: Decimal) -> Decimal:
        """What closing at ``mark`` would realise, before fees."""
        return EXACT.subtract(EXACT.multiply(self.qty, mark), self._cost)

    def equity(self, mark: Decimal) -> Decimal:
        """Cash and holding at ``mark``, in quote."""
        return EXACT.fma(self.qty, mark, self.cash)

    def mark(self, mark: Decimal, at: datetime) -> Decimal:
        """Value the account at a bar's close: the equity, by which peak, drawdown and day are kept."""
        equity = self.equity(mark)
        if self.day is None or at.date() > self.day:
            self.day, self.day_start_equity = at.date(), self.marked_equity
        self.marked_equity = equity
        self.peak = max(self.peak, equity)
        return equity

    def restore(self, *, peak: Decimal, day: date, day_start_equity: Decimal, equity: Decimal) -> None:
        """Take up the marks of a former process: its ``peak``, ``day``, ``day_start_equity`` and last marked equity."""
        self.peak, self.day, self.day_start_equity, self.marked_equity = peak, day, day_start_equity, equity

    def apply(self, fill: Fill, purpose: Purpose) -> list[Trade]:
        """Take one fill of an order with ``purpose``; the round trips that it closed (one at most), with that reason.

        A repeated trade id changes nothing. A fill that goes through zero closes a round trip and begins another, and
        its fee is shared by quantity. Raises ``BrokenInvariant`` for a fill that can't be.
        """
        check_fill(fill, self.symbol, self._base)
        if not self._trade_ids.add(fill):
            return []
        with localcontext(EXACT):
            return self._apply(fill, purpose)

    def adjust(self, adjustment: Adjustment) -> list[Trade]:
        """Take an operator's correction, once by its id; the round trip that it ended, if it did."""
        if adjustment.adjustment_id in self._adjustments:
            return []
        self._adjustments.add(adjustment.adjustment_id)
        with localcontext(EXACT):
            self.adjusted += adjustment.qty * adjustment.price
            change = _Change(qty=adjustment.qty, price=adjustment.price, fee=ZERO, at=adjustment.at, reason=ADOPTED)
            return self._take(change)

    def _apply(self, fill: Fill, purpose: Purpose) -> list[Trade]:
        fee = self._take_fee(fill)
        self.cash -= fill.side.sign * fill.qty * fill.price
        qty = holding_change(fill, self._base)
        return self._take(_Change(qty=qty, price=fill.price, fee=fee, at=fill.at, reason=purpose.value))

    def _take(self, change: _Change) -> list[Trade]:
        closing = min(abs(change.qty), abs(self.qty)) if (change.qty > 0) != (self.qty > 0) else ZERO
        opening = abs(change.qty) - closing
        closing_fee = change.fee
        if opening:
            closing_fee = round_to_step(divide(change.fee * closing, abs(change.qty)), _GRID)
        trades = self._close(closing, change, closing_fee) if closing else []
        if opening:
            trades += self._end_residue()
            self._open(opening.copy_sign(change.qty), change, change.fee - closing_fee)
        return trades

    def _take_fee(self, fill: Fill) -> Decimal:
        if not fill.fee:
            return ZERO
        self.fees_by_asset[fill.fee_asset] = self.fees_by_asset.get(fill.fee_asset, ZERO) + fill.fee
        fee = ZERO
        if fill.fee_asset == self._base:
            fee = fill.fee * fill.price
        elif fill.fee_asset == self._quote:
            fee = fill.fee
            self.cash -= fee
        self.fees += fee
        return fee

    def residue(self) -> Trade | None:
        """The round trip that has ended but for what the market takes no more; None when there is no such."""
        trip = self._trip
        if trip is None or trip.last is None or self._market is None or not self.qty:
            return None
        if not is_dust(self.qty, self._market, divide(self._cost, self.qty)):
            return None
        with localcontext(EXACT):
            entered, paid = trip.entered - abs(self.qty), trip.paid - abs(self._cost)
            return self._ended(trip, trip.last, entered=entered, paid=paid)

    def _end_residue(self) -> list[Trade]:
        trade = self.residue()
        if trade is None:
            return []
        self._trip = _RoundTrip(
            long=self.qty > 0, entry_time=trade.exit_time, entered=abs(self.qty), paid=abs(self._cost)
        )
        return [trade]

    def _open(self, qty: Decimal, change: _Change, fee: Decimal) -> None:
        if self._trip is None:
            self._trip = _RoundTrip(long=qty > 0, entry_time=change.at)
        self._trip.entered += abs(qty)
        self._trip.paid += abs(qty) * change.price
        self._trip.fees += fee
        self._cost += qty * change.price
        self.qty += qty

    def _close(self, size: Decimal, change: _Change, fee: Decimal) -> list[Trade]:
        trip = self._trip
        assert trip is not None, "what is held was entered"
        closed = size.copy_sign(self.qty)
        whole = closed == self.qty
        cost = self._cost if whole else round_to_step(divide(self._cost * closed, self.qty), _GRID)
        self.realised += closed * change.price - cost
        self._cost -= cost
        self.qty -= closed
        trip.left += size
        trip.received += size * change.price
        trip.fees += fee
        trip.last = change
        if not whole:
            return []
        self._trip = None
        return [self._ended(trip, change, entered=trip.entered, paid=trip.paid)]

    def _ended(self, trip: _RoundTrip, last: _Change, *, entered: Decimal, paid: Decimal) -> Trade:
        gross = trip.received - paid if trip.long else paid - trip.received
        return Trade(
            side="long" if trip.long else "short",
            symbol=self.symbol,
            entry_time=trip.entry_time,
            exit_time=last.at,
            entry_price=divide(paid, entered),
            exit_price=divide(trip.received, trip.left),
            qty=entered,
            fees=trip.fees,
            pnl=gross - trip.fees,
            exit_reason=last.reason,
        )
