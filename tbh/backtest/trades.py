"""The round trips of a run: as arrays, as text to the last digit, and as one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.exact import add2, div2, mul2
from tbh.backtest.terms import AMOUNT_DECIMALS, Scales
from tbh.domain.money import EXACT, divide, plain
from tbh.strategies.base import FloatArray

CAUSES = ("exit", "stop", "trailing", "target")
"""Why a position was left, by code."""
REASONS = ("exit", "stop", "stop", "target")
"""The same as ``tbh demo`` has it, whose stop is one order whatever moved it."""
_POWER_MAX = 22
"""Powers of ten up to here are exact as floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """n closed round trips in the order in which they ended, one array for each property.

    ``side`` is 1 or -1; ``symbol`` counts the markets; times are ms UTC of the bars that opened, ``entry_row`` and
    ``exit_row`` those bars. Prices are averages in quote, ``qty`` is base, ``fees``, ``funding`` and ``pnl`` (after
    both) are quote, each the float nearest to the exact number. ``cause`` is a place in ``CAUSES``.
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
        for index, row in enumerate(self.raw.tolist()):
            yield _row(row, self.scales, int(self.entry_time[index]), int(self.exit_time[index]))

    def causes(self) -> dict[str, int]:
        """How many were left for what."""
        counts = np.bincount(self.cause, minlength=len(CAUSES))
        return {name: int(count) for name, count in zip(CAUSES, counts, strict=True)}


def trades_of(raw: FloatArray, stamps: npt.NDArray[np.int64], offsets: Sequence[int], scales: Scales) -> Trades:
    """From the loop's rows. ``stamps`` are all markets' bars, ``offsets`` where each market's begin."""
    symbol = raw[:, p.T_SYMBOL].astype(np.int64)
    entry, left = raw[:, p.T_ENTRY_BAR].astype(np.int64), raw[:, p.T_EXIT_BAR].astype(np.int64)
    begins = np.asarray(offsets, dtype=np.int64)[symbol]
    decimals = np.asarray(scales.price)[symbol]
    qty, side = raw[:, p.T_QTY], raw[:, p.T_SIDE]
    paid, got = (raw[:, p.T_PAID_H], raw[:, p.T_PAID_L]), (raw[:, p.T_GOT_H], raw[:, p.T_GOT_L])
    fees, funding = (raw[:, p.T_FEES_H], raw[:, p.T_FEES_L]), (raw[:, p.T_FUNDING_H], raw[:, p.T_FUNDING_L])
    gross = mul2(*add2(*got, -paid[0], -paid[1]), side * 10.0**scales.rate)
    net = add2(*add2(*gross, -fees[0], -fees[1]), -funding[0], -funding[1])
    notional = AMOUNT_DECIMALS + decimals
    return Trades(
        side=side.astype(np.int8),
        symbol=symbol,
        entry_time=stamps[entry],
        exit_time=stamps[left],
        entry_row=entry - begins,
        exit_row=left - begins,
        entry_price=_unscaled(div2(*paid, qty), decimals),
        exit_price=_unscaled(div2(*got, qty), decimals),
        qty=qty / 10.0**AMOUNT_DECIMALS,
        fees=_unscaled(fees, notional + scales.rate),
        funding=_unscaled(funding, notional + scales.rate),
        pnl=_unscaled(net, notional + scales.rate),
        cause=raw[:, p.T_CAUSE].astype(np.int8),
        layers=raw[:, p.T_LAYERS].astype(np.int8),
        raw=raw,
        scales=scales,
    )


def fingerprint(rows: Iterable[Sequence[Any]]) -> str:
    """sha256, 64 hex digits, over rows of side (1, -1), entry and exit time (ms), entry and exit price, quantity, PnL
    (floats nearest to the exact numbers, of which ten digits count) and exit reason."""
    told = hashlib.sha256()
    for side, entered, left, entry_price, exit_price, qty, pnl, reason in rows:
        line = f"{side} {entered} {left} {entry_price:.10g} {exit_price:.10g} {qty:.10g} {pnl:.10g} {reason}\n"
        told.update(line.encode())
    return told.hexdigest()


def fingerprint_of(trades: Trades) -> str:
    """The fingerprint of a run."""
    return fingerprint(
        zip(
            trades.side.tolist(),
            trades.entry_time.tolist(),
            trades.exit_time.tolist(),
            trades.entry_price.tolist(),
            trades.exit_price.tolist(),
            trades.qty.tolist(),
            trades.pnl.tolist(),
            (REASONS[cause] for cause in trades.cause.tolist()),
            strict=True,
        )
    )


def fingerprint_of_rows(rows: Iterable[dict[str, Any]]) -> str:
    """The fingerprint of trades as they are printed (``Trades.rows``, ``tbh demo --json``)."""
    return fingerprint(
        (
            1 if row["side"] == "long" else -1,
            _ms(row["entry_time"]),
            _ms(row["exit_time"]),
            *(float(row[name]) for name in ("entry_price", "exit_price", "qty", "pnl")),
            row["exit_reason"],
        )
        for row in rows
    )


def whole(high: float, low: float) -> int:
    """The whole number that a pair stands for."""
    return int(high) + int(low)


def text_of(number: int, decimals: int) -> str:
    """``number`` times ``10^-decimals``, without an exponent or zeros at its end."""
    digits = str(abs(number)).rjust(decimals + 1, "0")
    cut = len(digits) - decimals
    rest = digits[cut:].rstrip("0")
    text = f"{digits[:cut]}.{rest}" if rest else digits[:cut]
    return f"-{text}" if number < 0 else text


def price_text(notional: int, qty: int, decimals: int) -> str:
    """``notional / qty`` in units of ``10^-decimals``; what does not end has 34 digits."""
    exact, rest = divmod(notional, qty)
    return (
        text_of(exact, decimals)
        if rest == 0
        else plain(divide(Decimal(notional), Decimal(qty)).scaleb(-decimals, EXACT))
    )


def _row(row: list[float], scales: Scales, entered_ms: int, left_ms: int) -> dict[str, Any]:
    market = int(row[p.T_SYMBOL])
    qty = int(row[p.T_QTY])
    paid, got = whole(row[p.T_PAID_H], row[p.T_PAID_L]), whole(row[p.T_GOT_H], row[p.T_GOT_L])
    fees, funding = whole(row[p.T_FEES_H], row[p.T_FEES_L]), whole(row[p.T_FUNDING_H], row[p.T_FUNDING_L])
    long = row[p.T_SIDE] > 0
    net = ((got - paid) if long else (paid - got)) * 10**scales.rate - fees - funding
    money = scales.notional(market) + scales.rate
    decimals = scales.price[market]
    return {
        "side": "long" if long else "short",
        "entry_time": _iso(entered_ms),
        "exit_time": _iso(left_ms),
        "entry_price": price_text(paid, qty, decimals),
        "exit_price": price_text(got, qty, decimals),
        "qty": text_of(qty, AMOUNT_DECIMALS),
        "fees": text_of(fees, money),
        "pnl": text_of(net, money),
        "exit_reason": REASONS[int(row[p.T_CAUSE])],
    }


def _unscaled(value: tuple[FloatArray, FloatArray], decimals: npt.NDArray[Any]) -> FloatArray:
    high, low = value
    first = np.minimum(decimals, _POWER_MAX)
    high, low = div2(high, low, 10.0**first)
    if (decimals > _POWER_MAX).any():
        high, low = div2(high, low, 10.0 ** (decimals - first))
    nearest: FloatArray = high + low
    return nearest


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ms(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1000
