"""The file of a paper account: SQLite in WAL mode, every commit on the disk before it is answered.

One row of ``state`` is the whole account (``VenueState``) with the place in the market it belongs to; ``orders``
keeps every order that was ever accepted, ``events`` every fill and cancellation by ``seq``. A commit writes all three
together, so the file alone rebuilds the exchange. Each commit counts ``revision`` up from the value that this process
last saw: a second process that wrote in between is noticed before anything is overwritten.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbh.domain.venue import Standing, VenueState
from tbh.infra.paper_rows import (
    Cursor,
    OrderRow,
    cursor_text,
    decoded_cursor,
    decoded_event,
    event_row,
    order_row,
    standing_row,
)
from tbh.ports import AccountEvent, Failure, Fatal, Unavailable, Unknown

FORMAT_VERSION = 2
"""2 added the account's tag and first number; a file of format 1 has neither, and becomes 2 when it is opened."""
APPLICATION_ID = 0x54424850
"""The letters TBHP in the file's header tell a paper account from any other SQLite file."""

BUSY_TIMEOUT_S = 0.25

_SCHEMA = """
CREATE TABLE settings (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT NULL) STRICT;
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, cursor TEXT NOT NULL, venue TEXT NOT NULL
) STRICT;
CREATE TABLE orders (
    client_order_id TEXT PRIMARY KEY, exchange_order_id TEXT NOT NULL UNIQUE, request TEXT NOT NULL,
    accepted_at TEXT NOT NULL, status TEXT NOT NULL, filled_qty TEXT NOT NULL, avg_price TEXT, reason TEXT
) STRICT;
CREATE TABLE events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, json TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """Everything in the file, for audits."""

    settings: Mapping[str, Any]
    venue: VenueState
    cursor: Cursor | None
    orders: tuple[OrderRow, ...]
    events: tuple[AccountEvent, ...]


class AccountFile:
    """The open file. Not locked against other threads: its owner does that.

    Raises ``Fatal`` (78) for a file that can't be opened, is damaged, newer, another kind or made with other settings,
    ``Fatal`` (75) when another process wrote it meanwhile, ``Fatal`` (70) when it was removed meanwhile,
    ``Unavailable`` (``disk_full``, ``locked``, ``broken``, ``closed``) when a call did nothing, ``Unknown`` when a
    commit failed in a way that leaves its outcome open.
    """

    def __init__(self, path: Path, *, settings: Mapping[str, Any], venue: VenueState) -> None:
        self.path = path
        with _translated(path, opening=True):
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            with _translated(path, opening=True):
                self._prepare(settings, venue)
                self.revision, self.cursor, self.venue = _read_state(self._db, path)
            self._file = _identity(path)
        except BaseException:
            self._db.close()
            raise

    def commit(
        self,
        *,
        venue: VenueState,
        cursor: Cursor | None,
        touched: Iterable[Standing],
        events: Sequence[AccountEvent],
        accepted: OrderRow | None = None,
    ) -> None:
        """Write what one call changed; it is on the disk when this returns, and not there when it raises
        ``Unavailable`` or ``Fatal``."""
        try:
            self._check_there()
            with _translated(self.path):
                self._db.execute("BEGIN IMMEDIATE")
                self._write(venue, cursor, touched, events, accepted)
            with _translated(self.path, committing=True):
                self._db.execute("COMMIT")
        except Failure:
            self._abandon()
            raise
        self.revision += 1
        self.cursor = cursor

    def order(self, client_order_id: str) -> OrderRow | None:
        with _translated(self.path):
            row = self._db.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
        return None if row is None else _decoded_order(row, self.path)

    def events(self, after: int) -> tuple[AccountEvent, ...]:
        with _translated(self.path):
            return _read_events(self._db, after, self.path)

    def close(self) -> None:
        with _translated(self.path):
            self._db.close()

    def _prepare(self, settings: Mapping[str, Any], venue: VenueState) -> None:
        db = self._db
        # The header is looked at first: even the switch to WAL would already change a file that isn't ours.
        _check_format(db, self.path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # Also on a file that is complete: one that can't be written is refused now, not at the first order.
        db.execute("BEGIN IMMEDIATE")
        if _check_format(db, self.path):
            for statement in filter(str.strip, _SCHEMA.split(";\n")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("INSERT INTO settings VALUES (1, ?)", (json.dumps(settings, sort_keys=True),))
            db.execute("INSERT INTO state VALUES (1, 0, 'null', ?)", (json.dumps(venue.to_json()),))
        if db.execute("PRAGMA user_version").fetchone()[0] < FORMAT_VERSION:
            db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        db.execute("COMMIT")
        stored = _read_settings(db, self.path)
        if stored != settings:
            names = sorted(name for name in settings.keys() | stored.keys() if stored.get(name) != settings.get(name))
            differences = "; ".join(f"{name} {stored.get(name)}, now {settings.get(name)}" for name in names)
            detail = f"{self.path} was made with {differences}: name another file or restore the settings"
            raise Fatal("paper_account_mismatch", exit_code=78, detail=detail)

    def _write(
        self,
        venue: VenueState,
        cursor: Cursor | None,
        touched: Iterable[Standing],
        events: Sequence[AccountEvent],
        accepted: OrderRow | None,
    ) -> None:
        db = self._db
        written = db.execute(
            "UPDATE state SET revision = ?, cursor = ?, venue = ? WHERE revision = ?",
            (self.revision + 1, cursor_text(cursor), json.dumps(venue.to_json()), self.revision),
        )
        if written.rowcount != 1:
            detail = f"another process has written {self.path}: stop one of the two"
            raise Fatal("paper_account_in_use", exit_code=75, detail=detail)
        if accepted is not None:
            row = (accepted.request, accepted.accepted_at.isoformat())
            db.execute(
                "INSERT INTO orders (request, accepted_at, client_order_id, exchange_order_id, status, filled_qty)"
                " VALUES (?, ?, ?, ?, '', '0')",
                (*row, accepted.standing.client_order_id, accepted.standing.exchange_order_id),
            )
        db.executemany(
            "UPDATE orders SET status = ?, filled_qty = ?, avg_price = ?, reason = ? WHERE client_order_id = ?",
            [standing_row(standing) for standing in touched],
        )
        db.executemany("INSERT INTO events VALUES (?, ?, ?)", [event_row(event) for event in events])

    def _check_there(self) -> None:
        # SQLite would go on writing to a file that was deleted under it, and the account would be lost in the end.
        if _identity(self.path) != self._file:
            detail = f"{self.path} was removed or replaced while in use: restore it or start another account"
            raise Fatal("paper_account_lost", exit_code=70, detail=detail)

    def _abandon(self) -> None:
        if self._db.in_transaction:
            with _translated(self.path):
                self._db.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_account(path: Path) -> AccountRecord:
    """Read the file without owning it, also while a bot runs or after one was killed. Raises ``Fatal`` (78)."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with (
        _translated(path, opening=True),
        closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db,
    ):
        db.execute("BEGIN")
        if _check_format(db, path):
            raise Fatal("paper_account_empty", exit_code=78, detail=f"{path} holds no account yet")
        _, cursor, venue = _read_state(db, path)
        rows = db.execute("SELECT * FROM orders ORDER BY exchange_order_id").fetchall()
        return AccountRecord(
            settings=_read_settings(db, path),
            venue=venue,
            cursor=cursor,
            orders=tuple(_decoded_order(row, path) for row in rows),
            events=_read_events(db, 0, path),
        )


@contextmanager
def _translated(path: Path, *, opening: bool = False, committing: bool = False) -> Iterator[None]:
    """SQLite's errors in the words of ``tbh.ports``."""
    try:
        yield
    except sqlite3.Error as error:
        raise _failure(error, path, opening=opening, committing=committing) from error


@contextmanager
def _read_back(path: Path) -> Iterator[None]:
    """Around the decoding of rows: what does not decode was not written by this code."""
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        detail = f"{path} can't be read back ({error}): restore it from a copy or start another account"
        raise Fatal("paper_account_corrupt", exit_code=78, detail=detail) from error


def _failure(error: sqlite3.Error, path: Path, *, opening: bool, committing: bool) -> Failure:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary is None:
        return Unavailable("closed", detail=f"paper account {path}: {error}")
    # A statement that SQLite can't make sense of (SQLITE_ERROR) means that the tables are not those of an account.
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        detail = f"{path} is damaged or no paper account ({error}): restore it from a copy or start another account"
        return Fatal("paper_account_corrupt", exit_code=78, detail=detail)
    if primary == sqlite3.SQLITE_FULL:
        return Unavailable("disk_full", detail=f"no space for the paper account {path}: free some")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("locked", detail=f"another process holds the paper account {path}")
    if opening:
        detail = f"can't open the paper account {path} ({error}): its folder must exist and be writable"
        return Fatal("paper_account_unwritable", exit_code=78, detail=detail)
    if committing and primary == sqlite3.SQLITE_IOERR:
        return Unknown("broken", detail=f"the disk failed while the paper account {path} was committed: {error}")
    return Unavailable("broken", detail=f"paper account {path}: {error}")


def _check_format(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is still empty. Raises ``Fatal`` for one that is not a paper account of this version."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application_id == APPLICATION_ID:
        if version > FORMAT_VERSION:
            detail = f"{path} has format {version}, this TBH knows up to {FORMAT_VERSION}: use the newer TBH"
            raise Fatal("paper_account_newer", exit_code=78, detail=detail)
        return False
    if application_id or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Fatal("paper_account_foreign", exit_code=78, detail=f"{path} is another kind of file: name another one")
    return True


def _read_settings(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    row = db.execute("SELECT json FROM settings").fetchone()
    with _read_back(path):
        settings: dict[str, Any] = json.loads(row[0])
        return settings


def _read_state(db: sqlite3.Connection, path: Path) -> tuple[int, Cursor | None, VenueState]:
    row = db.execute("SELECT revision, cursor, venue FROM state").fetchone()
    with _read_back(path):
        return row[0], decoded_cursor(row[1]), VenueState.from_json(json.loads(row[2]))


def _decoded_order(row: tuple[Any, ...], path: Path) -> OrderRow:
    with _read_back(path):
        return order_row(row)


def _read_events(db: sqlite3.Connection, after: int, path: Path) -> tuple[AccountEvent, ...]:
    rows = db.execute("SELECT kind, json FROM events WHERE seq > ? ORDER BY seq", (after,)).fetchall()
    with _read_back(path):
        return tuple(decoded_event(kind, text) for kind, text in rows)
