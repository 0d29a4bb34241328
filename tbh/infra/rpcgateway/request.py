"""What a request asks for, before anything is known about the database's functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import NoReturn
from urllib.parse import parse_qsl

from tbh.infra.rpcgateway.errors import HttpError

JSON_TYPE = "application/json"
OBJECT_TYPE = "application/vnd.pgrst.object+json"
# What a client may accept, and what it then gets.
MEDIA_TYPES = {
    "*/*": JSON_TYPE,
    "application/*": JSON_TYPE,
    JSON_TYPE: JSON_TYPE,
    "application/vnd.pgrst.array+json": "application/vnd.pgrst.array+json",
    "application/vnd.pgrst.array": "application/vnd.pgrst.array+json",
    OBJECT_TYPE: OBJECT_TYPE,
    "application/vnd.pgrst.object": OBJECT_TYPE,
}
# Filters and projections of a result belong to tables; no function of ours is called with them.
RESERVED_KEYS = frozenset({"select", "order", "limit", "offset", "columns", "on_conflict", "and", "or"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """``text`` is JSON: an object, or an array of objects of which the first one counts; ``keys`` are its names.

    ``as_text`` says that the values came from a query string and are to be read as SQL literals.
    """

    text: str
    keys: frozenset[str]
    is_array: bool = False
    as_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``headers`` have lower-case names and no cookies, which are apart."""

    method: str
    schema: str
    function: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    arguments: Arguments
    accepted: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"/rpc/{self.function}"

    @property
    def read_only(self) -> bool:
        return self.method != "POST"

    def media_type(self) -> str:
        """What the client likes best of what there is. Raises ``HttpError`` 406."""
        for wish in self.accepted:
            if wish in MEDIA_TYPES:
                return MEDIA_TYPES[wish]
        raise HttpError(406, "PGRST107", f"None of these media types are available: {', '.join(self.accepted)}")


def read_request(
    *, method: str, path: str, query: bytes, headers: Mapping[str, str], body: bytes, schemas: Sequence[str]
) -> Request:
    """The request that HTTP brought; ``HttpError`` of the 400s when it makes no sense."""
    function = _function(path)
    if method not in ("POST", "GET", "HEAD"):
        raise HttpError(405, "PGRST101", f"Cannot use the {method} method on RPC")
    schema = _schema(headers.get("content-profile" if method == "POST" else "accept-profile"), schemas)
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace")
    for name, _ in pairs:
        if method == "POST" or name in RESERVED_KEYS:
            details = f"The query parameter '{name}' is not available on a function"
            raise HttpError(400, "PGRST127", "Feature not implemented", details)
    if method == "POST":
        arguments = _body_arguments(headers.get("content-type"), body)
    else:
        arguments = Arguments(text=json.dumps(dict(pairs)), keys=frozenset(dict(pairs)), as_text=True)
    return Request(
        method=method,
        schema=schema,
        function=function,
        headers={name: value for name, value in headers.items() if name != "cookie"},
        cookies=_cookies(headers.get("cookie", "")),
        arguments=arguments,
        accepted=_accepted(headers.get("accept", "*/*")),
    )


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header names are in lower case already; of one that comes twice the last one counts."""
    return {name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in raw}


def _function(path: str) -> str:
    parts = path.removeprefix("/rest/v1").split("/")
    if len(parts) != 3 or parts[:2] != ["", "rpc"] or not parts[2]:
        raise HttpError(404, "PGRST125", "Invalid path specified in request URL")
    return parts[2]


def _schema(profile: str | None, schemas: Sequence[str]) -> str:
    if profile is None:
        return schemas[0]
    if profile not in schemas:
        hint = f"Only the following schemas are exposed: {', '.join(schemas)}"
        raise HttpError(406, "PGRST106", f"Invalid schema: {profile}", None, hint)
    return profile


def _accepted(header: str) -> tuple[str, ...]:
    """Media types without parameters, the most wanted first; a type of quality zero is not accepted."""
    wishes = []
    for part in header.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        try:
            wishes.append((float(quality), media_type))
        except ValueError:
            wishes.append((1.0, media_type))
    return tuple(media_type for quality, media_type in sorted(wishes, key=lambda wish: -wish[0]) if quality > 0)


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _body_arguments(content_type: str | None, body: bytes) -> Arguments:
    media_type = (content_type or JSON_TYPE).partition(";")[0].strip().lower()
    if media_type != JSON_TYPE:
        raise HttpError(400, "PGRST102", f"Content-Type not acceptable: {media_type}")
    if not body:
        return Arguments(text="{}", keys=frozenset())
    try:
        text = body.decode("utf-8")
        # Numbers stay text: PostgreSQL reads them, and no number here may be too long or lose a digit.
        value = json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise HttpError(400, "PGRST102", "Empty or invalid json") from None
    if isinstance(value, dict):
        return Arguments(text=text, keys=frozenset(value))
    if not isinstance(value, list) or not value:
        return Arguments(text="[]", keys=frozenset(), is_array=True)
    first = value[0]
    if not isinstance(first, dict) or any(not isinstance(row, dict) or row.keys() != first.keys() for row in value):
        raise HttpError(400, "PGRST102", "All object keys must match")
    return Arguments(text=text, keys=frozenset(first), is_array=True)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
