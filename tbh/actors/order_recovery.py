"""Starting is recovering: what the order manager knows again after a start, and what it tells others after theirs.

Order rows and fills are read from the store, which may be behind in either. Every order that is open there is asked
after; the account's events are repeated by the gateway, with the orders that it has open; and until that is done
nothing new is begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from tbh.actors.account_reader import requester
from tbh.actors.adjustments import stored_adjustments
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.order_findings import VERSION_LEAP, StartFindings
from tbh.actors.order_path import Terms
from tbh.actors.order_retries import REPEAT_S
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.adjustment import in_order
from tbh.domain.blotter import DONE_KEPT_MAX, Blotter
from tbh.domain.order import BrokenInvariant
from tbh.messages.account import (
    AccountDoubted,
    AccountResynced,
    Adjustment,
    PositionChanged,
    ResyncAccount,
)
from tbh.messages.base import Message, replace
from tbh.messages.orders import (
    Order,
    OrderChanged,
    OrderState,
    OrderStatus,
)
from tbh.messages.system import Restarted
from tbh.ports import Failure, Fatal, StoreReader
from tbh.runtime.actor import Context, receive

RETOLD_MAX: Final = 200
ENDS_RETOLD_MAX: Final = 20

RESTORED: Final = "restored"
"""Meta key: orders of this store were taken from the database, which tells only of those that matter still."""

_RESYNC: Final = "resync"


class OrderRecovery(StartFindings):
    """Builds orders and book from ``store``, and keeps them the same as the account's."""

    sends: ClassVar[tuple[type[Message], ...]] = (
        *StartFindings.sends,
        PositionChanged,
        ResyncAccount,
    )

    def __init__(self, ctx: Context, *, terms: Terms, store: StoreReader) -> None:
        # Read before the fills: the journal goes on while this reads, and what it takes in between is repeated.
        account_seq = int(store.meta(ACCOUNT_SEQ) or 0)
        states = [self._dated(state) for state in store.orders()]
        adjustments = stored_adjustments(store, terms.market.symbol)
        done = {request_id for request_id, status in store.actions().items() if status == "done"}
        super().__init__(ctx, terms=terms, orders=Blotter(states), flattened=done)
        self._store = store
        # Where rows came from the database, orders that are done may be missing as they are on an empty disk.
        self._blank = not states or store.meta(RESTORED) is not None
        self._read_fills({state.order.client_order_id: state.order for state in states}, adjustments)
        for state in states:
            self._note_guard(state.order)
            self._count_refusal(state, by_us=True)
        # Before any is taken up, for one may call off another: what is read back as a draft may have been sent.
        self._placed.update(state.order.client_order_id for state in self._orders.open)
        for state in [*self._orders.recent(DONE_KEPT_MAX), *self._orders.open]:
            self._recover(state)
        if ctx.incarnation:
            self._tell_ends_again()
        self._ask_resync(account_seq)

    def _dated(self, state: OrderState) -> OrderState:
        """The order with the time of its expiry, where the database gave it back without."""
        return state

    def _read_fills(self, orders: dict[str, Order], adjustments: Sequence[Adjustment]) -> None:
        for change in in_order(self._store.fills(), adjustments):
            if isinstance(change, Adjustment):
                self._book.adjust(change)
                continue
            order = orders.get(change.client_order_id)
            if order is None and ids.parse(change.client_order_id, self._bot_id) is not None:
                self._orders.note_fill(change)
                self._note_traded_stray(change.client_order_id)
            self._book.apply(change, order=order, base=self._market.base, quote=self._market.quote)
            if order is not None and self._orders.get(change.client_order_id) is not None:
                self._orders.note_fill(change)

    def _recover(self, state: OrderState) -> None:
        """Take up an order that was read back: count its fills, and ask what became of it."""
        client_order_id = state.order.client_order_id
        leapt = replace(state, version=state.version + VERSION_LEAP * (self.ctx.incarnation + 1))
        if not rules.is_terminal(state.status):
            self._placed.add(client_order_id)
            self._orders.put(leapt)
        self._count_again(client_order_id)
        try:
            counted = self._orders.caught_up(client_order_id, self.ctx.now(), step=self._market.amount_step)
        except BrokenInvariant as broken:
            # To fail at it again and again would leave the position alone. Everything else goes on, but for entries.
            counted = None
            self._broken[client_order_id] = str(broken)
            self._doubts_changed()
        if counted is not None:
            state = replace(counted, version=max(counted.version, leapt.version))
            self._move(state, "fill")
        now_at = self._orders.get(client_order_id)
        if now_at is None or rules.is_terminal(now_at.status):
            return
        if not self._move(rules.on_recovered(now_at, self.ctx.now()), "recovered"):
            self._query(now_at.order)  # it was on the book; what became of it meanwhile is the exchange's to say

    def _tell_ends_again(self) -> None:
        """The end may have reached the disk after a former incarnation had read the order as open, and that reading may
        still be on its way: it must not outrank the end."""
        for state in self._orders.recent(ENDS_RETOLD_MAX):
            ended = replace(state, version=state.version + VERSION_LEAP * (self.ctx.incarnation + 1))
            self._orders.put(ended)
            self.ctx.send(OrderChanged(state=ended, event="retold"))

    def _recall(self, client_order_id: str) -> OrderState | None:
        parts = ids.parse(client_order_id, self._bot_id)
        if parts is None:
            return None
        state = self._store.order(client_order_id)
        if state is None:
            self._note_stray(client_order_id, parts)
            return None
        state = self._dated(state)
        self._orders.put(state)
        self._note_guard(state.order)
        self._own(state.order)
        self._recover(state)
        return self._orders.get(client_order_id)

    def _take_up_late(self) -> None:
        """What a former incarnation had told may have come to the disk after this one had read it, and all other word
        of it may be lost with the actors that failed at it: then the disk alone holds it, as open for ever."""
        if not self.ctx.incarnation:
            return
        try:
            states = self._store.orders(open_only=True)
        except Fatal:
            raise
        except Failure as failure:  # what reduces risk goes without the disk: it must not fail here at every bar
            self.ctx.log.warning("late_orders_unreadable", error=str(failure))
            return
        for state in states:
            self._known(state.order.client_order_id)

    def _draft(self, order: Order) -> None:
        adopted = self._orders.forget(order.client_order_id)
        super()._draft(order)
        if adopted is not None:  # it was found by its id, and now it is known what it was for
            drafted = rules.draft(order, self.ctx.now())
            self._orders.put(replace(drafted, version=adopted.version, exchange_order_id=adopted.exchange_order_id))
        # Fills may have come before: a former incarnation drafted this very order, and had sent it unrecorded.
        self._own(order)
        counted = self._orders.caught_up(order.client_order_id, self.ctx.now(), step=self._market.amount_step)
        if self._move(counted, "fill") and counted is not None and not rules.is_terminal(counted.status):
            self._query(order)

    def _order_adopted(self, state: OrderState) -> None:
        if self._own(state.order):
            self._tell_position(self._book.last_seq)
            self._protect()

    def _own(self, order: Order) -> bool:
        """The order that opened the position has become known: the position is its strategy's, if it is anybody's."""
        position = self._book.position
        known = position is not None and position.position_id == order.client_order_id and not position.strategy
        if known and position is not None and order.strategy:
            self._book.position = replace(
                position, strategy=order.strategy, bar_open=order.bar_open, protection=order.protection
            )
            return True
        return False

    def _ask_resync(self, after: int) -> None:
        request = ResyncAccount(requester=requester(self.ctx), after=after, symbol=self._market.symbol)
        self.ctx.keep_asking(_RESYNC, request, every_s=REPEAT_S)

    def _account_behind(self) -> None:
        if not self.ctx.asking(_RESYNC):
            self._ask_resync(self._book.last_seq)

    def _look_around(self) -> None:
        look = ResyncAccount(requester=requester(self.ctx), after=self._book.last_seq, symbol=self._market.symbol)
        self.ctx.send(look)  # nothing waits for it, and what is found comes one by one

    @receive
    def on_resynced(self, fact: AccountResynced) -> None:
        if fact.requester != requester(self.ctx) or not self.ctx.answered(_RESYNC):
            return
        first, self._ready = not self._ready, True
        self._tell_position(fact.seq)
        if first:
            self._tell_findings()
            self._resume_attempts(self._orders.recent(RETOLD_MAX))
        self._protect()
        self._pursue()
        self._place_held()
        self.ctx.unstash()

    @receive
    def on_restarted(self, fact: Restarted) -> None:
        """A neighbour has lost what it knew: tell it again, and doubt what a restarted gateway had in hand."""
        if fact.actor == self.ctx.name:
            return
        if fact.actor == "gateway":
            self._gateway_restarted()
            self._look_around()  # and again now and then: it has forgotten which orders it was to list
        # Whoever keeps orders of its own may have lost the last word of one that is done.
        done = self._orders.recent(RETOLD_MAX) if fact.actor in ("journaler", "risk") else []
        for state in [*self._orders.open, *done]:
            if state.status is not OrderStatus.DRAFTED:
                self.ctx.send(OrderChanged(state=state, event="retold"))
        if fact.actor == "risk" and self._doubts:
            self.ctx.send(AccountDoubted(causes=self._doubts, at=self.ctx.now()))
        if self._ready:
            self._tell_position(self._book.last_seq)

    def _tell_position(self, seq: int) -> None:
        self._book.observe(seq)
        self._doubts_changed()
        position = self._book.position
        if position is not None and self._best is not None:
            position = replace(position, best_price=self._best)
        self.ctx.send(
            PositionChanged(
                symbol=self._market.symbol,
                position=position,
                seq=self._book.last_seq,
                adjustments=self._book.adjustments,
                dust=self._is_residue(),
            )
        )
