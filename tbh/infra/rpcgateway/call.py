"""The transaction around one call."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psycopg

from tbh.infra.rpcgateway.auth import Caller
from tbh.infra.rpcgateway.binding import Function, search_path, statement
from tbh.infra.rpcgateway.errors import Headers, HttpError, connection_lost, from_postgres, header_fields
from tbh.infra.rpcgateway.exchange import Link, Statement
from tbh.infra.rpcgateway.request import OBJECT_TYPE, Request

SERIALIZATION_FAILURE = "40001"
# PostgREST up to version 15 runs a call again for as long as it fails to serialise. A conflict passes after one or two
# runs; a function that raises 40001 to say no would never end there, and must show here as the error it is.
RUNS_MAX = 4
COMMIT = Statement("commit")
ROLLBACK = Statement("rollback")


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is JSON as PostgreSQL wrote it, None for a function that returns nothing."""

    status: int
    headers: Headers
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that has found its function and its caller. ``role_settings`` are the role's own (ALTER ROLE SET)."""

    request: Request
    function: Function
    caller: Caller
    media_type: str
    role_settings: tuple[tuple[str, str], ...]
    extra_search_path: tuple[str, ...]
    rows_max: int

    @property
    def singular(self) -> bool:
        return self.media_type == OBJECT_TYPE

    def begin(self) -> Statement:
        read_only = self.request.read_only or not self.function.volatile
        return Statement(
            f"begin isolation level {self.function.isolation} {'read only' if read_only else 'read write'}"
        )

    def settings(self) -> Statement:
        """One select that makes the request's settings local to the transaction, the role after its own settings."""
        request = self.request
        pairs = (
            ("search_path", search_path((request.schema, *self.extra_search_path))),
            *self.role_settings,
            ("role", self.caller.role),
            ("request.jwt.claims", self.caller.claims),
            ("request.method", request.method),
            ("request.path", request.path),
            ("request.headers", json.dumps(request.headers)),
            ("request.cookies", json.dumps(request.cookies)),
            *self.function.settings,
        )
        calls = ", ".join(f"set_config(${n}, ${n + 1}, true)" for n in range(1, 2 * len(pairs), 2))
        return Statement(f"select {calls}", [text for pair in pairs for text in pair])

    def statement(self) -> Statement:
        arguments = self.request.arguments
        sql = statement(
            self.function,
            arguments.keys,
            is_array=arguments.is_array,
            as_text=arguments.as_text,
            rows_max=self.rows_max,
        )
        return Statement(sql, [arguments.text] if "$1" in sql else [])

    async def run(self, link: Link, *, anonymous: bool) -> Answer:
        """The answer once the transaction is committed. ``HttpError`` when it isn't; then nothing was written.

        The one exception is a lost connection (503 PGRST001): the database may have committed before.
        """
        for run in range(1, RUNS_MAX + 1):
            try:
                return await self._run_once(link)
            except psycopg.Error as error:
                await _roll_back(link)
                if error.sqlstate != SERIALIZATION_FAILURE or run == RUNS_MAX:
                    raise from_postgres(error, anonymous=anonymous) from error
        raise AssertionError("the last run either answers or raises")

    async def _run_once(self, link: Link) -> Answer:
        statements = [self.begin(), self.settings(), self.statement()]
        # One object is committed only when it is one; everything else goes in a single exchange.
        results = await link.exchange(statements if self.singular else [*statements, COMMIT])
        body, rows, headers, status = (results[2].get_value(0, column) for column in range(4))
        if self.singular:
            if (count := int(rows or b"0")) != 1:
                await link.exchange([ROLLBACK])
                raise _not_singular(count)
            await link.exchange([COMMIT])
            if self.function.returns_set and body is not None:
                body = body.strip()[1:-1]
        return _answer(self.function, body, headers, status, self.media_type)


async def _roll_back(link: Link) -> None:
    """Leaves the connection fit for the next call; one that is lost rolls back by itself."""
    if link.in_transaction:
        try:
            await link.exchange([ROLLBACK])
        except psycopg.Error as error:
            raise connection_lost() from error


def _answer(
    function: Function, body: bytes | None, headers: bytes | None, status: bytes | None, media_type: str
) -> Answer:
    """The default answer, with what the function has set in ``response.headers`` and ``response.status``."""
    chosen = 204 if function.void else 200
    if status:
        if not status.isdigit() or not 200 <= int(status) <= 599:
            raise HttpError(500, "PGRST112", "response.status guc must be a valid status code")
        chosen = int(status)
    fields = _response_headers(headers)
    if not function.void and all(name.lower() != "content-type" for name, _ in fields):
        fields = (("Content-Type", f"{media_type}; charset=utf-8"), *fields)
    return Answer(chosen, fields, None if function.void else body)


def _response_headers(text: bytes | None) -> Headers:
    """From ``[{"Name": "value"}, ...]``, which is how a function says them."""
    if not text:
        return ()
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        rows = None
    fields = [header_fields(row) for row in rows] if isinstance(rows, list) else [None]
    if any(field is None or len(field) != 1 for field in fields):
        message = "response.headers guc must be a JSON array composed of objects with a single key and a string value"
        raise HttpError(500, "PGRST111", message)
    return tuple(pair for field in fields for pair in field or ())


def _not_singular(rows: int) -> HttpError:
    details = f"The result contains {rows} rows"
    return HttpError(406, "PGRST116", "Cannot coerce the result to a single JSON object", details)
