"""The gateway: the only writer to the account, and the only reader of its orders, fills and balances.

Because everything passes here one after the other, an answer is never older than the events told before it. It sends no
client id twice, signs nothing after the order has expired, and looks at the lease just before whatever increases risk.
What it can't prove it calls unknown: an error is neither "rejected" nor "not found".
"""

from __future__ import annotations

from datetime import timedelta

from tbh.messages.account import AccountQueryFailed, AccountResynced, AccountSnapshot, QueryAccount, ResyncAccount
from tbh.messages.base import Timer, message
from tbh.messages.controls import LeaseLapsed, LeaseLost, LeaseRenewed
from tbh.messages.health import RequestFailed, RequestSucceeded
from tbh.messages.market import MarketMoved
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    QueryOrder,
)
from tbh.ports import Exchange, Failure, Fatal, OrderReport, Rejected, StoreReader
from tbh.runtime.actor import Actor, Context, receive

SENT_KEPT_MAX = 10_000
_EVENTS = "events"


@message
class _PollAgain(Timer):
    """The account's events could not be read; try again."""


class GatewayActor(Actor):
    """``timeout_s`` bounds each call to the exchange; ``poll_s`` is the pause between polls of the account's events
    (None: they are read when the market moves, as in a replay)."""

    sends = (
        OrderSubmitted,
        OrderAccepted,
        OrderRejected,
        OutcomeUnknown,
        OrderCanceled,
        OrderExpired,
        CancelRefused,
        OrderFound,
        OrderNotFound,
        Fill,
        AccountSnapshot,
        AccountQueryFailed,
        AccountResynced,
        RequestFailed,
        RequestSucceeded,
    )

    def __init__(
        self,
        ctx: Context,
        *,
        exchange: Exchange,
        store: StoreReader,
        timeout_s: float = 10.0,
        poll_s: float | None = None,
    ) -> None:
        super().__init__(ctx)
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._retry_s = poll_s or 0.5
        self._sent: dict[str, None] = {}
        self._deadline_s: float | None = None
        self._lease_heard = False
        self._retrying = False
        self._lost: str | None = None
        self._halted: str | None = None
        fills = store.fills()
        self._seq = fills[-1].seq if fills else 0
        self._poll()
        if poll_s is not None:
            ctx.every(poll_s, _PollAgain())

    # The lease

    @receive
    def on_lease_renewed(self, lease: LeaseRenewed) -> None:
        self._deadline_s = lease.deadline_s
        self._hear_lease()

    @receive
    def on_lease_lapsed(self, _: LeaseLapsed) -> None:
        self._deadline_s = None
        self._hear_lease()

    @receive
    def on_lease_lost(self, lost: LeaseLost) -> None:
        self._lost = lost.reason
        self._hear_lease()

    def _hear_lease(self) -> None:
        self._lease_heard = True
        self.ctx.unstash()

    def on_halt(self, reason: str) -> None:
        self._halted = reason

    # Orders

    @receive
    def on_place(self, command: PlaceOrder) -> None:
        order = command.order
        if order.client_order_id in self._sent:
            self._query(order.client_order_id, order.symbol, conclusive=False)
            return
        if order.purpose.increases_risk and not self._lease_heard:
            self.ctx.stash()  # a gateway that has just (re)started knows nothing of the lease yet
            return
        refusal = self._refusal(order)
        if refusal is not None:
            self.ctx.send(OrderRejected(client_order_id=order.client_order_id, reason=refusal))
            return
        self._sent[order.client_order_id] = None
        if len(self._sent) > SENT_KEPT_MAX:
            del self._sent[next(iter(self._sent))]
        self.ctx.send(OrderSubmitted(client_order_id=order.client_order_id))
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.place(order, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Rejected as no:
            self.ctx.send(OrderRejected(client_order_id=order.client_order_id, reason=str(no)))
            self._failed("place", no)
        except Failure as silence:
            self.ctx.send(OutcomeUnknown(client_order_id=order.client_order_id, reason=str(silence)))
            self._failed("place", silence)
        else:
            self._answered("place", started_s)
            self._tell_placed(order, report)
        self._poll()

    def _refusal(self, order: Order) -> str | None:
        """Why this order may not be signed now, or None. The lease is looked at last, just before the call."""
        if order.expires_at is not None and self.ctx.now() > order.expires_at:
            return "expired before it was sent"
        if self._lost is not None:
            return f"lease_lost: {self._lost}"
        if order.purpose.increases_risk:
            if self._halted is not None:
                return f"halted: {self._halted}"
            if self._deadline_s is None or self.ctx.monotonic() >= self._deadline_s:
                return "lease_lapsed"
        return None

    def _tell_placed(self, order: Order, report: OrderReport) -> None:
        client_order_id = order.client_order_id
        if report.status is OrderStatus.REJECTED:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason="rejected by the exchange"))
        elif not report.exchange_order_id:
            # Some exchanges answer 200 with an empty body; that proves nothing.
            self.ctx.send(OutcomeUnknown(client_order_id=client_order_id, reason="an answer without an order id"))
        else:
            self.ctx.send(OrderAccepted(client_order_id=client_order_id, exchange_order_id=report.exchange_order_id))

    @receive
    def on_cancel(self, command: CancelOrder) -> None:
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.cancel(command.client_order_id, command.symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Rejected as no:
            self.ctx.send(CancelRefused(client_order_id=command.client_order_id, reason=str(no)))
        except Failure as silence:
            self._failed("cancel", silence)
        else:
            self._answered("cancel", started_s)
            if not self._poll_tells_cancel(command.client_order_id) and report.status is OrderStatus.CANCELED:
                self.ctx.send(
                    OrderCanceled(
                        client_order_id=command.client_order_id, filled_qty=report.filled_qty, reason="canceled"
                    )
                )
            return
        self._poll()

    def _poll_tells_cancel(self, client_order_id: str) -> bool:
        return any(
            isinstance(event, OrderCanceled) and event.client_order_id == client_order_id for event in self._poll()
        )

    @receive
    def on_query(self, command: QueryOrder) -> None:
        window_s = self._exchange.arrival_window_s()
        until = command.signed_until
        arrived = window_s == 0 or (until is not None and self.ctx.now() > until + timedelta(seconds=window_s))
        self._query(command.client_order_id, command.symbol, conclusive=arrived)

    def _query(self, client_order_id: str, symbol: str, *, conclusive: bool) -> None:
        self._poll()
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.order(client_order_id, symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Failure as failure:
            self._failed("query", failure)
            return
        self._answered("query", started_s)
        if report is None:
            self.ctx.send(OrderNotFound(client_order_id=client_order_id, conclusive=conclusive))
        else:
            self.ctx.send(
                OrderFound(
                    client_order_id=client_order_id,
                    exchange_order_id=report.exchange_order_id,
                    status=report.status,
                    filled_qty=report.filled_qty,
                    avg_price=report.avg_price,
                )
            )

    # The account

    @receive
    def on_query_account(self, command: QueryAccount) -> None:
        self._poll()
        started_s = self.ctx.monotonic()
        seq_before = self._exchange.last_seq()
        try:
            position = self._exchange.position(command.symbol, timeout_s=self._timeout_s)
            balances = tuple(self._exchange.balances(timeout_s=self._timeout_s))
        except Fatal:
            raise
        except Failure as failure:
            self._failed("account", failure)
            self.ctx.send(AccountQueryFailed(request_id=command.request_id, reason=str(failure)))
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
                latency_ms=(self.ctx.monotonic() - started_s) * 1000,
            )
        )

    @receive
    def on_resync(self, command: ResyncAccount) -> None:
        """Repeat the account's events; the requester repeats the command when they could not be read."""
        self._poll()
        try:
            events = self._exchange.events(command.after, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Failure as failure:
            self._failed("events", failure)
            return
        for event in events:
            self.ctx.send(event)
        seq = max([command.after, self._seq] + [event.seq for event in events])
        self.ctx.send(AccountResynced(requester=command.requester, seq=seq))

    @receive
    def on_market_moved(self, _: MarketMoved) -> None:
        self._poll()

    @receive
    def on_poll_again(self, _: _PollAgain) -> None:
        self._retrying = False
        self._poll()

    def _poll(self) -> list[Fill | OrderCanceled | OrderExpired]:
        """Tell the account's events since the last poll. Until that succeeds, a replay stays where it is."""
        try:
            events = list(self._exchange.events(self._seq, timeout_s=self._timeout_s))
        except Fatal:
            raise
        except Failure as failure:
            self._failed("events", failure)
            if not self.ctx.asking(_EVENTS):
                self.ctx.expect(_EVENTS)
            if not self._retrying:
                self._retrying = True
                self.ctx.after(self._retry_s, _PollAgain())
            return []
        self.ctx.answered(_EVENTS)
        for event in events:
            self.ctx.send(event)
            self._seq = max(self._seq, event.seq)
        return events

    def _failed(self, stage: str, failure: Failure) -> None:
        self.ctx.send(RequestFailed(stage=stage, kind=failure.kind, reason=str(failure)))

    def _answered(self, stage: str, started_s: float) -> None:
        self.ctx.send(RequestSucceeded(stage=stage, latency_ms=(self.ctx.monotonic() - started_s) * 1000))
