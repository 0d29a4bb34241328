"""The benchmarks' entry point, and that the kernel's benchmark measures what it says. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)


def test_the_kernel_benchmark_reports_itself_and_its_peers_as_one_json_object() -> None:
    done = bench("kernel", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    promised = "cell_msgs_per_s pykka_msgs_per_s one_way_us_p50 one_way_us_p99 pykka_us_p50 queue_us_p50 busy_us_p99"
    for name in [*promised.split(), "simulator_msgs_per_s"]:
        assert figures[name] > 0, name


def test_for_people_the_last_line_is_still_json() -> None:
    lines = bench("kernel", "--quick").stdout.splitlines()
    assert len(lines) > 2
    assert "simulator_msgs_per_s" in json.loads(lines[-1])


def test_benchmarks_are_listed_with_what_they_measure() -> None:
    done = bench()
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("kernel ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["nothing", "__main__", "../kernel"])
def test_an_unknown_benchmark_is_one_clear_line(name: str) -> None:
    done = bench(name)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == f"bench: there is no benchmark {name!r}; `python -m bench` lists them\n"
