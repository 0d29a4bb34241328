"""Bars, equity and trades as a page carries them: small whole numbers, byte by byte, deflated, as base64.

A page holds every bar as it is, up to ``BARS_MAX`` over all markets; beyond that it holds bars of several, and says so.
Prices are differences to the price before, in a unit that is the market's last decimal as far as nine digits reach. The
bytes of the numbers are laid out plane by plane, lowest first, for the higher ones are mostly zero and vanish when they
are deflated. A year of minutes takes three megabytes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.excursions import returns_of
from tbh.strategies.base import FloatArray

BARS_MAX = 600_000
TRADES_MAX = 50_000
"""The last so many are drawn and listed; tables and distributions count all."""
_WHOLE_MAX = 2**30
EQUITY_STEPS = 500
"""Equity counts in the 500th part of what it moves by at one bar in the middle, so that no step is seen."""


@dataclass(slots=True)
class Packer:
    """Arrays one after the other; ``plan`` says what each is."""

    plan: list[dict[str, Any]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)

    def whole(self, name: str, values: npt.NDArray[Any]) -> None:
        """Whole numbers below 2^31, of either sign."""
        signed = np.ascontiguousarray(values, dtype=np.int32)
        self._add(name, "whole", ((signed << 1) ^ (signed >> 31)).astype("<i4"))

    def real(self, name: str, values: FloatArray) -> None:
        """Floats with all their digits."""
        self._add(name, "real", np.ascontiguousarray(values, dtype="<f8"))

    def text(self) -> str:
        """All of it: zlib, then base64."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode("ascii")

    def _add(self, name: str, kind: str, values: npt.NDArray[Any]) -> None:
        self.plan.append({"name": name, "kind": kind, "count": len(values)})
        self.parts.append(np.ascontiguousarray(values.view(np.uint8).reshape(len(values), values.itemsize).T).tobytes())


def pack_run(made: Run, markets: Sequence[Columns]) -> tuple[dict[str, Any], str]:
    """What the page's script needs beside the packed text, and that text."""
    packer = Packer()
    merged = max(1, ceil(max(sum(len(market) for market in markets), len(made.equity)) / BARS_MAX))
    told = {
        "merged": merged,
        "markets": [_bars(packer, number, market, merged) for number, market in enumerate(markets)],
        "equity": _equity(packer, made, markets[0].timeframe_s * 1000, merged),
        "trades": _trades(packer, made, markets[0].timeframe_s * 1000),
    }
    return told | {"plan": packer.plan}, packer.text()


def _bars(packer: Packer, number: int, market: Columns, merged: int) -> dict[str, Any]:
    stamps, values, step_ms = _merged(market, merged)
    highest = float(values[p.HIGH].max())
    decimals = min(market.decimals, floor(log10(_WHOLE_MAX / highest)))
    opened, high, low, close = (np.rint(values[row] * 10.0**decimals).astype(np.int64) for row in range(4))
    packer.whole(f"time{number}", np.diff(stamps, prepend=stamps[0] - step_ms) // step_ms - 1)
    packer.whole(f"open{number}", opened - np.concatenate(([0], close[:-1])))
    packer.whole(f"close{number}", close - opened)
    packer.whole(f"high{number}", high - np.maximum(opened, close))
    packer.whole(f"low{number}", np.minimum(opened, close) - low)
    return {"first": int(stamps[0]), "step": step_ms, "decimals": decimals, "bars": len(stamps)}


def _merged(market: Columns, merged: int) -> tuple[npt.NDArray[np.int64], FloatArray, int]:
    """Bars of ``merged`` bars each, by time."""
    step_ms = market.timeframe_s * 1000
    if merged == 1:
        return market.stamps, market.values, step_ms
    begins = _begins(market.stamps, merged * step_ms)
    ends = np.append(begins[1:], len(market)) - 1
    values = np.stack(
        [
            market.values[p.OPEN][begins],
            np.maximum.reduceat(market.values[p.HIGH], begins),
            np.minimum.reduceat(market.values[p.LOW], begins),
            market.values[p.CLOSE][ends],
        ]
    )
    stamps = market.stamps[begins] // (merged * step_ms) * (merged * step_ms)
    return stamps, values, merged * step_ms


def _begins(stamps: npt.NDArray[np.int64], step_ms: int) -> npt.NDArray[np.int64]:
    """The rows (of ``stamps``, sorted) with which a new step of time begins."""
    return np.flatnonzero(np.diff(stamps // step_ms, prepend=-1))


def _equity(packer: Packer, made: Run, step_ms: int, merged: int) -> dict[str, Any]:
    stamps, equity = made.stamps, made.equity
    if merged > 1:
        ends = np.append(_begins(stamps, merged * step_ms)[1:], len(stamps)) - 1
        stamps, equity = stamps[ends], equity[ends]
    moves = np.abs(np.diff(equity))
    highest = max(float(np.abs(equity).max()), 1e-9)
    middle = float(np.median(moves[moves > 0])) if (moves > 0).any() else highest
    unit = min(max(middle / EQUITY_STEPS, highest / _WHOLE_MAX), highest / 1e6)
    packer.whole("equity_time", np.diff(stamps, prepend=stamps[0]) // step_ms)
    packer.whole("equity", np.diff(np.rint(equity / unit).astype(np.int64), prepend=0))
    return {"first": int(stamps[0]), "step": step_ms, "unit": unit, "points": len(stamps)}


def _trades(packer: Packer, made: Run, step_ms: int) -> dict[str, Any]:
    trades, first = made.trades, int(made.stamps[0])
    rows = slice(max(0, len(trades) - TRADES_MAX), None)
    entry, left = ((times[rows] - first) // step_ms for times in (trades.entry_time, trades.exit_time))
    packer.whole("entry", np.diff(entry, prepend=0))
    packer.whole("exit", left - entry)
    for name in ("side", "symbol", "cause", "layers"):
        packer.whole(name, getattr(trades, name)[rows])
    packer.whole("bars", (trades.exit_row - trades.entry_row)[rows])
    for name in ("entry_price", "exit_price", "qty", "fees", "pnl"):
        packer.real(name, getattr(trades, name)[rows])
    packer.real("gained", returns_of(trades)[rows])
    return {"first": first, "step": step_ms, "count": len(trades), "shown": len(entry)}
