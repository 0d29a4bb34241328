"""The gateway's own life: start, stop, a database that goes and comes, replies that get lost."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tbh.infra.rpcgateway.server import Gateway
from tbh.ports import Fatal
from tests.gateway.conftest import SECRET, Serve, wait_for


@contextmanager
def client_of(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{gateway.url}/rpc", timeout=10, verify=False) as client:
        yield client


def test_a_port_that_is_taken_is_said_in_one_line(serve: Serve):
    port = serve().port
    with pytest.raises(Fatal, match=f"port {port} of 127.0.0.1 cannot be served") as refused:
        serve(port=port)
    assert refused.value.exit_code == 78
    assert "\n" not in str(refused.value)


def test_it_serves_loopback_only(serve: Serve):
    with pytest.raises(Fatal, match="loopback"):
        serve(host="0.0.0.0")


def test_a_stopped_gateway_can_be_started_again_at_its_address(serve: Serve):
    gateway = serve()
    port = gateway.port
    gateway.stop()
    with client_of(gateway) as client, pytest.raises(httpx.ConnectError):
        client.post("/ping")
    gateway.start()
    assert gateway.port == port
    with client_of(gateway) as client:
        assert client.post("/ping").status_code == 200


def test_it_stops_within_two_seconds_though_a_call_is_under_way(serve: Serve):
    gateway = serve()
    with client_of(gateway) as client:
        call = threading.Thread(target=lambda: _ignore(lambda: client.post("/doze", json={"seconds": 2.5})))
        call.start()
        wait_for(lambda: client.post("/ping").status_code == 200)
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < 2.5
        call.join()


def _ignore(call: Any) -> None:
    with suppress(httpx.TransportError):
        call()


def test_the_profile_chooses_between_exposed_schemas(serve: Serve):
    gateway = serve(schemas=("public", "hidden"), extra_search_path=())
    with client_of(gateway) as client:
        assert client.post("/secret", headers={"content-profile": "hidden"}).json() == '"hidden"'
        assert client.get("/secret", headers={"accept-profile": "hidden"}).json() == '"hidden"'
        assert client.post("/secret").status_code == 404


def test_a_database_that_is_not_there_is_503_at_once(serve: Serve, tmp_path: Path):
    gateway = serve(dsn=f"host={tmp_path} user=authenticator dbname=tbh")
    began = time.monotonic()
    with client_of(gateway) as client:
        reply = client.post("/ping")
    assert (reply.status_code, reply.json()["code"]) == (503, "PGRST000")
    assert time.monotonic() - began < 2


def test_calls_heal_as_soon_as_the_database_is_back(serve: Serve, database: LocalDatabase):
    gateway = serve()
    with client_of(gateway) as client:
        assert client.post("/ping").json() == "pong"
        database.stop()
        try:
            assert [client.post("/ping").status_code for _ in range(3)] == [503, 503, 503]
        finally:
            database.start()
        assert client.post("/ping").json() == "pong"


def test_a_connection_that_dies_in_a_call_is_503_and_the_next_call_works(serve: Serve):
    gateway = serve(max_connections=1)
    with client_of(gateway) as client:
        for _ in range(2):
            reply = client.post("/end_my_server")
            assert (reply.status_code, reply.json()["code"]) == (503, "57P01")
            assert client.post("/ping").json() == "pong"


def test_a_database_that_has_stopped_answering_is_503_in_time_and_the_next_call_works(serve: Serve):
    gateway = serve(max_connections=1, patience_s=0.3)
    with client_of(gateway) as client:
        assert client.post("/ping").json() == "pong"
        began = time.monotonic()
        reply = client.post("/doze", json={"seconds": 5})
        assert (reply.status_code, reply.json()["code"]) == (503, "PGRST001")
        assert time.monotonic() - began < 3
        assert client.post("/ping").json() == "pong"


def test_connections_that_die_between_calls_are_never_used(serve: Serve, superuser: psycopg.Connection[Any]):
    gateway = serve(max_connections=2)
    with client_of(gateway) as client:
        for _ in range(5):
            assert client.post("/ping").status_code == 200
            superuser.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'authenticator'"
            )


def test_a_full_pool_is_504_after_two_seconds(serve: Serve):
    gateway = serve(max_connections=1)
    with client_of(gateway) as client:
        client.post("/ping")
        call = threading.Thread(target=client.post, args=("/doze",), kwargs={"json": {"seconds": 2.6}})
        call.start()
        wait_for(lambda: client.post("/ping").status_code == 504, timeout_s=10)
        call.join()


def test_a_lost_reply_was_executed_and_looks_like_a_broken_connection(serve: Serve):
    seen: list[str] = []

    def lose_the_first(function: str) -> bool:
        seen.append(function)
        return len(seen) > 1

    gateway = serve(before_reply=lose_the_first)
    with client_of(gateway) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/put_item", json={"id": 700, "label": "x"})
        assert client.post("/has_item", json={"id": 700}).json() is True
    assert seen == ["put_item", "has_item"]


def test_the_access_log_tells_no_secrets(serve: Serve):
    lines: list[str] = []
    gateway = serve(access_log=lines.append, secret_keys={"sb_secret_x": "service_role"})
    with client_of(gateway) as client:
        headers = {"apikey": "sb_secret_x", "x-runtime-token": "tbh_rt_x"}
        client.post("/echo", json={"value": "word"}, headers=headers)
        client.post("/absent%0A", headers=headers)
    told_by_s = time.monotonic() + 5  # a line is written once its reply is on its way
    while len(lines) < 2 and time.monotonic() < told_by_s:
        time.sleep(0.005)
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == ["POST echo 200", "POST - 404"]


def test_half_a_request_is_never_executed(serve: Serve):
    seen: list[str] = []
    gateway = serve(access_log=seen.append)
    with socket.create_connection((gateway.host, gateway.port)) as raw:
        body = json.dumps({"id": 710, "label": "x"})
        head = f"POST /rpc/put_item HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body) + 10}\r\n\r\n"
        raw.sendall((head + body).encode())
    with client_of(gateway) as client:
        assert client.post("/has_item", json={"id": 710}).json() is False


def test_two_requests_sent_in_one_go_are_answered_in_order(serve: Serve):
    gateway = serve()
    head = "POST /rpc/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n"
    with socket.create_connection((gateway.host, gateway.port)) as raw:
        raw.settimeout(5)
        raw.sendall(f'{head}\r\n{{"value":"a"}}{head}connection: close\r\n\r\n{{"value":"b"}}'.encode())
        said = b"".join(iter(lambda: raw.recv(4096), b""))
    assert said.index(b'"a"') < said.index(b'"b"')


def test_the_processs_signal_handlers_stay_as_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    gateway = Gateway("host=/nowhere", jwt_secret=SECRET)
    gateway.start()
    during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    gateway.stop()
    assert before == during


def test_connections_are_closed_when_it_stops(serve: Serve):
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    gateway = serve()
    with client_of(gateway) as client:
        client.post("/ping")
    gateway.stop()
    wait_for(lambda: descriptors() <= before)
