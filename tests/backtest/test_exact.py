"""Pairs of floats against Python's decimals and whole numbers."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

from hypothesis import given
from hypothesis import strategies as st

from tbh.backtest.exact import add2, div2, floor_quotient, mul2, round_quotient, two_prod, two_sum
from tbh.backtest.terms import pair
from tbh.backtest.trades import price_text, text_of, whole
from tbh.domain.money import EXACT, divide, plain

WIDE = Context(prec=200)
numbers = st.integers(-(10**15), 10**15)
positive = st.integers(1, 10**15)
wide = st.integers(0, 10**29)


def exact(high: float, low: float) -> Decimal:
    return WIDE.add(Decimal(high), Decimal(low))


@given(numbers, numbers)
def test_sums_and_products_lose_nothing(a: int, b: int) -> None:
    assert whole(*two_sum(float(a), float(b))) == a + b
    assert whole(*two_prod(float(a), float(b))) == a * b


@given(wide, wide, st.integers(1, 1_000))
def test_pairs_are_added_and_multiplied_as_whole_numbers(a: int, b: int, factor: int) -> None:
    first, second = pair(Decimal(a)), pair(Decimal(b))
    assert whole(*add2(*first, -second[0], -second[1])) == a - b
    assert whole(*mul2(*first, float(factor))) == a * factor


@given(wide, positive)
def test_a_quotient_has_thirty_digits(a: int, b: int) -> None:
    got, want = exact(*div2(*pair(Decimal(a)), float(b))), WIDE.divide(Decimal(a), Decimal(b))
    assert abs(WIDE.subtract(got, want)) <= WIDE.multiply(want, Decimal("1e-30"))


@given(st.integers(0, 2**53 - 4), positive, st.integers(-2, 2))
def test_a_floor_is_exact_beside_every_multiple(quotient: int, divisor: int, off: int) -> None:
    number = max(quotient * divisor + off, 0)
    found = floor_quotient(*pair(Decimal(number)), float(divisor), 0.0)
    assert found == number // divisor


@given(st.integers(2**53, 10**19), st.integers(1, 10**10), st.integers(-2, 2))
def test_a_floor_beyond_whole_floats_is_never_above(quotient: int, divisor: int, off: int) -> None:
    number = quotient * divisor + off
    found = int(floor_quotient(*pair(Decimal(number)), float(divisor), 0.0))
    assert number // divisor * (1 - 1e-15) <= found <= number // divisor


@given(st.integers(0, 10**12), st.sampled_from([10, 1_000, 10_000, 10**9]), st.integers(-2, 2))
def test_rounding_is_to_the_nearest_and_in_the_middle_to_the_even(quotient: int, divisor: int, off: int) -> None:
    number = max(quotient * divisor + divisor // 2 + off, 0)
    want = WIDE.divide(Decimal(number), Decimal(divisor)).quantize(Decimal(1), rounding=ROUND_HALF_EVEN, context=WIDE)
    assert round_quotient(*pair(Decimal(number)), float(divisor)) == float(want)


@given(st.integers(-(10**20), 10**20), st.integers(0, 20))
def test_text_is_the_plain_text_of_the_decimal(number: int, decimals: int) -> None:
    assert text_of(number, decimals) == plain(Decimal(number).scaleb(-decimals, EXACT))


@given(positive, st.integers(1, 10**10), st.integers(0, 10))
def test_an_average_price_has_the_digits_of_a_division(notional: int, qty: int, decimals: int) -> None:
    want = divide(Decimal(notional).scaleb(-decimals, EXACT), Decimal(qty))
    assert price_text(notional, qty, decimals) == plain(want)
