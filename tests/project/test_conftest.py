"""The guard around every test, tried in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 60
THREAD = """
import threading
END = threading.Event()
def test_it():
    threading.Thread(target=END.wait, daemon={}).start()
"""
ENDER = """
def test_end():
    END.set()
"""
ACTOR = """
import pykka
class Idle(pykka.ThreadingActor): pass
def test_it():
    Idle.start()
"""


def _pytest(repository: Path, folder: Path, test: str) -> str:
    """Run one test file under the repository's conftest; pytest's last line."""
    (folder / "conftest.py").write_text((repository / "tests" / "conftest.py").read_text())
    (folder / "test_it.py").write_text(test)
    arguments = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        ".",
        ".",
    ]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        pytest.param(THREAD.format(False) + ENDER, "2 passed, 1 error", id="thread-left"),
        pytest.param(THREAD.format(True), "1 passed", id="daemon-thread-left"),
        pytest.param(ACTOR, "1 passed", id="actor-left-is-stopped"),
        pytest.param("def test_it(shared_data): pass\n", "1 skipped", id="no-recorded-data"),
    ],
)
def test_the_guard_around_every_test(repository: Path, tmp_path: Path, test: str, outcome: str) -> None:
    assert _pytest(repository, tmp_path, test).startswith(outcome)
