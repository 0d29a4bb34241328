"""A cross of two averages: long while the fast one is above the slow one. `examples/strategies/ema_cross.json` in
Python, and an example of a strategy that offers all decisions at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from tbh.strategies.custom import BarView, Side, Wish


class Parameters(BaseModel):
    """The periods of the averages, and how much of the account one entry is for."""

    fast: int = Field(default=12, ge=1, le=1_000)
    slow: int = Field(default=26, ge=2, le=1_000)
    share: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Parameters:
        if self.fast >= self.slow:
            raise ValueError("fast must be smaller than slow")
        return self


class EmaCross:
    """Two bars are enough to see a cross; the averages come from the catalogue."""

    Params = Parameters
    history = 2

    def __init__(self, params: Parameters) -> None:
        self.indicators = [
            {"id": "fast", "name": "ema", "params": {"period": params.fast}},
            {"id": "slow", "name": "ema", "params": {"period": params.slow}},
        ]
        self.stops = {
            "stop_loss": "0.02",
            "take_profit": "0.05",
            "trailing": {"distance": "0.01", "activate_at": "0.02"},
        }
        self.sizing = {"kind": "equity_fraction", "value": str(params.share)}

    def on_bar(self, view: BarView) -> Sequence[Wish]:
        """Enter as the fast average crosses the slow one from below, leave as it crosses from above."""
        (fast_before, fast), (slow_before, slow) = view.columns["fast__value"], view.columns["slow__value"]
        if view.position is None and fast_before <= slow_before and fast > slow:
            return [view.enter(Side.BUY, reason="the averages cross upwards")]
        if view.position is not None and fast_before >= slow_before and fast < slow:
            return [view.leave(reason="the averages cross downwards")]
        return []

    def evaluate_all(self, columns: Mapping[str, npt.NDArray[np.float64]]) -> Mapping[str, npt.NDArray[np.bool_]]:
        """The same on every bar at once; the first bar has none before it."""
        fast, slow = columns["fast__value"], columns["slow__value"]
        up, down = np.zeros(len(fast), dtype=np.bool_), np.zeros(len(fast), dtype=np.bool_)
        up[1:] = (fast[:-1] <= slow[:-1]) & (fast[1:] > slow[1:])
        down[1:] = (fast[:-1] >= slow[:-1]) & (fast[1:] < slow[1:])
        return {"entry_long": up, "exit_long": down}
