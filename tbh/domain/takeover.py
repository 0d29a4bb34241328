"""When a rival may take a lease: the rule for a process that finds its bot in somebody else's hands.

The holder's row must have expired by the database's clock, which the database checks, *and* the rival must have seen
the renewal counter unchanged for one whole lease on its own clock, which nobody can step. So a database clock that
jumps forward takes no bot away from its owner.
"""

from __future__ import annotations

from enum import Enum

LEASE_S = 30.0
"""How long a lease is where nobody says otherwise."""


class Watch(Enum):
    """What a look at the holder's row means: wait on, try to take the lease, or give way to a living owner."""

    WAIT = "wait"
    TAKE = "take"
    OWNED = "owned"


class LeaseWatch:
    """Follows one holder. Feed it every look; times are seconds on the rival's own monotonic clock.

    A look is dated by when it was *answered*, and a lease counts from there: the counter may have been renewed just
    before, never later. A row that changes hands is watched anew.
    """

    def __init__(self) -> None:
        self._holder = ""
        self._renewals = 0
        self._since_s = 0.0

    @property
    def renewals(self) -> int:
        """The counter as it has stood since the watch began."""
        return self._renewals

    def look(self, *, holder: str, renewals: int, lease_s: float, now_s: float) -> Watch:
        """What the row of ``holder`` means now. ``OWNED`` once its counter has moved: whoever renews lives."""
        if holder != self._holder:
            self._holder, self._renewals, self._since_s = holder, renewals, now_s
            return Watch.WAIT
        if renewals != self._renewals:
            self._renewals, self._since_s = renewals, now_s
            return Watch.OWNED
        return Watch.TAKE if now_s - self._since_s >= lease_s else Watch.WAIT

    def left_s(self, lease_s: float, now_s: float) -> float:
        """How long the counter must still stand as it does."""
        return max(0.0, self._since_s + lease_s - now_s)
