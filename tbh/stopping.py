"""SIGINT and SIGTERM: a wish to stop in order, which whoever runs is told of."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE_S = 0.05


class Stop:
    """Whether a signal has asked for the end, and who is told of it."""

    def __init__(self) -> None:
        self.asked = False
        self._tell: Callable[[], None] | None = None

    def tell(self, whom: Callable[[], None]) -> None:
        """Call ``whom`` when a signal comes, or now when it has come already."""
        self._tell = whom
        if self.asked:
            whom()

    def ask(self) -> None:
        """Ask for the end."""
        self.asked = True
        if self._tell is not None:
            self._tell()

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond a signal."""
        # In slices: a signal's handler may take no lock that this thread could hold, so it can only leave a mark.
        end_s = time.monotonic() + seconds
        while not self.asked and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _SLICE_S))


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM ask for an ordered stop; a second SIGINT ends the process at once, as a kill would."""
    stop = Stop()
    former = {}

    def asked(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        stop.ask()

    # Only the main thread may handle signals; a test that calls the command elsewhere goes without.
    numbers = STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        former[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
