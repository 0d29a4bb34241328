"""Closing the position: exits, flatten requests and the emergency, each until nothing is left of it.

An intent to close is served by one order at a time. When that is refused, taken off the book or proven absent, the next
attempt follows under the next id, for what is left then. Where the exchange does not enforce reduce-only, protective
orders hold the coins: they are cancelled first, and the intent waits until they are gone.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from tbh.actors.order_path import Terms
from tbh.actors.order_protection import PositionGuard
from tbh.actors.order_retries import (
    ATTEMPTS_MAX,
    REQUESTS,
    attempt_id,
    ended_by_hand,
    failures,
    fell_short,
    last_round,
    next_round,
    pause_s,
    subject,
    was_not_sent,
)
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.blotter import DONE_KEPT_MAX, Blotter
from tbh.domain.book import is_dust
from tbh.domain.findings import CLOSERS
from tbh.domain.money import ZERO, floor_to_step
from tbh.domain.risk import exitable
from tbh.messages.account import Position
from tbh.messages.base import Message, Timer, message, replace
from tbh.messages.orders import (
    Flatten,
    Flattened,
    Order,
    OrderState,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
)
from tbh.runtime.actor import Context, receive


@message
class _TryAgain(Timer):
    """An exit has ended before the position did; try anew if there is still something to exit."""

    client_order_id: str


class PositionCloser(PositionGuard):
    """``flattened`` are the ids of the flatten requests that are carried out."""

    sends: ClassVar[tuple[type[Message], ...]] = (*PositionGuard.sends, Flattened)

    def __init__(self, ctx: Context, *, terms: Terms, orders: Blotter, flattened: set[str]) -> None:
        super().__init__(ctx, terms=terms, orders=orders)
        self._flattened = flattened
        self._flatten: dict[str, Flatten] = {}
        self._making_room: dict[str, str | None] = {}
        self._clearing = False
        self._retries: dict[str, bool] = {}
        self._halted = False

    # How much

    def _exit_qty(self, purpose: Purpose, side: Side, *, order: Order | None = None) -> Decimal:
        """What may be sent on ``side`` to close the position (base); zero when flat, dust, or not closed by it.

        ``order`` is the one that is tried again, or an outline of it: what it was meant for must still be there.
        """
        position = self._position
        if position is None or side is not closing_side(position) or not self._meant_for(purpose, order, position):
            return ZERO
        own_id = "" if order is None else order.client_order_id  # not itself, when it is judged once more
        others = (state for state in self._orders.open if state.order.client_order_id != own_id)
        exits = [state for state in others if not state.order.purpose.increases_risk]
        qty = exitable(position.qty, exits, self._market.enforces_reduce_only)
        largest = self._market.amount_max
        qty = floor_to_step(qty if largest is None else min(qty, largest), self._market.amount_step)
        # What others leave of it may be less than the exchange takes.
        return ZERO if is_dust(qty, self._market, position.entry_price) else qty

    def _exit_qty_with_room(
        self, intent_id: str, purpose: Purpose, side: Side, *, order: Order | None = None, retry_id: str | None = None
    ) -> Decimal | None:
        """``_exit_qty``; or None when protective orders stand in the way, which are being cancelled. ``_use_room`` then
        brings back what waits: the attempt after ``retry_id``; None stands for an approval that is to be set aside."""
        position = self._position
        if position is None or side is not closing_side(position) or not self._meant_for(purpose, order, position):
            return ZERO
        if self._make_room(intent_id, retry_id):
            return None
        return self._exit_qty(purpose, side, order=order)

    def _meant_for(self, purpose: Purpose, order: Order | None, position: Position) -> bool:
        if order is None:
            return True
        if purpose is Purpose.FLATTEN:
            return subject(order) in self._flatten
        if purpose is Purpose.EMERGENCY:
            return subject(order) == position.position_id
        # An exit decided on a bar was decided about a position that was there: not about one opened later.
        # One that was found at the exchange has no strategy: nobody knows what it was decided about.
        return bool(order.strategy) and (not position.strategy or position.bar_open < order.bar_open)

    def _stray_of(self, order: Order) -> str | None:
        """An attempt at the order's intent that lives at the exchange and is in nobody's memory."""
        return None

    def _exit_under_way(self) -> bool:
        return bool(self._making_room) or any(self._retries.values()) or super()._exit_under_way()

    # Room, where each order that closes the position locks its coins

    def _make_room(self, intent_id: str, retry_id: str | None) -> bool:
        """Cancel the protective orders that stand in the way; False when there is none, or none any more."""
        if self._market.enforces_reduce_only:
            return False
        self._making_room[intent_id] = retry_id
        self._clearing = True
        for state in self._guards_open():
            self._cancel(state, "room for an exit")
        self._call_off_left_standing()
        self._clearing = False
        if self._guards_open() or self._left_standing:
            return True
        del self._making_room[intent_id]
        return False

    def _guards_open(self) -> list[OrderState]:
        return [state for state in self._orders.open if state.order.purpose.is_protection]

    def _leave_standing(self, client_order_id: str, position: Position) -> None:
        super()._leave_standing(client_order_id, position)
        if self._making_room:
            self._call_off_left_standing()

    def _use_room(self) -> None:
        """Once no protective order is open: go on with whatever waited for that."""
        if self._clearing or not self._making_room or self._guards_open() or self._left_standing:
            return
        waiting, self._making_room = self._making_room, {}
        for retry_id in waiting.values():
            state = None if retry_id is None else self._orders.get(retry_id)
            if state is not None:
                self._attempt_again(state)
        self.ctx.unstash()
        self._pursue()
        if None not in waiting.values():  # an approval that was set aside comes next, and needs the room
            self._protect()

    # The next attempt

    def _exit_ended(self, state: OrderState) -> None:
        """An order that was to close the position has ended; if it has not closed it, the intent goes on."""
        if state.status is OrderStatus.ABSENT:
            self._attempt_again(state)
        elif fell_short(state):
            if state.status is OrderStatus.REJECTED and not was_not_sent(state):
                self._look_around()
            self._retry_later(state)
        elif self._market.amount_max is not None or state.order.client_order_id in self._resized:
            self._attempt_again(state)  # it may have been as much as one order may have, and not all of it

    def _retry_later(self, state: OrderState) -> None:
        order = state.order
        position = self._position
        if order.client_order_id in self._retries or position is None or order.side is not closing_side(position):
            return
        if ended_by_hand(state) or not self._meant_for(order.purpose, order, position):
            return
        failed, _ = failures(self._orders.attempts(order.intent_id))
        quick = failed < ATTEMPTS_MAX
        self._retries[order.client_order_id] = quick
        if quick:
            self.ctx.expect(f"retry:{order.client_order_id}")
        again_s = pause_s(failed, unsent=was_not_sent(state))
        self.ctx.after(again_s, _TryAgain(client_order_id=order.client_order_id))

    @receive
    def on_try_again(self, timer: _TryAgain) -> None:
        self.ctx.answered(f"retry:{timer.client_order_id}")
        self._retries.pop(timer.client_order_id, None)
        state = self._orders.get(timer.client_order_id)
        if state is not None and rules.is_terminal(state.status):
            self._attempt_again(state)
        self._protect()
        self._place_held()

    def _attempt_again(self, state: OrderState) -> None:
        """A new order for the same intent, under the next attempt's id, if it is the last and still makes sense."""
        order = state.order
        attempts = self._orders.attempts(order.intent_id)
        if attempts[-1].order.client_order_id != order.client_order_id or ended_by_hand(state):
            return
        qty = order.qty
        if order.purpose.increases_risk:
            if self._entries_closed() or (order.expires_at is not None and self.ctx.now() > order.expires_at):
                return
        elif self._stray_of(order) is not None:
            self._retry_later(state)
            return
        else:
            room = self._exit_qty_with_room(
                order.intent_id, order.purpose, order.side, order=order, retry_id=order.client_order_id
            )
            if not room:
                return
            qty = room
        attempt = order.attempt + 1
        _, refused = failures(attempts)
        if refused >= ATTEMPTS_MAX and not was_not_sent(state) and state.status is not OrderStatus.FILLED:
            text = f"{order.purpose} of {order.symbol} has not succeeded in {refused} attempts ({state.reason})"
            self._call_people(f"attempts:{order.intent_id}:{attempt}", text)
        again = replace(order, qty=qty, created_at=self.ctx.now())
        if attempt <= ids.ATTEMPT_MAX:
            self._draft(self._attempt(again, attempt))
        elif order.purpose in REQUESTS:
            self._draft(self._attempt(replace(again, intent_id=next_round(order)), 0))
        elif self._position is not None and not order.purpose.increases_risk:
            # The ids of a bar's exit are used up; those of an emergency go on in rounds.
            self._close(Purpose.EMERGENCY, self._position.position_id, self._position)

    def _attempt(self, order: Order, attempt: int) -> Order:
        """The order under the id of that attempt, or of the one after the last that a former life has made."""
        client_order_id = attempt_id(self._bot_id, order, attempt)
        last = -1 if order.purpose.increases_risk else self._last_served(client_order_id)
        if attempt <= last:
            attempt = min(last + 1, ids.ATTEMPT_MAX)
            client_order_id = attempt_id(self._bot_id, order, attempt)
        return replace(order, client_order_id=client_order_id, attempt=attempt)

    def _entries_closed(self) -> str | None:
        """Why no entry is served."""
        return "halted" if self._halted else "flattening" if self._flatten else None

    def _resume_attempts(self, states: list[OrderState]) -> None:
        """Take up the intents whose next attempt a former incarnation owed, and the emergency that it was in."""
        for state in states:
            order = state.order
            if state.status is OrderStatus.ABSENT and not order.purpose.is_protection:
                self._attempt_again(state)
            elif (
                order.purpose in CLOSERS
                and state.status is not OrderStatus.ABSENT
                and fell_short(state)
                and self._orders.attempts(order.intent_id)[-1] is state
            ):
                self._retry_later(state)

    # Flatten and emergency

    @receive
    def on_flatten(self, flatten: Flatten) -> None:
        if flatten.request_id in self._flattened:
            self.ctx.send(Flattened(request_id=flatten.request_id))
            return
        self._flatten[flatten.request_id] = flatten
        self._pursue()

    def _pursue(self) -> None:
        """Carry out the flatten requests: cancel what increases risk, close the position, and say so once nothing is
        left of either, nor of any order that could bring one back. One that halts does not say so: it may have lost the
        bot, and be hearing late what the account held before; the next process is asked again."""
        if not self._flatten or not self._ready or self._clearing:
            return
        for state in self._orders.open:
            if state.order.purpose.increases_risk and state.order.client_order_id not in self._given_up:
                self._cancel(state, "flatten")
        position = self._position
        if position is not None:
            self._close(Purpose.FLATTEN, next(iter(self._flatten)), position)
        elif not (self._halted or self._orders.open) and self._surely_flat():
            done, self._flatten = self._flatten, {}
            self._flattened.update(done)
            for request_id in done:
                self.ctx.send(Flattened(request_id=request_id))

    def _surely_flat(self) -> bool:
        """Whether nothing can come any more of the orders that have ended."""
        return True

    def _stop_impossible(self, position: Position) -> None:
        self._close(Purpose.EMERGENCY, position.position_id, position)

    def _close(self, purpose: Purpose, request_id: str, position: Position) -> None:
        """One market order for what is left of the position, unless one for this request is under way or to come."""
        states = [*self._orders.open, *self._orders.recent(DONE_KEPT_MAX)]
        intent_id = last_round(purpose, request_id, states)
        attempts = self._orders.attempts(intent_id)
        attempt = attempts[-1].order.attempt + 1 if attempts else 0
        side = closing_side(position)
        if self._clearing or (attempts and not rules.is_terminal(attempts[-1].status)):
            return
        # One that closed a position on the other side has nothing to do with this one.
        if attempts and attempts[-1].status is not OrderStatus.FILLED and attempts[-1].order.side is side:
            self._exit_ended(attempts[-1])
            return
        if attempt > ids.ATTEMPT_MAX:
            intent_id, attempt = next_round(attempts[-1].order), 0
        order = Order(
            client_order_id="",
            intent_id=intent_id,
            symbol=position.symbol,
            side=side,
            type=OrderType.MARKET,
            qty=position.qty.copy_abs(),
            reduce_only=True,
            purpose=purpose,
            strategy=position.strategy,
            bar_open=position.bar_open,
            created_at=self.ctx.now(),
        )
        order = self._attempt(order, attempt)
        if self._stray_of(order) is not None:
            return  # a former life has sent it, and it lives: its end brings this up again
        qty = self._exit_qty_with_room(intent_id, purpose, side, retry_id="")
        if qty:
            self._draft(replace(order, qty=qty))


def closing_side(position: Position) -> Side:
    return Side.SELL if position.qty > 0 else Side.BUY
