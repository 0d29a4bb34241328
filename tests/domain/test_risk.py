from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.order import TERMINAL
from tbh.domain.risk import (
    GATE_REASONS,
    Approval,
    Refusal,
    RiskLimits,
    Standing,
    Verdict,
    exitable,
    judge,
    limit_reasons,
    worst_exposure,
)
from tbh.messages.account import Position
from tbh.messages.market import Market
from tbh.messages.orders import Order, OrderState, OrderStatus, OrderType, Protection, Purpose, Side
from tbh.messages.strategy import Limit, Proposal, Sizing, SizingKind

NOW = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
MARKET = Market(
    symbol="BTC/USDT", base="BTC", quote="USDT", price_step=Decimal("0.01"), amount_step=Decimal("0.001"),
    amount_min=Decimal("0.01"), taker_fee=Decimal("0.001"), maker_fee=Decimal("0.001"),
)  # fmt: skip
FREE = Standing(equity=Decimal(1000))


def position(qty: str, strategy: str = "s") -> Position:
    return Position(
        symbol="BTC/USDT", strategy=strategy, position_id="p", qty=Decimal(qty), entry_price=Decimal(100),
        opened_at=NOW, bar_open=NOW,
    )  # fmt: skip


def open_order(
    side: Side,
    qty: str,
    purpose: Purpose,
    *,
    status: OrderStatus = OrderStatus.ACCEPTED,
    filled: str = "0",
    reduce_only: bool = False,
    strategy: str = "s",
) -> OrderState:
    order = Order(
        client_order_id="c1", intent_id="i", symbol="BTC/USDT", side=side, type=OrderType.MARKET, qty=Decimal(qty),
        reduce_only=reduce_only, purpose=purpose, strategy=strategy, bar_open=NOW, created_at=NOW,
    )  # fmt: skip
    return OrderState(order=order, status=status, version=1, filled_qty=Decimal(filled), seen_at=NOW)


def proposal(
    purpose: Purpose = Purpose.ENTRY,
    side: Side = Side.BUY,
    *,
    kind: SizingKind = SizingKind.FIXED_QUANTITY,
    value: str = "1",
    stop: str | None = None,
) -> Proposal:
    return Proposal(
        proposal_id="p1", strategy="s", symbol="BTC/USDT", bar_open=NOW, bar_index=1, side=side, purpose=purpose,
        reference_price=Decimal(100), sizing=Sizing(kind=kind, value=Decimal(value)),
        protection=None if stop is None else Protection(stop_loss=Decimal(stop)),
    )  # fmt: skip


def verdict(
    wish: Proposal,
    standing: Standing = FREE,
    *,
    gate: tuple[str, ...] = (),
    limits: RiskLimits | None = None,
    market: Market = MARKET,
) -> Verdict:
    return judge(wish, gate=gate, limits=limits or RiskLimits(), standing=standing, market=market)


def rule(of: Verdict) -> str:
    assert isinstance(of, Refusal), of
    return of.rule


def qty(of: Verdict) -> Decimal:
    assert isinstance(of, Approval), of
    return of.qty


ENTRY = proposal()
EXIT = proposal(Purpose.EXIT, Side.SELL)
LONG = replace(FREE, position=position("1"))


def test_an_entry_with_nothing_against_it_is_approved() -> None:
    assert qty(verdict(ENTRY)) == 1


@pytest.mark.parametrize(
    ("side", "offset", "price"),
    [
        (Side.BUY, "0.01", "99"),
        (Side.SELL, "0.01", "101"),
        (Side.BUY, "0", "100"),
        (Side.BUY, "0.00004", "100"),
        (Side.SELL, "0.00006", "100.01"),
    ],
)
def test_an_entry_that_rests_lies_so_far_from_the_close_on_the_price_step(side: Side, offset: str, price: str) -> None:
    verdict_ = verdict(replace(proposal(side=side), limit=Limit(offset=Decimal(offset), until=NOW)))
    assert isinstance(verdict_, Approval)
    assert verdict_.price == Decimal(price)


@pytest.mark.parametrize(
    ("kind", "value", "size"),
    [
        (SizingKind.FIXED_QUANTITY, "1", "1"),
        (SizingKind.FIXED_NOTIONAL, "900", "10"),
        (SizingKind.EQUITY_FRACTION, "0.9", "10"),
        (SizingKind.EQUITY_FRACTION, "1", "11.1"),
        (SizingKind.RISK_FRACTION, "0.009", "1"),
    ],
)
def test_an_entry_that_rests_is_sized_by_the_price_at_which_it_rests(kind: SizingKind, value: str, size: str) -> None:
    wish = replace(proposal(kind=kind, value=value, stop="0.1"), limit=Limit(offset=Decimal("0.1"), until=NOW))
    assert qty(verdict(wish)) == Decimal(size)


def test_a_short_that_rests_above_the_close_takes_no_more_than_can_be_paid_there() -> None:
    wish = proposal(side=Side.SELL, kind=SizingKind.EQUITY_FRACTION, value="1")
    assert qty(verdict(replace(wish, limit=Limit(offset=Decimal("0.25"), until=NOW)))) == Decimal("7.992")


def test_an_entry_that_would_rest_at_no_price_is_refused() -> None:
    wish = replace(ENTRY, limit=Limit(offset=Decimal("0.99999"), until=NOW))
    assert rule(verdict(wish)) == "price_step"


@pytest.mark.parametrize("reason", GATE_REASONS)
def test_any_gate_reason_refuses_entries(reason: str) -> None:
    assert rule(verdict(ENTRY, gate=(reason,))) == reason


@pytest.mark.parametrize("reason", sorted(set(GATE_REASONS) - {"lease_lost"}))
def test_an_exit_passes_every_gate_but_a_lost_lease(reason: str) -> None:
    assert qty(verdict(EXIT, LONG, gate=(reason,))) == 1


def test_nothing_passes_a_lost_lease() -> None:
    assert rule(verdict(EXIT, LONG, gate=("paused", "lease_lost"))) == "lease_lost"


def test_an_exit_passes_every_limit() -> None:
    none = RiskLimits(max_open_positions=0, max_trades=0, total_allocation=Decimal(0))
    assert qty(verdict(EXIT, replace(LONG, equity=Decimal(-5)), limits=none)) == 1


def test_an_exit_is_floored_to_the_step() -> None:
    assert qty(verdict(EXIT, replace(FREE, position=position("0.9995")))) == Decimal("0.999")


@pytest.mark.parametrize("standing", [FREE, replace(FREE, position=position("-1"))])
def test_an_exit_without_a_position_that_it_closes_is_refused(standing: Standing) -> None:
    assert rule(verdict(EXIT, standing)) == "nothing_to_exit"


@pytest.mark.parametrize("held", ["0.0005", "0.009"])
def test_an_exit_of_dust_is_refused(held: str) -> None:
    assert rule(verdict(EXIT, replace(FREE, position=position(held)))) == "dust"


@pytest.mark.parametrize("held", ["1", "-1"])
def test_an_entry_beside_a_position_is_refused(held: str) -> None:
    assert rule(verdict(ENTRY, replace(FREE, position=position(held)))) == "position_open"


def test_an_entry_beside_dust_is_approved() -> None:
    assert qty(verdict(ENTRY, replace(FREE, position=position("0.009")))) == 1


def test_an_opposite_entry_after_an_approved_exit_reverses_with_all_funds() -> None:
    reversing = replace(FREE, position=position("-9"), exit_approved=True)
    assert qty(verdict(proposal(value="9.9"), reversing)) == Decimal("9.9")


def test_an_entry_on_the_same_side_as_the_position_is_no_reversal() -> None:
    assert rule(verdict(ENTRY, replace(LONG, exit_approved=True))) == "position_open"


@pytest.mark.parametrize("status", sorted(set(OrderStatus) - TERMINAL))
def test_an_entry_beside_an_entry_that_may_still_fill_is_refused(status: OrderStatus) -> None:
    under_way = open_order(Side.BUY, "1", Purpose.ENTRY, status=status)
    assert rule(verdict(ENTRY, replace(FREE, open_orders=[under_way]))) == "entry_open"


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_entry_after_one_that_is_done_is_approved(status: OrderStatus) -> None:
    done = open_order(Side.BUY, "1", Purpose.ENTRY, status=status)
    assert qty(verdict(ENTRY, replace(FREE, open_orders=[done]))) == 1


def test_a_pyramid_adds_to_a_position_of_its_side_only() -> None:
    add = proposal(Purpose.PYRAMID)
    assert qty(verdict(add, LONG)) == 1
    for standing in (FREE, replace(FREE, position=position("-1")), replace(LONG, exit_approved=True)):
        assert rule(verdict(add, standing)) == "nothing_to_add_to"


def test_a_pyramid_for_a_layer_that_the_position_has_got_meanwhile_is_refused() -> None:
    """It was decided while the last one was in doubt: two would make more of the position than was ever wanted."""
    add = proposal(Purpose.PYRAMID)
    assert rule(verdict(add, replace(LONG, layers_filled={add.layer}))) == "layer_filled"
    assert qty(verdict(add, replace(LONG, layers_filled={add.layer + 1}))) == 1


def test_a_pyramid_that_one_stop_could_not_guard_is_refused() -> None:
    add = proposal(Purpose.PYRAMID, value="0.5")
    roomy = replace(LONG, equity=Decimal(10_000))
    for largest, expected in (("1.5", None), ("1.499", "amount_max")):
        market = replace(MARKET, amount_max=Decimal(largest))
        found = judge(add, gate=(), limits=RiskLimits(), standing=roomy, market=market)
        assert (found.rule if isinstance(found, Refusal) else None) == expected


def test_an_entry_that_says_no_size_is_refused() -> None:
    assert rule(verdict(replace(ENTRY, sizing=None))) == "sizing_missing"


def test_a_size_that_does_not_fit_the_market_is_refused_by_its_rule() -> None:
    assert rule(verdict(proposal(value="0.009"))) == "amount_min"


def test_a_short_where_the_market_allows_none_is_refused() -> None:
    short = proposal(side=Side.SELL)
    assert rule(verdict(short, market=replace(MARKET, allows_short=False))) == "short_not_allowed"
    assert qty(verdict(short)) == 1


def test_the_limit_of_open_positions_counts_other_symbols() -> None:
    other = replace(FREE, other_positions=1)
    assert rule(verdict(ENTRY, other)) == "max_open_positions"
    assert qty(verdict(ENTRY, other, limits=RiskLimits(max_open_positions=2))) == 1
    assert qty(verdict(proposal(Purpose.PYRAMID), replace(LONG, other_positions=1))) == 1


def test_the_limit_of_trades_is_the_last_one_allowed() -> None:
    limits = RiskLimits(max_trades=3)
    assert qty(verdict(ENTRY, replace(FREE, trades_today=2), limits=limits)) == 1
    assert rule(verdict(ENTRY, replace(FREE, trades_today=3), limits=limits)) == "max_trades"


@pytest.mark.parametrize(("size", "fits"), [("9.99", True), ("9.991", False)])
def test_a_fixed_size_needs_funds_for_its_fee_too(size: str, fits: bool) -> None:
    got = verdict(proposal(value=size))
    assert (qty(got) == Decimal(size)) if fits else (rule(got) == "funds")


def test_all_of_equity_leaves_room_for_its_fee() -> None:
    assert qty(verdict(proposal(kind=SizingKind.EQUITY_FRACTION))) == Decimal("9.990")


def test_exposure_elsewhere_takes_from_the_allocation() -> None:
    limits = RiskLimits(total_allocation=Decimal("0.5"))
    assert rule(verdict(ENTRY, replace(FREE, other_exposure=Decimal(400)), limits=limits)) == "funds"
    assert rule(verdict(ENTRY, replace(FREE, other_exposure=Decimal(500)), limits=limits)) == "funds"
    assert qty(verdict(ENTRY, replace(FREE, other_exposure=Decimal(399)), limits=limits)) == 1


@pytest.mark.parametrize(
    ("stop", "allowed", "fits"), [("0.02", "0.002", True), ("0.021", "0.002", False), (None, "0.09", False)]
)
def test_the_risk_of_a_trade_is_what_its_stop_loses_or_all_of_it(stop: str | None, allowed: str, fits: bool) -> None:
    got = verdict(proposal(stop=stop), limits=RiskLimits(max_risk_per_trade=Decimal(allowed)))
    assert (qty(got) == 1) if fits else (rule(got) == "max_risk_per_trade")


def test_defence_mode_replaces_the_allocation_and_scales_the_counts() -> None:
    limits = RiskLimits(
        max_open_positions=4, max_trades=5, defence_mode=True,
        defence_total_allocation=Decimal("0.1"), defence_trade_limit=Decimal("0.5"),
    )  # fmt: skip
    in_force = limits.in_force()
    assert (in_force.max_open_positions, in_force.max_trades, in_force.total_allocation) == (2, 2, Decimal("0.1"))
    assert rule(verdict(ENTRY, limits=limits)) == "funds"
    assert rule(verdict(ENTRY, replace(FREE, other_positions=2), limits=limits)) == "max_open_positions"
    assert replace(limits, defence_mode=False).in_force().max_trades == 5


def test_defence_mode_never_raises_the_allocation() -> None:
    limits = RiskLimits(total_allocation=Decimal("0.1"), defence_mode=True, defence_total_allocation=Decimal(1))
    assert limits.in_force().total_allocation == Decimal("0.1")


@pytest.mark.parametrize(
    ("day_pnl", "drawdown", "expected"),
    [
        ("-49", "0.19", ()),
        ("-50", "0", ("daily_loss",)),
        ("0", "0.2", ("drawdown",)),
        ("-60", "0.3", ("daily_loss", "drawdown")),
        ("500", "0", ()),
    ],
)
def test_a_limit_closes_the_gate_when_it_is_reached(day_pnl: str, drawdown: str, expected: tuple[str, ...]) -> None:
    limits = RiskLimits(daily_loss_limit=Decimal("0.05"), max_drawdown=Decimal("0.2"))
    assert expected == limit_reasons(
        limits, day_pnl=Decimal(day_pnl), day_start_equity=Decimal(1000), drawdown=Decimal(drawdown)
    )


def test_defence_mode_that_allows_nothing_closes_the_gate() -> None:
    def reasons(limits: RiskLimits) -> tuple[str, ...]:
        zero = Decimal(0)
        return limit_reasons(limits, day_pnl=zero, day_start_equity=Decimal(1000), drawdown=zero)

    half = Decimal("0.5")
    assert reasons(RiskLimits(defence_mode=True)) == ("defence_mode",)
    some = RiskLimits(max_open_positions=2, defence_mode=True, defence_total_allocation=half, defence_trade_limit=half)
    assert reasons(some) == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"max_open_positions": -1},
        {"max_trades": -1},
        {"max_risk_per_trade": Decimal(0)},
        {"daily_loss_limit": Decimal("1.1")},
        {"max_drawdown": Decimal(-1)},
        {"total_allocation": Decimal("-0.1")},
        {"defence_trade_limit": Decimal(2)},
    ],
)
def test_what_cannot_be_a_limit_is_refused_by_its_name(bad: dict[str, Decimal]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        RiskLimits(**bad)  # type: ignore[arg-type]  # the claim is about values, whatever their field


def test_a_reduce_only_order_adds_no_exposure_where_that_is_enforced() -> None:
    stop = open_order(Side.SELL, "1", Purpose.STOP, reduce_only=True)
    assert worst_exposure(Decimal(0), [stop]) == (Decimal(0), Decimal(0))
    assert worst_exposure(Decimal(0), [stop], enforces_reduce_only=False) == (Decimal(0), Decimal(1))


@pytest.mark.parametrize(("enforced", "expected"), [(True, "1"), (False, "0.4")])
def test_a_further_exit_needs_enforced_reduce_only(enforced: bool, expected: str) -> None:
    orders = [
        open_order(Side.SELL, "0.8", Purpose.STOP, status=OrderStatus.UNKNOWN, filled="0.2"),
        open_order(Side.SELL, "9", Purpose.EXIT, status=OrderStatus.CANCELED),
        open_order(Side.BUY, "9", Purpose.ENTRY),
    ]
    assert exitable(Decimal(1), orders, enforced) == Decimal(expected)


def test_no_more_than_the_position_may_be_sold_and_nothing_of_none() -> None:
    exits = [open_order(Side.SELL, "2", Purpose.EXIT)]
    assert exitable(Decimal(1), exits, False) == 0
    assert exitable(Decimal(0), exits, False) == 0
    assert exitable(Decimal(-1), exits, False) == 1


sizes = st.integers(0, 10_000).map(lambda n: Decimal(n).scaleb(-3))
orders = st.builds(
    lambda side, qty, part, status: open_order(
        side, str(qty), Purpose.ENTRY, status=status, filled=str(qty * part / 10)
    ),
    st.sampled_from(Side), sizes, st.integers(0, 10), st.sampled_from(OrderStatus),
)  # fmt: skip
portions = st.integers(0, 10)


@given(sizes, st.sampled_from([1, -1]), st.lists(st.tuples(orders, portions), max_size=6))
def test_no_fills_lead_beyond_the_worst_exposure(
    held: Decimal, sign: int, open_orders: list[tuple[OrderState, int]]
) -> None:
    at = sign * held
    long, short = worst_exposure(at, [state for state, _ in open_orders])
    for state, tenths in open_orders:
        if state.status not in TERMINAL:
            at += state.order.side.sign * (state.order.qty - state.filled_qty) * tenths / 10
    assert -short <= at <= long


@given(
    st.sampled_from(SizingKind), sizes.filter(bool), sizes, sizes, st.integers(1, 100),
    st.lists(orders.map(lambda s: replace(s, order=replace(s.order, strategy="other"))), max_size=3),
)  # fmt: skip
def test_an_approved_entry_and_all_that_is_open_stay_within_the_allocation(
    kind: SizingKind, value: Decimal, equity: Decimal, other: Decimal, percent: int, open_orders: list[OrderState]
) -> None:
    limits = RiskLimits(total_allocation=Decimal(percent) / 100)
    standing = Standing(equity=equity * 1000, other_exposure=other, open_orders=open_orders)
    got = verdict(proposal(kind=kind, value=str(value), stop="0.02"), standing, limits=limits)
    if isinstance(got, Approval):
        held = max(worst_exposure(Decimal(0), open_orders)) * 100 + other
        assert got.qty * 100 * Decimal("1.001") + held <= standing.equity * limits.total_allocation
