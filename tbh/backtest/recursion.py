"""Does a strategy depend on where its history begins?

A backtest begins with its file, a bot with what the exchange gives it: both must decide alike. Each column is computed
over its declared history (``Indicator.history``) before some bars, over parts and multiples of it, and compared with
the value over all bars; each decision is taken once more over as much history as all columns declare, and over more.
"""

from __future__ import annotations

import numpy as np

from tbh.backtest.agreement import spread
from tbh.backtest.checks import (
    Arrays,
    Asked,
    Deviation,
    Outcome,
    chosen,
    first_walked,
    part_of,
    rules_of,
    time_of,
    told,
    walked,
)
from tbh.backtest.columns import Columns
from tbh.backtest.stepped import arrays_of
from tbh.strategies.base import FloatArray
from tbh.strategies.history import rows_needed, starting
from tbh.strategies.runner import AnyStrategy, CustomRunner
from tbh.strategies.series import Computation, computations

SHARES = (0.25, 0.5, 1.0, 2.0)
ANCHORS = 5
ALLOWED = 1e-8
"""What a declared history promises is 1e-9; noise gets ten times that."""
LEAST = 500
"""Bars of history that a bot has in any case."""
_SIGNALS, _OTHERS = 100, 60
_LATER = 137
_BEHIND = 200

_FORMS = {
    "differences": "its differences agree between two starts",
    "ratios": "ratios of its values agree between two starts",
    "turn": "two starts agree after its next turn",
    "start": "two starts never agree",
    "": "two starts never agree",
}


def check_recursion(strategy: AnyStrategy, market: Columns) -> Outcome:
    """What of ``strategy`` depends on how many bars there are before. Raises as ``backtest`` does."""
    outcome = Outcome(check="recursion")
    arrays: Arrays = arrays_of(market)
    plan = computations(strategy.definition)
    endless = _check_columns(outcome, strategy, market, arrays, plan)
    history = strategy.warmup + max(
        (history_of(each, strategy.timeframe_s) or LEAST for each in plan.values()), default=1
    )
    history = max(history, LEAST if endless else 1)
    _check_rules(outcome, strategy, market, arrays, history, endless)
    if isinstance(strategy, CustomRunner):
        _check_calls(outcome, strategy, market, arrays, history, endless)
    return outcome


def history_of(computation: Computation, timeframe_s: int) -> int | None:
    """The bars that suffice for the last value of a column; None when only all of them do."""
    return None if starting([computation]) else rows_needed(computation, 0, timeframe_s)


def _check_columns(
    outcome: Outcome, strategy: AnyStrategy, market: Columns, arrays: Arrays, plan: dict[str, Computation]
) -> dict[str, str]:
    """Fills ``outcome.deviations``; the indicators that remember everything, and in what form two starts agree."""
    endless: dict[str, str] = {}
    whole = strategy.columns_over(arrays)
    for column, computation in plan.items():
        history, memory = history_of(computation, strategy.timeframe_s), computation.entry.memory
        if history is None:
            name = computation.indicator_id
            if name not in endless:
                note = f"{name} ({computation.entry.name}) remembers everything; {_FORMS[memory.compared]}"
                outcome.notes.append(note)
            endless[name] = memory.compared
            outcome.deviations.append(Deviation(column=column, history=None, memory="all", shares={}))
            continue
        anchors = spread(np.arange(min(2 * history, len(market) - 1), len(market)), ANCHORS).tolist()
        shares: dict[float, float | None] = {}
        for share in SHARES:
            rows = max(int(history * share), computation.warmup + 1)
            found = [
                (_off(strategy, arrays, whole[column], column, row, rows), row) for row in anchors if rows <= row + 1
            ]
            shares[share] = max(found)[0] if found else None
            if share >= 1.0 and found and max(found)[0] > ALLOWED:
                off, row = max(found)
                detail = f"is {off:.1g} off with {rows} bars of history; {history} were declared to suffice"
                advice = "the catalogue's entry must declare a longer history"
                outcome.add(market, row, what=f"column {column}", detail=detail, advice=advice)
        outcome.deviations.append(Deviation(column=column, history=history, memory=memory.kind, shares=shares))
    return endless


def _off(strategy: AnyStrategy, arrays: Arrays, whole: FloatArray, column: str, row: int, rows: int) -> float:
    """How far ``column`` at ``row`` is off over ``rows`` bars, as a fraction of its size."""
    few = strategy.columns_over(part_of(arrays, row + 1 - rows, row + 1))[column][-1]
    value = whole[row]
    if np.isnan(few) or np.isnan(value):
        return 0.0 if np.isnan(few) and np.isnan(value) else np.inf
    recent = float(np.nanmax(np.abs(whole[max(row - 1_000, 0) : row + 1]), initial=0.0))
    size = max(abs(float(value)), 1e-3 * recent)
    return abs(float(few - value)) / size if size else 0.0


def _check_rules(
    outcome: Outcome, strategy: AnyStrategy, market: Columns, arrays: Arrays, history: int, endless: dict[str, str]
) -> None:
    """Take the decisions of some bars once more over ``history`` bars, and over twice as many."""
    rules = rules_of(strategy, arrays)
    if not rules:
        return
    rows = np.arange(history, len(market))
    if not len(rows):
        outcome.notes.append(f"{len(market):,} bars are too few to compare rules: {history + 1:,} are needed")
        return
    deciding = np.zeros(len(rows), dtype=np.bool_)
    for values in rules.values():
        deciding |= values[history:]
    sample: list[int] = np.union1d(spread(rows[deciding], _SIGNALS), spread(rows[~deciding], _OTHERS)).tolist()
    ties: list[str] = []
    for row in sample:
        for length in (history, min(2 * history, row)):
            # The bars behind stay the same: who looks at them is found by the other check.
            few = rules_of(strategy, part_of(arrays, row + 1 - length, min(row + 1 + _BEHIND, len(market))))
            for name, values in rules.items():
                if bool(few[name][length - 1]) == bool(values[row]):
                    continue
                detail = (
                    f"is {bool(values[row])} over all {row + 1:,} bars, and {not values[row]} over the last {length:,}"
                )
                if endless or outcome.findings or isinstance(strategy, CustomRunner):
                    outcome.add(market, row, what=name, detail=detail, advice=_advice(endless))
                else:
                    at = time_of(market, row)
                    ties.append(f"{name} on the bar of {at} {detail}, while its columns agree to {ALLOWED:g}: a tie")
    outcome.notes += ties[:3]
    outcome.looked = f"rules on {len(sample):,} bars with {history:,} and {2 * history:,} bars of history"


def _advice(endless: dict[str, str]) -> str:
    names = ", ".join(endless)
    if endless and set(endless.values()) == {"turn"}:
        return f"let the history begin earlier: two starts agree after the next turn of {names}"
    if endless:
        return f"compare {names} with its own past, not with a number or another series"
    return "decide by a fixed number of bars: no figure over all bars that there are"


def _check_calls(
    outcome: Outcome, strategy: CustomRunner, market: Columns, arrays: Arrays, history: int, endless: dict[str, str]
) -> None:
    """Ask a custom strategy from a later bar on, and over fewer bars."""
    begins = first_walked(strategy, market)
    earlier, later = walked(strategy, market, begins), walked(strategy, market, min(begins + _LATER, len(market)))
    looked = 0
    for side, wishes in earlier.items():
        for row, known in later.get(side, {}).items():
            if known != wishes[row]:
                detail = (
                    f"wishes {told(wishes[row], side, market, row)}; asked from {_LATER} bars later on,"
                    f" {told(known, side, market, row)}"
                )
                advice = "keep nothing between calls: a bot that restarts begins with a new instance"
                outcome.add(market, row, what="on_bar (memory)", detail=detail, advice=advice)
                break
        whole = strategy.columns_over(arrays)
        for row in (each for each in chosen(wishes, _SIGNALS, _OTHERS) if each >= history):
            looked += 1
            few = part_of(arrays, row + 1 - history, row + 1)
            one = Asked(strategy, market, whole).at(row, side)
            other = Asked(strategy, market, strategy.columns_over(few), offset=row + 1 - history).at(row, side)
            if one != other:
                detail = (
                    f"wishes {told(one, side, market, row)}; over the last {history:,} bars,"
                    f" {told(other, side, market, row)}"
                )
                outcome.add(market, row, what="on_bar", detail=detail, advice=_advice(endless))
                break
    outcome.looked += f"{'; ' if outcome.looked else ''}on_bar on {looked:,} bars with {history:,} bars of history"
