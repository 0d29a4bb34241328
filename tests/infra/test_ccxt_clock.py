"""The exchange's clock, held against nothing but the process's own."""

from __future__ import annotations

import pytest

from tbh.infra import ccxt_clock
from tbh.infra.ccxt_clock import ExchangeClock


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The process's clock: its first item, in seconds."""
    at = [1_000.0]
    monkeypatch.setattr(ccxt_clock, "process_s", lambda: at[0])
    return at


def sample(clock: ExchangeClock, server_ms: int, *, asked_s: float, took_s: float) -> None:
    clock.take(server_ms, asked_s=asked_s, answered_s=asked_s + took_s)


def test_the_server_is_asked_in_the_middle_of_the_way(process: list[float]) -> None:
    clock = ExchangeClock()
    sample(clock, 5_000_000, asked_s=999.0, took_s=2.0)
    assert clock.now_ms() == 5_000_000
    process[0] += 60
    assert clock.now_ms() == 5_060_000


def test_one_slow_answer_moves_nothing(process: list[float]) -> None:
    clock = ExchangeClock()
    for _ in range(3):
        sample(clock, 5_000_000, asked_s=1_000.0, took_s=0.0)
    sample(clock, 5_000_000, asked_s=1_000.0, took_s=8.0)
    assert clock.now_ms() == 5_000_000


def test_a_clock_that_was_refused_goes_on_telling_but_is_not_believed(process: list[float]) -> None:
    clock = ExchangeClock()
    sample(clock, 5_000_000, asked_s=1_000.0, took_s=0.0)
    clock.forget()
    assert (clock.known, clock.believed, clock.due) == (True, False, True)
    assert clock.now_ms() == 5_000_000
    sample(clock, 8_000_000, asked_s=1_000.0, took_s=0.0)
    assert clock.now_ms() == 8_000_000


def test_it_is_due_again_after_a_minute(process: list[float]) -> None:
    clock = ExchangeClock()
    due = [clock.due]
    sample(clock, 5_000_000, asked_s=1_000.0, took_s=0.0)
    due.append(clock.due)
    process[0] += ccxt_clock.SAMPLE_EVERY_S + 1
    assert [*due, clock.due] == [True, False, True]


def test_nobody_knows_it_before_the_first_sample() -> None:
    with pytest.raises(LookupError):
        ExchangeClock().now_ms()
