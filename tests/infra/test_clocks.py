"""Market time of a live bot: the exchange's, never backwards, deaf to whoever sets the machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.clocks import MarketTime

START = datetime(2026, 3, 1, tzinfo=UTC)


class Clocks:
    """Hands of the machine's clock, of the process's and of the exchange's, each set by hand."""

    def __init__(self) -> None:
        self.wall = START
        self.process_s = 100.0
        self.exchange_s: float | None = None
        self.market = MarketTime(lambda: self.exchange_s, wall=lambda: self.wall, process=lambda: self.process_s)

    def pass_time(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.process_s += seconds
        if self.exchange_s is not None:
            self.exchange_s += seconds


def test_until_the_exchange_is_heard_it_is_the_machines_time_at_the_start() -> None:
    clocks = Clocks()
    clocks.pass_time(5)
    assert clocks.market.now() == START + timedelta(seconds=5)


def test_a_step_of_the_machines_clock_moves_nothing_and_is_seen() -> None:
    clocks = Clocks()
    for step in (timedelta(hours=1), timedelta(hours=-2)):
        clocks.wall += step
        clocks.pass_time(1)
    assert clocks.market.now() == START + timedelta(seconds=2)
    assert clocks.market.machine_ahead() == timedelta(hours=-1)


def test_it_follows_the_exchange_forward_at_once() -> None:
    clocks = Clocks()
    clocks.exchange_s = START.timestamp() + 3600
    assert clocks.market.now() == START + timedelta(hours=1)
    clocks.pass_time(1)
    assert clocks.market.now() == START + timedelta(hours=1, seconds=1)


def test_where_the_exchange_is_behind_it_stands_still_until_that_has_come_true() -> None:
    clocks = Clocks()
    clocks.exchange_s = START.timestamp()
    assert clocks.market.now() == START
    clocks.exchange_s = START.timestamp() - 10
    clocks.pass_time(4)
    assert clocks.market.now() == START
    clocks.pass_time(7)
    assert clocks.market.now() == START + timedelta(seconds=1)


def test_what_a_machine_that_is_ahead_said_first_does_not_hold_market_time_up() -> None:
    clocks = Clocks()
    assert clocks.market.now() == START
    clocks.exchange_s = START.timestamp() - 3600
    assert clocks.market.now() == START - timedelta(hours=1)
    clocks.pass_time(60)
    assert clocks.market.now() == START - timedelta(minutes=59)


def test_when_the_exchange_is_not_heard_any_more_its_last_word_holds() -> None:
    clocks = Clocks()
    clocks.exchange_s = START.timestamp() + 50
    clocks.market.now()
    clocks.exchange_s = None
    clocks.pass_time(10)
    assert clocks.market.now() == START + timedelta(seconds=60)


@given(st.lists(st.tuples(st.sampled_from(["wall", "exchange", "pass"]), st.integers(-5_000, 5_000)), max_size=30))
def test_once_the_exchange_is_heard_it_never_goes_back(moves: list[tuple[str, int]]) -> None:
    clocks = Clocks()
    clocks.exchange_s = START.timestamp()
    latest = clocks.market.now()
    for what, seconds in moves:
        if what == "wall":
            clocks.wall += timedelta(seconds=seconds)
        elif what == "exchange":
            clocks.exchange_s = START.timestamp() + seconds
        else:
            clocks.pass_time(abs(seconds))
        now = clocks.market.now()
        assert now >= latest
        latest = now
