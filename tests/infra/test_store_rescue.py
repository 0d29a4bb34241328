"""Damaged stores: found at the opening, set aside whole, and never a stranger's file."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tbh.infra.store import SqliteStore
from tbh.infra.store_mark import StoreMark
from tbh.infra.store_rescue import open_or_set_aside
from tbh.ports import Batch, Fatal, Unavailable


def clock() -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def written(path: Path, *keys: str, flushed: bool = True) -> SqliteStore:
    store = SqliteStore.open(path)
    for key in keys:
        store.commit(Batch(outbox=[("fn", {}, key)], flushed=flushed))
    return store


def rescued(path: Path, word: str) -> Path:
    """Where the old file is, once a new and empty store stands in its place."""
    store, damage = open_or_set_aside(path, clock=clock)
    assert damage is not None
    assert word in damage.reason
    assert str(damage.kept) in damage.line()
    assert store.counts().recorded == 0
    store.commit(Batch(meta={"a": "b"}))
    store.close()
    assert open_or_set_aside(path, clock=clock)[1] is None
    return damage.kept


def test_a_sound_store_is_opened_as_it_is(path: Path) -> None:
    written(path, "one").close()
    store, damage = open_or_set_aside(path, clock=clock)
    assert (store.counts().recorded, damage) == (1, None)
    store.close()


def test_a_header_that_cannot_be_read_is_set_aside(path: Path) -> None:
    written(path, "one").close()
    path.write_bytes(b"\0garbage\0" + path.read_bytes()[9:])
    kept = rescued(path, "damaged")
    assert kept.read_bytes().startswith(b"\0garbage\0")


def test_a_damaged_page_is_set_aside(path: Path) -> None:
    written(path, *map(str, range(200))).close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xa5" * (4096 * 3)
    path.write_bytes(content)
    rescued(path, "damaged")


def test_a_log_whose_end_is_missing_is_set_aside_with_what_belongs_to_it(path: Path, tmp_path: Path) -> None:
    store = written(path, "one", "two", "three")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("store.sqlite*"):
        shutil.copy(file, crashed)
    store.close()
    log = crashed / "store.sqlite-wal"
    log.write_bytes(log.read_bytes()[:-5_000])
    kept = rescued(crashed / "store.sqlite", "has lost what it had written (up to entry 3)")
    assert kept.with_name(kept.name + "-mark").exists()


def test_a_file_that_was_cut_to_nothing_is_set_aside(path: Path) -> None:
    written(path, "one").close()
    path.write_bytes(b"")
    rescued(path, "has lost what it had written")


def test_an_older_copy_of_the_store_is_set_aside(path: Path, tmp_path: Path) -> None:
    written(path, "one").close()
    shutil.copy(path, tmp_path / "backup")
    written(path, "two").close()
    shutil.copy(tmp_path / "backup", path)
    rescued(path, "has lost what it had written (up to entry 2)")


def test_a_store_that_somebody_has_taken_away_begins_anew_without_a_word(path: Path) -> None:
    written(path, "one").close()
    path.unlink()
    store, damage = open_or_set_aside(path, clock=clock)
    assert damage is None
    assert StoreMark(path).read() == (store.store_id, 0)
    store.close()


def test_what_was_never_flushed_may_be_lost_without_a_word(path: Path) -> None:
    written(path, "one").close()
    store = written(path, "two", flushed=False)
    assert StoreMark(path).read() == (store.store_id, 1)
    store.close()


def test_a_mark_that_cannot_be_read_says_nothing(path: Path) -> None:
    written(path, "one").close()
    StoreMark(path).path.write_bytes(b"what is this?")
    store, damage = open_or_set_aside(path, clock=clock)
    assert (store.counts().recorded, damage) == (1, None)
    store.close()


def test_a_strangers_file_is_refused_and_stays_where_it_is(tmp_path: Path) -> None:
    stranger = tmp_path / "letters.txt"
    stranger.write_text("dear diary " * 100)
    with pytest.raises(Fatal) as refusal:
        open_or_set_aside(stranger, clock=clock)
    assert refusal.value.exit_code == 78
    assert stranger.read_text().startswith("dear diary")
    assert [each.name for each in tmp_path.iterdir()] == ["letters.txt"]


def test_a_store_under_another_name_is_known_by_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    written(path, "one").close()
    path.write_bytes(b"garbage" * 1000)
    rescued(path, "damaged")


def test_files_that_cannot_be_moved_are_said_to_be_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path, "one").close()
    path.write_bytes(b"garbage" * 1000)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(Unavailable, match="can't be set aside: Permission denied"):
        open_or_set_aside(path, clock=clock)
