"""What comes by itself in a seed's world: outages, stopped and killed processes, other people, operators."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tbh.campaign.disk import Disk
from tbh.domain.money import floor_to_step
from tbh.messages.orders import OrderStatus, Side
from tbh.ports import Rejected
from tbh.simulation import steps
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot
    from tbh.campaign.world import World

WAITS_LONG_S: Final = 0.4


class Chaos:
    """Each bar is one opportunity for each kind, worth its seconds; what strikes does so at some instant of the bar.
    ``aimed_at`` is the actor that is to fail at its next message."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: set[str] = set()
        self.aimed_at: str | None = None
        self.watches_orders = False
        self._rules: tuple[tuple[FaultKind, Callable[[], None]], ...] = (
            (FaultKind.EXCHANGE_CLOSES, self._close_position),
            (FaultKind.EXCHANGE_CANCELS, self._cancel_order),
            (FaultKind.EXCHANGE_EXPIRES, self._expire_order),
            (FaultKind.EXCHANGE_AWAY, self._exchange_away),
            (FaultKind.FOREIGN_ORDER, self._rest_foreign),
            (FaultKind.FOREIGN_TRADE, self._trade_foreign),
            (FaultKind.DATABASE_AWAY, self._database_away),
            (FaultKind.DATABASE_CLOCK_STEPPED, self._step_database),
            (FaultKind.DISK_FULL, self._fill_disk),
            (FaultKind.POWER_LOST, self._lose_power),
            (FaultKind.PROCESS_STOPPED, self._stop_process),
            (FaultKind.CLOCK_STEPPED, self._step_clock),
            (FaultKind.RIVAL_STARTED, self.start_rival),
            (FaultKind.OPERATOR_PAUSES, self._pause),
            (FaultKind.OPERATOR_KILLS, self._kill),
            (FaultKind.OPERATOR_FLATTENS, self._flatten),
            (FaultKind.OPERATOR_RESTARTS, self._restart),
        )

    def begin(self) -> None:
        """Leave out what this seed does not have."""
        dice = self._world.dice
        self._rules = tuple(rule for rule in self._rules if dice.knows(rule[0]))
        self.watches_orders = FaultKind.ACTOR_FAILED in dice.mix or FaultKind.OPERATOR_FLATTENS in dice.mix

    def bar(self) -> None:
        world = self._world
        bar_s = world.floor.path.bar_s
        for kind, act in self._rules:
            if world.strikes(kind, scale=bar_s):
                world.after(world.chance.uniform(0.0, bar_s), self._act, act)

    def _act(self, act: Callable[[], None]) -> None:
        if not self._world.healed:
            act()

    def end(self) -> None:
        """Everything heals."""
        self.aimed_at = None
        world = self._world
        world.database_away = False
        for disk in world.disks:
            disk.full = False
        for boot in world.living:
            boot.process.go_on()
        # A row that was written while the database's clock was ahead would keep a rival waiting for as long: its
        # operator puts it right together with the clock.
        world.database_ahead_s = 0.0
        lease = world.tables.lease
        lease.expires_at_s = min(lease.expires_at_s, world.now_ns / NS + lease.lease_s)
        controls = world.tables.controls
        if controls.paused or controls.killed:
            self._control(paused=False, killed=False)

    def next_disk(self, disk: Disk) -> Disk:
        """Where the bot is started next."""
        world = self._world
        if world.strikes(FaultKind.DISK_LOST):
            world.fault(FaultKind.DISK_LOST, disk.name)
            self._perhaps_flatten(0.5, 6.0)
            return world.new_disk()
        if world.strikes(FaultKind.STORE_DAMAGED):
            world.fault(FaultKind.STORE_DAMAGED, disk.name)
            self._perhaps_flatten(0.5, 6.0)
            disk.damaged = True
        return disk

    def _perhaps_flatten(self, chance: float, within_s: float) -> None:
        """An operator who sees something fail may have the position closed."""
        world = self._world
        if FaultKind.OPERATOR_FLATTENS in world.dice.mix and world.chance.random() < chance:
            world.after(world.chance.uniform(0.0, within_s), self._act, self._flatten)

    def _for(self, least_s: float, most_s: float, long_s: float) -> float:
        """How long something lasts: mostly short, sometimes long."""
        chance = self._world.chance
        return chance.uniform(least_s, most_s) if chance.random() < 0.7 else chance.uniform(most_s, long_s)

    def _some_boot(self) -> Boot | None:
        living = [boot for boot in self._world.living if not boot.process.out]
        return self._world.chance.choice(living) if living else None

    # -- while an order waits

    def order_moved(self, client_order_id: str, status: OrderStatus) -> None:
        """What strikes at random seldom meets an order that is recorded and not sent: some of it is aimed there."""
        if status is OrderStatus.RECORDED:
            self._waiting.add(client_order_id)
            self._world.after(WAITS_LONG_S, self._act, partial(self._order_waits, client_order_id))
        else:
            self._waiting.discard(client_order_id)

    def _order_waits(self, client_order_id: str) -> None:
        mix, chance = self._world.dice.mix, self._world.chance
        if client_order_id not in self._waiting:
            return
        if FaultKind.ACTOR_FAILED in mix and chance.random() < 0.3:
            self.aimed_at = "risk"
            self._world.after(chance.uniform(0.3, 1.5), self._act, self._aim_at_orders)
        if FaultKind.OPERATOR_FLATTENS in mix and chance.random() < 0.7:
            self._flatten()

    def _aim_at_orders(self) -> None:
        self.aimed_at = "order_manager"

    def fails(self, actor: str) -> bool:
        """Whether that actor fails at this message, because it is aimed at."""
        if actor != self.aimed_at:
            return False
        self.aimed_at = None
        return True

    # -- the exchange and others on it

    def _close_position(self) -> None:
        side, qty = self._world.floor.venue.closable()
        if qty and self._world.floor.venue.trade_foreign(side, qty, closing=True):
            self._world.fault(FaultKind.EXCHANGE_CLOSES, f"{side} {qty}")

    def _cancel_order(self) -> None:
        client_order_id = self._some_order()
        if client_order_id is not None:
            self._world.floor.venue.cancel(client_order_id)
            self._world.fault(FaultKind.EXCHANGE_CANCELS, client_order_id)

    def _expire_order(self) -> None:
        client_order_id = self._some_order()
        if client_order_id is not None:
            venue = self._world.floor.venue
            if self._world.chance.random() < 0.3 or venue.end_late(client_order_id, expires=True) is None:
                with suppress(Rejected):  # it has found nothing to reduce
                    venue.expire(client_order_id)
            self._world.fault(FaultKind.EXCHANGE_EXPIRES, client_order_id)

    def _exchange_away(self) -> None:
        world, network = self._world, self._world.floor.network
        if not network.away:
            away_s = self._for(0.5, 4.0, 15.0)
            world.fault(FaultKind.EXCHANGE_AWAY, f"{away_s:.1f} s")
            network.away = True
            world.after(away_s, self._set, network, "away", False)
            self._perhaps_flatten(0.4, 4.0)

    def _some_order(self) -> str | None:
        floor = self._world.floor
        ours = [order.client_order_id for order in floor.venue.standing() if floor.is_ours(order.client_order_id)]
        return self._world.chance.choice(ours) if ours else None

    def _rest_foreign(self) -> None:
        world, venue = self._world, self._world.floor.venue
        step = world.setup.market.price_step
        price = floor_to_step(venue.price / 2, step)
        if venue.rest_foreign(Side.BUY, world.setup.habits.qty, price):
            world.fault(FaultKind.FOREIGN_ORDER)

    def _trade_foreign(self) -> None:
        world, venue = self._world, self._world.floor.venue
        side, qty = venue.closable()
        if world.chance.random() < 0.5 or not qty:
            side, qty = Side.BUY, world.setup.habits.qty
        else:
            qty = floor_to_step(qty / Decimal(2), world.setup.market.amount_step)
        if qty and venue.trade_foreign(side, qty):
            world.fault(FaultKind.FOREIGN_TRADE, f"{side} {qty}")

    # -- the database and the disk

    def _database_away(self) -> None:
        world = self._world
        if not world.database_away:
            away_s = self._for(0.5, 6.0, 60.0)
            world.fault(FaultKind.DATABASE_AWAY, f"{away_s:.1f} s")
            world.database_away = True
            world.after(away_s, self._set, world, "database_away", False)

    def _step_database(self) -> None:
        step_s = self._world.chance.uniform(-3600.0, 3600.0)
        self._world.fault(FaultKind.DATABASE_CLOCK_STEPPED, f"{step_s:.0f} s")
        self._world.database_ahead_s += step_s

    def _fill_disk(self) -> None:
        boot = self._some_boot()
        if boot is not None and not boot.disk.full:
            full_s = self._for(0.3, 5.0, 30.0)
            boot.disk.full = True
            self._world.after(full_s, self._set, boot.disk, "full", False)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)

    # -- processes

    def _lose_power(self) -> None:
        boot = self._some_boot()
        if boot is not None:
            lost = boot.disk.lose_power()
            self._world.fault(FaultKind.POWER_LOST, f"{boot.boot_id}, {lost} commits lost")
            self._world.kill(boot)

    def _stop_process(self) -> None:
        boot = self._some_boot()
        if boot is not None:
            self._world.stop_process(boot)

    def _step_clock(self) -> None:
        boot = self._some_boot()
        if boot is not None:
            step_s = self._world.chance.uniform(-3600.0, 3600.0)
            self._world.fault(FaultKind.CLOCK_STEPPED, f"{boot.disk.name} by {step_s:.0f} s")
            boot.disk.clock_ahead_s += step_s

    def start_rival(self) -> None:
        """A second runtime of the bot, on a machine of its own."""
        world = self._world
        if len(world.living) < 2:
            world.fault(FaultKind.RIVAL_STARTED)
            world.start(world.new_disk())

    def _restart(self) -> None:
        boot = self._some_boot()
        if boot is not None:
            self._world.fault(FaultKind.OPERATOR_RESTARTS, boot.boot_id)
            boot.request_stop()

    # -- operators

    def _control(self, **changes: Any) -> None:
        controls = self._world.rpc.set_controls(**changes)
        self._world.tell(steps.ControlsSet(version=controls.version, paused=controls.paused, killed=controls.killed))

    def _pause(self) -> None:
        self._world.fault(FaultKind.OPERATOR_PAUSES)
        self._control(paused=True)
        self._world.after(self._for(2.0, 8.0, 40.0), self._act, lambda: self._control(paused=False))

    def _kill(self) -> None:
        self._world.fault(FaultKind.OPERATOR_KILLS)
        self._control(killed=True)
        self._world.after(self._for(2.0, 8.0, 40.0), self._act, lambda: self._control(killed=False))

    def _flatten(self) -> None:
        self._world.fault(FaultKind.OPERATOR_FLATTENS)
        version = self._world.tables.controls.version + 1
        self._control(flatten_version=version)
