"""The tables of the local store, how a file of an earlier version gets to them, and what every store refuses.

``MIGRATIONS[n]`` takes a file from version n to n + 1; each runs in one transaction together with the new version
number, so a process that dies in between leaves the former version whole. Steps are only ever added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbh.infra.codec import CodecError, json_text
from tbh.ports import Fatal

DEAD_LETTERS_MAX = 10_000
"""The oldest go first: a crash loop must not fill the disk that the exits' records need."""

DAMAGED = frozenset({"store_corrupt", "store_lost"})
"""Reasons of ``Fatal`` that mean damage, and nothing that an operator has configured."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE identity (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            store_id TEXT NOT NULL,
            last_seq INTEGER NOT NULL DEFAULT 0,
            relayed_up_to INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE decisions (
            strategy TEXT NOT NULL,
            bar_open_us INTEGER NOT NULL,
            decision_id TEXT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (strategy, bar_open_us)
        ) WITHOUT ROWID""",
        # Most bars decide nothing. One row per strategy, overwritten in place, keeps a year of minutes at one page.
        """CREATE TABLE empty_decisions (
            strategy TEXT PRIMARY KEY,
            bar_open_us INTEGER NOT NULL,
            body TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE orders (
            id INTEGER PRIMARY KEY,
            client_order_id TEXT NOT NULL UNIQUE,
            intent_id TEXT NOT NULL,
            status TEXT NOT NULL,
            terminal INTEGER NOT NULL,
            version INTEGER NOT NULL,
            body TEXT NOT NULL
        )""",
        "CREATE INDEX orders_open ON orders (id) WHERE terminal = 0",
        """CREATE VIEW intents AS
            SELECT intent_id, count(*) AS attempts, sum(terminal = 0) AS open_orders, max(id) AS last_order
            FROM orders GROUP BY intent_id""",
        "CREATE TABLE fills (trade_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL)",
        "CREATE INDEX fills_by_seq ON fills (seq)",
        "CREATE TABLE positions (symbol TEXT PRIMARY KEY, seq INTEGER NOT NULL, body TEXT) WITHOUT ROWID",
        "CREATE TABLE actions (request_id TEXT PRIMARY KEY, status TEXT NOT NULL, detail TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY, fn TEXT NOT NULL, args TEXT NOT NULL, key TEXT NOT NULL, at_us INTEGER NOT NULL
        )""",
        # 16 bytes per entry ever written, never trimmed: a fact that is recorded again after a restart, however late,
        # must not reach the database as a second one.
        "CREATE TABLE outbox_keys (digest BLOB PRIMARY KEY) WITHOUT ROWID",
        """CREATE TABLE refused (
            seq INTEGER PRIMARY KEY, fn TEXT NOT NULL, args TEXT NOT NULL, key TEXT NOT NULL,
            reason TEXT NOT NULL, at_us INTEGER NOT NULL
        )""",
        """CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY, actor TEXT NOT NULL, seq INTEGER NOT NULL, message_type TEXT NOT NULL,
            payload TEXT NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL, UNIQUE (actor, seq, at_us)
        )""",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
)

VERSION = len(MIGRATIONS)


def entry_text(fn: str, args: Mapping[str, Any], key: str) -> str:
    """The arguments of an outbox entry as JSON text; ``Fatal`` when they are not JSON types."""
    try:
        return json_text(dict(args))
    except CodecError as error:
        raise not_storable(f"outbox entry {key!r} of {fn}", error) from error


def not_storable(what: str, error: Exception) -> Fatal:
    """A batch holds something that no store can keep: a mistake in the program, so a retry can't help."""
    return Fatal("not_storable", exit_code=70, detail=f"{what}: {error}")


def relayed_beyond_recorded(claimed: int, recorded: int) -> Fatal:
    """The database claims entries that this store never wrote: they do not belong together."""
    return Fatal(
        "relayed_beyond_recorded",
        exit_code=70,
        detail=f"the database acknowledges entry {claimed}, the store has written {recorded}",
    )
