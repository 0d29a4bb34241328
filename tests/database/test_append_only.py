"""The tables that nobody may edit: their triggers, and the partitions of the logs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

APPEND_ONLY = ("bot_events", "risk_decisions", "audit_log", "ledger_postings")


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: what they write, they look for by its own id."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture(scope="module")
def logged(database: Database) -> Database:
    """A row in each append-only table."""
    bot_id = str(uuid.uuid4())
    database.query("insert into bot_runtime.bot_events (bot_id, kind) values (%s, 'k')", (bot_id,))
    database.query(
        "insert into bot_runtime.risk_decisions (bot_id, proposal_id, verdict) values (%s, 'p', 'approved')", (bot_id,)
    )
    database.query("insert into bot_runtime.audit_log (operator, role, action) values ('o', 'admin', 'a')")
    database.query("insert into bot_runtime.ledger_accounts (id, currency) values ('cash', 'USD')")
    database.query(
        "insert into bot_runtime.ledger_postings (entry_id, account, amount, currency) values (%s, 'cash', 1, 'USD')",
        (bot_id,),
    )
    return database


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("who", ["migrator", "superuser"])
def test_append_only_tables_refuse_update_delete_and_truncate_for_everybody(logged, table, who) -> None:
    inherits = "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass"
    parts = [name for (name,) in logged.query(inherits, (f"bot_runtime.{table}",))]
    assert len(parts) == (0 if table == "ledger_postings" else 25)
    [(filled,)] = logged.query(f"select tableoid::regclass::text from bot_runtime.{table} limit 1")
    column = "entry_id" if table == "ledger_postings" else "recorded_at"
    statements = [f"truncate {name}" for name in (f"bot_runtime.{table}", *parts)]
    for name in {f"bot_runtime.{table}", filled}:
        statements += [f"update {name} set {column} = {column}", f"delete from {name}"]
    with psycopg.connect(getattr(logged, who), autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.RestrictViolation, match="is append-only"):
                connection.execute(statement.encode())


def test_a_detached_month_is_append_only_still_and_can_be_dropped(server, migrated) -> None:
    with copy_of(server, migrated) as database, psycopg.connect(database.migrator, autocommit=True) as owner:
        owner.execute("insert into bot_runtime.audit_log (operator, role, action) values ('o', 'admin', 'a')")
        row = owner.execute("select tableoid::regclass::text from bot_runtime.audit_log").fetchone()
        assert row is not None
        month = row[0]
        bounds = "select pg_get_expr(relpartbound, oid) from pg_class where oid = %s::regclass"
        bound = owner.execute(bounds, (month,)).fetchone()
        assert bound is not None
        owner.execute(f"alter table bot_runtime.audit_log detach partition {month}".encode())
        for statement in (f"update {month} set action = 'x'", f"delete from {month}", f"truncate {month}"):
            with pytest.raises(psycopg.errors.RestrictViolation, match="is append-only"):
                owner.execute(statement.encode())
        owner.execute(f"alter table bot_runtime.audit_log attach partition {month} {bound[0]}".encode())
        owner.execute(f"alter table bot_runtime.audit_log detach partition {month}".encode())
        owner.execute(f"drop table {month}".encode())


def test_a_log_row_goes_to_its_month_and_one_beyond_them_to_the_default_partition(database) -> None:
    bot_id = str(uuid.uuid4())
    insert = "insert into bot_runtime.bot_events (bot_id, kind, recorded_at) values (%s, 'k', {})"
    database.query(insert.format("clock_timestamp()"), (bot_id,))
    database.query(insert.format("'2999-01-15T00:00:00Z'"), (bot_id,))
    rows = database.query(
        "select tableoid::regclass::text = 'bot_runtime.bot_events' || to_char(recorded_at at time zone 'UTC',"
        " '_YYYY_MM'), tableoid::regclass::text from bot_runtime.bot_events where bot_id = %s order by recorded_at",
        (bot_id,),
    )
    assert [row[0] for row in rows] == [True, False]
    assert rows[1][1] == "bot_runtime.bot_events_default"


def test_partitions_are_added_once_and_a_month_that_came_too_late_is_left_out(database) -> None:
    assert database.query("select bot_runtime.add_partitions(24)") == [(0,)]
    late = "(date_trunc('month', clock_timestamp() at time zone 'UTC') + interval '24 months') at time zone 'UTC'"
    database.query(
        f"insert into bot_runtime.bot_events (bot_id, kind, recorded_at) values (%s, 'late', {late})",
        (str(uuid.uuid4()),),
    )
    # Months 24 and 25 from now, for three logs, less the one whose row is in the default partition.
    assert database.query("select bot_runtime.add_partitions(27)") == [(3 * 3 - 1,)]
    rows = database.query("select tableoid::regclass::text from bot_runtime.bot_events where kind = 'late'")
    assert rows == [("bot_runtime.bot_events_default",)]
