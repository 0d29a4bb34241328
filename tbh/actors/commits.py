"""How the journal gets to the disk: one commit for each message, and nothing is lost while the disk says no.

A decision to trade is the one message that waits: for the order or the refusal that follows from it, or the word that
there will be none. So it lands together with its order, which waits for the disk once; and an order is never there
without the decision that it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tbh.actors.rows import cycle_row
from tbh.messages.base import Message, Timer, message
from tbh.messages.journal import Journaled, StoreFailed, StoreRecovered
from tbh.messages.orders import Declined
from tbh.messages.strategy import Decision, DecisionRecorded, RecordDecision
from tbh.messages.system import Restarted
from tbh.ports import Batch, Store, Unavailable
from tbh.runtime.actor import Actor, Context, receive

WAITING_MAX = 10_000
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0


@message
class _TryAgain(Timer):
    """The store may take the stashed messages now."""


class Committer(Actor):
    """Commits to ``store``. Halts the bot when more than ``WAITING_MAX`` messages wait for the disk, and passes
    ``Fatal`` of the store up."""

    sends: ClassVar[tuple[type[Message], ...]] = (DecisionRecorded, Journaled, StoreFailed, StoreRecovered)
    unhurried = frozenset({RecordDecision})

    def __init__(self, ctx: Context, *, store: Store) -> None:
        super().__init__(ctx)
        self._store = store
        self._last_seq = store.counts().recorded
        self._riding: dict[str, Decision] = {}
        self._waiting: set[Message] = set()
        self._failed: StoreFailed | None = None
        self._retry_s = RETRY_FIRST_S
        # A former incarnation may have said that the store failed, and nobody else would ever take that back.
        self._down_since_s = ctx.monotonic() if ctx.incarnation else None

    # Decisions

    @receive
    def on_decision(self, command: RecordDecision) -> None:
        decision = command.decision
        if self._leads_on(decision) and decision.decision_id not in self._riding:
            self._riding[decision.decision_id] = decision
            return
        self._riding.pop(decision.decision_id, None)
        # To have decided nothing is worth no flush of its own: whatever changes the position later brings its own.
        batch = Batch(decisions=[decision], outbox=[cycle_row(decision)], flushed=bool(decision.proposals))
        self._commit(command, batch, lambda: DecisionRecorded(decision_id=decision.decision_id))

    def _leads_on(self, decision: Decision) -> bool:
        """Whether an order or a refusal may follow at once, whose commit takes the decision along; if none does, it
        goes to the disk by itself when the strategy asks again."""
        return any(one.expires_at is None or self.ctx.now() <= one.expires_at for one in decision.proposals)

    def on_stop(self) -> None:
        for decision in list(self._riding.values()):
            self.on_decision(RecordDecision(decision=decision))

    @receive
    def on_declined(self, declined: Declined) -> None:
        if self._riding:
            self._commit(declined, Batch())

    # The disk

    def _commit(self, given: Message, batch: Batch, answer: Callable[[], Message] | None = None) -> bool:
        """Commit and answer; or set ``given`` aside and return False."""
        if self._failed is not None and self._waiting:
            self._set_aside(given)
            return False
        if self._riding:
            batch.decisions += self._riding.values()
            batch.outbox[:0] = [cycle_row(decision) for decision in self._riding.values()]
        try:
            last_seq = self._store.commit(batch)
        except Unavailable as failure:
            self._fail(failure)
            self._set_aside(given)
            return False
        if self._down_since_s is not None:
            self.ctx.send(StoreRecovered(down_for_s=self.ctx.monotonic() - self._down_since_s))
            self._down_since_s = self._failed = None
            self._retry_s = RETRY_FIRST_S
        if answer is not None:
            self.ctx.send(answer())
        while self._riding:
            self.ctx.send(DecisionRecorded(decision_id=self._riding.popitem()[0]))
        if last_seq > self._last_seq:
            self._last_seq = last_seq
            if batch.flushed:
                # What is not flushed has time, and goes with what comes next or when the relay looks by itself.
                self.ctx.send(Journaled(last_seq=last_seq))
        return True

    def _fail(self, failure: Unavailable) -> None:
        reason = "disk_full" if failure.reason == "disk_full" else "broken"
        failed = StoreFailed(reason=reason, detail=str(failure))
        if self._failed is None or self._failed.reason != reason:
            self.ctx.log.error("store_failed", reason=reason, detail=failed.detail)
            self.ctx.send(failed)
        self._failed = failed
        if self._down_since_s is None:
            self._down_since_s = self.ctx.monotonic()
        self.ctx.after(self._retry_s, _TryAgain())
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def _set_aside(self, given: Message) -> None:
        if given in self._waiting:
            return  # whoever asks keeps asking; one answer is enough
        if len(self._waiting) >= WAITING_MAX:
            self.ctx.halt(f"the local store has been failing and {WAITING_MAX} messages wait for it: {self._failed}")
            return
        self._waiting.add(given)
        self.ctx.stash()

    @receive
    def on_try_again(self, _: _TryAgain) -> None:
        """The first of the stashed messages finds out; if it fails, all of them are stashed again."""
        self._waiting.clear()
        self.ctx.unstash()

    @receive
    def on_restarted(self, _: Restarted) -> None:
        if self._failed is not None:
            self.ctx.send(self._failed)
