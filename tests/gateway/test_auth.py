"""Who a caller is: tokens, opaque keys, nobody; and that the role ends with the request."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import jwt
import pytest

from tbh.ports import Fatal
from tests.gateway.conftest import SECRET, SECRET_KEY, Serve, Token


def as_bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def ask(client: httpx.Client, token: str, function: str = "who", **arguments: Any) -> httpx.Response:
    return client.post(f"/{function}", json=arguments, headers=as_bearer(token))


def test_without_a_token_the_caller_is_anonymous(client: httpx.Client):
    assert client.post("/who").json() == "anon"
    assert json.loads(client.post("/setting", json={"name": "request.jwt.claims"}).json()) == {"role": "anon"}


def test_a_token_names_the_role_and_brings_its_claims(client: httpx.Client, token: Token):
    signed = token(role="service_role", sub="bot-1", times={"exp": 60})
    assert ask(client, signed).json() == "service_role"
    claims = json.loads(ask(client, signed, "setting", name="request.jwt.claims").json())
    assert (claims["role"], claims["sub"]) == ("service_role", "bot-1")


def test_a_token_without_a_role_is_anonymous(client: httpx.Client, token: Token):
    assert ask(client, token(sub="somebody")).json() == "anon"


def test_the_word_bearer_may_be_in_small_letters(client: httpx.Client, token: Token):
    reply = client.post("/who", headers={"authorization": f"bearer {token(role='service_role')}"})
    assert reply.json() == "service_role"


def test_another_scheme_than_bearer_is_no_token(client: httpx.Client):
    assert client.post("/who", headers={"authorization": "Basic YTpi"}).json() == "anon"


def test_a_secret_key_is_swapped_for_its_role(service: httpx.Client):
    assert service.post("/who").json() == "service_role"


def test_a_secret_key_alone_is_enough(client: httpx.Client):
    assert client.post("/who", headers={"apikey": SECRET_KEY}).json() == "service_role"


def test_beside_a_secret_key_a_users_token_still_decides(client: httpx.Client, token: Token):
    headers = {"apikey": SECRET_KEY, **as_bearer(token(role="authenticated"))}
    assert client.post("/who", headers=headers).json() == "authenticated"


@pytest.mark.parametrize("api_key", ["", "sb_secret_of_another", None])
def test_a_secret_key_as_bearer_counts_only_when_it_is_the_api_key_too(client: httpx.Client, api_key: str | None):
    headers = as_bearer(SECRET_KEY) | ({} if api_key is None else {"apikey": api_key})
    reply = client.post("/who", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "PGRST301")
    assert reply.json()["message"] == "Expected 3 parts in JWT; got 1"


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"exp": -35}, "JWT expired"),
        ({"nbf": 35}, "JWT not yet valid"),
        ({"iat": 35}, "JWT issued at future"),
    ],
)
def test_a_token_out_of_its_time_is_refused(client: httpx.Client, token: Token, times: dict[str, float], message: str):
    reply = ask(client, token(role="service_role", times=times))
    assert (reply.status_code, reply.json()["code"], reply.json()["message"]) == (401, "PGRST303", message)
    assert reply.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{message}"'


@pytest.mark.parametrize("times", [{"exp": -25}, {"nbf": 25}, {"iat": 25}])
def test_clocks_may_differ_by_half_a_minute(client: httpx.Client, token: Token, times: dict[str, float]):
    assert ask(client, token(role="service_role", times=times)).status_code == 200


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["x", True, [1]])
def test_times_must_be_numbers(client: httpx.Client, claim: str, value: Any):
    header = {"alg": "HS256", "typ": "JWT"}
    signed = jwt.PyJWS().encode(json.dumps({claim: value}).encode(), SECRET, algorithm="HS256", headers=header)
    reply = ask(client, signed)
    assert (reply.status_code, reply.json()["code"]) == (401, "PGRST303")
    assert reply.json()["message"] == f"The JWT '{claim}' claim must be a number"


@pytest.mark.parametrize("value", [b"1e400", b"1.5", b"-1", b"99999999999999999999999"])
def test_a_strange_expiry_is_an_expired_one(client: httpx.Client, value: bytes):
    signed = jwt.PyJWS().encode(b'{"exp": ' + value + b"}", SECRET, algorithm="HS256")
    assert ask(client, signed).json()["message"] == "JWT expired"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("a.b", "Expected 3 parts in JWT; got 2"),
        ("a.b.c.d", "Expected 3 parts in JWT; got 4"),
        ("a.b.c", "JWT couldn't be decoded"),
    ],
)
def test_a_token_that_is_none_is_refused(client: httpx.Client, token: str, message: str):
    reply = ask(client, token)
    assert (reply.status_code, reply.json()["code"], reply.json()["message"]) == (401, "PGRST301", message)


def test_an_empty_token_is_refused(client: httpx.Client):
    reply = client.post("/who", headers={"authorization": "Bearer"})
    assert (reply.status_code, reply.json()["code"]) == (401, "PGRST301")


def test_a_token_of_another_secret_is_refused(client: httpx.Client, token: Token):
    reply = ask(client, token(role="service_role", secret="another secret that is long enough"))
    assert reply.status_code == 401
    assert (reply.json()["code"], reply.json()["message"]) == ("PGRST301", "No suitable key or wrong key type")


def test_an_unsigned_token_is_refused(client: httpx.Client):
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in _unsigned()]
    reply = ask(client, ".".join([*parts, ""]))
    assert (reply.status_code, reply.json()["code"]) == (401, "PGRST301")


def _unsigned() -> tuple[dict[str, str], dict[str, str]]:
    return {"alg": "none", "typ": "JWT"}, {"role": "service_role"}


@pytest.mark.parametrize("claims", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_signed_content_that_is_no_object_is_refused(client: httpx.Client, claims: bytes):
    reply = ask(client, jwt.PyJWS().encode(claims, SECRET, algorithm="HS256"))
    assert reply.status_code in (401, 400)


def test_a_role_that_the_gateway_may_not_take_is_refused(client: httpx.Client, token: Token):
    reply = ask(client, token(role="stranger"))
    assert (reply.status_code, reply.json()["code"]) == (403, "42501")
    assert reply.json()["message"].startswith("permission denied to set role")


@pytest.mark.parametrize("role", ["nobody_knows", "none; drop role anon", 'quo"ted', 5, ["anon"], "\ud800"])
def test_an_unknown_role_is_refused(client: httpx.Client, token: Token, role: Any):
    reply = ask(client, token(role=role))
    assert (reply.status_code, reply.json()["code"]) == (401, "22023")


def test_a_role_with_a_nul_in_its_name_is_refused(client: httpx.Client, token: Token):
    assert ask(client, token(role="anon\x00")).status_code == 400


def test_who_may_not_execute_is_told_to_log_in_or_that_it_is_forbidden(
    client: httpx.Client, service: httpx.Client, token: Token
):
    reply = client.post("/guarded")
    assert (reply.status_code, reply.json()["code"]) == (401, "42501")
    assert reply.headers["www-authenticate"] == "Bearer"
    reply = ask(client, token(role="authenticated"), "guarded")
    assert (reply.status_code, reply.json()["code"]) == (403, "42501")
    assert reply.json()["message"] == "permission denied for function guarded"
    assert service.post("/guarded").json() == "in"


def test_a_gateway_without_a_secret_can_check_no_token(serve: Serve, token: Token):
    url = f"{serve(jwt_secret=None).url}/rpc/who"
    reply = httpx.post(url, headers=as_bearer(token(role="anon")), verify=False)
    assert (reply.status_code, reply.json()["code"]) == (500, "PGRST300")
    assert httpx.post(url, verify=False).json() == "anon"


def test_where_anonymous_callers_are_not_allowed_a_token_is_required(serve: Serve, token: Token):
    gateway = serve(anon_role=None)
    for headers in ({}, as_bearer(token(sub="no role"))):
        reply = httpx.post(f"{gateway.url}/rpc/who", headers=headers, verify=False)
        assert (reply.status_code, reply.json()["code"]) == (401, "PGRST302")


def test_a_secret_too_short_to_sign_with_is_refused(serve: Serve):
    with pytest.raises(Fatal, match="fewer than 32") as refused:
        serve(jwt_secret="short")
    assert refused.value.exit_code == 78


def test_functions_see_the_requests_headers_in_small_letters_without_cookies(service: httpx.Client):
    def header(name: str) -> Any:
        headers = {b"X-Runtime-Token": "tök".encode(), b"Cookie": b"a=1; b=2"}
        return service.post("/header", json={"name": name}, headers=headers).json()

    assert header("x-runtime-token") == "tök"
    assert header("authorization") == f"Bearer {SECRET_KEY}"
    assert header("cookie") is None
    assert header("X-Runtime-Token") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request.method", "POST"),
        ("request.path", "/rpc/setting"),
        ("request.cookies", '{"a": "1"}'),
        ("role", "anon"),
        ("search_path", '"public", "extensions"'),
        ("transaction_isolation", "read committed"),
    ],
)
def test_functions_see_the_request(client: httpx.Client, name: str, value: str):
    assert client.post("/setting", json={"name": name}, headers={"cookie": "a=1"}).json() == value


def test_nothing_of_a_request_is_left_for_the_next_one(serve: Serve, token: Token):
    gateway = serve(max_connections=1)
    with httpx.Client(base_url=f"{gateway.url}/rpc", verify=False) as client:
        secret = {**as_bearer(token(role="service_role", sub="x")), "x-runtime-token": "t"}
        for function in ("who", "guarded", "refuse_plainly", "absent"):
            client.post(f"/{function}", headers=secret)
            assert client.post("/who").json() == "anon"
            assert client.post("/header", json={"name": "x-runtime-token"}).json() is None
            assert client.post("/guarded").status_code == 401
