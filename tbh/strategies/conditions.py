"""Conditions, compiled once and evaluated over any range of rows.

One implementation serves both uses: a whole array is the range of all rows, a live bar the range of the last one. A
range starts at ``start`` and ends before ``stop``; operands that look back reach before ``start``, and before row 0
everything is null. Null is NaN, and every comparison with NaN is false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from tbh.strategies.base import BoolArray, FloatArray
from tbh.strategies.shapes import AllOf, AnyOf, Between, Comparison, Node, Not, Shifted, Trend

ColumnsByName = Mapping[str, FloatArray]
Evaluate = Callable[[ColumnsByName, int, int], BoolArray]
"""(columns, start, stop) to one boolean per row of the range."""
Operand = Callable[[ColumnsByName, int, int, int], Any]
"""(columns, start, stop, back) to the values ``back`` bars before each row of the range; a number stays a number."""

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
        evaluate = inner.evaluate
        return Rule(
            evaluate=lambda columns, start, stop: ~evaluate(columns, start, stop),
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
        needs=frozenset().union(*(rule.needs for rule in rules)),
        text=f"{word}({', '.join(rule.text for rule in rules)})",
    )


def _comparison(node: Comparison) -> Rule:
    left, left_needs, left_text = _operand(node.left)
    right, right_needs, right_text = _operand(node.right)
    needs = left_needs | right_needs
    text = f"{left_text} {node.op} {right_text}"
    if node.op in _COMPARE:
        compare = _COMPARE[node.op]

        def plain(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
            result: BoolArray = compare(left(columns, start, stop, 0), right(columns, start, stop, 0))
            return result

        return Rule(evaluate=plain, needs=needs, text=text)
    now, before = (operator.gt, operator.le) if node.op == "crosses_above" else (operator.lt, operator.ge)

    def crosses(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        if start == 0 and stop > 1:
            # Nothing crosses on the first row, and without it nothing has to be copied to look one row back.
            rest = crosses(columns, 1, stop)
            return np.concatenate((np.zeros(1, dtype=np.bool_), np.broadcast_to(rest, (stop - 1,))))
        here: BoolArray = now(left(columns, start, stop, 0), right(columns, start, stop, 0))
        result: BoolArray = here & before(left(columns, start, stop, 1), right(columns, start, stop, 1))
        return result

    return Rule(evaluate=crosses, needs=_looked_back(needs, 1), text=text)


def _between(node: Between) -> Rule:
    left, left_needs, left_text = _operand(node.left)
    low, low_needs, low_text = _operand(node.right[0])
    high, high_needs, high_text = _operand(node.right[1])

    def evaluate(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        value = left(columns, start, stop, 0)
        above = np.asarray(value >= low(columns, start, stop, 0))
        below = np.asarray(value <= high(columns, start, stop, 0))
        return np.broadcast_to(above & below, (stop - start,))

    return Rule(
        evaluate=evaluate,
        needs=left_needs | low_needs | high_needs,
        text=f"{left_text} between {low_text} and {high_text}",
    )


def _trend(node: Trend) -> Rule:
    left, needs, text = _operand(node.left)
    compare = operator.gt if node.op == "rising" else operator.lt
    bars = node.n

    def evaluate(columns: ColumnsByName, start: int, stop: int) -> BoolArray:
        result: BoolArray = compare(left(columns, start, stop, 0), left(columns, start, stop, 1))
        for back in range(1, bars):
            if not result.any():
                break
            result = result & compare(left(columns, start, stop, back), left(columns, start, stop, back + 1))
        return result

    return Rule(evaluate=evaluate, needs=_looked_back(needs, bars), text=f"{text} {node.op} for {bars}")


def _operand(value: str | Shifted | Decimal) -> tuple[Operand, frozenset[tuple[str, int]], str]:
    """The compiled operand, the (column, bars back) it needs, and its text."""
    if isinstance(value, Decimal):
        number = float(value)
        return (lambda columns, start, stop, back: number), frozenset(), str(value)  # noqa: ARG005 - one signature
    name, shift = (value, 0) if isinstance(value, str) else (value.column, value.shift)

    def read(columns: ColumnsByName, start: int, stop: int, back: int) -> FloatArray:
        values = columns[name]
        low, high = start - shift - back, stop - shift - back
        if low >= 0:
            return values[low:high]
        nulls = np.full(min(-low, stop - start), np.nan)
        return np.concatenate((nulls, values[: max(high, 0)]))

    return read, frozenset({(name, shift)}), f"{name}[-{shift}]" if shift else name


def _looked_back(needs: frozenset[tuple[str, int]], bars: int) -> frozenset[tuple[str, int]]:
    return frozenset((column, back + bars) for column, back in needs)
