"""A breakout with stops as wide as the market moves, which leaves after a while: what a definition can't say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from tbh.strategies.custom import BarView, Protection, Side, Sizing, SizingKind, Wish, fraction


@dataclass(frozen=True)
class Parameters:
    """``channel`` and ``atr`` in bars, ``width`` in ATRs, ``risk`` what a stop may cost of the equity."""

    channel: int = 20
    atr: int = 14
    width: float = 2.0
    risk: float = 0.01
    hold_minutes: int = 240

    def __post_init__(self) -> None:
        if not 2 <= self.channel <= 1_000:
            raise ValueError("channel must lie between 2 and 1000")
        if not (0 < self.risk <= 0.1 and 0 < self.width <= 20):
            raise ValueError("risk must be above 0 and at most 0.1, width above 0 and at most 20")


class AtrBreakout:
    """Both sides; one position at a time, sized so that its stop costs the same share of the equity."""

    Params = Parameters

    def __init__(self, params: Parameters) -> None:
        self.params = params
        self.history = params.channel + 1
        self.indicators = [{"id": "atr", "name": "atr", "params": {"period": params.atr}}]

    def on_bar(self, view: BarView) -> Sequence[Wish]:
        """Enter where the close leaves the channel of the bars before; leave when the time is over."""
        held = view.position
        if held is not None:
            over = view.open_time - held.since > timedelta(minutes=self.params.hold_minutes)
            return [view.leave(reason="the time is over")] if over else []
        close = float(view.columns["close"][-1])
        stop = self.params.width * float(view.columns["atr__value"][-1]) / close
        if not 0.0001 < stop < 0.5:
            return []
        size = Sizing(kind=SizingKind.RISK_FRACTION, value=fraction(self.params.risk))
        guard = Protection(
            stop_loss=fraction(stop), take_profit=fraction(min(2 * stop, 0.9)), basis_price=Decimal(repr(close))
        )
        if close > view.columns["high"][:-1].max():
            return [view.enter(Side.BUY, sizing=size, protection=guard, reason="above the channel")]
        if close < view.columns["low"][:-1].min():
            return [view.enter(Side.SELL, sizing=size, protection=guard, reason="below the channel")]
        return []
