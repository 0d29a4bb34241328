"""Bad input to ``tbh demo`` and to a bot: one clear line, the right exit code, no traceback, nothing left behind."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbh.cli.default_strategy import DEFAULT_STRATEGY

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Done, Rows

CONFIGURATION = 78


def strategy(cli: Cli, **changes: Any) -> Path:
    path = cli.folder / "strategy.json"
    path.write_text(json.dumps(DEFAULT_STRATEGY | changes))
    return path


def test_a_bot_without_its_environment_names_every_variable(cli: Cli) -> None:
    done = cli.run(module="tbh.actors.main")
    assert (done.exit_code, done.out) == (CONFIGURATION, "")
    assert [line.split(":")[1].strip() for line in done.errors] == [
        "BOT_ID",
        "SUPABASE_URL",
        "SUPABASE_SERVICE_ROLE_KEY",
        "RUNTIME_TOKEN",
    ]


def test_one_missing_variable_is_one_line(cli: Cli) -> None:
    environ = {
        "BOT_ID": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "SUPABASE_URL": "http://127.0.0.1:1",
        "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_0123456789",
    }
    line = cli.run(module="tbh.actors.main", environ=environ).refusal(CONFIGURATION)
    assert line == "RUNTIME_TOKEN: is missing; set it in the environment"
    assert list(cli.folder.iterdir()) == [cli.folder / "tmp"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ("", "is not JSON"),
        ('{"name": "x", "name": "y"}', "twice"),
        ("\x00\xff", "is not JSON"),
    ],
)
def test_a_malformed_strategy_is_refused_before_anything_is_made(
    cli: Cli, call: Callable[..., Done], text: str, said: str
) -> None:
    path = cli.folder / "strategy.json"
    path.write_text(text)
    line = call("demo", "--strategy", path, "--dir", "state").refusal(CONFIGURATION)
    assert line.startswith(f"{path}: $")
    assert said in line
    assert not (cli.folder / "state").exists()


def test_an_unknown_indicator_is_refused_with_the_nearest_name(cli: Cli) -> None:
    path = strategy(cli, indicators=[{"id": "fast", "name": "emma"}, {"id": "slow", "name": "ema"}])
    line = cli.run("demo", "--strategy", path).refusal(CONFIGURATION)
    assert line == f"{path}: $.indicators[0].name: unknown indicator 'emma'; nearest: 'ema'"
    assert cli.leftovers() == []


def test_several_mistakes_are_one_line_that_says_how_to_see_the_others(cli: Cli, call: Callable[..., Done]) -> None:
    path = strategy(cli, sizing={"kind": "all_in", "value": "-1"}, timeframe="1y")
    line = call("demo", "--strategy", path).refusal(CONFIGURATION)
    assert f"2 more: tbh strategy check {path}" in line


@pytest.mark.parametrize("option", ["--candles", "--strategy"])
def test_a_pipe_that_nobody_writes_to_is_refused_at_once(cli: Cli, call: Callable[..., Done], option: str) -> None:
    pipe = cli.folder / "pipe.csv"
    os.mkfifo(pipe)
    assert "is a pipe or a device" in call("demo", option, pipe).refusal(CONFIGURATION)
    assert cli.leftovers() == []


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_strategy_that_is_no_file_is_refused(cli: Cli, call: Callable[..., Done], name: str) -> None:
    assert "strategy file" in call("demo", "--strategy", name).refusal(CONFIGURATION)


def test_a_gap_is_one_warning_and_the_run_goes_on(
    call: Callable[..., Done], candle_file: Callable[[Rows], Path], market_rows: Callable[[int], list[list[str]]]
) -> None:
    rows = market_rows(60)
    del rows[30:33]
    done = call("demo", "--candles", candle_file(rows), "--json")
    assert (done.exit_code, len(done.errors)) == (0, 1)
    assert done.errors[0].startswith("tbh: warning: ")
    assert "3 bars of 60 s are missing in 1 gap" in done.errors[0]
    assert (done.json["bars"], done.json["gaps"]) == (57, 1)


def corrupted(rows: list[list[str]], how: str) -> list[list[str]]:
    match how:
        case "nan":
            rows[7][4] = "nan"
        case "empty":
            rows[7][2] = ""
        case "unsorted":
            rows[7], rows[8] = rows[8], rows[7]
        case "duplicate":
            rows.insert(8, rows[7])
        case "negative":
            rows[7][3] = "-1"
        case "seconds":
            rows = [[str(int(row[0]) // 1000), *row[1:]] for row in rows]
    return rows


@pytest.mark.parametrize("how", ["nan", "empty", "unsorted", "duplicate", "negative", "seconds"])
def test_a_corrupted_candle_file_is_refused_before_anything_is_made(
    cli: Cli,
    call: Callable[..., Done],
    candle_file: Callable[[Rows], Path],
    market_rows: Callable[[int], list[list[str]]],
    how: str,
) -> None:
    file = candle_file(corrupted(market_rows(20), how))
    line = call("demo", "--candles", file, "--dir", "state").refusal(CONFIGURATION)
    assert line.startswith(f"{file}, line ")
    assert not (cli.folder / "state").exists()
    assert cli.leftovers() == []


@pytest.mark.parametrize("name", ["absent.csv", ".", "strategy.json"])
def test_what_is_no_candle_file_is_refused(cli: Cli, call: Callable[..., Done], name: str) -> None:
    strategy(cli)
    call("demo", "--candles", name).refusal(CONFIGURATION)
    assert cli.leftovers() == []


def test_candles_of_another_timeframe_than_the_strategys_are_refused(
    cli: Cli,
    call: Callable[..., Done],
    candle_file: Callable[[Rows], Path],
    market_rows: Callable[[int], list[list[str]]],
) -> None:
    line = call("demo", "--candles", candle_file(market_rows(20)), "--strategy", strategy(cli, timeframe="5m")).refusal(
        CONFIGURATION
    )
    assert "bars are 60 s apart, but the timeframe asked for is 300 s" in line


def test_a_dir_that_is_a_file_is_refused(cli: Cli, call: Callable[..., Done]) -> None:
    file = cli.folder / "file"
    file.write_text("mine")
    assert "is a file" in call("demo", "--dir", file).refusal(CONFIGURATION)
    assert file.read_text() == "mine"


def test_a_dir_below_a_file_is_refused(cli: Cli, call: Callable[..., Done]) -> None:
    (cli.folder / "file").write_text("mine")
    call("demo", "--dir", "file/state").refusal(CONFIGURATION)


def test_a_folder_that_cannot_be_written_is_refused(call: Callable[..., Done]) -> None:
    # /proc is the one folder in which not even root may make anything.
    assert "/proc/tbh" in call("demo", "--dir", "/proc/tbh").refusal(CONFIGURATION)


def test_a_missing_temporary_folder_does_not_keep_a_named_one_from_working(cli: Cli) -> None:
    done = cli.run("demo", "--bars", 30, "--dir", "state", "--json", environ={"TMPDIR": "/nowhere"})
    assert (done.exit_code, done.errors) == (0, [])


def test_a_store_from_a_newer_version_is_refused_and_left_alone(cli: Cli, call: Callable[..., Done]) -> None:
    call("demo", "--bars", 30, "--dir", "state")
    store = cli.folder / "state" / "store.sqlite"
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE schema_version SET version = 9999")
    connection.close()
    before = store.read_bytes()
    line = call("demo", "--bars", 60, "--dir", "state").refusal(CONFIGURATION)
    assert "newer" in line
    assert str(store) in line
    assert store.read_bytes() == before


@pytest.mark.parametrize("name", ["~nobody-of-that-name/state", "x" * 300])
def test_a_dir_that_cannot_be_looked_for_is_refused(call: Callable[..., Done], name: str) -> None:
    assert call("demo", "--dir", name).refusal(CONFIGURATION).startswith(f"--dir {name}: can't be found")


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_an_account_that_is_gone_is_refused_and_no_other_takes_its_place(
    cli: Cli, call: Callable[..., Done], how: str
) -> None:
    call("demo", "--bars", 90, "--dir", "state")
    account = cli.folder / "state" / "paper.sqlite"
    account.unlink() if how == "removed" else account.write_bytes(b"")
    line = call("demo", "--bars", 120, "--dir", "state").refusal(CONFIGURATION)
    assert line.startswith(f"paper_account_missing: {account} is missing")
    assert not account.exists() or not account.stat().st_size


def test_a_status_that_cannot_be_written_spoils_no_result(cli: Cli, call: Callable[..., Done]) -> None:
    (cli.folder / "state" / "status.json").mkdir(parents=True)
    done = call("demo", "--bars", 30, "--dir", "state", "--json")
    assert (done.exit_code, done.errors, done.json["bars"]) == (0, [], 30)


def test_a_folder_in_use_is_refused_with_the_process_that_has_it(cli: Cli) -> None:
    from tbh.infra.statedir import StateDir

    with StateDir.open(cli.folder / "state"):
        line = cli.run("demo", "--dir", "state").refusal(75)
    assert "belongs to the running process" in line


def test_going_on_with_another_market_or_more_cash_is_refused(call: Callable[..., Done]) -> None:
    call("demo", "--bars", 30, "--dir", "state")
    assert "cash 10000" in call("demo", "--cash", 20_000, "--dir", "state").refusal(CONFIGURATION)
    assert "symbol SIM/USD" in call("demo", "--symbol", "A/B", "--dir", "state").refusal(CONFIGURATION)


def test_going_on_over_other_candles_is_refused(
    call: Callable[..., Done], candle_file: Callable[[Rows], Path], market_rows: Callable[[int], list[list[str]]]
) -> None:
    call("demo", "--bars", 200, "--dir", "state")
    rows = [[str(int(row[0]) + 86_400_000), *row[1:]] for row in market_rows(200)]
    other = candle_file(rows)
    line = call("demo", "--candles", other, "--symbol", "SIM/USD", "--dir", "state").refusal(CONFIGURATION)
    assert "use the same candles" in line
