"""What an exchange's refusals and the library's exceptions mean: one table of verdicts, one way to failures.

A verdict comes from the first of these that knows: HTTP 418 and 429; the exchange's own code (``ccxt_venues``); the
exception that the library makes of the answer, by its class or the nearest one above it in the table. Only what stands
here as ``REFUSED`` proves that nothing happened. All else that an exchange or the library may say is ``UNKNOWN``: the
library's bare ``ExchangeError`` holds time-outs of several exchanges, and an ``InvalidOrder`` may be the echo of an
order that is alive.

A 5xx is never a proof, whatever its text says.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tbh.infra.redact import SECRETS, shortened
from tbh.ports import Defer, Failure, Rejected, Unavailable, Unknown

DETAIL_LENGTH_MAX: Final = 300


class Verdict(enum.Enum):
    """What an answer that is no success says."""

    REFUSED = "refused"
    """The exchange looked at the request and said no; nothing happened."""

    NOT_FOUND = "order_unknown"
    """The exchange denies the order that was asked for or to be canceled."""

    DUPLICATE = "duplicate"
    """The client id is in use: the order, or one like it, exists. No rejection."""

    KEY = "exchange_key_refused"
    """The key, its rights, its address or its signature; nothing happened."""

    LIMITED = "rate_limited"
    CLOCK = "exchange_clock"
    """The request's time lies outside of what the exchange takes."""

    MAINTENANCE = "exchange_maintenance"
    UNKNOWN = "exchange_failed"


class NotFound(Rejected):
    """The exchange's own denial of an order."""


class Duplicate(Unknown):
    """An order of this id exists already."""


class KeyRefused(Unavailable):
    """Not served, because of the key. It is no ``Fatal``: exchanges refuse good keys for a while (a ban, an address
    that changed), and a bot that ends then leaves its position without protection. ``CcxtExchange.verify`` tells a key
    that was never good."""


class ClockOff(Unknown):
    """The exchange did not like the time that was signed."""


CLASSES: Mapping[str, Verdict] = MappingProxyType(
    {
        "InsufficientFunds": Verdict.REFUSED,
        "BadRequest": Verdict.REFUSED,  # BadSymbol among them
        "ArgumentsRequired": Verdict.REFUSED,
        "NotSupported": Verdict.REFUSED,
        "OperationRejected": Verdict.REFUSED,  # MarketClosed, RestrictedLocation, NoChange ...
        "InvalidOrder": Verdict.REFUSED,  # of the first send of an id, and an id is sent once
        "OrderNotFound": Verdict.NOT_FOUND,
        "DuplicateOrderId": Verdict.DUPLICATE,
        "ContractUnavailable": Verdict.UNKNOWN,
        "AuthenticationError": Verdict.KEY,  # PermissionDenied, AccountSuspended
        "DDoSProtection": Verdict.LIMITED,
        "RateLimitExceeded": Verdict.LIMITED,
        "OnMaintenance": Verdict.MAINTENANCE,
        "InvalidNonce": Verdict.CLOCK,
        "OperationFailed": Verdict.UNKNOWN,
        "ExchangeError": Verdict.UNKNOWN,
        "BaseError": Verdict.UNKNOWN,
    }
)
"""The library's exceptions. A class that is not here is judged as the nearest above it that is."""

MAINTENANCE_PAUSE_S: Final = 10.0


def verdict_of(error: BaseException) -> Verdict:
    """The verdict on an exception of the library."""
    names = (one.__name__ for one in type(error).__mro__)
    return next((CLASSES[name] for name in names if name in CLASSES), Verdict.UNKNOWN)


def failure_of(verdict: Verdict, *, detail: str, pause_s: float = 0.0, status: int = 400) -> Failure:
    """The failure that a verdict is told as. ``pause_s`` is what the exchange asked for, where it limits."""
    if status >= 500 and verdict not in (Verdict.MAINTENANCE, Verdict.LIMITED):
        return Unknown(Verdict.UNKNOWN.value, detail=detail)
    word = verdict.value
    match verdict:
        case Verdict.REFUSED:
            return Rejected(word, detail=detail)
        case Verdict.NOT_FOUND:
            return NotFound(word, detail=detail)
        case Verdict.DUPLICATE:
            return Duplicate(word, detail=detail)
        case Verdict.KEY:
            return KeyRefused(word, detail=detail)
        case Verdict.LIMITED:
            return Defer(word, after_s=pause_s, detail=detail)
        case Verdict.MAINTENANCE:
            return Defer(word, after_s=MAINTENANCE_PAUSE_S, detail=detail)
        case Verdict.CLOCK:
            return ClockOff(word, detail=detail)
        case Verdict.UNKNOWN:
            return Unknown(word, detail=detail)


def bad_reply(endpoint: str, problem: str) -> Unknown:
    """The failure for a success whose content is not what was asked for: a page in HTML, nothing, another order."""
    return Unknown("bad_reply", detail=f"{endpoint}: {one_line(problem)}")


def one_line(value: Any) -> str:
    """Text for people: one line, short, without secrets."""
    return shortened(SECRETS.text(" ".join(str(value).split())), DETAIL_LENGTH_MAX)
