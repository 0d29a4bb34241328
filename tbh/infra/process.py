"""What the operating system says of this process."""

from __future__ import annotations

import os
import time
from pathlib import Path


def rss_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def process_age_s() -> float:
    """Seconds since this process was started, to the kernel's clock tick (10 ms)."""
    started = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK"), 3)
