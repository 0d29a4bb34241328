"""The container's entry point, run as it is, with stubs for ``python`` and ``newrelic-admin`` on PATH."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TIMEOUT_S = 20
LICENCE_KEY = "0123456789abcdef0123456789abcdef0123NRAL"
STUB = """#!/bin/sh
echo "program=${0##*/}"
for argument in "$@"; do echo "argument=$argument"; done
echo "log_dir=$BOT_LOG_DIR"
echo "log_file=$BOT_LOG_FILE"
echo "config=${NEW_RELIC_CONFIG_FILE-unset}"
exit "${STUB_EXIT_CODE:-0}"
"""
# `sleep` runs in the background, because a shell acts on a trapped signal only between commands.
WAITING_STUB = """#!/bin/sh
echo "pid=$$"
sleep 60 >/dev/null 2>&1 &
child=$!
trap 'kill "$child"; echo "stopped by SIGTERM"; exit 43' TERM
echo ready
wait
"""


@dataclass(frozen=True)
class Result:
    exit_code: int
    lines: list[str]
    errors: str


@dataclass(frozen=True)
class Container:
    """A working folder with stubs, and the environment that sees nothing else."""

    script: Path
    folder: Path

    def stub(self, name: str, text: str = STUB) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def environment(self, **variables: str) -> dict[str, str]:
        defaults = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "BOT_LOG_DIR": str(self.folder / "logs")}
        return defaults | variables

    def run(self, *arguments: str, **variables: str) -> Result:
        done = subprocess.run(
            [str(self.script), *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Result(done.returncode, done.stdout.splitlines(), done.stderr)


@pytest.fixture
def container(repository: Path, tmp_path: Path) -> Container:
    (tmp_path / "bin").mkdir()
    made = Container(script=repository / "docker-entrypoint.sh", folder=tmp_path)
    made.stub("python")
    made.stub("newrelic-admin")
    return made


def test_without_a_licence_key_the_bot_runs_alone(container: Container) -> None:
    result = container.run()
    assert result.lines[:3] == ["program=python", "argument=-m", "argument=tbh.actors.main"]


def test_an_empty_licence_key_is_no_key(container: Container) -> None:
    assert container.run(NEW_RELIC_LICENSE_KEY="").lines[0] == "program=python"


def test_with_a_licence_key_the_bot_runs_under_the_agent(container: Container) -> None:
    result = container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY)
    assert result.lines[:5] == [
        "program=newrelic-admin",
        "argument=run-program",
        "argument=python",
        "argument=-m",
        "argument=tbh.actors.main",
    ]


def test_the_agent_takes_newrelic_ini_when_it_is_there(container: Container) -> None:
    (container.folder / "newrelic.ini").touch()
    assert "config=newrelic.ini" in container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY).lines


def test_the_agent_gets_no_configuration_that_does_not_exist(container: Container) -> None:
    assert "config=unset" in container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY).lines


def test_a_configuration_named_in_the_environment_stands(container: Container) -> None:
    (container.folder / "newrelic.ini").touch()
    result = container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY, NEW_RELIC_CONFIG_FILE="/etc/agent.ini")
    assert "config=/etc/agent.ini" in result.lines


def test_a_licence_key_without_the_agent_is_refused_in_one_line(container: Container) -> None:
    (container.folder / "bin" / "newrelic-admin").unlink()
    result = container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY)
    assert result.exit_code == 78
    assert result.errors.count("\n") == 1
    assert "newrelic-admin" in result.errors


@pytest.mark.parametrize("key", ["", LICENCE_KEY])
def test_the_log_file_lies_in_the_log_folder(container: Container, key: str) -> None:
    logs = container.folder / "deep" / "logs"
    result = container.run(NEW_RELIC_LICENSE_KEY=key, BOT_LOG_DIR=str(logs))
    assert {f"log_dir={logs}", f"log_file={logs}/tradebothub.log"} <= set(result.lines)
    assert logs.is_dir()


def test_a_log_file_of_its_own_name_stands(container: Container) -> None:
    file = container.folder / "other.log"
    assert f"log_file={file}" in container.run(BOT_LOG_FILE=str(file)).lines


def test_the_default_log_folder_is_the_images(repository: Path) -> None:
    assert ': "${BOT_LOG_DIR:=/app/logs}"' in (repository / "docker-entrypoint.sh").read_text()


def test_arguments_replace_the_command_word_by_word(container: Container) -> None:
    container.stub("tbh")
    result = container.run("tbh", "demo", "--dir", "a folder", "")
    assert result.lines[:5] == ["program=tbh", "argument=demo", "argument=--dir", "argument=a folder", "argument="]


@pytest.mark.parametrize("key", ["", LICENCE_KEY])
@pytest.mark.parametrize("code", [0, 1, 70, 75])
def test_the_exit_code_is_the_bots(container: Container, key: str, code: int) -> None:
    assert container.run(NEW_RELIC_LICENSE_KEY=key, STUB_EXIT_CODE=str(code)).exit_code == code


@pytest.mark.parametrize(
    "obstruct",
    [
        pytest.param(lambda logs: logs.write_text("a file"), id="folder-is-a-file"),
        pytest.param(lambda logs: (logs / "tradebothub.log").mkdir(parents=True), id="file-is-a-folder"),
    ],
)
def test_logs_that_cannot_be_written_are_refused_in_one_line(
    container: Container, obstruct: Callable[[Path], object]
) -> None:
    logs = container.folder / "blocked"
    obstruct(logs)
    result = container.run(BOT_LOG_DIR=str(logs))
    assert (result.exit_code, result.lines) == (78, [])
    assert result.errors.count("\n") == 1
    assert str(logs) in result.errors


def test_the_licence_key_is_never_printed(container: Container) -> None:
    fine = container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY)
    refused = container.run(NEW_RELIC_LICENSE_KEY=LICENCE_KEY, BOT_LOG_DIR="/dev/null/logs")
    assert refused.exit_code == 78
    assert LICENCE_KEY not in "\n".join([*fine.lines, fine.errors, *refused.lines, refused.errors])


@pytest.mark.parametrize(("key", "program"), [("", "python"), (LICENCE_KEY, "newrelic-admin")])
def test_sigterm_reaches_the_bot_itself(container: Container, key: str, program: str) -> None:
    container.stub(program, WAITING_STUB)
    with subprocess.Popen(
        [str(container.script)],
        cwd=container.folder,
        env=container.environment(NEW_RELIC_LICENSE_KEY=key),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            # The bot has the entry point's own process id: no shell stands between it and the container's signals.
            assert process.stdout.readline() == f"pid={process.pid}\n"
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, signal.SIGTERM)
            assert process.stdout.readline() == "stopped by SIGTERM\n"
            assert process.wait(timeout=TIMEOUT_S) == 43
        finally:
            process.kill()


def test_the_script_is_executable_and_plain_sh(repository: Path) -> None:
    script = repository / "docker-entrypoint.sh"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["/bin/sh", "-n", str(script)], check=False, timeout=TIMEOUT_S).returncode == 0
