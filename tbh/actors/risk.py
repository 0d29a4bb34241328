"""Risk: every proposal passes here, and none passes twice with two answers.

It keeps an account and the open orders of its own, from the same facts as everybody else, so that a verdict rests on
what has happened and never on who was told first. What it can't know yet it waits for: proposals wait until the account,
the lease and the operator's controls are known, an entry also while something is under repair (``gate.PASSING``) or its
own bar is not valued yet. Waiting ends by itself after a while, with a refusal.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tbh.actors.gate import Gate
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.standing import AccountView, Approvals
from tbh.domain.risk import Refusal, RiskLimits, judge, limit_reasons
from tbh.messages.account import AccountResynced, Marked, PositionSynced, ResyncAccount, SyncStatus
from tbh.messages.base import Timer, message
from tbh.messages.controls import (
    ControlsChanged,
    DatabaseAway,
    DatabaseBack,
    LeaseLapsed,
    LeaseLost,
    LeaseRenewed,
    TokenRefused,
)
from tbh.messages.health import GateChanged, Notice, Severity
from tbh.messages.journal import StoreFailed, StoreRecovered
from tbh.messages.market import FeedRecovered, FeedStale, Market
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
)
from tbh.messages.strategy import Proposal, Refused, StrategyProtectOnly
from tbh.messages.system import DeadLettered, Restarted
from tbh.ports import StoreReader
from tbh.runtime.actor import Actor, Context, receive

REPEAT_S: Final = 1.0
WAIT_MAX_S: Final = 30.0
"""An entry that had to wait so long is refused; an exit goes on waiting."""
WAITING_MAX: Final = 100

_RESYNC = "resync"
_KEEPERS: Final = frozenset({"order_manager", "journaler", "accountant", "position_syncer", "risk"})
"""Who keeps a view of the account that orders depend on."""
_ACCOUNT_FACTS: Final = frozenset(
    kind.__name__
    for kind in (
        Fill,
        OrderAccepted,
        OrderRejected,
        OutcomeUnknown,
        OrderCanceled,
        OrderExpired,
        OrderFound,
        OrderChanged,
    )
)


@message
class _WaitedLong(Timer):
    """See whether the proposal still waits."""

    proposal_id: str


class RiskActor(Actor):
    """Judges one symbol's proposals (``tbh/domain/risk.py``). ``cash`` is the account's at its start, in quote;
    ``flags`` are gate reasons that hold for the whole session. ``ValueError`` for a flag that is no gate reason."""

    sends = (Approved, Refused, GateChanged, ResyncAccount, Notice)

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
        super().__init__(ctx)
        self._market = market
        self._limits = limits
        self._bot_id = bot_id
        self._view = AccountView(market, cash=cash, store=store)
        self._approvals = Approvals()
        self._gate = Gate(flags)
        self._gate.put("defence_mode", "defence_mode" in self._limit_reasons(None))
        self._gate.put("order_unknown", self._view.has_unknown, source="orders")
        self._told: GateChanged | None = None
        self._unheard = {"account", "controls", "lease"}
        self._mark: Marked | None = None
        self._waiting: dict[str, Proposal] = {}
        after = int(store.meta(ACCOUNT_SEQ) or 0)
        ctx.keep_asking(_RESYNC, ResyncAccount(requester=ctx.name, after=after), every_s=REPEAT_S)

    # Proposals

    @receive
    def on_proposal(self, proposal: Proposal) -> None:
        if self._answer(proposal) or proposal.proposal_id in self._waiting:
            return
        if len(self._waiting) < WAITING_MAX:  # beyond, whoever asks asks again
            self._waiting[proposal.proposal_id] = proposal
            self.ctx.after(WAIT_MAX_S, _WaitedLong(proposal_id=proposal.proposal_id))

    def _answer(self, proposal: Proposal) -> bool:
        """Answer if that is possible now. A repeated proposal gets its former answer, except that an approval which has
        led to no order yet does not hold once the gate has closed."""
        if self._unheard:
            return False
        order = self._view.served_by(proposal.proposal_id)
        if order is not None:
            self._approve(proposal, order.qty, served=True)
            return True
        former = self._approvals.verdict(proposal.proposal_id)
        entry = proposal.purpose.increases_risk
        if former is not None and (isinstance(former, Refused) or not (entry and self._gate.lasting)):
            self.ctx.send(former)
            return True
        if entry and not self._gate.lasting and (self._gate.reasons or self._unvalued(proposal)):
            return False
        self._judge(proposal)
        return True

    def _unvalued(self, proposal: Proposal) -> bool:
        """Whether a limit on the account's results waits for the mark of the proposal's own bar."""
        limited = self._limits.daily_loss_limit is not None or self._limits.max_drawdown is not None
        return limited and (self._mark is None or self._mark.bar_index < proposal.bar_index)

    def _judge(self, proposal: Proposal) -> None:
        self._view.refresh()
        standing = self._view.standing(proposal, self._approvals.under_way(proposal, self.ctx.now()))
        verdict = judge(proposal, gate=self._gate.reasons, limits=self._limits, standing=standing, market=self._market)
        if isinstance(verdict, Refusal):
            self._refuse(proposal, verdict)
        else:
            self._approve(proposal, verdict.qty)

    def _approve(self, proposal: Proposal, qty: Decimal, *, served: bool = False) -> None:
        approved = Approved(
            proposal_id=proposal.proposal_id,
            order_side=proposal.side,
            purpose=proposal.purpose,
            symbol=proposal.symbol,
            strategy=proposal.strategy,
            bar_open=proposal.bar_open,
            layer=proposal.layer,
            qty=qty,
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

    def _reconsider(self) -> None:
        """Something that proposals may have waited for has changed."""
        for proposal in list(self._waiting.values()):
            late = proposal.expires_at is not None and self.ctx.now() > proposal.expires_at
            if late:
                self._refuse_waiting(proposal)
            elif self._answer(proposal):
                del self._waiting[proposal.proposal_id]

    @receive
    def on_waited_long(self, timer: _WaitedLong) -> None:
        proposal = self._waiting.get(timer.proposal_id)
        if proposal is not None and proposal.purpose.increases_risk:
            self._refuse_waiting(proposal)

    def _refuse_waiting(self, proposal: Proposal) -> None:
        del self._waiting[proposal.proposal_id]
        waited_for = ", ".join([*sorted(self._unheard), *self._gate.reasons]) or "the mark of its bar"
        rule = next(iter(self._gate.reasons), "warmup")
        self._refuse(proposal, Refusal(rule=rule, detail=f"waited in vain for: {waited_for}"))

    @receive
    def on_declined(self, declined: Declined) -> None:
        self._approvals.done(declined.proposal_id)
        self._reconsider()

    # The account

    @receive
    def on_fill(self, fill: Fill) -> None:
        self._view.fill(fill)

    @receive
    def on_order_changed(self, changed: OrderChanged) -> None:
        self._view.confirm(changed.state.order.client_order_id)
        self._view.order(changed.state)
        self._approvals.done(changed.state.order.intent_id)
        self._close_for("order_unknown", self._view.has_unknown, source="orders")

    @receive
    def on_resynced(self, resynced: AccountResynced) -> None:
        if resynced.requester == self.ctx.name and self.ctx.answered(_RESYNC):
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
                text = f"{marked.symbol}: {reason} limit reached, day {marked.day_pnl}, drawdown {marked.drawdown:.4f}"
                self._call_people(f"{reason}:{marked.at:%Y-%m-%d}", Severity.CRITICAL, text)
            self._gate.put(reason, reason in reached)
        self._gate_moved()

    def _limit_reasons(self, marked: Marked | None) -> tuple[str, ...]:
        zero = Decimal(0)
        return limit_reasons(
            self._limits,
            day_pnl=zero if marked is None else marked.day_pnl,
            day_start_equity=zero if marked is None else marked.equity - marked.day_pnl,
            drawdown=zero if marked is None else marked.drawdown,
        )

    # The gate

    @receive
    def on_controls(self, controls: ControlsChanged) -> None:
        self._gate.put("paused", controls.paused)
        self._gate.put("killed", controls.killed)
        self._gate.put("observe_only", controls.observe_only, source="controls")
        self._gate.put("subscription_inactive", not controls.subscription_active)
        self._heard("controls")

    @receive
    def on_lease_renewed(self, _: LeaseRenewed) -> None:
        self._gate.put("lease_lapsed", False)
        self._heard("lease")

    @receive
    def on_lease_lapsed(self, _: LeaseLapsed) -> None:
        self._gate.put("lease_lapsed", True)
        self._heard("lease")

    @receive
    def on_lease_lost(self, _: LeaseLost) -> None:
        self._gate.put("lease_lost", True)
        self._heard("lease")

    @receive
    def on_token_refused(self, _: TokenRefused) -> None:
        self._close_for("token_refused", True)

    @receive
    def on_database_away(self, _: DatabaseAway) -> None:
        self._close_for("database_away", True)

    @receive
    def on_database_back(self, _: DatabaseBack) -> None:
        self._close_for("database_away", False)

    @receive
    def on_feed_stale(self, _: FeedStale) -> None:
        self._close_for("stale_data", True)

    @receive
    def on_feed_recovered(self, _: FeedRecovered) -> None:
        self._close_for("stale_data", False)

    @receive
    def on_store_failed(self, _: StoreFailed) -> None:
        self._close_for("disk_full", True)

    @receive
    def on_store_recovered(self, _: StoreRecovered) -> None:
        self._close_for("disk_full", False)

    @receive
    def on_protect_only(self, _: StrategyProtectOnly) -> None:
        self._close_for("observe_only", True, source="strategy")

    def on_halt(self, reason: str) -> None:
        self.ctx.log.warning("entries_halted", reason=reason)
        self._close_for("kill_switch", True, source="halt")

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if restarted.actor != self.ctx.name and self._told is not None:
            self.ctx.send(self._told)

    def _heard(self, what: str) -> None:
        self._unheard.discard(what)
        self._gate_moved()

    def _close_for(self, reason: str, holds: bool, *, source: str = "") -> None:
        self._gate.put(reason, holds, source=source)
        self._gate_moved()

    def _gate_moved(self) -> None:
        """Tell the gate if it has changed, and look at what waits. Before all is known nobody is told anything."""
        if self._unheard:
            return
        reasons = self._gate.reasons
        gate = GateChanged(reasons=reasons, exits_allowed="lease_lost" not in reasons)
        if gate != self._told:
            self._told = gate
            self.ctx.send(gate)
        self._reconsider()

    def _call_people(self, key: str, severity: Severity, text: str) -> None:
        self.ctx.send(Notice(key=f"{self._bot_id}:{key}", severity=severity, kind="risk", text=text))
