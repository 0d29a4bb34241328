"""Lock-step: a recorded market moves on only when nothing is under way.

The host calls ``settled`` whenever no message is queued or stashed and no request is open in any foreground actor. So
the same bars meet the same orders at any speed, on any machine, every time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from tbh.messages.base import Message
from tbh.messages.market import Advance
from tbh.runtime.cell import Cell

BACKLOG_MAX = 1_000
"""Messages that a background actor may have waiting before a replay pauses for it: a tenth of its mailbox."""

BACKLOG_PAUSE_S = 0.005

LOOK_EVERY_S = 1.0
"""Looks at the market's progress come many times a second; a longer gap means that the process did not run."""


class Recording(Protocol):
    """The recorded market: how many bars it has released, and whether that was all."""

    @property
    def position(self) -> int: ...

    @property
    def ended(self) -> bool: ...


class Driven(Protocol):
    """The host of the tree."""

    @property
    def cells(self) -> Sequence[Cell]: ...

    @property
    def escalation(self) -> tuple[str, str, int] | None: ...

    def publish(self, message: Message) -> None: ...
    def call_after(self, delay_s: float, act: Callable[[], None]) -> object: ...
    def look_again(self) -> None: ...


Pace = Callable[[int], float]
"""How fast a recording may go: from the number of bars that have closed to the seconds until the next one is due."""


def at_once(_position: int) -> float:
    """As fast as it goes."""
    return 0.0


class BarsPerSecond:
    """So many bars a second of real time, counted from the first question."""

    def __init__(self, bars_per_s: float) -> None:
        self._bars_per_s = bars_per_s
        self._first: tuple[float, int] | None = None

    def __call__(self, position: int) -> float:
        now_s = time.monotonic()
        if self._first is None:
            self._first = now_s, position
        started_s, first_bar = self._first
        return started_s + (position - first_bar) / self._bars_per_s - now_s


class OpenSince:
    """A market that opened at ``opened_at`` and closes ``bars_per_s`` bars a second, whether or not anybody looks."""

    def __init__(self, opened_at: datetime, bars_per_s: float) -> None:
        self._opened_s = opened_at.timestamp()
        self._bars_per_s = bars_per_s

    def __call__(self, position: int) -> float:
        # The last phases of a bar are released together with its close, so the bar is due when it closes.
        return self._opened_s + (position + 1) / self._bars_per_s - time.time()


class LockStep:
    """Releases the market step by step, at most as fast as ``pace`` allows, for ``bars_max`` bars (None: all).

    ``ended`` is set once the last bar has closed and everything that followed from it is done; ``hold`` stops the
    releases, so that the tree comes to rest where it is. ``on_first`` is called before the first release.
    """

    def __init__(
        self,
        market: Recording,
        *,
        pace: Pace,
        bars_max: int | None = None,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        self.ended = threading.Event()
        self._on_first = on_first
        self.host: Driven | None = None
        self._market = market
        self._pace = pace
        self._last_bar = None if bars_max is None else market.position + bars_max
        self._held = False
        self._pausing = False
        self._looked_s = time.monotonic()
        self._end_released = False
        self._due_s = time.monotonic()
        self._turn = 0

    def stalled_s(self) -> float:
        """For how long something has been under way without coming to rest (or to a pause's end); to be asked often.

        Time in which nobody asked is not counted: then the whole process stood still (suspended, or its machine was).
        """
        now_s = time.monotonic()
        if now_s - self._looked_s > LOOK_EVERY_S:
            self._due_s += now_s - self._looked_s
        self._looked_s = now_s
        return 0.0 if self._held or self.ended.is_set() else now_s - self._due_s

    def hold(self) -> None:
        """Release nothing more."""
        self._held = True

    def settled(self) -> None:
        """Nothing is under way: release the next step, or note the end."""
        host = self.host
        if host is None or self._held or self.ended.is_set() or host.escalation is not None:
            return  # an actor that has escalated counts as settled, and its market must not go on without it
        if self._market.ended:
            self._release_end(host)
            return
        if self._last_bar is not None and self._market.position >= self._last_bar:
            self.ended.set()
            return
        pause_s = self._pause_s(host)
        self._due_s = time.monotonic() + max(pause_s, 0.0)
        if pause_s > 0:
            if not self._pausing:  # the tree settles many times during one pause; one look afterwards is enough
                self._pausing = True
                host.call_after(pause_s, lambda: self._pause_over(host))
            return
        self._turn += 1
        if self._turn == 1 and self._on_first is not None:
            self._on_first()
        host.publish(Advance(turn=self._turn))

    def _pause_over(self, host: Driven) -> None:
        self._pausing = False
        host.look_again()

    def _release_end(self, host: Driven) -> None:
        """One more step lets the feed find out that there is nothing more, and say so; then it has ended."""
        if self._end_released:
            self.ended.set()
            return
        self._end_released = True
        self._turn += 1
        host.publish(Advance(turn=self._turn))

    def _pause_s(self, host: Driven) -> float:
        if any(len(cell.mailbox) > BACKLOG_MAX for cell in host.cells if cell.spec.background):
            return BACKLOG_PAUSE_S
        return self._pace(self._market.position)
