"""What the names in a definition refer to: indicators, parameters, sources, columns.

The check runs on the parsed JSON, before and independent of the shape, so that a mistake in one place hides none in
another. It passes over whatever has the wrong shape, since that is reported elsewhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tbh.strategies.indicators import NAMES, SERIES, Indicator
from tbh.strategies.shapes import TIMEFRAMES

MAX_PROBLEMS = 50
"""Enough to repair a file by; a file of nonsense shall not cost minutes of looking for near names."""


class Problem(NamedTuple):
    """What is wrong at ``path`` (``$`` is the whole definition)."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is none of ``known``, with the nearest one that is."""
    options = sorted(set(known))
    near = difflib.get_close_matches(name[:64], options, n=1, cutoff=0.5)
    if near:
        return f"unknown {kind} {name[:64]!r}; nearest: {near[0]!r}"
    listed = ", ".join(option[:64] for option in options[:24]) + (", ..." if len(options) > 24 else "")
    return f"unknown {kind} {name[:64]!r}; known: {listed or 'none'}"


def id_of(column: str) -> str:
    """The id of the indicator that a column belongs to: ids hold no two underscores in a row."""
    return column.split("__", 1)[0]


def columns_of(indicator_id: str, entry: Indicator, sources: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
    """(column, source, output index) of one use; ``sources`` is empty when the indicator reads fixed series."""
    for source in sources or ("",):
        for index, output in enumerate(entry.outputs):
            middle = f"{source}__" if len(sources) > 1 else ""
            yield f"{indicator_id}__{middle}{output}", source, index


def check_references(raw: Mapping[str, Any]) -> list[Problem]:
    """Every name in ``raw`` that refers to nothing, and every pair of values that cannot stand together."""
    check = _Check()
    timeframe = raw.get("timeframe")
    if isinstance(timeframe, str) and timeframe not in TIMEFRAMES:
        check.add("$.timeframe", unknown("timeframe", timeframe, TIMEFRAMES))
    uses = raw.get("indicators")
    for index, use in enumerate(uses if isinstance(uses, list) else ()):
        if isinstance(use, dict):
            check.indicator(f"$.indicators[{index}]", use)
            check.timeframe(f"$.indicators[{index}].timeframe", use.get("timeframe"), timeframe)
    check.chains(timeframe)
    for rule in ("entry", "exit", "pyramid"):
        sides = raw.get(rule)
        for side in ("long", "short"):
            if isinstance(sides, dict) and sides.get(side) is not None:
                check.node(f"$.{rule}.{side}", sides[side], top=True)
    _check_money(check, raw)
    return check.problems


def _check_money(check: _Check, raw: Mapping[str, Any]) -> None:
    entry, stops, sizing = raw.get("entry"), raw.get("stops"), raw.get("sizing")
    if isinstance(entry, dict) and entry.get("long") is None and entry.get("short") is None:
        check.add("$.entry", "needs a rule for long or short; without one the strategy never trades")
    take_profit = _as_number(stops.get("take_profit")) if isinstance(stops, dict) else None
    if take_profit is not None and take_profit >= 1 and isinstance(entry, dict) and entry.get("short") is not None:
        check.add("$.stops.take_profit", "must be below 1 where short positions are entered: a price stays above zero")
    if not isinstance(sizing, dict):
        return
    kind, value = sizing.get("kind"), _as_number(sizing.get("value"))
    if kind in ("equity_fraction", "risk_fraction") and value is not None and value > 1:
        check.add("$.sizing.value", f"must be at most 1: {kind} is a share of equity")
    if kind == "risk_fraction" and (not isinstance(stops, dict) or stops.get("stop_loss") is None):
        check.add("$.sizing.kind", "risk_fraction needs stops.stop_loss: without a stop the risk has no size")


def _as_number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(str(value)[:40])
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _reaches(reads: Mapping[str, set[str]], start: str, end: str) -> bool:
    """Whether indicator ``start`` is made of what ``end`` makes."""
    seen, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        if here == end:
            return True
        new = reads.get(here, set()) - seen
        seen |= new
        ahead += new
    return False


class _Check:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._columns: set[str] = set(SERIES)
        self._places: dict[str, str] = {}
        # Columns of an indicator that is itself in doubt are not called unknown on top.
        self._doubtful: set[str] = set()
        # By id: the entry and the timeframe of an indicator, and by column which output of which it is.
        self._uses: dict[str, tuple[Indicator, object]] = {}
        self._outputs: dict[str, tuple[str, str]] = {}
        # Sources that may be columns of indicators, which are known once all are: the path, the reader's id, the name.
        self._chained: list[tuple[str, str, str]] = []

    def add(self, path: str, message: str) -> None:
        if not self.full:
            self.problems.append(Problem(path, message))

    @property
    def full(self) -> bool:
        """Whether no more is reported, and so none need be looked for: a near name takes a millisecond to find."""
        return len(self.problems) >= MAX_PROBLEMS

    def indicator(self, path: str, use: Mapping[str, Any]) -> None:
        if self.full:
            return
        indicator_id, name = use.get("id"), use.get("name")
        if isinstance(indicator_id, str):
            if indicator_id in self._places:
                self.add(f"{path}.id", f"{indicator_id!r} is already the id of {self._places[indicator_id]}")
            self._places.setdefault(indicator_id, path)
        entry = NAMES.get(name) if isinstance(name, str) else None
        if entry is None:
            if isinstance(name, str):
                self.add(f"{path}.name", unknown("indicator", name, NAMES))
            if isinstance(indicator_id, str):
                self._doubtful.add(indicator_id)
            return
        params = use.get("params")
        self._params(f"{path}.params", entry, params if isinstance(params, dict) else {})
        sources = self._sources(f"{path}.source", entry, use.get("source"), indicator_id)
        if isinstance(indicator_id, str):
            self._uses.setdefault(indicator_id, (entry, use.get("timeframe")))
            if sources is None:
                self._doubtful.add(indicator_id)
            else:
                for column, _, index in columns_of(indicator_id, entry, sources):
                    self._columns.add(column)
                    self._outputs[column] = (indicator_id, entry.outputs[index])

    def chains(self, own: object) -> None:
        """What indicators read of each other."""
        reads: dict[str, set[str]] = {}
        for path, reader, source in self._chained:
            if id_of(source) in self._doubtful:
                continue
            if source not in self._outputs:
                self.add(path, unknown("source", source, (*SERIES, *self._outputs)))
                continue
            of, output = self._outputs[source]
            reads.setdefault(reader, set()).add(of)
            entry, timeframe = self._uses[reader]
            read, of_timeframe = self._uses[of]
            if entry.memory.kind == "all":
                self.add(path, f"{entry.name} remembers everything, and can read {', '.join(SERIES)} only")
            elif output in read.sparse:
                self.add(path, f"{source!r} can be null at any time, and no indicator can go on from that")
            elif (timeframe or own) != (of_timeframe or own):
                self.add(path, f"{source!r} is of {of_timeframe or own} bars; give both the same timeframe")
            elif _reaches(reads, of, reader):
                self.add(path, f"goes round in a circle: {source!r} is made of what {reader!r} makes")

    def timeframe(self, path: str, name: object, own: object) -> None:
        """The timeframe of an indicator beside the definition's ``own``."""
        if not isinstance(name, str):
            return
        if name not in TIMEFRAMES:
            self.add(path, unknown("timeframe", name, TIMEFRAMES))
        elif isinstance(own, str) and own in TIMEFRAMES:
            if TIMEFRAMES[name] < TIMEFRAMES[own]:
                self.add(path, f"{name} is shorter than the definition's {own}; its bars can't be made of longer ones")
            elif TIMEFRAMES[name] % TIMEFRAMES[own]:
                many = [each for each, seconds in TIMEFRAMES.items() if not seconds % TIMEFRAMES[own]]
                self.add(path, f"{name} is no multiple of the definition's {own}; take one of {', '.join(many)}")

    def _params(self, path: str, entry: Indicator, params: Mapping[str, Any]) -> None:
        known = {parameter.name: parameter for parameter in entry.parameters}
        sound: dict[str, int | Decimal] = {}
        for name, value in params.items():
            if name not in known:
                self.add(f"{path}.{name}", unknown(f"parameter of {entry.name}", name, known))
                continue
            number = value if type(value) is int else _as_number(value)
            if number is None:
                continue
            problem = known[name].problem(number)
            if problem is None:
                sound[name] = number
            else:
                self.add(f"{path}.{name}", problem)
        if entry.rule is not None and len(sound) == sum(name in known for name in params):
            broken = entry.rule(entry.resolve(sound))
            if broken is not None:
                self.add(path, broken)

    def _sources(self, path: str, entry: Indicator, given: object, reader: object) -> tuple[str, ...] | None:
        """The sources, or None when they are in doubt."""
        if not entry.takes_source:
            if given is not None:
                self.add(path, f"{entry.name} always reads {', '.join(entry.inputs)}; leave the source out")
            return ()
        if given is None:
            return ("close",)
        sources = [given] if isinstance(given, str) else given
        if not isinstance(sources, list) or not sources:
            return None
        sound = True
        for index, source in enumerate(sources):
            where = path if isinstance(given, str) else f"{path}[{index}]"
            if not isinstance(source, str):
                sound = False
            elif source in sources[:index]:
                self.add(where, f"{source!r} is given twice")
            elif source not in SERIES and "__" in source and isinstance(reader, str):
                self._chained.append((where, reader, source))
            elif source not in SERIES:
                self.add(where, unknown("source", source, SERIES))
                sound = False
        return tuple(sources) if sound else None

    def node(self, path: str, node: object, *, top: bool = False) -> None:
        if not isinstance(node, dict) or self.full:
            return
        for group in ("all", "any"):
            members = node.get(group)
            if isinstance(members, list):
                if not members and not top:
                    self.add(f"{path}.{group}", "is empty; only a whole rule may be, and is then never true")
                for index, member in enumerate(members):
                    self.node(f"{path}.{group}[{index}]", member)
        if "not" in node:
            self.node(f"{path}.not", node["not"])
        if "op" in node:
            self._condition(path, node)

    def _condition(self, path: str, node: Mapping[str, Any]) -> None:
        right = node.get("right")
        operands = [(f"{path}.left", node.get("left"))]
        if node.get("op") == "between" and isinstance(right, list):
            operands += [(f"{path}.right[{index}]", bound) for index, bound in enumerate(right)]
            low, high = (
                _as_number(bound) if not isinstance(bound, str) else None for bound in (right + [None] * 2)[:2]
            )
            if low is not None and high is not None and low > high:
                self.add(f"{path}.right", f"the lower bound comes first: {low} is above {high}")
        elif "right" in node:
            operands.append((f"{path}.right", right))
        for where, operand in operands:
            name = operand.get("column") if isinstance(operand, dict) else operand
            if isinstance(name, str):
                self._column(f"{where}.column" if isinstance(operand, dict) else where, name)
        if all(isinstance(operand, int | Decimal) for _, operand in operands):
            self.add(path, "compares numbers only, so it never changes; name a column on one side")

    def _column(self, path: str, name: str) -> None:
        if name not in self._columns and id_of(name) not in self._doubtful:
            self.add(path, unknown("column", name, self._columns))
