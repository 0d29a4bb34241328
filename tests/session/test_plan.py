"""The market that a demo makes of a recording."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tbh.domain.papermarket import paper_market


@pytest.mark.parametrize(
    ("price", "step"),
    [
        ("30000", "1e-8"),
        ("1", "1e-8"),
        ("0.1", "1e-8"),
        ("0.0123", "1e-8"),
        ("0.00001", "1e-8"),
        ("4e-7", "1e-14"),
        ("1e-12", "1e-19"),
    ],
)
def test_prices_are_counted_in_hundred_millionths_unless_that_is_too_coarse(price: str, step: str) -> None:
    assert paper_market("A/B", Decimal(0), price=Decimal(price)).price_step == Decimal(step)
