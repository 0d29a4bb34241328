"""A custom strategy as everything else takes one: beside a Definition stands a Custom, beside DynamicStrategy a
CustomRunner.

What the strategy declares (indicators, stops, size) becomes a definition without rules, its *shell*: so it is checked,
computed and explained by the same code as any definition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Side
from tbh.messages.strategy import Sizing, SizingKind
from tbh.strategies.base import BoolArray, FloatArray, Wish
from tbh.strategies.custom import BarView, CustomStrategy, Held, StrategyError, Window
from tbh.strategies.definition import DefinitionError, Problem, parse_definition
from tbh.strategies.dynamic import DynamicStrategy, protection_of
from tbh.strategies.failures import failure_line, first_line
from tbh.strategies.history import history_needed, starting
from tbh.strategies.indicators import TIME
from tbh.strategies.series import Columns, Computation, computations
from tbh.strategies.shapes import TIMEFRAMES, Definition
from tbh.strategies.wishes import Defaults, checked

if TYPE_CHECKING:  # as in base.py
    from tbh.messages.account import Position

HISTORY_MAX = 25_000
"""What a live strategy keeps at least."""

RULES = ("entry_long", "entry_short", "exit_long", "exit_short", "pyramid_long", "pyramid_short")
_OFFERED = RULES[:4]
_DECLARED = ("indicators", "stops", "sizing")
_RULES_ALONE = ("cooldown", "orders")
_NEVER: dict[str, Any] = {"long": {"all": []}}
_ANY_SIZE = {"kind": "fixed_quantity", "value": "1"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """A custom strategy with its parameters, checked: what a Definition is for one made of rules.

    ``reference`` is how it was named, ``params`` its parameters as JSON has them, ``make`` gives a new instance.
    ``package`` is the name and version of the installed package that offers it, empty where it was named by its code.
    """

    reference: str
    name: str
    timeframe: str
    params: Mapping[str, Any]
    make: Callable[[], CustomStrategy]
    history: int
    shell: Definition
    sized: bool
    package: str = ""

    @property
    def timeframe_s(self) -> int:
        return TIMEFRAMES[self.timeframe]

    def canonical_json(self) -> str:
        """The definition as it is stored with a bot, with every parameter spelled out."""
        shape = {"custom": self.reference, "name": self.name, "params": self.params, "timeframe": self.timeframe}
        return json.dumps(shape, sort_keys=True, separators=(",", ":"))

    def fingerprint(self) -> str:
        """sha256 of ``canonical_json``, 64 hex digits. The code of the strategy is no part of it."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


AnyDefinition = Definition | Custom


def strategy_of(definition: AnyDefinition) -> AnyStrategy:
    """A new strategy, ready for its bars."""
    return CustomRunner(definition) if isinstance(definition, Custom) else DynamicStrategy(definition)


def default_protection(definition: AnyDefinition) -> Protection | None:
    """What guards a position of which no more is known than that the strategy has opened it."""
    return protection_of(definition.shell if isinstance(definition, Custom) else definition)


def custom_of(
    *,
    reference: str,
    name: str,
    timeframe: str,
    params: Mapping[str, Any],
    make: Callable[[], CustomStrategy],
    package: str = "",
) -> Custom:
    """A Custom from a way to make its instances. DefinitionError for whatever an instance lacks or declares wrongly."""
    made = made_by(make)
    history = getattr(made, "history", None)
    problems = []
    if not callable(getattr(made, "on_bar", None)):
        problems.append(Problem("$.custom", f"{type(made).__name__} has no method on_bar(view); it is no strategy"))
    if type(history) is not int or not 1 <= history <= HISTORY_MAX:
        told = "is missing" if history is None else f"is {history!r}"
        problems.append(
            Problem("$.custom", f"history {told}; it must be a whole number of bars from 1 to {HISTORY_MAX}")
        )
    declared = {part: getattr(made, part) for part in _DECLARED if getattr(made, part, None) is not None}
    sized = "sizing" in declared
    if callable(getattr(made, "evaluate_all", None)) and not sized:
        problems.append(Problem("$.custom", "evaluate_all gives no sizes; declare a sizing"))
    problems += [
        Problem(f"$.{part}", "is for definitions; a strategy in Python enters at the next open")
        for part in _RULES_ALONE
        if isinstance(getattr(made, part, None), Mapping)
    ]
    if problems:
        raise DefinitionError(problems)
    assert isinstance(history, int)
    shape = {"sizing": _ANY_SIZE} | declared | {"name": name, "timeframe": timeframe, "entry": _NEVER}
    if isinstance(shape.get("indicators"), tuple):
        shape["indicators"] = list(shape["indicators"])
    return Custom(
        reference=reference,
        name=name,
        timeframe=timeframe,
        params=params,
        make=make,
        history=history,
        shell=parse_definition(shape),
        sized=sized,
        package=package,
    )


def made_by(make: Callable[[], CustomStrategy]) -> CustomStrategy:
    """An instance. DefinitionError with what its constructor had to say."""
    try:
        return make()
    except ValueError as error:
        raise DefinitionError([Problem("$.params", first_line(error) or failure_line(error))]) from error
    except (Exception, SystemExit) as error:  # what a stranger's constructor raises is anything
        raise DefinitionError([Problem("$.custom", f"can't be made: {failure_line(error)}")]) from error


class CustomRunner:
    """A Strategy (``tbh/strategies/base.py``) that asks a custom one. Not asked before all it may look at has values.

    ``definition`` is the shell. ``decide`` and ``evaluate_all`` raise ``StrategyError`` for what the custom one raises
    or wishes wrongly.
    """

    reads_times = True

    def __init__(self, custom: Custom) -> None:
        self.custom = custom
        self.definition = custom.shell
        self.name = custom.name
        self.timeframe_s = custom.timeframe_s
        self._made = made_by(custom.make)
        self._bars = DynamicStrategy(custom.shell)
        nulls = max((each.warmup for each in computations(custom.shell).values()), default=0)
        self.warmup = nulls + custom.history - 1
        needs = [(column, custom.history - 1) for column in computations(custom.shell)]
        self.history_needed = max(history_needed(computations(custom.shell), needs, self.timeframe_s), self.warmup + 1)
        """Closed bars that a start must load for the columns to be what they are over any longer history, as far as
        they forget at all."""
        sizing = custom.shell.sizing
        self.defaults = Defaults(
            sizing=Sizing(kind=SizingKind(sizing.kind), value=sizing.value) if custom.sized else None,
            protect=lambda close: protection_of(custom.shell, close),
        )

    def anew(self) -> CustomRunner:
        """The same strategy as a new instance, without bars."""
        return CustomRunner(self.custom)

    @property
    def starting(self) -> tuple[Computation, ...]:
        """What it reads that depends on where the history began, however long it is."""
        return starting(computations(self.custom.shell).values())

    @property
    def vectorised(self) -> bool:
        """Whether it offers ``evaluate_all``."""
        return callable(getattr(self._made, "evaluate_all", None))

    @property
    def bar_count(self) -> int:
        return self._bars.bar_count

    @property
    def warm(self) -> bool:
        return self._bars.bar_count > self.warmup

    def load(self, history: Sequence[Candle]) -> None:
        self._bars.load(history)

    def append(self, candle: Candle) -> None:
        self._bars.append(candle)

    def on_bar(self, position: Position | None) -> tuple[Wish, ...]:
        """Decide on the last bar. IndicatorError when a column that it asks for can't be computed."""
        whole = self._bars.view(None)
        if not self.warm:
            return ()
        rows = len(whole.columns["close"])
        view = BarView(
            columns=Window(whole.columns, rows - self.custom.history, rows),
            position=held_of(position),
            time_ms=(whole.candle.open_time - _EPOCH) // _MS,
            candle=whole.candle,
        )
        return self.decide(view)

    def columns_over(self, arrays: Mapping[str, FloatArray]) -> Columns:
        """Every column over whole arrays, as ``DynamicStrategy.columns_over``."""
        return self._bars.columns_over(arrays)

    def view_of(
        self,
        columns: Mapping[str, FloatArray],
        row: int,
        *,
        position: Held | None,
        time_ms: int,
        candle: Candle | Callable[[], Candle],
    ) -> BarView:
        """The bar ``row`` of whole columns, at least ``warmup``."""
        window = Window(columns, row + 1 - self.custom.history, row + 1)
        return BarView(columns=window, position=position, time_ms=time_ms, candle=candle)

    def decide(self, view: BarView) -> tuple[Wish, ...]:
        """The wishes on one bar, with every size and stop filled in, an exit first."""
        try:
            made = self._made.on_bar(view)
        except (Exception, SystemExit) as error:  # what a stranger's code raises is anything
            raise StrategyError(f"{self._at(view)}: {failure_line(error)}") from error
        try:
            return checked(made, view, self.defaults)
        except ValueError as error:
            raise StrategyError(f"{self._at(view)}: {error}") from error

    def evaluate_all(self, arrays: Mapping[str, FloatArray]) -> dict[str, BoolArray]:
        """Every rule on every bar (n), by name; false where ``on_bar`` would not be asked yet."""
        rows = len(arrays["close"])
        columns = self.columns_over(arrays)
        given: Any = {**dict.fromkeys(columns), TIME: None}
        try:
            found = self._made.evaluate_all(_Whole(columns, arrays, given))  # type: ignore[attr-defined]  # ``vectorised``
            rules = dict(found)
        except (Exception, SystemExit) as error:  # what a stranger's code raises is anything
            raise StrategyError(f"strategy {self.name!r}: evaluate_all failed: {failure_line(error)}") from error
        made = {name: np.zeros(rows, dtype=np.bool_) for name in RULES}
        for name, values in rules.items():
            if name not in _OFFERED:
                raise self._wrong(f"{name!r} is none of {', '.join(_OFFERED)}")
            if not isinstance(values, np.ndarray) or values.dtype != np.bool_ or values.shape != (rows,):
                raise self._wrong(f"{name} must be an array of {rows} booleans, one for each bar")
            made[name][self.warmup :] = values[self.warmup :]
        return made

    def _wrong(self, text: str) -> StrategyError:
        return StrategyError(f"strategy {self.name!r}: evaluate_all: {text}")

    def _at(self, view: BarView) -> str:
        return f"strategy {self.name!r} on the bar of {view.open_time:%Y-%m-%dT%H:%M:%SZ}"


AnyStrategy = DynamicStrategy | CustomRunner


class _Whole(Mapping[str, FloatArray]):
    """The columns of all bars, and ``time``."""

    def __init__(self, columns: Columns, arrays: Mapping[str, FloatArray], names: Mapping[str, None]) -> None:
        self._columns = columns
        self._names = names
        self._time = np.array(arrays[TIME]) if TIME in arrays else None
        if self._time is not None:
            self._time.flags.writeable = False

    def __getitem__(self, column: str) -> FloatArray:
        if column == TIME and self._time is not None:
            return self._time
        return self._columns[column]

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def held_of(position: Position | None) -> Held | None:
    """What a custom strategy is shown of a position."""
    if position is None or not position.qty:
        return None
    return Held(
        side=Side.BUY if position.qty > 0 else Side.SELL,
        qty=abs(position.qty),
        entry_price=position.entry_price,
        layers=position.layers,
        since=position.bar_open,
    )
