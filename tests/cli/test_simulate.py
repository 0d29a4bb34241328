"""``tbh simulate``: its report, its exit codes, and how it ends when it is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tbh.campaign import runs, world
from tbh.campaign.scenarios import SCENARIOS
from tbh.cli.main import main
from tbh.simulation.outcome import Coverage, Outcome, Violation

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, list[str]]]


def outcome(seed: int, *broken: str) -> Outcome:
    covered = Coverage(transitions=Counter({"unknown>absent on not_found": 2}), faults=Counter(reply_lost=3))
    covered.unknown_absent = 2
    violations = [Violation(seed=seed, invariant=name, detail="why", at_ns=1_500_000_000) for name in broken]
    return Outcome(
        seed=seed, messages=1000, orders=10, digest=f"d{seed}", virtual_s=60.0, boots=2, violations=violations,
        coverage=covered,
    )  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code, stdout, lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = main(["simulate", *map(str, arguments)])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The seeds that break a promise; put some in. No seed is really run."""
    seeds: set[int] = set()

    def run_seed(seed: int, *, scenario: Any = None, trace: Any = None) -> Outcome:
        if trace is not None:
            trace("1.500 gateway OrderSigned")
        return outcome(seed, *(["signed_once"] if seed in seeds else []))

    monkeypatch.setattr(world, "run_seed", run_seed)
    return seeds


def test_the_json_report_holds_what_scripts_rely_on(run: Run, broken: set[int]) -> None:
    exit_code, out, errors = run("--seeds", "5:9", "--jobs", "1", "--json")
    told = json.loads(out)
    assert (exit_code, errors) == (0, [])
    assert (told["seeds"], told["messages"], told["orders"], told["violations"]) == (4, 4000, 40, [])
    assert (told["messages_mean"], told["orders_mean"]) == (1000.0, 10.0)
    assert told["coverage"]["transitions"]["unknown>absent on not_found"] == 8
    assert told["coverage"]["transitions"]["drafted>recorded on recorded"] == 0
    assert told["coverage"]["faults"]["reply_lost"] == 12
    assert told["coverage"]["faults"]["disk_full"] == 0
    assert told["coverage"]["unknown_absent"] == 8
    assert told["seconds"] >= 0


def test_a_violation_is_exit_code_1_and_named_with_its_seed(run: Run, broken: set[int]) -> None:
    broken |= {6, 7}
    exit_code, out, _ = run("--seeds", "5:9", "--jobs", "1", "--json")
    assert exit_code == 1
    assert json.loads(out)["violations"] == [
        {"seed": seed, "invariant": "signed_once", "detail": "why", "at_s": 1.5} for seed in (6, 7)
    ]


def test_people_are_told_how_to_replay_a_violation(run: Run, broken: set[int]) -> None:
    broken |= {6}
    exit_code, out, _ = run("--seeds", "5:9", "--jobs", "1", "--scenario", "exchange_liquidates")
    assert exit_code == 1
    assert "VIOLATION signed_once after 1.500 s: why" in out
    assert "replay: tbh simulate --seed 6 --scenario exchange_liquidates --trace" in out
    assert "1 of 4 seeds broke a promise" in out


def test_a_clean_run_says_so_and_what_it_covered_too_rarely(run: Run, broken: set[int]) -> None:
    exit_code, out, _ = run("--seeds", "0:200", "--jobs", "1")
    assert exit_code == 0
    assert "every promise held" in out
    assert "covered too rarely: drafted>recorded on recorded (0 of 1)" in out


def test_a_trace_shows_each_step_of_the_seed_and_then_what_broke(run: Run, broken: set[int]) -> None:
    broken |= {6}
    exit_code, out, _ = run("--seed", "6", "--trace")
    assert exit_code == 1
    assert out.splitlines()[:2] == ["1.500 gateway OrderSigned", "VIOLATION signed_once: why"]
    exit_code, out, _ = run("--seed", "6", "--trace", "--json")
    told = json.loads(out)
    assert (exit_code, told["seeds"], told["trace"]) == (1, 1, ["1.500 gateway OrderSigned"])


def test_a_simulation_that_fails_itself_is_a_violation(
    run: Run, broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(seed: int, **_: Any) -> Outcome:
        raise KeyError(seed)

    monkeypatch.setattr(world, "run_seed", fail)
    exit_code, out, _ = run("--seeds", "5:6", "--jobs", "1", "--json")
    assert exit_code == 1
    assert [each["invariant"] for each in json.loads(out)["violations"]] == ["the_simulation_runs"]


def test_the_list_names_every_scenario(run: Run) -> None:
    exit_code, out, _ = run("--list", "--json")
    assert (exit_code, list(json.loads(out)["scenarios"])) == (0, list(SCENARIOS))
    _, out, _ = run("--list")
    assert [line.split()[0] for line in out.splitlines()[::2]] == list(SCENARIOS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--trace",), "--seed N"),
        (("--seeds", "9:5"), "above the first"),
        (("--seeds", "5"), "must look like"),
        (("--scenario", "no_such"), "'no_such' is no scenario"),
        (("--seed", "1", "--seeds", "0:5"), "not allowed with"),
    ],
)
def test_a_mistake_is_one_line_and_64(arguments: tuple[str, ...], told: str, run: Run) -> None:
    exit_code, out, errors = run(*arguments)
    assert (exit_code, out, len(errors)) == (64, "", 1)
    assert told in errors[0]


@pytest.fixture
def long_run() -> Iterator[subprocess.Popen[str]]:
    """More seeds than anybody waits for, on two workers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tbh", "simulate", "--seeds", "0:1000000", "--jobs", "2", "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_an_interrupt_ends_it_and_its_workers_and_reports_what_was_run(long_run: subprocess.Popen[str]) -> None:
    started = _workers(long_run.pid)
    long_run.send_signal(signal.SIGINT)
    out, errors = long_run.communicate(timeout=20)
    assert long_run.returncode in (1, 130)
    assert errors == ""
    assert json.loads(out)["asked"] == 1_000_000
    _all_end(started)


def test_no_worker_outlives_a_campaign_that_was_killed(long_run: subprocess.Popen[str]) -> None:
    started = _workers(long_run.pid)
    long_run.kill()
    long_run.communicate(timeout=20)
    _all_end(started)


def test_a_worker_that_is_lost_ends_the_campaign_with_the_seeds_that_it_was_at(
    long_run: subprocess.Popen[str],
) -> None:
    started = _workers(long_run.pid)
    os.kill(started[0], signal.SIGKILL)
    out, errors = long_run.communicate(timeout=20)
    assert (long_run.returncode, out) == (70, "")
    assert re.fullmatch(r"tbh: a worker died at seeds \d+ to \d+; run them with --jobs 1 to see why\n", errors)
    _all_end(started)


def test_a_worker_that_is_lost_before_its_first_seeds_ends_the_campaign_as_well(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = runs._Workers._start

    def start_and_lose(self: runs._Workers) -> Any:
        pipe = start(self)
        self._processes[pipe].kill()
        self._processes[pipe].join()
        return pipe

    monkeypatch.setattr(runs._Workers, "_start", start_and_lose)
    exit_code, out, errors = run("--seeds", "5:9", "--jobs", "2")
    assert (exit_code, out) == (70, "")
    assert errors == ["tbh: a worker died at seeds 5 to 5; run them with --jobs 1 to see why"]


def _all_end(pids: list[int]) -> None:
    deadline_s = time.monotonic() + 10
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline_s, "a worker outlives its parent"
        os.sched_yield()


def _workers(campaign: int) -> list[int]:
    """The two workers, once there are both: children of the process which the campaign has to start them."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        found = [worker for starter in _children(campaign) for worker in _children(starter)]
        if len(found) == 2:
            return found
        os.sched_yield()
    raise AssertionError("no workers were started")


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        texts = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for text in texts for child in text.split()]
    return []
