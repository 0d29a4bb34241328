"""What `frozen` makes is the dataclass that it says, though three of its methods are written when they are first
used."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest

from tbh.messages.base import Value, frozen, message, replace


def pair(name: str, **body: Any) -> tuple[type, type]:
    """Two classes of one name and body: ours, and what dataclasses make of it."""
    made: list[type] = []
    for wrap in (frozen, dataclass(frozen=True, slots=True, kw_only=True)):
        bare = type(name, (), {"__annotations__": dict.fromkeys(body, int), "__module__": __name__} | body)
        made.append(wrap(bare))
    return made[0], made[1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"a": 1},
        {"a": 1, "b": 2},
        {"a": 1, "b": field(default=2, compare=False)},
        {"a": 1, "b": field(default=2, hash=False)},
        {"a": 1, "b": field(default=2, repr=False)},
    ],
)
def test_it_is_compared_hashed_and_shown_as_the_dataclass(body: dict[str, Any]) -> None:
    ours, theirs = pair("Thing", **body)
    for _ in range(2):  # the first use, and those after it
        assert repr(ours()) == repr(theirs())
        assert hash(ours()) == hash(theirs())
        assert ours() == ours()
        for name in body:
            assert (ours(**{name: 7}) == ours()) is (theirs(**{name: 7}) == theirs())
            assert hash(ours(**{name: 7})) == hash(theirs(**{name: 7}))
        assert ours() != theirs()
        assert ours().__eq__(object()) is NotImplemented


def test_a_method_of_its_own_stays() -> None:
    @message
    class Known(Value):
        number: int

        def __hash__(self) -> int:
            return 5

        def __repr__(self) -> str:
            return "known"

    assert hash(Known(number=1)) == 5
    assert repr(Known(number=1)) == "known"
    assert Known(number=1) == Known(number=1)
    assert Known(number=1) != Known(number=2)


def test_a_kind_of_a_kind_is_neither_equal_to_it_nor_shown_as_it() -> None:
    @message
    class Wide(Value):
        a: int

    @message
    class Narrow(Wide):
        b: int = 0

    assert Wide(a=1) == Wide(a=1)
    assert Narrow(a=1) != Wide(a=1)
    assert Narrow(a=1) == Narrow(a=1)
    assert Narrow(a=1, b=2) != Narrow(a=1)
    assert repr(Narrow(a=1)).endswith("Narrow(a=1, b=0)")
    assert len({Wide(a=1), Wide(a=1), Narrow(a=1)}) == 2


def test_it_can_not_be_changed_but_replaced() -> None:
    @message
    class Held(Value):
        a: int

    held = Held(a=1)
    with pytest.raises(FrozenInstanceError):
        held.a = 2  # type: ignore[misc]
    assert replace(held, a=2) == Held(a=2)
