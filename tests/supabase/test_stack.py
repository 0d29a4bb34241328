"""The client against the real thing: PostgreSQL with the project's migrations, behind the gateway."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import psycopg
import pytest

from tbh.infra.context import ContextCache, read_context
from tbh.infra.crypto import seal
from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_roles import AUTHENTICATOR, MIGRATOR
from tbh.infra.migrate import migrate
from tbh.infra.rpcgateway.server import Gateway
from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.supabase import SupabaseRpc
from tbh.infra.supabase_http import FunctionClient
from tbh.ports import Controls, Fatal, LeaseHeld, OutboxEntry, Rejected, Unavailable, Unknown

JWT_SECRET = "a secret of the tests, long enough to sign"
SERVICE_KEY = "sb_secret_of_these_tests"
OPERATOR_TOKEN = "tbh_op_" + "0c" * 32
CREDENTIALS_KEY = "9c" * 32
TTL_S = 90
DEFINITION = {"name": "hold", "timeframe": "1m", "sizing": {"kind": "fixed_quantity", "value": "0.010"}}

NewBot = Callable[..., "Bot"]


class Bot:
    """One bot: its id, the token of its environment, its state directory, and clients of it."""

    def __init__(self, url: str, folder: Path, bot_id: str, token: str) -> None:
        self.id = bot_id
        self.token = token
        self.ahead = timedelta()
        self._url = url
        self._path = folder / "token.sealed"
        self._made: list[SupabaseRpc] = []

    def start(self, boot_id: str = "boot-1", **options: Any) -> SupabaseRpc:
        """A process of the bot, on the same disk as those before. Its wall clock runs ``ahead``."""
        made = SupabaseRpc(
            url=options.pop("url", self._url),
            service_key=options.pop("service_key", SERVICE_KEY),
            bot_id=self.id,
            boot_id=boot_id,
            tokens=TokenKeeper(self._path, env_token=self.token, bot_id=self.id),
            now=lambda: datetime.now(UTC) + self.ahead,
            **options,
        )
        self._made.append(made)
        return made

    def stored_hash(self) -> str:
        token = TokenKeeper(self._path, env_token=self.token, bot_id=self.id).token
        return hashlib.sha256(token.encode()).hexdigest()

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture(scope="module")
def database() -> Iterator[LocalDatabase]:
    folder = tempfile.mkdtemp(prefix="tbh-rpc-", dir="/tmp")
    with LocalDatabase(folder, fast=True) as database:
        migrate(database.dsn(MIGRATOR))
        statement = (
            "insert into bot_runtime.operator_tokens (name, token_hash, role) values ('test', sha256(%s), 'admin')"
        )
        with psycopg.connect(database.dsn(MIGRATOR)) as connection:
            connection.execute(statement, (OPERATOR_TOKEN.encode(),))
        yield database
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def lost() -> set[str]:
    """Functions whose next reply is lost after they were carried out."""
    return set()


@pytest.fixture(scope="module")
def gateway(database: LocalDatabase, lost: set[str]) -> Iterator[Gateway]:
    def answered(fn: str) -> bool:
        name = fn.rpartition("/")[2]
        if name not in lost:
            return True
        lost.remove(name)
        return False

    gateway = Gateway(
        database.dsn(AUTHENTICATOR),
        jwt_secret=JWT_SECRET,
        secret_keys={SERVICE_KEY: "service_role"},
        before_reply=answered,
    )
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def new_bot(gateway: Gateway, tmp_path: Path) -> Iterator[NewBot]:
    made: list[Bot] = []
    operator = FunctionClient(gateway.url, service_key=SERVICE_KEY)

    def create(**payload: Any) -> Bot:
        bot_id = str(uuid4())
        given = {
            "name": "first",
            "exchange": "paper",
            "symbols": ["BTC/USDT"],
            "strategy": DEFINITION,
            "mode": "paper",
            "ttl_s": TTL_S,
            "ciphertext": seal({"apiKey": "k" * 8}, CREDENTIALS_KEY, bot_id=bot_id),
        }
        args = {"p_bot_id": bot_id, "p_payload": given | payload}
        told = operator.call("bot_admin_create", args, headers={"x-operator-token": OPERATOR_TOKEN})
        made.append(Bot(gateway.url, tmp_path, bot_id, told["runtime_token"]))
        return made[-1]

    yield create
    for bot in made:
        bot.close()
    operator.close()


@pytest.fixture
def bot(new_bot: NewBot) -> Bot:
    return new_bot()


def claim(rpc: SupabaseRpc, *, previous: str | None = None, seen: int | None = None, lease_s: float = 30.0) -> Any:
    return rpc.claim(previous_boot_id=previous, seen_renewals=seen, lease_s=lease_s)


def entry(seq: int, *, level: str = "info") -> OutboxEntry:
    args = {"p_kind": "note", "p_level": level, "p_payload": {"n": seq}, "p_key": f"k{seq}"}
    return OutboxEntry(seq=seq, fn="bot_runtime_write_event", args=args, key=f"k{seq}")


def test_a_boots_life(bot: Bot, tmp_path: Path) -> None:
    rpc = bot.start()
    context = read_context(rpc.get_context(), bot_id=bot.id)
    assert (context.bot.name, context.symbols, context.strategy.definition) == ("first", ("BTC/USDT",), DEFINITION)
    assert context.credentials(CREDENTIALS_KEY) == {"apiKey": "k" * 8}
    assert context.runtime.token_ttl_s == TTL_S
    lease = claim(rpc)
    assert lease.expires_in_s == 30.0
    assert TTL_S - 10 < lease.token_expires_in_s <= TTL_S
    beaten, version = rpc.heartbeat({"event": "started", "exchange_sync_status": "ok", "equity": "1000.5"})
    assert (beaten.epoch, beaten.renewals) == (lease.epoch, lease.renewals + 1)
    assert rpc.refresh_controls() == Controls(version=version)
    rpc.acknowledge(version)
    rpc.upsert_health({"db": {"writes_15m": 3}})
    rpc.write_event(kind="note", level="info", payload={"a": [1, "é"]}, key="k1")
    rpc.notify(channel="in_app", payload={"text": "hello"}, key="k1")
    assert rpc.get_position() is None
    assert rpc.get_open_trades() == []
    rpc.release()
    cache = ContextCache(tmp_path / "context.sealed", runtime_token=bot.token, bot_id=bot.id)
    cache.save(context, at=datetime.now(UTC))
    found, _ = cache.load()
    assert found is not None
    assert found.context == context


def test_a_batch_is_taken_once_and_its_refusals_are_told_again(bot: Bot) -> None:
    rpc = bot.start()
    claim(rpc)
    entries = [entry(1), entry(2, level="loud"), entry(3)]
    result = rpc.sync(store_id="store-1", first_seq=1, entries=entries)
    assert result.last_seq == 3
    ((seq, reason),) = result.refused
    assert seq == 2
    assert reason.startswith("payload_invalid: p_level")
    assert rpc.sync(store_id="store-1", first_seq=1, entries=entries) == result


def test_a_living_rival_and_a_fenced_boot_are_told_apart(bot: Bot) -> None:
    first, second = bot.start("boot-1"), bot.start("boot-2")
    lease = claim(first)
    with pytest.raises(LeaseHeld) as caught:
        claim(second)
    assert (caught.value.boot_id, caught.value.renewals, caught.value.lease_s) == ("boot-1", lease.renewals, 30.0)
    assert 0 < caught.value.expires_in_s <= 30
    assert claim(second, previous="boot-1").epoch == lease.epoch + 1
    for call in (lambda: first.heartbeat({"event": "x"}), lambda: first.acknowledge(1)):
        with pytest.raises(Rejected) as refused:
            call()
        assert refused.value.reason == "stale_epoch"
    assert first.sync(store_id="old", first_seq=1, entries=[entry(1)]).last_seq == 1


def test_a_reply_that_is_lost_is_unknown_and_the_repeat_finds_what_was_done(bot: Bot, lost: set[str]) -> None:
    rpc = bot.start()
    claim(rpc)
    lost.add("bot_runtime_write_event")
    for expected in (True, False):
        try:
            rpc.write_event(kind="note", level="info", payload={}, key="once")
        except Unknown:
            assert expected
        else:
            assert not expected


def test_many_threads_write_while_the_heart_beats(bot: Bot) -> None:
    rpc = bot.start()
    claim(rpc)

    def work(number: int) -> None:
        if number % 5 == 0:
            rpc.heartbeat({"event": "heartbeat", "heartbeat_seq": number})
        elif number % 5 == 1:
            rpc.upsert_health({"db": {"writes_15m": number}})
        else:
            rpc.write_event(kind="note", level="info", payload={"n": number}, key=f"n{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    lease, _ = rpc.heartbeat({})
    assert lease.renewals == 1 + 20 + 1


# The token


def test_the_token_is_replaced_and_survives_a_restart(bot: Bot, database: LocalDatabase) -> None:
    rpc = bot.start()
    claim(rpc)
    bot.ahead = timedelta(seconds=TTL_S * 0.7)
    rpc.heartbeat({})
    assert bot.stored_hash() != hashlib.sha256(bot.token.encode()).hexdigest()
    left_s = rpc.heartbeat({})[0].token_expires_in_s
    assert left_s is not None
    assert left_s > TTL_S * 0.2
    known = "select encode(runtime_token_hash, 'hex') from bot_runtime.bot_runtime where bot_id = %s"
    with psycopg.connect(database.dsn(MIGRATOR)) as connection:
        assert connection.execute(known, (bot.id,)).fetchone() == (bot.stored_hash(),)
        # The minute of the former token is over.
        connection.execute("update bot_runtime.bot_runtime set former_valid_until = now() where bot_id = %s", (bot.id,))
    claim(bot.start("boot-2"), previous="boot-1")
    bot.token = "tbh_rt_" + "00" * 32
    with pytest.raises(Rejected, match="runtime_token_invalid"):
        claim(bot.start("boot-3"))


@pytest.mark.parametrize("sent", [False, True])
def test_a_rotation_cut_short_leaves_a_working_token(bot: Bot, lost: set[str], sent: bool) -> None:
    rpc = bot.start()
    claim(rpc)
    if sent:
        lost.add("bot_runtime_rotate_token")
        bot.ahead = timedelta(seconds=TTL_S * 0.7)
        rpc.heartbeat({})
        bot.ahead = timedelta()
    else:
        TokenKeeper(bot._path, env_token=bot.token, bot_id=bot.id).propose()
    again = bot.start("boot-2")
    claim(again, previous="boot-1")
    assert (bot.stored_hash() == hashlib.sha256(bot.token.encode()).hexdigest()) is not sent
    bot.ahead = timedelta(seconds=TTL_S * 0.7)
    again.heartbeat({})
    claim(bot.start("boot-3"), previous="boot-2")


# Surroundings that are wrong


def test_another_bots_token_is_refused(bot: Bot, new_bot: NewBot) -> None:
    other = new_bot()
    other.id = bot.id
    with pytest.raises(Rejected, match="not_your_bot"):
        claim(other.start())


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (jwt.encode({"role": "anon"}, JWT_SECRET, algorithm="HS256"), "not_the_service_key"),
        (jwt.encode({"role": "authenticated"}, JWT_SECRET, algorithm="HS256"), "not_the_service_key"),
        (
            jwt.encode({"role": "service_role"}, "another secret, as long as the right one", algorithm="HS256"),
            "service_key_refused",
        ),
        (jwt.encode({"role": "service_role", "exp": 1}, JWT_SECRET, algorithm="HS256"), "service_key_refused"),
        ("sb_secret_of_another_project", "service_key_refused"),
    ],
)
def test_a_key_that_is_not_the_service_roles_is_fatal(bot: Bot, key: str, reason: str) -> None:
    with pytest.raises(Fatal) as caught:
        claim(bot.start(service_key=key))
    assert (caught.value.exit_code, caught.value.reason) == (78, reason)
    assert key not in str(caught.value)


def test_a_database_without_migrations_says_so(bot: Bot, database: LocalDatabase) -> None:
    database.create_database("bare")
    bare = Gateway(
        database.dsn(AUTHENTICATOR, "bare"), jwt_secret=JWT_SECRET, secret_keys={SERVICE_KEY: "service_role"}
    )
    bare.start()
    try:
        with pytest.raises(Fatal, match=r"migrations_missing.*tbh db migrate") as caught:
            claim(bot.start(url=bare.url))
    finally:
        bare.stop()
    assert caught.value.exit_code == 78


def test_a_gateway_without_its_database_is_unavailable(bot: Bot, tmp_path: Path) -> None:
    alone = Gateway(
        f"host={tmp_path} dbname=none user=authenticator",
        jwt_secret=JWT_SECRET,
        secret_keys={SERVICE_KEY: "service_role"},
    )
    alone.start()
    try:
        with pytest.raises(Unavailable):
            claim(bot.start(url=alone.url))
    finally:
        alone.stop()
