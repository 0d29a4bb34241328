"""The exchange's parts in one place, and its clock."""

from __future__ import annotations

import random
import time
from collections import Counter
from decimal import Decimal
from typing import Any

from bench.binance.account import Account
from bench.binance.book import Book
from bench.binance.faults import Faults
from bench.binance.limits import Limits
from bench.binance.path import PricePath
from bench.binance.rules import Market


class Exchange:
    """``clock_ms`` is added to this machine's time; ``requests`` counts by method and path, ``unscoped`` the questions
    about orders or trades that named no symbol."""

    def __init__(
        self,
        *,
        seed: int,
        market: Market,
        coins: dict[str, Decimal],
        bar_ms: int,
        price: Decimal,
        weight_max: int,
        weight_share: float = 1.0,
    ) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.market = market
        self.account = Account(coins)
        self.book = Book(market, self.account, seed=rng.randrange(2**32))
        self.path = PricePath(seed=rng.randrange(2**32), bar_ms=bar_ms, base_price=price, price_step=market.price_step)
        self.faults = Faults(seed=rng.randrange(2**32))
        self.limits = Limits(weight_max=weight_max, share=weight_share)
        self.api_key = f"key{rng.getrandbits(244):061x}"
        self.api_secret = f"secret{rng.getrandbits(232):058x}"
        self.clock_ms = 0
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unscoped = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_ms

    def price(self) -> Decimal:
        return self.path.price_at(self.now_ms())

    def tick(self) -> None:
        """Let the market go on to now."""
        self.book.tick(now_ms=self.now_ms(), price=self.price())

    def ledger(self) -> dict[str, Any]:
        """All that the exchange knows, money as text."""
        return {
            "symbol": self.market.symbol,
            "base": self.market.base,
            "quote": self.market.quote,
            "now_ms": self.now_ms(),
            "price": f"{self.price():f}",
            "start": {asset: f"{amount:f}" for asset, amount in self.account.start.items()},
            "balances": {
                asset: {"free": f"{coins.free:f}", "locked": f"{coins.locked:f}"}
                for asset, coins in self.account.coins.items()
            },
            "requests": dict(self.requests),
            "refused": dict(self.refused),
            "unscoped": self.unscoped,
            **self.book.to_json(),
            **self.faults.to_json(),
        }
