"""From the fills that the actors have told to what a backtest comes to, in the fast engine's arrays.

Sums are exact: whole numbers of the units that ``terms.Scales`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.terms import AMOUNT_DECIMALS, Scales
from tbh.domain.money import EXACT, ONE, divide, round_to_step
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, Purpose
from tbh.strategies.base import FloatArray

_CAUSES = {Purpose.EXIT: p.BY_EXIT, Purpose.STOP: p.BY_STOP, Purpose.TARGET: p.BY_TARGET}


@dataclass(slots=True)
class _Trip:
    """A round trip under way, in whole units; ``opened_by`` is the order that began it."""

    side: int
    entry_row: int
    opened_by: Order
    qty: int = 0
    paid: int = 0
    got: int = 0
    fees: int = 0
    layers: int = 1


@dataclass(slots=True)
class Booked:
    """The fills, booked. ``raw`` are the rows of closed round trips as ``slots`` lays them out, ``open_row`` that of
    the one that is not over; ``rows`` (m) the bars with fills, and cash and quantity (units) after each."""

    cash: int
    qty: int = 0
    fills: int = 0
    raw: list[list[float]] = field(default_factory=list)
    open_row: list[float] | None = None
    rows: list[int] = field(default_factory=list)
    cash_after: list[float] = field(default_factory=list)
    qty_after: list[float] = field(default_factory=list)


class Book:
    """Takes fills one after the other; ``order_of`` finds a fill's order."""

    def __init__(
        self, columns: Columns, market: Market, scales: Scales, cash: Decimal, order_of: Callable[[Fill], Order]
    ) -> None:
        self._columns = columns
        self._market = market
        self._scales = scales
        self._order_of = order_of
        self._finer = 10**scales.rate
        self._trip: _Trip | None = None
        self._made = Booked(cash=_units(cash, scales.account))

    def of(self, fills: Sequence[Fill]) -> Booked:
        """All of them, oldest first."""
        made, decimals = self._made, self._scales.price[0]
        stamps = [int(fill.at.timestamp()) * 1000 for fill in fills]
        rows = np.searchsorted(self._columns.stamps, np.array(stamps, dtype=np.int64)).tolist()
        for fill, row in zip(fills, rows, strict=True):
            qty, price = _units(fill.qty, AMOUNT_DECIMALS), _units(fill.price, decimals)
            fee = _units(fill.fee, self._scales.account)
            made.cash -= fill.side.sign * qty * price * self._finer + fee
            self._take(fill, fill.side.sign * qty, qty * price, fee, row)
            made.fills += 1
            if made.rows and made.rows[-1] == row:
                made.cash_after.pop()
                made.qty_after.pop()
            else:
                made.rows.append(row)
            made.cash_after.append(float(made.cash))
            made.qty_after.append(float(made.qty))
        trip = self._trip
        made.open_row = None if trip is None else _row(trip, 0, 0.0)
        return made

    def _take(self, fill: Fill, qty: int, notional: int, fee: int, row: int) -> None:
        """One fill: signed quantity, notional and fee in units."""
        made, order = self._made, self._order_of(fill)
        held = made.qty
        if held and (qty > 0) != (held > 0) and abs(qty) > abs(held):
            # Through zero: one part closes, the other opens, as the account books it.
            closing = notional * abs(held) // abs(qty)
            fee_closing = fee * abs(held) // abs(qty)
            self._take(fill, -held, closing, fee_closing, row)
            self._take(fill, qty + held, notional - closing, fee - fee_closing, row)
            return
        trip = self._trip
        if trip is None:
            trip = self._trip = _Trip(side=1 if qty > 0 else -1, entry_row=row, opened_by=order)
        trip.fees += fee
        if (qty > 0) == (trip.side > 0):
            trip.qty += abs(qty)
            trip.paid += notional
            trip.layers = max(trip.layers, order.layer + 1)
        else:
            trip.got += notional
        made.qty += qty
        if not made.qty:
            made.raw.append(_row(trip, row, self._cause(trip, order)))
            self._trip = None

    def _cause(self, trip: _Trip, order: Order) -> float:
        """Why the position was left; a stop that does not stand where the stop loss puts it has trailed."""
        cause = _CAUSES.get(order.purpose, p.BY_EXIT)
        protection = trip.opened_by.protection
        if cause != p.BY_STOP or protection is None or protection.trailing is None or order.stop_price is None:
            return cause
        if protection.stop_loss is None:
            return p.BY_TRAILING
        basis = protection.basis_price
        if basis is None:
            basis = divide(Decimal(trip.paid), Decimal(trip.qty)).scaleb(-self._scales.price[0], EXACT)
        fraction = EXACT.subtract(ONE, EXACT.multiply(Decimal(trip.side), protection.stop_loss))
        first = round_to_step(EXACT.multiply(basis, fraction), self._market.price_step)
        return p.BY_STOP if order.stop_price == first else p.BY_TRAILING


def equity_of(made: Booked, columns: Columns, cash: Decimal, scales: Scales) -> tuple[FloatArray, int]:
    """The equity (quote) at each close (n), and on how many closes something was held; ``cash`` is the start's."""
    bars = len(columns)
    edges = np.diff([0, *made.rows, bars])
    cashes = np.repeat(np.array([float(_units(cash, scales.account)), *made.cash_after]), edges)
    held = np.repeat(np.array([0.0, *made.qty_after]), edges)
    values = held * columns.values[p.CLOSE] / 10.0**AMOUNT_DECIMALS
    return cashes / 10.0**scales.account + values, int(np.count_nonzero(held))


def raw_of(rows: Sequence[list[float]]) -> FloatArray:
    """Rows of round trips as an array, also of none."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), p.TRADE_PLACES)


def _units(value: Decimal, decimals: int) -> int:
    return int(value.scaleb(decimals, EXACT).to_integral_value())


def _row(trip: _Trip, exit_row: int, cause: float) -> list[float]:
    row = [0.0] * p.TRADE_PLACES
    row[p.T_SIDE] = float(trip.side)
    row[p.T_ENTRY_BAR], row[p.T_EXIT_BAR] = float(trip.entry_row), float(exit_row)
    row[p.T_QTY] = float(trip.qty)
    row[p.T_PAID_H], row[p.T_PAID_L] = _pair(trip.paid)
    row[p.T_GOT_H], row[p.T_GOT_L] = _pair(trip.got)
    row[p.T_FEES_H], row[p.T_FEES_L] = _pair(trip.fees)
    row[p.T_CAUSE] = cause
    row[p.T_LAYERS] = float(trip.layers)
    return row


def _pair(number: int) -> tuple[float, float]:
    high = float(number)
    return high, float(number - int(high))
