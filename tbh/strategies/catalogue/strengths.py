"""Indicators made of relative strength, and of runs of rises and falls."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    MAX_EMA_PERIOD,
    MAX_SORTED_PERIOD,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    bars,
    ema_decay,
    period,
    slowest,
    wilder_decay,
    window,
)
from tbh.strategies.catalogue.rows import PERIOD, SIGNAL, Params, largest, parameter_rows

GROUP = "momentum"
WINDOW_ROWS = parameter_rows("window")
SMOOTH_K = parameter_rows("smooth_k")
SMOOTH_D = parameter_rows("smooth_d")


def _streak(values: FloatArray) -> FloatArray:
    """How many changes in a row have had one sign, with that sign; 0 where nothing changed, and on the first row."""
    side = np.sign(np.diff(values, prepend=values[:1]))
    # A first row that is null has no side either.
    side[np.isnan(side)] = 0.0
    begins = np.concatenate([[True], side[1:] != side[:-1]])
    return np.asarray(side * (kit.since(begins, len(values)) + 1.0))


def _kept(values: FloatArray) -> FloatArray:
    """The streak that a bar without change neither ends nor adds to."""
    moved = np.flatnonzero(np.diff(values, prepend=values[:1]))
    made = kit.nulls(len(values))
    made[0] = 0.0
    made[moved] = _streak(np.concatenate([values[:1], values[moved]]))[1:]
    return kit.fill(made)


def _streak_of(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    counted = _streak(inputs[0])
    limit = float(params["limit"])
    return (np.clip(counted, -limit, limit),)


def _crsi(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    source = inputs[0]
    strength = talib.RSI(source, timeperiod=int(params["period"]))
    streak = _kept(source) if params["keep_streak"] else _streak(source)
    rank = talib.PERCENTRANK(talib.ROCP(source, timeperiod=1), timeperiod=int(params["rank"]))
    return ((strength + talib.RSI(streak, timeperiod=int(params["streak"])) + rank) / 3.0,)


def _stochrsi(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    strength = talib.RSI(inputs[0], timeperiod=int(params["period"]))
    length = int(params["window"])
    low, high = kit.lowest(strength, length), kit.highest(strength, length)
    place = 100.0 * kit.ratio(strength - low, high - low, otherwise=0.0)
    place[np.isnan(low)] = np.nan
    k = kit.rolling_mean(_from(place), int(params["smooth_k"]))
    d = kit.rolling_mean(_from(k), int(params["smooth_d"]))
    rows = len(place)
    return _behind(k, rows), _behind(d, rows)


def _from(values: FloatArray) -> FloatArray:
    """Without the leading nulls."""
    known = ~np.isnan(values)
    return values[int(np.argmax(known)) if known.any() else len(values) :]


def _behind(values: FloatArray, rows: int) -> FloatArray:
    """With as many leading nulls as make ``rows`` of it."""
    return np.concatenate([kit.nulls(rows - len(values)), values])


def _derivative(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    strength = talib.RSI(inputs[0], timeperiod=int(params["period"]))
    smooth = kit.ema(kit.ema(strength, int(params["first"])), int(params["second"]))
    return (smooth - talib.SMA(smooth, timeperiod=int(params["signal"])),)


def _cutler(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    moved = kit.change(inputs[0])[1:]
    up, down = (kit.rolling_sum(np.maximum(side, 0.0), int(params["period"])) for side in (moved, -moved))
    return (_behind(100.0 * kit.ratio(up, up + down), len(inputs[0])),)


def _psychological(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    rises = (kit.change(inputs[0])[1:] > 0).astype(np.float64)
    return (_behind(100.0 * kit.rolling_mean(rises, int(params["period"])), len(inputs[0])),)


_FIRST, _SECOND = parameter_rows("first"), parameter_rows("second")

ENTRIES = (
    Indicator(
        name="streak",
        aliases=("consecutive",),
        summary="rises (positive) or falls (negative) in a row, up to limit; 0 where nothing changed",
        group=GROUP,
        source="definition",
        parameters=(bars("limit", 100, minimum=2),),
        nulls=parameter_rows("limit") * 0,
        memory=window(lambda params: int(params["limit"]) + 2),
        function=_streak_of,
    ),
    Indicator(
        name="crsi",
        aliases=("connors_rsi",),
        summary="mean of the RSI, the RSI of the streak (a bar without change ends it, with keep_streak 1 it does not) "
        "and the share of returns below the last one, 0 to 100",
        group=GROUP,
        source="L. Connors and C. Alvarez, ConnorsRSI (2012)",
        parameters=(
            period(3, maximum=MAX_WILDER_PERIOD),
            bars("streak", 2, minimum=2, maximum=MAX_WILDER_PERIOD),
            bars("rank", 100, minimum=2, maximum=MAX_SORTED_PERIOD),
            bars("keep_streak", 0, minimum=0, maximum=1),
        ),
        nulls=largest(PERIOD, parameter_rows("streak"), parameter_rows("rank") + 1),
        memory=wilder_decay(largest(PERIOD, parameter_rows("streak")) + 50),
        function=_crsi,
    ),
    Indicator(
        name="stochrsi_slow",
        aliases=("stochastic_rsi_slow",),
        summary="place of the RSI in its range over window bars, 0 to 100, smoothed to K and that to D",
        group=GROUP,
        source="T. Chande and S. Kroll, The New Technical Trader (1994)",
        parameters=(
            period(14, maximum=MAX_WILDER_PERIOD),
            bars("window", 14, maximum=2_000),
            bars("smooth_k", 3, maximum=2_000),
            bars("smooth_d", 3, maximum=2_000),
        ),
        outputs=("k", "d"),
        nulls=(PERIOD + WINDOW_ROWS + SMOOTH_K - 2, PERIOD + WINDOW_ROWS + SMOOTH_K + SMOOTH_D - 3),
        memory=wilder_decay(PERIOD),
        function=_stochrsi,
    ),
    Indicator(
        name="derivative_oscillator",
        summary="RSI smoothed twice, less the simple average of that",
        group=GROUP,
        source="C. Brown, Technical Analysis for the Trading Professional (1999)",
        parameters=(
            period(14, maximum=MAX_WILDER_PERIOD),
            bars("first", 5, maximum=MAX_EMA_PERIOD),
            bars("second", 3, maximum=MAX_EMA_PERIOD),
            bars("signal", 9, maximum=1_000),
        ),
        nulls=PERIOD + _FIRST + _SECOND + SIGNAL - 3,
        memory=slowest(wilder_decay(PERIOD, stages=3), ema_decay(largest(_FIRST, _SECOND), stages=3)),
        function=_derivative,
    ),
    Indicator(
        name="cutler_rsi",
        aliases=("rsi_simple",),
        summary="relative strength index of simple averages, 0 to 100; null where nothing moved",
        group=GROUP,
        source="D. Cutler's RSI",
        parameters=(period(14),),
        nulls=PERIOD,
        function=_cutler,
        sparse=("value",),
    ),
    Indicator(
        name="psl",
        aliases=("psychological_line",),
        summary="share of rising bars among the last period, 0 to 100",
        group=GROUP,
        source="definition",
        parameters=(period(12, minimum=1),),
        nulls=PERIOD,
        function=_psychological,
    ),
)
