"""A bot whose orders are timed: the real tree on threads, the real store, the real adapter at an exchange on loopback.

Its strategy buys on one bar and sells on the next. Three instants are taken of each order: when the strategy has
decided, when each commit begins and ends, and when the request is handed to the socket.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from bench.binance.process import FakeBinance
from tbh.actors.identity import BotIdentity
from tbh.domain.risk import RiskLimits
from tbh.infra.ccxt_exchange import CcxtExchange
from tbh.infra.ccxt_http import Answer, Wire
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.store import SqliteStore
from tbh.messages.account import Position
from tbh.messages.market import Advance, Bar, Candle, Market, MarketMoved, Phase
from tbh.messages.orders import Purpose, Side
from tbh.messages.strategy import Sizing, SizingKind
from tbh.ports import Batch, FeedStep
from tbh.runtime.clock import process_clock
from tbh.runtime.host import Intercept
from tbh.runtime.threads import ThreadHost
from tbh.strategies.base import Wish
from tbh.tree import Parts, build_tree

QTY: Final = Decimal("0.001")
BAR_S: Final = 3600
"""Longer than any run, so that no entry expires meanwhile."""

CASH: Final = Decimal(10_000)
QUIET_S: Final = 30.0
_WEIGHT: Final = "x-mbx-used-weight-1m"


class StampedWire(Wire):
    """Notes when an order leaves. What the server says of the weight used is kept from the client: a benchmark asks
    more in a second than a bot may in a minute, and its polls would be put off."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_ns = 0
        self.sent = threading.Event()

    def _exchange(self, origin: str, reply: Any, method: str, request: bytes) -> Answer:
        if method == "POST":
            self.sent_ns = time.perf_counter_ns()
            self.sent.set()
        answer = super()._exchange(origin, reply, method, request)
        return replace(answer, headers={name: text for name, text in answer.headers.items() if name != _WEIGHT})


def connect(server: FakeBinance) -> tuple[CcxtExchange, StampedWire]:
    """The real adapter, and the wire that it uses."""
    exchange = CcxtExchange(
        "binance",
        server.symbol,
        server.api_key,
        server.api_secret,
        server.exchange_options(),
        lambda: datetime.now(UTC),
    )
    wire = exchange._client._wire = StampedWire()
    return exchange, wire


@dataclass(slots=True)
class Commit:
    batch: Batch
    began_ns: int
    ended_ns: int


class TimedStore:
    """The real store, and when each of its commits began and ended."""

    def __init__(self, store: SqliteStore) -> None:
        self.store_id = store.store_id
        self.commits: list[Commit] = []
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, batch: Batch) -> int:
        began_ns = time.perf_counter_ns()
        last_seq = self._store.commit(batch)
        self.commits.append(Commit(batch, began_ns, time.perf_counter_ns()))
        return last_seq


@dataclass(slots=True)
class Alternating:
    """Enters on a bar when flat, exits on the next. ``decided_ns`` is when it last knew what it wanted."""

    name: str = "alternating"
    timeframe_s: int = BAR_S
    warmup: int = 0
    warm: bool = True
    bar_count: int = 0
    decided_ns: list[int] = field(default_factory=list)

    def load(self, history: Sequence[Candle]) -> None:
        self.bar_count = len(history)

    def append(self, candle: Candle) -> None:
        self.bar_count += 1

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        if position is None:
            sizing = Sizing(kind=SizingKind.FIXED_QUANTITY, value=QTY)
            wish = Wish(side=Side.BUY, purpose=Purpose.ENTRY, sizing=sizing)
        else:
            wish = Wish(side=Side.SELL, purpose=Purpose.EXIT)
        self.decided_ns.append(time.perf_counter_ns())
        return (wish,)


class _Silent:
    """A feed with nothing to tell (the bars are published), a sink of events, and a channel to people."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.timeframe_s = BAR_S

    def history(self) -> Sequence[Candle]:
        return ()

    def poll(self) -> Sequence[FeedStep]:
        return ()

    def emit(self, event_type: str, attributes: Any) -> None: ...

    def flush(self) -> None: ...

    def send(self, *, severity: str, kind: str, text: str, key: str) -> None: ...


def identity(symbol: str) -> BotIdentity:
    return BotIdentity(
        bot_id="0b07" * 8,
        bot_name="bench",
        user_id="bench",
        strategy="alternating",
        mode="live",
        exchange="binance",
        symbol=symbol,
        boot_id="boot",
        run_id="run",
        version="0",
        provider="",
        region="",
        machine_id="",
        polling_tier="standard",
        timeframe_s=BAR_S,
    )


class OrderBot:
    """The bot. ``trade`` brings one bar, waits until nothing is under way any more, and says when the order left."""

    def __init__(self, server: FakeBinance, folder: Path, *, intercept: Intercept | None = None) -> None:
        self.exchange, self.wire = connect(server)
        self.market: Market = self.exchange.market(server.symbol)
        self.store = TimedStore(SqliteStore.open(folder / "path.db"))
        self.strategy = Alternating()
        self._bars = 0
        self._first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        silent: Any = _Silent(server.symbol)
        parts = Parts(
            identity=identity(server.symbol),
            market=self.market,
            new_strategy=lambda: self.strategy,
            feed=silent,
            exchange=self.exchange,
            store=self.store,
            rpc=MemoryRpc("0b07" * 8, monotonic=process_clock),
            sink=silent,
            channels=(silent,),
            limits=RiskLimits(),
            cash=CASH,
            poll_s=1.0,
            lease_s=30.0,
        )
        self.host = ThreadHost(build_tree(parts), external=(Advance, Bar, MarketMoved), intercept=intercept)
        self.host.start()
        self._wait_until_quiet()

    def trade(self) -> tuple[int, int]:
        """(decided, sent) of one order, in ns of the performance counter. ``TimeoutError`` when none leaves."""
        self.wire.sent.clear()
        price = Decimal(50_000)
        # Every bar is an hour after the one before it, and the first closes after the start: none is ever too late, and
        # none is of a former life on another disk.
        opened = self._first + timedelta(seconds=BAR_S * self._bars)
        candle = Candle(open_time=opened, open=price, high=price, low=price, close=price, volume=Decimal(1))
        symbol = self.market.symbol
        self.host.publish(MarketMoved(symbol=symbol, bar_open=opened, phase=Phase.CLOSE, price=price))
        self.host.publish(Bar(symbol=symbol, timeframe_s=BAR_S, index=self._bars, candle=candle))
        self._bars += 1
        self.wire.sent.wait(QUIET_S)  # asleep: a look now and then would have the interpreter while the order needs it
        if not self.wire.sent.is_set():
            raise TimeoutError(f"no order left after bar {self._bars}: {self.host.escalation}")
        self._wait_until_quiet()
        return self.strategy.decided_ns[-1], self.wire.sent_ns

    def _wait_until_quiet(self) -> None:
        """Until nothing is under way, twice in a row: while the cells are looked at, they may still tell each other."""
        in_a_row = 0

        def quiet() -> bool:
            nonlocal in_a_row
            in_a_row = in_a_row + 1 if all(cell.settled for cell in self.host.cells) else 0
            return in_a_row == 2

        self._wait(quiet)

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + QUIET_S
        while not done():
            if self.host.escalation is not None or time.monotonic() > deadline_s:
                raise TimeoutError(f"no rest after bar {self._bars}: {self.host.escalation}")
            time.sleep(0.001)

    def close(self) -> None:
        self.host.stop()
        self.exchange.close()
        self.store.close()
