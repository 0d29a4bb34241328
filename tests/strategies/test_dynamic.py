"""What a definition wishes on a bar, given the position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from tbh.messages.account import Position
from tbh.messages.market import Candle
from tbh.messages.orders import Protection, Purpose, Side, Trailing
from tbh.messages.strategy import Cooldown, CooldownAfter, Limit, Sizing, SizingKind
from tbh.strategies import bars as held_bars
from tbh.strategies import series
from tbh.strategies.bars import held_of
from tbh.strategies.base import Strategy, Wish
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import CATALOGUE, SERIES
from tbh.strategies.series import IndicatorError

Make = Callable[..., DynamicStrategy]
Bars = Callable[[Sequence[object]], list[Candle]]
MakePosition = Callable[..., Position]

UP = {"left": "close", "op": ">", "right": 110}
DOWN = {"left": "close", "op": "<", "right": 90}
NEVER = {"left": "close", "op": "<", "right": 0}
ALWAYS = {"left": "close", "op": ">", "right": 0}


def decided(made: DynamicStrategy, bars: list[Candle], position: Position | None = None) -> tuple[Wish, ...]:
    made.load(bars)
    return made.on_bar(position)


def kinds(wishes: tuple[Wish, ...]) -> list[tuple[Purpose, Side]]:
    return [(wish.purpose, wish.side) for wish in wishes]


def test_dynamic_strategy_is_a_strategy(strategy: Make) -> None:
    made: Strategy = strategy()
    assert (made.name, made.timeframe_s, made.bar_count, made.warm) == ("s", 60, 0, False)


def test_true_entry_rule_when_flat_wishes_an_entry(strategy: Make, candles: Bars) -> None:
    (wish,) = decided(strategy(), candles([100, 111]))
    assert wish == Wish(
        side=Side.BUY,
        purpose=Purpose.ENTRY,
        sizing=Sizing(kind=SizingKind.FIXED_QUANTITY, value=Decimal(2)),
        reason="entry long: close > 110",
    )


def test_false_entry_rule_wishes_nothing(strategy: Make, candles: Bars) -> None:
    assert decided(strategy(), candles([111, 100])) == ()


def test_short_entry_sells(strategy: Make, candles: Bars) -> None:
    assert kinds(decided(strategy(entry={"short": DOWN}), candles([80]))) == [(Purpose.ENTRY, Side.SELL)]


def test_entries_of_both_sides_cancel_each_other(strategy: Make, candles: Bars) -> None:
    assert decided(strategy(entry={"long": ALWAYS, "short": ALWAYS}), candles([100])) == ()


def test_position_of_zero_is_flat(strategy: Make, candles: Bars, position: MakePosition) -> None:
    assert kinds(decided(strategy(), candles([111]), position(0))) == [(Purpose.ENTRY, Side.BUY)]


def test_entry_rule_of_the_held_side_is_ignored(strategy: Make, candles: Bars, position: MakePosition) -> None:
    assert decided(strategy(), candles([111]), position(1)) == ()


def test_opposite_entry_without_an_exit_is_ignored(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(entry={"long": UP, "short": DOWN}, exit={"long": NEVER})
    assert decided(made, candles([80]), position(1)) == ()


def test_true_exit_rule_wishes_an_exit_without_size(strategy: Make, candles: Bars, position: MakePosition) -> None:
    (wish,) = decided(strategy(exit={"long": DOWN}), candles([80]), position(1))
    assert wish == Wish(side=Side.SELL, purpose=Purpose.EXIT, reason="exit long: close < 90")


def test_exit_of_a_short_position_buys(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(entry={"short": DOWN}, exit={"short": UP})
    assert kinds(decided(made, candles([111]), position(-1))) == [(Purpose.EXIT, Side.BUY)]


def test_exit_rule_of_the_other_side_is_ignored(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(exit={"short": DOWN})
    assert decided(made, candles([80]), position(1)) == ()


def test_exit_with_an_opposite_entry_reverses(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(entry={"long": UP, "short": DOWN}, exit={"long": DOWN, "short": UP})
    assert kinds(decided(made, candles([80]), position(1))) == [
        (Purpose.EXIT, Side.SELL),
        (Purpose.ENTRY, Side.SELL),
    ]


@pytest.mark.parametrize(("after", "purposes"), [("any", 1), ("loss", 1), ("stop", 2)])
def test_a_cool_down_that_may_follow_an_exit_keeps_it_from_reversing_and_says_so(
    strategy: Make, candles: Bars, position: MakePosition, after: str, purposes: int
) -> None:
    made = strategy(entry={"long": UP, "short": DOWN}, exit={"long": DOWN}, cooldown={"bars": 1, "after": after})
    wishes = decided(made, candles([80]), position(1))
    assert len(wishes) == purposes
    assert ("no reversal" in wishes[0].reason) is (purposes == 1)


def test_an_entry_carries_the_time_since_when_an_end_holds_it_back(strategy: Make, candles: Bars) -> None:
    bars = candles([80, 100, 111])
    (wish,) = decided(strategy(cooldown={"bars": 2, "after": "loss"}), bars)
    assert wish.cooldown == Cooldown(after=CooldownAfter.LOSS, bars=2, since=bars[1].open_time)


@pytest.mark.parametrize("pyramid", [False, True])
def test_an_entry_and_a_pyramid_rest_until_so_many_bars_have_followed(
    strategy: Make, candles: Bars, position: MakePosition, pyramid: bool
) -> None:
    orders = {"entry": {"kind": "limit", "offset": "0.001", "expires_bars": 3}}
    made = strategy(orders=orders, pyramid={"long": UP, "max_layers": 1})
    bars = candles([111])
    (wish,) = decided(made, bars, position(1) if pyramid else None)
    assert wish.limit == Limit(offset=Decimal("0.001"), until=bars[0].open_time + timedelta(minutes=4))


def test_an_exit_never_rests(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(orders={"entry": {"kind": "limit", "offset": "0.001"}}, exit={"long": DOWN})
    assert [wish.limit for wish in decided(made, candles([80]), position(1))] == [None]


def test_a_pyramid_is_not_held_back_by_a_cool_down(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(pyramid={"long": UP, "max_layers": 1}, cooldown={"bars": 2})
    assert [wish.cooldown for wish in decided(made, candles([111]), position(1))] == [None]


def test_exit_with_entries_of_both_sides_only_exits(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(entry={"long": ALWAYS, "short": ALWAYS}, exit={"long": ALWAYS})
    assert kinds(decided(made, candles([100]), position(1))) == [(Purpose.EXIT, Side.SELL)]


def test_pyramid_adds_the_next_layer(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(pyramid={"long": UP, "max_layers": 2})
    (wish,) = decided(made, candles([111]), position(1, layers=2))
    assert (wish.purpose, wish.side, wish.layer) == (Purpose.PYRAMID, Side.BUY, 2)
    assert wish.sizing is not None


def test_pyramid_stops_at_its_layers(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(pyramid={"long": UP, "max_layers": 2})
    assert decided(made, candles([111]), position(1, layers=3)) == ()


def test_exit_comes_before_pyramid(strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(exit={"long": ALWAYS}, pyramid={"long": ALWAYS, "max_layers": 2})
    assert kinds(decided(made, candles([111]), position(1))) == [(Purpose.EXIT, Side.SELL)]


@pytest.mark.parametrize("empty", [{"all": []}, {"any": []}])
def test_empty_rule_is_never_true(empty: object, strategy: Make, candles: Bars, position: MakePosition) -> None:
    made = strategy(entry={"long": empty}, exit={"long": empty}, pyramid={"long": empty, "max_layers": 3})
    bars = candles([100, 120])
    assert decided(made, bars) == ()
    assert decided(made, bars, position(1)) == ()
    assert not made.evaluate_all({name: np.ones(2) for name in SERIES})["entry_long"].any()


def test_stops_of_the_entry_price_carry_no_basis(strategy: Make, candles: Bars) -> None:
    made = strategy(stops={"stop_loss": "0.02", "trailing": {"distance": 0.01, "activate_at": "0.03"}})
    (wish,) = decided(made, candles([111]))
    assert wish.protection == Protection(
        stop_loss=Decimal("0.02"), trailing=Trailing(distance=Decimal("0.01"), activate_at=Decimal("0.03"))
    )


def test_stops_of_the_signal_close_carry_it_to_the_last_digit(strategy: Make, candles: Bars) -> None:
    made = strategy(stops={"basis": "signal_close", "take_profit": "0.05"})
    (wish,) = decided(made, candles(["111.10"]))
    assert wish.protection == Protection(take_profit=Decimal("0.05"), basis_price=Decimal("111.10"))


def test_warmup_counts_indicator_shift_and_cross(strategy: Make, candles: Bars) -> None:
    made = strategy(
        indicators=[{"id": "m", "name": "sma", "params": {"period": 5}}, {"id": "unused", "name": "adx"}],
        entry={"long": {"left": "close", "op": "crosses_above", "right": {"column": "m__value", "shift": 2}}},
    )
    assert made.warmup == 4 + 2 + 1
    made.load(candles([100] * 7))
    assert not made.warm
    made.append(candles([100] * 8)[-1])
    assert made.warm


def test_deciding_without_a_bar_is_refused(strategy: Make) -> None:
    with pytest.raises(ValueError, match="no bar"):
        strategy().on_bar(None)


def test_same_bars_and_position_give_the_same_wishes(strategy: Make, candles: Bars) -> None:
    made = strategy(
        indicators=[{"id": "r", "name": "rsi"}], entry={"long": {"left": "r__value", "op": ">", "right": 5}}
    )
    made.load(candles(range(100, 130)))
    assert made.on_bar(None) == made.on_bar(None) != ()


def test_loading_equals_appending(strategy: Make, candles: Bars) -> None:
    loaded, appended = strategy(), strategy()
    bars = candles(range(100, 130))
    loaded.load(bars)
    for bar in bars:
        appended.append(bar)
    assert loaded.bar_count == appended.bar_count == 30
    for name, values in loaded.view(None).columns.items():
        np.testing.assert_array_equal(values, appended.view(None).columns[name])


def test_view_hands_out_read_only_columns_that_later_bars_leave_alone(strategy: Make, candles: Bars) -> None:
    made = strategy(indicators=[{"id": "m", "name": "sma", "params": {"period": 2}}])
    bars = candles(range(100, 104))
    made.load(bars[:3])
    view = made.view(None)
    before = view.columns["close"].tolist(), view.columns["m__value"].tolist()[1:]
    made.append(bars[3])
    assert before == ([100, 101, 102], [100.5, 101.5])
    assert (view.columns["close"].tolist(), view.bar_index) == (before[0], 2)
    for name in view.columns:
        with pytest.raises(ValueError, match="read-only"):
            view.columns[name][0] = 0


def test_bars_out_of_order_are_refused(strategy: Make, candles: Bars) -> None:
    made = strategy()
    bars = candles([100, 101])
    made.load(bars)
    with pytest.raises(ValueError, match="comes after"):
        made.append(bars[1])
    assert made.bar_count == 2


@pytest.mark.parametrize("bad", ["NaN", "Infinity"])
def test_bar_without_finite_numbers_is_refused(bad: str, strategy: Make, candle: Callable[..., Candle]) -> None:
    with pytest.raises(ValueError, match="finite"):
        strategy().append(candle(0, 100, volume=bad))


def test_failing_indicator_is_named(strategy: Make, candles: Bars, monkeypatch: pytest.MonkeyPatch) -> None:
    made = strategy(
        indicators=[{"id": "mine", "name": "sma"}],
        entry={"long": {"left": "mine__value", "op": ">", "right": 1}},
    )
    entry = type(CATALOGUE["sma"])

    def broken(*_: object) -> object:
        raise Exception("inputs are all wrong")

    monkeypatch.setattr(entry, "compute", broken)
    made.load(candles([100]))
    with pytest.raises(IndicatorError, match="inputs are all wrong") as caught:
        made.on_bar(None)
    assert caught.value.indicator == "mine"


def test_columns_that_no_evaluated_rule_reaches_are_not_computed(
    strategy: Make, candles: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = strategy(
        indicators=[{"id": "m", "name": "sma"}],
        entry={"long": {"all": [UP, {"left": "m__value", "op": ">", "right": 1}]}},
    )
    monkeypatch.setattr(type(CATALOGUE["sma"]), "compute", lambda *_: pytest.fail("computed in vain"))
    assert decided(made, candles([100])) == ()


def test_old_bars_are_dropped_by_halves_and_loading_drops_the_same(
    strategy: Make, candles: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bars, "MAX_HISTORY", 8)
    bars = candles(range(100, 130))
    appended = strategy()
    held = []
    for count, bar in enumerate(bars, start=1):
        appended.append(bar)
        view = appended.view(None)
        held.append(len(view.columns["close"]))
        loaded = strategy()
        loaded.load(bars[:count])
        assert loaded.view(None).columns["close"].tolist() == view.columns["close"].tolist()
        assert (view.bar_index, view.columns["close"][-1]) == (count - 1, float(bar.close))
    assert held == [held_of(count) for count in range(1, 31)]
    assert held[:13] == [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8, 5]


def test_dropping_bars_leaves_infinite_memory_within_float_noise(strategy: Make) -> None:
    """The longest Wilder and EMA periods, on half of the history, agree with all of it."""
    made = strategy(
        indicators=[
            {"id": "r", "name": "rsi", "params": {"period": 500}},
            {"id": "e", "name": "ema", "params": {"period": 1000}},
            {"id": "x", "name": "adx", "params": {"period": 500}},
        ]
    )
    rng = np.random.default_rng(3)
    close = 30_000 + np.cumsum(rng.normal(size=held_bars.MAX_HISTORY))
    arrays = {"open": close, "high": close + 2, "low": close - 2, "close": close, "volume": np.ones(len(close))}
    half = {name: values[len(close) // 2 :].copy() for name, values in arrays.items()}
    for column in ("r__value", "e__value", "x__value"):
        whole, part = (series.Columns(each, made._plan, 60)[column][-1] for each in (arrays, half))
        assert part == pytest.approx(whole, rel=1e-11)
