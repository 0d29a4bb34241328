"""What a strategy is: closed bars in, wishes out.

A strategy is pure. It is given its history once and then one closed bar at a time; what it wishes on a bar depends on
those bars and the position alone, so a restart, a backtest and a live run that saw the same bars wish the same. It
knows no clock, no account and no order: sizes become quantities, and wishes orders, further down the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from tbh.messages.base import message
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side
from tbh.messages.strategy import Cooldown, Limit, Sizing

if TYPE_CHECKING:  # a backtest has no account, and does not wait for its messages
    from tbh.messages.account import Position

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@message
class Wish:
    """One thing a strategy wants on the close of a bar. ``purpose`` is ENTRY, PYRAMID or EXIT.

    ``side`` is the order's side: an EXIT of a long position sells. ``layer`` counts from 0 for the entry and is the
    number of layers already held for a PYRAMID. An EXIT has neither sizing nor protection: it closes what is open.
    ``cooldown`` is what an ENTRY has to wait for; whether it does, is judged by the account.
    Without a ``limit`` what increases risk is for a market order, as every EXIT is.
    """

    side: Side
    purpose: Purpose
    layer: int = 0
    sizing: Sizing | None = None
    protection: Protection | None = None
    cooldown: Cooldown | None = None
    limit: Limit | None = None
    reason: str = ""


@message
class View:
    """All that a decision may look at. ``columns`` are read-only, one value per bar, the last one this bar's.

    ``bar_index`` counts from the first bar ever loaded or appended; the columns may hold fewer bars than that.
    """

    bar_index: int
    candle: Candle
    position: Position | None
    columns: Mapping[str, FloatArray]


class Strategy(Protocol):
    """``warmup`` is the number of leading bars on which some value the strategy refers to is still null."""

    @property
    def name(self) -> str: ...

    @property
    def timeframe_s(self) -> int: ...

    @property
    def warmup(self) -> int: ...

    @property
    def bar_count(self) -> int:
        """Bars loaded and appended so far."""

    @property
    def warm(self) -> bool:
        """Whether every value referred to has one on the last bar: ``bar_count > warmup``."""

    def load(self, history: Sequence[Candle]) -> None:
        """Replace all series by ``history`` (closed bars, oldest first)."""

    def append(self, candle: Candle) -> None:
        """Add one more closed bar."""

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        """Decide on the last bar. An EXIT stands before the ENTRY that reverses it. ValueError before the first bar."""
