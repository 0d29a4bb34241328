"""What the market did: closed bars, the phases within a bar, and whether the feed can be believed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from tbh.messages.base import Command, Fact, Value, message


class Phase(StrEnum):
    """The three instants of a bar that a lock-step replay releases one after the other."""

    OPEN = "open"
    RANGE = "range"
    CLOSE = "close"


@message
class Candle(Value):
    """One bar as it stands in a file or comes from an exchange. ``open_time`` is aware UTC, prices are in quote."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@message
class Market(Value):
    """The rules of one market, as the exchange states them. ``None`` means that it states no such limit.

    ``cancels_are_final``: what the end of a cancelled order is told with has filled of it, and nothing will be told of
    later.
    """

    symbol: str
    base: str
    quote: str
    price_step: Decimal
    amount_step: Decimal
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    notional_min: Decimal | None = None
    notional_max: Decimal | None = None
    taker_fee: Decimal
    maker_fee: Decimal
    enforces_reduce_only: bool = True
    allows_short: bool = True
    cancels_are_final: bool = False


@message
class Bar(Fact):
    """A bar has closed. ``index`` counts from the first bar of the session's history."""

    symbol: str
    timeframe_s: int
    index: int
    candle: Candle


@message
class MarketMoved(Fact):
    """The market reached a phase of the bar that opened at ``bar_open``; the account may have changed."""

    unhurried: ClassVar[bool] = True  # in a live market the account is polled, and orders follow from bars
    symbol: str
    bar_open: datetime
    phase: Phase
    price: Decimal


@message
class Advance(Command):
    """Release the next phase of a replay; ``turn`` counts the releases."""

    turn: int


@message
class ReplayEnded(Fact):
    """The recorded market is over: ``bars`` bars were released."""

    bars: int


@message
class FeedStale(Fact):
    """No bar came for ``age_s`` seconds of market time, more than ``limit_s``. Entries stop."""

    symbol: str
    age_s: float
    limit_s: float


@message
class FeedRecovered(Fact):
    """Bars come again after a stale spell."""

    symbol: str
    stale_for_s: float


@message
class GapFound(Fact):
    """``missing`` bars are absent before the bar that opened at ``at``. None is ever invented."""

    symbol: str
    at: datetime
    missing: int
