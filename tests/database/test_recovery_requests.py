"""What operators settle by hand: asked for once, read by the bot until it acknowledges, and kept apart from trades."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, refused

ADJUSTMENT = {
    "adjustment_id": "adopt:2",
    "symbol": "S",
    "qty": "-0.10",
    "price": "61000.5",
    "seq": 7,
    "at": "2026-01-01T00:00:00Z",
    "reason": "withdrawn",
}
BY_HAND = {"p_client_order_id": "o1", "p_outcome": "absent"}


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    with copy_of(server, migrated) as made:
        made.query(
            "insert into bot_runtime.operator_tokens (name, token_hash, role)"
            " values ('op', sha256(convert_to('op-token', 'UTF8')), 'operator')"
        )
        yield made


@pytest.fixture
def bot(database: Database) -> Iterator[Bot]:
    with database.connected() as connection:
        made = Bot(database, connection)
        made.claim()
        yield made


def control(bot: Bot, action: str, **args: Any) -> dict[str, Any]:
    said: dict[str, Any] = bot.database.call(
        "bot_admin_control", {"p_bot_id": bot.id, "p_action": action, **args}, {"x-operator-token": "op-token"}
    )
    return said


def requests(bot: Bot) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = bot.call("bot_runtime_refresh_controls")["control_config"]["requests"]
    return told


def test_a_request_stands_until_a_version_no_older_is_acknowledged(bot: Bot) -> None:
    assert control(bot, "adopt", p_reason="withdrawn")["version"] == 2
    assert control(bot, "resolve", p_reason="seen", **BY_HAND)["version"] == 3
    assert [one["action"] for one in requests(bot)] == ["adopt", "resolve"]
    bot.call("bot_runtime_acknowledge", p_version="2")
    (left,) = requests(bot)
    assert left == {
        "version": 3, "action": "resolve", "reason": "seen", "client_order_id": "o1", "outcome": "absent",
    }  # fmt: skip
    bot.call("bot_runtime_acknowledge", p_version="3")
    assert requests(bot) == []


def test_an_acknowledgement_that_comes_late_ends_the_request_all_the_same(bot: Bot) -> None:
    """A later version was acknowledged by a boot that had not read the request's."""
    control(bot, "adopt")
    control(bot, "pause")
    bot.database.query("update bot_runtime.bots set controls_acknowledged = 3 where id = %s", (bot.id,))
    bot.call("bot_runtime_acknowledge", p_version="2")
    assert requests(bot) == []


def test_a_named_request_is_made_once_and_stands_for_one_thing(bot: Bot) -> None:
    named = {"p_request_id": "r1", "p_reason": "seen"}
    assert [control(bot, "resolve", **named, **BY_HAND)["version"] for _ in range(2)] == [2, 2]
    assert len(requests(bot)) == 1
    with refused("PT422", "key_conflict"):
        control(bot, "resolve", **named, p_client_order_id="o2", p_outcome="absent")
    with refused("PT422", "key_conflict"):
        control(bot, "adopt", **named)


@pytest.mark.parametrize(
    ("action", "args", "named"),
    [
        ("resolve", {"p_client_order_id": "o1", "p_outcome": "absent"}, "p_reason"),
        ("resolve", {"p_client_order_id": "o1", "p_outcome": "sold", "p_reason": "r"}, "p_outcome"),
        ("resolve", {"p_outcome": "absent", "p_reason": "r"}, "p_client_order_id"),
        ("adopt", {"p_client_order_id": "o1"}, "p_client_order_id"),
        ("pause", {"p_outcome": "absent"}, "p_outcome"),
    ],
)
def test_a_request_that_cannot_be_is_refused_by_name(bot: Bot, action: str, args: dict[str, Any], named: str) -> None:
    with refused("PT422", "payload_invalid", named):
        control(bot, action, **args)


def test_a_bot_that_reads_nothing_is_not_heaped_with_requests(bot: Bot) -> None:
    for _ in range(100):
        control(bot, "adopt")
    with refused("PT422", "too_many_requests"):
        control(bot, "adopt")


def test_an_adjustment_is_recorded_once_and_is_no_fill(bot: Bot) -> None:
    entry = ("bot_runtime_record_adjustment", {"p_payload": ADJUSTMENT}, "adjustment:adopt:2")
    assert bot.sync(entry)["refused"] == []
    assert bot.call("bot_runtime_record_adjustment", p_payload=ADJUSTMENT) == {"recorded": False}
    assert bot.rows("bot_fills") == []
    assert bot.call("bot_runtime_get_adjustments") == [
        ADJUSTMENT | {"qty": "-0.1", "at": "2026-01-01T00:00:00.000000Z"}
    ]
    assert bot.call("bot_runtime_get_adjustments", p_symbol="OTHER") == []
    with refused("PT422", "key_conflict"):
        bot.call("bot_runtime_record_adjustment", p_payload=ADJUSTMENT | {"qty": "-1"})


@pytest.mark.parametrize(("field", "value"), [("qty", "0"), ("price", "0"), ("price", "-1"), ("seq", None)])
def test_an_adjustment_that_says_nothing_is_refused(bot: Bot, field: str, value: str | None) -> None:
    with refused("PT422", "payload_invalid", f"p_payload.{field}"):
        bot.call("bot_runtime_record_adjustment", p_payload=ADJUSTMENT | {field: value})


def test_a_filled_entry_comes_back_although_the_row_of_its_position_never_came(bot: Bot) -> None:
    bot.trade("e1", "x1", symbol="S", event="entry", order_status="filled", qty="1", filled_qty="1")
    bot.trade("s1", "x2", symbol="S", event="stop", order_status="canceled", qty="1")
    bot.trade("e2", symbol="S", event="entry", order_status="absent", qty="1")
    assert [row["client_order_id"] for row in bot.call("bot_runtime_get_open_trades")] == ["e1"]


def test_only_an_operator_may_ask(bot: Bot) -> None:
    with pytest.raises(psycopg.Error, match="operator_token_invalid"):
        bot.database.call("bot_admin_control", {"p_bot_id": bot.id, "p_action": "adopt"}, bot.headers)
