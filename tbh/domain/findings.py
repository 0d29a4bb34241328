"""What a start finds when it compares what is remembered with what the exchange has, and what is done about it.

Memory is the local store, or on an empty disk the rows that the database gave back. The exchange's word is its open
orders, its trades and its position. Nothing here decides by what is missing from an answer: an order that is not among
the open ones is asked after by its id, and a trade is booked only from the exchange's own trade id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Final

from tbh.domain import ids
from tbh.domain.money import EXACT, ZERO, divide, plain
from tbh.domain.order import is_terminal
from tbh.messages.account import Finding, Position, SyncStatus
from tbh.messages.orders import Fill, Order, OrderFound, OrderState, OrderStatus, OrderType, Purpose

CLOSERS: Final = (Purpose.EXIT, Purpose.FLATTEN, Purpose.EMERGENCY)
_ADOPTED: Final = "adopted "
_BY_OPERATOR: Final = "adopt:"
"""How the id of a position begins that an operator's request has opened in the book."""

FINDINGS_MAX: Final = 100
"""More than so many of one start are counted, and not told one by one."""


class Kind(StrEnum):
    """What can be found; ``RESPONSES`` says of each what it means and what follows."""

    CONFIRM = "confirm"
    BEHIND = "behind"
    DOUBT = "doubt"
    VANISHED = "vanished"
    REVIVED = "revived"
    ORPHAN = "orphan"
    FOREIGN = "foreign"
    ADOPT_FILL = "adopt_fill"
    EXTERNAL = "external"
    STRANGER = "stranger"
    ADOPTED = "adopted"
    DUST = "dust"
    AGREED = "agreed"
    MISSING = "missing"
    MISMATCH = "mismatch"
    MORE = "more"


class Act(StrEnum):
    """What is done about an order that nobody here remembers."""

    CANCEL = "cancel"
    KEEP = "keep"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """``means`` and ``then`` are sentences for people; ``trading`` says whether entries may be made meanwhile."""

    means: str
    then: str
    trading: bool


RESPONSES: Final[dict[Kind, Response]] = {
    Kind.CONFIRM: Response(means="open here and there", then="nothing", trading=True),
    Kind.BEHIND: Response(
        means="the exchange has filled more of it than is known here", then="the account is read again", trading=True
    ),
    Kind.DOUBT: Response(
        means="it was sent, or about to be, and nobody knows whether it arrived",
        then="it is asked after until the exchange has it, or denies it when it can no longer arrive",
        trading=False,
    ),
    Kind.VANISHED: Response(
        means="open here, and not among the exchange's open orders", then="its end is asked for", trading=True
    ),
    Kind.REVIVED: Response(means="ended here, and open at the exchange", then="it is cancelled again", trading=True),
    Kind.ORPHAN: Response(
        means="an open order of this bot that nobody here remembers",
        then="it is cancelled, unless it can do no more than close the position or guard what nobody else does",
        trading=True,
    ),
    Kind.FOREIGN: Response(means="an open order of somebody else's", then="it is never touched", trading=True),
    Kind.ADOPT_FILL: Response(
        means="a trade of this bot's order that was not on the disk", then="it is booked by its trade id", trading=True
    ),
    Kind.EXTERNAL: Response(
        means="a trade on the account that this bot did not make: the exchange's, or by hand",
        then="it is booked by its trade id, its position's guards follow, people are told",
        trading=True,
    ),
    Kind.STRANGER: Response(
        means="a position that no order known here has opened", then="it gets no stop, people are told, entries close",
        trading=False,
    ),
    Kind.ADOPTED: Response(
        means="a position that an operator had the book take over", then="it gets no stop", trading=True
    ),
    Kind.DUST: Response(
        means="what is left is below what the exchange takes", then="the position counts as closed", trading=True
    ),
    Kind.AGREED: Response(means="book and exchange have the same position", then="nothing", trading=True),
    Kind.MISSING: Response(
        means="the exchange has no position, the book has one", then="entries close; tbh bot adopt", trading=False
    ),
    Kind.MISMATCH: Response(
        means="book and exchange have different positions", then="entries close; tbh bot adopt", trading=False
    ),
    Kind.MORE: Response(means="further findings of this start", then="they are in the log", trading=True),
}  # fmt: skip
"""The whole of what a comparison can say."""


def compare_orders(
    remembered: Iterable[OrderState], standing: Iterable[OrderFound], *, ended: Iterable[str], bot_id: str
) -> list[Finding]:
    """Orders that were open when memory was read, against those that the exchange has open.

    ``ended`` are the client ids of orders that memory has at an end. Nothing is found about what is missing on both
    sides.
    """
    there = {found.client_order_id: found for found in standing if not is_terminal(found.status)}
    found: list[Finding] = []
    for state in remembered:
        client_order_id = state.order.client_order_id
        found.append(_compared(state, there.pop(client_order_id, None)))
    over = frozenset(ended)
    for client_order_id in there:
        parts = ids.parse(client_order_id, bot_id)
        if parts is None:
            found.append(Finding(kind=Kind.FOREIGN, subject=client_order_id, detail="not by this bot's id"))
        elif client_order_id in over:
            found.append(Finding(kind=Kind.REVIVED, subject=client_order_id, detail=parts.purpose.value))
        else:
            found.append(Finding(kind=Kind.ORPHAN, subject=client_order_id, detail=parts.purpose.value))
    return found


def _compared(state: OrderState, there: OrderFound | None) -> Finding:
    order = state.order
    detail = f"{order.purpose} {order.side} {plain(order.qty)}, {state.status} here"
    if there is None:
        seen = state.status in (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
        kind = Kind.VANISHED if seen else Kind.DOUBT
    else:
        kind = Kind.BEHIND if there.filled_qty > state.filled_qty else Kind.CONFIRM
        detail = f"{detail}, {there.status} there"
    return Finding(kind=kind, subject=order.client_order_id, detail=detail)


def adopted_fill(fill: Fill, *, bot_id: str) -> Finding:
    """A trade that the account tells of and memory did not have."""
    origin = ids.origin(fill.client_order_id, bot_id)
    detail = f"{fill.side} {plain(fill.qty)} at {plain(fill.price)}"
    if origin is None:
        return Finding(kind=Kind.ADOPT_FILL, subject=fill.trade_id, detail=f"{detail}, order {fill.client_order_id}")
    return Finding(kind=Kind.EXTERNAL, subject=fill.trade_id, detail=f"{detail}, {origin.value}")


def about_position(position: Position | None, *, dust: bool) -> list[Finding]:
    """What the book says of itself, before it has been compared; of which ``RESPONSES`` says what follows."""
    if position is None or (position.strategy and not dust):
        return []
    detail = f"{plain(position.qty)} at {plain(position.entry_price)}"
    if dust:
        return [Finding(kind=Kind.DUST, subject=position.position_id, detail=detail)]
    kind = Kind.ADOPTED if position.position_id.startswith(_BY_OPERATOR) else Kind.STRANGER
    return [Finding(kind=kind, subject=position.position_id, detail=detail)]


def about_sync(status: SyncStatus, book_qty: Decimal, exchange_qty: Decimal | None, symbol: str) -> Finding | None:
    """What a comparison of the position is called; None while nothing is believed."""
    kinds = {SyncStatus.OK: Kind.AGREED, SyncStatus.MISSING: Kind.MISSING, SyncStatus.MISMATCH: Kind.MISMATCH}
    if status not in kinds:
        return None
    there = "unknown" if exchange_qty is None else plain(exchange_qty)
    return Finding(kind=kinds[status], subject=symbol, detail=f"book {plain(book_qty)}, exchange {there}")


def within_bounds(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first ``FINDINGS_MAX``, and how many more there are."""
    told = tuple(found[:FINDINGS_MAX])
    more = len(found) - len(told)
    return told if not more else (*told, Finding(kind=Kind.MORE, subject=str(more), detail="findings"))


def act_on_stray(client_order_id: str, *, bot_id: str, position: Position | None, reduce_only_held: bool) -> Act:
    """What is done about an open order that nobody here remembers.

    Somebody else's is ignored. Protection is made anew, so a former one goes, unless it guards a position that nobody
    here knows how to guard. An order that closes the position is kept where the exchange lets it do no more than that
    (``reduce_only_held``). What could increase risk goes.
    """
    parts = ids.parse(client_order_id, bot_id)
    if parts is None:
        return Act.IGNORE
    if parts.purpose.is_protection:
        return Act.KEEP if position is not None and not position.strategy else Act.CANCEL
    if parts.purpose in CLOSERS:
        return Act.KEEP if reduce_only_held else Act.CANCEL
    return Act.CANCEL


def is_adopted(order: Order) -> bool:
    """Whether the order was made by ``adopted_order``."""
    return order.intent_id.split("|", 2)[-1].startswith(_ADOPTED)


def adopted_order(found: OrderFound, fills: Sequence[Fill], parts: ids.IdParts, now: datetime) -> OrderState:
    """An order that ended at the exchange without ever having been journaled: from its ``fills`` (one at least) and its
    id. What it was meant to fill is not known, so that it counts as what it has."""
    with localcontext(EXACT):
        filled = sum((fill.qty for fill in fills), ZERO)
        paid = sum((fill.qty * fill.price for fill in fills), ZERO)
    first = fills[0]
    of_a_bar = parts.purpose.increases_risk or parts.purpose is Purpose.EXIT
    order = Order(
        client_order_id=found.client_order_id,
        intent_id=ids.intent_id(parts.purpose, f"{_ADOPTED}{found.client_order_id}"),
        symbol=first.symbol,
        side=first.side,
        type=OrderType.MARKET,
        qty=filled,
        reduce_only=not parts.purpose.increases_risk,
        purpose=parts.purpose,
        strategy="",
        bar_open=parts.bar_open if of_a_bar else first.at,
        layer=parts.layer if of_a_bar else 0,
        attempt=parts.attempt,
        created_at=first.at,
    )
    return OrderState(
        order=order,
        status=found.status,
        version=1,
        exchange_order_id=found.exchange_order_id or first.exchange_order_id,
        filled_qty=filled,
        avg_price=divide(paid, filled),
        reason="found at the exchange",
        seen_at=now,
    )
