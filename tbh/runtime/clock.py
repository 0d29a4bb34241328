"""The two clocks of ARCHITECTURE §3: process time of leases, time-outs and back-off; market time, unless a replay has
its own."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def process_clock() -> float:
    """Seconds that count the time in which the machine was suspended, too: a lease goes on while a laptop sleeps."""
    return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()


wall_clock = partial(datetime.now, UTC)
"""Aware UTC now."""
