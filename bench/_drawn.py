"""Definitions and market slices by chance, and one of them through the fast engine, the actors and `tbh demo`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tbh.backtest.columns import Columns, columns_of
from tbh.backtest.engine import Run, backtest
from tbh.backtest.native import Runner
from tbh.backtest.options import Options
from tbh.infra.candles import SERIES, CandleFile, load_candles
from tbh.plan import PaperPlan
from tbh.rehearsal.engine import Rehearsal
from tbh.session import PaperSession
from tbh.strategies.definition import TIMEFRAMES, parse_definition
from tbh.strategies.dynamic import DynamicStrategy

MARKETS = (
    "binance_usdm_BTCUSDT_1m.parquet",
    "binance_usdm_SOLUSDT_1m.parquet",
    "binance_usdm_LTCUSDT_1m.parquet",
    "binance_usdm_ADAUSDT_5m.parquet",
    "binance_usdm_ETHUSDT_3m.parquet",
    "binance_spot_ETHUSDT_5m_2023-03.parquet",
    "bitvavo_BTCEUR_1h.parquet",
    "bitvavo_XRPEUR_1h.parquet",
    "coinbase_ETHUSD_1d.parquet",
)
SESSION_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison: what is traded where, with how much."""

    definition: dict[str, Any]
    market: str
    start: int
    cash: str
    fee: str
    volume_share: str | None = None


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    """A condition over the columns that every drawn definition has."""
    crossing = st.sampled_from(["crosses_above", "crosses_below", ">", "<"])
    level = st.builds(lambda op, value: {"left": "r__value", "op": op, "right": value}, crossing, st.integers(20, 80))
    averages = st.builds(lambda op: {"left": "a__value", "op": op, "right": "b__value"}, crossing)
    bands = st.builds(
        lambda op, band: {"left": "close", "op": op, "right": band},
        crossing,
        st.sampled_from(["k__upper", "k__lower", "k__middle"]),
    )
    trend = st.builds(
        lambda op, n: {"left": "close", "op": op, "n": n}, st.sampled_from(["rising", "falling"]), st.integers(1, 3)
    )
    shifted = st.builds(
        lambda op, n: {"left": "close", "op": op, "right": {"column": "high", "shift": n}}, crossing, st.integers(1, 5)
    )
    higher = st.builds(
        lambda op, column: {"left": "close", "op": op, "right": column},
        crossing,
        st.sampled_from(["g__value", "h__open", "h__high", "h__low", {"column": "h__close", "shift": 2}]),
    )
    chained = st.builds(lambda op: {"left": "r__value", "op": op, "right": "q__value"}, crossing)
    one = st.one_of(level, averages, bands, trend, shifted, higher, chained)
    return draw(
        st.one_of(
            one,
            st.builds(lambda a, b: {"all": [a, b]}, one, one),
            st.builds(lambda a, b: {"any": [a, b]}, one, one),
            st.builds(lambda a, b: {"all": [a, {"not": b}]}, one, one),
        )
    )


def _fraction(least: int, most: int) -> st.SearchStrategy[str]:
    """So many ten-thousandths as text."""
    return st.integers(least, most).map(lambda number: str(Decimal(number).scaleb(-4)))


@st.composite
def definitions(draw: st.DrawFn, timeframe: str, price: float, cash: Decimal) -> dict[str, Any]:
    """A definition that trades often: sides, stops, pyramids and sizes of every kind."""
    sides = draw(st.sampled_from([("long",), ("short",), ("long", "short"), ("long", "short")]))
    stops: dict[str, Any] = {"basis": draw(st.sampled_from(["entry", "entry", "signal_close"]))}
    if draw(st.booleans()):
        stops["stop_loss"] = draw(_fraction(5, 200))
    if draw(st.booleans()):
        stops["take_profit"] = draw(_fraction(5, 300))
    if draw(st.booleans()):
        stops["trailing"] = {"distance": draw(_fraction(5, 150)), "activate_at": draw(_fraction(0, 60))}
    kinds = ["fixed_quantity", "fixed_notional", "equity_fraction"] + ["risk_fraction"] * ("stop_loss" in stops)
    kind = draw(st.sampled_from(kinds))
    share = draw(st.integers(1, 60))
    own_s = TIMEFRAMES[timeframe]
    longer = [name for name, seconds in TIMEFRAMES.items() if not seconds % own_s and seconds <= 15 * own_s]
    above = draw(st.sampled_from(longer[1:] or longer))
    value = {
        "fixed_quantity": f"{float(cash) * share / 100 / price:.6g}",
        "fixed_notional": str(cash * share / 100),
        "equity_fraction": str(Decimal(draw(st.integers(5, 100))) / 100),
        "risk_fraction": draw(_fraction(5, 300)),
    }[kind]
    more: dict[str, Any] = {}
    if not draw(st.integers(0, 2)):
        ends = st.sampled_from(["any", "loss", "stop"])
        more["cooldown"] = {"bars": draw(st.integers(1, 20)), "after": draw(ends)}
    if not draw(st.integers(0, 2)):
        offset = draw(st.one_of(st.just("0"), _fraction(0, 40)))
        more["orders"] = {"entry": {"kind": "limit", "offset": offset, "expires_bars": draw(st.integers(1, 8))}}
    return {
        "name": "drawn",
        "timeframe": timeframe,
        "indicators": [
            {"id": "a", "name": "ema", "params": {"period": draw(st.integers(2, 12))}},
            {"id": "b", "name": "ema", "params": {"period": draw(st.integers(8, 40))}},
            {"id": "r", "name": "rsi", "params": {"period": draw(st.integers(3, 20))}},
            {"id": "k", "name": "bbands", "params": {"period": draw(st.integers(5, 30))}},
            {"id": "g", "name": "ema", "params": {"period": draw(st.integers(2, 5))}, "timeframe": above},
            {"id": "h", "name": "bar", "timeframe": above},
            {"id": "q", "name": "ema", "params": {"period": draw(st.integers(2, 9))}, "source": "r__value"},
        ],
        "entry": {side: draw(rules()) for side in sides},
        "exit": {side: draw(rules()) for side in sides if draw(st.integers(0, 3))},
        "pyramid": {"max_layers": draw(st.sampled_from([0, 0, 1, 3]))} | {side: draw(rules()) for side in sides},
        "stops": stops,
        "sizing": {"kind": kind, "value": format(Decimal(value), "f")},
    } | more


@st.composite
def cases(draw: st.DrawFn, data: Path, *, bars: int, by_volume: bool = False) -> Case:
    """A definition, a slice of a recorded market, cash and a fee."""
    market = draw(st.sampled_from(MARKETS))
    file = load_candles(data / "candles" / market)
    start = draw(st.integers(0, len(file) - bars))
    timeframe = next(name for name, seconds in TIMEFRAMES.items() if seconds == file.timeframe_s)
    cash = Decimal(draw(st.sampled_from(["10000", "1000", "123456.78"])))
    return Case(
        definition=draw(definitions(timeframe, float(file.arrays["close"][start]), cash)),
        market=market,
        start=start,
        cash=str(cash),
        fee=draw(st.sampled_from(["0", "0.0005", "0.001", "0.00075"])),
        volume_share=draw(st.sampled_from(["0.0001", "0.001", "0.01"])) if by_volume else None,
    )


def candles_of(case: Case, data: Path, bars: int) -> CandleFile:
    """The case's slice of its market."""
    return load_candles(data / "candles" / case.market)[case.start : case.start + bars]


def fast(case: Case, candles: CandleFile, run_bars: Runner) -> Run:
    """The case through the fast engine."""
    strategy = DynamicStrategy(parse_definition(case.definition))
    return backtest(strategy, [_columns(candles)], _options(case), run_bars)


def actors(case: Case, candles: CandleFile, *, every_bar: bool = False) -> Run:
    """The case through the actor engine; ``every_bar`` has each bar played and told."""
    strategy = DynamicStrategy(parse_definition(case.definition))
    return Rehearsal(strategy, _columns(candles), _options(case), every_bar=every_bar).run()


def _columns(candles: CandleFile) -> Columns:
    values = np.stack([candles.arrays[name] for name in SERIES])
    return columns_of(candles.name, candles.timeframe_s, candles.timestamps, values)


def _options(case: Case) -> Options:
    share = None if case.volume_share is None else Decimal(case.volume_share)
    return Options(cash=Decimal(case.cash), fee=Decimal(case.fee), volume_share=share)


def demo(case: Case, candles: CandleFile, *, host: str = "threads") -> dict[str, Any]:
    """The case through the actors, as `tbh demo` does it. ``RuntimeError`` when it does not come to an end.

    On threads, as people run it. The simulator lets messages overtake each other as no thread does: there an exit may
    be sent before the trailing stop that moved on the same close, and which of the two fills is then another.
    """
    with tempfile.TemporaryDirectory(prefix="tbh-parity-") as folder:
        plan = PaperPlan(
            candles=candles,
            simulated=False,
            definition=parse_definition(case.definition),
            symbol="BASE/QUOTE",
            cash=Decimal(case.cash),
            fee=Decimal(case.fee),
            bars_per_s=None,
            root=Path(folder) / "state",
            host=host,
            volume_share=None if case.volume_share is None else Decimal(case.volume_share),
        )
        session = PaperSession.open(plan)
        try:
            session.start()
            if not session.wait(SESSION_S):
                raise RuntimeError(f"the demo stands at bar {session.snapshot().bar_index}")
        finally:
            session.close()
        return session.result()


def differences(run: Run, report: dict[str, Any]) -> list[str]:
    """Where the two disagree, one line each; every digit counts."""
    got = list(run.trades.rows())
    want = report["trades"]
    lines = [] if len(got) == len(want) else [f"{len(got)} trades, the demo has {len(want)}"]
    for number, (one, other) in enumerate(zip(got, want, strict=False)):
        lines += [
            f"trade {number}: {name} is {one[name]}, the demo has {other[name]}"
            for name in other
            if one[name] != other[name]
        ]
    held = run.open_positions[0].qty if run.open_positions else "0"
    ends = {
        "equity": (run.final_equity, report["equity"]),
        "fees": (run.fees, report["fees"]),
        "cash": (run.cash, report["cash"]),
        "position": (held, report["position"]["qty"]),
        "fills": (run.fills, report["fills"]),
    }
    return lines + [f"{name} is {one}, the demo has {other}" for name, (one, other) in ends.items() if one != other]


def unlike(one: Run, other: Run) -> list[str]:
    """Where two runs of engines disagree, one line each; every digit counts."""
    got, want = list(one.trades.rows()), list(other.trades.rows())
    lines = [] if len(got) == len(want) else [f"{len(got)} trades instead of {len(want)}"]
    for number, (have, should) in enumerate(zip(got, want, strict=False)):
        lines += [
            f"trade {number}: {name} is {have[name]}, not {should[name]}"
            for name in should
            if have[name] != should[name]
        ]
    ends = ("final_equity", "cash", "fees", "fills", "open_positions")
    lines += [
        f"{name} is {getattr(one, name)}, not {getattr(other, name)}"
        for name in ends
        if getattr(one, name) != getattr(other, name)
    ]
    if one.trades.causes() != other.trades.causes():
        lines.append(f"left for {one.trades.causes()}, not {other.trades.causes()}")
    return lines
