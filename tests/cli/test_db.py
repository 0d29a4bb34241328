"""``tbh db``: what the owner of a database does, told in one line, with no password in it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_roles import AUTHENTICATOR, MIGRATOR

if TYPE_CHECKING:
    from tests.cli.conftest import Done

_names = count(1)
TOKENS = """
create schema if not exists bot_runtime;
create table bot_runtime.operator_tokens (
  id uuid primary key default gen_random_uuid(), name text, role text, token_hash bytea unique, revoked_at timestamptz);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalDatabase]:
    folder = Path(tempfile.mkdtemp(prefix="tbh-db-", dir="/tmp"))
    with LocalDatabase(folder, fast=True) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: LocalDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of its own, named by the environment."""
    name = f"own_{next(_names)}"
    server.create_database(name)
    monkeypatch.setenv("DATABASE_URL", server.dsn(MIGRATOR, name))
    monkeypatch.delenv("SUPABASE_DB_URL", raising=False)
    return server.dsn(MIGRATOR, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "migrations"
    made.mkdir()
    (made / "20260101_tokens.sql").write_text(TOKENS)
    return made


def test_migrate_says_what_it_applied_and_what_was_there(url: str, folder: Path, call: Callable[..., Done]) -> None:
    first = call("db", "migrate", "--migrations", folder)
    assert (first.exit_code, first.errors) == (0, [])
    assert first.out.splitlines() == ["applied 20260101_tokens.sql", "up to date: 1 applied, 0 were applied before"]
    again = call("db", "migrate", "--json", "--migrations", folder)
    assert again.json == {"applied": [], "skipped": ["20260101_tokens.sql"]}


def test_an_argument_goes_before_the_environment(
    url: str, folder: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "host=/nonexistent")
    assert call("db", "migrate", "--json", "--url", url, "--migrations", folder).exit_code == 0
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("SUPABASE_DB_URL", url)
    assert call("db", "migrate", "--json", "--migrations", folder).json["applied"] == []


def test_bad_sql_is_one_line_that_names_the_file(url: str, folder: Path, call: Callable[..., Done]) -> None:
    (folder / "20260102_bad.sql").write_text("select 1;\nselect nonsense;\n")
    line = call("db", "migrate", "--json", "--migrations", folder).refusal(70)
    assert "20260102_bad.sql:2" in line
    assert "nothing of it is applied" in line


def test_a_late_file_is_one_line(url: str, folder: Path, call: Callable[..., Done]) -> None:
    call("db", "migrate", "--migrations", folder)
    (folder / "20251231_late.sql").write_text("select 1")
    assert "20251231_late.sql" in call("db", "migrate", "--json", "--migrations", folder).refusal(78)


@pytest.mark.parametrize("command", [("migrate",), ("operator", "--name", "a", "--role", "viewer")], ids=lambda c: c[0])
def test_a_database_that_does_not_answer_is_one_line_without_the_password(
    command: tuple[str, ...], call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://tbh:hunter2@127.0.0.1:1/tbh")
    assert "hunter2" not in call("db", *command).refusal(69)
    monkeypatch.setenv("DATABASE_URL", "tbh:hunter2@127.0.0.1")
    assert "hunter2" not in call("db", *command).refusal(78)
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("SUPABASE_DB_URL", raising=False)
    assert "DATABASE_URL" in call("db", *command).refusal(78)


def test_an_operators_token_is_shown_once_and_only_its_digest_is_kept(
    url: str, folder: Path, call: Callable[..., Done]
) -> None:
    call("db", "migrate", "--migrations", folder)
    told = call("db", "operator", "--name", "alice", "--role", "operator")
    in_json = call("db", "operator", "--name", "bob", "--role", "viewer", "--json").json
    tokens = [told.out.strip(), in_json["token"]]
    assert all(token.startswith("tbh_op_") and len(token) == 71 for token in tokens)
    assert tokens[0] not in " ".join(told.errors)
    with psycopg.connect(url) as connection:
        kept = connection.execute(
            "select name, role, token_hash from bot_runtime.operator_tokens order by 1"
        ).fetchall()
    digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
    assert kept == [("alice", "operator", digests[0]), ("bob", "viewer", digests[1])]


def test_an_operator_of_a_database_without_tables_is_told_to_migrate(url: str, call: Callable[..., Done]) -> None:
    assert "tbh db migrate" in call("db", "operator", "--name", "a", "--role", "admin").refusal(78)


def test_only_the_owner_makes_operators(
    url: str, server: LocalDatabase, folder: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("db", "migrate", "--migrations", folder)
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    monkeypatch.setenv("DATABASE_URL", server.dsn(AUTHENTICATOR, str(name)))
    assert "owner" in call("db", "operator", "--name", "a", "--role", "admin").refusal(78)


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "a\nb"])
def test_a_name_that_cannot_be_read_is_refused(name: str, call: Callable[..., Done]) -> None:
    assert "--name" in call("db", "operator", "--name", name, "--role", "admin").refusal(64)
