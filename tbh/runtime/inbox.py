"""The hand-over between the threads that send and the one that reads: a mailbox, and a token for each message in it."""

from __future__ import annotations

import queue
from collections.abc import Callable

from tbh.runtime.cell import Cell
from tbh.runtime.mailbox import Envelope, MailboxFull


class Inbox:
    """The mailbox of one cell, for a reader that blocks.

    Tokens come from a C queue, which is the fastest hand-off between threads there is here; the mailbox itself decides
    which message a token buys. A token taken while the mailbox is suspended is owed and given back. An heir's inbox
    (``before``) shares tokens and mailbox with the one it follows.

    ``overflowed`` is told of a message that found no room, in the sender's thread; ``came_to_rest`` that nothing is
    left, in the reader's.
    """

    def __init__(
        self,
        cell: Cell,
        overflowed: Callable[[Cell, Envelope], None],
        came_to_rest: Callable[[], None],
        before: Inbox | None = None,
    ) -> None:
        self.cell = cell
        self.closed = False
        self._overflowed = overflowed
        self._came_to_rest = came_to_rest
        self._mailbox = cell.mailbox
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue() if before is None else before._tokens
        self._owed: int = 0 if before is None else before._owed

    def deliver(self, envelope: Envelope) -> None:
        """From any thread. A stopped actor takes nothing more."""
        if self.closed:
            return
        try:
            added = self._mailbox.offer(envelope)
        except MailboxFull:
            self._overflowed(self.cell, envelope)
            return
        if added:
            self._tokens.put(True)

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
