"""``tbh demo`` as people and programs use it: JSON, plain lines, a terminal, signals, going on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Done, Rows

BARS = 250
TIMEOUT_S = 30
TRADE_KEYS = {"side", "entry_time", "exit_time", "entry_price", "exit_price", "qty", "fees", "pnl", "exit_reason"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
RECORDING = """
import json, sys
from tbh.cli.main import main
code = main(["demo", "--json", "--bars", "60", "--database", "memory"])
heavy = ("pandas", "polars", "ccxt", "newrelic", "supabase", "httpx", "pydantic_settings", "dotenv", "rich.live")
print(json.dumps([name for name in heavy if name in sys.modules]))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, new_cli: Callable[[Path], Cli]) -> Done:
    """One finished run over the simulated market, as JSON."""
    return new_cli(tmp_path_factory.mktemp("finished")).run("demo", "--bars", BARS, "--json")


def test_json_is_one_object_and_nothing_else(finished: Done) -> None:
    assert (finished.exit_code, finished.errors) == (0, [])
    assert finished.out.count("\n") == 1
    assert isinstance(finished.json, dict)


def test_json_holds_what_the_contract_names(finished: Done) -> None:
    result = finished.json
    assert result["bars"] == BARS
    assert result["signals"] >= 2
    assert {"submitted", "filled", "canceled", "rejected", "unknown"} <= set(result["orders"])
    assert result["fills"] >= 2
    assert set(result["position"]) == {"qty", "entry_price"}
    assert set(result["journal"]) == {"recorded", "relayed", "pending"}
    assert (result["journal"]["pending"], result["actor_restarts"], result["dead_letters"]) == (0, 0, 0)
    assert result["health_flushes"] >= 1
    assert result["seconds"] > 0
    assert result["exit_code"] == 0


def test_json_says_that_the_market_is_simulated(finished: Done) -> None:
    assert finished.json["simulated"] is True


def test_trades_have_the_keys_of_a_backtest_and_money_as_text(finished: Done) -> None:
    trades = finished.json["trades"]
    assert trades
    for trade in trades:
        assert set(trade) >= TRADE_KEYS
        assert trade["side"] in ("long", "short")
        assert TIME.fullmatch(trade["entry_time"])
        assert TIME.fullmatch(trade["exit_time"])
        assert all(isinstance(trade[key], str) for key in ("entry_price", "exit_price", "qty", "fees", "pnl"))


def test_the_money_adds_up(finished: Done) -> None:
    result = finished.json
    flat = Decimal(result["position"]["qty"]) == 0
    closed = sum(Decimal(trade["pnl"]) for trade in result["trades"])
    if flat:
        assert Decimal(result["cash"]) == Decimal(10000) + closed
        assert result["cash"] == result["equity"]
    assert Decimal(result["fees"]) >= sum(Decimal(trade["fees"]) for trade in result["trades"])


def test_the_files_it_names_are_there(finished: Done) -> None:
    paths = finished.json["paths"]
    assert set(paths) >= {"state", "store", "account", "events", "log"}
    assert all(Path(path).exists() for path in paths.values())
    assert Path(paths["state"]).name.startswith("tbh-demo-")
    assert json.loads(Path(paths["state"], "status.json").read_text())["phase"] == "CLOSED"


def test_the_same_market_gives_the_same_trades_on_either_host(finished: Done, call: Callable[..., Done]) -> None:
    simulated = call("demo", "--bars", BARS, "--json", "--host", "simulator").json
    for key in ("trades", "cash", "equity", "fees", "orders", "position"):
        assert simulated[key] == finished.json[key], key


def test_another_seed_is_another_market(finished: Done, call: Callable[..., Done]) -> None:
    assert call("demo", "--bars", BARS, "--json", "--seed", 2).json["cash"] != finished.json["cash"]


def test_a_paper_demo_imports_nothing_that_it_does_not_need(cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RECORDING],
        env=cli.environment(),
        cwd=cli.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory, new_cli: Callable[[Path], Cli]) -> Done:
    return new_cli(tmp_path_factory.mktemp("piped")).run("demo", "--bars", BARS)


def test_piped_output_is_plain_lines(piped: Done) -> None:
    assert (piped.exit_code, piped.errors) == (0, [])
    lines = piped.out.splitlines()
    assert "simulated market" in lines[0]
    assert lines[1].startswith("state in ")
    assert any(re.match(rf"bar {BARS}/{BARS} 2026-01-01T04:10Z  price ", line) for line in lines)
    assert "\x1b" not in piped.out


def test_piped_output_ends_with_a_summary_that_says_where_everything_is(piped: Done) -> None:
    summary = dict(line.split(maxsplit=1) for line in piped.out.splitlines()[-15:])
    assert summary["market"].startswith(f"simulated, {BARS} of {BARS} bars")
    assert {"trades", "realised", "fees", "equity", "position"} <= set(summary)
    for label in ("store", "account", "events", "log"):
        assert Path(summary[label]).exists()


def test_a_recording_is_not_called_simulated(
    call: Callable[..., Done], candle_file: Callable[[Rows], Path], market_rows: Callable[[int], Rows]
) -> None:
    file = candle_file(market_rows(60))
    plain = call("demo", "--candles", file, "--symbol", "BTC/USDT")
    assert "simulated" not in plain.out
    assert "recorded candles" in plain.out
    recorded = call("demo", "--candles", file, "--symbol", "BTC/USDT", "--json").json
    assert (recorded["simulated"], recorded["symbol"], recorded["bars"]) == (False, "BTC/USDT", 60)


def test_bars_takes_the_first_of_a_recording(
    call: Callable[..., Done], candle_file: Callable[[Rows], Path], market_rows: Callable[[int], Rows]
) -> None:
    assert call("demo", "--candles", candle_file(market_rows(60)), "--bars", 40, "--json").json["bars"] == 40


def test_the_built_in_strategy_takes_the_recordings_timeframe(
    call: Callable[..., Done], candle_file: Callable[[Rows], Path]
) -> None:
    rows = [(1_700_000_100_000 + 300_000 * row, 100, 101, 99, 100, 5) for row in range(40)]
    assert call("demo", "--candles", candle_file(rows), "--json").json["timeframe_s"] == 300


def test_a_finished_demo_goes_on_with_more_bars_as_if_it_had_never_stopped(
    finished: Done, cli: Cli, call: Callable[..., Done]
) -> None:
    folder = cli.folder / "state"
    first = call("demo", "--bars", BARS // 2, "--dir", folder, "--json").json
    second = call("demo", "--bars", BARS, "--dir", folder, "--json").json
    assert len(first["trades"]) <= len(second["trades"])
    for key in ("trades", "cash", "fees", "orders", "fills", "position", "signals"):
        assert second[key] == finished.json[key], key


def test_going_on_says_where(cli: Cli, call: Callable[..., Done]) -> None:
    folder = cli.folder / "state"
    call("demo", "--bars", 40, "--dir", folder)
    done = call("demo", "--bars", 60, "--dir", folder)
    assert f"going on in {folder} where it stopped: after bar 40 of 60" in done.out
    assert "going on" not in call("demo", "--bars", 40, "--dir", cli.folder / "other").out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_with_a_summary(cli: Cli, number: signal.Signals) -> None:
    process = cli.start(
        "demo", "--bars", 10_000, "--speed", 50, "--dir", "state", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(number)
    out, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"market +simulated, [\d,]+ of 10,000 bars", out)
    assert json.loads((cli.folder / "state" / "status.json").read_text())["phase"] == "CLOSED"


def test_a_stopped_demo_goes_on_to_the_same_end(finished: Done, cli: Cli, call: Callable[..., Done]) -> None:
    process = cli.start(
        "demo", "--bars", BARS, "--speed", 100, "--dir", "state", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    while "bar " not in (line := process.stdout.readline()):
        assert line, "it ended without a line of progress"
    process.terminate()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    rest = call("demo", "--bars", BARS, "--dir", "state", "--json").json
    for key in ("trades", "cash", "fees", "fills", "position"):
        assert rest[key] == finished.json[key], key


def test_a_reader_that_goes_away_stops_the_bot_in_order(cli: Cli) -> None:
    process = cli.start(
        "demo", "--bars", 10_000, "--speed", "max", "--dir", "state", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert json.loads((cli.folder / "state" / "status.json").read_text())["phase"] == "CLOSED"


@dataclass(frozen=True)
class Screen:
    """What a terminal of 80 columns and 24 rows was sent."""

    exit_code: int
    text: str
    seconds: float


def on_a_terminal(cli: Cli, *arguments: object, stdout_too: bool = True) -> tuple[Screen, str]:
    """Run with stderr, and by default stdout, on a terminal; what the terminal and a piped stdout got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    began = time.monotonic()
    options: dict[str, Any] = {"environ": {"TERM": "xterm-256color"}, "stdin": theirs, "stderr": theirs}
    process = cli.start(*arguments, stdout=theirs if stdout_too else subprocess.PIPE, **options)
    os.close(theirs)
    received = b""
    while time.monotonic() < began + TIMEOUT_S and select.select([ours], [], [], TIMEOUT_S)[0]:
        try:
            received += os.read(ours, 65_536)
        except OSError:  # Linux's word for the other end having been closed
            break
    piped = "" if process.stdout is None else process.communicate(timeout=TIMEOUT_S)[0]
    exit_code = process.wait(TIMEOUT_S)
    os.close(ours)
    return Screen(exit_code, received.decode(), time.monotonic() - began), piped


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory, new_cli: Callable[[Path], Cli]) -> Screen:
    cli = new_cli(tmp_path_factory.mktemp("screen"))
    try:
        return on_a_terminal(cli, "demo", "--bars", 120, "--speed", 100)[0]
    finally:
        cli.end()


def test_a_terminal_shows_a_live_table(screen: Screen) -> None:
    assert screen.exit_code == 0
    text = COLOURS.sub("", screen.text)
    for word in ("simulated market", "bar 120/120", "price", "position", "equity", "gate", "heartbeats", "orders"):
        assert word in text, word
    assert screen.text.count("\x1b[") > 50, "the table is drawn again and again, in colour"


def test_the_table_names_every_actor_and_fits_the_terminal(screen: Screen) -> None:
    text = COLOURS.sub("", screen.text)
    for name in ("feed", "strategy", "risk", "order_manager", "gateway", "journaler", "position_syncer", "watchdog"):
        assert name in text, name
    table = text.partition("store ")[0]
    assert max(len(line) for line in re.split(r"[\r\n]", table)) <= 80
    assert "…" not in table


def test_a_terminal_gets_the_summary_too(screen: Screen) -> None:
    text = COLOURS.sub("", screen.text)
    assert re.search(r"market +simulated, 120 of 120 bars", text)
    assert "store.sqlite" in text.replace("\r\n", "").replace(" ", "")


def test_json_tells_its_progress_to_a_terminal_on_stderr_only(cli: Cli) -> None:
    screen, piped = on_a_terminal(cli, "demo", "--bars", 60, "--speed", 60, "--json", stdout_too=False)
    assert screen.exit_code == 0
    assert "bar " in screen.text
    assert json.loads(piped)["bars"] == 60
