"""What a cell needs of whoever drives it: the seam between the kernel and its three hosts."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from tbh.messages.base import Message
from tbh.runtime.actor import Log
from tbh.runtime.mailbox import Envelope

if TYPE_CHECKING:
    from tbh.runtime.cell import Cell

Intercept = Callable[[str, Envelope], None]
"""Called before each delivery with the actor's name; what it raises is the actor's failure (fault injection)."""


class Host(Protocol):
    """Threads, Probe and simulator. Only ``route``, ``escalate`` and the clocks may be called from any thread; the
    rest is called by the cell's own."""

    intercept: Intercept | None

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...

    def route(self, sender: str, message: Message, cause: int) -> None:
        """Deliver to whoever receives the type. ``LookupError`` when nobody does, but for the kernel's own facts."""

    def requeue(self, cell: Cell, envelopes: list[Envelope]) -> None:
        """Put stashed envelopes before everything that waits, in their order."""

    def suspend(self, cell: Cell) -> None:
        """From now on the cell gets urgent messages only."""

    def resume(self, cell: Cell) -> None: ...

    def start_timer(self, cell: Cell, delay_s: float, timer: Message, incarnation: int) -> Any:
        """Deliver ``timer`` to the cell itself after ``delay_s`` of process time; a token for ``stop_timer``."""

    def stop_timer(self, token: Any) -> None: ...

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        """The bot must stop; the first call counts."""

    def random_for(self, name: str) -> random.Random: ...
    def log_for(self, name: str) -> Log: ...
