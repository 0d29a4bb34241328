"""What a former life may have sent that nobody here remembers: it is found out before the same is sent once more.

A process that starts on an empty disk decides again what its predecessor had decided, and gets the same ids. One order
of that id would be harmless; but the predecessor may have got to a later attempt, under another id. So whatever closes
a position that this process has not opened waits, with the entries of bars that were over before it began, until
nothing of its predecessor can arrive any more, the exchange's open orders have been read again after that, and the very
id has been denied. Where reduce-only is not enforced a second order would sell coins that are not the position's: there
every process waits so, for what reduces risk may have gone without its record.

Nor need the other life be over: a process that was stopped for long wakes beside its successor. An entry that trades
before it was sent here was sent by another, which then guards the position under the very ids that are next here.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Final

from tbh.actors.account_reader import requester
from tbh.actors.order_closing import closing_side
from tbh.actors.order_path import Terms
from tbh.actors.order_protection import guarded
from tbh.actors.order_requests import OperatorRequests
from tbh.actors.order_retries import REPEAT_S
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.findings import CLOSERS
from tbh.messages.account import AccountResynced, Position, ResyncAccount
from tbh.messages.base import Timer, message, replace
from tbh.messages.orders import Order, OrderFound, OrderNotFound, OrderState, OrderStatus, Purpose
from tbh.ports import StoreReader
from tbh.runtime.actor import Context, receive

_LOOK: Final = "look"
_FLAT: Final = "flat"
_PARTS: Final = 16
_NUMBERS: Final = ids.REVISIONS_PER_SECOND // 2 // _PARTS
_UNSENT: Final = (OrderStatus.DRAFTED, OrderStatus.RECORDED)


@message
class _LookAgain(Timer):
    """Nothing that a former life has sent can arrive any more, and what has arrived can be seen."""


class FormerLives(OperatorRequests):
    """``OperatorRequests`` with an eye on what a predecessor may have sent. ``timeframe_s`` is a bar's length."""

    def __init__(self, ctx: Context, *, terms: Terms, store: StoreReader, timeframe_s: int) -> None:
        self._bar = timedelta(seconds=timeframe_s)
        self._unproven_until = ctx.now()
        self._proven: set[str] = set()
        self._entered: set[str] = set()
        self._entered_elsewhere: set[str] = set()
        self._numbered: Counter[Purpose] = Counter()
        self._looked = not terms.arrival_window_s
        self._flat = False
        super().__init__(ctx, terms=terms, store=store)
        # An actor that starts anew can't tell any more with what its process began.
        self._forgetful = self._blank or (ctx.incarnation > 0 and not self._looked)
        if not self._looked and (self._forgetful or not self._market.enforces_reduce_only):
            ctx.after(terms.arrival_window_s, _LookAgain())
        else:
            self._looked = True

    # What has to wait

    def _is_unproven(self, order: Order) -> bool:
        """Whether a former life may have served the order's intent, for all that is known yet."""
        return self._may_be_served(order) and not (self._looked and order.client_order_id in self._proven)

    def _may_be_served(self, order: Order) -> bool:
        decided_before = order.bar_open + self._bar <= self._unproven_until
        if order.purpose.increases_risk:
            return self._blank and decided_before
        if self._looked and order.client_order_id not in self._held:
            return False
        position = self._position
        if position is not None and position.position_id in self._entered and order.purpose is not Purpose.FLATTEN:
            return False  # opened here; a flatten is the operator's, whatever is held
        if not self._market.enforces_reduce_only:
            return True
        of_before = order.purpose in CLOSERS and (decided_before or order.purpose is not Purpose.EXIT)
        return self._forgetful and of_before

    def _first_revision(self, purpose: Purpose, position: Position) -> int:
        """Which numbers a former life has used up is not known, but when this one began is: the second half of that
        second's is nobody else's, shared by all positions of before; the first is for a position opened in it. Each
        incarnation has its own part, for the last one's drafts need not be on the disk."""
        opened = ids.parse(position.position_id, self._bot_id)
        if opened is None or not self._forgetful or opened.bar_open + self._bar > self._unproven_until:
            return 0
        number = self._numbered[purpose]
        self._numbered[purpose] += 1
        ahead_s = int((self._unproven_until - opened.bar_open).total_seconds())
        part = ids.REVISIONS_PER_SECOND // 2 + _NUMBERS * (self.ctx.incarnation % _PARTS)
        return ahead_s * ids.REVISIONS_PER_SECOND + part + number

    def _draft(self, order: Order) -> None:
        if order.purpose is Purpose.ENTRY and order.attempt == 0 and not self._looked:
            self._entered.add(order.client_order_id)
        super()._draft(order)

    def _place(self, state: OrderState) -> None:
        order = state.order
        if order.client_order_id in self._held and order.purpose in CLOSERS and not self._is_unproven(order):
            position = self._position
            side_fits = position is not None and order.side is closing_side(position)
            if not side_fits or self._exit_qty(order.purpose, order.side, order=order) < order.qty:
                self._cancel(state, "there is less to close than when it was decided")
                return
        super()._place(state)

    def _ask_for_proof(self, order: Order) -> None:
        """Never once it is proven: a denial that came back after the order was sent would say that it is not there."""
        proven = order.client_order_id in self._proven
        if not proven and not self.ctx.asking(f"query:{order.client_order_id}"):
            self._query(order)

    # What another life sends meanwhile

    def _move(self, state: OrderState | None, event: str) -> bool:
        if state is not None and state.order.purpose.increases_risk:
            client_order_id = state.order.client_order_id
            arrived = bool(state.filled_qty) or state.exchange_order_id is not None
            if arrived and self._is_unsent(client_order_id):
                self._entered.discard(client_order_id)
                self._entered_elsewhere.add(client_order_id)
        return super()._move(state, event)

    def _is_unsent(self, client_order_id: str) -> bool:
        """Whether the order is known here, and waits here to be sent."""
        known = self._orders.get(client_order_id)
        return known is not None and known.status in _UNSENT and client_order_id not in self._placed

    def _cancel(self, state: OrderState, reason: str) -> None:
        """A guard of a position that another life has opened may stand although it was not sent from here."""
        order = state.order
        elsewhere = order.purpose.is_protection and guarded(order) in self._entered_elsewhere
        if not elsewhere or not self._is_unsent(order.client_order_id):
            super()._cancel(state, reason)
            return
        self._placed.add(order.client_order_id)
        super()._cancel(state, reason)
        self._silent(order.client_order_id, f"another process may have sent it; {reason}")

    # Nothing is left

    def _pursue(self) -> None:
        if self._position is not None or self._orders.open:
            self._flat = False
            self.ctx.answered(_FLAT)
        super()._pursue()

    def _surely_flat(self) -> bool:
        """An exchange may tell that an order has ended, and of its last trade only then: the account is read once more
        before a request to close the position is called done."""
        if self._flat or not self._terms.arrival_window_s:
            self._flat = False
            return True
        if not self.ctx.asking(_FLAT):
            self._ask_to_look(_FLAT)
        return False

    def _ask_to_look(self, key: str) -> None:
        look = ResyncAccount(requester=requester(self.ctx, key), after=self._book.last_seq, symbol=self._market.symbol)
        self.ctx.keep_asking(key, look, every_s=REPEAT_S)

    # What is found out

    @receive
    def on_look_again(self, _: _LookAgain) -> None:
        self._ask_to_look(_LOOK)

    @receive
    def on_resynced(self, fact: AccountResynced) -> None:
        if fact.requester == requester(self.ctx, _LOOK) and self.ctx.answered(_LOOK):
            self._looked = True
            self._place_held()
        elif fact.requester == requester(self.ctx, _FLAT) and self.ctx.answered(_FLAT):
            self._flat = True
            self._pursue()
        else:
            super().on_resynced(fact)

    @receive
    def on_not_found(self, fact: OrderNotFound) -> None:
        if self.ctx.incarnation and not self._ready:
            return  # perhaps to a former incarnation, which asked before it sent the order: that is asked anew
        if fact.conclusive and fact.client_order_id in self._held:
            self._proven.add(fact.client_order_id)
            self.ctx.answered(f"query:{fact.client_order_id}")
            self._place_held()
        else:
            super().on_not_found(fact)

    @receive
    def on_found(self, fact: OrderFound) -> None:
        client_order_id = fact.client_order_id
        former = client_order_id in self._held
        if former:  # not sent by this life: nobody knows for how much
            self._entered.discard(client_order_id)
            self._unsized.add(client_order_id)
            if rules.is_terminal(fact.status):
                self._canceling.add(client_order_id)  # it was its predecessor's end, and no refusal
        super().on_found(fact)
        state = self._orders.get(client_order_id)
        if former and state is not None and state.order.purpose.is_protection and not rules.is_terminal(state.status):
            self._cancel(state, "a former life has sent it, nobody knows for how much")

    def _found_stray(self, found: OrderFound) -> None:
        super()._found_stray(found)
        for client_order_id in list(self._held):
            state = self._orders.get(client_order_id)
            if state is not None and client_order_id in self._held and self._is_overtaken(state.order):
                self._cancel(state, "a former life has made a later attempt")

    def _is_overtaken(self, order: Order) -> bool:
        """Whether a former life is known to have served the order's intent, so that it must not go as it is."""
        if order.purpose.increases_risk:
            return self._last_served(order.client_order_id) > order.attempt
        return self._stray_of(order) is not None

    def _stray_of(self, order: Order) -> str | None:
        intent = _intent(order.client_order_id, self._bot_id)
        living = (one for one in self._living_strays if _intent(one, self._bot_id) == intent)
        return min((one for one in living if not self._has_ended(one)), default=None)

    def _has_ended(self, client_order_id: str) -> bool:
        """Whether the stray was none: its record came late to the disk, it was taken up by that, and is over."""
        state = self._orders.get(client_order_id)
        return state is not None and rules.is_terminal(state.status)


def _intent(client_order_id: str, bot_id: str) -> ids.IdParts | None:
    """What an order's id says, whatever its attempt."""
    parts = ids.parse(client_order_id, bot_id)
    return None if parts is None else replace(parts, attempt=0)
