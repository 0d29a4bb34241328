"""How an order's end counts towards the next attempt: which refusals are the exchange's, and whose word the end was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tbh.domain import ids
from tbh.domain import order as rules
from tbh.messages.orders import NOT_SENT, Order, OrderState, OrderStatus, Purpose

REPEAT_S: Final = 1.0
ATTEMPTS_MAX: Final = 5
"""So many attempts of one exit are made in quick succession; then people are called, and the next ones are slow."""

SLOW_RETRY_S: Final = 60.0
UNSENT_PAUSE_MAX_S: Final = 10.0
"""A guard that the gateway would not send for want of evidence is tried again after so long at most."""


REQUESTS: Final = (Purpose.FLATTEN, Purpose.EMERGENCY)


def fell_short(state: OrderState) -> bool:
    """Whether an order that has ended leaves something of what it was for: also one that the exchange has called filled
    and that had not filled, by the exchange's own count."""
    return state.status is not OrderStatus.FILLED or state.filled_qty < state.order.qty


def was_not_sent(state: OrderState) -> bool:
    """Whether the order was kept from the wire for want of evidence: the exchange has refused nothing."""
    return state.status is OrderStatus.REJECTED and (state.reason or "").startswith(NOT_SENT)


def ended_by_hand(state: OrderState) -> bool:
    """Whether an operator's word ended an order that no standing request brings up again."""
    wanted_still = state.order.purpose in REQUESTS
    return not wanted_still and (state.reason or "").startswith(rules.BY_HAND)


def failures(attempts: Sequence[OrderState]) -> tuple[int, int]:
    """How many attempts of an intent have ended short of being filled, and how many of those the exchange has seen."""
    failed = [one for one in attempts if fell_short(one)]
    return len(failed), sum(1 for one in failed if not was_not_sent(one))


def pause_s(failed: int, *, unsent: bool) -> float:
    """How long to wait after so many failures. What was not sent may go as soon as there is evidence: it waits less."""
    if failed < ATTEMPTS_MAX or unsent:
        return min(REPEAT_S * max(failed, 1), SLOW_RETRY_S)
    return SLOW_RETRY_S


def subject(order: Order) -> str:
    """The request that a flatten or emergency order serves: a flatten's own id, or the position's."""
    return order.intent_id.split("|", 2)[2]


def request_of(order: Order) -> str:
    """What the ids of a flatten or emergency order are made of: its subject, and the round once one is used up."""
    _, number, about = order.intent_id.split("|", 2)
    return about if number == "0" else f"{about}#{number}"


def attempt_id(bot_id: str, order: Order, attempt: int) -> str:
    """The client order id of that attempt at an entry's, an exit's or a request's intent."""
    if order.purpose in REQUESTS:
        return ids.flatten_order_id(bot_id, request_of(order), attempt, purpose=order.purpose)
    return ids.client_order_id(
        bot_id,
        bar_open=order.bar_open,
        strategy=order.strategy,
        purpose=order.purpose,
        layer=order.layer,
        attempt=attempt,
    )


def last_round(purpose: Purpose, request_id: str, states: Iterable[OrderState]) -> str:
    """The intent under which the request's newest orders go; the ids of those before it are used up."""
    orders = [one.order for one in states if one.order.purpose is purpose]
    number = max((_round(one) for one in orders if subject(one) == request_id), default=0)
    return ids.intent_id(purpose, request_id, number)


def next_round(order: Order) -> str:
    """The intent of the same request under ids of its own, once this order's are used up."""
    return ids.intent_id(order.purpose, subject(order), _round(order) + 1)


def _round(order: Order) -> int:
    return int(order.intent_id.split("|", 2)[1])
