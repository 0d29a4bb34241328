"""Oscillators of averages that start at their first value, where TA-Lib's are seeded by a mean."""

from __future__ import annotations

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    Parameter,
    bars,
    ema_decay,
    ordered,
    period,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, SIGNAL, SLOW, Params, largest

GROUP = "momentum"
MACD = ("macd", "signal", "hist")


def _macd_of(values: FloatArray, params: Params, *, percent: bool) -> tuple[FloatArray, ...]:
    fast, slow = (kit.ema_from_first(values, int(params[name])) for name in ("fast", "slow"))
    line = 100.0 * kit.ratio(fast - slow, slow, otherwise=0.0) if percent else fast - slow
    signal = kit.ema_from_first(line, int(params["signal"]))
    return line, signal, line - signal


def _macd_ewm(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return _macd_of(inputs[0], params, percent=False)


def _ppo_ewm(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    return _macd_of(inputs[0], params, percent=True)


def _rsi_ewm(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    moved = kit.change(inputs[0])
    moved[0] = 0.0
    up, down = (kit.wilder_from_first(np.maximum(side, 0.0), int(params["period"])) for side in (moved, -moved))
    made = 100.0 * kit.ratio(up, up + down)
    made[: int(params["period"]) - 1] = np.nan
    return (made,)


def _fast_slow_signal() -> tuple[Parameter, ...]:
    return (
        bars("fast", 12, minimum=2, maximum=MAX_EMA_PERIOD),
        bars("slow", 26, minimum=2, maximum=MAX_EMA_PERIOD),
        bars("signal", 9, maximum=MAX_EMA_PERIOD),
    )


_EWM_DECAY = ema_decay(largest(SLOW, SIGNAL), stages=2)

ENTRIES = (
    Indicator(
        name="macd_ewm",
        aliases=("macd_from_first",),
        summary="MACD of averages that start at their first value",
        group=GROUP,
        source="G. Appel's MACD with the seeds of StockCharts' spreadsheets",
        parameters=_fast_slow_signal(),
        outputs=MACD,
        nulls=NONE,
        memory=_EWM_DECAY,
        function=_macd_ewm,
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="ppo_ewm",
        aliases=("ppo_from_first",),
        summary="percentage price oscillator with its signal, of averages that start at their first value",
        group=GROUP,
        source="StockCharts' spreadsheet of the PPO",
        parameters=_fast_slow_signal(),
        outputs=("ppo", "signal", "hist"),
        nulls=NONE,
        memory=_EWM_DECAY,
        function=_ppo_ewm,
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="pvo_ewm",
        aliases=("pvo_from_first",),
        summary="percentage volume oscillator with its signal, of averages that start at their first value",
        group="volume",
        source="StockCharts' spreadsheet of the PVO",
        parameters=_fast_slow_signal(),
        inputs=("volume",),
        outputs=("pvo", "signal", "hist"),
        nulls=NONE,
        memory=_EWM_DECAY,
        function=_ppo_ewm,
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="rsi_ewm",
        aliases=("rsi_from_first",),
        summary="relative strength index whose averages start at the first bar, 0 to 100; null where nothing moved",
        group=GROUP,
        source="W. Wilder's RSI with weights 1 / period from the first change on, as the ta library has it",
        parameters=(period(14, maximum=MAX_WILDER_PERIOD),),
        nulls=PERIOD - 1,
        memory=wilder_decay(PERIOD),
        function=_rsi_ewm,
        sparse=("value",),
    ),
)
