"""What an observer sees of a process from inside: what it means to do, what it says to itself, what it was told.

Further steps, in the manner of ``steps``. What is judged by them is a process's own knowledge, so that nothing has to
be excused by the network: it may be wrong about the exchange, but not act against what it knows.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from tbh.messages.base import frozen
from tbh.messages.orders import Order


@frozen
class OrderMeant:
    """A process drafts an order. By its own knowledge ``held`` is the position (signed base), ``closing`` what the
    other orders that it has open may still take away from it (base, unsigned), and ``beside`` are the entries that are
    open for the position that this order closes, and that nobody has asked to cancel."""

    boot: str
    order: Order
    held: Decimal
    closing: Decimal
    beside: tuple[str, ...] = ()


@frozen
class Looked:
    """A look into a process, one a bar. ``bare`` names the position that is to have a stop while it knows of none, nor
    of an order that closes it, and has neither to come; ``left`` an order that should have closed the position that is
    there, has failed, and has no further attempt to come. Both by its own knowledge, None: none."""

    boot: str
    bare: str | None
    left: str | None


@frozen
class PositionHeld:
    """A process tells its actors what the book's position is (signed base; 0 for what can't be traded)."""

    boot: str
    qty: Decimal


@frozen
class ExitRefused:
    """A process decides that its strategy's exit has nothing to close. ``selling``: it would have sold."""

    boot: str
    proposal_id: str
    selling: bool


@frozen
class SnapshotTold:
    """A process tells its actors what the account holds, by a reading of the time ``at`` (its own). ``read`` is what
    the exchange has last answered it, None: that question was not answered. ``torn``: an event fell into the reading.
    """

    boot: str
    qty: Decimal
    read: Decimal | None
    torn: bool
    at: datetime


@frozen
class CalledRecorded:
    """A process tells its actors that a decision is on the disk; ``stored``: it is. ``overtaken``: it is not, but was
    to do nothing, and of those the disk keeps the latest, which is a later one."""

    boot: str
    decision_id: str
    stored: bool
    overtaken: bool = False


@frozen
class ControlsHeard:
    """A process tells its actors what the operator wants; ``closed``: no entries."""

    boot: str
    closed: bool


@frozen
class Halted:
    """All actors of a process are told to make no entry more. ``busy``: one is in the middle of a call."""

    boot: str
    busy: bool = False


@frozen
class DatabaseRefused:
    """A process hears from the database that the bot is another's (``owned``), or that its token is no good."""

    boot: str
    owned: bool
    busy: bool = False


@frozen
class CancelSent:
    """A process calls ``Exchange.cancel``."""

    boot: str
    client_order_id: str


@frozen
class PositionLied:
    """The exchange tells a position that is not what its trades have made."""

    qty: Decimal


Inside = (
    OrderMeant | Looked | PositionHeld | ExitRefused | SnapshotTold | CalledRecorded | ControlsHeard | Halted
    | DatabaseRefused | CancelSent | PositionLied
)  # fmt: skip
