"""TA-Lib's arithmetic: sums, extremes and functions of a source, and of high with low."""

from __future__ import annotations

import talib

from tbh.strategies.catalogue.base import Indicator, everything, period
from tbh.strategies.catalogue.rows import NONE, PERIOD
from tbh.strategies.catalogue.talibs import talib_entry

GROUP = "math"
_FUNCTIONS = (
    ("acos", "arc cosine of the source, null outside -1 to 1"),
    ("asin", "arc sine of the source, null outside -1 to 1"),
    ("atan", "arc tangent of the source"),
    ("ceil", "source rounded up"),
    ("cos", "cosine of the source"),
    ("cosh", "hyperbolic cosine of the source, null where it overflows"),
    ("exp", "e to the power of the source, null where it overflows"),
    ("floor", "source rounded down"),
    ("ln", "natural logarithm of the source"),
    ("log10", "decimal logarithm of the source"),
    ("sin", "sine of the source"),
    ("sinh", "hyperbolic sine of the source, null where it overflows"),
    ("sqrt", "square root of the source"),
    ("tan", "tangent of the source"),
    ("tanh", "hyperbolic tangent of the source"),
)
_PAIRS = (
    ("add", "high + low"),
    ("sub", "high - low"),
    ("mult", "high times low"),
    ("div", "high over low"),
)
_WINDOWS = (
    ("max", "highest", "highest value of the source over period bars"),
    ("min", "lowest", "lowest value of the source over period bars"),
    ("sum", "rolling_sum", "sum of the source over period bars"),
)
_INDEXES = (
    ("maxindex", "row of the highest value over period bars, counted from the first bar on", ("value",)),
    ("minindex", "row of the lowest value over period bars, counted from the first bar on", ("value",)),
    ("minmaxindex", "rows of the lowest and the highest value over period bars, likewise counted", ("min", "max")),
)


def _function(name: str, summary: str) -> Indicator:
    return talib_entry(name, getattr(talib, name.upper()), summary, group=GROUP, nulls=NONE, unbounded=True)


def _pair(name: str, summary: str) -> Indicator:
    function = getattr(talib, name.upper())
    return talib_entry(name, function, summary, group=GROUP, inputs=("high", "low"), nulls=NONE, unbounded=True)


ENTRIES = (
    *(_function(*row) for row in _FUNCTIONS),
    *(_pair(*row) for row in _PAIRS),
    *(
        talib_entry(
            name,
            getattr(talib, name.upper()),
            summary,
            group=GROUP,
            aliases=(alias,),
            parameters=(period(30),),
            nulls=PERIOD - 1,
        )
        for name, alias, summary in _WINDOWS
    ),
    talib_entry(
        "minmax",
        talib.MINMAX,
        "lowest and highest value of the source over period bars",
        group=GROUP,
        parameters=(period(30),),
        outputs=("min", "max"),
        nulls=PERIOD - 1,
    ),
    *(
        talib_entry(
            name,
            getattr(talib, name.upper()),
            summary,
            group=GROUP,
            parameters=(period(30),),
            outputs=outputs,
            nulls=PERIOD - 1,
            # Which of equal values is meant depends on where the search began.
            memory=everything("start"),
            whole=True,
        )
        for name, summary, outputs in _INDEXES
    ),
    talib_entry(
        "cumsum",
        talib.CUMSUM,
        "sum of the source from the first bar on",
        group=GROUP,
        nulls=NONE,
        memory=everything("differences"),
    ),
)
