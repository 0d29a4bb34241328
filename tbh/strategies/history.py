"""How many bars a strategy must have seen before its rules are what they are over any longer history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from tbh.strategies.carried_days import PIVOTS
from tbh.strategies.indicators import Params
from tbh.strategies.series import Computation

DAY_S = 86_400
SETTLING, SETTLED = 4, 200
"""Warm-ups, and bars at least, after which what turns is taken to have turned; how often it does, the market decides.
"""

_SPAN_DAYS = (1, 7, 31)


def _spans(count: int) -> Callable[[Params], int]:
    return lambda params: count * _SPAN_DAYS[int(params["span"])]


DAYS: Mapping[str, Callable[[Params], int]] = MappingProxyType(
    {
        "vwap_anchored": _spans(1),
        **dict.fromkeys(PIVOTS, _spans(2)),
        "relative_daily_volume": lambda params: int(params["period"]) + 1,
    }
)
"""Whole days of bars after which an entry that knows days depends on no bar before them."""

AGREEING: Mapping[str, str] = MappingProxyType(
    {
        "differences": "its changes are the same from any start, its level is not: compare it with its own past",
        "ratios": "its growth is the same from any start, its level is not: compare it with its own past",
        "turn": "from two starts it is the same after the second turn that both have seen",
        "start": "from two starts it need never be the same",
    }
)
"""What ``Memory.compared`` means to whoever writes a rule."""


def depends_on_start(computation: Computation) -> bool:
    """Whether no number of bars makes its own part of the values independent of where the history began."""
    return computation.entry.memory.kind == "all" and computation.entry.name not in DAYS


def starting(computations: Iterable[Computation]) -> tuple[Computation, ...]:
    """Those of ``computations``, and of what they read, that depend on where the history began; each once."""
    found: dict[int, Computation] = {}

    def look(computation: Computation) -> None:
        if depends_on_start(computation):
            found.setdefault(id(computation), computation)
        for read in computation.reads:
            look(read)

    for each in computations:
        look(each)
    return tuple(found.values())


def own_rows(computation: Computation, timeframe_s: int) -> int:
    """Rows of the bars that it reads, the last one included, that suffice for its last value. For what depends on where
    the history began, those after which it has settled as far as it will."""
    entry, params = computation.entry, computation.params
    rows = entry.history(params)
    if rows is None:
        days, own_s = DAYS.get(entry.name), computation.timeframe_s or timeframe_s
        settled = max(SETTLING * entry.warmup(params), SETTLED)
        rows = 1 + (settled if days is None else -(-days(params) * DAY_S // own_s))
    return rows + max((own_rows(read, timeframe_s) - 1 for read in computation.reads), default=0)


def rows_needed(computation: Computation, back: int, timeframe_s: int) -> int:
    """Bars of ``timeframe_s``, the last one included, that suffice for its value ``back`` bars ago."""
    # Bars may begin within a higher one, which is no bar then, and end within another.
    return back + own_rows(computation, timeframe_s) * computation.ratio + 2 * (computation.ratio - 1)


def history_needed(plan: Mapping[str, Computation], needs: Iterable[tuple[str, int]], timeframe_s: int) -> int:
    """Bars that suffice for all of ``needs`` (column, bars back)."""
    return max(
        (rows_needed(plan[name], back, timeframe_s) if name in plan else back + 1 for name, back in needs), default=1
    )
