"""One writer per bot: who gets the lease, who keeps it, and who is told that it has lost it."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

DEADLOCK_TIMEOUT_S = 20.0


@contextmanager
def refused(code: str, word: str) -> Iterator[Any]:
    with pytest.raises(psycopg.Error) as caught:
        yield caught
    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (code, word)


class Bot:
    """A bot with a runtime's token; each method is a call of one of its processes, named by its boot."""

    def __init__(self, database: Database) -> None:
        self.database, self.id, self.token = database, str(uuid.uuid4()), uuid.uuid4().hex
        database.query(
            "insert into bot_runtime.bots (id, name, mode, exchange, symbols)"
            " values (%s, 'b', 'paper', 'paper', '{S}')",
            (self.id,),
        )
        database.query(
            "insert into bot_runtime.bot_runtime (bot_id, runtime_token_hash, token_expires_at, ttl_s)"
            " values (%s, %s, clock_timestamp() + interval '1 day', 86400)",
            (self.id, hashlib.sha256(self.token.encode()).digest()),
        )

    def call(self, fn: str, connection: Any = None, *, boot: str | None = None, epoch: Any = None, **args: Any) -> Any:
        headers = {"x-runtime-token": self.token}
        if boot is not None:
            headers["x-runtime-boot-id"] = boot
        if epoch is not None:
            headers["x-runtime-epoch"] = str(epoch)
        named = {f"p_{name}": value for name, value in args.items()}
        return self.database.call(fn, {"p_bot_id": self.id, **named}, headers, connection=connection)

    def claim(self, boot: str, connection: Any = None, **more: Any) -> Any:
        return self.call("bot_runtime_claim", connection, boot_id=boot, **more)

    def beat(self, boot: str | None, epoch: Any, connection: Any = None, **payload: Any) -> Any:
        return self.call("bot_runtime_heartbeat", connection, boot=boot, epoch=epoch, payload=payload)

    def release(self, boot: str, **more: Any) -> bool:
        released: bool = self.call("bot_runtime_release", boot_id=boot, **more)["released"]
        return released

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of ``statement``, whose parameter is the bot's id."""
        return self.database.query(statement, (self.id,))

    def expire(self) -> None:
        self.sql("update bot_runtime.bot_leases set expires_at = clock_timestamp() where bot_id = %s")

    def lease(self) -> tuple[Any, ...]:
        return self.sql("select boot_id, epoch, renewals from bot_runtime.bot_leases where bot_id = %s")[0]

    def status(self) -> str:
        return str(self.sql("select status from bot_runtime.bots where id = %s")[0][0])

    def sessions(self) -> list[tuple[Any, ...]]:
        return self.sql("select epoch, boot_id, end_reason from bot_runtime.sessions where bot_id = %s order by epoch")


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: each has bots of its own, and looks at nothing else."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Bot:
    return Bot(database)


def together(database: Database, works: Sequence[Callable[[psycopg.Connection[Any]], Any]]) -> list[Any]:
    """What each of ``works`` returns or raises, when all begin at once, each on a connection of its own."""
    results: list[Any] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def run(index: int) -> None:
        with database.connected() as connection:
            gate.wait()
            try:
                results[index] = works[index](connection)
            except psycopg.Error as error:
                results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=DEADLOCK_TIMEOUT_S)
    return results


def test_a_free_lease_is_taken_under_a_new_epoch(bot) -> None:
    answer = bot.claim("a", lease_s="2.5")
    assert (answer["epoch"], answer["renewals"], answer["lease_s"], answer["expires_in_s"]) == (1, 1, "2.5", "2.5")
    assert answer["token_ttl_s"] == 86400
    assert answer["expires_at"].endswith("Z")
    assert bot.sessions() == [(1, "a", None)]


def test_the_holder_renews_under_its_own_epoch_also_after_the_end(bot) -> None:
    bot.claim("a")
    bot.expire()
    again = bot.claim("a")
    assert (again["epoch"], again["renewals"]) == (1, 2)
    assert bot.sessions() == [(1, "a", None)]


def test_a_held_lease_is_refused_and_the_refusal_says_what_a_rival_must_know(bot) -> None:
    bot.claim("a", lease_s="20")
    with refused("PT409", "lease_held") as caught:
        bot.claim("b")
    detail = caught.value.diag.message_detail
    assert re.fullmatch(r"boot_id=a renewals=1 lease_s=20 expires_in_s=(19\.\d{1,3}|20)", detail)
    assert bot.lease() == ("a", 1, 1)


def test_an_expired_lease_goes_only_to_a_rival_that_saw_its_counter_stand_still(bot) -> None:
    bot.claim("a")
    bot.beat("a", 1)
    bot.expire()
    for seen in (None, "1", "3"):
        with refused("PT409", "lease_held") as caught:
            bot.claim("b", seen_renewals=seen)
        assert caught.value.diag.message_detail.endswith(" expires_in_s=0")
    answer = bot.claim("b", seen_renewals="2")
    assert answer["epoch"] == 2
    assert bot.sessions() == [(1, "a", "superseded"), (2, "b", None)]


def test_a_seen_counter_does_not_take_a_lease_that_lives(bot) -> None:
    bot.claim("a")
    with refused("PT409", "lease_held"):
        bot.claim("b", seen_renewals="1")


def test_the_next_process_on_the_same_state_directory_takes_over_at_once(bot) -> None:
    bot.claim("a")
    with refused("PT409", "lease_held"):
        bot.claim("b", previous_boot_id="z")
    assert bot.claim("b", previous_boot_id="a")["epoch"] == 2


def test_a_released_lease_is_free_at_once(bot) -> None:
    bot.claim("a")
    assert bot.release("b") is False
    assert bot.lease()[0] == "a"
    assert bot.status() == "running"
    assert bot.release("a", reason="asked to stop") is True
    assert bot.status() == "stopped"
    assert bot.release("a") is False
    assert bot.claim("b")["epoch"] == 2
    assert bot.sessions() == [(1, "a", "asked to stop"), (2, "b", None)]


def test_an_inactive_bot_is_not_given_to_anybody(bot) -> None:
    bot.sql("update bot_runtime.bots set active = false where id = %s")
    with refused("PT403", "bot_inactive"):
        bot.claim("a")
    assert bot.lease()[:2] == (None, 0)


def test_the_epoch_is_above_every_earlier_one_wherever_that_is_kept(bot) -> None:
    bot.sql("update bot_runtime.bot_runtime set epoch = 7 where bot_id = %s")
    assert bot.claim("a")["epoch"] == 8
    assert bot.sql("select epoch from bot_runtime.bot_runtime where bot_id = %s") == [(8,)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boot_id", "a b"),
        ("boot_id", "x" * 65),
        ("boot_id", None),
        ("previous_boot_id", "é"),
        ("seen_renewals", "-1"),
        ("seen_renewals", "many"),
        ("lease_s", "0.1"),
        ("lease_s", "601"),
        ("lease_s", "NaN"),
        ("lease_s", None),
    ],
)
def test_a_claim_with_a_bad_argument_is_refused_by_its_name(bot, name, value) -> None:
    with refused("PT422", "payload_invalid") as caught:
        bot.call("bot_runtime_claim", **({"boot_id": "a"} | {name: value}))
    assert caught.value.diag.message_detail.startswith(f"p_{name}: ")


def test_a_heartbeat_renews_the_lease_of_its_holder_only(bot) -> None:
    bot.claim("a", lease_s="5")
    answer = bot.beat("a", 1)
    assert (answer["epoch"], answer["renewals"], answer["expires_in_s"]) == (1, 2, "5")
    for boot, epoch in (("b", 1), ("a", 0), ("a", 2), (None, 1), ("a", None), (None, None)):
        with refused("PT409", "stale_epoch"):
            bot.beat(boot, epoch)
    with refused("PT409", "stale_epoch") as caught:
        bot.beat("a", 0)
    assert caught.value.diag.message_detail == "epoch 0, the lease is at 1"
    assert bot.lease() == ("a", 1, 2)


def test_a_caller_without_a_boot_is_heard_only_while_nobody_holds_the_bot(bot) -> None:
    tick = {"payload": {"event": "hello"}}
    assert bot.call("tick_heartbeat", **tick)["event"] == "hello"
    bot.claim("a")
    with refused("PT409", "stale_epoch"):
        bot.call("tick_heartbeat", **tick)
    renewals = bot.lease()[2]
    assert bot.call("tick_heartbeat", boot="a", epoch=1, **tick)["boot_id"] == "a"
    assert bot.lease()[2] == renewals + 1
    bot.expire()
    bot.call("tick_heartbeat", **tick)
    assert bot.lease()[2] == renewals + 1
    with refused("PT409", "stale_epoch"):
        bot.call("tick_heartbeat", boot="a", epoch=0, **tick)


def test_of_thirty_two_claimers_at_once_one_owns_the_bot(bot) -> None:
    def claimer(boot: str) -> Callable[[psycopg.Connection[Any]], Any]:
        return lambda connection: bot.claim(boot, connection)

    answers = together(bot.database, [claimer(f"boot-{index}") for index in range(32)])
    winners = [answer for answer in answers if isinstance(answer, dict)]
    assert [answer["epoch"] for answer in winners] == [1]
    losers = [answer for answer in answers if isinstance(answer, psycopg.Error)]
    assert {(error.sqlstate, error.diag.message_primary) for error in losers} == {("PT409", "lease_held")}
    assert len(losers) == 31


def test_of_many_rivals_for_an_expired_lease_one_owns_the_bot(bot) -> None:
    bot.claim("a")
    bot.expire()

    def claimer(boot: str) -> Callable[[psycopg.Connection[Any]], Any]:
        return lambda connection: bot.claim(boot, connection, seen_renewals="1")

    answers = together(bot.database, [claimer(f"boot-{index}") for index in range(8)])
    assert [answer["epoch"] for answer in answers if isinstance(answer, dict)] == [2]
    assert len(bot.sessions()) == 2


def test_claims_heartbeats_controls_and_facts_at_once_never_deadlock(bot) -> None:
    """Owners take the bot from each other while heartbeats, acknowledgements and facts of past epochs go on."""
    ends = time.monotonic() + 1.5

    def owner(name: str, former: Sequence[str]) -> Callable[[psycopg.Connection[Any]], set[str]]:
        def work(connection: psycopg.Connection[Any]) -> set[str]:
            words: set[str] = set()
            while time.monotonic() < ends:
                for previous in former:
                    try:
                        epoch = bot.claim(name, connection, previous_boot_id=previous)["epoch"]
                        for index in range(3):
                            bot.beat(name, epoch, connection, event="beat", heartbeat_seq=index, equity="1")
                            bot.call("bot_runtime_acknowledge", connection, boot=name, epoch=epoch, version="1")
                    except psycopg.Error as error:
                        words.add(str(error.diag.message_primary))
            return words

        return work

    def witness(connection: psycopg.Connection[Any]) -> set[str]:
        index = 0
        while time.monotonic() < ends:
            index += 1
            event = {"kind": "k", "level": "info", "payload": {}, "key": f"{threading.get_ident()}:{index}"}
            bot.call("bot_runtime_write_event", connection, **event)
            position = {"position_id": "p", "symbol": "S", "strategy": "s", "status": "open", "position_side": "long"}
            fact = position | {"qty": "1", "entry_price": "1", "seq": index}
            bot.call("bot_runtime_upsert_position", connection, payload=fact)
        return set()

    names = ["a", "b", "c"]
    owners = [owner(name, [other for other in names if other != name]) for name in names]
    results = together(bot.database, [*owners, witness, witness])
    # Whatever lost a race says so by a word of ours; a deadlock would say "deadlock detected".
    assert all(isinstance(words, set) for words in results), results
    assert set().union(*results) <= {"lease_held", "stale_epoch"}
    assert bot.lease()[1] > 3
    assert bot.sql("select status, seq > 3 from bot_runtime.bot_positions where bot_id = %s") == [("open", True)]
