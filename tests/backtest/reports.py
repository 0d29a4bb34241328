"""Subjects for the tests of reports: a walk by seed, traded both ways with every kind of exit."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from tbh.backtest.columns import Columns, columns_of
from tbh.backtest.engine import backtest
from tbh.backtest.native import Runner, plain_runner
from tbh.backtest.options import Options
from tbh.backtest.report.subject import Subject
from tbh.cli.backtest_view import as_json
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

START_MS = 1_767_225_600_000
CROSS: dict[str, Any] = {
    "name": "cross",
    "timeframe": "1m",
    "indicators": [
        {"id": "fast", "name": "ema", "params": {"period": 5}},
        {"id": "slow", "name": "ema", "params": {"period": 13}},
    ],
    "entry": {
        "long": {"left": "fast__value", "op": "crosses_above", "right": "slow__value"},
        "short": {"left": "fast__value", "op": "crosses_below", "right": "slow__value"},
    },
    "exit": {
        "long": {"left": "fast__value", "op": "crosses_below", "right": "slow__value"},
        "short": {"left": "fast__value", "op": "crosses_above", "right": "slow__value"},
    },
    "stops": {
        "stop_loss": "0.004",
        "take_profit": "0.006",
        "trailing": {"distance": "0.003", "activate_at": "0.003"},
    },
    "sizing": {"kind": "equity_fraction", "value": "0.5"},
}


def walk(bars: int, *, seed: int = 3) -> Columns:
    """Minutes from 2026-01-01 on."""
    chance = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(chance.standard_normal(bars) * 0.001)), 2)
    opened = np.concatenate(([100.0], close[:-1]))
    high = np.round(np.maximum(opened, close) + chance.random(bars) * 0.05, 2)
    low = np.round(np.minimum(opened, close) - chance.random(bars) * 0.05, 2)
    stamps = START_MS + 60_000 * np.arange(bars, dtype=np.int64)
    return columns_of("walk", 60, stamps, np.stack([opened, high, low, close, np.full(bars, 1_000.0)]))


def subject_of(
    folder: Path,
    markets: list[Columns],
    *,
    definition: dict[str, Any] | None = None,
    symbols: list[str] | None = None,
    name: str | None = None,
    run_bars: Runner | None = None,
    **options: Any,
) -> Subject:
    """A run of ``definition`` (``CROSS``) over the markets; ``name`` is what the report calls the strategy."""
    strategy = DynamicStrategy(parse_definition(definition or CROSS))
    settings = Options(**({"cash": Decimal(10_000), "fee": Decimal("0.0002")} | options))
    made = backtest(strategy, markets, settings, run_bars or plain_runner())
    symbols = symbols or [f"M{number}/USD" for number in range(len(markets))]
    files = [folder / f"candles-{number}.csv" for number in range(len(markets))]
    for file in files:
        file.write_text(file.name)
    return Subject(
        told=as_json(name or strategy.name, symbols, settings, made) | {"seconds": 1.0, "bars_per_s": 1.0},
        definition=json.loads(strategy.definition.canonical_json()),
        stops=strategy.definition.stops.model_dump(mode="json", exclude_none=True),
        symbols=symbols,
        files=files,
        markets=markets,
        options=settings,
        made=made,
    )
