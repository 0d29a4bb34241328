"""What the hosts of a whole tree have in common: its parts, chance and logs by name, and the one escalation."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from tbh.messages.base import Message
from tbh.messages.system import Halt
from tbh.runtime.actor import Log, NullLog
from tbh.runtime.cell import Cell
from tbh.runtime.host import Intercept
from tbh.runtime.mailbox import Envelope
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.wiring import KERNEL_SENDS, Routes, check_wiring


class TreeHost(ABC):
    """A tree of actors and what its composer sees of it. ``escalated`` is set once, with ``escalation`` holding
    (actor, reason, exit code) of the first escalation; ``on_settled`` may be set until ``start``."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        now: Callable[[], datetime],
        seed: int | str,
        log: Callable[[str], Log] | None,
        external: Iterable[type[Message]],
        on_settled: Callable[[], None] | None,
        intercept: Intercept | None,
    ) -> None:
        self.specs = tuple(specs)
        self.now = now
        self.intercept = intercept
        self.on_settled = on_settled
        self.escalation: tuple[str, str, int] | None = None
        self.escalated = threading.Event()
        self._seed = seed
        self._log = log or (lambda _name: NullLog())
        self._external = tuple(external)
        self._first_wins = threading.Lock()

    def prove_wiring(self) -> Routes:
        """The routes of the tree. ``WiringError`` lists every reason why it cannot work."""
        return check_wiring(self.specs, external=self._external)

    # ------------------------------------------------------------ what the composer calls

    @property
    @abstractmethod
    def cells(self) -> tuple[Cell, ...]:
        """The cells, for reading their counters (restarts, dead letters, high water)."""

    @abstractmethod
    def tell(self, name: str, message: Message) -> None:
        """From the composer to one actor by name (kernel orders)."""

    @abstractmethod
    def route(self, sender: str, message: Message, cause: int) -> None:
        """Deliver to whoever receives the type."""

    def publish(self, message: Message) -> None:
        """From the composer to whoever receives the type (one of ``external``)."""
        self.route("host", message, 0)

    def halt(self, reason: str, exit_code: int = 70) -> None:
        """Tell every actor, urgently, to take no more risk, and how the process will end."""
        for spec in self.specs:
            self.tell(spec.name, Halt(reason=reason, exit_code=exit_code))

    # ------------------------------------------------------------ what cells need

    def random_for(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")

    def log_for(self, name: str) -> Log:
        return self._log(name)

    def suspend(self, cell: Cell) -> None:
        cell.mailbox.suspended = True

    def resume(self, cell: Cell) -> None:
        cell.mailbox.suspended = False

    def escalate(self, actor: str, reason: str, exit_code: int) -> None:
        with self._first_wins:
            first = self.escalation is None
            if first:
                self.escalation = (actor, reason, exit_code)
        self.escalated.set()  # before the log, which may be what failed
        log = self._log(actor)
        (log.error if first else log.debug)("escalated", reason=reason, exit_code=exit_code)

    def overflowed(self, cell: Cell, envelope: Envelope) -> None:
        """A fact or command found the mailbox full: nothing may be lost in silence, so the bot halts."""
        reason = f"mailbox full ({cell.spec.max_waiting}), {type(envelope.message).__name__} from {envelope.sender}"
        self.escalate(cell.name, reason, 70)
        cell.set_aside(envelope, "mailbox full")

    def _unrouted(self, message: Message) -> None:
        if not isinstance(message, KERNEL_SENDS):
            raise LookupError(f"{type(message).__name__} has no route")
