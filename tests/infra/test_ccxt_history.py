"""Trades are read without gaps, though the servers of an exchange are not all as far."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tbh.infra.ccxt_history import TradeHistory
from tbh.ports import Unavailable


class Server:
    """Answers with the trades that ``has`` says, as their ids; the client of the history, and its venue."""

    def __init__(self) -> None:
        self.has: list[int] = []
        self.venue = SimpleNamespace(page_max=1_000, dialect=self)

    def call(self, endpoint: str, params: int, **_: Any) -> list[int]:
        return [trade for trade in self.has if trade > params]

    def trades_after(self, at: int, market_id: str) -> int:
        return at

    def trade_seq(self, row: int) -> int:
        return row

    def trade_order(self, row: int) -> str:
        return str(row)

    def names(self, orders: list[str], until_s: float) -> dict[str, str]:
        return dict.fromkeys(orders, "")

    def fill(self, row: int, name: str, symbol: str) -> Any:
        return SimpleNamespace(seq=row)


def history(server: Server) -> TradeHistory:
    double: Any = server
    return TradeHistory(double, double, symbol="BTC/USDT", market_id="BTCUSDT", since=None)


def test_an_answer_that_lacks_what_was_told_before_is_none() -> None:
    server = Server()
    trades = history(server)
    server.has = [3, 4]
    assert [fill.seq for fill in trades.after(0, 0.0)] == [3, 4]
    server.has = [3]
    with pytest.raises(Unavailable, match="trades_behind"):
        trades.after(2, 0.0)
    server.has = [3, 4, 5]
    assert [fill.seq for fill in trades.after(2, 0.0)] == [3, 4, 5]


def test_nothing_new_is_an_answer() -> None:
    server = Server()
    server.has = [3, 4]
    trades = history(server)
    trades.after(0, 0.0)
    assert trades.after(4, 0.0) == []
