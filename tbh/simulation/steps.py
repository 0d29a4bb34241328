"""What an observer sees who knows everything: the exchange's own ledger, each disk, the database and every process.

The world tells each step to a ``Watch`` at the instant at which it happens, before anything else does. A *boot* is one
life of one process, named by its boot id. Orders and fills are the bot's own values; "ours" are those of this bot,
everything else on the account is *foreign*. Times are the exchange's, which are the true ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tbh.messages.account import SyncStatus
from tbh.messages.base import frozen
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderState, OrderStatus
from tbh.ports import Batch
from tbh.simulation.inside import Inside
from tbh.simulation.resting import AtRest, BotRest, DatabaseRest, VenueRest

__all__ = ["AtRest", "BotRest", "DatabaseRest", "VenueRest"]


@frozen
class Terms:
    """What holds for a whole seed. ``exposure_max`` is the greatest position (base, unsigned) that the trader may ever
    be led to; ``cash`` is the account's at the beginning, in quote. ``bar_s`` is a bar's length, ``window_s`` how long
    after its sending an order may arrive and not be seen yet, both in seconds."""

    bot_id: str
    market: Market
    exposure_max: Decimal
    cash: Decimal
    bar_s: float
    window_s: float


class Effect(StrEnum):
    """What the exchange did about a request: put it on the book, refused it, or found its client id taken and only
    told how that order stands."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    REPEATED = "repeated"


# -- orders


@frozen
class OrderSigned:
    """A process calls ``Exchange.place``: from here on the request may arrive, whatever becomes of the process.

    ``recorded``: its draft was committed to the disk of this process. ``store_faulted``: that disk had failed, or had
    kept a commit waiting for 50 ms. ``escape``: it is sent by an escalation, which depends on no disk.
    """

    boot: str
    order: Order
    recorded: bool
    store_faulted: bool = False
    escape: bool = False


@frozen
class OrderArrived:
    """A request to place an order reached the exchange, which took ``effect``.

    ``leased``: at this instant the lease row named this boot, and less than the lease's length of true time had passed
    since its last renewal took effect (steps of the database's clock don't count). ``late_s`` is how long after
    ``expires_at`` plus the arrival window it came (negative: in time; None: no expiry, or the process's clock had been
    stepped). ``refusal`` is the exchange's word, where it refused.
    """

    boot: str
    order: Order
    effect: Effect
    leased: bool
    late_s: float | None = None
    refusal: str | None = None


@frozen
class Lied:
    """The exchange says for good that it does not have an order of ours which it has, or will have: by a refusal, or by
    a denial. What the bot does about that order's intent is not its fault."""

    client_order_id: str
    intent_id: str
    qty: Decimal


@frozen
class CancelArrived:
    """A request to cancel reached the exchange. ``ours`` False: it named an order that is not this bot's."""

    boot: str
    client_order_id: str
    ours: bool


@frozen
class VenueFill:
    """The exchange executed (a part of) an order of ours."""

    fill: Fill


@frozen
class VenueOrderEnded:
    """An order of ours left the book: ``status`` is FILLED, CANCELED or EXPIRED."""

    client_order_id: str
    status: OrderStatus


@frozen
class ForeignTrade:
    """Somebody else traded on the account, or the exchange closed (a part of) the position: ``qty`` is what that did to
    the position, signed base; ``cash`` what it did to the cash, in quote."""

    trade_id: str
    qty: Decimal
    cash: Decimal


@frozen
class Transition:
    """A process took an order through the table of ``tbh.domain.order``: ``event`` is its ``OrderEvent`` word.

    ``after`` is None when the row was there and left everything as it was; pairs that are in no row are not told.
    """

    boot: str
    event: str
    before: OrderState
    after: OrderState | None


# -- what a process decides


@frozen
class GateMoved:
    """A process tells that its gate of entries has moved (seen where it is sent, not where it arrives); empty: open."""

    boot: str
    reasons: tuple[str, ...]


@frozen
class EntryApproved:
    """A process lets a proposal through that increases risk (seen where it is sent)."""

    boot: str
    proposal_id: str


@frozen
class PositionTold:
    """A process compared book and exchange and believes ``status``, by a reading of the time ``at`` (its own)."""

    boot: str
    status: SyncStatus
    at: datetime | None = None


@frozen
class NoticeDue:
    """A process wants people to know: ``key`` names the notice for good."""

    boot: str
    kind: str
    key: str


@frozen
class NoticeSent(NoticeDue):
    """A notice reached people."""


@frozen
class ActorFailed:
    """An actor raised. ``injected``: a fault of the simulation made it."""

    boot: str
    actor: str
    error: str
    injected: bool


# -- disk and database


@frozen
class Committed:
    """A process wrote ``batch`` to its disk. ``keys`` maps the sequence numbers of its new outbox entries to their
    keys. ``read_up_to``: with it, the account's events are marked as read up to that one."""

    boot: str
    store_id: str
    batch: Batch
    keys: Mapping[int, str]
    read_up_to: int | None = None


@frozen
class Synced:
    """The database applied entries of a store's outbox: ``keys`` by sequence number, those skipped left out.

    ``refused`` are the numbers of those among them that it refused for good.
    """

    boot: str
    store_id: str
    keys: Mapping[int, str]
    refused: tuple[int, ...] = ()


@frozen
class LeaseTaken:
    """The database gave the lease to a boot. ``former`` had it before, if anybody, with ``left_s`` of true time left;
    ``named``: the claim proved by its boot id that the former process has ended."""

    boot: str
    epoch: int
    former: str | None = None
    left_s: float = 0.0
    named: bool = False


@frozen
class LeaseBelieved:
    """A process tells its actors that the bot is its own for the next ``for_s`` by its clock. ``left_s`` is what the
    database leaves it in truth; 0: the lease is not its. ``given_back``: it has let go of it, at its end and with all
    stopped that send, and hears now of a renewal from before."""

    boot: str
    for_s: float
    left_s: float
    given_back: bool = False


# -- processes and faults


@frozen
class BootStarted:
    """A process began. ``machine`` names the disk that it runs on; a disk that was emptied has a new name."""

    boot: str
    machine: str


@frozen
class BootEnded:
    """A process is gone. ``exit_code`` None: it was killed."""

    boot: str
    exit_code: int | None
    reason: str = ""


@frozen
class ControlsSet:
    """The operator changed the controls in the database."""

    version: int
    paused: bool
    killed: bool


@frozen
class FlattenAcknowledged:
    """A process tells the database that it has carried out the operator's request to close the position."""

    boot: str
    version: int


@frozen
class FaultHappened:
    """A fault did its work, by its word in ``tbh.simulation.faults``; ``detail`` is for a trace."""

    kind: str
    detail: str = ""


@frozen
class Healed:
    """The safety phase is over: from here on nothing fails any more, and the system has to converge."""


Step = (
    OrderSigned | OrderArrived | Lied | CancelArrived | VenueFill | VenueOrderEnded | ForeignTrade | Transition
    | GateMoved | EntryApproved | PositionTold | NoticeDue | NoticeSent | ActorFailed | Committed | Synced
    | LeaseTaken | LeaseBelieved | BootStarted | BootEnded | ControlsSet | FlattenAcknowledged | FaultHappened
    | Healed | AtRest | Inside
)  # fmt: skip
