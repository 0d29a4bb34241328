"""The rotation of the token against the database's rules: after any death, the next process finds one that works."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbh.infra.redact import SECRETS
from tbh.infra.runtime_token import PREFIX, TokenKeeper
from tbh.infra.sealed_file import SealedFile
from tbh.ports import Fatal, Rejected, Unavailable

BOT = "6f9f1d9e-0b0a-4a52-9c3b-8f3d6a1c2e01"
ENV_TOKEN = PREFIX + "5a" * 32
TTL_S = 30 * 86400.0
FORMER_S = 60.0


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Database:
    """What the functions do with hashes: the present one, one in waiting, and the former for a minute."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.issue(ENV_TOKEN)

    def issue(self, token: str) -> None:
        """An operator's ``register``: the tokens of before are dead."""
        self.present = (digest(token), self.now_s + TTL_S)
        self.waiting: tuple[str, float] | None = None
        self.former: tuple[str, float] | None = None

    def call(self, token: str) -> float:
        """How long the token still lives; its first use makes it the present one."""
        known = digest(token)
        if self.waiting is not None and known == self.waiting[0] and self.now_s < self.waiting[1]:
            self.former = (self.present[0], min(self.now_s + FORMER_S, self.present[1]))
            self.present, self.waiting = self.waiting, None
        for row in (self.present, self.former):
            if row is not None and known == row[0] and self.now_s < row[1]:
                return self.present[1] - self.now_s
        raise Rejected("runtime_token_invalid")

    def rotate(self, token: str, new_hash: str) -> None:
        self.call(token)
        self.waiting = (new_hash, self.now_s + TTL_S)


class Died(Exception):
    """The process ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token.sealed"


@pytest.fixture
def database() -> Database:
    return Database()


def start(path: Path, env_token: str = ENV_TOKEN) -> TokenKeeper:
    return TokenKeeper(path, env_token=env_token, bot_id=BOT)


def call(keeper: TokenKeeper, database: Database) -> None:
    """One call as the client makes it: every token that there is, the best first."""
    while True:
        token = keeper.token
        try:
            database.call(token)
        except Rejected:
            if not keeper.refused(token):
                raise
        else:
            keeper.succeeded(token)
            return


def life(keeper: TokenKeeper, database: Database) -> Iterator[str]:
    """A rotation, step by step; the process may die at each."""
    call(keeper, database)
    yield "called"
    new_hash = keeper.propose()
    yield "stored, not sent"
    database.rotate(keeper.token, new_hash)
    yield "sent, reply lost"
    keeper.adopt()
    yield "answered"
    token = keeper.token
    database.call(token)
    yield "first used, reply lost"
    keeper.succeeded(token)
    yield "proven"
    call(keeper, database)
    yield "called again"


STEPS = 7


def test_a_rotation_ends_with_the_new_token_alone(path: Path, database: Database) -> None:
    keeper = start(path)
    assert list(life(keeper, database))[-1] == "called again"
    assert keeper.token.startswith(PREFIX)
    assert keeper.token != ENV_TOKEN
    database.now_s += FORMER_S
    with pytest.raises(Rejected):
        database.call(ENV_TOKEN)
    again = start(path)
    assert again.token == keeper.token
    call(again, database)


@pytest.mark.parametrize("pause_s", [0.0, FORMER_S + 1, 86400.0])
@pytest.mark.parametrize("steps", range(STEPS))
def test_after_a_death_at_any_step_a_token_works_and_the_next_rotation_too(
    path: Path, database: Database, steps: int, pause_s: float
) -> None:
    running = life(start(path), database)
    for _ in range(steps + 1):
        next(running)
    database.now_s += pause_s
    keeper = start(path)
    call(keeper, database)
    assert len(list(life(keeper, database))) == STEPS
    database.now_s += FORMER_S + 1
    call(start(path), database)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("write", [1, 2])
def test_after_a_death_while_the_file_is_written_a_token_works(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, write: int, replaced: bool
) -> None:
    replace, writes = Path.replace, 0

    def dying(self: Path, target: Any) -> Path:
        nonlocal writes
        writes += 1
        if writes == write:
            if replaced:
                replace(self, target)
            raise Died
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(Died):
            list(life(start(path), database))
    database.now_s += FORMER_S + 1
    keeper = start(path)
    call(keeper, database)
    assert len(list(life(keeper, database))) == STEPS


def test_a_request_that_arrives_after_the_restart_harms_nothing(path: Path, database: Database) -> None:
    before = start(path)
    late_hash = before.propose()
    keeper = start(path)
    call(keeper, database)
    running = life(keeper, database)
    while next(running) != "answered":
        pass
    database.rotate(ENV_TOKEN, late_hash)
    database.now_s += FORMER_S + 1
    call(keeper, database)
    call(start(path), database)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(1, STEPS), st.sampled_from([0.0, 30.0, 61.0, 86400.0]), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_no_sequence_of_deaths_locks_the_bot_out(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, float, bool]]
) -> None:
    path, database = tmp_path_factory.mktemp("lives") / "token.sealed", Database()
    for steps, pause_s, send_late in lives:
        keeper = start(path)
        running = life(keeper, database)
        reached = [next(running) for _ in range(steps)][-1]
        late = (keeper.token, keeper.propose()) if send_late and reached == "stored, not sent" else None
        database.now_s += pause_s
        if late is not None:
            database.rotate(*late)
    call(start(path), database)


def test_a_refused_rotation_keeps_the_present_token(path: Path, database: Database) -> None:
    keeper = start(path)
    first = keeper.propose()
    assert keeper.propose() == first
    call(keeper, database)
    assert keeper.token == ENV_TOKEN
    assert keeper.propose() == first
    call(start(path), database)


def test_a_success_meanwhile_does_not_take_the_successor_off_the_disk(path: Path, database: Database) -> None:
    list(life(start(path), database))
    keeper = start(path)
    new_hash = keeper.propose()
    database.rotate(keeper.token, new_hash)
    call(keeper, database)
    assert digest(start(path).token) == new_hash


def test_a_call_that_began_under_the_former_token_goes_on_under_the_new_one(path: Path, database: Database) -> None:
    keeper = start(path)
    former = keeper.token
    list(life(keeper, database))
    assert keeper.refused(former)
    assert keeper.token != former


def test_what_an_operator_issues_anew_opens_and_replaces_everything(path: Path, database: Database) -> None:
    list(life(start(path), database))
    fresh = PREFIX + "77" * 32
    database.issue(fresh)
    keeper = start(path, fresh)
    assert keeper.token == fresh
    assert "does not open it" in keeper.unread
    call(keeper, database)
    list(life(keeper, database))
    call(start(path, fresh), database)


def test_the_environments_token_is_tried_once_when_the_stored_one_is_refused(path: Path, database: Database) -> None:
    list(life(start(path), database))
    keeper = start(path)
    database.issue(ENV_TOKEN)
    call(keeper, database)
    assert keeper.token == ENV_TOKEN
    database.issue("another")
    with pytest.raises(Rejected):
        call(keeper, database)
    assert not keeper.refused(ENV_TOKEN)
    database.issue(ENV_TOKEN)
    call(start(path), database)


def test_a_full_disk_stops_the_rotation_before_anything_is_sent(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = start(path)
    full = _raises(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="disk_full"):
            keeper.propose()
    call(keeper, database)
    assert keeper.token == ENV_TOKEN
    assert len(list(life(keeper, database))) == STEPS


def test_a_disk_that_fills_between_the_steps_leaves_both_tokens_on_it(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = start(path)
    new_hash = keeper.propose()
    database.rotate(keeper.token, new_hash)
    keeper.adopt()
    database.call(keeper.token)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _raises(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        with pytest.raises(Unavailable):
            keeper.succeeded(keeper.token)
    database.now_s += FORMER_S + 1
    keeper = start(path)
    call(keeper, database)
    assert digest(keeper.token) == new_hash


def _raises(error: Exception) -> Callable[[int], None]:
    def raising(_: int) -> None:
        raise error

    return raising


@pytest.mark.parametrize(
    "content", [{}, {"current": None, "next": None}, {"current": 5}, {"current": "a b", "next": 1}]
)
def test_a_file_without_tokens_is_passed_over_with_its_reason(path: Path, content: dict[str, Any]) -> None:
    SealedFile(path, key=ENV_TOKEN, bot_id=BOT, purpose="runtime-token").save(content)
    keeper = start(path)
    assert keeper.token == ENV_TOKEN
    assert "holds no token" in keeper.unread


def test_the_file_is_sealed_and_its_owners_alone(path: Path, database: Database) -> None:
    keeper = start(path)
    list(life(keeper, database))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keeper.token.encode() not in path.read_bytes()
    assert path.read_bytes().startswith(b"tbh1:")


def test_every_token_is_known_to_redaction(path: Path, database: Database) -> None:
    keeper = start(path)
    list(life(keeper, database))
    assert keeper.token not in SECRETS.text(f"sent {keeper.token} and {ENV_TOKEN}")


def test_a_new_token_is_the_prefix_and_64_hex_digits_of_the_given_randomness(path: Path) -> None:
    keeper = TokenKeeper(path, env_token=ENV_TOKEN, bot_id=BOT, randomness=lambda count: b"\x0f" * count)
    assert keeper.propose() == digest(PREFIX + "0f" * 32)


@pytest.mark.parametrize(("left_s", "due"), [(0.0, True), (9.9, True), (10.0, False), (30.0, False), (-5.0, True)])
def test_a_rotation_is_due_in_the_last_third_of_its_life(left_s: float, due: bool) -> None:
    assert TokenKeeper.due(left_s, 30.0) is due


@pytest.mark.parametrize("token", ["tbh\nrt", "tbh rt", "tökén", "abc", ""])
def test_a_token_that_no_header_carries_is_fatal_and_not_repeated(path: Path, token: str) -> None:
    with pytest.raises(Fatal, match="RUNTIME_TOKEN") as caught:
        start(path, token)
    assert caught.value.exit_code == 78
    assert not token or token not in str(caught.value)
