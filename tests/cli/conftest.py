"""The command line as its users have it: a process of its own, with nothing of ours in its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tbh.cli.main import main
from tbh.infra.simmarket import simulated_market

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
HEADER = "timestamp,open,high,low,close,volume"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    exit_code: int
    out: str
    errors: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refusal(self, exit_code: int) -> str:
        """The one line on stderr of a command that refused."""
        assert (self.exit_code, self.out, len(self.errors)) == (exit_code, "", 1), self
        assert "Traceback" not in self.errors[0]
        return self.errors[0].removeprefix("tbh: ")


@dataclass(frozen=True)
class Cli:
    """Runs ``python -m`` commands in ``folder``; temporary files go to ``folder / "tmp"``."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(REPOSITORY),
        } | variables

    def start(self, *arguments: object, module: str = "tbh", **options: Any) -> subprocess.Popen[str]:
        if arguments[:1] == ("demo",) and "--database" not in arguments:
            # What most of these tests claim has nothing to do with a database, and one takes a second to start.
            arguments = (*arguments, "--database", "memory")
        environ = self.environment(**options.pop("environ", {}))
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)], cwd=self.folder, env=environ, text=True, **options
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Nothing that a failed test has started may outlive it."""
        for process in self.started:
            process.kill()
            process.communicate()
        self.started.clear()

    def run(self, *arguments: object, module: str = "tbh", environ: Mapping[str, str] | None = None) -> Done:
        process = self.start(
            *arguments,
            module=module,
            environ=dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            self.end()
        return Done(process.returncode, out, errors.splitlines())

    def leftovers(self) -> list[str]:
        """What a command has left in the temporary folder."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())


@pytest.fixture(scope="session")
def new_cli() -> Callable[[Path], Cli]:
    """A command line in a folder of its own, for fixtures that outlive one test."""

    def make(folder: Path) -> Cli:
        (folder / "tmp").mkdir()
        return Cli(folder)

    return make


@pytest.fixture
def cli(tmp_path: Path, new_cli: Callable[[Path], Cli]) -> Iterator[Cli]:
    made = new_cli(tmp_path)
    yield made
    made.end()


@pytest.fixture
def call(cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The same in this process, for what needs none of its own: a new one takes a second to load the program."""
    monkeypatch.chdir(cli.folder)
    monkeypatch.setattr("tempfile.tempdir", str(cli.folder / "tmp"))

    def run(*arguments: object) -> Done:
        if arguments[:1] == ("demo",) and "--database" not in arguments:
            arguments = (*arguments, "--database", "memory")
        exit_code = main([str(each) for each in arguments])
        shown = capsys.readouterr()
        return Done(exit_code, shown.out, shown.err.splitlines())

    return run


Rows = Sequence[Sequence[object]]


@pytest.fixture
def market_rows() -> Callable[[int], list[list[str]]]:
    """``n`` rows of a candle file: a simulated market with trends that the built-in strategy trades."""

    def rows(bars: int) -> list[list[str]]:
        return [
            [str(int(candle.open_time.timestamp() * 1000))]
            + [str(value) for value in (candle.open, candle.high, candle.low, candle.close, candle.volume)]
            for candle in simulated_market(1, bars)
        ]

    return rows


@pytest.fixture
def candle_file(tmp_path: Path) -> Callable[[Rows], Path]:
    """Writes rows as a candle file; its path."""

    def write(rows: Rows) -> Path:
        path = tmp_path / "candles.csv"
        path.write_text("\n".join([HEADER, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return path

    return write
