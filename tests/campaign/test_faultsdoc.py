"""``docs/FAULTS.md`` and the tables that it is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tbh.campaign.faultsdoc import RUN_FILE, main, render
from tbh.campaign.matrix import COURSES
from tbh.campaign.scenarios import ELSEWHERE, SCENARIOS
from tbh.simulation.faults import RULES, FaultKind
from tbh.simulation.invariants import INVARIANTS

REPOSITORY = Path(__file__).resolve().parents[2]
LESSONS = [f"L{number}" for number in range(1, 27)]


def test_the_document_is_what_the_tables_say(tmp_path: Path) -> None:
    recorded = REPOSITORY / "docs" / RUN_FILE
    if recorded.exists():
        (tmp_path / RUN_FILE).write_bytes(recorded.read_bytes())
    assert main([str(tmp_path / "FAULTS.md")]) == 0
    if (tmp_path / "FAULTS.md").read_text("utf-8") != (REPOSITORY / "docs" / "FAULTS.md").read_text("utf-8"):
        pytest.fail("docs/FAULTS.md is not what the simulator's tables say: run `make docs`", pytrace=False)


def test_every_fault_has_its_rule_and_its_course() -> None:
    assert set(RULES) == set(COURSES) == set(FaultKind)


def test_every_fault_is_judged_by_promises_that_are_checked() -> None:
    assert {judge for course in COURSES.values() for judge in course.judges} <= set(INVARIANTS)
    assert [kind for kind, course in COURSES.items() if not course.judges] == []


def test_every_lesson_has_a_scenario_or_another_place() -> None:
    played = {lesson for scenario in SCENARIOS.values() for lesson in scenario.lessons}
    assert played.isdisjoint(ELSEWHERE)
    assert sorted(played | set(ELSEWHERE), key=lambda lesson: int(lesson[1:])) == LESSONS


def test_the_places_that_are_named_exist() -> None:
    named = {word for _, where in ELSEWHERE.values() for word in where.split("`")[1::2] if word.startswith("tests/")}
    assert named
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


def test_scenarios_speak_of_faults_that_there_are() -> None:
    spoken = {kind for scenario in SCENARIOS.values() for kind in scenario.strikes}
    assert spoken <= {kind.value for kind in FaultKind}


def test_the_figures_of_a_run_stand_in_the_document() -> None:
    run: dict[str, Any] = {
        "seeds": 20_000, "messages": 31_000_000, "orders": 410_000, "boots": 61_000, "virtual_s": 7_200_000.0,
        "seconds": 840.0, "messages_mean": 1550.0, "orders_mean": 20.5, "violated_seeds": 0, "digest": "abc",
        "coverage": {
            "faults": {"reply_lost": 1234}, "transitions": {"unknown>absent on not_found": 4321}, "unknown_found": 1,
            "unknown_absent": 2, "invariants": {"signed_once": 99},
        },
    }  # fmt: skip
    text = render(json.loads(json.dumps(run)))
    assert "**Reply lost** (1,234 times)" in text
    assert "20,000 seeds, 31,000,000 messages, 410,000 orders" in text
    assert "       4,321  unknown>absent on not_found" in text
    assert "None is recorded" not in text


def test_without_a_run_the_document_says_so() -> None:
    assert "None is recorded" in render(None)


def test_a_call_without_a_file_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert capsys.readouterr().err.startswith("usage:")
