"""Envelopes and the mailbox: bounded, first in first out, with an urgent lane; quotes may be conflated, facts never.

The limits are here, the consequences elsewhere: a mailbox that is full says so, and its host escalates, because
a lost fact would be a lie later.
"""

from __future__ import annotations

import threading
from collections import deque

from tbh.messages.base import Message


class MailboxFull(Exception):
    """As many messages wait as may wait."""


class Envelope:
    """One delivery: ``seq`` counts all sends of the host, ``cause`` is the seq of the message being handled when this
    one was sent (0: none), ``incarnation`` is set on timers only (-1 otherwise)."""

    __slots__ = ("cause", "incarnation", "message", "sender", "seq", "to")

    def __init__(self, seq: int, sender: str, to: str, cause: int, message: Message, incarnation: int = -1) -> None:
        self.seq = seq
        self.sender = sender
        self.to = to
        self.cause = cause
        self.message = message
        self.incarnation = incarnation

    def __repr__(self) -> str:
        return f"<{self.seq} {self.sender}>{self.to} {type(self.message).__name__} cause={self.cause}>"


class Mailbox:
    """The messages waiting for one actor.

    ``offer`` and ``offer_urgent`` may be called from any thread, everything else from the owner's only: it relies on
    the atomicity of ``deque.append`` and ``popleft``, so the bound may be passed by as many messages as there are
    threads that write. ``conflates`` are the types of which only the newest per symbol is kept. A host that
    looks often whether anything waits looks at ``items`` and ``urgent`` themselves.
    """

    __slots__ = ("_conflates", "_newest", "_slots", "high_water", "items", "max_waiting", "suspended", "urgent")

    def __init__(self, max_waiting: int = 10_000, conflates: frozenset[type[Message]] = frozenset()) -> None:
        self.max_waiting = max_waiting
        self.suspended = False
        self.high_water = 0
        self.items: deque[Envelope | list[Envelope]] = deque()
        self.urgent: deque[Envelope] = deque()
        self._conflates = conflates
        self._newest: dict[tuple[type[Message], str], list[Envelope]] = {}
        self._slots = threading.Lock()

    def offer(self, envelope: Envelope) -> bool:
        """Add one; False when it took the place of an older quote. ``MailboxFull`` when there is no room."""
        if self._conflates and type(envelope.message) in self._conflates:
            return self._conflate(envelope)
        waiting = len(self.items)
        if waiting >= self.high_water:
            self._rise(waiting)
        self.items.append(envelope)
        return True

    def _rise(self, waiting: int) -> None:
        """One more than ever before: note it, or say that there is no room."""
        if waiting >= self.max_waiting:
            raise MailboxFull
        self.high_water = waiting + 1

    def _conflate(self, envelope: Envelope) -> bool:
        # The slot is shared with the queue: whoever takes it out reads the newest envelope in it. Without the lock
        # a reader could take the slot between our look-up and our write, and the newest quote would be lost.
        key = _slot_key(envelope)
        with self._slots:
            slot = self._newest.get(key)
            if slot is not None:
                slot[0] = envelope
                return False
            slot = [envelope]
            if len(self.items) >= self.high_water:
                self._rise(len(self.items))
            self.items.append(slot)
            self._newest[key] = slot
            return True

    def offer_urgent(self, envelope: Envelope) -> None:
        """Add to the urgent lane, which is never full: it carries kernel orders only."""
        self.urgent.append(envelope)

    def put_back(self, envelopes: list[Envelope]) -> None:
        """Return stashed envelopes to the front, in their order."""
        self.items.extendleft(reversed(envelopes))

    def take(self) -> Envelope | None:
        """The next one: urgent first; None when there is nothing, or nothing urgent while suspended."""
        if self.urgent:
            return self.urgent.popleft()
        if self.suspended or not self.items:
            return None
        item = self.items.popleft()
        if type(item) is Envelope:
            return item
        assert isinstance(item, list)
        with self._slots:
            envelope = item[0]
            del self._newest[_slot_key(envelope)]
        return envelope

    @property
    def idle(self) -> bool:
        return not self.items and not self.urgent

    def __len__(self) -> int:
        return len(self.items) + len(self.urgent)


def _slot_key(envelope: Envelope) -> tuple[type[Message], str]:
    return type(envelope.message), str(getattr(envelope.message, "symbol", ""))
