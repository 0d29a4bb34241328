"""What a backtest assumes of the market beyond its candles."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


class SlippageKind(StrEnum):
    """How far from the price that was there a market order or a stop executes; a target, which is a limit, never does.

    ``fixed`` is ``rate`` quote against the order; ``proportional`` the fraction ``rate`` of the price; ``random`` a
    fraction drawn from the normal distribution of mean ``rate`` and standard deviation ``deviation``, by seed;
    ``volume_share`` the fraction ``rate`` times the square of the order's share of its bar's volume (at most 1).
    """

    NONE = "none"
    FIXED = "fixed"
    PROPORTIONAL = "proportional"
    RANDOM = "random"
    VOLUME_SHARE = "volume_share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slippage:
    """A slippage model; ``ValueError`` for a rate or deviation below 0, or a fraction of 1 and more."""

    kind: SlippageKind = SlippageKind.NONE
    rate: Decimal = ZERO
    deviation: Decimal = ZERO
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rate < 0 or self.deviation < 0:
            raise ValueError("slippage is not negative")
        if self.kind is not SlippageKind.FIXED and (self.rate >= 1 or self.deviation >= 1):
            raise ValueError("slippage is a fraction of the price, below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``cash`` in quote at the start; ``fee`` per side, a fraction of the notional.

    An order decided on a bar's close reaches the market ``latency_bars`` bars and ``latency_ms`` after the next open.
    What comes within a bar gets the price on the straight line from its open to its close. ``volume_share`` is the
    fraction of a bar's volume that may execute (None: all that is asked). ``funding_rate`` is the fraction of the
    notional that a long pays, and a short receives, each ``funding_hours`` since 1970 (UTC), for what it holds then.
    ``positions_max`` limits the positions open at a time, over all symbols (None: one for each).
    """

    cash: Decimal = Decimal(10_000)
    fee: Decimal = Decimal("0.001")
    slippage: Slippage = Slippage()
    latency_bars: int = 0
    latency_ms: int = 0
    volume_share: Decimal | None = None
    funding_rate: Decimal = ZERO
    funding_hours: int = 8
    positions_max: int | None = None

    def __post_init__(self) -> None:
        if not self.cash > 0:
            raise ValueError(f"an account starts with cash above 0: {self.cash}")
        if not 0 <= self.fee < 1:
            raise ValueError(f"a fee is a fraction from 0 to below 1: {self.fee}")
        if self.latency_bars < 0 or self.latency_ms < 0:
            raise ValueError("a latency is not negative")
        if self.volume_share is not None and not 0 < self.volume_share <= 1:
            raise ValueError(f"a share of the volume lies within 0 and 1: {self.volume_share}")
        if not -1 < self.funding_rate < 1 or self.funding_hours < 1:
            raise ValueError("funding is a fraction between -1 and 1, each hour or less often")

    def delay(self, timeframe_s: int) -> tuple[int, float]:
        """The latency in whole bars, and the part of a bar beyond them."""
        whole, rest_ms = divmod(self.latency_ms, timeframe_s * 1000)
        return self.latency_bars + whole, rest_ms / (timeframe_s * 1000)
