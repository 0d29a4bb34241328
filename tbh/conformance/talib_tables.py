"""Tables of TA-Lib's own values, and the names the catalogue has for its functions, parameters and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tbh.conformance.readings import Bench, Reading, Unsupported, disagreement
from tbh.conformance.tables import Oracle
from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import NAMES

# Parameters that the catalogue gives a name of its own, and those it fixes.
_PARAMETERS = {
    "timeperiod": "period",
    "fastperiod": "fast",
    "slowperiod": "slow",
    "signalperiod": "signal",
    "fastk_period": "period",
    "slowk_period": "smooth_k",
    "slowd_period": "smooth_d",
    "fastd_period": "smooth_d",
    "nbdevup": "stddev",
    "nbdev": "multiplier",
    "matype": "ma_type",
    "fastmatype": "fast_type",
    "slowmatype": "slow_type",
    "signalmatype": "signal_type",
    "vfactor": "volume_factor",
    "fastlimit": "fast_limit",
    "slowlimit": "slow_limit",
    "atrperiod": "atr_period",
    "firstperiod": "first",
    "secondperiod": "second",
    "timeperiod1": "short",
    "timeperiod2": "middle",
    "timeperiod3": "long",
    "leftbars": "left",
    "rightbars": "right",
    "rocperiod": "window",
    "stddevperiod": "window",
    "wmaperiod": "period",
    "roc1period": "fast",
    "roc2period": "slow",
    "startvalue": "start",
    "offsetonreverse": "offset_on_reverse",
    "accelerationinitlong": "acceleration_init_long",
    "accelerationlong": "acceleration_long",
    "accelerationmaxlong": "acceleration_max_long",
    "accelerationinitshort": "acceleration_init_short",
    "accelerationshort": "acceleration_short",
    "accelerationmaxshort": "acceleration_max_short",
}
_FIXED: Mapping[str, Mapping[str, float]] = {
    "BBANDS": {"nbdevdn": 2.0, "matype": 0},
    "STOCH": {"slowk_matype": 0, "slowd_matype": 0},
    "STOCHF": {"fastd_matype": 0},
    "STOCHRSI": {"fastd_matype": 0},
    "KDJ": {"slowk_matype": 13, "slowd_matype": 13},
    "STDDEV": {"nbdev": 1.0},
    "VAR": {"nbdev": 1.0},
}
_OF_ONE = {"STOCHRSI": {"fastk_period": "window"}}
_OUTPUTS = {
    "real": "value",
    "integer": "value",
    "macdsignal": "signal",
    "macdhist": "hist",
    "upperband": "upper",
    "middleband": "middle",
    "lowerband": "lower",
    "slowk": "k",
    "slowd": "d",
    "fastk": "k",
    "fastd": "d",
    "aroonup": "up",
    "aroondown": "down",
    "plusvi": "plus",
    "minusvi": "minus",
    "bullpower": "bull",
    "bearpower": "bear",
    "swinghigh": "high",
    "swinglow": "low",
    "smisignal": "signal",
    "haopen": "open",
    "hahigh": "high",
    "halow": "low",
    "haclose": "close",
    "leadsine": "lead",
    "minidx": "min",
    "maxidx": "max",
    "supertrend": "value",
}
_EXACT = Reading(of=lambda bench: bench.close)


def problem(name: str, function: Mapping[str, Any], table: Mapping[str, FloatArray], oracle: Oracle) -> str | None:
    """How the catalogue differs from the columns of one function; None where it does not.

    Unsupported when the catalogue lacks the function, or fixes a parameter otherwise.
    """
    entry = NAMES.get(name.lower())
    if entry is None:
        raise Unsupported(f"the catalogue has no {name}")
    params: dict[str, Any] = {}
    for theirs, value in function["params"].items():
        fixed = _FIXED.get(name, {}).get(theirs)
        if fixed is None:
            params[_OF_ONE.get(name, {}).get(theirs, _PARAMETERS.get(theirs, theirs))] = value
        elif fixed != value:
            raise Unsupported(f"{name} with {theirs} = {value}")
    bench = Bench(table)
    for output, place in function["outputs"].items():
        ours = _OUTPUTS.get(output, output)
        if ours not in entry.outputs:
            raise Unsupported(f"{entry.name} has no output {ours}")
        actual = bench(f"{entry.name}.{ours}", **params)
        expected = np.where(np.isinf(table[place["column"]]), np.nan, table[place["column"]])
        # Whole numbers have zeros where they are not known yet.
        expected[: int(function["lookback"])] = np.nan
        if np.isnan(expected).all() and np.isnan(actual).all():
            continue
        found = disagreement(expected, actual, _EXACT, oracle.absolute, oracle.relative)
        if found is not None:
            return f"{output}: {found}"
    return None
