"""The corrections that operators had made, as every actor that keeps a book finds them at its start."""

from __future__ import annotations

from typing import Final

from tbh.domain.adjustment import from_text
from tbh.messages.account import Adjustment
from tbh.ports import Fatal, StoreReader

ADJUSTMENTS: Final = "adjustments"
"""Meta key: every correction so far (``tbh/domain/adjustment.py`` has its form)."""


def stored_adjustments(store: StoreReader, symbol: str | None = None) -> tuple[Adjustment, ...]:
    """Those of one symbol, or of all, in the order in which they were made. ``Fatal`` (70) when they can't be read."""
    try:
        stored = from_text(store.meta(ADJUSTMENTS))
    except ValueError as error:
        raise Fatal("row_unreadable", exit_code=70, detail=f"adjustments: {error}") from error
    return tuple(one for one in stored if symbol in (None, one.symbol))
