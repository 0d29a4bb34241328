"""What is recorded once: fills, decisions, bars, events, notices; and health evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, refused

FILL = {"trade_id": "t1", "client_order_id": "c1", "symbol": "S", "qty": "1", "price": "100", "seq": 3}
DECISION = {
    "proposal_id": "entry|0|ema|S|1767225600",
    "strategy": "ema",
    "symbol": "S",
    "bar_open": "2026-01-01T00:00:00Z",
    "purpose": "entry",
    "verdict": "refused",
    "rule": "drawdown",
    "detail": "5.1 %",
}
CYCLE = {"strategy": "ema", "symbol": "S", "bar_open": "2026-01-01T00:00:00Z", "proposals": 1, "outcome": "proposed"}


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all: each test has a bot of its own, and no bot sees another's rows."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Iterator[Bot]:
    with database.connected() as connection:
        yield Bot(database, connection)


def event(bot: Bot, key: str = "k1", **payload: Any) -> bool:
    args = {"p_kind": "order", "p_level": "info", "p_payload": payload, "p_key": key}
    recorded: bool = bot.call("bot_runtime_write_event", **args)["recorded"]
    return recorded


class TestFills:
    def test_a_fill_is_recorded_once(self, bot: Bot) -> None:
        assert bot.call("bot_runtime_record_fill", p_payload=FILL) == {"trade_id": "t1", "recorded": True}
        assert bot.call("bot_runtime_record_fill", p_payload=FILL) == {"trade_id": "t1", "recorded": False}
        assert len(bot.rows("bot_fills")) == 1

    def test_the_same_trade_with_another_payload_is_refused(self, bot: Bot) -> None:
        bot.call("bot_runtime_record_fill", p_payload=FILL)
        with refused("PT422", "key_conflict", "p_payload.trade_id"):
            bot.call("bot_runtime_record_fill", p_payload=FILL | {"qty": "2"})

    def test_one_amount_written_in_two_ways_is_the_same_fill(self, bot: Bot) -> None:
        bot.call("bot_runtime_record_fill", p_payload=FILL)
        assert not bot.call("bot_runtime_record_fill", p_payload=FILL | {"qty": "1.00"})["recorded"]

    def test_another_process_may_have_counted_the_events_otherwise(self, bot: Bot) -> None:
        bot.call("bot_runtime_record_fill", p_payload=FILL)
        assert not bot.call("bot_runtime_record_fill", p_payload=FILL | {"seq": 9})["recorded"]

    @pytest.mark.parametrize("field", ["qty", "price"])
    def test_a_fill_of_nothing_is_no_fill(self, bot: Bot, field: str) -> None:
        with refused("PT422", "payload_invalid", f"p_payload.{field}"):
            bot.call("bot_runtime_record_fill", p_payload=FILL | {field: "0"})


class TestDecisions:
    def test_a_decision_is_recorded_once_by_proposal_and_verdict(self, bot: Bot) -> None:
        assert bot.call("bot_runtime_record_decision", p_payload=DECISION)["recorded"]
        assert not bot.call("bot_runtime_record_decision", p_payload=DECISION)["recorded"]
        assert bot.call("bot_runtime_record_decision", p_payload=DECISION | {"verdict": "approved"})["recorded"]
        assert len(bot.rows("risk_decisions")) == 2

    def test_of_a_proposal_judged_twice_the_first_verdict_stands(self, bot: Bot) -> None:
        bot.call("bot_runtime_record_decision", p_payload=DECISION)
        assert not bot.call("bot_runtime_record_decision", p_payload=DECISION | {"detail": "5.2 %"})["recorded"]
        assert [row["detail"] for row in bot.rows("risk_decisions")] == ["5.1 %"]

    def test_a_proposal_of_another_bar_is_another_content(self, bot: Bot) -> None:
        bot.call("bot_runtime_record_decision", p_payload=DECISION)
        with refused("PT422", "key_conflict", "p_payload.proposal_id"):
            bot.call("bot_runtime_record_decision", p_payload=DECISION | {"bar_open": "2026-01-01T00:01:00Z"})

    def test_a_bar_is_recorded_once_and_the_first_word_stands(self, bot: Bot) -> None:
        assert bot.call("bot_runtime_record_cycle", p_payload=CYCLE)["recorded"]
        assert not bot.call("bot_runtime_record_cycle", p_payload=CYCLE | {"outcome": "nothing"})["recorded"]
        assert [row["outcome"] for row in bot.rows("cycle_trace")] == ["proposed"]

    @pytest.mark.parametrize(
        "time", ["2024-02-29T00:00:00Z", "2026-12-31T23:59:59.999999+14:00", "2030-06-30T00:00:00-0330"]
    )
    def test_a_time_is_iso_with_its_zone(self, bot: Bot, time: str) -> None:
        assert bot.call("bot_runtime_record_cycle", p_payload=CYCLE | {"bar_open": time})["recorded"]

    @pytest.mark.parametrize(
        "time",
        [
            "2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-13-01T00:00:00Z",
            "2026-00-31T00:00:00Z", "0000-01-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00", "2026-01-01T00:00:00+15:00", "2026-01-01", "2026-01-01 00:00:00Z", "now",
            "infinity", "12026-01-01T00:00:00Z", "", 1767225600, "2026-01-01T00:00:00." + "0" * 99 + "Z",
        ],
    )  # fmt: skip
    def test_what_is_no_time_is_refused_by_its_name(self, bot: Bot, time: Any) -> None:
        with refused("PT422", "payload_invalid", "p_payload.bar_open"):
            bot.call("bot_runtime_record_cycle", p_payload=CYCLE | {"bar_open": time})


class TestEvents:
    def test_a_repeat_is_no_second_event(self, bot: Bot) -> None:
        assert event(bot, price="1")
        assert not event(bot, price="1")
        assert len(bot.rows("bot_events")) == 1

    def test_a_known_key_with_another_content_is_refused(self, bot: Bot) -> None:
        event(bot, price="1")
        with refused("PT422", "key_conflict", "p_key"):
            event(bot, price="2")

    def test_an_event_happened_when_it_says_so(self, bot: Bot) -> None:
        event(bot, at="2026-01-01T00:00:00Z")
        event(bot, key="k2", at="the corner")
        first, second = bot.rows("bot_events", order="key")
        assert first["at"].startswith("2026-01-01T00:00:00")
        assert not second["at"].startswith("2026-01-01")

    def test_free_text_is_kept_as_it_is(self, bot: Bot) -> None:
        event(bot, reason="'); drop table bot_runtime.bots; --")
        assert bot.rows("bot_events")[0]["payload"] == {"reason": "'); drop table bot_runtime.bots; --"}


class TestNotices:
    def test_in_app_goes_to_the_console_and_the_rest_to_the_queue(self, bot: Bot) -> None:
        for channel in ("in_app", "email", "slack", "sms", "pagerduty", "webhook"):
            assert bot.call("bot_runtime_notify", p_channel=channel, p_payload={"text": "x"}, p_key=channel)["recorded"]
        assert [row["key"] for row in bot.rows("notifications")] == ["in_app"]
        assert {row["channel"] for row in bot.rows("notification_queue")} == {
            "email", "slack", "sms", "pagerduty", "webhook",
        }  # fmt: skip

    def test_an_unknown_channel_is_refused(self, bot: Bot) -> None:
        with refused("PT422", "payload_invalid", "p_channel"):
            bot.call("bot_runtime_notify", p_channel="pigeon", p_payload={}, p_key="k")

    @pytest.mark.parametrize("channel", ["in_app", "email"])
    def test_a_repeat_changes_nothing_and_another_content_is_refused(self, bot: Bot, channel: str) -> None:
        args = {"p_channel": channel, "p_key": "k"}
        assert bot.call("bot_runtime_notify", p_payload={"text": "x"}, **args)["recorded"]
        assert not bot.call("bot_runtime_notify", p_payload={"text": "x"}, **args)["recorded"]
        with refused("PT422", "key_conflict", "p_key"):
            bot.call("bot_runtime_notify", p_payload={"text": "y"}, **args)

    def test_one_key_on_two_channels_is_two_notices(self, bot: Bot) -> None:
        for channel, text in (("email", "x"), ("slack", "y"), ("in_app", "z")):
            args = {"p_channel": channel, "p_key": "k", "p_payload": {"text": text}}
            assert bot.call("bot_runtime_notify", **args)["recorded"]
            assert not bot.call("bot_runtime_notify", **args)["recorded"]
        queued = {(row["channel"], row["payload"]["text"]) for row in bot.rows("notification_queue")}
        assert queued == {("email", "x"), ("slack", "y")}
        assert len(bot.rows("notifications")) == 1

    def test_write_notification_writes_one_each_call_unless_the_payload_has_a_key(self, bot: Bot) -> None:
        for _ in range(2):
            bot.call("write_notification", p_channel="in_app", p_payload={"text": "x"})
            bot.call("write_notification", p_channel="email", p_payload={"text": "x", "key": "k"})
        assert (len(bot.rows("notifications")), len(bot.rows("notification_queue"))) == (2, 1)


class TestHealth:
    def test_patches_are_merged_deeply(self, bot: Bot) -> None:
        bot.call("upsert_bot_health_evidence", p_patch={"schema": 1, "db": {"writes_15m": 3, "failures_15m": 0}})
        evidence = bot.call("upsert_bot_health_evidence", p_patch={"db": {"failures_15m": 2}, "auth": {"ok": True}})
        assert evidence == {"schema": 1, "db": {"writes_15m": 3, "failures_15m": 2}, "auth": {"ok": True}}

    @pytest.mark.parametrize(("patch", "field"), [({"weather": 1}, "weather"), ({"db": 3}, "db")])
    def test_an_unknown_key_or_a_section_that_is_none_is_refused(self, bot: Bot, patch: Any, field: str) -> None:
        with refused("PT422", "payload_invalid", f"p_patch.{field}"):
            bot.call("upsert_bot_health_evidence", p_patch=patch)

    def test_nesting_has_a_limit(self, bot: Bot) -> None:
        deep: Any = 1
        for _ in range(50):
            deep = {"x": deep}
        bot.call("upsert_bot_health_evidence", p_patch={"db": deep})
        with refused("PT422", "payload_invalid", "p_patch: nested"):
            bot.call("upsert_bot_health_evidence", p_patch={"db": deep})

    def test_evidence_of_a_fenced_boot_is_refused(self, bot: Bot) -> None:
        bot.claim("boot-1")
        fenced = dict(bot.headers)
        bot.claim("boot-2", previous="boot-1")
        bot.headers = fenced
        with refused("PT409", "stale_epoch"):
            bot.call("upsert_bot_health_evidence", p_patch={"schema": 1})
        entry = ("upsert_bot_health_evidence", {"p_patch": {"schema": 1}}, "h")
        assert bot.sync(entry)["refused"][0]["reason"].startswith("stale_epoch")
