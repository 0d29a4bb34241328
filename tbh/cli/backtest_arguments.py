"""The options of ``tbh backtest``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tbh.cli.parser import SEED_MAX, cash, fee_rate, path, share, symbol, whole

BARS_MAX = 5_000_000
LATENCY_BARS_MAX = 1_000
LATENCY_MS_MAX = 31 * 86_400_000
POSITIONS_MAX = 1_000
CHECKS = ("lookahead", "recursion")

_RATE = re.compile(r"\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}", re.ASCII)
_MODELS = {"none": 0, "fixed": 1, "proportional": 1, "volume_share": 1, "random": 2}

_EXAMPLES = """examples:
  tbh backtest --strategy my.json --candles btc-1m.parquet
  tbh backtest --strategy my.json --candles btc-1m.csv.gz --cash 5000 --fee 0.0004 --json
  tbh backtest --strategy my.json --candles btc-1m.parquet --report out
  tbh backtest --strategy my.json --candles btc-1m.parquet --slippage proportional:0.0002 --latency-ms 250
  tbh backtest --strategy my-breakout --params '{"period": 20}' --candles btc-1m.parquet
  tbh backtest --strategy my.json --candles btc-1m.parquet --engine actors
  tbh backtest --strategy my.json --candles btc-1m.parquet --check lookahead --check recursion
  tbh backtest --strategy my.json --candles btc.csv --symbol BTC/USDT --candles eth.csv --symbol ETH/USDT

A signal on a bar's close fills at the next open; stops and targets are live on the entry bar; when one bar touches
both, the stop wins. The trades are those of `tbh demo` over the same candles. Candles are kept as columns in
$TBH_CACHE_DIR (default: ~/.cache/tbh), with the compiled engine. Nothing here reaches an exchange or a database."""


@dataclass(frozen=True, slots=True)
class SlippageOption:
    """``none``, ``fixed:R``, ``proportional:R``, ``volume_share:R`` or ``random:MEAN:DEVIATION``."""

    model: str
    rate: Decimal = Decimal(0)
    deviation: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class FundingOption:
    """``RATE`` each ``hours``."""

    rate: Decimal
    hours: int


def add_backtest_command(commands: Any, *, add: Callable[..., Any]) -> None:
    """Register ``tbh backtest``."""
    test = add(
        commands,
        "backtest",
        run="backtest:run",
        does="trade a strategy over recorded candles, as fast as they can be read",
        examples=_EXAMPLES,
    )
    test.add_argument(
        "--strategy",
        metavar="FILE|NAME",
        type=path,
        required=True,
        help="a definition in JSON, or a strategy in Python: its name, module:Class or file.py:Class",
    )
    test.add_argument("--params", metavar="JSON|FILE", help="parameters of a strategy in Python")
    test.add_argument(
        "--candles",
        metavar="FILE",
        type=path,
        action="append",
        required=True,
        help="recorded candles; given several times, one account trades them all",
    )
    test.add_argument(
        "--symbol", metavar="S", type=symbol, action="append", help="what to call each market, in the same order"
    )
    test.add_argument("--bars", metavar="N", type=whole(2, BARS_MAX), help="the first N bars of each (default: all)")
    test.add_argument(
        "--cash", type=cash, default=cash("10000"), help="start with this much of the quote (%(default)s)"
    )
    test.add_argument("--fee", type=fee_rate, default=fee_rate("0.001"), help="per side, a fraction (%(default)s)")
    test.add_argument(
        "--engine",
        choices=("fast", "actors"),
        default="fast",
        help="what trades: whole arrays and a compiled loop, or the actors that trade live (%(default)s)",
    )
    test.add_argument(
        "--check",
        choices=CHECKS,
        action="append",
        help="don't trade, but look for what spoils a backtest: lookahead (decisions that change with the bars behind"
        " them), recursion (decisions that depend on where the history begins); may be repeated. Exit code 1 when"
        " something was found",
    )
    _add_market(test)
    test.add_argument(
        "--report",
        metavar="DIR",
        type=path,
        help="write report.html, summary.json, trades.csv and trades.json into a folder of their own",
    )
    test.add_argument(
        "--no-cache", action="store_true", help="read the candle files themselves, and keep nothing of them"
    )


def _add_market(test: Any) -> None:
    test.add_argument(
        "--slippage",
        metavar="MODEL",
        type=slippage,
        default=SlippageOption("none"),
        help="of market orders and stops: none, fixed:QUOTE, proportional:FRACTION, random:MEAN:DEVIATION (fractions),"
        " volume_share:IMPACT (times the square of the share of the bar's volume)",
    )
    test.add_argument(
        "--seed", metavar="N", type=whole(0, SEED_MAX), default=1, help="of random slippage (%(default)s)"
    )
    test.add_argument(
        "--latency-ms",
        metavar="N",
        type=whole(0, LATENCY_MS_MAX),
        default=0,
        help="orders come so much later than the next open; within a bar they get the price between its open and close",
    )
    test.add_argument(
        "--latency-bars", metavar="N", type=whole(0, LATENCY_BARS_MAX), default=0, help="and so many bars later"
    )
    test.add_argument(
        "--volume-share",
        metavar="X",
        type=share,
        help="fill at most this fraction of a bar's volume (default: no limit)",
    )
    test.add_argument(
        "--funding",
        metavar="RATE[:HOURS]",
        type=funding,
        help="what longs pay shorts of the notional, each 8 hours or as said; below zero: --funding=-0.0001:4",
    )
    test.add_argument(
        "--max-positions",
        metavar="N",
        type=whole(1, POSITIONS_MAX),
        help="positions open at a time over all markets (default: one for each)",
    )


def slippage(text: str) -> SlippageOption:
    """A slippage model with its numbers."""
    model, *numbers = text.split(":")
    if _MODELS.get(model) != len(numbers) or not all(_RATE.fullmatch(number) for number in numbers):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r}: must be none, fixed:R, proportional:R, volume_share:R or random:MEAN:DEVIATION"
        )
    values = [Decimal(number) for number in numbers]
    if model != "fixed" and any(value >= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text[:40]}: is a fraction of the price, below 1 (0.0002 is 0.02 %)")
    return SlippageOption(model, *values)


def funding(text: str) -> FundingOption:
    """A funding rate and how often it is due."""
    found = re.fullmatch(rf"(-?(?:{_RATE.pattern}))(?::(\d{{1,4}}))?", text, re.ASCII)
    if not found or abs(Decimal(found[1])) >= 1 or found[2] == "0":
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: must be a fraction below 1, or that and hours: 0.0001:8")
    return FundingOption(Decimal(found[1]), int(found[2] or 8))
