"""A lock that is the kernel's (``flock``): it goes with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from tbh.ports import Fatal

_POLL_S = 0.02
_WRITING_S = 1.0


class LockFile:
    """The lock on one file, which names its holder's process for people to read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._file is not None

    def take(self, *, patience_s: float, what: str) -> None:
        """Take it, waiting so long for a holder that is about to go; does nothing when it is ours.

        ``what`` is what lies there, for people. Raises ``Fatal(75)`` when somebody keeps it, ``OSError`` when the file
        can't be made.
        """
        if self._file is not None:
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience_s
        while not _locked(file):
            if time.monotonic() > deadline:
                os.close(file)
                holder = holder_of(self._path) or "unknown"
                detail = f"the {what} in {self._path.parent} belongs to the running process {holder}: stop it first"
                raise Fatal("local_stack_in_use", exit_code=75, detail=detail)
            time.sleep(_POLL_S)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give it up; does nothing when it is not ours."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def holder_of(path: Path) -> int | None:
    """The process that holds the lock at ``path`` right now; None when nobody does, 0 when it can't be told who.

    Asking keeps nobody out: a shared lock is enough to see, and is gone at once.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    deadline = time.monotonic() + _WRITING_S
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                written = os.pread(file, 20, 0).decode(errors="replace").strip()
                pid = int(written) if written.isascii() and written.isdigit() else 0
                # Between taking the lock and writing the number, the file still names the one before, and by now
                # that number may be anybody's.
                if pid and _has_open(pid, os.fstat(file)):
                    return pid
                if time.monotonic() > deadline:
                    return 0
                time.sleep(_POLL_S)
            else:
                return None
    finally:
        os.close(file)


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    if not Path("/proc/self/fd").exists():  # no Linux: what is written has to do
        return True
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(each.stat(), wanted):
                    return True
    return False


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
