"""What the tests of strategies share: candles and positions from a few numbers, definitions from a few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

START = datetime(2026, 1, 1, tzinfo=UTC)


def _candle(index: int, close: object, *, volume: object = 1) -> Candle:
    price = Decimal(str(close))
    return Candle(
        open_time=START + timedelta(minutes=index),
        open=price,
        high=price + 1,
        low=price - 1,
        close=price,
        volume=Decimal(str(volume)),
    )


@pytest.fixture(scope="session")
def candle() -> Callable[..., Candle]:
    """``candle(index, close)``: a bar of one minute whose high and low are 1 above and below its close."""
    return _candle


@pytest.fixture(scope="session")
def candles() -> Callable[[Sequence[object]], list[Candle]]:
    return lambda closes: [_candle(index, close) for index, close in enumerate(closes)]


@pytest.fixture(scope="session")
def position() -> Callable[..., Position]:
    """``position(qty, layers=1)``: a position entered at 100."""

    def make(qty: object, *, layers: int = 1) -> Position:
        return Position(
            symbol="BTC/USDT",
            strategy="s",
            position_id="p",
            qty=Decimal(str(qty)),
            entry_price=Decimal(100),
            opened_at=START,
            bar_open=START,
            layers=layers,
        )

    return make


@pytest.fixture(scope="session")
def described() -> Callable[..., dict[str, Any]]:
    """A valid definition as a mapping, with the given parts replaced or added."""

    def make(**parts: Any) -> dict[str, Any]:
        return {
            "name": "s",
            "timeframe": "1m",
            "entry": {"long": {"left": "close", "op": ">", "right": 110}},
            "sizing": {"kind": "fixed_quantity", "value": "2"},
            **parts,
        }

    return make


@pytest.fixture(scope="session")
def strategy(described: Callable[..., dict[str, Any]]) -> Callable[..., DynamicStrategy]:
    return lambda **parts: DynamicStrategy(parse_definition(described(**parts)))
