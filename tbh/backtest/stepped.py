"""A custom strategy in the fast engine: asked on the close of each bar, with the position that the loop holds.

The loop is the very one of ``loop.py``, uncompiled. Of its functions two are others here: where the compiled loop reads
which rules are true, the strategy is asked; and a fill that begins a position brings the stops of its own entry, as
each entry of a custom strategy may have others.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.exact import COMPILED, Number
from tbh.backtest.fills import Array
from tbh.backtest.native import Runner, plain_runner
from tbh.backtest.terms import AMOUNT_DECIMALS, GUARDS, Scales, fill_fractions, fill_size
from tbh.domain.money import EXACT
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side
from tbh.strategies.base import Wish
from tbh.strategies.custom import Held
from tbh.strategies.indicators import TIME
from tbh.strategies.runner import CustomRunner
from tbh.strategies.trading import MarketEntry, SizingRule, Stops, TrailingStop

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MARKET = MarketEntry(kind="market")


class Stepper:
    """One market's strategy. ``offset`` is where the market's bars begin among those of all."""

    def __init__(self, strategy: CustomRunner, market: Columns, offset: int, decimals: int) -> None:
        self._strategy = strategy.anew()
        self._market = market
        self._offset = offset
        self.decimals = decimals
        self._columns = strategy.columns_over(arrays_of(market))
        self._stamps = market.stamps.tolist()
        self._held: Held | None = None
        self._held_as: tuple[float, ...] = ()
        self.guards: list[float] | None = None
        """The stops of the last entry that was sent, as the terms hold them."""
        self.since_ms = 0.0

    def decide(self, state: Array) -> tuple[Wish, ...]:
        """What is wished at the close of the bar that ``state`` stands on. ``StrategyError`` as it may be."""
        row = int(state[p.ROW]) - self._offset
        if row < self._strategy.warmup:
            return ()
        view = self._strategy.view_of(
            self._columns,
            row,
            position=self._position(state) if state[p.QTY] != 0.0 else None,
            time_ms=self._stamps[row],
            candle=lambda: candle_of(self._market, row),
        )
        return self._strategy.decide(view)

    def _position(self, state: Array) -> Held:
        as_held = (state[p.QTY], state[p.AVERAGE_H], state[p.AVERAGE_L], state[p.LAYERS], self.since_ms)
        if self._held is None or as_held != self._held_as:
            qty, high, low, layers, since_ms = as_held
            price = EXACT.add(Decimal(high), Decimal(low))
            self._held_as = as_held
            self._held = Held(
                side=Side.BUY if qty > 0.0 else Side.SELL,
                qty=Decimal(int(abs(qty))).scaleb(-AMOUNT_DECIMALS, EXACT),
                entry_price=price.scaleb(-self.decimals, EXACT),
                layers=int(layers),
                since=_EPOCH + timedelta(milliseconds=since_ms),
            )
        return self._held


def stepping_runner(strategy: CustomRunner, markets: Sequence[Columns], scales: Scales) -> Runner:
    """``run_bars`` of ``loop.py`` that asks ``strategy``, a new instance for each market, on each bar.

    The rules that it is given must be true on each bar on which the strategy may be asked.
    """
    offsets = np.cumsum([0, *(len(market) for market in markets)]).tolist()
    steppers = [
        Stepper(strategy, market, offset, decimals)
        for market, offset, decimals in zip(markets, offsets, scales.price, strict=False)
    ]
    return plain_runner(_linked(steppers)["run_bars"])


def _linked(steppers: Sequence[Stepper]) -> dict[str, Callable[..., Any]]:
    """The loop's functions by name, with those of custom strategies among them: they find each other by name."""
    names: dict[str, Any] = {}
    for function in COMPILED:
        names |= function.__globals__
    for function in COMPILED:
        names[function.__name__] = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__
        )
    enter, leave, enlarge = names["enter"], names["leave"], names["enlarge"]

    def decide(k: int, state: Array, a: Array, terms: Array, markets: int, *_: Any) -> None:
        stepper, s, t = steppers[k], state[k], terms[k]
        for wish in stepper.decide(s):
            if wish.purpose is Purpose.EXIT:
                leave(s, a, t)
                continue
            standing = t[GUARDS]
            _fill_terms(t, wish, stepper)
            sent = s[p.ENTRY_SEQ]
            enter(k, state, a, terms, markets, 1.0 if wish.side is Side.BUY else -1.0, float(wish.layer))
            if s[p.ENTRY_SEQ] != sent:
                s[p.ENTRY_BASIS] = _basis(wish.protection, t)
                stepper.guards = t[GUARDS]
            # What guards the position that is still there stays as it is.
            t[GUARDS] = standing

    def enlarge_with_guards(s: Array, a: Array, t: Array, qty: Number, price: Number) -> None:
        if s[p.QTY] == 0.0:
            stepper = steppers[int(s[p.MARKET])]
            if stepper.guards is not None:
                t[GUARDS] = stepper.guards
            stepper.since_ms = s[p.ENTRY_MS] - t[p.BAR_MS]
        enlarge(s, a, t, qty, price)

    names["decide"], names["enlarge"] = decide, enlarge_with_guards
    return names


def _fill_terms(t: Array, wish: Wish, stepper: Stepper) -> None:
    """Let the terms hold the size and the stops of ``wish``."""
    assert wish.sizing is not None  # every wish that passed has one
    fill_size(t, SizingRule(kind=wish.sizing.kind.value, value=wish.sizing.value), stepper.decimals)
    fill_fractions(t, _stops_of(wish.protection), _MARKET)


def _stops_of(protection: Protection | None) -> Stops:
    if protection is None:
        return Stops()
    trailing = protection.trailing
    return Stops.model_construct(
        basis="entry",
        stop_loss=protection.stop_loss,
        take_profit=protection.take_profit,
        trailing=None
        if trailing is None
        else TrailingStop.model_construct(distance=trailing.distance, activate_at=trailing.activate_at),
    )


def _basis(protection: Protection | None, t: Array) -> Number:
    if protection is None or protection.basis_price is None:
        return 0.0
    return float(EXACT.multiply(protection.basis_price, Decimal(int(t[p.PRICE_SCALE]))))


def arrays_of(market: Columns, *, times: bool = True) -> dict[str, npt.NDArray[np.float64]]:
    """The columns by name, and the times where they are read."""
    return market.arrays | ({TIME: market.stamps.astype(np.float64)} if times else {})


def candle_of(market: Columns, row: int) -> Candle:
    """The bar ``row`` as a candle, each price the shortest text that names its float."""
    values = [Decimal(repr(float(value))) for value in market.values[:, row]]
    return Candle(
        open_time=_EPOCH + timedelta(milliseconds=int(market.stamps[row])),
        open=values[0],
        high=values[1],
        low=values[2],
        close=values[3],
        volume=values[4],
    )
