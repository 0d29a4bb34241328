"""A full disk, as the limit on a file's size that the kernel holds against the command: one line, and nothing lost."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tbh.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
BARS = 300
LARGE = 8_000_000
"""Bytes that no file of such a short replay reaches."""


@dataclass(frozen=True)
class Ended:
    exit_code: int
    out: str
    errors: list[str]

    def line(self) -> str:
        """The one line on stderr."""
        assert len(self.errors) == 1, self
        assert "Traceback" not in self.errors[0]
        return self.errors[0]


def arguments(state: Path, host: str) -> list[str]:
    options = ("--json", "--database", "memory", "--host", host, "--dir", str(state))
    return ["demo", "--bars", str(BARS), *options]


def demo(folder: Path, *, file_bytes_max: int = LARGE, host: str = "threads") -> Ended:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "tbh", *arguments(folder / "state", host)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder)},
        preexec_fn=limit,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout, done.stderr.splitlines())


def demo_with_room(folder: Path, host: str = "threads") -> Ended:
    """The same without a limit, which needs no process of its own."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        exit_code = main(arguments(folder / "state", host))
    return Ended(exit_code, out.getvalue(), errors.getvalue().splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(demo_with_room(tmp_path_factory.mktemp("undisturbed")).out)
    assert len(result["trades"]) >= 5
    return result


def assert_goes_on_as_if_nothing_had_been(folder: Path, undisturbed: dict[str, Any], host: str = "threads") -> None:
    resumed = demo_with_room(folder, host)
    assert (resumed.exit_code, resumed.errors) == (0, [])
    result = json.loads(resumed.out)
    for name in ("trades", "equity", "position", "fills"):
        assert result[name] == undisturbed[name]


@pytest.mark.parametrize("file_bytes_max", [0, 100, 20_000, 60_000])
def test_a_disk_that_is_full_from_the_start_is_refused(
    file_bytes_max: int, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    ended = demo(tmp_path, file_bytes_max=file_bytes_max)
    assert (ended.exit_code, ended.out) == (78, "")
    assert str(tmp_path / "state") in ended.line()
    assert_goes_on_as_if_nothing_had_been(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("file_bytes_max", "host"),
    # The log of a start fills 100 kB on the simulator, where virtual hours pass while the replay waits for room.
    [
        (120_000, "threads"),
        (1_000_000, "threads"),
        (1_050_000, "threads"),
        (1_500_000, "threads"),
        (1_500_000, "simulator"),
    ],
)
def test_a_disk_that_fills_up_stops_the_bot_which_then_goes_on_with_the_same_trades(
    file_bytes_max: int, host: str, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    ended = demo(tmp_path, file_bytes_max=file_bytes_max, host=host)
    assert ended.exit_code == 70
    assert "the store can't be written at bar " in ended.line()
    assert "make room on the disk and start again with the same --dir" in ended.line()
    result = json.loads(ended.out)
    assert result["bars"] < BARS
    assert result["exit_code"] == 70
    assert_goes_on_as_if_nothing_had_been(tmp_path, undisturbed, host)


def test_a_log_that_has_no_room_does_not_stop_the_bot(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    (tmp_path / "state" / "logs" / "tradebothub.log").write_bytes(b"\n" * LARGE)
    ended = demo(tmp_path)
    assert ended.exit_code == 0
    assert ended.line().startswith("tbh: warning: the log ")
    assert json.loads(ended.out)["trades"] == undisturbed["trades"]
