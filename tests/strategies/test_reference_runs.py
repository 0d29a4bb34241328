"""The definitions of the reference runs, traded by the plainest event loop there is, give the reference trades.

The loop knows nothing of orders or accounts: what is tested is what the strategy wishes, and that the conventions of
fills suffice to turn the wishes into the trades of an engine written by others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.candles import load_candles
from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose
from tbh.strategies.base import Wish
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

DEFINITIONS = Path(__file__).parent / "definitions"
RUNS = ("bt-sma-btc5m", "bt-sma-btc5m-fee-short", "bt-rsi-ltc1m", "bt-donchian-ethd")


@dataclass(kw_only=True)
class Trade:
    entry_bar: int
    size: Decimal
    entry_price: Decimal
    stop: Decimal | None
    target: Decimal | None
    exit_bar: int = -1
    exit_price: Decimal = Decimal(0)


def opened(index: int, candle: Candle, wish: Wish) -> Trade:
    assert wish.sizing is not None
    guard = wish.protection or Protection()
    basis = guard.basis_price or candle.open
    sign = wish.side.sign
    return Trade(
        entry_bar=index,
        size=sign * wish.sizing.value,
        entry_price=candle.open,
        stop=None if guard.stop_loss is None else basis * (1 - sign * guard.stop_loss),
        target=None if guard.take_profit is None else basis * (1 + sign * guard.take_profit),
    )


def protected_exit(trade: Trade, index: int, candle: Candle) -> Decimal | None:
    """The price at which a long trade's stop or target fills on this bar; the stop wins."""
    if trade.stop is not None and candle.low <= trade.stop:
        return min(candle.open, trade.stop) if index > trade.entry_bar else trade.stop
    if trade.target is not None and candle.high >= trade.target:
        return max(candle.open, trade.target)
    return None


def traded(strategy: DynamicStrategy, candles: Sequence[Candle]) -> list[Trade]:
    done: list[Trade] = []
    trade: Trade | None = None
    wishes: tuple[Wish, ...] = ()
    for index, candle in enumerate(candles):
        for wish in wishes:
            if wish.purpose is Purpose.EXIT and trade is not None:
                trade.exit_bar, trade.exit_price = index, candle.open
                done.append(trade)
                trade = None
            elif wish.purpose is Purpose.ENTRY:
                assert trade is None
                trade = opened(index, candle, wish)
        if trade is not None:
            price = protected_exit(trade, index, candle)
            if price is not None:
                trade.exit_bar, trade.exit_price = index, price
                done.append(trade)
                trade = None
        strategy.append(candle)
        wishes = strategy.on_bar(None if trade is None else as_position(trade, candles))
    return done


def as_position(trade: Trade, candles: Sequence[Candle]) -> Position:
    at = candles[trade.entry_bar].open_time
    return Position(
        symbol="X",
        strategy="s",
        position_id="p",
        qty=trade.size,
        entry_price=trade.entry_price,
        opened_at=at,
        bar_open=at,
    )


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> dict[str, Any]:
    runs = json.loads((shared_data / "backtests" / "reference_runs.json").read_text())
    return {run["id"]: run for run in runs}


@pytest.mark.parametrize("run_id", RUNS)
def test_strategy_gives_the_reference_trades(run_id: str, reference: dict[str, Any], shared_data: Path) -> None:
    run = reference[run_id]
    definition = parse_definition((DEFINITIONS / f"{run_id}.json").read_bytes())
    file = load_candles(shared_data / run["data"]["file"], timeframe_s=definition.timeframe_s)
    candles = list(file[run["data"]["row_start"] : run["data"]["row_end"]])
    expected = [trade for trade in run["expected"]["trades"] if not trade["closed_by_end_of_data"]]

    trades = traded(DynamicStrategy(definition), candles)

    assert [(trade.entry_bar, trade.exit_bar, trade.size) for trade in trades] == [
        (trade["entry_bar"], trade["exit_bar"], trade["size"]) for trade in expected
    ]
    assert [float(trade.entry_price) for trade in trades] == pytest.approx(
        [trade["entry_price"] for trade in expected], abs=1e-9, rel=0
    )
    assert [float(trade.exit_price) for trade in trades] == pytest.approx(
        [trade["exit_price"] for trade in expected], abs=1e-9, rel=0
    )


def test_every_reference_run_has_its_definition(reference: dict[str, Any]) -> None:
    assert set(reference) == set(RUNS)
    assert {file.stem for file in DEFINITIONS.glob("*.json")} == set(RUNS)
