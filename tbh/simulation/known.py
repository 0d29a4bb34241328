"""What has been seen of each process from inside, as far as promises are judged by it; a part of ``History``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from tbh.messages.orders import Fill
from tbh.simulation import inside, steps

TORN_KEPT_MAX: Final = 8


class Known:
    """Folded from the steps of ``inside``. All by boot id, with the instant (ns) from which on it has been so: ``bare``
    and ``left`` as the last looks had them, ``held`` the position as it was told, ``closed`` (by the operator),
    ``halted`` and ``refused`` (another owns the bot?) what the process has been told; those ``deaf`` were in the middle
    of a call then and have sent nothing since: behind a call one more may follow, behind that one the word is heard.
    ``failed`` is when an actor of a process has last failed, ``torn`` are the times of the latest readings that an
    event fell into, ``stored`` the trades on each disk, ``recorded`` the decisions that were on the disk when a
    process said so."""

    def __init__(self) -> None:
        self.bare: dict[str, tuple[str, int]] = {}
        self.left: dict[str, tuple[str, int]] = {}
        self.held: dict[str, tuple[Decimal, int]] = {}
        self.torn: dict[str, list[datetime]] = {}
        self.closed: dict[str, int] = {}
        self.halted: dict[str, int] = {}
        self.refused: dict[str, tuple[int, bool]] = {}
        self.failed: dict[tuple[str, str], int] = {}
        self.deaf: set[str] = set()
        self.stored: dict[str, set[str]] = {}
        self.recorded: set[tuple[str, str]] = set()

    def take(self, step: Any, now_ns: int) -> None:
        """The step has happened."""
        fold = _FOLDS.get(type(step))
        if fold is not None:
            fold(self, step, now_ns)

    def commit(self, store_id: str, fills: list[Fill]) -> None:
        """A disk has come to hold these fills."""
        if fills:
            self.stored.setdefault(store_id, set()).update(fill.trade_id for fill in fills)

    def _looked(self, step: inside.Looked, now_ns: int) -> None:
        for seen, name in ((self.bare, step.bare), (self.left, step.left)):
            if name is None:
                seen.pop(step.boot, None)
            elif seen.get(step.boot, ("", 0))[0] != name:
                seen[step.boot] = (name, now_ns)

    def _holds(self, step: inside.PositionHeld, now_ns: int) -> None:
        before = self.held.get(step.boot)
        if before is None or not before[0] or not step.qty or (before[0] > 0) is not (step.qty > 0):
            self.held[step.boot] = (step.qty, now_ns)

    def _snapshot(self, step: inside.SnapshotTold, _: int) -> None:
        if step.torn:
            torn = self.torn.setdefault(step.boot, [])
            torn.append(step.at)
            del torn[:-TORN_KEPT_MAX]

    def _called_recorded(self, step: inside.CalledRecorded, _: int) -> None:
        if step.stored:
            self.recorded.add((step.boot, step.decision_id))

    def _controls(self, step: inside.ControlsHeard, now_ns: int) -> None:
        if step.closed:
            self.closed.setdefault(step.boot, now_ns)
        else:
            self.closed.pop(step.boot, None)

    def _halt(self, step: inside.Halted, now_ns: int) -> None:
        self.halted.setdefault(step.boot, now_ns)
        if step.busy:
            self.deaf.add(step.boot)

    def sent(self, step: steps.OrderSigned | inside.CancelSent, _: int = 0) -> None:
        """The process has called the exchange: behind this call it hears what it was told during the last."""
        self.deaf.discard(step.boot)

    def _refusal(self, step: inside.DatabaseRefused, now_ns: int) -> None:
        self.refused.setdefault(step.boot, (now_ns, step.owned))
        if step.busy:
            self.deaf.add(step.boot)


_FOLDS: dict[type, Callable[[Known, Any, int], None]] = {
    inside.Looked: Known._looked,
    inside.PositionHeld: Known._holds,
    inside.SnapshotTold: Known._snapshot,
    inside.CalledRecorded: Known._called_recorded,
    inside.ControlsHeard: Known._controls,
    inside.Halted: Known._halt,
    inside.DatabaseRefused: Known._refusal,
    inside.CancelSent: Known.sent,
}

KNOWN_STEPS: Final = tuple(_FOLDS)
"""What ``Known.take`` takes."""
