"""Wrong input is refused at once, in one line with the file and the place in it, by every command that reads it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tbh.cli.backtest
from tbh.backtest.native import plain_runner
from tbh.cli import main as cli_main
from tbh.infra.simmarket import simulated_market
from tbh.strategies.definition import MAX_BYTES

Run = Callable[..., tuple[int, str, list[str]]]
HEADER = "timestamp,open,high,low,close,volume"
CROSS: dict[str, Any] = {
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
RULE = {"left": "close", "op": ">", "right": 1}


def changed(**parts: Any) -> str:
    return json.dumps(CROSS | parts)


def period(written: str) -> str:
    return json.dumps(CROSS).replace('"period": 3', f'"period": {written}')


def nested(opening: str, closing: str, depth: int = 1_000) -> str:
    return changed(entry={"long": "?"}).replace('"?"', opening * depth + json.dumps(RULE) + closing * depth)


def uses(*sources: tuple[str, str | None]) -> str:
    indicators = [
        {"id": name, "name": "ema"} | ({} if source is None else {"source": source}) for name, source in sources
    ]
    return changed(indicators=indicators, entry={"long": RULE}, exit={})


FIRST = "$.indicators[0].params.period: "
STRATEGIES: dict[str, tuple[str | bytes, str]] = {
    "an unknown column": (
        changed(entry={"long": {"left": "fastt__value", "op": ">", "right": 1}}),
        "$.entry.long.left: unknown column 'fastt__value'; nearest: 'fast__value'",
    ),
    "a period of 0": (period("0"), f"{FIRST}must be a whole number from 1 to 1000, not 0"),
    "a negative period": (period("-1"), f"{FIRST}must be a whole number from 1 to 1000, not -1"),
    "an infinite period": (period("Infinity"), f"{FIRST}must be a finite number"),
    "a period of 1e400": (period("1e400"), FIRST),
    "a period of 5,000 digits": (period("1" + "0" * 5_000), "$: is not JSON: a whole number has too many digits"),
    "a period in words": (period('"many"'), f"{FIRST}must be a number, or text that holds one"),
    "a period that is a list": (period("[3]"), f"{FIRST}must be a number"),
    "a period of null": (period("null"), f"{FIRST}must be a number"),
    "indicators in a circle": (
        uses(("a", "b__value"), ("b", "a__value")),
        "].source: goes round in a circle",
    ),
    "an indicator of itself": (uses(("a", "a__value")), "$.indicators[0].source: "),
    "an id given twice": (
        uses(("a", None), ("a", None)),
        "$.indicators[1].id: 'a' is already the id of $.indicators[0]",
    ),
    "a stop of 150 %": (changed(stops={"stop_loss": "1.5"}), "$.stops.stop_loss: must be less than 1"),
    "a negative stop": (changed(stops={"stop_loss": -0.1}), "$.stops.stop_loss: must be greater than 0"),
    "a stop that is no number": (json.dumps(CROSS | {"stops": {"stop_loss": float("nan")}}), "$.stops.stop_loss: "),
    "a stop in words": (changed(stops={"stop_loss": "2 %"}), "$.stops.stop_loss: must be a number"),
    "a size below 0": (changed(sizing={"kind": "fixed_quantity", "value": "-1"}), "$.sizing.value: must be greater"),
    "twice the equity": (changed(sizing={"kind": "equity_fraction", "value": 2}), "$.sizing.value: must be at most 1"),
    "a look ahead by a negative shift": (
        changed(entry={"long": {"left": {"column": "close", "shift": -1}, "op": ">", "right": 1}}),
        "$.entry.long.left.shift: must be greater than or equal to 0",
    ),
    "10 MB": (changed(name="x" * 10_000_000), f"$: has more than {MAX_BYTES} bytes"),
    "10 MB of indicators": (uses(*[("a", None)] * 400_000), f"more than {MAX_BYTES}"),
    "negations 1,000 deep": (nested('{"not":', "}"), "$: nests deeper than 20 groups"),
    "groups 1,000 deep": (nested('{"all":[', "]}"), "$: nests deeper than 20 groups"),
    "brackets 100,000 deep": ("[" * 100_000, "$: nests deeper than 20 groups"),
    "2,000 indicators that there are none of": (
        changed(indicators=[{"id": f"a{index}", "name": f"{'q' * 60}{index}"} for index in range(2_000)]),
        "$.indicators: ",
    ),
    "nothing": ("", "$: is not JSON"),
    "a list": ("[]", "$: must be an object with name, timeframe, entry and sizing"),
    "half of it": (changed()[:100], "$: is not JSON"),
    "garbage": (bytes(range(256)) * 10, "$: is not UTF-8 text (byte 128)"),
    "UTF-16": (changed().encode("utf-16"), "$: is not UTF-8 text (byte 0)"),
    "a name of two lines": (changed(name="a\nb"), "$.name: holds letters, digits and _ . -"),
    "an id of 5,000 letters": (uses(("a" * 5_000, None)), "$.indicators[0].id: "),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in this process: exit code, stdout, lines of stderr. It takes less than a second of processor."""
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tbh.cli.backtest, "runner", lambda *_, **__: plain_runner())

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        began_s = time.process_time()
        exit_code = cli_main.main([str(each) for each in arguments])
        assert time.process_time() - began_s < 1.0
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


@pytest.fixture(scope="module")
def rows() -> list[str]:
    market = simulated_market(5, 60)
    columns = HEADER.split(",")[1:]
    return [
        f"{stamp},{','.join(str(getattr(market[row], name)) for name in columns)}"
        for row, stamp in enumerate(market.timestamps.tolist())
    ]


def text_of(rows: Sequence[str], header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


@pytest.mark.parametrize("wrong", STRATEGIES)
def test_a_wrong_definition_is_refused_at_once_with_its_path(
    run: Run, tmp_path: Path, rows: list[str], wrong: str
) -> None:
    written, where = STRATEGIES[wrong]
    file, candles = tmp_path / "s.json", tmp_path / "c.csv"
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    candles.write_bytes(text_of(rows))
    code, out, errors = run("backtest", "--strategy", file, "--candles", candles)
    assert (code, out, len(errors)) == (78, "", 1)
    assert errors[0].startswith(f"tbh: {file}: ")
    assert where in errors[0]
    assert len(errors[0]) < 600
    code, out, errors = run("strategy", "check", file)
    assert (code, out) == (78, "")
    assert any(line.startswith(f"{file}: ") and where in line for line in errors)


def test_what_is_wrong_with_an_indicator_is_told_before_the_columns_that_it_lacks(
    run: Run, tmp_path: Path, rows: list[str]
) -> None:
    file, candles = tmp_path / "s.json", tmp_path / "c.csv"
    file.write_text(changed(indicators=[{"id": "fast", "name": "ema", "period": 3}, {"id": "slow", "name": "ema"}]))
    candles.write_bytes(text_of(rows))
    _, _, errors = run("backtest", "--strategy", file, "--candles", candles)
    assert errors[0].startswith(f"tbh: {file}: $.indicators[0].period: unknown key")


def replaced(rows: list[str], row: int, column: str, cell: object) -> list[str]:
    cells = rows[row].split(",")
    cells[HEADER.split(",").index(column)] = str(cell)
    return [*rows[:row], ",".join(cells), *rows[row + 1 :]]


def candle_files(rows: list[str]) -> dict[str, tuple[str, bytes, str]]:
    packed = gzip.compress(text_of(rows))
    later = int(rows[5].split(",")[0]) + 7
    return {
        "3 bars": ("c.csv", text_of(rows[:3]), ": 3 bars, and the strategy can't trade before it has 10"),
        "no bars": ("c.csv", text_of([]), ": 0 row(s) of candles; a market needs at least 2"),
        "NaN": ("c.csv", text_of(replaced(rows, 5, "close", "nan")), ", line 7: close is 'nan'"),
        "infinity": ("c.csv", text_of(replaced(rows, 5, "high", "inf")), ", line 7: high is 'inf'"),
        "1e400": ("c.csv", text_of(replaced(rows, 5, "high", "1e400")), "high is inf"),
        "a negative price": ("c.csv", text_of(replaced(rows, 5, "low", -1)), "low is -1.0; prices are above zero"),
        "words": ("c.csv", text_of(replaced(rows, 5, "open", "much")), ", line 7: open is 'much'"),
        "an empty cell": ("c.csv", text_of(replaced(rows, 5, "volume", "")), ", line 7: volume is empty"),
        "a short row": ("c.csv", text_of([*rows[:4], "1,2", *rows[5:]]), ", line 6: 2 cells where the header has 6"),
        "a high below the low": ("c.csv", text_of(replaced(rows, 5, "high", 1)), "high 1.0 is below"),
        "an empty file": ("c.csv", b"", ": begins with no header"),
        "garbage": ("c.csv", bytes(range(256)) * 40, ": is not UTF-8 text"),
        "garbage as gzip": ("c.csv.gz", bytes(range(256)) * 40, ": not a whole gzip file"),
        "garbage as parquet": ("c.parquet", bytes(range(256)) * 40, ": not a readable parquet file"),
        "an empty gzip": ("c.csv.gz", b"", ": begins with no header"),
        "half of a gzip": ("c.csv.gz", packed[: len(packed) // 2], ": not a whole gzip file"),
        "a gzip without its end": ("c.csv.gz", packed[:-4], ": not a whole gzip file"),
        "another header": ("c.csv", text_of(rows, "time,o,h,l,c,v"), ": has no column 'timestamp' (found: 'time, o,"),
        "no header": ("c.csv", text_of(rows[1:], rows[0]), ": has no column 'timestamp'"),
        "semicolons": ("c.csv", text_of(rows).replace(b",", b";"), ": has no column 'timestamp'"),
        "times out of order": ("c.csv", text_of([rows[1], rows[0], *rows[2:]]), "; sort the rows by time"),
        "a time given twice": ("c.csv", text_of([rows[0], *rows]), ", line 3: timestamp 2026-01-01T00:00:00Z stands"),
        "times in seconds": ("c.csv", text_of([f"{row[:10]}{row[13:]}" for row in rows]), "is not a time in millise"),
        "a time off the grid": ("c.csv", text_of(replaced(rows, 5, "timestamp", later)), "is not the open of a 60 s"),
        "another kind of file": ("c.txt", text_of(rows), ": not a known kind of candle file"),
    }


def test_wrong_candles_are_refused_at_once_with_file_and_line(run: Run, tmp_path: Path, rows: list[str]) -> None:
    strategy = tmp_path / "s.json"
    strategy.write_text(changed())
    for wrong, (name, data, told) in candle_files(rows).items():
        file = tmp_path / name
        file.write_bytes(data)
        code, out, errors = run("backtest", "--strategy", strategy, "--candles", file)
        assert (code, out, len(errors)) == (78, "", 1), wrong
        assert errors[0].startswith(f"tbh: {file}"), wrong
        assert told in errors[0], (wrong, errors[0])


@pytest.mark.parametrize("name", ["", "none.json", "s.json/x", "x" * 300 + ".json", "/dev/null"])
def test_what_is_no_file_is_refused_wherever_a_file_is_wanted(
    run: Run, tmp_path: Path, rows: list[str], name: str
) -> None:
    strategy, candles = tmp_path / "s.json", tmp_path / "c.csv"
    strategy.write_text(changed())
    candles.write_bytes(text_of(rows))
    wrong = tmp_path / name
    for arguments in (
        ("backtest", "--strategy", strategy, "--candles", wrong),
        ("backtest", "--strategy", wrong, "--candles", candles),
        ("strategy", "check", wrong),
    ):
        code, out, errors = run(*arguments)
        assert (code, out, len(errors)) == (78, "", 1)
        assert errors[0].startswith(f"tbh: {wrong}: ")
