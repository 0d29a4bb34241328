"""A call with a deadline returns, raises, or is left behind."""

from __future__ import annotations

import threading

import pytest

from tbh.runtime.within import within


def test_what_the_call_returns_comes_back() -> None:
    assert within(5.0, lambda: "done") == "done"


def test_what_the_call_raises_is_raised_here() -> None:
    def fail() -> str:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        within(5.0, fail)


def test_a_call_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait(30)
        return "late"

    with pytest.raises(TimeoutError):
        within(0.01, hang)
    release.set()
