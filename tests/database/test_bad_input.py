"""Bad input, for every function in the catalog and each of its arguments: refused by the field's name, nothing written.

The cases come from the catalog, so that a new function is covered by itself. It may need an entry in ``VALID``: each
case spoils one argument of a call that is sound otherwise (``test_the_calls_that_are_spoiled_are_sound``).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of, perform
from tests.database.journal import Bot

SQL = "'; drop table bot_runtime.bots; --"
MEGABYTE = "x" * 2**20
STRATEGY = {"name": "ema", "timeframe": "1m"}
BAR = {"strategy": "ema", "symbol": "S", "bar_open": "2026-01-01T00:00:00Z"}
POSITION = {"position_id": "c1", "symbol": "S", "strategy": "ema", "status": "open", "qty": "1"}
PAYLOADS: dict[str, dict[str, Any]] = {
    "bot_admin_create": {"name": "n", "exchange": "paper", "symbols": ["S"], "strategy": STRATEGY, "mode": "paper"},
    "bot_admin_trade": {"symbol": "S", "side": "buy", "qty": "1", "price": "100", "client_order_id": "m1"},
    "bot_runtime_record_cycle": BAR,
    "bot_runtime_record_decision": BAR | {"proposal_id": "p", "purpose": "entry", "verdict": "approved"},
    "bot_runtime_record_fill": {"trade_id": "t1", "client_order_id": "c1", "symbol": "S", "qty": "1", "price": "2"},
    "bot_runtime_record_adjustment": {
        "adjustment_id": "adopt:2",
        "symbol": "S",
        "qty": "-1",
        "price": "2",
        "seq": 3,
        "at": "2026-01-01T00:00:00Z",
    },
    "bot_runtime_upsert_position": POSITION,
    "upsert_bot_position": POSITION,
    "bot_runtime_upsert_trade": {"symbol": "S", "order_status": "accepted"},
    "upsert_bot_trade": {"symbol": "S", "order_status": "accepted"},
}
VALID: dict[str, Any] = {
    "p_action": "pause",
    "bot_admin_dead_letters.p_action": "drop",
    "p_boot_id": "boot-1",
    "p_channel": "in_app",
    "p_client_order_id": "c1",
    "p_entries": [],
    "p_exchange_order_id": "x1",
    "p_first_seq": "1",
    "p_key": "k",
    "p_kind": "order",
    "p_level": "info",
    "p_new_hash": "ab" * 32,
    "p_patch": {"schema": 1},
    "p_store_id": "s1",
    "p_version": "1",
}
FREE_TEXT = frozenset({"p_reason", "p_provider", "p_region", "p_machine_id"})
"""Arguments that take any line of words; a megabyte is too much for them too."""
FREE_PAYLOADS = frozenset({"bot_runtime_notify", "bot_runtime_write_event", "write_notification"})
NUMBERS = frozenset({"p_first_seq", "p_lease_s", "p_limit", "p_seen_renewals", "p_ttl_s", "p_version", "p_id"})
MONEY = (
    "avg_fill_price", "best_price", "cash", "close", "entry_price", "equity", "fee", "filled_qty", "mark_price",
    "order_price", "position_entry", "position_qty", "price", "qty", "realized_pnl", "stop_price", "unrealized_pnl",
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    fn: str
    name: str
    type: str
    has_default: bool

    @property
    def label(self) -> str:
        return f"{self.fn}.{self.name}"


@dataclass(frozen=True)
class Outcome:
    """``state`` is None for a call that was taken."""

    state: str | None
    detail: str = ""


class Functions:
    """The catalog's functions and calls of them that leave nothing behind."""

    def __init__(self, database: Database, connection: psycopg.Connection[Any]) -> None:
        self.database = database
        self.connection = connection
        self.bot = Bot(database, connection)
        self.bot.claim("boot-1")
        token = "tbh_op_" + "0" * 64
        database.query(
            "insert into bot_runtime.operator_tokens (name, token_hash, role) values ('op', %s, 'admin')",
            (hashlib.sha256(token.encode()).digest(),),
        )
        self.bot.sync(("nothing", {}, "x"))
        self.letter = str(database.query("select id from bot_runtime.dead_letters")[0][0])
        self.headers = self.bot.headers | {"x-operator-token": token}
        found = database.query(
            "select p.proname, a.name, format_type(a.kind, null), a.place > p.pronargs - p.pronargdefaults"
            " from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a(name, kind, place)"
            " where p.pronamespace = 'public'::regnamespace order by 1, a.place"
        )
        self.arguments = [Argument(*row) for row in found]

    def sound(self, fn: str) -> dict[str, Any]:
        given = ("p_bot_id", "p_id", "p_payload")
        taken = (each for each in self.arguments if each.fn == fn)
        return {each.name: self.valid(each) for each in taken if not each.has_default or each.name in given}

    def valid(self, argument: Argument) -> Any:
        if argument.name == "p_bot_id":
            return str(uuid.uuid4()) if argument.fn == "bot_admin_create" else self.bot.id
        if argument.name == "p_id":
            return self.letter
        if argument.name == "p_payload":
            return PAYLOADS.get(argument.fn, {})
        return VALID.get(argument.label, VALID.get(argument.name, {} if argument.type == "jsonb" else "x"))

    def outcome(self, fn: str, args: dict[str, Any]) -> Outcome:
        try:
            with self.connection.transaction(force_rollback=True):
                perform(self.connection, fn, args, self.headers, role="service_role")
        except psycopg.Error as error:
            return Outcome(error.sqlstate or "", f"{error.diag.message_detail or error.diag.message_primary}")
        return Outcome(None)

    def spoiled(self, argument: Argument, value: Any) -> Outcome:
        return self.outcome(argument.fn, self.sound(argument.fn) | {argument.name: value})

    def rows(self) -> dict[str, int]:
        tables = self.database.query(
            "select oid::regclass::text from pg_class"
            " where relnamespace = 'bot_runtime'::regnamespace and relkind = 'r'"
        )
        count = " union all ".join(f"select '{name}', count(*) from {name}" for (name,) in tables)
        return dict(self.database.query(count))


@pytest.fixture(scope="module")
def functions(server: LocalDatabase, migrated: str) -> Iterator[Functions]:
    with copy_of(server, migrated) as database, database.connected() as connection:
        yield Functions(database, connection)


@pytest.fixture(autouse=True)
def nothing_written(functions: Functions) -> Iterator[None]:
    before = functions.rows()
    yield
    assert functions.rows() == before


def not_refused(argument: Argument, what: str, outcome: Outcome, *, field: str = "") -> list[str]:
    """A line on a case that did not end as PT422 with the field's name."""
    if outcome.state == "PT422" and outcome.detail.startswith(argument.name) and field in outcome.detail:
        return []
    return [f"{argument.label} = {what}: {outcome}"]


def test_the_calls_that_are_spoiled_are_sound(functions: Functions) -> None:
    taken = {fn: functions.outcome(fn, functions.sound(fn)) for fn in {each.fn for each in functions.arguments}}
    no_position = Outcome("PT404", "p_status: no open position")
    assert taken.pop("get_bot_position") == no_position
    assert {fn: outcome for fn, outcome in taken.items() if outcome.state} == {}


def test_null_is_refused_where_nothing_stands_in_for_it(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if not argument.has_default and argument.name not in FREE_TEXT:
            wrong += not_refused(argument, "null", functions.spoiled(argument, None))
    assert not wrong, "\n".join(wrong)


def test_an_object_is_nothing_else(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "jsonb":
            for value in ("text", 7, True, [1], "NaN"):
                wrong += not_refused(argument, repr(value), functions.spoiled(argument, value))
    assert not wrong, "\n".join(wrong)


def test_unknown_keys_are_refused(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "jsonb" and argument.fn not in FREE_PAYLOADS and argument.name != "p_entries":
            value = functions.valid(argument) | {"no_such_key": 1}
            wrong += not_refused(argument, "unknown key", functions.spoiled(argument, value), field="no_such_key")
    assert not wrong, "\n".join(wrong)


def test_a_megabyte_is_refused_everywhere(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "jsonb":
            wrong += not_refused(argument, "1 MB", functions.spoiled(argument, {"reason": MEGABYTE}))
        elif argument.type == "text":
            wrong += not_refused(argument, "1 MB", functions.spoiled(argument, MEGABYTE))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "amount", ["NaN", "Infinity", "-Infinity", "1e5", "0x10", "1,5", " 1", "١", "--1", 1.5, True, {}]
)
def test_money_is_a_decimal_as_text(functions: Functions, amount: Any) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "jsonb" and argument.fn not in FREE_PAYLOADS and argument.name != "p_entries":
            for name in MONEY:
                value = functions.valid(argument) | {name: amount}
                wrong += not_refused(argument, f"{name} {amount!r}", functions.spoiled(argument, value), field=name)
    assert not wrong, "\n".join(wrong)


def test_numbers_are_numbers(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.name in NUMBERS:
            for value in ("NaN", "Infinity", "1e5", "-1", "x", "1" * 40, "1.5.5", {"a": 1}, [1], True):
                wrong += not_refused(argument, repr(value), functions.spoiled(argument, value))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("value", [SQL, {"a": 1}, [1], "line\nbreak", "\u202e"])
def test_names_and_words_are_not_just_any_text(functions: Functions, value: Any) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "text" and argument.name not in FREE_TEXT | {"p_key"}:
            wrong += not_refused(argument, repr(value), functions.spoiled(argument, value))
    assert not wrong, "\n".join(wrong)


def test_sql_in_a_payload_is_refused_or_kept_as_the_text_that_it_is(functions: Functions) -> None:
    wrong = []
    for argument in functions.arguments:
        if argument.type == "jsonb" and argument.name != "p_entries":
            valid = functions.valid(argument)
            for name in [key for key, value in valid.items() if isinstance(value, str)]:
                outcome = functions.spoiled(argument, valid | {name: SQL})
                if outcome.state is not None:
                    wrong += not_refused(argument, f"{name} SQL", outcome, field=name)
    assert not wrong, "\n".join(wrong)


def test_headers_that_are_malformed_are_refused_by_their_names(functions: Functions) -> None:
    runtime = {each.fn for each in functions.arguments if each.name == "p_payload" and "admin" not in each.fn}
    sound = functions.headers
    for header, value in (("x-runtime-epoch", "NaN"), ("x-runtime-epoch", "-1"), ("x-runtime-boot-id", SQL)):
        functions.headers = sound | {header: value}
        outcomes = {fn: functions.outcome(fn, functions.sound(fn)) for fn in runtime}
        functions.headers = sound
        assert {fn: (outcome.state, outcome.detail.split(":")[0]) for fn, outcome in outcomes.items()} == dict.fromkeys(
            runtime, ("PT422", header)
        )
