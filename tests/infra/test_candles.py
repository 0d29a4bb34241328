"""A candle file is read exactly, or refused with one line that says what, where and what to do."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tbh.infra import candle_formats
from tbh.infra.candles import CandleError, CandleFile, Gap, load_candles
from tbh.messages.market import Candle

START_MS = 1_700_000_040_000
HEADER = "timestamp,open,high,low,close,volume"
Row = list[Any]
Write = Callable[..., Path]


def row(index: int, **cells: Any) -> Row:
    values = {"timestamp": START_MS + index * 60_000, "open": "10.0", "high": "12", "low": "9", "close": "11"}
    return list({**values, "volume": "1.50", **cells}.values())


def rows(count: int = 5, **changed: Row) -> list[Row]:
    made = [row(index) for index in range(count)]
    for name, each in changed.items():
        made[int(name[1:])] = each
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(rows, header=..., name="c.csv")``: the file's path; gzipped when its name says so."""

    def make(content: list[Row], *, header: str = HEADER, name: str = "c.csv") -> Path:
        text = "\n".join([header, *(",".join(map(str, each)) for each in content)]) + "\n"
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return make


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def make(content: list[Row], **columns: Any) -> Path:
        table = dict(zip(HEADER.split(","), zip(*content, strict=True), strict=True))
        arrays = {
            name: pa.array([int(cell) if name == "timestamp" else float(cell) for cell in cells])
            for name, cells in table.items()
        }
        made = {name: column for name, column in {**arrays, **columns}.items() if column is not None}
        parquet.write_table(pa.table(made), tmp_path / "c.parquet")
        return tmp_path / "c.parquet"

    return make


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(CandleError) as caught:
        load_candles(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_csv_gives_the_digits_of_its_text(write: Write) -> None:
    candles = load_candles(write(rows()))
    assert candles[0] == Candle(
        open_time=datetime(2023, 11, 14, 22, 14, tzinfo=UTC),
        open=Decimal("10.0"),
        high=Decimal(12),
        low=Decimal(9),
        close=Decimal(11),
        volume=Decimal("1.50"),
    )
    assert str(candles[0].volume) == "1.50"
    assert (len(candles), candles.timeframe_s, candles.gaps, candles.gap_warning()) == (5, 60, (), None)


def test_csv_longer_than_a_piece_is_read_whole(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(load_candles(write(rows(9))))
    for size in (1, 2, 3, 9, 10):
        monkeypatch.setattr(candle_formats, "_PIECE_ROWS", size)
        path = write(rows(9), name=f"{size}.csv")
        path.write_text(path.read_text() + "\n" * 5)
        assert list(load_candles(path)) == expected
        assert "line 8: low is 'x'" in refusal(write(rows(9, r6=row(6, low="x"))))


def test_gzipped_csv_equals_csv(write: Write) -> None:
    assert list(load_candles(write(rows(), name="c.csv.gz"))) == list(load_candles(write(rows())))


def test_parquet_gives_the_shortest_digits_of_its_floats(write_parquet: Callable[..., Path]) -> None:
    content = rows(r0=row(0, close="11.1"))
    assert load_candles(write_parquet(content))[0].close == Decimal("11.1")


def test_columns_are_found_by_name_and_others_are_ignored(write: Write) -> None:
    content = [[each[5], "x", *each[:5]] for each in rows()]
    candles = load_candles(write(content, header="volume,note," + HEADER.removesuffix(",volume")))
    assert list(candles) == list(load_candles(write(rows(), name="d.csv")))


def test_byte_order_mark_crlf_and_blank_last_lines_are_no_error(tmp_path: Path) -> None:
    text = "\r\n".join([HEADER, *(",".join(map(str, each)) for each in rows())]) + "\r\n\r\n"
    path = tmp_path / "c.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load_candles(path)) == 5


def test_slice_is_a_view_with_its_own_gaps(write: Write) -> None:
    candles = load_candles(write(rows(6, r4=row(6), r5=row(7))))
    part = candles[1:4]
    assert isinstance(part, CandleFile)
    assert list(part) == list(candles)[1:4]
    assert (candles.gaps, part.gaps) == ((Gap(START_MS + 3 * 60_000, 2),), ())
    assert candles[-1] == list(candles)[-1]
    with pytest.raises(IndexError):
        candles[6]
    with pytest.raises(ValueError, match="step"):
        candles[::2]


def test_arrays_are_read_only_floats(write: Write) -> None:
    candles = load_candles(write(rows()))
    assert candles.arrays["close"].dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        candles.arrays["close"][0] = 1


def test_gap_is_reported_and_not_filled(write: Write) -> None:
    candles = load_candles(write(rows(5, r3=row(5), r4=row(9))))
    assert len(candles) == 5
    assert candles.gaps == (Gap(START_MS + 2 * 60_000, 2), Gap(START_MS + 5 * 60_000, 3))
    warning = candles.gap_warning()
    assert warning is not None
    assert "5 bars of 60 s are missing in 2 gap(s), the widest (3) after 2023-11-14T22:19:00Z" in warning


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"timestamp": START_MS}, "line 4: timestamp 2023-11-14T22:14:00Z comes after 2023-11-14T22:15:00Z; sort"),
        ({"timestamp": START_MS + 60_000}, "line 4: timestamp 2023-11-14T22:15:00Z stands there twice"),
        ({"timestamp": START_MS + 120_001}, "line 4: timestamp 2023-11-14T22:16:00.001000Z is not the open of a 60 s"),
        ({"timestamp": START_MS // 1000}, "line 4: timestamp 1700000040 is not a time in milliseconds"),
        ({"timestamp": "2023-11-14T22:16:00Z"}, "line 4: timestamp is '2023-11-14T22:16:00Z'; it must be a whole"),
        ({"timestamp": "1" * 30}, "timestamp"),
        ({"open": "nan"}, "line 4: open is 'nan'; it must be a finite number"),
        ({"high": "inf"}, "line 4: high is 'inf'; it must be a finite number"),
        ({"high": "1e999"}, "line 4 (2023-11-14T22:16:00Z): high is inf; every cell needs a finite number"),
        ({"close": ""}, "line 4: close is empty"),
        ({"close": "1_0"}, "line 4: close is '1_0'; it must be a finite number"),
        ({"close": "0x1p3"}, "line 4: close is '0x1p3'; it must be a finite number"),
        ({"close": "1-1"}, "line 4: close is '1-1'; it must be a finite number"),
        ({"close": "\uff11\uff11"}, "line 4: close holds"),
        ({"close": "9" * 41}, "line 4: close holds"),
        ({"low": "0"}, "line 4 (2023-11-14T22:16:00Z): low is 0.0; prices are above zero"),
        ({"low": "-9"}, "line 4 (2023-11-14T22:16:00Z): low is -9.0; prices are above zero"),
        ({"low": "1e-13"}, "line 4 (2023-11-14T22:16:00Z): low is 1e-13; prices lie between 1e-12 and 1e+12"),
        ({"high": "1e13"}, "line 4 (2023-11-14T22:16:00Z): high is 10000000000000.0; prices lie between"),
        ({"volume": "-1"}, "line 4 (2023-11-14T22:16:00Z): volume is -1.0; a volume is zero or more"),
        ({"volume": "1e25"}, "line 4 (2023-11-14T22:16:00Z): volume is 1e+25; a volume is zero or more"),
        ({"high": "10.5"}, "line 4 (2023-11-14T22:16:00Z): high 10.5 is below open, close or low"),
        ({"low": "10.5"}, "line 4 (2023-11-14T22:16:00Z): low 10.5 is above open or close"),
    ],
)
def test_bad_row_is_refused_by_line(changed: dict[str, Any], expected: str, write: Write) -> None:
    assert expected in refusal(write(rows(r2=row(2, **changed))))


@pytest.mark.parametrize("cell", ["open", "volume"])
def test_nan_in_parquet_is_refused_by_row(cell: str, write_parquet: Callable[..., Path]) -> None:
    assert f"row 3 (2023-11-14T22:16:00Z): {cell} is nan" in refusal(write_parquet(rows(r2=row(2, **{cell: "nan"}))))


def test_null_in_parquet_is_refused_by_row(write_parquet: Callable[..., Path]) -> None:
    pa = pytest.importorskip("pyarrow")
    path = write_parquet(rows(), close=pa.array([11.0, None, 11.0, 11.0, 11.0]))
    assert "row 2: close is empty" in refusal(path)


def test_wrong_types_in_parquet_are_refused(write_parquet: Callable[..., Path]) -> None:
    pa = pytest.importorskip("pyarrow")
    assert "column close is of type string; it must be float64" in refusal(
        write_parquet(rows(), close=pa.array(["11"] * 5))
    )
    stamps = pa.array([START_MS + index * 60_000 for index in range(5)], type=pa.timestamp("ms"))
    assert "it must be int64, ms since 1970 UTC" in refusal(write_parquet(rows(), timestamp=stamps))
    assert "has no column 'volume'" in refusal(write_parquet(rows(), volume=None))


def test_file_that_is_absent_a_folder_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "no such candle file" in refusal(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.csv")
    (tmp_path / "c.feather").write_bytes(b"x")
    assert "must end in .csv, .csv.gz or .parquet" in refusal(tmp_path / "c.feather")


def test_unreadable_file_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(rows())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # A mode without read rights does not stop root, which tests may run as.
    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read (Permission denied)" in refusal(path)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("c.csv", b"", "begins with no header"),
        ("c.csv", b"\n\n", "begins with no header"),
        ("c.csv", b"\x89PNG\xff\xfe", "is not UTF-8 text"),
        ("c.csv", (HEADER + "\n").encode("utf-16"), "is not UTF-8 text"),
        ("c.csv", b"timestamp\x00,open", "has no column 'timestamp'"),
        ("c.csv", (HEADER + "\n1,2\x00,3,4,5,6").encode(), "line 2: open holds"),
        ("c.csv", (HEADER + "\n\n1,2,3,4,5,6").encode(), "line 2: 0 cells where the header has 6"),
        ("c.csv", b"1,2,3,4,5,6\n", "has no column 'timestamp'"),
        ("c.csv", HEADER.replace(",", ";").encode(), "separated by commas"),
        ("c.csv", (HEADER + ",open\n").encode(), "has the column 'open' 2 times"),
        ("c.csv", (HEADER + "\n1,2\n").encode(), "line 2: 2 cells where the header has 6"),
        ("c.csv", (HEADER + '\n"1').encode(), "not well-formed csv"),
        ("c.csv", HEADER.encode(), "0 row(s) of candles"),
        ("c.csv.gz", b"no gzip", "not a whole gzip file"),
        ("c.csv.gz", gzip.compress(HEADER.encode(), mtime=0)[:-6], "not a whole gzip file"),
        ("c.csv.gz", b"", "begins with no header"),
        ("c.parquet", b"no parquet", "not a readable parquet file"),
        ("c.parquet", b"", "not a readable parquet file"),
        ("c.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", "not a readable parquet file"),
    ],
)
def test_data_that_is_no_candle_file_is_refused(name: str, data: bytes, expected: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(data)
    assert expected in refusal(path)


def test_one_row_is_no_market(write: Write) -> None:
    assert "1 row(s) of candles; a market needs at least 2" in refusal(write(rows(1)))


def test_timeframe_that_the_file_does_not_have_is_refused(write: Write) -> None:
    assert "bars are 60 s apart, but the timeframe asked for is 300 s" in refusal(write(rows()), timeframe_s=300)
    assert load_candles(write(rows()), timeframe_s=60).timeframe_s == 60


def test_bars_closer_than_a_second_are_refused(write: Write) -> None:
    content = [row(index, timestamp=START_MS + 500 * index) for index in range(5)]
    assert "500 ms apart" in refusal(write(content))


def test_weeks_may_begin_on_any_day(write: Write) -> None:
    monday_ms = 1_699_833_600_000
    content = [row(index, timestamp=monday_ms + index * 604_800_000) for index in range(3)]
    assert load_candles(write(content)).timeframe_s == 604_800


def test_too_much_text_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_formats, "MAX_BYTES", 100)
    assert "split it" in refusal(write(rows(9)))
    assert "split it" in refusal(write(rows(9), name="c.csv.gz"))


def test_too_many_rows_are_refused(
    write: Write, write_parquet: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_formats, "MAX_ROWS", 4)
    assert "more than 4 rows" in refusal(write(rows()))
    assert "5 rows, more than 4" in refusal(write_parquet(rows()))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "install the extra 'parquet'" in refusal(path)


def test_csv_does_not_import_pyarrow(write: Write) -> None:
    code = f"import sys; from tbh.infra.candles import load_candles as f; f({str(write(rows()))!r}); "
    code += "sys.exit('pyarrow' in sys.modules or 'pandas' in sys.modules)"
    repository = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0


@given(
    prices=st.lists(st.decimals("0.00000001", "999999", places=8), min_size=2, max_size=20),
    missing=st.sets(st.integers(1, 18)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sound_file_is_read_back_exactly(prices: list[Decimal], missing: set[int], write: Write) -> None:
    kept = [index for index in range(len(prices) + 30) if index not in missing][: len(prices)]
    content = [
        [START_MS + index * 60_000, price, price, price, price, 0] for index, price in zip(kept, prices, strict=True)
    ]
    # Two neighbours at the end keep the minute the most common step.
    last = kept[-1] + 1
    content += [[START_MS + (last + index) * 60_000, 1, 1, 1, 1, 0] for index in range(40)]
    candles = load_candles(write(content))
    assert [str(candle.close) for candle in candles][: len(prices)] == [str(price) for price in prices]
    assert sum(gap.missing for gap in candles.gaps) == last + 40 - len(candles) - kept[0]


@given(data=st.binary(max_size=300), name=st.sampled_from(["c.csv", "c.csv.gz", "c.parquet"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_is_refused_in_one_line(data: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    refusal(path)


def test_recorded_files_have_the_gaps_that_are_known_of_them(shared_data: Path) -> None:
    folder = shared_data / "candles"
    assert load_candles(folder / "binance_usdm_BTCUSDT_1m.parquet").gaps == ()
    assert [gap.missing for gap in load_candles(folder / "coinbase_ETHUSD_1d.parquet").gaps] == [2]
    assert [gap.missing for gap in load_candles(folder / "binance_spot_ETHUSDT_5m_2023-03.parquet").gaps] == [16]


def test_recorded_parquet_equals_itself_as_csv(shared_data: Path, tmp_path: Path) -> None:
    file = load_candles(shared_data / "candles" / "binanceus_ETHUSD_5m.parquet")
    path = tmp_path / "c.csv"
    with path.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(HEADER.split(","))
        for stamp, candle in zip(file.timestamps.tolist(), file, strict=True):
            writer.writerow([stamp, candle.open, candle.high, candle.low, candle.close, candle.volume])
    assert list(load_candles(path)) == list(file)
