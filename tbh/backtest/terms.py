"""From a definition and the options to the numbers that the compiled loop reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import floor, log10

import numpy as np

from tbh.backtest import slots as p
from tbh.backtest.columns import EXACT_MAX, Columns
from tbh.backtest.options import Options, SlippageKind
from tbh.domain.money import EXACT
from tbh.domain.papermarket import STEP, paper_market
from tbh.strategies.base import FloatArray
from tbh.strategies.shapes import Definition
from tbh.strategies.trading import EntryOrder, LimitEntry, SizingRule, Stops

FRACTION_DECIMALS_MAX = 15
"""Beyond these the decimals of a rate make no difference that a price step could show."""
AMOUNT_DECIMALS = 8

GUARDS = slice(p.FRACTIONS, p.FROM_CLOSE)
"""Which terms say what guards a position."""

_SIZES = {
    "fixed_quantity": p.FIXED_QUANTITY,
    "fixed_notional": p.FIXED_NOTIONAL,
    "equity_fraction": p.EQUITY_FRACTION,
    "risk_fraction": p.RISK_FRACTION,
}
_ENDS = {"any": p.ANY_END, "loss": p.A_LOSS, "stop": p.A_STOP}
_SLIPS = {
    SlippageKind.NONE: p.NO_SLIP,
    SlippageKind.FIXED: p.FIXED_SLIP,
    SlippageKind.PROPORTIONAL: p.PROPORTIONAL_SLIP,
    SlippageKind.RANDOM: p.RANDOM_SLIP,
    SlippageKind.VOLUME_SHARE: p.SHARE_SLIP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Powers of ten: a price counts units of ``10^-price[k]`` on market k, a quantity of 1e-8, a fee rate of
    ``10^-rate``; money is the product of the three, for the account with the finest price."""

    price: tuple[int, ...]
    rate: int

    @property
    def account(self) -> int:
        """Of the account's cash."""
        return AMOUNT_DECIMALS + max(self.price) + self.rate

    def notional(self, market: int) -> int:
        """Of quantity times price on a market."""
        return AMOUNT_DECIMALS + self.price[market]


def scales_of(markets: Sequence[Columns], options: Options) -> Scales:
    """The scales that hold all prices and rates exactly, as far as 2^53 units do."""
    rate = max(_decimals(options.fee), _decimals(options.funding_rate))
    return Scales(price=tuple(_price_decimals(market) for market in markets), rate=rate)


def pair(value: Decimal) -> tuple[float, float]:
    """A number as the sum of two floats."""
    high = float(value)
    return high, float(EXACT.subtract(value, Decimal(high)))


def terms_of(definition: Definition, markets: Sequence[Columns], scales: Scales, options: Options) -> FloatArray:
    """(markets, TERM_PLACES): what ``slots.py`` names."""
    table = np.zeros((len(markets), p.TERM_PLACES))
    for row, market in enumerate(markets):
        _fill(table[row], definition, market, scales, row, options)
    return table


def _fill(t: FloatArray, definition: Definition, market: Columns, scales: Scales, row: int, options: Options) -> None:
    decimals = scales.price[row]
    t[p.PRICE_SCALE] = 10.0**decimals
    t[p.STEP_UNITS] = 10.0 ** max(decimals - _step_decimals(market), 0)
    t[p.CASH_UNITS] = 10.0 ** (max(scales.price) - decimals)
    t[p.FEE_SCALE] = 10.0**scales.rate
    t[p.FEE] = _whole(options.fee, scales.rate)
    t[p.AMOUNT_SCALE] = 10.0**AMOUNT_DECIMALS
    t[p.CASH_SCALE] = 10.0**scales.account
    t[p.BAR_MS] = market.timeframe_s * 1000.0
    fill_size(t, definition.sizing, decimals)
    fill_fractions(t, definition.stops, definition.orders.entry)
    t[p.MAX_LAYERS] = definition.pyramid.max_layers
    if definition.cooldown is not None:
        t[p.COOL_BARS], t[p.COOL_AFTER] = definition.cooldown.bars, _ENDS[definition.cooldown.after]
    t[p.POSITIONS_MAX] = np.inf if options.positions_max is None else options.positions_max
    t[p.SLIP_KIND] = _SLIPS[options.slippage.kind]
    t[p.SLIP] = float(options.slippage.rate)
    t[p.SLIP_MORE] = float(options.slippage.deviation)
    t[p.DELAY_BARS], t[p.DELAY_PART] = options.delay(market.timeframe_s)
    if options.volume_share is not None:
        places = _decimals(options.volume_share)
        t[p.SHARE], t[p.SHARE_SCALE] = _whole(options.volume_share, places), 10.0**places
    if options.funding_rate:
        t[p.FUNDING_RATE] = _whole(options.funding_rate, scales.rate)
        t[p.FUNDING_MS] = options.funding_hours * 3_600_000


def fill_size(t: FloatArray, sizing: SizingRule, decimals: int) -> None:
    """How much an entry is for, on a market whose prices count ``10^-decimals``."""
    kind, value = sizing.kind, sizing.value
    t[p.SIZE_KIND] = _SIZES[kind]
    if kind == "fixed_quantity":
        t[p.SIZE_H] = float(EXACT.divide_int(value, STEP))
    elif kind == "fixed_notional":
        t[p.SIZE_H], t[p.SIZE_L] = pair(value.scaleb(AMOUNT_DECIMALS + decimals, EXACT))
    else:
        places = _decimals(value)
        t[p.SIZE_H], t[p.SIZE_SCALE] = _whole(value, places), 10.0**places


def fill_fractions(t: FloatArray, stops: Stops, entry: EntryOrder) -> None:
    """What guards a position and how its entry rests, in place of whatever did: all with one count of decimals."""
    trailing = stops.trailing
    for place in (p.STOP_LOSS, p.TAKE_PROFIT, p.TRAILING, p.ACTIVATE, p.REST_OFFSET, p.REST_BARS):
        t[place] = 0.0
    values = {p.STOP_LOSS: stops.stop_loss, p.TAKE_PROFIT: stops.take_profit}
    if trailing is not None:
        values |= {p.TRAILING: trailing.distance, p.ACTIVATE: trailing.activate_at}
    if isinstance(entry, LimitEntry):
        values[p.REST_OFFSET] = entry.offset
        t[p.REST_BARS] = entry.expires_bars
    given = {place: value for place, value in values.items() if value is not None}
    places = max((_decimals(value) for value in given.values()), default=0)
    t[p.FRACTIONS] = 10.0**places
    for place, value in given.items():
        t[place] = _whole(value, places)
    t[p.FROM_CLOSE] = stops.basis == "signal_close"


def _price_decimals(market: Columns) -> int:
    finest = max(_step_decimals(market), market.decimals)
    highest = float(market.values[1].max(initial=1.0))
    return min(finest, floor(log10(EXACT_MAX / highest)))


def _step_decimals(market: Columns) -> int:
    first = Decimal(repr(float(market.values[0, 0])))
    exponent = paper_market("A/B", Decimal(0), price=first).price_step.normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # a step is finite
    return max(-exponent, 0)


def _decimals(value: Decimal) -> int:
    exponent = value.normalize(EXACT).as_tuple().exponent
    assert isinstance(exponent, int)  # a definition's numbers are finite
    return min(max(-exponent, 0), FRACTION_DECIMALS_MAX)


def _whole(value: Decimal, places: int) -> float:
    return float(value.scaleb(places, EXACT).to_integral_value())
