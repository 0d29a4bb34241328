"""The operator's side of the database: its functions over HTTP, with an operator token instead of a bot's.

A command makes a call or two and ends, so this speaks to ``/rest/v1/rpc`` with httpx alone: the supabase client would
take longer to import than the call takes. Nothing is ever repeated here, since only the caller knows what a repeat
would do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from tbh.infra.redact import SECRET_LENGTH_MIN, register_secret
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable, Unknown

EXIT_TOKEN_REFUSED = 77
EXIT_CONFIGURATION = 78

TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 3.0
RETRY_AFTER_S = 5.0
"""How long to stay away when a server is too busy and does not say for how long."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_NOT_SERVED = ("PGRST000", "PGRST002", "PGRST003")
"""The gateway has no connection to its database, or doesn't know it yet; with PGRST001 one broke while in use."""

_CONTENT_CLASSES = ("22", "23", "PGRST1")
"""A value that no cast or constraint takes, a body that is not understood."""

_CODE_LENGTH_MAX = 12


class OperatorRpc:
    """One operator at one database. Not for use by several threads at once; close it, or use it in a ``with``."""

    def __init__(
        self,
        *,
        url: str,
        service_key: str,
        operator_token: str,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        for secret in (service_key, operator_token):
            if len(secret) >= SECRET_LENGTH_MIN:
                register_secret(secret)
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=f"{self.url}/rest/v1/rpc/",
            headers={
                "apikey": service_key,
                "authorization": f"Bearer {service_key}",
                "x-operator-token": operator_token,
                "content-type": "application/json",
                "accept": "application/json",
            },
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            http2=False,
            transport=transport,
        )

    def call(self, fn: str, **arguments: Any) -> dict[str, Any]:
        """The object that ``fn`` returns. ``arguments`` are its own, named without their ``p_``, in JSON types.

        ``Rejected`` with the database's stable word when it said no, ``Unavailable`` when the call provably did not
        arrive, ``Defer`` when the server is too busy, ``Unknown`` when nobody knows whether it was carried out;
        ``Fatal`` 77 for an operator token that is refused, 78 for a wrong service key, address, or missing migrations.
        """
        try:
            body = json.dumps({f"p_{name}": value for name, value in arguments.items()}, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise Rejected("payload_invalid", detail=f"{fn}: not JSON: {error}") from error
        try:
            reply = self._client.post(fn, content=body)
        except _NOT_SENT as error:
            raise Unavailable("database_unreachable", detail=f"{self.url}: {_reason(error)}") from error
        except httpx.RequestError as error:
            raise Unknown("reply_lost", detail=f"{self.url}: {_reason(error)}") from error
        try:
            told = reply.json()
        except (ValueError, RecursionError):
            told = None
        if not reply.is_success:
            raise failure_of(reply, told if isinstance(told, dict) else {})
        if not isinstance(told, dict):
            raise Unknown("bad_reply", detail=f"{self.url}: {fn} answered {reply.status_code} without a JSON object")
        return told

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_url(text: str) -> str:
    """``text`` when it can be the database's address, else ``ValueError`` with what is wrong."""
    try:
        url = urlsplit(text)
        sound = text.isprintable() and " " not in text and url.scheme in ("http", "https") and bool(url.hostname)
        sound = sound and (url.port is None or url.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("is not an http(s) address; it looks like https://PROJECT.supabase.co")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("must be an address alone, without a user, a query or a fragment")
    return text


def failure_of(reply: httpx.Response, told: Mapping[str, Any]) -> Failure:
    """What a reply other than 2xx means; ``told`` is its JSON object, empty when it had none."""
    status = reply.status_code
    code, word, detail = (_text(told.get(name)) for name in ("code", "message", "details"))
    if code == "PT401" and word == "operator_token_invalid":
        return Fatal(word, exit_code=EXIT_TOKEN_REFUSED, detail=detail)
    if code == "PT403" and word == "role_too_low":
        return Fatal(word, exit_code=EXIT_TOKEN_REFUSED, detail=detail)
    if code.startswith("PT4"):
        return Rejected(word, detail=detail)
    if code == "42501":
        return Fatal("not_the_service_key", exit_code=EXIT_CONFIGURATION, detail=word)
    if status == httpx.codes.UNAUTHORIZED:
        return Fatal("service_key_refused", exit_code=EXIT_CONFIGURATION, detail=word)
    if code in ("PGRST106", "PGRST202", "PGRST203"):
        return Fatal("migrations_missing", exit_code=EXIT_CONFIGURATION, detail=word)
    if code in _NOT_SERVED:
        return Unavailable("database_unreachable", detail=word or code)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Defer("rate_limited", after_s=_retry_after_s(reply), detail=word)
    if code and status < httpx.codes.INTERNAL_SERVER_ERROR:
        # PostgreSQL's own refusal, or the gateway's before it: whatever had been done was rolled back.
        refused = "payload_invalid" if code.startswith(_CONTENT_CLASSES) else "refused"
        return Rejected(refused, detail=f"{code[:_CODE_LENGTH_MAX]} {word}".rstrip())
    return Unknown("bad_reply", detail=f"{status} {word or reply.reason_phrase}".rstrip())


def _retry_after_s(reply: httpx.Response) -> float:
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 6 else RETRY_AFTER_S


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__
