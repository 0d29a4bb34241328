"""Strategies in Python on the command line: by name, by class or by file, the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tbh.cli.backtest
from tbh.backtest.native import plain_runner
from tbh.cli import main as cli_main
from tbh.infra.simmarket import simulated_market

Run = Callable[..., tuple[int, str, list[str]]]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEADER = "timestamp,open,high,low,close,volume"
POINTS = """[tbh.strategies]
example-ema-cross = tbh_example.ema_cross:EmaCross
example-atr-breakout = tbh_example.atr_breakout:AtrBreakout
"""
FAILING = """
class Failing:
    history = 5
    sizing = {"kind": "fixed_quantity", "value": "0.01"}
    def on_bar(self, view):
        return [view.enter("buy")] if view.open_time.minute == 7 else []
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in this process, where the example package is installed."""
    about = tmp_path / "site" / "tbh_example-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tbh-example\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(EXAMPLES / "custom_strategy"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tbh.cli.backtest, "runner", lambda *_, **__: plain_runner())

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = cli_main.main([str(each) for each in arguments])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    market = simulated_market(5, 300)
    rows = [
        f"{stamp},{','.join(str(getattr(market[row], name)) for name in HEADER.split(',')[1:])}"
        for row, stamp in enumerate(market.timestamps.tolist())
    ]
    file = tmp_path / "bars.csv"
    file.write_text("\n".join([HEADER, *rows, ""]))
    return file


def test_the_example_trades_as_the_definition_of_that_name(run: Run, candles: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps({"custom": "example-ema-cross", "params": {"fast": 12}, "timeframe": "1m"}))
    made = []
    for strategy in (
        EXAMPLES / "strategies" / "ema_cross.json",
        "example-ema-cross",
        "tbh_example.ema_cross:EmaCross",
        EXAMPLES / "custom_strategy" / "tbh_example" / "ema_cross.py:EmaCross",
        stored,
    ):
        code, out, errors = run("backtest", "--strategy", strategy, "--candles", candles, "--json")
        assert (code, errors) == (0, [])
        made.append(json.loads(out))
    assert made[0]["trades"]
    assert {one["fingerprint"] for one in made} == {made[0]["fingerprint"]}
    assert [one["strategy"] for one in made] == [
        "ema-cross",
        "example-ema-cross",
        "EmaCross",
        "EmaCross",
        "example-ema-cross",
    ]


def test_a_demo_of_it_makes_the_trades_of_its_backtest(run: Run, candles: Path, tmp_path: Path) -> None:
    about = ("--strategy", "example-atr-breakout", "--params", '{"channel": 5, "width": 1.0}', "--candles", candles)
    code, out, errors = run("backtest", *about, "--json")
    assert (code, errors) == (0, [])
    fast = json.loads(out)
    options = ("--database", "memory", "--host", "simulator", "--dir", tmp_path / "state", "--json")
    code, out, errors = run("demo", *about, *options)
    assert (code, errors) == (0, [])
    assert len(fast["trades"]) > 5
    assert json.loads(out)["trades"] == fast["trades"]


@pytest.mark.parametrize("name", ["example-ema-cross", "example-atr-breakout"])
def test_the_actors_and_a_report_take_it(run: Run, candles: Path, tmp_path: Path, name: str) -> None:
    made = []
    for engine in ("fast", "actors"):
        folder = tmp_path / engine
        about = ("--strategy", name, "--candles", candles, "--engine", engine, "--report", folder, "--json")
        code, out, errors = run("backtest", *about)
        assert (code, errors) == (0, [])
        assert json.loads(out)["engine"] == engine
        kept = json.loads((folder / "summary.json").read_text())
        assert kept["definition"]["custom"] == name
        made.append(kept["fingerprint"])
    assert made[0] == made[1]


def test_parameters_come_from_a_file_as_well(run: Run, candles: Path, tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"fast": 3, "slow": 7}')
    about = ("backtest", "--strategy", "example-ema-cross", "--candles", candles, "--json", "--params")
    told = [json.loads(run(*about, params)[1])["fingerprint"] for params in (file, '{"fast": 3, "slow": 7}', "{}")]
    assert told[0] == told[1] != told[2]


def test_the_check_of_a_definition_knows_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"custom": "example-ema-cross", "timeframe": "1m", "params": {"fast": 5}}))
    code, out, errors = run("strategy", "check", file, "--json")
    told = json.loads(out)
    assert (code, errors) == (0, [])
    assert (told["ok"], told["name"], told["indicators"]) == (True, "example-ema-cross", 2)
    file.write_text(json.dumps({"custom": "example-ema-cross", "timeframe": "1m", "params": {"fast": 50}}))
    code, _, errors = run("strategy", "check", file)
    assert (code, errors) == (78, [f"{file}: $.params: fast must be smaller than slow"])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (
            ("--strategy", "example-ema-cros"),
            78,
            "--strategy example-ema-cros: unknown installed strategy 'example-ema-cros'; nearest: 'example-ema-cross';"
            " or name a file (.json), module:Class or file.py:Class",
        ),
        (
            ("--strategy", "no_module:Class"),
            78,
            "--strategy no_module:Class: no_module can't be imported (ModuleNotFoundError: No module named"
            " 'no_module'); install what it needs, or mend it",
        ),
        (("--strategy", "example-ema-cross", "--params", '{"fast": 0}'), 78, "--params: $.fast: must be greater than"),
        (("--strategy", "example-ema-cross", "--params", '{"fats": 3}'), 78, "--params: $.fats: unknown parameter"),
        (("--strategy", "example-ema-cross", "--params", "{"), 78, "--params: $: is not JSON: "),
        (("--strategy", "example-ema-cross", "--params", "none.json"), 78, "none.json: no such parameters file"),
        (("--strategy", EXAMPLES / "strategies" / "ema_cross.json", "--params", "{}"), 64, "--params: "),
    ],
)
def test_what_does_not_fit_is_one_line(
    run: Run, candles: Path, arguments: tuple[object, ...], exit_code: int, told: str
) -> None:
    for command in ("backtest", "demo"):
        code, out, errors = run(command, *arguments, "--candles", candles)
        assert (code, out, len(errors)) == (exit_code, "", 1)
        assert told in errors[0]


def test_a_failure_on_a_bar_names_the_bar(run: Run, candles: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FAILING)
    for engine in ("fast", "actors"):
        about = ("--strategy", f"{file}:Failing", "--candles", candles, "--engine", engine)
        code, out, errors = run("backtest", *about)
        assert (code, out) == (78, "")
        assert errors == ["tbh: strategy 'Failing' on the bar of 2026-01-01T00:07:00Z: a side is Side.BUY or Side.SELL"]
    code, _, errors = run(
        "demo", "--strategy", f"{file}:Failing", "--candles", candles, "--database", "memory", "--dir", tmp_path / "d"
    )
    assert code == 70
    assert errors[-1].startswith("tbh: the bot stopped itself: strategy: ")
    assert "on the bar of 2026-01-01T00:07:00Z: a side is Side.BUY or Side.SELL" in errors[-1]
