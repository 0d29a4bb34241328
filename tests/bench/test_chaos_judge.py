"""The campaign's judge: each way in which a journal can differ from the exchange's ledger is seen, and nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bench.chaos import summary
from bench.chaos_judge import Journal, judge
from bench.chaos_plan import endings
from tbh.domain.ids import client_order_id, protection_order_id
from tbh.messages.orders import Purpose

BOT = "0c7e2d4a-6f4c-4c58-9d5e-2f3f3b9b8a11"
BAR = datetime(2026, 1, 1, tzinfo=UTC)
STEP = Decimal("0.00001")


def entry(attempt: int) -> str:
    return client_order_id(BOT, bar_open=BAR, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=attempt)


def order(name: str, order_id: int, **more: Any) -> dict[str, Any]:
    made = {"client_order_id": name, "order_id": order_id, "foreign": False, "at_ms": 1000, "ended_ms": 1000}
    return {**made, "status": "FILLED", "qty": "0.01", "executed": "0.01", **more}


def trade(name: str, trade_id: int, **more: Any) -> dict[str, Any]:
    made = {"client_order_id": name, "trade_id": trade_id, "side": "BUY", "qty": "0.01", "price": "50000"}
    return {**made, "fee": "0.00001", "fee_asset": "BTC", **more}


STOP = protection_order_id(BOT, entry(1), Purpose.STOP, 0)
LEDGER: dict[str, Any] = {
    "base": "BTC",
    "quote": "USDT",
    "now_ms": 9000,
    "start": {"BTC": "0", "USDT": "10000"},
    "balances": {"BTC": {"free": "0.00099", "locked": "0.009"}, "USDT": {"free": "9500", "locked": "0"}},
    "orders": [
        order(entry(1), 7),
        order(STOP, 8, status="NEW", qty="0.009", executed="0", at_ms=1100, ended_ms=None),
    ],
    "trades": [trade(entry(1), 70)],
}
JOURNAL = Journal(
    orders=[
        {"client_order_id": entry(1), "exchange_order_id": "7", "order_status": "filled", "filled_qty": "0.01000"},
        {"client_order_id": STOP, "exchange_order_id": "8", "order_status": "accepted", "filled_qty": "0"},
        {"client_order_id": entry(0), "exchange_order_id": None, "order_status": "absent", "filled_qty": "0"},
    ],
    fills=[trade(entry(1), 70) | {"trade_id": "70", "side": "buy", "price": "50000.00"}],
    position=Decimal("0.00999"),
    cash=Decimal(9500),
    stored=[trade(entry(1), 70) | {"trade_id": "70", "side": "buy"}],
    stored_position=Decimal("0.00999"),
    whole=True,
)


def verdict_of(journal: Journal = JOURNAL, **ledger: Any) -> Any:
    return judge(LEDGER | ledger, journal, bot_id=BOT, step=STEP)


def test_a_journal_that_agrees_is_clean() -> None:
    verdict = verdict_of()
    assert verdict.clean, verdict.to_json()


def test_a_position_row_may_leave_out_less_than_a_step_and_no_more() -> None:
    less = Decimal("0.009985")
    verdict = verdict_of(replace(JOURNAL, position=less, stored_position=less))
    assert (verdict.clean, verdict.dust, verdict.position_drift) == (True, Decimal("0.000005"), 0)
    assert verdict_of(replace(JOURNAL, position=Decimal("0.00998"))).position_drift == STEP


@pytest.mark.parametrize("row", [0, 1])
def test_an_order_without_a_row_is_lost(row: int) -> None:
    left = [each for place, each in enumerate(JOURNAL.orders) if place != row]
    assert len(verdict_of(replace(JOURNAL, orders=left)).lost_orders) == 1


def test_an_order_under_another_id_of_the_exchange_is_lost_and_the_other_invented() -> None:
    rows = [{**JOURNAL.orders[0], "exchange_order_id": "9"}, *JOURNAL.orders[1:]]
    verdict = verdict_of(replace(JOURNAL, orders=rows))
    assert (len(verdict.lost_orders), len(verdict.invented_orders)) == (1, 1)


@pytest.mark.parametrize("change", [{"order_status": "partially_filled"}, {"filled_qty": "0.009"}])
def test_an_order_that_stands_otherwise_is_told(change: dict[str, str]) -> None:
    rows = [{**JOURNAL.orders[0], **change}, *JOURNAL.orders[1:]]
    assert len(verdict_of(replace(JOURNAL, orders=rows)).orders_differing) == 1


def test_a_fill_that_is_missing_or_differs_is_lost() -> None:
    verdict = verdict_of(replace(JOURNAL, fills=[]))
    assert len(verdict.lost_fills) == 1
    assert (verdict.position_drift, verdict.cash_drift) == (Decimal("0.00999"), Decimal(500))
    other = [{**JOURNAL.fills[0], "fee": "0"}]
    assert len(verdict_of(replace(JOURNAL, fills=other)).lost_fills) == 1


def test_a_fill_that_nobody_made_is_invented() -> None:
    fills = [*JOURNAL.fills, trade(entry(1), 71, qty="0.001", fee="0")]
    verdict = verdict_of(replace(JOURNAL, fills=fills))
    assert verdict.invented_fills == ["71"]
    assert verdict.position_drift == Decimal("0.001")


def test_a_store_that_was_there_all_the_time_holds_every_fill_and_another_one_nothing_else() -> None:
    assert len(verdict_of(replace(JOURNAL, stored=[])).store_differing) == 1
    assert verdict_of(replace(JOURNAL, stored=[], whole=False)).clean
    assert len(verdict_of(replace(JOURNAL, stored=[trade(entry(1), 69)], whole=False)).store_differing) == 1
    assert len(verdict_of(replace(JOURNAL, stored_position=Decimal(0))).store_differing) == 1


def test_cash_that_the_bot_tells_otherwise_is_drift() -> None:
    assert verdict_of(replace(JOURNAL, cash=Decimal("9499.99"))).cash_drift == Decimal("0.01")


def test_two_attempts_that_live_at_once_are_a_duplicate() -> None:
    resting = {"status": "NEW", "executed": "0", "ended_ms": None}
    orders = [order(entry(1), 7, **resting), order(entry(2), 9, at_ms=2000, **resting)]
    assert len(verdict_of(orders=orders).duplicates) == 1
    later = [order(entry(1), 7, status="CANCELED", executed="0"), order(entry(2), 9, at_ms=2000)]
    assert verdict_of(orders=later).duplicates == []


def test_an_intent_that_two_attempts_have_filled_is_a_duplicate() -> None:
    assert len(verdict_of(orders=[order(entry(1), 7), order(entry(2), 9, at_ms=2000, ended_ms=2000)]).duplicates) == 1
    shared = [order(entry(1), 7, executed="0.004"), order(entry(2), 9, executed="0.006", at_ms=2000, ended_ms=2000)]
    assert verdict_of(orders=shared).duplicates == []


def test_a_client_id_that_was_taken_twice_is_a_duplicate() -> None:
    found = verdict_of(orders=[order(STOP, 8), order(STOP, 9, at_ms=2000, ended_ms=2000, executed="0")]).duplicates
    assert found == [f"{STOP}: taken 2 times"]


def test_what_somebody_else_does_on_the_account_is_no_drift() -> None:
    ledger = deepcopy(LEDGER)
    ledger["orders"].append(order("web_1", 10, foreign=True))
    ledger["trades"].append(trade("web_1", 80, qty="0.02", fee="0.00002"))
    ledger["balances"]["BTC"]["free"] = "0.02097"
    ledger["balances"]["USDT"]["free"] = "8500"
    verdict = judge(ledger, replace(JOURNAL, cash=None), bot_id=BOT, step=STEP)
    assert verdict.clean, verdict.to_json()


def test_an_order_of_somebody_else_that_is_gone_was_touched() -> None:
    orders = [*LEDGER["orders"], order("web_1", 10, foreign=True, status="CANCELED", executed="0")]
    assert verdict_of(orders=orders).foreign_touched == ["web_1"]


def test_an_order_of_ours_whose_id_is_not_ours_is_strange() -> None:
    assert verdict_of(orders=[*LEDGER["orders"], order("x-1", 11, executed="0")]).strange_orders == ["x-1"]


def test_half_of_the_kills_are_fired_by_orders_at_each_point_of_their_way() -> None:
    drawn = list(endings(1, 60))
    hooks = [ending.hook for ending in drawn if ending.hook is not None]
    assert len(hooks) == 30
    assert {hook: hooks.count(hook) for hook in set(hooks)} == dict.fromkeys(
        ("before_effect", "after_effect", "before_reply"), 10
    )
    assert drawn == list(endings(1, 60))
    assert sum(ending.orders for ending in drawn) >= 3 * len(drawn)


def test_recoveries_with_an_open_question_and_on_another_machine_are_told_apart() -> None:
    recovery = {"seconds": 1.0, "unknown": False, "moved": False, "disturbed": False}
    leg = {
        "kills": 4, "kills_in_flight": 2, "database_kills": 1, "orders": 12, "fills": 20, "exits": {"75": 1},
        "faults": {"html": 2}, "stalls": [], "refused": [], "unscoped": 0, "clean": True, "seconds": 9.5,
        "verdict": verdict_of().to_json(),
        "recoveries": [
            recovery, recovery | {"seconds": 3.0, "unknown": True}, recovery | {"seconds": 5.0, "moved": True},
            recovery | {"seconds": 9.0, "disturbed": True},
        ],
    }  # fmt: skip
    figures = summary([leg, leg])
    assert (figures["kills"], figures["orders"], figures["exits"]) == (8, 24, {"75": 2})
    medians = [figures[f"{name}_s_p50"] for name in ("recovery", "recovery_unknown", "recovery_elsewhere")]
    assert medians == [1.0, 3.0, 5.0]
    assert figures["recoveries_disturbed"] == 2
    assert figures["duplicates"] == figures["lost_fills"] == figures["position_drift"] == 0
