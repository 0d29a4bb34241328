"""The fast engine, the actor engine and `tbh demo` make the same trades, to the last digit.

Drawn definitions over recorded candles first (`python -m bench parity` draws more, over longer slices), then what they
seldom meet: several orders that are due at one price.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import _drawn
from bench.reference import DATA
from tbh.backtest.native import plain_runner
from tbh.infra.candles import CandleFile

BARS = 120
DRAWN = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
START_MS = 1_767_225_600_000

Bar = tuple[float, float, float, float]


def unlike(case: _drawn.Case, candles: CandleFile) -> tuple[list[str], int]:
    made = _drawn.fast(case, candles, plain_runner())
    lines = _drawn.differences(made, _drawn.demo(case, candles))
    lines += _drawn.unlike(_drawn.actors(case, candles), made)
    return lines + _drawn.unlike(_drawn.actors(case, candles, every_bar=True), made), len(made.trades)


@pytest.mark.parametrize("by_volume", [False, True], ids=["all volume", "a share of the volume"])
def test_a_drawn_definition_trades_alike(shared_data: Path, by_volume: bool) -> None:
    assert shared_data == DATA
    trades = []

    @DRAWN
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        case = data.draw(_drawn.cases(DATA, bars=BARS, by_volume=by_volume))
        lines, count = unlike(case, _drawn.candles_of(case, DATA, BARS))
        assert lines == []
        trades.append(count)

    compare()
    assert len(trades) >= 4
    assert sum(trades) > 0, "nothing was traded: the cases prove nothing"


@pytest.fixture(scope="module")
def compared() -> Callable[..., tuple[list[str], int]]:
    """Plays bars of one minute to both engines: differences, and how many trades there were."""

    def play(
        bars: list[Bar], *, volume_share: str | None = None, missing: int | None = None, **parts: Any
    ) -> tuple[list[str], int]:
        definition = {
            "name": "s",
            "timeframe": "1m",
            "entry": {"long": {"left": "close", "op": "==", "right": 100}},
            "exit": {"long": {"left": "volume", "op": "==", "right": 7}},
            "sizing": {"kind": "fixed_quantity", "value": "1.23456789"},
            **parts,
        }
        rows = np.array([(*bar, 1.0)[:5] for bar in bars]).T
        stamps = START_MS + 60_000 * np.arange(rows.shape[1], dtype=np.int64)
        if missing is not None:
            stamps[missing:] += 3 * 60_000
        names = ("open", "high", "low", "close", "volume")
        candles = CandleFile(name="m", timeframe_s=60, timestamps=stamps, arrays=dict(zip(names, rows, strict=True)))
        case = _drawn.Case(
            definition=definition, market="", start=0, cash="10000", fee="0.00075", volume_share=volume_share
        )
        return unlike(case, candles)

    return play


TRAILING = {"trailing": {"distance": "0.01"}}
SIGNAL = (100.0, 100.0, 100.0, 100.0)
MORE = {"long": {"left": "volume", "op": "==", "right": 5}, "max_layers": 3}
QUIET = (95.0, 95.0, 95.0, 95.0)


@pytest.mark.parametrize(
    ("bars", "parts", "count"),
    [
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 101, 7), (102, 103, 101, 102), QUIET],
            {"stops": TRAILING},
            1,
            id="a trailing stop beyond the close, and an exit",
        ),
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 100, 7), (102, 103, 101, 102), QUIET],
            {
                "stops": TRAILING,
                "entry": {
                    "long": {"left": "close", "op": "==", "right": 100},
                    "short": {"left": "volume", "op": "==", "right": 7},
                },
                "exit": {"long": {"left": "volume", "op": "==", "right": 7}},
            },
            1,
            id="a trailing stop beyond the close, and a reversal that its own side forbids",
        ),
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 101, 7), (102, 103, 101, 102), QUIET],
            {
                "stops": TRAILING,
                "entry": {
                    "long": {"left": "close", "op": "==", "right": 100},
                    "short": {"left": "volume", "op": "==", "right": 7},
                },
                "exit": {"long": {"left": "volume", "op": "==", "right": 7}},
            },
            1,
            id="a trailing stop beyond the close, and a reversal",
        ),
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 101, 5), (102, 103, 101, 102), QUIET, QUIET],
            {"stops": TRAILING, "pyramid": MORE},
            2,
            id="a trailing stop beyond the close, and a pyramid",
        ),
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 101, 5), (102, 103, 102, 103, 5), (103, 103.5, 102.9, 103), QUIET, QUIET],
            {"stops": TRAILING, "pyramid": MORE},
            2,
            id="a pyramid that begins a position, and one more",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 99.5, 101, 5), (96, 97, 95.5, 96), QUIET, QUIET],
            {"stops": {"stop_loss": "0.02"}, "pyramid": MORE},
            1,
            id="a pyramid at an open beyond the stop",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 99.5, 101, 5), (107, 108, 106, 107), (120, 120, 120, 120), QUIET],
            {"stops": {"stop_loss": "0.02", "take_profit": "0.05"}, "pyramid": MORE},
            1,
            id="a pyramid at an open beyond the target",
        ),
        pytest.param(
            [SIGNAL, (97, 99, 96, 98), QUIET],
            {"stops": {"basis": "signal_close", "stop_loss": "0.02", "take_profit": "0.05"}},
            1,
            id="an entry beyond its own stop",
        ),
        pytest.param(
            [SIGNAL, (106, 108, 103, 104), QUIET],
            {"stops": {"basis": "signal_close", "stop_loss": "0.02", "take_profit": "0.05"}},
            1,
            id="an entry beyond its own target",
        ),
        pytest.param(
            [SIGNAL, (100.01, 103, 100, 102), (99.99, 100, 98.5, 99), QUIET],
            {"stops": {"stop_loss": "0.0001234567", "take_profit": "0.07654321"}},
            1,
            id="stops between the price steps",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 97, 100), *[(100, 100, 100, 100)] * 4, (100, 101, 97, 99), QUIET],
            {"stops": {"stop_loss": "0.02"}, "cooldown": {"bars": 3}},
            2,
            id="a cool-down after a stop",
        ),
        pytest.param(
            [
                SIGNAL,
                (100, 101, 100, 100.05, 7),
                (100.1, 100.1, 100, 100),
                SIGNAL,
                SIGNAL,
                (100, 100, 100, 99, 7),
                QUIET,
            ],
            {"cooldown": {"bars": 2, "after": "loss"}},
            2,
            id="a cool-down after a loss that the fees make",
        ),
        pytest.param(
            [SIGNAL, (100, 110, 99.5, 101, 7), (102, 103, 101, 102), QUIET],
            {
                "entry": {
                    "long": {"left": "close", "op": "==", "right": 100},
                    "short": {"left": "volume", "op": "==", "right": 7},
                },
                "cooldown": {"bars": 1},
            },
            1,
            id="a reversal that a cool-down forbids",
        ),
        pytest.param(
            [(*SIGNAL, 10), (100, 101, 97, 99, 10), (98, 99, 97, 98, 10), (97, 98, 96, 97, 10), (*QUIET, 10)]
            + [(*QUIET, 10)] * 4,
            {"stops": {"stop_loss": "0.02"}, "volume_share": "0.05"},
            1,
            id="a stop that finds no volume",
        ),
    ],
)
def test_orders_that_are_due_together_execute_in_one_order(
    compared: Callable[..., tuple[list[str], int]], bars: list[Bar], parts: dict[str, Any], count: int
) -> None:
    assert compared(bars, **parts) == ([], count)


@pytest.mark.parametrize("timeframe", ["2m", "5m", "15m"])
def test_bars_of_a_higher_timeframe_trade_alike(compared: Callable[..., tuple[list[str], int]], timeframe: str) -> None:
    close = (100 + np.cumsum(np.random.default_rng(8).normal(size=300))).round(2)
    rows = np.stack([np.roll(close, 1), close + 1.5, close - 1.5, close], axis=1)[1:]
    lines, count = compared(
        [(float(a), float(b), float(c), float(d)) for a, b, c, d in rows],
        indicators=[
            {"id": "h", "name": "bar", "timeframe": timeframe},
            {"id": "e", "name": "ema", "params": {"period": 2}, "timeframe": timeframe},
            {"id": "s", "name": "supertrend", "params": {"period": 2, "multiplier": "0.5"}, "timeframe": timeframe},
        ],
        entry={
            "long": {"left": "close", "op": "crosses_above", "right": "e__value"},
            "short": {"left": "s__trend", "op": "falling"},
        },
        exit={
            "long": {"left": "h__close", "op": "<", "right": {"column": "h__close", "shift": 1}},
            "short": {"left": "close", "op": "crosses_above", "right": "h__high"},
        },
    )
    assert lines == []
    assert count >= 5


def resting(bars: int, offset: str = "0.01") -> dict[str, Any]:
    return {"entry": {"kind": "limit", "offset": offset, "expires_bars": bars}}


ALWAYS = {"long": {"left": "close", "op": ">", "right": 0}}
ADDING = {"long": {"left": "volume", "op": "==", "right": 5}, "max_layers": 2}
OUT = (100.0, 100.0, 100.0, 100.0, 7.0)


@pytest.mark.parametrize(
    ("bars", "parts", "count"),
    [
        pytest.param(
            [SIGNAL, (100, 101, 98.5, 100), OUT, QUIET], {"orders": resting(1)}, 1, id="an entry met within its bar"
        ),
        pytest.param(
            [SIGNAL, (98.7, 99.5, 98.5, 99.2), OUT, QUIET], {"orders": resting(1)}, 1, id="an open that is better"
        ),
        pytest.param(
            [SIGNAL, (99.9, 101, 99, 100.5), OUT, QUIET], {"orders": resting(1, "0")}, 1, id="no offset, a lower open"
        ),
        pytest.param(
            [SIGNAL, (100.5, 101, 99, 100.5), OUT, QUIET], {"orders": resting(1, "0")}, 1, id="no offset, a higher open"
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 101, 98.5, 100.5), OUT, QUIET],
            {"orders": resting(1)},
            0,
            id="an entry whose bar was over",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 101, 98.5, 100.5), OUT, QUIET],
            {"orders": resting(2)},
            1,
            id="an entry met in its last bar",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 103, 100.5, 102), (102, 102, 100.9, 101, 7), OUT, QUIET],
            {"orders": resting(1), "entry": ALWAYS},
            1,
            id="an entry on the very close that ends the last one",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 103, 98.5, 102), OUT, QUIET],
            {"orders": resting(3), "entry": ALWAYS},
            1,
            id="an entry while another rests",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 96, 97), QUIET, QUIET],
            {"orders": resting(1), "stops": {"stop_loss": "0.005", "take_profit": "0.005"}},
            1,
            id="an entry met within a bar whose close is beyond its stop",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 98.9, 100.9), (101, 101, 99, 100), QUIET],
            {"orders": resting(1), "stops": {"take_profit": "0.01"}},
            1,
            id="an entry met within a bar whose close is beyond its target",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 100, 5), (100, 100, 96, 97), (97, 98, 96, 98), QUIET],
            {"orders": resting(3), "pyramid": ADDING, "stops": {"stop_loss": "0.02"}},
            2,
            id="a stop and a resting pyramid in one bar",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 100, 5), (100, 102, 98, 99), (99, 100, 96, 98), QUIET],
            {"orders": resting(3), "pyramid": ADDING, "stops": {"take_profit": "0.02", "stop_loss": "0.03"}},
            2,
            id="a target and a resting pyramid in one bar",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 100, 5), (100, 102, 99.5, 101), (99, 99, 98, 98), QUIET],
            {"orders": resting(3), "pyramid": ADDING, "stops": {"take_profit": "0.02", "stop_loss": "0.03"}},
            1,
            id="a pyramid that rests when the target closes its position",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 100, 5), (100, 100, 99.5, 100, 7), (100, 100, 98, 98), QUIET],
            {"orders": resting(3), "pyramid": ADDING},
            1,
            id="a pyramid that rests when an exit is decided",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 100, 7), (100, 102, 99.5, 101), (101, 101, 99, 100), QUIET],
            {
                "orders": resting(2),
                "entry": {
                    "long": {"left": "close", "op": "==", "right": 100},
                    "short": {"left": "volume", "op": "==", "right": 7},
                },
                "exit": {"long": {"left": "volume", "op": "==", "right": 7}},
                "stops": {"stop_loss": "0.03"},
            },
            1,
            id="a reversal that its own side forbids",
        ),
        pytest.param(
            [SIGNAL, (99, 100, 98.9, 99.5, 7), (100, 102, 99.5, 101), (101, 101, 96, 97), QUIET],
            {
                "orders": resting(2),
                "entry": {
                    "long": {"left": "close", "op": "==", "right": 100},
                    "short": {"left": "volume", "op": "==", "right": 7},
                },
                "exit": {"long": {"left": "volume", "op": "==", "right": 7}},
                "stops": {"stop_loss": "0.03", "take_profit": "0.02"},
            },
            2,
            id="a reversal by a resting entry",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 98.5, 101), OUT, QUIET],
            {"orders": resting(2), "missing": 1},
            1,
            id="an entry whose end missing bars hide, met in the first bar after them",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 101, 98.5, 99.5), OUT, QUIET],
            {"orders": resting(2), "missing": 1},
            0,
            id="an entry whose end missing bars hide, gone after the first bar after them",
        ),
        pytest.param(
            [SIGNAL, (101, 102, 100.5, 101), (101, 101, 98.5, 99.5), OUT, QUIET],
            {"orders": resting(2), "missing": 2},
            1,
            id="an entry with missing bars behind the first",
        ),
        pytest.param(
            [(*SIGNAL, 10), (99, 100, 98, 99.5, 10), (99, 100, 98, 99, 10), (98, 99, 94, 95, 10)] + [(*QUIET, 10)] * 4,
            {"orders": resting(2), "stops": {"stop_loss": "0.02"}, "volume_share": "0.05"},
            1,
            id="an entry filled in part when its bars are over",
        ),
        pytest.param(
            [(*SIGNAL, 10), (99, 100, 98, 99.5, 10), (99, 100, 96, 97, 90), (98, 99, 94, 95, 10)] + [(*QUIET, 10)] * 4,
            {"orders": resting(4), "stops": {"stop_loss": "0.02"}, "volume_share": "0.05"},
            1,
            id="an entry filled in part when its stop closes the position",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 98.5, 100), (100, 110, 100, 108), (108, 108, 104, 105), QUIET],
            {"orders": resting(1), "stops": TRAILING | {"basis": "signal_close", "stop_loss": "0.05"}},
            1,
            id="a trailing stop behind an entry met within its bar",
        ),
        pytest.param(
            [SIGNAL, (100, 101, 98.5, 100), OUT, QUIET],
            {"orders": resting(1, "0.0123456789"), "sizing": {"kind": "equity_fraction", "value": "1"}},
            1,
            id="all of the equity between two price steps",
        ),
    ],
)
def test_entries_that_rest_meet_prices_alike(
    compared: Callable[..., tuple[list[str], int]], bars: list[Bar], parts: dict[str, Any], count: int
) -> None:
    assert compared(bars, **parts) == ([], count)


def test_a_short_that_rests_and_takes_all_of_the_equity_can_be_paid(
    compared: Callable[..., tuple[list[str], int]],
) -> None:
    short = {
        "entry": {"short": {"left": "close", "op": "==", "right": 100}},
        "exit": {"short": {"left": "volume", "op": "==", "right": 7}},
        "sizing": {"kind": "equity_fraction", "value": "1"},
        "orders": resting(1, "0.02"),
    }
    assert compared([SIGNAL, (101, 103, 100, 101), OUT, QUIET], **short) == ([], 1)


@pytest.mark.parametrize(
    ("price", "quantity"), [("0.00000123", "1234567.89"), ("0.0123456789", "4321.1"), ("31415926.5", "0.0001234")]
)
def test_cheap_and_dear_coins_trade_alike(
    compared: Callable[..., tuple[list[str], int]], price: str, quantity: str
) -> None:
    unit = float(price)
    bars = [
        (unit, unit, unit, unit),
        (unit * 1.01, unit * 1.03, unit, unit * 1.02),
        (unit * 1.02, unit * 1.021, unit * 0.97, unit),
        (unit, unit * 1.07, unit * 0.999, unit * 1.05),
        (unit, unit, unit, unit),
    ]
    rounded = [tuple(float(f"{value:.9g}") for value in bar) for bar in bars]
    lines, count = compared(
        rounded,
        entry={"long": {"left": "close", "op": ">", "right": 0}},
        stops={"stop_loss": "0.0123", "take_profit": "0.0321", "trailing": {"distance": "0.0077"}},
        sizing={"kind": "fixed_quantity", "value": quantity},
    )
    assert lines == []
    assert count >= 2
