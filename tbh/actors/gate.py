"""What closes entries: the gate's reasons, and the actor that hears them. Risk extends it with its verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from tbh.domain.risk import GATE_REASONS
from tbh.messages.base import Message
from tbh.messages.controls import (
    ControlsChanged,
    DatabaseAway,
    DatabaseBack,
    LeaseLapsed,
    LeaseLost,
    LeaseRenewed,
    TokenRefused,
)
from tbh.messages.health import GateChanged
from tbh.messages.journal import StoreFailed, StoreRecovered
from tbh.messages.market import FeedRecovered, FeedStale
from tbh.messages.strategy import StrategyProtectOnly
from tbh.messages.system import Restarted
from tbh.runtime.actor import Actor, Context, receive

PASSING: Final = frozenset({"order_unknown", "disk_full"})
"""Reasons that are under repair while they hold: an order is being looked for, the store tries again. What they keep
waiting is judged when they end, so that a restart of some actor does not decide over a trade."""


class Gate:
    """Each reason is held by one or more sources and ends when all have let go. ``flags`` hold for the session.

    Raises ``ValueError`` for a word that is not in ``GATE_REASONS``.
    """

    def __init__(self, flags: Iterable[str] = ()) -> None:
        self._held: set[tuple[str, str]] = set()
        self._reasons: tuple[str, ...] = ()
        for flag in flags:
            self.put(flag, True, source="flag")

    def put(self, reason: str, holds: bool, *, source: str = "") -> None:
        """Say whether ``reason`` holds, as far as ``source`` is concerned."""
        if reason not in GATE_REASONS:
            raise ValueError(f"{reason!r} is no gate reason: {', '.join(GATE_REASONS)}")
        if holds is ((reason, source) in self._held):
            return
        if holds:
            self._held.add((reason, source))
        else:
            self._held.remove((reason, source))
        held = {reason for reason, _ in self._held}
        if "lease_lapsed" not in held:
            # Without the database entries go on until the lease ends; then it is the reason behind the reason.
            held.discard("database_away")
        self._reasons = tuple(reason for reason in GATE_REASONS if reason in held)

    @property
    def reasons(self) -> tuple[str, ...]:
        """In the order of ``GATE_REASONS``; empty while entries are open."""
        return self._reasons

    @property
    def lasting(self) -> tuple[str, ...]:
        """The reasons that are not ``PASSING``."""
        return tuple(reason for reason in self._reasons if reason not in PASSING)


class GateKeeper(Actor):
    """Hears operators, lease, database, feed, store and strategy, and tells each change of the gate.

    Before the words in ``_unheard`` have been heard the gate is not known, and nobody is told anything. Subclasses
    implement ``_reconsider``.
    """

    sends: ClassVar[tuple[type[Message], ...]] = (GateChanged,)

    def __init__(self, ctx: Context, *, flags: Iterable[str]) -> None:
        super().__init__(ctx)
        self._gate = Gate(flags)
        self._gate_told: GateChanged | None = None
        self._unheard = {"account", "controls", "lease"}

    def _reconsider(self) -> None:
        """The gate, or what was not known, may have changed."""

    def _heard(self, what: str) -> None:
        self._unheard.discard(what)
        self._gate_moved()

    def _close_for(self, reason: str, holds: bool, *, source: str = "") -> None:
        self._gate.put(reason, holds, source=source)
        self._gate_moved()

    def _gate_moved(self) -> None:
        if self._unheard:
            return
        reasons = self._gate.reasons
        if self._gate_told is None or reasons != self._gate_told.reasons:
            self._gate_told = GateChanged(reasons=reasons, exits_allowed="lease_lost" not in reasons)
            self.ctx.send(self._gate_told)
        self._reconsider()

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if restarted.actor != self.ctx.name and self._gate_told is not None:
            self.ctx.send(self._gate_told)

    # Operators

    @receive
    def on_controls(self, controls: ControlsChanged) -> None:
        self._gate.put("paused", controls.paused)
        self._gate.put("killed", controls.killed)
        self._gate.put("observe_only", controls.observe_only, source="controls")
        self._gate.put("subscription_inactive", not controls.subscription_active)
        self._heard("controls")

    def on_halt(self, reason: str, exit_code: int) -> None:
        self.ctx.log.warning("entries_halted", reason=reason)
        self._close_for("kill_switch", True, source="halt")

    # Lease and database

    @receive
    def on_lease_renewed(self, _: LeaseRenewed) -> None:
        self._gate.put("lease_lapsed", False)
        self._heard("lease")

    @receive
    def on_lease_lapsed(self, _: LeaseLapsed) -> None:
        self._gate.put("lease_lapsed", True)
        self._heard("lease")

    @receive
    def on_lease_lost(self, _: LeaseLost) -> None:
        self._gate.put("lease_lost", True)
        self._heard("lease")

    @receive
    def on_token_refused(self, _: TokenRefused) -> None:
        self._close_for("token_refused", True)

    @receive
    def on_database_away(self, _: DatabaseAway) -> None:
        self._close_for("database_away", True)

    @receive
    def on_database_back(self, _: DatabaseBack) -> None:
        self._close_for("database_away", False)

    # Data, disk, strategy

    @receive
    def on_feed_stale(self, _: FeedStale) -> None:
        self._close_for("stale_data", True)

    @receive
    def on_feed_recovered(self, _: FeedRecovered) -> None:
        self._close_for("stale_data", False)

    @receive
    def on_store_failed(self, _: StoreFailed) -> None:
        self._close_for("disk_full", True)

    @receive
    def on_store_recovered(self, _: StoreRecovered) -> None:
        self._close_for("disk_full", False)

    @receive
    def on_protect_only(self, _: StrategyProtectOnly) -> None:
        self._close_for("observe_only", True, source="strategy")
