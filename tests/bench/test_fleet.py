"""What ``bench fleet`` calls lost: a row that neither the database nor the outbox has."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import fleet


class Database:
    """Has taken all entries up to ``last_seq``, and has neither a fill nor an order."""

    def __init__(self, last_seq: int) -> None:
        self._last_seq = last_seq

    def query(self, sql: str, *_: Any) -> list[tuple[int]]:
        if "sync_streams" in sql:
            return [(self._last_seq,)]
        return [(0,)] if "dead_letters" in sql else []


def lost(folder: Path, *, delivered: int, waiting: dict[int, str]) -> int:
    """A store that has written three entries, of them a fill and an order."""
    store = sqlite3.connect(folder / "store.sqlite")
    store.executescript(
        "create table identity (last_seq); insert into identity values (3); create table outbox (seq, key);"
        "create table fills (trade_id); insert into fills values ('t1');"
        "create table orders (client_order_id, version); insert into orders values ('o1', 3)"
    )
    store.executemany("insert into outbox values (?, ?)", waiting.items())
    store.commit()
    store.close()
    stack: Any = Database(delivered)
    bot: Any = SimpleNamespace(bot_id="b")
    return fleet._lost(stack, [(bot, folder)])[0]


@pytest.mark.parametrize(
    ("delivered", "waiting", "rows"),
    [
        (1, {2: "fill:t1", 3: "order:o1:3"}, 0),
        (2, {3: "order:o1:3"}, 1),
        (3, {}, 2),
        (1, {}, 4),
        (1, {3: "order:o1:3"}, 2),
    ],
)
def test_what_waits_is_not_lost_and_all_else_is(
    tmp_path: Path, delivered: int, waiting: dict[int, str], rows: int
) -> None:
    assert lost(tmp_path, delivered=delivered, waiting=waiting) == rows
