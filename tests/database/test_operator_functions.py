"""What operators may do, each by a role, and what is left behind of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of

ROLES = ("viewer", "auditor", "operator", "admin")
DEFINITION = {
    "name": "cross",
    "timeframe": "1m",
    "entry": {"long": {"all": [{"left": "close", "op": ">", "right": 1}]}},
    "sizing": {"kind": "fixed_quantity", "value": "0.01"},
}
PAYLOAD: dict[str, Any] = {
    "name": "trend",
    "exchange": "paper",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "strategy": DEFINITION,
    "mode": "paper",
}
NOBODY = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

Refusal = tuple[str, str, str | None]


def short(value: object) -> str:
    return str(value)[:50]


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all tests here, with a token of each role; every test has bots of its own."""
    with copy_of(server, migrated) as made:
        for role in ROLES:
            made.query(
                "insert into bot_runtime.operator_tokens (name, token_hash, role)"
                " values (%(role)s, sha256(convert_to('token-of-' || %(role)s, 'UTF8')), %(role)s)",
                {"role": role},
            )
        yield made


class Operators:
    """Calls of the operator functions; ``role`` says whose token goes with them."""

    def __init__(self, database: Database, connection: psycopg.Connection[Any], tables: list[str]) -> None:
        self.database = database
        self.connection = connection
        self.tables = tables

    def call(self, fn: str, role: str = "admin", **arguments: Any) -> Any:
        named = {f"p_{name}": value for name, value in arguments.items()}
        headers = {"x-operator-token": f"token-of-{role}"}
        return self.database.call(fn, named, headers, connection=self.connection)

    def refused(self, fn: str, role: str = "admin", **arguments: Any) -> Refusal:
        with pytest.raises(psycopg.Error) as caught:
            self.call(fn, role, **arguments)
        error = caught.value
        return str(error.sqlstate), str(error.diag.message_primary), error.diag.message_detail

    def create(self, **changes: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.call("bot_admin_create", bot_id=str(uuid.uuid4()), payload=PAYLOAD | changes)
        return made

    def show(self, bot_id: str, **arguments: Any) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("bot_admin_show", "viewer", bot_id=bot_id, **arguments)
        return shown

    def audited(self, bot_id: str) -> list[tuple[Any, ...]]:
        statement = "select operator, action, detail from bot_runtime.audit_log where bot_id = %s order by id"
        return self.database.query(statement, (bot_id,))

    def counts(self) -> list[tuple[Any, ...]]:
        """The rows of every table, to see that a repeat has written none."""
        counting = " union all ".join(f"select '{table}', count(*) from bot_runtime.{table}" for table in self.tables)
        return self.database.query(counting)


@pytest.fixture
def operators(database: Database) -> Iterator[Operators]:
    found = database.query(
        "select relname from pg_class where relnamespace = 'bot_runtime'::regnamespace and relkind in ('r', 'p')"
        " and not relispartition order by relname"
    )
    with database.connected() as connection:
        yield Operators(database, connection, [name for (name,) in found])


@pytest.fixture
def bot_id(operators: Operators) -> str:
    return str(operators.create()["bot_id"])


@pytest.fixture
def runtime(operators: Operators) -> Callable[..., Any]:
    """A bot that was made, claimed as boot ``b1``; calls with its token."""
    made = operators.create()
    headers = {"x-runtime-token": made["runtime_token"], "x-runtime-boot-id": "b1"}

    def call(fn: str, **arguments: Any) -> Any:
        named = {f"p_{name}": value for name, value in arguments.items()}
        return operators.database.call(
            fn, {"p_bot_id": made["bot_id"]} | named, headers, connection=operators.connection
        )

    lease = call("bot_runtime_claim", boot_id="b1")
    headers["x-runtime-epoch"] = str(lease["epoch"])
    call.__dict__["bot_id"] = made["bot_id"]
    return call


def bot_of(call: Callable[..., Any]) -> str:
    return str(call.__dict__["bot_id"])


# Making a bot


def test_a_made_bot_can_be_claimed_with_its_token_at_once(runtime: Callable[..., Any]) -> None:
    context = runtime("get_bot_context")
    assert context["bot"]["name"] == "trend"
    assert context["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert context["subscription"] == {"status": "active"}
    assert context["strategy"]["definition"] == DEFINITION
    assert context["controls"]["version"] == 1


def test_what_a_bot_is_made_of_is_kept(operators: Operators) -> None:
    made = operators.create(
        exchange="binance",
        mode="live",
        polling_tier="fast_5s",
        exchange_options={"urls": {"api": "http://127.0.0.1:1"}},
        settings={"MAX_TRADES": 3},
        ciphertext="tbh1:abc",
        user_id="u1",
        lease_s="2",
        provider="fly",
        region="fra",
        machine_id="m1",
        fingerprint="0" * 64,
        ttl_s=60,
    )
    bot = operators.show(made["bot_id"])["bot"]
    assert (bot["mode"], bot["polling_tier"], bot["user_id"]) == ("live", "fast_5s", "u1")
    assert bot["exchange_options"] == {"urls": {"api": "http://127.0.0.1:1"}}
    assert bot["settings"] == {"MAX_TRADES": 3}
    assert bot["execution_config"] == {"lease_s": "2"}
    assert bot["has_credentials"] is True
    assert bot["strategy"]["fingerprint"] == "0" * 64
    runtime = bot["runtime"]
    assert (runtime["provider"], runtime["region"], runtime["machine_id"]) == ("fly", "fra", "m1")
    assert runtime["token_expires_at"] == made["expires_at"]
    assert "tbh1:abc" not in str(operators.show(made["bot_id"]))
    assert "tbh1:abc" not in str(operators.audited(made["bot_id"]))


def test_an_id_is_given_to_one_bot_only(operators: Operators, bot_id: str) -> None:
    assert operators.refused("bot_admin_create", bot_id=bot_id, payload=PAYLOAD)[:2] == ("PT422", "bot_exists")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"mode": "demo"}, "mode"),
        ({"exchange": "../x"}, "exchange"),
        ({"exchange": 7}, "exchange"),
        ({"symbols": []}, "symbols"),
        ({"symbols": "BTC/USDT"}, "symbols"),
        ({"symbols": ["BTC/USDT", "BTC/USDT"]}, "symbols"),
        ({"symbols": ["BTC/USDT", 1]}, "symbols"),
        ({"symbols": ["'; drop table bots"]}, "symbols"),
        ({"strategy": None}, "strategy"),
        ({"strategy": {}}, "strategy.name"),
        ({"strategy": "x"}, "strategy"),
        ({"polling_tier": "fast"}, "polling_tier"),
        ({"exchange_options": []}, "exchange_options"),
        ({"settings": {"lower": 1}}, "settings.lower"),
        ({"settings": None}, "settings"),
        ({"ciphertext": "with blanks in it"}, "ciphertext"),
        ({"fingerprint": "abc"}, "fingerprint"),
        ({"lease_s": "0"}, "lease_s"),
        ({"lease_s": "NaN"}, "lease_s"),
        ({"user_id": 7}, "user_id"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
    ids=short,
)
def test_a_malformed_bot_is_refused_by_its_field(operators: Operators, changes: dict[str, Any], field: str) -> None:
    refusal = operators.refused("bot_admin_create", bot_id=NOBODY, payload=PAYLOAD | changes)
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith(f"p_payload.{field}: ")


@pytest.mark.parametrize("ttl_s", ["0", "x", 31_536_001])
def test_a_token_without_a_sound_life_makes_no_bot(operators: Operators, ttl_s: Any) -> None:
    payload = PAYLOAD | {"ttl_s": ttl_s}
    assert operators.refused("bot_admin_create", bot_id=NOBODY, payload=payload)[0] == "PT422"


# Who may do what

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("bot_admin_create", "admin", {"payload": PAYLOAD}),
    ("bot_admin_list", "viewer", {}),
    ("bot_admin_show", "viewer", {}),
    ("bot_admin_control", "operator", {"action": "pause"}),
    ("bot_admin_settings", "admin", {"settings": {}}),
    ("bot_admin_dead_letters", "viewer", {"action": "list"}),
    ("bot_admin_dead_letters", "operator", {"action": "retry", "id": "1"}),
    ("bot_admin_dead_letters", "operator", {"action": "drop", "id": "1"}),
    ("bot_admin_trade", "operator", {"payload": {}}),
]


@pytest.mark.parametrize(("fn", "needed", "arguments"), CALLS, ids=short)
def test_a_role_below_what_is_needed_is_refused(
    operators: Operators, bot_id: str, fn: str, needed: str, arguments: dict[str, Any]
) -> None:
    for role in ROLES[: ROLES.index(needed)]:
        refusal = operators.refused(fn, role, bot_id=bot_id, **arguments)
        assert refusal == ("PT403", "role_too_low", f"needs {needed}")
    assert operators.refused(fn, "nobody", bot_id=bot_id, **arguments)[:2] == ("PT401", "operator_token_invalid")


@pytest.mark.parametrize(
    ("fn", "needed", "arguments"), [each for each in CALLS if each[0] != "bot_admin_create"], ids=str
)
def test_a_bot_that_is_none_is_refused_by_its_id(
    operators: Operators, fn: str, needed: str, arguments: dict[str, Any]
) -> None:
    assert operators.refused(fn, needed, bot_id=NOBODY, **arguments) == ("PT404", "bot_not_found", NOBODY)
    if fn != "bot_admin_list":
        refusal = operators.refused(fn, needed, bot_id=None, **arguments)
        assert refusal == ("PT422", "payload_invalid", "p_bot_id: missing")


def test_whatever_changes_something_is_audited_with_who_did_it(operators: Operators, bot_id: str) -> None:
    operators.call("bot_admin_control", "operator", bot_id=bot_id, action="pause", reason="news", request_id="r1")
    operators.call("bot_admin_settings", bot_id=bot_id, settings={"MAX_TRADES": 2}, subscription="past_due")
    operators.call("bot_admin_list", "viewer")
    operators.show(bot_id)
    done = operators.audited(bot_id)
    assert [(who, action) for who, action, _ in done] == [
        ("admin", "create"),
        ("admin", "register"),
        ("operator", "control"),
        ("admin", "settings"),
    ]
    assert done[2][2] == {"action": "pause", "version": 2, "reason": "news", "request_id": "r1"}
    assert done[3][2] == {"settings": {"MAX_TRADES": 2}, "subscription": "past_due"}


# Seeing how it stands


def test_the_list_has_every_bot_by_name(operators: Operators) -> None:
    ids = {name: operators.create(name=name)["bot_id"] for name in ("b", "a")}
    everything = operators.call("bot_admin_list", "viewer")["bots"]
    assert [bot["name"] for bot in everything] == sorted(bot["name"] for bot in everything)
    listed = [bot for bot in everything if bot["id"] in ids.values()]
    assert [bot["name"] for bot in listed] == ["a", "b"]
    (one,) = operators.call("bot_admin_list", "viewer", bot_id=ids["b"])["bots"]
    assert one == listed[1]
    assert one["controls"]["version"] == 1
    assert one["state"] is None


def test_a_new_bot_is_shown_with_nothing_in_it(operators: Operators, bot_id: str) -> None:
    shown = operators.show(bot_id)
    assert set(shown) >= {"bot", "state", "lease", "controls", "health", "position", "orders", "fills", "rows"}
    assert (shown["state"], shown["health"], shown["position"]) == (None, None, None)
    assert (shown["orders"], shown["fills"]) == ([], [])
    assert (shown["decisions"], shown["notices"]) == ([], [])
    assert shown["lease"]["held"] is False
    assert {table for table, count in shown["rows"].items() if count} == {
        "audit_log", "bot_leases", "bot_runtime", "subscriptions",
    }  # fmt: skip


def test_what_was_decided_of_entries_and_told_to_people_is_shown_of_one_bot_newest_first(
    operators: Operators, runtime: Callable[..., Any], bot_id: str
) -> None:
    bar = {"symbol": "BTC/USDT", "bar_open": "2026-01-01T00:00:00Z", "verdict": "refused", "rule": "r", "detail": "d"}
    for number, purpose in enumerate(("entry", "pyramid", "exit")):
        runtime("bot_runtime_record_decision", payload=bar | {"proposal_id": f"p{number}", "purpose": purpose})
    for number in range(3):
        runtime("bot_runtime_notify", channel="in_app", payload={"text": f"{number}" * 2000}, key=f"n{number}")
    shown = operators.show(bot_of(runtime))
    assert [(one["proposal_id"], one["purpose"]) for one in shown["decisions"]] == [("p1", "pyramid"), ("p0", "entry")]
    assert {(one["verdict"], one["rule"], one["detail"]) for one in shown["decisions"]} == {("refused", "r", "d")}
    assert [(one["key"], one["text"]) for one in shown["notices"]] == [(f"n{n}", f"{n}" * 1000) for n in (2, 1, 0)]
    assert {(one["kind"], one["exit_code"]) for one in shown["notices"]} == {(None, None)}
    few = operators.show(bot_of(runtime), limit="1")
    assert [len(few[part]) for part in ("decisions", "notices")] == [1, 1]
    assert operators.show(bot_id)["decisions"] == operators.show(bot_id)["notices"] == []


def test_a_running_bot_is_shown_whole(operators: Operators, runtime: Callable[..., Any]) -> None:
    runtime("bot_runtime_heartbeat", payload={"status": "running", "equity": "1000.50", "exchange_sync_status": "ok"})
    runtime("upsert_bot_health_evidence", patch={"orders": {"unknown_now": 0}})
    for number in range(3):
        runtime(
            "bot_runtime_upsert_trade",
            client_order_id=f"o{number}",
            exchange_order_id=f"x{number}",
            payload={
                "symbol": "BTC/USDT",
                "side": "buy",
                "event": "entry",
                "order_status": "filled",
                "qty": "0.10",
                "filled_qty": "0.10",
                "avg_fill_price": "100.0",
            },
        )
        runtime(
            "bot_runtime_record_fill",
            payload={
                "trade_id": f"t{number}",
                "client_order_id": f"o{number}",
                "symbol": "BTC/USDT",
                "side": "buy",
                "qty": "0.10",
                "price": "100.0",
                "fee": "0.01",
                "fee_asset": "USDT",
                "at": f"2026-01-01T00:00:0{number}Z",
                "seq": number,
            },
        )
    runtime(
        "bot_runtime_upsert_position",
        payload={
            "position_id": "p1",
            "symbol": "BTC/USDT",
            "strategy": "cross",
            "status": "open",
            "position_side": "long",
            "qty": "0.30",
            "entry_price": "100.00",
            "seq": 3,
        },
    )
    shown = operators.show(bot_of(runtime), limit="2")
    assert shown["state"]["equity"] == "1000.5"
    assert shown["state"]["exchange_sync_status"] == "ok"
    assert float(shown["state"]["heartbeat_age_s"]) < 60
    assert (shown["lease"]["boot_id"], shown["lease"]["held"]) == ("b1", True)
    assert shown["health"]["orders"] == {"unknown_now": 0}
    assert (shown["position"]["qty"], shown["position"]["entry_price"]) == ("0.3", "100")
    assert [order["client_order_id"] for order in shown["orders"]] == ["o2", "o1"]
    assert shown["orders"][0] | {"recorded_at": None} == {
        "client_order_id": "o2",
        "exchange_order_id": "x2",
        "status": "filled",
        "event": "entry",
        "side": "buy",
        "qty": "0.1",
        "filled_qty": "0.1",
        "avg_price": "100",
        "symbol": "BTC/USDT",
        "order_type": None,
        "recorded_at": None,
    }
    assert [fill["trade_id"] for fill in shown["fills"]] == ["t2", "t1"]
    assert shown["fills"][0] == {
        "trade_id": "t2",
        "client_order_id": "o2",
        "qty": "0.1",
        "price": "100",
        "fee": "0.01",
        "fee_asset": "USDT",
        "time": "2026-01-01T00:00:02.000000Z",
        "symbol": "BTC/USDT",
        "side": "buy",
    }
    counted = {name: shown["rows"][name] for name in ("bot_trades", "bot_fills", "bot_positions", "sessions")}
    assert counted == {"bot_trades": 3, "bot_fills": 3, "bot_positions": 1, "sessions": 1}


@pytest.mark.parametrize("limit", ["0", "1001", "x", "1.5", None, -1])
def test_a_limit_that_is_none_is_refused(operators: Operators, bot_id: str, limit: Any) -> None:
    refusal = operators.refused("bot_admin_show", "viewer", bot_id=bot_id, limit=limit)
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith("p_limit")


# Steering it


def test_each_action_is_a_new_version_that_the_bot_reads(operators: Operators, runtime: Callable[..., Any]) -> None:
    def controls(action: str) -> dict[str, Any]:
        said: dict[str, Any] = operators.call("bot_admin_control", "operator", bot_id=bot_of(runtime), action=action)
        told = runtime("bot_runtime_refresh_controls")
        assert told["version"] == said["version"] == said["controls"]["version"]
        config: dict[str, Any] = told["control_config"]
        return config

    assert controls("pause")["paused"] is True
    assert controls("kill")["killed"] is True
    released = controls("release")
    assert (released["killed"], released["paused"]) == (False, True)
    assert controls("resume")["paused"] is False
    assert controls("observe")["observe_only"] is True
    assert controls("unobserve")["observe_only"] is False
    assert controls("flatten")["flatten_version"] == 8


def test_a_flatten_that_was_acknowledged_is_over(operators: Operators, runtime: Callable[..., Any]) -> None:
    bot_id = bot_of(runtime)
    version = operators.call("bot_admin_control", "operator", bot_id=bot_id, action="flatten")["version"]
    assert operators.show(bot_id)["controls"]["flatten_version"] == version
    runtime("bot_runtime_acknowledge", version=str(version))
    shown = operators.show(bot_id)["controls"]
    assert (shown["flatten_version"], shown["acknowledged"]) == (None, version)


def test_a_request_named_twice_is_carried_out_once(operators: Operators, bot_id: str) -> None:
    wanted = {"bot_id": bot_id, "action": "flatten", "request_id": "r1"}
    first = operators.call("bot_admin_control", "operator", **wanted)
    operators.call("bot_admin_control", "operator", bot_id=bot_id, action="pause")
    before = operators.counts()
    again = operators.call("bot_admin_control", "operator", **wanted)
    assert (first["version"], again["version"]) == (2, 2)
    assert again["controls"]["version"] == 3
    assert operators.counts() == before
    refusal = operators.refused("bot_admin_control", "operator", **(wanted | {"action": "kill"}))
    assert refusal[:2] == ("PT422", "key_conflict")


def test_requests_at_the_same_time_lose_none_and_double_none(operators: Operators, bot_id: str) -> None:
    def ask(number: int) -> int:
        wanted = {"p_bot_id": bot_id, "p_action": "flatten", "p_request_id": f"r{number % 6}"}
        headers = {"x-operator-token": "token-of-operator"}
        return int(operators.database.call("bot_admin_control", wanted, headers)["version"])

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(ask, range(12)))
    assert sorted(set(versions)) == [2, 3, 4, 5, 6, 7]
    assert versions[:6] == versions[6:]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"action": "stop"}, "p_action"),
        ({"action": None}, "p_action"),
        ({"action": ""}, "p_action"),
        ({"reason": "two\nlines"}, "p_reason"),
        ({"reason": "x" * 501}, "p_reason"),
        ({"request_id": "with a blank"}, "p_request_id"),
        ({"request_id": "x" * 129}, "p_request_id"),
        ({"request_id": ""}, "p_request_id"),
    ],
    ids=short,
)
def test_a_malformed_request_is_refused_by_its_argument(
    operators: Operators, bot_id: str, changes: dict[str, Any], field: str
) -> None:
    refusal = operators.refused("bot_admin_control", "operator", **({"bot_id": bot_id, "action": "kill"} | changes))
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith(f"{field}: ")


def test_settings_change_by_name_and_null_takes_one_back(operators: Operators, bot_id: str) -> None:
    operators.call("bot_admin_settings", bot_id=bot_id, settings={"MAX_TRADES": 2, "NOTIFY_ON_FILL": True})
    changed = operators.call("bot_admin_settings", bot_id=bot_id, settings={"MAX_TRADES": None, "VERSION_TAG": "x"})
    assert changed["settings"] == {"NOTIFY_ON_FILL": True, "VERSION_TAG": "x"}
    assert changed["settings_version"] == 3
    same = operators.call("bot_admin_settings", bot_id=bot_id, settings={})
    assert (same["settings_version"], same["controls_version"]) == (3, 1)


def test_an_ended_subscription_reaches_a_running_bot(operators: Operators, runtime: Callable[..., Any]) -> None:
    before = runtime("bot_runtime_heartbeat", payload={})["controls_version"]
    operators.call("bot_admin_settings", bot_id=bot_of(runtime), settings={}, subscription="inactive")
    assert runtime("bot_runtime_heartbeat", payload={})["controls_version"] > before
    assert runtime("bot_runtime_refresh_controls")["subscription_status"] == "inactive"


def test_an_inactive_bot_is_not_given_its_context(operators: Operators, runtime: Callable[..., Any]) -> None:
    operators.call("bot_admin_settings", bot_id=bot_of(runtime), settings={}, active=False)
    with pytest.raises(psycopg.Error, match="bot_inactive"):
        runtime("get_bot_context")
    operators.call("bot_admin_settings", bot_id=bot_of(runtime), settings={}, active=True)
    assert runtime("get_bot_context")["bot"]["active"] is True


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"settings": None}, "p_settings"),
        ({"settings": []}, "p_settings"),
        ({"settings": {"max": 1}}, "p_settings.max"),
        ({"settings": {"X": "y" * 70_000}}, "p_settings"),
        ({"settings": {}, "active": "yes"}, "p_active"),
        ({"settings": {}, "subscription": "unpaid"}, "p_subscription"),
    ],
    ids=short,
)
def test_malformed_settings_are_refused(
    operators: Operators, bot_id: str, arguments: dict[str, Any], field: str
) -> None:
    refusal = operators.refused("bot_admin_settings", bot_id=bot_id, **arguments)
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith(f"{field}: ")


# Settling what was left


@pytest.fixture
def letter(operators: Operators, bot_id: str) -> Callable[..., int]:
    """Sets an entry aside, as the outbox does; its id."""

    def make(fn: str = "bot_runtime_write_event", seq: int = 1, **args: Any) -> int:
        whole = {"p_kind": "note", "p_level": "info", "p_payload": {}, "p_key": "k"} | args
        (row,) = operators.database.query(
            "insert into bot_runtime.dead_letters (bot_id, store_id, seq, fn, key, args, reason)"
            " values (%s, 's', %s, %s, 'k', %s, 'payload_invalid: p_level') returning id",
            (bot_id, seq, fn, Jsonb(whole)),
        )
        return int(row[0])

    return make


def test_dead_letters_that_wait_are_listed_first_and_each_kind_newest_first(
    operators: Operators, bot_id: str, letter: Callable[..., int]
) -> None:
    ids = [letter(seq=seq) for seq in range(1, 5)]
    for number in ids[2:]:
        operators.call("bot_admin_dead_letters", "operator", bot_id=bot_id, action="drop", id=str(number))
    listed = operators.call("bot_admin_dead_letters", "viewer", bot_id=bot_id, action="list")["dead_letters"]
    assert [each["id"] for each in listed] == [ids[1], ids[0], ids[3], ids[2]]
    assert listed[0]["args"]["p_kind"] == "note"
    assert [each["status"] for each in listed] == ["waiting", "waiting", "dropped", "dropped"]


def test_a_retried_letter_is_applied_once(operators: Operators, bot_id: str, letter: Callable[..., int]) -> None:
    wanted = {"bot_id": bot_id, "action": "retry", "id": str(letter())}
    first = operators.call("bot_admin_dead_letters", "operator", **wanted)
    assert (first["status"], first["id"]) == ("retried", int(wanted["id"]))
    assert operators.show(bot_id)["rows"]["bot_events"] == 1
    before = operators.counts()
    assert operators.call("bot_admin_dead_letters", "operator", **wanted) == first
    assert operators.counts() == before


def test_a_letter_refused_again_waits_on(operators: Operators, bot_id: str, letter: Callable[..., int]) -> None:
    number = letter(p_level="loud")
    wanted = {"bot_id": bot_id, "action": "retry", "id": str(number)}
    assert operators.refused("bot_admin_dead_letters", "operator", **wanted)[:2] == ("PT422", "payload_invalid")
    (listed,) = operators.call("bot_admin_dead_letters", "viewer", bot_id=bot_id, action="list")["dead_letters"]
    assert listed["status"] == "waiting"


def test_a_letter_that_was_not_kept_whole_can_only_be_dropped(
    operators: Operators, bot_id: str, letter: Callable[..., int]
) -> None:
    number = str(letter(head="{", bytes=70_000))
    refusal = operators.refused("bot_admin_dead_letters", "operator", bot_id=bot_id, action="retry", id=number)
    assert refusal[:2] == ("PT422", "args_not_kept")
    dropped = operators.call("bot_admin_dead_letters", "operator", bot_id=bot_id, action="drop", id=number)
    assert dropped["status"] == "dropped"
    refusal = operators.refused("bot_admin_dead_letters", "operator", bot_id=bot_id, action="retry", id=number)
    assert refusal[:2] == ("PT422", "dead_letter_resolved")


def test_a_letter_of_health_evidence_can_only_be_dropped(operators: Operators, runtime: Callable[..., Any]) -> None:
    refused_once = {
        "seq": 1,
        "fn": "upsert_bot_health_evidence",
        "args": {"p_patch": {"reason": 1, "no": 1}},
        "key": "k",
    }
    runtime("bot_runtime_sync", store_id="s", first_seq="1", entries=[refused_once])
    bot_id = bot_of(runtime)
    (listed,) = operators.call("bot_admin_dead_letters", "viewer", bot_id=bot_id, action="list")["dead_letters"]
    runtime("upsert_bot_health_evidence", patch={"reason": "new"})
    wanted = {"bot_id": bot_id, "id": str(listed["id"])}
    refusal = operators.refused("bot_admin_dead_letters", "operator", action="retry", **wanted)
    assert refusal[:2] == ("PT422", "not_retryable")
    assert operators.show(bot_id)["health"] == {"reason": "new"}
    assert operators.call("bot_admin_dead_letters", "operator", action="drop", **wanted)["status"] == "dropped"


@pytest.mark.parametrize("number", [None, "0", "x", "-1", "1.5", "9" * 30])
def test_a_letter_is_named_by_a_number(operators: Operators, bot_id: str, number: Any) -> None:
    refusal = operators.refused("bot_admin_dead_letters", "operator", bot_id=bot_id, action="drop", id=number)
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith("p_id: ")


def test_another_bots_letter_is_not_found(operators: Operators, letter: Callable[..., int]) -> None:
    number, other = str(letter()), operators.create()["bot_id"]
    refusal = operators.refused("bot_admin_dead_letters", "operator", bot_id=other, action="drop", id=number)
    assert refusal[:2] == ("PT404", "dead_letter_not_found")


TRADE = {
    "client_order_id": "by-hand-1",
    "symbol": "BTC/USDT",
    "side": "sell",
    "qty": "0.50",
    "price": "61200.10",
    "reason": "closed by hand",
}


def test_a_manual_trade_is_recorded_once_as_filled(operators: Operators, bot_id: str) -> None:
    row = operators.call("bot_admin_trade", "operator", bot_id=bot_id, payload=TRADE)
    assert row["client_order_id"] == "by-hand-1"
    before = operators.counts()
    operators.call("bot_runtime_register", bot_id=bot_id, provider=None, region=None, machine_id=None)
    audited = len(operators.audited(bot_id))
    assert operators.call("bot_admin_trade", "operator", bot_id=bot_id, payload=TRADE | {"qty": "0.5"}) == row
    assert len(operators.audited(bot_id)) == audited
    assert [name for name, _ in set(operators.counts()) - set(before)] == ["audit_log"]
    (order,) = operators.show(bot_id)["orders"]
    assert (order["event"], order["status"], order["filled_qty"]) == ("manual", "filled", "0.5")
    assert order["avg_price"] == "61200.1"


def test_a_manual_trade_never_touches_an_order_of_the_bot(operators: Operators, runtime: Callable[..., Any]) -> None:
    payload = {"symbol": "BTC/USDT", "side": "buy", "event": "entry", "order_status": "accepted", "qty": "1"}
    runtime("bot_runtime_upsert_trade", client_order_id="o1", payload=payload)
    trade = TRADE | {"client_order_id": "o1"}
    refusal = operators.refused("bot_admin_trade", "operator", bot_id=bot_of(runtime), payload=trade)
    assert refusal[:2] == ("PT422", "key_conflict")
    assert operators.show(bot_of(runtime))["orders"][0]["status"] == "accepted"


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "ETH/USDT"}, {"side": "buy"}, {"qty": "0.6"}, {"price": "61200"}, {"reason": "another"},
        {"strategy": "b"}, {"position_id": "p2"}, {"client_order_id": "by-hand-2", "side": "buy"},
    ],
    ids=short,
)  # fmt: skip
def test_a_known_trade_is_not_changed_by_another_under_its_id(
    operators: Operators, bot_id: str, changes: dict[str, Any]
) -> None:
    trade = TRADE | {"exchange_order_id": "x1", "strategy": "a", "position_id": "p1"}
    row = operators.call("bot_admin_trade", "operator", bot_id=bot_id, payload=trade)
    field = "exchange_order_id" if "client_order_id" in changes else "client_order_id"
    refusal = operators.refused("bot_admin_trade", "operator", bot_id=bot_id, payload=trade | changes)
    assert refusal == ("PT422", "key_conflict", f"p_payload.{field}: known with another payload")
    assert operators.call("bot_admin_trade", "operator", bot_id=bot_id, payload=trade) == row


def test_a_manual_trade_takes_no_order_of_the_bot_by_the_exchange_s_id(
    operators: Operators, runtime: Callable[..., Any]
) -> None:
    payload = {"symbol": "BTC/USDT", "side": "sell", "event": "entry", "order_status": "accepted", "qty": "0.50"}
    standing = runtime("upsert_bot_trade", exchange_order_id="x9", payload=payload)
    trade = TRADE | {"exchange_order_id": "x9"}
    refusal = operators.refused("bot_admin_trade", "operator", bot_id=bot_of(runtime), payload=trade)
    assert refusal[:2] == ("PT422", "key_conflict")
    assert runtime("upsert_bot_trade", exchange_order_id="x9", payload={}) == standing


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": "DOGE/USDT"}, "symbol"),
        ({"side": "hold"}, "side"),
        ({"qty": "0"}, "qty"),
        ({"qty": 1}, "qty"),
        ({"qty": "NaN"}, "qty"),
        ({"price": "-1"}, "price"),
        ({"client_order_id": None}, "client_order_id"),
        ({"client_order_id": "a b"}, "client_order_id"),
        ({"reason": "x" * 501}, "reason"),
        ({"order_status": "filled"}, "order_status"),
    ],
    ids=short,
)
def test_a_malformed_trade_is_refused_by_its_field(
    operators: Operators, bot_id: str, changes: dict[str, Any], field: str
) -> None:
    refusal = operators.refused("bot_admin_trade", "operator", bot_id=bot_id, payload=TRADE | changes)
    assert refusal[:2] == ("PT422", "payload_invalid")
    assert str(refusal[2]).startswith(f"p_payload.{field}: ")
