"""What the account is worth, and what each round trip made of it.

Everything rests on one identity, exact to the last digit for any fills and any mark:

    equity(mark) = start cash + realised + unrealised(mark) - fees

It is exact because the position is kept as its total *cost*, never as an average price: closing a part takes a share
of the cost away, rounded on a fixed grid, and the rest keeps what rounding left. Fees are quote: a fee in base is
valued at its fill's price, which makes it a sale whose proceeds pay it. A fee in a third coin has no price here; it
changes neither holding nor cash, and stands in ``fees_by_asset`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, localcontext

from tbh.domain.book import TradeIds, check_fill, holding_change
from tbh.domain.money import EXACT, ZERO, divide, round_to_step
from tbh.messages.account import Trade
from tbh.messages.orders import Fill, Purpose

_GRID = Decimal("1e-24")


@dataclass(slots=True, kw_only=True)
class _RoundTrip:
    """A round trip under way: unsigned base and quote sums of what entered and what left."""

    long: bool
    entry_time: datetime
    entered: Decimal = ZERO
    paid: Decimal = ZERO
    left: Decimal = ZERO
    received: Decimal = ZERO
    fees: Decimal = ZERO


class Account:
    """One symbol's cash, holding, profit and loss, in quote. Owned by one actor.

    ``realised`` is the profit of what was closed, by average cost and before fees; ``fees`` what fees cost; ``net``
    their difference. ``peak`` is the highest equity marked, the start cash included. Fills rebuild all but the marks;
    ``restore`` brings those back, so that a restart doesn't forget a day's loss.
    """

    def __init__(self, cash: Decimal, symbol: str, base: str, quote: str) -> None:
        self.symbol = symbol
        self.start_cash = cash
        self.cash = cash
        self.qty = ZERO
        self.realised = ZERO
        self.fees = ZERO
        self.fees_by_asset: dict[str, Decimal] = {}
        self.peak = cash
        self.day: date | None = None
        self.day_start_equity = cash
        self.marked_equity = cash
        self._base = base
        self._quote = quote
        self._cost = ZERO
        self._trip: _RoundTrip | None = None
        self._trade_ids = TradeIds()

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
        with localcontext(EXACT):
            return self.qty * mark - self._cost

    def equity(self, mark: Decimal) -> Decimal:
        """Cash and holding at ``mark``, in quote."""
        with localcontext(EXACT):
            return self.cash + self.qty * mark

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

    def _apply(self, fill: Fill, purpose: Purpose) -> list[Trade]:
        fee = self._take_fee(fill)
        change = holding_change(fill, self._base)
        self.cash -= fill.side.sign * fill.qty * fill.price
        closing = min(abs(change), abs(self.qty)) if (change > 0) != (self.qty > 0) else ZERO
        opening = abs(change) - closing
        closing_fee = fee if not opening else round_to_step(divide(fee * closing, abs(change)), _GRID)
        trades = []
        if closing:
            trades = self._close(closing, fill, closing_fee, purpose)
        if opening:
            self._open(opening.copy_sign(change), fill, fee - closing_fee)
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

    def _open(self, change: Decimal, fill: Fill, fee: Decimal) -> None:
        if self._trip is None:
            self._trip = _RoundTrip(long=change > 0, entry_time=fill.at)
        self._trip.entered += abs(change)
        self._trip.paid += abs(change) * fill.price
        self._trip.fees += fee
        self._cost += change * fill.price
        self.qty += change

    def _close(self, size: Decimal, fill: Fill, fee: Decimal, purpose: Purpose) -> list[Trade]:
        trip = self._trip
        assert trip is not None, "what is held was entered"
        closed = size.copy_sign(self.qty)
        whole = closed == self.qty
        cost = self._cost if whole else round_to_step(divide(self._cost * closed, self.qty), _GRID)
        self.realised += closed * fill.price - cost
        self._cost -= cost
        self.qty -= closed
        trip.left += size
        trip.received += size * fill.price
        trip.fees += fee
        if not whole:
            return []
        self._trip = None
        gross = trip.received - trip.paid if trip.long else trip.paid - trip.received
        trade = Trade(
            side="long" if trip.long else "short",
            symbol=self.symbol,
            entry_time=trip.entry_time,
            exit_time=fill.at,
            entry_price=divide(trip.paid, trip.entered),
            exit_price=divide(trip.received, trip.left),
            qty=trip.entered,
            fees=trip.fees,
            pnl=gross - trip.fees,
            exit_reason=purpose.value,
        )
        return [trade]
