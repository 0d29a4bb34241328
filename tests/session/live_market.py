"""A live session in this process: on an exchange of its own process, with a database in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.binance.process import FakeBinance
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.memory_tables import MemoryTables
from tbh.infra.statedir import StateDir
from tbh.live import LiveSession
from tbh.plan import Bot, LivePlan
from tbh.ports import Unavailable
from tbh.runtime.clock import process_clock
from tbh.strategies.definition import parse_definition

BOT_ID = "6f1c2b7e-0000-4000-8000-00000000feed"
WITHIN_S = 15.0

CALM, BUY, SELL = "50000", "51000", "49500"
"""Prices at which the strategy does nothing, enters, and leaves; at none of them its stop is hit."""

LEVELS: dict[str, Any] = {
    "name": "levels",
    "timeframe": "1s",
    "indicators": [],
    "entry": {"long": {"all": [{"left": "close", "op": ">", "right": 50_500}]}},
    "exit": {"long": {"any": [{"left": "close", "op": "<", "right": 49_900}]}},
    "stops": {"basis": "entry", "stop_loss": "0.1"},
    "sizing": {"kind": "fixed_quantity", "value": "0.01"},
}


class Database(MemoryRpc):
    """Silent while ``away``."""

    away = False

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        if self.away:
            raise Unavailable("refused", detail="the database is away")
        with super()._call(name):
            yield


@dataclass
class Bench:
    """The exchange, the database's rows and the bot's disk; ``open`` is one process's life on them."""

    market: FakeBinance
    root: Path
    tables: MemoryTables = field(default_factory=lambda: MemoryTables(bot_id=BOT_ID, monotonic=process_clock))
    sessions: list[LiveSession] = field(default_factory=list)

    def plan(self, **changes: Any) -> LivePlan:
        settings: dict[str, Any] = {
            "definition": parse_definition(LEVELS),
            "symbol": self.market.symbol,
            "root": self.root,
            "bot": Bot(bot_id=BOT_ID, name="live", mode="live", exchange="binance"),
            "credentials": {"api_key": self.market.api_key, "api_secret": self.market.api_secret},
            "options": self.market.exchange_options(),
            "lease_s": 1.0,
        }
        return LivePlan(**(settings | changes))

    def open(self, *, started: bool = True, **changes: Any) -> LiveSession:
        """A session, started, its claim taken as the process's composer takes it."""
        plan = self.plan(**changes)
        state = StateDir.open(plan.root)
        rpc = Database(BOT_ID, monotonic=process_clock, boot_id=state.boot_id, tables=self.tables)
        session = LiveSession.open(plan, state=state, rpc=rpc)
        self.sessions.append(session)
        if started:
            session.start()
        return session

    def database(self, session: LiveSession) -> Database:
        found: Database = session.rpc._rpc  # type: ignore[assignment] # what the session counts the calls of
        return found

    def price(self, price: str) -> None:
        self.market.tell("market", price=price)

    def orders(self, side: str | None = None) -> list[dict[str, Any]]:
        """The exchange's own list, without what others ordered."""
        rows = [row for row in self.market.ledger()["orders"] if not row["foreign"]]
        return [row for row in rows if side in (None, row["side"])]

    def stops(self) -> list[dict[str, Any]]:
        return [row for row in self.orders("SELL") if row["type"] == "STOP_LOSS" and row["status"] == "NEW"]

    def until(self, true: Callable[[], Any], what: str, *, within_s: float = WITHIN_S) -> Any:
        """What ``true`` gives once it is true."""
        deadline_s = time.monotonic() + within_s
        while not (found := true()):
            assert time.monotonic() < deadline_s, f"{what} not within {within_s:g} s"
            time.sleep(0.02)
        return found

    def buys(self, session: LiveSession) -> None:
        """Have it enter, and wait until it is guarded."""
        self.until(lambda: session.trading_after_s is not None, "an open gate")
        self.price(BUY)
        self.until(self.stops, "a guarded position")
        self.price(CALM)
