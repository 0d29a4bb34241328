"""The gate: which of the reasons that close entries hold just now. A part of risk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tbh.domain.risk import GATE_REASONS

PASSING: Final = frozenset({"order_unknown", "disk_full"})
"""Reasons that are under repair while they hold: an order is being looked for, the store tries again. What they keep
waiting is judged when they end, so that a restart of some actor does not decide over a trade."""


class Gate:
    """Each reason is held by one or more sources and ends when all have let go. ``flags`` hold for the session.

    Raises ``ValueError`` for a word that is not in ``GATE_REASONS``.
    """

    def __init__(self, flags: Iterable[str] = ()) -> None:
        self._held: set[tuple[str, str]] = set()
        for flag in flags:
            self.put(flag, True, source="flag")

    def put(self, reason: str, holds: bool, *, source: str = "") -> None:
        """Say whether ``reason`` holds, as far as ``source`` is concerned."""
        if reason not in GATE_REASONS:
            raise ValueError(f"{reason!r} is no gate reason: {', '.join(GATE_REASONS)}")
        if holds:
            self._held.add((reason, source))
        else:
            self._held.discard((reason, source))

    @property
    def reasons(self) -> tuple[str, ...]:
        """In the order of ``GATE_REASONS``; empty while entries are open."""
        held = {reason for reason, _ in self._held}
        if "lease_lapsed" not in held:
            # Without the database entries go on until the lease ends; then it is the reason behind the reason.
            held.discard("database_away")
        return tuple(reason for reason in GATE_REASONS if reason in held)

    @property
    def lasting(self) -> tuple[str, ...]:
        """The reasons that are not ``PASSING``."""
        return tuple(reason for reason in self.reasons if reason not in PASSING)
