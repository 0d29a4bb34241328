"""What went wrong, as the HTTP status and the four-key JSON body that PostgREST's clients know.

Codes of five characters are SQLSTATEs and come from PostgreSQL; ``PGRSTnnn`` are the gateway's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import psycopg

Headers = tuple[tuple[str, str], ...]

# A longer key wins over the class (the first two characters). What is in neither is the caller's mistake: 400.
STATUS_BY_SQLSTATE = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25": 500,
    "25006": 405,  # a function declared stable that writes, or a GET on one that writes
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53": 503,
    "53400": 500,
    "54": 500,
    "55": 500,
    "57": 500,
    "57P01": 503,  # the server is being shut down
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "P0001": 400,  # a plain RAISE EXCEPTION
    "XX": 500,
}
INSUFFICIENT_PRIVILEGE = "42501"
INVALID_PARAMETER_VALUE = "22023"
UNTRANSLATABLE_CHARACTER = "22021"
RAISED_RESPONSE = "PGRST"
RAISED_STATUS = re.compile(r"PT(.{3})", re.DOTALL)
UNKNOWN_ROLE = re.compile(r'role ".*" does not exist', re.DOTALL)

# RFC 9110: a field name is a token; a value has no control characters. Anything else would break the response.
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class HttpError(Exception):
    """An answer other than the function's. ``details`` and ``hint`` are JSON values, mostly text or None."""

    def __init__(
        self, status: int, code: str, message: str, details: Any = None, hint: Any = None, *, headers: Headers = ()
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.headers = headers

    def body(self) -> bytes:
        answer = {"code": self.code, "message": self.message, "details": self.details, "hint": self.hint}
        # A lone surrogate in an echoed argument name can't be encoded; it becomes a question mark.
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def no_connection() -> HttpError:
    """Nothing was sent to the database."""
    return HttpError(503, "PGRST000", "Database connection error. Retrying the connection.")


def connection_lost() -> HttpError:
    """The connection broke during the call, which may have been executed."""
    return HttpError(503, "PGRST001", "Database client error. Retrying the connection.")


def no_free_connection() -> HttpError:
    return HttpError(504, "PGRST003", "Timed out acquiring connection from connection pool.")


def from_postgres(error: psycopg.Error, *, anonymous: bool) -> HttpError:
    """The answer to a failed call. ``anonymous`` says that the caller could do better by logging in."""
    state, said = error.sqlstate, error.diag
    if state is None:
        if isinstance(error, psycopg.DataError):  # a NUL character, refused before anything was sent
            return HttpError(400, UNTRANSLATABLE_CHARACTER, "text cannot contain NUL (0x00) characters")
        return connection_lost()
    message = said.message_primary or ""
    if state == RAISED_RESPONSE:
        return _raised_response(message, said.message_detail)
    status, headers = _status(state, message), Headers()
    if state == INSUFFICIENT_PRIVILEGE:
        status, headers = (401, (("WWW-Authenticate", "Bearer"),)) if anonymous else (403, ())
    return HttpError(status, state, message, said.message_detail, said.message_hint, headers=headers)


def _status(state: str, message: str) -> int:
    if raised := RAISED_STATUS.fullmatch(state):
        digits = raised.group(1)
        # PostgreSQL lets a SQLSTATE be any five of 0-9A-Z; only these are statuses that end a request.
        return int(digits) if digits.isdecimal() and 200 <= int(digits) <= 599 else 500
    if state == INVALID_PARAMETER_VALUE and UNKNOWN_ROLE.fullmatch(message):
        return 401
    return STATUS_BY_SQLSTATE.get(state) or STATUS_BY_SQLSTATE.get(state[:2], 400)


def _raised_response(message: str, detail: str | None) -> HttpError:
    """A function that controls the whole answer: ``RAISE SQLSTATE 'PGRST'`` with JSON in message and detail."""
    said = _json_object(message)
    if said is None or not isinstance(said.get("code"), str) or not isinstance(said.get("message"), str):
        hint = "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', "
        return _unreadable_raise(f"Invalid JSON value for MESSAGE: '{message}'", hint + "'hint'.")
    hint = "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."
    if detail is None:
        return _unreadable_raise("DETAIL is missing in the RAISE statement", hint)
    how = _json_object(detail)
    headers = header_fields(how.get("headers")) if how else None
    status = how.get("status") if how else None
    if headers is None or not isinstance(status, int) or not 200 <= status <= 599:
        return _unreadable_raise(f"Invalid JSON value for DETAIL: '{detail}'", hint)
    return HttpError(status, said["code"], said["message"], said.get("details"), said.get("hint"), headers=headers)


def _unreadable_raise(details: str, hint: str) -> HttpError:
    message = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"
    return HttpError(500, "PGRST121", message, details, hint)


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def header_fields(value: Any) -> Headers | None:
    """Response headers out of a JSON object of texts; None when it is none or they could not be sent."""
    if not isinstance(value, Mapping):
        return None
    for name, text in value.items():
        if not isinstance(text, str) or not FIELD_NAME.fullmatch(name) or not FIELD_VALUE.fullmatch(text):
            return None
    return tuple(value.items())
