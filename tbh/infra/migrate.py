"""Applies the SQL files of ``migrations/`` in order, once each, and keeps the books as the Supabase CLI does.

``<digits>_<name>.sql`` is version ``<digits>``; versions sort as text, as the CLI sorts them. Each file is one
transaction together with its row in ``supabase_migrations.schema_migrations``, so it is there whole and booked, or not
at all. Runs at the same time take turns, by a lock that ends with each transaction: a pooler may stand in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

import tbh
from tbh.infra.sqltext import code_only, statements_of, without_lead
from tbh.ports import Fatal, Unavailable

FOLDER = Path(tbh.__file__).parent / "migrations"
"""In a checkout a link to the repository's own folder; in an installed package the folder itself."""

_FILE = re.compile(r"([0-9]+)_(.*)\.sql", re.ASCII)
_LOCK = 0x7462_685F_6D69_6772
_CONNECT_TIMEOUT_S = 10
_TURN_TIMEOUT = "120s"
_TRANSACTION = re.compile(
    r"(begin|commit|end|rollback|abort|start\s+transaction|prepare\s+transaction)\b", re.IGNORECASE
)
_BOOKS = "supabase_migrations.schema_migrations"

# What works on the PostgreSQL that is embedded but not on the hosted one, or only for a superuser.
_FORBIDDEN: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern, re.IGNORECASE))
    for what, pattern in (
        ("uuidv7() and uuidv4() need PostgreSQL 18", r"\buuidv[47]\s*\("),
        (
            "virtual generated columns need PostgreSQL 18",
            r"generated\s+always\s+as\s*\((?:[^()]|\([^()]*\))*\)(?!\s*stored)",
        ),
        ("returning old and new needs PostgreSQL 18", r"\breturning\s+(?:with\s*\(|[^;]*\b(?:old|new)\s*\.)"),
        ("without overlaps and period need PostgreSQL 18", r"\bwithout\s+overlaps\b|,\s*period\s+\w+"),
        ("constraints that are not enforced need PostgreSQL 18", r"\bnot\s+enforced\b"),
        ("merge ... returning needs PostgreSQL 17", r"\bmerge\s+into\b[^;]*\breturning\b"),
        ("json_table needs PostgreSQL 17", r"\bjson_table\s*\("),
        ("any_value() needs PostgreSQL 16", r"\bany_value\s*\("),
        ("extensions are not to be relied on", r"\bcreate\s+extension\b"),
        ("only a superuser may", r"\balter\s+system\b|\bcreate\s+event\s+trigger\b|\bsession_replication_role\b"),
        ("only a superuser may", r"\b(?:create|alter)\s+(?:role|user)\b[^;]*\bsuperuser\b|\bcopy\b[^;]*\bprogram\b"),
        ("only a superuser may", r"\blanguage\s+['\"]?(?:c|internal|plpython3?u|plperlu)\b|\bleakproof\b|\bload\s+'"),
        (
            "server files are a superuser's",
            r"\bpg_(?:read|write)_(?:binary_)?file\s*\(|\bpg_ls_dir\s*\(|\blo_import\s*\(",
        ),
        ("'40001' is retried without end by PostgREST", r"'40001'|\bserialization_failure\b"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file. ``statements`` are those of the file, as the books hold them."""

    version: str
    name: str
    path: Path
    text: str

    @property
    def statements(self) -> list[str]:
        return statements_of(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What a run did: file names, in order."""

    applied: tuple[str, ...]
    skipped: tuple[str, ...]


def read_migrations(folder: Path | None = None) -> list[Migration]:
    """The migrations in ``folder`` (the project's own by default), in order; files of other names are not migrations.

    ``Fatal(78)`` when there is none, one can't be read, two have one version, or one would end the transaction.
    """
    where = FOLDER if folder is None else folder
    found: list[Migration] = []
    try:
        for path in sorted(where.iterdir()):
            if matched := _FILE.fullmatch(path.name):
                text = path.read_text(encoding="utf-8")
                found.append(Migration(version=matched[1], name=matched[2], path=path, text=text))
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "is no UTF-8"
        raise Fatal("migrations_unreadable", exit_code=78, detail=f"{where}: {told}: name the folder") from error
    if not found:
        raise Fatal("migrations_absent", exit_code=78, detail=f"{where} holds no <digits>_<name>.sql: name the folder")
    found.sort(key=lambda each: each.version)
    for first, second in pairwise(found):
        if first.version == second.version:
            detail = f"{first.path.name} and {second.path.name} have one version: rename the one not yet applied"
            raise Fatal("migration_version_repeated", exit_code=78, detail=detail)
    for each in found:
        if any(_TRANSACTION.match(without_lead(statement)) for statement in each.statements):
            detail = f"{each.path} begins or ends a transaction: take that out, each file is one anyway"
            raise Fatal("migration_transaction", exit_code=78, detail=detail)
    return found


def migrate(url: str, folder: Path | None = None, *, report: Callable[[str], None] | None = None) -> Migrated:
    """Bring the database at ``url`` up to date as its owner; who is no superuser will do. ``report`` hears each file.

    Raises ``Unavailable`` when the database doesn't answer, ``Fatal(78)`` for files or a URL that can't be used and
    for one that sorts before what is applied already, ``Fatal(70)`` for SQL that fails: the file before it stands.
    """
    migrations = read_migrations(folder)
    applied: list[str] = []
    with connect(url) as connection:
        with (
            _told_apart(connection, "the books can't be kept (connect as the database's owner)"),
            connection.transaction(),
        ):
            _take_turn(connection)
            _open_books(connection)
            booked = _booked(connection)
        for each in migrations:
            if each.version in booked:
                continue
            with _told_apart(connection, each):
                if not _apply(connection, each):
                    continue
            applied.append(each.path.name)
            if report is not None:
                report(each.path.name)
        with _told_apart(connection, "PostgREST can't be told"):
            connection.execute("notify pgrst, 'reload schema'")
    skipped = tuple(each.path.name for each in migrations if each.path.name not in applied)
    return Migrated(applied=tuple(applied), skipped=skipped)


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of its own, autocommitting. ``Fatal(78)`` for what is no URL, ``Unavailable`` when nobody answers.

    Neither repeats the URL, which may hold a password.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        detail = "it must look like postgresql://USER:PASSWORD@HOST:5432/DATABASE, with % and @ in the password escaped"
        raise Fatal("database_url_invalid", exit_code=78, detail=detail) from None
    try:
        # A pooler gives each transaction another server connection, which doesn't know statements prepared before.
        return psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_S,
            prepare_threshold=None,
            application_name="tbh db",
        )
    except psycopg.OperationalError as error:
        raise Unavailable("database_unreachable", detail=_told(error)) from error


def _apply(connection: psycopg.Connection[tuple[object, ...]], migration: Migration) -> bool:
    """Apply one file and book it; False when another run has done so meanwhile."""
    with connection.transaction():
        _take_turn(connection)
        booked = _booked(connection)
        if migration.version in booked:
            return False
        newest = max(booked, default="")
        if migration.version < newest:
            detail = f"{migration.path.name} sorts before {newest}, which is applied: give it a later version"
            raise Fatal("migration_out_of_order", exit_code=78, detail=detail)
        connection.execute("reset all")
        connection.execute(migration.text.encode())
        connection.execute(
            f"insert into {_BOOKS} (version, name, statements) values (%s, %s, %s)".encode(),  # noqa: S608 - a constant
            (migration.version, migration.name, migration.statements),
        )
    return True


def _take_turn(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute("select set_config('lock_timeout', %s, true)", (_TURN_TIMEOUT,))
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))


def _open_books(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    found = connection.execute("select to_regclass(%s) is not null", (_BOOKS,)).fetchone()
    if found == (True,):
        return
    connection.execute("create schema if not exists supabase_migrations")
    connection.execute(
        f"create table {_BOOKS} (version text not null primary key, statements text[], name text)".encode()
    )


def _booked(connection: psycopg.Connection[tuple[object, ...]]) -> set[str]:
    return {str(version) for (version,) in connection.execute(f"select version from {_BOOKS}".encode())}  # noqa: S608 - a constant


@contextmanager
def _told_apart(connection: psycopg.Connection[tuple[object, ...]], doing: Migration | str) -> Iterator[None]:
    """A connection that broke is ``Unavailable``; whatever else the server says is ``Fatal(70)``."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(doing, Migration):
            told = f"{doing.path.name}{_line(doing.text, error)}: {_told(error)}; nothing of it is applied"
        else:
            told = f"{doing}: {_told(error)}"
        if connection.closed:
            raise Unavailable("database_lost", detail=told) from error
        raise Fatal("migration_failed", detail=told) from error


def _told(error: psycopg.Error) -> str:
    """What the server says, in one line; libpq's own sentences on a failed connection hold no password."""
    return " ".join((error.diag.message_primary or str(error)).split())


def _line(text: str, error: psycopg.Error) -> str:
    position = error.diag.statement_position
    return f":{text[: int(position) - 1].count(chr(10)) + 1}" if position else ""


def lint(migrations: Sequence[Migration]) -> list[str]:
    """What would not work on every platform, one line each: ``file: what``."""
    widths = {len(each.version) for each in migrations}
    found = ["versions of several widths sort differently as text and as numbers"] if len(widths) > 1 else []
    for each in migrations:
        code = code_only(each.text)
        found += [
            f"{each.path.name}: {what}: {match[0][:60]!r}" for what, rule in _FORBIDDEN for match in rule.finditer(code)
        ]
    return found
