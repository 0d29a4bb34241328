"""The actor engine: a backtest by the actors that trade live, all of them, in virtual time.

The tree is the bot's, made by the same function. Around it everything is in memory: the paper exchange's account, the
store, the database. One thread delivers every message at once (``tbh/runtime/straight.py``), and the market tells only
bars that concern anybody (``tbh/rehearsal/market.py``); docs/BACKTEST.md says why the trades are the same.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tbh import __version__
from tbh.actors.identity import BotIdentity
from tbh.backtest.columns import Columns
from tbh.backtest.engine import OpenPosition, Run, wishes
from tbh.backtest.foreseen import ForeseenStrategy, SteppedStrategy
from tbh.backtest.options import Options, SlippageKind
from tbh.backtest.stats import statistics
from tbh.backtest.terms import AMOUNT_DECIMALS, Scales, scales_of
from tbh.backtest.trades import price_text, text_of, trades_of
from tbh.domain.papermarket import paper_market
from tbh.domain.risk import RiskLimits
from tbh.infra.memory_rpc import MemoryRpc
from tbh.infra.memory_store import MemoryStore
from tbh.infra.paper import PaperExchange
from tbh.infra.replay import MarketClock
from tbh.messages.account import TradeClosed
from tbh.messages.health import Notice
from tbh.messages.market import Advance, Market
from tbh.messages.orders import Declined, Fill, Order
from tbh.messages.strategy import Refused
from tbh.plan import DEMO
from tbh.ports import OutboxEntry, SyncResult
from tbh.rehearsal.booked import Book, Booked, equity_of, raw_of
from tbh.rehearsal.market import CandlesOf, Rules, Sparse, SparseMarket
from tbh.runtime.straight import StraightHost
from tbh.strategies.base import Strategy
from tbh.strategies.custom import StrategyError
from tbh.strategies.dynamic import protection_of
from tbh.strategies.runner import AnyStrategy, CustomRunner
from tbh.strategies.shapes import Definition
from tbh.tree import Parts, build_tree

BOOT = "backtest"
REASONS = {
    **dict.fromkeys(("funds", "equity"), "funds"),
    **dict.fromkeys(("amount_step", "amount_min", "notional_min", "stop_missing", "price_step"), "size"),
    **dict.fromkeys(("entry_open", "layer_filled", "position_open", "nothing_to_add_to"), "entry_open"),
    "max_open_positions": "max_open_positions",
    "cooldown": "cooldown",
}
"""The words of the actors' refusals, and those by which a backtest counts them."""


class ActorFailed(Exception):
    """An actor has failed or escalated: what the others made of it is no result."""


def unserved(options: Options, markets: int) -> str | None:
    """What of the options only the fast engine knows; None when all can be served."""
    asked = {
        "several markets": markets > 1,
        "--slippage": options.slippage.kind is not SlippageKind.NONE,
        "--latency-bars": bool(options.latency_bars),
        "--latency-ms": bool(options.latency_ms),
        "--funding": bool(options.funding_rate),
    }
    return next((name for name, given in asked.items() if given), None)


class _Steps:
    """Lets the market go one step further each time the tree has come to rest; ``ended`` once all is over."""

    def __init__(self, market: SparseMarket) -> None:
        self.ended = False
        self._market = market
        self._turn = 0
        self._end_told = False

    def __call__(self, host: StraightHost) -> None:
        """The tree has come to rest."""
        if self._market.ended:
            self.ended, self._end_told = self._end_told, True
            if self.ended:
                return  # the feed has found out that there is nothing more, and said so
        self._turn += 1
        host.publish(Advance(turn=self._turn))


class Rehearsal:
    """One run of ``strategy`` over the bars of ``columns``. ``every_bar`` plays and tells each of them. So does
    ``new_strategy``, which makes what decides instead, where rules over whole arrays can't say when: the definition
    then tells its stops and layers alone. A custom strategy is one of those, unless it offers all decisions at once.

    ``ValueError`` for no bars, or an option that ``unserved`` names.
    """

    def __init__(
        self,
        strategy: AnyStrategy,
        columns: Columns,
        options: Options,
        *,
        symbol: str = "BASE/QUOTE",
        every_bar: bool = False,
        new_strategy: Callable[[], Strategy] | None = None,
    ) -> None:
        if not len(columns):
            raise ValueError("a backtest needs a market with bars")
        if (missing := unserved(options, 1)) is not None:
            raise ValueError(f"the actor engine does not serve {missing}")
        self._definition = strategy.definition
        self._columns = columns
        self._options = options
        self._began_s = time.perf_counter()
        self._raised: list[StrategyError] = []
        sparse: Sparse | None = None
        if new_strategy is None and isinstance(strategy, CustomRunner) and not strategy.vectorised:
            new_strategy = partial(SteppedStrategy, strategy, columns, self._raised)
        elif new_strategy is None:
            rules = wishes(strategy, columns)
            new_strategy = partial(ForeseenStrategy, self._definition, rules)
            sparse = None if every_bar else _sparse(self._definition, rules)
        self.clock = MarketClock()
        self.market: Market = paper_market(symbol, options.fee, price=CandlesOf(columns, 1)[0].open)
        self.exchange = PaperExchange(
            None, self.market, cash=options.cash, clock=self.clock, volume_share=options.volume_share
        )
        self.feed = SparseMarket(
            columns,
            symbol=symbol,
            exchange=self.exchange,
            clock=self.clock,
            sparse=sparse,
        )
        self.store = MemoryStore(text=False)
        self.trades: list[TradeClosed] = []
        self.refused: Counter[str] = Counter()
        self._steps = _Steps(self.feed)
        self.host = self._host(new_strategy)

    def _host(self, new_strategy: Callable[[], Strategy]) -> StraightHost:
        return StraightHost(
            build_tree(
                Parts(
                    identity=self._identity(),
                    market=self.market,
                    new_strategy=new_strategy,
                    default_protection=protection_of(self._definition),
                    feed=self.feed,
                    exchange=self.exchange,
                    store=self.store,
                    # There is no host yet when the tree is built.
                    rpc=_Database(DEMO.bot_id, monotonic=lambda: self.host.monotonic(), boot_id=BOOT),  # noqa: PLW0108
                    sink=_Nowhere(),
                    channels=(),
                    limits=RiskLimits(),
                    cash=self._options.cash,
                )
            ),
            now=self.clock.now,
            external=(Advance, Notice),
            on_settled=lambda: self._steps(self.host),
            heard={TradeClosed: self.trades.append, Refused: self._note_refused, Declined: self._note_declined},
        )

    def _identity(self) -> BotIdentity:
        return BotIdentity(
            bot_id=DEMO.bot_id,
            bot_name="backtest",
            user_id="",
            strategy=self._definition.name,
            mode=DEMO.mode,
            exchange=DEMO.exchange,
            symbol=self.market.symbol,
            boot_id=BOOT,
            run_id=BOOT,
            version=__version__,
            provider=DEMO.provider,
            region="",
            machine_id="",
            polling_tier=DEMO.polling_tier,
            timeframe_s=self._columns.timeframe_s,
        )

    def _note_refused(self, refused: Refused) -> None:
        self.refused[REASONS.get(refused.rule, refused.rule)] += 1

    def _note_declined(self, declined: Declined) -> None:
        self.refused[REASONS.get(declined.reason, declined.reason)] += 1

    def run(self) -> Run:
        """Trade to the last bar. ``ActorFailed`` when an actor does, ``StrategyError`` when that is what a custom
        strategy makes of a bar."""
        host = self.host
        with _uncollected():
            host.start()
            host.run(done=lambda: self._steps.ended)
        if self._raised:
            raise self._raised[0]
        failed = [cell.name for cell in host.cells if cell.restarts or cell.dead_letters]
        if host.escalation is not None:
            actor, reason, _ = host.escalation
            raise ActorFailed(f"{actor}: {reason}")
        if failed or not self._steps.ended:
            raise ActorFailed(f"{', '.join(failed) or 'no actor'} failed at bar {self.feed.position}")
        host.stop()
        return self._result()

    def _result(self) -> Run:
        options, columns = self._options, self._columns
        scales = scales_of([columns], options)
        fills = self.store.fills()
        made = Book(columns, self.market, scales, options.cash, self._order_of).of(fills)
        raw = raw_of(made.raw)
        trades = trades_of(raw, columns.stamps, [0], scales)
        equity, held_bars = equity_of(made, columns, options.cash, scales)
        rows = made.raw if made.open_row is None else [*made.raw, made.open_row]
        return Run(
            bars=len(columns),
            stamps=columns.stamps,
            trades=trades,
            equity=equity,
            final_equity=_final_equity(made, columns, scales),
            cash=text_of(made.cash, scales.account),
            open_positions=_open_positions(made, scales),
            fills=made.fills,
            refused=dict.fromkeys(REASONS.values(), 0) | self.refused,
            statistics=statistics(
                equity,
                cash=float(options.cash),
                pnl=trades.pnl,
                held_bars=held_bars,
                timeframe_s=columns.timeframe_s,
            ),
            seconds=time.perf_counter() - self._began_s,
            paid=raw_of(rows),
        )

    def _order_of(self, fill: Fill) -> Order:
        state = self.store.order(fill.client_order_id)
        assert state is not None, "only the bot's own orders trade here"
        return state.order


def _sparse(definition: Definition, rules: Rules) -> Sparse:
    trails = definition.stops.trailing is not None
    return Sparse(rules=rules, pyramids=definition.pyramid.max_layers > 0, trails=trails)


@contextmanager
def _uncollected() -> Iterator[None]:
    """What a run makes it keeps, or lets go of without a cycle: looking for cycles would only find more each time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Database(MemoryRpc):
    """A database that takes every journal entry and keeps none: nobody will read them."""

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        return SyncResult(last_seq=entries[-1].seq if entries else first_seq - 1, refused=())


class _Nowhere:
    """Telemetry of a backtest goes nowhere."""

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None:
        """Nobody looks."""

    def flush(self) -> None:
        """Nothing is kept."""


def _final_equity(made: Booked, columns: Columns, scales: Scales) -> str:
    price = round(float(columns.values[3, -1]) * 10.0 ** scales.price[0])
    return text_of(made.cash + made.qty * price * 10**scales.rate, scales.account)


def _open_positions(made: Booked, scales: Scales) -> tuple[OpenPosition, ...]:
    if made.open_row is None:
        return ()
    raw = np.array(made.open_row)
    cost, entered = int(raw[4]) + int(raw[5]), int(raw[3])
    price = price_text(cost, entered, scales.price[0])
    return (OpenPosition(symbol=0, qty=text_of(made.qty, AMOUNT_DECIMALS), entry_price=price),)
