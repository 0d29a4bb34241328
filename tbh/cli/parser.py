"""The words of the command line: a parser that speaks in one line, and what an argument may be.

Nothing here imports anything heavy: ``tbh --help`` answers at once.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TextIO

EXIT_USAGE = 64
EXIT_FAULT = 70
EXIT_CONFIGURATION = 78

CASH_MAX = Decimal("1e15")
SEED_MAX = 2**63 - 1
SPEED_MAX = 1_000_000.0
SYMBOL_LENGTH_MAX = 40
_NUMBER_LENGTH_MAX = 40
_SYMBOL = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(:[A-Za-z0-9._-]+)?")


class CommandError(Exception):
    """A command can't go on: ``str`` is what the user reads (one line for each thing wrong), then ``exit_code``."""

    def __init__(self, text: str, *, exit_code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Parser(argparse.ArgumentParser):
    """argparse, except that a mistake is one line and ``CommandError(64)``, and output that fails is not swallowed."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see '{self.prog} --help'", exit_code=EXIT_USAGE)

    def _print_message(self, message: str, file: TextIO | None = None) -> None:  # type: ignore[override]  # narrower
        print(message, end="", file=file)


def cash(text: str) -> Decimal:
    """An amount of money."""
    value = _decimal(text)
    if not 0 < value <= CASH_MAX:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most {CASH_MAX:f}")
    return value


def fee_rate(text: str) -> Decimal:
    """A fee as a fraction of the notional."""
    value = _decimal(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a fraction from 0 to below 1 (0.001 is 0.1 %)")
    return value


def share(text: str) -> Decimal:
    """A share above 0, at most 1."""
    value = _decimal(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a fraction above 0 and at most 1")
    return value


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """The type of whole numbers from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        try:
            value = int(text) if len(text) <= _NUMBER_LENGTH_MAX else maximum + 1
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number") from None
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text[:_NUMBER_LENGTH_MAX]}: must lie between {minimum} and {maximum}")
        return value

    return parse


def speed(text: str) -> str | float:
    """``max``, ``realtime``, or bars per second."""
    if text in ("max", "realtime"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= SPEED_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be max, realtime, or bars per second (a number above 0, at most {SPEED_MAX:.0f})"
        )
    return value


def symbol(text: str) -> str:
    """A market's symbol in the unified form: BASE/QUOTE or BASE/QUOTE:SETTLE."""
    if len(text) > SYMBOL_LENGTH_MAX or not _SYMBOL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: must look like BTC/USDT or BTC/USDT:USDT")
    return text


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text) if len(text) <= _NUMBER_LENGTH_MAX else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise argparse.ArgumentTypeError(f"{text[:_NUMBER_LENGTH_MAX]!r}: must be a number")
    return value
