"""The compiled loop does what the plain one does, and what was compiled once is found again.

The only tests that compile it, in one file, so that it is compiled once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from bench import _market
from tbh.backtest import image
from tbh.backtest.columns import columns_of
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import Runner, plain_runner
from tbh.backtest.options import Options, Slippage, SlippageKind
from tbh.strategies.definition import parse_definition
from tbh.strategies.dynamic import DynamicStrategy
from tests.backtest.conftest import CODE

TOLD = """
import sys
from pathlib import Path
from tbh.backtest.native import runner
runner(Path(sys.argv[1]), on_compile=lambda: print("compiled"))
print([name for name in ("numba", "llvmlite.binding") if name in sys.modules])
"""


@pytest.mark.parametrize("run_id", ["bt-sma-btc5m-fee-short", "bt-rsi-ltc1m"])
def test_a_reference_run_gives_the_same_arrays(
    run_id: str, compiled: Runner, traded: Callable[[str, Runner], Run]
) -> None:
    plain, fast = traded(run_id, plain_runner()), traded(run_id, compiled)
    assert (fast.trades.raw == plain.trades.raw).all()
    assert (fast.equity == plain.equity).all()
    assert fast.final_equity == plain.final_equity
    assert fast.refused == plain.refused


RESTING = {
    "orders": {"entry": {"kind": "limit", "offset": "0.0004", "expires_bars": 3}},
    "cooldown": {"bars": 2, "after": "loss"},
}


@pytest.mark.parametrize("parts", [{}, RESTING], ids=["at market", "resting"])
@pytest.mark.parametrize(
    "settings",
    [
        {"slippage": Slippage(kind=SlippageKind.RANDOM, rate=Decimal("0.0001"), deviation=Decimal("0.0003"))},
        {"slippage": Slippage(kind=SlippageKind.VOLUME_SHARE, rate=Decimal("0.1")), "latency_ms": 61_500},
        {"volume_share": Decimal("0.0007"), "funding_rate": Decimal("0.0001"), "funding_hours": 1},
        {"slippage": Slippage(kind=SlippageKind.FIXED, rate=Decimal("0.37")), "positions_max": 1, "latency_bars": 1},
    ],
    ids=["random", "volume", "share", "fixed"],
)
def test_every_assumption_gives_the_same_arrays(
    compiled: Runner, settings: dict[str, Any], parts: dict[str, Any]
) -> None:
    markets = [columns_of("m", 60, *_market.bars_of(seed, 2_000)) for seed in (1, 2)]
    strategy = DynamicStrategy(parse_definition(_market.definition(stops=True) | parts))
    options = Options(cash=Decimal(1_000), **settings)
    plain, fast = (backtest(strategy, markets, options, run_bars) for run_bars in (plain_runner(), compiled))
    assert len(fast.trades) > 20
    assert (fast.trades.raw == plain.trades.raw).all()
    assert (fast.equity == plain.equity).all()
    assert fast.open_positions == plain.open_positions


def test_what_is_kept_is_loaded_without_the_compiler(compiled: Runner) -> None:
    done = subprocess.run([sys.executable, "-c", TOLD, str(CODE)], check=True, capture_output=True, text=True)
    assert done.stdout == ("['llvmlite.binding']\n" if image.processor() is None else "[]\n")


@pytest.mark.skipif(image.processor() is None, reason="images are for Linux on x86-64")
def test_it_is_kept_as_an_image(compiled: Runner) -> None:
    kept = [file.read_bytes()[32:] for file in CODE.glob("loop-*.code")]
    assert kept
    assert all(image.is_image(code) for code in kept)


def test_arrays_that_are_not_contiguous_are_refused(compiled: Runner) -> None:
    arrays = [np.zeros((5, 4))[:, ::2], *(np.zeros((1, 1)) for _ in range(9))]
    with pytest.raises(ValueError, match="cols is not contiguous"):
        compiled(1, 1, *arrays)
