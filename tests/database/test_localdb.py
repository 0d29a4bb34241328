"""The embedded PostgreSQL starts whatever was done to it, serves its owner alone, and leaves nothing running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tbh.infra import localdb
from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_process import command_of, end_servers_in, last_complaint, major_version, wheel_binaries
from tbh.infra.localdb_roles import AUTHENTICATOR, MIGRATOR, SUPERUSER
from tbh.infra.lockfile import holder_of
from tbh.ports import Fatal

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0

RUN = """
import sys, time
from tbh.infra.localdb import LocalDatabase
database = LocalDatabase(sys.argv[1])
database.start()
print(database.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's must fit into 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="tbh-pg-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A database that has run before, and has a table."""
    made = Path(tempfile.mkdtemp(prefix="tbh-pg-", dir="/tmp"))
    with LocalDatabase(made / "pg", fast=True) as database, psycopg.connect(database.dsn(MIGRATOR)) as connection:
        connection.execute("create table public.rows (n int)")
    yield made / "pg"
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def parent() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts the database in a process that can be killed."""
    started: list[subprocess.Popen[str]] = []

    def start(root: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(root)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def servers_in(root: Path) -> list[int]:
    """Whatever works in a folder under ``root``, or was told to."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            named = f"{(entry / 'cwd').readlink()}\0{(entry / 'cmdline').read_text()}"
            if (entry / "comm").read_text().strip() in ("postgres", "initdb") and str(root) in named:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def show(database: LocalDatabase, name: str) -> str:
    with psycopg.connect(database.dsn(SUPERUSER)) as connection:
        row = connection.execute("select current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_it_has_the_roles_of_the_platform(each_server: LocalDatabase) -> None:
    with psycopg.connect(each_server.dsn(SUPERUSER)) as connection:
        rows = connection.execute(
            "select rolname, rolsuper, rolcanlogin, rolinherit, rolbypassrls, rolcreaterole from pg_roles"
            " where rolname !~ '^pg_' order by 1"
        ).fetchall()
        granted = connection.execute(
            "select roleid::regrole::text from pg_auth_members where member = 'authenticator'::regrole order by 1"
        ).fetchall()
        owner = connection.execute(
            "select datdba::regrole::text from pg_database where datname = current_database()"
        ).fetchone()
    assert rows == [
        ("anon", False, False, False, False, False),
        ("authenticated", False, False, False, False, False),
        ("authenticator", False, True, False, False, False),
        ("postgres", True, True, True, True, True),
        ("service_role", False, False, False, True, False),
        ("tbh_migrator", False, True, True, True, True),
    ]
    assert granted == [("anon",), ("authenticated",), ("service_role",)]
    assert owner == (MIGRATOR,)
    with psycopg.connect(each_server.dsn(AUTHENTICATOR)) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("8s",)


def test_what_a_migration_makes_is_open_to_the_api_until_it_revokes(server: LocalDatabase) -> None:
    server.create_database("granted")
    with psycopg.connect(server.dsn(MIGRATOR, "granted")) as connection:
        connection.execute("create function public.f() returns int language sql as 'select 1'")
        connection.execute("revoke all on function public.f() from public")
        row = connection.execute("select has_function_privilege('anon', 'public.f()', 'execute')").fetchone()
    assert row == (True,)


def test_it_is_durable_unless_speed_is_asked_for(used: Path) -> None:
    with LocalDatabase(used) as database:
        assert [show(database, name) for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    with LocalDatabase(used, fast=True) as database:
        assert show(database, "fsync") == "off"


def test_only_its_owner_can_reach_it(used: Path) -> None:
    with LocalDatabase(used) as database:
        assert show(database, "listen_addresses") == ""
        for path in (used, used / "socket", used / "data", used / "socket" / ".s.PGSQL.5432"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(Fatal, match="chmod 700") as refused:
        LocalDatabase(folder).start()
    assert refused.value.exit_code == 78


def test_it_sees_no_secret_of_ours(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "hunter2")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    with LocalDatabase(used) as database:
        environment = Path(f"/proc/{database.pid}/environ").read_text()
    assert "hunter2" not in environment
    assert "PGOPTIONS" not in environment


def test_stop_and_start_go_on_with_the_same_data_and_keep_the_folder(used: Path) -> None:
    with LocalDatabase(used) as database:
        with psycopg.connect(database.dsn(MIGRATOR)) as connection:
            connection.execute("insert into public.rows values (1)")
        database.stop()
        assert not database.running
        assert holder_of(used / "lock") == os.getpid()
        assert servers_in(used) == []
        database.start()
        with psycopg.connect(database.dsn(MIGRATOR)) as connection:
            assert connection.execute("delete from public.rows").rowcount == 1
    assert servers_in(used) == []
    assert holder_of(used / "lock") is None


def test_it_outlives_the_thread_that_started_it(used: Path) -> None:
    database = LocalDatabase(used)
    starter = threading.Thread(target=database.start)
    starter.start()
    starter.join()
    assert database.ended is not None
    assert not database.ended.wait(0.2)
    assert show(database, "server_version")
    database.close()


def test_what_was_committed_outlives_a_kill_of_its_parent(
    used: Path, parent: Callable[[Path], subprocess.Popen[str]]
) -> None:
    for n in range(2):
        process = parent(used)
        assert process.stdout is not None
        server = int(process.stdout.readline())
        with psycopg.connect(LocalDatabase(used).dsn(MIGRATOR)) as connection:
            connection.execute("insert into public.rows values (%s)", (n,))
        if n == 1:
            os.kill(server, signal.SIGKILL)
        process.kill()
        process.wait()
    with LocalDatabase(used) as database, psycopg.connect(database.dsn(MIGRATOR)) as connection:
        assert connection.execute("delete from public.rows").rowcount == 2


def test_its_server_ends_with_a_parent_that_is_killed(
    used: Path, parent: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = parent(used)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    eventually(lambda: not servers_in(used))


def test_a_killed_server_is_noticed_and_starts_again(used: Path) -> None:
    with LocalDatabase(used) as database:
        assert database.pid is not None
        assert database.ended is not None
        os.kill(database.pid, signal.SIGKILL)
        assert database.ended.wait(DEADLINE_S)
        assert not database.running
        database.start()
        assert show(database, "server_version")


@pytest.mark.parametrize("begun", ["data.new-*/base/1", "data"])
def test_a_first_start_that_is_killed_blocks_nothing(
    folder: Path, begun: str, parent: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = parent(folder / "pg")
    eventually(lambda: any((folder / "pg").glob(begun)))
    process.kill()
    process.wait()
    with LocalDatabase(folder / "pg", fast=True) as database:
        assert show(database, "server_version")
    eventually(lambda: not servers_in(folder))
    assert not list((folder / "pg").glob("data.new-*"))


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "seen too late"])
def test_a_server_that_still_runs_on_the_data_is_ended_first(
    used: Path, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too late, when it was only just starting as the data was looked at."""
    looks = iter([seen])
    end = end_servers_in
    monkeypatch.setattr(localdb, "end_servers_in", lambda data: end(data) if next(looks, True) else None)
    (used / "socket").mkdir(mode=0o700, exist_ok=True)
    arguments = ["-D", str(used / "data"), "-k", str(used / "socket"), "-c", "listen_addresses="]
    with subprocess.Popen(
        command_of(wheel_binaries()[0] / "postgres", *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    ) as left:
        eventually((used / "data" / "postmaster.pid").exists)
        with LocalDatabase(used) as database:
            assert left.wait(DEADLINE_S) is not None
            assert database.pid != left.pid
            assert show(database, "server_version")


def test_a_pid_file_that_names_somebody_elses_process_does_not_block(used: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen(command_of(Path(sleep), "60")) as stranger:
        lines = [str(stranger.pid), str(used / "data"), "1", "5432", str(used / "socket"), "", "1 1", "ready"]
        (used / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        with LocalDatabase(used) as database:
            assert show(database, "server_version")
        assert stranger.poll() is None
        stranger.kill()


def test_a_second_one_on_the_same_folder_is_refused_and_told_who_has_it(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localdb, "LOCK_PATIENCE_S", 0.05)
    with LocalDatabase(used) as first:
        with pytest.raises(Fatal, match=f"process {os.getpid()}") as refused:
            LocalDatabase(used).start()
        assert refused.value.exit_code == 75
        assert show(first, "server_version")


def test_a_path_too_long_for_a_socket_gets_a_short_one_and_gives_it_back(
    folder: Path, parent: Callable[[Path], subprocess.Popen[str]]
) -> None:
    deep = folder / ("x" * 90)
    killed = parent(deep)
    assert killed.stdout is not None
    assert killed.stdout.readline()
    socket = Path((deep / "socket.path").read_text())
    assert socket.parent == Path("/tmp")
    assert socket.stat().st_mode & 0o077 == 0
    killed.kill()
    killed.wait()
    with LocalDatabase(deep) as database:
        for _ in range(2):
            assert show(database, "unix_socket_directories") == str(socket)
            database.stop()
            database.start()
    assert not socket.exists()


def test_data_of_a_postgresql_that_is_not_here_is_refused(folder: Path) -> None:
    root = folder / "pg"
    (root / "data").mkdir(parents=True)
    root.chmod(0o700)
    (root / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(Fatal, match="PostgreSQL 12") as refused:
        LocalDatabase(root).start()
    assert refused.value.exit_code == 78


def test_data_is_opened_by_the_postgresql_that_made_it(folder: Path) -> None:
    older = next(bindir for bindir in wheel_binaries() if major_version(bindir) == 16)
    with LocalDatabase(folder / "pg", bindir=older, fast=True):
        pass
    with LocalDatabase(folder / "pg", fast=True) as database:
        assert show(database, "server_version").startswith("16.")


def test_what_keeps_it_from_starting_is_told_in_one_line(used: Path) -> None:
    settings = used / "data" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("nonsense = 1\n")
    try:
        with pytest.raises(Fatal, match="contains errors") as failed:
            LocalDatabase(used).start()
        assert failed.value.exit_code == 70
        assert "\n" not in str(failed.value)
        assert holder_of(used / "lock") is None
    finally:
        settings.write_text(before)


def test_a_folder_that_cannot_be_made_is_told_in_one_line() -> None:
    with pytest.raises(Fatal, match="/proc/nowhere") as refused:
        LocalDatabase("/proc/nowhere").start()
    assert refused.value.exit_code == 78


def test_binaries_that_are_not_there_are_told(folder: Path) -> None:
    with pytest.raises(Fatal) as failed:
        LocalDatabase(folder / "pg", bindir=folder / "bin").start()
    assert str(folder) in str(failed.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "2026-01-01 00:00:00.000 UTC [7] LOG:  starting\n2026-01-01 00:00:00.000 UTC [7] FATAL:  no room\n",
            "no room",
        ),
        ("postgres: error: bad\nTry --help\n", "bad"),
        ("setpriv: no such user\n", "setpriv: no such user"),
        ("", "it said nothing"),
    ],
)
def test_the_complaint_is_the_line_that_says_what_is_wrong(said: str, told: str) -> None:
    assert last_complaint(said) == told
