"""The state directory: what one bot keeps on a disk, and the lock that makes it one process's.

The lock is the kernel's (``flock``), so it goes with its process, however that ends, and a ``kill -9`` leaves nothing
that blocks the next start. Where the files are, and whether the operator has killed the bot by a marker file, any
process may ask without the lock (``StatePaths``).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tbh.ports import Fatal, Unavailable

BOOTS_MAX = 32


class StatePaths:
    """Where things are under the state directory ``root``."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.store = self.root / "store.sqlite"
        self.token = self.root / "token.sealed"
        self.context = self.root / "context.sealed"
        self.database = self.root / "database"
        self.paper = self.root / "paper.sqlite"
        self.events = self.root / "events.jsonl"
        self.logs = self.root / "logs"
        self.log_file = self.logs / "tradebothub.log"
        self.status = self.root / "status.json"
        self.lock = self.root / "lock"
        self.boots = self.root / "boots.json"
        self.home = self.root / "home.json"
        self.kill = self.root / "kill"

    @property
    def killed(self) -> bool:
        """Whether ``tbh bot control ... kill --local`` has stopped this bot."""
        return self.kill.exists()

    def mark_killed(self, reason: str) -> None:
        """Stop the bot that lives here, also without a database; it stays stopped until ``clear_killed``.

        Works on a full disk: the empty file is the order, the reason in it is for people. ``OSError`` if it can't be.
        """
        self.kill.touch(mode=0o600)
        with suppress(OSError):
            self.kill.write_text(reason + "\n")

    def clear_killed(self) -> None:
        """Let the bot trade again."""
        self.kill.unlink(missing_ok=True)


class StateDir(StatePaths):
    """A state directory that this process owns until ``close``.

    ``boot_id`` is new for each opening. ``previous_boot_ids`` are those of earlier boots that may still hold the
    bot's lease, newest first: a process may die between taking a boot id and claiming with it, so the newest alone
    would not always be the holder.

    That they are gone is proved by their lock, which is now this process's. So they are offered only where it is the
    same lock: ``home.json`` keeps the host, the folder and the lock file (device and inode) of the last opening. In
    a copy of the folder, whose original may be running, they are not offered, and the start waits for the lease like
    any rival's. A renamed folder is the same one. One that was moved to another disk or host, mounted anew under
    another device number, or used from a container with another host name waits for one lease too: the safe side.
    """

    def __init__(self, root: Path, lock_fd: int) -> None:
        super().__init__(root)
        self._lock_fd: int | None = lock_fd
        self.boot_id = os.urandom(16).hex()
        here = _home(root, lock_fd)
        at_home = _text(self.home) == here
        self.previous_boot_ids = self._read_boots() if at_home else ()
        # A copy must have lost the original's boots before it may count as at home.
        self._write_boots((self.boot_id, *self.previous_boot_ids)[:BOOTS_MAX])
        if not at_home:
            _replace(self.home, here)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StateDir:
        """Make the folder if need be (for its owner alone) and lock it.

        Raises ``Fatal(75)`` when another process has it, ``Fatal(78)`` when it is no folder or can't be written.
        """
        root = Path(path).absolute()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(root, error) from error
        try:
            _lock(lock_fd, root)
            return cls(root, lock_fd)
        except OSError as error:
            os.close(lock_fd)
            raise _unusable(root, error) from error
        except Fatal:
            os.close(lock_fd)
            raise

    @property
    def previous_boot_id(self) -> str | None:
        """The boot before this one, None at the first."""
        return self.previous_boot_ids[0] if self.previous_boot_ids else None

    def lease_claimed(self) -> None:
        """The lease is this boot's: earlier ids can't hold it any more."""
        self._write_boots((self.boot_id,))

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace ``status.json`` at once: a reader sees the former one or this one. ``Unavailable`` if it can't be.

        It is not flushed to the disk, since nothing is ever decided from it.
        """
        try:
            _replace(self.status, json.dumps(status, indent=1, default=str) + "\n", flush=False)
        except OSError as error:
            reason = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "broken"
            raise Unavailable(reason, detail=f"{self.status}: {error.strerror}") from error

    def close(self) -> None:
        """Give the directory up."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read_boots(self) -> tuple[str, ...]:
        try:
            found = json.loads(self.boots.read_text())
        except FileNotFoundError:
            return ()
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(boot, str) for boot in found):
            raise Fatal(
                "state_dir_damaged",
                exit_code=78,
                detail=f"{self.boots} is not a list of boot ids: delete it; the start then waits for the lease to end",
            )
        return tuple(found[:BOOTS_MAX])

    def _write_boots(self, boots: tuple[str, ...]) -> None:
        _replace(self.boots, json.dumps(boots) + "\n")


def _lock(lock_fd: int, root: Path) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(lock_fd, 20, 0).decode(errors="replace").strip() or "unknown"
        raise Fatal(
            "state_dir_in_use",
            exit_code=75,
            detail=f"{root} belongs to the running process {pid}: stop it, or give this bot another state directory",
        ) from error
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)


def _home(root: Path, lock_fd: int) -> str:
    """Where the folder and its lock are. The lock's inode can't be another file's while a process holds it open."""
    folder, lock = root.stat(), os.fstat(lock_fd)
    home = {
        "host": os.uname().nodename,
        "folder": [folder.st_dev, folder.st_ino],
        "lock": [lock.st_dev, lock.st_ino],
    }
    return json.dumps(home) + "\n"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _unusable(root: Path, error: OSError) -> Fatal:
    return Fatal(
        "state_dir_unusable",
        exit_code=78,
        detail=f"{root}: {error.strerror}: name a folder that can be written (--dir, or TBH_STATE_DIR)",
    )


def _replace(path: Path, text: str, *, flush: bool = True) -> None:
    """Write ``path`` so that at any instant it holds the old text or the new one."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w") as file:
        file.write(text)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    if flush:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
