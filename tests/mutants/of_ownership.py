"""Defects of whose bot it is: the lease, the epoch, the token, the operator's word, the time that is left."""

from __future__ import annotations

import math
from dataclasses import replace

from tbh.actors.control_poller import ControlPollerActor
from tbh.actors.database_link import DatabaseLink
from tbh.actors.gate import GateKeeper
from tbh.actors.gateway import GatewayActor
from tbh.actors.order_manager import OrderManagerActor
from tbh.actors.order_path import OrderPath
from tbh.domain.takeover import LeaseWatch, Watch
from tbh.runtime.cell import Cell
from tbh.runtime.context import CellContext
from tests.mutants.mutation import also, defect

# The lease


@defect("the lease is not looked at before an entry is sent", GatewayActor, "on_lease_renewed")
def lease_not_checked(original, self, lease):
    original(self, replace(lease, deadline_s=math.inf))


@also("lease_not_checked", GatewayActor, "on_lease_lapsed")
def _deaf_to_lapses(original, self, lapsed):
    self._hear_lease()


@also("lease_not_checked", GateKeeper, "on_lease_lapsed")
def _open_in_spite_of_lapses(original, self, lapsed):
    self._heard("lease")


@defect(
    "the lease's end is believed when it is told, and not looked at before sending", GatewayActor, "on_lease_renewed"
)
def lease_checked_by_hearsay(original, self, lease):
    original(self, replace(lease, deadline_s=math.inf))


@defect("the lease counts from the answer to its renewal", ControlPollerActor, "_renewed")
def lease_counted_from_the_answer(original, self, lease, sent_s):
    original(self, lease, self.ctx.monotonic())


@defect("the lease has no margin", ControlPollerActor, "_renewed")
def lease_without_margin(original, self, lease, sent_s):
    original(self, lease, sent_s + 2 * self._margin_s)


@defect("a rival takes a lease whose holder still renews it", LeaseWatch, "look")
def living_holder_overtaken(original, self, *, holder, renewals, lease_s, now_s):
    original(self, holder=holder, renewals=renewals, lease_s=lease_s, now_s=now_s)
    return Watch.TAKE


# The operator's word


@defect("a pause is acknowledged and not heeded", GateKeeper, "on_controls")
def pause_ignored(original, self, controls):
    original(self, replace(controls, paused=False))


@defect("a kill is acknowledged and not heeded", GateKeeper, "on_controls")
def kill_ignored(original, self, controls):
    original(self, replace(controls, killed=False))


@defect("controls are acknowledged before they are carried out", ControlPollerActor, "_acknowledge")
def controls_acknowledged_early(original, self):
    flattened, self._flattened = self._flattened, self._flatten_id()
    try:
        original(self)
    finally:
        self._flattened = flattened


# Time


@defect("an order is signed however late it is", GatewayActor, "_refusal")
def expiry_ignored(original, self, order):
    return original(self, replace(order, expires_at=None))


@also("expiry_ignored", GatewayActor, "_within_lease")
def _for_ever(original, self, order):
    return replace(original(self, order), expires_at=None)


@also("expiry_ignored", OrderPath, "_place")
def _placed_late(original, self, state):
    original(self, replace(state, order=replace(state.order, expires_at=None)))


@defect("timers outlive the incarnation that set them", Cell, "_tick")
def timers_survive_restart(original, self, envelope, msg):
    envelope.incarnation = self.incarnation
    original(self, envelope, msg)


@also("timers_survive_restart", CellContext, "fires")
def _fires_anyway(original, self, due):
    original(self, due)
    return True


@also("timers_survive_restart", CellContext, "die")
def _leaves_its_timers(original, self):
    self._timers.clear()
    original(self)


# Whose bot it is


@defect("a lease that another has taken is not heeded", GatewayActor, "on_lease_lost")
def lease_lost_ignored(original, self, lost):
    self._hear_lease()


@also("lease_lost_ignored", GateKeeper, "on_lease_lost")
def _open_to_losses(original, self, lost):
    self._heard("lease")


@also("lease_lost_ignored", GatewayActor, "on_halt")
def _halted_like_any(original, self, reason, exit_code):
    """The second safeguard: the word overtakes what waits in the mailbox."""
    original(self, reason, 70)


@defect("the database's word that the epoch is over counts as a call that failed", DatabaseLink, "_on_refusal")
def epoch_ignored(original, self, refusal):
    if refusal.reason == "stale_epoch":
        self._tell_refused(refusal)
    else:
        original(self, refusal)


@defect("a refused token counts as a call that failed", DatabaseLink, "_on_refusal")
def token_refused_ignored(original, self, refusal):
    if refusal.reason == "runtime_token_invalid":
        self._tell_refused(refusal)
    else:
        original(self, refusal)


@defect(
    "entries go on after the halt with which a process begins to end, its token refused or not", GatewayActor, "on_halt"
)
def halt_ignored(original, self, reason, exit_code):
    """The gateway sends on."""


@also("halt_ignored", GateKeeper, "on_halt")
def _open_in_spite_of_it(original, self, reason, exit_code):
    """Risk approves on."""


@also("halt_ignored", OrderManagerActor, "on_halt")
def _serves_on(original, self, reason, exit_code):
    """Entries are drafted, and what is open of them stays."""


@also("halt_ignored", GateKeeper, "on_token_refused")
def _and_of_its_token(original, self, refused):
    """The second safeguard, where it is the token's end that ends the process."""
