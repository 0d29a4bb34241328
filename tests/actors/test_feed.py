"""The feed: every closed bar told at least once, in order, and none invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import pytest

from tbh.actors.feed import RETRY_MAX_S, FeedActor
from tbh.messages.health import RequestFailed
from tbh.messages.market import Advance, Bar, Candle, GapFound, MarketMoved, Phase, ReplayEnded
from tbh.messages.system import Restarted
from tbh.ports import Defer, Failure, Fatal, FeedStep, Unavailable, Unknown
from tbh.runtime.probe import EPOCH, Probe

ADVANCE = Advance(turn=1)
MINUTE = timedelta(minutes=1)


def candle(index: int, close: int = 100) -> Candle:
    price = Decimal(close)
    return Candle(
        open_time=EPOCH + index * MINUTE, open=price, high=price + 1, low=price - 1, close=price, volume=Decimal(1)
    )


def opened(index: int) -> FeedStep:
    return FeedStep(phase=Phase.OPEN, bar_open=EPOCH + index * MINUTE, price=Decimal(100), index=index)


def closed(index: int, *, at: int | None = None) -> FeedStep:
    """The close of bar ``index``, which opened ``at`` minutes (its index, if not given)."""
    bar = candle(index if at is None else at)
    return FeedStep(phase=Phase.CLOSE, bar_open=bar.open_time, price=bar.close, index=index, candle=bar)


@dataclass
class Source:
    """A scripted feed. What stands in ``answers`` is the polls' answers, or raised; then the market is quiet."""

    closed: list[Candle] = field(default_factory=list)
    answers: list[Sequence[FeedStep] | Failure | None] = field(default_factory=list)
    silences: list[Failure] = field(default_factory=list)
    polls: int = 0
    symbol: str = "BTC/USDT"
    timeframe_s: int = 60

    def history(self) -> Sequence[Candle]:
        if self.silences:
            raise self.silences.pop(0)
        return tuple(self.closed)

    def poll(self) -> Sequence[FeedStep] | None:
        self.polls += 1
        answer = self.answers.pop(0) if self.answers else ()
        if isinstance(answer, Failure):
            raise answer
        for step in answer or ():
            if step.candle is not None:
                self.closed.append(step.candle)
        return answer


def probe_of(source: Source, *, poll_s: float | None = None) -> Probe:
    return Probe(FeedActor, lambda ctx: FeedActor(ctx, feed=source, poll_s=poll_s), name="feed")


def indices(probe: Probe) -> list[int]:
    return [bar.index for bar in probe.take(Bar)]


def test_a_close_is_told_to_the_account_before_the_bar_is_told_to_the_strategy() -> None:
    probe = probe_of(Source(answers=[[closed(0)]]))
    probe.tell(ADVANCE)
    moved, bar = probe.take()
    assert moved == MarketMoved(symbol="BTC/USDT", bar_open=EPOCH, phase=Phase.CLOSE, price=Decimal(100))
    assert bar == Bar(symbol="BTC/USDT", timeframe_s=60, index=0, candle=candle(0))


def test_a_phase_within_a_bar_moves_the_market_and_closes_nothing() -> None:
    probe = probe_of(Source(answers=[[opened(0)]]))
    probe.tell(ADVANCE)
    assert probe.take() == [MarketMoved(symbol="BTC/USDT", bar_open=EPOCH, phase=Phase.OPEN, price=Decimal(100))]


def test_one_advance_is_one_poll() -> None:
    source = Source(answers=[[closed(0)], [closed(1)]])
    probe = probe_of(source)
    probe.tell(ADVANCE)
    assert (source.polls, indices(probe)) == (1, [0])
    probe.advance(60)
    assert source.polls == 1


def test_several_bars_of_one_poll_are_told_in_order() -> None:
    probe = probe_of(Source(answers=[[closed(0), closed(1), opened(2)]]))
    probe.tell(ADVANCE)
    assert [(type(fact).__name__, getattr(fact, "index", None)) for fact in probe.take()] == [
        ("MarketMoved", None), ("Bar", 0), ("MarketMoved", None), ("Bar", 1), ("MarketMoved", None),
    ]  # fmt: skip


def test_the_end_of_a_recorded_market_is_told_once() -> None:
    probe = probe_of(Source(answers=[[closed(0)], None, None]))
    probe.tell(ADVANCE, ADVANCE, ADVANCE)
    assert probe.take(ReplayEnded) == [ReplayEnded(bars=1)]


def test_the_end_of_an_empty_market_is_told_as_no_bars() -> None:
    probe = probe_of(Source(answers=[None]))
    probe.tell(ADVANCE)
    assert probe.take() == [ReplayEnded(bars=0)]


def test_missing_bars_are_counted_and_none_is_invented() -> None:
    probe = probe_of(Source(answers=[[closed(0)], [closed(1, at=4)]]))
    probe.tell(ADVANCE)
    probe.take()
    probe.tell(ADVANCE)
    _, gap, bar = probe.take()
    assert gap == GapFound(symbol="BTC/USDT", at=EPOCH + 4 * MINUTE, missing=3)
    assert (bar.index, bar.candle) == (1, candle(4))


def test_bars_that_were_counted_and_not_told_are_no_gap() -> None:
    probe = probe_of(Source(answers=[[closed(0)], [closed(5)], [closed(9, at=11)]]))
    for _ in range(3):
        probe.tell(ADVANCE)
    facts = probe.take()
    assert [fact.index for fact in facts if isinstance(fact, Bar)] == [0, 5, 9]
    assert [fact.missing for fact in facts if isinstance(fact, GapFound)] == [2]


def test_a_gap_between_history_and_the_first_bar_is_found_too() -> None:
    probe = probe_of(Source(closed=[candle(0)], answers=[[closed(1, at=2)]]))
    probe.tell(ADVANCE)
    assert [gap.missing for gap in probe.take(GapFound)] == [1]


def test_a_bar_that_the_source_repeats_is_told_once() -> None:
    probe = probe_of(Source(answers=[[closed(0)], [closed(0)], [closed(1)]]))
    probe.tell(ADVANCE, ADVANCE, ADVANCE)
    assert indices(probe) == [0, 1]


def test_a_bar_that_opens_before_the_last_one_is_a_failure() -> None:
    probe = probe_of(Source(answers=[[closed(0, at=5)], [closed(1, at=4)]]))
    probe.tell(ADVANCE, ADVANCE)
    assert [letter.message_type for letter in probe.dead_letters] == ["Advance"]
    assert indices(probe) == [0]


def test_a_start_tells_the_last_closed_bar_again() -> None:
    probe = probe_of(Source(closed=[candle(0), candle(1)]))
    moved, bar = probe.take()
    assert (moved.phase, moved.bar_open, bar.index, bar.candle) == (Phase.CLOSE, candle(1).open_time, 1, candle(1))


def test_a_start_without_history_tells_nothing() -> None:
    assert probe_of(Source()).take() == []


def test_a_phase_that_was_polled_but_never_told_is_told_after_the_restart() -> None:
    source = Source(answers=[[closed(0)]])
    probe = probe_of(source)
    probe.fail_next()
    probe.tell(ADVANCE)
    source.poll()  # the market went on, and nobody heard of it
    probe.advance(1)
    assert indices(probe) == [0]


@pytest.mark.parametrize("message", [ADVANCE, Restarted(actor="risk", incarnation=1, reason="x")])
def test_a_failure_at_any_message_loses_no_bar(message: Advance | Restarted) -> None:
    probe = probe_of(Source(answers=[[closed(0)], [closed(1)]]))
    probe.tell(ADVANCE)
    probe.fail_next()
    probe.tell(message)
    probe.advance(1)
    probe.tell(ADVANCE)
    assert probe.restarts == 1
    assert indices(probe) == [0, 0, 1]


def test_whoever_restarts_hears_of_the_last_bar_again() -> None:
    probe = probe_of(Source(answers=[[closed(0)]]))
    probe.tell(ADVANCE)
    probe.take()
    probe.tell(Restarted(actor="accountant", incarnation=1, reason="x"))
    assert [type(fact) for fact in probe.sent] == [Bar]
    assert indices(probe) == [0]


def test_its_own_restart_is_no_reason_to_tell_the_bar_twice() -> None:
    probe = probe_of(Source(answers=[[closed(0)]]))
    probe.tell(ADVANCE)
    probe.take()
    probe.tell(Restarted(actor="feed", incarnation=1, reason="x"))
    assert probe.take() == []


@pytest.mark.parametrize("failure", [Unavailable("refused"), Unknown("timeout")])
def test_a_silent_source_holds_the_replay_until_it_answers(failure: Failure) -> None:
    source = Source(answers=[failure, failure, [closed(0)]])
    probe = probe_of(source)
    probe.tell(ADVANCE)
    assert probe.take() == [RequestFailed(stage="feed", kind=failure.kind, reason=str(failure))]
    assert probe.asking == ["market"]
    probe.advance(2)
    assert indices(probe) == [0]
    assert probe.asking == []
    assert source.polls == 3


def test_the_pause_between_tries_grows_to_its_limit() -> None:
    source = Source(answers=[Unavailable("refused")] * 20)
    probe = probe_of(source)
    probe.tell(ADVANCE)
    probe.advance(60)
    before = source.polls
    probe.advance(RETRY_MAX_S * 2 + 0.1)
    assert source.polls - before == 2
    assert before < 20


def test_a_source_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    source = Source(answers=[Defer("maintenance", after_s=30), [closed(0)]])
    probe = probe_of(source, poll_s=1)
    probe.advance(29)
    assert source.polls == 1
    probe.advance(3)
    assert source.polls >= 2
    assert indices(probe) == [0]


def test_a_live_market_is_polled_at_its_pause_and_never_held() -> None:
    source = Source(answers=[[closed(0)], Unavailable("refused"), [closed(1)]])
    probe = probe_of(source, poll_s=2)
    probe.advance(3.9)
    assert source.polls == 1
    probe.advance(3)
    assert probe.asking == []
    assert indices(probe) == [0, 1]


def test_a_history_that_is_not_there_yet_is_asked_for_again() -> None:
    source = Source(closed=[candle(0)], silences=[Unavailable("refused"), Unknown("timeout")])
    probe = probe_of(source)
    assert [type(fact) for fact in probe.take()] == [RequestFailed]
    assert probe.asking == ["market"]
    probe.advance(2)
    assert indices(probe) == [0]
    assert (probe.restarts, source.polls) == (0, 0)


def test_fatal_passes_up() -> None:
    probe = probe_of(Source(answers=[Fatal("replay_mismatch", exit_code=78)]))
    probe.tell(ADVANCE)
    assert probe.escalation is not None
    assert probe.escalation[2] == 78
