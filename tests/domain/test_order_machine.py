"""The life of an order, proven: any interleaving of facts ends in a legal state that agrees with the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tbh.domain import order as rules
from tbh.domain.book import TradeIds
from tbh.domain.order import OPEN, TABLE, TERMINAL, OrderEvent
from tbh.messages.orders import Fill, OrderFound, OrderState, OrderStatus, Side
from tests.domain.order_machine import OrderMachine
from tests.domain.order_truth import NOW, QTY, Truth, an_order

_S = OrderStatus
_E = OrderEvent

TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(max_examples=max(150, settings().max_examples), stateful_step_count=30)


# Every pair of status and event

ORDER = an_order("entry", Side.BUY)
LEAVES_AN_END = {
    (_S.REJECTED, _E.ACCEPTED): "two words that contradict each other",
    (_S.REJECTED, _E.FILL): "what fills was not refused",
    (_S.REJECTED, _E.FOUND_BEHIND): "what has filled was not refused",
    (_S.ABSENT, _E.ACCEPTED): "the request arrived after all",
    (_S.ABSENT, _E.FILL): "the request arrived after all",
    (_S.ABSENT, _E.FOUND_BEHIND): "the request arrived after all",
}
"""The only rows by which an order that was done is open again, and why each must be there."""


def test_an_order_that_is_done_is_open_again_only_where_there_is_a_reason() -> None:
    assert {pair for pair, to in TABLE.items() if pair[0] in TERMINAL and to in OPEN} == set(LEAVES_AN_END)


BEHIND = OrderFound(client_order_id="entry", exchange_order_id="x", status=_S.CANCELED, filled_qty=QTY, avg_price=None)
TOLD: dict[OrderEvent, Callable[[OrderState], OrderState | None]] = {
    _E.RECORDED: lambda of: rules.on_recorded(of, NOW),
    _E.SUBMITTED: lambda of: rules.on_submitted(of, NOW),
    _E.ACCEPTED: lambda of: rules.on_accepted(of, "x", NOW),
    _E.FILL: lambda of: rules.on_fill(of, Truth(ORDER).trade((QTY - of.filled_qty) / 2, 100, 1), NOW),
    _E.LAST_FILL: lambda of: rules.on_fill(of, Truth(ORDER).trade(QTY - of.filled_qty, 100, 1), NOW),
    _E.CANCELED: lambda of: rules.on_canceled(of, of.filled_qty, "asked", NOW),
    _E.EXPIRED: lambda of: rules.on_expired(of, of.filled_qty, "late", NOW),
    _E.REJECTED: lambda of: rules.on_rejected(of, "no", NOW),
    _E.SILENCE: lambda of: rules.on_silence(of, "timeout", NOW),
    _E.FOUND_BEHIND: lambda of: rules.on_found(of, BEHIND, NOW),
    _E.NOT_FOUND: lambda of: rules.on_not_found(of, True, NOW),
    _E.RECOVERED: lambda of: rules.on_recovered(of, NOW),
}


def states(status: OrderStatus) -> Iterator[OrderState]:
    """That status, of an order that was seen and filled in part, or neither."""
    for seen in (None, "x"):
        for filled in ("0", "0.4"):
            qty = Decimal(filled)
            yield replace(
                rules.draft(ORDER, NOW), status=status, version=7, exchange_order_id=seen, filled_qty=qty,
                avg_price=Decimal(100) if qty else None,
            )  # fmt: skip


@pytest.mark.parametrize("status", list(OrderStatus))
@pytest.mark.parametrize("event", list(OrderEvent))
def test_each_event_moves_each_status_as_the_table_says_or_not_at_all(status: OrderStatus, event: OrderEvent) -> None:
    for before in states(status):
        after = TOLD[event](before)
        sent = TOLD[_E.SUBMITTED](before) if status in (_S.DRAFTED, _S.RECORDED) else None
        to = TABLE.get((status, event))
        if to is None and sent is not None and event is not _E.NOT_FOUND:
            assert after == TOLD[event](sent), "of what was sent without a word the same is true as of what was sent"
            continue
        if after is None:
            moves = to not in (None, status)
            contradicted = bool(before.filled_qty or before.exchange_order_id)
            assert not moves or (event in (_E.REJECTED, _E.NOT_FOUND) and status is _S.UNKNOWN and contradicted)
            continue
        assert to is not None
        assert after.status in ({to, _S.PARTIALLY_FILLED} if to is _S.ACCEPTED and before.filled_qty else {to})
        assert (after.version, after.filled_qty >= before.filled_qty) == (8, True)


# It can fail

SEARCH = settings(
    max_examples=3_000,
    stateful_step_count=30,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("before", "event", "wrong"),
    [
        (_S.UNKNOWN, _E.FILL, None),
        (_S.UNKNOWN, _E.FILL, _S.CANCELED),
        (_S.SUBMITTED, _E.SILENCE, _S.REJECTED),
    ],
)
def test_a_wrong_row_of_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch, before: OrderStatus, event: OrderEvent, wrong: OrderStatus | None
) -> None:
    if wrong is None:
        monkeypatch.delitem(rules.TABLE, (before, event))
    else:
        monkeypatch.setitem(rules.TABLE, (before, event), wrong)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(OrderMachine, settings=SEARCH)


def _counts_each_time(_: TradeIds, fill: Fill) -> bool:
    return True


def _believes_any_denial(state: OrderState, conclusive: bool, now: datetime) -> OrderState | None:
    return rules._move(state, OrderEvent.NOT_FOUND, now, reason="not found")


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (TradeIds, "add", _counts_each_time),
        (rules, "on_not_found", _believes_any_denial),
    ],
)
def test_a_wrong_rule_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wrong: Callable[..., object]
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(OrderMachine, settings=SEARCH)
