"""Bars from a real market: closed by its clock, told once, in order, and never invented."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.infra import ccxt_feed
from tbh.infra.ccxt_feed import CcxtFeed
from tbh.messages.market import Phase
from tbh.ports import Fatal, Feed, FeedStep, Unavailable, Unknown
from tests.infra.scripted_http import reply, scripted

BAR_MS = 60_000
START = datetime(2026, 1, 5, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
D = Decimal


class Market:
    """One bar a minute from ``START`` on; bar i opens at 100 + i. The clock stands at ``now_ms``."""

    def __init__(self) -> None:
        self.now_ms = START_MS + 30 * BAR_MS + 30_000
        self.absent: set[int] = set()
        self.said: bytes | None = None
        self.asked: list[dict[str, str]] = []

    def at(self, bars: float) -> None:
        self.now_ms = START_MS + int(bars * BAR_MS)

    def answer(self, method: str, path: str, params: dict[str, str]) -> bytes | None:
        if path.endswith("/time"):
            return reply({"serverTime": self.now_ms})
        self.asked.append(params)
        if self.said is not None:
            return self.said
        first = max(-(-(int(params["startTime"]) - START_MS) // BAR_MS), 0)
        bars = [i for i in range(first, (self.now_ms - START_MS) // BAR_MS + 1) if i not in self.absent]
        return reply([self._row(i) for i in bars[: int(params["limit"])]])

    def _row(self, i: int) -> list[Any]:
        opened_ms = START_MS + i * BAR_MS
        prices = [f"{100 + i}.00", f"{101 + i}.00", f"{99 + i}.00", f"{100 + i}.50"]
        return [opened_ms, *prices, "12.500", opened_ms + BAR_MS - 1, "1250.0", 7, "6.0", "600.0", "0"]


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def feed(market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[CcxtFeed]:
    with scripted(market.answer) as server:
        made = CcxtFeed("binance", "BTC/USDT", 60, {"urls": {"api": server.url}}, history_bars=10)
        # The exchange's clock is the test's: nothing here waits for a minute.
        monkeypatch.setattr(made._client, "time_ms", lambda: float(market.now_ms))
        yield made
        made.close()


def opens(steps: Any) -> list[int]:
    """The numbers of the bars that closed."""
    return [(step.bar_open - START) // timedelta(minutes=1) for step in steps if step.phase is Phase.CLOSE]


def test_the_history_ends_with_the_last_closed_bar(feed: CcxtFeed, market: Market) -> None:
    history = feed.history()
    assert len(history) == 10
    assert history[-1].open_time == START + timedelta(minutes=29)
    assert (history[-1].open, history[-1].close, history[-1].volume) == (D(129), D("129.5"), D("12.5"))
    assert feed.history() == history
    assert len(market.asked) == 1


def test_a_long_history_is_read_page_by_page(market: Market) -> None:
    market.at(2_500.5)
    with scripted(market.answer) as server:
        feed = CcxtFeed("binance", "BTC/USDT", 60, {"urls": {"api": server.url}}, first_open=START)
        feed._client.time_ms = lambda: float(market.now_ms)  # type: ignore[method-assign]
        history = feed.history()
        feed.close()
    assert [candle.open_time for candle in history] == [START + timedelta(minutes=i) for i in range(2_500)]
    assert len(market.asked) == 3


def test_a_bar_is_told_once_it_has_closed_by_the_exchanges_clock(feed: CcxtFeed, market: Market) -> None:
    feed.history()
    assert opens(feed.poll()) == []
    market.now_ms = START_MS + 31 * BAR_MS + ccxt_feed.SETTLE_MS - 1
    assert opens(feed.poll()) == []
    market.now_ms += 2
    steps = feed.poll()
    assert opens(steps) == [30]
    assert steps[0].candle is not None
    assert steps[0].index == 10
    assert feed.history()[steps[0].index] == steps[0].candle
    assert opens(feed.poll()) == []


def test_bars_missed_during_an_outage_come_all_and_in_order(feed: CcxtFeed, market: Market) -> None:
    feed.history()
    market.at(1_200.5)
    steps = feed.poll()
    assert opens(steps) == list(range(30, 1_200))
    assert [step.index for step in steps if step.candle] == list(range(10, 1_180))


def test_the_open_bars_price_is_told_when_it_moves(feed: CcxtFeed, market: Market) -> None:
    feed.history()
    market.at(30.5)
    moved = [FeedStep(phase=Phase.RANGE, bar_open=START + timedelta(minutes=30), price=D("130.50"), index=10)]
    assert feed.poll() == moved
    assert feed.poll() == []


def test_a_bar_that_comes_late_is_waited_for(feed: CcxtFeed, market: Market) -> None:
    feed.history()
    market.absent = {31}
    market.at(33.5)
    assert opens(feed.poll()) == [30]
    market.absent = set()
    assert opens(feed.poll()) == [31, 32]


def test_a_bar_that_never_comes_is_left_out(feed: CcxtFeed, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    feed.history()
    market.absent = {31}
    market.at(33.5)
    assert opens(feed.poll()) == [30]
    monkeypatch.setattr(ccxt_feed, "GAP_PATIENCE_MAX_S", 0.0)
    steps = feed.poll()
    assert opens(steps) == [32]
    assert steps[0].index == 11
    assert len(feed.history()) == 12


def test_a_market_that_has_just_opened_begins_with_its_first_bar(feed: CcxtFeed, market: Market) -> None:
    market.at(0.5)
    assert feed.history() == ()
    market.at(1.5)
    assert opens(feed.poll()) == [0]


@pytest.mark.parametrize(
    "said",
    [reply("<html>"), reply({}), reply([["x"]]), reply([[1, "1", "1", "1", "NaN", "1", 2]]), reply("", status=502)],
)
def test_a_page_that_holds_no_bars_is_unknown_and_nothing_is_lost(feed: CcxtFeed, market: Market, said: bytes) -> None:
    feed.history()
    market.at(32.5)
    market.said = said
    with pytest.raises(Unknown):
        feed.poll()
    market.said = None
    assert opens(feed.poll()) == [30, 31]


def test_bars_out_of_order_are_refused(feed: CcxtFeed, market: Market) -> None:
    feed.history()
    market.said = reply([market._row(31), market._row(30)])
    with pytest.raises(Unknown):
        feed.poll()


def test_a_market_that_cannot_be_reached_is_unavailable() -> None:
    feed = CcxtFeed("binance", "BTC/USDT", 60, {"urls": {"api": "http://127.0.0.1:9"}})
    with pytest.raises(Unavailable):
        feed.history()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("mtgox", "BTC/USDT", 60), "binance"),
        (("binance", "BTC/USDT", 7), "1s"),
        (("binance", "BTC/USDT:USDT", 60), "BASE/QUOTE"),
    ],
)
def test_what_is_not_served_is_refused_with_what_is(arguments: tuple[str, str, int], named: str) -> None:
    with pytest.raises(Fatal) as raised:
        CcxtFeed(*arguments, {})
    assert raised.value.exit_code == 78
    assert named in raised.value.detail


def test_it_is_a_feed(feed: CcxtFeed) -> None:
    port: Feed = feed
    assert (port.symbol, port.timeframe_s) == ("BTC/USDT", 60)
