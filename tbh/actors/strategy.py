"""The strategy's actor: on each closed bar it decides once, and asks until every wish is answered.

A decision is a function of the bars and the position, and its id one of strategy and bar; so deciding a second time, or
asking again after a restart, does nothing twice. An entry is asked for until its bar is over, an exit until answered.

What the position is, is for the order manager to say, which knows what the exchange has done meanwhile. The stored row
may be older than that; so nothing is decided after a start before its first word.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tbh.domain import ids
from tbh.messages.account import Position, PositionChanged
from tbh.messages.base import Timer, message
from tbh.messages.health import Notice, Severity
from tbh.messages.market import Bar, Candle
from tbh.messages.orders import Declined, Recorded
from tbh.messages.strategy import (
    Decision,
    DecisionRecorded,
    IndicatorFailed,
    Proposal,
    RecordDecision,
    Refused,
    StrategyProtectOnly,
    StrategyTicked,
)
from tbh.messages.system import Restarted
from tbh.ports import Failure, Fatal, Feed, StoreReader
from tbh.runtime.actor import Actor, Context, receive
from tbh.strategies.base import Strategy, Wish
from tbh.strategies.series import IndicatorError

REPEAT_S: Final = 1.0
SLOW_S: Final = 2.0
"""A decision that takes longer is told: its orders go out that much later."""
LOAD_AGAIN_S: Final = 1.0

_POSITION = "position"
_HISTORY = "history"


@message
class _LoadAgain(Timer):
    """The source of the history did not answer; ask it again."""


class StrategyActor(Actor):
    """Runs one strategy on one symbol. A stored row that can't be read makes it protect-only: exits, no entries.

    Passes every other ``Fatal`` up. ``IndicatorError`` is told and leaves its bar undecided; whatever else a strategy
    raises is a failure of this actor.
    """

    sends = (RecordDecision, Proposal, StrategyTicked, IndicatorFailed, StrategyProtectOnly, Notice)
    unhurried = frozenset({Recorded})

    def __init__(self, ctx: Context, *, strategy: Strategy, feed: Feed, store: StoreReader) -> None:
        super().__init__(ctx)
        self._strategy = strategy
        self._feed = feed
        self._store = store
        self._bar = timedelta(seconds=strategy.timeframe_s)
        self._position: Position | None = None
        self._position_seq: int | None = None
        self._loaded = False
        self._last: Candle | None = None
        self._undecided = False
        self._recalling = False
        self._protect_only: StrategyProtectOnly | None = None
        self._slow_told = False
        self._check_position_rows()
        ctx.expect(_POSITION)
        self._load()

    # What it knows

    def _check_position_rows(self) -> None:
        try:
            self._store.positions()
        except Fatal as failure:
            self._fall_back(failure)

    def _fall_back(self, failure: Fatal) -> None:
        """Take no entries any more because a stored row can't be read; any other ``Fatal`` goes on."""
        if failure.reason != "row_unreadable":
            raise failure
        self.ctx.log.error("strategy_protect_only", strategy=self._strategy.name, reason=str(failure))
        self._protect_only = StrategyProtectOnly(strategy=self._strategy.name, reason=str(failure))
        self.ctx.send(self._protect_only)

    def _load(self) -> None:
        """Replace the bars by the feed's history, whose last one may still be undecided."""
        try:
            history = self._feed.history()
        except Fatal:
            raise
        except Failure as failure:
            self.ctx.log.warning("history_unavailable", reason=str(failure))
            self._loaded = False
            if not self.ctx.asking(_HISTORY):
                self.ctx.expect(_HISTORY)
                self.ctx.after(LOAD_AGAIN_S, _LoadAgain())
            return
        self.ctx.answered(_HISTORY)
        self._strategy.load(history)
        self._loaded = True
        self._last = history[-1] if history else None
        self._undecided = self._recalling = bool(history)

    @receive
    def on_load_again(self, _: _LoadAgain) -> None:
        self.ctx.answered(_HISTORY)
        self._load()
        self._decide()

    @receive
    def on_position_changed(self, changed: PositionChanged) -> None:
        if changed.symbol != self._feed.symbol or (self._position_seq or 0) > changed.seq:
            return
        self._position = changed.held
        self._position_seq = changed.seq
        self.ctx.answered(_POSITION)
        self._decide()

    @receive
    def on_restarted(self, restarted: Restarted) -> None:
        if self._protect_only is not None and restarted.actor != self.ctx.name:
            self.ctx.send(self._protect_only)

    # Bars and decisions

    @receive
    def on_bar(self, bar: Bar) -> None:
        if not self._loaded or bar.index < self._strategy.bar_count:
            return
        if bar.index > self._strategy.bar_count:
            self._load()
        else:
            self._strategy.append(bar.candle)
            self._last = bar.candle
            self._undecided = True
        self._decide()

    def _decide(self) -> None:
        """Decide the last bar, unless that is done, or something that the decision rests on is not known yet."""
        candle = self._last
        if candle is None or not (self._undecided and self._loaded) or self._position_seq is None:
            return
        recalling, self._undecided, self._recalling = self._recalling, False, False
        if recalling and self._ask_stored(candle):
            return
        began_s = self.ctx.monotonic()
        try:
            wishes = self._strategy.on_bar(self._position)
        except IndicatorError as error:
            self.ctx.send(IndicatorFailed(strategy=self._strategy.name, indicator=error.indicator, detail=error.detail))
            return
        if (took_s := self.ctx.monotonic() - began_s) > SLOW_S:
            self._tell_slow(candle, took_s)
        if self._protect_only is not None:
            wishes = tuple(wish for wish in wishes if not wish.purpose.increases_risk)
        decision = self._decision(candle, wishes)
        self.ctx.keep_asking(f"decision:{decision.decision_id}", RecordDecision(decision=decision), every_s=REPEAT_S)
        self._propose(decision.proposals)
        self.ctx.send(
            StrategyTicked(
                strategy=decision.strategy,
                bar_index=decision.bar_index,
                warm=self._strategy.warm,
                proposals=len(decision.proposals),
            )
        )

    def _tell_slow(self, candle: Candle, took_s: float) -> None:
        """Each time in the log, and to people once."""
        name, bar = self._strategy.name, f"{candle.open_time:%Y-%m-%dT%H:%M:%SZ}"
        self.ctx.log.warning("strategy_slow", strategy=name, bar_open=bar, took_s=round(took_s, 3))
        if not self._slow_told:
            self._slow_told = True
            text = (
                f"strategy {name!r} took {took_s:.1f} s on the bar of {bar}: its orders go out that much later, and "
                "after 30 s it counts as hung; see strategy_slow in the log"
            )
            key = f"strategy_slow:{name}:{self.ctx.now().isoformat()}"
            self.ctx.send(Notice(key=key, severity=Severity.WARNING, kind="strategy_slow", text=text))

    def _ask_stored(self, candle: Candle) -> bool:
        """Whether the bar was decided by a former incarnation; what it wished and has no order yet is asked again."""
        try:
            decision = self._store.decision(self._strategy.name, candle.open_time)
            if decision is None:
                return False
            served = {state.order.intent_id for state in self._store.orders()} if decision.proposals else set()
        except Fatal as failure:
            self._fall_back(failure)
            return False
        proposals = [proposal for proposal in decision.proposals if proposal.proposal_id not in served]
        if self._protect_only is not None:
            proposals = [proposal for proposal in proposals if not proposal.purpose.increases_risk]
        self._propose(proposals)
        return True

    def _decision(self, candle: Candle, wishes: tuple[Wish, ...]) -> Decision:
        name, symbol = self._strategy.name, self._feed.symbol
        decision_id = ids.decision_id(name, symbol, candle.open_time)
        bar_index = self._strategy.bar_count - 1
        return Decision(
            decision_id=decision_id,
            strategy=name,
            symbol=symbol,
            bar_open=candle.open_time,
            bar_index=bar_index,
            decided_at=self.ctx.now(),
            # What reduces risk goes first: in a reversal the exit makes room for the entry.
            proposals=tuple(
                Proposal(
                    proposal_id=ids.proposal_id(decision_id, wish.purpose, wish.layer),
                    strategy=name,
                    symbol=symbol,
                    bar_open=candle.open_time,
                    bar_index=bar_index,
                    side=wish.side,
                    purpose=wish.purpose,
                    layer=wish.layer,
                    reference_price=candle.close,
                    sizing=wish.sizing,
                    protection=wish.protection,
                    cooldown=wish.cooldown,
                    limit=wish.limit,
                    reason=wish.reason,
                    expires_at=candle.open_time + 2 * self._bar if wish.purpose.increases_risk else None,
                )
                for wish in sorted(wishes, key=lambda wish: wish.purpose.increases_risk)
            ),
        )

    def _propose(self, proposals: tuple[Proposal, ...] | list[Proposal]) -> None:
        for proposal in proposals:
            if proposal.expires_at is not None and self.ctx.now() > proposal.expires_at:
                self.ctx.log.info("proposal_too_late", proposal_id=proposal.proposal_id)
                continue
            self.ctx.keep_asking(
                f"proposal:{proposal.proposal_id}", proposal, every_s=REPEAT_S, until=proposal.expires_at
            )

    # Answers

    @receive
    def on_decision_recorded(self, recorded: DecisionRecorded) -> None:
        self.ctx.answered(f"decision:{recorded.decision_id}")

    @receive
    def on_recorded(self, recorded: Recorded) -> None:
        self.ctx.answered(f"proposal:{recorded.intent_id}")

    @receive
    def on_refused(self, refused: Refused) -> None:
        self.ctx.answered(f"proposal:{refused.proposal_id}")

    @receive
    def on_declined(self, declined: Declined) -> None:
        self.ctx.answered(f"proposal:{declined.proposal_id}")
