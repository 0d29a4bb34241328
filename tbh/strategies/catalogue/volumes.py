"""Indicators of volume that TA-Lib lacks."""

from __future__ import annotations

import numpy as np
import talib

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue import kit
from tbh.strategies.catalogue.base import (
    HLCV,
    MAX_EMA_PERIOD,
    MAX_WILDER_PERIOD,
    Indicator,
    Inputs,
    bars,
    ema_decay,
    everything,
    ordered,
    period,
    wilder_decay,
)
from tbh.strategies.catalogue.rows import NONE, PERIOD, SIGNAL, SLOW, Params, fixed, largest

GROUP = "volume"


def _kvo(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close, volume = inputs
    reach = high - low
    rises = np.diff(high + low + close) > 0
    trend = np.where(rises, 1.0, -1.0)
    # The sum of ranges since the trend began, with the one before it.
    made, total = [], 0.0
    before, last = None, float(reach[0])
    for up, size in zip(rises.tolist(), reach[1:].tolist(), strict=True):
        total = total + size if up == before else last + size
        made.append(total)
        before, last = up, size
    sums = np.array(made)
    force = volume[1:] * np.abs(2.0 * (kit.ratio(reach[1:], sums, otherwise=1.0) - 1.0)) * trend * 100.0
    force = np.concatenate([kit.nulls(1), force])
    line = kit.ema(force, int(params["fast"])) - kit.ema(force, int(params["slow"]))
    return line, kit.ema(line, int(params["signal"]))


def _emv(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, volume = inputs
    moved = kit.change((high + low) / 2.0)
    value = kit.ratio(moved * (high - low), volume / float(params["scale"]), otherwise=0.0)
    value[0] = np.nan
    mean = np.concatenate([kit.nulls(1), kit.rolling_mean(value[1:], int(params["period"]))])
    return value, mean


def _vpt_signal(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    line = talib.PVT(*inputs)
    return line, talib.SMA(line, timeperiod=int(params["period"]))


def _vzo(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    close, volume = inputs
    signed = volume * np.sign(np.diff(close, prepend=close[:1]))
    length = int(params["period"])
    return (100.0 * kit.ratio(kit.ema(signed, length), kit.ema(volume, length)),)


def _twiggs(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close, volume = inputs
    before = close[:-1]
    top, bottom = np.maximum(high[1:], before), np.minimum(low[1:], before)
    flow = volume[1:] * kit.ratio(2.0 * close[1:] - top - bottom, top - bottom, otherwise=0.0)
    length = int(params["period"])
    value = kit.ratio(kit.wilder(flow, length), kit.wilder(volume[1:], length))
    return (np.concatenate([kit.nulls(1), value]),)


ENTRIES = (
    Indicator(
        name="kvo",
        aliases=("klinger", "klinger_volume_oscillator"),
        summary="Klinger's oscillator: difference of two EMAs of the volume force, and its EMA",
        group=GROUP,
        source="S. Klinger, Stocks & Commodities 15:12 (1997)",
        parameters=(
            bars("fast", 34, maximum=MAX_EMA_PERIOD),
            bars("slow", 55, minimum=2, maximum=MAX_EMA_PERIOD),
            bars("signal", 13, maximum=MAX_EMA_PERIOD),
        ),
        inputs=HLCV,
        outputs=("value", "signal"),
        nulls=(SLOW, SLOW + SIGNAL - 1),
        # A trend that began before the first bar counts its ranges from there: so long a trend is rare.
        memory=ema_decay(largest(SLOW, SIGNAL), stages=3),
        function=_kvo,
        rule=ordered("fast", "slow"),
    ),
    Indicator(
        name="emv",
        aliases=("eom", "ease_of_movement"),
        summary="ease of movement: change of the middle of the bar times its range over volume / scale, and its "
        "simple average",
        group=GROUP,
        source="R. Arms's ease of movement",
        parameters=(period(14, minimum=1), bars("scale", 100_000_000, maximum=10**15)),
        inputs=("high", "low", "volume"),
        outputs=("value", "mean"),
        nulls=(fixed(1), PERIOD),
        function=_emv,
    ),
    Indicator(
        name="vpt_signal",
        aliases=("volume_price_trend_signal",),
        summary="volume price trend from the first bar on, and its simple average",
        group=GROUP,
        source="TA-Lib PVT and SMA",
        parameters=(period(14),),
        inputs=("close", "volume"),
        outputs=("value", "signal"),
        nulls=(NONE, PERIOD - 1),
        memory=everything("differences"),
        function=_vpt_signal,
    ),
    Indicator(
        name="vzo",
        aliases=("volume_zone_oscillator",),
        summary="EMA of the volume with the sign of the change, in percent of the volume's EMA; null without volume",
        group=GROUP,
        source="W. Khalil and D. Steckler, Stocks & Commodities 29:6 (2011)",
        parameters=(period(14, maximum=MAX_EMA_PERIOD),),
        inputs=("close", "volume"),
        nulls=PERIOD - 1,
        memory=ema_decay(PERIOD),
        function=_vzo,
        sparse=("value",),
    ),
    Indicator(
        name="twiggs",
        aliases=("twiggs_money_flow",),
        summary="volume by the place of the close in the true range, over volume, both with Wilder's smoothing",
        group=GROUP,
        source="C. Twiggs's money flow",
        parameters=(period(21, maximum=MAX_WILDER_PERIOD),),
        inputs=HLCV,
        nulls=PERIOD,
        memory=wilder_decay(PERIOD),
        function=_twiggs,
        sparse=("value",),
    ),
)
