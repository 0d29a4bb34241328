"""``tbh backtest``: what it prints, what it refuses in one line, and what it never reaches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tbh.cli.backtest
from tbh.backtest.native import NotCompiled, plain_runner
from tbh.backtest.trades import fingerprint
from tbh.cli import main as cli_main
from tbh.cli.backtest_view import Stages
from tbh.infra.simmarket import simulated_market
from tbh.strategies.definition import MAX_BYTES

Run = Callable[..., tuple[int, str, list[str]]]
HEADER = "timestamp,open,high,low,close,volume"
CROSS = {
    "name": "cross",
    "timeframe": "1m",
    "indicators": [
        {"id": "fast", "name": "ema", "params": {"period": 3}},
        {"id": "slow", "name": "ema", "params": {"period": 8}},
    ],
    "entry": {"long": {"left": "fast__value", "op": "crosses_above", "right": "slow__value"}},
    "exit": {"long": {"left": "fast__value", "op": "crosses_below", "right": "slow__value"}},
    "sizing": {"kind": "equity_fraction", "value": "0.5"},
}


def candle_file(file: Path, bars: int, *, seed: int = 5) -> Path:
    market = simulated_market(seed, bars)
    rows = [
        f"{stamp},{','.join(str(getattr(market[row], name)) for name in HEADER.split(',')[1:])}"
        for row, stamp in enumerate(market.timestamps.tolist())
    ]
    file.write_text("\n".join([HEADER, *rows, ""]))
    return file


PEEKING = """
import numpy as np

class Peeking:
    history = 2
    sizing = {"kind": "fixed_quantity", "value": "0.01"}

    def on_bar(self, view):
        return ()

    def evaluate_all(self, columns):
        close = columns["close"]
        return {"entry_long": np.concatenate((close[1:], close[-1:])) - close > 0}
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in this process, its loop as it stands; exit code, stdout, lines of stderr."""
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tbh.cli.backtest, "runner", lambda *_, **__: plain_runner())

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = cli_main.main(["backtest", *(str(each) for each in arguments)])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


@pytest.fixture
def strategy(tmp_path: Path) -> Path:
    file = tmp_path / "cross.json"
    file.write_text(json.dumps(CROSS))
    return file


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    return candle_file(tmp_path / "bars.csv", 300)


def test_json_is_one_object_with_all_that_is_promised(run: Run, strategy: Path, candles: Path) -> None:
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--json")
    assert (code, errors) == (0, [])
    told = json.loads(out)
    promised = "bars trades equity return max_drawdown sharpe win_rate profit_factor exposure fingerprint seconds"
    assert set(promised.split()) <= set(told)
    assert told["bars"] == 300
    trade = "side entry_time exit_time entry_price exit_price qty fees pnl exit_reason"
    assert set(told["trades"][0]) == set(trade.split())
    assert told["fingerprint"] == fingerprint(told["trades"])
    assert float(told["equity"]) == pytest.approx(10_000 * (1 + told["return"]))
    (held,) = told["open_positions"]
    spent = float(held["qty"]) * float(held["entry_price"]) * 1.001
    assert float(told["cash"]) == pytest.approx(10_000 + sum(float(one["pnl"]) for one in told["trades"]) - spent)


def test_people_get_a_summary_and_the_last_trades(run: Run, strategy: Path, candles: Path) -> None:
    code, out, _ = run("--strategy", strategy, "--candles", candles)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["strategy", "cross", "on", "BASE/QUOTE"]
    assert any(line.startswith("equity") and "from 10,000.00" in line for line in lines)
    assert lines[-1].endswith("before them (--json has all)")


def test_the_second_run_reads_the_cache_and_says_the_same(run: Run, strategy: Path, candles: Path, tmp_path) -> None:
    options = ("--strategy", strategy, "--candles", candles, "--json")
    told = [json.loads(run(*options)[1]) for _ in range(2)]
    assert list((tmp_path / "cache").iterdir())
    uncached = json.loads(run(*options, "--no-cache")[1])
    assert told[0]["trades"] == told[1]["trades"] == uncached["trades"]


def test_without_cache_nothing_of_the_candles_is_kept(run: Run, strategy: Path, candles: Path, tmp_path: Path) -> None:
    assert run("--strategy", strategy, "--candles", candles, "--no-cache")[0] == 0
    assert not (tmp_path / "cache").exists()


def test_an_engine_that_can_not_be_kept_is_one_line_on_stderr(
    run: Run, strategy: Path, candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(_: Path, *, on_compile: Callable[[], None], on_unkept: Callable[[str], None]) -> Any:
        on_compile()
        on_unkept("Permission denied")
        return plain_runner()

    monkeypatch.setattr(tbh.cli.backtest, "runner", compiled)
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--json")
    assert (code, json.loads(out)["bars"]) == (0, 300)
    assert errors == [
        f"tbh: {tmp_path}/cache: the compiled engine can't be kept there (Permission denied), and each run takes the "
        "seconds to compile it; make it a folder that you alone can write to, or set TBH_CACHE_DIR to one"
    ]


def test_a_user_without_a_home_is_told_what_to_set(
    run: Run, strategy: Path, candles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TBH_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    code, out, errors = run("--strategy", strategy, "--candles", candles)
    assert (code, out) == (78, "")
    assert errors == ["tbh: this user has no home folder to keep a cache in; set TBH_CACHE_DIR to a folder"]


def test_several_markets_are_named_in_their_trades(run: Run, strategy: Path, candles: Path, tmp_path: Path) -> None:
    other = candle_file(tmp_path / "other.csv", 250, seed=6)
    markets = ("--candles", candles, "--symbol", "A/USD", "--candles", other, "--symbol", "B/USD")
    told = json.loads(run("--strategy", strategy, *markets, "--json")[1])
    assert told["bars"] == 550
    assert {trade["symbol"] for trade in told["trades"]} == {"A/USD", "B/USD"}


def test_the_assumptions_of_the_market_change_what_comes_out(run: Run, strategy: Path, candles: Path) -> None:
    plain = json.loads(run("--strategy", strategy, "--candles", candles, "--json")[1])
    for option in (
        ("--slippage", "proportional:0.001"),
        ("--slippage", "random:0.001:0.001"),
        ("--latency-ms", "1500"),
        ("--latency-bars", "2"),
        ("--volume-share", "0.01"),
        ("--funding", "0.0001:1"),
        ("--fee", "0"),
    ):
        code, out, errors = run("--strategy", strategy, "--candles", candles, "--json", *option)
        assert (code, errors) == (0, []), option
        other = json.loads(out)
        assert other["fingerprint"] != plain["fingerprint"], option


def test_missing_bars_are_told_and_not_filled_in(run: Run, strategy: Path, candles: Path) -> None:
    lines = candles.read_text().splitlines()
    candles.write_text("\n".join([*lines[:100], *lines[105:], ""]))
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--json")
    assert (code, json.loads(out)["bars"]) == (0, 295)
    assert errors == [f"tbh: {candles}: 5 bars are missing in 1 gap(s); they are not filled in"]


def test_an_engine_that_is_not_compiled_says_so_and_works(
    run: Run, strategy: Path, candles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotCompiled("numba is not installed")

    monkeypatch.setattr(tbh.cli.backtest, "runner", refuse)
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--json")
    assert (code, bool(json.loads(out)["trades"]), len(errors)) == (0, True, 1)
    assert "pip install 'tbh[backtest]'" in errors[0]


def nested(depth: int) -> str:
    rule = '{"left":"close","op":">","right":1}'
    return json.dumps(CROSS | {"entry": {"long": "?"}}).replace('"?"', '{"not":' * depth + rule + "}" * depth)


def changed(**parts: Any) -> str:
    return json.dumps(CROSS | parts)


WRONG_STRATEGIES = {
    "unknown column": (
        changed(entry={"long": {"left": "fastt__value", "op": ">", "right": 1}}),
        "$.entry.long.left: ",
    ),
    "period 0": (
        json.dumps(CROSS).replace('"period": 3', '"period": 0'),
        "$.indicators[0].params.period",
    ),
    "stop of 150 %": (changed(stops={"stop_loss": "1.5"}), "$.stops.stop_loss"),
    "10 MB": (json.dumps(CROSS | {"name": "x" * 10_000_000}), f"$: has more than {MAX_BYTES} bytes"),
    "65 indicators": (
        changed(indicators=[{"id": f"i{n}", "name": "ema"} for n in range(65)]),
        "$.indicators: holds more than 64 items",
    ),
    "nested 1,000 deep": (nested(1_000), ""),
    "no JSON": ("{", "is not JSON"),
}


@pytest.mark.parametrize("wrong", WRONG_STRATEGIES)
def test_a_wrong_strategy_is_refused_at_once_in_one_line_with_the_path(
    run: Run, strategy: Path, candles: Path, wrong: str
) -> None:
    text, where = WRONG_STRATEGIES[wrong]
    strategy.write_text(text)
    began_s = time.perf_counter()
    code, out, errors = run("--strategy", strategy, "--candles", candles)
    assert time.perf_counter() - began_s < 1.0
    assert (code, out, len(errors)) == (78, "", 1)
    assert errors[0].startswith(f"tbh: {strategy}: ")
    assert where in errors[0]


WRONG_CANDLES = {
    "NaN": ("1767225600000,1,1,1,1,1\n1767225660000,1,1,1,nan,1\n", "line 3: close is 'nan'"),
    "3 bars": (
        "".join(f"{1767225600000 + 60_000 * row},1,1,1,1,1\n" for row in range(3)),
        "3 bars, and the strategy can't trade before it has 10; take more candles",
    ),
    "hourly bars": (
        "".join(f"{1767225600000 + 3_600_000 * row},1,1,1,1,1\n" for row in range(20)),
        "bars are 3600 s apart, but the timeframe asked for is 60 s",
    ),
    "no price": ("1767225600000,0,1,0,1,1\n1767225660000,1,1,1,1,1\n", "prices are above zero"),
}


@pytest.mark.parametrize("wrong", WRONG_CANDLES)
def test_wrong_candles_are_refused_in_one_line_with_the_path(
    run: Run, strategy: Path, candles: Path, wrong: str
) -> None:
    rows, what = WRONG_CANDLES[wrong]
    candles.write_text(f"{HEADER}\n{rows}")
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--json")
    assert (code, out, len(errors)) == (78, "", 1)
    assert str(candles) in errors[0]
    assert what in errors[0]


@pytest.mark.parametrize("name", ["none.csv", "", "bars.txt"])
def test_candles_that_are_not_there_are_refused(run: Run, strategy: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "bars.txt").write_text("x")
    code, _, errors = run("--strategy", strategy, "--candles", tmp_path / name)
    assert (code, len(errors)) == (78, 1)
    assert str(tmp_path / name) in errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--slippage", "huge"),
        ("--slippage", "proportional:1"),
        ("--slippage", "random:0.1"),
        ("--slippage", "fixed:-1"),
        ("--funding", "2"),
        ("--funding", "0.1:0"),
        ("--volume-share", "2"),
        ("--latency-ms", "-1"),
        ("--engine", "slow"),
        ("--check", "lookahead", "--report", "out"),
        ("--symbol", "A/B", "--symbol", "C/D"),
    ],
)
def test_options_that_mean_nothing_are_usage_errors(
    run: Run, strategy: Path, candles: Path, arguments: tuple[str, ...]
) -> None:
    code, out, errors = run("--strategy", strategy, "--candles", candles, *arguments)
    assert (code, out, len(errors)) == (64, "", 1)


def test_the_actors_print_what_the_fast_engine_prints(run: Run, strategy: Path, candles: Path) -> None:
    printed = {}
    for engine in ("fast", "actors"):
        code, out, errors = run("--strategy", strategy, "--candles", candles, "--engine", engine, "--json")
        assert (code, errors) == (0, [])
        printed[engine] = json.loads(out)
    assert printed["actors"].pop("engine") == "actors"
    assert printed["fast"].pop("engine") == "fast"
    for report in printed.values():
        assert report.pop("seconds") > 0
        assert report.pop("bars_per_s") > 0
    assert len(printed["fast"]["trades"]) > 2
    assert printed["actors"] == printed["fast"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--slippage", "proportional:0.001"),
        ("--latency-ms", "5"),
        ("--latency-bars", "1"),
        ("--funding", "0.0001"),
    ],
)
def test_what_the_actors_do_not_serve_is_refused_in_one_line(
    run: Run, strategy: Path, candles: Path, arguments: tuple[str, ...]
) -> None:
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--engine", "actors", *arguments)
    assert (code, out, len(errors)) == (64, "", 1)
    assert arguments[0] in errors[0]


def test_the_actors_trade_one_market(run: Run, strategy: Path, candles: Path, tmp_path: Path) -> None:
    other = candle_file(tmp_path / "other.csv", 100, seed=6)
    code, _, errors = run("--strategy", strategy, "--candles", candles, "--candles", other, "--engine", "actors")
    assert (code, len(errors)) == (64, 1)
    assert "several markets" in errors[0]


def test_one_file_is_not_traded_twice(run: Run, strategy: Path, candles: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(candles)
    for same in (candles, tmp_path / ".." / tmp_path.name / candles.name, link):
        code, _, errors = run("--strategy", strategy, "--candles", candles, "--candles", same)
        assert (code, len(errors)) == (64, 1)
        assert "names a file twice" in errors[0]


def test_two_markets_have_two_names(run: Run, strategy: Path, candles: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = candle_file(tmp_path / "other" / candles.name, 300, seed=6)
    both = ("--strategy", strategy, "--candles", candles, "--candles", other)
    code, _, errors = run(*both, "--symbol", "BTC/USDT", "--symbol", "BTC/USDT")
    assert (code, len(errors)) == (64, 1)
    assert "two markets the same" in errors[0]
    code, out, _ = run(*both, "--json")
    assert code == 0
    assert json.loads(out)["symbols"] == [str(candles), str(other)]


def test_a_sound_definition_passes_the_checks(run: Run, strategy: Path, candles: Path) -> None:
    code, out, errors = run(
        "--strategy", strategy, "--candles", candles, "--check", "lookahead", "--check", "recursion"
    )
    assert (code, errors) == (0, [])
    lines = [line.split() for line in out.splitlines()]
    assert ["found", "nothing:", "nothing", "changes", "with", "the", "bars", "behind", "it"] in lines
    assert next(line for line in lines if line[:1] == ["slow__value"])[:3] == ["slow__value", "154", "bars"]


def test_a_check_that_finds_something_says_what_where_and_what_to_do(run: Run, tmp_path: Path, candles: Path) -> None:
    file = tmp_path / "peek.py"
    file.write_text(PEEKING)
    about = ("--strategy", f"{file}:Peeking", "--candles", candles, "--check", "lookahead", "--check", "recursion")
    code, out, errors = run(*about)
    assert (code, errors) == (1, [])
    found = out.partition("found ")[2].splitlines()
    assert found[0].strip().startswith("entry_long, first on the bar of 2026-01-01T")
    assert found[1].strip() == "changes with the bars from 1 bar ahead on"
    assert found[2].strip().startswith("what to do: use values of this bar and before alone")
    code, out, errors = run(*about, "--json")
    told = json.loads(out)
    assert (code, errors, told["ok"]) == (1, [], False)
    assert [(one["check"], one["ok"]) for one in told["checks"]] == [("lookahead", False), ("recursion", True)]
    assert {"what", "bar", "time", "detail", "advice"} == set(told["checks"][0]["findings"][0])


def test_a_check_that_there_is_none_of_is_a_usage_error(run: Run, strategy: Path, candles: Path) -> None:
    code, out, errors = run("--strategy", strategy, "--candles", candles, "--check", "luck")
    assert (code, out, len(errors)) == (64, "", 1)


def test_checks_and_strategies_in_python_reach_nothing_either(candles: Path, tmp_path: Path) -> None:
    file = tmp_path / "peek.py"
    file.write_text(PEEKING.replace("close[1:], close[-1:]", "close[:1], close[:-1]").replace("- close", "* 0 + 1"))
    about = ("--strategy", f"{file}:Peeking", "--candles", candles, "--json")
    assert denied(tmp_path, "backtest", *about, "--check", "lookahead", "--check", "recursion").returncode == 0
    file.write_text(PEEKING.replace("def evaluate_all", "def unused"))
    done = denied(tmp_path, "backtest", *about)
    assert (done.returncode, done.stderr) == (0, "")


DENIED = """
import os, sys
kept = sys.argv[1]
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
DATABASES = ("psycopg", "psycopg2", "sqlite3", "postgrest", "supabase", "httpx", "requests", "ccxt", "urllib3")
def deny(event, arguments):
    if event.startswith(("socket.", "sqlite3.", "subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system")):
        raise RuntimeError(f"denied: {event}")
    if event == "import" and arguments[0].partition(".")[0] in DATABASES:
        raise RuntimeError(f"denied: import of {arguments[0]}")
    named = event == "open" and not isinstance(arguments[0], int)  # a number is a file that was opened before
    changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    written = named and isinstance(arguments[2], int) and arguments[2] & changes
    if (written or event in CHANGES) and not str(arguments[0]).startswith((kept, "/dev/null")):
        raise RuntimeError(f"denied: {event} {arguments[0]}")
    if named and "state" in str(arguments[0]).split(os.sep):
        raise RuntimeError(f"denied: {event} {arguments[0]}")
import tbh.cli.backtest
from tbh.backtest.native import plain_runner
from tbh.cli.main import main
tbh.cli.backtest.runner = lambda *_, **__: plain_runner()
sys.addaudithook(deny)
sys.exit(main(sys.argv[2:]))
"""


def denied(tmp_path: Path, *arguments: object, imported: str = "sys") -> subprocess.CompletedProcess[str]:
    """A command that may write to its cache and reach nothing else; it may have imported a module before."""
    kept = tmp_path / "cache"
    kept.mkdir(exist_ok=True)
    script = f"import {imported}\n{DENIED}"
    command = [sys.executable, "-B", "-c", script, str(kept), *(str(each) for each in arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "TBH_CACHE_DIR": str(kept)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize("engine", ["fast", "actors"])
def test_a_backtest_reaches_no_state_directory_no_database_and_no_network(
    strategy: Path, candles: Path, tmp_path: Path, engine: str
) -> None:
    # The actors' paper account can be kept in a file and imports what would open it; opening one is denied to both.
    imported = "sqlite3" if engine == "actors" else "sys"
    files = ("--strategy", strategy, "--candles", candles)
    done = denied(tmp_path, "backtest", "--json", *files, "--engine", engine, imported=imported)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["trades"]
    assert next(one.name for one in (tmp_path / "cache").iterdir()).startswith("columns-")
    assert not (tmp_path / "home").exists()


FORBIDDEN = {
    "a socket": "import socket; socket.create_connection(('127.0.0.1', 9))",
    "a name": "import socket; socket.getaddrinfo('localhost', 9)",
    "a process": "import subprocess; subprocess.run(['true'])",
    "a file": "open('x', 'w')",
    "a folder": "import os; os.mkdir('x')",
    "a database": "import psycopg",
    "a database in a file": "import sqlite3",
    "an opened database": "sqlite3.connect(':memory:')",
    "an HTTP client": "import httpx",
    "a state directory": "open('state/store.sqlite')",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_denial_denies(what: str, tmp_path: Path) -> None:
    imported = "sqlite3" if FORBIDDEN[what].startswith("sqlite3") else "sys"
    script = f"import {imported}\n" + DENIED.replace("import tbh.cli.backtest\n", "").partition("from tbh.backtest")[0]
    command = [
        sys.executable,
        "-B",
        "-c",
        f"{script}sys.addaudithook(deny)\n{FORBIDDEN[what]}",
        str(tmp_path / "cache"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, "RuntimeError: denied: " in done.stderr) == (1, True)


class Slow:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def test_what_takes_longer_than_two_seconds_is_told_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbh.cli.backtest_view.TOLD_AFTER_S", 0.02)
    monkeypatch.setattr("tbh.cli.backtest_view.TOLD_EVERY_S", 0.01)
    stream = Slow()
    deadline_s = time.monotonic() + 5
    with Stages(stream, shown=True) as stages:  # type: ignore[arg-type]  # all that is asked of it
        stages.begin("trading", lambda: 0.42)
        while "trading: 0 s" not in stream.text and time.monotonic() < deadline_s:
            time.sleep(0.005)
    assert "trading: 0 s, 42%" in stream.text
    assert stream.text.endswith("\r")
