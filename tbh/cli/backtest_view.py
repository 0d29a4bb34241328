"""What ``tbh backtest`` prints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TextIO

from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.options import Options
from tbh.backtest.trades import fingerprint

SHOWN_TRADES = 8
TOLD_AFTER_S = 2.0
TOLD_EVERY_S = 0.5


class Stages:
    """Says on a terminal what is being done, and for how long, once that takes more than two seconds."""

    def __init__(self, stream: TextIO, *, shown: bool) -> None:
        self._stream = stream
        self._shown = shown
        self._stage = ""
        self._share: Callable[[], float] | None = None
        self._began_s = 0.0
        self._written = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="backtest-stages", daemon=True)

    def __enter__(self) -> Self:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._written:
            print(f"\r{'':60}\r", end="", file=self._stream, flush=True)

    def end(self) -> None:
        """Nothing is done any more that takes long: what was told is taken away."""
        self._stage = ""
        if self._written:
            print(f"\r{'':60}\r", end="", file=self._stream, flush=True)
            self._written = False

    def begin(self, stage: str, share: Callable[[], float] | None = None) -> None:
        """The next stage has begun; ``share`` tells how much of it is done, from 0 to 1."""
        self._stage, self._share, self._began_s = stage, share, time.monotonic()

    def _tell(self) -> None:
        while not self._over.wait(TOLD_EVERY_S):
            passed_s = time.monotonic() - self._began_s
            if self._stage and passed_s >= TOLD_AFTER_S:
                done = "" if self._share is None else f", {self._share():.0%}"
                print(f"\r{f'{self._stage}: {passed_s:.0f} s{done}':60}", end="", file=self._stream, flush=True)
                self._written = True


def as_json(name: str, symbols: Sequence[str], options: Options, made: Run, *, engine: str = "fast") -> dict[str, Any]:
    """The run as one object; money as text, fractions as numbers."""
    rows = trade_rows(symbols, options, made)
    figures = made.statistics
    held = [
        {"symbol": symbols[one.symbol], "qty": one.qty, "entry_price": one.entry_price} for one in made.open_positions
    ]
    return {
        "engine": engine,
        "strategy": name,
        "symbols": list(symbols),
        "bars": made.bars,
        "trades": rows,
        "equity": made.final_equity,
        "return": figures.total_return,
        "max_drawdown": figures.max_drawdown,
        "sharpe": figures.sharpe,
        "win_rate": figures.win_rate,
        "profit_factor": figures.profit_factor,
        "exposure": figures.exposure,
        "fees": made.fees,
        "funding": made.funding,
        "cash": made.cash,
        "open_positions": held,
        "fills": made.fills,
        "exits": made.trades.causes(),
        "refused": made.refused,
        "fingerprint": fingerprint(rows),
        "seconds": round(made.seconds, 6),
        "bars_per_s": round(made.bars / made.seconds, 1),
    }


def trade_rows(symbols: Sequence[str], options: Options, made: Run) -> list[dict[str, Any]]:
    """The trades as they are printed; with the symbol where there are several, with the funding where there is any."""
    rows = list(made.trades.rows())
    if len(symbols) > 1:
        for row, number in zip(rows, made.trades.symbol.tolist(), strict=True):
            row["symbol"] = symbols[number]
    if options.funding_rate:
        for row, funding in zip(rows, made.trades.funding.tolist(), strict=True):
            row["funding"] = f"{funding:.10g}"
    return rows


def print_report(name: str, symbols: Sequence[str], options: Options, markets: Sequence[Columns], made: Run) -> None:
    """The run for people: what it came to, and its last trades."""
    rows = trade_rows(symbols, options, made)
    for label, value in summary(name, symbols, options, markets, made):
        print(f"{label:<14} {value}")
    if rows:
        print()
        for line in _table(rows[-SHOWN_TRADES:], len(rows)):
            print(line)


def summary(
    name: str, symbols: Sequence[str], options: Options, markets: Sequence[Columns], made: Run
) -> list[tuple[str, str]]:
    """The run as pairs of label and value."""
    figures, trades = made.statistics, made.trades
    equity = Decimal(made.final_equity)
    causes = ", ".join(f"{count:,} {cause}" for cause, count in trades.causes().items() if count)
    refused = ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in made.refused.items() if count)
    held = ", ".join(f"{one.qty} {symbols[one.symbol]} @ {one.entry_price[:16]}" for one in made.open_positions)
    first, last = (_day(int(stamp)) for stamp in (made.stamps[0], made.stamps[-1]))
    won = "" if figures.win_rate is None else f", {figures.win_rate:.1%} won"
    return [
        ("strategy", f"{name} on {', '.join(symbols)}"),
        ("bars", f"{made.bars:,} of {markets[0].timeframe_s} s, {first} to {last}"),
        ("trades", f"{len(trades):,}{won}"),
        ("equity", f"{equity:,.2f} from {options.cash:,.2f} ({figures.total_return:+.2%})"),
        ("drawdown", f"{figures.max_drawdown:.2%} at most"),
        ("sharpe", _or_none(figures.sharpe)),
        ("profit factor", _or_none(figures.profit_factor)),
        ("exposure", f"{figures.exposure:.1%} of the bars"),
        ("fees", f"{Decimal(made.fees):,.2f}"),
        ("exits", causes or "none"),
        ("refused", refused or "none"),
        ("still open", held or "nothing"),
        ("time", f"{made.seconds:.3f} s, {made.bars / made.seconds:,.0f} bars/s"),
    ]


def _table(rows: Sequence[Mapping[str, Any]], total: int) -> list[str]:
    names = ("side", "entry_time", "exit_time", "entry_price", "exit_price", "qty", "pnl", "exit_reason")
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    heads = [name.replace("_", " ") for name in names]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [heads, *cells]]
    more = [f"... and {total - len(rows):,} before them (--json has all)"] if total > len(rows) else []
    return [line.rstrip() for line in lines] + more


def _cell(name: str, value: str) -> str:
    if name in ("entry_price", "exit_price", "qty"):
        return f"{float(value):.8g}"
    if name == "pnl":
        return f"{float(value):+,.2f}"
    return value.removesuffix(":00Z").replace("T", " ") if name.endswith("time") else value


def _or_none(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
