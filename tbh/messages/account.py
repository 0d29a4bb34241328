"""The account: what we believe, what the exchange says, and what it is worth."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tbh.messages.base import Command, Fact, Value, message
from tbh.messages.orders import Protection, Side


class SyncStatus(StrEnum):
    """``exchange_sync_status`` of the heartbeat."""

    OK = "ok"
    MISSING = "missing"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


@message
class Position(Value):
    """The net position of one symbol. ``qty`` is signed base (negative is short), ``entry_price`` the average cost.

    ``position_id`` is the client id of the order that opened it, and ``revision`` counts its changes of quantity.
    """

    symbol: str
    strategy: str
    position_id: str
    qty: Decimal
    entry_price: Decimal
    opened_at: datetime
    bar_open: datetime
    layers: int = 1
    revision: int = 0
    best_price: Decimal | None = None
    protection: Protection | None = None


@message
class Trade(Value):
    """One round trip, flat to flat (or to the opposite side). ``pnl`` is net of ``fees``, both in quote."""

    side: str
    symbol: str
    entry_time: datetime
    exit_time: datetime
    entry_price: Decimal
    exit_price: Decimal
    qty: Decimal
    fees: Decimal
    pnl: Decimal
    exit_reason: str


@message
class PositionChanged(Fact):
    """The book's position after a fill; ``position`` is None when flat. ``seq`` is the account event that caused it."""

    symbol: str
    position: Position | None
    seq: int


@message
class ResyncAccount(Command):
    """Repeat every account event after ``after`` (the requester restarted and may have missed some).

    With ``symbol`` the open orders of that symbol are told as well, each as an ``OrderFound``.
    """

    requester: str
    after: int
    symbol: str | None = None


@message
class AccountResynced(Fact):
    """All account events after the requester's mark have been repeated, up to ``seq``."""

    requester: str
    seq: int


@message
class QueryAccount(Command):
    """Ask the exchange for its own position and balances."""

    request_id: str
    symbol: str


@message
class Balance(Value):
    asset: str
    free: Decimal
    locked: Decimal


@message
class AccountSnapshot(Fact):
    """The exchange's own word. It counts only if ``seq_before == seq_after``: no account event fell in between."""

    request_id: str
    symbol: str
    qty: Decimal
    entry_price: Decimal | None
    balances: tuple[Balance, ...]
    seq_before: int
    seq_after: int
    at: datetime
    latency_ms: float


@message
class AccountQueryFailed(Fact):
    """The exchange did not answer an account query; that says nothing about the position."""

    request_id: str
    reason: str


@message
class PositionSynced(Fact):
    """Book and exchange agree (``ok``), or they have disagreed twice in a row (``missing``, ``mismatch``)."""

    symbol: str
    status: SyncStatus
    book_qty: Decimal
    exchange_qty: Decimal | None
    at: datetime
    reconcile_ms: float


@message
class Marked(Fact):
    """The account valued at a bar's close, in quote."""

    symbol: str
    bar_index: int
    at: datetime
    mark: Decimal
    cash: Decimal
    equity: Decimal
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    fees: Decimal
    drawdown: Decimal
    day_pnl: Decimal


@message
class TradeClosed(Fact):
    trade: Trade
    side: Side
