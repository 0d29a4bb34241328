"""The control poller: holds the lease, says that the bot lives, and brings the operator's word.

The lease is claimed before anything else is done. Each heartbeat renews it until the time at which it was *sent*, plus
the lease, less a margin; an answer that comes late therefore never stretches it. Without an answer the lease lapses by
itself, on a timer. Another owner, or a token that is refused, ends the bot.

Whatever risk and the gateway need to know is told again when one of them restarts. Until the operator's controls are
known they count as paused, so that what reduces risk need not wait for the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tbh.actors.bot_state import BotState
from tbh.actors.claimant import Claimant
from tbh.actors.database_link import DatabaseLink
from tbh.actors.identity import BotIdentity
from tbh.messages.account import AdoptPosition, Marked, PositionChanged, PositionSynced
from tbh.messages.base import Fact, Timer, message
from tbh.messages.controls import (
    ControlsChanged,
    HeartbeatSent,
    LeaseLapsed,
    LeaseRenewed,
    OperatorRequest,
    RequestDone,
    ResolveOrder,
)
from tbh.messages.health import GateChanged, Notice, Severity
from tbh.messages.orders import Flatten, Flattened
from tbh.messages.system import Restarted
from tbh.ports import Controls, Lease, Rpc
from tbh.runtime.actor import Actor, Context, receive

LOOK_FOR_KILL_EVERY_S = 1.0
FLATTEN_EVERY_S = 5.0
BEATS_PER_LEASE = 3
"""A heartbeat goes out so often that two in a row may fail before the lease ends."""

BEATS_PER_INCARNATION = 1_000_000_000
"""The numbers of a boot's heartbeats only rise, also when this actor begins anew."""

_UNKNOWN_CONTROLS: Final = Controls(version=0, paused=True)


@message
class _Beat(Timer):
    """Time for the next heartbeat, or for the next try."""


@message
class _Deadline(Timer):
    """The lease ends now."""


@message
class _LookForKill(Timer):
    """Is there a local order to stop?"""


class ControlPollerActor(Actor):
    """``tier_s`` is how often a heartbeat is asked for, ``jitter_s`` by how much it may come later, so that a fleet
    does not beat as one; the lease may make it more often.

    ``previous_boot_ids`` name the boots that this state directory belonged to, so that a restart takes over at once.
    ``killed_locally``: whether an operator on this machine has killed the bot (None: nobody can). ``Fatal(75)`` when
    another runtime owns it, ``Fatal(77)`` for a refused token, ``ValueError`` for a lease within its margin.
    """

    sends = (
        *DatabaseLink.sends,
        LeaseRenewed,
        LeaseLapsed,
        ControlsChanged,
        HeartbeatSent,
        Flatten,
        AdoptPosition,
        ResolveOrder,
    )

    def __init__(
        self,
        ctx: Context,
        *,
        rpc: Rpc,
        identity: BotIdentity,
        tier_s: float,
        lease_s: float,
        margin_s: float,
        previous_boot_ids: tuple[str, ...],
        killed_locally: Callable[[], bool] | None,
        environment_killed: bool,
        jitter_s: float = 0.0,
    ) -> None:
        super().__init__(ctx)
        if not 0 <= margin_s < lease_s:
            raise ValueError(f"a lease of {lease_s:g} s is longer than its margin of {margin_s:g} s")
        self._rpc = rpc
        self._database = DatabaseLink(ctx, bot_name=identity.bot_name, boot_id=identity.boot_id)
        self._identity = identity
        self._beat_every_s = min(tier_s, (lease_s - margin_s) / BEATS_PER_LEASE)
        self._jitter_s = min(jitter_s, self._beat_every_s)
        self._lease_s = lease_s
        self._margin_s = margin_s
        self._claimant = Claimant(rpc, previous_boot_ids=previous_boot_ids, lease_s=lease_s, monotonic=ctx.monotonic)
        self._killed_locally = killed_locally
        self._environment_killed = environment_killed
        self._epoch: int | None = None
        self._lease_word: Fact | None = None
        self._deadline_timer = 0
        self._controls = _UNKNOWN_CONTROLS
        self._newest_version = 0
        self._told: ControlsChanged | None = None
        self._acknowledged = self._sent = self._beats = 0
        self._flattened: str | None = None
        self._done: set[str] = set()
        self._state = BotState(identity)
        if self._resume() or self._claim():
            self._refresh()
        else:
            self._tell_lease(LeaseLapsed(epoch=0))
        self._tell_controls()
        ctx.after(0, _Beat())
        if killed_locally is not None:
            ctx.every(LOOK_FOR_KILL_EVERY_S, _LookForKill())

    # The lease

    def _resume(self) -> bool:
        """Go on under the epoch that a former incarnation had: a new one would hide that another runtime had the bot
        meanwhile, and that its orders stand beside ours."""
        self._epoch = self._rpc.epoch if self.ctx.incarnation else None
        return self._epoch is not None and self._beat()

    def _claim(self) -> bool:
        sent_s = self.ctx.monotonic()
        lease = self._database.call(self._claimant.attempt)
        if lease is None:
            return False
        if self._epoch not in (None, lease.epoch):
            raise self._database.lose(f"the lease is at epoch {lease.epoch}, ours was {self._epoch}")
        self._epoch = lease.epoch
        self._renewed(lease, sent_s)
        return True

    def _renewed(self, lease: Lease, sent_s: float) -> None:
        deadline_s = sent_s + min(self._lease_s, lease.expires_in_s) - self._margin_s
        self._tell_lease(LeaseRenewed(epoch=lease.epoch, deadline_s=deadline_s, renewals=lease.renewals))
        self._wait_for(deadline_s)

    def _wait_for(self, deadline_s: float) -> None:
        self.ctx.cancel(self._deadline_timer)
        self._deadline_timer = self.ctx.after(max(deadline_s - self.ctx.monotonic(), 0.001), _Deadline())

    def _tell_lease(self, word: Fact) -> None:
        self._lease_word = word
        self.ctx.send(word)

    @receive
    def on_deadline(self, _: _Deadline) -> None:
        word = self._lease_word
        if not isinstance(word, LeaseRenewed):
            return
        if word.deadline_s > self.ctx.monotonic():
            # A renewal was answered while this timer stood in the mailbox, or the timer was a trifle early.
            self._wait_for(word.deadline_s)
        else:
            self.ctx.log.warning("lease_lapsed", epoch=word.epoch)
            self._tell_lease(LeaseLapsed(epoch=word.epoch))

    # The heartbeat

    @receive
    def on_beat(self, _: _Beat) -> None:
        if (self._epoch is not None or self._claim()) and self._beat():
            if self._newest_version != self._controls.version:
                self._refresh()
            self._tell_controls()
            self._acknowledge()
        pause_s = self._database.pause_s(self._beat_every_s)
        if self._jitter_s:
            pause_s += self.ctx.rng.uniform(0.0, self._jitter_s)
        self.ctx.after(pause_s, _Beat())

    def _beat(self) -> bool:
        sent_s = self.ctx.monotonic()
        self._sent += 1  # also without an answer: the next one says something newer
        answer = self._database.call(lambda: self._rpc.heartbeat(self._payload()))
        if answer is None:
            return False
        lease, self._newest_version = answer
        if lease.epoch != self._epoch:
            raise self._database.lose(f"the lease is at epoch {lease.epoch}, ours was {self._epoch}")
        self._renewed(lease, sent_s)
        self._beats += 1
        if self._beats == 1:
            self._notice_started()
        self.ctx.send(HeartbeatSent(beat=self._beats, latency_ms=(self.ctx.monotonic() - sent_s) * 1000))
        return True

    def _payload(self) -> dict[str, Any]:
        number = self.ctx.incarnation * BEATS_PER_INCARNATION + self._sent
        return self._state.payload(now=self.ctx.now(), number=number, first=not self._beats)

    @receive
    def on_position_synced(self, synced: PositionSynced) -> None:
        self._state.sync = synced.status

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        self._state.position = changed

    @receive
    def on_marked(self, marked: Marked) -> None:
        self._state.marked = marked

    @receive
    def on_gate_changed(self, changed: GateChanged) -> None:
        self._state.gate = changed.reasons

    # The controls

    def _refresh(self) -> None:
        controls = self._database.call(self._rpc.refresh_controls)
        if controls is not None:
            self._controls = controls
            self._newest_version = controls.version

    def _tell_controls(self) -> None:
        controls = self._controls
        here = self._environment_killed or (self._killed_locally is not None and self._killed_locally())
        killed = controls.killed or here
        changed = ControlsChanged(
            version=controls.version,
            paused=controls.paused,
            killed=killed,
            observe_only=controls.observe_only,
            subscription_active=controls.subscription_active,
        )
        if changed != self._told:
            if killed and not (self._told is not None and self._told.killed):
                self._notice_killed(controls)
            self._told = changed
            self.ctx.send(changed)
        request_id = self._flatten_id()
        if request_id is not None and request_id != self._flattened and not self.ctx.asking(request_id):
            flatten = Flatten(request_id=request_id, reason="asked for by an operator")
            self.ctx.keep_asking(request_id, flatten, every_s=FLATTEN_EVERY_S)
        for request in controls.requests:
            if request.request_id not in self._done and not self.ctx.asking(request.request_id):
                self.ctx.keep_asking(request.request_id, _command(request), every_s=FLATTEN_EVERY_S)

    def _notice_started(self) -> None:
        identity = self._identity
        self.ctx.send(
            Notice(
                key=f"started:{identity.boot_id}",
                severity=Severity.INFO,
                kind="started",
                text=f"{identity.bot_name} runs {identity.strategy_told} on {identity.symbol} ({identity.mode})",
            )
        )

    def _notice_killed(self, controls: Controls) -> None:
        where = "operator" if controls.killed else "environment" if self._environment_killed else "local"
        self.ctx.send(
            Notice(
                key=f"killed:{self._identity.boot_id}:{where}:{controls.version}",
                severity=Severity.CRITICAL,
                kind="killed",
                text=f"{self._identity.bot_name} is killed ({where}): no entries; positions keep their protection",
            )
        )

    def _flatten_id(self) -> str | None:
        version = self._controls.flatten_version
        return None if version is None else f"flatten:{version}"

    @receive
    def on_flattened(self, flattened: Flattened) -> None:
        self.ctx.answered(flattened.request_id)  # also when a later one has been asked for meanwhile
        if flattened.request_id == self._flatten_id():
            self._flattened = flattened.request_id
            self._acknowledge()

    @receive
    def on_request_done(self, done: RequestDone) -> None:
        self.ctx.answered(done.request_id)
        self._done.add(done.request_id)
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell the database that the controls are carried out: at once, or when what they ask for is done."""
        version = self._controls.version
        if version <= self._acknowledged or self._flatten_id() not in (None, self._flattened):
            return
        if any(request.request_id not in self._done for request in self._controls.requests):
            return

        def acknowledge() -> bool:
            self._rpc.acknowledge(version)
            return True

        if self._database.call(acknowledge):
            self._acknowledged = version

    @receive
    def on_look_for_kill(self, _: _LookForKill) -> None:
        self._tell_controls()

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if restarted.actor == self.ctx.name:
            return
        for fact in (self._lease_word, self._told, self._database.away, self._database.ended):
            if fact is not None:
                self.ctx.send(fact)


def _command(request: OperatorRequest) -> AdoptPosition | ResolveOrder:
    if request.client_order_id is None or request.outcome is None:
        return AdoptPosition(request_id=request.request_id, reason=request.reason)
    return ResolveOrder(
        request_id=request.request_id,
        client_order_id=request.client_order_id,
        outcome=request.outcome,
        reason=request.reason,
    )
