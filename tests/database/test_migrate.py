"""Migrations are applied in order, once each, whole or not at all, by a role that is no superuser."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_roles import MIGRATOR
from tbh.infra.migrate import FOLDER, Migration, lint, migrate, read_migrations
from tbh.infra.sqltext import code_only, statements_of
from tbh.ports import Fatal, Unavailable

if TYPE_CHECKING:
    from tests.database.conftest import Database

Write = Callable[..., Path]

ONE = "create table public.one (n int);\ninsert into public.one values (1);\n"
TWO = "-- the second\ninsert into public.one values (2);\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files into the folder of migrations; the folder."""

    def make(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name.removeprefix('v')}.sql").write_text(text)
        return tmp_path

    return make


def refusal(url: str, folder: Path) -> Fatal:
    with pytest.raises(Fatal) as refused:
        migrate(url, folder)
    assert "\n" not in str(refused.value)
    return refused.value


def test_files_are_applied_in_order_and_only_once(empty: Database, write: Write) -> None:
    folder = write(v20260102_two=TWO, v20260101_one=ONE)
    (folder / "notes.txt").write_text("no migration")
    heard: list[str] = []
    first = migrate(empty.migrator, folder, report=heard.append)
    assert first.applied == tuple(heard) == ("20260101_one.sql", "20260102_two.sql")
    again = migrate(empty.migrator, folder)
    assert (again.applied, again.skipped) == ((), first.applied)
    assert empty.query("select n from public.one order by n") == [(1,), (2,)]


def test_the_books_are_those_of_the_supabase_cli(empty: Database, write: Write) -> None:
    migrate(empty.migrator, write(v20260101_one=ONE, v20260102_two_of_it=TWO))
    assert empty.query("select version, name, statements from supabase_migrations.schema_migrations order by 1") == [
        ("20260101", "one", ["create table public.one (n int)", "insert into public.one values (1)"]),
        ("20260102", "two_of_it", ["-- the second\ninsert into public.one values (2)"]),
    ]


def test_books_that_the_supabase_cli_has_opened_are_gone_on_with(empty: Database, write: Write) -> None:
    empty.query(
        "create schema supabase_migrations; create table supabase_migrations.schema_migrations"
        " (version text not null primary key, statements text[], name text);"
        " insert into supabase_migrations.schema_migrations values ('20260101', '{}', 'one')"
    )
    folder = write(v20260101_one=ONE, v20260102_three="create table public.three ()")
    assert migrate(empty.migrator, folder).applied == ("20260102_three.sql",)


def test_a_file_that_fails_leaves_nothing_and_those_before_it_stand(empty: Database, write: Write) -> None:
    folder = write(v20260101_one=ONE, v20260102_bad="insert into public.one values (2);\n\nselect nonsense;")
    failed = refusal(empty.migrator, folder)
    assert failed.exit_code == 70
    assert "20260102_bad.sql:3" in str(failed)
    assert "nonsense" in str(failed)
    assert empty.query("select n from public.one") == [(1,)]
    write(v20260102_bad=TWO)
    assert migrate(empty.migrator, folder).applied == ("20260102_bad.sql",)


def test_what_fails_at_the_very_end_of_a_file_leaves_nothing_either(empty: Database, write: Write) -> None:
    deferred = (
        "create table public.a (n int primary key);"
        " create table public.b (n int references public.a deferrable initially deferred);"
        " insert into public.b values (1)"
    )
    assert "20260101_late.sql" in str(refusal(empty.migrator, write(v20260101_late=deferred)))
    assert empty.query(
        "select to_regclass('public.a'), (select count(*) from supabase_migrations.schema_migrations)"
    ) == [(None, 0)]


def test_a_file_that_sorts_before_an_applied_one_is_refused(empty: Database, write: Write) -> None:
    folder = write(v20260102_one=ONE)
    migrate(empty.migrator, folder)
    late = refusal(empty.migrator, write(v20260101_late="create table public.late ()"))
    assert late.exit_code == 78
    assert "20260101_late.sql" in str(late)
    assert empty.query("select to_regclass('public.late')") == [(None,)]


def test_a_database_that_knows_more_than_this_folder_is_left_as_it_is(empty: Database, write: Write) -> None:
    folder = write(v20260101_one=ONE, v20260102_two=TWO)
    migrate(empty.migrator, folder)
    (folder / "20260102_two.sql").unlink()
    assert migrate(empty.migrator, folder).applied == ()


@pytest.mark.parametrize(
    "text", ["begin; select 1; commit;", "select 1;\n-- done\nCOMMIT;", "/* x */ start transaction;"]
)
def test_a_file_that_would_end_its_transaction_is_refused_before_anything(
    empty: Database, write: Write, text: str
) -> None:
    refused = refusal(empty.migrator, write(v20260101_one=ONE, v20260102_own=text))
    assert (refused.exit_code, refused.reason) == (78, "migration_transaction")
    assert empty.query("select to_regclass('public.one')") == [(None,)]


def test_two_files_of_one_version_are_refused(write: Write) -> None:
    with pytest.raises(Fatal, match=r"20260101_a\.sql and 20260101_b\.sql"):
        read_migrations(write(v20260101_a=ONE, v20260101_b=TWO))


def test_a_folder_without_migrations_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(Fatal, match=str(folder)) as refused:
            read_migrations(folder)
        assert refused.value.exit_code == 78


def test_what_only_a_superuser_may_do_fails(empty: Database, write: Write) -> None:
    refused = refusal(empty.migrator, write(v20260101_super="create role another_superuser superuser"))
    assert "permission denied" in str(refused)


def test_what_one_file_sets_is_reset_before_the_next(empty: Database, write: Write) -> None:
    folder = write(
        v20260101_set="create schema aside; set search_path = 'aside'",
        v20260102_make="create table made ()",
    )
    migrate(empty.migrator, folder)
    assert empty.query("select to_regclass('public.made') is not null") == [(True,)]


def test_runs_at_the_same_time_take_turns(empty: Database, write: Write) -> None:
    folder = write(
        v20260101_one="create table public.one (n int); select pg_sleep(0.05)",
        **{f"v2026010{n}_more": f"insert into public.one values ({n})" for n in range(2, 9)},
    )
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(len(migrate(empty.migrator, folder).applied))
        except Exception as error:  # noqa: BLE001 - the assertion below shows it
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(count for count in outcomes if isinstance(count, int)) == 8, outcomes
    assert len(outcomes) == 4
    assert empty.query("select n from public.one order by n") == [(n,) for n in range(2, 9)]


def test_postgrest_is_told_to_read_the_schema_anew(empty: Database, write: Write) -> None:
    with psycopg.connect(empty.authenticator, autocommit=True) as listening:
        listening.execute("listen pgrst")
        migrate(empty.migrator, write(v20260101_one=ONE))
        heard = [note.payload for note in listening.notifies(timeout=5, stop_after=1)]
    assert heard == ["reload schema"]


def test_a_connection_lost_on_the_way_is_no_fault_of_the_file(empty: Database, write: Write) -> None:
    folder = write(v20260101_one=ONE, v20260102_cut="select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(Unavailable, match=r"20260102_cut\.sql"):
        migrate(empty.migrator, folder)
    assert empty.query("select version from supabase_migrations.schema_migrations") == [("20260101",)]


@pytest.mark.parametrize(
    ("url", "failure"),
    [
        ("postgresql://tbh:hunter2@127.0.0.1:1/tbh", Unavailable),
        ("host=/nonexistent user=tbh password=hunter2", Unavailable),
        ("postgres:hunter2@127.0.0.1", Fatal),
        ("postgresql://tbh:hunter2@127.0.0.1:port/tbh", Unavailable),
        ("password=hunter2 nonsense=1", Fatal),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_one_line_without_its_password(
    url: str, failure: type[Exception], write: Write
) -> None:
    with pytest.raises(failure) as told:
        migrate(url, write(v20260101_one=ONE))
    assert "hunter2" not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_projects_migrations_apply_to_each_postgresql_and_again_by_hand(each_server: LocalDatabase) -> None:
    each_server.create_database("own")
    url = each_server.dsn(MIGRATOR, "own")
    migrations = read_migrations()
    assert migrate(url).applied == tuple(each.path.name for each in migrations)
    assert migrate(url).applied == ()
    with psycopg.connect(url) as connection:
        for each in migrations:
            connection.execute(each.text.encode())


def test_the_projects_migrations_need_no_platform_in_particular() -> None:
    assert lint(read_migrations()) == []


def test_the_project_keeps_its_migrations_at_the_top(request: pytest.FixtureRequest) -> None:
    top = request.config.rootpath / "migrations"
    assert top.is_dir()
    assert FOLDER.resolve() == top.resolve()


@pytest.mark.parametrize(
    "text",
    [
        "select uuidv7()",
        "create function f() returns uuid language sql as $$ select uuidv7() $$",
        "create table t (a int, b int generated always as (a * (2 + 1)) virtual)",
        "create table t (a int, b int generated always as (a * 2))",
        "update t set a = 1 returning old.a",
        "insert into t values (1) on conflict do nothing returning with (old as o) o.a",
        "create table t (a int4range, primary key (a without overlaps))",
        "alter table t add constraint c check (a > 1) not enforced",
        "merge into t using s on true when matched then delete returning *",
        "select any_value(a) from t",
        "create extension if not exists pgcrypto",
        "create role x superuser",
        "alter system set jit = off",
        "set session_replication_role = replica",
        "create function f() returns int language c as 'f'",
        "copy t from program 'ls'",
        "raise exception using errcode = '40001'",
    ],
)
def test_the_lint_catches_what_is_not_everywhere(text: str) -> None:
    assert lint([migration("20260101", text)]) != []


@pytest.mark.parametrize(
    "text",
    [
        "create table t (a int, b int generated always as (a * 2) stored)",
        "create table t (a int generated always as identity primary key)",
        "-- uuidv7() is not everywhere\nselect gen_random_uuid()",
        "insert into t values (1) returning id",
        "if new.a is distinct from old.a then return new; end if",
        "alter role x nosuperuser",
    ],
)
def test_the_lint_lets_pass_what_is_everywhere(text: str) -> None:
    assert lint([migration("20260101", text)]) == []


def test_the_lint_catches_versions_of_several_widths() -> None:
    assert lint([migration("20260101", "select 1"), migration("20260101000000", "select 1")]) != []


def migration(version: str, text: str) -> Migration:
    return Migration(version=version, name="x", path=Path(f"{version}_x.sql"), text=text)


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';', \"a;b\", 'it''s;';", ["select ';', \"a;b\", 'it''s;'"]),
        (r"select e'a\';b'; select 2", [r"select e'a\';b'", "select 2"]),
        ("do $$ begin a; end $$; do $x$ $$;$$ $x$;", ["do $$ begin a; end $$", "do $x$ $$;$$ $x$"]),
        ("-- a; b\nselect 1; /* c; /* d; */ e; */ ;", ["-- a; b\nselect 1"]),
        ("select $1; select a$b$c; select 2", ["select $1", "select a$b$c", "select 2"]),
        ("", []),
    ],
)
def test_statements_end_where_postgresql_ends_them(text: str, statements: list[str]) -> None:
    assert statements_of(text) == statements


def test_comments_are_no_code_also_in_a_function() -> None:
    assert code_only("-- a\nf('--b') $$ x /* y */ -- z\n$$").split() == ["f('--b')", "$$x$$"]
