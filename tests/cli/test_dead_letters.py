"""``tbh dead-letters``: what the database would not take from a bot, settled by an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Done
    from tests.cli.conftest_stack import Stack

    Operate = Callable[..., Done]

pytest_plugins = ("tests.cli.conftest_stack",)


@pytest.fixture
def letter(stack: Stack, bot: dict[str, Any]) -> str:
    """The number of an entry that the outbox had to set aside: its level is none."""
    args = {"p_kind": "note", "p_level": "loud", "p_payload": {"a": 1}, "p_key": "k1"}
    entry = {"seq": 1, "fn": "bot_runtime_write_event", "args": args, "key": "k1"}
    answer = stack.runtime(bot, "bot_runtime_sync", store_id="s1", first_seq=1, entries=[entry])
    assert (answer["last_seq"], len(answer["refused"])) == (1, 1)
    ((number,),) = stack.query("select id from bot_runtime.dead_letters where bot_id = %s", (bot["bot_id"],))
    return str(number)


def test_a_refused_entry_is_listed_with_its_reason(operate: Operate, bot: dict[str, Any], letter: str) -> None:
    (listed,) = operate("dead-letters", "list", bot["name"], "--json", role="viewer").json["dead_letters"]
    assert (str(listed["id"]), listed["status"]) == (letter, "waiting")
    assert listed["args"]["p_payload"] == {"a": 1}
    assert "p_level" in listed["reason"]
    shown = operate("dead-letters", "list", bot["name"]).out.splitlines()
    assert shown[0].split()[:2] == ["id", "status"]
    assert shown[1].split()[:2] == [letter, "waiting"]


def test_a_bot_without_any_says_so(operate: Operate, bot: dict[str, Any]) -> None:
    assert operate("dead-letters", "list", bot["name"], "--json").json == {"dead_letters": []}
    assert operate("dead-letters", "list", bot["name"]).out.startswith("none")


def test_a_retry_that_is_refused_again_says_why(operate: Operate, bot: dict[str, Any], letter: str) -> None:
    assert "p_level" in operate("dead-letters", "retry", bot["name"], letter, role="operator").refusal(64)


def test_a_retry_that_is_taken_is_done_once(operate: Operate, stack: Stack, bot: dict[str, Any], letter: str) -> None:
    stack.query(
        "update bot_runtime.dead_letters set args = jsonb_set(args, '{p_level}', '\"info\"') where id = %s", (letter,)
    )
    for _ in range(2):
        assert operate("dead-letters", "retry", bot["name"], letter, "--json").json["status"] == "retried"
    assert operate("bot", "show", bot["name"], "--json").json["rows"]["bot_events"] == 1


def test_a_dropped_one_stays_on_record(operate: Operate, bot: dict[str, Any], letter: str) -> None:
    assert operate("dead-letters", "drop", bot["name"], letter).out.startswith(f"dropped: {letter}")
    (listed,) = operate("dead-letters", "list", bot["name"], "--json").json["dead_letters"]
    assert listed["status"] == "dropped"
    assert "dropped" in operate("dead-letters", "retry", bot["name"], letter).refusal(64)


def test_settling_needs_an_operator(operate: Operate, bot: dict[str, Any], letter: str) -> None:
    assert "needs operator" in operate("dead-letters", "drop", bot["name"], letter, role="viewer").refusal(77)


def test_a_letter_that_is_none_is_one_line(operate: Operate, bot: dict[str, Any]) -> None:
    assert "dead_letter_not_found" in operate("dead-letters", "drop", bot["name"], "999999999").refusal(64)


@pytest.mark.parametrize("number", ["0", "x", "1.5", "-1"])
def test_a_number_that_is_none_is_a_usage_error(call: Operate, number: str) -> None:
    assert "ID" in call("dead-letters", "drop", "trend", "--", number).refusal(64)
