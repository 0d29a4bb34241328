"""``tbh local``: up until it is told to stop, at the same address each time, whatever ended the one before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tbh.cli import local
from tbh.cli import main as cli_main
from tbh.infra.localdb import LocalDatabase
from tbh.infra.localstack import LocalStack
from tbh.infra.stackfolder import StackFolder
from tbh.ports import Fatal

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Done

DEADLINE_S = 20.0

PARENT = """
import os, subprocess, sys, time
with subprocess.Popen([sys.executable, "-m", "tbh", *sys.argv[1:], str(os.getpid())]) as child:
    time.sleep(60)
"""


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def up(cli: Cli, *options: object) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A stack of its own process in ``cli.folder / "s"``, and its ready line."""
    process = cli.start(
        *("local", "up", "--json", "--dir", cli.folder / "s", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return process, json.loads(line)


def asked(variables: dict[str, str]) -> httpx.Response:
    key = variables["SUPABASE_SERVICE_ROLE_KEY"]
    headers = {"apikey": key, "authorization": f"Bearer {key}"}
    if "TBH_OPERATOR_TOKEN" in variables:
        headers["x-operator-token"] = variables["TBH_OPERATOR_TOKEN"]
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.post(f"{variables['SUPABASE_URL']}/rest/v1/rpc/bot_admin_list", headers=headers, json={})


def exported(out: str) -> dict[str, str]:
    """What a shell has after ``eval``."""
    shown = subprocess.run(
        ["sh", "-c", f"{out}\nenv"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith(("SUPABASE", "TBH")))


@pytest.fixture(scope="module")
def module_cli(new_cli: Callable[[Path], Cli], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    made = new_cli(tmp_path_factory.mktemp("local"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def running(module_cli: Cli) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """One that runs throughout this module; a test that ends it starts one of its own."""
    return up(module_cli, "--port", 0)


@pytest.fixture(scope="module")
def where(running: object, module_cli: Cli) -> tuple[str, Path]:
    return "--dir", module_cli.folder / "s"


def test_ready_names_the_address_and_the_process(running: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    process, ready = running
    assert ready["url"] == f"http://127.0.0.1:{ready['port']}"
    assert ready["pid"] == process.pid
    assert not any("key" in name or "token" in name for name in ready)


def test_env_gives_a_shell_what_a_bot_needs_and_nothing_it_refuses(
    where: tuple[str, Path], call: Callable[..., Done]
) -> None:
    variables = exported(call("local", "env", *where).out)
    assert sorted(variables) == ["SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_URL"]
    answer = asked(variables)
    assert (answer.status_code, answer.json()["message"]) == (401, "operator_token_invalid")


def test_env_gives_an_operator_a_token_that_the_database_takes(
    where: tuple[str, Path], call: Callable[..., Done]
) -> None:
    answer = asked(exported(call("local", "env", "--operator", *where).out))
    assert (answer.status_code, answer.json()) == (200, {"bots": []})


def test_env_in_json_holds_the_same(where: tuple[str, Path], call: Callable[..., Done]) -> None:
    for option in ((), ("--operator",)):
        told = call("local", "env", *option, *where)
        assert call("local", "env", "--json", *option, *where).json == exported(told.out)


def test_the_anon_key_opens_no_function(where: tuple[str, Path]) -> None:
    folder = StackFolder(where[1])
    answer = asked(folder.environment(operator=True) | {"SUPABASE_SERVICE_ROLE_KEY": folder.keys.anon_key})
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")


def test_what_it_keeps_is_its_owners_alone(where: tuple[str, Path]) -> None:
    for path in (where[1], where[1] / "keys.json", where[1] / "database"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_one_in_the_same_folder_is_refused(
    running: tuple[subprocess.Popen[str], dict[str, Any]],
    where: tuple[str, Path],
    call: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tbh.infra.localdb.LOCK_PATIENCE_S", 0.05)
    assert str(running[0].pid) in call("local", "up", "--json", *where).refusal(75)
    assert asked(StackFolder(where[1]).environment(operator=True)).status_code == 200


def test_a_port_that_is_asked_for_and_taken_is_refused(
    running: tuple[subprocess.Popen[str], dict[str, Any]], call: Callable[..., Done], tmp_path: Path
) -> None:
    done = call("local", "up", "--json", "--dir", tmp_path / "other", "--port", running[1]["port"])
    assert str(running[1]["port"]) in done.refusal(78)
    assert StackFolder(tmp_path / "other").holder is None


def test_nothing_that_runs_is_told_as_such(call: Callable[..., Done], tmp_path: Path) -> None:
    assert "tbh local up" in call("local", "env", "--dir", tmp_path / "none").refusal(69)
    done = call("local", "down", "--dir", tmp_path / "none")
    assert (done.exit_code, done.errors) == (0, [])
    assert call("local", "down", "--json", "--dir", tmp_path / "none").json == {"stopped": None}
    assert not (tmp_path / "none").exists()


def test_the_default_folder_is_the_state_folder_of_the_user(
    call: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert f"{tmp_path}/xdg/tbh/local" in call("local", "env").refusal(69)
    for value in ("relative", ""):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert f"{tmp_path}/.local/state/tbh/local" in call("local", "env").refusal(69)


def test_it_survives_what_happens_to_it_and_keeps_its_address(cli: Cli, call: Callable[..., Done]) -> None:
    """One life after another in one folder: killed, stopped by a signal and by ``down``."""
    where = ("--dir", cli.folder / "s")
    process, first = up(cli, "--port", 0)
    keys = call("local", "env", "--json", "--operator", *where).json
    process.kill()
    process.wait()
    assert "doesn't run" in call("local", "env", *where).refusal(69)
    for number in (signal.SIGTERM, None):
        process, again = up(cli)
        assert again["url"] == first["url"]
        assert call("local", "env", "--json", "--operator", *where).json == keys
        assert asked(keys).status_code == 200
        if number is None:
            assert call("local", "down", "--json", *where).json == {"stopped": process.pid}
        else:
            process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert StackFolder(where[1]).holder is None


def test_a_postgresql_that_is_killed_is_started_again_in_place(cli: Cli, call: Callable[..., Done]) -> None:
    process, _ = up(cli, "--port", 0)
    folder = StackFolder(cli.folder / "s")
    variables = folder.environment(operator=True)
    assert asked(variables).status_code == 200
    os.kill(int((folder.database / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    assert process.stderr is not None
    assert "starting it again" in process.stderr.readline()
    eventually(lambda: asked(variables).status_code == 200)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 0


def test_it_ends_with_its_parent_when_that_is_asked_for(cli: Cli) -> None:
    arguments = ("local", "up", "--json", "--dir", cli.folder / "s", "--port", 0, "--with-parent")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, arguments)],
        env=cli.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert json.loads(parent.stdout.readline())["port"] > 0
        parent.kill()
    eventually(lambda: StackFolder(cli.folder / "s").holder is None)


def test_a_parent_that_went_before_it_began_ends_it_too(cli: Cli) -> None:
    process = cli.start(
        *("local", "up", "--json", "--dir", cli.folder / "s", "--port", 0, "--with-parent", 2**31 - 1),
        stdout=subprocess.PIPE,
    )
    assert process.wait(DEADLINE_S) == 0


def test_the_address_changes_only_when_somebody_else_has_it_and_that_is_remembered(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "address.json").write_text(json.dumps({"port": port, "ready": None}))
        with LocalStack(tmp_path, fast=True) as stack:
            assert (stack.moved_from, stack.port != port) == (port, True)
            moved_to = stack.port
    with LocalStack(tmp_path, fast=True) as stack:
        assert stack.port == moved_to
        assert stack.ready
        keys_lost(stack, tmp_path)


def keys_lost(stack: LocalStack, folder: Path) -> None:
    """New keys end the old operator token, and damaged ones are told."""
    old = stack.environment(operator=True)
    assert asked(old).status_code == 200
    (folder / "keys.json").write_text("{")
    with pytest.raises(Fatal, match="delete it"):
        _ = stack.keys
    (folder / "keys.json").unlink()
    stack.stop()
    stack.start()
    new = stack.environment(operator=True)
    assert asked(new).status_code == 200
    assert asked(new | {"TBH_OPERATOR_TOKEN": old["TBH_OPERATOR_TOKEN"]}).status_code == 401
    assert asked(new | {"SUPABASE_SERVICE_ROLE_KEY": old["SUPABASE_SERVICE_ROLE_KEY"]}).status_code == 401


def test_a_migration_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "20260101_bad.sql").write_text("select nonsense")
    stack = LocalStack(tmp_path / "s", migrations=tmp_path, fast=True)
    with pytest.raises(Fatal, match=r"20260101_bad\.sql"):
        stack.start()
    assert not stack.server.running
    assert stack.holder is None


def test_a_postgresql_that_keeps_ending_is_a_fault(
    call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "_POLL_S", 0.0)
    for name in ("start", "stop"):
        monkeypatch.setattr(LocalStack, name, lambda self: None)
    monkeypatch.setattr(LocalStack, "port", 1)
    monkeypatch.setattr(LocalDatabase, "start", lambda self: None)
    done = call("local", "up", "--dir", tmp_path / "s")
    assert done.exit_code == 70
    assert [line for line in done.errors if "starting it again" in line] == done.errors[:-1]
    assert len(done.errors) == local.RESTARTS_MAX + 1
    assert "postgres_keeps_ending" in done.errors[-1]


@pytest.mark.parametrize("command", [("local", "up"), ("local", "env"), ("db", "migrate")], ids=" ".join)
def test_without_the_extra_it_says_what_to_install(cli: Cli, command: tuple[str, str]) -> None:
    code = f"import sys; sys.modules['psycopg'] = None; from tbh.cli.main import main; sys.exit(main({list(command)}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 78
    assert done.stderr == (
        f"tbh: psycopg is not installed, which {'tbh db' if command[0] == 'db' else 'a local database'} needs:"
        " pip install 'tbh[local]'\n"
    )


@pytest.mark.parametrize(
    "command",
    [("local",), ("local", "up"), ("local", "env"), ("local", "down"), ("db",), ("db", "migrate"), ("db", "operator")],
    ids=" ".join,
)
def test_each_help_has_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.main([*command, "--help"]) == 0
    assert f"tbh {' '.join(command)}" in capsys.readouterr().out.partition("example")[2]
