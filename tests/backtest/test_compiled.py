"""The compiled loop does what the plain one does, and what was compiled once is found again.

The only tests that compile it, in one file, so that it is compiled once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from tbh.backtest.engine import Run
from tbh.backtest.native import Runner, plain_runner
from tests.backtest.conftest import CODE

TOLD = """
import sys
from pathlib import Path
from tbh.backtest.native import runner
runner(Path(sys.argv[1]), on_compile=lambda: print("compiled"))
print("numba" in sys.modules)
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


def test_what_is_kept_is_loaded_without_the_compiler(compiled: Runner) -> None:
    done = subprocess.run([sys.executable, "-c", TOLD, str(CODE)], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_arrays_that_are_not_contiguous_are_refused(compiled: Runner) -> None:
    arrays = [np.zeros((5, 4))[:, ::2], *(np.zeros((1, 1)) for _ in range(9))]
    with pytest.raises(ValueError, match="cols is not contiguous"):
        compiled(1, 1, *arrays)
