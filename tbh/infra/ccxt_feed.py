"""The bars of a real market, through the ccxt library: implements ``tbh.ports.Feed`` by polling.

A bar is closed when the exchange's own clock has passed its end; until then it is only a price. Each closed bar is told
once, in order. A bar that is absent between two others is asked for again for a while, for exchanges fill their history
late; what stays absent is left out, and never invented.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tbh.domain.money import plain
from tbh.infra.ccxt_binance import EPOCH
from tbh.infra.ccxt_budget import Budget
from tbh.infra.ccxt_client import READ_TIMEOUT_S, CcxtClient, read_options
from tbh.infra.ccxt_errors import bad_reply
from tbh.infra.ccxt_orders import checked
from tbh.infra.ccxt_venues import venue_of
from tbh.messages.market import Candle, Phase
from tbh.ports import Fatal, FeedStep

SETTLE_MS: Final = 100
"""After a bar's end, until the exchange has counted its last trades."""

GAP_PATIENCE_MAX_S: Final = 10.0
GAP_PATIENCE_MIN_S: Final = 2.0
POLL_BARS: Final = 10


class CcxtFeed:
    """The market ``symbol`` at ``venue_id`` in bars of ``timeframe_s``.

    ``options`` are the bot's exchange options. ``history_bars`` closed bars (1 at least) are read at the first
    question; ``first_open`` makes that every bar since, where that is more. ``budget`` is the process's, where it has
    several connections. Needs no credentials. ``Fatal(78)`` for an exchange, a symbol or a timeframe that is not
    served.

    ``history`` and ``poll`` may be called from different threads.
    """

    def __init__(
        self,
        venue_id: str,
        symbol: str,
        timeframe_s: int,
        options: Mapping[str, Any],
        *,
        history_bars: int = 500,
        first_open: datetime | None = None,
        budget: Budget | None = None,
    ) -> None:
        venue = venue_of(venue_id)
        if timeframe_s not in venue.intervals:
            served = " ".join(venue.intervals.values())
            raise Fatal(
                "timeframe_not_served", exit_code=78, detail=f"{timeframe_s} s; {venue_id} has bars of: {served}"
            )
        try:
            self._market_id = venue.dialect.market_id(symbol)
        except ValueError as error:
            raise Fatal("symbol_not_served", exit_code=78, detail=str(error)) from error
        self.symbol = symbol
        self.timeframe_s = timeframe_s
        self._bar_ms = timeframe_s * 1000
        self._interval = venue.intervals[timeframe_s]
        self._history_bars = max(history_bars, 1)
        self._first_open = first_open
        self._dialect = venue.dialect
        self._page_max = venue.page_max
        self._client = CcxtClient(venue, read_options(venue, options), budget=budget)
        self._lock = threading.Lock()
        self._rows: list[str] | None = None
        self._last_open_ms: int | None = None
        self._gap_since_s: float | None = None
        self._told_price: Decimal | None = None

    def history(self) -> Sequence[Candle]:
        with self._lock:
            rows = list(self._loaded())
        return tuple(_unpacked(row) for row in rows)

    def poll(self) -> Sequence[FeedStep]:
        """The bars that closed since the last call, then the price of the open one where it moved."""
        with self._lock:
            rows = self._loaded()
            steps: list[FeedStep] = []
            behind = True
            while behind:
                since_ms = self._next_open_ms()
                limit = POLL_BARS if not steps and self._gap_since_s is None else self._page_max
                candles = self._read(since_ms, limit)
                closed, price = self._split(candles)
                closed = self._without_fresh_gap(closed)
                for candle in closed:
                    self._append(rows, candle)
                    steps.append(_closed(candle, len(rows) - 1))
                behind = len(candles) == limit and bool(closed)
            if price is not None and price.close != self._told_price:
                self._told_price = price.close
                at = FeedStep(phase=Phase.RANGE, bar_open=price.open_time, price=price.close, index=len(rows))
                steps.append(at)
            return steps

    def close(self) -> None:
        self._client.close()

    # Inside, under the lock

    def _loaded(self) -> list[str]:
        """The bars so far; the first call reads the history."""
        if self._rows is not None:
            return self._rows
        now_ms = int(self._client.time_ms())
        since_ms = now_ms - (self._history_bars + 1) * self._bar_ms
        if self._first_open is not None:
            since_ms = min(since_ms, int(self._first_open.timestamp() * 1000))
        rows: list[str] = []
        while True:
            candles = self._read(since_ms, self._page_max)
            closed, _ = self._split(candles)
            for candle in closed:
                self._append(rows, candle)
            if len(candles) < self._page_max or not closed:
                break
            since_ms = self._next_open_ms()
        if self._last_open_ms is None:  # a market without a closed bar begins with the next one
            self._last_open_ms = now_ms // self._bar_ms * self._bar_ms - self._bar_ms
        self._rows = rows
        return rows

    def _read(self, since_ms: int, limit: int) -> list[tuple[Candle, int]]:
        """Bars from ``since_ms`` on, the open one included, each with the millisecond of its end."""
        params = self._dialect.candles_since(since_ms, self._interval, self._market_id, limit)
        rows = self._client.call("candles", params, until_s=time.monotonic() + READ_TIMEOUT_S, poll=True)
        if not isinstance(rows, list):
            raise bad_reply("candles", "no list")
        with checked("candles"):
            candles = [self._dialect.candle(row) for row in rows]
        opens = [candle.open_time for candle, _ in candles]
        if opens != sorted(set(opens)):
            raise bad_reply("candles", "bars out of order")
        return [(candle, end_ms) for candle, end_ms in candles if _ms(candle.open_time) >= since_ms]

    def _split(self, candles: Sequence[tuple[Candle, int]]) -> tuple[list[Candle], Candle | None]:
        """The closed bars, and the open one."""
        sure_ms = self._client.time_ms() - SETTLE_MS
        closed = [candle for candle, end_ms in candles if end_ms < sure_ms]
        return closed, candles[len(closed)][0] if len(closed) < len(candles) else None

    def _without_fresh_gap(self, closed: list[Candle]) -> list[Candle]:
        """The bars up to a gap that may still be filled; all of them once nobody waits for it any more."""
        expected_ms = self._next_open_ms()
        for count, candle in enumerate(closed):
            if _ms(candle.open_time) != expected_ms:
                if self._waits_for_gap():
                    return closed[:count]
                break
            expected_ms += self._bar_ms
        else:
            if closed:
                self._gap_since_s = None
            return closed
        self._gap_since_s = None
        return closed

    def _waits_for_gap(self) -> bool:
        now_s = time.monotonic()
        if self._gap_since_s is None:
            self._gap_since_s = now_s
        patience_s = min(max(self.timeframe_s, GAP_PATIENCE_MIN_S), GAP_PATIENCE_MAX_S)
        return now_s - self._gap_since_s < patience_s

    def _next_open_ms(self) -> int:
        assert self._last_open_ms is not None
        return self._last_open_ms + self._bar_ms

    def _append(self, rows: list[str], candle: Candle) -> None:
        rows.append(_packed(candle))
        self._last_open_ms = _ms(candle.open_time)


def _closed(candle: Candle, index: int) -> FeedStep:
    return FeedStep(phase=Phase.CLOSE, bar_open=candle.open_time, price=candle.close, index=index, candle=candle)


def _ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


def _packed(candle: Candle) -> str:
    """A bar as text: a bot that runs for months keeps them all, for its indicators and its marks."""
    amounts = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return json.dumps([_ms(candle.open_time), *map(plain, amounts)], separators=(",", ":"))


def _unpacked(row: str) -> Candle:
    at, *amounts = json.loads(row)
    open_, high, low, close, volume = map(Decimal, amounts)
    opened = EPOCH + timedelta(milliseconds=at)
    return Candle(open_time=opened, open=open_, high=high, low=low, close=close, volume=volume)
