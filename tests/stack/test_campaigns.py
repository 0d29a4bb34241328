"""Short runs of the campaigns that ``python -m bench`` runs at length."""

from __future__ import annotations

import argparse

from bench import fleet, outage, race
from bench._stack import Stack


def test_an_outage_and_lost_replies_leave_every_row_once_and_in_order(stack: Stack) -> None:
    found = outage.ordeal(stack, away_s=3.0, loss_s=3.0, lease_s=2.0)
    assert found["lost_replies"] > 0
    wrong = ("missing", "doubled", "out_of_order", "refused", "orders_differing", "strategy_errors", "dead_letters")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (found["exit_code"], found["escalation"], found["actor_restarts"]) == (0, None, 0)
    assert found["last_seq"] == found["entries_written"]


def test_of_processes_that_race_for_a_bot_one_gets_it_each_time() -> None:
    found = race.run(argparse.Namespace(quick=True))
    assert found["wrong"] == []
    assert found["rounds_with_one_owner"] == found["rounds"]
    assert found["epochs_strictly_rising"]
    assert found["deadlocks"] == 0


def test_several_bots_on_one_database_lose_no_row() -> None:
    found = fleet.run(argparse.Namespace(quick=True, bars_per_second=5.0))
    assert (found["rows_lost"], found["dead_letters"], found["exit_codes"]) == (0, 0, [0])
    assert found["entries_written"] > 0
