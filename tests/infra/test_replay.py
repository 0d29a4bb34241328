"""The recorded market: its phases, its clock, and how it goes on after a kill at any instant."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.paper import PaperExchange
from tbh.infra.paper_account import AccountFile, AccountRecord, read_account
from tbh.infra.replay import EPOCH, MarketClock, ReplayMarket
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Fill, Order, OrderType, Purpose, Side
from tbh.ports import Fatal, Feed, FeedStep, Rejected, Unavailable

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=D("0.1"),
    amount_step=D("0.001"),
    taker_fee=D("0.001"),
    maker_fee=D("0.0004"),
)


def candles(*bars: str) -> list[Candle]:
    """Each bar is "open high low close", or one price; a minute apart."""
    made = []
    for index, text in enumerate(bars):
        prices = [D(price) for price in text.split()]
        open_, high, low, close = prices * 4 if len(prices) == 1 else prices
        at = START + index * timedelta(minutes=1)
        made.append(Candle(open_time=at, open=open_, high=high, low=low, close=close, volume=D(100)))
    return made


def order(client_order_id: str, side: str, qty: str, **more: Any) -> Order:
    type_ = (
        OrderType.LIMIT if more.get("price") else OrderType.STOP_MARKET if more.get("stop_price") else OrderType.MARKET
    )
    fields: dict[str, Any] = {
        "intent_id": "i",
        "symbol": SYMBOL,
        "type": type_,
        "purpose": Purpose.ENTRY,
        "strategy": "s",
        "bar_open": START,
        "created_at": START,
    }
    return Order(client_order_id=client_order_id, side=Side(side), qty=D(qty), **{**fields, **more})


@dataclass
class Session:
    """One life of a process: clock, exchange and feed over one account file."""

    path: Path
    bars: Sequence[Candle]
    timeframe_s: int = 60
    warmup_bars: int = 0
    cash: str = "10000"
    volume_share: Decimal | None = None
    market: Market = MARKET

    def __post_init__(self) -> None:
        self.clock = MarketClock()
        self.exchange = PaperExchange(
            self.path, self.market, cash=D(self.cash), clock=self.clock, volume_share=self.volume_share
        )
        self.feed = ReplayMarket(
            self.bars,
            symbol=SYMBOL,
            timeframe_s=self.timeframe_s,
            exchange=self.exchange,
            clock=self.clock,
            warmup_bars=self.warmup_bars,
        )

    def step(self) -> FeedStep:
        steps = self.feed.poll()
        assert steps is not None
        (step,) = steps
        return step

    def place(self, request: Order) -> None:
        self.exchange.place(request, timeout_s=1)

    def die(self) -> None:
        """What a kill leaves: the file, without a last commit. SQLite closes as the kernel would."""
        self.exchange._file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.db"


def told(step: FeedStep) -> tuple[int, Phase, str]:
    return step.index, step.phase, str(step.price)


def test_it_is_a_feed(path):
    session = Session(path, candles("100"))
    feed: Feed = session.feed
    assert (feed.symbol, feed.timeframe_s) == (SYMBOL, 60)
    session.die()


def test_a_quiet_market_is_told_by_its_closed_bars_alone(path):
    bars = candles("100 101 99 100.5", "101", "102")
    session = Session(path, bars)
    steps = [session.step() for _ in bars]
    assert [told(step) for step in steps] == [
        (0, Phase.CLOSE, "100.5"),
        (1, Phase.CLOSE, "101"),
        (2, Phase.CLOSE, "102"),
    ]
    assert [step.candle for step in steps] == bars
    assert session.feed.poll() is None
    assert session.feed.poll() is None
    session.die()


def test_a_phase_that_did_something_is_released_by_itself(path):
    session = Session(path, candles("100", "101 110 90 100", "100"))
    session.step()
    session.place(order("entry", "buy", "1"))
    assert told(session.step()) == (1, Phase.OPEN, "101")
    session.place(order("stop", "sell", "1", stop_price=D(95), reduce_only=True))
    session.place(order("target", "sell", "1", price=D(105), reduce_only=True))
    assert told(session.step()) == (1, Phase.RANGE, "101")
    assert told(session.step()) == (1, Phase.CLOSE, "100")
    fills = [event for event in session.exchange.events(0, timeout_s=1) if isinstance(event, Fill)]
    assert [(fill.client_order_id, fill.price, fill.at) for fill in fills] == [
        ("entry", D(101), START + timedelta(minutes=1)),
        ("stop", D(95), START + timedelta(minutes=1)),
    ]
    session.die()


def test_a_close_that_did_something_is_told_before_its_bar(path):
    bars = candles("100", "101 110 90 100", "100")
    session = Session(path, bars)
    session.step()
    session.place(order("entry", "buy", "1"))
    session.step()
    session.place(order("stop", "sell", "1", stop_price=D(95), reduce_only=True))
    session.step()
    session.place(order("again", "buy", "1"))
    before = session.exchange.last_seq()
    moved = session.step()
    assert (told(moved), moved.candle) == ((1, Phase.CLOSE, "100"), None)
    assert session.exchange.last_seq() > before
    bar = session.step()
    assert (told(bar), bar.candle) == ((1, Phase.CLOSE, "100"), bars[1])
    assert told(session.step()) == (2, Phase.CLOSE, "100")
    assert session.feed.ended
    session.die()


def test_the_clock_shows_open_middle_and_end_of_the_bar(path):
    session = Session(path, candles("100", "101 110 90 100"))
    assert session.clock.now() == START
    session.step()
    assert session.clock.now() == START + timedelta(seconds=60)
    session.place(order("entry", "buy", "1"))
    session.step()
    assert session.clock.now() == START + timedelta(seconds=60)
    session.place(order("stop", "sell", "1", stop_price=D(95), reduce_only=True))
    session.step()
    assert session.clock.now() == START + timedelta(seconds=90)
    session.step()
    assert session.clock.now() == START + timedelta(seconds=120)
    session.die()


def test_history_is_every_closed_bar(path):
    bars = candles("100", "101", "102")
    session = Session(path, bars)
    assert session.feed.history() == ()
    session.step()
    session.place(order("entry", "buy", "1"))
    session.step()
    assert list(session.feed.history()) == bars[:1]
    session.step()
    assert list(session.feed.history()) == bars[:2]
    assert session.feed.position == 2
    session.die()


def test_warm_up_bars_are_history_from_the_start(path):
    bars = candles("100", "101", "102")
    session = Session(path, bars, warmup_bars=2)
    assert list(session.feed.history()) == bars[:2]
    assert session.clock.now() == START + timedelta(minutes=2)
    session.place(order("entry", "buy", "1"))
    assert told(session.step()) == (2, Phase.OPEN, "102")
    session.die()


@pytest.mark.parametrize(("bars", "warmup_bars"), [([], 0), (["100"], 1), (["100"], -1)])
def test_nothing_to_replay_is_refused(path, bars, warmup_bars):
    with pytest.raises(Fatal) as failure:
        Session(path, candles(*bars), warmup_bars=warmup_bars)
    assert failure.value.exit_code == 78


def test_an_account_of_other_candles_is_refused(path):
    session = Session(path, candles("100", "101", "102"))
    for _ in range(3):
        session.step()
    session.exchange.close()
    later = [Candle(**{**_fields(bar), "open_time": bar.open_time + timedelta(days=1)}) for bar in session.bars]
    for other in (candles("100", "101"), later):
        with pytest.raises(Fatal, match="use the same candles") as failure:
            Session(path, other)
        assert failure.value.exit_code == 78


def _fields(bar: Candle) -> dict[str, Any]:
    return {field.name: getattr(bar, field.name) for field in fields(bar)}


def test_a_step_that_could_not_be_committed_comes_with_the_next_poll(path, monkeypatch):
    session = Session(path, candles("100", "101"))
    session.step()
    session.place(order("entry", "buy", "1"))

    def full(*_: Any, **__: Any) -> None:
        raise Unavailable("disk_full")

    with monkeypatch.context() as patch:
        patch.setattr(AccountFile, "commit", full)
        with pytest.raises(Unavailable):
            session.feed.poll()
    assert session.exchange.last_seq() == 0
    assert told(session.step()) == (1, Phase.OPEN, "101")
    session.die()


def test_a_killed_replay_goes_on_behind_its_last_commit(path):
    bars = candles("100", "101", "102", "103")
    first = Session(path, bars)
    first.step()
    first.step()
    first.place(order("entry", "buy", "1"))
    first.die()
    second = Session(path, bars)
    assert second.feed.position == 2
    assert second.clock.now() == START + timedelta(minutes=2)
    assert told(second.step()) == (2, Phase.OPEN, "102")
    second.die()
    third = Session(path, bars)
    assert third.clock.now() == START + timedelta(minutes=2)
    assert told(third.step()) == (2, Phase.CLOSE, "102")
    third.die()


def test_market_time_never_goes_back():
    clock = MarketClock(START)
    with pytest.raises(ValueError, match="back"):
        clock.set(START - timedelta(seconds=1))


@pytest.mark.parametrize("time", [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))])  # noqa: DTZ001 the naive one is what must be refused
def test_market_time_is_utc(time):
    with pytest.raises(ValueError, match="UTC"):
        MarketClock(time)
    with pytest.raises(ValueError, match="UTC"):
        MarketClock(EPOCH).set(time)


# A bot that is nothing but a script, killed anywhere


@dataclass(frozen=True)
class Act:
    """At the step (bar, phase): an order, or the cancellation of an earlier one."""

    index: int
    phase: Phase
    side: str
    qty: int
    kind: str
    price: int
    reduce_only: bool

    def do(self, session: Session, number: int) -> None:
        try:
            if self.kind == "cancel":
                session.exchange.cancel(f"o{self.qty}", SYMBOL, timeout_s=1)
                return
            price = {} if self.kind == "market" else {self.kind: D(self.price) / 10}
            qty = str(D(self.qty) / 4)
            session.place(order(f"o{number}", self.side, qty, reduce_only=self.reduce_only, **price))
        except Rejected:
            pass


class Killed(Exception):
    """The process is gone."""


def run(
    path: Path, bars: Sequence[Candle], script: Sequence[Act], kills: Iterable[tuple[int, str]], **more: Any
) -> AccountRecord:
    """Play the script to the end of the market. A kill is (commits that a life survives, before or after the next)."""
    left = iter(kills)
    done: set[int] = set()
    while True:
        kill = next(left, None)
        session = Session(path, bars, **more)
        commit, commits = session.exchange._file.commit, 0

        def counted(*args: Any, commit: Any = commit, kill: tuple[int, str] | None = kill, **named: Any) -> None:
            nonlocal commits
            if kill == (commits, "before"):
                raise Killed
            commit(*args, **named)
            if kill == (commits, "after"):
                raise Killed
            commits += 1

        session.exchange._file.commit = counted  # type: ignore[method-assign] # the kill happens inside
        try:
            act(session, script, done)
            while (steps := session.feed.poll()) is not None:
                assert steps
                act(session, script, done)
            session.exchange._file.commit = commit  # type: ignore[method-assign] # the real one again
            session.exchange.close()
            return read_account(path)
        except Killed:
            session.die()


def act(session: Session, script: Sequence[Act], done: set[int]) -> None:
    """React to where the market stands, as a bot does on every step and again when it recovers.

    ``done`` is the bot's own store: what was answered is not asked again, what a kill interrupted is.
    """
    cursor = session.exchange.cursor
    if cursor is not None:
        for number, line in enumerate(script):
            if number not in done and (line.index, line.phase) == (cursor.index, cursor.phase):
                line.do(session, number)
                done.add(number)


tick = st.integers(950, 1050)
bar_texts = st.tuples(tick, tick, tick, tick).map(
    lambda path: " ".join(str(D(price) / 10) for price in (path[0], max(path), min(path), path[3]))
)
acts = st.builds(
    Act,
    index=st.integers(0, 5),
    phase=st.sampled_from([Phase.CLOSE, Phase.CLOSE, Phase.OPEN, Phase.RANGE]),
    side=st.sampled_from(["buy", "sell"]),
    qty=st.integers(1, 12),
    kind=st.sampled_from(["market", "market", "price", "stop_price", "cancel"]),
    price=tick,
    reduce_only=st.booleans(),
)
kills_ = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["before", "after"])), min_size=1, max_size=6)


@given(
    bars=st.lists(bar_texts, min_size=3, max_size=7),
    script=st.lists(acts, min_size=1, max_size=12),
    kills=kills_,
    volume_share=st.sampled_from([None, D("0.02")]),
)
def test_a_run_with_kills_ends_with_the_account_of_the_run_without(bars, script, kills, volume_share):
    with tempfile.TemporaryDirectory() as folder:
        market = candles(*bars)
        whole = run(Path(folder) / "whole.db", market, script, [], volume_share=volume_share)
        killed = run(Path(folder) / "killed.db", market, script, kills, volume_share=volume_share)
    assert killed == whole


def test_a_kill_at_every_commit_of_recorded_candles_changes_nothing(shared_data, tmp_path):
    from pyarrow import parquet

    table = parquet.read_table(shared_data / "candles" / "binance_usdm_BTCUSDT_5m.parquet").slice(0, 120).to_pylist()
    bars = [
        Candle(
            open_time=_time(row["timestamp"]),
            **{name: D(repr(row[name])) for name in ("open", "high", "low", "close", "volume")},
        )
        for row in table
    ]
    script = []
    for index in range(3, 115, 8):
        price = int(bars[index].close * 10)
        side, other, away = ("buy", "sell", -1) if index % 16 == 3 else ("sell", "buy", 1)
        script += [
            Act(index, Phase.CLOSE, side, 4, "market", 0, False),
            Act(index + 1, Phase.OPEN, other, 4, "stop_price", price + away * price // 400, True),
            Act(index + 1, Phase.OPEN, other, 4, "price", price - away * price // 300, True),
            Act(index + 5, Phase.CLOSE, other, 4, "market", 0, True),
        ]
    settings: dict[str, Any] = {"cash": "1000000", "timeframe_s": 300}
    whole = run(tmp_path / "whole.db", bars, script, [], **settings)
    fills = [event for event in whole.events if isinstance(event, Fill)]
    assert len(fills) == 2 * len(script) // 4
    assert {fill.maker for fill in fills} == {True, False}
    assert whole.venue.account.qty == 0
    for kill in [(0, "after"), (1, "before")]:
        killed = run(tmp_path / f"{kill[1]}.db", bars, script, [kill] * 200, **settings)
        assert killed == whole


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)
