from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.accounting import Account
from tbh.domain.money import EXACT
from tbh.domain.order import BrokenInvariant
from tbh.messages.account import Trade
from tbh.messages.orders import Fill, Purpose, Side

T0 = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def fill(side: Side, qty: str, price: str, *, fee: str = "0", asset: str = "USDT", seq: int = 1) -> Fill:
    return Fill(
        trade_id=f"t{seq}", client_order_id=f"c{seq}", exchange_order_id="x", symbol="BTC/USDT", side=side,
        qty=Decimal(qty), price=Decimal(price), fee=Decimal(fee), fee_asset=asset, maker=False,
        at=T0 + seq * MINUTE, seq=seq,
    )  # fmt: skip


def account(cash: str = "1000") -> Account:
    return Account(Decimal(cash), "BTC/USDT", "BTC", "USDT")


def trades_of(of: Account, *fills: Fill, purpose: Purpose = Purpose.EXIT) -> list[Trade]:
    return [trade for one in fills for trade in of.apply(one, purpose)]


def test_a_round_trip_is_a_trade_net_of_both_fees() -> None:
    made = trades_of(account(), fill(Side.BUY, "2", "100", fee="0.2"), fill(Side.SELL, "2", "110", fee="0.22", seq=5))
    assert made == [
        Trade(
            side="long", symbol="BTC/USDT", entry_time=T0 + MINUTE, exit_time=T0 + 5 * MINUTE,
            entry_price=Decimal(100), exit_price=Decimal(110), qty=Decimal(2), fees=Decimal("0.42"),
            pnl=Decimal("19.58"), exit_reason="exit",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("purpose", [Purpose.STOP, Purpose.TARGET, Purpose.FLATTEN])
def test_the_closing_orders_purpose_is_the_exit_reason(purpose: Purpose) -> None:
    of = account()
    of.apply(fill(Side.SELL, "1", "100"), Purpose.ENTRY)
    (trade,) = of.apply(fill(Side.BUY, "1", "90", seq=2), purpose)
    assert (trade.side, trade.pnl, trade.exit_reason) == ("short", Decimal(10), purpose.value)


def test_entries_and_exits_in_parts_are_one_trade_at_volume_weighted_prices() -> None:
    (trade,) = trades_of(
        account(),
        fill(Side.BUY, "1", "100"),
        fill(Side.BUY, "3", "120", seq=2),
        fill(Side.SELL, "1", "130", seq=3),
        fill(Side.SELL, "3", "150", seq=4),
    )
    assert (trade.entry_price, trade.exit_price, trade.qty, trade.pnl) == (
        Decimal(115), Decimal(145), Decimal(4), Decimal(120)
    )  # fmt: skip


def test_a_reversal_by_two_fills_is_two_trades() -> None:
    made = trades_of(
        account(),
        fill(Side.BUY, "1", "100"),
        fill(Side.SELL, "1", "110", seq=2),
        fill(Side.SELL, "1", "110", seq=3),
        fill(Side.BUY, "1", "100", seq=4),
    )
    assert [(t.side, t.pnl) for t in made] == [("long", Decimal(10)), ("short", Decimal(10))]


def test_a_fill_through_zero_closes_one_trade_and_begins_the_next_and_shares_its_fee() -> None:
    of = account()
    (first,) = trades_of(of, fill(Side.BUY, "1", "100"), fill(Side.SELL, "3", "110", fee="3", seq=2))
    (second,) = trades_of(of, fill(Side.BUY, "2", "100", seq=3))
    assert [(t.side, t.qty, t.fees, t.pnl) for t in (first, second)] == [
        ("long", Decimal(1), Decimal(1), Decimal(9)), ("short", Decimal(2), Decimal(2), Decimal(18))
    ]  # fmt: skip


def test_a_trade_still_open_is_no_trade() -> None:
    assert trades_of(account(), fill(Side.BUY, "2", "100"), fill(Side.SELL, "1", "110", seq=2)) == []


def test_a_fee_in_base_is_valued_at_the_price_of_its_fill() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100", fee="0.001", asset="BTC"))
    assert (of.qty, of.cash, of.fees, of.unrealised(Decimal(100))) == (
        Decimal("0.999"), Decimal(900), Decimal("0.1"), Decimal(0)
    )  # fmt: skip


def test_a_fee_in_a_third_coin_is_told_apart() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100", fee="0.01", asset="BNB"))
    assert (of.qty, of.cash, of.fees, of.fees_by_asset) == (
        Decimal(1),
        Decimal(900),
        Decimal(0),
        {"BNB": Decimal("0.01")},
    )


def test_a_repeated_fill_changes_nothing() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100", fee="1"))
    assert trades_of(of, fill(Side.BUY, "1", "100", fee="1")) == []
    assert (of.qty, of.cash, of.fees) == (Decimal(1), Decimal(899), Decimal(1))


def test_realised_profit_is_before_fees_and_net_after() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100", fee="1"), fill(Side.SELL, "1", "110", fee="2", seq=2))
    assert (of.realised, of.fees, of.net) == (Decimal(10), Decimal(3), Decimal(7))


def test_another_symbols_fill_is_a_broken_invariant() -> None:
    with pytest.raises(BrokenInvariant):
        Account(Decimal(1), "ETH/USDT", "ETH", "USDT").apply(fill(Side.BUY, "1", "100"), Purpose.ENTRY)


def test_drawdown_is_measured_from_the_highest_equity_marked() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100"))
    for price in ("600", "225", "300"):
        of.mark(Decimal(price), T0)
    assert (of.peak, of.drawdown) == (Decimal(1500), Decimal("0.2"))


def test_an_account_below_its_start_is_in_drawdown_from_the_first_mark() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100"))
    of.mark(Decimal(50), T0)
    assert of.drawdown == Decimal("0.05")


def test_an_account_that_never_had_anything_has_no_drawdown() -> None:
    of = account("0")
    of.mark(Decimal(50), T0)
    assert of.drawdown == 0


def test_the_days_profit_starts_anew_with_the_first_mark_of_a_utc_day() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100"))
    of.mark(Decimal(110), T0)
    assert of.day_pnl == 10
    of.mark(Decimal(125), T0 + timedelta(days=1))
    assert (of.day_pnl, of.day_start_equity) == (Decimal(15), Decimal(1010))


def test_a_mark_that_comes_late_does_not_begin_a_day() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100"))
    of.mark(Decimal(110), T0)
    of.mark(Decimal(120), T0 - timedelta(days=1))
    assert of.day_pnl == 20


def test_a_restart_does_not_forget_a_days_loss_or_the_peak() -> None:
    of = account()
    trades_of(of, fill(Side.BUY, "1", "100"))
    of.mark(Decimal(300), T0)
    of.mark(Decimal(200), T0 + MINUTE)
    assert of.day is not None
    again = account()
    trades_of(again, fill(Side.BUY, "1", "100"))
    again.restore(peak=of.peak, day=of.day, day_start_equity=of.day_start_equity, equity=of.marked_equity)
    assert (again.drawdown, again.day_pnl) == (of.drawdown, of.day_pnl)
    again.mark(Decimal(150), T0 + 2 * MINUTE)
    assert (again.peak, again.day_pnl) == (Decimal(1200), Decimal(50))


amounts = st.integers(1, 10**17).map(lambda n: Decimal(n).scaleb(-8))
fees = st.sampled_from(["0", "0.001", "-0.0002", "0.333"]).map(Decimal)
made_fills = st.tuples(st.sampled_from(Side), amounts, amounts, fees, st.sampled_from(["BTC", "USDT", "BNB"]))


@given(st.lists(made_fills, max_size=30), amounts)
def test_equity_is_start_and_profit_less_fees_to_the_last_digit(
    made: list[tuple[Side, Decimal, Decimal, Decimal, str]], mark: Decimal
) -> None:
    of = account()
    closed: list[Trade] = []
    for seq, (side, qty, price, ratio, asset) in enumerate(made):
        with localcontext(EXACT):
            fee = qty * ratio * (price if asset == "USDT" else 1)
        closed += of.apply(fill(side, str(qty), str(price), fee=str(fee), asset=asset, seq=seq), Purpose.EXIT)
        with localcontext(EXACT):
            assert of.equity(mark) == of.start_cash + of.realised + of.unrealised(mark) - of.fees
    if not of.qty:
        with localcontext(EXACT):
            assert sum((t.pnl for t in closed), Decimal(0)) == of.net


@given(st.lists(st.tuples(amounts, amounts, st.integers(1, 10**6)), min_size=1, max_size=8))
def test_whatever_was_closed_in_parts_the_trades_add_up_to_the_net_profit(
    trips: list[tuple[Decimal, Decimal, int]],
) -> None:
    of = account()
    closed: list[Trade] = []
    seq = 0
    for entry, leave, part in trips:
        for side, qty, price in (
            (Side.BUY, Decimal(part + 3), entry), (Side.SELL, Decimal(part), leave), (Side.SELL, Decimal(3), entry)
        ):  # fmt: skip
            seq += 1
            with localcontext(EXACT):
                paid = qty * price / 1000
            closed += of.apply(fill(side, str(qty), str(price), fee=str(paid), seq=seq), Purpose.EXIT)
    assert len(closed) == len(trips)
    with localcontext(EXACT):
        assert sum((t.pnl for t in closed), Decimal(0)) == of.net
        assert of.equity(Decimal(7)) == of.start_cash + of.net
