"""The embedded PostgreSQL: one server in a folder of its own, reached through a Unix socket there.

Nothing listens on the network, and there are no passwords: whoever may enter the folder may connect, and the folder is
its owner's alone (0700). The server is durable as any: ``fsync`` and ``synchronous_commit`` are on.

A ``kill -9`` at any instant leaves nothing that blocks the next start. The data folder is made under another name and
renamed when it is complete; the roles are made again on each start; a server whose parent died is ended by the kernel,
or by the next start; the lock on the folder goes with its process.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tbh.infra.localdb_process import (
    Child,
    command_of,
    end_servers_in,
    environment,
    give,
    last_complaint,
    major_version,
    wheel_binaries,
)
from tbh.infra.localdb_roles import AUTHENTICATOR, MIGRATOR, SUPERUSER, default_grants, role_statements
from tbh.infra.lockfile import LockFile
from tbh.ports import Fatal

DATABASE = "tbh"
LOCK_PATIENCE_S = 5.0
"""A predecessor that was told to end, or killed, needs a moment to be gone."""

START_PATIENCE_S = 60.0
"""Longer than any recovery of a database of this size takes."""

_SOCKET_PATH_MAX = 90
_LOG_BYTES_MAX = 1 << 20
_INITDB_TIMEOUT_S = 120
_POLL_S = 0.005
_IN_USE = ('lock file "postmaster.pid" already exists', "is still in use")
"""What PostgreSQL says when another one has the data."""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What a function refuses is no news for a log, and statements may carry tokens.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class LocalDatabase:
    """One PostgreSQL server under ``root``. ``start`` and ``stop`` may follow each other; ``close`` gives ``root`` up.

    ``bindir`` names other binaries than the wheel's. ``fast`` gives durability up for speed: for tests.
    """

    def __init__(self, root: str | os.PathLike[str], *, bindir: Path | None = None, fast: bool = False) -> None:
        self.root = Path(root).absolute()
        self.data = self.root / "data"
        self.log = self.root / "postgres.log"
        self._bindir = bindir
        self._settings = _SETTINGS | (_FAST if fast else {})
        self._lock = LockFile(self.root / "lock")
        self._child: Child | None = None
        self._sockets = self.root / "socket"

    def start(self) -> None:
        """Start the server and wait until it serves; does nothing while it runs.

        Raises ``Fatal(75)`` when another process has the folder, ``Fatal(78)`` when it can't be used or PostgreSQL is
        missing, ``Fatal(70)`` when PostgreSQL does not start.
        """
        if self.running:
            return
        try:
            self._prepare_root()
            self._lock.take(patience_s=LOCK_PATIENCE_S, what="local database")
            bindir = self._binaries()
            if not self.data.exists():
                self._initialise(bindir)
            self._launch_alone(bindir)
            self._bootstrap()
        except OSError as error:
            self.close()
            where = error.filename or self.root
            detail = f"{where}: {error.strerror}: name a folder that can be written"
            raise Fatal("local_database_unusable", exit_code=78, detail=detail) from error
        except psycopg.Error as error:
            self.close()
            detail = f"{' '.join(str(error).split())}; see {self.log}"
            raise Fatal("local_database_not_prepared", detail=detail) from error
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """End the server; the folder stays ours, and ``start`` goes on from here."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def close(self) -> None:
        """End the server and give the folder up."""
        self.stop()
        if self._lock.held:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._child is not None and not self._child.ended.is_set()

    @property
    def ended(self) -> threading.Event | None:
        """Set once the server of the latest ``start`` is gone; None after ``stop``."""
        return None if self._child is None else self._child.ended

    @property
    def pid(self) -> int | None:
        """The server's process, None while there is none."""
        return self._child.pid if self._child is not None and self.running else None

    def dsn(self, user: str = AUTHENTICATOR, database: str = DATABASE) -> str:
        """How to reach it as ``user``: a libpq connection string. There is no password in it, and ``PGOPTIONS`` of the
        environment does not count."""
        return make_conninfo(host=str(self._sockets), port=5432, user=user, dbname=database, options="")

    def create_database(self, name: str) -> None:
        """A new, empty database as the platform hands it out: the migrator's own."""
        with psycopg.connect(self.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
            made = sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(MIGRATOR))
            connection.execute(made)

    def _prepare_root(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.root.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            detail = f"{self.root} is open to others, and who may enter may connect: chmod 700 it, or name another"
            raise Fatal("local_database_open", exit_code=78, detail=detail)

    def _binaries(self) -> Path:
        """The named binaries, or of the wheel's the newest, or those that made the data."""
        try:
            made_by = int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            made_by = None
        known = [self._bindir] if self._bindir is not None else wheel_binaries()
        for bindir in known:
            if made_by is None or major_version(bindir) == made_by:
                return bindir
        detail = f"{self.data} was made by PostgreSQL {made_by}, which is not installed: install it, or move the data"
        raise Fatal("postgres_version_absent", exit_code=78, detail=detail)

    def _initialise(self, bindir: Path) -> None:
        self._sweep()
        fresh = Path(tempfile.mkdtemp(prefix="data.new-", dir=self.root))
        try:
            give(fresh)
            options = ["-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
            if self._settings.get("fsync") == "off":
                options.append("--no-sync")
            made = subprocess.run(  # noqa: S603 - our own command line
                command_of(bindir / "initdb", *options),
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                timeout=_INITDB_TIMEOUT_S,
                check=False,
                start_new_session=True,
            )
            if made.returncode != 0:
                why = last_complaint(made.stderr)
                if "look up effective user ID" in why:
                    why = f"PostgreSQL runs only as a user that /etc/passwd names, and {os.geteuid()} is none"
                raise Fatal("local_database_not_made", detail=f"{self.root}: {why}")
            fresh.rename(self.data)
        except subprocess.TimeoutExpired as error:
            raise Fatal("local_database_not_made", detail=f"{self.root}: no end after {error.timeout:.0f} s") from error
        finally:
            # Once more: the initdb of a parent that was killed may have been writing while its folder was emptied.
            self._sweep()

    def _sweep(self) -> None:
        for unfinished in self.root.glob("data.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def _launch_alone(self, bindir: Path) -> None:
        """A server that was just being started when its parent was killed can't be seen yet, and may come first."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            end_servers_in(self.data)
            try:
                return self._launch(bindir)
            except Fatal as failure:
                in_use = any(words in failure.detail for words in _IN_USE)
                if not in_use or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)

    def _launch(self, bindir: Path) -> None:
        self._prepare_sockets()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = command_of(bindir / "postgres", "-D", str(self.data), "-k", str(self._sockets), *options)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_name("postgres.log.1"))
        with self.log.open("ab") as log:
            said_before = log.tell()
            child = Child(command, log=log)
        self._child = child
        deadline = time.monotonic() + START_PATIENCE_S
        while not self._serves(child.pid):
            if child.ended.wait(_POLL_S):
                said = self.log.read_bytes()[said_before:].decode(errors="replace")
                raise Fatal("postgres_not_started", detail=f"{last_complaint(said)}; its log is {self.log}")
            if time.monotonic() > deadline:
                raise Fatal("postgres_not_started", detail=f"no answer in {START_PATIENCE_S:.0f} s; see {self.log}")

    def _prepare_sockets(self) -> None:
        """A private folder for the socket, short enough a path for one. What a killed server left there is cleared:
        nobody else is on this data."""
        if len(os.fsencode(self.root / "socket")) <= _SOCKET_PATH_MAX:
            self._sockets = self.root / "socket"
            self._sockets.mkdir(mode=0o700, exist_ok=True)
        else:
            self._sockets = self._borrowed_sockets()
        for left in self._sockets.iterdir():
            left.unlink()

    def _borrowed_sockets(self) -> Path:
        """A folder below /tmp, the same as last time if it is still ours alone."""
        note = self.root / "socket.path"
        if note.exists():
            known = Path(note.read_text())
            with suppress(OSError):
                found = known.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
                    return known
        fresh = Path(tempfile.mkdtemp(prefix="tbh-", dir="/tmp"))
        note.write_text(str(fresh))
        return fresh

    def _serves(self, pid: int) -> bool:
        """Whether the server says so itself, in the last line of its pid file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _bootstrap(self) -> None:
        """The roles, then the database; what is there already stays. New databases are copies of ``template1``."""
        with psycopg.connect(self.dsn(SUPERUSER, "template1")) as connection:
            for statement in (*role_statements(), *default_grants()):
                connection.execute(statement)
            found = connection.execute("select from pg_database where datname = %s", (DATABASE,)).fetchone()
        if found is None:
            self.create_database(DATABASE)
