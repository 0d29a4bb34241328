"""The recorded reference runs come out of the fast engine trade for trade, and their fingerprints stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench import reference
from tbh.backtest.engine import Run
from tbh.backtest.native import Runner, plain_runner
from tbh.backtest.trades import fingerprint

FINGERPRINTS = {
    "bt-sma-btc5m": "443db833d4d1",
    "bt-sma-btc5m-fee-short": "8ee9ce2eedfe",
    "bt-rsi-ltc1m": "77588f8e624e",
    "bt-donchian-ethd": "340dc4b8d1b7",
}


@pytest.mark.parametrize("run_id", FINGERPRINTS)
def test_a_reference_run_comes_out_exactly_and_its_fingerprint_stays(
    run_id: str, recorded: dict[str, Any], traded: Callable[[str, Runner], Run]
) -> None:
    run = traded(run_id, plain_runner())
    assert reference.differences(recorded[run_id], {"bars": run.bars, "trades": list(run.trades.rows())}) == []
    assert fingerprint(run.trades.rows())[:12] == FINGERPRINTS[run_id]
    assert len(run.trades) == sum(not one["closed_by_end_of_data"] for one in recorded[run_id]["expected"]["trades"])
