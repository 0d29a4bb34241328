"""One process, one state directory."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tbh.infra import statedir
from tbh.infra.statedir import BOOTS_MAX, StateDir, StatePaths
from tbh.ports import Fatal, Unavailable

HOLDER = """
import signal, sys
from tbh.infra.statedir import StateDir
state = StateDir.open(sys.argv[1])
print(state.boot_id, flush=True)
signal.pause()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


def test_the_folder_is_made_for_its_owner_alone(root: Path) -> None:
    with StateDir.open(root):
        assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_every_file_has_its_place(root: Path) -> None:
    paths = StatePaths(root)
    names = {path.name for path in (paths.store, paths.paper, paths.events, paths.logs, paths.status)}
    assert names == {"store.sqlite", "paper.sqlite", "events.jsonl", "logs", "status.json"}
    assert not root.exists()


def test_a_directory_in_use_is_refused_with_the_holders_pid(root: Path) -> None:
    with StateDir.open(root), pytest.raises(Fatal, match=f"process {os.getpid()}:") as caught:
        StateDir.open(root)
    assert caught.value.exit_code == 75
    assert "\n" not in str(caught.value)


def test_a_closed_directory_is_free(root: Path) -> None:
    StateDir.open(root).close()
    with StateDir.open(root):
        pass


def test_the_lock_goes_with_kill_9(root: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, root], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    boot_id = holder.stdout.readline().strip()
    with pytest.raises(Fatal, match=f"process {holder.pid}:"):
        StateDir.open(root)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with StateDir.open(root) as state:
        assert state.previous_boot_id == boot_id


def test_each_boot_has_an_id_and_knows_the_former_one(root: Path) -> None:
    with StateDir.open(root) as first:
        assert first.previous_boot_id is None
    with StateDir.open(root) as second:
        assert second.boot_id != first.boot_id
        assert second.previous_boot_id == first.boot_id


def test_boots_that_died_before_they_claimed_are_remembered(root: Path) -> None:
    with StateDir.open(root) as holder:
        holder.lease_claimed()
    with StateDir.open(root) as died:
        pass
    with StateDir.open(root) as third:
        assert third.previous_boot_ids == (died.boot_id, holder.boot_id)
        third.lease_claimed()
    with StateDir.open(root) as fourth:
        assert fourth.previous_boot_ids == (third.boot_id,)


def test_boot_ids_have_a_limit(root: Path) -> None:
    for _ in range(BOOTS_MAX + 3):
        StateDir.open(root).close()
    with StateDir.open(root) as state:
        assert len(state.previous_boot_ids) == BOOTS_MAX


def test_a_copy_of_a_living_directory_offers_no_boot_of_its_owner(root: Path, tmp_path: Path) -> None:
    with StateDir.open(root) as owner:
        owner.lease_claimed()
        shutil.copytree(root, tmp_path / "copy")
        with StateDir.open(tmp_path / "copy") as copy:
            assert (copy.previous_boot_ids, copy.previous_boot_id) == ((), None)
        with StateDir.open(tmp_path / "copy") as again:
            assert again.previous_boot_ids == (copy.boot_id,)


@pytest.mark.parametrize("unwritten", ["boots.json", "home.json"])
def test_a_copy_whose_first_opening_broke_off_offers_no_boot_of_the_owner(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unwritten: str
) -> None:
    replace = statedir._replace

    def broken(path: Path, text: str) -> None:
        if path.name == unwritten:
            raise OSError(errno.EIO, "broken")
        replace(path, text)

    with StateDir.open(root) as owner:
        shutil.copytree(root, tmp_path / "copy")
        with monkeypatch.context() as patch:
            patch.setattr(statedir, "_replace", broken)
            with pytest.raises(Fatal, match="state_dir_unusable"):
                StateDir.open(tmp_path / "copy")
        with StateDir.open(tmp_path / "copy") as copy:
            assert owner.boot_id not in copy.previous_boot_ids


def test_a_renamed_directory_still_offers_its_boots(root: Path, tmp_path: Path) -> None:
    with StateDir.open(root) as first:
        pass
    root.rename(tmp_path / "renamed")
    with StateDir.open(tmp_path / "renamed") as second:
        assert second.previous_boot_ids == (first.boot_id,)


@pytest.mark.parametrize("damage", [None, b"", b"\xff not json", b"[]"])
def test_without_a_readable_home_no_boot_is_offered_once(root: Path, damage: bytes | None) -> None:
    StateDir.open(root).close()
    home = StatePaths(root).home
    home.unlink()
    if damage is not None:
        home.write_bytes(damage)
    with StateDir.open(root) as second:
        assert second.previous_boot_ids == ()
    with StateDir.open(root) as third:
        assert third.previous_boot_ids == (second.boot_id,)


def test_a_lock_file_removed_under_its_holder_proves_nothing(root: Path) -> None:
    with StateDir.open(root) as owner:
        owner.lock.unlink()
        with StateDir.open(root) as rival:
            assert rival.previous_boot_ids == ()


def test_another_host_is_offered_no_boot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StateDir.open(root).close()
    here = os.uname()
    there = os.uname_result((here.sysname, "elsewhere", here.release, here.version, here.machine))
    monkeypatch.setattr(os, "uname", lambda: there)
    with StateDir.open(root) as state:
        assert state.previous_boot_ids == ()


@pytest.mark.parametrize("text", ["", "not json", '{"a": 1}', "[1]"])
def test_a_damaged_boot_file_is_named(root: Path, text: str) -> None:
    StateDir.open(root).close()
    StatePaths(root).boots.write_text(text)
    with pytest.raises(Fatal, match=r"boots\.json") as caught:
        StateDir.open(root)
    assert caught.value.exit_code == 78
    StatePaths(root).boots.unlink()
    StateDir.open(root).close()


@pytest.mark.parametrize("place", ["file", "file/state"])
def test_a_path_that_can_be_no_folder_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal, match="state_dir_unusable") as caught:
        StateDir.open(tmp_path / place)
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)


def test_a_status_replaces_the_former_one_whole(root: Path) -> None:
    with StateDir.open(root) as state:
        state.write_status({"phase": "open", "at": datetime(2026, 1, 1, tzinfo=UTC)})
        state.write_status({"phase": "CLOSED"})
        assert json.loads(state.status.read_text()) == {"phase": "CLOSED"}
        assert sorted(path.name for path in root.iterdir()) == ["boots.json", "home.json", "lock", "status.json"]


def test_a_status_that_can_not_be_written_leaves_the_former_one(root: Path) -> None:
    with StateDir.open(root) as state:
        state.write_status({"phase": "open"})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(Unavailable):
                state.write_status({"phase": "mid"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert json.loads(state.status.read_text()) == {"phase": "open"}


def test_the_kill_marker_works_from_outside_and_stays(root: Path) -> None:
    with StateDir.open(root) as state:
        before = state.killed
        StatePaths(root).mark_killed("operator")
        assert (before, state.killed) == (False, True)
    with StateDir.open(root) as again:
        assert again.killed
        again.clear_killed()
        again.clear_killed()
        assert not StatePaths(root).killed


def test_the_kill_marker_works_on_a_full_disk(root: Path) -> None:
    StateDir.open(root).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        StatePaths(root).mark_killed("operator")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert StatePaths(root).killed
