from __future__ import annotations

from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.money import dec, divide, floor_to_step, is_on_step, plain, round_to_step

amounts = st.decimals(min_value=-(10**12), max_value=10**12, places=10)
steps = st.sampled_from([Decimal(s) for s in ("1e-8", "0.00000001", "0.01", "0.25", "0.5", "1", "5", "1e1", "0.003")])


@pytest.mark.parametrize("bad", [1.5, True, None, "", "abc", "NaN", "-inf", "1e61", "1e-61", "1" * 101, 10**61])
def test_what_is_no_exact_amount_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        dec(bad)  # type: ignore[arg-type]  # the claim is about wrong types


def test_text_keeps_every_digit() -> None:
    text = "123456789012345678901234567890.123456789012345678901234567890"
    assert plain(dec(text)) == text.rstrip("0")


@given(amounts, steps)
def test_floor_is_on_the_step_and_never_larger_in_size(x: Decimal, step: Decimal) -> None:
    floored = floor_to_step(x, step)
    assert is_on_step(floored, step)
    assert abs(floored) <= abs(x) < abs(floored) + step


@given(amounts, steps)
def test_round_is_on_the_step_and_at_most_half_a_step_away(x: Decimal, step: Decimal) -> None:
    rounded = round_to_step(x, step)
    assert is_on_step(rounded, step)
    assert abs(rounded - x) * 2 <= step


@pytest.mark.parametrize(("x", "expected"), [("0.5", "0"), ("1.5", "2"), ("2.5", "2"), ("-0.5", "0"), ("-1.5", "-2")])
def test_a_half_goes_to_the_even_step(x: str, expected: str) -> None:
    assert round_to_step(dec(x), dec("1")) == dec(expected)


@pytest.mark.parametrize("step", ["0", "-0.01"])
def test_a_step_that_is_not_positive_is_refused(step: str) -> None:
    with pytest.raises(ValueError, match="step"):
        floor_to_step(dec("1"), dec(step))


@given(amounts)
def test_plain_text_round_trips_and_is_canonical(x: Decimal) -> None:
    text = plain(x)
    assert dec(text) == x
    assert "e" not in text.lower()
    assert plain(dec(text)) == text == plain(x * Decimal("1.000"))


def test_minus_zero_is_printed_as_zero() -> None:
    assert plain(Decimal("-0.00")) == "0"


@given(amounts, amounts.filter(bool))
def test_division_does_not_depend_on_the_current_context(a: Decimal, b: Decimal) -> None:
    expected = divide(a, b)
    with localcontext(Context(prec=3)):
        assert str(divide(a, b)) == str(expected)


@given(amounts, steps)
def test_steps_do_not_depend_on_the_current_context(x: Decimal, step: Decimal) -> None:
    expected = floor_to_step(x, step), round_to_step(x, step)
    with localcontext(Context(prec=3)):
        assert (floor_to_step(x, step), round_to_step(x, step)) == expected


@pytest.mark.parametrize("a", ["0", "1"])
def test_division_by_zero_raises(a: str) -> None:
    with pytest.raises(ZeroDivisionError):
        divide(dec(a), dec("0"))
