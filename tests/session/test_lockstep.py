"""The market moves only when nothing is under way, at the pace that was asked for, and its end is told once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tbh.lockstep import BACKLOG_MAX, BarsPerSecond, LockStep, OpenSince, at_once
from tbh.messages.base import Message
from tbh.messages.market import Advance
from tbh.messages.system import Stop
from tbh.runtime.actor import Actor
from tbh.runtime.cell import Cell
from tbh.runtime.mailbox import Envelope
from tbh.runtime.probe import Probe
from tbh.runtime.supervise import ChildSpec


class Market:
    def __init__(self, bars: int) -> None:
        self.position = 0
        self.bars = bars

    @property
    def ended(self) -> bool:
        return self.position == self.bars


class Host:
    def __init__(self, cells: Sequence[Cell] = ()) -> None:
        self.cells = cells
        self.published: list[Message] = []
        self.later: list[float] = []
        self.escalation: tuple[str, str, int] | None = None

    def publish(self, message: Message) -> None:
        self.published.append(message)

    def call_after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.later.append(delay_s)

    def look_again(self) -> None: ...


def turns(host: Host) -> list[int]:
    return [message.turn for message in host.published if isinstance(message, Advance)]


def lockstep(market: Market, host: Host, *, bars_per_s: float | None = None) -> LockStep:
    step = LockStep(market, pace=at_once if bars_per_s is None else BarsPerSecond(bars_per_s))
    step.host = host
    return step


def test_each_settling_releases_one_step() -> None:
    market, host = Market(9), Host()
    step = lockstep(market, host)
    for _ in range(3):
        step.settled()
    assert turns(host) == [1, 2, 3]


def test_the_end_is_one_more_step_and_then_over() -> None:
    market, host = Market(0), Host()
    step = lockstep(market, host)
    step.settled()
    assert turns(host) == [1]
    assert not step.ended.is_set()
    step.settled()
    step.settled()
    assert turns(host) == [1]
    assert step.ended.is_set()


def test_a_held_market_stands_still() -> None:
    market, host = Market(9), Host()
    step = lockstep(market, host)
    step.hold()
    step.settled()
    assert turns(host) == []
    assert step.stalled_s() == 0.0


def test_a_pace_makes_the_market_wait() -> None:
    market, host = Market(9), Host()
    step = lockstep(market, host, bars_per_s=0.01)
    step.settled()
    market.position = 1
    step.settled()
    assert turns(host) == [1]
    assert host.later == [pytest.approx(100, abs=5)]
    assert step.stalled_s() <= 0.0


def test_a_pause_is_waited_for_once_however_often_the_tree_settles() -> None:
    market, host = Market(9), Host()
    step = lockstep(market, host, bars_per_s=0.01)
    step.settled()
    market.position = 1
    for _ in range(5):
        step.settled()
    assert len(host.later) == 1


def test_the_market_does_not_go_on_without_an_actor_that_escalated() -> None:
    market, host = Market(9), Host()
    step = lockstep(market, host)
    host.escalation = ("strategy", "failed too often", 70)
    step.settled()
    assert turns(host) == []


def test_time_in_which_nobody_looked_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("tbh.lockstep.time.monotonic", lambda: now_s[0])
    step = lockstep(Market(9), Host())
    for _ in range(30):
        now_s[0] += 0.5
        stalled_s = step.stalled_s()
    assert stalled_s == pytest.approx(15)
    now_s[0] += 3600  # the process was suspended
    assert step.stalled_s() == pytest.approx(15)


@pytest.mark.parametrize(("background", "released"), [(True, []), (False, [1])])
def test_only_a_background_backlog_pauses_the_market(background: bool, released: list[int]) -> None:
    probe = Probe(Actor, Actor)
    cell = Cell(ChildSpec(name="slow", actor=Actor, factory=Actor, background=background), probe)
    for seq in range(BACKLOG_MAX + 1):
        cell.mailbox.offer(Envelope(seq, "test", "slow", 0, Stop()))
    host = Host([cell])
    lockstep(Market(9), host).settled()
    assert turns(host) == released


def test_trading_begins_with_the_first_release() -> None:
    begun: list[bool] = []
    step = LockStep(Market(9), pace=at_once, on_first=lambda: begun.append(True))
    step.host = Host()
    step.settled()
    step.settled()
    assert begun == [True]


def test_a_market_that_runs_by_itself_is_due_by_the_clock_on_the_wall() -> None:
    opened_at = datetime.now(UTC) - timedelta(seconds=100)
    pace = OpenSince(opened_at, 2.0)
    assert pace(150) < 0
    assert 49 < pace(299) <= 50


def test_a_number_of_bars_ends_it() -> None:
    market, host = Market(9), Host()
    step = LockStep(market, pace=at_once, bars_max=2)
    step.host = host
    for _ in range(5):
        step.settled()
        market.position += 1
    assert step.ended.is_set()
    assert turns(host) == [1, 2]
