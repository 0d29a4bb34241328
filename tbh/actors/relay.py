"""The relay: takes the outbox to the database, in order, one batch in flight.

A batch whose reply was lost is sent again as it is, for the database skips what it has. The next batch goes only after
the store has marked the last one, so that the two never drift apart by more than a batch. What the database refuses for
good is set aside by its number and never blocks the rest; anything else is tried again, ever more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tbh.messages.base import Timer, message
from tbh.messages.health import Notice, RequestFailed, RequestSucceeded, Severity
from tbh.messages.journal import Journaled, MarkRelayed, Relayed
from tbh.ports import Defer, Failure, Fatal, OutboxEntry, Rejected, Rpc, StoreReader, SyncResult, Unavailable
from tbh.runtime.actor import Actor, Context, receive

ENTRIES_MAX = 200
BATCH_BYTES_MAX = 256_000
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
LOOK_EVERY_S = 2.0
STOP_BATCHES_MAX = 5

# What the database says of a batch's content. Any other refusal (an unknown token, say) is about us, and setting
# entries aside for it would lose them.
_ABOUT_CONTENT: Final = frozenset({"batch_too_large", "payload_invalid"})
_MARK = "mark"


@message
class _Look(Timer):
    """Look into the outbox, whether or not somebody said that it grew."""


@message
class _TryAgain(Timer):
    """The back-off is over."""


class RelayActor(Actor):
    """``store_id`` names the store to the database, which keeps a last sequence number for each.

    Raises ``Fatal(70)`` when the database has entries of this store that the store itself has never written.
    """

    sends = (MarkRelayed, RequestFailed, RequestSucceeded, Notice)

    def __init__(self, ctx: Context, *, store: StoreReader, rpc: Rpc, store_id: str) -> None:
        super().__init__(ctx)
        self._store = store
        self._rpc = rpc
        self._store_id = store_id
        self._relayed_up_to = 0
        self._entries_max = ENTRIES_MAX
        self._failures = 0
        self._backing_off = False
        ctx.after(0, _Look())
        ctx.every(LOOK_EVERY_S, _Look())

    @receive
    def on_journaled(self, _: Journaled) -> None:
        self._drain()

    @receive
    def on_look(self, _: _Look) -> None:
        self._drain()

    @receive
    def on_try_again(self, _: _TryAgain) -> None:
        self._backing_off = False
        self._drain()

    @receive
    def on_relayed(self, relayed: Relayed) -> None:
        if relayed.up_to_seq >= self._relayed_up_to:
            self.ctx.answered(_MARK)
            self._drain()

    def on_stop(self) -> None:
        """Take along what is left, as far as the database answers; the rest waits in the store."""
        if self._failures:
            return  # it does not answer, and nobody should wait for it now
        for _ in range(STOP_BATCHES_MAX):
            self.ctx.answered(_MARK)
            before = self._relayed_up_to
            self._drain()
            if self._relayed_up_to == before:
                return

    def _drain(self) -> None:
        if self._backing_off or self.ctx.asking(_MARK):
            return
        try:
            entries = self._store.outbox(self._relayed_up_to, limit=self._entries_max, max_bytes=BATCH_BYTES_MAX)
            recorded = self._store.counts().recorded if entries else 0
        except Unavailable as failure:
            self.ctx.log.warning("outbox_unreadable", reason=str(failure))
            self._back_off()
            return
        if not entries:
            return
        started_s = self.ctx.monotonic()
        try:
            result = self._rpc.sync(store_id=self._store_id, first_seq=entries[0].seq, entries=entries)
        except Rejected as refusal:
            self._on_refused_whole(entries, refusal)
        except Failure as failure:
            self._tell_failure(failure)
            self._back_off(failure.after_s if isinstance(failure, Defer) else 0.0)
        else:
            self.ctx.send(RequestSucceeded(stage="relay", latency_ms=(self.ctx.monotonic() - started_s) * 1000))
            self._on_result(entries, result, recorded)

    def _on_result(self, entries: Sequence[OutboxEntry], result: SyncResult, recorded: int) -> None:
        if result.last_seq > recorded:
            raise Fatal(
                "relayed_beyond_recorded",
                exit_code=70,
                detail=f"the database has entry {result.last_seq} of store {self._store_id}, which has written "
                f"{recorded}: is it a restored copy? Move it away, the bot rebuilds its state",
            )
        up_to = min(result.last_seq, entries[-1].seq)
        if up_to < entries[0].seq:
            self._tell_failure(Unavailable("no_progress", detail=f"the database stays at {result.last_seq}"))
            self._back_off()
            return
        self._failures = 0
        self._entries_max = ENTRIES_MAX
        sent = {entry.seq for entry in entries}
        self._mark(up_to, tuple((seq, reason) for seq, reason in result.refused if seq in sent and seq <= up_to))

    def _on_refused_whole(self, entries: Sequence[OutboxEntry], refusal: Rejected) -> None:
        self._tell_failure(refusal)
        if refusal.reason not in _ABOUT_CONTENT:
            self._back_off()
        elif len(entries) > 1:
            self._entries_max = len(entries) // 2
            self._back_off()
        else:
            self._entries_max = ENTRIES_MAX
            self._mark(entries[0].seq, ((entries[0].seq, str(refusal)),))

    def _mark(self, up_to_seq: int, refused: tuple[tuple[int, str], ...]) -> None:
        self._relayed_up_to = up_to_seq
        self.ctx.keep_asking(_MARK, MarkRelayed(up_to_seq=up_to_seq, refused=refused), every_s=LOOK_EVERY_S)
        if refused:
            seq, reason = refused[0]
            self.ctx.send(
                Notice(
                    key=f"relay_refused:{self._store_id}:{seq}",
                    severity=Severity.WARNING,
                    kind="relay_refused",
                    text=f"the database refused {len(refused)} journal entries for good, the first is {seq}: {reason}; "
                    "see `tbh dead-letters list`",
                )
            )

    def _tell_failure(self, failure: Failure) -> None:
        self.ctx.send(RequestFailed(stage="relay", kind=failure.kind, reason=str(failure)))

    def _back_off(self, at_least_s: float = 0.0) -> None:
        delay_s = min(BACKOFF_FIRST_S * 2 ** min(self._failures, 10), BACKOFF_MAX_S)
        self._failures += 1
        self._backing_off = True
        self.ctx.after(max(delay_s * self.ctx.rng.uniform(0.8, 1.2), at_least_s), _TryAgain())
