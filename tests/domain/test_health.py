"""Rolling windows, the flush schedule and clusters of errors."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.health import (
    CLUSTER_S,
    CLUSTERS_MAX,
    DEBOUNCE_S,
    KEYS_MAX,
    REASONS_MAX,
    ErrorClusters,
    FlushSchedule,
    HealthWindow,
)

STEPS = st.lists(st.tuples(st.floats(0, 400, allow_nan=False), st.sampled_from("ab")), max_size=60)


class TestHealthWindow:
    def test_it_counts_what_happened_within_fifteen_minutes(self) -> None:
        window = HealthWindow()
        window.add("acks", 0.0)
        window.add("acks", 100.0, 2)
        assert [window.count("acks", now_s) for now_s in (100.0, 899.9, 900.0, 999.9, 1000.0)] == [3, 3, 2, 2, 0]

    def test_each_key_has_its_own(self) -> None:
        window = HealthWindow()
        window.add("acks", 1.0)
        assert (window.count("acks", 1.0), window.count("rejects", 1.0)) == (1, 0)

    def test_a_share_of_nothing_is_nothing(self) -> None:
        window = HealthWindow()
        assert window.share("stale", "checks", 5.0) == 0.0
        window.add("checks", 5.0, 4)
        window.add("stale", 5.0)
        assert window.share("stale", "checks", 5.0) == 0.25

    @given(STEPS)
    def test_it_agrees_with_counting_whole_seconds(self, steps: list[tuple[float, str]]) -> None:
        window, happened, now_s = HealthWindow(), [], 0.0
        for wait_s, key in steps:
            now_s += wait_s
            window.add(key, now_s)
            happened.append((key, int(now_s)))
            expected = Counter(name for name, second in happened if second > int(now_s) - 900)
            assert {name: window.count(name, now_s) for name in "ab"} == {name: expected[name] for name in "ab"}

    def test_a_flood_costs_no_more_than_one_entry_a_second(self) -> None:
        window = HealthWindow()
        for number in range(20_000):
            window.add("ticks", number / 10)
        assert window.count("ticks", 1999.9) == 9_000
        assert len(window._entries["ticks"]) <= 901

    def test_too_many_keys_are_a_mistake(self) -> None:
        window = HealthWindow()
        for number in range(KEYS_MAX):
            window.add(str(number), 0.0)
        with pytest.raises(ValueError, match="one more"):
            window.add("another", 0.0)


def schedule(interval_s: float = 60.0) -> FlushSchedule:
    return FlushSchedule(interval_s=interval_s, now_s=0.0)


class TestFlushSchedule:
    def test_it_is_due_after_the_interval(self) -> None:
        assert schedule().due(59.0, in_position=False) is None
        assert schedule().due(60.0, in_position=False) == "interval"

    @pytest.mark.parametrize(("interval_s", "due_s"), [(60.0, 15.0), (30.0, 15.0), (15.0, 15.0), (5.0, 5.0)])
    def test_in_a_position_it_is_due_after_fifteen_seconds_at_most(self, interval_s: float, due_s: float) -> None:
        assert schedule(interval_s).due(due_s - 1, in_position=True) is None
        assert schedule(interval_s).due(due_s, in_position=True) == "interval"

    def test_asking_skips_the_interval(self) -> None:
        plan = schedule()
        plan.ask("order_ack")
        assert plan.due(0.0, in_position=False) == "order_ack"

    def test_asking_never_skips_the_debounce_and_is_never_lost(self) -> None:
        plan = schedule()
        plan.begun(10.0)
        plan.done()
        plan.ask("order_reject")
        assert plan.due(12.9, in_position=True) is None
        assert plan.wait_s(12.0) == pytest.approx(1.0)
        assert plan.due(13.0, in_position=True) == "order_reject"

    def test_what_was_asked_for_together_goes_together(self) -> None:
        plan = schedule()
        for reason in ("a", "b", "a"):
            plan.ask(reason)
        assert plan.due(0.0, in_position=False) == "a,b"

    def test_of_many_reasons_only_some_are_named(self) -> None:
        plan = schedule()
        for number in range(50):
            plan.ask(str(number))
        assert (plan.due(0.0, in_position=False) or "").count(",") == REASONS_MAX - 1

    def test_a_flush_that_failed_is_still_wanted(self) -> None:
        plan = schedule()
        plan.ask("order_ack")
        plan.begun(0.0)
        plan.failed(0.0, 10.0)
        assert plan.due(9.9, in_position=True) is None
        assert plan.due(10.0, in_position=True) == "order_ack,retry"

    @given(st.lists(st.tuples(st.floats(0, 20, allow_nan=False), st.booleans(), st.booleans()), max_size=80))
    def test_two_flushes_are_never_closer_than_the_debounce(self, steps: list[tuple[float, bool, bool]]) -> None:
        plan, now_s, wanted = schedule(5.0), 0.0, False
        flushed: list[float] = []
        for wait_s, asks, arrives in steps:
            now_s += wait_s
            if asks:
                plan.ask("x")
                wanted = True
            due = plan.due(now_s, in_position=False)
            assert due is not None or not wanted or now_s - flushed[-1] < DEBOUNCE_S + 4.0
            if due is not None:
                assert not flushed or now_s - flushed[-1] >= DEBOUNCE_S
                flushed.append(now_s)
                plan.begun(now_s)
                if arrives:
                    plan.done()
                    wanted = False
                else:
                    plan.failed(now_s, 4.0)
                    wanted = True


class TestErrorClusters:
    def test_the_first_is_told_at_once_and_the_rest_together(self) -> None:
        clusters = ErrorClusters()
        first = clusters.add("relay", "unavailable", "one", 0.0)
        assert [(cluster.message, cluster.count) for cluster in first] == [("one", 1)]
        assert clusters.add("relay", "unavailable", "two", 1.0) == []
        assert clusters.add("relay", "unavailable", "three", 2.0) == []
        assert clusters.over(CLUSTER_S - 0.1) == []
        assert [(cluster.message, cluster.count) for cluster in clusters.over(CLUSTER_S)] == [("three", 2)]

    def test_a_single_error_is_told_once(self) -> None:
        clusters = ErrorClusters()
        clusters.add("relay", "unavailable", "one", 0.0)
        assert clusters.over(1000.0) == []

    def test_stage_and_class_tell_clusters_apart(self) -> None:
        clusters = ErrorClusters()
        told = [clusters.add(*name, "x", 0.0) for name in (("a", "x"), ("a", "y"), ("b", "x"))]
        assert [len(some) for some in told] == [1, 1, 1]

    @given(st.lists(st.tuples(st.floats(0, 50, allow_nan=False), st.integers(0, 150)), max_size=120))
    def test_every_error_is_told_of_exactly_once(self, steps: list[tuple[float, int]]) -> None:
        clusters, now_s, told = ErrorClusters(), 0.0, 0
        for wait_s, kind in steps:
            now_s += wait_s
            told += sum(cluster.count for cluster in clusters.add("stage", str(kind), "x", now_s))
            assert len(clusters._open) <= CLUSTERS_MAX
        assert told + sum(cluster.count for cluster in clusters.all()) == len(steps)
