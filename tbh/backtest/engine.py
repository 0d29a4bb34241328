"""The fast engine: a definition over candles, whole arrays at a time, then one loop over the bars.

It reaches no state directory, no database and no network: what it is given are arrays. Its trades are those of ``tbh
demo`` over the same candles, to the last digit; ``python -m bench parity`` shows it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.agreement import check_agreement
from tbh.backtest.columns import Columns
from tbh.backtest.native import Runner
from tbh.backtest.options import Options, SlippageKind
from tbh.backtest.stats import Statistics, statistics
from tbh.backtest.stepped import arrays_of, stepping_runner
from tbh.backtest.terms import AMOUNT_DECIMALS, Scales, pair, scales_of, terms_of
from tbh.backtest.trades import Trades, price_text, text_of, total_of, trades_of, whole
from tbh.domain.money import EXACT
from tbh.strategies.base import BoolArray, FloatArray
from tbh.strategies.runner import AnyStrategy, CustomRunner

_RULES = {
    "entry_long": p.ENTRY_LONG,
    "entry_short": p.ENTRY_SHORT,
    "exit_long": p.EXIT_LONG,
    "exit_short": p.EXIT_SHORT,
    "pyramid_long": p.MORE_LONG,
    "pyramid_short": p.MORE_SHORT,
}

_ANY = p.ENTRY_LONG | p.ENTRY_SHORT | p.MORE_LONG | p.MORE_SHORT
"""What opens a position or adds to one."""

_REFUSALS = {
    "funds": p.REFUSED_FUNDS,
    "size": p.REFUSED_SIZE,
    "entry_open": p.REFUSED_OPEN,
    "max_open_positions": p.REFUSED_COUNT,
    "cooldown": p.REFUSED_COOLDOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPosition:
    """What is held after the last bar; ``qty`` signed base, money as text."""

    symbol: int
    qty: str
    entry_price: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a backtest came to. ``equity`` (n) is at the close of each instant ``stamps`` (n, ms UTC); money as text is
    exact. ``refused`` counts the entries that were not sent, by reason; ``paid`` are the rows of all round trips, the
    unfinished ones last."""

    bars: int
    stamps: npt.NDArray[np.int64]
    trades: Trades
    equity: FloatArray
    final_equity: str
    cash: str
    open_positions: tuple[OpenPosition, ...]
    fills: int
    refused: dict[str, int]
    statistics: Statistics
    seconds: float
    paid: FloatArray

    @property
    def fees(self) -> str:
        """All fees, those of what is still open included."""
        return total_of(self.paid, p.T_FEES_H, self.trades.scales)

    @property
    def funding(self) -> str:
        """What funding has cost, less what it has brought."""
        return total_of(self.paid, p.T_FUNDING_H, self.trades.scales)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bars:
    """All markets' bars one market after the other, and which of them there are at each instant."""

    values: FloatArray
    stamps: npt.NDArray[np.int64]
    offsets: tuple[int, ...]
    instants: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def backtest(strategy: AnyStrategy, markets: Sequence[Columns], options: Options, run_bars: Runner) -> Run:
    """Trade ``strategy`` on each of ``markets`` with one account; ``run_bars`` is the loop (``native.runner``).

    Raises ``IndicatorError`` when a column can't be computed, ``StrategyError`` when a custom strategy fails or wishes
    what it can't, ``ValueError`` for no market or a market without bars.
    """
    began_s = time.perf_counter()
    if not markets or any(not len(market) for market in markets):
        raise ValueError("a backtest needs a market with bars")
    scales = scales_of(markets, options)
    bars = _joined(markets)
    if isinstance(strategy, CustomRunner) and not strategy.vectorised:
        run_bars = stepping_runner(strategy, markets, scales)
        rules = np.full(len(bars.stamps), _ANY, dtype=np.uint8)  # on any bar it may enter
    else:
        wished = [wishes(strategy, market) for market in markets]
        rules = wished[0] if len(wished) == 1 else np.concatenate(wished)
    noise = _noise(options, len(bars.stamps))
    state = np.zeros((len(markets), p.STATE_PLACES))
    state[:, p.LEFT] = 1e300
    state[:, p.ENDED_MS] = -np.inf
    state[:, p.MARKET] = np.arange(len(markets))
    account = np.zeros(p.ACCOUNT_PLACES)
    account[p.CASH_H], account[p.CASH_L] = pair(options.cash.scaleb(scales.account, EXACT))
    terms = terms_of(strategy.definition, markets, scales, options)
    table = np.empty((_trades_max(rules & np.uint8(_ANY), options), p.TRADE_PLACES))
    equity = np.empty(len(bars.instants))
    run_bars(
        len(bars.instants),
        len(markets),
        bars.values,
        bars.stamps,
        rules,
        bars.rows,
        noise,
        terms,
        state,
        account,
        table,
        equity,
    )
    raw = table[: int(account[p.TRADES])]
    trades = trades_of(raw, bars.stamps, bars.offsets, scales)
    return Run(
        bars=sum(len(market) for market in markets),
        stamps=bars.instants,
        trades=trades,
        equity=equity,
        final_equity=_final_equity(state, account, scales),
        cash=text_of(whole(account[p.CASH_H], account[p.CASH_L]), scales.account),
        open_positions=_open_positions(state, scales),
        fills=int(account[p.FILLS]),
        refused={name: int(account[place]) for name, place in _REFUSALS.items()},
        statistics=statistics(
            equity,
            cash=float(options.cash),
            pnl=trades.pnl,
            held_bars=int(account[p.HELD_BARS]),
            timeframe_s=markets[0].timeframe_s,
        ),
        paid=np.concatenate((raw, state[_held(state), p.TRIP :])),
        seconds=time.perf_counter() - began_s,
    )


def wishes(strategy: AnyStrategy, market: Columns) -> npt.NDArray[np.uint8]:
    """Which rules are true on each bar (n), as bits. ``StrategyError`` where a custom strategy contradicts itself."""
    bits = packed(strategy.evaluate_all(arrays_of(market, times=strategy.reads_times)), len(market))
    if isinstance(strategy, CustomRunner):
        check_agreement(strategy, market, bits)
    return bits


def packed(rules: dict[str, BoolArray], rows: int) -> npt.NDArray[np.uint8]:
    """Rules by name (n booleans each) as the bits of one array (n)."""
    bits = np.zeros(rows, dtype=np.uint8)
    for name, bit in _RULES.items():
        values = rules[name]
        if values.any():
            np.bitwise_or(bits, np.ascontiguousarray(values).view(np.uint8) * np.uint8(bit), out=bits)
    return bits


def _joined(markets: Sequence[Columns]) -> _Bars:
    if len(markets) == 1:
        only = markets[0]
        empty = np.empty((1, 0), dtype=np.int64)
        return _Bars(values=only.values, stamps=only.stamps, offsets=(0,), instants=only.stamps, rows=empty)
    offsets = np.cumsum([0, *(len(market) for market in markets)])
    instants = np.unique(np.concatenate([market.stamps for market in markets]))
    rows = np.full((len(markets), len(instants)), -1, dtype=np.int64)
    for number, market in enumerate(markets):
        rows[number, np.searchsorted(instants, market.stamps)] = np.arange(len(market)) + offsets[number]
    return _Bars(
        values=np.concatenate([market.values for market in markets], axis=1),
        stamps=np.concatenate([market.stamps for market in markets]),
        offsets=tuple(int(offset) for offset in offsets[:-1]),
        instants=instants,
        rows=rows,
    )


def _noise(options: Options, bars: int) -> FloatArray:
    if options.slippage.kind is not SlippageKind.RANDOM:
        return np.empty((2, 0))
    return np.random.Generator(np.random.PCG64(options.slippage.seed)).standard_normal((2, bars))


def _trades_max(adding: npt.NDArray[np.uint8], options: Options) -> int:
    # Each round trip begins with an entry's fill, and an entry needs a bar on which it is wished; where volume is
    # short one entry fills bar after bar, and may begin a round trip with each.
    per_bar = 0 if options.volume_share is None else 2 * len(adding)
    return int(np.count_nonzero(adding)) + per_bar + 1


def _held(state: FloatArray) -> list[int]:
    return [number for number, row in enumerate(state) if row[p.QTY] != 0.0]


def _final_equity(state: FloatArray, account: FloatArray, scales: Scales) -> str:
    total = whole(account[p.CASH_H], account[p.CASH_L])
    for number in _held(state):
        row, decimals = state[number], scales.price[number]
        price = round(row[p.LAST_F] * 10.0**decimals)
        total += int(row[p.QTY]) * price * 10 ** (scales.account - scales.notional(number))
    return text_of(total, scales.account)


def _open_positions(state: FloatArray, scales: Scales) -> tuple[OpenPosition, ...]:
    held = []
    for number in _held(state):
        row = state[number]
        cost = whole(row[p.TRIP + p.T_PAID_H], row[p.TRIP + p.T_PAID_L])
        entered = int(row[p.TRIP + p.T_QTY])
        entry_price = price_text(cost, entered, scales.price[number])
        held.append(OpenPosition(symbol=number, qty=text_of(int(row[p.QTY]), AMOUNT_DECIMALS), entry_price=entry_price))
    return tuple(held)
