"""The strategy of a seed: it decides by seed, bar and position alone, so that a bar decided twice is decided alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from tbh.messages.account import Position
from tbh.messages.base import replace
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side, Trailing
from tbh.messages.strategy import Limit, Sizing, SizingKind
from tbh.strategies.base import Wish

NAME = "trader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often (of bars) the trader does what, and how it guards itself (shares of positions; fractions of price).

    ``qty`` is one layer's, in base; ``layers`` how many there may be; ``limits`` how many of its entries rest.
    From ``rests_from`` on it decides nothing more.
    """

    qty: Decimal
    layers: int
    shorts: bool
    enters: float
    exits: float
    reverses: float
    pyramids: float
    stops: float
    targets: float
    trails: float
    rests_from: datetime
    limits: float = 0.0


class ScriptedTrader:
    """Implements ``tbh.strategies.base.Strategy``."""

    name = NAME
    warmup = 0
    warm = True

    def __init__(self, seed: int, timeframe_s: int, habits: Habits) -> None:
        self.timeframe_s = timeframe_s
        self.bar_count = 0
        self._seed = seed
        self._habits = habits
        self._last: Candle | None = None

    def load(self, history: Sequence[Candle]) -> None:
        self.bar_count = len(history)
        self._last = history[-1] if history else None

    def append(self, candle: Candle) -> None:
        self.bar_count += 1
        self._last = candle

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        if self._last is None:
            raise ValueError("no bar has closed yet")
        wishes = self._wishes(position, self._last)
        return tuple(self._rests(wish, self._last) for wish in wishes) if self._habits.limits else wishes

    def _rests(self, wish: Wish, bar: Candle) -> Wish:
        """The wish, at a price perhaps. Its dice are its own: a trader at market decides as if there were none."""
        dice = random.Random(f"{self._seed}/{bar.open_time.timestamp():.0f}/limit")
        if not wish.purpose.increases_risk or dice.random() >= self._habits.limits:
            return wish
        bars, offset = dice.choice((1, 1, 2, 3, 5)), Decimal(dice.choice((0, 0, 1, 2, 5, 10))) / 10_000
        until = bar.open_time + timedelta(seconds=self.timeframe_s * (bars + 1))
        return replace(wish, limit=Limit(offset=offset, until=until))

    def _wishes(self, position: Position | None, bar: Candle) -> tuple[Wish, ...]:
        habits = self._habits
        if bar.open_time >= habits.rests_from:
            return ()
        chance = random.Random(f"{self._seed}/{bar.open_time.timestamp():.0f}").random
        if position is None:
            if chance() >= habits.enters:
                return ()
            side = Side.SELL if habits.shorts and chance() < 0.5 else Side.BUY
            return (self._enter(side, chance()),)
        closing = Side.SELL if position.qty > 0 else Side.BUY
        act = chance()
        if act < habits.exits:
            return (Wish(side=closing, purpose=Purpose.EXIT),)
        act -= habits.exits
        if act < habits.reverses:
            if not habits.shorts:
                return (Wish(side=closing, purpose=Purpose.EXIT),)
            return (Wish(side=closing, purpose=Purpose.EXIT), self._enter(closing, chance()))
        act -= habits.reverses
        if act < habits.pyramids and position.layers < habits.layers:
            sizing = Sizing(kind=SizingKind.FIXED_QUANTITY, value=habits.qty)
            return (Wish(side=closing.opposite, purpose=Purpose.PYRAMID, layer=position.layers, sizing=sizing),)
        return ()

    def _enter(self, side: Side, chance: float) -> Wish:
        habits = self._habits
        near = Decimal(2 + int(chance * 1000) % 7) / 1000
        protection = None
        if chance < habits.stops:
            trailing = Trailing(distance=near, activate_at=near / 8) if chance < habits.trails else None
            target = 2 * near if int(chance * 100_000) % 100 < habits.targets * 100 else None
            protection = Protection(stop_loss=near, take_profit=target, trailing=trailing)
        sizing = Sizing(kind=SizingKind.FIXED_QUANTITY, value=habits.qty)
        return Wish(side=side, purpose=Purpose.ENTRY, sizing=sizing, protection=protection)
