from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.money import is_on_step
from tbh.domain.sizing import SizeRefusal, quantity
from tbh.messages.market import Market
from tbh.messages.strategy import Sizing, SizingKind

MARKET = Market(
    symbol="BTC/USDT", base="BTC", quote="USDT", price_step=Decimal("0.01"), amount_step=Decimal("0.001"),
    amount_min=Decimal("0.01"), amount_max=Decimal(50), notional_min=Decimal(5), notional_max=Decimal(100_000),
    taker_fee=Decimal("0.001"), maker_fee=Decimal("0.001"),
)  # fmt: skip


def size(
    kind: SizingKind,
    value: str,
    *,
    price: str = "300",
    equity: str = "10000",
    stop: str | None = None,
    max_notional: str | None = None,
    market: Market = MARKET,
) -> Decimal | SizeRefusal:
    return quantity(
        Sizing(kind=kind, value=Decimal(value)),
        reference_price=Decimal(price),
        equity=Decimal(equity),
        stop_fraction=None if stop is None else Decimal(stop),
        market=market,
        max_notional=None if max_notional is None else Decimal(max_notional),
    )


def rule(sized: Decimal | SizeRefusal) -> str:
    assert isinstance(sized, SizeRefusal)
    return sized.rule


@pytest.mark.parametrize(
    ("kind", "value", "stop", "expected"),
    [
        (SizingKind.FIXED_QUANTITY, "1.2345", None, "1.234"),
        (SizingKind.FIXED_NOTIONAL, "1000", None, "3.333"),
        (SizingKind.EQUITY_FRACTION, "0.5", None, "16.666"),
        (SizingKind.RISK_FRACTION, "0.01", "0.02", "16.666"),
    ],
)
def test_each_kind_of_sizing_is_floored_to_the_step(
    kind: SizingKind, value: str, stop: str | None, expected: str
) -> None:
    assert size(kind, value, stop=stop) == Decimal(expected)


@pytest.mark.parametrize("stop", [None, "0"])
def test_a_risk_fraction_without_a_stop_is_refused(stop: str | None) -> None:
    assert rule(size(SizingKind.RISK_FRACTION, "0.01", stop=stop)) == "stop_missing"


@pytest.mark.parametrize("equity", ["0", "-5"])
def test_a_fraction_of_no_equity_is_refused(equity: str) -> None:
    assert rule(size(SizingKind.EQUITY_FRACTION, "0.5", equity=equity)) == "equity"


@pytest.mark.parametrize(
    ("value", "price", "expected"),
    [("0.0009", "300", "amount_step"), ("-1", "300", "amount_step"), ("0.009", "3000", "amount_min"),
     ("0.01", "300", "notional_min")],
)  # fmt: skip
def test_a_size_below_the_markets_least_order_is_refused_and_never_raised(
    value: str, price: str, expected: str
) -> None:
    assert rule(size(SizingKind.FIXED_QUANTITY, value, price=price)) == expected


@pytest.mark.parametrize(
    ("value", "price", "cap", "expected"),
    [("51", "300", None, "amount_max"), ("10", "10001", None, "notional_max"), ("2", "300", "599", "max_notional")],
)
def test_a_fixed_size_beyond_a_limit_is_refused_and_never_cut(
    value: str, price: str, cap: str | None, expected: str
) -> None:
    assert rule(size(SizingKind.FIXED_QUANTITY, value, price=price, max_notional=cap)) == expected


@pytest.mark.parametrize(
    ("equity", "price", "cap", "expected"),
    [("100000", "300", None, "50"), ("1000000", "30000", None, "3.333"), ("10000", "300", "599", "1.996")],
)
def test_a_fraction_of_equity_is_cut_to_the_limits(equity: str, price: str, cap: str | None, expected: str) -> None:
    sized = size(SizingKind.EQUITY_FRACTION, "1", equity=equity, price=price, max_notional=cap)
    assert sized == Decimal(expected)


def test_a_market_without_limits_takes_any_size() -> None:
    free = replace(MARKET, amount_min=None, amount_max=None, notional_min=None, notional_max=None)
    assert size(SizingKind.FIXED_QUANTITY, "1000000", market=free) == 1_000_000


@pytest.mark.parametrize("price", ["0", "-1"])
def test_a_price_that_is_not_positive_is_an_error(price: str) -> None:
    with pytest.raises(ValueError, match="reference price"):
        size(SizingKind.FIXED_QUANTITY, "1", price=price)


positive = st.integers(1, 10**10).map(lambda n: Decimal(n).scaleb(-4))


@given(st.sampled_from(SizingKind), positive, positive, positive, positive)
def test_whatever_is_sized_is_within_every_limit(
    kind: SizingKind, value: Decimal, price: Decimal, equity: Decimal, cap: Decimal
) -> None:
    sized = size(kind, str(value), price=str(price), equity=str(equity), stop="0.02", max_notional=str(cap))
    if isinstance(sized, Decimal):
        assert is_on_step(sized, MARKET.amount_step)
        assert Decimal("0.01") <= sized <= 50
        assert 5 <= sized * price <= min(cap, Decimal(100_000))
