"""What a report is about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.options import Options
from tbh.infra.candles import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A run with all that made it.

    ``told`` is what ``--json`` prints of it; ``definition`` the strategy, ``stops`` its part of that name, both as
    plain JSON values; ``symbols``, ``files`` and ``markets`` have one each for each market.
    """

    told: Mapping[str, Any]
    definition: Mapping[str, Any]
    stops: Mapping[str, Any]
    symbols: Sequence[str]
    files: Sequence[Path]
    markets: Sequence[Columns]
    options: Options
    made: Run

    @property
    def levels(self) -> Mapping[str, Any]:
        """The stops whose levels can be drawn: not those that count from the close of the signal where an entry may
        have waited, so that nobody can tell which bar that was."""
        waited = self.options.volume_share is not None or "orders" in self.definition
        return {} if waited and self.stops.get("basis") == "signal_close" else self.stops

    @property
    def timeframe_s(self) -> int:
        """Of all markets."""
        return self.markets[0].timeframe_s


def options_told(options: Options) -> dict[str, Any]:
    """The assumptions as JSON values; decimals as text."""
    slips = options.slippage
    return {
        "cash": format(options.cash, "f"),
        "fee": format(options.fee, "f"),
        "slippage": {
            "kind": str(slips.kind),
            "rate": format(slips.rate, "f"),
            "deviation": format(slips.deviation, "f"),
            "seed": slips.seed,
        },
        "latency_bars": options.latency_bars,
        "latency_ms": options.latency_ms,
        "volume_share": None if options.volume_share is None else format(options.volume_share, "f"),
        "funding_rate": format(options.funding_rate, "f"),
        "funding_hours": options.funding_hours,
        "max_positions": options.positions_max,
    }


def candles_told(subject: Subject) -> list[dict[str, Any]]:
    """Each market's candles: where from, how many, from when to when, sha256 of the file."""
    return [
        {
            "symbol": symbol,
            "file": str(file),
            "sha256": _hash(file),
            "bars": len(market),
            "timeframe_s": market.timeframe_s,
            "first_open": iso(int(market.stamps[0])),
            "last_open": iso(int(market.stamps[-1])),
            "missing_bars": sum(gap.missing for gap in market.gaps),
            "gaps": len(market.gaps),
        }
        for symbol, file, market in zip(subject.symbols, subject.files, subject.markets, strict=True)
    ]


def _hash(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
