"""The clock of leases, time-outs and back-off (ARCHITECTURE §3: process time)."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def process_clock() -> float:
    """Seconds that count the time in which the machine was suspended, too: a lease goes on while a laptop sleeps."""
    return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()
