"""The gateway: the only writer to the account, and the only reader of its orders, fills and balances.

Because everything passes here one after the other, an answer is never older than the events told before it. It sends no
client id twice, signs nothing after the order has expired, and looks at the lease just before whatever increases risk.
What it can't prove it calls unknown: an error is neither "rejected" nor "not found".

Absence is proven by the exchange's own denial, given when the request can no longer arrive: once the exchange's arrival
window has passed since the last instant at which it may have been signed. An id that was denied so is never sent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tbh.actors.account_reader import AccountReader
from tbh.messages.controls import LeaseLapsed, LeaseLost, LeaseRenewed
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
    Side,
)
from tbh.ports import Exchange, Failure, Fatal, OrderReport, Rejected, StoreReader
from tbh.runtime.actor import Context, receive

HANDLED_KEPT_MAX: Final = 10_000


class GatewayActor(AccountReader):
    """The arguments are ``AccountReader``'s."""

    sends = (
        *AccountReader.sends,
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
        self._began = ctx.now()
        self._handled: dict[str, datetime] = {}
        self._waiting: set[str] = set()
        self._deadline_s: float | None = None
        self._lease_heard = False
        self._lost: str | None = None
        self._halted: str | None = None
        super().__init__(ctx, exchange=exchange, store=store, timeout_s=timeout_s, poll_s=poll_s)

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
        self._waiting.clear()
        self.ctx.unstash()

    def on_halt(self, reason: str) -> None:
        self._halted = reason

    # Orders

    @receive
    def on_place(self, command: PlaceOrder) -> None:
        order = command.order
        client_order_id = order.client_order_id
        if client_order_id in self._handled:
            self._query(client_order_id, order.symbol, conclusive=False)
            return
        if order.purpose.increases_risk and not self._lease_heard:
            self._waiting.add(client_order_id)
            self.ctx.stash()  # a gateway that has just (re)started knows nothing of the lease yet
            return
        self._note_handled(client_order_id)
        refusal = self._refusal(order)
        if refusal is not None:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason=refusal))
            return
        self._send(order)

    def _send(self, order: Order) -> None:
        client_order_id = order.client_order_id
        self.ctx.send(OrderSubmitted(client_order_id=client_order_id))
        started_s = self.ctx.monotonic()
        report: OrderReport | None = None
        try:
            report = self._exchange.place(order, timeout_s=self._timeout_s)
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
            self._tell_placed(client_order_id, report)
        self._note_handled(client_order_id)
        self._poll()
        if report is not None and report.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
            # The event of its end may have been told to an incarnation that knew nothing of the order.
            self._tell_found(report)

    def _note_handled(self, client_order_id: str) -> None:
        """From now on this id is not sent again; called anew after the call, it says when that was signed at last."""
        self._handled[client_order_id] = self.ctx.now()
        if len(self._handled) > HANDLED_KEPT_MAX:
            del self._handled[next(iter(self._handled))]

    def _refusal(self, order: Order) -> str | None:
        """Why this order may not be signed now, or None. The lease is looked at last, just before the call."""
        if order.expires_at is not None and self.ctx.now() > order.expires_at:
            return "expired before it was sent"
        if self._lost is not None:
            return f"lease_lost: {self._lost}"
        if order.purpose.increases_risk and self._halted is not None:
            return f"halted: {self._halted}"
        if self._deadline_s is not None and self.ctx.monotonic() < self._deadline_s:
            return None
        if order.purpose.increases_risk:
            return "lease_lapsed"
        if self._lease_heard and not self._exchange.market(order.symbol).enforces_reduce_only:
            return self._uncovered(order)
        return None

    def _uncovered(self, order: Order) -> str | None:
        """Without the lease and without an exchange that enforces reduce-only, an exit is sent only up to what the
        account holds at this moment: another process may have closed the position."""
        try:
            held = self._exchange.position(order.symbol, timeout_s=self._timeout_s).qty
        except Fatal:
            raise
        except Failure as failure:
            self._failed("account", failure)
            return f"lease_lapsed, and the holding is not known: {failure}"
        closable = held if order.side is Side.SELL else -held
        return None if order.qty <= max(closable, Decimal(0)) else f"lease_lapsed, and only {held} is held"

    def _tell_placed(self, client_order_id: str, report: OrderReport) -> None:
        if report.status is OrderStatus.REJECTED:
            self.ctx.send(OrderRejected(client_order_id=client_order_id, reason="rejected by the exchange"))
        elif not report.exchange_order_id:
            # Some exchanges answer 200 with an empty body; that proves nothing.
            self.ctx.send(OutcomeUnknown(client_order_id=client_order_id, reason="an answer without an order id"))
        else:
            self.ctx.send(OrderAccepted(client_order_id=client_order_id, exchange_order_id=report.exchange_order_id))

    @receive
    def on_cancel(self, command: CancelOrder) -> None:
        client_order_id = command.client_order_id
        if client_order_id in self._waiting:
            self.ctx.stash()  # behind the order that it cancels
            return
        if self._lost is not None:
            self.ctx.send(CancelRefused(client_order_id=client_order_id, reason=f"lease_lost: {self._lost}"))
            return
        started_s = self.ctx.monotonic()
        try:
            report = self._exchange.cancel(client_order_id, command.symbol, timeout_s=self._timeout_s)
        except Fatal:
            raise
        except Rejected as no:
            self._poll()
            self.ctx.send(CancelRefused(client_order_id=client_order_id, reason=str(no)))
        except Failure as silence:
            self._failed("cancel", silence)
            self._poll()
        else:
            self._answered("cancel", started_s)
            self._tell_canceled(client_order_id, report)

    def _tell_canceled(self, client_order_id: str, report: OrderReport) -> None:
        """The account's own event says it best; where there is none yet, the exchange's answer has to do."""
        events = self._poll()
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
        window_s = self._exchange.arrival_window_s()
        # One sender's messages keep their order: what was not handled here before this query was signed by a former
        # incarnation, if at all.
        signed_at = self._handled.get(client_order_id, self._began)
        if command.signed_until is not None:
            signed_at = min(signed_at, command.signed_until)
        arrived = window_s == 0 or self.ctx.now() > signed_at + timedelta(seconds=window_s)
        self._query(client_order_id, command.symbol, conclusive=arrived)

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
            self._tell_found(report)
