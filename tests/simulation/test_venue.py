"""The simulated exchange: what it takes, remembers, tells, and tells late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.messages.market import Market
from tbh.messages.orders import (
    Fill,
    Order,
    OrderCanceled,
    OrderExpired,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
)
from tbh.ports import Rejected
from tbh.simulation.market import START
from tbh.simulation.venue import Venue

D = Decimal
SPOT = Market(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    price_step=D("0.01"),
    amount_step=D("0.01"),
    taker_fee=D("0.001"),
    maker_fee=D("0.001"),
    enforces_reduce_only=False,
    allows_short=False,
)


class Floor:
    """A venue with a clock in hand and its words noted; the price is 100."""

    def __init__(self, **more: Any) -> None:
        self.now_ns = 0
        settings: dict[str, Any] = {
            "cash": D(10_000),
            "fee_in": "received",
            "volume_share": None,
            "tells_cancels": True,
        }
        self.venue = Venue(SPOT, now_ns=lambda: self.now_ns, **(settings | more))
        self.fills: list[Fill] = []
        self.ended: list[tuple[str, OrderStatus]] = []
        self.foreign: list[tuple[Decimal, Decimal]] = []
        self.venue.on_fill = self.fills.append
        self.venue.on_end = lambda name, status: self.ended.append((name, status))
        self.venue.on_foreign = lambda _trade_id, qty, cash: self.foreign.append((qty, cash))
        self.venue.tick(D(100), opens=START, volume=D(1))

    def place(self, name: str, side: Side = Side.BUY, qty: str = "1", *, stop: str | None = None) -> None:
        self.venue.place(order(name, side, qty, stop=stop))

    def bought(self, name: str = "a") -> None:
        self.place(name)
        self.venue.match()


def order(name: str, side: Side = Side.BUY, qty: str = "1", *, stop: str | None = None) -> Order:
    return Order(
        client_order_id=name,
        intent_id=name,
        symbol=SPOT.symbol,
        side=side,
        type=OrderType.MARKET if stop is None else OrderType.STOP_MARKET,
        qty=D(qty),
        stop_price=None if stop is None else D(stop),
        purpose=Purpose.ENTRY,
        strategy="s",
        bar_open=START,
        created_at=START,
    )


def test_a_market_order_executes_and_its_fee_comes_out_of_the_coin_received() -> None:
    floor = Floor()
    floor.bought()
    assert floor.venue.qty == D("0.999")
    assert floor.venue.cash == D(9_900)
    assert [fill.client_order_id for fill in floor.fills] == ["a"]
    assert floor.ended == [("a", OrderStatus.FILLED)]


def test_a_fill_is_dated_when_it_happened() -> None:
    floor = Floor()
    floor.place("a")
    floor.now_ns = 1_500_000_000
    floor.venue.match()
    assert floor.fills[0].at == START + timedelta(seconds=1.5)


def test_a_client_id_is_remembered_for_good() -> None:
    floor = Floor()
    floor.bought()
    again = floor.venue.place(replace(order("a"), qty=D(5)))
    assert (again.status, again.filled_qty, again.qty) == (OrderStatus.FILLED, D(1), D(1))
    floor.venue.match()
    assert len(floor.fills) == 1


def test_a_refused_order_leaves_no_trace() -> None:
    floor = Floor()
    with pytest.raises(Rejected, match="insufficient_position"):
        floor.place("a", Side.SELL)
    assert floor.venue.order("a") is None


def test_a_read_that_lags_sees_the_account_as_it_was() -> None:
    floor = Floor()
    floor.bought()
    floor.now_ns = 10
    floor.place("stop", Side.SELL, "0.99", stop="90")
    floor.now_ns = 20
    floor.venue.tick(D(90), opens=None, volume=D(1))
    assert [floor.venue.position(horizon_ns).qty for horizon_ns in (5, None)] == [D("0.999"), D("0.009")]
    assert [report.client_order_id for report in floor.venue.open_orders(15)] == ["stop"]
    assert floor.venue.open_orders() == []
    assert len(floor.venue.events_after(0, 15)) == 1
    assert len(floor.venue.events_after(0)) == 2
    assert floor.venue.order("stop", 5) is None
    found = [floor.venue.order("stop", horizon_ns) for horizon_ns in (15, None)]
    assert [None if report is None else report.status for report in found] == [
        OrderStatus.ACCEPTED,
        OrderStatus.FILLED,
    ]


def test_events_come_after_a_number_and_rise() -> None:
    floor = Floor()
    floor.bought("a")
    floor.bought("b")
    seqs = [event.seq for event in floor.venue.events_after(0)]
    assert seqs == sorted(seqs)
    assert [event.seq for event in floor.venue.events_after(seqs[0])] == seqs[1:]


@pytest.mark.parametrize(("tells", "kinds"), [(True, [Fill, OrderCanceled]), (False, [Fill])])
def test_cancels_are_events_where_the_exchange_tells_them(tells: bool, kinds: list[type]) -> None:
    floor = Floor(tells_cancels=tells)
    floor.bought()
    floor.place("stop", Side.SELL, "0.99", stop="90")
    assert floor.venue.cancel("stop").status is OrderStatus.CANCELED
    assert [type(event) for event in floor.venue.events_after(0)] == kinds


def test_only_what_rests_can_be_canceled() -> None:
    floor = Floor()
    floor.bought()
    with pytest.raises(Rejected, match="order_done"):
        floor.venue.cancel("a")
    with pytest.raises(Rejected, match="order_unknown"):
        floor.venue.cancel("never")


def test_an_order_that_expires_is_told_as_expired() -> None:
    floor = Floor()
    floor.bought()
    floor.place("stop", Side.SELL, "0.99", stop="90")
    floor.venue.expire("stop")
    assert type(floor.venue.events_after(0)[-1]) is OrderExpired
    assert floor.ended[-1] == ("stop", OrderStatus.EXPIRED)
    report = floor.venue.order("stop")
    assert report is not None
    assert report.status is OrderStatus.EXPIRED


@pytest.mark.parametrize(("expires", "end"), [(False, OrderCanceled), (True, OrderExpired)])
def test_a_fill_that_meets_the_end_is_told_after_it(expires: bool, end: type) -> None:
    floor = Floor()
    floor.bought()
    floor.place("stop", Side.SELL, "0.99", stop="90")
    told = floor.venue.end_late("stop", expires=expires)
    assert told is not None
    assert told.filled_qty == 0
    last = floor.venue.events_after(0)[-2:]
    assert [type(event) for event in last] == [end, Fill]
    assert last[0].seq < last[1].seq
    assert floor.venue.price == D(100)
    floor.bought("next")
    seqs = [event.seq for event in floor.venue.events_after(0)]
    assert len(set(seqs)) == len(seqs)


@pytest.mark.parametrize("expires", [False, True])
def test_an_end_that_a_fill_meets_is_told_of_no_other_order_that_the_price_reached(expires: bool) -> None:
    floor = Floor(volume_share=D(1))
    floor.bought()
    floor.venue.tick(D(100), opens=START + timedelta(seconds=1), volume=D("0.5"))
    floor.place("first", Side.SELL, "0.4", stop="90")
    floor.place("second", Side.SELL, "0.3", stop="90")
    floor.place("third", Side.SELL, "0.2", stop="90")
    assert floor.venue.end_late("second", expires=expires) is not None
    told = OrderStatus.EXPIRED if expires else OrderStatus.CANCELED
    assert floor.ended[1:] == [("first", OrderStatus.FILLED), ("second", told)]
    reports = {name: floor.venue.order(name) for name in ("first", "second", "third")}
    assert {name: report and (report.status, report.filled_qty) for name, report in reports.items()} == {
        "first": (OrderStatus.FILLED, D("0.4")),
        "second": (told, D("0.1")),
        "third": (OrderStatus.ACCEPTED, D(0)),
    }
    assert [report.client_order_id for report in floor.venue.open_orders(floor.now_ns)] == ["third"]


def test_an_end_may_count_the_fill_that_is_told_after_it() -> None:
    floor = Floor()
    floor.bought()
    floor.place("exit", Side.SELL, "0.99")
    told = floor.venue.end_late("exit", expires=True, part=True, counted=True)
    assert told is not None
    end, fill = floor.venue.events_after(0)[-2:]
    assert isinstance(end, OrderExpired)
    assert isinstance(fill, Fill)
    assert 0 < fill.qty < D("0.99")
    assert end.filled_qty == told.filled_qty == fill.qty
    assert floor.ended[-1] == ("exit", OrderStatus.EXPIRED)


def test_the_price_may_reach_an_order_for_half_of_it() -> None:
    floor = Floor()
    floor.bought()
    floor.place("stop", Side.SELL, "0.98", stop="90")
    assert floor.venue.reach("stop", part=True)
    report = floor.venue.order("stop")
    assert report is not None
    assert (report.status, report.filled_qty) == (OrderStatus.PARTIALLY_FILLED, D("0.49"))


def test_what_others_do_on_the_account_is_told_apart() -> None:
    floor = Floor()
    floor.bought()
    side, qty = floor.venue.closable()
    assert (side, qty) == (Side.SELL, D("0.99"))
    assert floor.venue.trade_foreign(side, qty, closing=True)
    assert len(floor.fills) == 1
    assert [change[0] for change in floor.foreign] == [D("-0.99")]
    assert floor.venue.rest_foreign(Side.BUY, D(1), D(50))
    assert [one.client_order_id[:4] for one in floor.venue.standing()] == ["web_"]


def test_a_share_of_the_volume_fills_in_parts_until_it_heals() -> None:
    floor = Floor(volume_share=D("0.1"))
    floor.place("a", qty="5")
    floor.venue.tick(D(100), opens=START + timedelta(seconds=5), volume=D(10))
    assert [fill.qty for fill in floor.fills] == [D(1)]
    floor.venue.heal()
    floor.venue.match()
    assert sum(fill.qty for fill in floor.fills) == 5
