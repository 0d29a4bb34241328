"""What every test may rely on: recorded data, repeatable examples, nothing left running by the test before."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# A failure on one machine must be the same failure on the next one; HYPOTHESIS_PROFILE=explore looks further.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=60)
settings.register_profile(
    "explore", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Tests of the store wait for the disk at each commit, and none of them can tell a disk from memory.
MEMORY = Path("/dev/shm")
MEMORY_MIN_BYTES = 4 * 2**30
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

SLOW = ("stack", "replay", "campaign", "mutants", "session", "cli", "database", "infra")
"""The folders whose files take longest."""

THREAD_GRACE_S = 2.0
ACTOR_STOP_TIMEOUT_S = 5.0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some tests wait for a lease to end rather than for a core."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers slow files come first, a file of each slow folder in turn: no core waits in the end for
    the last one, and those that wait run beside those that compute."""
    if not hasattr(config, "workerinput"):
        return
    place: dict[Path, tuple[int, int]] = {}
    met: Counter[str] = Counter()
    for path in dict.fromkeys(item.path for item in items):
        folder = path.parent.name
        place[path] = (met[folder], SLOW.index(folder)) if folder in SLOW else (len(items), 0)
        met[folder] += 1
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded candles, indicator values and reference runs beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("recorded data is absent: ../shared/data is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Stops the actors a test leaves, and fails it when actors or non-daemon threads outlive that."""
    before = set(threading.enumerate())
    yield
    # Importing pykka here would hide that a test of light imports has pulled it in.
    if "pykka" in sys.modules:
        registry = sys.modules["pykka"].ActorRegistry
        registry.stop_all(block=True, timeout=ACTOR_STOP_TIMEOUT_S)
        assert registry.get_all() == [], "actors outlived stop_all: the registry is one for the whole process"
    left = _threads_left(before)
    assert not left, f"the test left threads running: {', '.join(thread.name for thread in left)}"


def _threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    """Non-daemon threads that weren't there before and don't end within a grace time."""
    new = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    deadline = time.monotonic() + THREAD_GRACE_S
    for thread in new:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in new if thread.is_alive()]
