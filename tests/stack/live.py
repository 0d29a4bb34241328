"""A live bot as a process of its own, on an exchange of its own process, and a way to its database that can be cut."""

from __future__ import annotations

import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from bench._stack import MadeBot, wait_until
from bench.binance.process import FakeBinance
from tbh.infra.crypto import seal
from tests.session.live_market import BUY, CALM, LEVELS

KEY = "c1" * 32
ARMED = {"TBH_CREDENTIALS_KEY": KEY, "LIVE_TRADING": "true", "LIVE_TRADING_ACK": "I_UNDERSTAND"}


@dataclass
class LiveFleet:
    """``fleet`` with bots that trade at ``market``."""

    fleet: Any
    market: FakeBinance

    def make(self) -> MadeBot:
        """A bot with its sealed credentials."""
        bot_id = str(uuid.uuid4())
        credentials = {"api_key": self.market.api_key, "api_secret": self.market.api_secret}
        payload = {
            "name": "live",
            "exchange": "binance",
            "symbols": [self.market.symbol],
            "strategy": LEVELS,
            "mode": "live",
            "polling_tier": "fast_5s",
            "exchange_options": self.market.exchange_options(),
            "ciphertext": seal(credentials, KEY, bot_id=bot_id),
            "lease_s": "2",
        }
        with self.fleet.stack.operator() as operator:
            made = operator.call("bot_admin_create", bot_id=bot_id, payload=payload)
        return MadeBot(bot_id=made["bot_id"], token=made["runtime_token"])

    def start(self, bot: MadeBot, state: str = "state", **environment: str) -> Any:
        return self.fleet.start(bot, state, **(ARMED | environment))

    def price(self, price: str) -> None:
        self.market.tell("market", price=price)

    def orders(self, side: str) -> list[dict[str, Any]]:
        return [row for row in self.market.ledger()["orders"] if row["side"] == side]

    def stops(self) -> list[dict[str, Any]]:
        return [row for row in self.orders("SELL") if row["type"] == "STOP_LOSS" and row["status"] == "NEW"]

    def held(self) -> float:
        coins = self.market.ledger()["balances"]["BTC"]
        return float(coins["free"]) + float(coins["locked"])

    def buys(self) -> None:
        """Have the bot enter, and wait until it is guarded."""
        self.price(BUY)
        wait_until(self.stops, within_s=30, what="a guarded position")
        self.price(CALM)

    def rows(self, bot: MadeBot, table: str) -> int:
        ((count,),) = self.fleet.stack.query(f"select count(*) from bot_runtime.{table} where bot_id = %s", bot.bot_id)
        return int(count)


class Cable:
    """Forwards TCP to ``url`` until it is cut; then nobody answers there, and what was open ends."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut = False
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self._cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._open += [near, far]
            pair = [
                threading.Thread(target=self._carry, args=(near, far)),
                threading.Thread(target=self._carry, args=(far, near)),
            ]
            self._threads += pair
            for thread in pair:
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            source.close()
