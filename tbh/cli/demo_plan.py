"""From the arguments of ``tbh demo`` to a plan. Everything that can be refused is refused before a folder is made."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.cli.parser import CommandError
from tbh.cli.strategy import load_strategy, timeframe_of
from tbh.infra.candles import CandleError, CandleFile, load_candles
from tbh.infra.simmarket import simulated_market
from tbh.plan import PaperPlan
from tbh.strategies.definition import parse_definition
from tbh.strategies.runner import AnyDefinition

SIMULATED_BARS = 1_500
SIMULATED_TIMEFRAME = "1m"
WATCHED_FOR_S = 15.0
WATCHED_BARS_PER_S_MIN = 20.0
"""On a terminal a demo takes about 15 s, and a short recording is not slowed down to a crawl for that."""

SIMULATED_SYMBOL = "SIM/USD"
RECORDED_SYMBOL = "BASE/QUOTE"
"""A candle file does not say what was traded, so neither do we until ``--symbol`` does."""


def plan_of(args: argparse.Namespace, *, watched: bool, warn: Callable[[str], None]) -> PaperPlan:
    """The plan, its folder made if it is a new one. ``watched``: somebody looks on, so that haste is of no use;
    ``warn`` is told of missing bars.

    CommandError (78) for a strategy, a candle file or a folder that can't be used.
    """
    if args.strategy is None:
        built_in = parse_definition(DEFAULT_STRATEGY)
        candles = _candles(args, built_in)
        definition: AnyDefinition = built_in.model_copy(
            update={"timeframe": timeframe_of(candles.name, candles.timeframe_s)}
        )
    else:
        definition = load_strategy(args.strategy, args.params, lambda: _timeframe(args))
        candles = _candles(args, definition)
    simulated = args.candles is None
    gap_warning = candles.gap_warning()
    if gap_warning is not None:
        warn(gap_warning)
    return PaperPlan(
        candles=candles,
        simulated=simulated,
        definition=definition,
        symbol=args.symbol or (SIMULATED_SYMBOL if simulated else RECORDED_SYMBOL),
        cash=args.cash,
        fee=args.fee,
        bars_per_s=_bars_per_s(args.speed, candles, watched=watched),
        seed=args.seed,
        root=_root(args.dir),
        host=args.host,
        volume_share=args.volume_share,
    )


def _candles(args: argparse.Namespace, definition: AnyDefinition) -> CandleFile:
    if args.candles is None:
        return simulated_market(args.seed, args.bars or SIMULATED_BARS, timeframe_s=definition.timeframe_s)
    try:
        # The built-in strategy fits any timeframe; one from a file was written for its own.
        timeframe_s = None if args.strategy is None else definition.timeframe_s
        return load_candles(args.candles, timeframe_s=timeframe_s)[: args.bars]
    except CandleError as error:
        raise CommandError(str(error)) from error


def _timeframe(args: argparse.Namespace) -> str:
    """What a strategy trades that is named without a timeframe: the recording's."""
    if args.candles is None:
        return SIMULATED_TIMEFRAME
    try:
        candles = load_candles(args.candles)
    except CandleError as error:
        raise CommandError(str(error)) from error
    return timeframe_of(candles.name, candles.timeframe_s)


def _bars_per_s(speed: str | float | None, candles: CandleFile, *, watched: bool) -> float | None:
    if speed == "realtime":
        return 1 / candles.timeframe_s
    if isinstance(speed, float):
        return speed
    if speed is None and watched:
        return max(len(candles) / WATCHED_FOR_S, WATCHED_BARS_PER_S_MIN)
    return None


def _root(given: Path | None) -> Path:
    if given is not None:
        try:
            root = given.expanduser().absolute()
            exists = root.exists()
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise CommandError(f"--dir {given}: can't be found ({reason}); name another folder") from error
        if exists and not root.is_dir():
            raise CommandError(f"--dir {given}: is a file; name a folder, which is made when it is missing")
        if root.is_dir() and not os.access(root, os.W_OK | os.X_OK):
            raise CommandError(f"--dir {given}: can't be written; name another folder")
        return root
    try:
        return Path(tempfile.mkdtemp(prefix="tbh-demo-"))
    except OSError as error:
        raise CommandError(
            f"no folder for the demo's state can be made ({error.strerror}: {error.filename}); name one: --dir DIR"
        ) from error
