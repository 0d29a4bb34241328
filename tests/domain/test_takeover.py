"""When a rival may take a lease: never from a holder that renews, never before one whole lease of silence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.takeover import LeaseWatch, Watch

LOOKS = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), min_size=1, max_size=20)


def look(watch: LeaseWatch, renewals: int, now_s: float, holder: str = "a") -> Watch:
    return watch.look(holder=holder, renewals=renewals, lease_s=30, now_s=now_s)


def test_a_silent_holder_is_taken_over_after_one_lease() -> None:
    watch = LeaseWatch()
    assert [look(watch, 7, now_s) for now_s in (100.0, 129.9, 130.0)] == [Watch.WAIT, Watch.WAIT, Watch.TAKE]
    assert watch.renewals == 7


def test_a_holder_that_renews_is_alive() -> None:
    watch = LeaseWatch()
    assert [look(watch, 7, 0.0), look(watch, 8, 1.0)] == [Watch.WAIT, Watch.OWNED]


def test_a_new_holder_is_watched_anew() -> None:
    watch = LeaseWatch()
    look(watch, 7, 0.0)
    assert look(watch, 7, 40.0, holder="b") is Watch.WAIT
    assert watch.left_s(30, 50.0) == 20.0


@given(LOOKS)
def test_it_takes_only_what_stood_still_for_a_lease(looks: list[tuple[int, float]]) -> None:
    watch, now_s, seen = LeaseWatch(), 0.0, []
    for renewals, later_s in looks:
        now_s += later_s
        seen.append((renewals, now_s))
        if look(watch, renewals, now_s) is Watch.TAKE:
            since_s = now_s
            for each, at_s in reversed(seen):
                if each != renewals:
                    break
                since_s = at_s
            assert now_s - since_s >= 30
