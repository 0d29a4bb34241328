"""When orders fill and at which price, bar by bar. What `tbh demo` does is in test_parity.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tbh.backtest.columns import columns_of
from tbh.backtest.engine import Run
from tbh.backtest.options import Slippage, SlippageKind

STOPS = {"stop_loss": "0.02", "take_profit": "0.05"}
SHORT = {
    "entry": {"short": {"left": "close", "op": "==", "right": 100}},
    "exit": {"short": {"left": "close", "op": "==", "right": 90}},
}
SIGNAL = (100.0, 100.0, 100.0, 100.0)


def only(made: Run) -> dict[str, Any]:
    (trade,) = made.trades.rows()
    return trade


def test_a_signal_on_the_close_fills_at_the_next_open(run) -> None:
    made = run([SIGNAL, (101, 102, 100, 110), (103, 104, 103, 104)])
    trade = only(made)
    assert (trade["entry_price"], trade["exit_price"], trade["pnl"]) == ("101", "103", "2")
    assert (made.trades.entry_row[0], made.trades.exit_row[0]) == (1, 2)


def test_a_rule_may_ask_for_the_time_of_a_bar(run) -> None:
    clock = {"id": "at", "name": "clock", "params": {}}
    made = run(
        [SIGNAL] * 6,
        indicators=[clock],
        entry={"long": {"left": "at__minute", "op": "==", "right": 1}},
        exit={"long": {"left": "at__minute", "op": "==", "right": 3}},
    )
    assert (made.trades.entry_row[0], made.trades.exit_row[0]) == (2, 4)


def test_a_stop_is_live_on_the_entry_bar_and_fills_at_its_price(run) -> None:
    trade = only(run([SIGNAL, (100, 101, 97, 99), (99, 99, 99, 99)], stops=STOPS))
    assert (trade["exit_price"], trade["exit_reason"], trade["entry_time"]) == ("98", "stop", trade["exit_time"])


def test_a_bar_that_opens_beyond_the_stop_fills_it_at_the_open(run) -> None:
    trade = only(run([SIGNAL, (100, 101, 99, 99), (95, 96, 94, 95)], stops=STOPS))
    assert (trade["exit_price"], trade["exit_reason"]) == ("95", "stop")


def test_a_target_fills_at_its_price_or_at_an_open_that_is_better(run) -> None:
    within = only(run([SIGNAL, (100, 106, 99, 104), (104, 104, 104, 104)], stops=STOPS))
    beyond = only(run([SIGNAL, (100, 101, 99, 101), (107, 108, 106, 107)], stops=STOPS))
    assert [(one["exit_price"], one["exit_reason"]) for one in (within, beyond)] == [
        ("105", "target"),
        ("107", "target"),
    ]


def test_the_stop_wins_on_a_bar_that_touches_both(run) -> None:
    trade = only(run([SIGNAL, (100, 110, 90, 101), (101, 101, 101, 101)], stops=STOPS))
    assert (trade["exit_price"], trade["exit_reason"]) == ("98", "stop")


def test_a_stop_measured_from_the_signal_that_the_entry_has_passed_fills_at_once(run) -> None:
    trade = only(run([SIGNAL, (97, 99, 96, 98), (98, 98, 98, 98)], stops=STOPS | {"basis": "signal_close"}))
    assert (trade["entry_price"], trade["exit_price"], trade["exit_reason"]) == ("97", "97", "stop")


def test_a_trailing_stop_follows_the_bars_that_have_closed(run) -> None:
    bars = [SIGNAL, (100, 104, 99, 103), (103, 106, 102, 105), (105, 105, 103, 104)]
    made = run(bars, stops={"trailing": {"distance": "0.02", "activate_at": "0.03"}})
    trade = only(made)
    assert (trade["exit_price"], trade["exit_reason"]) == ("103.88", "stop"), "2 % behind the high of the third bar"
    assert made.trades.causes() == {"exit": 0, "stop": 0, "trailing": 1, "target": 0}


def test_an_exit_and_an_opposite_entry_on_one_bar_reverse_the_position(run) -> None:
    rules = {
        "entry": {
            "long": {"left": "close", "op": "==", "right": 100},
            "short": {"left": "close", "op": "==", "right": 110},
        },
        "exit": {"long": {"left": "close", "op": "==", "right": 110}},
    }
    made = run([SIGNAL, (101, 110, 100, 110), (108, 109, 107, 108)], **rules)
    assert only(made)["exit_price"] == "108"
    assert [(one.qty, one.entry_price) for one in made.open_positions] == [("-1", "108")]


ALWAYS = {"long": {"left": "close", "op": ">", "right": 0}}
LEFT = {"long": {"left": "close", "op": "==", "right": 110}}
STOPPED = (100.0, 101.0, 97.0, 100.0)
WON = (100.0, 110.0, 100.0, 110.0)


@pytest.mark.parametrize(
    ("cooldown", "ended_by", "again"),
    [
        (None, STOPPED, 2),
        ({"bars": 1}, STOPPED, 3),
        ({"bars": 3}, STOPPED, 5),
        ({"bars": 3, "after": "stop"}, STOPPED, 5),
        ({"bars": 3, "after": "loss"}, STOPPED, 5),
        ({"bars": 3}, WON, 6),
        ({"bars": 3, "after": "stop"}, WON, 3),
        ({"bars": 3, "after": "loss"}, WON, 3),
    ],
)
def test_after_a_cool_down_so_many_bars_have_closed_since_the_one_that_ended_the_position(
    run, cooldown, ended_by, again: int
) -> None:
    rest = [(105.0, 106.0, 104.0, 105.0)] * 7
    made = run(
        [SIGNAL, ended_by, *rest, (105, 110, 105, 110), (110, 110, 110, 110)],
        entry=ALWAYS,
        exit=LEFT,
        stops={"stop_loss": "0.02"},
        cooldown=cooldown,
    )
    assert list(made.trades.entry_row) == [1, again]


def test_entries_that_a_cool_down_holds_back_are_counted(run) -> None:
    cooldown = {"bars": 3, "after": "stop"}
    made = run([SIGNAL, STOPPED, *[SIGNAL] * 5], entry=ALWAYS, stops={"stop_loss": "0.02"}, cooldown=cooldown)
    assert (made.refused["cooldown"], made.fills) == (3, 3)


def test_an_exit_whose_fees_eat_its_gain_is_a_loss(run) -> None:
    bars = [SIGNAL, WON, (101.0, 101.0, 101.0, 101.0), (105.0, 106.0, 104.0, 105.0), (105, 110, 105, 110), SIGNAL]
    rules = {"entry": ALWAYS, "exit": LEFT, "cooldown": {"bars": 5, "after": "loss"}}
    assert len(run(bars, **rules).trades) == 2
    assert len(run(bars, **rules, options={"fee": Decimal("0.01")}).trades) == 1


@pytest.mark.parametrize(("after", "reversed_"), [("any", False), ("loss", False), ("stop", True)])
def test_nothing_is_reversed_before_it_is_known_how_the_position_ends(run, after: str, reversed_: bool) -> None:
    rules = {
        "entry": {
            "long": {"left": "close", "op": "==", "right": 100},
            "short": {"left": "close", "op": "==", "right": 110},
        },
        "exit": {"long": {"left": "close", "op": "==", "right": 110}},
        "cooldown": {"bars": 1, "after": after},
    }
    made = run([SIGNAL, (101, 110, 100, 110), (108, 109, 107, 108)], **rules)
    assert only(made)["exit_price"] == "108"
    assert [one.qty for one in made.open_positions] == ["-1"] * reversed_


def test_a_cool_down_is_counted_in_time_where_bars_are_missing(run, market) -> None:
    one = market([SIGNAL, STOPPED])
    stamps = np.concatenate((one.stamps, one.stamps[-1] + 60_000 * np.array([4, 5, 6])))
    later = np.array([(105.0, 106.0, 104.0, 105.0, 1.0), (105, 110, 105, 110, 1), (110, 110, 110, 110, 1)]).T
    bars = columns_of("market", 60, stamps, np.concatenate((one.values, later), axis=1))
    made = run([bars], entry=ALWAYS, exit=LEFT, stops={"stop_loss": "0.02"}, cooldown={"bars": 4})
    assert list(made.trades.entry_row) == [1, 3]


def resting(bars: int, offset: str = "0.01") -> dict[str, Any]:
    return {"entry": {"kind": "limit", "offset": offset, "expires_bars": bars}}


def entries(made: Run) -> list[tuple[int, str]]:
    return [
        (int(row), trade["entry_price"]) for row, trade in zip(made.trades.entry_row, made.trades.rows(), strict=True)
    ]


OUT = (102.0, 110.0, 102.0, 110.0)
AWAY = (101.0, 102.0, 100.0, 101.0)


@pytest.mark.parametrize(
    ("bars", "rests", "entered"),
    [
        ([(100, 101, 98, 100)], 1, [(1, "99")]),
        ([(98, 101, 97, 100)], 1, [(1, "98")]),
        ([AWAY, (100, 101, 98, 101)], 1, []),
        ([AWAY, (100, 101, 98, 101)], 2, [(2, "99")]),
        ([AWAY, (98, 101, 97, 101)], 2, [(2, "98")]),
    ],
    ids=["its price", "a better open", "its bar is over", "its last bar", "a better open of its last bar"],
)
def test_an_entry_that_rests_fills_at_its_price_or_a_better_open_while_its_bars_last(
    run, bars: list[Any], rests: int, entered: list[tuple[int, str]]
) -> None:
    made = run([SIGNAL, *bars, OUT, (110, 110, 110, 110)], orders=resting(rests), entry=ONCE)
    assert entries(made) == entered


ONCE = {"long": {"all": [{"left": "close", "op": "==", "right": 100}, {"left": "high", "op": "==", "right": 100}]}}


def test_the_stop_of_an_entry_met_within_a_bar_begins_at_that_bars_close(run) -> None:
    stops = {"stop_loss": "0.02"}
    dipped = run([SIGNAL, (100, 101, 96, 99), (99, 110, 99, 110), SIGNAL], orders=resting(1), stops=stops, entry=ONCE)
    assert only(dipped)["exit_reason"] == "exit", "nobody knows whether 96 came before 99 or after"
    sunk = run([SIGNAL, (100, 101, 96, 97), (97, 110, 97, 110), SIGNAL], orders=resting(1), stops=stops, entry=ONCE)
    assert (only(sunk)["exit_reason"], only(sunk)["exit_price"], list(sunk.trades.exit_row)) == ("stop", "97", [1])


def test_an_entry_that_rests_never_slips_and_its_exit_does(run) -> None:
    slippage = Slippage(kind=SlippageKind.FIXED, rate=Decimal("0.5"))
    for first in ((100, 101, 98, 101), (98.5, 101, 98, 101)):
        made = run([SIGNAL, first, OUT, (110, 110, 110, 110)], orders=resting(1), options={"slippage": slippage})
        assert (entries(made)[0][1], only(made)["exit_price"]) == (str(min(first[0], 99)), "109.5")


@pytest.mark.parametrize(
    ("first", "second", "entered"),
    [
        ((100, 101, 98, 100), AWAY, []),
        ((100, 101, 97, 98), AWAY, [(1, "99")]),
        ((97, 101, 97, 99), AWAY, [(1, "98")]),
        (AWAY, (100, 101, 98, 101), [(2, "99")]),
    ],
    ids=["a low before or after it came", "between its coming and the close", "a better price as it came", "next bar"],
)
def test_an_entry_that_comes_within_a_bar_meets_the_line_to_its_close(run, first, second, entered) -> None:
    bars = [SIGNAL, first, second, OUT, (110, 110, 110, 110)]
    made = run(bars, orders=resting(2), entry=ONCE, options={"latency_ms": 30_000})
    assert entries(made) == entered


def test_an_entry_that_comes_when_its_bars_are_over_is_none(run) -> None:
    bars = [SIGNAL, AWAY, (100, 101, 98, 101), OUT, *[(110, 110, 110, 110)] * 2]
    assert entries(run(bars, orders=resting(1), entry=ONCE, options={"latency_bars": 1})) == []
    assert entries(run(bars, orders=resting(2), entry=ONCE, options={"latency_bars": 1})) == [(2, "99")]


def test_while_an_entry_rests_another_is_refused_and_counted(run) -> None:
    made = run([SIGNAL, AWAY, AWAY, AWAY], orders=resting(3), entry=ALWAYS)
    assert (made.fills, made.refused["entry_open"]) == (0, 2)


def test_an_entry_that_rests_is_sized_by_its_own_price(run) -> None:
    sizing = {"kind": "fixed_notional", "value": "990"}
    made = run([SIGNAL, (100, 101, 98, 101), OUT, OUT], orders=resting(1), sizing=sizing)
    assert only(made)["qty"] == "10"


def test_a_short_mirrors_a_long(run) -> None:
    made = run([SIGNAL, (100, 101, 94, 96), (96, 96, 96, 96)], stops=STOPS, **SHORT)
    trade = only(made)
    assert (trade["side"], trade["exit_price"], trade["exit_reason"], trade["pnl"]) == ("short", "95", "target", "5")


def test_what_is_open_at_the_end_stays_open_and_counts_in_the_equity_alone(run) -> None:
    made = run([SIGNAL, (101, 102, 100, 105)])
    assert len(made.trades) == 0
    assert (made.final_equity, made.cash, made.open_positions[0].qty) == ("10004", "9899", "1")
    assert list(made.equity) == [10_000.0, 10_004.0]


def test_fees_are_paid_on_each_side(run) -> None:
    made = run([SIGNAL, (101, 102, 100, 110), (103, 104, 103, 104)], options={"fee": Decimal("0.001")})
    assert (only(made)["fees"], only(made)["pnl"], made.fees) == ("0.204", "1.796", "0.204")


@pytest.mark.parametrize(
    ("sizing", "qty"),
    [
        ({"kind": "fixed_quantity", "value": "2.123456789"}, "2.12345678"),
        ({"kind": "fixed_notional", "value": "1000"}, "10"),
        ({"kind": "equity_fraction", "value": "0.5"}, "50"),
        ({"kind": "equity_fraction", "value": "1"}, "99.9000999"),
        ({"kind": "risk_fraction", "value": "0.01"}, "50"),
    ],
)
def test_a_size_is_floored_to_the_amount_step_and_leaves_room_for_its_fee(run, sizing, qty: str) -> None:
    bars = [SIGNAL, (100, 101, 99, 110), (100, 101, 99, 100)]
    made = run(bars, sizing=sizing, stops={"stop_loss": "0.02"}, options={"fee": Decimal("0.001")})
    assert only(made)["qty"] == qty


def test_an_entry_beyond_the_funds_is_refused_and_counted(run) -> None:
    made = run([SIGNAL, SIGNAL, SIGNAL], sizing={"kind": "fixed_quantity", "value": "101"})
    assert (len(made.trades), made.fills, made.refused["funds"]) == (0, 0, 3)


def test_a_pyramid_moves_the_average_price_and_its_stop(run) -> None:
    made = run(
        [SIGNAL, (100, 104, 99, 103), (104, 105, 103, 104), (104, 104, 99, 100)],
        pyramid={"long": {"left": "close", "op": "==", "right": 103}, "max_layers": 1},
        stops={"stop_loss": "0.02"},
    )
    trade = only(made)
    assert (trade["entry_price"], trade["qty"], trade["exit_price"]) == ("102", "2", "99.96")
    assert made.trades.layers[0] == 2
