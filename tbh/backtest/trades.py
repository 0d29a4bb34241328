"""The round trips of a run: as arrays, as text to the last digit, and as one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.terms import AMOUNT_DECIMALS, Scales
from tbh.domain.money import EXACT, divide, plain
from tbh.strategies.base import FloatArray

CAUSES = ("exit", "stop", "trailing", "target")
"""Why a position was left, by code."""
REASONS = ("exit", "stop", "stop", "target")
"""The same as ``tbh demo`` has it, whose stop is one order whatever moved it."""
_TOLD = "%s %s %s %.10g %.10g %.10g %.10g %.10g %s\n"
"""What a fingerprint tells of a trade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """n closed round trips in the order in which they ended, one array for each property.

    ``side`` is 1 or -1; ``symbol`` counts the markets; times are ms UTC of the bars that opened, ``entry_row`` and
    ``exit_row`` those bars. Prices are averages in quote, ``qty`` is base, ``fees``, ``funding`` and ``pnl`` (after
    both) are quote; ``rows`` has them to the last digit. ``cause`` is a place in ``CAUSES``.
    """

    side: npt.NDArray[np.int8]
    symbol: npt.NDArray[np.int64]
    entry_time: npt.NDArray[np.int64]
    exit_time: npt.NDArray[np.int64]
    entry_row: npt.NDArray[np.int64]
    exit_row: npt.NDArray[np.int64]
    entry_price: FloatArray
    exit_price: FloatArray
    qty: FloatArray
    fees: FloatArray
    funding: FloatArray
    pnl: FloatArray
    cause: npt.NDArray[np.int8]
    layers: npt.NDArray[np.int8]
    raw: FloatArray
    scales: Scales

    def __len__(self) -> int:
        return len(self.side)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each trade as ``tbh demo --json`` prints it, money as text with every digit."""
        raw, scales = self.raw, self.scales
        decimals = [scales.price[market] for market in self.symbol.tolist()]
        finer, rate = AMOUNT_DECIMALS + scales.rate, 10**scales.rate
        columns = (
            self.side.tolist(),
            _iso(self.entry_time),
            _iso(self.exit_time),
            _wholes(raw[:, p.T_QTY]),
            *(_sums(raw, place) for place in (p.T_PAID_H, p.T_GOT_H, p.T_FEES_H, p.T_FUNDING_H)),
            self.cause.tolist(),
        )
        for places, side, entered, left, qty, paid, got, fees, funding, cause in zip(decimals, *columns, strict=True):
            net = (got - paid if side > 0 else paid - got) * rate - fees - funding
            yield {
                "side": "long" if side > 0 else "short",
                "entry_time": entered,
                "exit_time": left,
                "entry_price": price_text(paid, qty, places),
                "exit_price": price_text(got, qty, places),
                "qty": text_of(qty, AMOUNT_DECIMALS),
                "fees": text_of(fees, places + finer),
                "pnl": text_of(net, places + finer),
                "exit_reason": REASONS[cause],
            }

    def causes(self) -> dict[str, int]:
        """How many were left for what."""
        counts = np.bincount(self.cause, minlength=len(CAUSES))
        return {name: int(count) for name, count in zip(CAUSES, counts, strict=True)}


def trades_of(raw: FloatArray, stamps: npt.NDArray[np.int64], offsets: Sequence[int], scales: Scales) -> Trades:
    """From the loop's rows. ``stamps`` are all markets' bars, ``offsets`` where each market's begin."""
    symbol = raw[:, p.T_SYMBOL].astype(np.int64)
    entry, left = raw[:, p.T_ENTRY_BAR].astype(np.int64), raw[:, p.T_EXIT_BAR].astype(np.int64)
    begins = np.asarray(offsets, dtype=np.int64)[symbol]
    qty, side = raw[:, p.T_QTY], raw[:, p.T_SIDE]
    paid, got, fees = raw[:, p.T_PAID_H], raw[:, p.T_GOT_H], raw[:, p.T_FEES_H]
    notional = (10.0 ** (AMOUNT_DECIMALS + np.asarray(scales.price)))[symbol]
    rate = 10.0**scales.rate
    gross = side * ((got - paid) + (raw[:, p.T_GOT_L] - raw[:, p.T_PAID_L]))
    units = qty * (notional / 10.0**AMOUNT_DECIMALS)
    return Trades(
        side=side.astype(np.int8),
        symbol=symbol,
        entry_time=stamps[entry],
        exit_time=stamps[left],
        entry_row=entry - begins,
        exit_row=left - begins,
        entry_price=paid / units,
        exit_price=got / units,
        qty=qty / 10.0**AMOUNT_DECIMALS,
        fees=fees / (notional * rate),
        funding=raw[:, p.T_FUNDING_H] / (notional * rate),
        pnl=(gross * rate - fees - raw[:, p.T_FUNDING_H]) / (notional * rate),
        cause=raw[:, p.T_CAUSE].astype(np.int8),
        layers=raw[:, p.T_LAYERS].astype(np.int8),
        raw=raw,
        scales=scales,
    )


def fingerprint(rows: Iterable[Mapping[str, Any]]) -> str:
    """sha256, 64 hex digits, over trades as they are printed (``Trades.rows``, ``tbh demo --json``): side, times,
    reason, and of each price, quantity and sum ten digits."""
    lines = [
        _TOLD
        % (
            row["side"],
            row["entry_time"],
            row["exit_time"],
            float(row["entry_price"]),
            float(row["exit_price"]),
            float(row["qty"]),
            float(row["fees"]),
            float(row["pnl"]),
            row["exit_reason"],
        )
        for row in rows
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def total_of(rows: FloatArray, place: int, scales: Scales) -> str:
    """The exact sum of fees (``slots.T_FEES_H``) or funding over rows of trades, as text."""
    total = 0
    for market, decimals in enumerate(scales.price):
        total += sum(_sums(rows[rows[:, p.T_SYMBOL] == market], place)) * 10 ** (max(scales.price) - decimals)
    return text_of(total, scales.account)


def whole(high: float, low: float) -> int:
    """The whole number that a pair stands for."""
    return int(high) + int(low)


def text_of(number: int, decimals: int) -> str:
    """``number`` times ``10^-decimals``, without an exponent or zeros at its end."""
    if not decimals:
        return str(number)
    digits = str(number).zfill(decimals + (2 if number < 0 else 1))
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]


def price_text(notional: int, qty: int, decimals: int) -> str:
    """``notional / qty`` in units of ``10^-decimals``; what does not end has 34 digits."""
    exact, rest = divmod(notional, qty)
    return (
        text_of(exact, decimals)
        if rest == 0
        else plain(divide(Decimal(notional), Decimal(qty)).scaleb(-decimals, EXACT))
    )


def _sums(rows: FloatArray, place: int) -> list[int]:
    """The whole numbers of the pairs at ``place`` and the one after it."""
    low = rows[:, place + 1]
    high = _wholes(rows[:, place])
    return list(map(add, high, _wholes(low))) if low.any() else high


def _wholes(values: FloatArray) -> list[int]:
    return list(map(int, values.tolist()))


def _iso(times: npt.NDArray[np.int64]) -> list[str]:
    texts: list[str] = np.datetime_as_string(times.astype("datetime64[ms]"), unit="s", timezone="UTC").tolist()
    return texts
