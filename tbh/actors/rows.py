"""Facts as the database's functions take them: JSON types, money as plain text, times as ISO-8601 in UTC.

Each function gives one outbox entry, (function, arguments, key). The key is a function of the fact, so that a fact told
twice is one row there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from tbh.domain.findings import about_sync
from tbh.domain.money import plain
from tbh.messages.account import (
    AccountDoubted,
    Adjustment,
    ExternalTrade,
    Position,
    PositionSynced,
    Recovered,
    StrayEnded,
    SyncStatus,
    TradeClosed,
)
from tbh.messages.controls import RequestDone
from tbh.messages.orders import Fill, Flattened, Order, OrderChanged, Protection
from tbh.messages.strategy import Decision, Refused
from tbh.messages.system import DeadLettered

Entry = tuple[str, Mapping[str, Any], str]
_PRICES: Final = ("stop_loss", "take_profit", "basis_price")


@lru_cache(maxsize=256)
def utc_text(at: datetime) -> str:
    """``2026-01-01T00:00:00Z``; ``ValueError`` for a naive time."""
    if at.utcoffset() is None:
        raise ValueError(f"a naive time: {at!r}")
    in_utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return in_utc.isoformat().removesuffix("+00:00") + "Z"


def order_row(changed: OrderChanged) -> Entry:
    """``bot_runtime_upsert_trade``: one row per transition, so that none is skipped as known."""
    state, order = changed.state, changed.state.order
    payload = {**_as_drafted(order), "order_status": state.status.value, "filled_qty": plain(state.filled_qty)}
    if state.avg_price is not None:
        payload["avg_fill_price"] = plain(state.avg_price)
    payload |= {"changed_at": utc_text(state.seen_at), "change": changed.event}
    if state.reason is not None:
        payload["reason"] = state.reason
    payload["version"] = state.version
    if changed.event == "adopted":  # what it was made for is not known here, and perhaps there
        for name in ("intent_id", "strategy", "layer", "attempt", "bar_open", "created_at", "order_type", "protection"):
            payload.pop(name, None)
    args = {
        "p_client_order_id": order.client_order_id,
        "p_exchange_order_id": state.exchange_order_id,
        "p_payload": payload,
    }
    return "bot_runtime_upsert_trade", args, f"order:{order.client_order_id}:{state.version}"


@lru_cache(maxsize=64)
def _as_drafted(order: Order) -> Mapping[str, Any]:
    """What each row of an order says alike: it has some five of them, one after the other."""
    payload = {
        "client_order_id": order.client_order_id,
        "intent_id": order.intent_id,
        "symbol": order.symbol,
        "strategy": order.strategy or None,
        "side": order.side.value,
        "event": order.purpose.value,
        "order_type": order.type.value,
        "order_price": _money(order.price),
        "stop_price": _money(order.stop_price),
        "qty": plain(order.qty),
        "reduce_only": order.reduce_only,
        "layer": order.layer,
        "attempt": order.attempt,
        "bar_open": utc_text(order.bar_open),
        "created_at": utc_text(order.created_at),
        "protection": None if order.protection is None else _protection(order.protection),
    }
    return _known(payload)


def fill_row(fill: Fill) -> Entry:
    """``bot_runtime_record_fill``: the fill as the exchange told it."""
    payload = {
        "trade_id": fill.trade_id,
        "client_order_id": fill.client_order_id,
        "exchange_order_id": fill.exchange_order_id,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "qty": plain(fill.qty),
        "price": plain(fill.price),
        "fee": plain(fill.fee),
        "fee_asset": fill.fee_asset,
        "maker": fill.maker,
        "at": utc_text(fill.at),
        "seq": fill.seq,
    }
    return "bot_runtime_record_fill", {"p_payload": payload}, f"fill:{fill.trade_id}"


def open_position_row(position: Position, seq: int) -> Entry:
    """``bot_runtime_upsert_position`` of an open one; ``seq`` is the account event that made it so, plus the number of
    adjustments before: of two words about one position the later has the higher one."""
    payload = {
        "position_id": position.position_id,
        "symbol": position.symbol,
        "strategy": position.strategy or None,
        "status": "open",
        "position_side": "long" if position.qty > 0 else "short",
        "qty": plain(position.qty),
        "entry_price": plain(position.entry_price),
        "entry_client_order_id": position.position_id,
        "opened_at": utc_text(position.opened_at),
        "bar_open": utc_text(position.bar_open),
        "layers": position.layers,
        "revision": position.revision,
        "best_price": _money(position.best_price),
        "seq": seq,
    }
    return "bot_runtime_upsert_position", {"p_payload": _known(payload)}, f"position:{position.position_id}:{seq}"


def closed_position_row(position: Position, seq: int) -> Entry:
    """The same of a closed one; ``position`` is how it last stood open, which names it."""
    payload = {
        "position_id": position.position_id,
        "symbol": position.symbol,
        "strategy": position.strategy or None,
        "status": "closed",
        "qty": "0",
        "seq": seq,
    }
    return (
        "bot_runtime_upsert_position",
        {"p_payload": _known(payload)},
        f"position:{position.position_id}:{seq}:closed",
    )


def approved_row(order: Order) -> Entry:
    """``bot_runtime_record_decision`` of risk's consent: an order was drafted for the proposal, in one try or more."""
    payload = {
        "proposal_id": order.intent_id,
        "strategy": order.strategy,
        "symbol": order.symbol,
        "bar_open": utc_text(order.bar_open),
        "purpose": order.purpose.value,
        "verdict": "approved",
    }
    return "bot_runtime_record_decision", {"p_payload": payload}, f"approved:{order.intent_id}"


def refused_row(refused: Refused) -> Entry:
    """``bot_runtime_record_decision`` of risk's refusal, with the rule that said no."""
    payload = {
        "proposal_id": refused.proposal_id,
        "strategy": refused.strategy,
        "symbol": refused.symbol,
        "bar_open": utc_text(refused.bar_open),
        "purpose": refused.purpose.value,
        "verdict": "refused",
        "rule": refused.rule,
        "detail": refused.detail,
    }
    return "bot_runtime_record_decision", {"p_payload": payload}, f"refused:{refused.proposal_id}"


def cycle_row(decision: Decision) -> Entry:
    """``bot_runtime_record_cycle``: a bar was decided, and what the strategy wished on it."""
    wished = [f"{proposal.purpose.value} {proposal.side.value}" for proposal in decision.proposals]
    payload = {
        "strategy": decision.strategy,
        "symbol": decision.symbol,
        "bar_open": utc_text(decision.bar_open),
        "proposals": len(wished),
        "outcome": "proposed" if wished else "nothing",
        "detail": ", ".join(wished),
    }
    return "bot_runtime_record_cycle", {"p_payload": payload}, f"cycle:{decision.decision_id}"


def trade_row(closed: TradeClosed) -> Entry:
    trade = closed.trade
    payload = {
        "symbol": trade.symbol,
        "side": trade.side,
        "entry_time": utc_text(trade.entry_time),
        "exit_time": utc_text(trade.exit_time),
        "entry_price": plain(trade.entry_price),
        "exit_price": plain(trade.exit_price),
        "qty": plain(trade.qty),
        "fees": plain(trade.fees),
        "pnl": plain(trade.pnl),
        "exit_reason": trade.exit_reason,
    }
    name = ":".join(str(payload[part]) for part in ("symbol", "side", "entry_time", "exit_time", "entry_price", "qty"))
    return _event("trade_closed", "info", payload, f"trade:{name}:{payload['exit_price']}")


def flattened_row(flattened: Flattened) -> Entry:
    payload = {"request_id": flattened.request_id}
    return _event("flattened", "warning", payload, f"flattened:{flattened.request_id}")


def adjustment_row(adjustment: Adjustment) -> Entry:
    """``bot_runtime_record_adjustment``: what an operator had the book corrected by."""
    payload = {
        "adjustment_id": adjustment.adjustment_id,
        "symbol": adjustment.symbol,
        "qty": plain(adjustment.qty),
        "price": plain(adjustment.price),
        "seq": adjustment.seq,
        "at": utc_text(adjustment.at),
        "reason": adjustment.reason,
    }
    return "bot_runtime_record_adjustment", {"p_payload": payload}, f"adjustment:{adjustment.adjustment_id}"


def request_row(done: RequestDone, at: datetime) -> Entry:
    payload = {"request_id": done.request_id, "outcome": done.outcome, "at": utc_text(at)}
    return _event("request_done", "warning", payload, f"request:{done.request_id}")


def external_row(trade: ExternalTrade) -> Entry:
    """The label of a trade that this bot did not make; the trade itself is a fill like any other."""
    fill = trade.fill
    payload = {
        "trade_id": fill.trade_id,
        "client_order_id": fill.client_order_id,
        "origin": trade.origin.value,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "qty": plain(fill.qty),
        "price": plain(fill.price),
        "at": utc_text(fill.at),
    }
    return _event("external_trade", "warning", payload, f"external:{fill.symbol}:{fill.trade_id}")


def stray_row(stray: StrayEnded) -> Entry:
    """``bot_runtime_upsert_trade`` of an order of which no more is known than its id and its end."""
    payload = {
        "client_order_id": stray.client_order_id,
        "symbol": stray.symbol,
        "event": stray.purpose.value,
        "order_status": stray.status.value,
        "filled_qty": "0",
    }
    args = {
        "p_client_order_id": stray.client_order_id,
        "p_exchange_order_id": stray.exchange_order_id,
        "p_payload": payload,
    }
    return "bot_runtime_upsert_trade", args, f"stray:{stray.client_order_id}:{stray.status.value}"


def recovery_row(recovered: Recovered) -> Entry:
    findings = [{"kind": one.kind, "subject": one.subject, "detail": one.detail} for one in recovered.findings]
    payload = {"start": recovered.start, "findings": findings, "at": utc_text(recovered.at)}
    return _event("recovery", "info", payload, f"recovery:{recovered.start}")


def doubt_row(doubted: AccountDoubted) -> Entry:
    payload = {"causes": list(doubted.causes), "at": utc_text(doubted.at)}
    level = "critical" if doubted.causes else "info"
    return _event("account_doubted", level, payload, f"doubt:{payload['at']}:{'|'.join(doubted.causes)}"[:512])


def dust_row(position: Position) -> Entry:
    """Without the account's seq: a disk that begins anew tells of it again, and maybe at another event."""
    payload = {"position_id": position.position_id, "symbol": position.symbol, "qty": plain(position.qty)}
    key = f"dust:{position.position_id}:{position.revision}:{payload['qty']}"
    return _event("dust_left", "info", payload, key)


def dead_letter_row(letter: DeadLettered, at: datetime) -> Entry:
    """The letter's payload stays in the local store: the database is told that there is one."""
    payload = {
        "actor": letter.actor,
        "seq": letter.seq,
        "message_type": letter.message_type,
        "reason": letter.reason,
        "at": utc_text(at),
    }
    return _event("dead_letter", "error", payload, f"dead_letter:{letter.actor}:{letter.seq}:{payload['at']}")


def sync_row(synced: PositionSynced) -> Entry:
    payload = {
        "symbol": synced.symbol,
        "status": synced.status.value,
        "book_qty": plain(synced.book_qty),
        "exchange_qty": _money(synced.exchange_qty),
        "at": utc_text(synced.at),
    }
    finding = about_sync(synced.status, synced.book_qty, synced.exchange_qty, synced.symbol)
    if finding is not None:
        payload["finding"] = finding.kind
    level = "info" if synced.status is SyncStatus.OK else "critical"
    return _event("position_sync", level, payload, f"sync:{synced.symbol}:{payload['at']}:{synced.status.value}")


def _protection(protection: Protection) -> dict[str, Any]:
    told: dict[str, Any] = {name: _money(getattr(protection, name)) for name in _PRICES}
    if (trailing := protection.trailing) is not None:
        told["trailing"] = {"distance": plain(trailing.distance), "activate_at": plain(trailing.activate_at)}
    return _known(told)


def _event(kind: str, level: str, payload: Mapping[str, Any], key: str) -> Entry:
    return "bot_runtime_write_event", {"p_kind": kind, "p_level": level, "p_payload": payload, "p_key": key}, key


def _money(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _known(payload: Mapping[str, Any]) -> dict[str, Any]:
    # A null would overwrite what an earlier row had said.
    return {key: value for key, value in payload.items() if value is not None}
