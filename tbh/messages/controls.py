"""What operators and the lease allow the bot to do."""

from __future__ import annotations

from tbh.messages.base import Fact, message


@message
class ControlsChanged(Fact):
    """The operator's word, by ``version``; ``session_open`` is false outside the strategy's windows."""

    version: int
    paused: bool
    killed: bool
    observe_only: bool
    subscription_active: bool


@message
class LeaseRenewed(Fact):
    """The bot is ours until ``deadline_s`` on the process clock (lease less margin, from the time of sending)."""

    epoch: int
    deadline_s: float
    renewals: int


@message
class LeaseLapsed(Fact):
    """No renewal came in time: nothing that increases risk may be sent."""

    epoch: int


@message
class LeaseLost(Fact):
    """Another runtime owns the bot: nothing may be sent at all."""

    reason: str


@message
class TokenRefused(Fact):
    reason: str


@message
class DatabaseAway(Fact):
    """A call to the database failed for want of an answer; ``since_s`` is on the process clock."""

    since_s: float
    reason: str


@message
class DatabaseBack(Fact):
    away_for_s: float


@message
class HeartbeatSent(Fact):
    """The database has our heartbeat number ``beat``."""

    beat: int
    latency_ms: float
