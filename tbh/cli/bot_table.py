"""``tbh bot show`` on a terminal. The words are ``bot_view``'s; this draws them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from tbh.cli.bot_view import FILL_COLUMNS, ORDER_COLUMNS, Facts, Row, fills, orders, summary

IDS = ("order", "fill", "exchange's id")
NUMBERS = ("qty", "filled", "avg price", "price", "fee")
GOOD_STATUSES = ("filled", "accepted", "partially_filled")
BAD_STATUSES = ("unknown", "rejected")


def print_bot(shown: Facts, console: Console | None = None) -> None:
    """Everything about one bot, in the width that there is."""
    out = console or Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, text in summary(shown):
        table.add_row(label, Text(text, style=_style(label, text)))
    out.print(table)
    for names, rows in ((ORDER_COLUMNS, orders(shown)), (FILL_COLUMNS, fills(shown))):
        if rows:
            out.print()
            out.print(_table(names, rows))


def _table(names: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        # Where the terminal is narrow, the ids give way: whatever is decided upon stays whole.
        width = None if name in IDS else max(len(name), *(len(row[place]) for row in rows))
        justify: JustifyMethod = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=justify, min_width=width, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_cell_style(cell)) for cell in row))
    return table


def _style(label: str, text: str) -> str:
    if label == "bot":
        return "bold"
    if label == "controls":
        return "green" if text.startswith("free") else "yellow"
    return ""


def _cell_style(cell: str) -> str:
    return "green" if cell in GOOD_STATUSES else "red" if cell in BAD_STATUSES else ""
