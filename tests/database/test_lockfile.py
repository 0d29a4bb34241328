"""The lock names who holds it, and goes with its holder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tbh.infra.lockfile import LockFile, holder_of

DEADLINE_S = 20.0


def test_the_next_one_waits_for_a_predecessor_that_is_about_to_go(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    first.take(patience_s=0, what="thing")
    waiting = threading.Thread(target=second.take, kwargs={"patience_s": DEADLINE_S, "what": "thing"})
    waiting.start()
    first.release()
    waiting.join()
    assert holder_of(tmp_path / "lock") == os.getpid()
    second.release()


def test_a_lock_that_still_names_its_former_holder_accuses_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tbh.infra.lockfile._WRITING_S", 0.05)
    lock = LockFile(tmp_path / "lock")
    lock.take(patience_s=0, what="thing")
    (tmp_path / "lock").write_text(f"{os.getppid()}\n")
    assert holder_of(tmp_path / "lock") == 0
    lock.release()


def test_nobody_holds_a_lock_that_was_released_or_never_taken(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "lock")
    assert holder_of(tmp_path / "lock") is None
    lock.take(patience_s=0, what="thing")
    assert holder_of(tmp_path / "lock") == os.getpid()
    lock.release()
    assert holder_of(tmp_path / "lock") is None
