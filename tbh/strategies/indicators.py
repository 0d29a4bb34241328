"""The catalogue of indicators a definition may use; nothing outside it can be computed.

Values are TA-Lib's wherever it has the indicator, whose conventions they share: an EMA is seeded by the SMA of its
first ``period`` values, RSI, ATR and ADX are Wilder's, Bollinger bands and stddev divide by ``period``. What TA-Lib
lacks is numpy, with the source of its formula. Every function is causal (row i depends on rows up to i only) and starts
with a known number of NaN rows, the warm-up; NaN means null. The Donchian channel is the highest high and lowest low
of the last ``period`` bars *including* the current one; a breakout of the bars before it compares with the column
shifted by 1.

The longest period of an indicator that decays is limited so that its start has decayed below float noise within the
half of the buffer that ``tbh/strategies/bars.py`` always keeps (25,000 bars): after k bars an EMA has forgotten all
but ``exp(-2k/period)``, Wilder's average all but ``exp(-k/period)``: exp(-50) at the limits set here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tbh.strategies.catalogue import (
    averages,
    channels,
    classic,
    from_first,
    oscillators,
    patterns,
    ranges,
    sessions,
    statistics,
    stops,
    strengths,
    swings,
    talib_math,
    talib_momentum,
    talib_overlap,
    talib_statistics,
    talib_strength,
    talib_volume,
    volatility,
    volumes,
)
from tbh.strategies.catalogue.base import SERIES, SOURCE, TIME, Indicator, Inputs, Memory, Parameter
from tbh.strategies.catalogue.rows import Params

__all__ = ["CATALOGUE", "NAMES", "SERIES", "SOURCE", "TIME", "Indicator", "Inputs", "Memory", "Parameter", "Params"]

_ENTRIES = (
    *classic.ENTRIES,
    *talib_overlap.ENTRIES,
    *talib_momentum.ENTRIES,
    *talib_strength.ENTRIES,
    *talib_volume.ENTRIES,
    *talib_statistics.ENTRIES,
    *talib_math.ENTRIES,
    *averages.ENTRIES,
    *channels.ENTRIES,
    *stops.ENTRIES,
    *strengths.ENTRIES,
    *oscillators.ENTRIES,
    *from_first.ENTRIES,
    *ranges.ENTRIES,
    *volumes.ENTRIES,
    *volatility.ENTRIES,
    *statistics.ENTRIES,
    *swings.ENTRIES,
    *sessions.ENTRIES,
    *patterns.ENTRIES,
)

CATALOGUE: Mapping[str, Indicator] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every indicator by its name."""

NAMES: Mapping[str, Indicator] = MappingProxyType(
    {name: entry for entry in _ENTRIES for name in (entry.name, *entry.aliases)}
)
"""Every indicator by its name and by each alias."""
