"""How the account stands, as risk sees it: fills, orders, and what it has approved but has not seen as an order yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from tbh.actors.adjustments import stored_adjustments
from tbh.domain import ids
from tbh.domain.accounting import Account
from tbh.domain.adjustment import in_order
from tbh.domain.blotter import DONE_KEPT_MAX, Blotter
from tbh.domain.book import Book
from tbh.domain.cooldown import Endings
from tbh.domain.money import EXACT, ZERO
from tbh.domain.order import draft, is_terminal
from tbh.domain.risk import Standing
from tbh.messages.account import Adjustment, Position
from tbh.messages.base import replace
from tbh.messages.market import Market
from tbh.messages.orders import Approved, Fill, Order, OrderState, OrderStatus, OrderType, Purpose, Side
from tbh.messages.strategy import Proposal, Refused
from tbh.ports import StoreReader

REMEMBERED_MAX: Final = 1_000
DAYS_KEPT: Final = 3
COUNTED_MAX: Final = 2 * DONE_KEPT_MAX
LAYERS_WITHIN: Final = 64
"""A position's pyramids are looked for among so many of the newest orders."""


class Approvals:
    """Verdicts by proposal, the newest ``REMEMBERED_MAX``, and the approvals that no order is known of yet.

    An approved entry may become an order until it expires, or until there is word of it.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, Approved | Refused] = {}
        self._under_way: dict[str, Approved] = {}

    def remember(self, verdict: Approved | Refused, *, served: bool = False) -> None:
        """Keep a verdict. ``served``: its order is known already, so that nothing of it is under way here.

        A refusal after an approval leaves that under way: its order may have been drafted in between.
        """
        self._verdicts.pop(verdict.proposal_id, None)
        self._verdicts[verdict.proposal_id] = verdict
        if len(self._verdicts) > REMEMBERED_MAX:
            oldest = next(iter(self._verdicts))
            del self._verdicts[oldest]
            self._under_way.pop(oldest, None)
        if isinstance(verdict, Approved) and verdict.purpose.increases_risk and not served:
            self._under_way[verdict.proposal_id] = verdict

    def verdict(self, proposal_id: str) -> Approved | Refused | None:
        return self._verdicts.get(proposal_id)

    def done(self, proposal_id: str) -> None:
        """There is word of it: an order, or that there will be none."""
        self._under_way.pop(proposal_id, None)

    def under_way(self, proposal: Proposal, now: datetime) -> list[Approved]:
        """What else may still become an order when ``proposal`` is judged at market time ``now``."""
        for proposal_id, approved in list(self._under_way.items()):
            if approved.expires_at is not None and now > approved.expires_at:
                del self._under_way[proposal_id]
        return [one for one in self._under_way.values() if one.proposal_id != proposal.proposal_id]


class AccountView:
    """One symbol's account, position and orders, rebuilt from the store and kept by facts. Owned by one actor."""

    def __init__(self, market: Market, *, cash: Decimal, bot_id: str, store: StoreReader) -> None:
        self._market = market
        self._bot_id = bot_id
        self._store = store
        self._account = Account(cash, market.symbol, market.base, market.quote, market=market)
        self._endings = Endings()
        self._book = Book(market.symbol)
        self._blotter = Blotter()
        self._entries: dict[date, set[str]] = {}
        self._counted: dict[str, Decimal] = {}
        self._ahead: dict[str, Order] = {}
        for state in store.orders():
            self.order(state)
        self._unconfirmed = {state.order.client_order_id for state in self._blotter.open}
        for change in in_order(store.fills(), stored_adjustments(store, market.symbol)):
            if isinstance(change, Fill):
                self.fill(change)
            else:
                self.adjust(change)
        for client_order_id in self._ahead:  # what the store has no trades of comes with the account's history, if ever
            read = self._blotter.get(client_order_id)
            self._counted[client_order_id] = ZERO if read is None else read.filled_qty
        self._ahead = {}

    @property
    def has_unknown(self) -> bool:
        """Whether the fate of some order is unknown."""
        return any(state.status is OrderStatus.UNKNOWN for state in self._blotter.open)

    def served_by(self, proposal_id: str) -> Order | None:
        """The newest order that serves the proposal."""
        attempts = self._blotter.attempts(proposal_id)
        return attempts[-1].order if attempts else None

    def fill(self, fill: Fill) -> None:
        """Take a fill, once."""
        client_order_id = fill.client_order_id
        parts = ids.parse(client_order_id, self._bot_id)
        for trade in self._account.apply(fill, Purpose.MANUAL if parts is None else parts.purpose):
            self._endings.note(trade)
        if self._book.apply(fill, order=None, base=self._market.base, quote=self._market.quote):
            self._counted[client_order_id] = EXACT.add(self._counted.get(client_order_id, ZERO), fill.qty)
            if len(self._counted) > COUNTED_MAX:
                del self._counted[next(iter(self._counted))]
        if client_order_id in self._ahead:
            self._look_ahead(client_order_id)

    def adjust(self, adjustment: Adjustment) -> None:
        """Take an operator's correction, once."""
        for trade in self._account.adjust(adjustment):
            self._endings.note(trade)
        self._book.adjust(adjustment)

    def order(self, state: OrderState) -> None:
        """Take an order's state, unless a newer one is known."""
        order = state.order
        known = self._blotter.get(order.client_order_id)
        if known is not None and known.version > state.version:
            return
        self._blotter.put(state)
        if order.purpose.increases_risk:
            self._look_ahead(order.client_order_id)
            entries = self._entries.setdefault(order.bar_open.date(), set())
            if state.filled_qty or not is_terminal(state.status):
                entries.add(order.intent_id)
            else:
                entries.discard(order.intent_id)
            while len(self._entries) > DAYS_KEPT:
                del self._entries[min(self._entries)]

    def _look_ahead(self, client_order_id: str) -> None:
        """The order manager may have counted a trade of which there is no word here yet. Until there is, it is neither
        in the position nor in what the order may still fill."""
        state = self._blotter.get(client_order_id)
        filled = ZERO if state is None else state.filled_qty
        missing = EXACT.subtract(filled, self._counted.get(client_order_id, ZERO)) if filled else ZERO
        if state is not None and missing > 0:
            self._ahead[client_order_id] = replace(state.order, qty=missing)
        else:
            self._ahead.pop(client_order_id, None)

    def confirm(self, client_order_id: str) -> None:
        """The order manager has spoken of this order: what the store says of it is old."""
        self._unconfirmed.discard(client_order_id)

    def refresh(self) -> None:
        """Read again the orders of which only the store has spoken: their end may not have been on disk yet."""
        for client_order_id in list(self._unconfirmed):
            state = self._store.order(client_order_id)
            if state is not None:
                self.order(state)
                if is_terminal(state.status):
                    self._unconfirmed.discard(client_order_id)

    def standing(self, proposal: Proposal, under_way: Sequence[Approved]) -> Standing:
        """What ``tbh.domain.risk.judge`` needs to know, with approvals under way counted as orders."""
        position = self._book.position
        drafts = [_as_draft(approved) for approved in under_way]
        drafts += [draft(order, order.created_at) for order in self._ahead.values()]
        day = proposal.bar_open.date()
        entries = self._entries.get(day, set()) | {one.proposal_id for one in under_way if one.bar_open.date() == day}
        return Standing(
            equity=self._account.equity(proposal.reference_price),
            position=position,
            open_orders=self._blotter.open + drafts,
            trades_today=len(entries - {proposal.proposal_id}),
            exit_approved=position is not None and self._exit_stands(position),
            layers_filled=self._layers_filled(proposal, position) if proposal.purpose is Purpose.PYRAMID else (),
            ended=self._endings.latest(self._account.residue()),
        )

    def _layers_filled(self, proposal: Proposal, position: Position | None) -> set[int]:
        """The layers that the position has got by pyramids of other decisions."""
        if position is None:
            return set()
        return {
            state.order.layer
            for state in [*self._blotter.open, *self._blotter.recent(LAYERS_WITHIN)]
            if state.order.purpose is Purpose.PYRAMID
            and state.filled_qty
            and state.order.intent_id != proposal.proposal_id
            and state.order.created_at >= position.opened_at
        }

    def waits_for_exit(self, proposal: Proposal) -> bool:
        """Whether the proposal would reverse a position whose exit does not stand on the exchange's book yet.

        Sent before its exit, an entry would itself reduce the position, and the exit find nothing left to close.
        """
        position = self._book.position
        if position is None or proposal.purpose is not Purpose.ENTRY or proposal.side is not _closing(position):
            return False
        dust = self._book.is_dust(self._market, proposal.reference_price)
        return not dust and not self._exit_stands(position)

    def waits_for_end(self, proposal: Proposal) -> bool:
        """Whether an entry still stands whose last bar is the proposal's own, or one before: it is being cancelled."""
        if proposal.expires_at is None:
            return False
        return any(
            state.order.good_until is not None
            and state.order.good_until < proposal.expires_at
            and state.order.purpose.increases_risk
            for state in self._blotter.open
        )

    @property
    def resting_entries(self) -> bool:
        """Whether an entry stands, or may stand, that waits for its price. Where the database gave one back, until when
        is not known, but that it rests is."""
        return any(
            state.order.purpose.increases_risk
            and (state.order.good_until is not None or state.order.type is OrderType.LIMIT)
            for state in self._blotter.open
        )

    def _exit_stands(self, position: Position) -> bool:
        return any(
            state.order.purpose is Purpose.EXIT
            and state.order.side is _closing(position)
            and state.status in (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
            for state in self._blotter.open
        )


def _closing(position: Position) -> Side:
    return Side.SELL if position.qty > 0 else Side.BUY


def _as_draft(approved: Approved) -> OrderState:
    order = Order(
        client_order_id=f"approved {approved.proposal_id}",
        intent_id=approved.proposal_id,
        symbol=approved.symbol,
        side=approved.order_side,
        type=OrderType.MARKET,
        qty=approved.qty,
        purpose=approved.purpose,
        strategy=approved.strategy,
        bar_open=approved.bar_open,
        layer=approved.layer,
        created_at=approved.bar_open,
        expires_at=approved.expires_at,
    )
    return draft(order, approved.bar_open)
