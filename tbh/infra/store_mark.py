"""How far a store had come, beside its file: so that a store which has lost what it had written is found out.

SQLite takes a log whose end is missing for one that was never longer, and goes on with what was true some time ago. The
mark says otherwise. It is written after each flushed commit and is not flushed itself, so after a loss of power it may
be behind the store, and never ahead of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_FORM = re.compile(rb"([0-9a-f]{32}) ([0-9]{20})\n")


class StoreMark:
    """The file ``<store>-mark``: the store's id and the number of its last flushed outbox entry."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(store.name + "-mark")
        self._fd: int | None = None

    def read(self) -> tuple[str, int] | None:
        """(store id, last sequence number), None when there is no mark that can be read."""
        try:
            found = _FORM.fullmatch(self.path.read_bytes())
        except OSError:
            return None
        return None if found is None else (found[1].decode(), int(found[2]))

    def write(self, store_id: str, last_seq: int) -> None:
        """Set it. A disk that does not take it leaves the old one, which is as good, only older."""
        with suppress(OSError):
            if self._fd is None:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(self._fd, b"%s %020d\n" % (store_id.encode(), last_seq), 0)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
