"""Exact money: Decimal built from text, on the market's steps, and never at the mercy of a thread's context.

Python's decimal operators round to the *current context*, and every thread has its own. A price that went through
one host and not through another could then differ in its last digit, and a replay would no longer repeat. So
whatever may need more digits than it was given goes through one of two fixed contexts:

- ``EXACT`` never rounds: a result that does not fit 100 digits raises ``decimal.Inexact`` instead. Sums, products
  and steps are made in it.
- ``divide`` rounds half even to 34 digits (IEEE 754 decimal128), the one operation that cannot be exact.
"""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)

ZERO = Decimal(0)
ONE = Decimal(1)

EXACT = Context(
    prec=100, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, FloatOperation]
)
"""For ``with localcontext(EXACT):`` or its own methods (``EXACT.multiply(a, b)``)."""

_DIVISION = Context(prec=34, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])

TEXT_LENGTH_MAX = 100
MAGNITUDE_MAX = 60
"""Powers of ten, up and down, that an amount may have: what ``plain`` prints stays readable."""


def dec(text: str | int) -> Decimal:
    """The number that ``text`` says, to the last digit.

    Raises ``ValueError`` for a float (it has already lost the digits that the text had), for text that is no
    number, for NaN and infinities, and for anything beyond ``TEXT_LENGTH_MAX`` or ``MAGNITUDE_MAX``.
    """
    if not isinstance(text, str):
        if isinstance(text, bool) or not isinstance(text, int):
            raise ValueError(f"an amount is built from text or int, not from {type(text).__name__}: {text!r}")
        if abs(text) > 10**MAGNITUDE_MAX:
            raise ValueError(f"an amount is at most 1e{MAGNITUDE_MAX} in size")
        return Decimal(text)
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"an amount has at most {TEXT_LENGTH_MAX} characters, this one has {len(text)}")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a number: {text!r}") from None
    if not value.is_finite():
        raise ValueError(f"not a finite number: {text!r}")
    if len(text) <= MAGNITUDE_MAX and "e" not in text and "E" not in text:
        return value  # its digits are all there: no more of them than the magnitude allows
    exponent = value.as_tuple().exponent
    if abs(value.adjusted()) > MAGNITUDE_MAX or (isinstance(exponent, int) and abs(exponent) > TEXT_LENGTH_MAX):
        raise ValueError(f"an amount lies within 1e-{MAGNITUDE_MAX} and 1e{MAGNITUDE_MAX} in size: {text!r}")
    return value


def divide(a: Decimal, b: Decimal) -> Decimal:
    """``a / b``, half even to 34 digits, the same in every thread. Raises ``ZeroDivisionError`` when ``b`` is 0."""
    if not b:
        raise ZeroDivisionError(f"{a} / {b}")
    return _DIVISION.divide(a, b)


def floor_to_step(x: Decimal, step: Decimal) -> Decimal:
    """The multiple of ``step`` next to ``x`` towards zero: never more than ``x`` in size, whatever its sign."""
    _check_step(step)
    return EXACT.multiply(EXACT.divide_int(x, step), step)


def round_to_step(x: Decimal, step: Decimal) -> Decimal:
    """The multiple of ``step`` nearest to ``x``, half even."""
    _check_step(step)
    return EXACT.subtract(x, EXACT.remainder_near(x, step))


def is_on_step(x: Decimal, step: Decimal) -> bool:
    """Whether ``x`` is a whole multiple of ``step``."""
    _check_step(step)
    return not EXACT.remainder(x, step)


def plain(value: Decimal) -> str:
    """One text per number, for JSON and ids: no exponent, no trailing zeros, no minus zero. Refuses NaN, infinity."""
    if not value.is_finite():
        raise ValueError(f"not a finite number: {value}")
    if not value:
        return "0"
    text = str(value.normalize(EXACT))
    return text if "E" not in text else format(Decimal(text), "f")  # the general one takes three times as long


def _check_step(step: Decimal) -> None:
    if not step > 0:
        raise ValueError(f"a step is positive: {step}")
