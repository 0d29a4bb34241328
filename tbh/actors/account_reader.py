"""Reading the account: its events in their order, its position and balances at one instant, its open orders.

An answer is never older than the events told before it: whatever is asked, the events are read first, and an answer for
which they could not be read is not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from tbh.messages.account import (
    AccountQueryFailed,
    AccountResynced,
    AccountSnapshot,
    OpenOrdersRead,
    QueryAccount,
    ResyncAccount,
)
from tbh.messages.base import Message, Timer, message
from tbh.messages.health import RequestFailed, RequestSucceeded
from tbh.messages.market import MarketMoved
from tbh.messages.orders import Fill, OrderCanceled, OrderExpired, OrderFound
from tbh.ports import AccountEvent, Defer, Exchange, Failure, Fatal, OrderReport, StoreReader
from tbh.runtime.actor import Actor, Context, receive

RETRY_S: Final = 0.5
SLOW_S: Final = 0.1
OPEN_ORDERS_S: Final = 10.0
GATHER_S: Final = 0.005
"""Actors that start together ask for the account together: one reading answers all that ask within this time."""

_EVENTS: Final = "events"


@message
class _PollTime(Timer):
    """The pause between two polls of a live account is over."""


@message
class _PollAgain(Timer):
    """The account's events could not be read; try again."""


@message
class _ResyncDue(Timer):
    """Whoever wanted the account repeated has asked."""


def requester(ctx: Context, about: str = "") -> str:
    """Who asks for the account. The answer to a former incarnation says nothing of what that one has lost since."""
    if not about and not ctx.incarnation:
        return ctx.name
    parts = (ctx.name, about, str(ctx.incarnation) if ctx.incarnation else "")
    return ":".join(part for part in parts if part)


class AccountReader(Actor):
    """``timeout_s`` bounds each call to the exchange; ``poll_s`` is the pause between polls of the account's events
    (None: they are read when the market moves, as in a replay). Passes ``Fatal`` up."""

    sends: ClassVar[tuple[type[Message], ...]] = (
        Fill,
        OrderCanceled,
        OrderExpired,
        OrderFound,
        AccountSnapshot,
        AccountQueryFailed,
        AccountResynced,
        OpenOrdersRead,
        RequestFailed,
        RequestSucceeded,
    )

    def __init__(
        self, ctx: Context, *, exchange: Exchange, store: StoreReader, timeout_s: float, poll_s: float | None
    ) -> None:
        super().__init__(ctx)
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._retrying = False
        self._poll_s = poll_s
        self._polled_s = self._listed_s = ctx.monotonic()
        self._symbol: str | None = None
        self._resyncs: dict[str, ResyncAccount] = {}
        fills = store.fills()
        self._seq = fills[-1].seq if fills else 0
        self._poll()
        if poll_s is not None:
            ctx.every(poll_s, _PollTime())

    # Events

    @receive
    def on_market_moved(self, _: MarketMoved) -> None:
        if self._poll_s is None:
            self._poll()

    @receive
    def on_poll_time(self, _: _PollTime) -> None:
        if self._poll_s is not None and self._polled_before(self._poll_s / 2):
            self._poll()
        if self._symbol is not None and self.ctx.monotonic() - self._listed_s >= OPEN_ORDERS_S:
            self._list_open_orders(self._symbol)

    @property
    def _live(self) -> bool:
        """On a real account, which moves by itself and counts what it is asked."""
        return self._poll_s is not None

    def _polled_before(self, age_s: float) -> bool:
        return self.ctx.monotonic() - self._polled_s >= age_s

    def _list_open_orders(self, symbol: str) -> None:
        """Tell every open order, so that one shows that nobody remembers, for the exchange may take an order and say
        no; and one that is gone, for the account's events may hold fills alone."""
        self._listed_s = started_s = self.ctx.monotonic()
        try:
            reports = self._exchange.open_orders(symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Failure as failure:
            self._failed("open_orders", failure)
            return
        finally:
            self._took(started_s)
        self._tell_open(symbol, reports)

    def _tell_open(self, symbol: str, reports: Sequence[OrderReport]) -> None:
        for report in reports:
            self._tell_found(report)
        if self._live:  # in a replay the account's events leave nothing out
            standing = tuple(report.client_order_id for report in reports)
            self.ctx.send(OpenOrdersRead(symbol=symbol, client_order_ids=standing))

    def _took(self, started_s: float) -> None:
        """A call to the exchange is over that began at ``started_s``: what came meanwhile stands in the mailbox."""
        if self.ctx.monotonic() - started_s > SLOW_S:
            self._fell_behind()

    def _fell_behind(self) -> None:
        """Messages have waited behind a slow call."""

    @receive
    def on_poll_again(self, _: _PollAgain) -> None:
        self._retrying = False
        self._poll()

    def _poll(self) -> list[AccountEvent]:
        """Tell the account's events since the last poll. Until that succeeds, a replay stays where it is."""
        started_s = self.ctx.monotonic()
        try:
            newest = self._exchange.last_seq()  # before the events: a new account begins above 0 without having any
            events = list(self._exchange.events(self._seq, timeout_s=self._timeout_s))
        except Fatal:
            raise
        except Failure as failure:
            self._failed("events", failure)
            self.ctx.expect(_EVENTS)
            if not self._retrying:
                self._retrying = True
                self.ctx.after(failure.after_s if isinstance(failure, Defer) else RETRY_S, _PollAgain())
            return []
        finally:
            self._took(started_s)
        self.ctx.answered(_EVENTS)
        self._polled_s = self.ctx.monotonic()
        for event in events:
            self.ctx.send(event)
            self._seq = max(self._seq, event.seq)
        self._seq = max(self._seq, newest)
        return events

    @receive
    def on_resync(self, command: ResyncAccount) -> None:
        """Repeat the account's events, and tell the open orders if asked for. What can't be read is not answered: the
        requester repeats the command."""
        if not self._resyncs:
            self.ctx.after(GATHER_S, _ResyncDue())
        before = self._resyncs.get(command.requester, command)
        self._resyncs[command.requester] = command if command.after <= before.after else before

    @receive
    def on_resync_due(self, _: _ResyncDue) -> None:
        asked, self._resyncs = list(self._resyncs.values()), {}
        after = min(command.after for command in asked)
        symbols = dict.fromkeys(command.symbol for command in asked if command.symbol is not None)
        self._symbol = next(iter(symbols), self._symbol)
        self._poll()
        started_s = self.ctx.monotonic()
        try:
            events = self._exchange.events(after, timeout_s=self._timeout_s)
            for event in events:
                self.ctx.send(event)
            for symbol in symbols:
                self._tell_open(symbol, self._exchange.open_orders(symbol, timeout_s=self._timeout_s))
        except Fatal:
            raise
        except Failure as failure:
            self._failed("resync", failure)
            return
        finally:
            self._took(started_s)
        seq = max([self._seq] + [event.seq for event in events])
        for command in asked:
            self.ctx.send(AccountResynced(requester=command.requester, seq=max(seq, command.after)))

    # Position and balances

    @receive
    def on_query_account(self, command: QueryAccount) -> None:
        # Live, the events are read after the account as well; a poll of just now need not be repeated before it.
        if self._poll_s is None or self._polled_before(self._poll_s):
            self._poll()
        if self._events_unread(command):
            return
        seq_before = self._seq
        started_s = self.ctx.monotonic()
        try:
            position = self._exchange.position(command.symbol, timeout_s=self._timeout_s)
            balances = tuple(self._exchange.balances(timeout_s=self._timeout_s))
        except Fatal:
            raise
        except Failure as failure:
            self._failed("account", failure)
            self.ctx.send(AccountQueryFailed(request_id=command.request_id, reason=str(failure)))
            return
        finally:
            self._took(started_s)
        latency_ms = (self.ctx.monotonic() - started_s) * 1000
        if self._live:
            # A real exchange tells of an event only when asked: one that fell in between shows by asking once more.
            self._poll()
            if self._events_unread(command):
                return
        self.ctx.send(
            AccountSnapshot(
                request_id=command.request_id,
                symbol=command.symbol,
                qty=position.qty,
                entry_price=position.entry_price,
                balances=balances,
                seq_before=seq_before,
                seq_after=self._exchange.last_seq(),
                at=self.ctx.now(),
                latency_ms=latency_ms,
            )
        )

    def _events_unread(self, command: QueryAccount) -> bool:
        """Refuse to answer: a snapshot that is ahead of the events would accuse the book of what it can't know."""
        if not self.ctx.asking(_EVENTS):
            return False
        reason = "the account's events could not be read"
        self.ctx.send(AccountQueryFailed(request_id=command.request_id, reason=reason))
        return True

    # What is told of each

    def _tell_found(self, report: OrderReport) -> None:
        self.ctx.send(
            OrderFound(
                client_order_id=report.client_order_id,
                exchange_order_id=report.exchange_order_id,
                status=report.status,
                filled_qty=report.filled_qty,
                avg_price=report.avg_price,
                qty=report.qty,
                price=report.price,
            )
        )

    def _failed(self, stage: str, failure: Failure) -> None:
        self.ctx.send(RequestFailed(stage=stage, kind=failure.kind, reason=str(failure)))

    def _answered(self, stage: str, started_s: float) -> None:
        self.ctx.send(RequestSucceeded(stage=stage, latency_ms=(self.ctx.monotonic() - started_s) * 1000))
