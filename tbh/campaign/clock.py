"""The clocks of one simulated process."""

from __future__ import annotations

from datetime import datetime, timedelta

from tbh.runtime.timeline import Timeline
from tbh.simulation.market import START


class ProcessClock:
    """Reads the world's time: ``now`` is the exchange's clock but for ``error_s``, ``monotonic`` counts seconds."""

    def __init__(self, time: Timeline, error_s: float) -> None:
        self._time = time
        self._zero = START + timedelta(seconds=error_s)
        self._read = self._zero
        self._read_ns = 0

    def now(self) -> datetime:
        """Market time."""
        now_ns = self._time.now_ns
        if now_ns != self._read_ns:  # one handler asks several times
            self._read_ns = now_ns
            self._read = self._zero + timedelta(microseconds=now_ns // 1_000)
        return self._read

    def monotonic(self) -> float:
        """Process time."""
        return self._time.now_ns / 1e9
