"""What a demo tells while it runs and when it is over: as plain lines, or as one JSON object.

The live table for terminals is in ``tbh/cli/demo_table.py``; it shares the words and numbers made here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from tbh.report import Snapshot

PLAIN_EVERY_S = 10.0
"""A slow replay says this often that it lives; a fast one at each tenth of the market."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a demo is about. ``resumed_at`` is the number of bars already traded, None for a new one."""

    market: str
    simulated: bool
    symbol: str
    timeframe: str
    strategy: str
    cash: Decimal
    bars: int
    state: str
    resumed_at: int | None

    @property
    def title(self) -> str:
        """What runs on what, with the word ``simulated`` where nothing of the market is real."""
        kind = "simulated market" if self.simulated else "recorded candles"
        return f"{self.strategy} on {self.symbol} {self.timeframe}, paper account, {kind}"

    @property
    def resumption(self) -> str | None:
        """The line that says where an earlier demo goes on."""
        if self.resumed_at is None:
            return None
        return f"going on in {self.state} where it stopped: after bar {self.resumed_at:,} of {self.bars:,}"


class View(Protocol):
    """Somebody who looks on. ``period_s`` is how often there is something new to see."""

    period_s: float

    def watching(self, opening: Opening) -> AbstractContextManager[None]: ...

    def show(self, snapshot: Snapshot) -> None: ...

    def end(self, snapshot: Snapshot, result: Mapping[str, Any]) -> None: ...


class PlainView:
    """Plain lines on stdout, for a pipe or a file."""

    period_s = 0.1

    def __init__(self) -> None:
        self._tenth = 0
        self._told_s = 0.0
        self._opening: Opening | None = None

    @contextmanager
    def watching(self, opening: Opening) -> Iterator[None]:
        self._opening = opening
        _print(f"{opening.title} ({opening.market}), {opening.bars:,} bars, {money(opening.cash)} to start with")
        _print(f"state in {opening.state}")
        if opening.resumption:
            _print(opening.resumption)
            self._tenth = 10 * (opening.resumed_at or 0) // opening.bars
        yield

    def show(self, snapshot: Snapshot) -> None:
        tenth = 10 * snapshot.bar_index // snapshot.bars_total
        if tenth > self._tenth or snapshot.elapsed_s - self._told_s >= PLAIN_EVERY_S:
            self._tenth = tenth
            self._told_s = snapshot.elapsed_s
            _print(progress_line(snapshot))

    def end(self, snapshot: Snapshot, result: Mapping[str, Any]) -> None:
        for label, value in [] if self._opening is None else summary(self._opening, snapshot, result):
            _print(f"{label:<14} {value}")


class JsonView:
    """One JSON object on stdout at the end; how far it is on stderr, if that is a terminal."""

    period_s = 0.25

    @contextmanager
    def watching(self, _opening: Opening) -> Iterator[None]:
        try:
            yield
        finally:
            if sys.stderr.isatty():
                print(file=sys.stderr)

    def show(self, snapshot: Snapshot) -> None:
        if sys.stderr.isatty():
            print(f"\r{progress_line(snapshot)[:78]:<78}", end="", file=sys.stderr, flush=True)

    def end(self, _snapshot: Snapshot, result: Mapping[str, Any]) -> None:
        print(json.dumps(result, allow_nan=False))


def progress_line(snapshot: Snapshot) -> str:
    """One line on how things stand."""
    orders = snapshot.orders
    return (
        f"bar {snapshot.bar_index}/{snapshot.bars_total} {snapshot.bar_time:%Y-%m-%dT%H:%M}Z"
        f"  price {price(snapshot.price)}  position {position(snapshot)}  equity {money(snapshot.equity)}"
        f"  orders {orders.get('filled', 0)} filled of {orders.get('submitted', 0)}  trades {snapshot.trades}"
        f"  gate {gate(snapshot)}  {snapshot.bars_per_s:,.0f} bars/s"
    )


def summary(opening: Opening, snapshot: Snapshot, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The end of a demo as pairs of label and value: how it went, what it came to, where everything is."""
    trades = result["trades"]
    won = sum(Decimal(trade["pnl"]) > 0 for trade in trades)
    rate = f", {won} won ({100 * won / len(trades):.0f} %)" if trades else ""
    restarts, dead = result["actor_restarts"], result["dead_letters"]
    paths = result["paths"]
    equity = Decimal(result["equity"])
    return [
        (
            "market",
            f"{'simulated' if result['simulated'] else 'recorded'}, {result['bars']:,} of {snapshot.bars_total:,} bars"
            f" in {result['seconds']:.1f} s ({result['bars_per_s']:,.0f} bars/s)",
        ),
        ("trades", f"{len(trades)}{rate}"),
        ("equity", f"{money(equity)} ({100 * (equity / opening.cash - 1):+.2f} %)"),
        ("realised PnL", f"{money(Decimal(result['realised_pnl']))} before fees"),
        ("fees", money(Decimal(result["fees"]))),
        ("cash", money(Decimal(result["cash"]))),
        ("position", position(snapshot)),
        ("orders", orders_line(result["orders"])),
        (
            "journal",
            f"{result['journal']['recorded']:,} entries, {result['journal']['relayed']:,} relayed,"
            f" {result['journal']['pending']:,} pending",
        ),
        ("database", database_line(result.get("database"))),
        ("actors", f"{restarts} restarts, {dead} dead letters"),
        ("store", paths["store"]),
        ("account", paths["account"]),
        ("events", paths["events"]),
        ("log", paths["log"]),
    ]


def orders_line(orders: Mapping[str, int]) -> str:
    """Orders by status, those that there are."""
    counted = [f"{count:,} {status.replace('_', ' ')}" for status, count in orders.items() if count]
    return ", ".join(counted) or "none"


def database_line(database: Mapping[str, Any] | None) -> str:
    """The rows of the bot by table, those tables that have any."""
    if database is None:
        return "in memory"
    if "error" in database:
        return str(database["error"])
    return ", ".join(f"{table} {count:,}" for table, count in sorted(database["rows"].items()) if count)


def gate(snapshot: Snapshot) -> str:
    """What holds entries back, or ``open``."""
    return ", ".join(snapshot.gate) or "open"


def position(snapshot: Snapshot) -> str:
    """The side and size of the position, and what it was entered at."""
    if not snapshot.position_qty:
        return "flat"
    side = "long" if snapshot.position_qty > 0 else "short"
    return f"{side} {quantity(abs(snapshot.position_qty))} @ {price(snapshot.entry_price)}"


def unrealised(snapshot: Snapshot) -> Decimal:
    """The open position's PnL at the last price, in quote."""
    if snapshot.price is None or snapshot.entry_price is None:
        return Decimal(0)
    return (snapshot.price - snapshot.entry_price) * snapshot.position_qty


def money(value: Decimal) -> str:
    """An amount of quote, to cents."""
    return f"{value:,.2f}"


def price(value: Decimal | None) -> str:
    """A price with 2 decimals, or as many as its 6 first digits need."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1000 else f"{value:,.{max(2, 5 - value.adjusted())}f}"


def quantity(value: Decimal) -> str:
    """A quantity of base in its own digits, at most 8 decimals."""
    return f"{round(value, 8).normalize():f}"


def _print(line: str) -> None:
    # A reader at the other end of a pipe sees each line when it is told, not when a buffer is full.
    print(line, flush=True)
