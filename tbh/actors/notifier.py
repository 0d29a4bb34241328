"""The notifier: delivers notices to people, over every channel that was given to it.

Channels do not wait for one another: each has its own queue, critical notices first, and its own back-off. Nothing
waits for the notifier either. What can't be delivered is said as a fact, and the log has every notice anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tbh.messages.base import Timer, message
from tbh.messages.health import Notice, NoticeFailed, Severity
from tbh.ports import Defer, Failure, Fatal, Notify, Rejected
from tbh.runtime.actor import Actor, Context, receive

QUEUE_MAX = 500
"""Notices waiting per channel; beyond, the oldest of the least severe is given up."""
KEYS_MAX = 2_000
"""Keys remembered, so that a notice told twice is delivered once."""
ATTEMPTS_MAX = 8
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0


@message
class _TryAgain(Timer):
    """The back-off of one channel is over."""

    channel: int


class _Queue:
    """One channel and what waits for it."""

    def __init__(self, channel: Notify) -> None:
        self.channel = channel
        self.failures = 0
        self.backing_off = False
        self._attempts: dict[str, int] = {}
        self._critical: deque[Notice] = deque()
        self._routine: deque[Notice] = deque()

    def add(self, notice: Notice) -> Notice | None:
        """Take a notice in; the one that was given up for it, if any."""
        (self._critical if notice.severity is Severity.CRITICAL else self._routine).append(notice)
        if len(self._critical) + len(self._routine) <= QUEUE_MAX:
            return None
        given_up = self._routine.popleft() if self._routine else self._critical.popleft()
        self._attempts.pop(given_up.key, None)
        return given_up

    def first(self) -> Notice | None:
        return next(iter(self._critical or self._routine), None)

    def attempted(self, notice: Notice) -> int:
        """Count a failed attempt; how many there have been."""
        self.failures += 1
        self._attempts[notice.key] = self._attempts.get(notice.key, 0) + 1
        return self._attempts[notice.key]

    def drop(self, notice: Notice) -> None:
        self._attempts.pop(notice.key, None)
        for queue in (self._critical, self._routine):
            if queue and queue[0] is notice:
                queue.popleft()


class NotifierActor(Actor):
    """Tries each notice ``ATTEMPTS_MAX`` times per channel, with back-off, then gives it up with ``NoticeFailed``."""

    sends = (NoticeFailed,)

    def __init__(self, ctx: Context, *, channels: Sequence[Notify]) -> None:
        super().__init__(ctx)
        self._queues = [_Queue(channel) for channel in channels]
        self._keys: dict[str, None] = {}

    @receive
    def on_notice(self, notice: Notice) -> None:
        if notice.key in self._keys:
            return
        self._keys[notice.key] = None
        if len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        self.ctx.log.warning(
            "notice", kind=notice.kind, severity=notice.severity.value, text=notice.text, key=notice.key
        )
        for index, queue in enumerate(self._queues):
            given_up = queue.add(notice)
            if given_up is not None:
                self._give_up(given_up, f"more than {QUEUE_MAX} notices wait")
            self._deliver(index)

    @receive
    def on_try_again(self, timer: _TryAgain) -> None:
        self._queues[timer.channel].backing_off = False
        self._deliver(timer.channel)

    def _deliver(self, index: int) -> None:
        queue = self._queues[index]
        while not queue.backing_off and (notice := queue.first()) is not None:
            try:
                queue.channel.send(severity=notice.severity.value, kind=notice.kind, text=notice.text, key=notice.key)
            except (Rejected, Fatal) as refusal:
                # Fatal is for this channel alone: no channel to people may stop a bot.
                queue.drop(notice)
                self._give_up(notice, str(refusal))
            except Failure as failure:
                if queue.attempted(notice) >= ATTEMPTS_MAX:
                    queue.drop(notice)
                    self._give_up(notice, f"{ATTEMPTS_MAX} attempts, the last one: {failure}")
                self._back_off(index, failure)
            else:
                queue.failures = 0
                queue.drop(notice)

    def _back_off(self, index: int, failure: Failure) -> None:
        queue = self._queues[index]
        delay_s = min(BACKOFF_FIRST_S * 2.0 ** min(queue.failures - 1, 10), BACKOFF_MAX_S)
        at_least_s = failure.after_s if isinstance(failure, Defer) else 0.0
        queue.backing_off = True
        self.ctx.after(max(delay_s * self.ctx.rng.uniform(0.8, 1.2), at_least_s), _TryAgain(channel=index))

    def _give_up(self, notice: Notice, reason: str) -> None:
        self.ctx.log.error("notice_failed", key=notice.key, reason=reason)
        self.ctx.send(NoticeFailed(key=notice.key, reason=reason))
