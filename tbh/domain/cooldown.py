"""When positions ended last, by how: what a cool-down is counted from.

Fills tell it, so it is the same after a restart, on another machine and in a backtest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tbh.messages.account import Trade
from tbh.messages.orders import Purpose
from tbh.messages.strategy import CooldownAfter

_BY_STOP: Final = (Purpose.STOP.value, Purpose.EMERGENCY.value)
"""An emergency closes what no stop could be placed for."""


class Endings:
    """One symbol's latest ends. Owned by one actor."""

    def __init__(self) -> None:
        self._latest: dict[CooldownAfter, datetime] = {}

    def note(self, trade: Trade) -> None:
        """Take the end of a round trip."""
        _note(self._latest, trade)

    def latest(self, residue: Trade | None = None) -> Mapping[CooldownAfter, datetime]:
        """The market time of the latest end of each kind; ``residue`` is a round trip that ended but for its dust."""
        if residue is None:
            return self._latest
        latest = dict(self._latest)
        _note(latest, residue)
        return latest


def _note(latest: dict[CooldownAfter, datetime], trade: Trade) -> None:
    for after, counts in (
        (CooldownAfter.ANY, True),
        (CooldownAfter.LOSS, trade.pnl < 0),
        (CooldownAfter.STOP, trade.exit_reason in _BY_STOP),
    ):
        if counts:
            latest[after] = max(trade.exit_time, latest.get(after, trade.exit_time))
