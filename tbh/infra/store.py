"""The local store: one SQLite file, written by the journaler alone, read by any actor.

What a commit returned from is on the disk: write-ahead log, ``synchronous=FULL``, one ``BEGIN IMMEDIATE`` transaction
per batch, so one flush per commit and a batch is there whole or not at all, whatever kills the process. A commit that
failed may be repeated as it is, since every row is idempotent (``tbh.ports.Batch``).

Decisions are written on every bar, so the empty ones of a strategy share one row, which only moves forward in time;
those with proposals are all kept, one per strategy and bar. A key of the outbox is remembered for ever, as a digest
of 16 bytes; the entry itself goes once the database has it.

Cost, on two shared cores and a disk that flushes in 180 µs: an empty decision 180 to 195 µs a commit, a draft with its
outbox entry 205 µs, the counts 5 µs, 200 outbox entries 0.5 ms. Every five hundredth commit or so SQLite copies the
log back into the file, which takes 4 to 5 ms. No reader waits for the writer, nor the writer for a reader.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from tbh.infra.codec import epoch_us
from tbh.infra.store_mark import StoreMark
from tbh.infra.store_reader import SqliteReader, connect, failure, opening_failure, stored_version
from tbh.infra.store_rows import row_statements
from tbh.infra.store_schema import (
    MIGRATIONS,
    VERSION,
    entry_text,
    not_storable,
    relayed_beyond_recorded,
)
from tbh.ports import Batch, Fatal, Unavailable

QUICK_CHECK_BYTES_MAX = 64 << 20
"""A larger file is not checked page by page on opening: this much takes 35 ms from memory, but seconds from a disk."""


def _now() -> datetime:
    return datetime.now(UTC)


class SqliteStore(SqliteReader):
    """Implements ``tbh.ports.Store``. One writer at a time; ``commit`` may be called from any thread."""

    store_id: str

    def __init__(self, path: Path, *, clock: Callable[[], datetime], busy_timeout_s: float) -> None:
        super().__init__(path, busy_timeout_s=busy_timeout_s)
        self._clock = clock
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._flushing = True
        self._mark = StoreMark(path)
        self._readers: list[SqliteReader] = []
        self._last_seq = 0
        self._flushed_seq = 0

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, clock: Callable[[], datetime] = _now, busy_timeout_s: float = 1.0
    ) -> SqliteStore:
        """The store in the file ``path``, made or migrated if need be. ``clock`` dates what is refused or waits.

        Raises ``Fatal(78)`` for a folder that can't be written, a damaged or foreign file, one that has lost what it
        had written, and one of a newer version; ``Unavailable('disk_full' | 'locked')`` when there is no room for it or
        another process holds it.
        """
        store = cls(Path(path), clock=clock, busy_timeout_s=busy_timeout_s)
        before = store._mark.read() if store._path.exists() else None
        try:
            store._writer = store._connect("rwc")
            _check(store._writer, store._path)
            _migrate(store._writer, store._path, clock)
            ((store.store_id, store._last_seq),) = store._writer.execute("SELECT store_id, last_seq FROM identity")
            _check_complete(store._path, before, store.store_id, store._last_seq)
        except sqlite3.Error as error:
            store.close()
            raise opening_failure(error, store._path) from error
        except Fatal:
            store.close()
            raise
        status = store._path.stat()
        store._file = (status.st_dev, status.st_ino)
        # A new name is durable only once its folder is; SQLite flushes the file, not always the folder.
        folder = os.open(store._path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if before is None or before[0] != store.store_id:
            store._mark.write(store.store_id, 0)
        return store

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = connect(self._path, mode=mode, busy_timeout_s=self._busy_timeout_s, any_thread=True)
        ((journal,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if journal != "wal":
            connection.close()
            raise Fatal(
                "store_unusable",
                exit_code=78,
                detail=f"{self._path} is on a file system without shared memory: use a local disk",
            )
        connection.execute("PRAGMA synchronous = FULL")
        self._flushing = True
        return connection

    def commit(self, batch: Batch) -> int:
        """Write the batch, flush it (unless it need not be), and give the last sequence number of the outbox.

        ``Unavailable`` as the port says, then nothing of it was written; ``Fatal(70)`` for a batch that no store can
        keep (a broken type, an acknowledgement of entries never written).
        """
        if not batch:
            return self._last_seq
        statements = row_statements(batch)
        entries = [(fn, entry_text(fn, args, key), key) for fn, args, key in batch.outbox]
        with self._writing:
            connection = self._writable()
            try:
                if batch.flushed is not self._flushing:
                    connection.execute(f"PRAGMA synchronous = {'FULL' if batch.flushed else 'NORMAL'}")
                    self._flushing = batch.flushed
                connection.execute("BEGIN IMMEDIATE")
                for sql, values in statements:
                    connection.execute(sql, values)
                last_seq = self._last_seq
                if entries or batch.refused or batch.relayed_up_to is not None:
                    last_seq = self._write_outbox(connection, batch, entries)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._abandon(connection)
                raise failure(error, self._path) from error
            except OverflowError as error:
                self._abandon(connection)
                raise not_storable("a number", error) from error
            except Fatal:
                self._abandon(connection)
                raise
            self._last_seq = last_seq
            if batch.flushed and last_seq > self._flushed_seq:
                self._flushed_seq = last_seq
                self._mark.write(self.store_id, last_seq)
            return last_seq

    def _flush(self) -> int:
        """See that every entry of the outbox is on the disk; the last one's number. ``Unavailable`` if that fails."""
        last_seq = self._last_seq
        if last_seq > self._flushed_seq:
            try:
                log = os.open(f"{self._path}-wal", os.O_RDONLY)
                try:
                    os.fsync(log)
                finally:
                    os.close(log)
            except OSError as error:
                raise Unavailable("broken", detail=f"{self._path}: {error.strerror}") from error
            self._flushed_seq = max(self._flushed_seq, last_seq)
        return last_seq

    def _writable(self) -> sqlite3.Connection:
        # SQLite would go on writing to a file that was deleted under it, and every commit would be lost in the end.
        try:
            status = self._path.stat()
        except OSError as error:
            raise Unavailable("broken", detail=f"{self._path}: {error.strerror}") from error
        if (status.st_dev, status.st_ino) != self._file:
            raise Unavailable("broken", detail=f"{self._path} was removed or replaced while in use")
        if self._writer is None:
            try:
                self._writer = self._connect("rw")
            except sqlite3.Error as error:
                raise failure(error, self._path) from error
        return self._writer

    def _abandon(self, connection: sqlite3.Connection) -> None:
        """Undo the batch; a connection that can't even do that is replaced at the next commit."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer = None
            with suppress(sqlite3.Error):
                connection.close()

    def _write_outbox(
        self, connection: sqlite3.Connection, batch: Batch, entries: Sequence[tuple[str, str, str]]
    ) -> int:
        ((last_seq, relayed_up_to),) = connection.execute("SELECT last_seq, relayed_up_to FROM identity").fetchall()
        now_us = epoch_us(self._clock())
        for fn, args, key in entries:
            digest = blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()
            fresh = connection.execute("INSERT INTO outbox_keys VALUES (?) ON CONFLICT DO NOTHING", (digest,)).rowcount
            if fresh:
                last_seq += 1
                connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", (last_seq, fn, args, key, now_us))
        for seq, reason in batch.refused:
            connection.execute(
                "INSERT INTO refused SELECT seq, fn, args, key, ?, ? FROM outbox WHERE seq = ?", (reason, now_us, seq)
            )
            connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
        if batch.relayed_up_to is not None:
            if batch.relayed_up_to > last_seq:
                raise relayed_beyond_recorded(batch.relayed_up_to, last_seq)
            relayed_up_to = max(relayed_up_to, batch.relayed_up_to)
            connection.execute("DELETE FROM outbox WHERE seq <= ?", (relayed_up_to,))
        connection.execute("UPDATE identity SET last_seq = ?, relayed_up_to = ?", (last_seq, relayed_up_to))
        return int(last_seq)

    def reader(self) -> SqliteReader:
        """A reader with connections of its own; the store closes those too when it closes."""
        reader = SqliteReader(self._path, busy_timeout_s=self._busy_timeout_s, flushed=self._flush)
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        """Close the store; the last connection to close copies the log back into the file."""
        super().close()
        while self._readers:
            self._readers.pop().close()
        with self._writing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._mark.close()


def _check_complete(path: Path, mark: tuple[str, int] | None, store_id: str, last_seq: int) -> None:
    """See that everything is there that was flushed. A file that was cut to nothing has become another, empty store."""
    if mark is not None and last_seq < (mark[1] if mark[0] == store_id else 1):
        raise Fatal(
            "store_lost",
            exit_code=78,
            detail=f"{path} has lost what it had written (up to entry {mark[1]}): move it away, the bot rebuilds its "
            "state from the database and the exchange",
        )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Find a damaged page now, while a person may be near, and not in the middle of a trade."""
    if path.stat().st_size > QUICK_CHECK_BYTES_MAX:
        return
    ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != "ok":
        raise Fatal(
            "store_corrupt",
            exit_code=78,
            detail=f"{path} is damaged ({' '.join(str(found).split())}): move it away, the bot rebuilds its state "
            "from the database and the exchange",
        )


def _migrate(connection: sqlite3.Connection, path: Path, clock: Callable[[], datetime]) -> None:
    while (version := stored_version(connection, path)) < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated the file while this one waited for the lock.
            if stored_version(connection, path) == version:
                if version == 0:
                    connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL, at_us INTEGER NOT NULL)")
                for step in MIGRATIONS[version]:
                    connection.execute(step)
                if version == 0:
                    connection.execute("INSERT INTO identity (one, store_id) VALUES (1, ?)", (os.urandom(16).hex(),))
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", (version + 1, epoch_us(clock())))
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
