"""What a start has found, and what stays open after it: told, journaled, and where need be a reason to make no entry.

The comparison itself is pure (``tbh/domain/findings.py``). Here are its two sides: what was read back, and what the
gateway told until the account had been read once. An order of this bot that has traded and that nobody here remembers
is asked after and journaled as it ended: an escalation sends without a journal, and a disk may be lost.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, Final

from tbh.actors.order_closing import PositionCloser
from tbh.actors.order_evidence import QUERY_EVERY_S
from tbh.actors.order_path import Terms
from tbh.domain import ids
from tbh.domain.blotter import Blotter
from tbh.domain.findings import (
    CLOSERS,
    RESPONSES,
    Kind,
    about_position,
    adopted_fill,
    adopted_order,
    compare_orders,
    is_adopted,
    within_bounds,
)
from tbh.domain.money import ZERO, plain
from tbh.messages.account import AccountDoubted, Recovered, StrayEnded
from tbh.messages.base import Message, Timer, message, replace
from tbh.messages.orders import (
    CancelRefused,
    Fill,
    OrderChanged,
    OrderFound,
    OrderNotFound,
    OrderState,
    OrderStatus,
    QueryOrder,
)
from tbh.runtime.actor import Context, receive

SLOW_AFTER_S: Final = 30.0
"""After so long a start that has not read the account calls people."""

VERSION_LEAP: Final = 1_000
"""What former incarnations still have on its way to the disk must not outrank what is found out now."""

DOUBTS_TOLD_MAX: Final = 20
TRADED_STRAYS_MAX: Final = 50
ENDED_EARLY_MAX: Final = 50

ADOPTED: Final = "adopted"
"""The event of an order that was found at the exchange as it ended."""


@message
class _StartSlow(Timer):
    """The account should have been read by now."""


class StartFindings(PositionCloser):
    """``PositionCloser`` with an eye on what nobody here can explain."""

    sends: ClassVar[tuple[type[Message], ...]] = (
        *PositionCloser.sends,
        Recovered,
        StrayEnded,
        AccountDoubted,
    )

    def __init__(self, ctx: Context, *, terms: Terms, orders: Blotter, flattened: set[str]) -> None:
        super().__init__(ctx, terms=terms, orders=orders, flattened=flattened)
        self._terms = terms
        self._start = f"{terms.boot_id}:{ctx.incarnation}"
        self._blank = False
        self._remembered = tuple(self._orders.open)
        self._reported: dict[str, OrderFound] = {}
        self._news: list[Fill] = []
        self._traded_strays: dict[str, None] = {}
        self._ended_early: dict[str, OrderStatus] = {}
        self._living_strays: set[str] = set()
        self._unsized: set[str] = set()
        self._told_bare: set[str] = set()
        self._broken: dict[str, str] = {}
        self._doubts: tuple[str, ...] = ()
        ctx.after(SLOW_AFTER_S, _StartSlow())

    def _order_adopted(self, state: OrderState) -> None:
        """An order that was found at the exchange as it ended is one of ours now."""

    def _note_news(self, fill: Fill) -> None:
        """A trade that memory did not have, told before the account had been read once."""
        if not self._blank:  # an empty memory lacks every trade that ever was
            self._news.append(fill)

    def _is_residue(self) -> bool:
        """Whether a position is over although something is left of it, which nothing under way can still trade."""
        under_way = any(not state.order.purpose.increases_risk for state in self._orders.open)
        return not under_way and self._book.is_dust(self._market)

    # What the start has found

    @receive
    def on_found(self, fact: OrderFound) -> None:
        if not self._ready:
            self._reported[fact.client_order_id] = fact
        super().on_found(fact)

    def _tell_findings(self) -> None:
        known = (one.client_order_id for one in self._reported.values() if self._orders.get(one.client_order_id))
        remembered = {state.order.client_order_id for state in self._remembered}
        found = compare_orders(
            self._remembered,
            self._reported.values(),
            ended=[client_order_id for client_order_id in known if client_order_id not in remembered],
            bot_id=self._bot_id,
        )
        found += [adopted_fill(fill, bot_id=self._bot_id) for fill in self._news]
        found += about_position(self._book.position, dust=self._is_residue())
        self._remembered, self._reported, self._news = (), {}, []
        self._ask_about_next_stray()
        early, self._ended_early = self._ended_early, {}
        for client_order_id, status in early.items():
            if self._orders.get(client_order_id) is None and not self._orders.fills_of(client_order_id):
                self._stray_over(client_order_id, status, ZERO)
        if found:
            self.ctx.log.info("recovered", findings=len(found))
            self.ctx.send(Recovered(start=self._start, findings=within_bounds(found), at=self.ctx.now()))

    @receive
    def on_start_slow(self, _: _StartSlow) -> None:
        if not self._ready:
            text = f"{self._market.symbol}: the account could not be read for {SLOW_AFTER_S:g} s; no entries until then"
            self._call_people(f"start_slow:{self._start}", text)

    def _doubts_changed(self) -> None:
        """Say anew why no entry may be made: what the exchange leaves open, and what can't be on this disk."""
        unresolved = [f"order {one} is unresolved" for one in sorted(self._given_up)]
        broken = [f"order {one} can't be as it is stored: {why}" for one, why in self._broken.items()]
        doubts = (*unresolved, *broken, *self._unguarded())[:DOUBTS_TOLD_MAX]
        if doubts == self._doubts:
            return
        if broken and not any(one in self._doubts for one in broken):
            self._call_people(
                f"broken:{self._start}", f"{self._market.symbol}: {broken[-1]}; no entries until resolved"
            )
        self._doubts = doubts
        self.ctx.send(AccountDoubted(causes=doubts, at=self.ctx.now()))

    def _unguarded(self) -> list[str]:
        """A position that nothing known here has opened, once that has been asked after."""
        position = self._position
        harmless = all(RESPONSES[Kind(one.kind)].trading for one in about_position(position, dust=False))
        if position is None or harmless or not self._ready or self._traded_strays:
            return []
        position_id = position.position_id
        ours = ids.parse(position_id, self._bot_id) is not None  # of another's trade people have been told already
        if ours and position_id not in self._told_bare:
            self._told_bare.add(position_id)
            text = f"{position.symbol}: {plain(position.qty)} is held, and the order that opened it is not known here"
            self._call_people(f"unguarded:{position_id}", f"{text}: it has no stop; tbh bot control flatten closes it")
        return [f"position {position_id} was opened by no order known here"]

    # An order that nobody here drafted, and that has traded

    def _found_stray(self, found: OrderFound) -> None:
        super()._found_stray(found)
        parts = ids.parse(found.client_order_id, self._bot_id)
        if parts is not None and parts.purpose in CLOSERS:
            self._living_strays.add(found.client_order_id)
            self._note_traded_stray(found.client_order_id)

    def _note_traded_stray(self, client_order_id: str) -> None:
        """Ask how it ended, one after the other; of a long history the newest alone may be news to the database."""
        self._traded_strays.pop(client_order_id, None)
        self._traded_strays[client_order_id] = None
        if len(self._traded_strays) > TRADED_STRAYS_MAX:
            del self._traded_strays[next(iter(self._traded_strays))]
        if self._ready:
            self._ask_about_next_stray()

    def _ask_about_next_stray(self) -> None:
        while self._traded_strays and self._orders.get(next(iter(self._traded_strays))) is not None:
            del self._traded_strays[next(iter(self._traded_strays))]
        if self._traded_strays:
            client_order_id = next(iter(self._traded_strays))
            request = QueryOrder(client_order_id=client_order_id, symbol=self._market.symbol)
            if not self.ctx.asking(f"query:{client_order_id}"):
                self.ctx.keep_asking(f"query:{client_order_id}", request, every_s=QUERY_EVERY_S)

    def _settled_stray(self, client_order_id: str) -> None:
        self.ctx.answered(f"query:{client_order_id}")
        if client_order_id in self._traded_strays:
            del self._traded_strays[client_order_id]
            self._ask_about_next_stray()
            self._doubts_changed()
        self._left_standing.pop(client_order_id, None)
        self._use_room()
        self._protect()
        self._pursue()  # what it was sent for may be unfinished

    def _stray_over(self, client_order_id: str, status: OrderStatus, filled_qty: Decimal) -> None:
        if not self._ready:
            # Of a long history the newest alone may be news to the database; what has traded is asked after anyway.
            if not filled_qty:
                self._ended_early[client_order_id] = status
                if len(self._ended_early) > ENDED_EARLY_MAX:
                    del self._ended_early[next(iter(self._ended_early))]
            return
        self._ended_stray(
            OrderFound(
                client_order_id=client_order_id,
                exchange_order_id="",
                status=status,
                filled_qty=filled_qty,
                avg_price=None,
            )
        )

    def _ended_stray(self, found: OrderFound) -> None:
        """Journal it as it ended, with the trades that were told of it: an escalation sends without a journal."""
        client_order_id = found.client_order_id
        parts = ids.parse(client_order_id, self._bot_id)
        fills = self._orders.fills_of(client_order_id)
        if parts is None or sum((fill.qty for fill in fills), ZERO) < found.filled_qty:
            return
        self._living_strays.discard(client_order_id)
        if not fills:
            self.ctx.send(
                StrayEnded(
                    client_order_id=client_order_id,
                    exchange_order_id=found.exchange_order_id or None,
                    symbol=self._market.symbol,
                    purpose=parts.purpose,
                    status=found.status,
                )
            )
            self._settled_stray(client_order_id)
            return
        state = adopted_order(found, fills, parts, self.ctx.now())
        state = replace(state, version=state.version + VERSION_LEAP * (self.ctx.incarnation + 1))
        known = ids.strategy_code(self._terms.strategy) == parts.strategy_code
        if parts.purpose.increases_risk and known and self._terms.default_protection is not None:
            protection = self._terms.default_protection
            state = replace(state, order=replace(state.order, strategy=self._terms.strategy, protection=protection))
        self._orders.put(state)
        self.ctx.send(OrderChanged(state=state, event=ADOPTED))
        self._settled_stray(client_order_id)
        self._order_adopted(state)

    def _count_again(self, client_order_id: str) -> None:
        """What an adopted order was meant to fill is not known: its trades say how much at least. So they say which way
        an order went that a former life sent, and that was decided here anew by another memory; and how large one was
        that two lives had decided, each by its own."""
        state, fills = self._orders.get(client_order_id), self._orders.fills_of(client_order_id)
        if state is None or not fills:
            return
        contradicted = not state.filled_qty and fills[0].side is not state.order.side
        of_before = state.version >= VERSION_LEAP and not state.order.purpose.increases_risk
        unsized = is_adopted(state.order) or client_order_id in self._unsized or of_before
        filled = sum((fill.qty for fill in fills), ZERO)
        if contradicted or (unsized and filled > state.order.qty):
            order = replace(state.order, side=fills[0].side, qty=max(state.order.qty, filled))
            self._orders.put(replace(state, order=order))

    @receive
    def on_cancel_refused(self, fact: CancelRefused) -> None:
        super().on_cancel_refused(fact)
        if fact.client_order_id in self._left_standing:
            self._note_traded_stray(fact.client_order_id)  # it should have been there: how has it ended?

    @receive
    def on_not_found(self, fact: OrderNotFound) -> None:
        if fact.conclusive:  # a read that lags behind has not seen yet what another read has
            self._living_strays.discard(fact.client_order_id)
            if fact.client_order_id in self._traded_strays:  # it was seen: the exchange has forgotten it
                self._settled_stray(fact.client_order_id)
        super().on_not_found(fact)
