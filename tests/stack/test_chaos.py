"""A short run of the campaign that ``python -m bench chaos`` runs at length."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import chaos
from bench.chaos_judge import WRONG


def test_killed_in_mid_order_a_live_bot_loses_doubles_and_invents_nothing(tmp_path: Path) -> None:
    asked = argparse.Namespace(quick=True, kills=5, seed=1, resume=tmp_path)
    found = chaos.run(asked)
    assert {name: found[name] for name in WRONG} == dict.fromkeys(WRONG, 0), found["wrong"]
    assert (found["position_drift"], found["cash_drift"], found["unscoped_questions"]) == (0, 0, 0)
    assert found["refused_entries"] == []
    assert (found["kills"], found["legs_clean"], found["exits"]) == (5, 1, {}), found["stalls"]
    assert found["kills_in_flight"] >= 2
    assert chaos.run(asked) == found, "what is finished is not run again"
