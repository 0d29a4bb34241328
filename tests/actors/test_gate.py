"""The gate: which reasons hold, and for how long."""

from __future__ import annotations

import pytest

from tbh.actors.gate import PASSING, Gate
from tbh.domain.risk import GATE_REASONS


def held(gate: Gate) -> list[str]:
    return list(gate.reasons)


def test_an_empty_gate_is_open() -> None:
    assert (Gate().reasons, Gate().lasting) == ((), ())


def test_reasons_stand_in_one_order_whatever_came_first() -> None:
    gate = Gate()
    for reason in reversed(GATE_REASONS):
        gate.put(reason, True)
    assert gate.reasons == GATE_REASONS


def test_a_reason_ends_when_every_source_has_let_go() -> None:
    gate = Gate()
    gate.put("observe_only", True, source="controls")
    gate.put("observe_only", True, source="strategy")
    gate.put("observe_only", False, source="controls")
    assert held(gate) == ["observe_only"]
    gate.put("observe_only", False, source="strategy")
    assert held(gate) == []


def test_letting_go_of_what_does_not_hold_is_no_error() -> None:
    gate = Gate()
    gate.put("paused", False)
    assert held(gate) == []


def test_a_flag_outlasts_the_operators_word() -> None:
    gate = Gate(["observe_only"])
    gate.put("observe_only", False, source="controls")
    assert held(gate) == ["observe_only"]


def test_a_database_that_is_away_closes_nothing_until_the_lease_has_ended() -> None:
    gate = Gate()
    gate.put("database_away", True)
    assert held(gate) == []
    gate.put("lease_lapsed", True)
    assert held(gate) == ["lease_lapsed", "database_away"]


def test_what_is_under_repair_does_not_count_as_lasting() -> None:
    gate = Gate([*PASSING, "paused"])
    assert set(gate.reasons) == {*PASSING, "paused"}
    assert gate.lasting == ("paused",)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="'moon' is no gate reason"):
        Gate(["moon"])
