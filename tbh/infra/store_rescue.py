"""A store that is damaged is set aside, with all that it still holds, and a new one begins.

What the bot needs comes back from the database and from the exchange, as on an empty disk. The damaged files stay for
people to look at, and people are told: whoever opens a store here gets the ``Damage`` together with the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tbh.infra.store import SqliteStore
from tbh.infra.store_mark import StoreMark
from tbh.infra.store_schema import DAMAGED
from tbh.ports import Fatal, Unavailable

STORE_FILE_NAME = "store.sqlite"
_FILES = ("", "-wal", "-shm", "-mark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What was found, and the file that the store has become."""

    reason: str
    kept: Path

    def line(self) -> str:
        """For people: what, where, and what became of it."""
        return (
            f"the local store was damaged ({self.reason}); it is set aside as {self.kept}, and a new one begins with "
            "what the database and the exchange know"
        )


def open_or_set_aside(path: Path, *, clock: Callable[[], datetime]) -> tuple[SqliteStore, Damage | None]:
    """The store, and what was wrong with the one that it takes the place of.

    Raises what ``SqliteStore.open`` raises for anything but damage, and ``Unavailable`` when the damaged files can't
    be moved.
    """
    try:
        return SqliteStore.open(path, clock=clock), None
    except Fatal as fatal:
        if fatal.reason not in DAMAGED or not _is_ours(path):
            raise
        damage = Damage(reason=fatal.detail.partition(":")[0], kept=_set_aside(path))
    return SqliteStore.open(path, clock=clock), damage


def _is_ours(path: Path) -> bool:
    """Whether the file is known to have been a store: a path set by mistake must not move a stranger's file."""
    return path.name == STORE_FILE_NAME or StoreMark(path).read() is not None


def _set_aside(path: Path) -> Path:
    """Move the store's files away together; the name that the main one has now."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    try:
        for ending in reversed(_FILES):  # the main file last: while it stands, another try moves the rest
            source = path.with_name(path.name + ending)
            if source.exists():
                source.replace(kept.with_name(kept.name + ending))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable("broken", detail=f"{path} is damaged and can't be set aside: {error.strerror}") from error
    return kept
