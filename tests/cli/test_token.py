"""``tbh token``: the runtime's token, given and ended by an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Done
    from tests.cli.conftest_stack import Stack

    Operate = Callable[..., Done]

pytest_plugins = ("tests.cli.conftest_stack",)


def test_an_issued_token_works_and_the_former_one_is_dead(operate: Operate, stack: Stack, bot: dict[str, Any]) -> None:
    issued = operate("token", "issue", bot["name"], "--ttl", "60", "--provider", "fly", "--json").json
    assert set(issued) == {"bot_id", "runtime_token", "epoch", "expires_at"}
    assert issued["bot_id"] == bot["bot_id"]
    assert issued["epoch"] == bot["epoch"] + 1
    context = stack.runtime(issued, "get_bot_context")
    assert context["runtime"]["provider"] == "fly"
    with pytest.raises(AssertionError, match="runtime_token_invalid"):
        stack.runtime(bot, "get_bot_context")


def test_people_get_lines_for_their_shell(operate: Operate, bot: dict[str, Any]) -> None:
    *comments, bot_id, token = operate("token", "issue", bot["bot_id"]).out.splitlines()
    assert all(comment.startswith("# ") for comment in comments)
    assert bot_id == f"export BOT_ID={bot['bot_id']}"
    assert token.startswith("export RUNTIME_TOKEN=tbh_rt_")


def test_a_revoked_token_is_dead(operate: Operate, stack: Stack, bot: dict[str, Any]) -> None:
    done = operate("token", "revoke", bot["name"], "--reason", "machine lost", "--json").json
    assert done["bot_id"] == bot["bot_id"]
    with pytest.raises(AssertionError, match="runtime_token_invalid"):
        stack.runtime(bot, "get_bot_context")
    assert "revoked at" in operate("token", "revoke", bot["name"], "--reason", "again").out


def test_tokens_are_an_admins_business(operate: Operate, bot: dict[str, Any]) -> None:
    line = operate("token", "issue", bot["name"], role="operator").refusal(77)
    assert "needs admin" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["issue"], "BOT"),
        (["issue", "x", "--ttl", "0"], "--ttl"),
        (["issue", "x", "--ttl", "31536001"], "--ttl"),
        (["revoke", "x"], "--reason"),
    ],
    ids=str,
)
def test_a_usage_error_is_one_line(call: Operate, arguments: list[str], named: str) -> None:
    assert named in call("token", *arguments).refusal(64)
