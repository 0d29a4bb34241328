"""A trace is for people: one line, what matters, nothing twice."""

from __future__ import annotations

from decimal import Decimal

from tbh.messages.orders import OrderStatus, OrderType, Purpose
from tbh.ports import Batch
from tbh.simulation import steps
from tbh.simulation.telling import told
from tests.simulation.story import BOOT, NOW, fill, order, state


def test_a_step_is_told_by_its_name_and_what_differs_from_the_usual() -> None:
    assert told(steps.BootStarted(boot=BOOT, machine="m1")) == "BootStarted(boot=boot-1, machine=m1)"
    assert told(steps.FaultHappened(kind="reply_lost")) == "FaultHappened(kind=reply_lost)"
    assert told(steps.Healed()) == "Healed()"


def test_an_order_is_told_in_short() -> None:
    stop = order("s1", Purpose.STOP, type=OrderType.STOP_MARKET, stop_price=Decimal("99.50"), expires_at=NOW)
    assert told(stop) == "stop s1 sell 1 stop_market at 99.5 reduce-only attempt 1 until 00:00:00.000"
    assert told(state(order(), OrderStatus.ACCEPTED, filled="0.5")) == (
        "[entry e0 buy 1 market attempt 0 is accepted v1 filled 0.5]"
    )


def test_a_fill_is_told_with_its_price_and_fee() -> None:
    assert told(fill(order())) == "fill t1 of e0: buy 1 at 100, fee 0.1 USDT, seq 1"


def test_a_long_list_is_told_by_its_first_members() -> None:
    assert told(tuple(range(8))) == "(0, 1, 2, 3, 4, 5, and 2 more)"
    assert told({"a": None, "b": 0.25}) == "{a: None, b: 0.25}"


def test_a_commit_is_told_without_the_texts_of_its_outbox() -> None:
    batch = Batch(outbox=[("fn", {"p": "x" * 500}, "key")], relayed_up_to=3)
    assert told(batch) == "Batch(relayed_up_to=3)"
