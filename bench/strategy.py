"""What a closed bar costs a running strategy: take it, compute what the rules read, decide.

``whole`` is the same decision with every column computed over all bars held, as the backtest does it. ``floor`` are the
calls of the indicators alone, over the few rows that suffice, without bars, rules or a strategy. All three take turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import numpy as np

from bench import _market
from tbh.messages.market import Candle
from tbh.strategies.bars import Bars
from tbh.strategies.conditions import compile_rule
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import CATALOGUE
from tbh.strategies.series import Columns, computations

HELP = "a closed bar in a running strategy: few rows against all bars held"

HISTORIES = (500, 50_000)
NAMES = ("open", "high", "low", "close", "volume")


def options(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    parser.add_argument("--seed", type=int, default=1, help="of the market (default: %(default)s)")
    parser.add_argument("--bars", type=int, default=300, help="closed bars per case (default: %(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Microseconds per bar, the median over the bars of each case (40 bars after a short history when quick)."""
    bars = 40 if args.quick else args.bars
    histories = HISTORIES[:1] if args.quick else HISTORIES
    longest = max(histories)
    stamps, values = _market.bars_of(args.seed, longest + bars)
    candles = [_candle(int(stamp), row) for stamp, row in zip(stamps, values.T.tolist(), strict=True)]
    found: dict[str, Any] = {}
    for name, definition in _definitions().items():
        for history in histories:
            case = _case(definition, candles[longest - history : longest], candles[longest:])
            found |= {f"{name}_{history}_{key}": value for key, value in case.items()}
            print(f"{name}, {history} bars held: {case}", file=sys.stderr)
    return found | {"bars": bars, "seed": args.seed, "floor": "the indicators' calls over the rows that suffice"}


def _definitions() -> dict[str, dict[str, Any]]:
    carried = [name for name, entry in CATALOGUE.items() if entry.memory.kind == "all"]
    cross = _market.definition(stops=False)
    higher = [{**use, "timeframe": "15m"} for use in cross["indicators"]]
    return {
        "ema_cross": cross,
        "ema_cross_15m": cross | {"indicators": higher},
        "thirty": _asking_each(_market.thirty_indicators()["indicators"]),
        "remembering_all": _asking_each([{"id": f"i{n}", "name": name} for n, name in enumerate(carried)]),
    }


def _asking_each(uses: list[dict[str, Any]]) -> dict[str, Any]:
    """Asks for the first column of each indicator on every bar: any of them might make the rule true, and none does."""
    read = [f"{use['id']}__{CATALOGUE[use['name']].outputs[0]}" for use in uses]
    said = [{"left": name, "op": "<", "right": -1e15} for name in read]
    return _market.definition(stops=False) | {"indicators": uses, "entry": {"long": {"any": said}}, "exit": {}}


def _candle(stamp_ms: int, row: list[float]) -> Candle:
    opened, high, low, close, volume = (Decimal(str(value)) for value in row)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp_ms)
    return Candle(open_time=at, open=opened, high=high, low=low, close=close, volume=volume)


def _case(raw: dict[str, Any], history: list[Candle], closing: list[Candle]) -> dict[str, float]:
    definition = parse_definition(raw)
    made = DynamicStrategy(definition)
    began_s = time.perf_counter()
    made.load(history)
    loaded_s = time.perf_counter() - began_s
    plan, rule = computations(definition), compile_rule(definition.entry.long)
    assert rule is not None
    held = Bars.of(history)
    floor = _floor(made, held)

    def live(candle: Candle) -> bool:
        made.append(candle)
        return bool(made.on_bar(None))

    def whole(candle: Candle) -> bool:
        held.append(candle)
        columns = Columns(held.series(), plan, definition.timeframe_s)
        return bool(rule.evaluate(columns, held.held - 1, held.held)[0])

    taken: dict[str, list[float]] = {"live_us": [], "whole_us": [], "floor_us": []}
    whole_bars = 5 if len(history) > 1_000 and len(made.definition.indicators) > 5 else len(closing)
    for number, candle in enumerate(closing):
        wished, other = _timed(taken["live_us"], live, candle), None
        if number < whole_bars:
            other = _timed(taken["whole_us"], whole, candle)
        if other is not None and wished != other:
            raise SystemExit(f"bar {number}: {wished} with few rows, {other} with all of them")
        _timed(taken["floor_us"], floor, candle)
    return {name: round(median(each), 1) for name, each in taken.items()} | {"load_ms": round(loaded_s * 1e3, 1)}


def _floor(made: DynamicStrategy, held: Bars) -> Callable[[Candle], bool]:
    """The indicators' calls over the last rows of what is held now, which serves for every bar."""
    calls = []
    for computation in {id(each): each for each in made.computations.values()}.values():
        rows = computation.entry.history(computation.params)
        if rows is not None:
            series = held.series()
            inputs = tuple(np.ascontiguousarray(series[name][-rows:]) for name in computation.inputs)
            calls.append((computation, inputs))

    def call(_: Candle) -> bool:
        for computation, inputs in calls:
            computation.entry.function(inputs, computation.params)
        return True

    return call


def _timed(taken: list[float], work: Callable[[Candle], bool], candle: Candle) -> bool:
    began_s = time.perf_counter()
    made = work(candle)
    taken.append((time.perf_counter() - began_s) * 1e6)
    return made
