"""What an owner can know of what a former owner still sends, and what it can't (``one_request_per_id``).

The arrival window is three seconds. ``EXIT`` was decided on the bar that is over at 2 s.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tbh.messages.orders import Order, Purpose, Side
from tbh.simulation import steps
from tests.simulation.story import MARKET, RIVAL, TERMS, Story, order
from tests.simulation.words import ENTRY, EXIT, STOP, again, later, lease

BROKEN = {"one_request_per_id"}
FLATTEN = order("x0", Purpose.FLATTEN)
SPOT = replace(TERMS, market=replace(MARKET, enforces_reduce_only=False))


def breaks(
    *,
    taken_s: float,
    arrives_s: float,
    at_s: float,
    of: Order = EXIT,
    side: Side = Side.SELL,
    terms: steps.Terms = TERMS,
) -> set[str]:
    """What is broken when a rival has the bot from ``taken_s`` on, an order of its predecessor, which it does not know
    of, arrives at ``arrives_s``, and at ``at_s`` its own of that id, on ``side`` and for twice as much."""
    story = later(Story(terms), taken_s).tell(lease(RIVAL, 1))
    story = later(story, arrives_s - taken_s).signs(of).arrives(of)
    return again(later(story, at_s - arrives_s), replace(of, qty=Decimal(2), side=side), RIVAL).broken


@pytest.mark.parametrize(("arrives_s", "broken"), [(3.0, BROKEN), (6.0, BROKEN), (6.1, set())])
def test_an_owner_finds_what_arrived_before_it_looked_and_not_what_came_later(
    arrives_s: float, broken: set[str]
) -> None:
    assert breaks(taken_s=3, arrives_s=arrives_s, at_s=8) == broken
    assert breaks(taken_s=3, arrives_s=arrives_s, at_s=8, of=FLATTEN) == broken
    assert breaks(taken_s=3, arrives_s=arrives_s, at_s=8, of=STOP) == broken
    assert breaks(taken_s=3, arrives_s=arrives_s, at_s=8, terms=SPOT) == broken


@pytest.mark.parametrize(("taken_s", "broken"), [(3.0, BROKEN), (2.0, BROKEN), (1.9, set())])
def test_an_owner_asks_before_it_serves_a_bar_that_was_over_when_it_came_and_not_before_it_serves_its_own(
    taken_s: float, broken: set[str]
) -> None:
    assert breaks(taken_s=taken_s, arrives_s=4, at_s=5) == broken


def test_an_owner_asks_before_it_closes_by_request_and_looks_before_it_guards() -> None:
    assert breaks(taken_s=1, arrives_s=4, at_s=5, of=FLATTEN) == BROKEN
    assert breaks(taken_s=1, arrives_s=4, at_s=5, of=STOP) == breaks(taken_s=1, arrives_s=4, at_s=15, of=STOP) == BROKEN


def test_where_a_second_exit_would_sell_other_coins_an_owner_asks_before_it_serves_its_own_bars_too() -> None:
    assert breaks(taken_s=1, arrives_s=4, at_s=5, terms=SPOT) == BROKEN
    assert breaks(taken_s=1, arrives_s=4.1, at_s=5, terms=SPOT) == set()


@pytest.mark.parametrize("arrives_s", [4.0, 4.1, 12.0])
def test_nothing_excuses_an_order_on_the_other_side_nor_an_entry_of_another_size(arrives_s: float) -> None:
    assert breaks(taken_s=1, arrives_s=arrives_s, at_s=13, side=Side.BUY) == BROKEN
    assert breaks(taken_s=1, arrives_s=arrives_s, at_s=13, of=STOP, side=Side.BUY) == BROKEN
    assert breaks(taken_s=1, arrives_s=arrives_s, at_s=13, of=ENTRY, side=Side.BUY) >= BROKEN
