"""The catalogue of indicators a definition may use; nothing outside it can be computed.

Values are TA-Lib's, whose conventions they share: an EMA is seeded by the SMA of its first ``period`` values, RSI, ATR
and ADX are Wilder's, Bollinger bands and stddev divide by ``period``. Every function is causal (row i depends on rows
up to i only) and starts with a known number of NaN rows, the warm-up; NaN means null. The Donchian channel is the
highest high and lowest low of the last ``period`` bars *including* the current one; a breakout of the bars before it
compares with the column shifted by 1.

The longest period of an indicator with infinite memory is limited so that its start has decayed below float noise
within the half of the buffer that ``tbh/strategies/series.py`` always keeps (25,000 bars): after k bars an EMA has
forgotten all but ``exp(-2k/period)``, Wilder's average all but ``exp(-k/period)``: exp(-50) at the limits set here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import talib
from talib._ta_lib import MA_Type

from tbh.strategies.base import FloatArray

SERIES = ("open", "high", "low", "close", "volume")
SOURCE = "source"
MAX_PERIOD = 5_000
MAX_EMA_PERIOD = 1_000
MAX_WILDER_PERIOD = 500

Params = Mapping[str, int | float]
Inputs = tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter, bounds included. ``whole`` parameters count bars; the others are Decimal in a definition."""

    name: str
    default: int | Decimal
    minimum: int | Decimal
    maximum: int | Decimal
    whole: bool = True

    def problem(self, value: object) -> str | None:
        """Why ``value`` is refused, or None."""
        kind = "a whole number" if self.whole else "a number"
        number = isinstance(value, int) and not isinstance(value, bool)
        if not number and (self.whole or not (isinstance(value, Decimal) and value.is_finite())):
            return f"must be {kind} from {self.minimum} to {self.maximum}"
        if isinstance(value, int | Decimal) and not self.minimum <= value <= self.maximum:
            return f"must be {kind} from {self.minimum} to {self.maximum}, not {value}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """One entry. ``inputs`` is ``(SOURCE,)`` when any of SERIES may feed it, else the series it always reads.

    ``warmup`` gives the leading null rows, the same for every output. ``function`` takes the inputs as contiguous
    float64 arrays of equal length n and returns one array of length n per output.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    warmup: Callable[[Params], int]
    function: Callable[[Inputs, Params], tuple[FloatArray, ...]]
    rule: Callable[[Params], str | None] | None = None

    @property
    def takes_source(self) -> bool:
        return self.inputs == (SOURCE,)

    def resolve(self, given: Mapping[str, int | Decimal]) -> Params:
        """``given`` completed by the defaults, as TA-Lib takes them. The values must have passed ``problem``."""
        values: dict[str, int | float] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name, parameter.default)
            values[parameter.name] = int(value) if parameter.whole else float(value)
        return MappingProxyType(values)

    def compute(self, inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        """One array per output, NaN where null. ``inputs`` in the order of the field, contiguous float64."""
        return self.function(inputs, params)


def _period(default: int, *, minimum: int = 2, maximum: int = MAX_PERIOD) -> Parameter:
    return Parameter(name="period", default=default, minimum=minimum, maximum=maximum)


def _bars(name: str, default: int, *, minimum: int = 1, maximum: int = MAX_PERIOD) -> Parameter:
    return Parameter(name=name, default=default, minimum=minimum, maximum=maximum)


def _one(function: Callable[..., Any]) -> Callable[[Inputs, Params], tuple[FloatArray, ...]]:
    """A TA-Lib function of one period with one output."""

    def call(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
        return (function(*inputs, timeperiod=params["period"]),)

    return call


def _macd(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    line, signal, hist = talib.MACD(
        inputs[0],
        fastperiod=int(params["fast"]),
        slowperiod=int(params["slow"]),
        signalperiod=int(params["signal"]),
    )
    return line, signal, hist


def _macd_rule(params: Params) -> str | None:
    # TA-Lib would swap the two without a word.
    return None if params["fast"] < params["slow"] else "fast must be smaller than slow"


def _bbands(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    upper, middle, lower = talib.BBANDS(
        inputs[0],
        timeperiod=int(params["period"]),
        nbdevup=float(params["stddev"]),
        nbdevdn=float(params["stddev"]),
        matype=MA_Type.SMA,
    )
    return upper, middle, lower


def _stoch(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    high, low, close = inputs
    k, d = talib.STOCH(
        high,
        low,
        close,
        fastk_period=int(params["period"]),
        slowk_period=int(params["smooth_k"]),
        slowk_matype=MA_Type.SMA,
        slowd_period=int(params["smooth_d"]),
        slowd_matype=MA_Type.SMA,
    )
    return k, d


def _donchian(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:
    upper = talib.MAX(inputs[0], timeperiod=int(params["period"]))
    lower = talib.MIN(inputs[1], timeperiod=int(params["period"]))
    return upper, lower, (upper + lower) / 2.0


def _obv(inputs: Inputs, params: Params) -> tuple[FloatArray, ...]:  # noqa: ARG001 - one signature for all entries
    return (talib.OBV(*inputs),)


def _before_period(params: Params) -> int:
    return int(params["period"]) - 1


def _full_period(params: Params) -> int:
    return int(params["period"])


def _simple(
    name: str,
    aliases: tuple[str, ...],
    summary: str,
    period: Parameter,
    function: Callable[..., Any],
    *,
    inputs: tuple[str, ...] = (SOURCE,),
    warmup: Callable[[Params], int] = _before_period,
) -> Indicator:
    return Indicator(
        name=name,
        aliases=aliases,
        summary=summary,
        parameters=(period,),
        inputs=inputs,
        outputs=("value",),
        warmup=warmup,
        function=_one(function),
    )


_HLC = ("high", "low", "close")

_ENTRIES = (
    _simple("sma", ("simple_moving_average",), "simple moving average", _period(20, minimum=1), talib.SMA),
    _simple(
        "ema",
        ("exponential_moving_average",),
        "exponential moving average, seeded by the simple one",
        _period(20, minimum=1, maximum=MAX_EMA_PERIOD),
        talib.EMA,
    ),
    _simple("wma", ("weighted_moving_average",), "linearly weighted moving average", _period(20, minimum=1), talib.WMA),
    _simple(
        "rsi",
        ("relative_strength_index",),
        "Wilder's relative strength index, 0 to 100",
        _period(14, maximum=MAX_WILDER_PERIOD),
        talib.RSI,
        warmup=_full_period,
    ),
    Indicator(
        name="macd",
        aliases=("moving_average_convergence_divergence",),
        summary="difference of two EMAs, its EMA, and the difference of both",
        parameters=(
            _bars("fast", 12, minimum=2, maximum=MAX_EMA_PERIOD),
            _bars("slow", 26, minimum=2, maximum=MAX_EMA_PERIOD),
            _bars("signal", 9, maximum=MAX_EMA_PERIOD),
        ),
        inputs=(SOURCE,),
        outputs=("macd", "signal", "hist"),
        warmup=lambda params: int(params["slow"] + params["signal"]) - 2,
        function=_macd,
        rule=_macd_rule,
    ),
    Indicator(
        name="bbands",
        aliases=("bollinger", "bollinger_bands"),
        summary="simple moving average, and stddev population standard deviations above and below",
        parameters=(
            _period(20),
            Parameter(name="stddev", default=Decimal(2), minimum=Decimal("0.01"), maximum=Decimal(100), whole=False),
        ),
        inputs=(SOURCE,),
        outputs=("upper", "middle", "lower"),
        warmup=_before_period,
        function=_bbands,
    ),
    _simple(
        "atr",
        ("average_true_range",),
        "Wilder's average true range, in quote",
        _period(14, minimum=1, maximum=MAX_WILDER_PERIOD),
        talib.ATR,
        inputs=_HLC,
        warmup=_full_period,
    ),
    _simple(
        "adx",
        ("average_directional_index",),
        "Wilder's average directional index, 0 to 100",
        _period(14, maximum=MAX_WILDER_PERIOD),
        talib.ADX,
        inputs=_HLC,
        warmup=lambda params: 2 * int(params["period"]) - 1,
    ),
    Indicator(
        name="stoch",
        aliases=("stochastic",),
        summary="slow stochastic, 0 to 100: %K over period smoothed by smooth_k, %D its mean over smooth_d",
        parameters=(_bars("period", 14), _bars("smooth_k", 3), _bars("smooth_d", 3)),
        inputs=_HLC,
        outputs=("k", "d"),
        warmup=lambda params: int(params["period"] + params["smooth_k"] + params["smooth_d"]) - 3,
        function=_stoch,
    ),
    Indicator(
        name="obv",
        aliases=("on_balance_volume",),
        summary="on-balance volume, counted from the oldest bar held: compare it with its past, not with a number",
        parameters=(),
        inputs=("close", "volume"),
        outputs=("value",),
        warmup=lambda params: 0,  # noqa: ARG005 - one signature for all entries
        function=_obv,
    ),
    Indicator(
        name="donchian",
        aliases=("donchian_channel",),
        summary="highest high, lowest low and their mean over period bars, the current one included",
        parameters=(_period(20),),
        inputs=("high", "low"),
        outputs=("upper", "lower", "middle"),
        warmup=_before_period,
        function=_donchian,
    ),
    _simple("stddev", ("stdev",), "population standard deviation", _period(20), talib.STDDEV),
    _simple(
        "roc",
        ("rate_of_change",),
        "percent change over period bars",
        _period(10, minimum=1),
        talib.ROC,
        warmup=_full_period,
    ),
    _simple("cci", ("commodity_channel_index",), "commodity channel index", _period(20), talib.CCI, inputs=_HLC),
    _simple(
        "mfi",
        ("money_flow_index",),
        "money flow index, 0 to 100",
        _period(14),
        talib.MFI,
        inputs=(*_HLC, "volume"),
        warmup=_full_period,
    ),
    _simple("willr", ("williams_r",), "Williams' %R, -100 to 0", _period(14), talib.WILLR, inputs=_HLC),
)

CATALOGUE: Mapping[str, Indicator] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every indicator by its name."""

NAMES: Mapping[str, Indicator] = MappingProxyType(
    {name: entry for entry in _ENTRIES for name in (entry.name, *entry.aliases)}
)
"""Every indicator by its name and by each alias."""
