"""A connection to an exchange through the ccxt library: its endpoints and signing, our transport, clock and verdicts.

The library's object makes and signs the request; ``ccxt_http`` carries it; what comes back is judged here, so that
nothing but the failures of ``tbh.ports`` leaves this module. Nothing is sent twice. The library's own pause between
requests (up to 0.2 s before each, orders included) is off: ``Budget`` keeps the account by what the exchange says.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from tbh.domain.money import dec
from tbh.infra.ccxt_budget import Budget, pause_s
from tbh.infra.ccxt_clock import ExchangeClock, process_s
from tbh.infra.ccxt_errors import ClockOff, Verdict, bad_reply, failure_of, one_line, verdict_of
from tbh.infra.ccxt_http import Answer, NotSent, ReplyLost, Wire
from tbh.infra.ccxt_library import library
from tbh.infra.ccxt_shapes import Params, Venue
from tbh.infra.redact import SECRET_LENGTH_MIN, register_secret
from tbh.ports import Failure, Fatal, Unavailable, Unknown

READ_TIMEOUT_S: Final = 10.0

_CREDENTIAL = re.compile(r"[!-~]+")
_OURS: Final = ("reserved",)
_NOT_FROM_OPTIONS: Final = frozenset(
    {"apiKey", "secret", "password", "uid", "login", "privateKey", "walletAddress", "token", "twofa"}
)
_NO_PROXY: Final = re.compile(r"(?i).*prox(y|ies).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A bot's exchange options: what the library's constructor takes, and what is ours."""

    ccxt: Mapping[str, Any]
    reserved: Mapping[str, Decimal]
    api_url: str | None
    receive_window_s: float


def read_options(venue: Venue, options: Mapping[str, Any]) -> Settings:
    """Check the exchange options of a bot row. ``Fatal(78)`` names the first that can't be used."""
    for name in options:
        if name in _NOT_FROM_OPTIONS:
            raise _unusable(name, "credentials are stored sealed, with `tbh bot create`, never in the options")
        if _NO_PROXY.fullmatch(name):
            raise _unusable(name, "exchanges are reached directly; a proxy belongs into the network around the bot")
    config = {name: value for name, value in options.items() if name not in _OURS}
    urls = dict(_mapping(config, "urls"))
    api = urls.get("api")
    if isinstance(api, str):
        del urls["api"]
        if urlsplit(api).scheme not in ("http", "https") or not urlsplit(api).netloc:
            raise _unusable("urls.api", "an address as http://127.0.0.1:8000 is needed")
    own = {**venue.ccxt_options, **_mapping(config, "options"), "maxRetriesOnFailure": 0}
    window_ms = own.get("recvWindow", int(venue.receive_window_s * 1000))
    if isinstance(window_ms, bool) or not isinstance(window_ms, int) or not 100 <= window_ms <= 60_000:
        raise _unusable("options.recvWindow", "whole milliseconds within 100 and 60000 are needed")
    own["recvWindow"] = window_ms
    return Settings(
        ccxt={**config, "urls": urls, "options": own, "enableRateLimit": False},
        reserved=_reserved(_mapping(options, "reserved")),
        api_url=api.rstrip("/") if isinstance(api, str) else None,
        receive_window_s=window_ms / 1000,
    )


class CcxtClient:
    """One connection. Calls from several threads queue up behind each other.

    ``Fatal(78)`` for options or credentials that can't be used. Without credentials only public endpoints answer.
    ``budget`` is shared with the process's other connections to the same exchange; None: it is the only one.
    """

    def __init__(
        self,
        venue: Venue,
        settings: Settings,
        *,
        api_key: str = "",
        api_secret: str = "",
        budget: Budget | None = None,
    ) -> None:
        for name, value in (("EXCHANGE_API_KEY", api_key), ("EXCHANGE_API_SECRET", api_secret)):
            # A key pair's private half is text of several lines; all else travels in a header or is a short secret.
            if value and not _CREDENTIAL.fullmatch(value) and "PRIVATE KEY" not in value:
                raise _unusable(name, "it holds characters that no key has; copy it again")
            if len(value) >= SECRET_LENGTH_MIN:
                register_secret(value)
        self.venue = venue
        self.signs = bool(api_key)
        self.clock = ExchangeClock()
        self._budget = budget or Budget(weight_header=venue.weight_header, weight_max=venue.weight_max)
        self._wire = Wire()
        self._lock = threading.Lock()
        self._until_s = 0.0
        self._closed = False
        self._base_error = library(venue.ccxt_class).base_error
        self._ccxt = _library_object(venue, settings, api_key, api_secret)
        self._ccxt.fetch = self._fetch
        self._ccxt.nonce = lambda: int(self.clock.now_ms())

    def call(self, endpoint: str, params: Params, *, until_s: float, poll: bool = False) -> Any:
        """What the exchange answers, as JSON with exact numbers. ``until_s`` is on ``time.monotonic``.

        Raises the failures of ``tbh.ports`` but ``Fatal``: ``tbh/infra/ccxt_errors.py`` has the table. A ``poll`` may
        be put off when the minute's budget is nearly used up.
        """
        with self._lock:
            if self._closed:
                raise Unavailable("closed", detail=f"{endpoint}: this connection was closed")
            self._budget.check(self._now_ms(), poll=poll)
            if not self.clock.believed or (poll and self.clock.due):
                self._read_clock(until_s)
            try:
                return self._ask(endpoint, params, until_s)
            except ClockOff:
                # Once: a storm of questions about the time would eat the budget.
                self.clock.forget()
                with contextlib.suppress(Failure):  # the next call asks again
                    self._read_clock(until_s)
                raise

    def time_ms(self) -> float:
        """The exchange's time, in milliseconds since 1970."""
        with self._lock:
            if not self.clock.known:
                self._read_clock(time.monotonic() + READ_TIMEOUT_S)
            return self.clock.now_ms()

    def close(self) -> None:
        """Close the connection; calls after that are ``Unavailable('closed')``."""
        self._closed = True
        with self._lock:
            self._wire.close()

    def _now_ms(self) -> float:
        return self.clock.now_ms() if self.clock.known else 0.0

    def _read_clock(self, until_s: float) -> None:
        asked_s = process_s()
        reply = self._ask("time", {}, until_s)
        try:
            server_ms = self.venue.dialect.server_ms(reply)
        except (KeyError, TypeError, ValueError) as error:
            raise bad_reply("time", repr(error)) from error
        self.clock.take(server_ms, asked_s=asked_s, answered_s=process_s())

    def _ask(self, endpoint: str, params: Params, until_s: float) -> Any:
        self._until_s = until_s
        method = getattr(self._ccxt, self.venue.endpoints[endpoint])
        try:
            return method(dict(params))
        except Failure as failure:
            raise _named(failure, endpoint) from failure.__cause__
        except self._base_error as error:
            # Raised before anything was sent: what came from the exchange has been judged in ``_fetch``.
            raise failure_of(verdict_of(error), detail=f"{endpoint}: {one_line(error)}") from error

    def _fetch(self, url: str, method: str = "GET", headers: Any = None, body: str | None = None) -> Any:
        """What the library calls to carry a request that it has signed."""
        try:
            answer = self._wire.ask(method, url, headers=headers or {}, body=body, until_s=self._until_s)
        except NotSent as error:
            raise Unavailable("exchange_unreachable", detail=one_line(error)) from error
        except ReplyLost as error:
            raise Unknown("reply_lost", detail=one_line(error)) from error
        self._budget.hear(answer, self._now_ms())
        try:
            reply = json.loads(answer.text, parse_float=Decimal)
        except (ValueError, RecursionError):
            reply = None
        code, message = _error_in(reply)
        if answer.status == 200 and code is None:
            if reply is None:
                raise Unknown("bad_reply", detail=f"HTTP 200 with {one_line(answer.text[:80])!r}, which is no JSON")
            return reply
        verdict = self._verdict(answer, code, message, reply, (url, method))
        if answer.status in (418, 429) and code != "-1015":
            self._budget.close(pause_s(answer))
        told = f"HTTP {answer.status} {code or ''} {message or answer.text[:200]}"
        raise failure_of(verdict, detail=one_line(told), pause_s=pause_s(answer), status=answer.status)

    def _verdict(self, answer: Answer, code: str | None, message: str, reply: Any, request: tuple[str, str]) -> Verdict:
        if answer.status in (418, 429):
            return Verdict.LIMITED
        for (one, part), verdict in self.venue.texts.items():
            if code == one and part in message:
                return verdict
        if code is not None and code in self.venue.codes:
            return self.venue.codes[code]
        url, method = request[0].partition("?")[0], request[1]
        try:
            self._ccxt.handle_errors(answer.status, "", url, method, answer.headers, answer.text, reply, {}, None)
            self._ccxt.handle_http_status_code(answer.status, "", url, method, answer.text)
        except self._base_error as error:
            return verdict_of(error)
        return Verdict.UNKNOWN


def _named(failure: Failure, endpoint: str) -> Failure:
    """The failure, saying which call it was."""
    failure.detail = f"{endpoint}: {failure.detail}"
    failure.args = (f"{failure.reason}: {failure.detail}",)
    return failure


def _error_in(reply: Any) -> tuple[str | None, str]:
    """The exchange's own code and message, where the reply is an error."""
    if not isinstance(reply, dict) or "code" not in reply or "msg" not in reply:
        return None, ""
    return str(reply["code"]), str(reply["msg"])


def _library_object(venue: Venue, settings: Settings, api_key: str, api_secret: str) -> Any:
    ccxt = library(venue.ccxt_class)
    credentials = {"apiKey": api_key, "secret": api_secret} if api_key else {}
    try:
        made = ccxt.exchange({**settings.ccxt, **credentials})
    except (ccxt.base_error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unusable("exchange options", one_line(error)) from error
    if settings.api_url is not None:
        made.urls["api"] = _moved(made.urls["api"], settings.api_url)
    return made


def _moved(urls: Any, base: str) -> Any:
    """The same addresses at another server: their scheme and host are replaced by ``base``."""
    if isinstance(urls, dict):
        return {name: _moved(url, base) for name, url in urls.items()}
    return base + urlsplit(urls).path if isinstance(urls, str) else urls


def _mapping(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options.get(name, {})
    if not isinstance(value, Mapping):
        raise _unusable(name, "an object is needed")
    return value


def _reserved(rows: Mapping[str, Any]) -> Mapping[str, Decimal]:
    found = {}
    for asset, amount in rows.items():
        try:
            found[asset] = dec(amount)
        except ValueError as error:
            raise _unusable(f"reserved.{asset}", f'{error}; write an amount as text, {{"BTC": "0.5"}}') from error
        if found[asset] < 0:
            raise _unusable(f"reserved.{asset}", "an amount is not negative")
    return found


def _unusable(name: str, problem: str) -> Fatal:
    return Fatal("exchange_options_unusable", exit_code=78, detail=f"{name}: {problem}")
