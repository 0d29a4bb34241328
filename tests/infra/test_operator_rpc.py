"""The operator's calls: what goes over the wire, and what each way to fail means."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tbh.infra.operator_rpc import OperatorRpc, check_url
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable, Unknown

KEY = "sb_secret_0123456789abcdef"
TOKEN = "tbh_op_fedcba9876543210"


def rpc_answering(answer: Callable[[httpx.Request], httpx.Response]) -> OperatorRpc:
    return OperatorRpc(
        url="http://127.0.0.1:54321", service_key=KEY, operator_token=TOKEN, transport=httpx.MockTransport(answer)
    )


def failure_of(answer: Callable[[httpx.Request], httpx.Response]) -> Failure:
    with rpc_answering(answer) as rpc, pytest.raises(Failure) as caught:
        rpc.call("bot_admin_list")
    assert KEY not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value


def test_a_call_is_a_post_with_the_three_keys() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"version": 2})

    with rpc_answering(answer) as rpc:
        assert rpc.call("bot_admin_control", bot_id="b", action="kill", reason=None) == {"version": 2}
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/rest/v1/rpc/bot_admin_control")
    assert json.loads(request.content) == {"p_bot_id": "b", "p_action": "kill", "p_reason": None}
    assert request.headers["apikey"] == KEY
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-operator-token"] == TOKEN


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason", "exit_code"),
    [
        (401, {"code": "PT401", "message": "operator_token_invalid"}, Fatal, "operator_token_invalid", 77),
        (403, {"code": "PT403", "message": "role_too_low", "details": "needs admin"}, Fatal, "role_too_low", 77),
        (404, {"code": "PT404", "message": "bot_not_found", "details": "x"}, Rejected, "bot_not_found", None),
        (422, {"code": "PT422", "message": "payload_invalid"}, Rejected, "payload_invalid", None),
        (401, {"code": "PGRST301", "message": "No suitable key"}, Fatal, "service_key_refused", 78),
        (401, {"message": "Invalid API key"}, Fatal, "service_key_refused", 78),
        (403, {"code": "42501", "message": "permission denied"}, Fatal, "not_the_service_key", 78),
        (404, {"code": "PGRST202", "message": "Could not find"}, Fatal, "migrations_missing", 78),
        (400, {"code": "22P02", "message": "invalid input syntax"}, Rejected, "payload_invalid", None),
        (404, {"code": "42883", "message": "function does not exist"}, Rejected, "refused", None),
        (429, {"message": "slow down"}, Defer, "rate_limited", None),
        (503, {"code": "PGRST000", "message": "no connection"}, Unavailable, "database_unreachable", None),
        (503, {"code": "PGRST001", "message": "connection broke"}, Unknown, "bad_reply", None),
        (500, {"code": "57014", "message": "canceling statement"}, Unknown, "bad_reply", None),
        (502, "<html>Bad Gateway</html>", Unknown, "bad_reply", None),
        (404, "<html>Not Found</html>", Unknown, "bad_reply", None),
        (302, "", Unknown, "bad_reply", None),
        (500, ["not", "an", "object"], Unknown, "bad_reply", None),
    ],
    ids=str,
)
def test_each_refusal_has_its_failure(
    status: int, body: Any, kind: type[Failure], reason: str, exit_code: int | None
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    failure = failure_of(lambda _: httpx.Response(status, text=text))
    assert type(failure) is kind
    assert failure.reason == reason
    assert getattr(failure, "exit_code", None) == exit_code


@pytest.mark.parametrize("text", ["", "null", "[]", "<html>all is well</html>", '"text"', "1", "[" * 100_000], ids=len)
def test_a_reply_that_is_no_object_is_no_evidence(text: str) -> None:
    assert type(failure_of(lambda _: httpx.Response(200, text=text))) is Unknown


def test_a_busy_server_says_for_how_long() -> None:
    failure = failure_of(lambda _: httpx.Response(429, headers={"retry-after": "7"}))
    assert isinstance(failure, Defer)
    assert failure.after_s == 7
    failure = failure_of(lambda _: httpx.Response(429, headers={"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT"}))
    assert isinstance(failure, Defer)
    assert failure.after_s > 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), Unavailable),
        (httpx.ConnectTimeout("slow"), Unavailable),
        (httpx.ReadTimeout("silent"), Unknown),
        (httpx.ReadError("reset"), Unknown),
        (httpx.RemoteProtocolError("closed"), Unknown),
        (httpx.WriteError("broken pipe"), Unknown),
        (httpx.DecodingError("not gzip"), Unknown),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_only_a_connection_never_made_proves_that_nothing_was_sent(
    error: httpx.RequestError, kind: type[Failure]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    assert type(failure_of(answer)) is kind


def test_a_port_where_nobody_listens_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with OperatorRpc(url=url, service_key=KEY, operator_token=TOKEN) as rpc, pytest.raises(Unavailable) as caught:
            rpc.call("bot_admin_list")
    assert url in str(caught.value)


@pytest.mark.parametrize(
    "value", [float("nan"), object(), {"x": float("inf")}], ids=["nan", "object", "infinity within"]
)
def test_what_json_cannot_carry_is_never_sent(value: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    with rpc_answering(answer) as rpc, pytest.raises(Rejected, match="payload_invalid"):
        rpc.call("bot_admin_settings", settings=value)


@pytest.mark.parametrize("text", ["https://x.supabase.co", "http://127.0.0.1:54321", "http://[::1]:1/"])
def test_an_address_is_taken(text: str) -> None:
    assert check_url(text) == text


@pytest.mark.parametrize(
    "text",
    ["x.supabase.co", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x:99999", "http://x:0", "http://x y"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address"):
        check_url(text)
