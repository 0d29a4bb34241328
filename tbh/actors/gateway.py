"""The gateway: the only writer to the account, and the only reader of its orders, fills and balances.

Because everything passes here one after the other, an answer is never older than the events told before it. It sends no
client id twice, signs nothing after the order has expired, and looks at the lease just before whatever increases risk.
What it can't prove it calls unknown: an error is neither "rejected" nor "not found".

Absence is proven by the exchange's own denial, given when the request can no longer arrive: once the exchange's arrival
window has passed since the last instant at which it may have been signed, by market time and by the process's own clock
too, for market time leaps when the exchange's clock is first heard. An id that was denied so is never sent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tbh.actors.signing import SigningAccount
from tbh.messages.orders import (
    CancelOrder,
    CancelRefused,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderNotFound,
    OrderRejected,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    PlaceOrder,
    QueryOrder,
)
from tbh.ports import Exchange, Failure, Fatal, OrderReport, Rejected, StoreReader
from tbh.runtime.actor import Context, receive

HANDLED_KEPT_MAX: Final = 10_000


class GatewayActor(SigningAccount):
    """The arguments are ``AccountReader``'s."""

    sends = (
        *SigningAccount.sends,
        OrderSubmitted,
        OrderAccepted,
        OrderRejected,
        OutcomeUnknown,
        CancelRefused,
        OrderNotFound,
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
        self._began = (ctx.now(), ctx.monotonic())
        self._handled: dict[str, tuple[datetime, float]] = {}
        self._store = store
        super().__init__(ctx, exchange=exchange, store=store, timeout_s=timeout_s, poll_s=poll_s)

    # Orders

    @receive
    def on_place(self, command: PlaceOrder) -> None:
        order = command.order
        client_order_id = order.client_order_id
        if client_order_id in self._handled:
            self._query(client_order_id, order.symbol, conclusive=False)
            return
        if self._must_wait(order):
            self._waiting[client_order_id] = order.expires_at
            self.ctx.stash()
            return
        if self._drafted_before(order):
            self._query(client_order_id, order.symbol, conclusive=False)
            return
        self._note_handled(client_order_id)
        refusal = self._refusal(order)
        if refusal is not None:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason=refusal))
            return
        self._send(order)

    def _drafted_before(self, order: Order) -> bool:
        """Whether the disk holds another draft of this order: a former order manager did not wait for a slow disk, nor
        does its successor know what it sent; and the incarnation that may have signed it here is gone as well."""
        if not self.ctx.incarnation:
            return False
        try:
            recorded = self._store.order(order.client_order_id)
        except Fatal:
            raise
        except Failure as failure:
            # A broken disk keeps no exit from going; what increases risk goes on evidence alone.
            self.ctx.log.warning("draft_unreadable", client_order_id=order.client_order_id, error=str(failure))
            return order.purpose.increases_risk
        return recorded is not None and recorded.order.created_at != order.created_at

    def _send(self, order: Order) -> None:
        client_order_id = order.client_order_id
        self.ctx.send(OrderSubmitted(client_order_id=client_order_id))
        started_s = self.ctx.monotonic()
        report: OrderReport | None = None
        try:
            report = self._exchange.place(
                self._within_lease(order), timeout_s=self._timeout_s, deadline_s=self._deadline_of(order)
            )
        except Fatal:
            raise
        except Rejected as no:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason=str(no)))
            self._failed("place", no)
        except Failure as silence:
            self.ctx.send(OutcomeUnknown(client_order_id=client_order_id, reason=str(silence)))
            self._failed("place", silence)
        else:
            self._answered("place", started_s)
            self._tell_placed(order, report)
        finally:
            self._took(started_s)
        self._note_handled(client_order_id)
        if not self._live or (report is not None and report.filled_qty):
            self._poll()
        if report is not None and report.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
            # The event of its end may have been told to an incarnation that knew nothing of the order.
            self._tell_found(report)

    def _note_handled(self, client_order_id: str) -> None:
        """From now on this id is not sent again; called anew after the call, it says when that was signed at last."""
        self._handled[client_order_id] = (self.ctx.now(), self.ctx.monotonic())
        if len(self._handled) > HANDLED_KEPT_MAX:
            del self._handled[next(iter(self._handled))]

    def _tell_placed(self, order: Order, report: OrderReport) -> None:
        client_order_id = order.client_order_id
        if report.status is OrderStatus.REJECTED:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason="rejected by the exchange"))
        elif not report.exchange_order_id:
            # Some exchanges answer 200 with an empty body; that proves nothing.
            self.ctx.send(OutcomeUnknown(client_order_id=client_order_id, reason="an answer without an order id"))
        else:
            self.ctx.send(OrderAccepted(client_order_id=client_order_id, exchange_order_id=report.exchange_order_id))
            if report.qty not in (None, order.qty):
                # Another process was heard first under this id: how large its order is must be known before its fills.
                self._tell_found(report)

    @receive
    def on_cancel(self, command: CancelOrder) -> None:
        client_order_id = command.client_order_id
        if self._deaf or client_order_id in self._waiting:
            self.ctx.stash()  # behind the order that it cancels
            return
        if self._lost is not None:
            self.ctx.send(CancelRefused(client_order_id=client_order_id, reason=f"lease_lost: {self._lost}"))
            return
        if self._is_repeat(command):
            return
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.cancel(client_order_id, command.symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Rejected as no:
            if not self._live:  # a query follows
                self._poll()
            self.ctx.send(CancelRefused(client_order_id=client_order_id, reason=str(no)))
        except Failure as silence:
            self._failed("cancel", silence)
            self._poll()
        else:
            self._answered("cancel", started_s)
            self._tell_canceled(client_order_id, report)
        finally:
            self._took(started_s)
        self._note_asked(command)

    def _tell_canceled(self, client_order_id: str, report: OrderReport) -> None:
        """The account's own event says it best; where there is none yet, the exchange's answer has to do."""
        events = self._poll() if report.filled_qty or not self._live else []
        if any(isinstance(event, OrderCanceled) and event.client_order_id == client_order_id for event in events):
            return
        if report.status is OrderStatus.CANCELED:
            self.ctx.send(
                OrderCanceled(client_order_id=client_order_id, filled_qty=report.filled_qty, reason="canceled")
            )
        else:
            self._tell_found(report)

    @receive
    def on_query(self, command: QueryOrder) -> None:
        client_order_id = command.client_order_id
        if client_order_id in self._waiting:
            self.ctx.stash()  # or the denial would be overtaken by the order itself
            return
        if not self._is_repeat(command):
            self._query(client_order_id, command.symbol, conclusive=self._has_arrived(command))
            self._note_asked(command)

    def _has_arrived(self, command: QueryOrder) -> bool:
        """Whether no request for this order can be on its way any more."""
        window_s = self._exchange.arrival_window_s()
        # One sender's messages keep their order: what was not handled here before this query was signed by a former
        # incarnation, if at all.
        signed_at, signed_s = self._handled.get(command.client_order_id, self._began)
        if command.signed_until is not None:
            signed_at = min(signed_at, command.signed_until)
        by_market_time = self.ctx.now() > signed_at + timedelta(seconds=window_s)
        return window_s == 0 or (by_market_time and self.ctx.monotonic() > signed_s + window_s)

    def _query(self, client_order_id: str, symbol: str, *, conclusive: bool) -> None:
        if not self._live:
            self._poll()
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.order(client_order_id, symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Failure as failure:
            self._failed("query", failure)
            return
        finally:
            self._took(started_s)
        self._answered("query", started_s)
        if self._live and (report.filled_qty if report is not None else conclusive):
            self._poll()  # after the answer, so that the fills it counts are told before it
        if report is None:
            self.ctx.send(OrderNotFound(client_order_id=client_order_id, conclusive=conclusive))
        else:
            self._tell_found(report)
