"""Whether book and exchange agree on the position.

A snapshot takes time, and a fill may fall into it; what it says is then about no instant at all. So it *counts* only
when no account event came between request and reply, and the book has taken exactly the events that the exchange had.
Even then one snapshot may be stale, so that a disagreement is believed when the next that counts says the same.

A disagreement is reported, never repaired: making the book follow the exchange is an operator's command.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tbh.domain.money import EXACT, ZERO
from tbh.messages.account import AccountSnapshot, SyncStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncVerdict:
    """``status`` is what is believed after this snapshot, UNKNOWN until one counted.

    ``counts``: the snapshot said something. ``suspected``: it disagreed and nobody has confirmed it yet; ask again.
    """

    status: SyncStatus
    counts: bool
    suspected: bool
    book_qty: Decimal
    exchange_qty: Decimal


class Reconciler:
    """Compares one symbol's snapshots with the book. Owned by one actor; it changes neither.

    Quantities closer than ``step`` (the market's amount step, base) agree, and so do two that are both below ``dust``
    (its least amount): neither could be traded away.
    """

    def __init__(self, symbol: str, step: Decimal, *, dust: Decimal = ZERO) -> None:
        self.symbol = symbol
        self.status = SyncStatus.UNKNOWN
        self._step = step
        self._dust = dust
        self._suspicion: tuple[SyncStatus, Decimal] | None = None

    def judge(self, snapshot: AccountSnapshot, book_qty: Decimal, book_seq: int) -> SyncVerdict:
        """Compare. ``book_qty`` is signed base, ``book_seq`` the last account event that the book has taken.

        Raises ``ValueError`` for a snapshot of another symbol.
        """
        if snapshot.symbol != self.symbol:
            raise ValueError(f"a snapshot of {snapshot.symbol} says nothing about {self.symbol}")
        counts = snapshot.seq_before == snapshot.seq_after == book_seq
        if counts:
            self._compare(snapshot.qty, book_qty)
        return SyncVerdict(
            status=self.status,
            counts=counts,
            suspected=self._suspicion is not None and self._suspicion[0] is not self.status,
            book_qty=book_qty,
            exchange_qty=snapshot.qty,
        )

    def _compare(self, exchange_qty: Decimal, book_qty: Decimal) -> None:
        difference = EXACT.subtract(exchange_qty, book_qty)
        if abs(difference) < self._step or max(abs(exchange_qty), abs(book_qty)) < self._dust:
            self.status, self._suspicion = SyncStatus.OK, None
            return
        suspicion = (SyncStatus.MISMATCH if exchange_qty else SyncStatus.MISSING, difference)
        if suspicion == self._suspicion:
            self.status = suspicion[0]
        self._suspicion = suspicion
