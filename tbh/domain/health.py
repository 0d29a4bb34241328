"""Rolling health: how often things happened lately, when evidence of it is due, and which errors are one.

All are told the time in seconds of a clock that never goes back; neither reads one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 900.0
"""Fifteen minutes: what every ``_15m`` figure covers."""
KEYS_MAX = 64
IN_POSITION_INTERVAL_MAX_S = 15.0
DEBOUNCE_S = 3.0
REASONS_MAX = 8
CLUSTER_S = 60.0
CLUSTERS_MAX = 100
_TOLERANCE_S = 0.25


class HealthWindow:
    """Counts per key over the last ``window_s`` seconds, to the second: what happened within one whole second is one
    entry, so a key costs at most ``window_s`` + 1 of them. ``ValueError`` for more than ``KEYS_MAX`` keys."""

    def __init__(self, *, window_s: float = WINDOW_S) -> None:
        if not window_s >= 1:
            raise ValueError(f"a window is at least one second long: {window_s}")
        self._window_s = int(window_s)
        self._entries: dict[str, deque[tuple[int, int]]] = {}
        self._totals: dict[str, int] = {}

    def add(self, key: str, now_s: float, count: int = 1) -> None:
        """Count ``count`` more at ``now_s``."""
        entries = self._entries.get(key)
        if entries is None:
            if len(self._entries) >= KEYS_MAX:
                raise ValueError(f"a window has at most {KEYS_MAX} keys, {key!r} is one more")
            entries = self._entries[key] = deque()
            self._totals[key] = 0
        self._forget(key, now_s)
        second = int(now_s)
        if entries and entries[-1][0] >= second:
            second, before = entries.pop()
            entries.append((second, before + count))
        else:
            entries.append((second, count))
        self._totals[key] += count

    def count(self, key: str, now_s: float) -> int:
        """How often ``key`` happened in the window that ends at ``now_s``; 0 for a key that never did."""
        if key not in self._entries:
            return 0
        self._forget(key, now_s)
        return self._totals[key]

    def share(self, part: str, whole: str, now_s: float) -> float:
        """The count of ``part`` by that of ``whole``; 0 when there is none of either."""
        count = self.count(whole, now_s)
        return self.count(part, now_s) / count if count else 0.0

    def _forget(self, key: str, now_s: float) -> None:
        entries = self._entries[key]
        while entries and entries[0][0] <= int(now_s) - self._window_s:
            self._totals[key] -= entries.popleft()[1]


class FlushSchedule:
    """When evidence goes out: each ``interval_s`` (in a position at most ``IN_POSITION_INTERVAL_MAX_S``), and as soon
    as the debounce allows after ``ask``. What was asked for stays asked for until a flush has ``done`` it."""

    def __init__(self, *, interval_s: float, now_s: float) -> None:
        self._interval_s = interval_s
        self._started_s = now_s
        self._not_before_s = now_s
        self._reasons: list[str] = []

    def ask(self, reason: str) -> None:
        """Want a flush soon; of many reasons the first ``REASONS_MAX`` are named."""
        if reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            self._reasons.append(reason)

    def due(self, now_s: float, *, in_position: bool) -> str | None:
        """The reason for a flush at ``now_s``, or None."""
        if now_s < self._not_before_s:
            return None
        if self._reasons:
            return ",".join(self._reasons)
        interval_s = min(self._interval_s, IN_POSITION_INTERVAL_MAX_S) if in_position else self._interval_s
        # A check on a timer may come a little early for the flush that the last one made a little late.
        return "interval" if now_s - self._started_s >= interval_s - _TOLERANCE_S else None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until what was asked for may go out; None when nothing was."""
        return max(self._not_before_s - now_s, 0.0) if self._reasons else None

    def begun(self, now_s: float) -> None:
        """A flush goes out at ``now_s``: the interval and the debounce count from here."""
        self._started_s = now_s
        self._not_before_s = now_s + DEBOUNCE_S

    def done(self) -> None:
        """It arrived."""
        self._reasons.clear()

    def failed(self, now_s: float, retry_in_s: float) -> None:
        """It did not arrive: what it was for is still wanted, no sooner than ``retry_in_s`` after ``now_s``."""
        self.ask("retry")
        self._not_before_s = max(self._not_before_s, now_s + retry_in_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCluster:
    """``count`` errors of one stage and class; ``message`` is the last one's."""

    stage: str
    error_class: str
    message: str
    count: int


class ErrorClusters:
    """Errors of one stage and class within ``CLUSTER_S`` are one: the first is told at once, the others together when
    the time is over. Of more than ``CLUSTERS_MAX`` kinds at a time the oldest are told early."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[float, ErrorCluster]] = {}

    def add(self, stage: str, error_class: str, message: str, now_s: float) -> list[ErrorCluster]:
        """Take an error in; the clusters to tell of now."""
        told = self.over(now_s)
        key = (stage, error_class)
        if key in self._open:
            began_s, cluster = self._open[key]
            more = ErrorCluster(stage=stage, error_class=error_class, message=message, count=cluster.count + 1)
            self._open[key] = (began_s, more)
            return told
        if len(self._open) >= CLUSTERS_MAX:
            told += self._take([next(iter(self._open))])
        self._open[key] = (now_s, ErrorCluster(stage=stage, error_class=error_class, message=message, count=0))
        return [*told, ErrorCluster(stage=stage, error_class=error_class, message=message, count=1)]

    def over(self, now_s: float) -> list[ErrorCluster]:
        """Clusters whose time is over, with what came after their first error."""
        return self._take([key for key, (began_s, _) in self._open.items() if now_s - began_s >= CLUSTER_S])

    def all(self) -> list[ErrorCluster]:
        """Every cluster that has something left to tell, whether or not its time is over."""
        return self._take(list(self._open))

    def _take(self, keys: list[tuple[str, str]]) -> list[ErrorCluster]:
        taken = [self._open.pop(key)[1] for key in keys]
        return [cluster for cluster in taken if cluster.count]
