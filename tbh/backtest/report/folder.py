"""The folder of a report: it appears whole, and nothing that isn't ours is touched."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

NAMES = ("report.html", "summary.json", "trades.csv", "trades.json")


class FolderRefused(Exception):
    """A report can't go there; ``str`` says why in one line."""


def check_folder(folder: Path) -> Path:
    """The folder as an absolute path, if a report may be written there: it is absent, empty, or holds a report of ours
    alone. Raises ``FolderRefused``."""
    try:
        place = folder.resolve()
        if place == Path.cwd():
            raise FolderRefused(f"{folder} is the current folder, which can't be replaced in one step; name one in it")
        if place.exists() and not place.is_dir():
            raise FolderRefused(f"{folder} is no folder; name another")
        others = sorted(one.name for one in place.iterdir() if one.name not in NAMES) if place.exists() else []
        parent = next((one for one in place.parents if one.exists()), place)
    except (OSError, RuntimeError) as error:
        raise FolderRefused(_because(folder, error)) from error
    if others:
        raise FolderRefused(f"{folder} holds {others[0][:60]!r}, which is of no report; name a folder for it alone")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise FolderRefused(f"{folder} can't be made: {parent} can't be written; name another")
    return place


def write_folder(folder: Path, files: Mapping[str, Iterable[bytes]]) -> None:
    """Write the files (name to pieces) into a hidden folder beside ``folder``, then put that in its place, whole.

    A former report goes aside first, and comes back when the new one can't take its place. Raises ``FolderRefused``.
    """
    place = check_folder(folder)
    fresh, former = (place.with_name(f".{place.name}.{secrets.token_hex(6)}.{kind}") for kind in ("new", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        for name, pieces in files.items():
            _write(fresh / name, pieces)
        if place.exists():
            _exchange(fresh, place, former)
        else:
            fresh.rename(place)
    except OSError as error:
        raise FolderRefused(_because(folder, error)) from error
    finally:
        for left in (fresh, former):
            shutil.rmtree(left, ignore_errors=True)


def _write(file: Path, pieces: Iterable[bytes]) -> None:
    with file.open("xb") as target:
        for piece in pieces:
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())


def _exchange(fresh: Path, place: Path, former: Path) -> None:
    place.rename(former)
    try:
        # What came into the folder since it was looked at is not thrown away with it.
        if any(one.name not in NAMES for one in former.iterdir()):
            raise FileExistsError(f"{place} holds other files by now")
        fresh.rename(place)
    except BaseException:
        with suppress(OSError):
            former.rename(place)
        raise


def _because(folder: Path, error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{folder} can't be written: {reason}; name another"
