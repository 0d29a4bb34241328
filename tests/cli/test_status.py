"""``tbh status``, ``tbh bot adopt`` and ``tbh bot resolve``, against a real database behind its gateway."""

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
def running(stack: Stack, bot: dict[str, Any]) -> dict[str, Any]:
    """A bot that is gated, with an unknown order and what its start has found."""
    epoch = stack.runtime(bot, "bot_runtime_claim", boot_id="b1")["epoch"]
    beat = {"status": "running", "exchange_sync_status": "mismatch", "gate": ["position_mismatch"]}
    stack.runtime(bot, "bot_runtime_heartbeat", epoch=epoch, payload=beat)
    order = {"symbol": "BTC/USDT", "side": "buy", "event": "entry", "order_status": "unknown", "qty": "0.5"}
    stack.runtime(bot, "bot_runtime_upsert_trade", client_order_id="o1", payload=order)
    finding = {"kind": "orphan", "subject": "o9", "detail": "stop"}
    payload = {"start": "b1:0", "findings": [finding], "at": "2026-01-01T00:00:00Z"}
    stack.runtime(bot, "bot_runtime_write_event", kind="recovery", level="info", payload=payload, key="recovery:b1:0")
    done = {"request_id": "adopt:2", "outcome": "nothing to adopt", "at": "2026-01-01T00:00:01Z"}
    stack.runtime(bot, "bot_runtime_write_event", kind="request_done", level="warning", payload=done, key="r")
    return bot


def test_status_tells_phase_gate_orders_and_findings_at_a_glance(operate: Operate, running: dict[str, Any]) -> None:
    told = operate("status", running["name"], "--json", role="viewer").json
    assert (told["phase"], told["gate"], told["position_sync"]) == ("gated", ["position_mismatch"], "mismatch")
    assert [order["client_order_id"] for order in told["open_orders"]] == ["o1"]
    assert [one["kind"] for one in told["recovery"]["payload"]["findings"]] == ["orphan"]
    assert [event["kind"] for event in told["events"]] == ["request_done"]


def test_status_says_the_same_in_words(operate: Operate, running: dict[str, Any]) -> None:
    said = operate("status", running["name"]).out
    for words in (
        "gated, heartbeat",
        "position_mismatch (tbh bot adopt)",
        "flat",
        "entry buy 0.5 unknown",
        "last found    2026-01-01 00:00:00Z orphan: o9 (stop)",
        "request_done: outcome nothing to adopt, request_id adopt:2",
    ):
        assert words in said
    assert "orphan: o9 (stop)" in operate("bot", "show", running["name"]).out


def decide(stack: Stack, bot: dict[str, Any], minute: int, rule: str | None, purpose: str = "entry") -> None:
    bar = f"2026-01-01T00:{minute:02}:00Z"
    verdict = {"verdict": "approved"} if rule is None else {"verdict": "refused", "rule": rule, "detail": f"why {rule}"}
    payload = {"proposal_id": f"p{minute}", "symbol": "BTC/USDT", "bar_open": bar, "purpose": purpose} | verdict
    stack.runtime(bot, "bot_runtime_record_decision", payload=payload)


def test_the_entries_that_risk_has_refused_are_counted_by_rule(
    operate: Operate, stack: Stack, running: dict[str, Any]
) -> None:
    assert not operate("status", running["name"], "--json").json["entries"]["decided"]
    assert "entries" not in operate("status", running["name"]).out
    decide(stack, running, 0, "warmup")  # too long ago: ten have followed
    for minute, rule in enumerate(["paused", None, "exposure", "exposure", "cooldown", *[None] * 5], 1):
        decide(stack, running, minute, rule)
    decide(stack, running, 11, "gone", purpose="exit")
    decide(stack, running, 4, None)  # judged again by another owner: the first word was the one that counted
    told = operate("status", running["name"], "--json", role="viewer").json["entries"]
    assert (told["decided"], told["refused"]) == (10, 4)
    assert told["rules"] == {"exposure": 2, "cooldown": 1, "paused": 1}
    assert (told["last_refused"]["rule"], told["last_refused"]["bar_open"]) == (
        "cooldown",
        "2026-01-01T00:05:00.000000Z",
    )
    said = operate("status", running["name"]).out
    assert "refused 4 of the last 10: exposure (2), cooldown (1), paused (1); last on the bar of" in said
    assert "2026-01-01 00:05:00Z: cooldown (why cooldown)" in said


def notify(stack: Stack, bot: dict[str, Any], key: str, **payload: Any) -> None:
    stack.runtime(bot, "bot_runtime_notify", channel="in_app", payload={"severity": "critical"} | payload, key=key)


def test_a_bot_that_stopped_itself_or_could_not_start_says_why_until_it_runs_again(
    operate: Operate, stack: Stack, running: dict[str, Any]
) -> None:
    def told() -> Any:
        return operate("status", running["name"], "--json").json["ended"]

    notify(stack, running, "escalated:b1", kind="escalated", text="strategy: broken", exit_code=70)
    assert told() is None  # its lease has not ended
    stack.runtime(running, "bot_runtime_release", boot_id="b1")
    assert (told()["text"], told()["exit_code"]) == ("strategy: broken", 70)
    assert "Z, exit 70: strategy: broken" in operate("status", running["name"]).out
    notify(stack, running, "started:b1", kind="started", text="late word of the same life")
    assert told()["text"] == "strategy: broken"
    notify(stack, running, "started:b2", kind="started", text="the next life, which was told to stop")
    assert told() is None
    assert "ended" not in operate("status", running["name"]).out
    notify(stack, running, "not_started:b3", kind="not_started", text="no\x1b[31m package", exit_code=78)
    assert "exit 78: no\\x1b[31m package" in operate("status", running["name"]).out


def test_a_bot_that_never_ran_has_a_status_too(operate: Operate, bot: dict[str, Any]) -> None:
    assert operate("status", bot["name"], "--json").json["phase"] == "never started"
    assert "never started" in operate("status", bot["name"]).out


def test_adopt_and_resolve_reach_the_bot_once_each(operate: Operate, stack: Stack, running: dict[str, Any]) -> None:
    name = running["name"]
    wanted = ("bot", "adopt", name, "--reason", "withdrawn", "--request-id", "r1", "--json")
    assert [operate(*wanted, role="operator").json["version"] for _ in range(2)] == [2, 2]
    said = operate("bot", "resolve", name, "o1", "--as", "absent", "--reason", "not on the exchange's list").out
    assert said.startswith("resolve: version 3 of the controls (to adopt, to resolve)")
    told = stack.runtime(running, "bot_runtime_refresh_controls")["control_config"]["requests"]
    assert told == [
        {"version": 2, "action": "adopt", "reason": "withdrawn"},
        {
            "version": 3,
            "action": "resolve",
            "reason": "not on the exchange's list",
            "client_order_id": "o1",
            "outcome": "absent",
        },
    ]


def test_a_viewer_settles_nothing(operate: Operate, bot: dict[str, Any]) -> None:
    assert "needs operator" in operate("bot", "adopt", bot["name"], role="viewer").refusal(77)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["o1", "--reason", "r"], "--as"),
        (["o1", "--as", "sold", "--reason", "r"], "invalid choice"),
        (["o1", "--as", "absent"], "--reason"),
        (["--as", "absent", "--reason", "r"], "CLIENT_ORDER_ID"),
    ],
)
def test_a_resolution_that_cannot_be_is_one_line(call: Operate, arguments: list[str], said: str) -> None:
    assert said in call("bot", "resolve", "trend", *arguments).refusal(64)
