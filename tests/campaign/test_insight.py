"""What the observer takes to be left undone of the orders that were to close a position."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

from tbh.campaign.insight import _left
from tbh.domain.blotter import Blotter
from tbh.messages.orders import OrderState, OrderStatus, Purpose
from tests.simulation.story import NOW, order, position, state

SECOND = timedelta(seconds=1)
HELD = position(order())
FAILED = replace(state(order("x0", Purpose.EXIT), OrderStatus.CANCELED), seen_at=NOW + 2 * SECOND)


def _filled(*, drafted_s: int, filled: str = "1", intent_id: str = "y") -> OrderState:
    later = order("y0", Purpose.EXIT, intent_id=intent_id, created_at=NOW + drafted_s * SECOND)
    return replace(state(later, OrderStatus.FILLED, filled=filled), seen_at=NOW + 9 * SECOND)


def _left_of(*states: OrderState) -> str | None:
    manager = SimpleNamespace(_orders=Blotter(states), _meant_for=lambda purpose, order, position: True)
    return _left(manager, HELD, None)


def test_an_exit_that_has_failed_is_left_undone() -> None:
    assert _left_of(FAILED) == "x0"


def test_an_exit_is_followed_by_one_that_was_drafted_after_it_had_failed_and_has_filled() -> None:
    assert _left_of(FAILED, _filled(drafted_s=3)) is None


def test_an_exit_is_not_followed_by_one_that_was_drafted_while_it_stood() -> None:
    assert _left_of(FAILED, _filled(drafted_s=1)) == "x0"


def test_an_exit_that_was_called_filled_short_of_what_it_was_for_is_left_undone_and_follows_none() -> None:
    short = _filled(drafted_s=3, filled="0.5")
    assert _left_of(short) == "y0"
    assert _left_of(short, FAILED) == "x0"


def test_an_exit_is_not_followed_by_one_that_a_former_life_had_sent() -> None:
    assert _left_of(FAILED, _filled(drafted_s=3, intent_id="exit|0|adopted y0")) == "x0"
