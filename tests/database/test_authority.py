"""Whose token opens what: registration, rotation, revocation, and the operator's roles."""

from __future__ import annotations

import hashlib
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

Add = Callable[..., str]


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@contextmanager
def refused(code: str, word: str, detail: str = "") -> Iterator[None]:
    with pytest.raises(psycopg.Error) as caught:
        yield
    diagnosis = caught.value.diag
    assert (caught.value.sqlstate, diagnosis.message_primary) == (code, word)
    assert (diagnosis.message_detail or "").startswith(detail)


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: each has bots of its own, and looks at nothing else."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def operator(database: Database) -> Add:
    """Adds an operator of a role; its token."""

    def add(role: str = "admin", *, expires: str | None = None, revoked: bool = False) -> str:
        token = "tbh_op_" + secrets.token_hex(32)
        database.query(
            "insert into bot_runtime.operator_tokens (name, token_hash, role, expires_at, revoked_at)"
            " values (%s, %s, %s, clock_timestamp() + %s::interval, case when %s then clock_timestamp() end)",
            (role, sha256(token), role, expires, revoked),
        )
        return token

    return add


@pytest.fixture
def add_bot(database: Database) -> Add:
    """Adds a bot without a runtime; its id."""

    def add() -> str:
        bot_id = str(uuid.uuid4())
        database.query(
            "insert into bot_runtime.bots (id, name, mode, exchange, symbols)"
            " values (%s, 'b', 'paper', 'paper', '{S}')",
            (bot_id,),
        )
        return bot_id

    return add


@pytest.fixture
def register(database: Database, operator: Add) -> Callable[..., dict[str, Any]]:
    admin = operator()

    def registered(bot_id: str, *, ttl_s: str | int = 3600) -> dict[str, Any]:
        place = {"p_provider": "fly", "p_region": "ams", "p_machine_id": "m1"}
        args = {"p_bot_id": bot_id, **place, "p_ttl_s": ttl_s}
        made: dict[str, Any] = database.call("bot_runtime_register", args, {"x-operator-token": admin})
        return made

    return registered


def lease(database: Database, bot_id: str) -> list[tuple[Any, ...]]:
    return database.query("select boot_id, epoch from bot_runtime.bot_leases where bot_id = %s", (bot_id,))


def context(database: Database, bot_id: str | None, token: str | None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["x-runtime-token"] = token
    return database.call("bot_runtime_get_context", {"p_bot_id": bot_id}, sent)


def test_a_registered_runtime_is_known_by_its_token_and_the_token_is_not_kept(database, add_bot, register) -> None:
    bot_id = add_bot()
    made = register(bot_id)
    assert made["bot_id"] == bot_id
    assert made["epoch"] == 1
    runtime = context(database, bot_id, made["runtime_token"])["runtime"]
    assert runtime == {
        "provider": "fly",
        "region": "ams",
        "machine_id": "m1",
        "epoch": 1,
        "token_expires_at": made["expires_at"],
        "token_ttl_s": 3600,
    }
    rows = database.query(
        "select r::text, runtime_token_hash from bot_runtime.bot_runtime r where bot_id = %s", (bot_id,)
    )
    audit = database.query("select detail::text from bot_runtime.audit_log where bot_id = %s", (bot_id,))
    assert rows[0][1] == sha256(made["runtime_token"])
    assert made["runtime_token"] not in rows[0][0] + audit[0][0]
    assert len(made["runtime_token"]) == len("tbh_rt_") + 64


def test_a_new_registration_ends_the_former_token_and_the_ownership(database, add_bot, register) -> None:
    bot_id = add_bot()
    first = register(bot_id)["runtime_token"]
    claim = {"p_bot_id": bot_id, "p_boot_id": "boot-1"}
    epoch = database.call("bot_runtime_claim", claim, {"x-runtime-token": first})["epoch"]
    second = register(bot_id)
    assert second["epoch"] == epoch + 1
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, first)
    headers = {"x-runtime-token": second["runtime_token"], "x-runtime-boot-id": "boot-1"}
    with refused("PT409", "stale_epoch"):
        beat = {"p_bot_id": bot_id, "p_payload": {}}
        database.call("bot_runtime_heartbeat", beat, headers | {"x-runtime-epoch": str(epoch)})
    assert lease(database, bot_id) == [(None, epoch + 1)]
    assert database.query("select end_reason from bot_runtime.sessions where bot_id = %s", (bot_id,)) == [
        ("registered",)
    ]


@pytest.mark.parametrize("token", [None, "", "wrong", "tbh_rt_" + "0" * 64])
def test_a_missing_and_a_wrong_token_are_refused_alike(database, add_bot, register, token) -> None:
    bot_id = add_bot()
    register(bot_id)
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, token)


def test_an_expired_token_is_refused(database, add_bot, register) -> None:
    bot_id = add_bot()
    token = register(bot_id)["runtime_token"]
    database.query(
        "update bot_runtime.bot_runtime set token_expires_at = clock_timestamp() where bot_id = %s", (bot_id,)
    )
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, token)


def test_a_token_opens_its_own_bot_only(database, add_bot, register) -> None:
    mine, other = add_bot(), add_bot()
    token = register(mine)["runtime_token"]
    register(other)
    with refused("PT403", "not_your_bot", "p_bot_id"):
        context(database, other, token)
    with refused("PT403", "not_your_bot", "p_bot_id"):
        context(database, str(uuid.uuid4()), token)
    with refused("PT422", "payload_invalid", "p_bot_id: missing"):
        context(database, None, token)


@pytest.mark.parametrize(("name", "value"), [("x_runtime_epoch", "1.5"), ("x_runtime_boot_id", "a b")])
def test_a_malformed_header_is_named(database, add_bot, register, name, value) -> None:
    bot_id = add_bot()
    token = register(bot_id)["runtime_token"]
    with refused("PT422", "payload_invalid", name.replace("_", "-") + ": "):
        context(database, bot_id, token, **{name: value})


def test_an_announced_token_comes_into_force_with_its_first_use(database, add_bot, register) -> None:
    bot_id = add_bot()
    old, new = register(bot_id)["runtime_token"], "tbh_rt_" + secrets.token_hex(32)
    rotate = {"p_bot_id": bot_id, "p_new_hash": sha256(new).hex()}
    answer = database.call("bot_runtime_rotate_token", rotate, {"x-runtime-token": old})
    assert database.call("bot_runtime_rotate_token", rotate, {"x-runtime-token": old}) == answer
    assert context(database, bot_id, old)["runtime"]["token_expires_at"] != answer["expires_at"]
    assert context(database, bot_id, new)["runtime"]["token_expires_at"] == answer["expires_at"]
    # The repeat whose first reply was lost, and was sent again after the new token had been used.
    assert database.call("bot_runtime_rotate_token", rotate, {"x-runtime-token": new}) == answer
    context(database, bot_id, old)
    [(left_s,)] = database.query(
        "select extract(epoch from former_valid_until - clock_timestamp())::float from bot_runtime.bot_runtime"
        " where bot_id = %s",
        (bot_id,),
    )
    assert 50 < left_s <= 60
    database.query(
        "update bot_runtime.bot_runtime set former_valid_until = clock_timestamp() where bot_id = %s", (bot_id,)
    )
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, old)


def test_a_token_announced_but_never_used_is_replaced_by_the_next(database, add_bot, register) -> None:
    bot_id = add_bot()
    old = register(bot_id)["runtime_token"]
    first, second = secrets.token_hex(32), secrets.token_hex(32)
    for token in (first, second):
        rotate = {"p_bot_id": bot_id, "p_new_hash": sha256(token).hex()}
        database.call("bot_runtime_rotate_token", rotate, {"x-runtime-token": old})
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, first)
    context(database, bot_id, second)


def test_the_first_use_by_many_at_once_succeeds_for_all(database, add_bot, register) -> None:
    bot_id = add_bot()
    old = register(bot_id)["runtime_token"]
    rotate = {"p_bot_id": bot_id, "p_new_hash": sha256("new").hex()}
    database.call("bot_runtime_rotate_token", rotate, {"x-runtime-token": old})
    failures: list[Exception] = []
    gate = threading.Barrier(8)

    def use() -> None:
        with database.connected() as connection:
            gate.wait()
            try:
                args = {"p_bot_id": bot_id, "p_boot_id": "boot-1"}
                database.call("bot_runtime_claim", args, {"x-runtime-token": "new"}, connection=connection)
            except psycopg.Error as error:
                failures.append(error)

    users = [threading.Thread(target=use) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(timeout=20)
    assert failures == []


def test_a_hash_that_is_known_already_and_a_malformed_one_are_refused(database, add_bot, register) -> None:
    mine, other = add_bot(), add_bot()
    token, foreign = register(mine)["runtime_token"], register(other)["runtime_token"]
    for value in (sha256(foreign).hex(), "ab", sha256("x").hex().upper(), None, ""):
        with refused("PT422", "payload_invalid"):
            args = {"p_bot_id": mine, "p_new_hash": value}
            database.call("bot_runtime_rotate_token", args, {"x-runtime-token": token})


def test_a_fenced_process_cannot_rotate_the_token(database, add_bot, register) -> None:
    bot_id = add_bot()
    token = register(bot_id)["runtime_token"]
    headers = {"x-runtime-token": token}
    epoch = database.call("bot_runtime_claim", {"p_bot_id": bot_id, "p_boot_id": "a"}, headers)["epoch"]
    rotate = {"p_bot_id": bot_id, "p_new_hash": sha256("x").hex()}
    for other in ({"x-runtime-boot-id": "a", "x-runtime-epoch": str(epoch - 1)}, {"x-runtime-boot-id": "b"}, {}):
        with refused("PT409", "stale_epoch"):
            database.call("bot_runtime_rotate_token", rotate, headers | other)


def test_a_revoked_runtime_is_refused_until_it_is_registered_again(database, add_bot, register, operator) -> None:
    bot_id, admin = add_bot(), {"x-operator-token": operator()}
    token = register(bot_id)["runtime_token"]
    headers = {"x-runtime-token": token}
    database.call("bot_runtime_claim", {"p_bot_id": bot_id, "p_boot_id": "a"}, headers)
    revoke = {"p_bot_id": bot_id, "p_reason": "stolen"}
    answer = database.call("bot_runtime_revoke", revoke, admin)
    assert database.call("bot_runtime_revoke", revoke, admin) == answer
    with refused("PT401", "runtime_token_invalid"):
        context(database, bot_id, token)
    assert lease(database, bot_id) == [(None, 3)]
    again = register(bot_id)
    assert again["epoch"] == 4
    context(database, bot_id, again["runtime_token"])


def test_an_operator_below_the_role_and_an_unknown_one_change_nothing(database, add_bot, operator) -> None:
    bot_id = add_bot()
    args = {"p_bot_id": bot_id, "p_provider": None, "p_region": None, "p_machine_id": None}
    for role in ("operator", "auditor", "viewer"):
        with refused("PT403", "role_too_low", "needs admin"):
            database.call("bot_runtime_register", args, {"x-operator-token": operator(role)})
    for token in ("", "x", operator(expires="-1 s"), operator(revoked=True)):
        with refused("PT401", "operator_token_invalid"):
            database.call("bot_runtime_register", args, {"x-operator-token": token})
    with refused("PT401", "operator_token_invalid"):
        database.call("bot_runtime_register", args)
    assert database.query("select 1 from bot_runtime.bot_runtime where bot_id = %s", (bot_id,)) == []
    assert database.query("select 1 from bot_runtime.audit_log where bot_id = %s", (bot_id,)) == []


def test_a_bot_that_does_not_exist_is_not_found(database, operator) -> None:
    admin = {"x-operator-token": operator()}
    place = {"p_provider": None, "p_region": None, "p_machine_id": None}
    with refused("PT404", "bot_not_found"):
        database.call("bot_runtime_register", {"p_bot_id": str(uuid.uuid4()), **place}, admin)
    with refused("PT404", "runtime_not_found"):
        database.call("bot_runtime_revoke", {"p_bot_id": str(uuid.uuid4()), "p_reason": "x"}, admin)


@pytest.mark.parametrize("ttl_s", ["0", "31536001", "1.5", "x", None])
def test_a_life_of_the_token_out_of_bounds_is_refused(add_bot, register, ttl_s) -> None:
    with refused("PT422", "payload_invalid", "p_ttl_s: "):
        register(add_bot(), ttl_s=ttl_s)
