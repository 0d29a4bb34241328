"""The error table: what each way of failing proves, and what it tells."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbh.infra.supabase import SupabaseRpc
from tbh.ports import Defer, Failure, Fatal, LeaseHeld, OutboxEntry, Rejected, Unavailable, Unknown

if TYPE_CHECKING:
    from tests.supabase.conftest import Connect, Script

SERVICE_KEY = "sb_secret_0123456789abcdefghij"
TOKEN = "tbh_rt_" + "5a" * 32
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


def claim(rpc: SupabaseRpc) -> Any:
    return rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=30.0)


def failure_of(call: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value


REFUSALS = [
    (401, "PT401", "runtime_token_invalid", None, (Rejected, "runtime_token_invalid")),
    (403, "PT403", "not_your_bot", None, (Rejected, "not_your_bot")),
    (403, "PT403", "bot_inactive", None, (Rejected, "bot_inactive")),
    (404, "PT404", "position_not_found", None, (Rejected, "position_not_found")),
    (409, "PT409", "stale_epoch", "epoch 3, the lease is at 4", (Rejected, "stale_epoch")),
    (422, "PT422", "payload_invalid", "p_payload.qty: no number", (Rejected, "payload_invalid")),
    (422, "PT422", "key_conflict", "p_key", (Rejected, "key_conflict")),
    (422, "PT422", "Some text, no word", None, (Rejected, "refused")),
    (400, "22P05", "unsupported Unicode escape sequence", None, (Rejected, "payload_invalid")),
    (400, "22003", "integer out of range", None, (Rejected, "payload_invalid")),
    (409, "23505", "duplicate key value violates ...", None, (Rejected, "payload_invalid")),
    (400, "P0001", "raised", None, (Rejected, "refused")),
    (405, "25006", "cannot execute UPDATE in a read-only transaction", None, (Rejected, "refused")),
    (400, "PGRST102", "Empty or invalid json", None, (Rejected, "payload_invalid")),
    (401, "PGRST301", "No suitable key or wrong key type", None, (Fatal, "service_key_refused")),
    (401, "PGRST302", "Anonymous access is disabled", None, (Fatal, "service_key_refused")),
    (401, "PGRST303", "JWT expired", None, (Fatal, "service_key_refused")),
    (401, "22023", 'role "x" does not exist', None, (Fatal, "service_key_refused")),
    (401, None, "Invalid API key", None, (Fatal, "service_key_refused")),
    (401, "42501", "permission denied for function bot_runtime_claim", None, (Fatal, "not_the_service_key")),
    (403, "42501", "permission denied for function bot_runtime_claim", None, (Fatal, "not_the_service_key")),
    (404, "PGRST202", "Could not find the function", None, (Fatal, "migrations_missing")),
    (300, "PGRST203", "Could not choose the best candidate function", None, (Fatal, "migrations_missing")),
    (406, "PGRST106", "Invalid schema: public", None, (Fatal, "migrations_missing")),
    (429, None, "API rate limit exceeded", None, (Defer, "rate_limited")),
    (
        503,
        "PGRST000",
        "Database connection error. Retrying the connection.",
        None,
        (Unavailable, "database_unreachable"),
    ),
    (
        503,
        "PGRST002",
        "Could not query the database for the schema cache.",
        None,
        (Unavailable, "database_unreachable"),
    ),
    (504, "PGRST003", "Timed out acquiring connection", None, (Unavailable, "database_unreachable")),
    (503, "PGRST001", "Database client error. Retrying the connection.", None, (Unknown, "database_failed")),
    (500, "PGRST300", "Server lacks JWT secret", None, (Unknown, "database_failed")),
    (500, "57014", "canceling statement due to statement timeout", None, (Unknown, "database_failed")),
    (503, "57P01", "terminating connection due to administrator command", None, (Unknown, "database_failed")),
    (500, "40001", "could not serialize access", None, (Unknown, "database_failed")),
    (500, "40P01", "deadlock detected", None, (Unknown, "database_failed")),
    (503, "53300", "too many connections", None, (Unknown, "database_failed")),
    (503, "08006", "connection failure", None, (Unknown, "database_failed")),
    (500, "XX000", "internal error", None, (Unknown, "database_failed")),
    (500, "PT40A", "no status", None, (Unknown, "database_failed")),
    (502, None, "An invalid response was received from the upstream server", None, (Unknown, "database_failed")),
    (503, None, "name resolution failed", None, (Unknown, "database_failed")),
    (403, None, "Forbidden", None, (Unknown, "database_failed")),
]


@pytest.mark.parametrize(("status", "code", "message", "details", "meant"), REFUSALS)
def test_an_error_in_json_means(
    script: Script,
    rpc: SupabaseRpc,
    status: int,
    code: str | None,
    message: str,
    details: str | None,
    meant: tuple[type[Failure], str],
) -> None:
    script.answer(script.error(status, code, message, details))
    failure = failure_of(lambda: claim(rpc))
    assert (type(failure), failure.reason) == meant
    assert not isinstance(failure, Fatal) or failure.exit_code == 78
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("content", "status", "kind", "reason"),
    [
        (PAGE, 200, Unknown, "bad_reply"),
        ("", 200, Unknown, "bad_reply"),
        ("", 204, Unknown, "bad_reply"),
        ('"text"', 200, Unknown, "bad_reply"),
        ("null", 200, Unknown, "bad_reply"),
        ("[]", 200, Unknown, "bad_reply"),
        ("{}", 200, Unknown, "bad_reply"),
        (b'{"epoch": "\xff"}', 200, Unknown, "bad_reply"),
        ("[" * 100_000, 200, Unknown, "bad_reply"),
        ('{"epoch": 1,', 200, Unknown, "bad_reply"),
        (PAGE, 502, Unknown, "database_failed"),
        (PAGE, 503, Unknown, "database_failed"),
        (PAGE, 504, Unknown, "database_failed"),
        (PAGE, 520, Unknown, "database_failed"),
        (PAGE, 404, Unknown, "database_failed"),
        ("", 500, Unknown, "database_failed"),
        ("[1, 2]", 500, Unknown, "database_failed"),
        ('{"code": 502, "message": "upstream"}', 502, Unknown, "database_failed"),
        (PAGE, 429, Defer, "rate_limited"),
        (PAGE, 413, Rejected, "batch_too_large"),
        (PAGE, 401, Fatal, "service_key_refused"),
        ("", 401, Fatal, "service_key_refused"),
        ("", 308, Unknown, "database_failed"),
    ],
)
def test_an_answer_that_is_not_postgrests_means(
    script: Script, rpc: SupabaseRpc, content: str | bytes, status: int, kind: type[Failure], reason: str
) -> None:
    script.answer(script.reply(content, status=status))
    failure = failure_of(lambda: claim(rpc))
    assert (type(failure), failure.reason) == (kind, reason)
    assert len(str(failure)) < 1_000


def test_the_code_that_postgrest_gives_beside_a_page_counts(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.reply(PAGE, status=503, proxy_status="PostgREST; error=PGRST002"))
    assert failure_of(lambda: claim(rpc)).reason == "database_unreachable"


GOOD = {"epoch": 1, "renewals": 1, "expires_in_s": "30"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", None),
        ("epoch", -1),
        ("epoch", 1.5),
        ("epoch", True),
        ("epoch", "one"),
        ("renewals", []),
        ("expires_in_s", "NaN"),
        ("expires_in_s", "soon"),
        ("expires_in_s", None),
        ("expires_at", "2026-01-01T00:00:00"),
        ("token_ttl_s", "Infinity"),
    ],
)
def test_a_reply_of_a_wrong_shape_is_unknown_and_names_the_field(
    script: Script, rpc: SupabaseRpc, name: str, value: Any
) -> None:
    script.answer(script.json(GOOD | {name: value}))
    failure = failure_of(lambda: claim(rpc))
    assert (type(failure), failure.reason) == (Unknown, "bad_reply")
    assert f"bot_runtime_claim.{name}" in str(failure)


def test_the_holder_of_the_lease_is_told(script: Script, rpc: SupabaseRpc) -> None:
    told = "boot_id=a.b_c-1 renewals=42 lease_s=30 expires_in_s=-3.25"
    script.answer(script.error(409, "PT409", "lease_held", told))
    failure = failure_of(lambda: claim(rpc))
    assert isinstance(failure, LeaseHeld)
    assert (failure.boot_id, failure.renewals, failure.lease_s, failure.expires_in_s) == ("a.b_c-1", 42, 30.0, -3.25)
    assert str(failure) == f"lease_held: {told}"


@pytest.mark.parametrize("told", [None, "", "by somebody", "boot_id=x renewals=-1 lease_s=30 expires_in_s=2"])
def test_a_holder_that_can_not_be_read_is_still_a_refusal(script: Script, rpc: SupabaseRpc, told: str | None) -> None:
    script.answer(script.error(409, "PT409", "lease_held", told))
    failure = failure_of(lambda: claim(rpc))
    assert (type(failure), failure.reason) == (Rejected, "lease_held")


@pytest.mark.parametrize(
    ("header", "after_s"),
    [(None, 1.0), ("7", 7.0), ("0", 0.1), ("1e9", 60.0), ("nan", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)],
)
def test_a_rate_limit_defers_as_long_as_it_says(
    script: Script, rpc: SupabaseRpc, header: str | None, after_s: float
) -> None:
    headers = {} if header is None else {"retry_after": header}
    script.answer(script.error(429, None, "slow down", **headers))
    failure = failure_of(lambda: claim(rpc))
    assert isinstance(failure, Defer)
    assert failure.after_s == after_s


# The wire


def test_a_refused_connection_is_unavailable(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    failure = failure_of(lambda: claim(connect(url=f"http://127.0.0.1:{port}")))
    assert (type(failure), failure.reason) == (Unavailable, "database_unreachable")


def test_an_address_that_speaks_no_tls_is_unavailable(script: Script, connect: Connect) -> None:
    failure = failure_of(lambda: claim(connect(url=script.url.replace("http:", "https:"))))
    assert (type(failure), failure.reason) == (Unavailable, "database_unreachable")
    assert "SSL" in str(failure)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", HEAD, HEAD + b'{"epoch": 1, "rene', b"SSH-2.0-OpenSSH\r\n\r\n"])
def test_a_connection_that_breaks_after_sending_is_unknown(script: Script, rpc: SupabaseRpc, sent: bytes) -> None:
    script.answer(script.breaking(sent))
    failure = failure_of(lambda: claim(rpc))
    assert (type(failure), failure.reason) == (Unknown, "reply_lost")


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b'{"epoch": 1, "rene'])
def test_silence_after_sending_is_unknown(script: Script, connect: Connect, sent: bytes) -> None:
    script.answer(script.silent(sent))
    failure = failure_of(lambda: claim(connect(read_timeout_s=0.2)))
    assert (type(failure), failure.reason) == (Unknown, "reply_lost")
    assert "ReadTimeout" in str(failure)


def test_a_reply_that_trickles_is_given_up_when_its_time_is_over(script: Script, connect: Connect) -> None:
    given_up = threading.Event()

    def trickle(handler: Any, _: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n")
        with suppress(OSError):
            while not given_up.wait(0.01):
                handler.wfile.write(b" ")
        handler.close_connection = True

    script.answer(trickle)
    began_s = time.monotonic()
    failure = failure_of(lambda: claim(connect(read_timeout_s=0.3)))
    given_up.set()
    assert (type(failure), failure.reason) == (Unknown, "reply_lost")
    assert time.monotonic() - began_s < 5


def test_a_body_that_does_not_unpack_is_unknown(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.reply(b"no gzip", content_encoding="gzip"))
    assert failure_of(lambda: claim(rpc)).reason == "reply_lost"


def test_after_a_broken_connection_the_next_call_succeeds(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.breaking(), script.json(GOOD))
    failure_of(lambda: claim(rpc))
    assert claim(rpc).epoch == 1


def test_after_closing_calls_are_unavailable(script: Script, rpc: SupabaseRpc) -> None:
    script.answer(script.json(GOOD))
    claim(rpc)
    rpc.close()
    assert failure_of(lambda: claim(rpc)).reason == "closed"


# Arguments


@pytest.mark.parametrize(
    "value",
    [Decimal(1), float("nan"), float("inf"), object(), {1, 2}, b"raw", "\ud800", {(1,): 2}],
    ids=lambda each: ascii(type(each).__name__),
)
def test_arguments_that_are_no_json_are_refused_before_anything_is_sent(
    script: Script, rpc: SupabaseRpc, value: Any
) -> None:
    entry = OutboxEntry(seq=1, fn="bot_runtime_record_fill", args={"p_payload": {"qty": value}}, key="k")
    failure = failure_of(lambda: rpc.sync(store_id="s", first_seq=1, entries=[entry]))
    assert (type(failure), failure.reason) == (Rejected, "payload_invalid")
    assert script.requests == []


# Secrets


def test_no_failure_tells_a_secret_that_a_server_repeats(script: Script, rpc: SupabaseRpc) -> None:
    for status, code in (
        (500, "XX000"),
        (401, "PGRST301"),
        (403, "42501"),
        (404, "PGRST202"),
        (422, "PT422"),
        (429, None),
    ):
        script.answer(script.error(status, code, f"no {SERVICE_KEY}", f"Bearer {SERVICE_KEY} {TOKEN}"))
        told = str(failure_of(lambda: claim(rpc)))
        assert SERVICE_KEY not in told
        assert TOKEN not in told


@pytest.mark.parametrize("key", ["", "a b", "key\n", "schlüssel"])
def test_a_key_that_no_header_carries_is_fatal_and_not_repeated(connect: Connect, key: str) -> None:
    failure = failure_of(lambda: connect(service_key=key))
    assert isinstance(failure, Fatal)
    assert failure.exit_code == 78
    assert not key or key not in str(failure)


@pytest.mark.parametrize("boot_id", ["", "a b", "x" * 65, "bot\n"])
def test_a_boot_id_that_the_database_would_refuse_is_fatal(connect: Connect, boot_id: str) -> None:
    assert failure_of(lambda: connect(boot_id=boot_id)).reason == "boot_id_invalid"
