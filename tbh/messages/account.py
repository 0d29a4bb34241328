"""The account: what we believe, what the exchange says, and what it is worth."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tbh.messages.base import Command, Fact, Value, message
from tbh.messages.orders import Fill, OrderStatus, Protection, Purpose, Side


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
    """The book's position after a fill; ``position`` is None when flat. ``seq`` is the account event that caused it.

    ``adjustments`` counts the corrections that the book has taken besides. ``dust``: what is left is below what the
    exchange takes, which is the end of the position.
    """

    symbol: str
    position: Position | None
    seq: int
    adjustments: int = 0
    dust: bool = False

    @property
    def held(self) -> Position | None:
        """The position, unless it is nothing that could be traded."""
        return None if self.dust else self.position


@message
class Adjustment(Value):
    """By how much an operator had the book corrected: ``qty`` is signed base, valued at ``price`` (quote), no fee.

    It is nobody's trade and fills no order. ``seq`` is the last account event before it.
    """

    adjustment_id: str
    symbol: str
    qty: Decimal
    price: Decimal
    seq: int
    at: datetime
    reason: str


@message
class AdoptPosition(Command):
    """Make the book follow the exchange, once for each ``request_id``, as soon as two snapshots agree on it."""

    request_id: str
    reason: str


@message
class RecordAdjustment(Command):
    """Write the correction to the disk before anybody counts with it."""

    adjustment: Adjustment


@message
class Adjusted(Fact):
    """The correction is on the disk: every book takes it, once by its id."""

    adjustment: Adjustment


class Origin(StrEnum):
    """Who made a trade on the account that no order of this bot explains."""

    EXCHANGE = "exchange"
    MANUAL = "manual"


@message
class ExternalTrade(Fact):
    """The account has traded without this bot: a liquidation, or somebody's own order."""

    fill: Fill
    origin: Origin


@message
class Finding(Value):
    """One thing that a comparison of memory and exchange has shown; ``kind`` is a word of ``domain/reconcile.py``."""

    kind: str
    subject: str
    detail: str


@message
class Recovered(Fact):
    """What a start has found, once orders and fills are those of the exchange. ``start`` names the start."""

    start: str
    findings: tuple[Finding, ...]
    at: datetime


@message
class StrayEnded(Fact):
    """An order of this bot's, which was never journaled and traded nothing, has ended at the exchange."""

    client_order_id: str
    exchange_order_id: str | None
    symbol: str
    purpose: Purpose
    status: OrderStatus


@message
class AccountDoubted(Fact):
    """Why the account is not what orders and fills explain, so that no entry may be made; empty: no doubt is left."""

    causes: tuple[str, ...]
    at: datetime


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
class OpenOrdersRead(Fact):
    """Which orders stand on the symbol's book: these and no others, as far as the exchange's reads have come. Each was
    told as an ``OrderFound`` before."""

    symbol: str
    client_order_ids: tuple[str, ...]


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
