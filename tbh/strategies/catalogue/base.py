"""What an entry of the catalogue declares: parameters, inputs, outputs, leading nulls, and how much it remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue.rows import Params, Rows

SERIES = ("open", "high", "low", "close", "volume")
SOURCE = "source"
TIME = "time"
"""The opening times of the bars in ms UTC, as float64 (exact beyond the year 285,000): read by indicators that know
days, and no column of a definition."""

MAX_PERIOD = 5_000
MAX_EMA_PERIOD = 1_000
MAX_WILDER_PERIOD = 500
MAX_SORTED_PERIOD = 500
"""Of indicators that look at every value of their window for every row: the cost is rows times period."""

HLC = ("high", "low", "close")
OHLC = ("open", *HLC)
HLCV = (*HLC, "volume")

Inputs = tuple[FloatArray, ...]
Function = Callable[[Inputs, Params], tuple[FloatArray, ...]]
Rule = Callable[[Params], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter, bounds included. ``whole`` parameters count bars; the others are Decimal in a definition."""

    name: str
    default: int | Decimal
    minimum: int | Decimal
    maximum: int | Decimal
    whole: bool = True

    def problem(self, value: object) -> str | None:
        """Why ``value`` is refused, or None."""
        kind = "a whole number" if self.whole else "a number"
        number = isinstance(value, int) and not isinstance(value, bool)
        if not number and (self.whole or not (isinstance(value, Decimal) and value.is_finite())):
            return f"must be {kind} from {self.minimum} to {self.maximum}"
        if isinstance(value, int | Decimal) and not self.minimum <= value <= self.maximum:
            return f"must be {kind} from {self.minimum} to {self.maximum}, not {value}"
        return None


Compared = Literal["", "differences", "ratios", "turn", "start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How much of the past is in the last value, and so from how many rows it can be computed.

    ``window``: only the rows of a window, ``rows`` of them, or the leading nulls and one more when that is None.
    ``decay``: all rows, but after the leading nulls and ``rows`` more the start weighs less than 1e-14.
    ``all``: all rows, without end. ``compared`` then says in what form two computations from different starts agree:
    as ``differences`` or ``ratios`` of values; after a second common ``turn``; or only from a common ``start``.
    """

    kind: Literal["window", "decay", "all"]
    rows: Callable[[Params], int] | None = None
    compared: Compared = ""


WINDOW = Memory(kind="window")

# Rows, in units of the time constant, until n exponential averages in a row have forgotten their start to 1e-14: where
# exp(-x) * sum(x**k / k!, k < n) falls below that (the tail of an Erlang distribution).
_FADED = {1: 32.3, 2: 36.0, 3: 38.9, 4: 41.4, 5: 43.7, 6: 45.9}


def ema_decay(period: Callable[[Params], int], stages: int = 1) -> Memory:
    """``stages`` averages in a row of weight 2 / (period + 1), the longest of them over ``period``."""
    return Memory(kind="decay", rows=lambda params: int(_FADED[stages] * (period(params) + 1) / 2) + 1)


def wilder_decay(period: Callable[[Params], int], stages: int = 1) -> Memory:
    """``stages`` averages in a row of weight 1 / period, the longest of them over ``period``."""
    return Memory(kind="decay", rows=lambda params: int(_FADED[stages] * period(params)) + 1)


def decay(rows: int) -> Memory:
    """A start that is forgotten after a number of rows that no parameter changes."""
    return Memory(kind="decay", rows=lambda _: rows)


def slowest(*memories: Memory) -> Memory:
    """Several averages in a row, or beside each other: each of ``memories`` decays and counts all that are in a row."""
    rows = [memory.rows for memory in memories if memory.rows is not None]
    return Memory(kind="decay", rows=lambda params: max(each(params) for each in rows))


def window(rows: Callable[[Params], int]) -> Memory:
    """A window that is longer than the leading nulls show."""
    return Memory(kind="window", rows=rows)


def everything(compared: Compared) -> Memory:
    return Memory(kind="all", compared=compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """One entry. ``inputs`` are series it always reads; SOURCE among them stands for any of SERIES.

    ``nulls`` are the leading null rows, for all outputs or for each; the outputs in ``sparse`` may be null later as
    well. ``function`` takes the inputs as contiguous float64 arrays of equal length n and returns one array of length n
    for each output. ``source`` is where the formula comes from.
    """

    name: str
    aliases: tuple[str, ...] = ()
    summary: str
    group: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    inputs: tuple[str, ...] = (SOURCE,)
    outputs: tuple[str, ...] = ("value",)
    nulls: Rows | tuple[Rows, ...]
    memory: Memory = WINDOW
    function: Function
    rule: Rule | None = None
    sparse: tuple[str, ...] = ()

    @property
    def takes_source(self) -> bool:
        return SOURCE in self.inputs

    def leading(self, params: Params) -> tuple[int, ...]:
        """The leading null rows of each output."""
        if isinstance(self.nulls, Rows):
            return (self.nulls(params),) * len(self.outputs)
        return tuple(rows(params) for rows in self.nulls)

    def warmup(self, params: Params) -> int:
        """The leading rows on which some output is still null."""
        return max(self.leading(params))

    def history(self, params: Params) -> int | None:
        """The last rows that suffice for the last value, to a relative 1e-9; None when only all of them do."""
        warmup = self.warmup(params)
        if self.memory.kind == "all":
            return None
        if self.memory.kind == "decay":
            assert self.memory.rows is not None
            return warmup + 1 + self.memory.rows(params)
        return warmup + 1 if self.memory.rows is None else self.memory.rows(params)

    def resolve(self, given: Mapping[str, int | Decimal]) -> Params:
        """``given`` completed by the defaults, as functions take them. The values must have passed ``problem``."""
        values: dict[str, int | float] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name, parameter.default)
            values[parameter.name] = int(value) if parameter.whole else float(value)
        return MappingProxyType(values)

    def compute(self, inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        """One array per output, NaN where null. ``inputs`` in the order of the field, contiguous float64."""
        if not len(inputs[0]):
            return tuple(np.empty(0) for _ in self.outputs)
        return self.function(inputs, params)


def period(default: int, *, minimum: int = 2, maximum: int = MAX_PERIOD) -> Parameter:
    return Parameter(name="period", default=default, minimum=minimum, maximum=maximum)


def bars(name: str, default: int, *, minimum: int = 1, maximum: int = MAX_PERIOD) -> Parameter:
    return Parameter(name=name, default=default, minimum=minimum, maximum=maximum)


def real(name: str, default: str, minimum: str, maximum: str) -> Parameter:
    return Parameter(
        name=name, default=Decimal(default), minimum=Decimal(minimum), maximum=Decimal(maximum), whole=False
    )


def ordered(*names: str) -> Rule:
    """Each named parameter must be smaller than the next."""

    def rule(params: Params) -> str | None:
        for small, large in pairwise(names):
            if params[small] >= params[large]:
                return f"{small} must be smaller than {large}"
        return None

    return rule
