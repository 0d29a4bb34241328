"""Strategies written in Python: what one is, and what it is shown.

A class with ``history`` and ``on_bar`` is one; docs/STRATEGIES.md says how to write, test and install it.
A backtest, a demo and a bot run the same instance methods on the same values (``tbh/strategies/runner.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from tbh.messages.base import message
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side, Trailing
from tbh.messages.strategy import Sizing, SizingKind
from tbh.strategies.base import FloatArray, Wish
from tbh.strategies.references import unknown

__all__ = [
    "BarView",
    "CustomStrategy",
    "Held",
    "Protection",
    "Side",
    "Sizing",
    "SizingKind",
    "StrategyError",
    "Trailing",
    "Wish",
    "fraction",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION_STEP = Decimal("1e-8")


class StrategyError(ValueError):
    """A custom strategy can't be made, or has failed on a bar: one line that names it, the bar and what happened."""


@message
class Held:
    """The position at the close of a bar. ``qty`` is base, above zero; ``entry_price`` the average cost in quote.

    ``layers`` counts the entry and the pyramids on top of it. ``since`` is when the bar opened (aware UTC) whose close
    gave the entry.
    """

    side: Side
    qty: Decimal
    entry_price: Decimal
    layers: int
    since: datetime


class Window(Mapping[str, FloatArray]):
    """The rows from ``start`` to before ``stop`` of every column, read-only."""

    __slots__ = ("_columns", "_start", "_stop")

    def __init__(self, columns: Mapping[str, FloatArray], start: int, stop: int) -> None:
        self._columns = columns
        self._start = start
        self._stop = stop

    def __getitem__(self, column: str) -> FloatArray:
        try:
            return self._columns[column][self._start : self._stop]
        except KeyError:
            raise KeyError(unknown("column", column, self._columns)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class BarView:
    """One closed bar, with all that a decision on it may look at; nothing in it can be written to.

    ``columns`` maps ``open``, ``high``, ``low``, ``close``, ``volume`` and ``{id}__{output}`` of the strategy's
    ``indicators`` to float64 arrays of exactly ``history`` rows, oldest first, the last one this bar's; none of them is
    null unless the catalogue says that the output may be. ``position`` is None when flat.
    """

    __slots__ = ("_candle", "_time_ms", "columns", "position")

    def __init__(
        self,
        *,
        columns: Mapping[str, FloatArray],
        position: Held | None,
        time_ms: int,
        candle: Candle | Callable[[], Candle],
    ) -> None:
        self.columns = columns
        self.position = position
        self._time_ms = time_ms
        self._candle = candle

    @property
    def open_time(self) -> datetime:
        """When the bar opened (aware UTC)."""
        return _EPOCH + timedelta(milliseconds=self._time_ms)

    @property
    def candle(self) -> Candle:
        """The bar with its prices as Decimal."""
        made = self._candle
        if not isinstance(made, Candle):
            made = self._candle = made()
        return made

    def enter(
        self,
        side: Side,
        *,
        sizing: Sizing | None = None,
        protection: Protection | None = None,
        reason: str = "",
    ) -> Wish:
        """Open a position at the next open; without ``sizing`` and ``protection`` as the strategy declares them."""
        return Wish(side=side, purpose=Purpose.ENTRY, sizing=sizing, protection=protection, reason=reason)

    def add(self, *, sizing: Sizing | None = None, reason: str = "") -> Wish:
        """Add a layer to the position. ``StrategyError`` without one."""
        held = self._held("add to")
        return Wish(side=held.side, purpose=Purpose.PYRAMID, layer=held.layers, sizing=sizing, reason=reason)

    def leave(self, *, reason: str = "") -> Wish:
        """Close the position. ``StrategyError`` without one."""
        return Wish(side=self._held("leave").side.opposite, purpose=Purpose.EXIT, reason=reason)

    def _held(self, verb: str) -> Held:
        if self.position is None:
            raise StrategyError(f"there is no position to {verb}; look at view.position first")
        return self.position


class CustomStrategy(Protocol):
    """What a class has to have. It is made with its checked parameters (``Params``), or with nothing if it has none.

    ``history`` (1 to 25,000) is how many closed bars ``on_bar`` is shown; it is not asked before there are so many.
    ``on_bar`` returns what it wants at the next open: nothing, an exit, an entry while flat, an exit and the opposite
    entry (a reversal), or an addition to the position. It must be pure: the same view gives the same answer, whatever
    was asked before. No clock, no chance, no input or output.

    A class may also have

    - ``Params``: a pydantic model or a dataclass, the parameters with their types, ranges and defaults;
    - ``indicators``: uses of the catalogue, as in a definition (``[{"id": "fast", "name": "ema", "params": {...}}]``);
    - ``sizing``, ``stops``: the defaults of its entries, as in a definition. Without ``sizing`` each entry names one;
    - ``evaluate_all(columns)``: all decisions at once, for the full speed of the fast engine. It is given a mapping of
      the same columns over all n bars (and ``time``, ms UTC) and returns a mapping of ``entry_long``, ``entry_short``,
      ``exit_long``, ``exit_short`` (any of them) to n booleans, with the meaning that a definition's rules have. Where
      it disagrees with ``on_bar``, the backtest is refused.
    """

    history: int

    def on_bar(self, view: BarView, /) -> Sequence[Wish]: ...


def fraction(value: float | str | Decimal) -> Decimal:
    """A share of a price for ``Protection`` and ``Sizing``, from a float with 8 decimals. ``ValueError`` for what is no
    finite number."""
    number = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError(f"a fraction is a finite number, not {number}")
    return number.quantize(_FRACTION_STEP) if isinstance(value, float) else number
