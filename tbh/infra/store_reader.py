"""Reading the local store: connections of its own, and what SQLite's errors mean here.

A reader may be handed to any actor. Each thread that uses it gets its own read-only connection on the first call, so
no thread waits for another, and a restarted actor may read from whichever thread it is built in. Every call is one
SELECT and so one consistent snapshot.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tbh.infra.codec import CodecError, decode, epoch_us
from tbh.infra.store_schema import VERSION
from tbh.messages.account import Position
from tbh.messages.orders import Fill, OrderState
from tbh.messages.strategy import Decision
from tbh.ports import DeadLetter, Failure, Fatal, OutboxEntry, StoreCounts, Unavailable

_T = TypeVar("_T")

_SEQ_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Linux reports a full disk as ENOSPC, which SQLite calls FULL; a quota or a file size limit comes out as a write error.
_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def failure(error: sqlite3.Error, path: Path) -> Unavailable:
    """What an error of an open store means: ``disk_full``, ``locked`` or ``broken``, with one line that says where."""
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    where = f"{path}: {error} ({name})"
    if name in _NO_ROOM:
        return Unavailable("disk_full", detail=f"{where}; free some space")
    if code is not None and code & 0xFF in _BUSY:
        return Unavailable("locked", detail=f"{where}; another process holds the store")
    return Unavailable("broken", detail=where)


def opening_failure(error: sqlite3.Error, path: Path) -> Failure:
    """What an error on the way to an open store means: room and locks pass, anything else needs a person."""
    made = failure(error, path)
    if made.reason != "broken":
        return made
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _DAMAGED:
        return Fatal(
            "store_corrupt",
            exit_code=78,
            detail=f"{path} is damaged or no SQLite file ({error}): move it away, the bot rebuilds its state from "
            "the database and the exchange",
        )
    return Fatal("store_unusable", exit_code=78, detail=f"{path} can't be opened ({error}): check folder and rights")


def connect(path: Path, *, mode: str, busy_timeout_s: float, any_thread: bool = False) -> sqlite3.Connection:
    """A connection in autocommit; ``mode`` is SQLite's ``ro``, ``rw`` or ``rwc``."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=busy_timeout_s,
        check_same_thread=not any_thread,
    )


def stored_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file, 0 when it is new; ``Fatal(78)`` for a later one and for another program's file."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise Fatal(
            "store_foreign", exit_code=78, detail=f"{path} is another program's database: name a file of the bot's own"
        )
    ((version,),) = connection.execute("SELECT max(version) FROM schema_version")
    if version > VERSION:
        raise Fatal(
            "store_newer",
            exit_code=78,
            detail=f"{path} is version {version}, this program knows up to {VERSION}: "
            "start the newer program, or give this one another state directory",
        )
    return int(version)


class SqliteReader:
    """Implements ``tbh.ports.StoreReader`` over the file of a ``SqliteStore``. ``flushed`` sees that the outbox is on
    the disk and tells up to which entry; None where nobody writes."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 1.0, flushed: Callable[[], int] | None = None) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._flushed = flushed or (lambda: _SEQ_MAX)
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []

    def _select(self, sql: str, *values: Any) -> list[Any]:
        try:
            connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
            if connection is None:
                connection = self._own.connection = self._connected()
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise failure(error, self._path) from error

    def _connected(self) -> sqlite3.Connection:
        # Each is used by the thread that opened it; ``close`` alone may come from another one.
        connection = connect(self._path, mode="ro", busy_timeout_s=self._busy_timeout_s, any_thread=True)
        try:
            if stored_version(connection, self._path) == VERSION:
                self._opened.append(connection)
                return connection
        except (Failure, sqlite3.Error):
            connection.close()
            raise
        connection.close()
        raise Unavailable("broken", detail=f"{self._path} is not at version {VERSION} yet: the bot's start migrates it")

    def close(self) -> None:
        """Close the connections of every thread; the reader is of no use afterwards."""
        while self._opened:
            self._opened.pop().close()

    def _value(self, cls: type[_T], text: str, what: str) -> _T:
        try:
            return decode(cls, text)
        except CodecError as error:
            raise Fatal("row_unreadable", exit_code=70, detail=f"{self._path}, {what}: {error}") from error

    def decision(self, strategy: str, bar_open: datetime) -> Decision | None:
        at = epoch_us(bar_open)
        rows = self._select(
            "SELECT body FROM decisions WHERE strategy = ? AND bar_open_us = ? UNION ALL "
            "SELECT body FROM empty_decisions WHERE strategy = ? AND bar_open_us = ?",
            strategy, at, strategy, at,
        )  # fmt: skip
        return self._value(Decision, rows[0][0], f"decision of {strategy} at {bar_open}") if rows else None

    def last_decision(self, strategy: str) -> Decision | None:
        rows = self._select(
            "SELECT bar_open_us, body FROM empty_decisions WHERE strategy = ? UNION ALL "
            "SELECT * FROM (SELECT bar_open_us, body FROM decisions WHERE strategy = ? "
            "ORDER BY bar_open_us DESC LIMIT 1)",
            strategy, strategy,
        )  # fmt: skip
        return self._value(Decision, max(rows)[1], f"last decision of {strategy}") if rows else None

    def orders(self, *, open_only: bool = False) -> list[OrderState]:
        """In the order in which they were drafted."""
        rows = self._select(
            "SELECT client_order_id, body FROM orders WHERE terminal = 0 ORDER BY id"
            if open_only
            else "SELECT client_order_id, body FROM orders ORDER BY id"
        )
        return [self._value(OrderState, body, f"order {name}") for name, body in rows]

    def order(self, client_order_id: str) -> OrderState | None:
        rows = self._select("SELECT body FROM orders WHERE client_order_id = ?", client_order_id)
        return self._value(OrderState, rows[0][0], f"order {client_order_id}") if rows else None

    def fills(self, *, after: int = -1) -> list[Fill]:
        rows = self._select("SELECT trade_id, body FROM fills WHERE seq > ? ORDER BY seq, rowid", after)
        return [self._value(Fill, body, f"fill {name}") for name, body in rows]

    def positions(self) -> dict[str, Position]:
        rows = self._select("SELECT symbol, body FROM positions WHERE body IS NOT NULL")
        return {symbol: self._value(Position, body, f"position {symbol}") for symbol, body in rows}

    def outbox(self, after: int, *, limit: int, max_bytes: int) -> Sequence[OutboxEntry]:
        """Entries with ``seq > after``, rising; the first one is given even when it alone exceeds ``max_bytes``. All
        of them are on the disk: ``Unavailable`` when that can't be seen to."""
        sql = "SELECT seq, fn, args, key FROM outbox WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        rows = self._select(sql, after, self._flushed(), limit)
        taken: list[OutboxEntry] = []
        left = max_bytes
        for seq, fn, args, key in rows:
            left -= len(fn) + len(args) + len(key)
            if taken and left < 0:
                break
            taken.append(_entry(seq, fn, args, key))
        return taken

    def meta(self, key: str) -> str | None:
        rows = self._select("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def actions(self) -> dict[str, str]:
        return dict(self._select("SELECT request_id, status FROM actions"))

    def dead_letters(self) -> list[DeadLetter]:
        """Oldest first."""
        return [
            DeadLetter(
                actor=actor,
                seq=seq,
                message_type=kind,
                payload=payload,
                reason=reason,
                at=_EPOCH + timedelta(microseconds=at),
            )
            for actor, seq, kind, payload, reason, at in self._select(
                "SELECT actor, seq, message_type, payload, reason, at_us FROM dead_letters ORDER BY id"
            )
        ]

    def refused(self) -> list[tuple[OutboxEntry, str]]:
        """What the database refused for good, with its reason."""
        rows = self._select("SELECT seq, fn, args, key, reason FROM refused ORDER BY seq")
        return [(_entry(seq, fn, args, key), reason) for seq, fn, args, key, reason in rows]

    def orders_by_status(self) -> dict[str, int]:
        """How many orders stand at each status."""
        return dict(self._select("SELECT status, count(*) FROM orders GROUP BY status"))

    def proposal_count(self) -> int:
        """How many proposals all decisions ever made."""
        rows = self._select("SELECT coalesce(sum(json_array_length(body, '$.proposals')), 0) FROM decisions")
        return int(rows[0][0])

    def counts(self) -> StoreCounts:
        # Sequence numbers have no gaps, so the pending entries need not be counted one by one during a long outage.
        ((recorded, up_to, early, late, dead_letters),) = self._select(
            "SELECT last_seq, relayed_up_to, "
            "(SELECT count(*) FROM refused WHERE seq <= relayed_up_to), "
            "(SELECT count(*) FROM refused WHERE seq > relayed_up_to), "
            "(SELECT count(*) FROM dead_letters) FROM identity"
        )
        return StoreCounts(
            recorded=recorded,
            relayed=up_to - early,
            refused=early + late,
            pending=recorded - up_to - late,
            dead_letters=dead_letters,
        )


def _entry(seq: int, fn: str, args: str, key: str) -> OutboxEntry:
    return OutboxEntry(seq=seq, fn=fn, args=json.loads(args), key=key)
