"""What a session looks like from outside: at a glance while it runs, and as one object when it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from tbh.actors.adjustments import ADJUSTMENTS
from tbh.domain.accounting import Account
from tbh.domain.adjustment import from_text as corrections_in
from tbh.domain.adjustment import in_order
from tbh.domain.ids import parse
from tbh.domain.money import plain
from tbh.infra.statedir import StatePaths
from tbh.messages.account import Adjustment, Trade
from tbh.messages.market import Market
from tbh.messages.orders import Fill, OrderStatus, Purpose
from tbh.ports import StoreCounts, Telemetry
from tbh.runtime.cell import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorLine:
    """One actor for people to look at."""

    name: str
    state: str
    restarts: int
    waiting: int
    dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A session at a glance. Money in quote, quantities in base; ``gate`` is empty while entries are open."""

    phase: str
    bar_index: int
    bars_total: int
    bar_time: datetime
    price: Decimal | None
    position_qty: Decimal
    entry_price: Decimal | None
    cash: Decimal
    equity: Decimal
    realised_pnl: Decimal
    fees: Decimal
    orders: dict[str, int]
    fills: int
    trades: int
    gate: tuple[str, ...]
    heartbeats: int
    health_flushes: int
    actors: tuple[ActorLine, ...]
    bars_per_s: float
    elapsed_s: float


class Board:
    """A telemetry sink that passes everything on and remembers the gate; ``on_gate`` hears each change of it."""

    def __init__(self, sink: Telemetry) -> None:
        self._sink = sink
        self.gate: tuple[str, ...] = ()
        self.on_gate: Callable[[tuple[str, ...]], None] = lambda _gate: None

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None:
        if event_type == "BotGate":
            reasons = str(attributes.get("gate_reason") or "").split(",")
            self.gate = tuple(reason for reason in reasons if reason)
            self.on_gate(self.gate)
        self._sink.emit(event_type, attributes)

    def flush(self) -> None:
        self._sink.flush()


class Books(Protocol):
    """Recorded fills, those with ``seq > after``, in their order; and the corrections, as the store keeps them."""

    def fills(self, *, after: int = -1) -> Sequence[Fill]: ...
    def meta(self, key: str) -> str | None: ...


class StoreLook(Books, Protocol):
    """What a report reads of the store."""

    def orders_by_status(self) -> dict[str, int]: ...
    def proposal_count(self) -> int: ...
    def counts(self) -> StoreCounts: ...


def actor_lines(cells: Iterable[Cell]) -> tuple[ActorLine, ...]:
    return tuple(
        ActorLine(
            name=cell.name,
            state=str(cell.state),
            restarts=cell.restarts,
            waiting=len(cell.mailbox),
            dead_letters=cell.dead_letters,
        )
        for cell in cells
    )


class Tally:
    """The account and the round trips that the recorded fills and corrections make; ``update`` reads what is new."""

    def __init__(self, store: Books, *, cash: Decimal, market: Market, bot_id: str) -> None:
        self.account = Account(cash, market.symbol, market.base, market.quote, market=market)
        self.trades: list[Trade] = []
        self.fills = 0
        self._store = store
        self._bot_id = bot_id
        self._seq = -1

    def update(self) -> None:
        corrections = corrections_in(self._store.meta(ADJUSTMENTS))
        for change in in_order(self._store.fills(after=self._seq), corrections):
            if isinstance(change, Adjustment):
                if change.symbol == self.account.symbol:
                    self.trades += self.account.adjust(change)
                continue
            parts = parse(change.client_order_id, self._bot_id)
            self.trades += self.account.apply(change, Purpose.MANUAL if parts is None else parts.purpose)
            self.fills += 1
            self._seq = change.seq


def order_counts(by_status: Mapping[str, int]) -> dict[str, int]:
    """Orders as ``tbh demo --json`` counts them. ``submitted`` are those that left for the exchange."""
    never_sent = by_status.get(OrderStatus.DRAFTED, 0) + by_status.get(OrderStatus.RECORDED, 0)
    counted = ("filled", "canceled", "rejected", "unknown", "expired", "absent", "accepted", "partially_filled")
    return {"submitted": sum(by_status.values()) - never_sent} | {name: by_status.get(name, 0) for name in counted}


def trade_row(trade: Trade) -> dict[str, Any]:
    """A round trip as JSON: money as text, times as ISO 8601 UTC."""
    return {
        "side": trade.side,
        "entry_time": _iso(trade.entry_time),
        "exit_time": _iso(trade.exit_time),
        "entry_price": plain(trade.entry_price),
        "exit_price": plain(trade.exit_price),
        "qty": plain(trade.qty),
        "fees": plain(trade.fees),
        "pnl": plain(trade.pnl),
        "exit_reason": trade.exit_reason,
    }


def result_of(*, store: StoreLook, tally: Tally, mark: Decimal | None, cells: Sequence[Cell]) -> dict[str, Any]:
    """The part of the result that follows from the store: orders, fills, trades, position, money, journal, actors."""
    tally.update()
    account = tally.account
    counts = store.counts()
    entry_price = None if account.entry_price is None else plain(account.entry_price)
    return {
        "signals": store.proposal_count(),
        "orders": order_counts(store.orders_by_status()),
        "fills": tally.fills,
        "trades": [trade_row(trade) for trade in tally.trades],
        "position": {"qty": plain(account.qty), "entry_price": entry_price},
        "cash": plain(account.cash),
        "equity": plain(account.cash if mark is None else account.equity(mark)),
        "realised_pnl": plain(account.realised),
        "fees": plain(account.fees),
        "journal": {"recorded": counts.recorded, "relayed": counts.relayed, "pending": counts.pending},
        "actor_restarts": sum(cell.restarts for cell in cells),
        "dead_letters": sum(cell.dead_letters for cell in cells),
    }


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def paths_of(state: StatePaths) -> dict[str, str]:
    """Where a session keeps what."""
    return {
        "state": str(state.root),
        "store": str(state.store),
        "account": str(state.paper),
        "events": str(state.events),
        "log": str(state.log_file.parent),
    }
