"""Restart policies as data."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.runtime.supervise import FailureWindow, Policy


def window(policy: Policy) -> FailureWindow:
    return FailureWindow(policy, random.Random(0))


def test_a_policy_whose_back_offs_outlast_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"back-offs of up to 36 s would outlast the window of 30 s"):
        Policy(max_failures=6, window_s=30.0, first_backoff_s=5.0, backoff_max_s=5.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_failures": -1},
        {"max_failures": 10, "max_failures_daily": 9},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"first_backoff_s": 0.0},
        {"first_backoff_s": 6.0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Policy(**bad)  # type: ignore[arg-type]  # wrong on purpose


def test_back_off_doubles_up_to_its_cap() -> None:
    policy = Policy(first_backoff_s=1.0, backoff_max_s=5.0, jitter=0.0, max_failures=4)
    failures = window(policy)
    assert [failures.record(float(n)) for n in range(5)] == [1.0, 2.0, 4.0, 5.0, None]


def test_the_current_failure_counts() -> None:
    assert window(Policy(max_failures=0)).record(0.0) is None


def test_failures_older_than_the_window_are_forgotten() -> None:
    failures = window(Policy(max_failures=2, window_s=60.0))
    assert all(failures.record(30.0 * n) is not None for n in range(40))


def test_a_slow_crash_loop_is_caught_by_the_daily_window() -> None:
    failures = window(Policy(max_failures=2, window_s=60.0, max_failures_daily=10))
    outcomes = [failures.record(3_600.0 * n) for n in range(11)]
    assert outcomes[:10].count(None) == 0
    assert outcomes[10] is None


def test_failures_older_than_a_day_are_forgotten() -> None:
    failures = window(Policy(max_failures=2, window_s=60.0, max_failures_daily=10))
    assert all(failures.record(9_000.0 * n) is not None for n in range(40))


@given(st.integers(0, 2**32), st.integers(0, 4))
def test_jitter_stays_within_its_share(seed: int, before: int) -> None:
    policy = Policy(jitter=0.2)
    failures = FailureWindow(policy, random.Random(seed))
    backoff_s = [failures.record(0.0) for _ in range(before + 1)][-1]
    assert backoff_s is not None
    assert 0.8 <= backoff_s / policy.backoff_s(before) <= 1.2
