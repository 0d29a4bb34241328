"""What a plan makes of a recording, and of the package that a strategy in Python is from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tbh.domain.papermarket import paper_market
from tbh.infra.memory_store import MemoryStore
from tbh.plan import DEMO, Plan, package_of
from tbh.ports import Batch, Unavailable
from tbh.runtime.actor import NullLog
from tbh.strategies.runner import custom_of


class Idle:
    """A strategy in Python."""

    history = 1

    def on_bar(self, view: Any) -> list[Any]:
        return []


class FullStore(MemoryStore):
    """Its disk is full."""

    def commit(self, batch: Batch) -> int:
        raise Unavailable("disk_full")


def told(store: MemoryStore, package: str) -> str:
    idle = custom_of(reference="idle", name="idle", timeframe="1m", params={}, make=Idle, package=package)
    return package_of(store, Plan(definition=idle, symbol="A/B", root="/", bot=DEMO), NullLog())


def test_a_package_that_is_another_than_the_last_starts_is_told_once() -> None:
    store = MemoryStore()
    starts = ["mine 1.0", "mine 1.0", "mine 1.1", "mine 1.1", "", "mine 1.1"]
    assert [told(store, package) for package in starts] == [
        "mine 1.0", "mine 1.0", "mine 1.1, the last start had mine 1.0", "mine 1.1", "", "mine 1.1",
    ]  # fmt: skip


def test_a_full_disk_keeps_no_bot_from_starting_with_its_package() -> None:
    assert told(FullStore(), "mine 1.0") == "mine 1.0"


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
