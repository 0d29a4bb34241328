"""The two ways a candle file is written down, read into the same columns; ``tbh/infra/candles.py`` judges them."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
SERIES = COLUMNS[1:]
MAX_ROWS = 5_000_000
"""Nine years of minutes; more than that is no single session's market."""
MAX_BYTES = 512 * 1024 * 1024
MAX_CELL = 40
"""Characters of one number: more digits than any exchange prints, and few enough to store compactly."""

_PIECE_ROWS = 8_192
_NUMBER_CHARACTERS = frozenset("0123456789+-.eE")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class CandleError(ValueError):
    """A candle file is refused: one line with what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A file's columns, unjudged but numeric. ``texts`` are a csv's cells as written."""

    file: Path
    timestamps: npt.NDArray[np.int64]
    arrays: Mapping[str, npt.NDArray[np.float64]]
    texts: Mapping[str, npt.NDArray[np.bytes_]] | None
    row_word: str
    row_offset: int

    def where(self, row: int) -> str:
        """``row`` counts from 0; what people see counts from 1, and lines of a csv include its header."""
        return f"{self.file}, {self.row_word} {row + 1 + self.row_offset}"


def read_columns(file: Path) -> Columns:
    """Read ``file`` by its ending. CandleError when it cannot be opened, is no such file, or lacks a column."""
    name = file.name.lower()
    try:
        if file.is_dir():
            raise CandleError(f"{file}: is a folder; name a candle file in it (.csv, .csv.gz, .parquet)")
        if not file.exists():
            raise CandleError(f"{file}: no such candle file; check the path")
        if not file.is_file():
            # A pipe that nobody writes to would keep the reader for ever.
            raise CandleError(f"{file}: is a pipe or a device; name a candle file (.csv, .csv.gz, .parquet)")
        if name.endswith(".parquet"):
            return _read_parquet(file)
        if name.endswith((".csv", ".csv.gz")):
            return _read_csv(file, _csv_bytes(file, compressed=name.endswith(".gz")))
    except OSError as error:
        raise CandleError(
            f"{file}: cannot be read ({error.strerror or error}); check the file and its rights"
        ) from error
    raise CandleError(f"{file}: not a known kind of candle file; its name must end in .csv, .csv.gz or .parquet")


def _csv_bytes(file: Path, *, compressed: bool) -> bytes:
    if not compressed:
        with file.open("rb") as plain:
            data = plain.read(MAX_BYTES + 1)
    else:
        try:
            with gzip.open(file, "rb") as packed:
                data = packed.read(MAX_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CandleError(f"{file}: not a whole gzip file ({error}); fetch it again, or name it .csv") from error
    if len(data) > MAX_BYTES:
        raise CandleError(f"{file}: more than {MAX_BYTES // 1024**2} MiB of text; split it")
    return data


def _read_csv(file: Path, data: bytes) -> Columns:
    # A piece at a time: a million rows as Python strings would take ten times the room of the file.
    pieces: list[list[npt.NDArray[np.bytes_]]] = []
    try:
        with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if not any(header):
                raise CandleError(f"{file}: begins with no header; it needs {','.join(COLUMNS)} and rows")
            places = [_place(file, header, name) for name in COLUMNS]
            line = 2
            while rows := list(itertools.islice(reader, _PIECE_ROWS)):
                _check_rows(file, rows, len(header), line, reader)
                if rows:
                    pieces.append([_cells(file, header[at], [row[at].strip() for row in rows], line) for at in places])
                line += len(rows)
                if line - 2 > MAX_ROWS:
                    raise CandleError(f"{file}: more than {MAX_ROWS} rows; split it")
    except UnicodeDecodeError as error:
        raise CandleError(f"{file}: is not UTF-8 text ({error.reason}); save it as a UTF-8 csv file") from error
    except csv.Error as error:
        raise CandleError(f"{file}: not well-formed csv ({error}); save it again") from error
    texts = {
        name: np.concatenate([piece[at] for piece in pieces]) if pieces else np.empty(0, dtype="S1")
        for at, name in enumerate(COLUMNS)
    }
    stamps = texts.pop("timestamp")
    try:
        timestamps = stamps.astype(np.int64)
    except (ValueError, OverflowError):
        _refuse_cell(
            file, "timestamp", stamps, re.compile(r"\d{1,18}", re.ASCII), "a whole number of ms since 1970 UTC"
        )
    arrays = {name: _floats(file, name, cells) for name, cells in texts.items()}
    return Columns(file=file, timestamps=timestamps, arrays=arrays, texts=texts, row_word="line", row_offset=1)


def _check_rows(file: Path, rows: list[list[str]], width: int, line: int, rest: Iterator[list[str]]) -> None:
    """Refuse rows of another width; blank lines at the very end are dropped."""
    if not any(rows[-1]) and not any(any(row) for row in rest):
        while rows and not any(rows[-1]):
            rows.pop()
    for number, row in enumerate(rows, start=line):
        if len(row) != width:
            raise CandleError(f"{file}, line {number}: {len(row)} cells where the header has {width}; complete the row")


def _floats(file: Path, name: str, cells: npt.NDArray[np.bytes_]) -> npt.NDArray[np.float64]:
    # numpy also reads nan, inf and 1_000 as numbers; the characters tell, without a look at every cell.
    if not _NUMBER_CHARACTERS.issuperset(cells.tobytes().replace(b"\0", b"").decode("ascii")):
        _refuse_cell(file, name, cells, _NUMBER, "a finite number")
    try:
        return cells.astype(np.float64)
    except ValueError:
        _refuse_cell(file, name, cells, _NUMBER, "a finite number")


def _place(file: Path, header: list[str], name: str) -> int:
    count = header.count(name)
    if count == 1:
        return header.index(name)
    found = ", ".join(cell[:MAX_CELL] for cell in header[:12]) or "nothing"
    problem = f"has no column {name!r}" if count == 0 else f"has the column {name!r} {count} times"
    raise CandleError(f"{file}: {problem} (found: {found!r}); it needs {','.join(COLUMNS)}, separated by commas")


def _cells(file: Path, name: str, cells: list[str], line: int) -> npt.NDArray[np.bytes_]:
    for number, cell in enumerate(cells, start=line):
        if not cell or len(cell) > MAX_CELL or not cell.isascii() or "\0" in cell:
            what = "is empty" if not cell else f"holds {cell[:MAX_CELL]!r}, which is no number"
            raise CandleError(f"{file}, line {number}: {name} {what}; every cell needs a number")
    return np.array(cells, dtype=np.bytes_)


def _refuse_cell(file: Path, name: str, cells: npt.NDArray[np.bytes_], good: re.Pattern[str], wanted: str) -> NoReturn:
    for number, cell in enumerate(cells, start=2):
        text = cell.decode("ascii")
        if not good.fullmatch(text):
            raise CandleError(f"{file}, line {number}: {name} is {text!r}; it must be {wanted}")
    raise CandleError(f"{file}: column {name} holds a value out of range; it must be {wanted}")


def _read_parquet(file: Path) -> Columns:
    try:
        # An extra of 40 MB that a bot without parquet files never loads.
        import pyarrow as pa  # noqa: PLC0415  # only with the extra
        import pyarrow.parquet as pq  # noqa: PLC0415  # only with the extra
    except ImportError as error:
        raise CandleError(f"{file}: parquet needs pyarrow; install the extra 'parquet', or convert to csv") from error
    # Arrow's own allocators keep what was freed; a column that is done with is room for the next.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        with pq.ParquetFile(file) as parquet:
            for name in COLUMNS:
                _place(file, parquet.schema_arrow.names, name)
            if parquet.metadata.num_rows > MAX_ROWS:
                raise CandleError(f"{file}: {parquet.metadata.num_rows} rows, more than {MAX_ROWS}; split it")
            arrays = {name: _parquet_column(file, parquet, name) for name in COLUMNS}
    except (pa.ArrowException, OSError) as error:
        # pyarrow reports broken contents as an OSError as well, but only the system's own carries a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CandleError(f"{file}: not a readable parquet file ({reason}); fetch it again") from error
    timestamps = arrays.pop("timestamp")
    return Columns(file=file, timestamps=timestamps, arrays=arrays, texts=None, row_word="row", row_offset=0)


def _parquet_column(file: Path, parquet: Any, name: str) -> npt.NDArray[Any]:
    """One column at a time: all of them as a table would be a second copy of the file in memory."""
    import pyarrow as pa  # noqa: PLC0415  # only with the extra

    column = parquet.read(columns=[name], use_threads=False).column(0)
    fits = pa.types.is_integer(column.type) or (name != "timestamp" and pa.types.is_float64(column.type))
    if not fits:
        wanted = "int64, ms since 1970 UTC" if name == "timestamp" else "float64"
        raise CandleError(f"{file}: column {name} is of type {column.type}; it must be {wanted}")
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise CandleError(f"{file}, row {row}: {name} is empty; every cell needs a number")
    return np.ascontiguousarray(column.to_numpy(), dtype=np.int64 if name == "timestamp" else np.float64)
