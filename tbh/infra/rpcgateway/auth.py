"""Who calls. A token (HS256) names the role and brings claims; an opaque secret key stands for a role.

The hosted platform swaps an opaque key for a token before PostgREST sees it; here the same happens in one step, and
like there such a key counts as bearer only when it is also the ``apikey``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from tbh.infra.rpcgateway.errors import HttpError

SKEW_S = 30
INT64_MAX = 2**63 - 1
# What PostgREST's own start-up demands of a secret.
SECRET_LENGTH_MIN = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """``claims`` is the JSON text that functions read as ``request.jwt.claims``; the role is always in it."""

    role: str
    claims: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Finds the caller from the request's headers (names in lower case)."""

    jwt_secret: str | None
    secret_keys: Mapping[str, str]
    anon_role: str | None

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises ``HttpError`` 401 for a token that does not hold, 500 when none can be checked."""
        token, api_key = _bearer(headers.get("authorization", "")), headers.get("apikey")
        if api_key is not None and api_key in self.secret_keys and token in (None, api_key):
            return _named(self.secret_keys[api_key], {})
        if token is None:
            if self.anon_role is None:
                raise _token_required()
            return _named(self.anon_role, {})
        if self.jwt_secret is None:
            raise HttpError(500, "PGRST300", "Server lacks JWT secret")
        claims = _verified(token, self.jwt_secret)
        _check_times(claims, time.time())
        role = claims.get("role", self.anon_role)
        if role is None:
            raise _token_required()
        return _named(role if isinstance(role, str) else json.dumps(role), claims)


def _named(role: str, claims: dict[str, Any]) -> Caller:
    # A lone surrogate can't be sent to PostgreSQL: no role has such a name, and with a question mark neither.
    role = role.encode("utf-8", "replace").decode()
    return Caller(role, json.dumps(claims | {"role": role}, separators=(",", ":")))


def _bearer(authorization: str) -> str | None:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _verified(token: str, secret: str) -> dict[str, Any]:
    """The claims of a token with a good signature; their times are not looked at here."""
    if not token:
        raise _bad_token("Empty JWT is sent in Authorization header")
    if (parts := token.count(".") + 1) != 3:
        raise _bad_token(f"Expected 3 parts in JWT; got {parts}")
    try:
        content: bytes = jwt.PyJWS().decode(token, secret, algorithms=["HS256"])
        claims = json.loads(content)
    except jwt.InvalidAlgorithmError:
        raise _bad_token("Wrong or unsupported encoding algorithm") from None
    except jwt.InvalidSignatureError:
        raise _bad_token("No suitable key or wrong key type", "None of the keys was able to decode the JWT") from None
    except jwt.PyJWTError:
        raise _bad_token("JWT couldn't be decoded") from None
    except (ValueError, RecursionError):
        raise _bad_claims("Parsing claims failed") from None
    if not isinstance(claims, dict):
        raise _bad_claims("Parsing claims failed")
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    second = int(now)
    rules: tuple[tuple[str, Callable[[int], bool], str], ...] = (
        ("exp", lambda at: at < second - SKEW_S, "JWT expired"),
        ("nbf", lambda at: at > second + SKEW_S, "JWT not yet valid"),
        ("iat", lambda at: at > second + SKEW_S, "JWT issued at future"),
    )
    for name, broken, message in rules:
        if (value := claims.get(name)) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _bad_claims(f"The JWT '{name}' claim must be a number")
        # What is no whole number of 64 bits counts as zero, so that a strange expiry is an expired one.
        if broken(int(value) if abs(value) <= INT64_MAX and value % 1 == 0 else 0):
            raise _bad_claims(message)


def _bad_token(message: str, details: str | None = None) -> HttpError:
    return HttpError(401, "PGRST301", message, details, headers=_challenge(message))


def _bad_claims(message: str) -> HttpError:
    return HttpError(401, "PGRST303", message, headers=_challenge(message))


def _challenge(message: str) -> tuple[tuple[str, str], ...]:
    return (("WWW-Authenticate", f'Bearer error="invalid_token", error_description="{message}"'),)


def _token_required() -> HttpError:
    return HttpError(401, "PGRST302", "Anonymous access is disabled", headers=(("WWW-Authenticate", "Bearer"),))
