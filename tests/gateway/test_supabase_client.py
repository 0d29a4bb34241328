"""The calls of the real client library, against the gateway as it stands in for the hosted platform."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from postgrest import APIError
from supabase import Client, ClientOptions, create_client

from tbh.infra.rpcgateway.server import Gateway
from tests.gateway.conftest import SECRET_KEY, Serve, Token

THREADS = 16
CALLS = 50


@pytest.fixture
def transport() -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
    with httpx.Client(timeout=httpx.Timeout(10), http2=False, limits=limits, verify=False) as client:
        yield client


@pytest.fixture
def supabase(gateway: Gateway, transport: httpx.Client) -> Client:
    return connect(gateway, transport, SECRET_KEY)


def connect(gateway: Gateway, transport: httpx.Client, key: str) -> Client:
    options = ClientOptions(
        headers={"x-runtime-token": "tbh_rt_1"},
        auto_refresh_token=False,
        persist_session=False,
        httpx_client=transport,
    )
    return create_client(gateway.url, key, options=options)


def test_a_call_with_a_secret_key_runs_as_the_service_role(supabase: Client):
    assert supabase.rpc("who").execute().data == "service_role"


def test_a_call_with_a_signed_key_runs_as_its_role(gateway: Gateway, transport: httpx.Client, token: Token):
    client = connect(gateway, transport, token(role="service_role", times={"iat": 0, "exp": 3600}))
    assert client.rpc("who").execute().data == "service_role"


def test_the_runtime_token_arrives(supabase: Client):
    assert supabase.rpc("header", {"name": "x-runtime-token"}).execute().data == "tbh_rt_1"


@pytest.mark.parametrize(
    ("function", "arguments", "data"),
    [
        ("add", {"a": 1, "b": 2}, 3),
        ("no_int", {}, None),
        ("nothing", {}, []),
        ("letters", {}, [{"a": "A"}]),
        ("a_pair", {}, {"a": 1, "b": "one"}),
        ("echo", {"value": UUID(int=7)}, "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_results_arrive_as_data(supabase: Client, function: str, arguments: dict[str, Any], data: Any):
    assert supabase.rpc(function, arguments).execute().data == data


def test_a_read_only_call_goes_by_get(supabase: Client):
    assert supabase.rpc("add", {"a": 1, "b": 2}, get=True).execute().data == 3


def test_a_refusal_arrives_with_its_four_fields(supabase: Client):
    arguments = {"state": "PT409", "message": "lease_held", "detail": "boot_id=b", "hint": "wait"}
    with pytest.raises(APIError) as refused:
        supabase.rpc("refuse", arguments).execute()
    assert refused.value.json() == {"code": "PT409", "message": "lease_held", "details": "boot_id=b", "hint": "wait"}


def test_many_threads_share_one_client_and_each_gets_its_own_answer(supabase: Client):
    wrong: list[tuple[int, Any]] = []

    def work(thread: int) -> None:
        for call in range(CALLS):
            n = thread * CALLS + call
            if (answer := supabase.rpc("add", {"a": n, "b": 1}).execute().data) != n + 1:
                wrong.append((n, answer))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_callers_at_the_same_time_do_not_see_each_others_role_or_headers(
    serve: Serve, transport: httpx.Client, token: Token
):
    gateway = serve(max_connections=4)
    roles = ("anon", "authenticated", "service_role")
    wrong: list[tuple[str, Any]] = []

    def work(number: int) -> None:
        role = roles[number % len(roles)]
        headers = {"x-runtime-token": f"token-{number}", "authorization": f"Bearer {token(role=role)}"}
        for _ in range(20):
            seen = (
                transport.post(f"{gateway.url}/rpc/who", headers=headers).json(),
                transport.post(f"{gateway.url}/rpc/header", json={"name": "x-runtime-token"}, headers=headers).json(),
            )
            if seen != (role, f"token-{number}"):
                wrong.append((role, seen))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
