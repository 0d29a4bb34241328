"""What guards the position: the stop and the target that stand are those that the filled position needs.

Where the exchange enforces reduce-only, a new one is sent before the old one is cancelled, so that the position is
never bare. Elsewhere an order that may close the position locks its coins, so only the stop stands, the old one goes
first, and none is sent while an exit is under way.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tbh.actors.order_evidence import OrderEvidence
from tbh.actors.order_path import Terms
from tbh.actors.order_retries import REPEAT_S, UNSENT_PAUSE_MAX_S, was_not_sent
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.domain.book import Book
from tbh.domain.findings import CLOSERS, Act, act_on_stray
from tbh.domain.money import floor_to_step, plain
from tbh.domain.protection import Guard, Guards, better
from tbh.messages.account import Position
from tbh.messages.base import Timer, message, replace
from tbh.messages.health import Severity
from tbh.messages.orders import Order, OrderFound, OrderState, OrderStatus, OrderType, Purpose
from tbh.runtime.actor import Context, receive

REFUSALS_MAX: Final = 5
"""So many stops of one position may be refused before it is closed at market, so many targets before there is none."""

REFUSALS_AGE_S: Final = 60.0
"""After so long a refused stop may be tried again: whatever the exchange had against it may be over."""

REVISIONS_KEPT_MAX: Final = 2_000
STRAYS_KEPT_MAX: Final = 1_000
_PART: Final = ids.REVISIONS_PER_SECOND // 2


@message
class _GuardAgain(Timer):
    """What guards the position was not sent, and may be tried again."""

    purpose: Purpose
    position_id: str


class PositionGuard(OrderEvidence):
    """Keeps the book and its protective orders."""

    def __init__(self, ctx: Context, *, terms: Terms, orders: Blotter) -> None:
        super().__init__(ctx, terms=terms, orders=orders)
        self._book = Book(terms.market.symbol, market=terms.market, bot_id=terms.bot_id)
        self._guards = Guards(terms.market)
        self._best: Decimal | None = None
        self._revisions: dict[tuple[Purpose, str], int] = {}
        self._ours: set[tuple[Purpose, str]] = set()
        self._tightest: dict[str, Decimal] = {}
        self._refusals: dict[tuple[Purpose, str], int] = {}
        self._refused_s: dict[tuple[Purpose, str], float] = {}
        self._unsent: dict[tuple[Purpose, str], int] = {}
        self._paused: set[tuple[Purpose, str]] = set()
        self._untargeted = ""
        self._cut = ""
        self._strays: dict[str, None] = {}
        self._served: dict[ids.IdParts, int] = {}
        self._left_standing: dict[str, None] = {}
        self._ready = False

    def _exit_under_way(self) -> bool:
        """Whether the position is being closed on purpose."""
        return any(state.order.purpose in CLOSERS for state in self._orders.open)

    def _stop_impossible(self, position: Position) -> None:
        """No stop of the position is accepted."""

    def _first_revision(self, purpose: Purpose, position: Position) -> int:
        """The least number that the position's next protective order may have."""
        return 0

    @property
    def _position(self) -> Position | None:
        """The position, unless it is nothing that could be traded."""
        return None if self._book.is_dust(self._market) else self._book.position

    # What should stand, and what does

    def _protect(self) -> None:
        """Draft what is missing and cancel what does not fit."""
        if not self._ready:
            return
        position = self._position
        if position is None:
            self._call_off_left_standing()
        wanted = self._wanted(position)
        if not wanted and not self._orders.open:
            return
        for purpose in (Purpose.STOP, Purpose.TARGET):
            standing = [state for state in self._standing() if state.order.purpose is purpose]
            guard = wanted.get(purpose)
            fitting = [state for state in standing if guard is not None and _fits(state, guard)]
            if guard is not None and position is not None and not fitting and self._has_room():
                self._draft_guard(guard, position)
            for state in standing:
                if state not in fitting[:1]:
                    self._cancel(state, "superseded" if guard is not None else "position closed")

    def _wanted(self, position: Position | None) -> dict[Purpose, Guard]:
        if position is None or ids.parse(position.position_id, self._bot_id) is None:
            return {}  # not opened by an order of this bot: nobody said how to guard it
        wanted = self._guards.of(position, best_price=self._best, reached=self._tightest.get(position.position_id))
        if not self._market.enforces_reduce_only:
            if self._exit_under_way():
                return {}
            untargeted = Purpose.STOP in wanted and wanted.pop(Purpose.TARGET, None) is not None
            if untargeted and self._untargeted != position.position_id:
                self._untargeted = position.position_id
                self._call_people(
                    f"target:{position.position_id}",
                    f"{position.symbol}: no target is placed, its coins are the stop's",
                    Severity.WARNING,
                )
        return wanted

    def _standing(self) -> list[OrderState]:
        """The protective orders that stand or may stand, and are not about to go."""
        return [
            state
            for state in self._orders.open
            if state.order.purpose.is_protection
            and state.order.client_order_id not in self._canceling
            and state.order.client_order_id not in self._given_up
        ]

    def _has_room(self) -> bool:
        """Whether another order that closes the position may be sent beside those that stand."""
        return self._market.enforces_reduce_only or not any(s.order.purpose.is_protection for s in self._orders.open)

    def _draft_guard(self, guard: Guard, position: Position) -> None:
        key = (guard.purpose, position.position_id)
        if key in self._paused:
            return
        if self._refusals.get(key, 0) >= REFUSALS_MAX:
            if guard.purpose is not Purpose.STOP:
                return
            if self.ctx.monotonic() - self._refused_s[key] < REFUSALS_AGE_S:
                self._stop_impossible(position)
                return
            self._refusals[key] = REFUSALS_MAX - 1
        self._note_cut(guard, position)
        revision = max(self._revisions.get(key, -1) + 1, self._first_revision(guard.purpose, position))
        stop = guard.purpose is Purpose.STOP
        order = Order(
            client_order_id=ids.protection_order_id(self._bot_id, position.position_id, guard.purpose, revision),
            intent_id=ids.intent_id(guard.purpose, position.position_id, revision),
            symbol=position.symbol,
            side=guard.side,
            type=OrderType.STOP_MARKET if stop else OrderType.LIMIT,
            qty=guard.qty,
            price=None if stop else guard.price,
            stop_price=guard.price if stop else None,
            reduce_only=True,
            purpose=guard.purpose,
            strategy=position.strategy,
            bar_open=position.bar_open,
            attempt=revision % (ids.ATTEMPT_MAX + 1),
            created_at=self.ctx.now(),
        )
        self._note_guard(order)
        self._draft(order)

    def _note_cut(self, guard: Guard, position: Position) -> None:
        """Say once that the market's largest order does not close all of the position."""
        left = floor_to_step(position.qty.copy_abs(), self._market.amount_step) - guard.qty
        if left > 0 and self._cut != position.position_id:
            self._cut = position.position_id
            self._call_people(
                f"cut:{position.position_id}",
                f"{position.symbol}: its {guard.purpose} closes {plain(guard.qty)}, the most that one order may have; "
                f"{plain(left)} of the position is not guarded",
            )

    def _note_guard(self, order: Order) -> None:
        """Remember which revisions there were and how tight the stop has been."""
        if not order.purpose.is_protection:
            return
        _, number, position_id = order.intent_id.split("|", 2)
        key = (order.purpose, position_id)
        self._revisions[key] = max(int(number), self._revisions.get(key, -1))
        self._ours.add(key)
        if len(self._revisions) > REVISIONS_KEPT_MAX:
            oldest = next(iter(self._revisions))
            del self._revisions[oldest]
            self._ours.discard(oldest)
        if order.stop_price is not None:
            held = order.side.opposite.sign * order.qty
            self._tightest[position_id] = better(self._tightest.get(position_id), order.stop_price, held)

    def _forget_position(self, position_id: str) -> None:
        """The position is closed for good; what a late fill of its entry opens anew starts where it was."""
        self._tightest.pop(position_id, None)
        for purpose in (Purpose.STOP, Purpose.TARGET):
            for counts in (self._refusals, self._refused_s, self._unsent):
                counts.pop((purpose, position_id), None)

    # What did not stand

    def _guard_done(self, state: OrderState, *, by_us: bool) -> None:
        """A protective order has ended: filled, cancelled by us, or taken from us."""
        unsent = was_not_sent(state)
        if state.status is OrderStatus.REJECTED and not unsent:
            self._look_around()
        self._count_refusal(state, by_us=by_us)
        position = self._book.position
        order = state.order
        key = (order.purpose, guarded(order))
        if unsent:
            self._pause(key)
        else:
            self._unsent.pop(key, None)
        if position is not None and key[1] == position.position_id and self._refusals.get(key) == REFUSALS_MAX:
            if order.purpose is Purpose.STOP:
                text = f"{position.symbol}: its stop is refused ({state.reason}), the position is closed at market"
                self._call_people(f"stop:{position.position_id}", text)
            else:
                text = f"{position.symbol}: its target is refused ({state.reason}), there is none"
                self._call_people(f"target:{position.position_id}", text, Severity.WARNING)
        self._protect()

    def _pause(self, key: tuple[Purpose, str]) -> None:
        """The guard stays wanted; asking at once again would only be told the same."""
        self._unsent[key] = self._unsent.get(key, 0) + 1
        self._paused.add(key)
        pause_s = min(REPEAT_S * self._unsent[key], UNSENT_PAUSE_MAX_S)
        self.ctx.after(pause_s, _GuardAgain(purpose=key[0], position_id=key[1]))

    @receive
    def on_guard_again(self, timer: _GuardAgain) -> None:
        self._paused.discard((timer.purpose, timer.position_id))
        self._protect()

    def _count_refusal(self, state: OrderState, *, by_us: bool) -> None:
        taken = state.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and not by_us
        if (
            state.order.purpose.is_protection
            and (taken or state.status is OrderStatus.REJECTED)
            and not was_not_sent(state)
        ):
            key = (state.order.purpose, guarded(state.order))
            self._refused_s[key] = self.ctx.monotonic()
            self._refusals[key] = min(self._refusals.get(key, 0) + 1, REFUSALS_MAX)

    def _found_stray(self, found: OrderFound) -> None:
        """An order that is open at the exchange, and in nobody's memory: the store was faulted when it was sent, or an
        escalation has sent it."""
        client_order_id, position = found.client_order_id, self._book.position
        act = act_on_stray(
            client_order_id,
            bot_id=self._bot_id,
            position=position,
            reduce_only_held=self._market.enforces_reduce_only,
        )
        if act is Act.CANCEL and not self.ctx.asking(f"cancel:{client_order_id}"):
            self._ask_cancel(client_order_id, self._market.symbol)
        elif act is Act.KEEP and position is not None and not position.strategy:
            self._leave_standing(client_order_id, position)

    def _call_off_left_standing(self) -> None:
        """What guards a position that nobody here knows is to go: the position is gone, or being closed."""
        for client_order_id in self._left_standing:
            if not self._asking_about(client_order_id):
                self._ask_cancel(client_order_id, self._market.symbol)

    def _leave_standing(self, client_order_id: str, position: Position) -> None:
        parts = ids.parse(client_order_id, self._bot_id)
        if parts is None or not parts.purpose.is_protection or client_order_id in self._left_standing:
            return
        self._left_standing[client_order_id] = None
        text = (
            f"{position.symbol}: a position is open whose entry is not known here: what guards it at the "
            "exchange is left as it stands, and is not moved"
        )
        self._call_people(f"guard_kept:{position.position_id}", text)

    def _note_stray(self, client_order_id: str, parts: ids.IdParts) -> None:
        """The exchange knows an order under this id, and nobody here knows which: it is not used for another."""
        if client_order_id not in self._strays:
            self.ctx.log.warning("stray_order", client_order_id=client_order_id, purpose=parts.purpose.value)
        self._strays[client_order_id] = None
        if len(self._strays) > STRAYS_KEPT_MAX:
            del self._strays[next(iter(self._strays))]
        self._note_served(parts)
        position = self._book.position
        opened = None if position is None else ids.parse(position.position_id, self._bot_id)
        if position is None or opened is None or not parts.purpose.is_protection:
            return
        ahead_s = parts.bar_seconds - opened.bar_seconds
        if parts.strategy_code == opened.strategy_code and ahead_s >= 0:
            revision = ahead_s * ids.REVISIONS_PER_SECOND + parts.layer * (ids.ATTEMPT_MAX + 1) + parts.attempt
            key = (parts.purpose, position.position_id)
            known = self._revisions.get(key, -1)
            # Another process numbers in a part of its own: whoever goes on there asks under an id that is to be its.
            if key not in self._ours or known // _PART == revision // _PART:
                self._revisions[key] = max(revision, known)

    def _note_served(self, parts: ids.IdParts) -> None:
        """A former life has served this id's intent, with this attempt at least."""
        if not parts.purpose.is_protection:
            intent = replace(parts, attempt=0)
            self._served[intent] = max(parts.attempt, self._served.pop(intent, -1))
            if len(self._served) > STRAYS_KEPT_MAX:
                del self._served[next(iter(self._served))]

    def _last_served(self, client_order_id: str) -> int:
        """The last attempt that a former life is known to have made at this id's intent; -1: none."""
        parts = ids.parse(client_order_id, self._bot_id) if self._served else None
        return -1 if parts is None else self._served.get(replace(parts, attempt=0), -1)


def guarded(order: Order) -> str:
    """The position that a protective order guards."""
    return order.intent_id.split("|", 2)[2]


def _fits(state: OrderState, guard: Guard) -> bool:
    order = state.order
    price = order.stop_price if guard.purpose is Purpose.STOP else order.price
    return order.side is guard.side and price == guard.price and rules.remaining(state) == guard.qty
