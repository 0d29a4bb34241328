"""What the database client's failures mean: one table for the two families that it raises.

``httpx.RequestError`` comes from the wire. Only a connection that was never made proves that nothing was sent.

``postgrest.APIError`` is an answer. Its code is one of

- ``PT4xx``: our functions refuse; the message is a stable word, the details name the field;
- five characters, an SQLSTATE: PostgreSQL refused, and rolled back what had been done;
- ``PGRSTnnn``: PostgREST itself, before or instead of the database;
- the HTTP status as text, or nothing: a gateway before it spoke, in HTML or JSON of its own.

An answer proves that nothing happened where it says no to what was asked. Trouble on the way (5xx) proves nothing,
except where PostgREST says that it got no connection (PGRST000, 003) or does not know the database yet (002); PGRST001
is a connection that broke while in use.
"""

from __future__ import annotations

import math
import re

import httpx
from postgrest import APIError

from tbh.infra.redact import SECRETS, shortened
from tbh.ports import Defer, Failure, Fatal, LeaseHeld, Rejected, Unavailable, Unknown

EXIT_CONFIGURATION = 78
DETAIL_LENGTH_MAX = 300
RETRY_AFTER_S_MAX = 60.0

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_NOT_SERVED = frozenset({"PGRST000", "PGRST002", "PGRST003"})
_KEY_REFUSED = frozenset({"PGRST301", "PGRST302", "PGRST303"})
_NO_SUCH_FUNCTION = frozenset({"PGRST106", "PGRST202", "PGRST203"})
_CONTENT_CLASSES = ("22", "23")
_OTHER_REFUSAL_CLASSES = ("42", "44", "P0001", "2F", "25006")
_OUR_REFUSAL = re.compile(r"PT4[0-9]{2}")
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
_WORD = re.compile(r"[a-z][a-z0-9_]{1,60}")
_HELD = re.compile(
    r"boot_id=(?P<boot_id>[A-Za-z0-9._-]{1,64}) renewals=(?P<renewals>[0-9]{1,18})"
    r" lease_s=(?P<lease_s>[0-9]{1,9}(?:\.[0-9]{1,9})?) expires_in_s=(?P<expires_in_s>-?[0-9]{1,12}(?:\.[0-9]{1,9})?)"
)


def failure_of_wire(error: httpx.RequestError, *, fn: str) -> Failure:
    """The failure behind an exception of the wire, during a call of ``fn``."""
    detail = f"{fn}: {type(error).__name__} {_text(error)}".rstrip()
    if isinstance(error, _NOT_SENT):
        return Unavailable("database_unreachable", detail=detail)
    return Unknown("reply_lost", detail=detail)


def failure_of_answer(error: APIError, *, fn: str, status: int | None, retry_after: str | None) -> Failure:
    """The failure behind an answer that is no success. ``status`` is HTTP's, where it is known."""
    code = error.code or ""
    detail = f"{fn}: {_told(error, status)}"
    if _OUR_REFUSAL.fullmatch(code):
        return _refusal(error, detail)
    if status == 429 or code == "429":
        return Defer("rate_limited", after_s=_after_s(retry_after), detail=detail)
    if code in _NOT_SERVED:
        return Unavailable("database_unreachable", detail=detail)
    if code in _NO_SUCH_FUNCTION:
        return _configuration("migrations_missing", f"{detail}; run `tbh db migrate` on this database")
    if code == "42501":
        return _configuration(
            "not_the_service_key", f"{detail}; SUPABASE_SERVICE_ROLE_KEY must be the key of service_role"
        )
    if code in _KEY_REFUSED or status == 401 or code == "401":
        return _configuration(
            "service_key_refused",
            f"{detail}; check that SUPABASE_SERVICE_ROLE_KEY belongs to SUPABASE_URL and is still valid",
        )
    if _SQLSTATE.fullmatch(code):
        if code.startswith(_CONTENT_CLASSES):
            return Rejected("payload_invalid", detail=detail)
        if code.startswith(_OTHER_REFUSAL_CLASSES):
            return Rejected("refused", detail=detail)
    if code == "PGRST102":
        return Rejected("payload_invalid", detail=detail)
    if status == 413 or code == "413":
        return Rejected("batch_too_large", detail=detail)
    return Unknown("database_failed", detail=detail)


def bad_reply(fn: str, problem: str) -> Unknown:
    """The failure for a success whose content is not what ``fn`` answers."""
    return Unknown("bad_reply", detail=f"{fn}: {problem}; is this address the database's?")


def _refusal(error: APIError, detail: str) -> Failure:
    word = error.message or ""
    if not _WORD.fullmatch(word):
        return Rejected("refused", detail=detail)
    told = _text(error.details) if error.details else ""
    held = _HELD.fullmatch(told) if word == "lease_held" else None
    if held is None:
        return Rejected(word, detail=told)
    return LeaseHeld(
        boot_id=held["boot_id"],
        renewals=int(held["renewals"]),
        lease_s=float(held["lease_s"]),
        expires_in_s=float(held["expires_in_s"]),
    )


def _configuration(reason: str, detail: str) -> Fatal:
    return Fatal(reason, exit_code=EXIT_CONFIGURATION, detail=detail)


def _told(error: APIError, status: int | None) -> str:
    """The answer in one line; the page that a gateway sends along is cut to its beginning."""
    parts = (f"HTTP {status}" if status is not None else "", error.code, error.message, error.details)
    return " ".join(dict.fromkeys(_text(part) for part in parts if part))


def _text(value: object) -> str:
    """One line without secrets."""
    return shortened(SECRETS.text(" ".join(str(value).split())), DETAIL_LENGTH_MAX)


def _after_s(retry_after: str | None) -> float:
    """Seconds to wait; a second where the header is absent or a date."""
    try:
        wait_s = float(retry_after or "1")
    except ValueError:
        return 1.0
    return min(max(wait_s, 0.1), RETRY_AFTER_S_MAX) if math.isfinite(wait_s) else 1.0
