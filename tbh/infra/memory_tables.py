"""The rows of one bot in a database held in memory, and what may change them (CONTRACTS §4).

Each function of ``FUNCTIONS`` takes the JSON arguments of the RPC of that name and either changes the rows or raises
``Rejected`` with the database's stable word, having changed nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from tbh.domain.money import dec
from tbh.domain.order import TERMINAL
from tbh.infra.codec import CodecError, json_text
from tbh.messages.orders import OrderStatus, Purpose
from tbh.ports import Controls, Rejected

Row = dict[str, Any]
_Key = TypeVar("_Key", str, tuple[str, str])

TRADE_EVENTS = frozenset(purpose.value for purpose in Purpose)
CHANNELS = frozenset({"email", "slack", "sms", "pagerduty", "webhook"})
EVENT_LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})

# A row may move up in this order and never down. UNKNOWN stands below ACCEPTED: silence after an acceptance is news to
# the bot, but no evidence against what the exchange had said. FILLED stands above the other ends, since the last fill
# may arrive after the word that the order was cancelled.
_RANK = {
    OrderStatus.DRAFTED.value: 0,
    OrderStatus.RECORDED.value: 1,
    OrderStatus.SUBMITTED.value: 2,
    OrderStatus.UNKNOWN.value: 3,
    OrderStatus.ACCEPTED.value: 4,
    OrderStatus.PARTIALLY_FILLED.value: 5,
    "simulated": 6,
    **{status.value: 6 for status in TERMINAL},
    OrderStatus.FILLED.value: 7,
}


@dataclass(slots=True)
class LeaseRow:
    """``holder`` is the boot id, None when nobody holds it; ``expires_at_s`` is on the database's clock."""

    holder: str | None = None
    epoch: int = 0
    renewals: int = 0
    lease_s: float = 0.0
    expires_at_s: float = 0.0


@dataclass(slots=True)
class MemoryTables:
    """The database of one bot. Read the rows freely in tests; only ``MemoryRpc`` changes them.

    ``wire`` False leaves out what the wire does to arguments (they must be JSON, and are copied): for many simulations,
    whose stores have seen to it.
    """

    bot_id: str
    monotonic: Callable[[], float]
    trades: dict[str, Row] = field(default_factory=dict)
    fills: dict[str, Row] = field(default_factory=dict)
    adjustments: dict[str, Row] = field(default_factory=dict)
    positions: dict[tuple[str, str], Row] = field(default_factory=dict)
    decisions: dict[str, Row] = field(default_factory=dict)
    cycles: dict[tuple[str, str], Row] = field(default_factory=dict)
    events: dict[str, Row] = field(default_factory=dict)
    notifications: dict[str, Row] = field(default_factory=dict)
    queue: dict[tuple[str, str], Row] = field(default_factory=dict)
    health: Row = field(default_factory=dict)
    state: Row = field(default_factory=dict)
    heartbeats: int = 0
    controls: Controls = field(default_factory=lambda: Controls(version=1))
    acknowledged: list[int] = field(default_factory=list)
    lease: LeaseRow = field(default_factory=LeaseRow)
    last_seq: dict[str, int] = field(default_factory=dict)
    refused: dict[tuple[str, int], str] = field(default_factory=dict)
    wire: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)

    def apply(self, fn: str, args: Mapping[str, Any]) -> None:
        """Run one function; ``Rejected`` for a name that is none, and for arguments that it does not take."""
        function = FUNCTIONS.get(fn)
        if function is None:
            raise Rejected("function_unknown", detail=fn)
        given = self.taken(args)
        if given.pop("p_bot_id", self.bot_id) != self.bot_id:
            raise Rejected("not_your_bot", detail=fn)
        function(self, given)

    def taken(self, args: Mapping[str, Any]) -> Row:
        """Arguments as they come in."""
        return as_json(args) if self.wire else dict(args)


_DONE = frozenset({"filled", "canceled", "expired", "simulated"})
_DISPROVEN = frozenset({"absent", "rejected"})
_SPOKEN = frozenset({"accepted", "fill", "found_behind"})
_COLUMNS = (
    *("intent_id", "symbol", "side", "order_type", "qty", "order_price", "stop_price", "reduce_only", "strategy"),
    *("bar_open", "layer", "attempt", "created_at", "protection", "version", "avg_fill_price", "changed_at", "reason"),
)


def is_open(row: Row) -> bool:
    """Whether the order may still fill; one that was disproven may, when the exchange has spoken of it afterwards."""
    status = row["order_status"]
    return status not in _DONE and (status not in _DISPROVEN or row.get("change") in _SPOKEN)


def is_filled_entry(row: Row) -> bool:
    """Whether the order has made a position greater."""
    return row.get("event") in ("entry", "pyramid") and dec(row["filled_qty"]) > 0


def open_trade(row: Row) -> Row:
    """A row of ``bot_trades`` with all the columns that a recovery reads."""
    return dict.fromkeys(_COLUMNS) | row


def as_json(data: Mapping[str, Any]) -> Row:
    """A copy of ``data`` as the database would see it; ``Rejected`` if JSON can't carry it."""
    try:
        copy: Row = json.loads(json_text(dict(data)))
    except (CodecError, TypeError) as error:
        raise Rejected("payload_invalid", detail=str(error)) from error
    return copy


def merged(standing: Row, patch: Mapping[str, Any]) -> Row:
    """``standing`` with ``patch`` on top: objects are merged key by key, anything else is replaced."""
    made = {**standing, **patch}
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(below := standing.get(key), dict):
            made[key] = merged(below, value)
    return made


def _upsert_trade(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    name = _text(args, "p_client_order_id")
    exchange_id = args.get("p_exchange_order_id")
    if exchange_id is not None and not (isinstance(exchange_id, str) and exchange_id):
        raise Rejected("payload_invalid", detail="p_exchange_order_id")
    status = _text(payload, "order_status")
    if status not in _RANK:
        raise Rejected("payload_invalid", detail=f"order_status {status!r:.40}")
    if payload.get("event", "entry") not in TRADE_EVENTS:
        raise Rejected("payload_invalid", detail="event")
    standing = tables.trades.get(name)
    if standing is None:
        _text(payload, "symbol")
        standing = {"exchange_order_id": None, "order_status": status, "filled_qty": "0"}
    known_id, before = standing["exchange_order_id"], Decimal(standing["filled_qty"])
    filled = _amount(payload, "filled_qty", default=standing["filled_qty"])
    if exchange_id is not None and exchange_id != known_id:
        taken = any(row["exchange_order_id"] == exchange_id for row in tables.trades.values())
        if known_id is not None or taken:
            raise Rejected("exchange_order_id_conflict", detail=f"{name}: {exchange_id}")
    late = _RANK[status] < _RANK[standing["order_status"]] or filled < before
    row = dict(standing) if late else merged(standing, payload)
    if filled > before:
        row |= {key: payload[key] for key in ("filled_qty", "avg_fill_price") if key in payload}
    if _RANK[status] > _RANK[standing["order_status"]]:
        row["order_status"] = status
    if "qty" in payload and "qty" in standing:  # who only saw it fill does not know how large it is
        row["qty"] = max(standing["qty"], payload["qty"], key=Decimal)
    tables.trades[name] = row | {"client_order_id": name, "exchange_order_id": exchange_id or known_id}


def _record_fill(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    for name in ("client_order_id", "symbol"):
        _text(payload, name)
    for name in ("qty", "price"):
        if _amount(payload, name) <= 0:
            raise Rejected("payload_invalid", detail=name)
    _keep_once(tables.fills, _text(payload, "trade_id"), payload)


def _record_adjustment(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    _text(payload, "symbol")
    for name in ("qty", "price"):
        _amount(payload, name)
    _keep_once(tables.adjustments, _text(payload, "adjustment_id"), payload)


def _upsert_position(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    symbol, status = (_text(payload, name) for name in ("symbol", "status"))
    strategy = payload.setdefault("strategy", "default")  # the bot's own, in the real one
    if status not in ("open", "closed"):
        raise Rejected("payload_invalid", detail=f"status {status!r:.40}")
    if status == "closed" and not payload.get("position_id"):
        raise Rejected("position_identity_missing", detail="position_id")
    for name in ("qty", "entry_price"):
        if payload.get(name) is not None or (name == "qty" and status == "open"):
            _amount(payload, name)
    seq = payload.get("seq", 0)
    if not isinstance(seq, int) or isinstance(seq, bool):
        raise Rejected("payload_invalid", detail="seq")
    standing = tables.positions.get((symbol, strategy), {})
    if seq >= standing.get("seq", 0):
        tables.positions[symbol, strategy] = merged(standing, payload)


def _record_decision(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    content = {name: _text(payload, name) for name in ("strategy", "symbol", "bar_open", "purpose")}
    verdict = _text(payload, "verdict")
    if verdict not in ("approved", "refused"):
        raise Rejected("payload_invalid", detail=f"verdict {verdict!r:.40}")
    key = f"{_text(payload, 'proposal_id')}:{verdict}"
    # After a takeover the same proposal may be judged once more, by other figures: the first verdict counts.
    known = tables.decisions.setdefault(key, payload)
    if any(known[name] != value for name, value in content.items()):
        raise Rejected("key_conflict", detail=f"{key} is known with another payload")


def _record_cycle(tables: MemoryTables, args: Row) -> None:
    payload = _object(args, "p_payload")
    _text(payload, "symbol")
    tables.cycles.setdefault((_text(payload, "strategy"), _text(payload, "bar_open")), payload)


def _write_event(tables: MemoryTables, args: Row) -> None:
    level = _text(args, "p_level")
    if level not in EVENT_LEVELS:
        raise Rejected("payload_invalid", detail=f"p_level {level!r:.40}")
    row = {"kind": _text(args, "p_kind"), "level": level, "payload": _object(args, "p_payload")}
    _keep_once(tables.events, _text(args, "p_key"), row)


def _notify(tables: MemoryTables, args: Row) -> None:
    channel, key = _text(args, "p_channel"), _text(args, "p_key")
    row = {"channel": channel, "payload": _object(args, "p_payload")}
    if channel == "in_app":
        _keep_once(tables.notifications, key, row)
    elif channel in CHANNELS:
        _keep_once(tables.queue, (channel, key), row)
    else:
        raise Rejected("payload_invalid", detail=f"p_channel {channel!r:.40}")


def _upsert_health(tables: MemoryTables, args: Row) -> None:
    tables.health = merged(tables.health, _object(args, "p_patch"))


def _keep_once(rows: dict[_Key, Row], key: _Key, row: Row) -> None:
    if rows.setdefault(key, row) != row:
        raise Rejected("key_conflict", detail=f"{key} is known with another payload")


def _object(args: Row, name: str) -> Row:
    value = args.get(name)
    if not isinstance(value, dict):
        raise Rejected("payload_invalid", detail=name)
    return value


def _text(args: Row, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise Rejected("payload_invalid", detail=name)
    return value


def _amount(args: Row, name: str, *, default: str | None = None) -> Any:
    value = args.get(name, default)
    if not isinstance(value, str):
        raise Rejected("payload_invalid", detail=f"{name} is not money as text")
    try:
        return dec(value)
    except ValueError as error:
        raise Rejected("payload_invalid", detail=f"{name}: {error}") from error


FUNCTIONS: dict[str, Callable[[MemoryTables, Row], None]] = {
    "bot_runtime_upsert_trade": _upsert_trade,
    "bot_runtime_record_fill": _record_fill,
    "bot_runtime_record_adjustment": _record_adjustment,
    "bot_runtime_record_decision": _record_decision,
    "bot_runtime_record_cycle": _record_cycle,
    "bot_runtime_upsert_position": _upsert_position,
    "bot_runtime_write_event": _write_event,
    "bot_runtime_notify": _notify,
    "upsert_bot_health_evidence": _upsert_health,
}
"""What an entry of the outbox may call."""
