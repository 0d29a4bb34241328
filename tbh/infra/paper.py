"""The paper exchange: one account on one recorded or simulated market, as durable as a real exchange's.

``Matcher`` decides what happens; this adapter makes it last. A call that changed something is one commit of the
account's file, and nothing is answered before the commit is on the disk: what was accepted before a ``kill -9`` is
there afterwards. A call whose commit fails leaves the account as it was.

The market is driven from outside, phase by phase (``play``). A phase that changed nothing for the account is not
committed. After a crash the market resumes behind the last commit and plays such phases again, to no effect: had
one of them changed something, or had an order come meanwhile, there would be a later commit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from tbh.domain.admission import Refusal
from tbh.domain.matching import FeeIn, Matcher
from tbh.domain.money import EXACT, ZERO
from tbh.domain.venue import Resting, VenueState, locked_coins
from tbh.infra.memory_account import MemoryAccount
from tbh.infra.paper_account import AccountFile
from tbh.infra.paper_guards import Held, Undone
from tbh.infra.paper_rows import Cursor, OrderRow, report_of, request_text, settings_of
from tbh.messages.account import Balance
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Order
from tbh.ports import AccountEvent, OrderReport, PositionReport, Rejected

RECENT_EVENTS_MAX = 1_000
"""Events kept in memory, so that whoever follows the account does not read the file."""


class Clock(Protocol):
    """Market time."""

    def now(self) -> datetime: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSummary:
    """The account for an audit. ``qty`` and ``fees_base`` in base, the other amounts in quote."""

    start_cash: Decimal
    cash: Decimal
    qty: Decimal
    entry_price: Decimal | None
    fees_quote: Decimal
    fees_base: Decimal
    last_price: Decimal | None
    orders_accepted: int
    orders_open: int
    orders_canceled: int
    fills: int
    last_seq: int


class PaperExchange:
    """Implements ``tbh.ports.Exchange`` over the file at ``path``, which it makes if there is none. None is an account
    in memory, for a market that is played once.

    ``cash`` (quote), ``volume_share`` and ``fee_in`` are ``Matcher``'s; a file made with other values, or for another
    market, is refused (``Fatal``, 78). ``tag`` goes into every order and trade id that the exchange gives, events are
    numbered from above ``first_seq``: both are the file's from its making on, and later arguments do not change them.
    They keep the ids and numbers of a bot's successive accounts apart. May be called from several threads.
    ``AccountFile`` tells the failures; also ``Unavailable('busy')`` when another thread kept the account longer than
    ``timeout_s``.
    """

    def __init__(
        self,
        path: Path | None,
        market: Market,
        *,
        cash: Decimal,
        clock: Clock,
        volume_share: Decimal | None = None,
        fee_in: FeeIn = "quote",
        tag: str = "",
        first_seq: int = 0,
    ) -> None:
        self._market = market
        self._clock = clock
        self._start_cash = cash
        self._matcher = Matcher(
            market, cash=cash, volume_share=volume_share, fee_in=fee_in, tag=tag, first_seq=first_seq
        )
        venue = self._matcher.state()
        if path is None:
            self._file: AccountFile | MemoryAccount = MemoryAccount(venue)
        else:
            settings = settings_of(market, cash=cash, volume_share=volume_share, fee_in=fee_in)
            self._file = AccountFile(path, settings=settings, venue=venue)
        self._matcher.restore(self._file.venue)
        self._cursor = self._file.cursor
        self._seq = self._matcher.account.seq
        self._recent: deque[AccountEvent] = deque(maxlen=RECENT_EVENTS_MAX)
        self._lock = threading.Lock()

    # -- the account

    def market(self, symbol: str) -> Market:
        self._check_symbol(symbol)
        return self._market

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        """Accept one order. ``Rejected`` with the reasons of ``tbh.domain.admission``, or ``client_order_id_reused``
        when the id is known with another request. What is marketable executes in the market's next phase."""
        with self._held(timeout_s):
            request = request_text(order)
            known = self._file.order(order.client_order_id)
            if known is not None:
                if known.request != request:
                    detail = f"{order.client_order_id} stands for {known.request}"
                    raise Rejected("client_order_id_reused", detail=detail)
                return report_of(known.standing)
            now = self._clock.now()
            with self._undone_on_failure():
                verdict = self._matcher.submit(order, at=now)
                if isinstance(verdict, Refusal):
                    raise Rejected(verdict.reason, detail=verdict.detail)
                standing = self._matcher.touched[order.client_order_id]
                row = OrderRow(request=request, accepted_at=now, standing=standing)
                self._commit((), accepted=row)
            return report_of(standing)

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        self._check_symbol(symbol)
        with self._held(timeout_s):
            with self._undone_on_failure():
                event = self._matcher.cancel(client_order_id)
                if event is not None:
                    canceled = self._matcher.touched[client_order_id]
                    self._commit((event,))
                    return report_of(canceled)
            row = self._file.order(client_order_id)
            if row is None:
                raise Rejected("order_unknown", detail=client_order_id)
            raise Rejected("order_done", detail=f"{client_order_id} is {row.standing.status}")

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        self._check_symbol(symbol)
        with self._held(timeout_s):
            row = self._file.order(client_order_id)
            return None if row is None else report_of(row.standing)

    def open_orders(self, symbol: str, *, timeout_s: float) -> Sequence[OrderReport]:
        self._check_symbol(symbol)
        with self._held(timeout_s):
            standings = [self._matcher.standing(client_order_id) for client_order_id in self._matcher.resting]
            return tuple(report_of(standing) for standing in standings if standing is not None)

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        # There is nothing below the first number, so memory that begins there holds all that was asked for.
        after = max(after, self._matcher.account.first_seq)
        if after >= self._seq:
            return ()
        with self._held(timeout_s):
            if self._recent and self._recent[0].seq <= after + 1:
                fresh = list(takewhile(lambda event: event.seq > after, reversed(self._recent)))
                return tuple(reversed(fresh))
            return self._file.events(after)

    def last_seq(self) -> int:
        """The newest event's; ``first_seq`` before the first."""
        return self._seq

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        self._check_symbol(symbol)
        with self._held(timeout_s):
            account = self._matcher.account
            return PositionReport(symbol=symbol, qty=account.qty, entry_price=account.entry_price)

    def balances(self, *, timeout_s: float) -> Sequence[Balance]:
        """Quote, then base; free and locked add up to cash and position. A short is a negative base balance. Only a
        market without shorts locks coins for resting orders: elsewhere the account's equity covers them."""
        with self._held(timeout_s):
            account, market = self._matcher.account, self._market
            base = quote = ZERO
            if not market.allows_short and (last := self._matcher.last_price) is not None:
                base, quote = locked_coins(self._matcher.resting.values(), account.qty, last)
            return (
                Balance(asset=market.quote, free=EXACT.subtract(account.cash, quote), locked=quote),
                Balance(asset=market.base, free=EXACT.subtract(account.qty, base), locked=base),
            )

    def arrival_window_s(self) -> float:
        """Nothing arrives late: an order past its ``expires_at`` is refused."""
        return 0.0

    def account_summary(self) -> AccountSummary:
        with self._lock:
            account = self._matcher.account
            return AccountSummary(
                start_cash=self._start_cash,
                cash=account.cash,
                qty=account.qty,
                entry_price=account.entry_price,
                fees_quote=account.fees_quote,
                fees_base=account.fees_base,
                last_price=self._matcher.last_price,
                orders_accepted=account.accepted,
                orders_open=len(self._matcher.resting),
                orders_canceled=account.canceled,
                fills=account.fills,
                last_seq=account.seq,
            )

    def close(self) -> None:
        """Note how far the market has come, so that the next start need not play the quiet bars again, and close."""
        with self._lock:
            try:
                if self._cursor != self._file.cursor:
                    self._commit(())
            finally:
                self._file.close()

    # -- the market

    @property
    def cursor(self) -> Cursor | None:
        """The last phase played; after a start, the last one committed. None before the first."""
        return self._cursor

    @property
    def last_price(self) -> Decimal | None:
        return self._matcher.last_price

    def play(self, index: int, phase: Phase, candle: Candle) -> Sequence[AccountEvent]:
        """Let the bar ``index`` go through ``phase``; what that did to the account, on disk already.

        Phases come in order, none left out (``ValueError``); the first one may be any bar's OPEN, or the CLOSE of a
        bar that counts as history and only sets the last price. After a failure the phase can be played again.
        """
        with self._lock:
            self._check_turn(index, phase)
            if not self._matcher.resting:
                self._move(phase, candle)
                self._cursor = Cursor(index, phase, candle.open_time)
                return ()
            with self._undone_on_failure():
                events = self._move(phase, candle)
                self._cursor = Cursor(index, phase, candle.open_time)
                if events:
                    self._commit(events)
            return events

    def pass_over(self, index: int, bar_open: datetime, price: Decimal) -> None:
        """Go to the close of the bar ``index``, at ``price``, without playing what is left until then: the caller has
        seen that nothing that rests meets any price there. ``ValueError`` for a close that is over, or when an order
        waits for the next price, whatever that is."""
        with self._lock:
            done = self._cursor
            if done is not None and (index < done.index or (index == done.index and done.phase is Phase.CLOSE)):
                raise ValueError(f"bar {index} can't be passed over behind {done}")
            self._matcher.pass_over(bar_open, price)
            self._cursor = Cursor(index, Phase.CLOSE, bar_open)

    @property
    def resting(self) -> Mapping[str, Resting]:
        """Open orders by client id."""
        return self._matcher.resting

    @property
    def qty(self) -> Decimal:
        """What the account holds, signed base."""
        return self._matcher.account.qty

    # -- inside

    def _move(self, phase: Phase, candle: Candle) -> Sequence[AccountEvent]:
        if phase is Phase.OPEN:
            return self._matcher.open_bar(candle.open_time, candle.open, volume=candle.volume)
        if phase is Phase.RANGE:
            return self._matcher.range_bar(candle.high, candle.low)
        return self._matcher.close_bar(candle.close)

    def _check_turn(self, index: int, phase: Phase) -> None:
        done = self._cursor
        if done is None:
            allowed = phase is not Phase.RANGE
        elif phase is Phase.OPEN:
            allowed = done.phase is Phase.CLOSE and index == done.index + 1
        else:
            before = Phase.OPEN if phase is Phase.RANGE else Phase.RANGE
            allowed = done.phase is before and index == done.index
        if not allowed:
            raise ValueError(f"phase {phase} of bar {index} does not follow {done}")

    def _commit(self, events: Sequence[AccountEvent], *, accepted: OrderRow | None = None) -> None:
        matcher = self._matcher
        self._file.commit(
            venue=matcher.state(),
            cursor=self._cursor,
            touched=matcher.touched.values(),
            events=events,
            accepted=accepted,
        )
        self._seq = matcher.account.seq
        self._recent.extend(events)

    def _undone_on_failure(self) -> Undone[tuple[VenueState, Cursor | None]]:
        return Undone(self)

    def standing(self) -> tuple[VenueState, Cursor | None]:
        """The account and its place in the market, for ``stand_at``."""
        return self._matcher.state(), self._cursor

    def stand_at(self, before: tuple[VenueState, Cursor | None]) -> None:
        """Return to ``before``, as if nothing had been called since."""
        venue, self._cursor = before
        self._matcher.restore(venue)

    def _held(self, timeout_s: float) -> Held:
        return Held(self._lock, timeout_s)

    def _check_symbol(self, symbol: str) -> None:
        if symbol != self._market.symbol:
            raise Rejected("unknown_symbol", detail=f"this account trades {self._market.symbol}, not {symbol}")
