"""Faults that came later than the rest of a seed's world. They have chances of their own, so that whatever else a seed
has stays as it was before they were thought of."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbh.messages.base import replace
from tbh.messages.orders import Order, Purpose
from tbh.ports import PositionReport, Rejected
from tbh.simulation import inside
from tbh.simulation.dice import Dice
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot
    from tbh.campaign.world import World

FILL_KEEPERS: Final = frozenset({"journaler", "order_manager"})
RIVAL_SHARE: Final = 0.9
"""So often a rival comes while a process stands still, in a seed that has rivals."""


class Trials:
    """Each is asked where it may strike; ``bar`` is told of each bar until everything heals."""

    def __init__(self, world: World, at: Mapping[FaultKind, frozenset[int]]) -> None:
        self._world = world
        self._chance = random.Random(f"{world.seed}/trials")
        self._dice = Dice(random.Random(f"{world.seed}/later dice"), world.dice.mix, at=at)
        self._no_stops_until_ns = 0
        self._lies_until_ns = 0
        self._lie: Decimal | None = None
        self._revoked: set[str] = set()
        self.watches_fills = self._dice.knows(FaultKind.FILL_FAILED)
        self._by_itself = tuple(
            (kind, act)
            for kind, act in (
                (FaultKind.FALSE_POSITION, self._lie_about_position),
                (FaultKind.ACCESS_REVOKED, self._revoke),
            )
            if self._dice.knows(kind)
        )

    def end(self) -> None:
        """Everything heals; a token that is revoked stays so."""
        self._dice.end()
        self._no_stops_until_ns = self._lies_until_ns = 0

    def bar(self) -> None:
        bar_s = self._world.floor.path.bar_s
        for kind, act in self._by_itself:
            if self._dice.strikes(kind, scale=bar_s):
                self._world.after(self._chance.uniform(0.0, bar_s), act)

    def _for(self, least_s: float, most_s: float, long_s: float) -> int:
        chance = self._chance
        seconds = chance.uniform(least_s, most_s) if chance.random() < 0.6 else chance.uniform(most_s, long_s)
        return self._world.now_ns + int(seconds * NS)

    # The exchange

    def check_stop(self, order: Order) -> None:
        """``Rejected`` while the exchange takes no stops."""
        world = self._world
        if order.purpose is not Purpose.STOP:
            return
        if world.now_ns >= self._no_stops_until_ns and self._dice.strikes(FaultKind.STOPS_REFUSED):
            self._no_stops_until_ns = self._for(0.3, 6.0, 20.0)
            world.fault(FaultKind.STOPS_REFUSED, order.client_order_id)
        if world.now_ns < self._no_stops_until_ns:
            raise Rejected("stops_not_allowed", detail="simulated")

    def _lie_about_position(self) -> None:
        world = self._world
        if world.healed or world.now_ns < self._lies_until_ns:
            return
        self._lies_until_ns = self._for(14.0, 26.0, 40.0)
        self._lie = None if self._chance.random() < 0.2 else world.setup.habits.qty
        world.fault(FaultKind.FALSE_POSITION, "nothing" if self._lie is None else f"{self._lie} more")

    def position(self, report: PositionReport) -> PositionReport:
        """What the exchange tells instead of the position as it is."""
        if self._world.now_ns >= self._lies_until_ns:
            return report
        self._world.tell(inside.PositionLied(qty=report.qty))
        qty = Decimal(0) if self._lie is None else report.qty + self._lie
        return replace(report, qty=qty, entry_price=report.entry_price if qty else None)

    # The database

    def _revoke(self) -> None:
        """The tokens of all that live are good for nothing any more; who starts later has a new one."""
        world = self._world
        if world.healed or not world.living:
            return
        self._revoked.update(boot.boot_id for boot in world.living)
        world.fault(FaultKind.ACCESS_REVOKED, ", ".join(boot.boot_id for boot in world.living))

    def check_token(self, boot: Boot) -> None:
        """``Rejected`` for a process whose token was revoked."""
        if boot.boot_id in self._revoked:
            raise Rejected("runtime_token_invalid", detail="simulated")

    # The process

    def fails_at_fill(self, actor: str) -> bool:
        """Whether the actor fails at this message, which is a fill."""
        if actor not in FILL_KEEPERS or self._world.healed:
            return False
        return self._dice.strikes(FaultKind.FILL_FAILED)

    def stand_still(self, still_s: float) -> float:
        """A process stands still; for how long. A rival that comes meanwhile has the time to take the bot over."""
        world = self._world
        if FaultKind.RIVAL_STARTED not in world.dice.mix or world.healed or len(world.living) > 1:
            return still_s
        if self._chance.random() >= RIVAL_SHARE:
            return still_s
        world.chaos.start_rival()
        return max(still_s, self._chance.uniform(1.6, 2.2) * world.setup.lease_s)
