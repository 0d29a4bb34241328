"""The recorded reference runs come out of `tbh demo` trade for trade; `python -m bench reference` runs them whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import reference

RUNS = {"bt-sma-btc5m": 1_000, "bt-sma-btc5m-fee-short": 1_000, "bt-rsi-ltc1m": 1_760, "bt-donchian-ethd": 1_000}
"""How many bars of each: ten trades or more."""


@pytest.mark.parametrize("host", ["threads", "simulator"])
@pytest.mark.parametrize("run", RUNS)
def test_the_first_trades_of_a_reference_run_come_out_exactly(
    run: str, host: str, shared_data: Path, tmp_path: Path
) -> None:
    assert shared_data == reference.DATA
    recorded = next(one for one in reference.references() if one["id"] == run)
    report = reference.replay(recorded, tmp_path, host=host, bars=RUNS[run])
    assert len(report["trades"]) >= 10
    assert reference.differences(recorded, report) == []


def test_a_difference_is_found() -> None:
    trade = {
        "entry_time": 0,
        "exit_time": 60_000,
        "size": 1,
        "entry_price": 10.0,
        "exit_price": 11.0,
        "pnl": 1.0,
        "commission": 0.0,
        "exit_bar": 1,
        "closed_by_end_of_data": False,
    }
    have = {
        "entry_time": "1970-01-01T00:00:00Z",
        "exit_time": "1970-01-01T00:01:00Z",
        "side": "long",
        "qty": "1",
        "entry_price": "10",
        "exit_price": "11.00001",
        "pnl": "1",
        "fees": "0",
    }
    recorded = {"expected": {"trades": [trade]}}
    assert reference.differences(recorded, {"bars": 9, "trades": [have | {"exit_price": "11"}]}) == []
    assert len(reference.differences(recorded, {"bars": 9, "trades": [have]})) == 1
    assert len(reference.differences(recorded, {"bars": 9, "trades": []})) == 1
