"""What a runtime asks and tells all the time: context, heartbeat, controls."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

AT = "2026-01-02T03:04:05Z"


@contextmanager
def refused(code: str, word: str, detail: str = "") -> Iterator[None]:
    with pytest.raises(psycopg.Error) as caught:
        yield
    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (code, word)
    assert (caught.value.diag.message_detail or "").startswith(detail)


class Bot:
    """A bot whose boot ``a`` holds the lease under epoch 1."""

    def __init__(self, database: Database) -> None:
        self.database, self.id, self.token = database, str(uuid.uuid4()), uuid.uuid4().hex
        self.set(
            "insert into bot_runtime.bots (id, name, user_id, mode, exchange, symbols, execution_config, settings)"
            """ values (%s, 'b', 'u', 'paper', 'binance', '{BTC/USDT,ETH/USDT}', '{"lease_s": "30"}', '{"M": 1}')"""
        )
        self.set(
            "insert into bot_runtime.bot_runtime (bot_id, runtime_token_hash, token_expires_at, ttl_s, region)"
            " values (%s, %s, clock_timestamp() + interval '1 day', 86400, 'ams')",
            hashlib.sha256(self.token.encode()).digest(),
        )
        self.headers = {"x-runtime-token": self.token, "x-runtime-boot-id": "a", "x-runtime-epoch": "1"}
        self.call("bot_runtime_claim", boot_id="a")

    def set(self, statement: str, *values: Any) -> None:
        """Run ``statement``, whose first parameter is the bot's id."""
        self.database.query(statement, (self.id, *values))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of ``query``, whose parameter is the bot's id."""
        return self.database.query(query, (self.id,))

    def call(self, fn: str, **args: Any) -> Any:
        named = {f"p_{name}": value for name, value in args.items()}
        return self.database.call(fn, {"p_bot_id": self.id, **named}, self.headers)

    def beat(self, **payload: Any) -> Any:
        return self.call("bot_runtime_heartbeat", payload=payload)

    def state(self) -> dict[str, Any]:
        [(row,)] = self.rows("select to_jsonb(s) from bot_runtime.bot_state s where bot_id = %s")
        state: dict[str, Any] = row
        return state

    def control(self, *, flatten: bool = False, **controls: bool) -> None:
        """What an operator's verb does to the row."""
        self.database.query(
            "update bot_runtime.bots set controls_version = controls_version + 1, controls = controls || %s::jsonb,"
            " flatten_version = case when %s then controls_version + 1 else flatten_version end where id = %s",
            (json.dumps(controls), flatten, self.id),
        )


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here: each has bots of its own, and looks at nothing else."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Bot:
    return Bot(database)


def test_the_context_of_a_bare_bot_says_what_it_lacks(bot) -> None:
    context = bot.call("bot_runtime_get_context")
    assert set(context) == {
        *("bot", "symbols", "api_keys", "exchange", "markets", "subscription", "strategy", "profile", "controls"),
        *("settings", "settings_version", "runtime"),
    }
    lacking = {name: context[name] for name in ("api_keys", "markets", "subscription", "strategy", "profile")}
    assert lacking == {
        "api_keys": None,
        "markets": [],
        "subscription": {"status": "inactive"},
        "strategy": None,
        "profile": None,
    }
    assert context["bot"] == {
        "id": bot.id,
        "name": "b",
        "user_id": "u",
        "mode": "paper",
        "exchange": "binance",
        "symbols": ["BTC/USDT", "ETH/USDT"],
        "polling_tier": "standard",
        "active": True,
        "exchange_options": {},
        "execution_config": {"lease_s": "30"},
        "created_at": context["bot"]["created_at"],
    }
    assert context["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert context["exchange"]["name"] == "Binance"
    assert (context["settings"], context["settings_version"]) == ({"M": 1}, 1)
    assert context["runtime"]["region"] == "ams"
    assert context["runtime"]["token_ttl_s"] == 86400


def test_the_context_joins_what_is_known_of_the_bot_and_its_markets(bot) -> None:
    strategy = str(uuid.uuid4())
    bot.database.query(
        "insert into bot_runtime.strategies (id, name, definition, fingerprint) values (%s, 's', %s, 'f')",
        (strategy, json.dumps({"name": "s"})),
    )
    bot.database.query("update bot_runtime.bots set strategy_id = %s where id = %s", (strategy, bot.id))
    bot.set("insert into bot_runtime.api_keys (bot_id, exchange, ciphertext) values (%s, 'binance', 'sealed')")
    bot.set("insert into bot_runtime.subscriptions (bot_id, status) values (%s, 'past_due')")
    bot.set("""insert into bot_runtime.strategy_profiles (bot_id, overrides) values (%s, '{"x": 1}')""")
    bot.database.query(
        "insert into bot_runtime.supported_markets (exchange, symbol, price_step, amount_step) values"
        " ('binance', 'ETH/USDT', 0.010, 0.00000001), ('binance', 'SOL/USDT', 1, 1), ('okx', 'ETH/USDT', 1, 1)"
    )
    context = bot.call("get_bot_context")
    assert context["strategy"] == {"id": strategy, "name": "s", "definition": {"name": "s"}, "fingerprint": "f"}
    assert context["api_keys"] == {"ciphertext": "sealed"}
    assert context["subscription"] == {"status": "past_due"}
    assert context["profile"] == {"overrides": {"x": 1}}
    [market] = context["markets"]
    assert (market["symbol"], market["price_step"], market["amount_step"]) == ("ETH/USDT", "0.01", "0.00000001")


def test_only_the_document_s_own_context_refuses_an_inactive_bot(bot) -> None:
    bot.set("update bot_runtime.bots set active = false where id = %s")
    assert bot.call("bot_runtime_get_context")["bot"]["active"] is False
    with refused("PT403", "bot_inactive"):
        bot.call("get_bot_context")


def test_a_heartbeat_writes_the_state_and_tells_the_controls_version(bot) -> None:
    bot.control(paused=True)
    answer = bot.beat(
        heartbeat_at=AT, status="running", exchange_sync_status="ok", equity="10000.50", cash="1", mark_price="2"
    )
    assert (answer["epoch"], answer["renewals"], answer["controls_version"]) == (1, 2, 2)
    assert answer["expires_in_s"] == "30"
    assert answer["token_expires_at"].endswith("Z")
    state = bot.state()
    assert state["heartbeat_at"].startswith("2026-01-02T03:04:05")
    assert (state["boot_id"], state["epoch"], state["status"]) == ("a", 1, "running")
    assert (state["exchange_sync_status"], str(state["equity"])) == ("ok", "10000.5")


def test_a_heartbeat_that_says_little_keeps_what_an_earlier_one_said(bot) -> None:
    bot.beat(status="running", exchange_sync_status="ok", equity="5", event="started")
    bot.beat(heartbeat_at=AT)
    state = bot.state()
    assert (state["status"], state["exchange_sync_status"], state["equity"]) == ("running", "ok", 5)
    assert (state["event"], state["payload"]) == ("started", {"heartbeat_at": AT})


def test_only_a_heartbeat_with_an_event_is_logged_and_its_repeat_is_not(bot) -> None:
    bot.beat(heartbeat_seq=1)
    for _ in range(2):
        bot.beat(heartbeat_seq=2, event="started", level="warning")
    bot.beat(heartbeat_seq=3, event="started")
    rows = bot.rows(
        "select kind, level, epoch, payload ->> 'heartbeat_seq' from bot_runtime.bot_events"
        " where bot_id = %s order by id"
    )
    assert rows == [("heartbeat", "warning", 1, "2"), ("heartbeat", "info", 1, "3")]


def test_heartbeats_gather_the_figures_of_a_run(bot) -> None:
    for equity in ("10", "7.5", "12"):
        bot.beat(equity=equity)
    bot.beat()
    rows = bot.rows(
        "select boot_id, heartbeats, equity_last, equity_min, equity_max from bot_runtime.run_metrics where bot_id = %s"
    )
    assert [(row[0], row[1], *map(str, row[2:])) for row in rows] == [("a", 4, "12", "7.5", "12")]


@pytest.mark.parametrize("fn", ["bot_runtime_heartbeat", "tick_heartbeat"])
def test_a_late_or_repeated_heartbeat_renews_the_lease_and_changes_nothing_else(bot, fn) -> None:
    metrics = "select heartbeats, equity_last, equity_min, equity_max from bot_runtime.run_metrics where bot_id = %s"
    renewals = "select renewals from bot_runtime.bot_leases where bot_id = %s"
    bot.beat(heartbeat_seq=1, equity="100")
    bot.beat(heartbeat_seq=10, equity="110", heartbeat_at=AT)
    [(before,)], standing, counted = bot.rows(renewals), bot.state(), bot.rows(metrics)
    for seq in (10, 9, "2"):
        bot.call(fn, payload={"heartbeat_seq": seq, "equity": "1", "heartbeat_at": "2026-01-01T00:00:00Z"})
    assert (bot.state(), bot.rows(metrics)) == (standing, counted)
    assert bot.rows(renewals) == [(before + 3,)]
    bot.beat(heartbeat_seq=11, equity="111")
    bot.beat(equity="112")
    assert (bot.state()["equity"], bot.rows(metrics)[0][0]) == (112, 4)


def test_a_late_heartbeat_s_event_is_logged_all_the_same(bot) -> None:
    bot.beat(heartbeat_seq=2)
    bot.beat(heartbeat_seq=1, event="started")
    events = bot.rows("select payload ->> 'event' from bot_runtime.bot_events where bot_id = %s")
    assert (events, bot.state()["payload"]["heartbeat_seq"]) == ([("started",)], 2)


def test_the_next_boot_counts_its_heartbeats_from_the_beginning(bot) -> None:
    bot.beat(heartbeat_seq=9)
    epoch = bot.call("bot_runtime_claim", boot_id="b", previous_boot_id="a")["epoch"]
    bot.headers |= {"x-runtime-boot-id": "b", "x-runtime-epoch": str(epoch)}
    bot.beat(heartbeat_seq=1)
    state = bot.state()
    assert (state["boot_id"], state["payload"]["heartbeat_seq"]) == ("b", 1)


def test_the_document_s_heartbeat_answers_with_the_row(bot) -> None:
    row = bot.call("tick_heartbeat", payload={"heartbeat_at": AT, "equity": "1.50", "event": "tick"})
    assert row["heartbeat_at"] == "2026-01-02T03:04:05.000000Z"
    assert (row["bot_id"], row["equity"], row["event"], row["in_position"]) == (bot.id, "1.5", "tick", False)


@pytest.mark.parametrize(
    ("field", "payload"),
    [
        ("", None),
        ("", []),
        (".foo", {"foo": 1}),
        (".equity", {"equity": 1.5}),
        (".equity", {"equity": "NaN"}),
        (".cash", {"cash": "1e3"}),
        (".heartbeat_at", {"heartbeat_at": "2026-01-02T03:04:05"}),
        (".heartbeat_at", {"heartbeat_at": "2026-02-30T03:04:05Z"}),
        (".heartbeat_at", {"heartbeat_at": "infinity"}),
        (".event", {"event": "x" * 501}),
        (".event", {"event": ""}),
        (".level", {"level": "loud"}),
        (".exchange_sync_status", {"exchange_sync_status": "fine"}),
        (".gate", {"gate": [["paused"]]}),
        (".gate", {"gate": "paused"}),
        (".heartbeat_seq", {"heartbeat_seq": -1}),
        (".heartbeat_seq", {"heartbeat_seq": 1.5}),
        (".uptime_s", {"uptime_s": True}),
        (".in_position", {"in_position": "yes"}),
        (".status", {"status": {}}),
    ],
)
def test_a_heartbeat_with_a_bad_payload_is_refused_and_renews_nothing(bot, field, payload) -> None:
    with refused("PT422", "payload_invalid", f"p_payload{field}: "):
        bot.call("bot_runtime_heartbeat", payload=payload)
    assert bot.rows("select renewals from bot_runtime.bot_leases where bot_id = %s") == [(1,)]
    assert bot.rows("select 1 from bot_runtime.bot_state where bot_id = %s") == []


def test_all_that_the_runtime_says_of_itself_is_accepted(bot) -> None:
    money = ("equity", "cash", "mark_price", "position_qty", "position_entry", "unrealized_pnl", "unrealised_pnl")
    text = ("boot_id", "run_id", "status", "strategy", "symbol", "version", "polling_tier", "message", "event")
    bot.beat(
        **dict.fromkeys((*money, "realised_pnl", "drawdown", "day_pnl"), "-0.5"),
        **dict.fromkeys(text, "standard"),
        **dict.fromkeys(("heartbeat_at", "last_bar_at", "marked_at"), "2026-02-28T23:59:59.123456+02:00"),
        **dict.fromkeys(("heartbeat_seq", "controls_version", "orders_open"), 3),
        uptime_s=1.25,
        poll_effective_s="5.0",
        gate=["paused", "warmup"],
        in_position=True,
        position_side="short",
        exchange_sync_status="unknown",
        level="info",
    )
    assert bot.state()["unrealized_pnl"] == -0.5
    bot.beat(heartbeat_at="2028-02-29T00:00:00Z", equity=None, gate=None)


def test_controls_are_told_in_one_record(bot) -> None:
    bot.control(paused=True)
    bot.control(flatten=True)
    controls = bot.call("bot_runtime_refresh_controls")
    assert controls == {
        "version": 3,
        "acknowledged": 0,
        "control_config": {
            "paused": True,
            "killed": False,
            "observe_only": False,
            "flatten_version": 3,
            "requests": [],
        },
        "execution_config": {"lease_s": "30"},
        "subscription_status": "inactive",
    }
    assert bot.call("bot_runtime_get_context")["controls"] == controls
    del controls["acknowledged"]
    assert bot.call("refresh_controls") == controls


def test_an_acknowledgement_never_goes_back_and_ends_the_flatten_it_covers(bot) -> None:
    bot.control(flatten=True)
    bot.control(paused=True)
    assert bot.call("bot_runtime_acknowledge", version=1) == {"acknowledged": 1}
    assert bot.call("bot_runtime_refresh_controls")["control_config"]["flatten_version"] == 2
    assert bot.call("bot_runtime_acknowledge", version="3") == {"acknowledged": 3}
    assert bot.call("bot_runtime_refresh_controls")["control_config"]["flatten_version"] is None
    for version in ("3", "2"):
        assert bot.call("bot_runtime_acknowledge", version=version) == {"acknowledged": 3}
    rows = bot.rows("select kind, payload from bot_runtime.bot_events where bot_id = %s order by id")
    assert rows == [("controls_acknowledged", {"version": version}) for version in (1, 3)]


@pytest.mark.parametrize("version", ["0", "2", "-1", "1.0", "x", None])
def test_a_version_that_never_was_is_not_acknowledged(bot, version) -> None:
    with refused("PT422", "payload_invalid", "p_version: "):
        bot.call("bot_runtime_acknowledge", version=version)


def test_a_fenced_process_acknowledges_nothing(bot) -> None:
    bot.headers["x-runtime-epoch"] = "0"
    with refused("PT409", "stale_epoch", "epoch 0, the lease is at 1"):
        bot.call("bot_runtime_acknowledge", version=1)
