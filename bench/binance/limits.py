"""How much a client may ask: weights per minute and orders per ten seconds, told in the headers of every reply."""

from __future__ import annotations

from collections import deque

from bench.binance.errors import BinanceError

ORDERS_PER_10S = 100


class Limits:
    """``weight_max`` per calendar minute; whoever goes on asking after 429 is banned for a while (418).

    ``share`` is what counts of each request's weight: a bot that is killed every few seconds asks, for its starts
    alone, more than one address may.
    """

    def __init__(self, *, weight_max: int, share: float = 1.0) -> None:
        self.weight_max = weight_max
        self._share = share
        self._minute = 0
        self._weight = 0.0
        self._over = 0
        self._orders: deque[int] = deque()
        self._orders_of_day = 0

    def weigh(self, weight: int, now_ms: int) -> None:
        """Raises 429, or 418 after ten of them, when the minute's weight is used up."""
        minute, within_ms = divmod(now_ms, 60_000)
        if minute != self._minute:
            self._minute, self._weight, self._over = minute, 0.0, 0
        self._weight += weight * self._share
        if self._weight <= self.weight_max:
            return
        self._over += 1
        status = 418 if self._over > 10 else 429
        text = f"Too much request weight used; current limit is {self.weight_max} request weight per 1 MINUTE."
        wait_s = str((60_000 - within_ms) // 1000 + 1)
        raise BinanceError(-1003, text, status=status, headers={"Retry-After": wait_s})

    def count_order(self, now_ms: int) -> None:
        """Raises -1015 when there are too many orders within ten seconds."""
        while self._orders and self._orders[0] <= now_ms - 10_000:
            self._orders.popleft()
        if len(self._orders) >= ORDERS_PER_10S:
            text = f"Too many new orders; current limit is {ORDERS_PER_10S} orders per 10 SECOND."
            raise BinanceError(-1015, text, status=429, headers={"Retry-After": "10"})
        self._orders.append(now_ms)
        self._orders_of_day += 1

    def headers(self, *, order: bool) -> dict[str, str]:
        """What the reply says of what is used."""
        used = str(int(self._weight))
        told = {"x-mbx-used-weight": used, "x-mbx-used-weight-1m": used}
        if order:
            told |= {"x-mbx-order-count-10s": str(len(self._orders)), "x-mbx-order-count-1d": str(self._orders_of_day)}
        return told
