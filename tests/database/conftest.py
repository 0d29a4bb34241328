"""A real PostgreSQL for every test of the database, and a call as PostgREST makes it, without HTTP."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_process import major_version, wheel_binaries
from tbh.infra.localdb_roles import AUTHENTICATOR, MIGRATOR, SUPERUSER
from tbh.infra.migrate import migrate

DISTRIBUTION = Path("/usr/lib/postgresql/15/bin")
_names = count(1)

_ARGUMENT_TYPES = """
select argument, pg_catalog.format_type(kind, null)
from pg_catalog.pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) as _(argument, kind)
where p.pronamespace = 'public'::regnamespace and p.proname = %s and kind is not null
"""


@dataclass(frozen=True)
class Database:
    """One migrated database. ``superuser``, ``migrator`` and ``authenticator`` are connection strings."""

    name: str
    superuser: str
    migrator: str
    authenticator: str

    def query(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run SQL as the owner of the tables, committed; its rows."""
        with psycopg.connect(self.migrator) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection as PostgREST holds it, for several calls or a transaction left open."""
        with psycopg.connect(self.authenticator, autocommit=True) as connection:
            yield connection

    def call(
        self,
        fn: str,
        args: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        role: str = "service_role",
        connection: psycopg.Connection[Any] | None = None,
    ) -> Any:
        """The result of ``public.fn``, called as PostgREST calls it. A refusal is a ``psycopg.Error`` with
        ``sqlstate`` 'PT422', ``diag.message_primary`` and ``diag.message_detail``."""
        if connection is None:
            with self.connected() as own, own.transaction():
                return perform(own, fn, args or {}, headers or {}, role=role)
        with connection.transaction():
            return perform(connection, fn, args or {}, headers or {}, role=role)


def perform(
    connection: psycopg.Connection[Any], fn: str, args: Mapping[str, Any], headers: Mapping[str, str], *, role: str
) -> Any:
    """One call within the transaction that is open."""
    types = dict(connection.execute(_ARGUMENT_TYPES, (fn,)).fetchall())
    unknown = sorted(set(args) - set(types))
    assert not unknown, f"public.{fn} has no argument {unknown}, or is missing: PostgREST answers PGRST202"
    connection.execute(
        "select set_config('search_path', %s, true), set_config('role', %s, true),"
        " set_config('request.jwt.claims', %s, true), set_config('request.method', 'POST', true),"
        " set_config('request.path', %s, true), set_config('request.headers', %s, true)",
        (
            '"public", "extensions"',
            role,
            json.dumps({"role": role}),
            f"/rpc/{fn}",
            json.dumps({name.lower(): value for name, value in headers.items()}),
        ),
    )
    function = sql.Identifier("public", fn)
    if not args:
        found = connection.execute(sql.SQL("select {}()").format(function)).fetchone()
    else:
        bound = sql.SQL(", ").join(sql.SQL("{0} := body.{0}").format(sql.Identifier(name)) for name in args)
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types[name])) for name in args
        )
        statement = sql.SQL("select {}({}) from json_to_record(%s::json) as body({})").format(function, bound, columns)
        found = connection.execute(statement, (json.dumps(args),)).fetchone()
    assert found is not None
    return found[0]


@pytest.fixture(scope="session")
def server() -> Iterator[LocalDatabase]:
    """One PostgreSQL for the whole run; nothing in it outlives the run."""
    with _server_of(18) as running:
        yield running


@pytest.fixture(scope="session", params=[18, 16, 15])
def each_server(request: pytest.FixtureRequest) -> Iterator[LocalDatabase]:
    """One of each PostgreSQL that the migrations are for and that can be had here."""
    if request.param == 18:
        yield request.getfixturevalue("server")
    else:
        with _server_of(request.param) as running:
            yield running


@contextmanager
def _server_of(version: int) -> Iterator[LocalDatabase]:
    folder = Path(tempfile.mkdtemp(prefix="tbh-test-", dir="/tmp"))
    try:
        with LocalDatabase(folder, bindir=binaries_of(version), fast=True) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def binaries_of(version: int) -> Path:
    """Those of PostgreSQL 15 come with the distribution, if at all."""
    if version == 15:
        if not (DISTRIBUTION / "postgres").exists():
            pytest.skip(f"PostgreSQL 15 is not installed in {DISTRIBUTION}")
        return DISTRIBUTION
    return next(bindir for bindir in wheel_binaries() if major_version(bindir) == version)


@pytest.fixture(scope="session")
def migrated(server: LocalDatabase) -> str:
    """The name of a database with the project's migrations, to copy from; nobody connects to it."""
    server.create_database("migrated")
    migrate(server.dsn(MIGRATOR, "migrated"))
    return "migrated"


@pytest.fixture
def empty(server: LocalDatabase) -> Iterator[Database]:
    """A database of this test's own as the platform hands it out, without any migration."""
    with copy_of(server, "template1") as made:
        yield made


@pytest.fixture
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """A migrated database of this test's own."""
    with copy_of(server, migrated) as made:
        yield made


@contextmanager
def copy_of(server: LocalDatabase, template: str) -> Iterator[Database]:
    """A copy of ``template``, dropped afterwards whoever is still connected. It takes 30 ms."""
    name = f"test_{next(_names)}"
    create = sql.SQL("create database {} template {} owner {} strategy file_copy").format(
        sql.Identifier(name), sql.Identifier(template), sql.Identifier(MIGRATOR)
    )
    with psycopg.connect(server.dsn(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(create)
        yield Database(
            name=name,
            superuser=server.dsn(SUPERUSER, name),
            migrator=server.dsn(MIGRATOR, name),
            authenticator=server.dsn(AUTHENTICATOR, name),
        )
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
