"""Conditions, compiled once: over whole arrays, and on the last bar.

``evaluate`` takes a range of rows, from ``start`` to before ``stop``; operands that look back reach before ``start``,
and before row 0 everything is null. ``decide`` takes the last bar alone, whose values are numbers; as these may be some
float noise off, it also says whether that could matter. Null is NaN, and every comparison with NaN is false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from tbh.strategies.base import BoolArray, FloatArray
from tbh.strategies.shapes import AllOf, AnyOf, Between, Comparison, Node, Not, Shifted, Trend

ColumnsByName = Mapping[str, FloatArray]
Evaluate = Callable[[ColumnsByName, int, int], BoolArray]
"""(columns, start, stop) to one boolean per row of the range."""
Operand = Callable[[ColumnsByName, int, int, int], Any]
"""(columns, start, stop, back) to the values ``back`` bars before each row of the range; a number stays a number."""

Verdict = tuple[bool, bool]
"""Whether a rule is true on the last bar, and whether the opposite can't be ruled out."""

DOUBTFUL = 1e-8
"""Two numbers of which one may be off by a relative 1e-9 are told apart when they differ by ten times as much."""


class LastValues(Protocol):
    """The columns at the last bar."""

    def at(self, column: str, back: int) -> float:
        """The value ``back`` bars before the last; NaN for null."""

    def noise(self, column: str) -> float:
        """How far it may be off where it is near zero; 0.0 when it is exact."""


Last = Callable[[LastValues, int], tuple[float, float]]
"""(values, back) to a number ``back`` bars before the last one, and its noise."""

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A compiled condition. ``needs`` pairs each column with how many bars back it is read; ``text`` is for people."""

    evaluate: Evaluate
    decide: Callable[[LastValues], Verdict]
    needs: frozenset[tuple[str, int]]
    text: str


def compile_rule(node: Node | None) -> Rule | None:
    """The rule of one side; None when there is none, or when it is an empty group, which is never true."""
    if node is None or (isinstance(node, AllOf | AnyOf) and not node.members):
        return None
    return _compile(node)


def _compile(node: Node) -> Rule:
    if isinstance(node, AllOf):
        return _group(node.members, both=np.logical_and, settled=_none_true, word="all")
    if isinstance(node, AnyOf):
        return _group(node.members, both=np.logical_or, settled=_all_true, word="any")
    if isinstance(node, Not):
        inner = _compile(node.member)
        evaluate, decide = inner.evaluate, inner.decide

        def opposite(last: LastValues) -> Verdict:
            true, doubtful = decide(last)
            return not true, doubtful

        return Rule(
            evaluate=lambda columns, start, stop: ~evaluate(columns, start, stop),
            decide=opposite,
            needs=inner.needs,
            text=f"not {inner.text}",
        )
    if isinstance(node, Between):
        return _between(node)
    return _trend(node) if isinstance(node, Trend) else _comparison(node)


def _none_true(result: BoolArray) -> bool:
    return not result.any()


def _all_true(result: BoolArray) -> bool:
    return bool(result.all())


def _group(
    members: tuple[Node, ...],
    *,
    both: Callable[[BoolArray, BoolArray], BoolArray],
    settled: Callable[[BoolArray], bool],
    word: str,
) -> Rule:
    rules = [_compile(member) for member in members]
    first, *rest = [rule.evaluate for rule in rules]

    def evaluate(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        result = first(columns, start, stop)
        for each in rest:
            # Once settled, the other members are not looked at, and what only they need is not computed.
            if settled(result):
                break
            result = both(result, each(columns, start, stop))
        return result

    return Rule(
        evaluate=evaluate,
        decide=_sequence([rule.decide for rule in rules], settling=word == "any"),
        needs=frozenset().union(*(rule.needs for rule in rules)),
        text=f"{word}({', '.join(rule.text for rule in rules)})",
    )


def _sequence(members: Sequence[Callable[[LastValues], Verdict]], *, settling: bool) -> Callable[[LastValues], Verdict]:
    """All of ``members`` (any of them when ``settling`` is true); one that surely is ``settling`` settles it."""

    def decide(last: LastValues) -> Verdict:
        found, doubtful = not settling, False
        for member in members:
            true, doubt = member(last)
            if true is settling and not doubt:
                return settling, False
            doubtful |= doubt
            found = (found or true) if settling else (found and true)
        return found, doubtful

    return decide


def _pair(
    compare: Callable[[Any, Any], Any], left: Last, right: Last, back: int = 0
) -> Callable[[LastValues], Verdict]:
    """The comparison of two operands ``back`` bars before the last."""

    def decide(last: LastValues) -> Verdict:
        (one, off), (other, off_too) = left(last, back), right(last, back)
        noise = off + off_too
        doubtful = noise > 0.0 and abs(one - other) <= noise + DOUBTFUL * max(abs(one), abs(other))
        return compare(one, other), doubtful

    return decide


def _comparison(node: Comparison) -> Rule:
    left, last_left, left_needs, left_text = _operand(node.left)
    right, last_right, right_needs, right_text = _operand(node.right)
    needs = left_needs | right_needs
    text = f"{left_text} {node.op} {right_text}"
    if node.op in _COMPARE:
        compare = _COMPARE[node.op]

        def plain(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
            result: BoolArray = compare(left(columns, start, stop, 0), right(columns, start, stop, 0))
            return result

        return Rule(evaluate=plain, decide=_pair(compare, last_left, last_right), needs=needs, text=text)
    now, before = (operator.gt, operator.le) if node.op == "crosses_above" else (operator.lt, operator.ge)

    def crosses(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        if start == 0 and stop > 1:
            # Nothing crosses on the first row, and without it nothing has to be copied to look one row back.
            rest = crosses(columns, 1, stop)
            return np.concatenate((np.zeros(1, dtype=np.bool_), np.broadcast_to(rest, (stop - 1,))))
        here: BoolArray = now(left(columns, start, stop, 0), right(columns, start, stop, 0))
        result: BoolArray = here & before(left(columns, start, stop, 1), right(columns, start, stop, 1))
        return result

    both = [_pair(now, last_left, last_right), _pair(before, last_left, last_right, 1)]
    return Rule(evaluate=crosses, decide=_sequence(both, settling=False), needs=_looked_back(needs, 1), text=text)


def _between(node: Between) -> Rule:
    left, last_left, left_needs, left_text = _operand(node.left)
    low, last_low, low_needs, low_text = _operand(node.right[0])
    high, last_high, high_needs, high_text = _operand(node.right[1])

    def evaluate(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        value = left(columns, start, stop, 0)
        above = np.asarray(value >= low(columns, start, stop, 0))
        below = np.asarray(value <= high(columns, start, stop, 0))
        return np.broadcast_to(above & below, (stop - start,))

    bounds = [_pair(operator.ge, last_left, last_low), _pair(operator.le, last_left, last_high)]
    return Rule(
        evaluate=evaluate,
        decide=_sequence(bounds, settling=False),
        needs=left_needs | low_needs | high_needs,
        text=f"{left_text} between {low_text} and {high_text}",
    )


def _trend(node: Trend) -> Rule:
    left, last, needs, text = _operand(node.left)
    compare = operator.gt if node.op == "rising" else operator.lt
    bars = node.n

    def evaluate(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        result: BoolArray = compare(left(columns, start, stop, 0), left(columns, start, stop, 1))
        for back in range(1, bars):
            if not result.any():
                break
            result = result & compare(left(columns, start, stop, back), left(columns, start, stop, back + 1))
        return result

    def before(values: LastValues, back: int) -> tuple[float, float]:
        return last(values, back + 1)

    steps = [_pair(compare, last, before, back) for back in range(bars)]
    return Rule(
        evaluate=evaluate,
        decide=_sequence(steps, settling=False),
        needs=_looked_back(needs, bars),
        text=f"{text} {node.op} for {bars}",
    )


def _operand(value: str | Shifted | Decimal) -> tuple[Operand, Last, frozenset[tuple[str, int]], str]:
    """The operand over rows and on the last bar, the (column, bars back) it needs, and its text."""
    if isinstance(value, Decimal):
        number = float(value)
        constant = (number, 0.0)
        return (
            lambda columns, start, stop, back: number,  # noqa: ARG005 - one signature
            lambda last, back: constant,  # noqa: ARG005 - one signature
            frozenset(),
            str(value),
        )
    name, shift = (value, 0) if isinstance(value, str) else (value.column, value.shift)

    def read(columns: ColumnsByName, start: int, stop: int, back: int) -> FloatArray:
        values = columns[name]
        low, high = start - shift - back, stop - shift - back
        if low >= 0:
            return values[low:high]
        nulls = np.full(min(-low, stop - start), np.nan)
        return np.concatenate((nulls, values[: max(high, 0)]))

    def last(values: LastValues, back: int) -> tuple[float, float]:
        return values.at(name, shift + back), values.noise(name)

    return read, last, frozenset({(name, shift)}), f"{name}[-{shift}]" if shift else name


def _looked_back(needs: frozenset[tuple[str, int]], bars: int) -> frozenset[tuple[str, int]]:
    return frozenset((column, back + bars) for column, back in needs)
