"""One function call over HTTP, on the Supabase client's own part for it (``postgrest``).

Of the client that part alone is imported: ``supabase`` would add sign-in, storage and live channels, for which a bot
has no use, at 13 MB of memory and an eighth of a second of its start.

One HTTP/1.1 client serves every thread; HTTP/2 connections of httpx break when they are shared.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
from postgrest import APIError, SyncPostgrestClient

from tbh.infra.codec import CodecError, json_text
from tbh.infra.redact import SECRET_LENGTH_MIN, register_secret
from tbh.infra.supabase_errors import EXIT_CONFIGURATION, bad_reply, failure_of_answer, failure_of_wire
from tbh.ports import Fatal, Rejected, Unavailable

READ_TIMEOUT_S = 5.0
REPLY_BYTES_MAX = 16_000_000
"""Far above anything that a function of ours tells."""

CONNECT_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 16
IDLE_CONNECTION_S = 30.0

_HEADER = re.compile(r"[!-~]+")


class FunctionClient:
    """Calls functions of the project at ``url`` (without ``/rest/v1``). Safe to use from any thread.

    ``Fatal(78)`` for a key that no header can carry.
    """

    def __init__(self, url: str, *, service_key: str, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        _check_header("SUPABASE_SERVICE_ROLE_KEY", service_key)
        register_secret(service_key)
        self._base_url = url.rstrip("/") + "/rest/v1"
        self._keys = {"apikey": service_key, "Authorization": f"Bearer {service_key}"}
        self._read_timeout_s = read_timeout_s
        self._seen = threading.local()
        self._http = _http_client(url, read_timeout_s, self._see)
        self._lock = threading.Lock()
        self._client: tuple[dict[str, str], SyncPostgrestClient] | None = None

    def close(self) -> None:
        """Close the connections; calls after that are ``Unavailable('closed')``."""
        self._http.close()

    def call(self, fn: str, args: Mapping[str, Any], *, headers: Mapping[str, str]) -> Any:
        """What ``fn`` answers, as JSON. It is sent once.

        Raises a failure of ``tbh.ports`` (``tbh/infra/supabase_errors.py`` has the table), and ``Rejected`` before
        anything is sent for arguments that are no JSON.
        """
        try:
            json_text(args)
        except CodecError as error:
            raise Rejected("payload_invalid", detail=f"{fn}: {error}") from error
        seen = self._seen
        seen.status = seen.retry_after = None
        seen.empty = False
        try:
            data = self._client_with(headers).rpc(fn, dict(args)).execute().data
        except httpx.RequestError as error:
            raise failure_of_wire(error, fn=fn) from error
        except APIError as error:
            raise failure_of_answer(error, fn=fn, status=seen.status, retry_after=seen.retry_after) from error
        except UnicodeEncodeError as error:
            raise Rejected("payload_invalid", detail=f"{fn}: text that is no Unicode ({error.reason})") from error
        except (ValueError, RecursionError) as error:
            raise bad_reply(fn, f"unreadable ({type(error).__name__})") from error
        except RuntimeError as error:
            if self._http.is_closed:
                raise Unavailable("closed", detail=f"{fn}: this connection was closed") from error
            raise
        if seen.empty:
            raise bad_reply(fn, f"HTTP {seen.status} without a body")
        return data

    def _client_with(self, headers: Mapping[str, str]) -> SyncPostgrestClient:
        """The client that sends ``headers``; a call that is under way keeps those with which it began."""
        with self._lock:
            if self._client is None or self._client[0] != headers:
                made = SyncPostgrestClient(
                    self._base_url,
                    headers={**self._keys, **headers},
                    http_client=self._http,
                    retry_enabled=False,
                )
                self._client = dict(headers), made
            return self._client[1]

    def _see(self, response: httpx.Response) -> None:
        """Keep for the calling thread what the client would lose of a response."""
        self._seen.status = response.status_code
        self._seen.retry_after = response.headers.get("retry-after")
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Bounded(response.stream, until_s=time.monotonic() + self._read_timeout_s)
        self._seen.empty = not response.read()


class _Bounded(httpx.SyncByteStream):
    """A reply's body, as far as it comes in time and in reason: a time-out of each read alone would let a server that
    sends a byte now and then keep its caller for ever."""

    def __init__(self, body: httpx.SyncByteStream, *, until_s: float) -> None:
        self._body = body
        self._until_s = until_s

    def __iter__(self) -> Iterator[bytes]:
        left = REPLY_BYTES_MAX
        for part in self._body:
            left -= len(part)
            if left < 0:
                raise httpx.ReadError(f"a reply of more than {REPLY_BYTES_MAX} bytes")
            if time.monotonic() > self._until_s:
                raise httpx.ReadTimeout("the reply did not end in time")
            yield part

    def close(self) -> None:
        self._body.close()


def _http_client(url: str, read_timeout_s: float, see: Callable[[httpx.Response], None]) -> httpx.Client:
    encrypted = url.lower().startswith("https:")
    return httpx.Client(
        http2=False,
        # Without TLS no certificates are read: 4 MB, and an eighth of a second. A redirect to TLS would trust nobody.
        verify=True if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        # A proxy of the environment would see the keys of an address without TLS.
        trust_env=encrypted,
        timeout=httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_CONNECTION_S,
        ),
        event_hooks={"response": [see]},
    )


def _check_header(name: str, value: str) -> None:
    if not _HEADER.fullmatch(value) or len(value) < SECRET_LENGTH_MIN:
        raise Fatal(
            "setting_unusable",
            exit_code=EXIT_CONFIGURATION,
            detail=f"{name} is not a key that a header can carry; copy it again",
        )
