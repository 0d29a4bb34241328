"""The coins of the account: free and locked, exact. A total never goes below zero, or the exchange itself is broken."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bench.binance.errors import insufficient

ZERO = Decimal(0)


@dataclass(slots=True)
class Coins:
    free: Decimal = ZERO
    locked: Decimal = ZERO


class Account:
    """``lock`` before an order rests, ``unlock`` when it ends, ``spend`` and ``receive`` when it trades."""

    def __init__(self, start: dict[str, Decimal]) -> None:
        self.start = dict(start)
        self.coins = {asset: Coins(free=amount) for asset, amount in start.items()}

    def free(self, asset: str) -> Decimal:
        return self.coins[asset].free

    def total(self, asset: str) -> Decimal:
        return self.coins[asset].free + self.coins[asset].locked

    def lock(self, asset: str, amount: Decimal) -> None:
        """Raises -2010 when that much is not free."""
        coins = self.coins[asset]
        if amount > coins.free:
            raise insufficient()
        coins.free -= amount
        coins.locked += amount

    def unlock(self, asset: str, amount: Decimal) -> None:
        coins = self.coins[asset]
        coins.free += amount
        coins.locked -= amount
        self._check(asset)

    def spend(self, asset: str, amount: Decimal) -> None:
        self.coins[asset].free -= amount
        self._check(asset)

    def receive(self, asset: str, amount: Decimal) -> None:
        self.coins[asset].free += amount

    def move(self, asset: str, amount: Decimal) -> None:
        """A deposit, or, negative, a withdrawal; it counts as part of what the account began with."""
        coins = self.coins.setdefault(asset, Coins())
        coins.free += amount
        self.start[asset] = self.start.get(asset, ZERO) + amount
        self._check(asset)

    def _check(self, asset: str) -> None:
        coins = self.coins[asset]
        if coins.free < 0 or coins.locked < 0:
            raise AssertionError(f"{asset}: {coins.free} free, {coins.locked} locked")
