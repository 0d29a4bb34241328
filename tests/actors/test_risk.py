"""Risk: what passes, what waits, and that nobody's order of telling decides over it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.risk import WAIT_MAX_S, WAITING_MAX, RiskActor
from tbh.actors.standing import REMEMBERED_MAX
from tbh.domain import ids
from tbh.domain.money import plain
from tbh.domain.risk import RiskLimits
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import AccountResynced, Marked, PositionSynced, ResyncAccount, SyncStatus
from tbh.messages.base import Message
from tbh.messages.controls import (
    ControlsChanged,
    DatabaseAway,
    DatabaseBack,
    LeaseLapsed,
    LeaseLost,
    LeaseRenewed,
    TokenRefused,
)
from tbh.messages.health import GateChanged, Notice
from tbh.messages.journal import StoreFailed, StoreRecovered
from tbh.messages.market import FeedRecovered, FeedStale, Market
from tbh.messages.orders import (
    Approved,
    Declined,
    Fill,
    Order,
    OrderChanged,
    OrderState,
    OrderStatus,
    OrderType,
    Protection,
    Purpose,
    Side,
    WithdrawEntries,
)
from tbh.messages.strategy import (
    Cooldown,
    CooldownAfter,
    Limit,
    Proposal,
    Refused,
    Sizing,
    SizingKind,
    StrategyProtectOnly,
)
from tbh.messages.system import DeadLettered, Restarted
from tbh.ports import Batch
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to

D = Decimal
MINUTE = timedelta(minutes=1)
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL, base="BTC", quote="USDT", price_step=D("0.01"), amount_step=D("0.001"), amount_min=D("0.01"),
    taker_fee=D("0.001"), maker_fee=D("0.001"),
)  # fmt: skip
CONTROLS = ControlsChanged(version=1, paused=False, killed=False, observe_only=False, subscription_active=True)
RENEWED = LeaseRenewed(epoch=1, deadline_s=1e9, renewals=1)
RESYNCED = AccountResynced(requester="risk", seq=0)
READY = (RESYNCED, CONTROLS, RENEWED)
OPEN = GateChanged(reasons=(), exits_allowed=True)


def proposal(
    purpose: Purpose = Purpose.ENTRY,
    side: Side = Side.BUY,
    *,
    at: int = 0,
    kind: SizingKind = SizingKind.FIXED_QUANTITY,
    size: str = "1",
    price: str = "100",
) -> Proposal:
    """What a strategy wishes at the close of the bar that opened at minute ``at``."""
    entry = purpose.increases_risk
    bar_open = EPOCH + at * MINUTE
    return Proposal(
        proposal_id=f"{purpose}|{at}", strategy="s", symbol=SYMBOL, bar_open=bar_open, bar_index=at, side=side,
        purpose=purpose, reference_price=D(price), sizing=Sizing(kind=kind, value=D(size)) if entry else None,
        protection=Protection(stop_loss=D("0.1")) if entry else None,
        expires_at=bar_open + 2 * MINUTE if entry else None,
    )  # fmt: skip


ENTRY = proposal()
EXIT = proposal(Purpose.EXIT, Side.SELL, at=5)
REVERSAL = proposal(Purpose.ENTRY, Side.SELL, at=5)


def order_of(wish: Proposal, status: OrderStatus, *, version: int = 1, qty: str = "1", filled: str = "0") -> OrderState:
    order = Order(
        client_order_id=f"c:{wish.proposal_id}", intent_id=wish.proposal_id, symbol=SYMBOL, side=wish.side,
        type=OrderType.MARKET, qty=D(qty), purpose=wish.purpose, strategy="s", bar_open=wish.bar_open,
        reduce_only=not wish.purpose.increases_risk, created_at=EPOCH,
    )  # fmt: skip
    return OrderState(order=order, status=status, version=version, filled_qty=D(filled), seen_at=EPOCH)


def changed(wish: Proposal, status: OrderStatus, *, version: int = 1, filled: str = "0") -> OrderChanged:
    return OrderChanged(state=order_of(wish, status, version=version, filled=filled), event="x")


def fill(seq: int, side: Side = Side.BUY, *, qty: str = "1", price: str = "100") -> Fill:
    return Fill(
        trade_id=f"t{seq}", client_order_id=f"c{seq}", exchange_order_id="x", symbol=SYMBOL, side=side, qty=D(qty),
        price=D(price), fee=D(0), fee_asset="USDT", maker=False, at=EPOCH, seq=seq,
    )  # fmt: skip


def marked(index: int, *, equity: str = "1000", day_pnl: str = "0", drawdown: str = "0") -> Marked:
    return Marked(
        symbol=SYMBOL, bar_index=index, at=EPOCH + (index + 1) * MINUTE, mark=D(100), cash=D(1000), equity=D(equity),
        realised_pnl=D(0), unrealised_pnl=D(0), fees=D(0), drawdown=D(drawdown), day_pnl=D(day_pnl),
    )  # fmt: skip


def synced(status: SyncStatus) -> PositionSynced:
    return PositionSynced(symbol=SYMBOL, status=status, book_qty=D(0), exchange_qty=D(0), at=EPOCH, reconcile_ms=1.0)


def dead_letter(actor: str = "order_manager", kind: str = "Fill") -> DeadLettered:
    return DeadLettered(actor=actor, seq=9, message_type=kind, payload="", reason="x")


class Case:
    def __init__(
        self, *facts: Message, limits: RiskLimits | None = None, store: MemoryStore | None = None, ready: bool = True,
        flags: tuple[str, ...] = (), market: Market = MARKET,
    ) -> None:  # fmt: skip
        self.store = store or MemoryStore()
        self.probe = Probe(
            RiskActor,
            lambda ctx: RiskActor(
                ctx, market=market, limits=limits or RiskLimits(), cash=D(1000), bot_id="bot", store=self.store,
                flags=flags,
            ),
            name="risk",
            start=EPOCH + MINUTE,
        )  # fmt: skip
        if ready:
            self.probe.tell(*READY)
        self.probe.tell(*facts)
        self.probe.take()

    def ask(self, *wishes: Proposal) -> list[str]:
        """Tell proposals at the close of their bar: the words of the answers."""
        for wish in wishes:
            self.probe.set_now(max(self.probe.now(), wish.bar_open + MINUTE))
            self.probe.tell(wish)
        return self.answers()

    def answers(self) -> list[str]:
        """ "approved QTY" or the refusal's rule, of everything answered since the last call."""
        words = [
            f"approved {plain(one.qty)}" if isinstance(one, Approved) else one.rule
            for one in self.probe.sent
            if isinstance(one, Approved | Refused)
        ]
        self.probe.sent = [one for one in self.probe.sent if not isinstance(one, Approved | Refused)]
        return words

    def gate(self) -> tuple[str, ...]:
        told: list[GateChanged] = self.probe.take(GateChanged)
        return told[-1].reasons


# Verdicts


def test_an_approval_carries_all_that_an_order_needs() -> None:
    case = Case()
    case.probe.tell(ENTRY)
    (approved,) = case.probe.take(Approved)
    assert approved == Approved(
        proposal_id=ENTRY.proposal_id, order_side=Side.BUY, purpose=Purpose.ENTRY, symbol=SYMBOL, strategy="s",
        bar_open=EPOCH, layer=0, qty=D(1), protection=Protection(stop_loss=D("0.1")), expires_at=ENTRY.expires_at,
    )  # fmt: skip


def test_a_refusal_names_its_rule_and_what_it_is_about() -> None:
    case = Case(replace(CONTROLS, paused=True))
    case.probe.tell(ENTRY)
    (refused,) = case.probe.take(Refused)
    assert (refused.proposal_id, refused.bar_open, refused.purpose, refused.rule) == (
        ENTRY.proposal_id, EPOCH, Purpose.ENTRY, "paused",
    )  # fmt: skip
    assert "paused" in refused.detail


def test_equity_for_sizing_is_its_own_account_at_the_signals_close() -> None:
    case = Case(fill(1), fill(2, Side.SELL, price="300"))
    half = proposal(kind=SizingKind.EQUITY_FRACTION, size="0.5", price="200")
    assert case.ask(half) == ["approved 3"]


def test_an_exit_closes_the_position_that_the_fills_made() -> None:
    case = Case(fill(1, qty="0.75"), fill(1, qty="0.75"))
    assert case.ask(EXIT) == ["approved 0.75"]


def test_an_exit_without_a_position_is_refused() -> None:
    assert Case().ask(EXIT) == ["nothing_to_exit"]


def test_an_entry_that_was_approved_counts_before_its_order_is_known() -> None:
    case = Case()
    assert case.ask(ENTRY, proposal(at=1)) == ["approved 1", "entry_open"]


def test_an_approved_entry_counts_no_more_once_it_can_no_longer_be_sent() -> None:
    case = Case()
    assert case.ask(ENTRY, proposal(at=2)) == ["approved 1", "approved 1"]


def test_an_approval_that_was_declined_counts_no_more() -> None:
    case = Case()
    case.ask(ENTRY)
    case.probe.tell(Declined(proposal_id=ENTRY.proposal_id, reason="x"))
    assert case.ask(proposal(at=1)) == ["approved 1"]


def test_an_open_entry_order_stands_in_the_way_of_another_until_it_is_done() -> None:
    case = Case()
    case.ask(ENTRY)
    case.probe.tell(changed(ENTRY, OrderStatus.ACCEPTED))
    assert case.ask(proposal(at=5)) == ["entry_open"]
    case.probe.tell(changed(ENTRY, OrderStatus.CANCELED, version=2))
    assert case.ask(proposal(at=6)) == ["approved 1"]


def test_what_the_order_manager_has_counted_and_is_not_known_here_yet_stands_in_the_way() -> None:
    """It may hear of a trade first, and say that the order has filled before the trade itself comes here."""
    case = Case()
    case.ask(ENTRY)
    case.probe.tell(changed(ENTRY, OrderStatus.FILLED, version=2, filled="1"))
    assert case.ask(proposal(at=5)) == ["entry_open"]
    case.probe.tell(replace(fill(1), client_order_id=f"c:{ENTRY.proposal_id}"), fill(2, Side.SELL))
    assert case.ask(proposal(at=6)) == ["approved 1"]


def test_an_older_state_of_an_order_changes_nothing() -> None:
    case = Case(changed(ENTRY, OrderStatus.CANCELED, version=4), changed(ENTRY, OrderStatus.ACCEPTED, version=2))
    assert case.ask(proposal(at=5)) == ["approved 1"]


def test_trades_of_a_day_are_counted_by_the_entries_that_came_to_something() -> None:
    case = Case(limits=RiskLimits(max_trades=2))
    for at, status, filled in ((1, OrderStatus.FILLED, "1"), (2, OrderStatus.REJECTED, "0")):
        case.probe.tell(changed(proposal(at=at), status, filled=filled))
    case.probe.tell(replace(fill(1), client_order_id="c:entry|1"), fill(2, Side.SELL))
    assert case.ask(proposal(at=3)) == ["approved 1"]
    case.probe.tell(changed(proposal(at=3), OrderStatus.FILLED, filled="1"))
    case.probe.tell(replace(fill(3), client_order_id="c:entry|3"), fill(4, Side.SELL))
    assert case.ask(proposal(at=4)) == ["max_trades"]
    assert case.ask(proposal(at=24 * 60)) == ["approved 1"]


# Asked twice


def test_a_proposal_that_is_repeated_gets_the_same_answer() -> None:
    case = Case()
    assert case.ask(ENTRY, ENTRY) == ["approved 1", "approved 1"]
    case.probe.tell(replace(CONTROLS, paused=True))
    assert case.ask(proposal(at=5), proposal(at=5)) == ["paused", "paused"]
    case.probe.tell(CONTROLS)
    assert case.ask(proposal(at=5)) == ["paused"]


def test_an_approval_that_led_to_no_order_does_not_hold_once_the_gate_has_closed() -> None:
    case = Case()
    case.ask(ENTRY)
    case.probe.tell(replace(CONTROLS, killed=True))
    assert case.ask(ENTRY) == ["killed"]


def test_a_repeat_is_approved_when_its_order_is_known_whatever_the_gate_says() -> None:
    case = Case()
    case.ask(ENTRY)
    case.probe.tell(changed(ENTRY, OrderStatus.SUBMITTED), replace(CONTROLS, killed=True))
    assert case.ask(ENTRY) == ["approved 1"]


def test_a_repeat_after_a_restart_is_answered_by_the_stored_order() -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[order_of(ENTRY, OrderStatus.FILLED, filled="1")], fills=[fill(1)]))
    assert Case(store=store).ask(ENTRY) == ["approved 1"]


def ours(one: Fill, purpose: Purpose, *, at: int) -> Fill:
    """The fill as of an order of this bot, in the bar that opened at minute ``at``."""
    order_id = (
        ids.protection_order_id("bot", ids.client_order_id(
            "bot", bar_open=EPOCH, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0
        ), purpose, 0)
        if purpose.is_protection
        else ids.client_order_id("bot", bar_open=EPOCH, strategy="s", purpose=purpose, layer=0, attempt=0)
    )  # fmt: skip
    return replace(one, client_order_id=order_id, at=EPOCH + at * MINUTE)


def cooled(at: int, after: CooldownAfter, *, bars: int = 3) -> Proposal:
    since = EPOCH + (at - bars + 1) * MINUTE
    return replace(proposal(at=at), cooldown=Cooldown(after=after, bars=bars, since=since))


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("after", "purpose", "price", "held_back"),
    [
        (CooldownAfter.ANY, Purpose.EXIT, "110", True),
        (CooldownAfter.LOSS, Purpose.EXIT, "110", False),
        (CooldownAfter.LOSS, Purpose.EXIT, "90", True),
        (CooldownAfter.STOP, Purpose.EXIT, "90", False),
        (CooldownAfter.STOP, Purpose.STOP, "110", True),
    ],
)
def test_a_cool_down_counts_from_the_fill_that_ended_the_position_before_a_restart_and_after(
    after: CooldownAfter, purpose: Purpose, price: str, held_back: bool, restarted: bool
) -> None:
    fills = [ours(fill(1), Purpose.ENTRY, at=1), ours(fill(2, Side.SELL, price=price), purpose, at=5)]
    store = MemoryStore()
    if restarted:
        store.commit(Batch(fills=fills))
    cases = [(Case(store=store) if restarted else Case(*fills), at) for at in (5, 7, 8)]
    answers = [word for case, at in cases for word in case.ask(cooled(at, after))]
    assert answers == ["cooldown" if held_back else "approved 1"] * 2 + ["approved 1"]


RESTING = replace(ENTRY, limit=Limit(offset=D("0.01"), until=EPOCH + 3 * MINUTE))


def rests(wish: Proposal, status: OrderStatus, *, version: int = 1) -> OrderChanged:
    state = order_of(wish, status, version=version)
    order = replace(state.order, type=OrderType.LIMIT, price=D(99), good_until=EPOCH + 3 * MINUTE)
    return OrderChanged(state=replace(state, order=order), event="x")


def test_an_entry_that_rests_is_approved_with_its_price_and_its_end() -> None:
    case = Case()
    case.probe.tell(RESTING)
    (approved,) = case.probe.take(Approved)
    assert (approved.qty, approved.price, approved.good_until) == (D(1), D(99), EPOCH + 3 * MINUTE)


def test_a_repeat_of_one_that_rests_is_approved_at_the_price_of_its_order() -> None:
    case = Case(rests(RESTING, OrderStatus.ACCEPTED))
    case.probe.tell(RESTING)
    (approved,) = case.probe.take(Approved)
    assert approved.price == D(99)


def test_while_an_entry_rests_another_is_refused() -> None:
    assert Case(rests(RESTING, OrderStatus.ACCEPTED)).ask(proposal(at=1)) == ["entry_open"]


def test_an_entry_waits_for_the_end_of_the_one_whose_bars_are_over() -> None:
    case = Case(rests(RESTING, OrderStatus.ACCEPTED))
    assert case.ask(proposal(at=2)) == []
    case.probe.tell(rests(RESTING, OrderStatus.CANCELED, version=2))
    assert case.answers() == ["approved 1"]


def test_the_end_of_an_entry_is_not_waited_for_longer_than_anything_else() -> None:
    case = Case(rests(RESTING, OrderStatus.ACCEPTED))
    assert case.ask(proposal(at=2)) == []
    case.probe.advance(WAIT_MAX_S + 1, market=False)
    assert case.answers() == ["entry_open"]


def test_entries_that_rest_are_withdrawn_while_the_gate_is_closed_for_good() -> None:
    case = Case(rests(RESTING, OrderStatus.ACCEPTED))
    case.probe.tell(replace(CONTROLS, paused=True))
    assert case.probe.take(WithdrawEntries) == [WithdrawEntries(reason="paused")]
    case.probe.advance(2.5, market=False)
    assert len(case.probe.take(WithdrawEntries)) == 2
    case.probe.tell(rests(RESTING, OrderStatus.CANCELED, version=2))
    case.probe.advance(2.5, market=False)
    assert case.probe.take(WithdrawEntries) == []


def test_one_that_the_database_gave_back_without_its_end_is_withdrawn_as_well() -> None:
    store = MemoryStore()
    state = rests(RESTING, OrderStatus.ACCEPTED).state
    store.commit(Batch(orders=[replace(state, order=replace(state.order, expires_at=None, good_until=None))]))
    case = Case(store=store)
    case.probe.tell(replace(CONTROLS, paused=True))
    assert case.probe.take(WithdrawEntries) == [WithdrawEntries(reason="paused")]


def test_what_passes_withdraws_nothing() -> None:
    case = Case(rests(RESTING, OrderStatus.ACCEPTED))
    case.probe.tell(changed(proposal(at=1), OrderStatus.UNKNOWN))
    assert case.probe.take(WithdrawEntries) == []


def test_so_many_verdicts_are_remembered_and_no_more() -> None:
    case = Case(replace(CONTROLS, paused=True))
    many = [replace(ENTRY, proposal_id=f"p{number}") for number in range(REMEMBERED_MAX + 1)]
    case.ask(*many)
    case.probe.tell(CONTROLS)
    assert case.ask(many[0], many[-1]) == ["approved 1", "paused"]


# Waiting until everything is known


@pytest.mark.parametrize("missing", READY, ids=lambda fact: type(fact).__name__)
def test_a_proposal_waits_until_account_lease_and_controls_are_known(missing: Message) -> None:
    case = Case(*(fact for fact in READY if fact is not missing), ready=False)
    assert case.ask(ENTRY, ENTRY) == []
    case.probe.tell(missing)
    assert case.answers() == ["approved 1"]


@pytest.mark.parametrize("word", [LeaseLapsed(epoch=0), LeaseLost(reason="x")])
def test_any_word_on_the_lease_ends_the_waiting(word: Message) -> None:
    case = Case(RESYNCED, CONTROLS, ready=False)
    case.ask(ENTRY)
    case.probe.tell(word)
    assert case.answers() == ["lease_lapsed" if isinstance(word, LeaseLapsed) else "lease_lost"]


def test_somebody_elses_resync_is_not_its_own() -> None:
    case = Case(CONTROLS, RENEWED, AccountResynced(requester="accountant", seq=0), ready=False)
    assert case.ask(ENTRY) == []


def test_it_asks_for_the_events_that_the_store_may_not_have_until_it_has_them() -> None:
    store = MemoryStore()
    store.commit(Batch(meta={ACCOUNT_SEQ: "7"}))
    case = Case(store=store, ready=False)
    case.probe.advance(1)
    assert case.probe.take() == [ResyncAccount(requester="risk", after=7)]
    case.probe.tell(to(case.probe, RESYNCED))
    case.probe.advance(5)
    assert case.probe.take() == []


def test_an_exit_waits_for_the_account_as_long_as_it_takes() -> None:
    case = Case(CONTROLS, RENEWED, fill(1), ready=False)
    case.ask(EXIT)
    case.probe.advance(10 * WAIT_MAX_S)
    assert case.answers() == []
    case.probe.tell(to(case.probe, RESYNCED))
    assert case.answers() == ["approved 1"]


def test_an_entry_that_waited_too_long_is_refused() -> None:
    case = Case(CONTROLS, RENEWED, ready=False)
    case.ask(ENTRY)
    case.probe.advance(WAIT_MAX_S + 1, market=False)
    (refused,) = case.probe.take(Refused)
    assert (refused.rule, refused.detail) == ("warmup", "waited in vain: not known: account")
    case.probe.tell(to(case.probe, RESYNCED))
    assert case.ask(ENTRY) == ["warmup"]


def test_an_entry_whose_bar_ends_while_it_waits_is_refused() -> None:
    case = Case(CONTROLS, RENEWED, ready=False)
    case.ask(ENTRY)
    case.probe.set_now(EPOCH + 3 * MINUTE)
    case.probe.tell(to(case.probe, RESYNCED))
    assert case.answers() == ["expired"]


def test_what_is_asked_for_beyond_the_limit_is_left_to_be_asked_again() -> None:
    case = Case(CONTROLS, RENEWED, ready=False)
    many = [replace(ENTRY, proposal_id=f"p{number}") for number in range(WAITING_MAX + 1)]
    case.ask(*many)
    case.probe.tell(to(case.probe, RESYNCED))
    assert len(case.answers()) == WAITING_MAX
    assert case.ask(many[-1]) == ["entry_open"]


# The gate


def test_the_gate_is_told_when_it_is_known_and_whenever_it_changes() -> None:
    case = Case(ready=False)
    case.probe.tell(to(case.probe, RESYNCED), CONTROLS)
    assert case.probe.take(GateChanged) == []
    case.probe.tell(RENEWED, RENEWED)
    assert case.probe.take(GateChanged) == [OPEN]
    case.probe.tell(LeaseLost(reason="x"))
    assert case.probe.take(GateChanged) == [GateChanged(reasons=("lease_lost",), exits_allowed=False)]


CLOSING: list[tuple[Message, str, Message | None]] = [
    (replace(CONTROLS, paused=True), "paused", CONTROLS),
    (replace(CONTROLS, killed=True), "killed", CONTROLS),
    (replace(CONTROLS, observe_only=True), "observe_only", CONTROLS),
    (replace(CONTROLS, subscription_active=False), "subscription_inactive", CONTROLS),
    (LeaseLapsed(epoch=1), "lease_lapsed", RENEWED),
    (LeaseLost(reason="x"), "lease_lost", None),
    (TokenRefused(reason="x"), "token_refused", None),
    (FeedStale(symbol=SYMBOL, age_s=9, limit_s=1), "stale_data", FeedRecovered(symbol=SYMBOL, stale_for_s=9)),
    (synced(SyncStatus.MISMATCH), "position_mismatch", synced(SyncStatus.OK)),
    (synced(SyncStatus.MISSING), "position_mismatch", synced(SyncStatus.OK)),
    (StrategyProtectOnly(strategy="s", reason="x"), "observe_only", None),
    (StoreFailed(reason="broken", detail="x"), "disk_full", StoreRecovered(down_for_s=1)),
    (dead_letter(), "order_unknown", synced(SyncStatus.OK)),
    (changed(EXIT, OrderStatus.UNKNOWN), "order_unknown", changed(EXIT, OrderStatus.ABSENT, version=2)),
]


@pytest.mark.parametrize(("closing", "reason", "opening"), CLOSING)
def test_what_closes_entries_is_named_and_ends(closing: Message, reason: str, opening: Message | None) -> None:
    case = Case(closing)
    case.probe.tell(Restarted(actor="telemetry", incarnation=1, reason="x"))
    assert case.gate() == (reason,)
    if opening is not None:
        case.probe.tell(opening)
        assert case.probe.take(GateChanged) == [OPEN]
        assert case.ask(ENTRY) == ["approved 1"]


@pytest.mark.parametrize(("closing", "reason", "opening"), CLOSING)
def test_an_exit_passes_everything_but_a_lost_lease(closing: Message, reason: str, opening: Message | None) -> None:
    case = Case(fill(1), closing)
    assert case.ask(EXIT) == ["lease_lost" if reason == "lease_lost" else "approved 1"]


def test_a_database_that_is_away_closes_nothing_before_the_lease_ends() -> None:
    case = Case(DatabaseAway(since_s=0, reason="x"))
    assert case.ask(ENTRY) == ["approved 1"]
    case.probe.tell(LeaseLapsed(epoch=1))
    assert case.gate() == ("lease_lapsed", "database_away")
    case.probe.tell(RENEWED, DatabaseBack(away_for_s=3))
    assert case.gate() == ()


def test_flags_close_entries_for_the_session() -> None:
    case = Case(CONTROLS, flags=("dry_run", "kill_switch"))
    assert case.ask(ENTRY) == ["kill_switch"]


def test_a_flag_that_is_no_gate_reason_does_not_start() -> None:
    case = Case(ready=False, flags=("moon",))
    assert case.probe.actor is None


def test_a_halt_closes_entries_and_lets_exits_through() -> None:
    case = Case(fill(1))
    case.probe.halt()
    assert case.ask(proposal(Purpose.PYRAMID, at=2), EXIT) == ["kill_switch", "approved 1"]


def test_whoever_restarts_hears_of_the_gate_again() -> None:
    case = Case()
    case.probe.tell(Restarted(actor="risk", incarnation=1, reason="x"))
    assert case.probe.take() == []
    case.probe.tell(Restarted(actor="control_poller", incarnation=1, reason="x"))
    assert case.probe.take() == [OPEN]


# What is under repair makes entries wait


UNDER_REPAIR = [(closing, opening) for closing, reason, opening in CLOSING if reason in ("disk_full", "order_unknown")]


@pytest.mark.parametrize(("closing", "opening"), UNDER_REPAIR)
def test_an_entry_waits_for_what_is_under_repair_instead_of_being_lost(closing: Message, opening: Message) -> None:
    case = Case(closing)
    assert case.ask(ENTRY) == []
    case.probe.tell(opening)
    assert case.answers() == ["approved 1"]


@pytest.mark.parametrize(("closing", "opening"), UNDER_REPAIR)
def test_a_repair_that_takes_too_long_is_named_in_the_refusal(closing: Message, opening: Message) -> None:
    case = Case(closing)
    case.ask(ENTRY)
    reason = "disk_full" if isinstance(closing, StoreFailed) else "order_unknown"
    case.probe.advance(WAIT_MAX_S + 1, market=False)
    assert case.answers() == [reason]


def test_a_lasting_reason_refuses_at_once_what_waited_for_a_repair() -> None:
    case = Case(dead_letter())
    case.ask(ENTRY)
    case.probe.tell(replace(CONTROLS, paused=True))
    assert case.answers() == ["paused"]


def test_entries_wait_for_a_comparison_after_a_lost_account_fact() -> None:
    case = Case()
    case.probe.tell(dead_letter("journaler", "OrderChanged"))
    assert [notice.key for notice in case.probe.take(Notice)] == ["bot:dead_letter:journaler:9"]
    assert case.ask(ENTRY) == []
    case.probe.tell(synced(SyncStatus.UNKNOWN))
    assert case.answers() == []
    case.probe.tell(synced(SyncStatus.OK))
    assert case.answers() == ["approved 1"]


def test_a_comparison_that_fails_refuses_what_waited_for_it() -> None:
    case = Case(dead_letter())
    case.ask(ENTRY)
    case.probe.tell(synced(SyncStatus.MISMATCH))
    assert case.answers() == ["position_mismatch"]


@pytest.mark.parametrize("letter", [dead_letter("telemetry"), dead_letter(kind="Bar"), dead_letter("strategy", "Bar")])
def test_other_dead_letters_close_nothing(letter: DeadLettered) -> None:
    assert Case(letter).ask(ENTRY) == ["approved 1"]


# Limits on the account's results


def test_an_entry_waits_for_the_mark_of_its_own_bar() -> None:
    case = Case(marked(4), limits=RiskLimits(max_drawdown=D("0.1")))
    assert case.ask(proposal(at=5)) == []
    case.probe.tell(marked(5))
    assert case.answers() == ["approved 1"]


def test_without_such_limits_nothing_waits_for_a_mark() -> None:
    assert Case().ask(proposal(at=5)) == ["approved 1"]


@pytest.mark.parametrize(
    ("limits", "figures", "reason"),
    [
        (RiskLimits(daily_loss_limit=D("0.05")), {"equity": "950", "day_pnl": "-50"}, "daily_loss"),
        (RiskLimits(max_drawdown=D("0.1")), {"drawdown": "0.1"}, "drawdown"),
    ],
)
def test_a_limit_closes_entries_calls_people_once_and_opens_again(
    limits: RiskLimits, figures: dict[str, Any], reason: str
) -> None:
    case = Case(limits=limits)
    case.probe.tell(marked(5, **figures), marked(6, **figures))
    assert [notice.key for notice in case.probe.sent if isinstance(notice, Notice)] == [f"bot:{reason}:2026-01-01"]
    assert case.ask(proposal(at=6)) == [reason]
    case.probe.tell(marked(7))
    assert case.ask(proposal(at=7)) == ["approved 1"]


def test_the_verdict_does_not_depend_on_whether_mark_or_proposal_came_first() -> None:
    limits = RiskLimits(max_drawdown=D("0.1"))
    before, after = Case(marked(5, drawdown="0.2"), limits=limits), Case(limits=limits)
    after.ask(proposal(at=5))
    after.probe.tell(marked(5, drawdown="0.2"))
    assert before.ask(proposal(at=5)) == after.answers() == ["drawdown"]


def test_defence_mode_without_room_closes_entries() -> None:
    assert Case(limits=RiskLimits(defence_mode=True)).ask(ENTRY) == ["defence_mode"]


# Reversal


def test_an_entry_against_the_position_waits_until_its_exit_stands_on_the_book() -> None:
    case = Case(fill(1))
    assert case.ask(EXIT, REVERSAL) == ["approved 1"]
    case.probe.tell(changed(EXIT, OrderStatus.SUBMITTED))
    assert case.answers() == []
    case.probe.tell(changed(EXIT, OrderStatus.ACCEPTED, version=2))
    assert case.answers() == ["approved 1"]


def test_a_reversal_whose_exit_is_lost_goes_on_when_the_exit_is_asked_for_again() -> None:
    case = Case(fill(1))
    assert case.ask(REVERSAL) == []
    assert case.ask(EXIT) == ["approved 1"]
    case.probe.tell(changed(EXIT, OrderStatus.ACCEPTED))
    assert case.answers() == ["approved 1"]


def test_a_reversal_whose_exit_has_filled_already_is_an_entry_like_any_other() -> None:
    case = Case(fill(1))
    case.ask(EXIT, REVERSAL)
    case.probe.tell(fill(2, Side.SELL))
    assert case.answers() == ["approved 1"]


def test_a_reversal_waits_while_the_fate_of_its_exit_is_unknown() -> None:
    case = Case(fill(1))
    case.ask(EXIT, REVERSAL)
    case.probe.tell(changed(EXIT, OrderStatus.UNKNOWN))
    assert case.answers() == []
    case.probe.tell(changed(EXIT, OrderStatus.ACCEPTED, version=2))
    assert case.answers() == ["approved 1"]


def test_a_reversal_without_an_exit_is_refused_in_the_end() -> None:
    case = Case(fill(1))
    case.ask(REVERSAL)
    case.probe.advance(WAIT_MAX_S + 1, market=False)
    assert case.answers() == ["position_open"]


def test_a_residue_below_the_least_amount_needs_no_exit() -> None:
    assert Case(fill(1, qty="0.009")).ask(REVERSAL) == ["approved 1"]


# Restarts


def test_a_restart_rebuilds_account_and_orders_from_the_store() -> None:
    store = MemoryStore()
    store.commit(Batch(fills=[fill(1)], orders=[order_of(proposal(Purpose.PYRAMID), OrderStatus.ACCEPTED)]))
    case = Case(store=store)
    assert case.ask(proposal(Purpose.PYRAMID, at=5), EXIT) == ["entry_open", "approved 1"]


def test_an_order_whose_end_was_not_on_disk_yet_does_not_close_entries_for_good() -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[order_of(ENTRY, OrderStatus.SUBMITTED)]))
    case = Case(store=store)
    store.commit(Batch(orders=[order_of(ENTRY, OrderStatus.REJECTED, version=2)]))
    assert case.ask(proposal(at=5)) == ["approved 1"]


def test_an_unknown_order_on_disk_keeps_entries_waiting_from_the_start() -> None:
    store = MemoryStore()
    store.commit(Batch(orders=[order_of(ENTRY, OrderStatus.UNKNOWN)]))
    case = Case(store=store)
    assert case.ask(proposal(at=5)) == []
    case.probe.tell(changed(ENTRY, OrderStatus.ABSENT, version=2))
    assert case.answers() == ["approved 1"]


MESSAGES: list[Message] = [
    proposal(at=5), fill(1), changed(ENTRY, OrderStatus.CANCELED), *READY, synced(SyncStatus.OK), marked(5),
    LeaseLapsed(epoch=1), LeaseLost(reason="x"), TokenRefused(reason="x"), DatabaseAway(since_s=0, reason="x"),
    DatabaseBack(away_for_s=0), FeedStale(symbol=SYMBOL, age_s=9, limit_s=1),
    FeedRecovered(symbol=SYMBOL, stale_for_s=1), StoreFailed(reason="broken", detail="x"),
    StoreRecovered(down_for_s=1), dead_letter(), StrategyProtectOnly(strategy="s", reason="x"),
    Declined(proposal_id="x", reason="x"), Restarted(actor="gateway", incarnation=1, reason="x"),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_failure_at_any_message_is_survived_and_the_answer_is_the_same(message: Message) -> None:
    case = Case()
    case.probe.set_now(EPOCH + 6 * MINUTE)
    case.probe.fail_next()
    case.probe.tell(message)
    case.probe.advance(1, market=False)
    # What the neighbours say to whoever has restarted.
    ready = (to(case.probe, RESYNCED), CONTROLS, RENEWED)
    case.probe.tell(*case.probe.dead_letters, *ready, synced(SyncStatus.OK))
    assert case.ask(proposal(at=5)) == ["approved 1"]
    assert case.probe.restarts == 1
