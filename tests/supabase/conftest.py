"""A scripted HTTP server on loopback in the place of the database: it answers as told, or breaks the connection."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.supabase import SupabaseRpc

BOT = "6f9f1d9e-0b0a-4a52-9c3b-8f3d6a1c2e01"
SERVICE_KEY = "sb_secret_0123456789abcdefghij"
TOKEN = "tbh_rt_" + "5a" * 32

Connect = Callable[..., SupabaseRpc]
Answer = Callable[["_Handler", "Request"], None]


@dataclass(frozen=True)
class Request:
    fn: str
    path: str
    headers: Mapping[str, str]
    body: Any
    connection: tuple[str, int]


class Script:
    """``answers`` are used up in order; the last one stays. ``requests`` are kept as they came."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.over = threading.Event()
        self._answers: list[Answer] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.script = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def take(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @staticmethod
    def reply(content: str | bytes = b"", *, status: int = 200, kind: str = "text/html", **headers: str) -> Answer:
        """Any content; ``retry_after="2"`` is the header Retry-After."""
        raw = content.encode() if isinstance(content, str) else content

        def send(handler: _Handler, _: Request) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            if status != 204:
                handler.send_header("Content-Type", kind)
                handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)

        return send

    @staticmethod
    def json(data: Any, *, status: int = 200, **headers: str) -> Answer:
        return Script.reply(json.dumps(data), status=status, kind="application/json; charset=utf-8", **headers)

    @staticmethod
    def error(status: int, code: str | None, message: str, details: str | None = None, **headers: str) -> Answer:
        """As PostgREST answers an error."""
        body = {"code": code, "message": message, "details": details, "hint": None}
        return Script.json(body, status=status, **headers)

    @staticmethod
    def computed(function: Callable[[Request], Answer]) -> Answer:
        return lambda handler, request: function(request)(handler, request)

    @staticmethod
    def breaking(sent: bytes = b"") -> Answer:
        """Send ``sent``, then end the connection; without any, reset it."""

        def send(handler: _Handler, _: Request) -> None:
            handler.wfile.write(sent)
            handler.close_connection = True
            with suppress(OSError):
                if sent:
                    handler.connection.shutdown(socket.SHUT_RDWR)
                else:
                    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    handler.connection.close()

        return send

    @staticmethod
    def silent(sent: bytes = b"") -> Answer:
        """Send ``sent`` and then nothing, until the test is over."""

        def send(handler: _Handler, _: Request) -> None:
            handler.wfile.write(sent)
            handler.server.script.over.wait(30)
            handler.close_connection = True

        return send


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A port in which many threads arrive at once.
    request_queue_size = 64
    script: Script

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is what some of the tests ask for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path.rpartition("/")[2], self.path, headers, body, self.client_address)
        self.server.script.take(request)(self, request)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.close()


@pytest.fixture
def connect(script: Script, tmp_path: Path) -> Iterator[Connect]:
    """Make clients of the scripted server; ``token`` is RUNTIME_TOKEN, other options are ``SupabaseRpc``'s."""
    made: list[SupabaseRpc] = []

    def connect(*, token: str = TOKEN, **options: Any) -> SupabaseRpc:
        tokens = TokenKeeper(tmp_path / "token.sealed", env_token=token, bot_id=BOT)
        given: dict[str, Any] = {
            "url": script.url,
            "service_key": SERVICE_KEY,
            "bot_id": BOT,
            "boot_id": "boot-1",
            "tokens": tokens,
        }
        rpc = SupabaseRpc(**(given | options))
        made.append(rpc)
        return rpc

    yield connect
    for rpc in made:
        rpc.close()


@pytest.fixture
def rpc(connect: Connect) -> SupabaseRpc:
    return connect()
