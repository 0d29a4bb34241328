"""What a client of PostgREST may rely on when it calls functions: results, arguments, resolution, HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.conftest import wait_for

JSON_UTF8 = "application/json; charset=utf-8"
OBJECT = "application/vnd.pgrst.object+json"


def test_a_call_answers_with_the_bare_result(client: httpx.Client):
    reply = client.post("/add", json={"a": 1, "b": 2})
    assert (reply.status_code, reply.text, reply.headers["content-type"]) == (200, "3", JSON_UTF8)


def test_the_path_without_the_platforms_prefix_is_the_same_call(client: httpx.Client):
    assert client.post(str(client.base_url.copy_with(path="/rpc/add")), json={"a": 1, "b": 2}).text == "3"


def test_of_an_array_of_arguments_the_first_object_counts(client: httpx.Client):
    assert client.post("/add", json=[{"a": 1, "b": 2}, {"a": 4, "b": 6}]).text == "3"


def test_an_array_whose_objects_differ_is_refused(client: httpx.Client):
    reply = client.post("/add", json=[{"a": 1, "b": 2}, {"a": 4}])
    assert (reply.status_code, reply.json()["message"]) == (400, "All object keys must match")


def test_an_argument_too_many_finds_no_function(client: httpx.Client):
    reply = client.post("/add", json={"a": 1, "b": 2, "c": 3})
    assert (reply.status_code, reply.json()["code"]) == (404, "PGRST202")


def test_an_unknown_function_is_named_with_its_arguments(client: httpx.Client):
    reply = client.post("/absent", json={"b": 1, "a": 2})
    assert reply.status_code == 404
    assert reply.headers["proxy-status"] == "PostgREST; error=PGRST202"
    body = reply.json()
    assert list(body) == ["code", "message", "details", "hint"]
    assert body["message"] == "Could not find the function public.absent(a, b) in the schema cache"
    assert body["details"].startswith("Searched for the function public.absent with parameters a, b or with a single ")


def test_an_unknown_function_without_arguments_is_named_so(client: httpx.Client):
    message = client.post("/absent", json={}).json()["message"]
    assert message == "Could not find the function public.absent without parameters in the schema cache"


def test_an_empty_body_calls_a_function_without_arguments(client: httpx.Client):
    reply = client.post("/ping")
    assert (reply.status_code, reply.text) == (200, '"pong"')


def test_a_function_without_arguments_takes_none(client: httpx.Client):
    assert client.post("/ping", json={"a": 1}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"a": NaN, "b": 1}', id="NaN"),
        pytest.param(b'{"a": -Infinity, "b": 1}', id="Infinity"),
        pytest.param(b'{"a": 1, "b": 2} x', id="more behind it"),
        pytest.param(b'{"a": "\xff", "b": 2}', id="not UTF-8"),
        pytest.param(b'{"a": 1, "b": "\x00"}', id="control character"),
        pytest.param(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", id="nested too deeply"),
    ],
)
def test_a_body_that_is_not_json_is_refused(client: httpx.Client, body: bytes):
    reply = client.post("/add", content=body)
    assert reply.status_code == 400
    assert reply.json() == {"code": "PGRST102", "message": "Empty or invalid json", "details": None, "hint": None}


def test_another_type_of_body_is_refused(client: httpx.Client):
    reply = client.post("/add", content=b"a,b\n1,2", headers={"content-type": "text/csv"})
    assert (reply.status_code, reply.json()["code"]) == (400, "PGRST102")


def test_a_body_over_two_megabytes_is_refused(client: httpx.Client):
    reply = client.post("/echo", json={"value": "x" * 2_100_000})
    assert reply.status_code == 413
    assert list(reply.json()) == ["code", "message", "details", "hint"]
    assert client.post("/ping").status_code == 200


def test_an_unacceptable_accept_is_refused(client: httpx.Client):
    reply = client.post("/ping", headers={"accept": "audio/mpeg3"})
    assert (reply.status_code, reply.json()["code"]) == (406, "PGRST107")
    assert reply.json()["message"] == "None of these media types are available: audio/mpeg3"


def test_of_several_acceptable_types_the_most_wanted_is_sent(client: httpx.Client):
    accept = f"text/html, application/json;q=0.5, {OBJECT};q=0.9, audio/*;q=0"
    reply = client.post("/ping", headers={"accept": accept})
    assert reply.headers["content-type"] == f"{OBJECT}; charset=utf-8"


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT"])
def test_functions_are_called_by_post_or_get(client: httpx.Client, method: str):
    reply = client.request(method, "/ping")
    assert reply.status_code == 405
    assert reply.json()["code"] == "PGRST101"
    assert reply.json()["message"] == f"Cannot use the {method} method on RPC"


def test_a_void_function_answers_with_no_content(client: httpx.Client):
    reply = client.post("/nothing")
    assert (reply.status_code, reply.content) == (204, b"")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        ("no_int", {}, None),
        ("ints", {}, [1, 2, 3]),
        ("series", {"n": 3}, [1, 2, 3]),
        ("series", {"n": 0}, []),
        ("letters", {}, [{"a": "A"}]),
        ("plus_one", {"num": 5}, {"num_plus_one": 6}),
        ("a_pair", {}, {"a": 1, "b": "one"}),
        ("no_pair", {}, {"a": None, "b": None}),
        ("pairs", {}, [{"a": 1, "b": "one"}, {"a": 2, "b": "two"}]),
        ("a_record", {}, {"id": 7}),
        ("three_defaults", {}, 123),
        ("three_defaults", {"b": 4}, 143),
        ("over", {"a": 1}, "a"),
        ("over", {"a": 1, "b": 2}, "a, b"),
        ("sum_of", {"numbers": [1, 2, 3]}, 6),
        ('Odd "name" %s', {"a b": 9}, 9),
        ("letter_of", {"letter": "long"}, "long"),
    ],
)
def test_results_have_their_declared_shape(client: httpx.Client, function: str, arguments: dict[str, Any], result: Any):
    reply = client.post(f"/{function.replace('%', '%25')}", json=arguments)
    assert (reply.status_code, reply.json()) == (200, result)


def test_numbers_keep_every_digit(client: httpx.Client):
    assert client.post("/money").text == "12345678901234567890.123456789"


def test_a_set_of_more_than_a_thousand_rows_is_cut(client: httpx.Client):
    assert len(client.post("/series", json={"n": 1500}).json()) == 1000


def test_an_overload_by_type_alone_is_ambiguous(client: httpx.Client):
    reply = client.post("/twin", json={"a": 1})
    assert (reply.status_code, reply.json()["code"], reply.json()["details"]) == (300, "PGRST203", None)


@pytest.mark.parametrize("body", ['{"x": 1, "y": [2]}', '[{"x": 1}, {"x": 2}]'])
def test_a_single_unnamed_json_parameter_receives_the_whole_body(client: httpx.Client, body: str):
    assert client.post("/whole", content=body).text == body


def test_a_named_json_parameter_does_not_receive_foreign_keys(client: httpx.Client):
    reply = client.post("/document", json={"x": 1})
    assert (reply.status_code, reply.json()["code"]) == (404, "PGRST202")


@pytest.mark.parametrize(("document", "kind"), [({"x": 1}, "object"), ('{"x": 1}', "string"), ([1], "array")])
def test_json_arguments_keep_their_kind(client: httpx.Client, document: Any, kind: str):
    assert client.post("/kind_of", json={"doc": document}).json() == kind


def test_json_arguments_keep_their_digits(client: httpx.Client):
    body = '{"doc":{"qty":0.10000000000000000000000000001}}'
    assert client.post("/document", content=body).text == '{"qty":0.10000000000000000000000000001}'


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ({"a": "7", "b": 1}, 200, None),
        ({"a": 1.5, "b": 1}, 400, "22P02"),
        ({"a": 1e12, "b": 1}, 400, "22003"),
        ({"a": "seven", "b": 1}, 400, "22P02"),
    ],
)
def test_arguments_are_cast_as_postgres_casts_them(
    client: httpx.Client, arguments: dict[str, Any], status: int, code: str | None
):
    reply = client.post("/add", content=json.dumps(arguments).replace("1e12", "1000000000000"))
    assert reply.status_code == status
    assert code is None or reply.json()["code"] == code


def test_a_missing_argument_takes_its_default_and_null_overrides_it(client: httpx.Client):
    assert client.post("/echo", json={}).json() == "unset"
    assert client.post("/echo", json={"value": None}).json() is None


def test_text_comes_and_goes_unchanged(client: httpx.Client):
    said = 'ä€𝄞 " \\ % $1 \n'
    assert client.post("/echo", json={"value": said}).json() == said


@pytest.mark.parametrize("said", ["\x00", "\ud800"])
def test_text_that_postgres_cannot_hold_is_the_callers_mistake(client: httpx.Client, said: str):
    assert client.post("/echo", content=json.dumps({"value": said})).status_code == 400


def test_get_passes_arguments_in_the_query(client: httpx.Client):
    assert client.get("/add", params={"a": 1, "b": 2}).text == "3"
    assert client.get("/kind_of", params={"doc": '{"x": 1}'}).json() == "object"
    assert client.head("/add", params={"a": 1, "b": 2}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_filters_of_a_result_are_refused_rather_than_ignored(client: httpx.Client, method: str):
    assert client.request(method, "/pairs", params={"limit": "1"}).json()["code"] == "PGRST127"


def test_get_of_a_function_that_writes_is_not_allowed(client: httpx.Client):
    reply = client.get("/put_item", params={"id": 900, "label": "x"})
    assert (reply.status_code, reply.json()["code"]) == (405, "25006")


def test_a_function_declared_stable_may_not_write(client: httpx.Client):
    reply = client.post("/stable_put", json={"id": 901})
    assert (reply.status_code, reply.json()["code"]) == (405, "25006")


def test_a_function_is_called_once_a_request(client: httpx.Client):
    before = client.post("/visit").json()
    assert [client.post("/visit").json() for _ in range(3)] == [before + 1, before + 2, before + 3]


@pytest.mark.parametrize("n", [0, 2])
def test_a_single_object_must_be_one_row_or_nothing_is_written(client: httpx.Client, n: int):
    reply = client.post("/put_items", json={"first": 910, "n": n}, headers={"accept": OBJECT})
    assert (reply.status_code, reply.json()["code"]) == (406, "PGRST116")
    assert reply.json()["details"] == f"The result contains {n} rows"
    assert client.post("/has_item", json={"id": 910}).json() is False


def test_a_single_row_is_sent_as_the_object_itself(client: httpx.Client):
    headers = {"accept": OBJECT}
    assert client.post("/letters", headers=headers).json() == {"a": "A"}
    assert client.post("/a_pair", headers=headers).json() == {"a": 1, "b": "one"}
    assert client.post("/put_items", json={"first": 920, "n": 1}, headers=headers).json() == 920
    assert client.post("/has_item", json={"id": 920}).json() is True


def test_a_schema_that_is_not_exposed_is_refused(client: httpx.Client):
    for profile in ({"content-profile": "hidden"}, {"content-profile": ""}):
        reply = client.post("/ping", headers=profile)
        assert (reply.status_code, reply.json()["code"]) == (406, "PGRST106")
        assert reply.json()["hint"] == "Only the following schemas are exposed: public"


def test_the_exposed_schema_may_be_named(client: httpx.Client):
    headers = {"content-profile": "public", "accept-profile": "public"}
    assert client.post("/ping", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/a/b/c", "/", "/rest/v1/", "/rest/v1/items", "/rpc", "/rpc/", "/rpc/a/b"])
def test_other_paths_are_not_there(client: httpx.Client, path: str):
    reply = client.get(str(client.base_url.copy_with(path=path)))
    assert (reply.status_code, reply.json()["code"]) == (404, "PGRST125")


def test_a_function_may_choose_status_and_headers(client: httpx.Client):
    headers = json.dumps([{"X-Answer": "42"}, {"Content-Type": "application/vnd.own+json"}])
    reply = client.post("/answer_with", json={"status": "202", "headers": headers})
    assert (reply.status_code, reply.headers["x-answer"]) == (202, "42")
    assert reply.headers.get_list("content-type") == ["application/vnd.own+json"]


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [("200", "{}", "PGRST111"), ("200", '[{"A": "b\\r\\nC: d"}]', "PGRST111"), ("fine", "[]", "PGRST112")],
)
def test_a_status_or_header_that_cannot_be_sent_is_the_functions_fault(
    client: httpx.Client, status: str, headers: str, code: str
):
    reply = client.post("/answer_with", json={"status": status, "headers": headers})
    assert (reply.status_code, reply.json()["code"]) == (500, code)


def test_a_new_function_is_found_after_a_notification_and_a_dropped_one_is_not(
    client: httpx.Client, superuser: psycopg.Connection[tuple[Any, ...]]
):
    client.post("/ping")
    superuser.execute("create function public.fresh(a int) returns int language sql as 'select a'")
    superuser.execute("notify pgrst, 'reload schema'")
    wait_for(lambda: client.post("/fresh", json={"a": 5}).text == "5")
    superuser.execute("drop function public.fresh(int)")
    superuser.execute("create function public.fresh(b text) returns text language sql as 'select b'")
    superuser.execute("notify pgrst, 'reload schema'")
    wait_for(lambda: client.post("/fresh", json={"b": "6"}).text == '"6"')
    superuser.execute("drop function public.fresh(text)")
    superuser.execute("notify pgrst, 'reload schema'")
    wait_for(lambda: client.post("/fresh", json={"b": "6"}).json()["code"] == "PGRST202")


def test_a_new_function_is_found_without_a_notification_within_a_second(
    client: httpx.Client, superuser: psycopg.Connection[tuple[Any, ...]]
):
    superuser.execute("create function public.unannounced() returns int language sql as 'select 8'")
    wait_for(lambda: client.post("/unannounced").text == "8")
    superuser.execute("drop function public.unannounced()")
