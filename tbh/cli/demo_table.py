"""The live table of a demo on a terminal. The only module that imports rich.

It fits 80 columns and 24 rows, and is drawn by the thread that looks on, at most 8 times a second: the actors know
nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tbh.cli.demo_view import Opening, gate, money, orders_line, position, price, summary, unrealised
from tbh.report import ActorLine, Snapshot

ACTOR_COLUMNS = 2
CALM_STATES = ("running", "stopped")
SHORT_STATES = {"backing_off": "backoff", "disabled": "off"}
"""Two actors in a row of 80 columns leave seven for a state."""


class TableView:
    """Draws the table in place while the demo runs, and a summary below it at the end."""

    period_s = 1 / 8

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._opening: Opening | None = None
        self._live: Live | None = None

    @contextmanager
    def watching(self, opening: Opening) -> Iterator[None]:
        self._opening = opening
        if opening.resumption:
            self._console.print(opening.resumption)
        with Live(console=self._console, auto_refresh=False) as live:
            self._live = live
            yield

    def show(self, snapshot: Snapshot) -> None:
        if self._live is not None and self._opening is not None:
            self._live.update(render(self._opening, snapshot), refresh=True)

    def end(self, snapshot: Snapshot, result: Mapping[str, Any]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        opening = self._opening
        for label, value in [] if opening is None else summary(opening, snapshot, result):
            table.add_row(label, Text(value, style="bold" if label == "equity" else ""))
        self._console.print()
        self._console.print(table)


def render(opening: Opening, snapshot: Snapshot) -> RenderableType:
    """The whole table."""
    title = Text.assemble(("TBH ", "bold cyan"), (opening.title, "bold"), no_wrap=True, overflow="ellipsis")
    return Group(title, _progress(snapshot), Text(), _facts(snapshot), Text(), _actors(snapshot.actors))


def _progress(snapshot: Snapshot) -> Table:
    bar = ProgressBar(total=snapshot.bars_total, completed=snapshot.bar_index, width=28)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        bar,
        Text(f"bar {snapshot.bar_index:,}/{snapshot.bars_total:,}"),
        Text(f"{snapshot.bar_time:%Y-%m-%d %H:%M} UTC", style="dim"),
        Text(snapshot.phase, style="green" if snapshot.phase in ("running", "ended") else "yellow"),
    )
    return line


def _facts(snapshot: Snapshot) -> Table:
    facts: list[tuple[str, Text, str, Text]] = [
        ("price", Text(price(snapshot.price), style="bold"), "equity", Text(money(snapshot.equity), style="bold")),
        ("position", Text(position(snapshot)), "cash", Text(money(snapshot.cash))),
        ("unrealised", _signed(unrealised(snapshot)), "realised PnL", _signed(snapshot.realised_pnl)),
        ("trades", Text(f"{snapshot.trades:,} closed, {snapshot.fills:,} fills"), "fees", Text(money(snapshot.fees))),
        ("gate", _gate(snapshot), "heartbeats", Text(f"{snapshot.heartbeats:,}")),
        ("speed", Text(f"{snapshot.bars_per_s:,.0f} bars/s"), "health", Text(f"{snapshot.health_flushes:,} flushed")),
    ]
    table = Table.grid(padding=(0, 1), expand=False)
    for style, width in (("dim", 10), ("", 32), ("dim", 12), ("", 22)):
        table.add_column(style=style, min_width=width, no_wrap=True, overflow="ellipsis")
    for row in facts:
        table.add_row(*row)
    orders = Table.grid(padding=(0, 1))
    orders.add_column(style="dim", min_width=10)
    orders.add_column(no_wrap=True, overflow="ellipsis")
    orders.add_row("orders", orders_line(snapshot.orders))
    whole = Table.grid()
    whole.add_row(table)
    whole.add_row(orders)
    return whole


def _actors(actors: Sequence[ActorLine]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(ACTOR_COLUMNS):
        for width in (15, 7):
            table.add_column(min_width=width, no_wrap=True)
        for width in (5, 4, 4):
            table.add_column(min_width=width, justify="right", no_wrap=True)
    table.add_row(*(Text(word, style="dim") for word in ("actor", "state", "rest.", "wait", "dead") * ACTOR_COLUMNS))
    rows = -(-len(actors) // ACTOR_COLUMNS)
    for row in range(rows):
        table.add_row(*(cell for actor in actors[row::rows] for cell in _actor_cells(actor)))
    return table


def _actor_cells(actor: ActorLine) -> list[Text]:
    return [
        Text(actor.name),
        Text(SHORT_STATES.get(actor.state, actor.state), style="green" if actor.state in CALM_STATES else "yellow"),
        _counted(actor.restarts, "yellow"),
        Text(f"{actor.waiting}"),
        _counted(actor.dead_letters, "red"),
    ]


def _counted(count: int, style: str) -> Text:
    return Text(f"{count}", style=style if count else "dim")


def _gate(snapshot: Snapshot) -> Text:
    return Text(gate(snapshot), style="yellow" if snapshot.gate else "green")


def _signed(value: Decimal) -> Text:
    return Text(f"{value:+,.2f}", style="green" if value > 0 else "red" if value < 0 else "")
