"""Claiming the lease: for the composer, which needs it before there is a tree, then for the control poller."""

from __future__ import annotations

from collections.abc import Callable

from tbh.domain.takeover import LeaseWatch, Watch
from tbh.ports import Fatal, Lease, LeaseHeld, Rpc

EXIT_OWNED = 75


class Claimant:
    """One boot's way to the lease of its bot. ``attempt`` until it gives one.

    ``previous_boot_ids`` are the boots that had this state directory before: their leases are ours to take over, for
    the directory's lock says that they are gone. Anybody else's is taken only as ``LeaseWatch`` allows.
    """

    def __init__(
        self, rpc: Rpc, *, previous_boot_ids: tuple[str, ...], lease_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._rpc = rpc
        self._previous = previous_boot_ids
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._watch = LeaseWatch()
        self.held: LeaseHeld | None = None

    def attempt(self) -> Lease | None:
        """The lease, or None while its holder's must still be watched (``held`` says whose, ``wait_s`` how long).

        ``Fatal(75)`` when the holder lives; else the failures of ``Rpc.claim``.
        """
        try:
            return self._claim(self._previous[0] if self._previous else None)
        except LeaseHeld as held:
            if held.boot_id in self._previous:
                return self._claim(held.boot_id)
            return self._look(held)

    def wait_s(self) -> float:
        """How long until another attempt may succeed; also how soon a living holder is found out."""
        if self.held is None:
            return 0.0
        return max(0.02, min(self._watch.left_s(self.held.lease_s, self._monotonic()), self.held.lease_s / 10))

    def _look(self, held: LeaseHeld) -> Lease | None:
        self.held = held
        verdict = self._watch.look(
            holder=held.boot_id, renewals=held.renewals, lease_s=held.lease_s, now_s=self._monotonic()
        )
        if verdict is Watch.OWNED:
            detail = (
                f"another runtime owns the bot: boot {held.boot_id} has just renewed its lease; stop that one first"
            )
            raise Fatal("lease_held", exit_code=EXIT_OWNED, detail=detail)
        if verdict is Watch.WAIT:
            return None
        try:
            return self._claim(None, seen_renewals=self._watch.renewals)
        except LeaseHeld as still:
            self.held = still
            return None

    def _claim(self, previous_boot_id: str | None, *, seen_renewals: int | None = None) -> Lease:
        return self._rpc.claim(previous_boot_id=previous_boot_id, seen_renewals=seen_renewals, lease_s=self._lease_s)
