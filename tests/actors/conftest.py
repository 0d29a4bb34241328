"""An order manager with its neighbours' answers at hand, for the tests of its four parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.order_manager import OrderManagerActor
from tbh.domain import ids
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import AccountResynced
from tbh.messages.market import Bar, Candle, Market
from tbh.messages.orders import (
    Approved,
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFound,
    OrderNotFound,
    OrderRejected,
    OrderState,
    OrderStatus,
    OrderSubmitted,
    OutcomeUnknown,
    Protection,
    Purpose,
    Recorded,
    Side,
)
from tbh.ports import Batch
from tbh.runtime.probe import EPOCH, Probe
from tests.actors.answers import to

BOT = "bot"
SYMBOL = "BTC/USDT"
MINUTE = timedelta(minutes=1)
ONE = Decimal(1)
GUARDED = Protection(stop_loss=Decimal("0.1"), take_profit=Decimal("0.2"))
MARKET = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal("0.001"),
    maker_fee=Decimal("0.001"),
    cancels_are_final=True,
)
SPOT = replace(MARKET, enforces_reduce_only=False, allows_short=False)
RESYNCED = AccountResynced(requester="order_manager", seq=0)


class Desk:
    """An order manager with the answers of its neighbours at hand. It begins at the end of bar 0."""

    def __init__(
        self, market: Market = MARKET, *, store: MemoryStore | None = None, ready: bool = True, **more: Any
    ) -> None:
        self.market = market
        self.store = store or MemoryStore()
        self.seq = 0
        store_ = self.store
        self.probe = Probe(
            OrderManagerActor,
            lambda ctx: OrderManagerActor(ctx, bot_id=BOT, market=market, store=store_, timeframe_s=60, **more),
            name="order_manager",
            start=EPOCH,
        )
        self.probe.set_now(EPOCH + MINUTE)
        if ready:
            self.probe.tell(to(self.probe, RESYNCED))
            self.probe.take()

    def take(self, kind: type[Any]) -> list[Any]:
        return self.probe.take(kind)

    def state(self, client_order_id: str) -> OrderState:
        state: OrderState = self.probe.actor._orders.get(client_order_id)
        return state

    def open(self, *purposes: Purpose) -> list[OrderState]:
        return [s for s in self.probe.actor._orders.open if not purposes or s.order.purpose in purposes]

    def order(self, purpose: Purpose) -> Order:
        (state,) = self.open(purpose)
        return state.order

    # Neighbours

    def approve(self, purpose: Purpose, side: Side, qty: Decimal = ONE, *, bar: int = 0, **more: Any) -> Approved:
        bar_open = EPOCH + bar * MINUTE
        decision_id = ids.decision_id("s", SYMBOL, bar_open)
        approved = Approved(
            proposal_id=ids.proposal_id(decision_id, purpose, 0),
            order_side=side,
            purpose=purpose,
            symbol=SYMBOL,
            strategy="s",
            bar_open=bar_open,
            layer=0,
            qty=qty,
            **({"protection": GUARDED if purpose is Purpose.ENTRY else None} | more),
        )
        self.probe.tell(approved)
        return approved

    def record(self, *orders: Order) -> None:
        for order in orders:
            self.probe.tell(Recorded(client_order_id=order.client_order_id, intent_id=order.intent_id))

    def accept(self, *orders: Order) -> None:
        self.record(*orders)
        for order in orders:
            self.probe.tell(OrderSubmitted(client_order_id=order.client_order_id))
            self.probe.tell(OrderAccepted(client_order_id=order.client_order_id, exchange_order_id="x"))

    def fill(self, order: Order, qty: Decimal | None = None, price: Decimal = Decimal(100), **more: Any) -> Fill:
        self.seq += 1
        fill = Fill(
            trade_id=f"t{self.seq}",
            client_order_id=order.client_order_id,
            exchange_order_id="x",
            symbol=SYMBOL,
            side=order.side,
            qty=order.qty if qty is None else qty,
            price=price,
            fee=Decimal(0),
            fee_asset="USDT",
            maker=False,
            at=self.probe.now(),
            seq=self.seq,
        )
        fill = replace(fill, **more)
        self.probe.tell(fill)
        return fill

    def enter(self, qty: Decimal = ONE, **more: Any) -> Order:
        """A filled entry of bar 0; its guards are with the exchange."""
        self.approve(Purpose.ENTRY, Side.BUY, qty, **more)
        order = self.order(Purpose.ENTRY)
        self.accept(order)
        self.fill(order)
        self.accept(*(state.order for state in self.open()))
        self.probe.take()
        return order

    def found(self, order: Order, status: OrderStatus, filled: Decimal = Decimal(0)) -> None:
        self.probe.tell(
            OrderFound(
                client_order_id=order.client_order_id,
                exchange_order_id="x",
                status=status,
                filled_qty=filled,
                avg_price=None,
            )
        )

    def deny(self, order: Order, *, conclusive: bool = True) -> None:
        self.probe.tell(OrderNotFound(client_order_id=order.client_order_id, conclusive=conclusive))

    def bar(self, high: int, low: int, *, index: int = 2) -> None:
        candle = Candle(
            open_time=EPOCH + index * MINUTE,
            open=Decimal(low),
            high=Decimal(high),
            low=Decimal(low),
            close=Decimal(high),
            volume=ONE,
        )
        self.probe.tell(Bar(symbol=SYMBOL, timeframe_s=60, index=index, candle=candle))

    # The disk

    def keep(self, states: Sequence[OrderState], fills: Sequence[Fill] = (), account_seq: int = 0) -> None:
        self.store.commit(Batch(orders=list(states), fills=list(fills), meta={ACCOUNT_SEQ: str(account_seq)}))

    def restart(self) -> None:
        self.probe.restart()

    # In short

    def entry_in_doubt(self) -> Order:
        """An entry of bar 0 that was sent and not answered."""
        self.approve(Purpose.ENTRY, Side.BUY)
        order = self.order(Purpose.ENTRY)
        self.record(order)
        self.probe.tell(OutcomeUnknown(client_order_id=order.client_order_id, reason="timeout"))
        return order

    def resynced(self) -> None:
        self.probe.tell(to(self.probe, RESYNCED))

    def cancel(self, order: Order, filled: Decimal = Decimal(0)) -> None:
        self.probe.tell(OrderCanceled(client_order_id=order.client_order_id, filled_qty=filled, reason="requested"))

    def reject(self, order: Order) -> None:
        self.probe.tell(OrderRejected(client_order_id=order.client_order_id, reason="no"))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def spot() -> Desk:
    """On an exchange that does not enforce reduce-only."""
    return Desk(SPOT)


@pytest.fixture
def new_desk() -> Callable[..., Desk]:
    """Makes a desk with another market or store, or one that has not heard of the account yet (``ready=False``)."""
    return Desk


@pytest.fixture
def an_entry() -> Order:
    """The entry of bar 0, as the order manager drafts it."""
    desk = Desk()
    desk.approve(Purpose.ENTRY, Side.BUY)
    return desk.order(Purpose.ENTRY)


@pytest.fixture
def fill_of() -> Callable[..., Fill]:
    """The exchange's fill of an order, with the account's seq."""

    def make(order: Order, seq: int, qty: Decimal = ONE) -> Fill:
        return Desk(ready=False).fill(order, qty, seq=seq, trade_id=f"t{seq}")

    return make
