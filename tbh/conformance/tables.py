"""Manifests of published cases, and the tables they name.

A manifest is JSON with ``cases`` (each ``id``, ``indicator``, ``params``, ``input.files``, ``expected.file``,
``expected.columns``, ``tolerance``) and optionally ``talib_oracle`` (parquet tables that hold inputs and
``FUNCTION.output`` columns). Files are named relative to the folder above the manifest's.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import SERIES, TIME

_DATE_FORMATS = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%y %I:%M %p", "%m/%d/%Y", "%Y%m%d %H:%M")
_TIMES = ("timestamp", "date", "time", "t")


class TableError(ValueError):
    """A manifest or a table that cannot be read: one line, what and where."""


@dataclass(frozen=True, slots=True)
class Case:
    """One published case. ``family`` is what the id says before its first dot."""

    id: str
    indicator: str
    params: Mapping[str, Any]
    input_files: Sequence[Path]
    expected_file: Path
    columns: Sequence[str]
    absolute: float
    relative: float

    @property
    def family(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Oracle:
    """A table of TA-Lib's own values: the file, and for each function its parameters and columns."""

    file: Path
    functions: Sequence[Mapping[str, Any]]
    absolute: float
    relative: float


def read_manifest(path: Path) -> tuple[list[Case], list[Oracle]]:
    """The cases and the tables of TA-Lib that ``path`` names. TableError with the place of what is wrong."""
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise TableError(f"{path}: is no JSON: {error}") from error
    root = path.resolve().parent.parent
    try:
        cases = [_case(each, root) for each in manifest["cases"]]
        oracles = [_oracle(each, root) for each in manifest.get("talib_oracle", ())]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(f"{path}: is no manifest of cases: {type(error).__name__} {error}") from error
    return cases, oracles


def _case(raw: Mapping[str, Any], root: Path) -> Case:
    tolerance = raw.get("tolerance") or {}
    return Case(
        id=str(raw["id"]),
        indicator=str(raw["indicator"]),
        params=dict(raw.get("params") or {}),
        input_files=tuple(root / each for each in raw["input"]["files"]),
        expected_file=root / raw["expected"]["file"],
        columns=tuple(raw["expected"]["columns"]),
        absolute=float(tolerance.get("abs", 0.0)),
        relative=float(tolerance.get("rel", 0.0)),
    )


def _oracle(raw: Mapping[str, Any], root: Path) -> Oracle:
    tolerance = raw["tolerance"]
    return Oracle(
        file=root / raw["file"],
        functions=tuple(raw["functions"]),
        absolute=float(tolerance.get("abs", 0.0)),
        relative=float(tolerance.get("rel", 0.0)),
    )


class Table:
    """A csv file by its columns. Names are looked up without case and blanks around them."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8-sig", newline="") as text:
                rows = list(csv.reader(text))
        except OSError as error:
            raise TableError(f"{path}: {error.strerror}") from error
        if not rows:
            raise TableError(f"{path}: is empty")
        self._path = path
        self._places: dict[str, int] = {}
        for place, name in enumerate(rows[0]):
            self._places.setdefault(name.strip().lower(), place)
        self._rows = [row for row in rows[1:] if any(cell.strip() for cell in row)]

    def __contains__(self, name: str) -> bool:
        return name.strip().lower() in self._places

    def texts(self, name: str) -> list[str]:
        """The cells of a column. TableError when there is none of that name."""
        place = self._places.get(name.strip().lower())
        if place is None:
            raise TableError(f"{self._path}: has no column {name!r}")
        return [row[place].strip() if place < len(row) else "" for row in self._rows]

    def numbers(self, name: str) -> FloatArray:
        """A column as float64, null where a cell is empty. TableError for a cell that is neither number nor word.

        Words: true is 1 and false 0, H (a high) 1 and L (a low) -1, and times are ms UTC.
        """
        try:
            return np.array([_number(text) for text in self.texts(name)], dtype=np.float64)
        except ValueError as error:
            raise TableError(f"{self._path}: column {name!r}: {error}") from error

    def series(self) -> dict[str, FloatArray]:
        """The series of a market that the file has, TIME among them where a column holds times."""
        found = {name: self.numbers(name) for name in SERIES if name in self}
        for name in _TIMES:
            if name in self:
                times = np.array([_milliseconds(text) for text in self.texts(name)], dtype=np.float64)
                if not np.isnan(times).any():
                    found[TIME] = times
                break
        return found


def read_parquet(path: Path) -> dict[str, FloatArray]:
    """The columns of a parquet file as float64. TableError without pyarrow, which reads them."""
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise TableError(f"{path}: parquet files need pyarrow: pip install 'tbh[parquet]'") from error
    try:
        table = parquet.read_table(path)
    except OSError as error:
        raise TableError(f"{path}: {error}") from error
    numeric = [field.name for field in table.schema if str(field.type).startswith(("double", "int", "float"))]
    return {name: np.ascontiguousarray(table[name].to_numpy(), dtype=np.float64) for name in numeric}


_WORDS = {"": float("nan"), "true": 1.0, "false": 0.0, "h": 1.0, "l": -1.0}


def _number(text: str) -> float:
    known = _WORDS.get(text.lower())
    if known is not None:
        return known
    try:
        return float(text)
    except ValueError:
        time = _milliseconds(text)
    if math.isnan(time):
        raise ValueError(f"{text!r} is no number")
    return time


def _milliseconds(text: str) -> float:
    """ms UTC of a time as the families write it, null for anything else."""
    if text.isdigit():
        return float(text) * (1.0 if len(text) > 11 else 1_000.0)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000.0
    except ValueError:
        pass
    for form in _DATE_FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1_000.0
        except ValueError:
            continue
    return float("nan")
