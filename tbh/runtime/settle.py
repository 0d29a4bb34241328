"""When a tree of actors on threads has settled: nothing queued, stashed, suspended or asked for.

The answer has to be exact both ways: a false one would let a replay run ahead of its actors, a missed one would
stop it for good.

- *Never false.* The cells are looked at one by one while others run. A cell that has been passed as settled can only
  be woken by a send, each send writes a number of its own to ``last_seq`` before it delivers, and whoever sends is
  busy until it has. So if every cell was settled when looked at and ``last_seq`` has not changed meanwhile, they all
  were settled together. (A send from outside, or by a background actor, counts as sent afterwards.)
- *Never missed.* Whichever cell comes to rest last looks. If somebody else is looking at that moment, it leaves a
  mark, and the one who looks sees the mark after giving up the lock, and looks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Settling:
    """Calls ``act`` once per settling, in the thread that came to rest last. ``settled`` says whether every cell that
    counts is; what ``act`` raises goes to ``on_error``."""

    def __init__(
        self, settled: Callable[[], bool], act: Callable[[], None], on_error: Callable[[BaseException], None]
    ) -> None:
        self.last_seq = 0
        self._settled = settled
        self._act = act
        self._on_error = on_error
        self._looking = threading.Lock()
        self._again = False
        self._acted_at = -1

    def look(self) -> None:
        """A cell has come to rest: see whether all have, and if so act."""
        self._again = True
        while self._again and self._looking.acquire(blocking=False):
            self._again = False
            try:
                seq = self.last_seq
                if seq != self._acted_at and self._settled() and seq == self.last_seq:
                    self._acted_at = seq
                    self._act()
            except BaseException as fault:  # noqa: BLE001 - the thread is an actor's, which has no part in it
                self._on_error(fault)
            finally:
                self._looking.release()

    def look_again(self) -> None:
        """Act again although nothing was sent since the last time."""
        self._acted_at = -1
        self.look()
