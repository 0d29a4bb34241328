"""Connections to the database that are known to be alive when a call gets one.

psycopg's own pool checks a connection by a query, which costs a round trip per call, or heals with growing pauses after
the server was away. An idle connection on which PostgreSQL has said anything is finished, and looking at the socket
costs two microseconds: so a call never starts on a connection of a server that is gone, and nothing needs repeating.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from tbh.infra.rpcgateway.errors import no_connection, no_free_connection
from tbh.infra.rpcgateway.exchange import PATIENCE_S, Connection, Link

CONNECT_TIMEOUT_S = 1.5
ACQUIRE_TIMEOUT_S = 2.0


class Pool:
    """At most ``connections_max`` connections, opened when needed, the last used one first; each waits ``patience_s``
    for an answer."""

    def __init__(self, dsn: str, *, connections_max: int, patience_s: float = PATIENCE_S) -> None:
        self._dsn = dsn
        self._patience_s = patience_s
        self._free = asyncio.Semaphore(connections_max)
        self._idle: list[Link] = []

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        """A live connection outside any transaction. ``HttpError`` 503 or 504 within four seconds without one."""
        try:
            await asyncio.wait_for(self._free.acquire(), ACQUIRE_TIMEOUT_S)
        except TimeoutError:
            raise no_free_connection() from None
        try:
            link = await self._alive() or Link(await connect(self._dsn), self._patience_s)
            try:
                yield link
            finally:
                await self._put_back(link)
        finally:
            self._free.release()

    async def _alive(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not _has_spoken(link.connection):
                return link
            await link.connection.close()
        return None

    async def _put_back(self, link: Link) -> None:
        # Whatever is not between two transactions was interrupted; closing it is what rolls back for certain.
        if link.usable:
            self._idle.append(link)
        else:
            await link.connection.close()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().connection.close()


async def connect(dsn: str) -> Connection:
    """A new connection in autocommit. ``HttpError`` 503 when there is none to be had."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await psycopg.AsyncConnection.connect(
                dsn, autocommit=True, cursor_factory=psycopg.AsyncRawCursor, client_encoding="UTF8"
            )
    except (psycopg.OperationalError, TimeoutError) as error:
        raise no_connection() from error


def _has_spoken(connection: Connection) -> bool:
    """Whether the server has sent something (a farewell, an end of file) since the last call."""
    if connection.closed:
        return True
    watch = select.poll()
    watch.register(connection.pgconn.socket, select.POLLIN)
    return bool(watch.poll(0))
