"""Risk: every proposal passes here, and none passes twice with two answers.

It keeps an account and the open orders of its own, from the same facts as everybody else, so that a verdict rests on
what has happened and never on who was told first. What it can't know yet it waits for: any proposal until account,
lease and the operator's controls are known, an entry also while something is under repair (``gate.PASSING``), while its
own bar is not valued yet, or until the exit that it reverses stands. An entry that has waited too long is refused.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tbh.actors.account_reader import requester
from tbh.actors.gate import GateKeeper
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.standing import AccountView, Approvals
from tbh.domain.money import ZERO, plain
from tbh.domain.risk import Refusal, RiskLimits, judge, limit_reasons
from tbh.messages.account import (
    AccountDoubted,
    AccountResynced,
    Adjusted,
    Marked,
    PositionSynced,
    ResyncAccount,
    SyncStatus,
)
from tbh.messages.base import Timer, message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Market
from tbh.messages.orders import (
    Approved,
    Declined,
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderChanged,
    OrderExpired,
    OrderFound,
    OrderRejected,
    OutcomeUnknown,
    WithdrawEntries,
)
from tbh.messages.strategy import Proposal, Refused
from tbh.messages.system import DeadLettered
from tbh.ports import StoreReader
from tbh.runtime.actor import Context, receive

REPEAT_S: Final = 1.0
WAIT_MAX_S: Final = 30.0
"""An entry that had to wait so long is refused; an exit goes on waiting."""
WAITING_MAX: Final = 100

_RESYNC = "resync"
_WITHDRAW = "withdraw"
_KEEPERS: Final = frozenset({"order_manager", "journaler", "accountant", "position_syncer", "risk"})
"""Who keeps a view of the account that orders depend on."""
_ACCOUNT_FACTS: Final = frozenset(
    kind.__name__
    for kind in (
        *(Fill, OrderChanged, OrderAccepted, OrderRejected, OutcomeUnknown),
        *(OrderCanceled, OrderExpired, OrderFound),
    )
)


@message
class _WaitedLong(Timer):
    """The proposal has waited as long as an entry may."""

    proposal_id: str


class RiskActor(GateKeeper):
    """Judges one symbol's proposals (``tbh/domain/risk.py``). ``cash`` is the account's at its start, in quote;
    ``flags`` are gate reasons that hold for the whole session. ``ValueError`` for a flag that is no gate reason."""

    sends = (*GateKeeper.sends, Approved, Refused, ResyncAccount, Notice, WithdrawEntries)

    def __init__(
        self,
        ctx: Context,
        *,
        market: Market,
        limits: RiskLimits,
        cash: Decimal,
        bot_id: str,
        store: StoreReader,
        flags: tuple[str, ...] = (),
    ) -> None:
        super().__init__(ctx, flags=flags)
        self._market = market
        self._limits = limits
        self._bot_id = bot_id
        # Read before the fills: one that is stored in between is then repeated, not lost.
        after = int(store.meta(ACCOUNT_SEQ) or 0)
        self._view = AccountView(market, cash=cash, bot_id=bot_id, store=store)
        self._approvals = Approvals()
        self._mark: Marked | None = None
        self._waiting: dict[str, tuple[Proposal, int]] = {}
        self._gate.put("defence_mode", "defence_mode" in self._limit_reasons(None))
        self._gate.put("order_unknown", self._view.has_unknown, source="orders")
        ctx.keep_asking(_RESYNC, ResyncAccount(requester=requester(ctx), after=after), every_s=REPEAT_S)

    # Proposals

    @receive
    def on_proposal(self, proposal: Proposal) -> None:
        proposal_id = proposal.proposal_id
        if proposal_id in self._waiting or self._answer(proposal):
            return
        if len(self._waiting) < WAITING_MAX:  # beyond, whoever asks asks again
            timer = self.ctx.after(WAIT_MAX_S, _WaitedLong(proposal_id=proposal_id))
            self._waiting[proposal_id] = (proposal, timer)

    def _answer(self, proposal: Proposal) -> bool:
        """Answer unless it has to wait. A repeated proposal gets its former answer, except that an approval which has
        led to no order yet does not hold once the gate has closed."""
        if self._unheard:
            return False
        order = self._view.served_by(proposal.proposal_id)
        if order is not None:
            self._approve(proposal, order.qty, order.price, served=True)
            return True
        former = self._approvals.verdict(proposal.proposal_id)
        closed = proposal.purpose.increases_risk and bool(self._gate.lasting)
        if former is not None and (isinstance(former, Refused) or not closed):
            self.ctx.send(former)
            return True
        if self._obstacle(proposal) is not None:
            return False
        self._judge(proposal)
        return True

    def _obstacle(self, proposal: Proposal) -> Refusal | None:
        """What keeps the proposal waiting, worded as the refusal that it becomes when it has waited in vain."""
        if self._unheard:
            return Refusal(rule="warmup", detail=f"not known: {', '.join(sorted(self._unheard))}")
        if not proposal.purpose.increases_risk or self._gate.lasting:
            return None
        if self._gate.reasons:
            return Refusal(rule=self._gate.reasons[0], detail=f"entries wait: {', '.join(self._gate.reasons)}")
        if self._limits.rest_on_value and (self._mark is None or self._mark.bar_index < proposal.bar_index):
            return Refusal(rule="stale_data", detail=f"the account is not valued at bar {proposal.bar_index}")
        if self._view.waits_for_exit(proposal):
            return Refusal(rule="position_open", detail="the exit of the opposite position does not stand")
        if self._view.waits_for_end(proposal):
            return Refusal(rule="entry_open", detail="the entry whose bars are over has not ended")
        return None

    def _judge(self, proposal: Proposal) -> None:
        self._view.refresh()
        standing = self._view.standing(proposal, self._approvals.under_way(proposal, self.ctx.now()))
        verdict = judge(proposal, gate=self._gate.reasons, limits=self._limits, standing=standing, market=self._market)
        if isinstance(verdict, Refusal):
            self._refuse(proposal, verdict)
        else:
            self._approve(proposal, verdict.qty, verdict.price)

    def _approve(self, proposal: Proposal, qty: Decimal, price: Decimal | None, *, served: bool = False) -> None:
        approved = Approved(
            proposal_id=proposal.proposal_id,
            order_side=proposal.side,
            purpose=proposal.purpose,
            symbol=proposal.symbol,
            strategy=proposal.strategy,
            bar_open=proposal.bar_open,
            layer=proposal.layer,
            qty=qty,
            price=price,
            good_until=None if proposal.limit is None else proposal.limit.until,
            protection=proposal.protection,
            expires_at=proposal.expires_at,
        )
        self._approvals.remember(approved, served=served)
        self.ctx.send(approved)

    def _refuse(self, proposal: Proposal, refusal: Refusal) -> None:
        refused = Refused(
            proposal_id=proposal.proposal_id,
            strategy=proposal.strategy,
            symbol=proposal.symbol,
            bar_open=proposal.bar_open,
            purpose=proposal.purpose,
            rule=refusal.rule,
            detail=refusal.detail,
        )
        self._approvals.remember(refused)
        self.ctx.log.info("proposal_refused", proposal_id=proposal.proposal_id, rule=refusal.rule)
        self.ctx.send(refused)

    # What waits

    def _reconsider(self) -> None:
        self._withdraw()
        for proposal, timer in list(self._waiting.values()):
            late = proposal.expires_at is not None and self.ctx.now() > proposal.expires_at
            if late:
                self._refuse_waiting(proposal)
            elif self._answer(proposal):
                del self._waiting[proposal.proposal_id]
                self.ctx.cancel(timer)

    def _withdraw(self) -> None:
        """Entries that rest on the book go when the gate closes for good: they would fill against it."""
        closed = bool(self._gate.lasting) and self._view.resting_entries
        if closed and not self.ctx.asking(_WITHDRAW):
            self.ctx.keep_asking(_WITHDRAW, WithdrawEntries(reason=self._gate.lasting[0]), every_s=REPEAT_S)
        elif not closed and self.ctx.asking(_WITHDRAW):
            self.ctx.answered(_WITHDRAW)

    @receive
    def on_waited_long(self, timer: _WaitedLong) -> None:
        proposal, _ = self._waiting[timer.proposal_id]
        if proposal.purpose.increases_risk:
            self._refuse_waiting(proposal)

    def _refuse_waiting(self, proposal: Proposal) -> None:
        _, timer = self._waiting.pop(proposal.proposal_id)
        self.ctx.cancel(timer)
        obstacle = self._obstacle(proposal) or Refusal(rule="expired", detail="its bar is over")
        self._refuse(proposal, Refusal(rule=obstacle.rule, detail=f"waited in vain: {obstacle.detail}"))

    @receive
    def on_declined(self, declined: Declined) -> None:
        self._approvals.done(declined.proposal_id)

    # The account

    @receive
    def on_fill(self, fill: Fill) -> None:
        self._view.fill(fill)
        self._reconsider()

    @receive
    def on_adjusted(self, fact: Adjusted) -> None:
        if fact.adjustment.symbol == self._market.symbol:
            self._view.adjust(fact.adjustment)
            self._reconsider()

    @receive
    def on_doubted(self, doubted: AccountDoubted) -> None:
        self._close_for("observe_only", bool(doubted.causes), source="recovery")

    @receive
    def on_order_changed(self, changed: OrderChanged) -> None:
        order = changed.state.order
        self._view.confirm(order.client_order_id)
        self._view.order(changed.state)
        self._approvals.done(order.intent_id)
        self._close_for("order_unknown", self._view.has_unknown, source="orders")

    @receive
    def on_resynced(self, resynced: AccountResynced) -> None:
        if resynced.requester == requester(self.ctx) and self.ctx.answered(_RESYNC):
            self._heard("account")

    @receive
    def on_position_synced(self, synced: PositionSynced) -> None:
        if synced.status is SyncStatus.UNKNOWN:
            return
        if synced.status is SyncStatus.OK:
            self._gate.put("order_unknown", False, source="dead letter")
        self._close_for("position_mismatch", synced.status is not SyncStatus.OK)

    @receive
    def on_dead_letter(self, letter: DeadLettered) -> None:
        """Somebody has lost a fact of the account: no entries until book and exchange have been found to agree. Its
        restart makes the order manager tell the position anew, and that is compared at once."""
        if letter.actor in _KEEPERS and letter.message_type in _ACCOUNT_FACTS:
            self._call_people(
                f"dead_letter:{letter.actor}:{letter.seq}",
                Severity.WARNING,
                f"{letter.actor} failed at a {letter.message_type} ({letter.reason}): entries wait for a comparison",
            )
            self._close_for("order_unknown", True, source="dead letter")

    @receive
    def on_marked(self, marked: Marked) -> None:
        self._mark = marked
        reached = self._limit_reasons(marked)
        for reason in ("daily_loss", "drawdown"):
            if reason in reached and reason not in self._gate.reasons:
                text = f"{marked.symbol}: the {reason} limit is reached at an equity of {plain(marked.equity)}"
                self._call_people(f"{reason}:{marked.at:%Y-%m-%d}", Severity.CRITICAL, text)
            self._gate.put(reason, reason in reached)
        self._gate_moved()

    def _limit_reasons(self, marked: Marked | None) -> tuple[str, ...]:
        return limit_reasons(
            self._limits,
            day_pnl=ZERO if marked is None else marked.day_pnl,
            day_start_equity=ZERO if marked is None else marked.equity - marked.day_pnl,
            drawdown=ZERO if marked is None else marked.drawdown,
        )

    def _call_people(self, key: str, severity: Severity, text: str) -> None:
        self.ctx.send(Notice(key=f"{self._bot_id}:{key}", severity=severity, kind="risk", text=text))
