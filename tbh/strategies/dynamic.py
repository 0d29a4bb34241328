"""The strategy that a definition describes.

On the close of a bar:

- flat: an entry rule that is true wishes an ENTRY. When both sides' rules are true they cancel each other, as neither
  is the stronger.
- in a position: a true exit rule of its side wishes an EXIT, and with it the ENTRY of the opposite side when that rule
  (alone) is true as well: a reversal. An opposite entry without an exit is ignored; so is an entry of the same side.
- still in it, with layers left: a true pyramid rule of its side wishes a PYRAMID.

A cool-down goes with every ENTRY as a condition on the account. After any end, or a loss, nothing is reversed: whether
an exit loses is not known before it has filled.

Only the rules that the position makes relevant are evaluated, and only the columns that these reach are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from tbh.messages.base import replace
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side, Trailing
from tbh.messages.strategy import Cooldown, CooldownAfter, Limit, Sizing, SizingKind
from tbh.strategies.base import BoolArray, FloatArray, View, Wish
from tbh.strategies.conditions import Rule, compile_rule
from tbh.strategies.history import history_needed, starting
from tbh.strategies.indicators import SERIES, TIME
from tbh.strategies.live import Live
from tbh.strategies.series import Columns, Computation, computations
from tbh.strategies.shapes import Definition
from tbh.strategies.trading import LimitEntry

if TYPE_CHECKING:  # as in base.py
    from tbh.messages.account import Position

_SIDES = {Side.BUY: "long", Side.SELL: "short"}


class DynamicStrategy:
    """A Strategy (``tbh/strategies/base.py``) made from a checked definition."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.name
        self.timeframe_s = definition.timeframe_s
        self._plan = computations(definition)
        self._rules: Mapping[tuple[str, Side], Rule | None] = {
            (purpose, side): compile_rule(getattr(sides, word))
            for purpose, sides in (
                ("entry", definition.entry),
                ("exit", definition.exit),
                ("pyramid", definition.pyramid),
            )
            for side, word in _SIDES.items()
        }
        self._sizing = Sizing(kind=SizingKind(definition.sizing.kind), value=definition.sizing.value)
        self._needs = frozenset(need for rule in self._rules.values() if rule is not None for need in rule.needs)
        self._live = Live(self._plan, self._needs, self.timeframe_s)
        self.warmup = self._leading_nulls()
        self.history_needed = history_needed(self._plan, self._needs, self.timeframe_s)
        """Closed bars that a start must load for the rules to be what they are over any longer history."""

    @property
    def bar_count(self) -> int:
        return self._live.bars.count

    @property
    def warm(self) -> bool:
        return self._live.bars.count > self.warmup

    @property
    def computations(self) -> Mapping[str, Computation]:
        """What makes each column of an indicator."""
        return self._plan

    @property
    def starting(self) -> tuple[Computation, ...]:
        """What the rules read that depends on where the history began, however long it is."""
        return starting(self._plan[name] for name, _ in sorted(self._needs) if name in self._plan)

    @property
    def reads_times(self) -> bool:
        """Whether an indicator wants to know when the bars opened: because it knows days, or reads higher bars."""
        return any(computation.reads_times for computation in self._plan.values())

    def load(self, history: Sequence[Candle]) -> None:
        """Replace all series by ``history``. ValueError on bars out of order or without finite numbers."""
        self._live.load(history)

    def append(self, candle: Candle) -> None:
        """One more closed bar. ValueError when it is not newer than the last, or holds no finite numbers."""
        self._live.append(candle)

    def view(self, position: Position | None) -> View:
        """The last bar and everything a decision on it may look at."""
        candle = self._live.bars.last
        if candle is None:
            raise ValueError(f"strategy {self.name!r} has no bar to decide on")
        return View(
            bar_index=self._live.bars.count - 1,
            candle=candle,
            position=position,
            columns=self._live.columns(),
        )

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        """Decide on the last bar. IndicatorError when a column cannot be computed."""
        return self.decide(self.view(position))

    def decide(self, view: View) -> tuple[Wish, ...]:
        """The wishes that follow from ``view``, and from nothing else."""
        position = view.position
        if position is None or position.qty == 0:
            entries = [side for side in Side if self._true("entry", side, view)]
            return (self._entry(entries[0], view),) if len(entries) == 1 else ()
        held = Side.BUY if position.qty > 0 else Side.SELL
        if self._true("exit", held, view):
            leave = Wish(side=held.opposite, purpose=Purpose.EXIT, reason=self._reason("exit", held))
            if self._true("entry", held.opposite, view) and not self._true("entry", held, view):
                if not reverses(self.definition):
                    return (replace(leave, reason=f"{leave.reason}; no reversal: a cool-down follows"),)
                return leave, self._entry(held.opposite, view)
            return (leave,)
        # The entry is the first layer; ``max_layers`` counts those on top of it.
        if position.layers <= self.definition.pyramid.max_layers and self._true("pyramid", held, view):
            return (self._entry(held, view, purpose=Purpose.PYRAMID, layer=position.layers),)
        return ()

    def columns_over(self, arrays: Mapping[str, FloatArray]) -> Columns:
        """Every column over whole arrays, computed as it is asked for; ``arrays`` as ``evaluate_all`` takes them."""
        given = (*SERIES, TIME) if TIME in arrays else SERIES
        series = {name: np.ascontiguousarray(arrays[name], dtype=np.float64).view() for name in given}
        for values in series.values():
            values.flags.writeable = False
        return Columns(series, self._plan, self.timeframe_s)

    def evaluate_all(self, arrays: Mapping[str, FloatArray]) -> dict[str, BoolArray]:
        """Every rule on every bar: ``entry_long``, ``entry_short``, ``exit_...``, ``pyramid_...`` to n booleans each.

        ``arrays`` maps open, high, low, close and volume to contiguous float64 of length n, and ``time`` to ms UTC
        where ``reads_times``. Row i is what ``on_bar`` finds after bar i, when it was given the same bars from the
        first on (``live.py``).
        """
        columns = self.columns_over(arrays)
        rows = len(arrays["close"])
        return {
            f"{purpose}_{_SIDES[side]}": (
                np.zeros(rows, dtype=np.bool_) if rule is None else rule.evaluate(columns, 0, rows)
            )
            for (purpose, side), rule in self._rules.items()
        }

    def _true(self, purpose: str, side: Side, view: View) -> bool:
        rule = self._rules[purpose, side]
        if rule is None:
            return False
        if view.bar_index + 1 == self._live.bars.count:
            return self._live.decide(rule)
        rows = len(view.columns["close"])
        return bool(rule.evaluate(view.columns, rows - 1, rows)[0])

    def _entry(self, side: Side, view: View, *, purpose: Purpose = Purpose.ENTRY, layer: int = 0) -> Wish:
        return Wish(
            side=side,
            purpose=purpose,
            layer=layer,
            sizing=self._sizing,
            protection=protection_of(self.definition, view.candle.close),
            cooldown=self._cooldown(view.candle) if purpose is Purpose.ENTRY else None,
            limit=self._limit(view.candle),
            reason=self._reason(purpose.value, side),
        )

    def _cooldown(self, candle: Candle) -> Cooldown | None:
        rule = self.definition.cooldown
        if rule is None:
            return None
        # Whatever ended in one of the last ``bars`` bars, this one included: all but the first began since then.
        since = candle.open_time - timedelta(seconds=(rule.bars - 1) * self.timeframe_s)
        return Cooldown(after=CooldownAfter(rule.after), bars=rule.bars, since=since)

    def _limit(self, candle: Candle) -> Limit | None:
        order = self.definition.orders.entry
        if not isinstance(order, LimitEntry):
            return None
        until = candle.open_time + timedelta(seconds=(order.expires_bars + 1) * self.timeframe_s)
        return Limit(offset=order.offset, until=until)

    def _reason(self, purpose: str, side: Side) -> str:
        rule = self._rules[purpose, side]
        return f"{purpose} {_SIDES[side]}: {'' if rule is None else rule.text}"

    def _leading_nulls(self) -> int:
        return max((self._nulls(column) + back for column, back in self._needs), default=0)

    def _nulls(self, column: str) -> int:
        computation = self._plan.get(column)
        return 0 if computation is None else computation.warmup


def reverses(definition: Definition) -> bool:
    """Whether an exit and an opposite entry on one bar reverse the position."""
    return definition.cooldown is None or definition.cooldown.after == "stop"


def protection_of(definition: Definition, close: Decimal | None = None) -> Protection | None:
    """What the definition guards a position with; None when it names no stop at all. ``close`` is the signal bar's, for
    a definition that measures from it; without one it is measured from the fill."""
    stops = definition.stops
    if stops.stop_loss is None and stops.take_profit is None and stops.trailing is None:
        return None
    trailing = stops.trailing
    return Protection(
        stop_loss=stops.stop_loss,
        take_profit=stops.take_profit,
        trailing=None if trailing is None else Trailing(distance=trailing.distance, activate_at=trailing.activate_at),
        basis_price=close if stops.basis == "signal_close" else None,
    )
