"""Defects of what is written down: on the disk, in the outbox, in the database, to people."""

from __future__ import annotations

from tbh.actors.journaler import JournalerActor
from tbh.actors.notifier import NotifierActor
from tbh.actors.order_recovery import OrderRecovery
from tbh.actors.relay import BATCH_BYTES_MAX, ENTRIES_MAX, RelayActor
from tbh.messages.strategy import DecisionRecorded
from tbh.ports import Failure
from tests.mutants.mutation import defect

# The disk


@defect("what is to be recorded is called recorded before the disk has it", JournalerActor, "_commit")
def recorded_before_the_disk_has_it(original, self, given, batch, answer=None):
    if answer is not None:
        self.ctx.send(answer())
    return original(self, given, batch)


@defect("a decision is answered and not written", JournalerActor, "on_decision")
def decision_not_recorded(original, self, command):
    self.ctx.send(DecisionRecorded(decision_id=command.decision.decision_id))


@defect("what the disk could not take is dropped", JournalerActor, "_set_aside")
def disk_failure_drops_facts(original, self, given):
    """It does not wait."""


@defect("a fill is not written", JournalerActor, "on_fill")
def fills_not_journaled(original, self, fill):
    """It is known to the actors only."""


@defect("an order's end is not written", JournalerActor, "on_order_changed")
def ends_not_journaled(original, self, changed):
    if changed.state.status not in ("filled", "canceled", "expired"):
        original(self, changed)


@defect("the journal takes the account's events to be read that it has not been told", JournalerActor, "on_fill")
def account_mark_ahead(original, self, fill):
    self.ctx.answered("resync")
    original(self, fill)


@defect("the fills on the disk are not read at a start", OrderRecovery, "_read_fills")
def stored_fills_ignored(original, self, orders, adjustments):
    """The book begins empty."""


# The database


@defect("the outbox counts as delivered before the database has answered", RelayActor, "_drain")
def outbox_marked_before_the_reply(original, self):
    if self._backing_off or self.ctx.asking("mark"):
        return
    entries = self._store.outbox(self._relayed_up_to, limit=ENTRIES_MAX, max_bytes=BATCH_BYTES_MAX)
    if not entries:
        return
    self._mark(entries[-1].seq, ())
    try:
        self._rpc.sync(store_id=self._store_id, first_seq=entries[0].seq, entries=entries)
    except Failure as failure:
        self._tell_failure(failure)


@defect("an entry that the database did not take is skipped", RelayActor, "_back_off")
def relay_skips_on_error(original, self, at_least_s=0.0):
    entries = self._store.outbox(self._relayed_up_to, limit=1, max_bytes=BATCH_BYTES_MAX)
    if entries:
        self._mark(entries[0].seq, ())
    else:
        original(self, at_least_s)


@defect("a batch whose reply was lost is not sent again", RelayActor, "_tell_failure")
def lost_reply_taken_for_delivery(original, self, failure):
    original(self, failure)
    entries = self._store.outbox(self._relayed_up_to, limit=ENTRIES_MAX, max_bytes=BATCH_BYTES_MAX)
    if entries and failure.kind == "unknown":
        self._mark(entries[-1].seq, ())


# People


@defect("a notice that a channel did not take is forgotten", NotifierActor, "_back_off")
def notice_dropped_on_error(original, self, index, failure):
    queue = self._queues[index]
    while (notice := queue.first()) is not None:
        queue.drop(notice)


# Decisions
