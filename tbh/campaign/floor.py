"""The trading floor of a seed's world: price, exchange and the way to it, with what the exchange does by mischance."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbh.campaign.setup import BOT_ID, Setup
from tbh.domain import ids
from tbh.messages.orders import Fill, Order, OrderStatus, OrderType
from tbh.ports import Rejected
from tbh.simulation import steps
from tbh.simulation.faults import FaultKind
from tbh.simulation.market import START, PricePath
from tbh.simulation.network import NS, Network
from tbh.simulation.venue import Venue

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot
    from tbh.campaign.world import World

CLOCK_ERROR_S: Final = 0.5
"""By how much a process's idea of the exchange's time may be wrong."""
LAG_MAX_S: Final = 2.0
"""How far the exchange's reads may lag behind."""


def arrival_window_s(setup: Setup) -> float:
    """How long after its sending an order may arrive and not be seen yet, in seconds."""
    return setup.window_s + CLOCK_ERROR_S + LAG_MAX_S


class Floor:
    """Tells the world's observer what happens at the exchange. ``orders`` counts those of ours that took effect."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.orders = 0
        self._sent = self._arrived = 0
        self._lags_until_ns = 0
        self._lag_ns = 0
        self._hidden_ns = 0
        self._all_lag = True
        self._denied: dict[str, int] = {}
        self._listed: set[str] = set()
        self._matching = False
        setup, seed, time = world.setup, world.seed, world.hub.time
        self.network = Network(
            random.Random(f"{seed}/network"),
            world.strikes,
            latency_s=setup.latency_s,
            window_s=setup.window_s,
            knows=world.dice.knows,
        )
        self.path = PricePath(
            random.Random(f"{seed}/price"),
            bar_s=setup.bar_s,
            per_bar=setup.ticks_per_bar,
            step=setup.market.price_step,
            price=setup.price,
            volatility=setup.volatility,
        )
        self.venue = Venue(
            setup.market,
            cash=setup.cash,
            fee_in=setup.fee_in,
            volume_share=setup.volume_share,
            tells_cancels=setup.tells_cancels,
            now_ns=lambda: time.now_ns,
            keeps_reduce_only=setup.keeps_reduce_only,
        )
        self.venue.on_fill = self._filled
        self.venue.on_end = self._order_ended
        self.venue.on_foreign = self._foreign_trade
        self._volumes = random.Random(f"{seed}/volume")

    def heal(self) -> None:
        """From now on the exchange and the way to it are as they should be."""
        self.network.faulty = self.network.away = False
        self.venue.heal()
        self._lags_until_ns = 0

    def tick(self) -> None:
        """The market's next tick, and in its turn the one after it."""
        path = self.path
        opens = path.opens
        price = path.advance()
        volume = Decimal(self._volumes.randint(1, 60)) / 10
        self.venue.tick(price, opens=path.bar_open if opens else None, volume=volume)
        if opens:
            self._world.bar()
        self._world.after(path.bar_s / path.per_bar, self.tick)

    def _filled(self, fill: Fill) -> None:
        self._world.tell(steps.VenueFill(fill=fill))

    def _foreign_trade(self, trade_id: str, qty: Decimal, cash: Decimal) -> None:
        self._world.tell(steps.ForeignTrade(trade_id=trade_id, qty=qty, cash=cash))

    def _order_ended(self, client_order_id: str, status: OrderStatus) -> None:
        if status is OrderStatus.FILLED and len(self.venue.ledger[client_order_id].reports) > 3:
            self._world.fault(FaultKind.FILLS_IN_PARTS, client_order_id)
        self._world.tell(steps.VenueOrderEnded(client_order_id=client_order_id, status=status))

    def is_ours(self, client_order_id: str) -> bool:
        """Whether it is an order of the bot."""
        return ids.parse(client_order_id, BOT_ID) is not None

    def order_arrives(self, boot: Boot, order: Order, effect: steps.Effect, refusal: str | None) -> None:
        """A request to place an order has reached the exchange; ``refusal`` is why it refused, if it did."""
        if effect is steps.Effect.ACCEPTED:
            self.orders += 1
            if self._world.strikes(FaultKind.NOT_FOUND_YET):
                self._lag(self._world.chance.uniform(0.2, LAG_MAX_S), all_of_it=self._world.chance.random() < 0.6)
        late_s = None
        if order.expires_at is not None:
            last = order.expires_at + timedelta(seconds=self._world.setup.window_s + CLOCK_ERROR_S)
            late_s = (START + timedelta(microseconds=self._world.now_ns // 1_000) - last).total_seconds()
        leased = self._world.tables.lease.holder == boot.boot_id and self._world.lease_left_s() > 0
        # The next process on its machine takes its lease over by name, and knows of this order.
        leased = leased or self._world.now_ns < self._world.inherited.get(boot.boot_id, 0)
        self._world.tell(
            steps.OrderArrived(
                boot=boot.boot_id, order=order, effect=effect, leased=leased, late_s=late_s, refusal=refusal
            )
        )

    def _lag(self, lag_s: float, *, all_of_it: bool) -> None:
        """Reads lag behind for a while: those of trades and position, or the orders' too."""
        if self._world.now_ns < self._lags_until_ns and lag_s < LAG_MAX_S:
            return  # the present one is seen through
        self._lag_ns, self._all_lag = int(lag_s * NS), all_of_it
        self._lags_until_ns = self._world.now_ns + self._lag_ns + int(self._world.chance.uniform(0.0, 1.0) * NS)

    def taken(self, client_order_id: str, *, unheard: str, lied: bool) -> None:
        """An order of ours has just been taken; ``unheard``: why nobody will be told so, ``lied``: they are told no.

        Where nobody is told, perhaps nothing shows of it for longer than the exchange admits."""
        world = self._world
        if unheard == "lost" and world.strikes(FaultKind.FALSE_DENIAL):
            self._lag(world.setup.window_s + LAG_MAX_S + world.chance.uniform(2.5, 7.0), all_of_it=True)
            self._hidden_ns = self._lags_until_ns  # it is no lag that the exchange would own up to
        scale = 25.0 if unheard == "failed" or lied else 14.0 if unheard else 3.0
        kinds = (FaultKind.EXCHANGE_EXPIRES, FaultKind.EXCHANGE_CANCELS)
        for kind in kinds if world.chance.random() < 0.7 else reversed(kinds):
            if not world.healed and world.chance.random() < scale * world.dice.mix.rate(kind):
                self._end_at_once(client_order_id, expires=kind is FaultKind.EXCHANGE_EXPIRES)
                world.fault(kind, f"{client_order_id} at once")
                return

    def _end_at_once(self, client_order_id: str, *, expires: bool) -> None:
        """The exchange takes off its book what has just come, perhaps after a part of it has filled."""
        venue, chance = self.venue, self._world.chance
        if venue.ledger[client_order_id].order.type is OrderType.MARKET and chance.random() < 0.75:
            told_first = chance.random()
            part, counted = chance.random() < 0.85, told_first < 0.9
            if told_first < 0.2:
                venue.reach(client_order_id, part=True)
            elif venue.end_late(client_order_id, expires=expires, part=part, counted=counted) is not None:
                return
        with suppress(Rejected):  # it has filled
            (venue.expire if expires else venue.cancel)(client_order_id)

    def lies(self, order: Order) -> None:
        """The exchange says that it does not have an order which it has."""
        self._world.tell(steps.Lied(client_order_id=order.client_order_id, intent_id=order.intent_id, qty=order.qty))

    def match_soon(self) -> None:
        """Market orders execute moments after they were taken."""
        if not self._matching:
            self._matching = True
            self._world.after(self._world.chance.uniform(0.0, 0.03), self._match)

    def _match(self) -> None:
        self._matching = False
        self.venue.match()

    def horizon_ns(self, *, orders: bool = False) -> int | None:
        """Up to when a read sees, of ``orders`` or of all else; None: up to now."""
        if self._world.now_ns < self._lags_until_ns and (self._all_lag or not orders):
            return max(0, self._world.now_ns - self._lag_ns)
        return None

    def hides(self, what: str) -> None:
        """A read that lags behind has missed something; one spell is one fault."""
        if self._lags_until_ns != self._hidden_ns:
            self._hidden_ns = self._lags_until_ns
            self._world.fault(FaultKind.NOT_FOUND_YET, what)

    def denies(self, client_order_id: str) -> bool:
        """Whether the exchange denies this order for now, although it has it."""
        world = self._world
        if client_order_id not in self._denied:
            lies = world.strikes(FaultKind.FALSE_DENIAL)
            self._denied[client_order_id] = world.now_ns + int(world.chance.uniform(4.0, 16.0) * NS) if lies else 0
            if world.chance.random() < 0.5:
                self._listed.add(client_order_id)
        return not world.healed and world.now_ns < self._denied[client_order_id]

    def unlisted(self, client_order_id: str) -> bool:
        """Whether it leaves this order out of its lists, too."""
        denied = not self._world.healed and self._world.now_ns < self._denied.get(client_order_id, 0)
        return denied and client_order_id not in self._listed

    def denies_too_long(self, client_order_id: str) -> bool:
        """Whether a read that does not see this order lags behind for longer than the exchange admits."""
        return self._world.now_ns - self.venue.ledger[client_order_id].reports[0][0] > LAG_MAX_S * NS

    def sent(self) -> int:
        """The number of a request that leaves now."""
        self._sent += 1
        return self._sent

    def overtaken(self, number: int) -> bool:
        """Whether a later request has arrived before this one."""
        late = number < self._arrived
        self._arrived = max(self._arrived, number)
        return late
