"""The hand-over between the threads that send and the one that reads: a mailbox, and a token for each message in it."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tbh.messages.base import Message
from tbh.runtime.cell import Cell
from tbh.runtime.mailbox import Envelope, MailboxFull

Tokens = queue.SimpleQueue[bool]

MAY_WAIT_S = 0.01
"""How long what is sent to a background actor, or is ``unhurried``, waits for more. An order passes from its decision
to the wire in less, a flush of the disk included, and half a dozen actors that woke up for one fact would have the
interpreter in turn meanwhile."""


class Doorbell:
    """Hands out tokens a little later, many at once: for what can wait, so that the readers which it wakes do not take
    the interpreter from those that have no time. ``call_later`` calls what it is given, in a thread of its own."""

    def __init__(self, call_later: Callable[[Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._owing: deque[Inbox] = deque()
        self._armed = False

    def ring_for(self, inbox: Inbox) -> None:
        """From any thread. Whoever finds it armed has come before the bell looks who there is."""
        self._owing.append(inbox)
        if not self._armed:
            self._armed = True
            self._call_later(self._ring)

    def _ring(self) -> None:
        self._armed = False
        while self._owing:
            self._owing.popleft().release()


class Inbox:
    """The mailbox of one cell, for a reader that blocks.

    Tokens come from a C queue, which is the fastest hand-off between threads there is here; the mailbox itself decides
    which message a token buys. A token taken while the mailbox is suspended is owed and given back. An heir's inbox
    (``before``) shares tokens and mailbox with the one it follows. With a ``doorbell``, the token of what may wait is
    held until that rings, or something comes that may not: messages keep their order, and the reader is woken once.

    ``overflowed`` is told of a message that found no room, in the sender's thread; ``came_to_rest`` that nothing is
    left, in the reader's.
    """

    def __init__(
        self,
        cell: Cell,
        overflowed: Callable[[Cell, Envelope], None],
        came_to_rest: Callable[[], None],
        before: Inbox | None = None,
        doorbell: Doorbell | None = None,
    ) -> None:
        self.cell = cell
        self.closed = False
        self._overflowed = overflowed
        self._came_to_rest = came_to_rest
        self._mailbox = cell.mailbox
        self._doorbell = doorbell
        self._background = cell.spec.background
        self._held: deque[bool] = deque() if before is None else before._held
        self._tokens: Tokens = queue.SimpleQueue() if before is None else before._tokens
        self._owed: int = 0 if before is None else before._owed

    def has_time_for(self, kind: type[Message]) -> bool:
        """Whether the reader need not be woken for it."""
        spec = self.cell.spec
        return kind.unhurried or kind in spec.actor.unhurried or kind in spec.unhurried

    def deliver(self, envelope: Envelope, *, may_wait: bool = False) -> None:
        """From any thread. A stopped actor takes nothing more. What a background actor is told may always wait."""
        if self.closed:
            return
        try:
            added = self._mailbox.offer(envelope)
        except MailboxFull:
            self._overflowed(self.cell, envelope)
            return
        if not added:
            return
        if (may_wait or self._background) and self._doorbell is not None:
            self._held.append(True)
            self._doorbell.ring_for(self)
            return
        if self._held:
            self.release()
        self._tokens.put(True)

    def release(self) -> None:
        """Put out the tokens that were held. From any thread."""
        while self._held:
            with suppress(IndexError):  # another thread was faster
                self._tokens.put(self._held.popleft())

    def deliver_urgent(self, envelope: Envelope) -> None:
        """The same, ahead of everything that is not urgent."""
        if not self.closed:
            self._mailbox.offer_urgent(envelope)
            self._tokens.put(True)

    def put_back(self, envelopes: list[Envelope]) -> None:
        """Stashed messages return to the front. The reader's, like all that follows."""
        self._mailbox.put_back(envelopes)
        for _ in envelopes:
            self._tokens.put(True)

    def pay_back(self) -> None:
        """Resumed: the tokens taken in vain buy messages again."""
        owed, self._owed = self._owed, 0
        for _ in range(owed):
            self._tokens.put(True)

    def next(self) -> Envelope | None:
        """Wait for the next message; None when the cell has been fenced and its reader must go."""
        cell, tokens = self.cell, self._tokens
        while True:
            if tokens.empty():
                cell.busy = False
                self._came_to_rest()
            tokens.get()
            if cell.fenced:
                tokens.put(True)  # an heir shares the mailbox, and needs the token
                return None
            cell.busy = True  # before the message leaves the mailbox: see Cell.at_rest
            envelope = self._mailbox.take()
            if envelope is not None:
                return envelope
            self._owed += 1
