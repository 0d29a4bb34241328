"""What may be signed, and until when: the lease, the operator's word, the order's own expiry.

The lease is looked at last, just before the call, and what increases risk is signed so that the exchange refuses it
once the lease is over. An order that waited behind a slow call waits a little longer: until all that came meanwhile has
been heard, for an operator may have said no in the meantime. A question that came again meanwhile is not put again: an
exchange so slow that questions come faster than answers would never get to anything else.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tbh.actors.account_reader import AccountReader
from tbh.actors.database_link import EXIT_OWNED
from tbh.messages.base import Message, Timer, message, replace
from tbh.messages.controls import LeaseLapsed, LeaseLost, LeaseRenewed
from tbh.messages.health import GateChanged
from tbh.messages.orders import NOT_SENT, CancelOrder, Order, QueryOrder, Side
from tbh.ports import Exchange, Failure, Fatal, StoreReader
from tbh.runtime.actor import Context, receive

LEASE_MAX_S: Final = 86_400.0
HEARD_WITHIN_S: Final = 1.0
CLOSED_BY_PEOPLE: Final = frozenset(
    {"paused", "killed", "kill_switch", "observe_only", "subscription_inactive", "token_refused"}
)
"""Reasons of the gate that stop even an entry which was approved before."""


@message
class _Listened(Timer):
    """The neighbours have had the time to tell a restarted gateway what they know."""


@message
class _CaughtUp(Timer):
    """All that came during a slow call has been heard."""


class SigningAccount(AccountReader):
    """The arguments are ``AccountReader``'s."""

    def __init__(
        self, ctx: Context, *, exchange: Exchange, store: StoreReader, timeout_s: float, poll_s: float | None
    ) -> None:
        self._waiting: dict[str, datetime | None] = {}
        self._deadline_s: float | None = None
        self._lease_heard = False
        self._lost: str | None = None
        self._gate_heard = False
        self._closed: frozenset[str] = frozenset()
        self._slow_calls = self._caught_up_with = 0
        self._asked: dict[tuple[type[Message], str], int] = {}
        self._halted: str | None = None
        # What stands in the mailbox of a restart may be older than the word that another process owns the account.
        self._deaf = ctx.incarnation > 0
        super().__init__(ctx, exchange=exchange, store=store, timeout_s=timeout_s, poll_s=poll_s)
        if self._deaf:
            ctx.after(HEARD_WITHIN_S, _Listened())

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
        self._resume()

    def _resume(self) -> None:
        self._waiting.clear()
        self.ctx.unstash()

    # The operator's word

    @receive
    def on_gate_changed(self, gate: GateChanged) -> None:
        self._closed = CLOSED_BY_PEOPLE.intersection(gate.reasons)
        if "lease_lost" in gate.reasons and self._lost is None:
            self._lost = "another runtime owns the bot"  # whoever said so first may have ended by it
        if not self._gate_heard:
            self._gate_heard = True
            self._deaf = False
            self._resume()

    @receive
    def on_listened(self, _: _Listened) -> None:
        if self._deaf:  # nobody is there to say it: what reduces risk must not wait for ever
            self._deaf = False
            self._resume()

    def _fell_behind(self) -> None:
        """Let all that stands in the mailbox be heard before the next entry is sent: an operator's word may be in it.
        A timer that is due at once comes behind it."""
        self._slow_calls += 1
        self.ctx.after(0.0, _CaughtUp())

    @receive
    def on_caught_up(self, _: _CaughtUp) -> None:
        self._caught_up_with += 1
        self._asked = {key: calls for key, calls in self._asked.items() if calls > self._caught_up_with}
        if not self._behind or any(self._is_over(expires_at) for expires_at in self._waiting.values()):
            self._resume()

    def _is_over(self, expires_at: datetime | None) -> bool:
        return expires_at is not None and self.ctx.now() > expires_at

    @property
    def _behind(self) -> bool:
        return self._slow_calls > self._caught_up_with

    def _note_asked(self, command: CancelOrder | QueryOrder) -> None:
        """What was asked has been put to the exchange, whether it has answered or not."""
        if self._behind:
            self._asked[type(command), command.client_order_id] = self._slow_calls

    def _is_repeat(self, command: CancelOrder | QueryOrder) -> bool:
        """Whether the same was put to the exchange while this was waiting here: who is no wiser by then asks again."""
        return self._asked.get((type(command), command.client_order_id), 0) > self._caught_up_with

    def on_halt(self, reason: str, exit_code: int) -> None:
        self._halted = reason
        if exit_code == EXIT_OWNED and self._lost is None:
            # The word of it stands behind all that waits here, and an incarnation that heard it may have failed since.
            self._lost = "another runtime owns the bot"

    # What may be sent

    def _must_wait(self, order: Order) -> bool:
        """Whether something must be heard before this order can be judged: what came during a slow call, or, in a
        gateway that has just (re)started, the lease and the operator's word. Nothing makes good an order that has
        expired: with an exchange that is always slow it would else wait, and be in doubt, for as long as that is so."""
        ready = (self._lease_heard and self._gate_heard and not self._behind) or self._is_over(order.expires_at)
        return self._deaf or (order.purpose.increases_risk and not ready)

    def _refusal(self, order: Order) -> str | None:
        """Why this order may not be signed now, or None. The lease is looked at last, just before the call."""
        if self._is_over(order.expires_at):
            return "expired before it was sent"
        if self._lost is not None:
            return f"lease_lost: {self._lost}"
        if order.purpose.increases_risk and self._halted is not None:
            return f"halted: {self._halted}"
        if order.purpose.increases_risk and self._closed:
            return f"entries are closed: {' '.join(sorted(self._closed))}"
        if self._deadline_s is not None and self.ctx.monotonic() < self._deadline_s:
            return None
        if order.purpose.increases_risk:
            return "lease_lapsed"
        return self._uncovered(order) if self._lease_heard else None

    def _within_lease(self, order: Order) -> Order:
        """What increases risk expires with the lease: should this process be stopped between here and the wire, the
        exchange itself refuses the order. The time is read before the lease, so that a stop between them shortens it.
        """
        now = self.ctx.now()
        if not order.purpose.increases_risk or self._deadline_s is None:
            return order
        left_s = self._deadline_s - self.ctx.monotonic()
        if order.expires_at is not None and left_s >= (order.expires_at - now).total_seconds():
            return order
        return replace(order, expires_at=now + timedelta(seconds=min(left_s, LEASE_MAX_S)))

    def _deadline_of(self, order: Order) -> float | None:
        """The lease's end on the process's clock, which goes on where market time stands still; None: not bound."""
        return self._deadline_s if order.purpose.increases_risk else None

    def _uncovered(self, order: Order) -> str | None:
        """Without the lease and without an exchange that enforces reduce-only, an exit is sent only up to what the
        account holds at this moment: another process may have closed the position. Balances lag behind trades, so that
        too small a holding is no more than a want of evidence."""
        try:
            if self._exchange.market(order.symbol).enforces_reduce_only:
                return None
            held = self._exchange.position(order.symbol, timeout_s=self._timeout_s).qty
        except Fatal:
            raise
        except Failure as failure:
            self._failed("account", failure)
            return f"{NOT_SENT}lease_lapsed, and the holding is not known: {failure}"
        closable = held if order.side is Side.SELL else -held
        return None if order.qty <= max(closable, Decimal(0)) else f"{NOT_SENT}lease_lapsed, and only {held} is held"
