"""The order manager: what each order is for, the position that the fills make, and what guards it.

Every intent keeps its own attempts, so that a proposal that comes twice is one order, and a new attempt is made only
when the last one is proven not to exist. Protection follows the filled position, and a flatten request stays open until
the position is zero. It owns the book, so it says what the position is, and says it again when a neighbour restarts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from tbh.actors.order_path import REPEAT_S, OrderPath
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.blotter import Blotter
from tbh.domain.book import Book
from tbh.domain.money import floor_to_step
from tbh.domain.protection import Guard, better, guards
from tbh.domain.risk import exitable
from tbh.messages.account import AccountResynced, Position, PositionChanged, ResyncAccount
from tbh.messages.base import Timer, message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Bar, Market
from tbh.messages.orders import (
    Approved,
    Declined,
    Fill,
    Flatten,
    Flattened,
    Order,
    OrderChanged,
    OrderState,
    OrderStatus,
    OrderType,
    Purpose,
    Recorded,
    Side,
)
from tbh.messages.system import Restarted
from tbh.ports import StoreReader
from tbh.runtime.actor import Context, receive

RETOLD_MAX = 200
ATTEMPTS_MAX = 5
"""So many attempts of one exit, or refused stops of one position, are made before people are called."""


@message
class _TryAgain(Timer):
    """An exit was refused; try anew if there is still something to exit."""

    client_order_id: str


class OrderManagerActor(OrderPath):
    """One symbol's orders and book. The arguments besides ports and rules are ``OrderPath``'s."""

    sends = (*OrderPath.sends, PositionChanged, Recorded, Declined, Flattened, ResyncAccount, Notice)

    def __init__(
        self,
        ctx: Context,
        *,
        bot_id: str,
        market: Market,
        store: StoreReader,
        timeframe_s: int,
        unrecorded_after_s: float = 0.05,
        answer_within_s: float = 15.0,
    ) -> None:
        states = store.orders()
        super().__init__(
            ctx, orders=Blotter(states), unrecorded_after_s=unrecorded_after_s, answer_within_s=answer_within_s
        )
        self._bot_id = bot_id
        self._market = market
        self._bar = timedelta(seconds=timeframe_s)
        self._book = Book(market.symbol)
        self._best: Decimal | None = None
        self._revisions: dict[tuple[Purpose, str], int] = {}
        self._refused_stops: dict[str, int] = {}
        self._flatten: Flatten | None = None
        self._flattened = {key for key, status in store.actions().items() if status == "done"}
        self._ready = False
        orders = {state.order.client_order_id: state.order for state in states}
        for order in orders.values():
            self._note_revision(order)
        for fill in store.fills():
            order_of = orders.get(fill.client_order_id)
            self._book.apply(fill, order=order_of, base=market.base, quote=market.quote)
        for state in self._orders.open:
            self._placed.add(state.order.client_order_id)
            if not self._move(rules.on_recovered(state, ctx.now()), "recovered"):
                self._query(state.order)  # it was on the book; what became of it meanwhile is the exchange's to say
        ctx.keep_asking("resync", self._resync(), every_s=REPEAT_S)

    def _resync(self) -> ResyncAccount:
        return ResyncAccount(requester=self.ctx.name, after=self._book.last_seq)

    def _account_behind(self) -> None:
        if not self.ctx.asking("resync"):
            self.ctx.keep_asking("resync", self._resync(), every_s=REPEAT_S)

    @receive
    def on_resynced(self, fact: AccountResynced) -> None:
        if fact.requester == self.ctx.name and self.ctx.answered("resync"):
            self._ready = True
            self._tell_position(fact.seq)
            self._protect()
            self._pursue_flatten()
            self.ctx.unstash()

    @receive
    def on_restarted(self, fact: Restarted) -> None:
        """A neighbour has lost what it knew: tell it again, and doubt what a restarted gateway had in hand."""
        if fact.actor == self.ctx.name:
            return
        if fact.actor == "gateway":
            self._gateway_restarted()
        states = self._orders.open + (self._orders.recent(RETOLD_MAX) if fact.actor == "journaler" else [])
        for state in states:
            if state.status is not OrderStatus.DRAFTED:
                self.ctx.send(OrderChanged(state=state, event="retold"))
        if self._ready:
            self._tell_position(self._book.last_seq)

    # Intents

    @receive
    def on_approved(self, approved: Approved) -> None:
        if not self._ready:
            self.ctx.stash()
            return
        attempts = self._orders.attempts(approved.proposal_id)
        if attempts:
            last = attempts[-1]
            if last.status is not OrderStatus.DRAFTED:  # a repeat: the proposal is answered, its order goes its way
                self.ctx.send(Recorded(client_order_id=last.order.client_order_id, intent_id=approved.proposal_id))
            return
        qty = approved.qty
        reduces = not approved.purpose.increases_risk
        if reduces:
            qty = self._exit_qty(approved.order_side)
            if not qty:
                self.ctx.send(Declined(proposal_id=approved.proposal_id, reason="nothing_to_exit"))
                return
        self._draft(
            Order(
                client_order_id=ids.client_order_id(
                    self._bot_id,
                    bar_open=approved.bar_open,
                    strategy=approved.strategy,
                    purpose=approved.purpose,
                    layer=approved.layer,
                    attempt=0,
                ),
                intent_id=approved.proposal_id,
                symbol=approved.symbol,
                side=approved.order_side,
                type=OrderType.MARKET,
                qty=qty,
                reduce_only=reduces,
                purpose=approved.purpose,
                strategy=approved.strategy,
                bar_open=approved.bar_open,
                layer=approved.layer,
                created_at=self.ctx.now(),
                expires_at=None if reduces else approved.bar_open + 2 * self._bar,
                protection=approved.protection,
            )
        )

    def _exit_qty(self, side: Side) -> Decimal:
        """What may be sent to close the position: zero when flat, or when ``side`` would not close it."""
        position = self._book.position
        if position is None or (position.qty > 0) is (side is Side.BUY):
            return Decimal(0)
        exits = [s for s in self._orders.open if not s.order.purpose.increases_risk]
        qty = exitable(position.qty, exits, self._market.enforces_reduce_only)
        return floor_to_step(qty, self._market.amount_step)

    def _attempt_again(self, state: OrderState) -> None:
        """A new order for the same intent, under the next attempt's id, if it still makes sense."""
        order = state.order
        attempt = order.attempt + 1
        qty = order.qty
        if order.purpose.increases_risk:
            if order.expires_at is not None and self.ctx.now() > order.expires_at:
                return
        else:
            qty = self._exit_qty(order.side)
        if not qty or attempt > ids.ATTEMPT_MAX:
            return
        if attempt >= ATTEMPTS_MAX:
            self._call_people(f"attempts:{order.intent_id}", f"{order.purpose} of {order.symbol}: attempt {attempt}")
        if order.purpose in (Purpose.FLATTEN, Purpose.EMERGENCY):
            subject = order.intent_id.rpartition("|")[2]
            new_id = ids.flatten_order_id(self._bot_id, subject, attempt, purpose=order.purpose)
        else:
            new_id = ids.client_order_id(
                self._bot_id,
                bar_open=order.bar_open,
                strategy=order.strategy,
                purpose=order.purpose,
                layer=order.layer,
                attempt=attempt,
            )
        self._draft(replace(order, client_order_id=new_id, attempt=attempt, qty=qty, created_at=self.ctx.now()))

    def _order_done(self, state: OrderState) -> None:
        order = state.order
        if order.purpose.is_protection:
            if state.status is OrderStatus.REJECTED and order.purpose is Purpose.STOP:
                self._stop_refused(order)
            self._protect()
        elif state.status is OrderStatus.ABSENT:
            self._attempt_again(state)
        elif state.status is OrderStatus.REJECTED and not order.purpose.increases_risk:
            self.ctx.after(REPEAT_S * (order.attempt + 1), _TryAgain(client_order_id=order.client_order_id))
        self._pursue_flatten()

    @receive
    def on_try_again(self, timer: _TryAgain) -> None:
        state = self._orders.get(timer.client_order_id)
        if state is not None and self._orders.attempts(state.order.intent_id)[-1] is state:
            self._attempt_again(state)

    # Fills and position

    @receive
    def on_fill(self, fill: Fill) -> None:
        state = self._orders.get(fill.client_order_id)
        held = self._book.position
        market = self._market
        new = self._book.apply(fill, order=None if state is None else state.order, base=market.base, quote=market.quote)
        if not new:
            return
        if state is None:
            self._call_people(f"foreign:{fill.trade_id}", f"{fill.symbol}: a fill of an order that is not ours")
        else:
            self._move(rules.on_fill(state, fill, self.ctx.now(), step=market.amount_step), "fill")
        position = self._book.position
        if position is None or held is None or held.position_id != position.position_id:
            self._best = None
        self._tell_position(fill.seq)
        self._protect()
        self._pursue_flatten()

    def _tell_position(self, seq: int) -> None:
        self._book.observe(seq)
        self.ctx.send(PositionChanged(symbol=self._market.symbol, position=self._held(), seq=self._book.last_seq))

    def _held(self) -> Position | None:
        position = self._book.position
        return position if position is None or self._best is None else replace(position, best_price=self._best)

    @receive
    def on_bar(self, bar: Bar) -> None:
        position = self._book.position
        if position is None or position.protection is None or position.protection.trailing is None:
            return
        if bar.candle.open_time < position.opened_at:
            return
        self._best = better(self._best, bar.candle.high if position.qty > 0 else bar.candle.low, position.qty)
        self._protect()

    # Protection

    def _protect(self) -> None:
        """Let the protective orders be those that the position needs: what is missing is drafted first, what does not
        fit is cancelled then, so that the position is never bare in between."""
        if not self._ready:
            return
        position = None if self._book.is_dust(self._market) else self._book.position
        wanted = guards(position, self._market, best_price=self._best)
        for purpose in (Purpose.STOP, Purpose.TARGET):
            standing = [
                s
                for s in self._orders.open
                if s.order.purpose is purpose and s.order.client_order_id not in self._canceling
            ]
            guard = wanted.get(purpose)
            if guard is not None and position is not None:
                guard = self._ratcheted(guard, position, standing)
            fitting = [s for s in standing if guard is not None and _fits(s, guard)]
            if guard is not None and position is not None and not fitting:
                self._draft_guard(guard, position)
            for state in standing:
                if state not in fitting[:1]:
                    self._cancel(state, "superseded" if guard is not None else "position closed")

    def _ratcheted(self, guard: Guard, position: Position, standing: list[OrderState]) -> Guard:
        """A trailing stop never retreats, not even after a restart that forgot the best price."""
        protection = position.protection
        if guard.purpose is not Purpose.STOP or protection is None or protection.trailing is None:
            return guard
        tightest = guard.price
        for state in standing:
            price = state.order.stop_price
            if price is not None and _position_of(state.order) == position.position_id:
                tightest = better(tightest, price, position.qty)
        return replace(guard, price=tightest)

    def _draft_guard(self, guard: Guard, position: Position) -> None:
        if self._refused_stops.get(position.position_id, 0) >= ATTEMPTS_MAX:
            return
        if ids.parse(position.position_id, self._bot_id) is None:
            return  # not opened by an order of this bot: nobody said how to guard it
        key = (guard.purpose, position.position_id)
        revision = self._revisions.get(key, -1) + 1
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
        self._note_revision(order)
        self._draft(order)

    def _note_revision(self, order: Order) -> None:
        if order.purpose.is_protection:
            number = int(order.intent_id.split("|", 2)[1])
            key = (order.purpose, _position_of(order))
            self._revisions[key] = max(number, self._revisions.get(key, -1))

    def _stop_refused(self, order: Order) -> None:
        position = self._book.position
        if position is None or position.position_id != _position_of(order):
            return
        refused = self._refused_stops.get(position.position_id, 0) + 1
        self._refused_stops[position.position_id] = refused
        if refused == ATTEMPTS_MAX:
            self._call_people(
                f"stop:{position.position_id}", f"{position.symbol}: its stop is refused, the position is closed"
            )
            self._close(Purpose.EMERGENCY, position.position_id)

    # Flatten

    @receive
    def on_flatten(self, flatten: Flatten) -> None:
        if flatten.request_id in self._flattened:
            self.ctx.send(Flattened(request_id=flatten.request_id))
            return
        self._flatten = flatten
        self._pursue_flatten()

    def _pursue_flatten(self) -> None:
        """Cancel what increases risk, close the position, and say so once nothing is left of either."""
        flatten = self._flatten
        if flatten is None or not self._ready:
            return
        entries = [s for s in self._orders.open if s.order.purpose.increases_risk]
        for state in entries:
            self._cancel(state, "flatten")
        if self._book.position is not None and not self._book.is_dust(self._market):
            self._close(Purpose.FLATTEN, flatten.request_id)
        elif not [s for s in self._orders.open if s.order.purpose.increases_risk]:
            self._flatten = None
            self._flattened.add(flatten.request_id)
            self.ctx.send(Flattened(request_id=flatten.request_id))

    def _close(self, purpose: Purpose, request_id: str) -> None:
        """One market order for what is left of the position, unless one for this request is under way."""
        position = self._book.position
        intent_id = ids.intent_id(purpose, request_id)
        attempts = self._orders.attempts(intent_id)
        if position is None or (attempts and not rules.is_terminal(attempts[-1].status)):
            return
        side = Side.SELL if position.qty > 0 else Side.BUY
        attempt = attempts[-1].order.attempt + 1 if attempts else 0
        qty = self._exit_qty(side)
        if not qty or attempt > ids.ATTEMPT_MAX:
            return
        if attempts and attempts[-1].status is OrderStatus.REJECTED:
            return  # its own retry is on a timer
        self._draft(
            Order(
                client_order_id=ids.flatten_order_id(self._bot_id, request_id, attempt, purpose=purpose),
                intent_id=intent_id,
                symbol=position.symbol,
                side=side,
                type=OrderType.MARKET,
                qty=qty,
                reduce_only=True,
                purpose=purpose,
                strategy=position.strategy,
                bar_open=position.bar_open,
                attempt=attempt,
                created_at=self.ctx.now(),
            )
        )

    def on_halt(self, reason: str) -> None:
        for state in self._orders.open:
            if state.order.purpose.increases_risk:
                self._cancel(state, f"halt: {reason}")

    def _call_people(self, key: str, text: str) -> None:
        self.ctx.send(Notice(key=key, severity=Severity.CRITICAL, kind="order", text=text))


def _fits(state: OrderState, guard: Guard) -> bool:
    order = state.order
    price = order.stop_price if guard.purpose is Purpose.STOP else order.price
    return order.side is guard.side and price == guard.price and rules.remaining(state) == guard.qty


def _position_of(order: Order) -> str:
    """The position that a protective order guards."""
    return order.intent_id.split("|", 2)[2]
