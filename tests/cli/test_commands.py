"""What every command has in common: help, usage errors, failures in one line, pipes that break."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbh.cli import main as cli_main
from tbh.cli import version
from tbh.cli.arguments import build_parser
from tbh.infra.logs import FILE_NAME
from tbh.ports import Fatal, Unavailable

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def commands(parser: argparse.ArgumentParser, *path: str) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """Every command and group of commands that the parser knows."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield [*path, name], sub
                yield from commands(sub, *path, name)


PARSERS = list(commands(build_parser()))
COMMANDS = [command for command, _ in PARSERS]
HEAVY = ("numpy", "talib", "pydantic", "structlog", "pykka", "rich", "sqlite3")


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_each_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.main([*command, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"tbh {' '.join(command)}".strip() in shown.out.partition("example")[2]
    assert shown.err == ""


def test_the_help_names_every_command_and_each_of_them_exists(capsys: pytest.CaptureFixture[str]) -> None:
    cli_main.main(["--help"])
    shown = capsys.readouterr().out
    listed = {line.split()[0] for line in shown.partition("COMMAND\n")[2].splitlines() if line.startswith("    ")}
    assert {command[0] for command in COMMANDS} <= listed


def test_a_command_that_is_meant_has_the_parser_that_it_has_among_all() -> None:
    for name in {command[0] for command in COMMANDS}:
        alone = [(path, parser) for path, parser in commands(build_parser(name)) if path[0] == name]
        among_all = [(path, parser) for path, parser in PARSERS if path[0] == name]
        assert [path for path, _ in alone] == [path for path, _ in among_all]
        for (_, one), (_, other) in zip(alone, among_all, strict=True):
            assert one.format_help() == other.format_help()


def test_a_command_that_is_meant_is_made_without_the_others() -> None:
    assert [path for path, _ in commands(build_parser("backtest"))] == [["backtest"]]
    assert [path for path, _ in commands(build_parser("no-such"))] == COMMANDS


def test_help_imports_nothing_heavy(cli: Cli) -> None:
    code = (
        "import sys; from tbh.cli.main import main; main(['demo', '--help']);"
        f" print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(), capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["dmeo"], "dmeo"),
        (["indicators"], "COMMAND"),
        (["strategy", "check"], "FILE"),
        (["demo", "--cand", "x.csv"], "--cand"),
        (["demo", "--bars", "1"], "--bars"),
        (["demo", "--bars", "many"], "--bars"),
        (["demo", "--bars", "9" * 5000], "--bars"),
        (["demo", "--bars", "1_000"], "--bars"),
        (["demo", "--bars", "٣٠"], "--bars"),
        (["demo", "--cash", "0"], "--cash"),
        (["demo", "--cash", "NaN"], "--cash"),
        (["demo", "--cash", "1e400"], "--cash"),
        (["demo", "--cash", "1e-300"], "--cash"),
        (["demo", "--cash", ""], "--cash"),
        (["demo", "--fee", "1e-400"], "--fee"),
        (["demo", "--fee", "1"], "--fee"),
        (["demo", "--fee", "-0.1"], "--fee"),
        (["demo", "--speed", "fast"], "--speed"),
        (["demo", "--speed", "0"], "--speed"),
        (["demo", "--speed", "inf"], "--speed"),
        (["demo", "--speed", "nan"], "--speed"),
        (["demo", "--volume-share", "1.5"], "--volume-share"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--symbol", "BTC USDT"], "--symbol"),
        (["demo", "--symbol", "BTC/BTC"], "--symbol"),
        (["demo", "--symbol", "../.."], "--symbol"),
        (["demo", "--dir", ""], "--dir"),
        (["demo", "--candles", " "], "--candles"),
        (["demo", "--strategy", ""], "--strategy"),
        (["strategy", "check", ""], "FILE"),
        (["demo", "--host", "fibres"], "--host"),
        (["indicators", "show", "emaa"], "'ema'"),
        (["version", "extra"], "extra"),
    ],
    ids=str,
)
def test_a_usage_error_is_one_line_and_64(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.main(arguments) == 64
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("tbh: ")
    assert named in line
    assert shown.out == ""


def test_every_command_that_does_something_takes_json() -> None:
    for command, parser in PARSERS:
        if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
            continue
        assert any("--json" in action.option_strings for action in parser._actions), command


def test_version_is_the_packages(cli: Cli) -> None:
    from tbh import __version__

    assert cli.run("version").out == f"tbh {__version__}\n"
    assert cli.run("--version").out == f"tbh {__version__}\n"
    assert cli.run("version", "--json").json["version"] == __version__


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(version, "run", run)


def test_an_unexpected_failure_is_one_line_and_its_traceback_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    failing(monkeypatch, RuntimeError("two\nlines, token=abcdefgh"))
    assert cli_main.main(["version"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"tbh: RuntimeError: two; its traceback is in {tmp_path / FILE_NAME}"
    logged = (tmp_path / FILE_NAME).read_text()
    assert "Traceback" in logged
    assert "abcdefgh" not in logged


def test_a_failure_where_no_log_can_be_written_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    failing(monkeypatch, ValueError())
    assert cli_main.main(["version"]) == 70
    assert capsys.readouterr().err == "tbh: ValueError; its traceback is lost, since no log can be written\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (Fatal("taken", exit_code=75, detail="by another"), 75),
        (Unavailable("disk_full", detail="store.sqlite"), 70),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_of_the_taxonomy_has_its_own_exit_code_and_no_traceback(
    error: BaseException, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert cli_main.main(["version"]) == exit_code
    assert capsys.readouterr().err == (f"tbh: {error}\n" if str(error) else "")


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["indicators", "list"], ["topology", "--json"]])
def test_a_reader_that_goes_away_is_no_error(cli: Cli, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = cli.start(*arguments, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_a_pipe_that_breaks_elsewhere_is_not_taken_for_a_reader_that_went_away(cli: Cli, tmp_path: Path) -> None:
    """As when a worker of ``tbh simulate`` died before its first seeds: the campaign ended in silence with 0."""
    program = tmp_path / "broken.py"
    program.write_text(
        "import sys\nfrom tbh.cli import main, version\n"
        "def run(args):\n    raise BrokenPipeError(32, 'Broken pipe')\n"
        "version.run = run\nsys.exit(main.main(['version']))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], env=cli.environment(), capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert "Broken pipe" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_output_that_is_full_is_one_line(cli: Cli) -> None:
    with Path("/dev/full").open("w") as full:
        process = cli.start("version", stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 70
    assert "No space left on device" in errors
    assert "\nTraceback" not in errors


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["indicators", "list", "--json"]], ids=str)
def test_a_command_with_all_its_streams_closed_ends_as_ever(cli: Cli, arguments: list[str]) -> None:
    shell = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-m", "tbh", *arguments]
    assert subprocess.run(shell, env=cli.environment(), check=False, timeout=20).returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["demo", "--bars", "30", "--json"]], ids=str)
def test_a_stdout_that_cannot_be_written_is_one_line(cli: Cli, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = cli.start(*arguments, stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 70
    assert errors == "tbh: stdout can't be written (No space left on device); send it somewhere else\n"


def test_a_stderr_that_cannot_be_written_changes_no_exit_code(cli: Cli) -> None:
    with Path("/dev/full").open("w") as full:
        process = cli.start("demo", "--bars", "0", stdout=subprocess.DEVNULL, stderr=full)
        assert process.wait(timeout=20) == 64


def test_an_interrupt_while_a_command_loads_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = []

    def run(args: argparse.Namespace) -> int:
        handlers.append(signal.getsignal(signal.SIGINT))
        return 0

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(version, "run", run)
    assert cli_main.main(["version"]) == 0
    assert handlers == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_line_break_or_an_escape_in_a_file_name_stays_in_the_line(cli: Cli) -> None:
    line = cli.run("strategy", "check", "a\n\x1b[31mb.json").refusal(78)
    assert line == "a\\n\\x1b[31mb.json: no such strategy file; check the path"
