"""The order path under fire: order manager, gateway and journal, between a strategy that repeats itself and an exchange
that loses requests and replies, fills in parts, and answers late. Any of the three may crash at any message, and the
whole process at any instant."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tbh.actors.gateway import GatewayActor
from tbh.actors.journaler import JournalerActor
from tbh.actors.order_manager import OrderManagerActor
from tbh.domain import ids
from tbh.domain.admission import Refusal
from tbh.domain.matching import Matcher
from tbh.domain.money import floor_to_step
from tbh.domain.order import TERMINAL
from tbh.domain.venue import Standing
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import Balance, Position, PositionChanged
from tbh.messages.base import Message
from tbh.messages.controls import LeaseRenewed
from tbh.messages.health import GateChanged, Notice
from tbh.messages.market import Market, MarketMoved, Phase
from tbh.messages.orders import (
    Approved,
    Declined,
    Fill,
    Flatten,
    Flattened,
    Order,
    OrderChanged,
    OrderStatus,
    Protection,
    Purpose,
    Recorded,
    Side,
)
from tbh.messages.system import DeadLettered, Restarted
from tbh.ports import AccountEvent, OrderReport, PositionReport, Rejected, Unknown
from tbh.runtime.mailbox import Envelope
from tbh.runtime.probe import EPOCH, Probe
from tbh.runtime.supervise import Policy

BOT = "bot"
MINUTE = timedelta(minutes=1)
WINDOW_S = 5.0
GUARDED = Protection(stop_loss=Decimal("0.05"), take_profit=Decimal("0.05"))
MARKET = Market(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal("0.001"),
    maker_fee=Decimal("0.001"),
)
SPOT = replace(MARKET, enforces_reduce_only=False, allows_short=False, amount_min=Decimal("0.02"))
FAULTS = ("", "request_lost", "reply_lost", "late", "refused", "crash_before", "crash_after")
FORGIVING = Policy(max_failures=400, max_failures_daily=400, first_backoff_s=0.05, backoff_max_s=0.1)


class Venue:
    """An exchange whose calls go wrong as ordered. ``faults`` are taken one per call."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.matcher = Matcher(
            market,
            cash=Decimal(1_000_000),
            volume_share=Decimal("0.5"),
            fee_in="quote" if market.allows_short else "received",
        )
        self.now = EPOCH
        self.orders: dict[str, Order] = {}
        self.standings: dict[str, Standing] = {}
        self.log: list[AccountEvent] = []
        self.faults: deque[str] = deque()
        self.late: list[tuple[Order, Any]] = []
        self.asked_to_place: list[str] = []
        self.play(Decimal(100), Decimal(0))

    def play(self, price: Decimal, volume: Decimal) -> None:
        self._took(self.matcher.open_bar(self.now, price, volume=volume))

    def _took(self, events: list[Any]) -> None:
        self.log += events
        self.standings |= self.matcher.touched

    def accept(self, order: Order) -> OrderReport:
        known = self.standings.get(order.client_order_id)
        if known is None:
            verdict = self.matcher.submit(order, at=self.now)
            if isinstance(verdict, Refusal):
                raise Rejected(verdict.reason, detail=verdict.detail)
            self.orders[order.client_order_id] = order
            self._took([])
        return self._report(order.client_order_id)

    def _report(self, client_order_id: str) -> OrderReport:
        standing = self.standings[client_order_id]
        return OrderReport(
            client_order_id=client_order_id,
            exchange_order_id=standing.exchange_order_id,
            status=standing.status,
            filled_qty=standing.filled_qty,
            avg_price=standing.avg_price,
        )

    def _call(self, effect: Callable[[], Any], order: Order | None = None) -> Any:
        fault = self.faults.popleft() if self.faults else ""
        if fault == "late" and order is not None:
            self.late.append((order, self.now + timedelta(seconds=WINDOW_S)))
        if fault == "refused" and order is not None:
            raise Rejected("refused")
        if fault in ("late", "request_lost"):
            raise Unknown("timeout")
        if fault == "crash_before":
            raise RuntimeError("crash before the call")
        value = effect()
        if fault == "reply_lost":
            raise Unknown("timeout")
        if fault == "crash_after":
            raise RuntimeError("crash after the call")
        return value

    # The port

    def market(self, symbol: str) -> Market:
        return self._market

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        self.asked_to_place.append(order.client_order_id)
        report: OrderReport = self._call(lambda: self.accept(order), order)
        return report

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        def effect() -> OrderReport:
            event = self.matcher.cancel(client_order_id)
            if event is None:
                raise Rejected("order_unknown")
            self._took([event])
            return self._report(client_order_id)

        report: OrderReport = self._call(effect)
        return report

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        report: OrderReport | None = self._call(
            lambda: self._report(client_order_id) if client_order_id in self.standings else None
        )
        return report

    def open_orders(self, symbol: str, *, timeout_s: float) -> list[OrderReport]:
        reports: list[OrderReport] = self._call(lambda: [self._report(one) for one in self.matcher.resting])
        return reports

    def events(self, after: int, *, timeout_s: float) -> list[AccountEvent]:
        events: list[AccountEvent] = self._call(lambda: [event for event in self.log if event.seq > after])
        return events

    def last_seq(self) -> int:
        return self.matcher.account.seq

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        return PositionReport(symbol=symbol, qty=self.matcher.account.qty, entry_price=self.matcher.account.entry_price)

    def balances(self, *, timeout_s: float) -> list[Balance]:
        return []

    def arrival_window_s(self) -> float:
        return WINDOW_S

    def close(self) -> None: ...


class World:
    """Three actors, one first-in-first-out lane per pair of them, and the strategy and operator around them."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.venue = Venue(market)
        self.store = MemoryStore()
        self.lanes: dict[tuple[str, str], deque[Message]] = {}
        self.unanswered: dict[str, Approved] = {}
        self.approved: dict[str, Approved] = {}
        self.flatten: Flatten | None = None
        self.position: Position | None = None
        self.open: set[str] = set()
        self.notices: list[Notice] = []
        self.bar = 0
        self.flattens = 0
        self.boot()

    def boot(self) -> None:
        """A process starts: whatever only the last one knew is gone."""
        self.lanes.clear()
        venue, store = self.venue, self.store
        self.probes = {
            name: Probe(actor, factory, name=name, policy=FORGIVING, start=self.venue.now)
            for name, actor, factory in (
                ("journaler", JournalerActor, lambda ctx: JournalerActor(ctx, store=store, bot_id=BOT)),
                ("gateway", GatewayActor, lambda ctx: GatewayActor(ctx, exchange=venue, store=store)),
                (
                    "order_manager",
                    OrderManagerActor,
                    lambda ctx: OrderManagerActor(ctx, bot_id=BOT, market=self.market, store=store, timeframe_s=60),
                ),
            )
        }
        self.lend()
        self.collect()

    def lend(self) -> None:
        self.post("control_poller", LeaseRenewed(epoch=1, deadline_s=1e9, renewals=1))
        self.post("risk", GateChanged(reasons=(), exits_allowed=True))

    def post(self, sender: str, message: Message) -> None:
        for name, probe in self.probes.items():
            if type(message) in probe.cell.receives and not (isinstance(message, Restarted) and message.actor == name):
                self.lanes.setdefault((sender, name), deque()).append(message)

    def collect(self) -> None:
        for name, probe in self.probes.items():
            kernel, probe.kernel = probe.kernel, []
            for message in [*probe.take(), *kernel]:
                self.hear(message)
                self.post(name, message)
                if isinstance(message, Restarted) and message.actor == "gateway":
                    self.lend()

    def hear(self, message: Message) -> None:
        if isinstance(message, Recorded):
            self.unanswered.pop(message.intent_id, None)
        elif isinstance(message, Declined):
            self.unanswered.pop(message.proposal_id, None)
        elif isinstance(message, Flattened):
            self.flatten = None
        elif isinstance(message, PositionChanged):
            self.position = message.position
        elif isinstance(message, OrderChanged):
            which = self.open.discard if message.state.status in TERMINAL else self.open.add
            which(message.state.order.client_order_id)
        elif isinstance(message, Notice):
            self.notices.append(message)
        assert not isinstance(message, DeadLettered) or "planned" in message.reason or "crash" in message.reason, (
            message
        )

    def deliver(self, lane: tuple[str, str]) -> None:
        queue = self.lanes[lane]
        message = queue.popleft()
        if not queue:
            del self.lanes[lane]
        self.probes[lane[1]].tell(message)
        self.collect()

    def advance(self, seconds: float) -> None:
        self.venue.now += timedelta(seconds=seconds)
        for probe in self.probes.values():
            probe.advance(seconds)
        self.collect()

    # The strategy and the market

    def propose(self, purpose: Purpose, side: Side, qty: Decimal) -> None:
        bar_open = EPOCH + self.bar * MINUTE
        decision_id = ids.decision_id("s", MARKET.symbol, bar_open)
        approved = Approved(
            proposal_id=ids.proposal_id(decision_id, purpose, 0),
            order_side=side,
            purpose=purpose,
            symbol=MARKET.symbol,
            strategy="s",
            bar_open=bar_open,
            layer=0,
            qty=qty,
            protection=GUARDED,
        )
        self.approved[approved.proposal_id] = self.unanswered[approved.proposal_id] = approved
        self.post("risk", approved)

    def ask_to_flatten(self) -> None:
        if self.flatten is None:
            self.flattens += 1
            self.flatten = Flatten(request_id=f"flatten:{self.flattens}", reason="test")
        self.post("control_poller", self.flatten)

    def move(self, price: Decimal, volume: Decimal) -> None:
        self.venue.play(price, volume)
        self.post("feed", MarketMoved(symbol=MARKET.symbol, bar_open=self.venue.now, phase=Phase.OPEN, price=price))

    def settle(self) -> None:
        """No more faults: everything is delivered, and time goes by, until nothing is under way."""
        self.venue.faults.clear()
        self.venue.late.clear()
        self.store._failures.clear()
        for probe in self.probes.values():
            probe._planned.clear()
        for _ in range(60):
            while self.lanes:
                self.deliver(next(iter(self.lanes)))
            probes = self.probes.values()
            at_rest = all(probe.cell.settled for probe in probes) and not self.venue_busy()
            if at_rest and not self.unanswered and self.flatten is None:
                return
            for approved in list(self.unanswered.values()):
                self.post("risk", approved)
            if self.flatten is not None:
                self.post("control_poller", self.flatten)
            self.advance(2.0)
            self.move(self.venue.matcher.last_price or Decimal(100), Decimal(1_000))
        raise AssertionError(f"not settled: {[(n, p.asking) for n, p in self.probes.items()]} {self.unanswered}")

    def venue_busy(self) -> bool:
        return any(order.marketable for order in self.venue.matcher.resting.values())


class OrderPathMachine(RuleBasedStateMachine):
    market = MARKET

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.market)

    @rule(data=st.data())
    def deliver_some(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 8))):
            if not self.world.lanes:
                return
            self.world.deliver(data.draw(st.sampled_from(sorted(self.world.lanes))))

    @rule(long=st.booleans(), qty=st.integers(1, 300))
    def enter(self, long: bool, qty: int) -> None:
        """As risk would allow it: flat, nothing open, nothing waiting."""
        world = self.world
        if world.position is None and not world.open and not world.unanswered and world.flatten is None:
            self._next_bar()
            long = long or not world.market.allows_short
            world.propose(Purpose.ENTRY, Side.BUY if long else Side.SELL, Decimal(qty) / 100)

    @rule(reverse=st.booleans(), qty=st.integers(1, 300))
    def leave(self, reverse: bool, qty: int) -> None:
        world = self.world
        if world.position is not None and not world.unanswered and world.flatten is None:
            self._next_bar()
            side = Side.SELL if world.position.qty > 0 else Side.BUY
            world.propose(Purpose.EXIT, side, abs(world.position.qty))
            if reverse and world.market.allows_short:
                world.propose(Purpose.ENTRY, side, Decimal(qty) / 100)

    def _next_bar(self) -> None:
        self.world.bar = max(self.world.bar + 1, int((self.world.venue.now - EPOCH) / MINUTE))
        for probe in self.world.probes.values():
            probe.set_now(self.world.venue.now)

    @rule()
    def ask_again(self) -> None:
        for approved in list(self.world.unanswered.values()):
            self.world.post("risk", approved)

    @rule(price=st.sampled_from(["94", "97", "100", "103", "106"]), volume=st.integers(0, 10))
    def market_moves(self, price: str, volume: int) -> None:
        self.world.move(Decimal(price), Decimal(volume))

    @rule(seconds=st.sampled_from([0.06, 0.5, 1.0, 2.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        world = self.world
        kept = []
        for order, until in world.venue.late:
            if world.venue.now + timedelta(seconds=seconds) > until:
                self._arrive(order)
            else:
                kept.append((order, until))
        world.venue.late = kept
        world.advance(seconds)

    @precondition(lambda self: self.world.venue.late)
    @rule()
    def a_late_request_arrives(self) -> None:
        self._arrive(self.world.venue.late.pop(0)[0])

    def _arrive(self, order: Order) -> None:
        with suppress(Rejected):
            self.world.venue.accept(order)

    @rule(faults=st.lists(st.sampled_from(FAULTS), max_size=4))
    def calls_will_fail(self, faults: list[str]) -> None:
        self.world.venue.faults.extend(faults)

    @rule(actor=st.sampled_from(["journaler", "gateway", "order_manager"]))
    def an_actor_crashes_at_its_next_message(self, actor: str) -> None:
        self.world.probes[actor].fail_next(RuntimeError("planned"))

    @rule(times=st.integers(1, 3))
    def the_disk_fails(self, times: int) -> None:
        self.world.store.fail_next("disk_full", times=times)

    @rule()
    def the_process_dies(self) -> None:
        self.world.boot()

    @rule()
    def an_operator_flattens(self) -> None:
        self.world.ask_to_flatten()

    @invariant()
    def no_intent_can_fill_beyond_its_quantity(self) -> None:
        venue = self.world.venue
        by_intent: dict[str, Decimal] = {}
        for client_order_id, order in venue.orders.items():
            if order.purpose.increases_risk:
                resting = venue.matcher.resting.get(client_order_id)
                may_fill = venue.standings[client_order_id].filled_qty + (resting.open_qty if resting else Decimal(0))
                by_intent[order.intent_id] = by_intent.get(order.intent_id, Decimal(0)) + may_fill
        for intent_id, may_fill in by_intent.items():
            assert may_fill <= self.world.approved[intent_id].qty, intent_id

    @invariant()
    def no_entry_is_sent_twice_under_one_id(self) -> None:
        sent = [one for one in self.world.venue.asked_to_place if ids.parse(one, BOT).purpose.increases_risk]  # type: ignore[union-attr]  # all are ours
        assert len(sent) == len(set(sent))

    @invariant()
    def nobody_gives_up(self) -> None:
        assert all(probe.escalation is None for probe in self.world.probes.values())

    def teardown(self) -> None:
        world = self.world
        world.settle()
        venue, manager = world.venue, world.probes["order_manager"].actor
        qty = venue.matcher.account.qty
        assert manager._book.qty == qty
        known = {state.order.client_order_id: state for state in manager._orders.open}
        assert set(known) == set(venue.matcher.resting)
        assert not [state for state in known.values() if state.status is OrderStatus.UNKNOWN]
        resting = [venue.orders[one] for one in venue.matcher.resting]
        if not qty or manager._book.is_dust(world.market):
            assert not resting
        else:
            stops = [order for order in resting if order.purpose is Purpose.STOP]
            open_qty = [order.qty - venue.standings[order.client_order_id].filled_qty for order in stops]
            assert open_qty == [floor_to_step(abs(qty), world.market.amount_step)]
        stored = {state.order.client_order_id: state for state in world.store.orders()}
        for client_order_id, standing in venue.standings.items():
            if client_order_id not in stored:
                # A process that dies with its disk faulted takes the memory of an exit with it, which is done by now.
                assert venue.orders[client_order_id].reduce_only
                continue
            assert stored[client_order_id].filled_qty == standing.filled_qty
            assert (stored[client_order_id].status in TERMINAL) is (client_order_id not in venue.matcher.resting)
        assert {fill.trade_id for fill in world.store.fills()} == {
            event.trade_id for event in venue.log if hasattr(event, "trade_id")
        }
        assert len(world.store.fills()) == len({fill.trade_id for fill in world.store.fills()})


class SpotMachine(OrderPathMachine):
    """No shorts, no reduce-only, fees in the coin that is bought: an exit must first free the coins of the stop."""

    market = SPOT


TestOrderPath = OrderPathMachine.TestCase
TestSpot = SpotMachine.TestCase
TestOrderPath.settings = TestSpot.settings = settings(max_examples=150, stateful_step_count=50)


# One scenario, and a crash at each of its messages


def trade(world: World) -> None:
    """Enter, reverse, be stopped out, enter again, be flattened; the market moves only when nothing is under way."""

    def reverse() -> None:
        world.propose(Purpose.EXIT, Side.SELL, Decimal(1))
        world.propose(Purpose.ENTRY, Side.SELL, Decimal(2))

    steps: tuple[Callable[[], None], ...] = (
        lambda: world.propose(Purpose.ENTRY, Side.BUY, Decimal(1)),
        lambda: world.move(Decimal(102), Decimal(1_000)),
        reverse,
        lambda: world.move(Decimal(110), Decimal(1_000)),
        lambda: world.propose(Purpose.ENTRY, Side.BUY, Decimal(1)),
        lambda: world.move(Decimal(109), Decimal(1_000)),
        world.ask_to_flatten,
        lambda: world.move(Decimal(108), Decimal(1_000)),
    )
    world.settle()
    for act in steps:
        world.bar += 1
        world.venue.now = EPOCH + (world.bar + 1) * MINUTE
        for probe in world.probes.values():
            probe.set_now(world.venue.now)
        act()
        world.settle()


def traded(world: World) -> list[tuple[Purpose, Side, Decimal, Decimal]]:
    fills = [event for event in world.venue.log if isinstance(event, Fill)]
    return [(world.venue.orders[one.client_order_id].purpose, one.side, one.qty, one.price) for one in fills]


class CrashAt:
    """Counts an actor's deliveries, and raises at one of them."""

    def __init__(self, actor: str, number: int = 0) -> None:
        self.actor = actor
        self.number = number
        self.seen = 0
        self.kinds: list[str] = []

    def __call__(self, actor: str, envelope: Envelope) -> None:
        if actor == self.actor:
            self.seen += 1
            self.kinds.append(type(envelope.message).__name__)
            if self.seen == self.number:
                raise RuntimeError("planned")

    def run(self, market: Market) -> World:
        world = World(market)
        for probe in world.probes.values():
            probe.intercept = self
        world.probes[self.actor].restart()  # handlers are bound to the intercept when an incarnation is built
        world.collect()
        trade(world)
        return world


@pytest.mark.parametrize("actor", ["journaler", "gateway", "order_manager"])
def test_a_crash_at_any_message_changes_no_trade(actor: str) -> None:
    calm = CrashAt(actor)
    undisturbed = traded(calm.run(MARKET))
    assert [purpose.value for purpose, *_ in undisturbed] == ["entry", "exit", "entry", "stop", "entry", "flatten"]
    for number in range(1, calm.seen + 1):
        crash = CrashAt(actor, number)
        world = crash.run(MARKET)
        case = f"{calm.kinds[number - 1]}, delivery {number} of {calm.seen}"
        assert world.probes[actor].restarts == 2, case
        assert traded(world) == undisturbed, case
        assert not world.probes["order_manager"].actor._orders.open, case


def test_the_crashes_meet_every_message_of_an_order_that_goes_well() -> None:
    calm = CrashAt("order_manager")
    calm.run(MARKET)
    assert set(calm.kinds) >= {
        *("AccountResynced", "Approved", "Recorded", "OrderSubmitted", "OrderAccepted", "Fill", "OrderCanceled"),
        "Flatten",
    }
