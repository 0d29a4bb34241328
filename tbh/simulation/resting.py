"""The whole picture at the end of a seed: exchange, bot and database, each by its own word."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from tbh.messages.account import Position, SyncStatus
from tbh.messages.base import frozen
from tbh.messages.orders import Fill, Order, OrderState


@frozen
class VenueRest:
    """The exchange's own word at the end: position (signed base) and cash (quote) of the whole account, and the orders
    of ours that stand on its book."""

    qty: Decimal
    cash: Decimal
    standing: tuple[Order, ...]


@frozen
class BotRest:
    """The bot at the end, as its own last process has it.

    ``unsettled`` says what kept the system from coming to rest in time (None: it did). ``orders`` and ``fills`` are the
    store's, ``cash`` the accountant's (None: nothing was told that can be compared), ``pending`` the outbox entries
    that the database does not have, ``last_seq`` the number of the newest one, ``undelivered`` the keys of the notices
    that its notifier still has to deliver.
    """

    boot: str
    unsettled: str | None
    orders: tuple[OrderState, ...]
    fills: tuple[Fill, ...]
    position: Position | None
    cash: Decimal | None
    sync_status: SyncStatus
    gate: tuple[str, ...]
    pending: int
    last_seq: int
    undelivered: frozenset[str] = frozenset()


@frozen
class DatabaseRest:
    """The database at the end: rows as JSON, money as text; ``trades`` by client order id, ``fills`` by trade id,
    ``positions`` by symbol. ``flatten_version`` names the request to close the position that nobody has acknowledged.
    """

    trades: Mapping[str, Mapping[str, object]]
    fills: Mapping[str, Mapping[str, object]]
    positions: Mapping[str, Mapping[str, object]]
    flatten_version: int | None = None


@frozen
class AtRest:
    """The last step of a seed. ``bot`` is None when no process may run any more (its operator killed the token)."""

    venue: VenueRest
    bot: BotRest | None
    database: DatabaseRest
