"""One process's connection to the simulated exchange: ``tbh.ports.Exchange`` and ``tbh.ports.Feed``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tbh.campaign.floor import arrival_window_s
from tbh.messages.account import Balance
from tbh.messages.base import replace
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Order, OrderStatus
from tbh.ports import AccountEvent, Failure, FeedStep, OrderReport, PositionReport, Rejected, Unavailable, Unknown
from tbh.runtime.simulate import Answer
from tbh.simulation import inside, steps
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS, Fate

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot

FEED_TIMEOUT_S = 5.0

Effect = Callable[[str], Any]

_OPEN = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


class VenueClient:
    """``escape``: the connection is an escalation's own."""

    def __init__(self, boot: Boot, *, escape: bool = False) -> None:
        self._boot = boot
        self._world = boot.world
        self._venue = boot.world.floor.venue
        self._escape = escape
        self._seen_seq = 0

    # -- at once

    def market(self, symbol: str) -> Market:
        return self._venue.market

    def last_seq(self) -> int:
        """The newest event that this connection has read."""
        return self._seen_seq

    def arrival_window_s(self) -> float:
        return arrival_window_s(self._world.setup)

    def close(self) -> None:
        """Nothing to close."""

    # -- over the network

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        world, boot = self._world, self._boot
        boot.check_alive()
        world.tell(
            steps.OrderSigned(
                boot=boot.boot_id,
                order=order,
                recorded=boot.disk.store.order(order.client_order_id) is not None,
                store_faulted=boot.waited_for_disk(order.client_order_id),
                escape=self._escape,
            )
        )
        signed_ns = world.now_ns
        window_s = world.setup.window_s
        if order.expires_at is not None:  # the adapter asks for a shorter receive window then
            window_s = min(window_s, max(0.0, (order.expires_at - boot.now()).total_seconds()))
        last_ns = signed_ns + int(window_s * NS)
        if world.strikes(FaultKind.PROCESS_STOPPED, scale=5.0):
            world.stop_process(boot)  # between the signature and the wire
            boot.sleep(0.0)
        report: OrderReport = self._call(
            "place",
            lambda unheard: self._arrive(order, last_ns, unheard),
            timeout_s=timeout_s,
            writes=True,
            places=True,
        )
        return report

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        if not self._escape:
            self._world.tell(inside.CancelSent(boot=self._boot.boot_id, client_order_id=client_order_id))
        report: OrderReport = self._call(
            "cancel", lambda _: self._arrive_cancel(client_order_id), timeout_s=timeout_s, writes=True
        )
        return report

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        return self._call("order", lambda _: self._look_up(client_order_id), timeout_s=timeout_s)  # type: ignore[no-any-return]

    def open_orders(self, symbol: str, *, timeout_s: float) -> Sequence[OrderReport]:
        return self._call(  # type: ignore[no-any-return]
            "open_orders",
            lambda _: self._list(),
            timeout_s=timeout_s,
        )

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        events: Sequence[AccountEvent] = self._call("events", lambda _: self._read_events(after), timeout_s=timeout_s)
        newest = events[-1].seq if events else after
        if newest < self._seen_seq:
            raise Unavailable("trades_behind", detail=f"the last one is {newest}, and was {self._seen_seq}")
        self._seen_seq = newest
        return events

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        if not self._escape:
            self._boot.read_qty = None
        report: PositionReport = self._call("position", lambda _: self._read_position(), timeout_s=timeout_s)
        if not self._escape:
            self._boot.read_qty = report.qty
        return report

    def balances(self, *, timeout_s: float) -> Sequence[Balance]:
        return self._call("balances", lambda _: self._venue.balances(), timeout_s=timeout_s)  # type: ignore[no-any-return]

    # -- effects, at the exchange

    def _arrive(self, order: Order, last_ns: int, unheard: str) -> OrderReport:
        world, venue = self._world, self._venue
        known = order.client_order_id in venue.ledger
        late_ns = world.now_ns - last_ns
        report: OrderReport | None = None
        refusal: Rejected | None = None
        if late_ns > 0:
            refusal = Rejected("timestamp_outside_recv_window", detail=f"{late_ns / NS:.3f} s late")
        else:
            try:
                if not known:
                    world.trials.check_stop(order)
                report = venue.place(order)
            except Rejected as no:
                refusal = no
        lied = report is not None and not known and world.strikes(FaultKind.FALSE_REFUSAL)
        if report is None:
            effect = steps.Effect.REFUSED
        else:
            effect = steps.Effect.REPEATED if known else steps.Effect.ACCEPTED
        world.floor.order_arrives(self._boot, order, effect, None if refusal is None else refusal.reason)
        if report is None:
            raise refusal or Rejected("refused")
        world.floor.match_soon()
        if not known:
            world.floor.taken(order.client_order_id, unheard=unheard, lied=lied)
        if lied:
            world.floor.lies(order)
            world.fault(FaultKind.FALSE_REFUSAL, order.client_order_id)
            raise Rejected("order_refused", detail="simulated")
        return report

    def _arrive_cancel(self, client_order_id: str) -> OrderReport:
        world, venue = self._world, self._venue
        ours = world.floor.is_ours(client_order_id)
        world.tell(steps.CancelArrived(boot=self._boot.boot_id, client_order_id=client_order_id, ours=ours))
        standing = venue.order(client_order_id)
        resting = standing is not None and standing.status in _OPEN
        if resting and world.strikes(FaultKind.FILL_AFTER_CANCEL):
            canceled = venue.end_late(client_order_id, expires=False)
            if canceled is not None:
                world.fault(FaultKind.FILL_AFTER_CANCEL, client_order_id)
                return canceled
        if resting and world.strikes(FaultKind.FILL_DURING_CANCEL) and venue.reach(client_order_id):
            world.fault(FaultKind.FILL_DURING_CANCEL, client_order_id)
        return venue.cancel(client_order_id)

    def _read_events(self, after: int) -> Sequence[AccountEvent]:
        horizon_ns = self._world.floor.horizon_ns()
        seen = self._venue.events_after(after, horizon_ns)
        if horizon_ns is not None and len(seen) < len(self._venue.events_after(after)):
            self._world.floor.hides("events")
        return seen

    def _read_position(self) -> PositionReport:
        return self._world.trials.position(self._venue.position(self._world.floor.horizon_ns()))

    def _list(self) -> Sequence[OrderReport]:
        floor = self._world.floor
        seen = self._venue.open_orders(floor.horizon_ns(orders=True))
        return [self._miscalled(report) for report in seen if not floor.unlisted(report.client_order_id)]

    def _miscalled(self, report: OrderReport) -> OrderReport:
        """Perhaps what is filled in part is called filled."""
        world = self._world
        if report.status is not OrderStatus.PARTIALLY_FILLED or not world.strikes(FaultKind.FALSE_STATUS):
            return report
        world.floor.lies(self._venue.ledger[report.client_order_id].order)
        world.fault(FaultKind.FALSE_STATUS, report.client_order_id)
        return replace(report, status=OrderStatus.FILLED)

    def _look_up(self, client_order_id: str) -> OrderReport | None:
        world, venue = self._world, self._venue
        seen = venue.order(client_order_id, world.floor.horizon_ns(orders=True))
        if seen is None:
            if client_order_id in venue.ledger:
                world.floor.hides(client_order_id)
                if world.floor.denies_too_long(client_order_id):
                    world.floor.lies(venue.ledger[client_order_id].order)
                    world.fault(FaultKind.FALSE_DENIAL, client_order_id)
        elif seen.status in _OPEN and world.floor.denies(client_order_id):
            world.floor.lies(venue.ledger[client_order_id].order)
            world.fault(FaultKind.FALSE_DENIAL, client_order_id)
            return None
        return None if seen is None else self._miscalled(seen)

    # -- the way there and back

    def _call(self, name: str, effect: Effect, *, timeout_s: float, writes: bool = False, places: bool = False) -> Any:
        """``effect`` is given why its answer will not be heard, or nothing."""
        world, boot = self._world, self._boot
        boot.check_alive()
        if name == "candles" and world.floor.network.away:
            return effect("")
        fate = world.floor.network.fate(writes=writes, places=places, timeout_s=timeout_s)
        if name == "candles" and not fate.kinds:
            return effect("")  # nothing hangs on the instant, and there are many
        for kind in fate.kinds:
            world.fault(kind, name)
        trip = _Trip(self, name, effect, fate, timeout_s)
        killed, fails = FaultKind.PROCESS_KILLED_IN_CALL, FaultKind.ADAPTER_FAILS
        if killed in world.may and world.strikes(killed, scale=8.0 if places else 1.0):
            world.after(world.chance.uniform(0.0, 3.0) * world.setup.latency_s, boot.killed_in_call, f"inside {name}")
        if fails in world.may and world.strikes(fails, scale=10.0 if places else 1.0):
            world.fault(fails, name)
            boot.injected = True
            if world.chance.random() < 0.3:
                raise KeyError("orderId")
            trip.unheard = "failed"
            with suppress(Failure):
                boot.wait(trip.begin)
            boot.injected = True
            raise KeyError("orderId")
        boot.calls += 1
        try:
            return boot.wait(trip.begin)
        finally:
            boot.calls -= 1


class _Trip:
    """One call under way."""

    __slots__ = ("_answer", "_client", "_effect", "_fate", "_name", "_number", "_timeout_s", "unheard")

    def __init__(self, client: VenueClient, name: str, effect: Effect, fate: Fate, timeout_s: float) -> None:
        self._client = client
        self._name = name
        self._effect = effect
        self._fate = fate
        self._timeout_s = timeout_s
        self._number = 0
        self.unheard = "lost" if fate.instead is not None or fate.answer_ns is None else ""
        self._answer: Answer

    def begin(self, answer: Answer) -> None:
        self._answer = answer
        fate, world = self._fate, self._client._world
        time = world.hub.time
        timeout_ns = int(self._timeout_s * NS)
        due_ns = fate.answer_ns
        if fate.arrives_ns is not None:
            self._number = world.floor.sent()
            time.after(fate.arrives_ns, self._arrive, True)
            if fate.again_ns is not None:
                time.after(fate.again_ns, self._arrive, False)
            due_ns = None if fate.answer_ns is None or fate.instead is not None else fate.arrives_ns + fate.answer_ns
        if fate.instead is not None and fate.answer_ns is not None:
            time.after((fate.arrives_ns or 0) + fate.answer_ns, answer, None, fate.instead)
        elif due_ns is None or due_ns > timeout_ns:
            time.after(timeout_ns, answer, None, Unknown("timeout", detail=self._name))

    def _arrive(self, first: bool) -> None:
        world, fate = self._client._world, self._fate
        if first and world.floor.overtaken(self._number):
            world.fault(FaultKind.REQUESTS_REORDERED, self._name)
        value: Any = None
        refusal: Rejected | None = None
        try:
            value = self._effect(self.unheard)
        except Rejected as no:
            refusal = no
        if not first or fate.instead is not None or fate.answer_ns is None:
            return
        if fate.empty and refusal is None:
            value = replace(value, exchange_order_id="")
        world.hub.time.after(fate.answer_ns, self._answer, value, refusal)


class VenueFeed:
    """The market's bars, with an index from the first bar of its history."""

    def __init__(self, boot: Boot, client: VenueClient) -> None:
        self.symbol = boot.world.floor.venue.market.symbol
        self.timeframe_s = boot.world.floor.path.bar_s
        self._boot = boot
        self._client = client
        self._known = 0

    def history(self) -> Sequence[Candle]:
        candles: list[Candle] = self._client._call(
            "candles", lambda _: list(self._boot.world.floor.path.candles), timeout_s=FEED_TIMEOUT_S
        )
        self._known = len(candles)
        return candles

    def poll(self) -> Sequence[FeedStep]:
        known = self._known
        news: list[Candle] = self._client._call(
            "candles", lambda _: self._boot.world.floor.path.candles[known:], timeout_s=FEED_TIMEOUT_S
        )
        self._known = known + len(news)
        return [
            FeedStep(
                phase=Phase.CLOSE, bar_open=candle.open_time, price=candle.close, index=known + offset, candle=candle
            )
            for offset, candle in enumerate(news)
        ]
