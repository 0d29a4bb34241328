"""HTTP in, HTTP out: the ASGI application.

Headers hold keys and tokens; nothing here logs them, and an access log gets the function's name and the status alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import psycopg

from tbh.infra.rpcgateway.auth import Authenticator
from tbh.infra.rpcgateway.binding import Catalogue, Function, read_catalogue
from tbh.infra.rpcgateway.call import Answer, Call
from tbh.infra.rpcgateway.errors import FIELD_NAME, HttpError, connection_lost
from tbh.infra.rpcgateway.exchange import PATIENCE_S
from tbh.infra.rpcgateway.pool import Pool, connect
from tbh.infra.rpcgateway.request import Request, read_headers, read_request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES_MAX = 2_097_152
RELOAD_PAUSE_S = 1.0
LISTEN_PAUSE_S = 0.5


class App:
    """``before_reply`` is asked with the function's name after the commit; False loses the reply, not the call."""

    def __init__(
        self,
        *,
        dsn: str,
        authenticator: Authenticator,
        schemas: Sequence[str],
        extra_search_path: Sequence[str],
        connections_max: int,
        rows_max: int,
        access_log: Callable[[str], None] | None,
        before_reply: Callable[[str], bool] | None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._dsn = dsn
        self._authenticator = authenticator
        self._schemas = tuple(schemas)
        self._extra_search_path = tuple(extra_search_path)
        self._rows_max = rows_max
        self._access_log = access_log
        self._before_reply = before_reply
        self._pool = Pool(dsn, connections_max=connections_max, patience_s=patience_s)
        self._catalogue: Catalogue | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            answer = await self._answer(scope, receive)
        except HttpError as error:
            answer = _error_answer(error)
        else:
            if self._before_reply is not None and not self._before_reply(_function_name(scope)):
                scope["state"]["drop"]()
                await receive()
                return
        await _reply(answer, send)
        if self._access_log is not None:
            elapsed_ms = (time.perf_counter() - began) * 1000
            self._access_log(f"{scope['method']} {_function_name(scope)} {answer.status} {elapsed_ms:.1f} ms")

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        headers = read_headers(scope["headers"])
        caller = self._authenticator.caller(headers)
        request = read_request(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"],
            headers=headers,
            body=await _body(receive),
            schemas=self._schemas,
        )
        function, catalogue = await self._function(request)
        call = Call(
            request=request,
            function=function,
            caller=caller,
            media_type=request.media_type(),
            role_settings=catalogue.role_settings.get(caller.role, ()),
            extra_search_path=self._extra_search_path,
            rows_max=self._rows_max,
        )
        async with self._pool.link() as link:
            return await call.run(link, anonymous=caller.role == self._authenticator.anon_role)

    async def _function(self, request: Request) -> tuple[Function, Catalogue]:
        """A miss reads the catalogue again, at most once a second, so that a notification that was lost heals."""
        catalogue = self._catalogue or await self.read_catalogue(since=0.0)
        try:
            return catalogue.function(request), catalogue
        except HttpError:
            since = time.monotonic() - RELOAD_PAUSE_S
            if self._read_at >= since:
                raise
        catalogue = await self.read_catalogue(since=since)
        return catalogue.function(request), catalogue

    async def read_catalogue(self, *, since: float) -> Catalogue:
        """The catalogue as it was at the monotonic time ``since`` or later; many who ask share one reading."""
        async with self._reading:
            if self._catalogue is None or self._read_at < since:
                now = time.monotonic()
                async with self._pool.link() as link:
                    try:
                        async with asyncio.timeout(link.patience_s):
                            self._catalogue = await read_catalogue(link.connection, self._schemas)
                    except (psycopg.Error, TimeoutError) as error:
                        raise connection_lost() from error
                self._read_at = now
            return self._catalogue

    async def listen(self) -> None:
        """Reads the catalogue again whenever somebody notifies ``pgrst``, and whenever the connection is back."""
        while True:
            try:
                connection = await connect(self._dsn)
                try:
                    await connection.execute("listen pgrst")
                    await self.read_catalogue(since=time.monotonic())
                    async for _ in connection.notifies():
                        await self.read_catalogue(since=time.monotonic())
                finally:
                    await connection.close()
            except (HttpError, psycopg.Error):
                # The server is away: calls say so themselves, this only waits for it.
                await asyncio.sleep(LISTEN_PAUSE_S)

    async def close(self) -> None:
        await self._pool.close()


def _function_name(scope: Mapping[str, Any]) -> str:
    """For the log; a dash for what could break its line."""
    name: str = scope["path"].rpartition("/")[2]
    return name if name.isidentifier() else "-"


async def _body(receive: Receive) -> bytes:
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise HttpError(413, "413", f"The request's body is larger than {BODY_BYTES_MAX} bytes")
        more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            # Half a body must not be taken for a whole one.
            raise HttpError(400, "PGRST102", "Empty or invalid json")
    return b"".join(chunks)


def _error_answer(error: HttpError) -> Answer:
    headers = [("Content-Type", "application/json; charset=utf-8"), *error.headers]
    if FIELD_NAME.fullmatch(error.code):
        headers.append(("Proxy-Status", f"PostgREST; error={error.code}"))
    return Answer(error.status, tuple(headers), error.body())


async def _reply(answer: Answer, send: Send) -> None:
    body = answer.body or b""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(body)).encode()))
    else:
        body = b""
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
