"""A server on loopback that answers what it is told to, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

WITHIN_S = 5.0
Script = Callable[[str, str, dict[str, str]], bytes | None]


def reply(body: Any, *, status: int = 200, **headers: str) -> bytes:
    """A whole reply; ``body`` is JSON unless it is text. Header names have underscores for dashes."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(data)}\r\n{lines}\r\n".encode() + data


class ScriptedServer:
    """``script`` is asked with method, path and parameters; None ends the connection without a word."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.asked]

    def hang_up(self) -> None:
        """End every connection that is open."""
        while self._open:
            end(self._open.pop())

    def close(self) -> None:
        end(self._listener)
        self.hang_up()
        self._thread.join(WITHIN_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while line := stream.readline():
                    said = self._answer(line.decode(), stream)
                    if said is None:
                        end(connection)
                        return
                    connection.sendall(said)
            except (OSError, ValueError):
                return  # gone, or it does not speak HTTP

    def _answer(self, line: str, stream: Any) -> bytes | None:
        method, target, _ = line.split()
        headers = {}
        while (header := stream.readline().decode().strip()) != "":
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", "0"))).decode()
        path, _, query = target.partition("?")
        params = dict(parse_qsl(query) + parse_qsl(body))
        self.asked.append((method, path, params))
        return self.script(method, path, params)


def end(connection: socket.socket) -> None:
    """Close it so that whoever waits on it hears of it at once."""
    with contextlib.suppress(OSError):  # nobody was connected
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    server = ScriptedServer(script)
    try:
        yield server
    finally:
        server.close()
