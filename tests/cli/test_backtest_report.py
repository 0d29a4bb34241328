"""``tbh backtest --report``: a folder of the run, refused before anything is traded where it can't be written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tbh.cli.backtest
from tbh.backtest.native import plain_runner
from tbh.backtest.report.folder import NAMES
from tbh.cli import main as cli_main
from tests.cli.test_backtest import CROSS, DENIED, candle_file

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command on 300 bars; exit code, stdout, lines of stderr."""
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tbh.cli.backtest, "runner", lambda *_, **__: plain_runner())
    (tmp_path / "cross.json").write_text(json.dumps(CROSS))
    candle_file(tmp_path / "bars.csv", 300)
    files = ("--strategy", tmp_path / "cross.json", "--candles", tmp_path / "bars.csv")

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = cli_main.main(["backtest", *map(str, files), *map(str, arguments)])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


def test_a_report_is_four_files_and_people_are_told_where(run: Run, tmp_path: Path) -> None:
    code, out, errors = run("--report", tmp_path / "out")
    assert (code, errors) == (0, [])
    assert out.splitlines()[-1] == f"the report is {tmp_path / 'out' / 'report.html'}"
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == sorted(NAMES)


def test_json_stays_one_object_beside_a_report_and_says_the_same(run: Run, tmp_path: Path) -> None:
    told = json.loads(run("--json", "--report", tmp_path / "out")[1])
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: kept[name] for name in told} == told


def test_several_markets_and_funding_are_in_the_tables(run: Run, tmp_path: Path) -> None:
    other = candle_file(tmp_path / "other.csv", 250, seed=6)
    markets = ("--symbol", "A/USD", "--candles", other, "--symbol", "B/USD")
    assert run(*markets, "--funding", "0.0001:1", "--report", tmp_path / "out")[0] == 0
    rows = json.loads((tmp_path / "out" / "trades.json").read_text())
    assert {row["symbol"] for row in rows} == {"A/USD", "B/USD"}
    assert any(float(row["funding"]) for row in rows)


def test_a_folder_with_other_things_in_it_is_refused_in_one_line_before_anything_is_read(
    run: Run, tmp_path: Path
) -> None:
    code, out, errors = run("--report", tmp_path)
    assert (code, out, len(errors)) == (78, "", 1)
    assert f"--report: {tmp_path} holds 'bars.csv'" in errors[0]
    assert not (tmp_path / "cache").exists()


def test_a_plain_backtest_does_not_import_the_report() -> None:
    program = "import sys, tbh.cli.backtest; sys.exit(any('report' in name for name in sys.modules if 'tbh' in name))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_report_reaches_nothing_but_its_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "cross.json").write_text(json.dumps(CROSS))
    candles = candle_file(tmp_path / "bars.csv", 300)
    command = [sys.executable, "-B", "-c", DENIED, str(kept), "backtest", "--strategy", str(tmp_path / "cross.json")]
    command += ["--candles", str(candles), "--report", str(kept / "out")]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "TBH_CACHE_DIR": str(kept)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(one.name for one in (kept / "out").iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("folder", ["/", "/proc/none"])
def test_places_where_nothing_can_be_made_are_refused_in_one_line(run: Run, folder: str) -> None:
    code, out, errors = run("--report", folder)
    assert (code, out, len(errors)) == (78, "", 1)
    assert errors[0].startswith(f"tbh: --report: {folder} ")
