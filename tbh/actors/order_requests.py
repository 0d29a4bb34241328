"""What operators settle by hand: a position that only the exchange knows, an order that nobody knows the end of.

Neither is guessed. The book follows the exchange by a correction that is on the disk and labelled; an order ends by an
operator's word, which is its reason from then on. Both are done once, by the request's id.
"""

from __future__ import annotations

from typing import ClassVar, Final

from tbh.actors.order_recovery import OrderRecovery
from tbh.domain import order as rules
from tbh.domain.money import plain
from tbh.messages.account import Adjusted, Position
from tbh.messages.base import Message
from tbh.messages.controls import RequestDone, ResolveOrder
from tbh.messages.health import Severity
from tbh.messages.orders import OrderState, OrderStatus
from tbh.runtime.actor import receive

_DENIALS: Final = (OrderStatus.ABSENT, OrderStatus.REJECTED)


class OperatorRequests(OrderRecovery):
    """``OrderRecovery`` with the operators' part. ``_position_moved`` is for subclasses."""

    sends: ClassVar[tuple[type[Message], ...]] = (*OrderRecovery.sends, RequestDone)

    def _position_moved(self, held: Position | None) -> None:
        """The book's position is another one than ``held``."""

    @receive
    def on_adjusted(self, fact: Adjusted) -> None:
        adjustment = fact.adjustment
        held = self._book.position
        if adjustment.symbol != self._market.symbol or not self._book.adjust(adjustment):
            return
        self._position_moved(held)
        if not self._ready:
            return  # the position is told once the account has been read
        self._tell_position(self._book.last_seq)
        self._protect()
        self._place_held()
        self._pursue()
        position = self._position
        now_at = "flat" if position is None else f"{plain(position.qty)} at {plain(position.entry_price)}"
        bare = position is not None and not self._wanted(position)
        self._call_people(
            f"adopted:{self._start}:{adjustment.adjustment_id}",
            f"{adjustment.symbol}: the book was corrected by {plain(adjustment.qty)} at {plain(adjustment.price)} "
            f"({adjustment.reason}), the position is {now_at}{', and has no stop' if bare else ''}",
            Severity.WARNING,
        )

    @receive
    def on_resolve(self, command: ResolveOrder) -> None:
        self.ctx.send(RequestDone(request_id=command.request_id, outcome=self._resolve(command)))

    def _resolve(self, command: ResolveOrder) -> str:
        """End the order as the operator says; what came of it, in words."""
        if command.request_id in self._flattened:
            return "done before"
        self._flattened.add(command.request_id)
        state = self._known(command.client_order_id)
        if state is None:
            return f"no order {command.client_order_id} is known here"
        if command.outcome in _DENIALS and self._may_still_arrive(state):
            return (
                f"not resolved: it may still arrive, and is not {command.outcome} before the exchange has denied it; "
                "ask again once it has, or once people were told that the order is unresolved"
            )
        try:
            moved = rules.on_resolved(state, command.outcome, command.reason, self.ctx.now())
        except ValueError as error:
            return f"not resolved: {error}"
        if not self._move(moved, "resolved"):
            return f"not resolved: it is not unknown, but {state.status}"
        return f"{command.client_order_id} is {command.outcome}: {command.reason}"

    def _may_still_arrive(self, state: OrderState) -> bool:
        """Whether nobody knows yet that its request can't come any more: another attempt would then be one too many."""
        settled = self._given_up | self._denied
        unseen = not state.filled_qty and state.status is OrderStatus.UNKNOWN
        return unseen and state.order.client_order_id not in settled
