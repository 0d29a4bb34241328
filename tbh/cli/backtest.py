"""``tbh backtest``: a strategy over recorded candles, by the fast engine or by the actors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tbh.backtest.columns import Columns, load_columns
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import NotCompiled, Runner, default_cache, plain_runner, runner
from tbh.backtest.options import Options, Slippage, SlippageKind
from tbh.cli.backtest_view import Stages, as_json, print_report
from tbh.cli.parser import EXIT_USAGE, CommandError, one_line
from tbh.cli.strategy import load_strategy, timeframe_of
from tbh.infra.candles import CandleError
from tbh.strategies.custom import StrategyError
from tbh.strategies.runner import AnyStrategy, CustomRunner, strategy_of
from tbh.strategies.series import IndicatorError
from tbh.strategies.shapes import Definition
from tbh.strategies.trading import Stops

if TYPE_CHECKING:
    from tbh.cli.backtest_report import Reporter

UNNAMED = "BASE/QUOTE"
EXIT_FAULT = 70


def run(args: argparse.Namespace) -> int:
    """Run the backtest and print what it came to; CommandError for a file or an option that can't be used."""
    files: list[Path] = args.candles
    symbols = _symbols(args, files)
    kept = _cache()
    cache = None if args.no_cache else kept
    definition = load_strategy(args.strategy, args.params, lambda: _timeframe(files[0], cache))
    options = _options(args)
    if args.check and args.report is not None:
        raise CommandError("--check trades nothing that a --report could hold; leave one away", exit_code=EXIT_USAGE)
    write_report = None if args.report is None else _reporter(args.report)
    if args.engine == "actors" and not args.check:
        _check_served(options, len(files))
    strategy = strategy_of(definition)
    with Stages(sys.stderr, shown=sys.stderr.isatty()) as stages:
        stages.begin("reading candles")
        markets = [_market(file, args, strategy, cache) for file in files]
        if args.check:
            from tbh.cli.backtest_checks import run_checks  # noqa: PLC0415 - who trades need not wait for it

            return run_checks(args, strategy, symbols, markets, stages)
        try:
            if args.engine == "actors":
                made = _by_actors(strategy, markets[0], options, symbols[0], stages)
            else:
                stepped = isinstance(strategy, CustomRunner) and not strategy.vectorised
                run_bars = plain_runner() if stepped else _runner(kept, stages)
                stages.begin("trading")
                made = backtest(strategy, markets, options, run_bars)
        except IndicatorError as error:
            raise CommandError(f"{args.strategy}: {error}") from error
        except StrategyError as error:
            raise CommandError(str(error)) from error
        if write_report is not None:
            stages.begin("writing the report")
            told = as_json(strategy.name, symbols, options, made, engine=args.engine)
            write_report(told, definition.canonical_json(), _drawn(strategy), files, markets, options, made)
    _print(args, strategy, symbols, options, markets, made)
    return 0


def _reporter(folder: Path) -> Reporter:
    from tbh.cli.backtest_report import reporter  # noqa: PLC0415 - a plain backtest need not wait for it

    return reporter(folder)


def _drawn(strategy: AnyStrategy) -> Definition:
    """The definition with the stops that all entries have: asked bar by bar, a strategy may give each its own."""
    if isinstance(strategy, CustomRunner) and not strategy.vectorised:
        return strategy.definition.model_copy(update={"stops": Stops()})
    return strategy.definition


def _check_served(options: Options, markets: int) -> None:
    from tbh.rehearsal.engine import unserved  # noqa: PLC0415 - the fast engine need not wait for the actors

    if (name := unserved(options, markets)) is not None:
        raise CommandError(f"--engine actors knows no {name}; take --engine fast", exit_code=EXIT_USAGE)


def _by_actors(strategy: AnyStrategy, market: Columns, options: Options, symbol: str, stages: Stages) -> Run:
    from tbh.rehearsal.engine import ActorFailed, Rehearsal  # noqa: PLC0415 - as above

    stages.begin("computing rules")
    rehearsal = Rehearsal(strategy, market, options, symbol=symbol)
    stages.begin("trading", lambda: rehearsal.feed.position / len(market))
    try:
        return rehearsal.run()
    except ActorFailed as failed:
        raise CommandError(f"an actor has failed: {one_line(str(failed))}", exit_code=EXIT_FAULT) from failed


def _symbols(args: argparse.Namespace, files: list[Path]) -> list[str]:
    symbols: list[str] = args.symbol or ([UNNAMED] if len(files) == 1 else _names(files))
    if len(symbols) != len(files):
        raise CommandError(
            f"--symbol is given {len(symbols)} time(s) and --candles {len(files)} time(s); name each market or none",
            exit_code=EXIT_USAGE,
        )
    if len({file.resolve() for file in files}) != len(files):
        raise CommandError("--candles names a file twice; one account trades each market once", exit_code=EXIT_USAGE)
    if len(set(symbols)) != len(symbols):
        raise CommandError("--symbol names two markets the same; give each its own name", exit_code=EXIT_USAGE)
    return symbols


def _names(files: list[Path]) -> list[str]:
    # Folders may hold files of one name: then the paths tell the markets apart.
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _options(args: argparse.Namespace) -> Options:
    slips = args.slippage
    more = {} if args.funding is None else {"funding_rate": args.funding.rate, "funding_hours": args.funding.hours}
    return Options(
        cash=args.cash,
        fee=args.fee,
        slippage=Slippage(kind=SlippageKind(slips.model), rate=slips.rate, deviation=slips.deviation, seed=args.seed),
        latency_bars=args.latency_bars,
        latency_ms=args.latency_ms,
        volume_share=args.volume_share,
        positions_max=args.max_positions,
        **more,
    )


def _timeframe(file: Path, cache: Path | None) -> str:
    """What a strategy trades that is named without a timeframe: the candles'."""
    try:
        market = load_columns(file, timeframe_s=None, cache=cache)
    except CandleError as error:
        raise CommandError(str(error)) from error
    return timeframe_of(str(file), market.timeframe_s)


def _market(file: Path, args: argparse.Namespace, strategy: AnyStrategy, cache: Path | None) -> Columns:
    try:
        market = load_columns(file, timeframe_s=strategy.timeframe_s, cache=cache).first(args.bars)
    except CandleError as error:
        raise CommandError(str(error)) from error
    # The first decision needs every value, and its order one bar more.
    needed = strategy.warmup + 2
    if len(market) < needed:
        raise CommandError(
            f"{file}: {len(market)} bars, and the strategy can't trade before it has {needed}; take more candles"
        )
    if gaps := market.gaps:
        missing = sum(gap.missing for gap in gaps)
        _warn(f"{file}: {missing} bars are missing in {len(gaps)} gap(s); they are not filled in")
    return market


def _cache() -> Path:
    try:
        return default_cache()
    except RuntimeError as error:
        raise CommandError("this user has no home folder to keep a cache in; set TBH_CACHE_DIR to a folder") from error


def _runner(cache: Path, stages: Stages) -> Runner:
    def unkept(why: str) -> None:
        stages.end()
        _warn(
            f"{cache}: the compiled engine can't be kept there ({why}), and each run takes the seconds to compile it; "
            "make it a folder that you alone can write to, or set TBH_CACHE_DIR to one"
        )

    try:
        return runner(cache, on_compile=lambda: stages.begin("compiling the engine, once"), on_unkept=unkept)
    except NotCompiled as reason:
        _warn(f"{reason}: the engine is not compiled and takes 100 times as long; pip install 'tbh[backtest]'")
        return plain_runner()


def _print(
    args: argparse.Namespace,
    strategy: AnyStrategy,
    symbols: list[str],
    options: Options,
    markets: list[Columns],
    made: Run,
) -> None:
    if args.json:
        print(json.dumps(as_json(strategy.name, symbols, options, made, engine=args.engine), allow_nan=False))
    else:
        print_report(strategy.name, symbols, options, markets, made)
        if args.report is not None:
            print(f"\nthe report is {args.report / 'report.html'}")


def _warn(text: str) -> None:
    print(f"tbh: {one_line(text)}", file=sys.stderr)
