"""The watchdog: the age of the data in market time, and what goes wrong again and again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.watchdog import WatchdogActor
from tbh.messages.base import Message
from tbh.messages.health import FlushHealth, Notice, RequestFailed, RequestSucceeded, Severity
from tbh.messages.market import Bar, Candle, FeedRecovered, FeedStale, MarketMoved, Phase, ReplayEnded
from tbh.messages.orders import OrderRejected
from tbh.messages.system import Restarted
from tbh.runtime.probe import EPOCH, Probe

ONE = Decimal(1)
REJECTED = OrderRejected(client_order_id="c1", reason="insufficient funds")
FAILED = RequestFailed(stage="place", kind="unavailable", reason="refused")
SUCCEEDED = RequestSucceeded(stage="place", latency_ms=1)


def bar(minute: int) -> Bar:
    """The bar that closes ``minute`` minutes after the start."""
    opened = EPOCH + timedelta(minutes=minute - 1)
    candle = Candle(open_time=opened, open=ONE, high=ONE, low=ONE, close=ONE, volume=ONE)
    return Bar(symbol="BTC/USDT", timeframe_s=60, index=minute, candle=candle)


def moved(minute: int) -> MarketMoved:
    return MarketMoved(symbol="BTC/USDT", bar_open=EPOCH + timedelta(minutes=minute), phase=Phase.OPEN, price=ONE)


def start(*, live: bool = True, stale_after_s: float = 120.0, **more: Any) -> Probe:
    return Probe(
        WatchdogActor,
        lambda ctx: WatchdogActor(
            ctx, timeframe_s=60, stale_after_s=stale_after_s, check_s=5.0, market_clock_live=live, **more
        ),
        name="watchdog",
    )


class TestStaleness:
    def test_a_feed_that_keeps_coming_is_never_stale(self) -> None:
        probe = start()
        for minute in range(1, 20):
            probe.advance(60)
            probe.tell(bar(minute))
        assert probe.take() == []

    def test_silence_beyond_the_limit_is_told_once(self) -> None:
        probe = start()
        probe.tell(bar(0))
        probe.advance(120)
        assert probe.take() == []
        probe.advance(300)
        stale, notice, flush = probe.take()
        assert stale == FeedStale(symbol="BTC/USDT", age_s=125.0, limit_s=120.0)
        assert (notice.severity, notice.kind) == (Severity.CRITICAL, "feed_stale")
        assert flush == FlushHealth(reason="feed_stale")

    def test_a_feed_that_never_gave_anything_is_stale_too(self) -> None:
        probe = start(symbol="ETH/USDT")
        probe.advance(130)
        assert [sent.symbol for sent in probe.take(FeedStale)] == ["ETH/USDT"]

    def test_fresh_data_ends_it(self) -> None:
        probe = start()
        probe.advance(300)
        probe.take()
        probe.tell(bar(5))
        assert probe.take() == [FeedRecovered(symbol="BTC/USDT", stale_for_s=300.0)]

    @pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
    def test_a_machine_whose_clock_was_set_counts_as_stale_until_it_is_right_again(self, ahead_s: float) -> None:
        clock = [0.0]
        probe = start(machine_ahead_s=lambda: clock[0])
        probe.tell(bar(0))
        probe.advance(5)
        assert probe.take() == []
        clock[0] = ahead_s
        probe.advance(5)
        stale, notice, _ = probe.take()
        assert isinstance(stale, FeedStale)
        assert notice.kind == "clock_off"
        assert f"3600 s {'ahead of' if ahead_s > 0 else 'behind'} the exchange's" in notice.text
        probe.advance(50)
        probe.tell(bar(1))
        assert probe.take() == []
        clock[0] = 29.0
        probe.advance(60)
        probe.tell(bar(2))
        assert [type(sent) for sent in probe.take()] == [FeedRecovered]

    def test_old_data_does_not(self) -> None:
        probe = start()
        probe.advance(300)
        probe.take()
        probe.tell(bar(2))
        assert probe.take() == []

    def test_a_bar_under_way_is_a_sign_of_life(self) -> None:
        probe = start()
        for minute in range(1, 20):
            probe.advance(60)
            probe.tell(moved(minute))
        assert probe.take(FeedStale) == []

    def test_each_spell_is_told_anew(self) -> None:
        probe = start()
        probe.advance(300)
        probe.tell(bar(5))
        probe.advance(300)
        assert len(probe.take(FeedStale)) == 2

    def test_a_replay_can_not_be_late(self) -> None:
        probe = start(live=False, stale_after_s=0.0)
        probe.advance(10_000)
        assert probe.take() == []

    def test_a_replay_that_is_over_is_not_stale(self) -> None:
        probe = start()
        probe.tell(ReplayEnded(bars=5))
        probe.advance(10_000)
        assert probe.take() == []

    def test_a_limit_within_a_bar_is_refused(self) -> None:
        probe = start(stale_after_s=60.0)
        assert probe.actor is None
        assert [letter.reason for letter in probe.dead_letters] == []
        with pytest.raises(ValueError, match="above the bar's 60 s"):
            WatchdogActor(
                probe.cell.context or pytest.fail("no context"), timeframe_s=60, stale_after_s=60, check_s=5,
                market_clock_live=True,
            )  # fmt: skip


class TestRepetition:
    def test_rejects_in_a_short_time_are_told_once(self) -> None:
        probe = start(rejects_max=3)
        probe.tell(REJECTED, REJECTED)
        assert probe.take() == []
        probe.tell(REJECTED, REJECTED, REJECTED)
        notice, flush = probe.take()
        assert "insufficient funds" in notice.text
        assert flush == FlushHealth(reason="repeated_rejects")
        assert probe.escalation is None

    def test_rejects_far_apart_are_not(self) -> None:
        probe = start(rejects_max=3, live=False)
        for _ in range(10):
            probe.tell(REJECTED)
            probe.advance(200)
        assert probe.take() == []

    def test_they_halt_the_bot_when_set_so(self) -> None:
        probe = start(rejects_max=2, halt_on_rejects=True)
        probe.tell(REJECTED, REJECTED)
        assert probe.escalation is not None
        assert probe.escalation[2] == 70

    def test_failures_of_one_stage_in_a_row_are_told_once_per_spell(self) -> None:
        probe = start(failures_max=3)
        probe.tell(FAILED, FAILED, SUCCEEDED, FAILED, FAILED)
        assert probe.take() == []
        probe.tell(*[FAILED] * 10)
        assert len(probe.take(Notice)) == 1
        probe.tell(SUCCEEDED, *[FAILED] * 3)
        assert len(probe.take(Notice)) == 1

    def test_stages_are_counted_apart(self) -> None:
        probe = start(failures_max=3)
        other = RequestFailed(stage="events", kind="unknown", reason="timeout")
        probe.tell(FAILED, other, FAILED, other)
        assert probe.take() == []


class TestRestart:
    @pytest.mark.parametrize(
        "told",
        [bar(0), moved(0), REJECTED, FAILED, SUCCEEDED, ReplayEnded(bars=1),
         Restarted(actor="risk", incarnation=1, reason="x")],
        ids=lambda told: type(told).__name__,
    )  # fmt: skip
    def test_after_a_crash_silence_is_still_told(self, told: Message) -> None:
        probe = start()
        probe.fail_next()
        probe.tell(told)
        probe.advance(200)
        assert probe.restarts == 1
        assert len(probe.take(FeedStale)) == 1

    def test_a_restart_takes_back_what_the_former_incarnation_said(self) -> None:
        probe = start()
        probe.advance(300)
        probe.take()
        probe.restart()
        probe.tell(bar(5))
        assert [type(sent) for sent in probe.take()] == [FeedRecovered]

    def test_risk_is_told_again_when_it_restarts(self) -> None:
        probe = start()
        probe.advance(300)
        probe.take()
        probe.tell(Restarted(actor="risk", incarnation=1, reason="x"))
        assert [type(sent) for sent in probe.take()] == [FeedStale]
