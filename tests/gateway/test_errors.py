"""How a failure arrives: status and body for each kind, and what is left behind: nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.conftest import wait_for


def refuse(client: httpx.Client, state: str, message: str = "no", **more: Any) -> httpx.Response:
    return client.post("/refuse", json={"state": state, "message": message, **more})


def test_a_plain_refusal_carries_message_details_and_hint(client: httpx.Client):
    reply = client.post("/refuse_plainly")
    assert reply.status_code == 400
    assert reply.json() == {"code": "P0001", "message": "no way", "details": "why", "hint": "how"}
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["proxy-status"] == "PostgREST; error=P0001"


def test_a_failed_assertion_is_the_functions_fault(client: httpx.Client):
    reply = client.post("/assert_false")
    assert (reply.status_code, reply.json()["code"]) == (500, "P0004")


@pytest.mark.parametrize(("state", "status"), [("PT402", 402), ("PT409", 409), ("PT422", 422), ("PT40A", 500)])
def test_a_function_may_choose_the_status_of_its_refusal(client: httpx.Client, state: str, status: int):
    reply = refuse(client, state, "word", detail="what", hint="do")
    assert reply.status_code == status
    assert reply.json() == {"code": state, "message": "word", "details": "what", "hint": "do"}


@pytest.mark.parametrize("state", ["PT000", "PT101", "PT999"])
def test_a_status_that_ends_no_request_becomes_500(client: httpx.Client, state: str):
    assert refuse(client, state).status_code == 500


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("08006", 503),
        ("09000", 500),
        ("0L000", 403),
        ("0P000", 403),
        ("21000", 500),
        ("22003", 400),
        ("22023", 400),
        ("23502", 400),
        ("23503", 409),
        ("23505", 409),
        ("23514", 400),
        ("25006", 405),
        ("25P02", 500),
        ("28000", 403),
        ("2D000", 500),
        ("38000", 500),
        ("39000", 500),
        ("3B000", 500),
        ("40P01", 500),
        ("42501", 401),
        ("42601", 400),
        ("42883", 404),
        ("42P01", 404),
        ("42P17", 500),
        ("53300", 503),
        ("53400", 500),
        ("54001", 500),
        ("55P03", 500),
        ("57014", 500),
        ("57P01", 503),
        ("58030", 500),
        ("F0000", 500),
        ("HV000", 500),
        ("P0001", 400),
        ("P0002", 500),
        ("XX000", 500),
        ("ZZ999", 400),
    ],
)
def test_each_sqlstate_has_its_status(client: httpx.Client, state: str, status: int):
    reply = refuse(client, state)
    assert (reply.status_code, reply.json()["code"], reply.json()["message"]) == (status, state, "no")


def test_a_function_may_write_the_whole_refusal_itself(client: httpx.Client):
    message = json.dumps({"code": "own", "message": "mine", "details": "d", "hint": "h"})
    detail = json.dumps({"status": 418, "headers": {"X-Reason": "tea"}})
    reply = refuse(client, "PGRST", message, detail=detail)
    assert (reply.status_code, reply.headers["x-reason"]) == (418, "tea")
    assert reply.json() == {"code": "own", "message": "mine", "details": "d", "hint": "h"}


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("no json", '{"status": 418, "headers": {}}'),
        ('{"message": "without code"}', '{"status": 418, "headers": {}}'),
        ('{"code": "own", "message": "mine"}', "no json"),
        ('{"code": "own", "message": "mine"}', '{"status": 418}'),
        ('{"code": "own", "message": "mine"}', '{"status": 99, "headers": {}}'),
        ('{"code": "own", "message": "mine"}', '{"status": 418, "headers": {"A": "b\\r\\nC: d"}}'),
    ],
)
def test_a_refusal_that_cannot_be_read_is_the_functions_fault(client: httpx.Client, message: str, detail: str):
    reply = refuse(client, "PGRST", message, detail=detail)
    assert (reply.status_code, reply.json()["code"]) == (500, "PGRST121")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ({"id": 1, "label": "again"}, 409, "23505"),
        ({"id": 2, "label": "orphan", "parent": 404}, 409, "23503"),
        ({"id": 3, "label": ""}, 400, "23514"),
        ({"id": 4, "label": None}, 400, "23502"),
    ],
)
def test_broken_constraints_have_their_status(client: httpx.Client, arguments: dict[str, Any], status: int, code: str):
    client.post("/put_item", json={"id": 1, "label": "first"})
    reply = client.post("/put_item", json=arguments)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def test_an_error_leaves_no_part_of_a_write(client: httpx.Client):
    assert client.post("/put_then_refuse", json={"id": 50}).status_code == 400
    assert client.post("/has_item", json={"id": 50}).json() is False


def test_a_call_that_fails_to_serialise_is_run_again(client: httpx.Client, superuser: psycopg.Connection[Any]):
    superuser.execute("alter sequence public.visits restart with 11")
    assert client.post("/conflict_until", json={"run": 3}).json() == 13


def test_a_call_that_never_serialises_is_given_up_after_four_runs(
    client: httpx.Client, superuser: psycopg.Connection[Any]
):
    superuser.execute("alter sequence public.visits restart with 11")
    reply = client.post("/conflict_until", json={"run": 9})
    assert (reply.status_code, reply.json()["code"]) == (500, "40001")
    assert client.post("/visited").json() == 14


def test_a_functions_own_time_limit_holds_for_the_call(client: httpx.Client):
    reply = client.post("/doze_briefly", json={"seconds": 5})
    assert (reply.status_code, reply.json()["code"]) == (500, "57014")


def test_a_roles_time_limit_holds_for_its_calls(
    client: httpx.Client, service: httpx.Client, superuser: psycopg.Connection[Any]
):
    superuser.execute("alter role anon set statement_timeout = '150ms'")
    superuser.execute("notify pgrst, 'reload config'")
    wait_for(lambda: client.post("/setting", json={"name": "statement_timeout"}).json() == "150ms")
    reply = client.post("/doze", json={"seconds": 5})
    assert (reply.status_code, reply.json()["code"]) == (500, "57014")
    # A role without a limit of its own has the one of the login.
    assert service.post("/setting", json={"name": "statement_timeout"}).json() == "8s"
    superuser.execute("alter role anon set statement_timeout = '3s'")
    superuser.execute("notify pgrst, 'reload config'")


def test_a_functions_isolation_level_holds_for_its_transaction(client: httpx.Client):
    assert client.post("/isolation").json() == "serializable"
