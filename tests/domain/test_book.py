from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.book import Book, TradeIds
from tbh.domain.order import BrokenInvariant
from tbh.messages.account import Position
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderType, Protection, Purpose, Side

NOW = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
GUARD = Protection(stop_loss=Decimal("0.02"))
MARKET = Market(
    symbol="BTC/USDT", base="BTC", quote="USDT", price_step=Decimal("0.01"), amount_step=Decimal("0.001"),
    amount_min=Decimal("0.01"), notional_min=Decimal(10), taker_fee=Decimal("0.001"), maker_fee=Decimal("0.001"),
)  # fmt: skip


def fill(
    side: Side, qty: str, price: str = "100", *, fee: str = "0", asset: str = "USDT", seq: int = 1, order: str = "c1"
) -> Fill:
    return Fill(
        trade_id=f"t{seq}", client_order_id=order, exchange_order_id="x", symbol="BTC/USDT", side=side,
        qty=Decimal(qty), price=Decimal(price), fee=Decimal(fee), fee_asset=asset, maker=False, at=NOW, seq=seq,
    )  # fmt: skip


def order(client_order_id: str = "c1", purpose: Purpose = Purpose.ENTRY, layer: int = 0) -> Order:
    return Order(
        client_order_id=client_order_id, intent_id="i", symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET,
        qty=Decimal(1), purpose=purpose, strategy="ema-cross", bar_open=NOW, created_at=NOW, layer=layer,
        protection=GUARD,
    )  # fmt: skip


def booked(*fills: Fill) -> Book:
    book = Book("BTC/USDT")
    for one in fills:
        assert book.apply(one, order=order(one.client_order_id), base="BTC", quote="USDT")
    return book


def position(book: Book) -> Position:
    assert book.position is not None
    return book.position


def test_a_fill_opens_the_position_of_its_order() -> None:
    assert booked(fill(Side.BUY, "1")).position == Position(
        symbol="BTC/USDT", strategy="ema-cross", position_id="c1", qty=Decimal(1), entry_price=Decimal(100),
        opened_at=NOW, bar_open=NOW, protection=GUARD,
    )  # fmt: skip


def test_a_strangers_fill_opens_a_position_of_no_strategy() -> None:
    book = Book("BTC/USDT")
    book.apply(fill(Side.SELL, "1", order="stranger"), order=None, base="BTC", quote="USDT")
    assert (position(book).qty, position(book).strategy, position(book).position_id) == (Decimal(-1), "", "stranger")


def test_a_repeated_trade_changes_nothing() -> None:
    book = booked(fill(Side.BUY, "1", fee="0.1"))
    before = (book.position, book.cash_flow, dict(book.fees))
    assert not book.apply(fill(Side.BUY, "1", fee="0.1"), order=order(), base="BTC", quote="USDT")
    assert (book.position, book.cash_flow, book.fees) == before


def test_a_fill_that_comes_late_is_applied() -> None:
    book = booked(fill(Side.BUY, "1", seq=5), fill(Side.BUY, "1", seq=3))
    assert (book.qty, book.last_seq) == (Decimal(2), 5)


def test_a_cancel_counts_as_an_account_event_and_changes_nothing_else() -> None:
    book = booked(fill(Side.BUY, "1", seq=5))
    before = book.position
    book.observe(7)
    book.observe(6)
    assert (book.last_seq, book.position) == (7, before)


def test_further_fills_average_the_entry() -> None:
    book = booked(fill(Side.BUY, "1", "100"), fill(Side.BUY, "3", "120", seq=2))
    assert (position(book).entry_price, position(book).revision) == (Decimal(115), 1)


def test_a_reduction_keeps_the_entry() -> None:
    book = booked(fill(Side.SELL, "3", "100"), fill(Side.BUY, "1", "50", seq=2))
    assert (position(book).qty, position(book).entry_price, position(book).revision) == (Decimal(-2), Decimal(100), 1)


def test_a_closing_fill_leaves_no_position() -> None:
    assert booked(fill(Side.BUY, "1"), fill(Side.SELL, "1", seq=2)).position is None


def test_a_fill_through_zero_closes_and_opens() -> None:
    book = booked(fill(Side.BUY, "1", "100"), fill(Side.SELL, "3", "90", seq=2, order="c2"))
    assert (position(book).qty, position(book).entry_price, position(book).position_id, position(book).revision) == (
        Decimal(-2), Decimal(90), "c2", 0
    )  # fmt: skip


def test_an_entry_that_reopens_its_position_goes_on_counting_revisions() -> None:
    book = booked(
        fill(Side.BUY, "1"), fill(Side.BUY, "1", seq=2), fill(Side.SELL, "2", seq=3, order="stop"),
        fill(Side.BUY, "1", seq=4),
    )  # fmt: skip
    assert (position(book).position_id, position(book).revision) == ("c1", 2)


def test_a_pyramid_layer_is_counted_once_whatever_its_fills() -> None:
    book = booked(fill(Side.BUY, "1"))
    for seq in (2, 3):
        layer = order("c2", Purpose.PYRAMID, layer=1)
        book.apply(fill(Side.BUY, "1", seq=seq, order="c2"), order=layer, base="BTC", quote="USDT")
    assert (position(book).layers, position(book).position_id) == (2, "c1")


def test_a_buy_with_its_fee_in_base_holds_what_was_received() -> None:
    book = booked(fill(Side.BUY, "1", fee="0.001", asset="BTC"))
    assert (book.qty, book.cash_flow, book.fees) == (Decimal("0.999"), Decimal(-100), {"BTC": Decimal("0.001")})


def test_a_sale_with_its_fee_in_base_shrinks_the_holding_further() -> None:
    book = booked(fill(Side.BUY, "1"), fill(Side.SELL, "0.5", fee="0.001", asset="BTC", seq=2))
    assert book.qty == Decimal("0.499")


def test_a_fee_in_quote_leaves_the_cash() -> None:
    book = booked(fill(Side.SELL, "1", fee="0.1"))
    assert (book.qty, book.cash_flow) == (Decimal(-1), Decimal("99.9"))


def test_a_fee_in_a_third_coin_leaves_holding_and_cash_alone() -> None:
    book = booked(fill(Side.BUY, "1", fee="0.01", asset="BNB"))
    assert (book.qty, book.cash_flow, book.fees) == (Decimal(1), Decimal(-100), {"BNB": Decimal("0.01")})


@pytest.mark.parametrize(
    ("qty", "price", "dust"),
    [
        ("0.0005", "100000", True),
        ("0.009", "100000", True),
        ("0.05", "100", True),
        ("0.1", "100", False),
        ("0.1009", "99.5", True),  # of it 0.1 could be traded, and is worth too little
    ],
)
@pytest.mark.parametrize("side", list(Side))
def test_what_the_market_would_not_take_is_dust(side: Side, qty: str, price: str, dust: bool) -> None:
    assert booked(fill(side, qty, price)).is_dust(MARKET) is dust


def test_dust_is_valued_at_the_mark_when_there_is_one() -> None:
    book = booked(fill(Side.BUY, "0.1", "100"))
    assert book.is_dust(MARKET, Decimal(99))


def test_a_flat_book_has_no_dust() -> None:
    assert not Book("BTC/USDT").is_dust(MARKET)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(fill(Side.BUY, "1"), symbol="ETH/USDT"),
        fill(Side.BUY, "0"),
        fill(Side.BUY, "1", "-1"),
        fill(Side.BUY, "1", fee="1", asset="BTC"),
        fill(Side.BUY, "1", order="c2"),
    ],
)
def test_a_fill_that_cannot_be_is_a_broken_invariant_and_leaves_the_book_alone(wrong: Fill) -> None:
    book = Book("BTC/USDT")
    with pytest.raises(BrokenInvariant):
        book.apply(wrong, order=order(), base="BTC", quote="USDT")
    assert book.position is None
    assert not book.cash_flow
    assert book.last_seq == 0


def test_forgotten_trade_ids_are_still_known_by_their_seq() -> None:
    ids = TradeIds(limit=2)
    fills = [fill(Side.BUY, "1", seq=seq) for seq in range(1, 6)]
    assert all(ids.add(one) for one in fills)
    assert not any(ids.add(one) for one in fills)
    assert ids.add(fill(Side.BUY, "1", seq=6))


quantities = st.integers(1, 10**6).map(lambda n: Decimal(n) / 1000)
trades = st.tuples(
    st.sampled_from(Side), quantities, quantities, st.integers(0, 999), st.sampled_from(["BTC", "USDT", "BNB"])
)


@given(st.lists(trades, max_size=30), st.randoms(use_true_random=False))
def test_the_holding_is_the_sum_of_what_was_received_in_any_order_and_however_often(
    made: list[tuple[Side, Decimal, Decimal, int, str]],
    chance: object,
) -> None:
    fills = [
        fill(side, str(qty), str(price), fee=str(qty * bp / 1000), asset=asset, seq=seq, order=f"c{seq}")
        for seq, (side, qty, price, bp, asset) in enumerate(made)
    ]
    shuffled = fills + fills
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    book = Book("BTC/USDT")
    applied = [book.apply(one, order=order(one.client_order_id), base="BTC", quote="USDT") for one in shuffled]
    assert sum(applied) == len(fills)
    base_fees = book.fees.get("BTC", Decimal(0))
    assert book.qty == sum((f.side.sign * f.qty for f in fills), Decimal(0)) - base_fees
    assert book.cash_flow == -sum((f.side.sign * f.qty * f.price for f in fills), Decimal(0)) - book.fees.get(
        "USDT", Decimal(0)
    )
    assert (book.position is None) == (book.qty == 0)
