"""A token that is ended while its caller waits for a lock: the caller is refused when the wait is over."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of, perform

WAIT_S = 20.0
ADMIN = {"x-operator-token": "admin-of-tokens"}
BLOCKED = "select cardinality(pg_blocking_pids(%s)) > 0"
STANDS = """
select l.boot_id, l.epoch, l.renewals, r.epoch, r.runtime_token_hash, r.former_token_hash, r.next_token_hash,
       r.revoked_at is not null, b.status, b.controls_acknowledged,
       (select count(*) from bot_runtime.sessions s where s.bot_id = b.id),
       (select count(*) from bot_runtime.bot_trades t where t.bot_id = b.id),
       (select count(*) from bot_runtime.bot_state t where t.bot_id = b.id)
  from bot_runtime.bots b join bot_runtime.bot_leases l on l.bot_id = b.id join bot_runtime.bot_runtime r
    on r.bot_id = b.id where b.id = %s
"""
NEXT = "ab" * 32
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "claim": ("bot_runtime_claim", {"p_boot_id": "late", "p_lease_s": "600"}),
    "release": ("bot_runtime_release", {"p_boot_id": "late"}),
    "rotate": ("bot_runtime_rotate_token", {"p_new_hash": NEXT}),
    "fact": ("bot_runtime_upsert_trade", {"p_client_order_id": "c1", "p_payload": {"symbol": "S"}}),
    "heartbeat": ("tick_heartbeat", {"p_payload": {"event": "late"}}),
}
ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "register": ("bot_runtime_register", {"p_provider": None, "p_region": None, "p_machine_id": None}),
    "revoke": ("bot_runtime_revoke", {"p_reason": "leaked"}),
}


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: each has a bot of its own."""
    with copy_of(server, migrated) as made:
        made.query(
            "insert into bot_runtime.operator_tokens (name, token_hash, role) values ('a', %s, 'admin')",
            (sha256(ADMIN["x-operator-token"]),),
        )
        yield made


class Ended:
    """A bot whose token an operator ends while a call with it waits."""

    def __init__(self, database: Database) -> None:
        self.database, self.id = database, str(uuid.uuid4())
        database.query(
            "insert into bot_runtime.bots (id, name, mode, exchange, symbols)"
            " values (%s, 'b', 'paper', 'paper', '{S}')",
            (self.id,),
        )
        fn, args = ENDS["register"]
        self.token: str = database.call(fn, {"p_bot_id": self.id, **args}, ADMIN)["runtime_token"]

    def call(self, fn: str, token: str, **args: Any) -> Any:
        return self.database.call(fn, {"p_bot_id": self.id, **args}, {"x-runtime-token": token})

    def race(self, end: str, fn: str, args: dict[str, Any], token: str) -> tuple[dict[str, Any], psycopg.Error | None]:
        """The operator's answer, and the refusal of the call, which has waited until the operator was through."""
        ending, ending_args = ENDS[end]
        with (
            self.database.connected() as operator,
            self.database.connected() as runtime,
            ThreadPoolExecutor(1) as pool,
        ):
            with operator.transaction():
                answer: dict[str, Any] = perform(
                    operator, ending, {"p_bot_id": self.id, **ending_args}, ADMIN, role="service_role"
                )
                headers = {"x-runtime-token": token}
                late = pool.submit(self.database.call, fn, {"p_bot_id": self.id, **args}, headers, connection=runtime)
                self.await_block(runtime.info.backend_pid)
            error = late.exception(WAIT_S)
        assert error is None or isinstance(error, psycopg.Error), error
        return answer, error

    def await_block(self, pid: int) -> None:
        ends = time.monotonic() + WAIT_S
        while not self.database.query(BLOCKED, (pid,))[0][0]:
            assert time.monotonic() < ends, "the call doesn't wait for the operator"

    def stands(self) -> tuple[Any, ...]:
        return self.database.query(STANDS, (self.id,))[0]


@pytest.fixture
def make(database: Database) -> Callable[[], Ended]:
    return lambda: Ended(database)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ENDS)
def test_a_call_that_waited_for_the_end_of_its_token_is_refused_and_changes_nothing(
    make: Callable[[], Ended], end: str, call: str
) -> None:
    bot = make()
    fn, args = CALLS[call]
    answer, error = bot.race(end, fn, args, bot.token)
    assert error is not None, "taken"
    assert (error.sqlstate, error.diag.message_primary) == ("PT401", "runtime_token_invalid")
    token = sha256(answer["runtime_token"]) if end == "register" else None
    assert bot.stands() == (None, 2, 0, 2, token, None, None, end == "revoke", "created", 0, 0, 0, 0)


@pytest.mark.parametrize("fn", ["bot_runtime_get_context", "bot_runtime_claim"])
@pytest.mark.parametrize("end", ENDS)
def test_an_announced_token_that_ends_before_its_first_use_is_through_is_refused(
    make: Callable[[], Ended], end: str, fn: str
) -> None:
    bot, announced = make(), secrets.token_hex(32)
    bot.call("bot_runtime_rotate_token", bot.token, p_new_hash=sha256(announced).hex())
    answer, error = bot.race(end, fn, {"p_boot_id": "late"} if fn.endswith("claim") else {}, announced)
    assert error is not None, "taken"
    assert (error.sqlstate, error.diag.message_primary) == ("PT401", "runtime_token_invalid")
    token = sha256(answer["runtime_token"]) if end == "register" else None
    assert bot.stands() == (None, 2, 0, 2, token, None, None, end == "revoke", "created", 0, 0, 0, 0)


def test_the_token_of_a_new_registration_is_taken_after_the_wait_of_a_former_one(make: Callable[[], Ended]) -> None:
    bot = make()
    fn, args = CALLS["claim"]
    answer, _ = bot.race("register", fn, args, bot.token)
    assert bot.call("bot_runtime_claim", answer["runtime_token"], p_boot_id="new")["epoch"] == 3
