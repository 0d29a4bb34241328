"""The recorded reference runs come out of the fast engine trade for trade, and their fingerprints stay."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench import reference
from tbh.backtest.columns import load_columns
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import Runner, plain_runner
from tbh.backtest.options import Options
from tbh.backtest.trades import fingerprint
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy

FINGERPRINTS = {
    "bt-sma-btc5m": "6efeebeeb751",
    "bt-sma-btc5m-fee-short": "d0d89bfc74ad",
    "bt-rsi-ltc1m": "c742159d3ae5",
    "bt-donchian-ethd": "42522e235e7b",
}


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict[str, Any]:
    assert shared_data == reference.DATA
    return {one["id"]: one for one in reference.references()}


@pytest.fixture(scope="module")
def traded(recorded: dict[str, Any]) -> Callable[[str, Runner], Run]:
    def trade(run_id: str, run_bars: Runner) -> Run:
        one = recorded[run_id]
        definition = parse_definition((reference.DEFINITIONS / f"{run_id}.json").read_bytes())
        path = reference.DATA / one["data"]["file"]
        market = load_columns(path, timeframe_s=definition.timeframe_s, cache=None)
        account = one["account"]
        options = Options(cash=Decimal(account["start_cash"]), fee=Decimal(str(account["commission_ratio_per_side"])))
        return backtest(DynamicStrategy(definition), [market], options, run_bars)

    return trade


@pytest.mark.parametrize("run_id", FINGERPRINTS)
def test_a_reference_run_comes_out_exactly_and_its_fingerprint_stays(
    run_id: str, recorded: dict[str, Any], traded: Callable[[str, Runner], Run]
) -> None:
    run = traded(run_id, plain_runner())
    assert reference.differences(recorded[run_id], {"bars": run.bars, "trades": list(run.trades.rows())}) == []
    assert fingerprint(run.trades.rows())[:12] == FINGERPRINTS[run_id]
    assert len(run.trades) == sum(not one["closed_by_end_of_data"] for one in recorded[run_id]["expected"]["trades"])


@pytest.mark.parametrize("run_id", FINGERPRINTS)
def test_the_compiled_loop_gives_the_same_arrays(
    run_id: str, compiled: Runner, traded: Callable[[str, Runner], Run]
) -> None:
    plain, fast = traded(run_id, plain_runner()), traded(run_id, compiled)
    assert (fast.trades.raw == plain.trades.raw).all()
    assert (fast.equity == plain.equity).all()
    assert fast.final_equity == plain.final_equity
