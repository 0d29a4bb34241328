"""Does a strategy know what it can't know yet?

Bars behind a bar are taken away, then replaced by others; whatever changes up to that bar has looked ahead. A strategy
that is asked bar by bar is asked once more by an instance that has seen nothing else and can reach nothing else.

Files that a strategy reads by itself, and what its module remembers outside its instances, can't be seen from here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest.agreement import check_agreement, spread
from tbh.backtest.checks import (
    WALK_MAX,
    Arrays,
    Asked,
    Outcome,
    chosen,
    columns_of,
    first_walked,
    part_of,
    rules_of,
    told,
    unlike,
    walked,
)
from tbh.backtest.columns import Columns
from tbh.backtest.engine import packed
from tbh.backtest.stepped import arrays_of
from tbh.strategies.custom import StrategyError
from tbh.strategies.indicators import TIME
from tbh.strategies.runner import RULES, AnyStrategy, CustomRunner

ROWS_MAX = 12_000_000
"""Bars that are computed anew in all, where all bars before a cut are."""
CUTS = (12, 400)
"""How many such cuts there are at least, and at most."""
NEAR_MAX = 20_000
NEAR_COLUMNS_MAX = 200_000
"""How many more there are around bars on which a rule is true, of the bars near them alone; and how many columns are
computed for these."""
_FIRST = 50
_TAIL = 200
_BEFORE = 300
_STEPS = (1.2, 0.85, 1.1, 0.9)

Known = dict[str, npt.NDArray[Any]]

_LEAN = "use values of this bar and before alone: no shift(-n), no centred window, no figure of the whole sample"


def check_lookahead(strategy: AnyStrategy, market: Columns) -> Outcome:
    """What of ``strategy`` changes when the bars of ``market`` behind it do. Raises as ``backtest`` does."""
    outcome = Outcome(check="lookahead")
    arrays: Arrays = arrays_of(market)
    whole = _known(strategy, arrays)
    rules = {name: values for name, values in whole.items() if name in RULES}
    cuts = _cuts(rules, len(market), strategy.warmup)
    for cut in cuts:
        _look(outcome, strategy, market, arrays, whole, cut)
    deciding = np.flatnonzero(_any(rules, len(market))[: len(market) - 1])
    most = min(NEAR_MAX, NEAR_COLUMNS_MAX // max(len(whole) - len(rules), 1))
    near = spread(deciding[(deciding >= strategy.warmup + _BEFORE) & ~np.isin(deciding, cuts)], most).tolist()
    for cut in near:
        start = cut - strategy.warmup - _BEFORE
        around = part_of(arrays, start, min(cut + 1 + _TAIL, len(market)))
        _look(outcome, strategy, market, around, _known(strategy, around), cut - start, first=start)
    seen = int(np.isin(deciding, [*cuts, *near]).sum())
    outcome.looked = (
        f"{len(market):,} bars cut at {len(cuts) + len(near):,} places, among them {seen:,} of the {len(deciding):,}"
        " bars on which a rule is true"
    )
    if isinstance(strategy, CustomRunner):
        _look_at_calls(outcome, strategy, market)
        if strategy.vectorised:
            try:
                check_agreement(strategy, market, packed(rules, len(market)))
            except StrategyError as error:
                outcome.notes.append(f"{error}; a backtest is refused until they agree")
    return outcome


def _any(rules: Known, rows: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(rows, dtype=np.bool_)
    for values in rules.values():
        found |= values
    return found


def _cuts(rules: Known, rows: int, warmup: int) -> list[int]:
    """Bars behind which to cut: where something is decided first, as many as the work allows."""
    count = min(max(ROWS_MAX // rows, CUTS[0]), CUTS[1])
    # Over a handful of bars many a computation fails that is sound.
    first = min(max(warmup, _FIRST), rows - 2)
    every = np.arange(first, rows - 1)
    deciding = first + np.flatnonzero(_any(rules, rows)[first : rows - 1])
    picked: list[int] = np.union1d(spread(deciding, count * 2 // 3), spread(every, count - count * 2 // 3)).tolist()
    return picked


def _look(
    outcome: Outcome,
    strategy: AnyStrategy,
    market: Columns,
    arrays: Arrays,
    whole: Known,
    cut: int,
    *,
    first: int = 0,
) -> None:
    """Compare what is known up to ``cut`` (``whole``) with what is without the bars behind it, and with others.
    ``arrays`` begin with the bar ``first`` of the market."""
    kept = cut + 1
    without = part_of(arrays, 0, kept)
    behind = part_of(arrays, kept, min(kept + _TAIL, len(arrays["close"])))
    factors = np.cumprod(np.resize(_STEPS, len(behind["close"])))
    for name in ("open", "high", "low", "close"):
        behind[name] *= factors
    behind["volume"] = behind["volume"][::-1] * 3.0 + 1.0
    other = {name: np.concatenate((without[name], behind[name])) for name in arrays}
    for changed in (without, other):
        try:
            known = _known(strategy, changed)
        except StrategyError as error:
            detail = f"fails when the bars behind are others: {error}"
            outcome.add(market, first + cut, what="evaluate_all", detail=detail, advice=_LEAN)
            continue
        for name, values in whole.items():
            one, two = values[:kept], known[name][:kept]
            differs = one != two if values.dtype == np.bool_ else unlike(one, two)
            if differs.any():
                row = int(np.argmax(differs))
                ahead = kept - row
                detail = f"changes with the bars from {ahead} {'bar' if ahead == 1 else 'bars'} ahead on"
                what = name if name in RULES else f"column {name}"
                outcome.add(market, first + row, what=what, detail=detail, advice=_LEAN)


def _known(strategy: AnyStrategy, arrays: Arrays) -> Known:
    """All columns and rules."""
    return {name: values for name, values in columns_of(strategy, arrays).items() if name != TIME} | rules_of(
        strategy, arrays
    )


def _look_at_calls(outcome: Outcome, strategy: CustomRunner, market: Columns) -> None:
    """Compare an instance that is asked bar after bar with one that is asked on one bar alone, with no bar behind."""
    first = first_walked(strategy, market)
    columns = strategy.columns_over(arrays_of(market))
    looked = 0
    for side, wishes in walked(strategy, market, first).items():
        rows = chosen(wishes, 2_000, 500)
        looked += len(rows)
        for row in rows:
            alone = Asked(strategy, market, columns).at(row, side, cut=True)
            if alone == wishes[row]:
                continue
            uncut = Asked(strategy, market, columns).at(row, side)
            one, other = (told(each, side, market, row) for each in (wishes[row], alone))
            detail = f"wishes {one}; asked on this bar alone, {other}"
            if uncut == wishes[row]:
                outcome.add(market, row, what="on_bar (bars behind)", detail=detail, advice=_LEAN)
            else:
                advice = "keep nothing between calls: what a decision needs is in the view, or in a longer history"
                outcome.add(market, row, what="on_bar (memory)", detail=detail, advice=advice)
            break
    last = f" of the last {WALK_MAX:,}" if first > strategy.warmup else ""
    outcome.looked += f"; on_bar asked {looked:,} times on single bars{last}"
