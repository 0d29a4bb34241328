"""One keep-alive connection per server, and an honest word about what became of a request.

The exchange library's own transport costs four times as much per call and tells too little: whoever places an order
must know whether the request can have left. Only a connection that was never made proves that it did not
(``NotSent``); once the first byte may have gone, silence is ``ReplyLost``. Nothing is sent twice, except a question
(GET) over a kept connection that the server had closed before it read it.
"""

from __future__ import annotations

import functools
import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import certifi

from tbh import __version__

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT_S: Final = 3.0
IDLE_MAX_S: Final = 20.0
"""A connection that rested longer is made anew: what stands between may have forgotten it without a word."""

REPLY_BYTES_MAX: Final = 16_000_000

_COMMON: Final = f"User-Agent: tbh/{__version__}\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"


class NotSent(Exception):
    """No connection was made: the request did not leave."""


class ReplyLost(Exception):
    """The request may have arrived; no whole reply came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


class Wire:
    """Asks servers, each over one connection. For one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[socket.socket, float]] = {}

    def ask(self, method: str, url: str, *, headers: Mapping[str, str], body: str | None, until_s: float) -> Answer:
        """Send one request and read its reply, all before ``until_s`` (``time.monotonic``). ``NotSent``, ``ReplyLost``.

        ``url`` is absolute and encoded already; ``headers`` hold no line breaks.
        """
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        data = b"" if body is None else body.encode()
        length = "" if body is None else f"Content-Length: {len(data)}\r\n"
        request = f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{_COMMON}{lines}{length}\r\n".encode() + data
        origin = f"{scheme}://{host}"
        kept = self._take(origin)
        if kept is not None:
            reply = _Reply(kept, until_s)
            try:
                return self._exchange(origin, reply, method, request)
            except ReplyLost:
                # A server that closed an idle connection has not answered a byte; to ask again changes nothing there.
                if method != "GET" or reply.received or time.monotonic() >= until_s:
                    raise
        return self._exchange(origin, _Reply(_connect(scheme, host, until_s), until_s), method, request)

    def close(self) -> None:
        while self._kept:
            _, (connection, _) = self._kept.popitem()
            connection.close()

    def _take(self, origin: str) -> socket.socket | None:
        found = self._kept.pop(origin, None)
        if found is None:
            return None
        connection, since_s = found
        # Nothing is owed to us on a resting connection: if there is something to read, it is the end of it.
        if time.monotonic() - since_s > IDLE_MAX_S or _readable(connection):
            connection.close()
            return None
        return connection

    def _exchange(self, origin: str, reply: _Reply, method: str, request: bytes) -> Answer:
        keep = False
        connection = reply.connection
        try:
            connection.settimeout(max(reply.until_s - time.monotonic(), 0.001))
            connection.sendall(request)
            response = http.client.HTTPResponse(reply, method=method)  # type: ignore[arg-type]  # all it asks is makefile
            response.begin()
            text = response.read().decode(errors="replace")
            keep = not response.will_close
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=headers, text=text)
        except (OSError, http.client.HTTPException) as error:
            raise ReplyLost(f"{type(error).__name__} {error}".rstrip()) from error
        finally:
            if keep:
                self._kept[origin] = (connection, time.monotonic())
            else:
                connection.close()


class _Reply(io.RawIOBase):
    """A reply's bytes as far as they come in time and in reason: a time-out of each read alone would let a server that
    sends a byte now and then keep its caller for ever."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self.connection = connection
        self.until_s = until_s
        self.received = 0

    def readable(self) -> bool:
        return True

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readinto(self, buffer: WriteableBuffer) -> int:
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the reply did not end in time")
        self.connection.settimeout(left_s)
        count = self.connection.recv_into(buffer)
        self.received += count
        if self.received > REPLY_BYTES_MAX:
            raise OSError(f"a reply of more than {REPLY_BYTES_MAX} bytes")
        return count


def _connect(scheme: str, host: str, until_s: float) -> socket.socket:
    left_s = min(until_s - time.monotonic(), CONNECT_TIMEOUT_S)
    if left_s <= 0:
        raise NotSent("no time was left to connect")
    name, port = _address(scheme, host)
    try:
        connection = socket.create_connection((name, port), timeout=left_s)
    except OSError as error:
        raise NotSent(f"{type(error).__name__} {error}") from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _tls().wrap_socket(connection, server_hostname=name) if scheme == "https" else connection
    except OSError as error:
        connection.close()
        raise NotSent(f"{type(error).__name__} {error}") from error


def _address(scheme: str, host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        return host.strip("[]"), 443 if scheme == "https" else 80
    return name.strip("[]"), int(port)


def _readable(connection: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(0))


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes an eighth of a second and 4 MB."""
    return ssl.create_default_context(cafile=certifi.where())
