"""Candles as columns, and a cache of them on disk.

Reading and checking a month of minutes takes a tenth of a second from parquet and a second from csv; the cache takes
that once. It holds what was read, in one file per candle file, and is used only while the candle file is the same: by
size, times and inode, or else by the hash of its content. A damaged or foreign cache is made anew.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest.storage import replace_file
from tbh.infra.candles import SERIES, CandleError, Gap, load_candles
from tbh.messages.market import Candle

FORMAT = "tbh-columns-1"
_HEADER_BYTES = 4_096
_WORD = 8
DECIMALS_MAX = 15
EXACT_MAX = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Bars of one market, oldest first. ``stamps`` (n) is int64, ms UTC of the open; ``values`` (5, n) float64: open,
    high, low, close, volume. ``decimals`` is how many the prices are written with, at most 15."""

    name: str
    timeframe_s: int
    stamps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    decimals: int

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """The columns by name."""
        return dict(zip(SERIES, self.values, strict=True))

    def first(self, bars: int | None) -> Columns:
        """The first ``bars`` of them (None: all)."""
        if bars is None or bars >= len(self):
            return self
        return columns_of(self.name, self.timeframe_s, self.stamps[:bars], self.values[:, :bars])

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Where bars are missing between two that are there."""
        step_ms = self.timeframe_s * 1000
        steps = np.diff(self.stamps)
        return tuple(
            Gap(after_ms=int(self.stamps[row]), missing=int(steps[row] // step_ms) - 1)
            for row in np.flatnonzero(steps != step_ms)
        )


def columns_of(
    name: str,
    timeframe_s: int,
    stamps: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    *,
    decimals: int | None = None,
) -> Columns:
    """Columns from arrays that are known to be sound; what is not contiguous is copied."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    return Columns(
        name=name,
        timeframe_s=timeframe_s,
        stamps=np.ascontiguousarray(stamps, dtype=np.int64),
        values=values,
        decimals=decimals_of(values[:4]) if decimals is None else decimals,
    )


def decimals_of(prices: npt.NDArray[np.float64]) -> int:
    """With how many decimals (at most 15) every price is written; fewer where 2^53 units would not hold them all."""
    highest = float(prices.max(initial=1.0))
    for decimals in range(DECIMALS_MAX + 1):
        scale = 10.0**decimals
        if highest * scale * 10.0 > EXACT_MAX:
            return decimals
        # A look at the first prices rules most numbers out without one at all of them.
        if _written_with(prices[:, :64], scale) and _written_with(prices, scale):
            return decimals
    return DECIMALS_MAX


def _written_with(prices: npt.NDArray[np.float64], scale: float) -> bool:
    return bool((np.rint(prices * scale) / scale == prices).all())


def from_candles(name: str, timeframe_s: int, candles: Sequence[Candle]) -> Columns:
    """Columns of candles that are there as objects."""
    stamps = np.array([int(candle.open_time.timestamp()) * 1000 for candle in candles], dtype=np.int64)
    values = np.array([[float(getattr(candle, column)) for candle in candles] for column in SERIES], dtype=np.float64)
    return columns_of(name, timeframe_s, stamps, values)


def load_columns(path: Path, *, timeframe_s: int | None, cache: Path | None) -> Columns:
    """The columns of a candle file, from the folder ``cache`` if they are there (None: always from the file).
    ``CandleError`` for a file that is refused, as ``load_candles`` has it."""
    if cache is None:
        return _from_file(path, timeframe_s)
    kept = cache / f"columns-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]}.bin"
    signature = _signature(path)
    found = None if signature is None else _from_cache(kept, path, signature)
    if found is None:
        found = _from_file(path, None)
        if signature is not None and signature == _signature(path):
            _keep(kept, found, signature, _content_hash(path))
    if timeframe_s is not None and found.timeframe_s != timeframe_s:
        raise CandleError(
            f"{path}: bars are {found.timeframe_s} s apart, but the timeframe asked for is {timeframe_s} s; take a file"
            " or a timeframe that fits"
        )
    return found


def _from_file(path: Path, timeframe_s: int | None) -> Columns:
    file = load_candles(path, timeframe_s=timeframe_s)
    values = np.empty((len(SERIES), len(file)))
    for row, column in enumerate(SERIES):
        values[row] = file.arrays[column]
    return columns_of(file.name, file.timeframe_s, file.timestamps, values)


def _signature(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # reading it says why
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _content_hash(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _from_cache(kept: Path, path: Path, signature: list[int]) -> Columns | None:
    """What is kept of ``path``, None when that is nothing, not of the same file, or damaged."""
    try:
        data = np.memmap(kept, dtype=np.uint8, mode="r")
        header = json.loads(bytes(data[:_HEADER_BYTES]).rstrip(b"\0"))
        rows = int(header["rows"])
        size = rows * _WORD * (1 + len(SERIES))
        body = data[_HEADER_BYTES:]
        if header["format"] != FORMAT or len(body) != size or zlib.crc32(body.data) != header["crc"]:
            return None
        same = header["signature"] == signature
        if not same and (header["signature"][0] != signature[0] or header["content"] != _content_hash(path)):
            return None
        found = Columns(
            name=str(path),
            timeframe_s=int(header["timeframe_s"]),
            stamps=body[: rows * _WORD].view(np.int64),
            values=body[rows * _WORD :].view(np.float64).reshape(len(SERIES), rows),
            decimals=int(header["decimals"]),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if not same:
        _keep(kept, found, signature, header["content"])
    return found


def _keep(kept: Path, columns: Columns, signature: list[int], content: str) -> None:
    parts: list[Any] = [columns.stamps, columns.values]
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.reshape(-1).view(np.uint8).data, crc)
    header = {
        "format": FORMAT,
        "rows": len(columns),
        "timeframe_s": columns.timeframe_s,
        "decimals": columns.decimals,
        "signature": signature,
        "content": content,
        "crc": crc,
    }
    replace_file(kept, [json.dumps(header).encode().ljust(_HEADER_BYTES, b"\0"), *parts])
