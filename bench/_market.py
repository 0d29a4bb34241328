"""The market and the strategies of the backtest benchmark, by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BARS = 525_600
"""A year of minutes."""
FIRST_MS = 1_700_006_400_000
CASH = 1_000_000
FEE = 0.001


def bars_of(seed: int, bars: int = BARS) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Times (n, ms UTC) and open, high, low, close, volume (5, n): a random walk of 0.1 % a minute, in cents."""
    chance = np.random.Generator(np.random.PCG64(seed))
    close = np.round(30_000 * np.exp(np.cumsum(chance.standard_normal(bars) * 0.001)), 2)
    opened = np.concatenate(([30_000.0], close[:-1]))
    high = np.round(np.maximum(opened, close) * (1 + chance.random(bars) * 0.0004), 2)
    low = np.round(np.minimum(opened, close) * (1 - chance.random(bars) * 0.0004), 2)
    volume = np.round(1 + 10 * chance.random(bars), 3)
    return FIRST_MS + 60_000 * np.arange(bars, dtype=np.int64), np.stack([opened, high, low, close, volume])


def definition(*, stops: bool) -> dict[str, Any]:
    """Long on EMA 12 above EMA 26, out below; with stops also at 0.3 %, at 0.6 % and 0.2 % behind the best price."""
    cross = {"left": "fast__value", "right": "slow__value"}
    made: dict[str, Any] = {
        "name": "ema-cross-stops" if stops else "ema-cross",
        "timeframe": "1m",
        "indicators": [
            {"id": "fast", "name": "ema", "params": {"period": 12}},
            {"id": "slow", "name": "ema", "params": {"period": 26}},
        ],
        "entry": {"long": cross | {"op": "crosses_above"}},
        "exit": {"long": cross | {"op": "crosses_below"}},
        "sizing": {"kind": "fixed_quantity", "value": "0.01"},
    }
    if stops:
        trailing = {"distance": "0.002", "activate_at": ACTIVATE_AT}
        made["stops"] = {"stop_loss": "0.003", "take_profit": "0.006", "trailing": trailing}
    return made


ACTIVATE_AT = "0.003"
"""A gain as large as the stop's distance: from the entry on, one 0.2 % behind would always come before one at 0.3 %."""

_OF_A_PERIOD = ("sma", "ema", "wma", "rsi", "atr", "adx", "donchian", "stddev", "roc", "cci", "mfi", "willr")


def thirty_indicators() -> dict[str, Any]:
    """The cross, allowed by 28 more indicators that each have a say on every bar."""
    made = definition(stops=True)
    said: list[dict[str, Any]] = []
    for period in (9, 21, 50):
        for name in _OF_A_PERIOD[: 10 if period < 50 else 8]:
            each = f"{name}{period}"
            made["indicators"].append({"id": each, "name": name, "params": {"period": period}})
            column = f"{each}__upper" if name == "donchian" else f"{each}__value"
            said.append({"left": column, "op": ">", "right": {"column": column, "shift": 5}})
    made["name"] = "thirty"
    # While one of them is null the group is not settled, so that every one is asked.
    made["entry"]["long"] = {"all": [{"any": said}, made["entry"]["long"]]}
    return made
