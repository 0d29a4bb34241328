"""HTTP/1.1 on loopback, by hand, so that a reply can be anything: lost, cut short, late, or no JSON at all.

Connections stay open between requests, as Binance's do. One event loop serves them all, so what a request does to the
book happens at one instant between two others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_BODY_MAX = 1_000_000
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 418: "I'm a teapot"}
_REASONS |= {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``signed`` is the text that a signature covers: query and body, as they came."""

    method: str
    path: str
    params: dict[str, str]
    signed: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; empty when there is none. Raises ``ValueError``."""
        value = json.loads(self.body) if self.body else {}
        if not isinstance(value, dict):
            raise ValueError("the body is no JSON object")
        return value


@dataclass(slots=True, kw_only=True)
class Reply:
    """``body`` is sent as it is when it is bytes, else as JSON. ``cut`` ends the connection in the middle of it."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class Lost(Exception):
    """The connection ends without a reply."""


Handler = Callable[[Request], Awaitable[Reply]]


class Wire:
    """Serves ``handler``; ``Lost`` raised by it closes the connection."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def listen(self, port: int) -> int:
        """Begin to serve on 127.0.0.1; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_BODY_MAX)
        name: tuple[str, int] = self._server.sockets[0].getsockname()
        return name[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                reply = await self._handler(request)
                writer.write(_encoded(reply))
                await writer.drain()
                if reply.cut:
                    break
        except (Lost, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client sees its connection end, which is all that there is to tell it
        except asyncio.CancelledError:
            pass  # by ``close``; nobody waits for this task's own word, and asyncio would print its cancellation
        finally:
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the client has closed. Raises ``ValueError`` for what is no HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _BODY_MAX:
        raise ValueError(f"a body of {length} bytes")
    body = await reader.readexactly(length)
    parts = urlsplit(target)
    form = body.decode() if "urlencoded" in headers.get("content-type", "") else ""
    return Request(
        method=method,
        path=parts.path,
        params=dict(parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True)),
        signed=parts.query + form,
        headers=headers,
        body=body,
    )


def _encoded(reply: Reply) -> bytes:
    raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body, separators=(",", ":")).encode()
    kind = "text/html" if raw.startswith(b"<") else "application/json;charset=UTF-8"
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {len(raw)}", *(f"{name}: {value}" for name, value in reply.headers.items())]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head + (raw[: len(raw) // 2] if reply.cut else raw)
