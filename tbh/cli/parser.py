"""The words of the command line: a parser that speaks in one line, and what an argument may be.

Nothing here imports anything heavy: ``tbh --help`` answers at once.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TextIO

EXIT_USAGE = 64
EXIT_FAULT = 70
EXIT_CONFIGURATION = 78

CASH_MAX = Decimal("1e15")
CASH_MIN = Decimal("1e-8")
FEE_MIN = Decimal("1e-12")
"""Smaller amounts than any market counts in are slips of the pen."""

SEED_MAX = 2**63 - 1
SPEED_MAX = 1_000_000.0
SYMBOL_LENGTH_MAX = 40
_NUMBER_LENGTH_MAX = 40
_COIN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_SYMBOL = re.compile(rf"({_COIN})/(?!\1(?::|$)){_COIN}(:{_COIN})?")
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class CommandError(Exception):
    """A command can't go on: ``str`` is what the user reads, in one line, then ``exit_code``."""

    def __init__(self, text: str, *, exit_code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def one_line(text: str) -> str:
    """``text`` with escapes in place of what would break the line or steer the terminal: file names may hold both."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


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
    if not CASH_MIN <= value <= CASH_MAX:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 (at least {CASH_MIN:f}) and at most {CASH_MAX:f}")
    return value


def fee_rate(text: str) -> Decimal:
    """A fee as a fraction of the notional."""
    value = _decimal(text)
    if value and not FEE_MIN <= value < 1:
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
        if not _WHOLE.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text[:_NUMBER_LENGTH_MAX]!r}: must be a whole number")
        value = int(text) if len(text) <= _NUMBER_LENGTH_MAX else maximum + 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text[:_NUMBER_LENGTH_MAX]}: must lie between {minimum} and {maximum}")
        return value

    return parse


def speed(text: str) -> str | float:
    """``max``, ``realtime``, or bars per second."""
    if text in ("max", "realtime"):
        return text
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < value <= SPEED_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r}: must be max, realtime, or bars per second (a number above 0, at most {SPEED_MAX:.0f})"
        )
    return value


def symbol(text: str) -> str:
    """A market's symbol in the unified form: BASE/QUOTE or BASE/QUOTE:SETTLE."""
    if len(text) > SYMBOL_LENGTH_MAX or not _SYMBOL.fullmatch(text):
        shown = text[: SYMBOL_LENGTH_MAX + 1]
        raise argparse.ArgumentTypeError(f"{shown!r}: must look like BTC/USDT or BTC/USDT:USDT")
    return text


def path(text: str) -> Path:
    """A file or folder. Nothing is not the current folder: it is what a shell makes of a variable that is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a file or folder")
    return Path(text)


def _decimal(text: str) -> Decimal:
    if len(text) > _NUMBER_LENGTH_MAX or not _NUMBER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:_NUMBER_LENGTH_MAX]!r}: must be a number")
    return Decimal(text)
