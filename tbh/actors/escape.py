"""What becomes of the position when the tree can't go on: it is protected, closed or left alone.

Nothing here asks an actor, and the connection is none of theirs. What the position is comes from the exchange; how it
is to be guarded comes from the orders and fills on the disk, and the account's events since then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tbh.actors.adjustments import stored_adjustments
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.domain import ids
from tbh.domain import order as rules
from tbh.domain.adjustment import in_order
from tbh.domain.book import Book, is_dust
from tbh.domain.money import ZERO, floor_to_step, plain
from tbh.domain.protection import Guard, better, guards
from tbh.messages.account import Adjustment, Position
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderState, OrderType, Purpose, Side
from tbh.ports import Exchange, Failure, OrderReport, PositionReport, Rejected, Rpc, StoreReader
from tbh.runtime.actor import Log

CALL_TIMEOUT_S: Final = 3.0
ATTEMPTS_MAX: Final = 3
REVISIONS_TRIED_MAX: Final = 20
PIECES_MAX: Final = 3
"""So many orders close the position at most; each may take up to two calls of the step's ten seconds."""


class PositionPolicy(StrEnum):
    """What becomes of the position: ``protect`` sees to its stop, ``flatten`` closes it, ``hold`` leaves it alone."""

    PROTECT = "protect"
    FLATTEN = "flatten"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The supervisor's own connections. ``exchange`` and ``rpc`` open one when called; ``store`` is a reader.

    Without a lease that is known to hold, a rival may own the bot: then a missing stop is sent, and nothing else done.
    """

    exchange: Callable[[], Exchange]
    rpc: Callable[[], Rpc]
    store: Callable[[], StoreReader]
    halt: Callable[[str, int], None]
    drain: Callable[[str, float], bool]
    now: Callable[[], datetime]
    lease_holds: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Escape:
    """The acts on one market's account. Each opens a connection, closes it, and returns a line for the log.

    They raise the failures of ``tbh.ports``, and ``LookupError`` when an order can't be given an id of its own.
    """

    bot_id: str
    boot_id: str
    market: Market
    outside: Outside
    log: Log

    def cancel_entries(self) -> str:
        """Take the bot's own resting entries off the book; one that can't be does not keep the others there."""
        if not self.outside.lease_holds():
            return "left alone: the lease is not known to hold"
        with closing(self.outside.exchange()) as exchange:
            return self._cancel(exchange, lambda purpose: purpose.increases_risk)

    def position(self, policy: PositionPolicy) -> str:
        if policy is PositionPolicy.HOLD:
            return "held"
        with closing(self.outside.exchange()) as exchange:
            report = exchange.position(self.market.symbol, timeout_s=CALL_TIMEOUT_S)
            if not floor_to_step(report.qty, self.market.amount_step):
                return "flat"
            if self._is_dust(report.qty, report.entry_price):
                return f"{plain(report.qty)} is left alone: it is less than an order may be for"
            if policy is PositionPolicy.FLATTEN and self.outside.lease_holds():
                qty = self._own(exchange, report)
                return self._flatten(exchange, qty) if qty else "none of what is held is the bot's"
            return self._protect(exchange, report)

    def _is_dust(self, qty: Decimal, price: Decimal | None) -> bool:
        market = self.market if price is not None else replace(self.market, notional_min=None)
        return is_dust(qty, market, price or ZERO)

    def _cancel(self, exchange: Exchange, which: Callable[[Purpose], bool]) -> str:
        symbol = self.market.symbol
        canceled = left = 0
        for report in exchange.open_orders(symbol, timeout_s=CALL_TIMEOUT_S):
            parts = ids.parse(report.client_order_id, self.bot_id)
            if parts is None or not which(parts.purpose):
                continue
            try:
                exchange.cancel(report.client_order_id, symbol, timeout_s=CALL_TIMEOUT_S)
                canceled += 1
            except Failure as failure:
                left += 1
                self.log.error("cancel_failed", client_order_id=report.client_order_id, error=str(failure))
        return f"{canceled} canceled, {left} not"

    # Close it

    def _own(self, exchange: Exchange, report: PositionReport) -> Decimal:
        if self.market.enforces_reduce_only:
            return report.qty
        store = self.outside.store()
        booked = self._booked(exchange, store, {state.order.client_order_id: state for state in store.orders()})
        return floor_to_step(self._of_the_bot(booked, report), self.market.amount_step)

    def _flatten(self, exchange: Exchange, held: Decimal) -> str:
        """Close ``held`` (signed base), in as many orders as the market's largest makes necessary."""
        if not self.market.enforces_reduce_only:  # each protective order locks the coins that are to be sold
            self._cancel(exchange, lambda purpose: purpose.is_protection)
        side = Side.SELL if held > 0 else Side.BUY
        left = floor_to_step(held.copy_abs(), self.market.amount_step)
        largest = floor_to_step(self.market.amount_max or left, self.market.amount_step) or left
        lines: list[str] = []
        while left > 0 and len(lines) < PIECES_MAX and not self._is_dust(left, None):
            piece = f":{len(lines)}" if lines else ""
            lines.append(self._close(exchange, f"escalation:{self.boot_id}{piece}", side, min(left, largest)))
            left -= min(left, largest)
        return "; ".join([*lines, *([f"{plain(left)} is left"] if left else [])])

    def _close(self, exchange: Exchange, request_id: str, side: Side, qty: Decimal) -> str:
        for attempt in range(ATTEMPTS_MAX):
            order = Order(
                client_order_id=ids.flatten_order_id(self.bot_id, request_id, attempt, purpose=Purpose.EMERGENCY),
                intent_id=ids.intent_id(Purpose.EMERGENCY, request_id),
                symbol=self.market.symbol,
                side=side,
                type=OrderType.MARKET,
                qty=qty,
                reduce_only=True,
                purpose=Purpose.EMERGENCY,
                strategy="",
                bar_open=self.outside.now(),
                attempt=attempt,
                created_at=self.outside.now(),
            )
            placed = self._place(exchange, order)
            if placed is not None:
                return f"{side} {plain(qty)} at market: {placed.status}"
        raise LookupError(f"{ATTEMPTS_MAX} orders to close the position never arrived")

    def _place(self, exchange: Exchange, order: Order) -> OrderReport | None:
        """Send one order; None when it is proven not to have arrived, so that another may follow."""
        try:
            return exchange.place(order, timeout_s=CALL_TIMEOUT_S)
        except Rejected:
            raise
        except Failure as silence:
            found = exchange.order(order.client_order_id, order.symbol, timeout_s=CALL_TIMEOUT_S)
            if found is None and exchange.arrival_window_s():
                raise  # it may arrive yet, and a second one would then be one too many
            self.log.error("answer_lost", client_order_id=order.client_order_id, error=str(silence))
            return found

    # Guard it

    def _protect(self, exchange: Exchange, report: PositionReport) -> str:
        standing = [
            one
            for one in exchange.open_orders(self.market.symbol, timeout_s=CALL_TIMEOUT_S)
            if (parts := ids.parse(one.client_order_id, self.bot_id)) is not None and parts.purpose is Purpose.STOP
        ]
        try:
            store = self.outside.store()
            states = {state.order.client_order_id: state for state in store.orders()}
            position = self._booked(exchange, store, states)
        except Failure:
            if standing:
                return f"a stop stands: {standing[0].client_order_id}; the store can't be read"
            raise
        qty = self._of_the_bot(position, report)
        if position is None or not floor_to_step(qty, self.market.amount_step):
            return "nothing is known of how to guard it"
        position = replace(position, qty=qty)
        stops = [state.order for state in states.values() if _guards(state.order, position)]
        guard = guards(position, self.market, best_price=None, reached=_tightest(stops, position)).get(Purpose.STOP)
        if guard is None:
            return "no stop is defined for it"
        missing = guard.qty - self._covered(standing, states, guard)
        if missing <= 0 or (standing and self._is_dust(missing, guard.price)):
            return f"its stop stands: {standing[0].client_order_id}"
        if self._is_dust(guard.qty, guard.price):
            return f"{plain(guard.qty)} is left alone: it is less than an order may be for"
        if not self.market.enforces_reduce_only:
            guard = replace(guard, qty=missing)
        return self._send_stop(exchange, guard, position, stops)

    def _of_the_bot(self, booked: Position | None, report: PositionReport) -> Decimal:
        """What of the holding is the bot's (signed base): coins of the account may be another's."""
        if booked is None or (booked.qty > 0) is not (report.qty > 0):
            return ZERO
        return report.qty if self.market.enforces_reduce_only else min(booked.qty, report.qty, key=abs)

    def _booked(self, exchange: Exchange, store: StoreReader, states: dict[str, OrderState]) -> Position | None:
        """The position as the disk and the account's events since then make it."""
        book = Book(self.market.symbol, market=self.market, bot_id=self.bot_id)
        account_seq = int(store.meta(ACCOUNT_SEQ) or 0)
        stored = in_order(store.fills(), stored_adjustments(store, self.market.symbol))
        for event in (*stored, *exchange.events(account_seq, timeout_s=CALL_TIMEOUT_S)):
            if isinstance(event, Adjustment):
                book.adjust(event)
            elif isinstance(event, Fill) and event.symbol == self.market.symbol:
                state = states.get(event.client_order_id)
                order = None if state is None else state.order
                book.apply(event, order=order, base=self.market.base, quote=self.market.quote)
        return book.position

    def _covered(self, standing: Sequence[OrderReport], states: dict[str, OrderState], guard: Guard) -> Decimal:
        """What the standing stops close. One that the disk does not know is taken to be what it should be."""
        covered = ZERO
        for report in standing:
            state = states.get(report.client_order_id)
            if state is None:
                return guard.qty
            if state.order.side is guard.side:
                covered += max(state.order.qty - max(report.filled_qty, state.filled_qty), ZERO)
        return covered

    def _send_stop(self, exchange: Exchange, guard: Guard, position: Position, stops: Sequence[Order]) -> str:
        revision = self._next_revision(exchange, position, stops)
        order = Order(
            client_order_id=ids.protection_order_id(self.bot_id, position.position_id, Purpose.STOP, revision),
            intent_id=ids.intent_id(Purpose.STOP, position.position_id, revision),
            symbol=self.market.symbol,
            side=guard.side,
            type=OrderType.STOP_MARKET,
            qty=guard.qty,
            stop_price=guard.price,
            reduce_only=True,
            purpose=Purpose.STOP,
            strategy=position.strategy,
            bar_open=position.bar_open,
            attempt=revision % (ids.ATTEMPT_MAX + 1),
            created_at=self.outside.now(),
        )
        try:
            placed = self._place(exchange, order)
        except Rejected as no:
            return f"its stop is refused ({no}); {self._instead(exchange, position)}"
        if placed is None or rules.is_terminal(placed.status):
            return f"its stop does not stand; {self._instead(exchange, position)}"
        return f"stop {guard.side} {plain(guard.qty)} at {plain(guard.price)}: {placed.status}"

    def _instead(self, exchange: Exchange, position: Position) -> str:
        if not self.outside.lease_holds():
            return "not closed: the lease is not known to hold"
        return self._flatten(exchange, position.qty)

    def _next_revision(self, exchange: Exchange, position: Position, stops: Sequence[Order]) -> int:
        """The first revision whose id neither the disk nor the exchange has seen, nor the tree will use, which may
        still be about to send a stop of its own: the last ones of this second."""
        first = max((int(order.intent_id.split("|", 2)[1]) for order in stops), default=-1) + 1
        opened = ids.parse(position.position_id, self.bot_id)
        if opened is not None:
            ahead_s = max(int((self.outside.now() - opened.bar_open).total_seconds()), 0)
            first = max(first, (ahead_s + 1) * ids.REVISIONS_PER_SECOND - REVISIONS_TRIED_MAX)
        for revision in range(first, first + REVISIONS_TRIED_MAX):
            client_order_id = ids.protection_order_id(self.bot_id, position.position_id, Purpose.STOP, revision)
            if exchange.order(client_order_id, self.market.symbol, timeout_s=CALL_TIMEOUT_S) is None:
                return revision
        raise LookupError(f"revisions {first} and {REVISIONS_TRIED_MAX} after it of the stop are taken")


def _guards(order: Order, position: Position) -> bool:
    return order.purpose is Purpose.STOP and order.intent_id.split("|", 2)[2] == position.position_id


def _tightest(stops: Sequence[Order], position: Position) -> Decimal | None:
    tightest: Decimal | None = None
    for order in stops:
        if order.stop_price is not None:
            tightest = better(tightest, order.stop_price, position.qty)
    return tightest
