"""Histories told by hand: what an observer of a seed would have seen."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from tbh.messages.account import Position, SyncStatus
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderState, OrderStatus, OrderType, Protection, Purpose, Side
from tbh.simulation import steps
from tbh.simulation.market import START
from tbh.simulation.watch import Watch

NOW = START
MARKET = Market(
    symbol="BTC/USDT", base="BTC", quote="USDT", price_step=Decimal("0.01"), amount_step=Decimal("0.001"),
    amount_min=Decimal("0.01"), taker_fee=Decimal("0.001"), maker_fee=Decimal("0.001"),
)  # fmt: skip
TERMS = steps.Terms(
    bot_id="b", market=MARKET, exposure_max=Decimal(1), cash=Decimal(1000), bar_s=2, window_s=3.0
)  # fmt: skip
BOOT, RIVAL = "boot-1", "boot-2"


def order(name: str = "e0", purpose: Purpose = Purpose.ENTRY, **fields: Any) -> Order:
    """An entry that buys 1 at market, or what is said."""
    reduces = not purpose.increases_risk
    made: dict[str, Any] = {
        "client_order_id": name, "intent_id": name[:-1], "symbol": "BTC/USDT",
        "side": Side.SELL if reduces else Side.BUY, "type": OrderType.MARKET, "qty": Decimal(1), "purpose": purpose,
        "strategy": "s", "bar_open": NOW, "attempt": int(name[-1]), "created_at": NOW, "reduce_only": reduces,
    }  # fmt: skip
    return Order(**made | fields)


def state(of: Order, status: OrderStatus, *, version: int = 1, filled: str = "0") -> OrderState:
    return OrderState(order=of, status=status, version=version, filled_qty=Decimal(filled), seen_at=NOW)


def fill(of: Order, trade_id: str = "t1", qty: str = "1", price: str = "100", fee: str = "0.1") -> Fill:
    return Fill(
        trade_id=trade_id, client_order_id=of.client_order_id, exchange_order_id="x", symbol=of.symbol, side=of.side,
        qty=Decimal(qty), price=Decimal(price), fee=Decimal(fee), fee_asset="USDT", maker=False, at=NOW, seq=1,
    )  # fmt: skip


def position(of: Order, qty: str = "1", stop_loss: str | None = None) -> Position:
    guarded = None if stop_loss is None else Protection(stop_loss=Decimal(stop_loss))
    return Position(
        symbol="BTC/USDT", strategy="s", position_id=of.client_order_id, qty=Decimal(qty), entry_price=Decimal(100),
        opened_at=NOW, bar_open=NOW, protection=guarded,
    )  # fmt: skip


class Story:
    """A watch with a clock of its own, in seconds, and short words for what happens often."""

    def __init__(self, terms: steps.Terms = TERMS) -> None:
        self.now_s = 0.0
        self.watch = Watch(7, terms, now_ns=lambda: int(self.now_s * 1e9))
        self.tell(steps.BootStarted(boot=BOOT, machine="m1"), steps.BootStarted(boot=RIVAL, machine="m2"))

    def tell(self, *told: Any) -> Story:
        for step in told:
            self.watch.step(step)
        return self

    @property
    def broken(self) -> set[str]:
        return {violation.invariant for violation in self.watch.violations}

    def signs(self, of: Order, boot: str = BOOT, **fields: Any) -> Story:
        made: dict[str, Any] = {"boot": boot, "order": of, "recorded": True}
        return self.tell(steps.OrderSigned(**made | fields))

    def arrives(self, of: Order, boot: str = BOOT, **fields: Any) -> Story:
        made: dict[str, Any] = {"boot": boot, "order": of, "effect": steps.Effect.ACCEPTED, "leased": True}
        return self.tell(steps.OrderArrived(**made | fields))

    def fills(self, made: Fill) -> Story:
        return self.tell(steps.VenueFill(fill=made))

    def ends(self, of: Order, status: OrderStatus) -> Story:
        return self.tell(steps.VenueOrderEnded(client_order_id=of.client_order_id, status=status))

    def bought(self, of: Order) -> Story:
        """Sent, taken, filled at 100 with a fee of 0.1, and done."""
        self.signs(of).arrives(of).fills(fill(of))
        return self.ends(of, OrderStatus.FILLED)

    def moves(self, before: OrderState, event: str, after: OrderState | None) -> Story:
        return self.tell(steps.Transition(boot=BOOT, event=event, before=before, after=after))

    def rests(self, rest: steps.AtRest) -> Story:
        return self.tell(rest)


def long_at_rest(entry: Order, **bot_fields: Any) -> steps.AtRest:
    """The whole picture after ``Story.bought(entry)``, with nothing wrong in it."""
    filled = fill(entry)
    stored = replace(state(entry, OrderStatus.FILLED, version=4), filled_qty=Decimal(1))
    bot: dict[str, Any] = {
        "boot": BOOT, "unsettled": None, "orders": (stored,), "fills": (filled,), "position": position(entry),
        "cash": Decimal("899.9"), "sync_status": SyncStatus.OK, "gate": (), "pending": 0,
        "last_seq": 0,
    }  # fmt: skip
    return steps.AtRest(
        venue=steps.VenueRest(qty=Decimal(1), cash=Decimal("899.9"), standing=()),
        bot=steps.BotRest(**bot | bot_fields),
        database=steps.DatabaseRest(
            trades={entry.client_order_id: {"filled_qty": "1"}},
            fills={"t1": {"qty": "1", "price": "100", "fee": "0.1"}},
            positions={},
        ),
    )
