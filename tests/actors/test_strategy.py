"""The strategy's actor: one decision per bar, asked for until it is answered, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.strategy import StrategyActor
from tbh.domain import ids
from tbh.domain.order import draft
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import Position, PositionChanged
from tbh.messages.base import Message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Bar, Candle
from tbh.messages.orders import Declined, Order, OrderType, Purpose, Recorded, Side
from tbh.messages.strategy import (
    Decision,
    DecisionRecorded,
    IndicatorFailed,
    Proposal,
    RecordDecision,
    Refused,
    Sizing,
    SizingKind,
    StrategyProtectOnly,
    StrategyTicked,
)
from tbh.messages.system import Restarted
from tbh.ports import Batch, Failure, Fatal, Unavailable
from tbh.runtime.probe import EPOCH, Probe
from tbh.strategies.base import Wish
from tbh.strategies.series import IndicatorError

MINUTE = timedelta(minutes=1)
SYMBOL = "BTC/USDT"
SIZE = Sizing(kind=SizingKind.FIXED_QUANTITY, value=Decimal(1))
ENTER = Wish(side=Side.BUY, purpose=Purpose.ENTRY, sizing=SIZE, reason="up")
LEAVE = Wish(side=Side.SELL, purpose=Purpose.EXIT, reason="down")
SHORT = Wish(side=Side.SELL, purpose=Purpose.ENTRY, sizing=SIZE, reason="down")
FLAT = PositionChanged(symbol=SYMBOL, position=None, seq=0)
LONG = Position(
    symbol=SYMBOL, strategy="s", position_id="p", qty=Decimal(1), entry_price=Decimal(100), opened_at=EPOCH,
    bar_open=EPOCH,
)  # fmt: skip


def candle(index: int) -> Candle:
    price = Decimal(100 + index)
    return Candle(open_time=EPOCH + index * MINUTE, open=price, high=price, low=price, close=price, volume=Decimal(1))


def bar(index: int) -> Bar:
    return Bar(symbol=SYMBOL, timeframe_s=60, index=index, candle=candle(index))


@dataclass
class Market:
    """A feed of which only the history is asked."""

    closed: list[Candle] = field(default_factory=list)
    silences: list[Failure] = field(default_factory=list)
    symbol: str = SYMBOL
    timeframe_s: int = 60

    def history(self) -> Sequence[Candle]:
        if self.silences:
            raise self.silences.pop(0)
        return tuple(self.closed)

    def poll(self) -> None:
        raise AssertionError("the feed alone polls")


@dataclass
class Wishes:
    """A strategy that wishes what stands in ``at`` for the index of the bar; it notes what it was asked."""

    at: dict[int, tuple[Wish, ...]] = field(default_factory=dict)
    asked: list[tuple[int, Position | None]] = field(default_factory=list)
    name: str = "s"
    timeframe_s: int = 60
    warmup: int = 1
    bar_count: int = 0
    fault: Exception | None = None
    thinks: Callable[[], None] = lambda: None

    @property
    def warm(self) -> bool:
        return self.bar_count > self.warmup

    def load(self, history: Sequence[Candle]) -> None:
        self.bar_count = len(history)

    def append(self, _: Candle) -> None:
        self.bar_count += 1

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        if self.fault is not None:
            raise self.fault
        self.thinks()
        self.asked.append((self.bar_count - 1, position))
        return self.at.get(self.bar_count - 1, ())


class Case:
    """One actor with its surroundings; ``bars`` bars are history."""

    def __init__(self, at: dict[int, tuple[Wish, ...]] | None = None, *, bars: int = 0, **more: Any) -> None:
        self.market = more.get("market") or Market(closed=[candle(index) for index in range(bars)])
        self.wishes = Wishes(at=at or {})
        self.store = more.get("store") or MemoryStore()
        self.asked: list[tuple[int, Position | None]] = []
        start = EPOCH + bars * MINUTE
        self.probe = Probe(StrategyActor, self._actor, name="strategy", start=start)
        if more.get("told", True):
            self.probe.tell(FLAT)

    def _actor(self, ctx: Any) -> StrategyActor:
        self.wishes = Wishes(at=self.wishes.at, asked=self.asked)
        return StrategyActor(ctx, strategy=self.wishes, feed=self.market, store=self.store)

    def close(self, *indices: int) -> None:
        """Let bars close: at the feed, on the clock, and told."""
        for index in indices:
            self.market.closed.append(candle(index))
            self.probe.set_now(EPOCH + (index + 1) * MINUTE)
            self.probe.tell(bar(index))

    def decisions(self) -> list[Decision]:
        return [command.decision for command in self.probe.sent if isinstance(command, RecordDecision)]

    def proposals(self) -> list[Proposal]:
        return [command for command in self.probe.sent if isinstance(command, Proposal)]


def decision_id(index: int) -> str:
    return ids.decision_id("s", SYMBOL, EPOCH + index * MINUTE)


def proposal_id(index: int, purpose: Purpose) -> str:
    return ids.proposal_id(decision_id(index), purpose, 0)


def refused(index: int, purpose: Purpose = Purpose.ENTRY) -> Refused:
    return Refused(
        proposal_id=proposal_id(index, purpose), strategy="s", symbol=SYMBOL, bar_open=EPOCH + index * MINUTE,
        purpose=purpose, rule="paused", detail="x",
    )  # fmt: skip


# Deciding


def test_a_closed_bar_is_decided_recorded_and_proposed_at_once() -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    recorded, proposal, ticked = case.probe.take()
    assert ticked == StrategyTicked(strategy="s", bar_index=0, warm=False, proposals=1)
    assert recorded.decision == Decision(
        decision_id=decision_id(0), strategy="s", symbol=SYMBOL, bar_open=EPOCH, bar_index=0,
        decided_at=EPOCH + MINUTE, proposals=(proposal,),
    )  # fmt: skip
    assert proposal == Proposal(
        proposal_id=proposal_id(0, Purpose.ENTRY), strategy="s", symbol=SYMBOL, bar_open=EPOCH, bar_index=0,
        side=Side.BUY, purpose=Purpose.ENTRY, reference_price=Decimal(100), sizing=SIZE, reason="up",
        expires_at=EPOCH + 2 * MINUTE,
    )  # fmt: skip


def test_a_slow_decision_goes_out_and_is_told_to_people_once() -> None:
    case = Case({1: (ENTER,)})
    case.close(0)
    assert case.probe.take(Notice) == []
    case.wishes.thinks = lambda: case.probe.advance(10, market=False)
    case.close(1, 2)
    assert {decision.bar_index for decision in case.decisions()} == {0, 1, 2}
    assert {proposal.bar_index for proposal in case.proposals()} == {1}
    (told,) = case.probe.take(Notice)
    assert (told.severity, told.kind) == (Severity.WARNING, "strategy_slow")
    assert told.text.startswith("strategy 's' took 10.0 s on the bar of 2026-01-01T00:01:00Z: its orders go out that ")


def test_a_bar_without_wishes_is_recorded_as_an_empty_decision() -> None:
    case = Case()
    case.close(0)
    assert [decision.proposals for decision in case.decisions()] == [()]
    assert case.proposals() == []


def test_the_exit_of_a_reversal_goes_before_its_entry() -> None:
    case = Case({0: (SHORT, LEAVE)})
    case.probe.tell(PositionChanged(symbol=SYMBOL, position=LONG, seq=1))
    case.close(0)
    assert [proposal.purpose for proposal in case.proposals()] == [Purpose.EXIT, Purpose.ENTRY]
    assert [proposal.expires_at for proposal in case.proposals()] == [None, EPOCH + 2 * MINUTE]


def test_a_bar_told_twice_is_decided_once() -> None:
    case = Case()
    case.close(0)
    case.probe.tell(bar(0))
    assert [index for index, _ in case.asked] == [0]


def test_bars_that_were_missed_are_taken_from_the_history() -> None:
    case = Case()
    case.close(0)
    case.market.closed += [candle(1), candle(2)]
    case.close(3)
    assert [index for index, _ in case.asked] == [0, 3]
    case.close(4)
    assert [index for index, _ in case.asked] == [0, 3, 4]


def test_the_decision_sees_the_newest_position() -> None:
    case = Case()
    newest = replace(LONG, qty=Decimal(2))
    case.probe.tell(
        PositionChanged(symbol=SYMBOL, position=newest, seq=5), PositionChanged(symbol=SYMBOL, position=LONG, seq=4)
    )
    case.probe.tell(PositionChanged(symbol="ETH/USDT", position=None, seq=9))
    case.close(0)
    assert case.asked == [(0, newest)]


def test_a_failed_indicator_is_told_and_leaves_the_bar_undecided() -> None:
    case = Case({1: (ENTER,)})
    case.wishes.fault = IndicatorError("fast", "inputs are all NaN")
    case.close(0)
    assert case.probe.take() == [IndicatorFailed(strategy="s", indicator="fast", detail="inputs are all NaN")]
    case.wishes.fault = None
    case.close(1)
    assert [decision.bar_index for decision in case.decisions()] == [1]


def test_whatever_else_a_strategy_raises_is_a_failure_and_the_bar_is_decided_after_it() -> None:
    case = Case({0: (ENTER,)})
    case.wishes.fault = ZeroDivisionError("x")
    case.close(0)
    assert [letter.message_type for letter in case.probe.dead_letters] == ["Bar"]
    case.probe.advance(1, market=False)
    case.probe.tell(FLAT)
    assert [proposal.bar_index for proposal in case.proposals()] == [0]


# Asking and being answered


def test_everything_is_asked_again_until_it_is_answered() -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    case.probe.take()
    case.probe.advance(1, market=False)
    assert [type(command) for command in case.probe.take()] == [RecordDecision, Proposal]
    case.probe.tell(DecisionRecorded(decision_id=decision_id(0)))
    case.probe.tell(Recorded(client_order_id="c", intent_id=proposal_id(0, Purpose.ENTRY)))
    case.probe.advance(10, market=False)
    assert case.probe.take() == []
    assert case.probe.asking == []


@pytest.mark.parametrize(
    "answer",
    [
        Recorded(client_order_id="c", intent_id=proposal_id(0, Purpose.ENTRY)),
        refused(0),
        Declined(proposal_id=proposal_id(0, Purpose.ENTRY), reason="x"),
    ],
)
def test_an_order_a_refusal_and_a_decline_are_answers(answer: Message) -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    case.probe.tell(answer, answer)
    assert case.probe.asking == [f"decision:{decision_id(0)}"]


def test_an_answer_to_something_else_is_none() -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    case.probe.tell(refused(7), DecisionRecorded(decision_id="other"))
    assert len(case.probe.asking) == 2


def test_an_entry_is_asked_for_until_its_bar_is_over() -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    case.probe.take()
    case.probe.advance(59.5)
    assert len(case.probe.take(Proposal)) == 59
    case.probe.advance(5)
    assert len(case.probe.take(Proposal)) <= 1
    assert case.probe.asking == [f"decision:{decision_id(0)}"]


def test_an_exit_is_asked_for_until_it_is_answered() -> None:
    case = Case({0: (LEAVE,)})
    case.close(0)
    case.probe.take()
    case.probe.advance(600)
    assert len(case.probe.take(Proposal)) == 600
    case.probe.tell(refused(0, Purpose.EXIT))
    case.probe.advance(5)
    assert case.probe.take(Proposal) == []


# Starting and restarting


def test_nothing_is_decided_before_the_position_is_known() -> None:
    case = Case({1: (ENTER,)}, bars=1, told=False)
    case.close(1)
    assert (case.probe.take(), case.probe.asking) == ([], ["position"])
    case.probe.tell(FLAT)
    assert [proposal.bar_index for proposal in case.proposals()] == [1]


def test_a_start_decides_the_last_closed_bar_when_nobody_has() -> None:
    case = Case({2: (ENTER,)}, bars=3)
    assert [decision.bar_index for decision in case.decisions()] == [2]
    assert [index for index, _ in case.asked] == [2]


def test_a_start_does_not_decide_a_bar_twice() -> None:
    store = MemoryStore()
    first = Case({2: (ENTER,)}, bars=3, store=store)
    store.commit(Batch(decisions=first.decisions()))
    second = Case({2: (LEAVE,)}, bars=3, store=store)
    assert second.asked == []
    assert second.proposals() == first.proposals()


def test_a_stored_decision_of_which_an_order_was_made_is_not_asked_again() -> None:
    store = MemoryStore()
    first = Case({2: (LEAVE, SHORT)}, bars=3, store=store)
    leave = Order(
        client_order_id="c", intent_id=proposal_id(2, Purpose.EXIT), symbol=SYMBOL, side=Side.SELL,
        type=OrderType.MARKET, qty=Decimal(1), purpose=Purpose.EXIT, strategy="s", bar_open=EPOCH, created_at=EPOCH,
    )  # fmt: skip
    store.commit(Batch(decisions=first.decisions(), drafts=[draft(leave, EPOCH)]))
    second = Case(bars=3, store=store)
    assert [proposal.purpose for proposal in second.proposals()] == [Purpose.ENTRY]


def test_an_entry_whose_bar_is_over_is_not_asked_for_after_a_restart() -> None:
    store = MemoryStore()
    first = Case({2: (LEAVE, SHORT)}, bars=3, store=store)
    store.commit(Batch(decisions=first.decisions()))
    second = Case(bars=3, store=store, told=False)
    second.probe.set_now(EPOCH + 4 * MINUTE + timedelta(seconds=1))
    second.probe.tell(FLAT)
    assert [proposal.purpose for proposal in second.proposals()] == [Purpose.EXIT]


def test_a_start_without_any_bar_waits_for_the_first() -> None:
    case = Case()
    assert case.probe.take() == []
    assert case.probe.asking == []


MESSAGES: list[Message] = [
    bar(3), FLAT, refused(2), Recorded(client_order_id="c", intent_id="x"), Declined(proposal_id="x", reason="x"),
    DecisionRecorded(decision_id="x"), Restarted(actor="risk", incarnation=1, reason="x"),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_failure_at_any_message_changes_no_decision(message: Message) -> None:
    case = Case({2: (ENTER,), 3: (LEAVE,)}, bars=3)
    before = case.proposals()
    case.probe.fail_next()
    case.market.closed.append(candle(3))
    case.probe.tell(message)
    case.probe.advance(1, market=False)
    case.probe.tell(FLAT, bar(3))
    assert case.probe.restarts == 1
    assert [(proposal.bar_index, proposal.purpose) for proposal in case.proposals()] == [
        *[(proposal.bar_index, proposal.purpose) for proposal in before],
        (3, Purpose.EXIT),
    ]


def test_a_restart_asks_with_the_same_ids() -> None:
    case = Case({0: (ENTER,)})
    case.close(0)
    before = case.proposals()
    case.probe.take()
    case.probe.restart()
    case.probe.tell(FLAT)
    assert case.proposals() == before


def test_a_history_that_is_not_there_yet_is_asked_for_again() -> None:
    market = Market(closed=[candle(0)], silences=[Unavailable("refused"), Unavailable("refused")])
    case = Case({0: (ENTER,)}, market=market)
    case.probe.tell(bar(0))
    assert (case.proposals(), case.probe.asking) == ([], ["history"])
    case.probe.advance(2.5, market=False)
    assert [proposal.bar_index for proposal in case.proposals()] == [0]
    assert case.probe.restarts == 0
    assert "history" not in case.probe.asking


# Protect-only


class Unreadable(MemoryStore):
    """A store of which one kind of row can't be read."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def _check(self, what: str) -> None:
        if what == self._what:
            raise Fatal("row_unreadable", exit_code=70, detail=f"{what}: not JSON")

    def positions(self) -> dict[str, Position]:
        self._check("position")
        return super().positions()

    def decision(self, strategy: str, bar_open: Any) -> Decision | None:
        self._check("decision")
        return super().decision(strategy, bar_open)


@pytest.mark.parametrize("what", ["position", "decision"])
def test_an_unreadable_row_leaves_exits_and_takes_no_entries(what: str) -> None:
    case = Case({2: (ENTER,), 3: (LEAVE, SHORT), 4: (ENTER,)}, bars=3, store=Unreadable(what))
    case.close(3, 4)
    said = [fact for fact in case.probe.sent if isinstance(fact, StrategyProtectOnly)]
    assert [fact.strategy for fact in said] == ["s"]
    assert [(proposal.bar_index, proposal.purpose) for proposal in case.proposals()] == [(3, Purpose.EXIT)]
    assert (case.probe.restarts, case.probe.escalation) == (0, None)


def test_protect_only_is_said_again_to_whoever_restarts() -> None:
    case = Case(store=Unreadable("position"))
    case.probe.take()
    case.probe.tell(Restarted(actor="risk", incarnation=1, reason="x"))
    case.probe.tell(Restarted(actor="strategy", incarnation=1, reason="x"))
    assert [type(fact) for fact in case.probe.take()] == [StrategyProtectOnly]


def test_another_fatal_of_the_store_passes_up() -> None:
    class Newer(MemoryStore):
        def positions(self) -> dict[str, Position]:
            raise Fatal("store_newer", exit_code=78)

    case = Case(store=Newer(), told=False)
    assert case.probe.escalation is not None
    assert case.probe.escalation[2] == 78
