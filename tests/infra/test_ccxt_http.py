"""The wire to an exchange: what can't have been sent, what may have been, and nothing twice."""

from __future__ import annotations

import socket
import time

import pytest

from tbh.infra.ccxt_http import Answer, NotSent, ReplyLost, Wire
from tests.infra.scripted_http import ScriptedServer, reply, scripted

WITHIN_S = 5.0


def ask(wire: Wire, server: ScriptedServer, method: str = "GET", *, within_s: float = WITHIN_S) -> Answer:
    body = "a=1" if method == "POST" else None
    return wire.ask(method, f"{server.url}/x", headers={"X": "y"}, body=body, until_s=time.monotonic() + within_s)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_refused_connection_is_not_sent() -> None:
    with pytest.raises(NotSent):
        Wire().ask(
            "POST", f"http://127.0.0.1:{unused_port()}/x", headers={}, body="a", until_s=time.monotonic() + WITHIN_S
        )


def test_a_name_that_nobody_knows_is_not_sent() -> None:
    with pytest.raises(NotSent):
        Wire().ask("GET", "http://nobody.invalid/x", headers={}, body=None, until_s=time.monotonic() + WITHIN_S)


def test_a_tls_handshake_that_fails_is_not_sent() -> None:
    with scripted(lambda *_: None) as server:
        url = server.url.replace("http:", "https:") + "/x"
        with pytest.raises(NotSent):
            Wire().ask("POST", url, headers={}, body="a", until_s=time.monotonic() + WITHIN_S)


def test_no_time_left_is_not_sent() -> None:
    with scripted(lambda *_: reply("{}")) as server:
        with pytest.raises(NotSent):
            ask(Wire(), server, within_s=-1)
        assert server.asked == []


def test_a_connection_that_ends_before_the_reply_is_a_lost_reply() -> None:
    with scripted(lambda *_: None) as server, pytest.raises(ReplyLost):
        ask(Wire(), server, "POST")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nff\r\nhalf",
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_half_a_reply_is_a_lost_reply(said: bytes) -> None:
    def say_and_end(*_: object) -> bytes | None:
        server.script = lambda *_: None
        return said

    with scripted(say_and_end) as server, pytest.raises(ReplyLost):
        ask(Wire(), server, "POST", within_s=0.3)


def test_a_reply_that_never_ends_is_lost_in_time() -> None:
    with scripted(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") as server:
        began_s = time.monotonic()
        with pytest.raises(ReplyLost):
            ask(Wire(), server, within_s=0.2)
        assert time.monotonic() - began_s < 2


def test_one_connection_carries_many_requests() -> None:
    wire = Wire()
    with scripted(lambda *_: reply({"ok": 1})) as server:
        assert [ask(wire, server, method).text for method in ("GET", "POST", "DELETE")] == ['{"ok": 1}'] * 3
        wire.close()
        assert server.connections == 1


def test_an_answer_holds_status_and_headers_in_lower_case() -> None:
    wire = Wire()
    with scripted(lambda *_: reply("no", status=418, Retry_After="7")) as server:
        answer = ask(wire, server)
        wire.close()
    assert (answer.status, answer.headers["retry-after"], answer.text) == (418, "7", "no")


def test_an_order_goes_out_once_over_a_connection_that_the_server_had_closed() -> None:
    wire = Wire()
    with scripted(lambda *_: reply("{}")) as server:
        ask(wire, server)
        server.hang_up()
        assert ask(wire, server, "POST").status == 200
        wire.close()
        assert server.paths() == ["GET /x", "POST /x"]


def test_an_order_is_not_repeated_when_a_kept_connection_ends_without_a_reply() -> None:
    wire = Wire()
    with scripted(lambda *_: reply("{}")) as server:
        ask(wire, server)
        server.script = lambda *_: None
        with pytest.raises(ReplyLost):
            ask(wire, server, "POST")
        assert server.paths() == ["GET /x", "POST /x"]


def test_a_question_is_asked_again_when_a_kept_connection_ends_without_a_byte() -> None:
    wire = Wire()

    def once_nothing(*_: object) -> None:
        server.script = lambda *_: reply("again")

    with scripted(lambda *_: reply("{}")) as server:
        ask(wire, server)
        server.script = once_nothing
        assert ask(wire, server).text == "again"
        wire.close()
