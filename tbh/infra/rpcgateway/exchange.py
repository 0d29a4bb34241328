"""Several statements sent to PostgreSQL together and answered together: one round trip.

This is libpq's pipeline mode without psycopg's cursors around it, which would cost more than the call itself. An error
makes PostgreSQL skip every statement behind it, up to the end of the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Connection = psycopg.AsyncConnection[tuple[object, ...]]

# Longer than any statement may take (8 s, by the role's setting): a server that says nothing by then has stopped.
PATIENCE_S = 12.0

# Each one costs PostgreSQL some kilobytes a connection. What comes after these is planned anew each time.
PREPARED_MAX = 200


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with ``$1`` and so on for ``values``, which are sent as text."""

    sql: str
    values: Sequence[str] = ()

    def encoded(self) -> list[bytes]:
        if any("\x00" in value for value in self.values):
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return [value.encode() for value in self.values]


@dataclass(slots=True)
class Link:
    """A connection, and the statements that it knows by name. ``patience_s`` is how long an answer may take."""

    connection: Connection
    patience_s: float = PATIENCE_S
    prepared: dict[str, bytes] = field(default_factory=dict)
    named: int = 0

    @property
    def usable(self) -> bool:
        """Whether it is between two transactions, and nothing of a former exchange is under way."""
        return self.connection.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def in_transaction(self) -> bool:
        return self.connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    async def exchange(self, statements: Sequence[Statement]) -> list[PGresult]:
        """One result a statement. Raises the first error (``psycopg.Error``), after which a rollback may be due; a
        server that does not answer in time counts as lost.

        ``psycopg.DataError`` without a SQLSTATE: text that PostgreSQL can't hold, and nothing was sent.
        """
        encoded = [(statement.sql, statement.encoded()) for statement in statements]
        pgconn = self.connection.pgconn
        pgconn.enter_pipeline_mode()
        new: dict[int, tuple[str, bytes]] = {}
        sent = 0
        for sql, values in encoded:
            if (name := self.prepared.get(sql)) is None and len(self.prepared) < PREPARED_MAX:
                self.named += 1
                name = b"tbh_%d" % self.named
                pgconn.send_prepare(name, sql.encode())
                new[sent] = sql, name
                sent += 1
            if name is None:
                pgconn.send_query_params(sql.encode(), values)
            else:
                pgconn.send_query_prepared(name, values)
            sent += 1
        pgconn.pipeline_sync()
        try:
            async with asyncio.timeout(self.patience_s):
                results = await _results(pgconn)
        except TimeoutError:
            raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s") from None
        self.prepared |= {
            sql: name for place, (sql, name) in new.items() if results[place].status == ExecStatus.COMMAND_OK
        }
        pgconn.exit_pipeline_mode()
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, "utf-8")
        return [result for place, result in enumerate(results) if place not in new]


async def _results(pgconn: PGconn) -> list[PGresult]:
    """Everything up to the end of the exchange. A lost connection is raised as the server's farewell, or as itself."""
    results: list[PGresult] = []
    while True:
        await _ready(pgconn.socket, unsent=bool(pgconn.flush()))
        try:
            pgconn.consume_input()
        except psycopg.OperationalError as error:
            raise _farewell(pgconn, results) or error from None
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:  # what stands between the results of two statements
                if pgconn.status == ConnStatus.BAD:
                    raise _farewell(pgconn, results) or psycopg.OperationalError("the connection is lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return results
            else:
                results.append(result)


def _farewell(pgconn: PGconn, results: list[PGresult]) -> psycopg.Error | None:
    """What the server said last: it is read together with the end of the connection, and not parsed by then."""
    ends = 0
    while ends < 2:  # one end stands behind each statement's results, two in a row mean that there is nothing more
        result = pgconn.get_result()
        ends = 0 if result is not None else ends + 1
        if result is not None:
            results.append(result)
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR and result.error_field(DiagnosticField.SQLSTATE):
            return error_from_result(result, "utf-8")
    return None


async def _ready(fileno: int, *, unsent: bool) -> None:
    """Waits until the server has said something, or takes what has not been sent yet."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fileno, wake)
    if unsent:
        loop.add_writer(fileno, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fileno)
        loop.remove_writer(fileno)
