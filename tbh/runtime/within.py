"""A call with a deadline, for the steps of an escalation: whatever hangs is left behind in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def within(deadline_s: float, act: Callable[[], _T]) -> _T:
    """Run ``act`` in its own thread and return what it returns, or raise what it raises.

    ``TimeoutError`` when it has not ended after ``deadline_s`` seconds; the thread is a daemon and keeps no process.
    """
    outcome: list[_T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(act())
        except BaseException as fault:  # noqa: BLE001 - it is raised again in the caller's thread
            outcome.append(fault)

    thread = threading.Thread(target=run, name="tbh-step", daemon=True)
    thread.start()
    thread.join(deadline_s)
    if not outcome:
        raise TimeoutError(f"not done within {deadline_s:g} s")
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result
