"""What the client sends, and what it makes of the answers, over real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tbh.infra.supabase import SupabaseRpc
from tbh.ports import Controls, Defer, Failure, OutboxEntry, Rejected, Rpc, SyncResult, Unknown

if TYPE_CHECKING:
    from tests.supabase.conftest import Answer, Connect, Request, Script

BOT = "6f9f1d9e-0b0a-4a52-9c3b-8f3d6a1c2e01"
SERVICE_KEY = "sb_secret_0123456789abcdefghij"
TOKEN = "tbh_rt_" + "5a" * 32
LEASE = {"epoch": 3, "renewals": 7, "expires_in_s": "29.5", "lease_s": "30"}
CONTROLS = {
    "version": 4,
    "control_config": {"paused": True, "killed": False, "observe_only": False, "flatten_version": 3},
    "execution_config": {},
    "subscription_status": "past_due",
    "acknowledged": 2,
}


def claim(rpc: SupabaseRpc) -> Any:
    return rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=30.0)


def test_it_is_the_port(rpc: SupabaseRpc) -> None:
    port: Rpc = rpc
    assert port is rpc


def test_a_call_is_one_post_with_keys_token_and_boot_id(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.json(CONTROLS))
    rpc.refresh_controls()
    (request,) = script.requests
    assert request.path == "/rest/v1/rpc/bot_runtime_refresh_controls"
    assert request.body == {"p_bot_id": BOT}
    wanted = {
        "apikey": SERVICE_KEY,
        "authorization": f"Bearer {SERVICE_KEY}",
        "x-runtime-token": TOKEN,
        "x-runtime-boot-id": "boot-1",
        "content-type": "application/json",
    }
    assert wanted.items() <= dict(request.headers).items()
    assert "x-runtime-epoch" not in request.headers


def test_an_address_may_end_in_a_slash(script: Script, connect: Connect) -> None:
    script.answer(script.json(CONTROLS))
    connect(url=script.url + "/").refresh_controls()
    assert script.requests[0].path.startswith("/rest/v1/rpc/")


def test_after_each_claim_calls_carry_its_epoch(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.json(LEASE), script.json(CONTROLS), script.json(LEASE | {"epoch": "9"}), script.json(CONTROLS))
    claim(rpc)
    rpc.refresh_controls()
    assert claim(rpc).epoch == 9
    rpc.refresh_controls()
    assert [request.headers.get("x-runtime-epoch") for request in script.requests] == [None, "3", "3", "9"]


def test_a_claim_names_the_boots_and_takes_the_lease(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.json(LEASE))
    lease = rpc.claim(previous_boot_id="boot-0", seen_renewals=6, lease_s=2.5)
    assert script.requests[0].body == {
        "p_bot_id": BOT,
        "p_boot_id": "boot-1",
        "p_previous_boot_id": "boot-0",
        "p_seen_renewals": "6",
        "p_lease_s": "2.5",
    }
    assert (lease.epoch, lease.renewals, lease.expires_in_s, lease.token_expires_in_s) == (3, 7, 29.5, None)


def test_controls_are_read(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.json(CONTROLS))
    assert rpc.refresh_controls() == Controls(version=4, paused=True, subscription_active=False, flatten_version=3)


ENTRY = OutboxEntry(seq=5, fn="bot_runtime_notify", args={"p_payload": {"text": "é\n"}}, key="k5")
CALLS: list[tuple[str, Callable[[SupabaseRpc], Any], dict[str, Any], Any, Any]] = [
    (
        "bot_runtime_release",
        SupabaseRpc.release,
        {"p_boot_id": "boot-1", "p_reason": "stopped"},
        {"released": False},
        None,
    ),
    (
        "bot_runtime_acknowledge",
        lambda rpc: rpc.acknowledge(4),
        {"p_version": "4"},
        {"acknowledged": 4},
        None,
    ),
    (
        "bot_runtime_sync",
        lambda rpc: rpc.sync(store_id="s", first_seq=5, entries=[ENTRY]),
        {
            "p_store_id": "s",
            "p_first_seq": "5",
            "p_entries": [{"seq": 5, "fn": "bot_runtime_notify", "args": {"p_payload": {"text": "é\n"}}, "key": "k5"}],
        },
        {"last_seq": 5, "refused": [{"seq": 5, "reason": "payload_invalid: p_channel"}]},
        SyncResult(last_seq=5, refused=((5, "payload_invalid: p_channel"),)),
    ),
    (
        "upsert_bot_health_evidence",
        lambda rpc: rpc.upsert_health({"db": {}}),
        {"p_patch": {"db": {}}},
        {"db": {}},
        None,
    ),
    (
        "bot_runtime_write_event",
        lambda rpc: rpc.write_event(kind="x", level="info", payload={"a": 1}, key="k"),
        {"p_kind": "x", "p_level": "info", "p_payload": {"a": 1}, "p_key": "k"},
        {"recorded": False},
        None,
    ),
    (
        "bot_runtime_notify",
        lambda rpc: rpc.notify(channel="in_app", payload={}, key="k"),
        {"p_channel": "in_app", "p_payload": {}, "p_key": "k"},
        {"recorded": True},
        None,
    ),
    ("bot_runtime_get_context", SupabaseRpc.get_context, {}, {"bot": {}}, {"bot": {}}),
    ("bot_runtime_get_position", SupabaseRpc.get_position, {"p_status": "open", "p_symbol": None}, None, None),
    (
        "bot_runtime_get_position",
        lambda rpc: rpc.get_position(status="closed", symbol="BTC/USDT"),
        {"p_status": "closed", "p_symbol": "BTC/USDT"},
        {"qty": "1"},
        {"qty": "1"},
    ),
    ("bot_runtime_get_open_trades", SupabaseRpc.get_open_trades, {"p_symbol": None}, [], []),
    (
        "bot_runtime_get_open_trades",
        lambda rpc: rpc.get_open_trades(symbol="X"),
        {"p_symbol": "X"},
        [{"id": 1}],
        [{"id": 1}],
    ),
    (
        "bot_runtime_rotate_token",
        lambda rpc: rpc.rotate("ab" * 32),
        {"p_new_hash": "ab" * 32},
        {"expires_at": "2026-03-04T05:06:07.000001Z"},
        None,
    ),
]


@pytest.mark.parametrize(("fn", "call", "args", "answer", "result"), CALLS)
def test_each_method_calls_its_function(
    script: Script,
    rpc: SupabaseRpc,
    fn: str,
    call: Callable[[SupabaseRpc], Any],
    args: dict[str, Any],
    answer: Any,
    result: Any,
) -> None:
    script.answer(script.json(answer))
    assert call(rpc) == result
    (request,) = script.requests
    assert request.fn == fn
    assert request.body == {"p_bot_id": BOT} | args


@pytest.mark.parametrize("call", [each[1] for each in CALLS])
@pytest.mark.parametrize("answer", ['"text"', "7", "[7]", "<html></html>", ""])
def test_no_method_takes_another_shape_for_its_answer(
    script: Script, rpc: SupabaseRpc, call: Callable[[SupabaseRpc], Any], answer: str
) -> None:
    script.answer(script.reply(answer))
    with pytest.raises(Unknown, match="bad_reply"):
        call(rpc)


# Threads


def test_threads_share_it_and_each_gets_its_own_answer(script: Script, rpc: SupabaseRpc) -> None:
    def answer(request: Request) -> Answer:
        key = request.body["p_key"]
        if int(key) % 3 == 0:
            return script.error(429, None, "slow down", retry_after=f"{1 + int(key) / 10}")
        if int(key) % 3 == 1:
            return script.error(422, "PT422", "key_conflict", key)
        return script.json({"recorded": True})

    script.answer(script.computed(answer))

    def notify(number: int) -> tuple[int, Failure | None]:
        try:
            rpc.notify(channel="in_app", payload={}, key=str(number))
        except Failure as failure:
            return number, failure
        return number, None

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(notify, range(240)))
    for number, failure in outcomes:
        if number % 3 == 0:
            assert isinstance(failure, Defer)
            assert failure.after_s == pytest.approx(1 + number / 10)
        elif number % 3 == 1:
            assert isinstance(failure, Rejected)
            assert failure.detail == str(number)
        else:
            assert failure is None
    assert len(script.requests) == 240
    assert len({request.connection for request in script.requests}) <= 16


# What it costs


def test_it_loads_neither_the_whole_client_nor_what_the_bot_has_no_use_for() -> None:
    probe = (
        "import json, sys, tbh.infra.supabase, tbh.infra.context\n"
        "absent = ('supabase', 'psycopg', 'uvicorn', 'cryptography', 'ccxt', 'realtime', 'storage3')\n"
        "print(json.dumps([name for name in absent if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == []
