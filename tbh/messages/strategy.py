"""What a strategy decided, and what risk made of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from tbh.messages.base import Command, Fact, Value, message
from tbh.messages.orders import Protection, Purpose, Side


class SizingKind(StrEnum):
    FIXED_QUANTITY = "fixed_quantity"
    FIXED_NOTIONAL = "fixed_notional"
    EQUITY_FRACTION = "equity_fraction"
    RISK_FRACTION = "risk_fraction"


@message
class Sizing(Value):
    """How much to trade: base units, quote units, or a fraction of equity (``risk_fraction``: lost at the stop)."""

    kind: SizingKind
    value: Decimal


class CooldownAfter(StrEnum):
    """Which ends of a position a cool-down follows: all, those that lost after fees, those by a stop."""

    ANY = "any"
    LOSS = "loss"
    STOP = "stop"


@message
class Cooldown(Value):
    """No entry while a position that ended so, did so at ``since`` or later: ``bars`` bars must close first."""

    after: CooldownAfter
    bars: int
    since: datetime


@message
class Limit(Value):
    """An entry that rests: ``offset`` (a fraction) below the reference price for a buy, above it for a sell; off the
    book once the bar is over that ends at ``until``."""

    offset: Decimal
    until: datetime


@message
class Proposal(Command):
    """A strategy wants to trade. ``proposal_id`` is a function of (strategy, bar, purpose, layer).

    ``reference_price`` is the close that gave the signal. An exit has no sizing: it closes what is open. Without a
    ``limit`` it is for a market order.
    """

    proposal_id: str
    strategy: str
    symbol: str
    bar_open: datetime
    bar_index: int
    side: Side
    purpose: Purpose
    layer: int = 0
    reference_price: Decimal
    sizing: Sizing | None = None
    protection: Protection | None = None
    cooldown: Cooldown | None = None
    limit: Limit | None = None
    reason: str = ""


@message
class Decision(Value):
    """All that a strategy decided on the close of one bar; empty when it did nothing."""

    decision_id: str
    strategy: str
    symbol: str
    bar_open: datetime
    bar_index: int
    decided_at: datetime
    proposals: tuple[Proposal, ...] = ()


@message
class RecordDecision(Command):
    """Put the decision on disk, so that a restart does not take it a second time."""

    decision: Decision


@message
class DecisionRecorded(Fact):
    unhurried: ClassVar[bool] = True  # the journal has it, and no order waits for that
    decision_id: str


@message
class Refused(Fact):
    """Risk refused a proposal; ``rule`` is one of the gate reasons or a limit's name."""

    proposal_id: str
    strategy: str
    symbol: str
    bar_open: datetime
    purpose: Purpose
    rule: str
    detail: str


@message
class StrategyTicked(Fact):
    """A bar was evaluated. ``warm`` is false until every column has a value."""

    strategy: str
    bar_index: int
    warm: bool
    proposals: int


@message
class IndicatorFailed(Fact):
    strategy: str
    indicator: str
    detail: str


@message
class StrategyProtectOnly(Fact):
    """A strategy's stored rows could not be read: it takes no entries, its positions stay protected."""

    strategy: str
    reason: str
