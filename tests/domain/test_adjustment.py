"""An operator's correction: it moves the holding once, and neither fee, cash nor order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain import ids
from tbh.domain.accounting import ADOPTED, Account
from tbh.domain.adjustment import from_text, in_order, to_text
from tbh.domain.book import Book
from tbh.domain.order import BrokenInvariant
from tbh.messages.account import Adjustment
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderType, Purpose, Side

AT = datetime(2026, 1, 1, tzinfo=UTC)
CASH = Decimal(1000)
MARKET = Market(
    symbol="B/Q", base="B", quote="Q", price_step=Decimal("0.01"), amount_step=Decimal("0.001"),
    amount_min=Decimal("0.01"), taker_fee=Decimal(0), maker_fee=Decimal(0),
)  # fmt: skip


def adjustment(qty: str, *, number: int = 1, seq: int = 1, price: str = "100") -> Adjustment:
    return Adjustment(
        adjustment_id=f"adopt:{number}",
        symbol="B/Q",
        qty=Decimal(qty),
        price=Decimal(price),
        seq=seq,
        at=AT,
        reason="r",
    )


def fill(seq: int, qty: str, side: Side = Side.BUY, price: str = "100", **more: object) -> Fill:
    made = Fill(
        trade_id=f"t{seq}", client_order_id=f"o{seq}", exchange_order_id="x", symbol="B/Q", side=side, qty=Decimal(qty),
        price=Decimal(price), fee=Decimal(0), fee_asset="Q", maker=False, at=AT, seq=seq,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def entry(client_order_id: str) -> Order:
    return Order(
        client_order_id=client_order_id, intent_id=client_order_id, symbol="B/Q", side=Side.BUY, type=OrderType.MARKET,
        qty=Decimal(1), purpose=Purpose.ENTRY, strategy="s", bar_open=AT, created_at=AT,
    )  # fmt: skip


def book_of(*changes: Fill | Adjustment, market: Market | None = None) -> Book:
    book = Book("B/Q", market=market)
    for change in changes:
        if isinstance(change, Fill):
            book.apply(change, order=entry(change.client_order_id), base="B", quote="Q")
        else:
            book.adjust(change)
    return book


def test_a_correction_moves_the_holding_once_and_no_quote() -> None:
    book = book_of(fill(1, "2"), adjustment("-0.5"), adjustment("-0.5"))
    assert (book.qty, book.cash_flow, book.adjustments, book.last_seq) == (Decimal("1.5"), Decimal(-200), 1, 1)
    assert book.position is not None
    assert (book.position.position_id, book.position.entry_price) == ("o1", Decimal(100))


def test_what_a_correction_opens_is_named_by_it_and_no_strategys() -> None:
    position = book_of(adjustment("3", price="50")).position
    assert position is not None
    assert (position.position_id, position.strategy, position.entry_price) == ("adopt:1", "", Decimal(50))


def test_a_correction_to_zero_closes_and_one_through_zero_opens_the_other_side() -> None:
    assert book_of(fill(1, "2"), adjustment("-2")).position is None
    position = book_of(fill(1, "2"), adjustment("-3", price="90")).position
    assert position is not None
    assert (position.qty, position.position_id, position.entry_price) == (Decimal(-1), "adopt:1", Decimal(90))


def test_another_symbols_correction_is_refused() -> None:
    with pytest.raises(BrokenInvariant):
        Book("OTHER").adjust(adjustment("1"))


def test_a_replay_takes_each_correction_after_the_fills_that_it_had_seen() -> None:
    """Taken last, it would close another position than the one that was there."""
    fills = [fill(1, "1"), fill(5, "1")]
    made = book_of(*in_order(fills, [adjustment("-1", seq=3)]))
    assert made.position is not None
    assert (made.qty, made.position.position_id) == (Decimal(1), "o5")


def test_the_account_loses_the_coins_at_their_price_and_ends_the_round_trip() -> None:
    account = Account(CASH, "B/Q", "B", "Q", market=MARKET)
    account.apply(fill(1, "2"), Purpose.ENTRY)
    (trade,) = account.adjust(adjustment("-2", price="110"))
    assert (trade.exit_reason, trade.pnl, account.cash) == (ADOPTED, Decimal(20), Decimal(800))
    assert account.equity(Decimal(110)) == CASH + account.adjusted + account.realised
    assert account.adjust(adjustment("-2", price="110")) == []


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(-500, 500).filter(bool).map(lambda qty: Decimal(qty) / 100),
            st.integers(1, 30_000).map(lambda price: Decimal(price) / 100),
        ),
        max_size=12,
    ),
    st.integers(1, 30_000).map(lambda price: Decimal(price) / 100),
)
def test_the_identity_of_the_account_holds_for_any_fills_and_corrections(
    changes: list[tuple[bool, Decimal, Decimal]], mark: Decimal
) -> None:
    account, book = Account(CASH, "B/Q", "B", "Q", market=MARKET), Book("B/Q", market=MARKET)
    for seq, (traded, qty, price) in enumerate(changes, 1):
        if traded:
            made = fill(seq, str(abs(qty)), Side.BUY if qty > 0 else Side.SELL, str(price))
            account.apply(made, Purpose.ENTRY)
            book.apply(made, order=entry(made.client_order_id), base="B", quote="Q")
        else:
            one = adjustment(str(qty), number=seq, seq=seq, price=str(price))
            account.adjust(one)
            book.adjust(one)
    assert account.qty == book.qty
    explained = CASH + account.adjusted + account.realised + account.unrealised(mark) - account.fees
    assert account.equity(mark) == explained


def test_what_is_written_is_read_again_and_nothing_else_is() -> None:
    made = (adjustment("-1.50"), adjustment("2", number=2, seq=9))
    assert from_text(to_text(made)) == made
    assert from_text(None) == ()
    for broken in ('{"a": 1}', "[{}]", "no json", '[{"id": "a"}]'):
        with pytest.raises(ValueError):
            from_text(broken)


# What is left below the exchange's minimum


def test_an_entry_on_a_residue_begins_a_new_position_that_takes_it_in() -> None:
    book = book_of(fill(1, "1"), fill(2, "0.995", Side.SELL), market=MARKET)
    assert book.is_dust(MARKET)
    book.apply(fill(3, "1", price="200"), order=entry("o3"), base="B", quote="Q")
    position = book.position
    assert position is not None
    assert (position.position_id, position.qty) == ("o3", Decimal("1.005"))
    book.apply(fill(4, "1", price="200"), order=replace(entry("o4"), purpose=Purpose.PYRAMID), base="B", quote="Q")
    assert book.position is not None
    assert book.position.position_id == "o3"


def test_a_history_without_its_orders_is_cut_into_positions_by_their_ids() -> None:
    """An empty disk hears of every trade there was; a residue of the first must not go by its name for ever."""
    names = [
        ids.client_order_id("bot", bar_open=AT, strategy="s", purpose=purpose, layer=layer, attempt=0)
        for purpose, layer in ((Purpose.ENTRY, 0), (Purpose.EXIT, 0), (Purpose.ENTRY, 1), (Purpose.PYRAMID, 1))
    ]
    trades = [("1", Side.BUY), ("0.995", Side.SELL), ("1", Side.BUY), ("1", Side.BUY)]
    book = Book("B/Q", market=MARKET, bot_id="bot")
    for seq, (name, (qty, side)) in enumerate(zip(names, trades, strict=True), start=1):
        book.apply(fill(seq, qty, side, client_order_id=name), order=None, base="B", quote="Q")
    position = book.position
    assert position is not None
    assert (position.position_id, position.qty, position.layers) == (names[2], Decimal("2.005"), 2)


def test_the_first_small_fill_of_an_entry_is_no_residue_of_another() -> None:
    book = Book("B/Q", market=MARKET)
    first = fill(1, "0.005")
    book.apply(first, order=entry("o1"), base="B", quote="Q")
    book.apply(fill(2, "0.995", client_order_id="o1"), order=entry("o1"), base="B", quote="Q")
    assert book.position is not None
    assert (book.position.position_id, book.position.revision) == ("o1", 1)


def test_a_round_trip_that_left_a_residue_is_told_when_the_next_begins_and_nothing_is_counted_twice() -> None:
    account = Account(CASH, "B/Q", "B", "Q", market=MARKET)
    account.apply(fill(1, "1"), Purpose.ENTRY)
    assert account.apply(fill(2, "0.995", Side.SELL, "110"), Purpose.EXIT) == []
    (trade,) = account.apply(fill(3, "1", price="120"), Purpose.ENTRY)
    assert (trade.qty, trade.exit_reason, trade.pnl) == (Decimal("0.995"), "exit", Decimal("9.95"))
    (last,) = account.apply(fill(4, "1.005", Side.SELL, "130"), Purpose.STOP)
    assert trade.pnl + last.pnl == account.net


def test_a_rest_that_is_sold_after_all_belongs_to_the_same_round_trip() -> None:
    account = Account(CASH, "B/Q", "B", "Q", market=MARKET)
    account.apply(fill(1, "1"), Purpose.ENTRY)
    assert account.apply(fill(2, "0.995", Side.SELL, "110"), Purpose.EXIT) == []
    (trade,) = account.apply(fill(3, "0.005", Side.SELL, "110"), Purpose.EXIT)
    assert (trade.qty, trade.pnl) == (Decimal(1), Decimal(10))
