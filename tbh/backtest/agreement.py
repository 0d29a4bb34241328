"""Whether a custom strategy's ``evaluate_all`` and ``on_bar`` say the same.

A backtest trades by the first, a bot by the second. Looked at are bars on which something is decided, and others,
evenly spread; on each the strategy is asked while flat, long and short.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from tbh.backtest import slots as p
from tbh.backtest.columns import Columns
from tbh.backtest.stepped import arrays_of, candle_of
from tbh.messages.orders import Purpose, Side
from tbh.strategies.base import Wish
from tbh.strategies.custom import Held, StrategyError
from tbh.strategies.runner import CustomRunner

SIGNALS_MAX = 300
OTHERS_MAX = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENTRIES = {Side.BUY: p.ENTRY_LONG, Side.SELL: p.ENTRY_SHORT}

Wished = frozenset[tuple[Purpose, Side]]


def check_agreement(strategy: CustomRunner, market: Columns, bits: npt.NDArray[np.uint8]) -> None:
    """``StrategyError``, one line with the first bar where the rules in ``bits`` (n) are not what ``on_bar`` wishes."""
    asked = strategy.anew()
    columns = asked.columns_over(arrays_of(market))
    rows = np.arange(strategy.warmup, len(market))
    deciding = bits[rows] != 0
    # A side that is never entered, by neither of the two, is not asked about.
    entered = [side for side, bit in _ENTRIES.items() if (bits & np.uint8(bit)).any()]
    for row in sorted([*spread(rows[deciding], SIGNALS_MAX).tolist(), *spread(rows[~deciding], OTHERS_MAX).tolist()]):
        for held in (each for each in positions(market, row) if each is None or each.side in entered):
            view = asked.view_of(
                columns,
                row,
                position=held,
                time_ms=int(market.stamps[row]),
                candle=lambda row=row: candle_of(market, row),  # type: ignore[misc]  # the row of this turn
            )
            found = asked.decide(view)
            if any(wish.sizing != asked.defaults.sizing for wish in found if wish.purpose.increases_risk):
                raise _refusal(strategy, market, row, "on_bar names a size, which evaluate_all can't")
            if any(
                wish.protection != asked.defaults.protect(view.candle.close)
                for wish in found
                if wish.purpose.increases_risk
            ):
                raise _refusal(strategy, market, row, "on_bar names stops, which evaluate_all can't")
            one, other = by_rules(int(bits[row]), held), wished(found)
            if one != other:
                told = f"while {state_of(held)}, evaluate_all wishes {text_of(one)}, and on_bar {text_of(other)}"
                raise _refusal(strategy, market, row, told)


def positions(market: Columns, row: int) -> tuple[Held | None, Held, Held]:
    """Flat, and a position of one unit on either side that was entered at the open of ``row``."""
    price = Decimal(repr(float(market.values[0, row])))
    since = _EPOCH + timedelta(milliseconds=int(market.stamps[max(row - 1, 0)]))
    long, short = (
        Held(side=side, qty=Decimal(1), entry_price=price, layers=1, since=since) for side in (Side.BUY, Side.SELL)
    )
    return None, long, short


def by_rules(bits: int, held: Held | None) -> Wished:
    """What a strategy without pyramids wishes by its rules, as ``DynamicStrategy.decide``."""
    entries = bits & (p.ENTRY_LONG | p.ENTRY_SHORT)
    entry = next((side for side, bit in _ENTRIES.items() if entries == bit), None)
    if held is None:
        return frozenset() if entry is None else frozenset({(Purpose.ENTRY, entry)})
    if not bits & (p.EXIT_LONG if held.side is Side.BUY else p.EXIT_SHORT):
        return frozenset()
    leaving = frozenset({(Purpose.EXIT, held.side.opposite)})
    return leaving | {(Purpose.ENTRY, entry)} if entry is held.side.opposite else leaving


def wished(wishes: tuple[Wish, ...]) -> Wished:
    """The decisions in ``wishes``, without their sizes."""
    return frozenset((wish.purpose, wish.side) for wish in wishes)


def spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """``count`` of ``rows`` at the most, evenly spread, the first and the last among them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def state_of(held: Held | None) -> str:
    """``flat``, ``long`` or ``short``."""
    return "flat" if held is None else "long" if held.side is Side.BUY else "short"


def text_of(found: Wished) -> str:
    """Decisions for people."""
    words = [f"{purpose} ({side})" for purpose, side in sorted(found)]
    return " and ".join(words) or "nothing"


def _refusal(strategy: CustomRunner, market: Columns, row: int, told: str) -> StrategyError:
    at = _EPOCH + timedelta(milliseconds=int(market.stamps[row]))
    return StrategyError(f"strategy {strategy.name!r} on the bar of {at:%Y-%m-%dT%H:%M:%SZ} (bar {row}): {told}")
