"""What has happened so far in a seed, as far as the promises are judged by it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from tbh.domain.book import holding_change
from tbh.domain.money import EXACT, ZERO, divide, floor_to_step
from tbh.messages.account import SyncStatus
from tbh.messages.orders import Fill
from tbh.simulation import inside, steps
from tbh.simulation.faults import FaultKind
from tbh.simulation.known import KNOWN_STEPS, Known
from tbh.simulation.records import StoreKeys, VenueOrder

_VALUED_LEAST = Decimal("0.98")
"""Dust is valued at the price of its entry, which may be a little lower than the last one."""


class History:
    """Folded from the steps, each as ``FOLDS`` has it for its kind. Quantities are signed base, cash is quote.

    ``orders`` holds every order of ours that took effect, ``live`` those of them on the book, ``attempts`` the same by
    intent, ``refused`` why the exchange refused the others, ``unrecorded`` what was sent and is on no disk yet.
    ``lied_about`` are the orders that the exchange told the opposite of, ``lied_qty`` the sum of their quantities until
    the account is flat again. ``disturbed_ns`` is when a trade of somebody else's, a lie or what became of an order
    lied about last changed what the bot can know.
    ``own_qty`` and ``own_cash`` are what our fills made of the account, ``foreign_qty`` and ``foreign_cash`` what
    others did; ``settled_qty`` is the ``foreign_qty`` of the last instant at which account and owner's book were flat.
    ``ousted`` are the processes and ids of what was signed while another process had the bot. ``closed_ns`` is since
    when the operator wants no entries, None: they may be; ``entered_ns`` when an order that increases risk was last
    filled, ``flat_ns`` when a fill of ours last left nothing. ``carried_out`` are the requests to close the position of
    which a disk has said so at an instant at which nothing was left. ``leases`` is until when each process believes in
    its lease; ``owner`` has had the bot since ``owned_ns``. ``compared`` is of when the comparison is that a process
    has told last.
    """

    def __init__(self, terms: steps.Terms) -> None:
        self.terms = terms
        self.now_ns = 0
        self.known = Known()
        self.healed = False
        self.orders: dict[str, VenueOrder] = {}
        self.live: dict[str, VenueOrder] = {}
        self.refused: dict[str, str] = {}
        self.attempts: dict[str, list[VenueOrder]] = {}
        self.signed: dict[str, list[tuple[str, str | None]]] = {}
        self.unrecorded: set[str] = set()
        self.ousted: set[tuple[str, str]] = set()
        self.lied_about: set[str] = set()
        self.lied_qty = ZERO
        self.disturbed_ns: int | None = None
        self.fills: dict[str, Fill] = {}
        self.last_price = ZERO
        self.own_qty = ZERO
        self.own_cash = terms.cash
        self.foreign_qty = ZERO
        self.foreign_cash = ZERO
        self.settled_qty = ZERO
        self.foreign_trades: set[str] = set()
        self.gate: dict[str, tuple[tuple[str, ...], int]] = {}
        self.approved: set[str] = set()
        self.believed: dict[str, SyncStatus] = {}
        self.believed_ns: dict[str, int] = {}
        self.compared: dict[str, datetime | None] = {}
        self.closed_ns: int | None = None
        self.entered_ns = self.flat_ns = 0
        self.carried_out: set[str] = set()
        self.due: dict[str, steps.NoticeDue] = {}
        self.due_ns: dict[str, int] = {}
        self.sent: set[str] = set()
        self.machines: dict[str, str] = {}
        self.damaged: Counter[str] = Counter()
        self.ended: dict[str, int | None] = {}
        self.stores: dict[str, StoreKeys] = {}
        self.store_of: dict[str, str] = {}
        self.leases: dict[str, int] = {}
        self.owner: str | None = None
        self.owned_ns = 0
        self.epoch = 0

    @property
    def qty(self) -> Decimal:
        """The account's position."""
        return EXACT.add(self.own_qty, self.foreign_qty)

    @property
    def foreign_open(self) -> Decimal:
        """What others have done to the position since its owner last knew, rightly, that there was none."""
        return EXACT.subtract(self.foreign_qty, self.settled_qty)

    @property
    def dust(self) -> Decimal:
        """What former positions may have left behind, since the market does not take so little."""
        market = self.terms.market
        least = max(market.amount_step, market.amount_min or ZERO)
        if market.notional_min is not None and self.last_price:
            least = max(least, divide(market.notional_min, self.last_price * _VALUED_LEAST))
        whole = floor_to_step(least, market.amount_step)
        return whole if whole == least else EXACT.add(whole, market.amount_step)

    def is_dust(self, qty: Decimal) -> bool:
        """Whether ``qty`` is nothing, or too little to be traded away."""
        return abs(qty) <= self.dust

    def keys(self, store_id: str) -> StoreKeys:
        store = self.stores.get(store_id)
        if store is None:
            store = self.stores[store_id] = StoreKeys({}, {})
        return store

    # -- orders

    def _signed(self, step: steps.OrderSigned) -> None:
        # What went without its record can't be known to whoever reads the disk next, unless the record follows.
        machine = self.machines.get(step.boot) if step.recorded else None
        if not step.recorded:
            self.unrecorded.add(step.order.client_order_id)
        self.signed.setdefault(step.order.client_order_id, []).append((step.boot, machine))
        if self.owner not in (None, step.boot):
            self.ousted.add((step.boot, step.order.client_order_id))
        self.known.sent(step)

    def _arrived(self, step: steps.OrderArrived) -> None:
        order = step.order
        if step.refusal is not None:
            self.refused[order.client_order_id] = step.refusal
        if step.effect is not steps.Effect.ACCEPTED:
            return
        placed = VenueOrder(order=order, boot=step.boot, arrived_ns=self.now_ns)
        self.orders[order.client_order_id] = self.live[order.client_order_id] = placed
        self.attempts.setdefault(order.intent_id, []).append(placed)

    def undisturbed_s(self) -> float:
        """For how long the bot has been told the truth about an account that nobody else trades on."""
        if any(name in self.live for name in self.lied_about):
            return 0.0
        return math.inf if self.disturbed_ns is None else (self.now_ns - self.disturbed_ns) / 1e9

    def quiet(self) -> str:
        """The same in words."""
        seconds = self.undisturbed_s()
        ago = "ever" if seconds == math.inf else f"in the last {seconds:.1f} s"
        return f"and nobody else traded nor did the exchange lie {ago}"

    def _lied(self, step: steps.Lied) -> None:
        self.disturbed_ns = self.now_ns
        if step.client_order_id not in self.lied_about:
            self.lied_about.add(step.client_order_id)
            self.lied_qty = EXACT.add(self.lied_qty, step.qty)

    def _position_lied(self, _: inside.PositionLied) -> None:
        self.disturbed_ns = self.now_ns

    def _filled(self, step: steps.VenueFill) -> None:
        fill, market = step.fill, self.terms.market
        self.fills[fill.trade_id] = fill
        self.last_price = fill.price
        if fill.client_order_id in self.lied_about:
            self.disturbed_ns = self.now_ns
        self.own_qty = EXACT.add(self.own_qty, holding_change(fill, market.base))
        if self.is_dust(self.qty):
            self.flat_ns = self.now_ns
        paid = EXACT.multiply(fill.qty, fill.price)
        cash = EXACT.subtract(self.own_cash, paid) if fill.side.sign > 0 else EXACT.add(self.own_cash, paid)
        self.own_cash = EXACT.subtract(cash, fill.fee) if fill.fee_asset == market.quote else cash
        if (placed := self.orders.get(fill.client_order_id)) is not None:
            placed.filled = EXACT.add(placed.filled, fill.qty)
            if placed.order.purpose.increases_risk:
                self.entered_ns = self.now_ns

    def _order_ended(self, step: steps.VenueOrderEnded) -> None:
        placed = self.live.pop(step.client_order_id, None)
        if placed is not None:
            placed.status = step.status
        if step.client_order_id in self.lied_about:
            self.disturbed_ns = self.now_ns
        self._settle()

    def _settle(self) -> None:
        """Lies are forgotten with the position that they were about."""
        if self.lied_qty and self.is_dust(self.qty) and not any(name in self.live for name in self.lied_about):
            self.lied_qty = ZERO

    def _foreign(self, step: steps.ForeignTrade) -> None:
        self.foreign_qty = EXACT.add(self.foreign_qty, step.qty)
        self.foreign_cash = EXACT.add(self.foreign_cash, step.cash)
        self.foreign_trades.add(step.trade_id)
        self.disturbed_ns = self.now_ns
        self._settle()

    # -- decisions

    def _gate_moved(self, step: steps.GateMoved) -> None:
        self.gate[step.boot] = (step.reasons, self.now_ns)

    def _entry_approved(self, step: steps.EntryApproved) -> None:
        self.approved.add(step.proposal_id)

    def _position_told(self, step: steps.PositionTold) -> None:
        self.compared[step.boot] = step.at
        if self.believed.get(step.boot) is not step.status:
            self.believed[step.boot], self.believed_ns[step.boot] = step.status, self.now_ns

    def _notice_due(self, step: steps.NoticeDue) -> None:
        self.due.setdefault(step.key, step)
        self.due_ns.setdefault(step.key, self.now_ns)

    def _notice_sent(self, step: steps.NoticeSent) -> None:
        self.sent.add(step.key)

    # -- disk and database

    def _committed(self, step: steps.Committed) -> None:
        self.store_of[step.boot] = step.store_id
        self.known.commit(step.store_id, step.batch.fills)
        if step.keys:
            self.keys(step.store_id).written.update(step.keys)
        if self.unrecorded:
            self._recorded_late(step)
        if step.batch.actions and self.is_dust(self.qty):
            self.carried_out.update(request_id for request_id, status, _ in step.batch.actions if status == "done")

    def _recorded_late(self, step: steps.Committed) -> None:
        for state in step.batch.drafts:
            client_order_id = state.order.client_order_id
            if client_order_id in self.unrecorded:
                self.unrecorded.discard(client_order_id)
                signed = self.signed[client_order_id]
                if any(boot == step.boot for boot, _ in signed):  # another's draft under that id is its own decision
                    signed.append((step.boot, self.machines.get(step.boot)))

    def _synced(self, step: steps.Synced) -> None:
        store = self.keys(step.store_id)
        store.applied.update(step.keys)
        store.last_applied = max(store.last_applied, *step.keys) if step.keys else store.last_applied

    def _lease_taken(self, step: steps.LeaseTaken) -> None:
        self.owner, self.epoch, self.owned_ns = step.boot, max(self.epoch, step.epoch), self.now_ns

    def _lease_believed(self, step: steps.LeaseBelieved) -> None:
        self.leases[step.boot] = self.now_ns + int(step.for_s * 1e9)

    # -- processes

    def _boot_started(self, step: steps.BootStarted) -> None:
        self.machines[step.boot] = f"{step.machine}, store {self.damaged[step.machine]}"

    def _fault(self, step: steps.FaultHappened) -> None:
        if step.kind == FaultKind.STORE_DAMAGED:
            self.damaged[step.detail] += 1

    def _boot_ended(self, step: steps.BootEnded) -> None:
        self.ended[step.boot] = step.exit_code

    def _actor_failed(self, step: steps.ActorFailed) -> None:
        self.known.failed[step.boot, step.actor] = self.now_ns

    def _controls_set(self, step: steps.ControlsSet) -> None:
        if not (step.paused or step.killed):
            self.closed_ns = None
        elif self.closed_ns is None:
            self.closed_ns = self.now_ns

    def _heal(self, _: steps.Healed) -> None:
        self.healed = True

    def _seen_inside(self, step: Any) -> None:
        self.known.take(step, self.now_ns)

    def _position_held(self, step: inside.PositionHeld) -> None:
        self._seen_inside(step)
        # One that has not heard of a trade may be flat in its book alone, or the account flat without its knowing.
        if not step.qty and self.is_dust(self.qty) and self.owner in (None, step.boot):
            self.settled_qty = self.foreign_qty


Fold = Callable[[History, Any], None]
"""(what has happened, the step that happens) -> the step is a part of what has happened."""

FOLDS: Final[dict[type, Fold]] = {
    steps.OrderSigned: History._signed,
    steps.OrderArrived: History._arrived,
    steps.Lied: History._lied,
    steps.VenueFill: History._filled,
    steps.VenueOrderEnded: History._order_ended,
    steps.ForeignTrade: History._foreign,
    steps.GateMoved: History._gate_moved,
    steps.EntryApproved: History._entry_approved,
    steps.PositionTold: History._position_told,
    steps.NoticeDue: History._notice_due,
    steps.NoticeSent: History._notice_sent,
    steps.Committed: History._committed,
    steps.Synced: History._synced,
    steps.LeaseTaken: History._lease_taken,
    steps.LeaseBelieved: History._lease_believed,
    steps.BootStarted: History._boot_started,
    steps.BootEnded: History._boot_ended,
    steps.ControlsSet: History._controls_set,
    steps.FaultHappened: History._fault,
    steps.Healed: History._heal,
    steps.ActorFailed: History._actor_failed,
    inside.PositionLied: History._position_lied,
    **dict.fromkeys(KNOWN_STEPS, History._seen_inside),
    inside.PositionHeld: History._position_held,
}
