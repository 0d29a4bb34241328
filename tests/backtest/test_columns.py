"""Candles as columns: what is read, and a cache that is never believed without a look."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tbh.backtest import columns as module
from tbh.backtest.columns import Columns, decimals_of, load_columns
from tbh.infra.candles import CandleError, load_candles

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST_MS = 1_767_225_600_000


def write(file: Path, closes: list[str], *, step_ms: int = 60_000) -> Path:
    rows = [f"{FIRST_MS + number * step_ms},{close},{close},{close},{close},1\n" for number, close in enumerate(closes)]
    file.write_text(HEADER + "".join(rows))
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "bars.csv", ["1.5", "2.25", "3"])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which candle files are read themselves."""
    seen: list[Path] = []

    def load(path: Path, *, timeframe_s: int | None) -> object:
        seen.append(path)
        return load_candles(path, timeframe_s=timeframe_s)

    monkeypatch.setattr(module, "load_candles", load)
    return seen


def closes(columns: Columns) -> list[float]:
    return list(columns.arrays["close"])


def test_the_columns_are_those_of_the_file(file: Path) -> None:
    columns = load_columns(file, timeframe_s=60, cache=None)
    assert (len(columns), columns.timeframe_s, columns.decimals) == (3, 60, 2)
    assert closes(columns) == [1.5, 2.25, 3.0]
    assert columns.stamps.tolist() == [FIRST_MS, FIRST_MS + 60_000, FIRST_MS + 120_000]


def test_a_second_load_comes_from_the_cache_and_is_equal(file: Path, cache: Path, reads: list[Path]) -> None:
    first, second = (load_columns(file, timeframe_s=60, cache=cache) for _ in range(2))
    assert len(reads) == 1
    assert (first.values == second.values).all()
    assert (first.stamps == second.stamps).all()
    assert (first.decimals, first.timeframe_s) == (second.decimals, second.timeframe_s)


def test_a_file_with_new_content_is_read_anew(file: Path, cache: Path, reads: list[Path]) -> None:
    load_columns(file, timeframe_s=60, cache=cache)
    write(file, ["1.5", "2.26", "3"])
    assert closes(load_columns(file, timeframe_s=60, cache=cache)) == [1.5, 2.26, 3.0]
    assert len(reads) == 2


def test_a_file_that_was_only_touched_is_known_by_its_content(file: Path, cache: Path, reads: list[Path]) -> None:
    load_columns(file, timeframe_s=60, cache=cache)
    os.utime(file, ns=(1, 1))
    load_columns(file, timeframe_s=60, cache=cache)
    assert len(reads) == 1


def test_content_that_kept_size_and_time_is_noticed(file: Path, cache: Path) -> None:
    load_columns(file, timeframe_s=60, cache=cache)
    before = file.stat()
    file.write_text(file.read_text().replace("2.25", "2.75"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert closes(load_columns(file, timeframe_s=60, cache=cache)) == [1.5, 2.75, 3.0]


@pytest.mark.parametrize("damage", [b"", b"no header", None])
def test_a_damaged_cache_is_made_anew(file: Path, cache: Path, reads: list[Path], damage: bytes | None) -> None:
    load_columns(file, timeframe_s=60, cache=cache)
    (kept,) = cache.iterdir()
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(bytes(data) if damage is None else damage)
    assert closes(load_columns(file, timeframe_s=60, cache=cache)) == [1.5, 2.25, 3.0]
    load_columns(file, timeframe_s=60, cache=cache)
    assert len(reads) == 2, "read anew once, then kept again"


def test_a_cache_that_cannot_be_written_is_none(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder is wanted")
    assert closes(load_columns(file, timeframe_s=60, cache=tmp_path / "taken")) == [1.5, 2.25, 3.0]


def test_nothing_is_left_beside_what_is_kept(file: Path, cache: Path) -> None:
    load_columns(file, timeframe_s=60, cache=cache)
    assert [kept.suffix for kept in cache.iterdir()] == [".bin"]


@pytest.mark.parametrize("cached", [False, True])
def test_bars_of_another_length_are_refused_with_the_path(file: Path, cache: Path, cached: bool) -> None:
    if cached:
        load_columns(file, timeframe_s=60, cache=cache)
    with pytest.raises(CandleError, match=r"bars\.csv: bars are 60 s apart, but the timeframe asked for is 300 s"):
        load_columns(file, timeframe_s=300, cache=cache)


def test_gaps_are_known(tmp_path: Path) -> None:
    file = write(tmp_path / "bars.csv", ["1", "1", "1"])
    file.write_text(file.read_text() + f"{FIRST_MS + 5 * 60_000},1,1,1,1,1\n")
    assert [gap.missing for gap in load_columns(file, timeframe_s=60, cache=None).gaps] == [2]


@pytest.mark.parametrize(
    ("prices", "decimals"),
    [([1.0, 2.0], 0), ([1.25, 0.1], 2), ([0.00001234], 8), ([91437.5, 0.1], 1), ([1 / 3], 15), ([123456789.125], 3)],
)
def test_decimals_are_those_that_the_prices_are_written_with(prices: list[float], decimals: int) -> None:
    assert decimals_of(np.array([prices] * 4)) == decimals
