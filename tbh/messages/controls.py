"""What operators and the lease allow the bot to do."""

from __future__ import annotations

from tbh.messages.base import Command, Fact, Value, message
from tbh.messages.orders import OrderStatus


@message
class OperatorRequest(Value):
    """Something to be done once: ``adopt`` the exchange's position, or ``resolve`` the order ``client_order_id`` as
    ``outcome``. ``version`` is that of the controls which asked for it."""

    version: int
    action: str
    reason: str
    client_order_id: str | None = None
    outcome: OrderStatus | None = None

    @property
    def request_id(self) -> str:
        return f"{self.action}:{self.version}"


@message
class Controls(Value):
    """What the operator wants of the bot, as the database has it. ``requests`` are those that nobody has acknowledged,
    in the order of their versions."""

    version: int
    paused: bool = False
    killed: bool = False
    observe_only: bool = False
    subscription_active: bool = True
    flatten_version: int | None = None
    requests: tuple[OperatorRequest, ...] = ()


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


@message
class ResolveOrder(Command):
    """An operator knows how an order ended of which the exchange says nothing more: believe that, once."""

    request_id: str
    client_order_id: str
    outcome: OrderStatus
    reason: str


@message
class RequestDone(Fact):
    """An operator's request is carried out, or was found to need nothing; ``outcome`` says which, in words."""

    request_id: str
    outcome: str
