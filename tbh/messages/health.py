"""What health, telemetry and the people in charge are told."""

from __future__ import annotations

from enum import StrEnum

from tbh.messages.base import Command, Fact, message


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@message
class FlushHealth(Command):
    """Send the evidence as soon as the debounce allows (``flush_now``)."""

    reason: str


@message
class HealthFlushed(Fact):
    reason: str
    count: int


@message
class GateChanged(Fact):
    """What risk lets through has changed: ``reasons`` is empty when entries are open."""

    reasons: tuple[str, ...]
    exits_allowed: bool


@message
class Notice(Command):
    """Tell people. A second one with the same ``key`` changes nothing."""

    key: str
    severity: Severity
    kind: str
    text: str


@message
class NoticeFailed(Fact):
    """A notice could not be delivered; it never blocks trading."""

    key: str
    reason: str


@message
class RequestFailed(Fact):
    """A call to the exchange failed: ``kind`` is one of the failure taxonomy's words."""

    stage: str
    kind: str
    reason: str


@message
class RequestSucceeded(Fact):
    """A call to the exchange was answered in ``latency_ms``."""

    stage: str
    latency_ms: float
