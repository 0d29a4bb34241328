"""What may still be asked of an exchange before it refuses to answer, or bans the address.

The exchange tells with each answer what the whole address has used up of its minute, other bots included. Orders,
cancels and questions about an order may use all of it; polls leave the last fifth to them. After a refusal for too many
requests nothing at all is sent until the time that it named has passed: to go on is what turns a limit into a ban.
"""

from __future__ import annotations

import math
import threading
from typing import Final

from tbh.infra.ccxt_clock import process_s
from tbh.infra.ccxt_http import Answer
from tbh.ports import Defer

POLLS_SHARE: Final = 0.8
MINUTE_MS: Final = 60_000
LIMITED_S: Final = 5.0
"""How long to keep still when the exchange names no time."""

BANNED_S: Final = 60.0
WAIT_MAX_S: Final = 3 * 86_400.0


class Budget:
    """``weight_header`` is the answer's header with the minute's use, ``weight_max`` the allowance of a minute.

    The limits are the address's: all connections of a process share one, each from its own thread.
    """

    def __init__(self, *, weight_header: str, weight_max: int) -> None:
        self._header = weight_header
        self._for_polls = int(weight_max * POLLS_SHARE)
        self._used = 0
        self._heard_minute = -1
        self._closed_until_s = float("-inf")
        self._lock = threading.Lock()

    def check(self, at_ms: float, *, poll: bool) -> None:
        """``Defer`` when a request must not be sent at ``at_ms`` of the exchange's time."""
        left_s = self._closed_until_s - process_s()
        if left_s > 0:
            raise Defer("rate_limited", after_s=left_s, detail="the exchange has asked for a pause; nothing was sent")
        # The use is counted anew with each full minute of the exchange's clock.
        minute, within_ms = divmod(at_ms, MINUTE_MS)
        if poll and self._used > self._for_polls and minute == self._heard_minute:
            left_s = min((MINUTE_MS - within_ms) / 1000, LIMITED_S)
            raise Defer("rate_budget", after_s=left_s, detail=f"{self._used} used of this minute's weight")

    def hear(self, answer: Answer, at_ms: float) -> None:
        """Take note of what an answer that came at ``at_ms`` says of the budget."""
        used = answer.headers.get(self._header, "")
        if used.isdigit():
            with self._lock:
                self._used = int(used)
                self._heard_minute = int(at_ms // MINUTE_MS)

    def close(self, after_s: float) -> None:
        """Send nothing for ``after_s`` seconds."""
        with self._lock:
            self._closed_until_s = max(self._closed_until_s, process_s() + after_s)


def pause_s(answer: Answer) -> float:
    """How long the exchange wants us to keep still."""
    least_s = BANNED_S if answer.status == 418 else LIMITED_S
    try:
        wait_s = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return least_s
    return min(max(wait_s, 0.1), WAIT_MAX_S) if math.isfinite(wait_s) else least_s
