"""``tbh indicators compute`` and ``tbh indicators verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbh.cli import main as cli_main

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, stdout, lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = cli_main.main([str(each) for each in arguments])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    """Twelve bars of a minute whose closes are 1 to 12."""
    file = tmp_path / "candles.csv"
    rows = (f"{1_767_225_600_000 + 60_000 * n},{n},{n + 1},{n - 0.5},{n},5\n" for n in range(1, 13))
    file.write_text("timestamp,open,high,low,close,volume\n" + "".join(rows))
    return file


def manifest(folder: Path, *, mean: str = "2") -> Path:
    """A manifest with one case of its own, one that nobody knows and none of TA-Lib."""
    place = folder / "indicators"
    place.mkdir()
    (place / "table.csv").write_text(f"close,mean\n1,\n3,{mean}\n5,4\n")
    case: dict[str, Any] = {
        "id": "own.sma",
        "indicator": "sma",
        "params": {"period": 2},
        "input": {"files": ["indicators/table.csv"]},
        "expected": {"file": "indicators/table.csv", "columns": ["mean"]},
        "tolerance": {"abs": 1e-9},
    }
    file = place / "manifest.json"
    file.write_text(json.dumps({"cases": [case, {**case, "id": "own.moon", "indicator": "moon"}]}))
    return file


def test_compute_prints_the_last_rows(run: Run, candles: Path) -> None:
    exit_code, out, _ = run("indicators", "compute", "sma", "--candles", candles, "--param", "period=3", "--last", 2)
    assert exit_code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["time", "value"],
        ["2026-01-01T00:11:00Z", "10"],
        ["2026-01-01T00:12:00Z", "11"],
    ]


def test_compute_gives_every_row_as_json_with_its_nulls(run: Run, candles: Path) -> None:
    _, out, _ = run(
        "indicators", "compute", "bollinger", "--candles", candles, "--param", "period=11", "--last", 0, "--json"
    )
    answer = json.loads(out)
    assert (answer["name"], answer["rows"], answer["null_rows"]) == ("bbands", 12, 10)
    assert answer["params"] == {"period": 11, "stddev": 2.0}
    assert answer["values"][9] == {"time": "2026-01-01T00:10:00Z", "upper": None, "middle": None, "lower": None}
    assert [value["middle"] for value in answer["values"][10:]] == [6.0, 7.0]


def test_compute_reads_another_source_and_the_times_of_bars(run: Run, candles: Path) -> None:
    _, out, _ = run(
        "indicators", "compute", "max", "--candles", candles, "--source", "high", "--param", "period=2", "--json"
    )
    assert json.loads(out)["values"][-1]["value"] == 13.0
    _, out, _ = run("indicators", "compute", "clock", "--candles", candles, "--json")
    assert json.loads(out)["values"][-1] == {
        "time": "2026-01-01T00:12:00Z", "hour": 0.0, "minute": 12.0, "weekday": 3.0, "day": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["smaa"], "unknown indicator 'smaa'; nearest: 'sma'"),
        (["sma", "--param", "perod=3"], "unknown parameter of sma 'perod'; nearest: 'period'"),
        (["sma", "--param", "period=many"], "period: 'many' is no number"),
        (["sma", "--param", "period=0"], "period must be a whole number from 1 to 5000, not 0"),
        (["macd", "--param", "fast=30"], "macd: fast must be smaller than slow"),
        (["sma", "--source", "middle"], "unknown source 'middle'"),
        (["atr", "--source", "close"], "atr always reads high, low, close"),
    ],
)
def test_compute_refuses_in_one_line(run: Run, candles: Path, arguments: list[str], told: str) -> None:
    exit_code, out, errors = run("indicators", "compute", *arguments, "--candles", candles)
    assert (exit_code, out, len(errors)) == (64, "", 1)
    assert told in errors[0]


def test_compute_over_a_file_that_is_none_is_one_line(run: Run, tmp_path: Path) -> None:
    exit_code, _, errors = run("indicators", "compute", "sma", "--candles", tmp_path / "absent.csv")
    assert (exit_code, len(errors)) == (78, 1)


def test_verify_counts_what_agrees_and_names_the_rest(run: Run, tmp_path: Path) -> None:
    exit_code, out, _ = run("indicators", "verify", manifest(tmp_path), "--json")
    answer = json.loads(out)
    assert exit_code == 0
    assert (answer["cases"], answer["passed"], answer["failed"]) == (2, 1, [])
    assert answer["unsupported"] == ["own.moon"]


def test_verify_exits_with_1_when_a_case_differs(run: Run, tmp_path: Path) -> None:
    file = manifest(tmp_path, mean="2.5")
    exit_code, out, _ = run("indicators", "verify", file, "--json")
    assert exit_code == 1
    detail = "mean: 1 of 2 values differ, the most on row 1: 2, not 2.5"
    assert json.loads(out)["failed"] == [{"id": "own.sma", "detail": detail}]
    exit_code, out, errors = run("indicators", "verify", file)
    assert (exit_code, out) == (1, "0 of 2 cases agree\n")
    assert errors == [f"failed: own.sma: {detail}", "unsupported: own.moon: the catalogue has no moon"]


def test_verify_of_a_file_that_is_no_manifest_is_one_line(run: Run, tmp_path: Path) -> None:
    exit_code, out, errors = run("indicators", "verify", tmp_path / "absent.json")
    assert (exit_code, out, len(errors)) == (78, "", 1)
