"""Supervision as data: who is in the tree, how often it may fail, and what happens then.

A failure counts in two sliding windows on the process clock, the current failure included: a short one that
catches a crash loop and a daily one that catches a slow one. Within them the actor is restarted in place, after
a back-off of ``first * 2**n`` (capped, jittered), n being the failures already in the short window. Beyond them
the child's ``on_exceeded`` decides.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tbh.messages.base import Message
from tbh.runtime.actor import Actor, Context


class OnExceeded(StrEnum):
    """ESCALATE halts the bot; DISABLE parks the actor and lets the others go on (an explicit setting)."""

    ESCALATE = "escalate"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """At most ``max_failures`` within ``window_s``, and ``max_failures_daily`` within a day. ``ValueError`` when the
    slowest back-offs alone would outlast the window, for then it could never be exceeded."""

    max_failures: int = 5
    window_s: float = 60.0
    max_failures_daily: int = 50
    first_backoff_s: float = 0.05
    backoff_max_s: float = 5.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.max_failures < 0 or self.max_failures_daily < self.max_failures:
            raise ValueError("max_failures must be at least 0 and not above max_failures_daily")
        if not (0 <= self.jitter < 1 and 0 < self.first_backoff_s <= self.backoff_max_s):
            raise ValueError("jitter must lie in [0, 1) and 0 < first_backoff_s <= backoff_max_s")
        slowest = sum(self.backoff_s(n) for n in range(self.max_failures)) * (1 + self.jitter)
        if slowest >= self.window_s:
            raise ValueError(f"back-offs of up to {slowest:g} s would outlast the window of {self.window_s:g} s")

    def backoff_s(self, failures_before: int) -> float:
        """The back-off before jitter, after ``failures_before`` earlier failures in the window."""
        return float(min(self.first_backoff_s * 2**failures_before, self.backoff_max_s))


USUAL = Policy()
_DAY_S = 86_400.0


class FailureWindow:
    """The failures of one actor, in the policy's two windows."""

    def __init__(self, policy: Policy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._short: deque[float] = deque(maxlen=policy.max_failures + 1)
        self._daily: deque[float] = deque(maxlen=policy.max_failures_daily + 1)

    def record(self, now_s: float) -> float | None:
        """Count a failure at ``now_s`` (process clock): the back-off in seconds; None when the policy is exceeded."""
        policy = self._policy
        for window, span_s in ((self._short, policy.window_s), (self._daily, _DAY_S)):
            while window and now_s - window[0] >= span_s:
                window.popleft()
            window.append(now_s)
        if len(self._short) > policy.max_failures or len(self._daily) > policy.max_failures_daily:
            return None
        backoff_s = policy.backoff_s(len(self._short) - 1)
        return backoff_s * (1 + policy.jitter * (2 * self._rng.random() - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child of the tree, as data. Children start in the order of the list and stop in the reverse.

    ``background``: a lock-step replay does not wait for it. ``replaceable``: when hung, its thread is abandoned and
    another takes over its mailbox (for actors that touch neither account nor store). ``unhurried``: types that this one
    has time for, beside those that its class names.
    """

    name: str
    actor: type[Actor]
    factory: Callable[[Context], Actor]
    policy: Policy = USUAL
    on_exceeded: OnExceeded = OnExceeded.ESCALATE
    stop_deadline_s: float = 2.0
    start_deadline_s: float = 10.0
    hung_after_s: float = 30.0
    background: bool = False
    replaceable: bool = False
    max_waiting: int = 10_000
    conflates: frozenset[type[Message]] = frozenset()
    unhurried: frozenset[type[Message]] = frozenset()
