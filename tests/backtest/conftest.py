"""What the tests of backtests share: markets from a few numbers, definitions from a few words, runs of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import reference
from tbh.backtest.columns import Columns, columns_of, load_columns
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import NotCompiled, Runner, plain_runner, runner
from tbh.backtest.options import Options
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = REPOSITORY / ".pytest_cache" / "backtest"
START_MS = 1_767_225_600_000
MINUTE_MS = 60_000

Bar = tuple[float, float, float, float] | tuple[float, float, float, float, float]


def market_of(bars: Sequence[Bar], *, first: int = 0) -> Columns:
    """Bars of one minute: open, high, low, close and, where it matters, the volume."""
    rows = [(*bar, 1_000.0)[:5] for bar in bars]
    stamps = START_MS + MINUTE_MS * (first + np.arange(len(rows), dtype=np.int64))
    return columns_of("market", 60, stamps, np.array(rows, dtype=np.float64).T)


def definition_of(**parts: Any) -> dict[str, Any]:
    """Long when the close is 100, out when it is 110; one unit; any part replaced."""
    return {
        "name": "s",
        "timeframe": "1m",
        "entry": {"long": {"left": "close", "op": "==", "right": 100}},
        "exit": {"long": {"left": "close", "op": "==", "right": 110}},
        "sizing": {"kind": "fixed_quantity", "value": "1"},
        **parts,
    }


@pytest.fixture(scope="session")
def market() -> Callable[..., Columns]:
    return market_of


@pytest.fixture(scope="session")
def run() -> Callable[..., Run]:
    """``run(bars, options={...}, **parts of the definition)``; several markets as a list of Columns."""

    def make(bars: Sequence[Bar] | Sequence[Columns], *, options: dict[str, Any] | None = None, **parts: Any) -> Run:
        markets = [bar for bar in bars if isinstance(bar, Columns)] or [market_of(bars)]  # type: ignore[arg-type]
        strategy = DynamicStrategy(parse_definition(definition_of(**parts)))
        settings: dict[str, Any] = {"cash": Decimal(10_000), "fee": Decimal(0)} | (options or {})
        return backtest(strategy, markets, Options(**settings), plain_runner())

    return make


@pytest.fixture(scope="session")
def compiled() -> Runner:
    """The compiled loop, kept between runs of the tests: compiling it takes longer than all of them."""
    try:
        return runner(CODE)
    except NotCompiled as reason:
        pytest.skip(f"the loop is not compiled: {reason}")


@pytest.fixture(scope="session")
def recorded(shared_data: Path) -> dict[str, Any]:
    """The reference runs by id."""
    assert shared_data == reference.DATA
    return {one["id"]: one for one in reference.references()}


@pytest.fixture(scope="session")
def traded(recorded: dict[str, Any]) -> Callable[[str, Runner], Run]:
    """``traded(run_id, run_bars)``: a reference run through the engine."""

    def trade(run_id: str, run_bars: Runner) -> Run:
        one = recorded[run_id]
        definition = parse_definition((reference.DEFINITIONS / f"{run_id}.json").read_bytes())
        market = load_columns(reference.DATA / one["data"]["file"], timeframe_s=definition.timeframe_s, cache=None)
        account = one["account"]
        options = Options(cash=Decimal(account["start_cash"]), fee=Decimal(str(account["commission_ratio_per_side"])))
        return backtest(DynamicStrategy(definition), [market], options, run_bars)

    return trade
