"""What the actors ask of the outside world: Protocols, implemented in ``infra`` (real) and ``simulation`` (simulated).

Every call is synchronous and may block its actor for as long as its own time-out says. Implementations translate
library errors at the edge into the failures below (ARCHITECTURE §10) and raise nothing else:

- ``Rejected``: the other side said no. Proof that nothing happened.
- ``Unknown``: no evidence either way. Everything that is not provably one of the others.
- ``Unavailable``: provably not sent or not served (refused connection, locked store); retry with back-off.
- ``Defer``: not now (rate limit, maintenance announced); retry after ``after_s``.
- ``Fatal``: configuration, ownership, broken invariant; escalate with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from tbh.messages import controls
from tbh.messages.account import Balance, Position
from tbh.messages.base import message
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Fill, Order, OrderCanceled, OrderExpired, OrderState, OrderStatus
from tbh.messages.strategy import Decision


class Failure(Exception):
    """A failure of the taxonomy; ``kind`` is its word in events and journals."""

    kind = "unknown"

    def __init__(self, reason: str, *, detail: str = "") -> None:
        super().__init__(reason if not detail else f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Rejected(Failure):
    kind = "rejected"


class LeaseHeld(Rejected):
    """Another boot has the lease: ``renewals`` so far, the last for ``lease_s``, of which ``expires_in_s`` are left."""

    def __init__(self, *, boot_id: str, renewals: int, lease_s: float, expires_in_s: float) -> None:
        row = f"boot_id={boot_id} renewals={renewals} lease_s={lease_s:g} expires_in_s={expires_in_s:g}"
        super().__init__("lease_held", detail=row)
        self.boot_id, self.renewals = boot_id, renewals
        self.lease_s, self.expires_in_s = lease_s, expires_in_s


class Unknown(Failure):
    kind = "unknown"


class Unavailable(Failure):
    kind = "unavailable"


class Defer(Failure):
    kind = "defer"

    def __init__(self, reason: str, *, after_s: float, detail: str = "") -> None:
        super().__init__(reason, detail=detail)
        self.after_s = after_s


class Fatal(Failure):
    kind = "fatal"

    def __init__(self, reason: str, *, exit_code: int = 70, detail: str = "") -> None:
        super().__init__(reason, detail=detail)
        self.exit_code = exit_code


AccountEvent = Fill | OrderCanceled | OrderExpired
"""What happens to an account without being asked: each carries the account's own rising ``seq``."""


@message
class OrderReport:
    """An order as the exchange tells it. As ordered: ``qty`` in base, ``price`` of a limit or stop (None: not said)."""

    client_order_id: str
    exchange_order_id: str
    status: OrderStatus
    filled_qty: Decimal
    avg_price: Decimal | None
    qty: Decimal | None = None
    price: Decimal | None = None


@message
class PositionReport:
    """The exchange's own position: ``qty`` signed, zero when flat."""

    symbol: str
    qty: Decimal
    entry_price: Decimal | None


class Exchange(Protocol):
    """One account. Raises the failures above; an order it does not know is ``None``, never an error."""

    def market(self, symbol: str) -> Market: ...

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        """Send one order. Idempotent by client id: the same id again is answered with the order as it stands.

        Where a request can be late, ``expires_at`` (market time) and ``deadline_s`` (process clock) both bound it.
        """

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        """Cancel. ``Rejected`` when the order is unknown or terminal."""

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        """Look everywhere (open, closed, trades) for the client id; None only on the exchange's own denial."""

    def open_orders(self, symbol: str, *, timeout_s: float) -> Sequence[OrderReport]: ...

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        """Account events with ``seq > after``, rising. ``Unavailable`` when the answer lacks what was told before."""

    def last_seq(self) -> int:
        """The ``seq`` of the newest account event; before the first, the number that events rise from."""

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport: ...

    def balances(self, *, timeout_s: float) -> Sequence[Balance]: ...

    def arrival_window_s(self) -> float:
        """How long after ``expires_at`` a request may still arrive (receive window + clock error, or quarantine)."""

    def close(self) -> None: ...


@message
class FeedStep:
    """One thing that the market did. ``candle`` is set when the bar closed (phase CLOSE)."""

    phase: Phase
    bar_open: datetime
    price: Decimal
    index: int
    candle: Candle | None = None


class Feed(Protocol):
    """One symbol and timeframe. ``Unavailable`` or ``Unknown`` when the source does not answer."""

    symbol: str
    timeframe_s: int

    def history(self) -> Sequence[Candle]:
        """Every closed bar known so far, oldest first, contiguous up to the last closed one."""

    def poll(self) -> Sequence[FeedStep] | None:
        """What the market did since the last call: in a replay, the next phase (or phases, when nothing rests
        on the book that could react between them); ``None`` once a recorded market is over."""


@message
class OutboxEntry:
    """One thing that the database shall know: the RPC's name and arguments (JSON types, money as text).

    ``key`` makes it idempotent there.
    """

    seq: int
    fn: str
    args: Mapping[str, Any]
    key: str


@message
class DeadLetter:
    actor: str
    seq: int
    message_type: str
    payload: str
    reason: str
    at: datetime


@dataclass(slots=True)
class Batch:
    """What one commit writes. Everything in it lands together or not at all.

    Rows are upserts: a decision, draft or fill that is there already stays as it is; an order or position row
    is replaced only by one with a higher version or seq. ``outbox`` pairs (fn, args, key) get their seq from the
    store; a key that was ever there is skipped. ``flushed`` False lets the batch wait for the disk until the next one:
    it outlives the process at once, and a loss of power only together with a later, flushed batch. Its entries are
    flushed before they are given out: the database must not know a sequence number that the disk may still forget.
    """

    decisions: list[Decision] = field(default_factory=list)
    drafts: list[OrderState] = field(default_factory=list)
    orders: list[OrderState] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    positions: list[tuple[str, Position | None, int]] = field(default_factory=list)
    actions: list[tuple[str, str, str]] = field(default_factory=list)
    outbox: list[tuple[str, Mapping[str, Any], str]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    relayed_up_to: int | None = None
    refused: list[tuple[int, str]] = field(default_factory=list)
    flushed: bool = True

    def __bool__(self) -> bool:
        rows = (self.decisions, self.drafts, self.orders, self.fills, self.positions, self.actions)
        rest = (self.outbox, self.dead_letters, self.meta, self.refused)
        return any(rows) or any(rest) or self.relayed_up_to is not None


@message
class StoreCounts:
    """``recorded`` = outbox entries ever written, of which ``relayed`` are in the database, ``refused`` set aside."""

    recorded: int
    relayed: int
    refused: int
    pending: int
    dead_letters: int


class StoreReader(Protocol):
    """What any actor may read. Each call is one consistent snapshot. ``Fatal(78)`` on a store from a newer version."""

    def decision(self, strategy: str, bar_open: datetime) -> Decision | None: ...

    def last_decision(self, strategy: str) -> Decision | None: ...

    def orders(self, *, open_only: bool = False) -> Sequence[OrderState]: ...

    def order(self, client_order_id: str) -> OrderState | None: ...

    def fills(self) -> Sequence[Fill]:
        """All fills in the order of their ``seq``."""

    def positions(self) -> Mapping[str, Position]: ...

    def outbox(self, after: int, *, limit: int, max_bytes: int) -> Sequence[OutboxEntry]:
        """Entries with ``seq > after``, rising, each on the disk."""

    def meta(self, key: str) -> str | None: ...

    def actions(self) -> Mapping[str, str]:
        """request id -> status, of flatten requests and other acts that must happen once."""

    def counts(self) -> StoreCounts: ...


class Store(StoreReader, Protocol):
    """The journaler's side: the only one that writes.

    ``Unavailable('disk_full'|'broken'|'locked')`` when a commit failed; then nothing of the batch was written.
    """

    store_id: str

    def commit(self, batch: Batch) -> int:
        """Write the batch; the last outbox seq. Returns after the disk has it, unless it need not be flushed."""

    def reader(self) -> StoreReader:
        """A reader for another actor (own connection)."""

    def close(self) -> None: ...


@message
class SyncResult:
    """``last_seq`` is the highest sequence that the database has from this store; ``refused`` pairs (seq, reason)."""

    last_seq: int
    refused: tuple[tuple[int, str], ...] = ()


@message
class Lease:
    """``token_expires_in_s`` is what is left of the runtime token's life, where the database told it."""

    epoch: int
    renewals: int
    expires_in_s: float
    token_expires_in_s: float | None = None


Controls = controls.Controls


class Rpc(Protocol):
    """The database's functions (CONTRACTS §4), for one bot and one boot, whose last claim gave ``epoch``. JSON only."""

    @property
    def epoch(self) -> int | None: ...

    def claim(self, *, previous_boot_id: str | None, seen_renewals: int | None, lease_s: float) -> Lease: ...

    def release(self) -> None: ...

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        """Renew the lease and write ``bot_state``; the lease and the controls' version."""

    def refresh_controls(self) -> Controls: ...

    def acknowledge(self, version: int) -> None: ...

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult: ...

    def upsert_health(self, patch: Mapping[str, Any]) -> None: ...

    def write_event(self, *, kind: str, level: str, payload: Mapping[str, Any], key: str) -> None: ...

    def notify(self, *, channel: str, payload: Mapping[str, Any], key: str) -> None: ...


class Notify(Protocol):
    """A channel to people. Raises the failures above; the notifier swallows none of them silently."""

    def send(self, *, severity: str, kind: str, text: str, key: str) -> None: ...


class Telemetry(Protocol):
    """A sink of structured events (CONTRACTS §6): flat attributes of str, int, float, bool."""

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...
