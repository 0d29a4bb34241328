"""The clocks of a live bot: its market time is the exchange's, and no step of the machine's own clock moves it.

The wall clock is read once, at the start. From then on time is what the process clock counts, which goes on while the
machine sleeps and which nobody can set; the exchange's own clock corrects it. Once the exchange's clock has
been heard, market time never goes back: where the exchange says that it is earlier than was thought, it stands still
until that has come true. What the machine said before that is forgotten: nothing was traded by it, and a machine that
is an hour ahead would keep market time from moving for an hour.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tbh.runtime.clock import process_clock


def wall_clock() -> datetime:
    """What the machine says."""
    return datetime.now(UTC)


class MarketTime:
    """Aware UTC. ``exchange_s`` gives the exchange's time in seconds since 1970, None as long as it is not known; it is
    called at every reading, so it must not ask anybody."""

    def __init__(
        self,
        exchange_s: Callable[[], float | None] = lambda: None,
        *,
        wall: Callable[[], datetime] = wall_clock,
        process: Callable[[], float] = process_clock,
    ) -> None:
        self.exchange_s = exchange_s
        self._wall = wall
        self._process = process
        self._origin_s = wall().timestamp() - process()
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._heard = False
        self._reading = threading.Lock()

    def now(self) -> datetime:
        """Market time; not before any that was given out since the exchange's clock was heard."""
        with self._reading:
            exchange_s = self.exchange_s()
            process_s = self._process()
            if exchange_s is not None:
                self._origin_s = exchange_s - process_s
            time = datetime.fromtimestamp(self._origin_s + process_s, UTC)
            first = exchange_s is not None and not self._heard
            self._heard = self._heard or first
            self._latest = time if first else max(self._latest, time)
            return self._latest

    def machine_ahead(self) -> timedelta:
        """By how much the machine's clock is ahead of market time; negative when it is behind."""
        return self._wall() - self.now()
