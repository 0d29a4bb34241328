"""What guards a position: prices from what was paid, quantities from what is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.protection import better, guards
from tbh.messages.account import Position
from tbh.messages.market import Market
from tbh.messages.orders import Protection, Purpose, Side, Trailing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARKET = Market(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal(0),
    maker_fee=Decimal(0),
)
FIXED = Protection(stop_loss=Decimal("0.1"), take_profit=Decimal("0.2"))
TRAILING = Trailing(distance=Decimal("0.1"), activate_at=Decimal("0.05"))


def position(qty: str = "1", protection: Protection | None = FIXED, entry_price: str = "100") -> Position:
    return Position(
        symbol="BTC/USDT",
        strategy="s",
        position_id="p",
        qty=Decimal(qty),
        entry_price=Decimal(entry_price),
        opened_at=NOW,
        bar_open=NOW,
        protection=protection,
    )


def prices(of: Position | None, **more: Any) -> dict[Purpose, Decimal]:
    found = guards(of, MARKET, **({"best_price": None} | more))
    return {purpose: guard.price for purpose, guard in found.items()}


@pytest.mark.parametrize(
    ("qty", "side", "stop", "target"), [("1", Side.SELL, "90", "120"), ("-1", Side.BUY, "110", "80")]
)
def test_stop_and_target_lie_on_their_sides_of_the_entry(qty: str, side: Side, stop: str, target: str) -> None:
    found = guards(position(qty), MARKET, best_price=None)
    assert {guard.side for guard in found.values()} == {side}
    assert prices(position(qty)) == {Purpose.STOP: Decimal(stop), Purpose.TARGET: Decimal(target)}


def test_the_signals_close_is_the_basis_where_it_is_given() -> None:
    assert prices(position(protection=replace(FIXED, basis_price=Decimal(200))))[Purpose.STOP] == 180


def test_nothing_guards_nothing() -> None:
    assert prices(None) == prices(position("0")) == prices(position(protection=None)) == {}


def test_the_quantity_is_what_is_held_on_the_step_below() -> None:
    found = guards(position("0.998"), MARKET, best_price=None)
    assert {guard.qty for guard in found.values()} == {Decimal("0.99")}
    assert guards(position("0.009"), MARKET, best_price=None) == {}


def test_a_price_of_nothing_or_less_is_no_order() -> None:
    everything = Protection(stop_loss=Decimal(1), take_profit=Decimal(1))
    assert prices(position(protection=everything)) == {Purpose.TARGET: Decimal(200)}


def test_a_price_below_half_a_step_is_no_order() -> None:
    assert prices(position(entry_price=str(MARKET.price_step / 4))) == {}


def test_a_trailing_stop_begins_when_the_gain_is_reached() -> None:
    trailing = position(protection=Protection(trailing=TRAILING))
    assert prices(trailing, best_price=Decimal("104.99")) == {}
    assert prices(trailing, best_price=Decimal(105)) == {Purpose.STOP: Decimal("94.50")}


def test_the_tighter_of_a_fixed_and_a_trailing_stop_stands() -> None:
    both = replace(FIXED, trailing=TRAILING)
    assert prices(position(protection=both), best_price=Decimal(120))[Purpose.STOP] == 108
    assert prices(position("-1", both), best_price=Decimal(80))[Purpose.STOP] == 88
    assert prices(position(protection=both), best_price=Decimal(101))[Purpose.STOP] == 90


def test_what_a_trailing_stop_has_reached_it_keeps_without_the_best_price() -> None:
    trailing = position(protection=Protection(trailing=TRAILING))
    assert prices(trailing, reached=Decimal(97)) == {Purpose.STOP: Decimal(97)}
    assert prices(trailing, best_price=Decimal(106), reached=Decimal(97)) == {Purpose.STOP: Decimal(97)}
    assert prices(trailing, best_price=Decimal(110), reached=Decimal(97)) == {Purpose.STOP: Decimal(99)}


def test_what_a_fixed_stop_has_been_does_not_bind_it() -> None:
    """It follows the entry price, which an addition to the position moves either way."""
    assert prices(position(entry_price="90"), reached=Decimal(90))[Purpose.STOP] == 81


@given(
    bests=st.lists(st.decimals("50", "200", places=2), min_size=1, max_size=20),
    long=st.booleans(),
    forgets=st.integers(0, 19),
)
def test_a_trailing_stop_never_retreats(bests: list[Decimal], long: bool, forgets: int) -> None:
    """Not even when the best price is forgotten in between."""
    trailing = position("1" if long else "-1", Protection(trailing=TRAILING))
    best: Decimal | None = None
    reached: Decimal | None = None
    for number, price in enumerate(bests):
        best = None if number == forgets else better(best, price, trailing.qty)
        stop = prices(trailing, best_price=best, reached=reached).get(Purpose.STOP)
        if reached is not None:
            assert stop is not None
            assert stop >= reached if long else stop <= reached
        reached = stop
