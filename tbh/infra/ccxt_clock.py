"""The exchange's clock, as far as it can be known from here.

It is anchored to the process's monotonic clock, never to the machine's time of day: that one may be stepped by an hour
while orders are signed. One sample is the server's time against the middle of the question's way; the median of the
last few stands, so that one slow answer moves nothing.
"""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import Final

SAMPLES_MAX: Final = 5
SAMPLE_EVERY_S: Final = 60.0

# Linux's CLOCK_BOOTTIME goes on while the machine sleeps, as the exchange's clock does.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def process_s() -> float:
    """Seconds on a clock that is never stepped and counts suspended time."""
    return time.clock_gettime(_CLOCK)


class ExchangeClock:
    """The exchange's time in milliseconds since 1970, from samples."""

    def __init__(self) -> None:
        self._origins: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._origin_ms: float | None = None
        self._sampled_s = float("-inf")

    @property
    def known(self) -> bool:
        """Whether there ever was a sample."""
        return self._origin_ms is not None

    @property
    def believed(self) -> bool:
        """Whether nothing has spoken against it since the last sample."""
        return bool(self._origins)

    @property
    def due(self) -> bool:
        """Whether it is time for another sample."""
        return process_s() - self._sampled_s > SAMPLE_EVERY_S

    def take(self, server_ms: int, *, asked_s: float, answered_s: float) -> None:
        """A sample: the server's time, and ``process_s`` just before the question and just after the answer."""
        self._origins.append(server_ms - (asked_s + answered_s) * 500.0)
        self._origin_ms = median(self._origins)
        self._sampled_s = answered_s

    def forget(self) -> None:
        """The exchange disagrees with this clock: only new samples count. Until there is one, the old time is told."""
        self._origins.clear()
        self._sampled_s = float("-inf")

    def now_ms(self) -> float:
        """May be asked from any thread. Raises ``LookupError`` before the first sample."""
        origin_ms = self._origin_ms
        if origin_ms is None:
            raise LookupError("the exchange's clock is not known yet")
        return origin_ms + process_s() * 1000.0
