"""Slippage, latency, funding, volume, and several markets on one account."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from tbh.backtest.options import Options, Slippage, SlippageKind

SIGNAL = (100.0, 100.0, 100.0, 100.0)
BARS = [SIGNAL, (101, 102, 100, 110), (103, 104, 103, 104)]


def prices(run) -> list[tuple[str, str]]:
    return [(trade["entry_price"], trade["exit_price"]) for trade in run.trades.rows()]


def slip(kind: str, rate: str, deviation: str = "0", seed: int = 1) -> dict[str, object]:
    model = Slippage(kind=SlippageKind(kind), rate=Decimal(rate), deviation=Decimal(deviation), seed=seed)
    return {"slippage": model}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (slip("none", "0"), ("101", "103")),
        (slip("fixed", "0.5"), ("101.5", "102.5")),
        (slip("proportional", "0.01"), ("102.01", "101.97")),
    ],
)
def test_slippage_moves_market_orders_against_themselves(run, model, expected) -> None:
    assert prices(run(BARS, options=model)) == [expected]


def test_a_target_does_not_slip_and_a_stop_does(run) -> None:
    stops = {"stop_loss": "0.02", "take_profit": "0.05"}
    options = slip("proportional", "0.01")
    hit = run([SIGNAL, (100, 107, 100, 104), SIGNAL], stops=stops, options=options)
    stopped = run([SIGNAL, (100, 101, 97, 99), SIGNAL], stops=stops, options=options)
    assert prices(hit) == [("101", "106.05")]
    assert prices(stopped) == [("101", "97.9902")]


def test_volume_share_slippage_grows_with_the_square_of_the_share(run) -> None:
    bars = [(*bar, volume) for bar, volume in zip(BARS, (10.0, 2.0, 4.0), strict=True)]
    assert prices(run(bars, options=slip("volume_share", "0.1"))) == [("103.525", "102.35625")]


def test_random_slippage_is_a_matter_of_the_seed(run) -> None:
    first, again, other = (run(BARS, options=slip("random", "0", "0.01", seed)) for seed in (1, 1, 2))
    assert prices(first) == prices(again) != prices(other)
    assert prices(first) != prices(run(BARS))


def test_a_latency_in_bars_delays_the_fill_by_so_many_opens(run) -> None:
    bars = [SIGNAL, (101, 102, 100, 101), (103, 104, 103, 110), (105, 105, 105, 105), (107, 107, 107, 107)]
    made = run(bars, options={"latency_bars": 1})
    assert prices(made) == [("103", "107")]


def test_a_latency_within_the_bar_gets_the_price_on_the_way_from_open_to_close(run) -> None:
    made = run([SIGNAL, (100, 112, 99, 110), (120, 121, 99, 100)], options={"latency_ms": 15_000})
    assert prices(made) == [("102.5", "115")]


def test_a_stop_on_the_way_comes_before_an_exit_that_is_late(run) -> None:
    bars = [SIGNAL, (100, 111, 99, 110), (110, 110, 90, 90)]
    made = run(bars, stops={"stop_loss": "0.02"}, options={"latency_ms": 54_000})
    (trade,) = made.trades.rows()
    assert trade["entry_price"] == "109"
    assert (trade["exit_price"], trade["exit_reason"]) == ("106.82", "stop")


def test_funding_is_charged_at_its_hours_on_what_is_held_then(run, market) -> None:
    bars = [SIGNAL, *((100.0, 101.0, 99.0, 99.0),) * 118, (100.0, 101.0, 99.0, 110.0), (100.0, 101.0, 99.0, 100.0)]
    options = {"funding_rate": Decimal("0.001"), "funding_hours": 1}
    (trade,) = run(bars, options=options).trades.rows()
    assert trade["pnl"] == "-0.2", "the hours that begin with the bars 60 and 120"
    short = run(bars, options=options, **{side: {"short": rules} for side, rules in SIDES.items()})
    assert [row["pnl"] for row in short.trades.rows()] == ["0.2"]


SIDES = {
    "entry": {"left": "close", "op": "==", "right": 100},
    "exit": {"left": "close", "op": "==", "right": 110},
}


def test_fills_are_limited_to_a_share_of_the_volume(run) -> None:
    bars = [(*SIGNAL, 1.0), (101, 101, 101, 101, 4.0), (102, 102, 102, 102, 4.0), (103, 103, 103, 103, 9.0)]
    made = run(bars, options={"volume_share": Decimal("0.1")})
    assert (made.fills, made.open_positions[0].qty) == (3, "1")
    assert made.open_positions[0].entry_price == "101.8", "0.4 at 101, 0.4 at 102, 0.2 at 103"


def test_several_markets_share_one_account(run, market) -> None:
    one = market(BARS)
    other = market([(50, 50, 50, 100), (60, 70, 50, 110), (80, 80, 80, 80)])
    made = run([one, other], sizing={"kind": "equity_fraction", "value": "0.6"})
    assert made.trades.symbol.tolist() == [0, 1]
    assert [row["qty"] for row in made.trades.rows()] == ["60", "40"], "the second has what the first has left"
    gains = 60 * 2 + 40 * 20
    assert made.final_equity == str(10_000 + gains)
    assert made.equity[-1] == 10_000 + gains


def test_positions_over_all_markets_can_be_limited(run, market) -> None:
    made = run([market(BARS), market(BARS)], options={"positions_max": 1})
    assert made.trades.symbol.tolist() == [0]
    assert made.refused["max_open_positions"] == 1


def test_markets_with_bars_of_their_own_meet_by_time(run, market) -> None:
    alone = run([market(BARS, first=5)])
    both = run([market([(1.0, 1.0, 1.0, 1.0)] * 3), market(BARS, first=5)])
    assert len(both.equity) == 6
    rows = [list(each.trades.rows()) for each in (alone, both)]
    assert rows[0] == rows[1]
    assert np.diff(both.stamps)[2] == 3 * 60_000


def test_markets_of_unlike_prices_keep_every_digit(run, market) -> None:
    tiny = market([(0.000001, 0.000001, 0.000001, 100e-8), (0.00000123, 0.00000123, 0.00000123, 0.00000123)])
    dear = market([SIGNAL, (100_000.1, 100_000.1, 100_000.1, 110), (100_000.3, 100_000.3, 100_000.3, 100_000.3)])
    made = run([dear, tiny], sizing={"kind": "fixed_quantity", "value": "0.01"}, options={"fee": Decimal("0.00075")})
    (trade,) = made.trades.rows()
    assert (trade["entry_price"], trade["fees"]) == ("100000.1", "1.500003")
    assert made.final_equity == str(Decimal(10_000) + Decimal(trade["pnl"]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cash": Decimal(0)},
        {"fee": Decimal(1)},
        {"latency_ms": -1},
        {"volume_share": Decimal(2)},
        {"funding_rate": Decimal(1)},
        {"funding_hours": 0},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(ValueError):
        Options(**wrong)


@pytest.mark.parametrize("wrong", [{"rate": Decimal(-1)}, {"rate": Decimal(1), "kind": SlippageKind.PROPORTIONAL}])
def test_slippage_that_means_nothing_is_refused(wrong) -> None:
    with pytest.raises(ValueError):
        Slippage(**wrong)


def test_what_the_first_market_claims_includes_its_fee(run, market) -> None:
    bars = [(100, 100, 100, 100)] * 3
    found = run(
        [market(bars), market(bars)],
        options={"fee": Decimal("0.01")},
        sizing={"kind": "equity_fraction", "value": "0.6"},
    )
    # 60 units cost 6,060 with their fee; 3,940 are left, and buy 39.00990099 at 101 each.
    assert [held.qty for held in found.open_positions] == ["60", "39.00990099"]
    assert found.cash == "0.00000001"
