"""An order from its draft to its last fill. The life of an order is told in ``tbh/domain/order.py``."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final

from tbh.messages.base import Command, Fact, Value, message

NOT_SENT: Final = "not sent: "
"""How the reason of an ``OrderRejected`` begins where we lacked the evidence to send: the exchange refused nothing."""


class Side(StrEnum):
    """The side of an order or fill; ``sign`` is +1 for what a buy does to the holding."""

    BUY = "buy"
    SELL = "sell"

    def __init__(self, value: str) -> None:
        self.sign: Final = 1 if value == "buy" else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"


class Purpose(StrEnum):
    """Why an order exists. All but ENTRY and PYRAMID reduce risk."""

    ENTRY = "entry"
    PYRAMID = "pyramid"
    EXIT = "exit"
    STOP = "stop"
    TARGET = "target"
    FLATTEN = "flatten"
    EMERGENCY = "emergency"
    MANUAL = "manual"

    def __init__(self, value: str) -> None:
        self.increases_risk: Final = value in ("entry", "pyramid")
        self.is_protection: Final = value in ("stop", "target")


class OrderStatus(StrEnum):
    DRAFTED = "drafted"
    RECORDED = "recorded"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    ABSENT = "absent"


@message
class Trailing(Value):
    """A stop that follows the best price at ``distance``, once the gain reached ``activate_at`` (fractions)."""

    distance: Decimal
    activate_at: Decimal


@message
class Protection(Value):
    """What guards a position, as fractions of ``basis_price`` (signal close), or of the fill price when it is None."""

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trailing: Trailing | None = None
    basis_price: Decimal | None = None


@message
class Order(Value):
    """An order as it is drafted, recorded, sent and read back. Quantities in base, prices in quote.

    ``intent_id`` names the decision it serves; ``client_order_id`` is a function of bot, intent and attempt. It may be
    sent until ``expires_at``, and what rests of it is taken off the book at the close of the bar that ends at
    ``good_until``; None: it stays.
    """

    client_order_id: str
    intent_id: str
    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: bool = False
    post_only: bool = False
    purpose: Purpose
    strategy: str
    bar_open: datetime
    layer: int = 0
    attempt: int = 0
    created_at: datetime
    expires_at: datetime | None = None
    good_until: datetime | None = None
    protection: Protection | None = None

    def __hash__(self) -> int:
        return hash(self.client_order_id)  # rather than of all its fields: two orders under one id are rare


@message
class OrderState(Value):
    """Where an order stands: the row of the store. ``version`` rises with every transition.

    ``seen_at`` is the market time of the last transition; ``exchange_order_id`` is None until the exchange gave one.
    """

    order: Order
    status: OrderStatus
    version: int
    exchange_order_id: str | None = None
    filled_qty: Decimal = Decimal(0)
    avg_price: Decimal | None = None
    reason: str | None = None
    seen_at: datetime


@message
class Approved(Command):
    """Risk lets a proposal through: ``qty`` in base and ``price`` (a limit's, None at market) on the market's steps."""

    proposal_id: str
    order_side: Side
    purpose: Purpose
    symbol: str
    strategy: str
    bar_open: datetime
    layer: int
    qty: Decimal
    price: Decimal | None = None
    good_until: datetime | None = None
    protection: Protection | None = None


@message
class WithdrawEntries(Command):
    """Take the entries off the book that rest there: ``reason`` has closed entries."""

    reason: str


@message
class Declined(Fact):
    """order_manager could not serve an approved proposal (nothing to exit, a duplicate, below the minimum)."""

    proposal_id: str
    reason: str


@message
class OrderDrafted(Command):
    """Record this order on disk before it is sent."""

    order: Order


@message
class Recorded(Fact):
    """The draft is on disk; it may be sent."""

    client_order_id: str
    intent_id: str


@message
class PlaceOrder(Command):
    """Send the order, once. Its own ``expires_at`` is the last instant (market time) at which it may be signed."""

    order: Order


@message
class CancelOrder(Command):
    client_order_id: str
    symbol: str


@message
class QueryOrder(Command):
    """Find evidence of the order's fate on the exchange, by client id.

    ``signed_until`` is the last instant (market time) at which its request may have been signed; None: no such bound.
    """

    client_order_id: str
    symbol: str
    signed_until: datetime | None = None


@message
class OrderSubmitted(Fact):
    """The request is about to leave; from here on silence means UNKNOWN."""

    unhurried: ClassVar[bool] = True  # the request itself is what must not wait
    client_order_id: str


@message
class OrderAccepted(Fact):
    client_order_id: str
    exchange_order_id: str
    seq: int = 0


@message
class OrderRejected(Fact):
    """The exchange said no, or the gateway refused to send: the order does not and will not exist."""

    client_order_id: str
    reason: str
    seq: int = 0


@message
class OutcomeUnknown(Fact):
    """Nobody knows whether the order exists."""

    client_order_id: str
    reason: str


@message
class OrderCanceled(Fact):
    """The order is off the book; ``filled_qty`` of it had filled before."""

    client_order_id: str
    filled_qty: Decimal
    reason: str
    seq: int = 0


@message
class OrderExpired(Fact):
    client_order_id: str
    filled_qty: Decimal
    reason: str
    seq: int = 0


@message
class CancelRefused(Fact):
    """The exchange would not cancel: the order is unknown to it or already done. A query follows."""

    client_order_id: str
    reason: str


@message
class OrderFound(Fact):
    """A query's evidence: the exchange knows the order and this is where it stands (any status but UNKNOWN, ABSENT).
    ``qty`` is what was ordered, in base, ``price`` a limit's limit or a stop's stop price; None: the exchange does not
    say."""

    client_order_id: str
    exchange_order_id: str
    status: OrderStatus
    filled_qty: Decimal
    avg_price: Decimal | None
    qty: Decimal | None = None
    price: Decimal | None = None


@message
class OrderNotFound(Fact):
    """A query's evidence: the exchange denies the order. ``conclusive`` once no request can arrive any more."""

    client_order_id: str
    conclusive: bool


@message
class Fill(Fact):
    """The exchange executed ``qty`` base at ``price``. Applied once, by ``trade_id``.

    ``fee`` is in ``fee_asset``, positive when paid; ``seq`` orders the account's events.
    """

    trade_id: str
    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    at: datetime
    seq: int


@message
class OrderChanged(Fact):
    """An order moved through the table of ``tbh/domain/order.py``; the journal takes it from here."""

    state: OrderState
    event: str


@message
class Flatten(Command):
    """Cancel what increases risk and close the position at market. ``request_id`` makes it idempotent."""

    request_id: str
    reason: str


@message
class Flattened(Fact):
    """A flatten request is carried out: the position is zero and nothing of it is open."""

    request_id: str
