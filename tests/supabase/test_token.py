"""How the client keeps its token: it is replaced in time, and a refused one gives way to the next."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbh.infra.supabase import ROTATION_RETRY_S, SupabaseRpc
from tbh.ports import Rejected

if TYPE_CHECKING:
    from tests.supabase.conftest import Answer, Connect, Request, Script

TOKEN = "tbh_rt_" + "5a" * 32
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TTL_S = 900.0
LEASE = {"epoch": 3, "renewals": 7, "expires_in_s": "29.5", "lease_s": "30"}
CONTROLS = {"version": 4, "control_config": {}, "subscription_status": "active"}


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def claim(rpc: SupabaseRpc) -> Any:
    return rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=30.0)


def beat(left_s: float) -> dict[str, Any]:
    return LEASE | {"controls_version": 1, "token_expires_at": text(NOW + timedelta(seconds=left_s))}


def claimed(left_s: float) -> dict[str, Any]:
    clock = {"expires_at": text(NOW + timedelta(seconds=29.5)), "token_ttl_s": TTL_S}
    return beat(left_s) | clock


def rotated() -> dict[str, Any]:
    return {"expires_at": text(NOW + timedelta(seconds=TTL_S))}


@pytest.fixture
def clock_s() -> list[float]:
    return [0.0]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def keeping(connect: Connect, clock_s: list[float], told: list[str]) -> SupabaseRpc:
    """A client at NOW that says what it tells the log."""
    return connect(now=lambda: NOW, monotonic=lambda: clock_s[0], tell=lambda event, _: told.append(event))


def test_the_tokens_life_is_counted_on_the_databases_clock(script: Script, connect: Connect) -> None:
    rpc = connect(now=lambda: NOW - timedelta(hours=5))
    script.answer(script.json(claimed(600)), script.json(beat(580)))
    assert claim(rpc).token_expires_in_s == pytest.approx(600)
    lease, version = rpc.heartbeat({"event": "heartbeat"})
    assert lease.token_expires_in_s == pytest.approx(580)
    assert version == 1
    assert script.requests[1].body["p_payload"] == {"event": "heartbeat"}


def test_a_heartbeat_replaces_a_token_in_its_last_third(
    script: Script, keeping: SupabaseRpc, connect: Connect, told: list[str]
) -> None:
    answers = [claimed(301), beat(301), beat(299), rotated(), beat(TTL_S), CONTROLS]
    script.answer(*(script.json(each) for each in answers))
    claim(keeping)
    for _ in range(3):
        keeping.heartbeat({})
    names = [request.fn.removeprefix("bot_runtime_") for request in script.requests]
    assert names == ["claim", "heartbeat", "heartbeat", "rotate_token", "heartbeat"]
    fresh = script.requests[4].headers["x-runtime-token"]
    assert hashlib.sha256(fresh.encode()).hexdigest() == script.requests[3].body["p_new_hash"]
    assert {request.headers["x-runtime-token"] for request in script.requests[:4]} == {TOKEN}
    assert told == ["token_rotated"]
    connect().refresh_controls()
    assert script.requests[5].headers["x-runtime-token"] == fresh


def test_a_rotation_that_fails_is_no_failure_of_the_heartbeat(
    script: Script, keeping: SupabaseRpc, clock_s: list[float], told: list[str]
) -> None:
    lost, again = script.breaking(), [script.json(each) for each in (beat(97), rotated(), beat(TTL_S))]
    script.answer(*(script.json(each) for each in (claimed(99), beat(99))), lost, script.json(beat(98)), *again)
    claim(keeping)
    keeping.heartbeat({})
    keeping.heartbeat({})
    assert told == ["token_rotation_failed"]
    clock_s[0] += ROTATION_RETRY_S
    keeping.heartbeat({})
    hashes = [request.body["p_new_hash"] for request in script.requests if request.fn.endswith("rotate_token")]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert told == ["token_rotation_failed", "token_rotated"]


def test_a_short_life_is_tried_again_within_it(script: Script, keeping: SupabaseRpc, clock_s: list[float]) -> None:
    script.answer(
        script.json(claimed(3) | {"token_ttl_s": 12}), script.json(beat(3)), script.breaking(), script.json(beat(2))
    )
    claim(keeping)
    keeping.heartbeat({})
    clock_s[0] += 1.0
    keeping.heartbeat({})
    assert script.requests[-1].fn == "bot_runtime_rotate_token"


def test_a_disk_that_takes_no_token_stops_the_rotation_before_it_is_sent(
    script: Script, keeping: SupabaseRpc, tmp_path: Path, told: list[str]
) -> None:
    (tmp_path / "token.sealed").mkdir()
    script.answer(script.json(claimed(9)), script.json(beat(9)))
    claim(keeping)
    keeping.heartbeat({})
    assert [request.fn for request in script.requests] == ["bot_runtime_claim", "bot_runtime_heartbeat"]
    assert told == ["token_rotation_failed"]


def knowing(script: Script, known: set[str]) -> Answer:
    """A database that knows these tokens."""

    def answer(request: Request) -> Answer:
        if request.headers["x-runtime-token"] not in known:
            return script.error(401, "PT401", "runtime_token_invalid")
        return script.json(rotated() if request.fn == "bot_runtime_rotate_token" else claimed(9))

    return script.computed(answer)


def test_a_stored_token_that_is_refused_gives_way_to_the_environments(
    script: Script, connect: Connect, told: list[str]
) -> None:
    known = {TOKEN}
    script.answer(knowing(script, known))
    first = connect(now=lambda: NOW)
    claim(first)
    first.heartbeat({})
    # The hash was taken, and then the database was set back: only the environment's token is known.
    second = connect(tell=lambda event, _: told.append(event))
    claim(second)
    assert told == ["token_refused"]
    tokens = [request.headers["x-runtime-token"] for request in script.requests[3:]]
    assert tokens[0] != TOKEN
    assert tokens[1] == TOKEN
    claim(connect())
    assert script.requests[-1].headers["x-runtime-token"] == TOKEN


def test_when_every_token_is_refused_the_refusal_is_told_and_nothing_more_is_tried(
    script: Script, rpc: SupabaseRpc
) -> None:
    script.answer(knowing(script, set()))
    for tries in (1, 2):
        with pytest.raises(Rejected) as caught:
            claim(rpc)
        assert caught.value.reason == "runtime_token_invalid"
        assert len(script.requests) == tries


def test_threads_that_meet_a_refused_token_all_go_on_with_the_next(script: Script, connect: Connect) -> None:
    script.answer(knowing(script, {TOKEN}))
    first = connect(now=lambda: NOW)
    claim(first)
    first.heartbeat({})
    second = connect()
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda _: claim(second), range(40)))
    assert {lease.epoch for lease in leases} == {3}
