"""What holds for every table and function, read from PostgreSQL's catalogue, so that a new one is held to it by itself.

The numbers in brackets are those of the platform's database linter.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

API_ROLES = ("anon", "authenticated", "service_role")
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

FUNCTIONS = """
select p.proname, pg_get_function_identity_arguments(p.oid), p.oid::regprocedure::text, p.prosecdef,
       p.provolatile::text, p.prorettype::regtype::text, l.lanname, coalesce(p.proconfig, '{}'),
       coalesce(obj_description(p.oid), '')
  from pg_proc p join pg_language l on l.oid = p.prolang
 where p.pronamespace = %s::regnamespace order by 1
"""
TABLES = """
select oid, relname from pg_class where relnamespace = 'bot_runtime'::regnamespace and relkind in ('r', 'p') order by 2
"""
WHOLE_SCHEMA = """
select oid::regprocedure::text, prosrc || proacl::text from pg_proc
 where pronamespace in ('public'::regnamespace, 'bot_runtime'::regnamespace)
union all
select attrelid::regclass::text, attname from pg_attribute where attrelid::regclass::text like 'bot_runtime.%'
union all
select tgrelid::regclass::text, tgname from pg_trigger where not tgisinternal
order by 1, 2
"""


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: what they write, they look for by its own id."""
    with copy_of(server, migrated) as made:
        yield made


def functions(database: Database, schema: str = "public") -> list[dict[str, Any]]:
    names = ("name", "arguments", "signature", "definer", "volatility", "returns", "language", "config", "comment")
    return [dict(zip(names, row, strict=True)) for row in database.query(FUNCTIONS, (schema,))]


def is_operators(name: str) -> bool:
    return name.startswith("bot_admin_") or name in ("bot_runtime_register", "bot_runtime_revoke")


def arguments(database: Database, bot_id: str) -> dict[str, dict[str, Any]]:
    """For each public function a call; nothing of it is looked at before the token."""
    rows = database.query(
        "select proname, proargnames, pronargs - pronargdefaults from pg_proc"
        " where pronamespace = 'public'::regnamespace"
    )
    return {
        name: {arg: bot_id if arg == "p_bot_id" else None for arg in names[: max(needed, 1)]}
        for name, names, needed in rows
    }


def refusals(
    database: Database, calls: dict[str, dict[str, Any]], headers: dict[str, str]
) -> dict[str, tuple[str | None, ...]]:
    """How each of ``calls`` is refused: SQLSTATE and word."""
    found: dict[str, tuple[str | None, ...]] = {}
    with database.connected() as connection:
        for fn, args in calls.items():
            with pytest.raises(psycopg.Error) as caught:
                database.call(fn, args, headers, connection=connection)
            found[fn] = (caught.value.sqlstate, caught.value.diag.message_primary)
    return found


def add_bot(database: Database, token: str, *, expired: bool = False, revoked: bool = False) -> str:
    bot_id = str(uuid.uuid4())
    database.query(
        "insert into bot_runtime.bots (id, name, mode, exchange, symbols) values (%s, 'b', 'paper', 'paper', '{S}')",
        (bot_id,),
    )
    database.query(
        "insert into bot_runtime.bot_runtime (bot_id, runtime_token_hash, token_expires_at, revoked_at) values"
        " (%s, %s, clock_timestamp() + case when %s then interval '-1 s' else interval '1 h' end,"
        " case when %s then clock_timestamp() end)",
        (bot_id, hashlib.sha256(token.encode()).digest(), expired, revoked),
    )
    return bot_id


def add_operator(database: Database, *, left: str = "1 h", revoked: bool = False) -> str:
    token = uuid.uuid4().hex
    database.query(
        "insert into bot_runtime.operator_tokens (name, token_hash, role, expires_at, revoked_at)"
        " values ('o', %s, 'admin', clock_timestamp() + %s::interval, case when %s then clock_timestamp() end)",
        (hashlib.sha256(token.encode()).digest(), left, revoked),
    )
    return token


def test_every_function_of_the_contract_is_there(database) -> None:
    named = {function["name"] for function in functions(database)}
    runtime = "claim release get_context get_position upsert_position upsert_trade get_open_trades heartbeat"
    runtime += " refresh_controls acknowledge write_event notify sync rotate_token register revoke record_fill"
    document = "get_bot_context get_bot_position upsert_bot_position upsert_bot_trade tick_heartbeat refresh_controls"
    document += " write_notification upsert_bot_health_evidence"
    operators = "create list show control settings"
    expected = {f"bot_runtime_{name}" for name in runtime.split()} | set(document.split())
    assert expected | {f"bot_admin_{name}" for name in operators.split()} <= named


def test_public_functions_are_definers_with_no_search_path_volatile_and_answer_jsonb(database) -> None:
    for function in functions(database):
        shape = {name: function[name] for name in ("definer", "volatility", "returns", "language", "config")}
        assert shape == {
            "definer": True,
            "volatility": "v",
            "returns": "jsonb",
            "language": "plpgsql",
            "config": ['search_path=""'],
        }, function["name"]


def test_public_functions_have_one_overload_and_take_the_bot_first(database) -> None:
    found = functions(database)
    assert len({function["name"] for function in found}) == len(found)
    assert [each["name"] for each in found if not each["arguments"].startswith("p_bot_id uuid")] == []


def test_only_the_service_role_may_execute(database) -> None:
    """[0028, 0029]"""
    for function in functions(database):
        rows = database.query(
            "select r, has_function_privilege(r, %s, 'execute') from unnest(%s::text[]) r",
            (function["signature"], list(API_ROLES)),
        )
        assert dict(rows) == {"anon": False, "authenticated": False, "service_role": True}, function["name"]


def test_no_other_role_may_execute_either(database) -> None:
    granted = database.query(
        "select p.proname, a.grantee::regrole::text from pg_proc p, aclexplode(p.proacl) a"
        " where p.pronamespace = 'public'::regnamespace and a.grantee <> p.proowner"
    )
    assert {grantee for _, grantee in granted} == {"service_role"}
    assert (
        database.query("select proname from pg_proc where pronamespace = 'public'::regnamespace and proacl is null")
        == []
    )


def test_helpers_are_no_definers_and_have_no_search_path(database) -> None:
    """[0011] They run with the rights of the public function that calls them, and nobody else reaches them."""
    helpers = functions(database, "bot_runtime")
    assert [each["signature"] for each in helpers if each["config"] != ['search_path=""']] == []
    assert [each["signature"] for each in helpers if each["definer"]] == []


def test_each_public_function_says_what_it_takes_gives_and_refuses(database) -> None:
    for function in functions(database):
        lines = function["comment"].splitlines()
        assert lines, function["name"]
        assert lines[0][0].isupper(), function["name"]
        for part in ("Result: ", "Refuses: PT401 "):
            assert any(line.startswith(part) for line in lines), (function["name"], part)


def test_api_roles_can_neither_enter_the_schema_nor_read_a_table(database) -> None:
    for role in API_ROLES:
        assert database.query("select has_schema_privilege(%s, 'bot_runtime', 'usage, create')", (role,)) == [(False,)]
    rights = database.query(
        "select c.relname, r from pg_class c, unnest(%s::text[]) r"
        " where c.relnamespace = 'bot_runtime'::regnamespace and c.relkind in ('r', 'p')"
        " and has_table_privilege(r, c.oid, 'select, insert, update, delete, truncate, references, trigger')",
        (list(API_ROLES),),
    )
    assert rights == []


def test_the_service_role_reads_no_row_by_itself(database) -> None:
    with database.connected() as connection:
        connection.execute("set role service_role")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select 1 from bot_runtime.bots")


def test_every_runtime_function_asks_for_the_runtime_token_of_its_bot(database) -> None:
    foreign, spent, dead = (uuid.uuid4().hex for _ in range(3))
    bot_id, operator = add_bot(database, uuid.uuid4().hex), add_operator(database)
    add_bot(database, foreign)
    tokens: list[tuple[str, dict[str, str], tuple[str, str]]] = [
        (bot_id, {}, ("PT401", "runtime_token_invalid")),
        (bot_id, {"x-runtime-token": "wrong"}, ("PT401", "runtime_token_invalid")),
        (add_bot(database, spent, expired=True), {"x-runtime-token": spent}, ("PT401", "runtime_token_invalid")),
        (add_bot(database, dead, revoked=True), {"x-runtime-token": dead}, ("PT401", "runtime_token_invalid")),
        (bot_id, {"x-runtime-token": operator}, ("PT401", "runtime_token_invalid")),
        (bot_id, {"x-operator-token": operator}, ("PT401", "runtime_token_invalid")),
        (bot_id, {"x-runtime-token": foreign}, ("PT403", "not_your_bot")),
    ]
    for bot, headers, expected in tokens:
        calls = {fn: args for fn, args in arguments(database, bot).items() if not is_operators(fn)}
        assert refusals(database, calls, headers) == dict.fromkeys(calls, expected), headers


def test_every_operator_function_asks_for_an_operator_s_token(database) -> None:
    runtime = uuid.uuid4().hex
    bot_id = add_bot(database, runtime)
    tokens = [
        {},
        {"x-operator-token": "wrong"},
        {"x-operator-token": add_operator(database, left="-1 s")},
        {"x-operator-token": add_operator(database, revoked=True)},
        {"x-operator-token": runtime},
        {"x-runtime-token": runtime},
    ]
    for headers in tokens:
        calls = {fn: args for fn, args in arguments(database, bot_id).items() if is_operators(fn)}
        expected = dict.fromkeys(calls, ("PT401", "operator_token_invalid"))
        assert refusals(database, calls, headers) == expected, headers


def test_every_table_has_row_level_security_a_primary_key_and_a_stated_retention(database) -> None:
    """[0004, 0008, 0013]"""
    tables = database.query(TABLES)
    assert len(tables) > 30
    lacking = database.query(
        "select c.relname from pg_class c where c.oid = any (%s) and (not c.relrowsecurity"
        " or not exists (select 1 from pg_index i where i.indrelid = c.oid and i.indisprimary)"
        " or coalesce(obj_description(c.oid), '') !~* 'retention')",
        ([oid for oid, _ in tables],),
    )
    assert lacking == []


def test_nothing_but_functions_is_in_the_public_schema(database) -> None:
    """[0010, 0013] No table to protect there, no view that would read with its owner's rights."""
    assert database.query("select relname from pg_class where relnamespace = 'public'::regnamespace") == []
    views = "select relname from pg_class where relnamespace = 'bot_runtime'::regnamespace and relkind in ('v', 'm')"
    assert database.query(views) == []


def test_every_foreign_key_is_indexed(database) -> None:
    """[0001]"""
    unindexed = database.query(
        "select c.conrelid::regclass::text, c.conname from pg_constraint c"
        " where c.contype = 'f' and c.connamespace = 'bot_runtime'::regnamespace and not exists ("
        "  select 1 from pg_index i where i.indrelid = c.conrelid and i.indpred is null"
        "  and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] = c.conkey)"
    )
    assert unindexed == []


def test_no_two_indexes_are_the_same(database) -> None:
    """[0009]"""
    twins = database.query(
        "select indrelid::regclass::text from pg_index join pg_class c on c.oid = indexrelid"
        " where c.relnamespace = 'bot_runtime'::regnamespace"
        " group by indrelid, indkey::text, indoption::text, coalesce(indpred::text, '') having count(*) > 1"
    )
    assert twins == []


def test_every_migration_may_be_run_again_by_hand(server, migrated) -> None:
    with copy_of(server, migrated) as database:
        before = database.query(WHOLE_SCHEMA)
        for file in sorted(MIGRATIONS.glob("*.sql")):
            with psycopg.connect(database.migrator) as connection:
                connection.execute(file.read_bytes())
        assert database.query(WHOLE_SCHEMA) == before
