"""What a start finds: each pair of memory and exchange has one name, and a rule for what follows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tbh.domain import ids
from tbh.domain.findings import (
    FINDINGS_MAX,
    RESPONSES,
    Act,
    Kind,
    about_position,
    about_sync,
    act_on_stray,
    adopted_fill,
    adopted_order,
    compare_orders,
    within_bounds,
)
from tbh.messages.account import Finding, Position, SyncStatus
from tbh.messages.orders import (
    Fill,
    Order,
    OrderFound,
    OrderState,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
)

BOT = "bot"
AT = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Decimal(1)


def an_id(purpose: Purpose = Purpose.ENTRY, attempt: int = 0) -> str:
    if purpose.is_protection:
        return ids.protection_order_id(BOT, an_id(), purpose, attempt)
    if purpose in (Purpose.FLATTEN, Purpose.EMERGENCY, Purpose.MANUAL):
        return ids.flatten_order_id(BOT, "r", attempt, purpose=purpose)
    return ids.client_order_id(BOT, bar_open=AT, strategy="s", purpose=purpose, layer=0, attempt=attempt)


def state(client_order_id: str, status: OrderStatus, filled: Decimal = Decimal(0)) -> OrderState:
    order = Order(
        client_order_id=client_order_id, intent_id="i", symbol="S", side=Side.BUY, type=OrderType.MARKET, qty=ONE,
        purpose=Purpose.ENTRY, strategy="s", bar_open=AT, created_at=AT,
    )  # fmt: skip
    return OrderState(order=order, status=status, version=1, filled_qty=filled, seen_at=AT)


def there(client_order_id: str, status: OrderStatus = OrderStatus.ACCEPTED, filled: int = 0) -> OrderFound:
    return OrderFound(
        client_order_id=client_order_id,
        exchange_order_id="x",
        status=status,
        filled_qty=Decimal(filled),
        avg_price=None,
    )


def fill(client_order_id: str, trade_id: str = "t1", qty: Decimal = ONE, price: int = 100) -> Fill:
    return Fill(
        trade_id=trade_id, client_order_id=client_order_id, exchange_order_id="x", symbol="S", side=Side.SELL, qty=qty,
        price=Decimal(price), fee=Decimal(0), fee_asset="Q", maker=False, at=AT, seq=1,
    )  # fmt: skip


def position(strategy: str = "s", position_id: str = "p") -> Position:
    return Position(
        symbol="S", strategy=strategy, position_id=position_id, qty=ONE, entry_price=ONE, opened_at=AT, bar_open=AT
    )


@pytest.mark.parametrize(
    ("status", "report", "kind"),
    [
        (OrderStatus.ACCEPTED, there("o"), Kind.CONFIRM),
        (OrderStatus.UNKNOWN, there("o"), Kind.CONFIRM),
        (OrderStatus.ACCEPTED, there("o", OrderStatus.PARTIALLY_FILLED, 1), Kind.BEHIND),
        (OrderStatus.ACCEPTED, None, Kind.VANISHED),
        (OrderStatus.PARTIALLY_FILLED, None, Kind.VANISHED),
        (OrderStatus.RECORDED, None, Kind.DOUBT),
        (OrderStatus.SUBMITTED, None, Kind.DOUBT),
        (OrderStatus.UNKNOWN, None, Kind.DOUBT),
        (OrderStatus.ACCEPTED, there("o", OrderStatus.FILLED, 1), Kind.VANISHED),
    ],
)
def test_an_order_that_is_open_here_is_confirmed_or_asked_after(
    status: OrderStatus, report: OrderFound | None, kind: Kind
) -> None:
    standing = [] if report is None else [report]
    (found,) = compare_orders([state("o", status)], standing, ended=[], bot_id=BOT)
    assert (found.kind, found.subject) == (kind, "o")


def test_an_open_order_that_is_not_open_here_is_ours_by_its_id_or_foreign() -> None:
    standing = [there(an_id(Purpose.STOP)), there("web_1"), there(an_id(Purpose.ENTRY))]
    found = compare_orders([], standing, ended=[an_id(Purpose.ENTRY)], bot_id=BOT)
    assert [one.kind for one in found] == [Kind.ORPHAN, Kind.FOREIGN, Kind.REVIVED]


def test_every_kind_has_a_response_and_only_what_is_not_known_stops_entries() -> None:
    assert set(RESPONSES) == set(Kind)
    assert {kind for kind, response in RESPONSES.items() if not response.trading} == {
        Kind.DOUBT, Kind.STRANGER, Kind.MISSING, Kind.MISMATCH,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("client_order_id", "kind", "word"),
    [
        (an_id(), Kind.ADOPT_FILL, an_id()),
        ("web_7", Kind.EXTERNAL, "manual"),
        ("autoclose-17", Kind.EXTERNAL, "exchange"),
        ("", Kind.EXTERNAL, "exchange"),
    ],
)
def test_a_trade_is_adopted_by_its_id_and_labelled_by_who_made_it(client_order_id: str, kind: Kind, word: str) -> None:
    found = adopted_fill(fill(client_order_id), bot_id=BOT)
    assert (found.kind, found.subject) == (kind, "t1")
    assert word in found.detail


def test_a_position_that_nobody_opened_here_and_a_residue_are_told() -> None:
    assert about_position(None, dust=False) == []
    assert about_position(position(), dust=False) == []
    assert [one.kind for one in about_position(position(""), dust=False)] == [Kind.STRANGER]
    assert [one.kind for one in about_position(position("", "adopt:7"), dust=False)] == [Kind.ADOPTED]
    assert [one.kind for one in about_position(position(), dust=True)] == [Kind.DUST]


def test_a_comparison_of_which_nothing_is_believed_is_no_finding() -> None:
    assert about_sync(SyncStatus.UNKNOWN, ONE, None, "S") is None
    missing = about_sync(SyncStatus.MISSING, ONE, Decimal(0), "S")
    assert missing is not None
    assert (missing.kind, missing.detail) == (Kind.MISSING, "book 1, exchange 0")


@pytest.mark.parametrize(
    ("client_order_id", "known", "reduce_only", "act"),
    [
        ("web_1", True, True, Act.IGNORE),
        ("web_1", True, False, Act.IGNORE),
        (an_id(Purpose.ENTRY), True, True, Act.CANCEL),
        (an_id(Purpose.PYRAMID), True, True, Act.CANCEL),
        (an_id(Purpose.MANUAL), True, True, Act.CANCEL),
        (an_id(Purpose.STOP), True, True, Act.CANCEL),
        (an_id(Purpose.STOP), False, True, Act.KEEP),
        (an_id(Purpose.EXIT), True, True, Act.KEEP),
        (an_id(Purpose.EMERGENCY), True, False, Act.CANCEL),
    ],
)
def test_a_stray_goes_unless_it_is_foreign_harmless_or_the_only_guard(
    client_order_id: str, known: bool, reduce_only: bool, act: Act
) -> None:
    held = position("s" if known else "")
    assert act is act_on_stray(client_order_id, bot_id=BOT, position=held, reduce_only_held=reduce_only)


def test_more_findings_than_people_read_are_counted() -> None:
    found = [Finding(kind=Kind.ADOPT_FILL, subject=str(number), detail="") for number in range(FINDINGS_MAX + 7)]
    told = within_bounds(found)
    assert (len(told), told[-1].kind, told[-1].subject) == (FINDINGS_MAX + 1, Kind.MORE, "7")
    assert within_bounds(found[:3]) == tuple(found[:3])


def test_an_order_that_nobody_drafted_is_what_its_trades_and_its_id_say() -> None:
    client_order_id = an_id(Purpose.EMERGENCY)
    parts = ids.parse(client_order_id, BOT)
    assert parts is not None
    fills = [fill(client_order_id), fill(client_order_id, "t2", Decimal(3), 104)]
    made = adopted_order(there(client_order_id, OrderStatus.CANCELED, 4), fills, parts, AT)
    assert (made.status, made.filled_qty, made.avg_price) == (OrderStatus.CANCELED, Decimal(4), Decimal(103))
    assert (made.order.purpose, made.order.side, made.order.reduce_only) == (Purpose.EMERGENCY, Side.SELL, True)
