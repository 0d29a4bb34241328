"""Whether a busy actor gets anywhere."""

from __future__ import annotations

from tbh.runtime.cell import Cell

GAP_S = 2.0
"""Looks come four times a second; after a longer gap the process itself had stood still, and no actor is to blame."""


class Progress:
    """How long one cell has been at the same delivery (or constructor), as far as looks from outside can tell."""

    def __init__(self) -> None:
        self.hung = False
        self._handled = -1
        self._since_s = 0.0
        self._looked_s = 0.0

    def look(self, cell: Cell, now_s: float) -> float | None:
        """At ``now_s`` on the process clock: for how many seconds it has hung, told once per hang; else None."""
        gap_s, self._looked_s = now_s - self._looked_s, now_s
        if gap_s > GAP_S:
            self._since_s += gap_s
        if not self.stands_still(cell):
            self._handled = cell.handled
            self._since_s = now_s
            self.hung = False
        elif now_s - self._since_s > cell.spec.hung_after_s and not self.hung:
            self.hung = True
            return now_s - self._since_s
        return None

    def stands_still(self, cell: Cell) -> bool:
        """Whether it is busy with what it was busy with at the last look."""
        return cell.busy and self._handled == cell.handled
