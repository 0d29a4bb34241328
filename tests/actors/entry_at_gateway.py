"""An entry on its way through the gateway, its fill, and the word that lets it pass."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from tbh.messages.health import GateChanged
from tbh.messages.orders import Fill, Order, OrderType, Purpose, Side
from tbh.runtime.probe import EPOCH

SYMBOL = "BTC/USDT"
OPEN = GateChanged(reasons=(), exits_allowed=True)
ENTRY = Order(
    client_order_id="entry",
    intent_id="i",
    symbol=SYMBOL,
    side=Side.BUY,
    type=OrderType.MARKET,
    qty=Decimal(1),
    purpose=Purpose.ENTRY,
    strategy="s",
    bar_open=EPOCH,
    created_at=EPOCH,
    expires_at=EPOCH + timedelta(minutes=2),
)
FILL = Fill(
    trade_id="t1",
    client_order_id="entry",
    exchange_order_id="x",
    symbol=SYMBOL,
    side=Side.BUY,
    qty=Decimal(1),
    price=Decimal(100),
    fee=Decimal(0),
    fee_asset="USDT",
    maker=False,
    at=EPOCH,
    seq=1,
)
