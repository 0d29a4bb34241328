"""The life of an order.

An order begins as a *draft*: a decision with an id, on nobody's disk. The journaler commits it and it is *recorded*;
from then on it can be found again, so that it may be sent. The gateway says *submitted* just before the request leaves,
and from that instant silence means nothing: the exchange may have the order or not. It answers that the order is
*accepted*, or *rejected*, which is proof that it does not and will not exist. An accepted order is *partially filled*,
*filled*, *canceled* or *expired*.

When no answer comes, the order is *unknown*. So is every order that a new process reads back as sent, or about to be.
Only evidence ends that: the exchange tells where the order stands, or it denies it after the last instant at which the
request could still arrive; then the order is *absent*, and a new try is a new order under a new id.

Facts come late, twice, and in the wrong order, and none of them may be lost. So the table below holds whatever
changes an order's status, and a pair that is not in it changes nothing. What the exchange tells of was sent, and so was
a draft that the gateway has answered, or has not: where no word of the sending came, an order takes that step first
(``_sent``), and its version rises by both. Three things hold always:

- What was filled is the sum of the fills, each of which the caller applies once (``Book.apply`` tells a repeat). A
  report that counts more than our fills never invents one: the order is *behind*, and no report ends it before they
  are here.
- The filled quantity never shrinks and the version rises with each change, so an older row can't replace a newer one.
- Positive evidence outranks inference: a fill of an order that was proven absent is a fill, and the proof was wrong
  (``is_surprise``).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Final

from tbh.domain.money import EXACT, ZERO, divide
from tbh.messages.orders import Fill, Order, OrderFound, OrderState, OrderStatus


class BrokenInvariant(Exception):
    """Something that cannot be true was said about the account. Never handled: it crashes the actor."""


class OrderEvent(StrEnum):
    """What can be learned about an order. A query's evidence counts as the event that it bears witness to."""

    RECORDED = "recorded"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    """It is on the book, says the exchange (an answer, or ``FOUND`` open)."""
    FILL = "fill"
    """A fill that leaves a rest."""
    LAST_FILL = "last_fill"
    """The fill that completes it, or ``FOUND`` filled with nothing of it missing here."""
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    SILENCE = "silence"
    FOUND_BEHIND = "found_behind"
    """It is done at the exchange, with more filled than the fills that we have."""
    NOT_FOUND = "not_found"
    """The exchange denies it, and the request can no longer arrive."""
    RECOVERED = "recovered"
    """It was read back from the store by a new process."""


_S = OrderStatus
_E = OrderEvent

TABLE: Final[dict[tuple[OrderStatus, OrderEvent], OrderStatus]] = {
    (_S.DRAFTED, _E.RECORDED): _S.RECORDED,
    (_S.DRAFTED, _E.SUBMITTED): _S.SUBMITTED,  # the store is faulted or silent: exits don't wait for it
    (_S.DRAFTED, _E.CANCELED): _S.CANCELED,  # withdrawn before it was sent
    (_S.DRAFTED, _E.EXPIRED): _S.EXPIRED,  # its bar was over before the disk answered
    (_S.DRAFTED, _E.RECOVERED): _S.UNKNOWN,  # its row is on disk, so it may have been sent
    (_S.RECORDED, _E.SUBMITTED): _S.SUBMITTED,
    (_S.RECORDED, _E.CANCELED): _S.CANCELED,
    (_S.RECORDED, _E.EXPIRED): _S.EXPIRED,
    (_S.RECORDED, _E.REJECTED): _S.REJECTED,  # the gateway would not sign it: too late, or the lease has ended
    (_S.RECORDED, _E.SILENCE): _S.UNKNOWN,
    (_S.RECORDED, _E.RECOVERED): _S.UNKNOWN,  # the process died between disk and wire; nobody knows on which side
    (_S.SUBMITTED, _E.ACCEPTED): _S.ACCEPTED,
    (_S.SUBMITTED, _E.FILL): _S.PARTIALLY_FILLED,  # the account's stream outran the answer
    (_S.SUBMITTED, _E.LAST_FILL): _S.FILLED,
    (_S.SUBMITTED, _E.CANCELED): _S.CANCELED,
    (_S.SUBMITTED, _E.EXPIRED): _S.EXPIRED,
    (_S.SUBMITTED, _E.REJECTED): _S.REJECTED,
    (_S.SUBMITTED, _E.SILENCE): _S.UNKNOWN,
    (_S.SUBMITTED, _E.FOUND_BEHIND): _S.UNKNOWN,
    (_S.SUBMITTED, _E.RECOVERED): _S.UNKNOWN,
    (_S.ACCEPTED, _E.FILL): _S.PARTIALLY_FILLED,
    (_S.ACCEPTED, _E.LAST_FILL): _S.FILLED,
    (_S.ACCEPTED, _E.CANCELED): _S.CANCELED,
    (_S.ACCEPTED, _E.EXPIRED): _S.EXPIRED,
    (_S.ACCEPTED, _E.REJECTED): _S.UNKNOWN,  # two words that contradict each other: only a query can settle it
    (_S.ACCEPTED, _E.FOUND_BEHIND): _S.UNKNOWN,
    (_S.PARTIALLY_FILLED, _E.ACCEPTED): _S.PARTIALLY_FILLED,  # the answer comes after the first fill
    (_S.PARTIALLY_FILLED, _E.FILL): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _E.LAST_FILL): _S.FILLED,
    (_S.PARTIALLY_FILLED, _E.CANCELED): _S.CANCELED,
    (_S.PARTIALLY_FILLED, _E.EXPIRED): _S.EXPIRED,
    (_S.PARTIALLY_FILLED, _E.REJECTED): _S.UNKNOWN,  # contradicted by its own fill
    (_S.PARTIALLY_FILLED, _E.FOUND_BEHIND): _S.UNKNOWN,
    (_S.UNKNOWN, _E.ACCEPTED): _S.ACCEPTED,
    (_S.UNKNOWN, _E.FILL): _S.UNKNOWN,  # it did arrive, but whether the rest still stands was not said: keep asking
    (_S.UNKNOWN, _E.LAST_FILL): _S.FILLED,
    (_S.UNKNOWN, _E.CANCELED): _S.CANCELED,
    (_S.UNKNOWN, _E.EXPIRED): _S.EXPIRED,
    (_S.UNKNOWN, _E.REJECTED): _S.REJECTED,
    (_S.UNKNOWN, _E.FOUND_BEHIND): _S.UNKNOWN,  # no end yet, but it was seen: it can't become absent any more
    (_S.UNKNOWN, _E.NOT_FOUND): _S.ABSENT,
    (_S.FILLED, _E.ACCEPTED): _S.FILLED,  # the answer comes after the last fill
    (_S.FILLED, _E.FILL): _S.FILLED,  # the exchange had called it filled short of what was ordered
    (_S.FILLED, _E.LAST_FILL): _S.FILLED,  # the exchange rounded up by less than a step
    (_S.CANCELED, _E.FILL): _S.CANCELED,  # the fill was already under way
    (_S.CANCELED, _E.LAST_FILL): _S.FILLED,  # nothing was left to cancel
    (_S.EXPIRED, _E.FILL): _S.EXPIRED,
    (_S.EXPIRED, _E.LAST_FILL): _S.FILLED,
    (_S.REJECTED, _E.ACCEPTED): _S.UNKNOWN,  # two words that contradict each other
    (_S.REJECTED, _E.FILL): _S.PARTIALLY_FILLED,  # it was refused and it fills: the refusal was wrong
    (_S.REJECTED, _E.LAST_FILL): _S.FILLED,
    (_S.REJECTED, _E.FOUND_BEHIND): _S.UNKNOWN,
    (_S.ABSENT, _E.ACCEPTED): _S.ACCEPTED,  # the proof was wrong: it arrived after all
    (_S.ABSENT, _E.FILL): _S.PARTIALLY_FILLED,
    (_S.ABSENT, _E.LAST_FILL): _S.FILLED,
    (_S.ABSENT, _E.CANCELED): _S.CANCELED,
    (_S.ABSENT, _E.EXPIRED): _S.EXPIRED,
    (_S.ABSENT, _E.FOUND_BEHIND): _S.UNKNOWN,
}

TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.ABSENT})
OPEN: Final = frozenset(OrderStatus) - TERMINAL
"""Every status in which the order may still fill: a draft too, for it is about to be sent."""

BY_HAND: Final = "resolved by hand: "  # so begins the reason of an order that an operator has ended
_BEFORE_THE_WIRE: Final = frozenset({_S.DRAFTED, _S.RECORDED})
_DISPROVEN: Final = frozenset({_S.REJECTED, _S.ABSENT})
_RESOLVED: Final = {_S.FILLED: _E.LAST_FILL, _S.CANCELED: _E.CANCELED, _S.EXPIRED: _E.EXPIRED,
                    _S.REJECTED: _E.REJECTED, _S.ABSENT: _E.NOT_FOUND}  # fmt: skip


def is_terminal(status: OrderStatus) -> bool:
    return status in TERMINAL


def is_surprise(before: OrderState, after: OrderState) -> bool:
    """Whether an order that did not exist turned out to: stop entries, tell people, query it."""
    return before.status in _DISPROVEN and after.status is not before.status


def remaining(state: OrderState) -> Decimal:
    """What may still fill, in base: zero once the order is terminal."""
    return ZERO if is_terminal(state.status) else max(state.order.qty - state.filled_qty, ZERO)


def draft(order: Order, now: datetime) -> OrderState:
    """The first state of a new order, version 0. Raises ``BrokenInvariant`` for a quantity that is not positive."""
    if not order.qty > 0:
        raise BrokenInvariant(f"order {order.client_order_id}: quantity {order.qty} is not positive")
    return OrderState(order=order, status=OrderStatus.DRAFTED, version=0, seen_at=now)


def on_recorded(state: OrderState, now: datetime) -> OrderState | None:
    """The draft is on disk. Like all that follow: the new state, or None when that changes nothing."""
    return _move(state, OrderEvent.RECORDED, now)


def on_submitted(state: OrderState, now: datetime) -> OrderState | None:
    return _move(state, OrderEvent.SUBMITTED, now)


def on_accepted(state: OrderState, exchange_order_id: str, now: datetime) -> OrderState | None:
    return _move(_sent(state, now), OrderEvent.ACCEPTED, now, exchange_order_id=exchange_order_id)


def on_fill(state: OrderState, fill: Fill, now: datetime, *, step: Decimal = ZERO) -> OrderState | None:
    """Add a fill that was not applied before; ``step`` is the market's amount step, by which an exchange may round up.

    Raises ``BrokenInvariant`` for another order's fill, and for one that fills more than was ordered and a step.
    """
    order = state.order
    if (fill.client_order_id, fill.symbol, fill.side) != (order.client_order_id, order.symbol, order.side):
        raise BrokenInvariant(f"fill {fill.trade_id} is not of order {order.client_order_id}: {fill}")
    if not (fill.qty > 0 and fill.price > 0):
        raise BrokenInvariant(f"fill {fill.trade_id}: {fill.qty} at {fill.price} is no trade")
    with localcontext(EXACT):
        filled_qty = state.filled_qty + fill.qty
        if filled_qty > order.qty + step:
            raise BrokenInvariant(
                f"order {order.client_order_id}: fill {fill.trade_id} makes it {filled_qty} of {order.qty}"
            )
        paid = fill.price * fill.qty + (state.avg_price or ZERO) * state.filled_qty
    return _move(
        _sent(state, now),
        OrderEvent.LAST_FILL if filled_qty >= order.qty else OrderEvent.FILL,
        now,
        exchange_order_id=fill.exchange_order_id,
        filled_qty=filled_qty,
        avg_price=divide(paid, filled_qty),
    )


def on_canceled(state: OrderState, filled_qty: Decimal, reason: str, now: datetime) -> OrderState | None:
    """It is off the book after ``filled_qty``; with more than our fills it is behind: UNKNOWN until they are here."""
    return _end(state, OrderEvent.CANCELED, filled_qty, reason, now)


def on_expired(state: OrderState, filled_qty: Decimal, reason: str, now: datetime) -> OrderState | None:
    return _end(state, OrderEvent.EXPIRED, filled_qty, reason, now)


def on_rejected(state: OrderState, reason: str, now: datetime) -> OrderState | None:
    """The exchange, or the gateway, said no. Against the order's own fills that says nothing: it stays UNKNOWN."""
    if state.status is OrderStatus.UNKNOWN and state.filled_qty:
        return None
    return _move(_handed_over(state, now), OrderEvent.REJECTED, now, reason=reason)


def on_silence(state: OrderState, reason: str, now: datetime) -> OrderState | None:
    """No answer, or one that proves nothing. What was said before stands: an accepted order stays accepted."""
    return _move(_handed_over(state, now), OrderEvent.SILENCE, now, reason=reason)


def on_found(state: OrderState, report: OrderFound, now: datetime) -> OrderState | None:
    """A query's evidence. Raises ``BrokenInvariant`` for another order's report, or one that knows nothing.

    An order that is open at the exchange is open here, whatever it has filled: its fills follow by themselves. One that
    is done there with more filled than our fills is behind: UNKNOWN, so that the caller asks until they are here.
    """
    order = state.order
    if report.client_order_id != order.client_order_id:
        raise BrokenInvariant(f"report on {report.client_order_id} is not of order {order.client_order_id}")
    match report.status:
        case OrderStatus.UNKNOWN | OrderStatus.ABSENT:
            raise BrokenInvariant(f"order {order.client_order_id} was found, yet {report.status}")
        case OrderStatus.CANCELED:
            event = OrderEvent.CANCELED
        case OrderStatus.EXPIRED:
            event = OrderEvent.EXPIRED
        case OrderStatus.REJECTED:
            # An exchange that filled a part and calls the order rejected means the rest.
            event = OrderEvent.CANCELED if state.filled_qty or report.filled_qty else OrderEvent.REJECTED
        case OrderStatus.FILLED:
            event = OrderEvent.LAST_FILL if state.filled_qty else OrderEvent.FOUND_BEHIND
        case _:
            return on_accepted(state, report.exchange_order_id, now)
    return _end(state, event, report.filled_qty, f"found {report.status}", now, report.exchange_order_id)


def on_not_found(state: OrderState, conclusive: bool, now: datetime) -> OrderState | None:
    """The exchange denies the order. That proves absence only when ``conclusive``, and never of one that was seen.

    An order that was accepted or filled did arrive; if the exchange has forgotten it, an operator has to resolve it.
    """
    if not conclusive or state.exchange_order_id is not None or state.filled_qty:
        return None
    return _move(state, OrderEvent.NOT_FOUND, now, reason="not found")


def on_recovered(state: OrderState, now: datetime) -> OrderState | None:
    """A new process has read the order back from the store."""
    return _move(state, OrderEvent.RECOVERED, now, reason="read back from the store")


def on_resolved(state: OrderState, outcome: OrderStatus, reason: str, now: datetime) -> OrderState | None:
    """An operator's word on an order that stays UNKNOWN; None for any other. What has filled is what came here.

    Raises ``ValueError`` for what is no end, and for one that its fills contradict.
    """
    if (outcome in _DISPROVEN and state.filled_qty) or (outcome is OrderStatus.FILLED and not state.filled_qty):
        raise ValueError(f"{state.filled_qty} of it has filled here, so it is not {outcome}")
    if outcome not in _RESOLVED:
        raise ValueError(f"{outcome} is no end of an order: {', '.join(_RESOLVED)}")
    unknown = state.status is OrderStatus.UNKNOWN
    return _move(state, _RESOLVED[outcome], now, reason=f"{BY_HAND}{reason}") if unknown else None


def _end(
    state: OrderState,
    event: OrderEvent,
    filled_qty: Decimal,
    reason: str,
    now: datetime,
    exchange_order_id: str | None = None,
) -> OrderState | None:
    if filled_qty > state.filled_qty:
        event, reason = OrderEvent.FOUND_BEHIND, f"{reason}; {filled_qty - state.filled_qty} of its fills are missing"
    if event in (OrderEvent.FOUND_BEHIND, OrderEvent.LAST_FILL):
        state = _sent(state, now)
    return _move(state, event, now, reason=reason, exchange_order_id=exchange_order_id)


def _sent(state: OrderState, now: datetime) -> OrderState:
    """The order that the exchange has: it was sent, whatever became of the word that said so."""
    return state if state.status not in _BEFORE_THE_WIRE else on_submitted(state, now) or state


def _handed_over(state: OrderState, now: datetime) -> OrderState:
    """The same for a draft alone: it went without its record. One that is recorded may have been kept from the wire."""
    return _sent(state, now) if state.status is OrderStatus.DRAFTED else state


def _move(
    state: OrderState,
    event: OrderEvent,
    now: datetime,
    *,
    reason: str | None = None,
    exchange_order_id: str | None = None,
    filled_qty: Decimal | None = None,
    avg_price: Decimal | None = None,
) -> OrderState | None:
    status = TABLE.get((state.status, event))
    if status is None:
        return None
    if status is OrderStatus.ACCEPTED and state.filled_qty:
        status = OrderStatus.PARTIALLY_FILLED
    # An exchange may rename an order when its trigger fires; the id it was accepted under is the journaled one.
    exchange_order_id = state.exchange_order_id or exchange_order_id or None
    filled_qty = state.filled_qty if filled_qty is None else filled_qty
    if (status, exchange_order_id, filled_qty) == (state.status, state.exchange_order_id, state.filled_qty):
        return None
    return OrderState(
        order=state.order,
        status=status,
        version=state.version + 1,
        exchange_order_id=exchange_order_id,
        filled_qty=filled_qty,
        avg_price=state.avg_price if avg_price is None else avg_price,
        reason=state.reason if reason is None and status is state.status else reason,
        seen_at=max(now, state.seen_at),
    )
