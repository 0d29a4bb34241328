"""The timer wheel of the thread host: one thread, a heap of due times, and only ever a call that tells."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

COMPACT_MIN = 1_024


class TimerToken:
    """A pending call; ``cancel`` makes it a no-op. Its heap entry goes when due, or when dead entries pile up."""

    __slots__ = ("act",)

    def __init__(self, act: Callable[[], None]) -> None:
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        self.act = None


class TimerWheel:
    """Runs calls when due, on the process clock. A call must be quick and must not raise; one that does is passed to
    ``on_error`` and the wheel goes on."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._heap: list[tuple[float, int, TimerToken]] = []
        self._count = itertools.count()
        self._compact_at = COMPACT_MIN
        self._ready = threading.Condition(threading.Lock())
        self._stopping = False
        self._on_error = on_error
        self._thread = threading.Thread(target=self._run, name="tbh-timers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call_after(self, delay_s: float, act: Callable[[], None]) -> TimerToken:
        """Call ``act`` once, ``delay_s`` from now, in the wheel's thread."""
        token = TimerToken(act)
        due_s = time.monotonic() + max(delay_s, 0.0)
        with self._ready:
            if len(self._heap) >= self._compact_at:
                self._heap = [entry for entry in self._heap if entry[2].act is not None]
                heapq.heapify(self._heap)
                self._compact_at = max(COMPACT_MIN, 2 * len(self._heap))
            heapq.heappush(self._heap, (due_s, next(self._count), token))
            if self._heap[0][2] is token:  # waking the thread for a later call would only cost a switch
                self._ready.notify()
        return token

    def stop(self, timeout_s: float) -> None:
        """End the thread; what is pending is dropped."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._stopping:
                    if not self._heap:
                        self._ready.wait()
                        continue
                    wait_s = self._heap[0][0] - time.monotonic()
                    if wait_s <= 0:
                        break
                    self._ready.wait(wait_s)
                if self._stopping:
                    return
                token = heapq.heappop(self._heap)[2]
            act = token.act
            if act is not None:
                try:
                    act()
                except Exception as fault:  # noqa: BLE001 - one bad call must not end everybody's timers
                    self._on_error(fault)
