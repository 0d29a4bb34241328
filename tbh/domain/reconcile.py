"""Whether book and exchange agree on the position.

A snapshot takes time, and a fill may fall into it; what it says is then about no instant at all. So it *counts* only
when no account event came between request and reply, and the book has taken exactly the events that the exchange had.
Even then a snapshot may be stale, since an exchange may tell its events before its own reading has them. So that a
disagreement is believed when one that counts says the same again, and was asked for some time after the first: when the
answer is heard says little, since a process that stood still hears an old one late.

A disagreement is reported, never repaired: making the book follow the exchange is an operator's command.
"""

from __future__ import annotations

from decimal import Decimal

from tbh.domain.money import EXACT, ZERO
from tbh.messages.account import AccountSnapshot, SyncStatus
from tbh.messages.base import message


@message
class SyncVerdict:
    """``status`` is what is believed after this snapshot, UNKNOWN until one counted.

    ``counts``: the snapshot said something. ``suspected``: it disagreed, and by this very difference for too short a
    time to be believed, whatever was believed before; ask again.
    """

    status: SyncStatus
    counts: bool
    suspected: bool
    book_qty: Decimal
    exchange_qty: Decimal


class Reconciler:
    """Compares one symbol's snapshots with the book. Owned by one actor; it changes neither.

    Quantities closer than ``step`` (the market's amount step, base) agree, and so do two that are both below ``dust``
    (its least amount): neither could be traded away. ``confirm_after_s`` is how long a disagreement must have stood.
    """

    def __init__(self, symbol: str, step: Decimal, *, dust: Decimal = ZERO, confirm_after_s: float = 0.0) -> None:
        self.symbol = symbol
        self.status = SyncStatus.UNKNOWN
        self._step = step
        self._dust = dust
        self._confirm_after_s = confirm_after_s
        self._suspicion: tuple[SyncStatus, Decimal] | None = None
        self._confirmed: tuple[SyncStatus, Decimal] | None = None
        self._since_s = 0.0

    def judge(
        self,
        snapshot: AccountSnapshot,
        book_qty: Decimal,
        book_seq: int,
        *,
        now_s: float = 0.0,
        asked_s: float | None = None,
    ) -> SyncVerdict:
        """Compare. ``book_qty`` is signed base, ``book_seq`` the last account event that the book has taken, ``now_s``
        the process clock and ``asked_s`` what that was when the snapshot was asked for, None: the same.

        Raises ``ValueError`` for a snapshot of another symbol.
        """
        if snapshot.symbol != self.symbol:
            raise ValueError(f"a snapshot of {snapshot.symbol} says nothing about {self.symbol}")
        counts = snapshot.seq_before == snapshot.seq_after == book_seq
        if counts:
            self._compare(snapshot.qty, book_qty, now_s, now_s if asked_s is None else asked_s)
        return SyncVerdict(
            status=self.status,
            counts=counts,
            suspected=self._suspicion != self._confirmed,
            book_qty=book_qty,
            exchange_qty=snapshot.qty,
        )

    def _compare(self, exchange_qty: Decimal, book_qty: Decimal, now_s: float, asked_s: float) -> None:
        difference = EXACT.subtract(exchange_qty, book_qty)
        if abs(difference) < self._step or max(abs(exchange_qty), abs(book_qty)) < self._dust:
            self.status, self._suspicion, self._confirmed = SyncStatus.OK, None, None
            return
        suspicion = (SyncStatus.MISMATCH if exchange_qty else SyncStatus.MISSING, difference)
        if suspicion != self._suspicion:
            self._suspicion, self._since_s, self._confirmed = suspicion, now_s, None
        elif round(asked_s - self._since_s, 6) >= self._confirm_after_s:  # a timer's seconds are not exact
            self.status, self._confirmed = suspicion[0], suspicion
