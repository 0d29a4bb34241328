"""The journaler: the only writer of the local store, and so the only one who may say that something is on disk.

Each message is one commit: its rows and the outbox entries that tell the database of them land together, and the
answer goes out after the disk has both. How that is done, and what waits for it, is in ``commits``. A message that
can't be committed is stashed, in order, and so are all that come after it; nothing is answered meanwhile. Askers ask
again, the stash outlives a restart of the actor, and what was already committed is committed again without effect.
"""

from __future__ import annotations

from tbh.actors.account_reader import requester
from tbh.actors.adjustments import ADJUSTMENTS, stored_adjustments
from tbh.actors.commits import Committer
from tbh.actors.rows import (
    adjustment_row,
    approved_row,
    closed_position_row,
    dead_letter_row,
    doubt_row,
    dust_row,
    external_row,
    fill_row,
    flattened_row,
    open_position_row,
    order_row,
    recovery_row,
    refused_row,
    request_row,
    stray_row,
    sync_row,
    trade_row,
)
from tbh.domain.adjustment import to_text
from tbh.domain.order import draft
from tbh.messages.account import (
    AccountDoubted,
    AccountResynced,
    Adjusted,
    ExternalTrade,
    Position,
    PositionChanged,
    PositionSynced,
    RecordAdjustment,
    Recovered,
    ResyncAccount,
    StrayEnded,
    SyncStatus,
    TradeClosed,
)
from tbh.messages.controls import RequestDone
from tbh.messages.journal import MarkRelayed, Relayed
from tbh.messages.orders import Fill, Flattened, OrderChanged, OrderDrafted, Purpose, Recorded
from tbh.messages.strategy import Refused
from tbh.messages.system import DeadLettered
from tbh.ports import Batch, DeadLetter, Fatal, Store
from tbh.runtime.actor import Context, receive

ACCOUNT_SEQ = "account_seq"
"""Meta key: every account event up to this seq has been taken from the gateway."""

RESTORED_POSITION = "restored_position"
"""Meta key: the id of a position that the database remembered and no fill here has made. Until the exchange has been
asked, nobody knows whether it is over."""

PROPOSED = frozenset({Purpose.ENTRY, Purpose.PYRAMID, Purpose.EXIT})
"""What a strategy proposes and risk decides on; every other order follows from a position or from an operator."""

_RESYNC = "resync"


class JournalerActor(Committer):
    """Implements ARCHITECTURE §6 for one bot."""

    sends = (*Committer.sends, Recorded, Adjusted, Relayed, ResyncAccount)

    def __init__(self, ctx: Context, *, store: Store, bot_id: str) -> None:
        super().__init__(ctx, store=store)
        self._bot_id = bot_id
        self._positions = self._read_positions()
        self._account_seq = int(store.meta(ACCOUNT_SEQ) or 0)
        self._sync_status: dict[str, SyncStatus] = {}
        self._closing_seq: int | None = None
        self._restored = store.meta(RESTORED_POSITION) or ""
        self._adjustments = stored_adjustments(store)
        resync = ResyncAccount(requester=requester(ctx), after=self._account_seq)
        ctx.keep_asking(_RESYNC, resync, every_s=1)

    def _read_positions(self) -> dict[str, Position]:
        try:
            return dict(self._store.positions())
        except Fatal as failure:
            if failure.reason != "row_unreadable":
                raise
            # The bot trades on in protect-only; without the row only the close of that position goes unnamed.
            self.ctx.log.error("position_unreadable", error=str(failure))
            return {}

    # Asked for, and answered

    @receive
    def on_drafted(self, command: OrderDrafted) -> None:
        order = command.order
        answer = Recorded(client_order_id=order.client_order_id, intent_id=order.intent_id)
        batch = Batch(drafts=[draft(order, self.ctx.now())])
        if order.purpose in PROPOSED:
            batch.outbox.append(approved_row(order))
        self._commit(command, batch, lambda: answer)

    @receive
    def on_mark_relayed(self, command: MarkRelayed) -> None:
        # A mark that is lost makes the relay send again what the database then skips.
        batch = Batch(relayed_up_to=command.up_to_seq, refused=list(command.refused), flushed=False)
        self._commit(command, batch, lambda: self._relayed(command))

    def _relayed(self, command: MarkRelayed) -> Relayed:
        counts = self._store.counts()
        return Relayed(up_to_seq=command.up_to_seq, pending=counts.pending, refused=counts.refused)

    # Told, and kept

    @receive
    def on_order_changed(self, changed: OrderChanged) -> None:
        self._commit(changed, Batch(orders=[changed.state], outbox=[order_row(changed)]))

    @receive
    def on_fill(self, fill: Fill) -> None:
        batch = Batch(fills=[fill], outbox=[fill_row(fill)])
        # While older events are still being repeated this one proves nothing about them.
        if fill.seq > self._account_seq and not self.ctx.asking(_RESYNC):
            batch.meta[ACCOUNT_SEQ] = str(fill.seq)
        if self._commit(fill, batch) and batch.meta:
            self._account_seq = fill.seq

    @receive
    def on_account_resynced(self, resynced: AccountResynced) -> None:
        if resynced.requester != requester(self.ctx):
            return
        seq = max(resynced.seq, self._account_seq)
        if self._commit(resynced, Batch(meta={ACCOUNT_SEQ: str(seq)})):
            self._account_seq = seq
            self.ctx.answered(_RESYNC)

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        former, position = self._positions.get(changed.symbol), changed.held
        seq = changed.seq + changed.adjustments
        if former is not None and former.position_id == self._restored:
            if position is None:
                self._closing_seq = seq
                return  # no fill of it has come here: a snapshot has to confirm that it is over
            self._restored = ""
        batch = Batch(positions=[(changed.symbol, position, seq)])
        if former is not None and (position is None or position.position_id != former.position_id):
            batch.outbox.append(closed_position_row(former, seq))
            if changed.dust and changed.position is not None:
                batch.outbox.append(dust_row(changed.position))
        if position is not None:
            batch.outbox.append(open_position_row(position, seq))
        if self._commit(changed, batch):
            self._keep_position(changed.symbol, position)

    def _keep_position(self, symbol: str, position: Position | None) -> None:
        if position is None:
            self._positions.pop(symbol, None)
        else:
            self._positions[symbol] = position

    @receive
    def on_position_synced(self, synced: PositionSynced) -> None:
        batch = Batch()
        former = self._positions.get(synced.symbol)
        over = synced.status is SyncStatus.OK and not synced.book_qty
        if over and former is not None and former.position_id == self._restored and self._closing_seq is not None:
            batch.positions.append((synced.symbol, None, self._closing_seq))
            batch.outbox.append(closed_position_row(former, self._closing_seq))
        if self._sync_status.get(synced.symbol) is not synced.status:
            batch.outbox.append(sync_row(synced))
        if batch and self._commit(synced, batch):
            self._sync_status[synced.symbol] = synced.status
            if batch.positions:
                self._keep_position(synced.symbol, None)
                self._restored = ""

    # Recovery and operators

    @receive
    def on_adjustment(self, command: RecordAdjustment) -> None:
        wanted = command.adjustment
        for known in self._adjustments:
            if known.adjustment_id == wanted.adjustment_id:
                self.ctx.send(Adjusted(adjustment=known))
                return
        made = (*self._adjustments, wanted)
        batch = Batch(meta={ADJUSTMENTS: to_text(made)}, outbox=[adjustment_row(wanted)])
        if self._commit(command, batch, lambda: Adjusted(adjustment=wanted)):
            self._adjustments = made

    @receive
    def on_request_done(self, done: RequestDone) -> None:
        batch = Batch(actions=[(done.request_id, "done", done.outcome)], outbox=[request_row(done, self.ctx.now())])
        self._commit(done, batch)

    @receive
    def on_external_trade(self, trade: ExternalTrade) -> None:
        self._commit(trade, Batch(outbox=[external_row(trade)]))

    @receive
    def on_stray_ended(self, stray: StrayEnded) -> None:
        self._commit(stray, Batch(outbox=[stray_row(stray)]))

    @receive
    def on_recovered(self, recovered: Recovered) -> None:
        self._commit(recovered, Batch(outbox=[recovery_row(recovered)]))

    @receive
    def on_doubted(self, doubted: AccountDoubted) -> None:
        self._commit(doubted, Batch(outbox=[doubt_row(doubted)]))

    @receive
    def on_refused(self, refused: Refused) -> None:
        self._commit(refused, Batch(outbox=[refused_row(refused)]))

    @receive
    def on_trade_closed(self, closed: TradeClosed) -> None:
        self._commit(closed, Batch(outbox=[trade_row(closed)]))

    @receive
    def on_flattened(self, flattened: Flattened) -> None:
        self._commit(flattened, Batch(actions=[(flattened.request_id, "done", "")], outbox=[flattened_row(flattened)]))

    @receive
    def on_dead_letter(self, letter: DeadLettered) -> None:
        at = self.ctx.now()
        row = DeadLetter(
            actor=letter.actor,
            seq=letter.seq,
            message_type=letter.message_type,
            payload=letter.payload,
            reason=letter.reason,
            at=at,
        )
        self._commit(letter, Batch(dead_letters=[row], outbox=[dead_letter_row(letter, at)]))
