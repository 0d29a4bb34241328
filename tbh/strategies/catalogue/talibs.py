"""How a function of TA-Lib becomes an entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tbh.strategies.base import FloatArray
from tbh.strategies.catalogue.base import (
    SOURCE,
    WINDOW,
    Function,
    Indicator,
    Inputs,
    Memory,
    Parameter,
    Rule,
)
from tbh.strategies.catalogue.rows import Params, Rows

# How TA-Lib calls the parameters that have a name of their own here.
_KEYWORDS = {"period": "timeperiod", "fast": "fastperiod", "slow": "slowperiod", "signal": "signalperiod"}


def calling(
    function: Callable[..., Any], keywords: Mapping[str, str] | None = None, fixed: Mapping[str, Any] | None = None
) -> Function:
    """``function`` of TA-Lib with its arrays, parameters by ``keywords`` (ours to theirs), and ``fixed`` ones."""
    known = {**_KEYWORDS, **(keywords or {})}
    constant = dict(fixed or {})

    def call(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        given = {known.get(name, name): value for name, value in params.items()}
        values = function(*inputs, **given, **constant)
        return tuple(values) if isinstance(values, tuple | list) else (values,)

    return call


def counted(function: Function, nulls: Rows) -> Function:
    """``function`` with whole numbers as outputs: float64 with the leading nulls, where TA-Lib has zeros."""

    def call(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        made = tuple(values.astype(np.float64) for values in function(inputs, params))
        for values in made:
            values[: nulls(params)] = np.nan
        return made

    return call


def finite(function: Function) -> Function:
    """``function`` with null in place of infinities: the quotients of zero and the logarithms of nothing."""

    def call(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        made = function(inputs, params)
        for values in made:
            values[np.isinf(values)] = np.nan
        return made

    return call


def talib_entry(
    name: str,
    function: Callable[..., Any],
    summary: str,
    *,
    group: str,
    nulls: Rows,
    aliases: tuple[str, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    inputs: tuple[str, ...] = (SOURCE,),
    outputs: tuple[str, ...] = ("value",),
    memory: Memory = WINDOW,
    keywords: Mapping[str, str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    rule: Rule | None = None,
    whole: bool = False,
    unbounded: bool = False,
) -> Indicator:
    """An entry that TA-Lib computes. ``whole``: its outputs are integers; ``unbounded``: they can be infinite."""
    call = calling(function, keywords, fixed)
    if whole:
        call = counted(call, nulls)
    if unbounded:
        call = finite(call)
    return Indicator(
        name=name,
        aliases=aliases,
        summary=summary,
        group=group,
        source=f"TA-Lib {function.__name__}",
        parameters=parameters,
        inputs=inputs,
        outputs=outputs,
        nulls=nulls,
        memory=memory,
        function=call,
        rule=rule,
        sparse=outputs if unbounded else (),
    )
