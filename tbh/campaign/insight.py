"""What the observer sees of a process from inside: its own knowledge at the instant at which it acts by it.

It reads the order manager's memory, which nobody outside a simulation can; it changes nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tbh.campaign.rest import actor_of
from tbh.campaign.setup import BOT_ID
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.findings import CLOSERS, is_adopted
from tbh.domain.money import ZERO
from tbh.domain.protection import guards
from tbh.messages.account import AccountSnapshot, Position, PositionChanged
from tbh.messages.base import Message
from tbh.messages.controls import ControlsChanged
from tbh.messages.orders import Order, OrderDrafted, OrderStatus, Purpose, Side
from tbh.messages.strategy import Decision, DecisionRecorded, RecordDecision, Refused
from tbh.simulation import inside

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot

RECENT: Final = 20
"""How many of the orders that are done are looked at: those of one position, and more."""


def seen_in(boot: Boot) -> Mapping[type[Message], Callable[[Any], None]]:
    """What is told of each message that the process sends, by its type."""
    tell, boot_id = boot.world.tell, boot.boot_id
    decided: dict[str, RecordDecision] = {}

    def drafted(message: OrderDrafted) -> None:
        client_order_id = message.order.client_order_id
        if client_order_id not in boot.drafted_ns:
            boot.drafted_ns[client_order_id] = boot.world.now_ns
            tell(_meant(boot, message.order))

    def position(message: PositionChanged) -> None:
        if message.held is None:
            boot.flat_at = boot.now()
        tell(inside.PositionHeld(boot=boot_id, qty=ZERO if message.held is None else message.held.qty))

    def snapshot(message: AccountSnapshot) -> None:
        torn = message.seq_before != message.seq_after
        tell(inside.SnapshotTold(boot=boot_id, qty=message.qty, read=boot.read_qty, torn=torn, at=message.at))

    def refused(message: Refused) -> None:
        if message.purpose is Purpose.EXIT and message.rule == "nothing_to_exit":
            selling = message.detail.endswith(f"a {Side.SELL} would close")
            tell(inside.ExitRefused(boot=boot_id, proposal_id=message.proposal_id, selling=selling))

    def recording(message: RecordDecision) -> None:
        decided[message.decision.decision_id] = message

    def recorded(message: DecisionRecorded) -> None:
        asked = decided.pop(message.decision_id, None)
        if asked is not None:
            tell(_called_recorded(boot, asked.decision))

    def controls(message: ControlsChanged) -> None:
        tell(inside.ControlsHeard(boot=boot_id, closed=message.paused or message.killed))

    return {
        ControlsChanged: controls,
        OrderDrafted: drafted,
        PositionChanged: position,
        AccountSnapshot: snapshot,
        Refused: refused,
        RecordDecision: recording,
        DecisionRecorded: recorded,
    }


def _called_recorded(boot: Boot, decision: Decision) -> inside.CalledRecorded:
    store = boot.disk.store
    stored = store.decision(decision.strategy, decision.bar_open) is not None
    overtaken = False
    if not stored and not decision.proposals:
        last = store.last_decision(decision.strategy)
        overtaken = last is not None and last.bar_open > decision.bar_open
    return inside.CalledRecorded(
        boot=boot.boot_id, decision_id=decision.decision_id, stored=stored, overtaken=overtaken
    )


def _meant(boot: Boot, order: Order) -> inside.OrderMeant:
    manager = actor_of(boot, "order_manager")
    position: Position | None = manager._book.position
    closing, beside = ZERO, []
    for state in manager._orders.open:
        other = state.order
        if other.client_order_id == order.client_order_id:
            continue
        if other.purpose.increases_risk:
            if other.side is not order.side and other.client_order_id not in manager._canceling:
                beside.append(other.client_order_id)
        elif other.side is order.side:
            closing += rules.remaining(state)
    return inside.OrderMeant(
        boot=boot.boot_id,
        order=order,
        held=ZERO if position is None else position.qty,
        closing=closing,
        beside=() if order.purpose.increases_risk else tuple(beside),
    )


def look_into(boot: Boot) -> inside.Looked:
    """What the process leaves undone by its own knowledge; nothing, while it stands still or is about to end."""
    manager = None if boot.process.out or boot.tree is None else actor_of(boot, "order_manager")
    bare = left = None
    if manager is not None and manager._ready and not manager._halted and manager._book.position is not None:
        purposes = {state.order.purpose for state in manager._orders.open}
        coming = manager._making_room or manager._retries or not purposes.isdisjoint(CLOSERS)
        if not coming and manager._position is not None:
            position: Position = manager._position
            bare = None if Purpose.STOP in purposes else _bare(manager, position)
            left = _left(manager, position, boot.flat_at)
    return inside.Looked(boot=boot.boot_id, bare=bare, left=left)


def _bare(manager: Any, position: Position) -> str | None:
    if manager._paused or position.protection is None or ids.parse(position.position_id, BOT_ID) is None:
        return None
    wants_stop = Purpose.STOP in guards(position, manager._market, best_price=None)
    return position.position_id if wants_stop else None


def _left(manager: Any, position: Position, flat_at: datetime | None) -> str | None:
    """The newest attempt of an order that was to close the position, if that has failed, or was called filled short of
    what it was for: not of one that failed before nothing was left (``flat_at``), where late fills of the entry have
    made a position again; nor of one after which another was drafted that has filled, for that was as much as nothing
    else was closing, and what is held now was bought since."""
    side = Side.SELL if position.qty > 0 else Side.BUY
    followed_at: datetime | None = None
    for state in reversed(manager._orders.recent(RECENT)):
        order: Order = state.order
        if order.purpose not in CLOSERS or order.side is not side:
            continue
        if state.status is OrderStatus.FILLED and (state.filled_qty >= order.qty or is_adopted(order)):
            if not is_adopted(order):  # when that was drafted is not known
                followed_at = order.created_at if followed_at is None else max(followed_at, order.created_at)
            continue
        if followed_at is not None and state.seen_at <= followed_at:
            continue
        if order.created_at < position.opened_at:  # a residue that has become a position again
            continue
        if flat_at is not None and state.seen_at <= flat_at:
            continue
        if (state.reason or "").startswith(rules.BY_HAND) or not manager._meant_for(order.purpose, order, position):
            continue
        if manager._orders.attempts(order.intent_id)[-1] is state:
            return order.client_order_id
    return None
