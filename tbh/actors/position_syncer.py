"""The position syncer: does the exchange hold what the book says?

A snapshot counts only if it and the book speak of the same instant. Account events and snapshots come from one sender
in order, so this actor knows which events came before a snapshot; and the book says which fill it has taken last.
What does not count, or disagrees for the first time, is asked again soon, a few times, and then at the usual time.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tbh.actors.account_reader import requester
from tbh.actors.adjustments import stored_adjustments
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.domain.money import EXACT, ZERO, plain
from tbh.domain.reconcile import Reconciler, SyncVerdict
from tbh.messages.account import (
    AccountQueryFailed,
    AccountResynced,
    AccountSnapshot,
    Adjusted,
    Adjustment,
    AdoptPosition,
    PositionChanged,
    PositionSynced,
    QueryAccount,
    RecordAdjustment,
    ResyncAccount,
    SyncStatus,
)
from tbh.messages.base import Timer, message
from tbh.messages.controls import RequestDone
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Market, MarketMoved
from tbh.messages.orders import Fill, OrderCanceled, OrderExpired
from tbh.ports import StoreReader
from tbh.runtime.actor import Actor, Context, receive

REPEAT_S: Final = 15.0
"""Longer than the gateway's own time-out, so that a slow answer is not asked for twice."""

RESYNC_EVERY_S: Final = 1.0
AGAIN_S: Final = 0.2
CONFIRM_AFTER_S: Final = 10.0
"""A disagreement is asked about again when a reading that lags behind the account's events has caught up. Where many
requests fail, readings have been seen to lag by more than 5 s; a false alarm closes entries and wakes people."""

TRIES_MAX: Final = 5
"""After so many questions in a row that settled nothing, the next one waits for the usual time."""

RECORD_EVERY_S: Final = 1.0

_QUERY = "account"
_RESYNC = "resync"
_ADJUST = "adjust"


@message
class _SyncTime(Timer):
    """The usual time to compare."""


@message
class _AskAgain(Timer):
    """The last answer settled nothing."""


class PositionSyncerActor(Actor):
    """Compares one symbol after every change of the position, and each ``sync_s`` seconds of process time.

    It tells what is believed, or once that nothing is, and repairs nothing by itself: a mismatch calls people once, and
    stands until a comparison says otherwise, whoever restarts meanwhile. An operator may have the book follow the
    exchange. That is done as soon as a disagreement is believed, by a correction that the journal has on disk before
    any book takes it.
    """

    sends = (QueryAccount, PositionSynced, Notice, ResyncAccount, RecordAdjustment, RequestDone)

    def __init__(self, ctx: Context, *, market: Market, store: StoreReader, sync_s: float) -> None:
        super().__init__(ctx)
        self._symbol = market.symbol
        self._reconciler = Reconciler(
            market.symbol, market.amount_step, dust=market.amount_min or ZERO, confirm_after_s=CONFIRM_AFTER_S
        )
        self._book: PositionChanged | None = None
        # Read before the fills: one that is stored in between is then repeated, not lost.
        after = int(store.meta(ACCOUNT_SEQ) or 0)
        fills = store.fills()
        self._fill_seq = fills[-1].seq if fills else 0
        self._heard_seq = 0
        self._request_id = ""
        self._asked = 0
        self._asked_s = 0.0
        self._moved_meanwhile = False
        self._tries = 0
        self._told = SyncStatus.OK
        self._disagreement: PositionSynced | None = None
        self._done = {request_id for request_id, status in store.actions().items() if status == "done"}
        self._adjusted = {one.adjustment_id for one in stored_adjustments(store, market.symbol)}
        self._adopt: dict[str, AdoptPosition] = {}
        self._price: Decimal | None = None
        ctx.keep_asking(_RESYNC, ResyncAccount(requester=requester(ctx), after=after), every_s=RESYNC_EVERY_S)
        ctx.every(sync_s, _SyncTime())

    # The book, and what the exchange did

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        if changed.symbol == self._symbol and (self._book is None or changed.seq >= self._book.seq):
            if changed == self._book and self._disagreement is not None:
                # It is told again since somebody has begun anew: to risk, an account that nobody doubts would be open.
                self.ctx.send(self._disagreement)
            self._book = changed
            self._tries = 0
            self._ask()

    @receive
    def on_fill(self, fill: Fill) -> None:
        if fill.symbol == self._symbol:
            self._fill_seq = max(self._fill_seq, fill.seq)
        self._hear(fill.seq)

    @receive
    def on_canceled(self, canceled: OrderCanceled) -> None:
        self._hear(canceled.seq)

    @receive
    def on_expired(self, expired: OrderExpired) -> None:
        self._hear(expired.seq)

    @receive
    def on_resynced(self, resynced: AccountResynced) -> None:
        self._hear(resynced.seq)
        if resynced.requester == requester(self.ctx) and self.ctx.answered(_RESYNC):
            self._ask()

    def _hear(self, seq: int) -> None:
        self._heard_seq = max(self._heard_seq, seq)

    # Questions

    @receive
    def on_sync_time(self, _: _SyncTime) -> None:
        self._ask()

    @receive
    def on_ask_again(self, _: _AskAgain) -> None:
        self._ask()

    def _ask(self) -> None:
        """Ask for a snapshot, unless the book is not known yet. One question is open at a time."""
        if self._book is None:
            return
        if self.ctx.asking(_QUERY):
            self._moved_meanwhile = True
            return
        self._asked += 1
        self._request_id = f"{self.ctx.name}:{self.ctx.incarnation}:{self._asked}"
        self._asked_s = self.ctx.monotonic()
        query = QueryAccount(request_id=self._request_id, symbol=self._symbol)
        self.ctx.keep_asking(_QUERY, query, every_s=REPEAT_S)

    def _is_answer(self, request_id: str) -> bool:
        return request_id == self._request_id and self.ctx.answered(_QUERY)

    # Answers

    @receive
    def on_snapshot(self, snapshot: AccountSnapshot) -> None:
        book = self._book
        if book is None or not self._is_answer(snapshot.request_id):
            return
        # The book's own seq stands at its last fill; later events change no position. So it speaks of the snapshot's
        # instant if it has taken every fill that was told before it.
        level = self._heard_seq == snapshot.seq_after and book.seq >= self._fill_seq
        level = level and book.adjustments >= len(self._adjusted)
        book_qty = ZERO if book.position is None else book.position.qty
        book_seq = snapshot.seq_after if level else -1
        verdict = self._reconciler.judge(
            snapshot, book_qty, book_seq, now_s=self.ctx.monotonic(), asked_s=self._asked_s
        )
        believed = verdict.counts and not verdict.suspected
        if believed:
            self._believe(verdict, snapshot)
            self._carry_out(verdict, snapshot)
        self._follow_up(settled=believed, again_s=CONFIRM_AFTER_S if verdict.suspected else AGAIN_S)

    @receive
    def on_query_failed(self, failed: AccountQueryFailed) -> None:
        if not self._is_answer(failed.request_id):
            return
        self.ctx.log.warning("account_query_failed", reason=failed.reason)
        self._follow_up(settled=False)

    def _follow_up(self, *, settled: bool, again_s: float = AGAIN_S) -> None:
        self._tries = 0 if settled else self._tries + 1
        if self._moved_meanwhile:
            self._moved_meanwhile = False
            self._ask()
        elif 0 < self._tries < TRIES_MAX:
            self.ctx.after(again_s, _AskAgain())
        elif self._tries and self._told is not SyncStatus.UNKNOWN:
            self._give_up()

    def _give_up(self) -> None:
        """Say that nothing is known; what was believed before is neither confirmed nor taken back."""
        book = self._book
        self._told = SyncStatus.UNKNOWN
        self.ctx.send(
            PositionSynced(
                symbol=self._symbol,
                status=SyncStatus.UNKNOWN,
                book_qty=ZERO if book is None or book.position is None else book.position.qty,
                exchange_qty=None,
                at=self.ctx.now(),
                reconcile_ms=(self.ctx.monotonic() - self._asked_s) * 1000,
            )
        )

    def _believe(self, verdict: SyncVerdict, snapshot: AccountSnapshot) -> None:
        synced = PositionSynced(
            symbol=self._symbol,
            status=verdict.status,
            book_qty=verdict.book_qty,
            exchange_qty=verdict.exchange_qty,
            at=snapshot.at,
            reconcile_ms=(self.ctx.monotonic() - self._asked_s) * 1000,
        )
        self.ctx.send(synced)
        if synced.status is not SyncStatus.OK and self._told is not synced.status:
            self._call_people(synced)
        self._told = synced.status
        self._disagreement = None if synced.status is SyncStatus.OK else synced

    def _call_people(self, synced: PositionSynced) -> None:
        book, exchange = plain(synced.book_qty), plain(synced.exchange_qty or ZERO)
        self.ctx.log.error("position_mismatch", status=synced.status.value, book=book, exchange=exchange)
        self.ctx.send(
            Notice(
                key=f"position:{self._symbol}:{synced.status}:{synced.at.isoformat()}",
                severity=Severity.CRITICAL,
                kind="position_mismatch",
                text=f"{self._symbol}: the book says {book}, the exchange {exchange}; entries are closed until both "
                "agree or an operator adopts the exchange's",
            )
        )

    # The operator's word

    @receive
    def on_market_moved(self, moved: MarketMoved) -> None:
        if moved.symbol == self._symbol:
            self._price = moved.price

    @receive
    def on_adopt(self, command: AdoptPosition) -> None:
        request_id = command.request_id
        if request_id in self._adjusted or request_id in self._done:
            self._finish(request_id, "the book was corrected")
        else:
            self._adopt[request_id] = command
            self._ask()

    def _carry_out(self, verdict: SyncVerdict, snapshot: AccountSnapshot) -> None:
        """Have the book corrected by what is believed to be missing from it, for the oldest request."""
        if not self._adopt or self.ctx.asking(_ADJUST):
            return
        if verdict.status is SyncStatus.OK:
            for request_id in list(self._adopt):
                self._finish(request_id, f"nothing to adopt: book and exchange have {plain(verdict.book_qty)}")
            return
        price = self._price_of(snapshot)
        if price is None:
            return  # nothing has a price yet: the next comparison
        command = next(iter(self._adopt.values()))
        adjustment = Adjustment(
            adjustment_id=command.request_id,
            symbol=self._symbol,
            qty=EXACT.subtract(verdict.exchange_qty, verdict.book_qty),
            price=price,
            seq=snapshot.seq_after,
            at=snapshot.at,
            reason=command.reason,
        )
        self.ctx.keep_asking(_ADJUST, RecordAdjustment(adjustment=adjustment), every_s=RECORD_EVERY_S)

    def _price_of(self, snapshot: AccountSnapshot) -> Decimal | None:
        """The market's last price; before the first, what the position cost."""
        booked = None if self._book is None or self._book.position is None else self._book.position.entry_price
        return self._price or snapshot.entry_price or booked

    @receive
    def on_adjusted(self, fact: Adjusted) -> None:
        adjustment = fact.adjustment
        if adjustment.symbol != self._symbol:
            return
        self.ctx.answered(_ADJUST)
        self._adjusted.add(adjustment.adjustment_id)
        if adjustment.adjustment_id in self._adopt:
            change = f"{plain(adjustment.qty)} at {plain(adjustment.price)}"
            self._finish(adjustment.adjustment_id, f"the book was corrected by {change}")

    def _finish(self, request_id: str, outcome: str) -> None:
        self._adopt.pop(request_id, None)
        self._done.add(request_id)
        self.ctx.send(RequestDone(request_id=request_id, outcome=outcome))
