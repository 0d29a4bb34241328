"""Arithmetic that keeps 31 digits, in functions that run as they stand and compiled alike.

A number is the unevaluated sum of two floats, high and low. Money and quantities are held as whole numbers of a small
unit, and such numbers up to 2^106 are exact: so the compiled loop makes the very sums that decimals make, and floors
and rounds where they do.

Sources of the formulas: D. E. Knuth, The Art of Computer Programming 2, 4.2.2 (two_sum); T. J. Dekker, A floating-point
technique for extending the available precision, 1971 (two_prod, the pair arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

_SPLIT = 134217729.0  # 2^27 + 1
_EXACT = 9007199254740992.0  # 2^53
_BELOW = 1.0 - 2.0**-53
_Function = TypeVar("_Function", bound=Callable[..., Any])

Number = Any
"""A float; all but the two quotients take arrays of floats as well, element by element."""

COMPILED: list[Callable[..., Any]] = []
"""What the compiler is given, each function after those that it calls. Their names are one namespace."""


def compiled(function: _Function) -> _Function:
    """Name a function as a part of the compiled loop; it stays as it is."""
    COMPILED.append(function)
    return function


@compiled
def floored(x: Number) -> Number:
    """The greatest whole number not above ``x``, as a float of any size."""
    return float(np.floor(x))


@compiled
def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """``a + b`` and what rounding took from it."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@compiled
def two_prod(a: Number, b: Number) -> tuple[Number, Number]:
    """``a * b`` and what rounding took from it."""
    product = a * b
    wide = _SPLIT * a
    a_high = wide - (wide - a)
    a_low = a - a_high
    wide = _SPLIT * b
    b_high = wide - (wide - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@compiled
def add2(a_high: Number, a_low: Number, b_high: Number, b_low: Number) -> tuple[Number, Number]:
    """The sum of two pairs."""
    high, error = two_sum(a_high, b_high)
    low, rest = two_sum(a_low, b_low)
    error += low
    total = high + error
    error = (error - (total - high)) + rest
    high = total + error
    return high, error - (high - total)


@compiled
def mul2(a_high: Number, a_low: Number, b: Number) -> tuple[Number, Number]:
    """A pair times a float."""
    high, low = two_prod(a_high, b)
    more, rest = two_prod(a_low, b)
    return add2(high, low, more, rest)


@compiled
def div2(a_high: Number, a_low: Number, b: Number) -> tuple[Number, Number]:
    """A pair by a float, to about 31 digits: three steps of long division."""
    first = a_high / b
    high, low = two_prod(first, b)
    rest, rest_low = add2(a_high, a_low, -high, -low)
    second = rest / b
    high, low = two_prod(second, b)
    rest, rest_low = add2(rest, rest_low, -high, -low)
    third = rest / b
    total = first + second
    low = second - (total - first) + third
    high = total + low
    return high, low - (high - total)


@compiled
def floor_quotient(a_high: Number, a_low: Number, b_high: Number, b_low: Number) -> Number:
    """The greatest whole number not above a / b, for a >= 0 and b > 0; beyond 2^53 a float not above it."""
    quotient = floored(a_high / b_high)
    if a_low == 0.0 and b_low == 0.0 and a_high < _EXACT:
        rest = a_high - quotient * b_high
        if rest < 0.0:
            return quotient - 1.0
        return quotient + 1.0 if rest >= b_high else quotient
    for _ in range(4):
        high, low = mul2(b_high, b_low, quotient)
        rest, rest_low = add2(a_high, a_low, -high, -low)
        if rest < 0.0 or (rest == 0.0 and rest_low < 0.0):
            # Where whole numbers are further apart than one, the next float below.
            quotient = min(quotient + min(floored(rest / b_high), -1.0), quotient * _BELOW)
            continue
        over, over_low = add2(rest, rest_low, -b_high, -b_low)
        if over < 0.0 or (over == 0.0 and over_low < 0.0) or quotient >= _EXACT:
            break
        quotient += max(floored(rest / b_high), 1.0)
    return max(floored(quotient), 0.0)


@compiled
def round_quotient(a_high: Number, a_low: Number, b: Number) -> Number:
    """The whole number nearest to a / b, for a >= 0 and b > 0; in the middle, the even one."""
    quotient = floor_quotient(a_high, a_low, b, 0.0)
    high, low = two_prod(quotient, b)
    rest, rest_low = add2(a_high, a_low, -high, -low)
    twice, twice_low = add2(2.0 * rest, 2.0 * rest_low, -b, 0.0)
    # An average price has its last digits rounded: what is as near to the middle as that was meant to be there.
    if abs(twice + twice_low) <= 1e-15 * b:
        return quotient if quotient % 2.0 == 0.0 else quotient + 1.0
    return quotient + 1.0 if twice > 0.0 else quotient
