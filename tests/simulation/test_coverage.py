"""What a campaign covered, and what it should have."""

from __future__ import annotations

from collections import Counter

from tbh.domain.order import TABLE
from tbh.messages.orders import OrderStatus
from tbh.simulation.coverage import faults, row, shortfalls, transitions
from tbh.simulation.outcome import Coverage


def test_every_row_of_the_table_is_listed_taken_or_not() -> None:
    counts = transitions(Coverage(transitions=Counter({"filled>filled on accepted": 3, "odd>end on chance": 1})))
    assert len(counts) == len(TABLE) + 1
    assert counts["filled>filled on accepted"] == 3
    assert counts["unknown>absent on not_found"] == 0
    assert list(counts)[-1] == "odd>end on chance"


def test_a_row_keeps_its_name_wherever_the_order_went() -> None:
    partly = OrderStatus.PARTIALLY_FILLED
    assert row(OrderStatus.UNKNOWN, "accepted", partly) == "unknown>accepted on accepted"
    assert row(OrderStatus.FILLED, "silence", OrderStatus.UNKNOWN) == "filled>unknown on silence"


def test_a_short_run_owes_its_share_of_a_full_one() -> None:
    full = Coverage(transitions=Counter(dict.fromkeys(transitions(Coverage()), 100)), faults=Counter(a=1000, b=999))
    full.unknown_found, full.unknown_absent = 1000, 999
    short = [(each.what, each.count, each.at_least) for each in shortfalls(full, ("a", "b"), seeds=20_000)]
    assert short == [("b", 999, 1000), ("unknown and absent", 999, 1000)]
    assert shortfalls(full, ("a", "b"), seeds=19_900) == []
    assert shortfalls(Coverage(), ("a",), seeds=10) == []


def test_a_fault_that_never_happened_is_listed() -> None:
    assert faults(Coverage(faults=Counter(a=2)), ("a", "b")) == {"a": 2, "b": 0}


def test_coverage_adds_up() -> None:
    one = Coverage(transitions=Counter(x=1), faults=Counter(a=2), checks=Counter(c=3), unknown_found=4)
    one.add(Coverage(transitions=Counter(x=5), faults=Counter(b=1), other=Counter(o=1), unknown_absent=2))
    assert (one.transitions, one.faults, one.checks, one.other) == (
        Counter(x=6), Counter(a=2, b=1), Counter(c=3), Counter(o=1),
    )  # fmt: skip
    assert (one.unknown_found, one.unknown_absent) == (4, 2)
