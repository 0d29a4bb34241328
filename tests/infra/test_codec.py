"""Values to text and back."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.codec import CodecError, decode, encode, epoch_us, json_text
from tbh.messages.account import Position
from tbh.messages.base import Value, message
from tbh.messages.journal import MarkRelayed
from tbh.messages.orders import Fill, Order, OrderState, Protection, Trailing
from tbh.messages.strategy import Cooldown, Decision, Limit, Proposal, Sizing

money = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30"))
times = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
for _class in (Trailing, Protection, Order, OrderState, Fill, Position, Sizing, Cooldown, Limit, Proposal, Decision):
    st.register_type_strategy(_class, lambda cls: st.builds(cls, **values_of(cls)))


def values_of(cls: type[Any]) -> dict[str, st.SearchStrategy[Any]]:
    from typing import get_type_hints

    def of(hint: Any) -> st.SearchStrategy[Any]:
        plain = {Decimal: money, datetime: times, str: st.text(max_size=20)}
        if hint in plain:
            return plain[hint]
        if hint == Decimal | None:
            return st.none() | money
        if hint == datetime | None:
            return st.none() | times
        if hint == tuple[Proposal, ...]:
            return st.lists(st.from_type(Proposal), max_size=2).map(tuple)
        return st.from_type(hint)

    hints = get_type_hints(cls)
    return {field.name: of(hints[field.name]) for field in fields(cls)}


@given(st.one_of(*(st.from_type(cls) for cls in (Order, OrderState, Fill, Position, Decision))))
def test_every_stored_value_survives_the_text(value: Any) -> None:
    text = encode(value)
    assert decode(type(value), text) == value
    assert encode(decode(type(value), text)) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.text() | JSON.map(json.dumps), st.sampled_from([Order, Decision, MarkRelayed]))
def test_a_foreign_text_is_refused_with_one_kind_of_error(text: str, cls: type[Any]) -> None:
    with pytest.raises(CodecError):
        decode(cls, text)


@given(st.from_type(Fill), st.data())
def test_one_foreign_field_is_refused(fill: Fill, data: st.DataObject) -> None:
    row = json.loads(encode(fill))
    name = data.draw(st.sampled_from(sorted(row)))
    row[name] = data.draw(st.just({}) | st.just([]) | st.just(None))
    with pytest.raises(CodecError, match=name):
        decode(Fill, json.dumps(row))


@message
class Sample(Value):
    amount: Decimal = Decimal(1)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ratio: float = 0.5
    pairs: tuple[tuple[int, str], ...] = ()
    ready: bool = True


def test_decimals_are_plain_text() -> None:
    assert json.loads(encode(Sample(amount=Decimal("1E-8"))))["amount"] == "0.00000001"
    assert json.loads(encode(Sample(amount=Decimal("1E+3"))))["amount"] == "1000"


def test_trailing_zeros_of_a_decimal_are_kept() -> None:
    assert str(decode(Sample, encode(Sample(amount=Decimal("1.500")))).amount) == "1.500"


def test_times_of_other_zones_become_utc() -> None:
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert json.loads(encode(Sample(at=at)))["at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": Decimal("NaN")},
        {"amount": Decimal("Infinity")},
        {"amount": Decimal("1E+401")},
        {"amount": 1.5},
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001  # naive on purpose
        {"ratio": float("nan")},
        {"ready": 1},
        {"pairs": ((1, "a", "b"),)},
    ],
    ids=str,
)
def test_a_field_that_breaks_its_type_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match=r"Sample\." + next(iter(fields))):
        encode(Sample(**fields))


def test_pairs_keep_their_shape() -> None:
    value = MarkRelayed(up_to_seq=4, refused=((2, "payload_invalid"), (3, "x")))
    assert decode(MarkRelayed, encode(value)) == value


def test_a_field_added_later_takes_its_default() -> None:
    assert decode(Sample, "{}") == Sample()


def test_a_missing_field_without_default_is_named() -> None:
    with pytest.raises(CodecError, match=r"Trailing\.distance: missing"):
        decode(Trailing, '{"activate_at": "1"}')


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(CodecError, match="leverage"):
        decode(Sample, '{"leverage": 3}')


def test_nesting_beyond_reason_is_refused() -> None:
    with pytest.raises(CodecError):
        decode(Sample, "[" * 100_000)


def test_json_text_takes_json_types_only() -> None:
    assert json_text({"a": [1, "é"]}) == '{"a":[1,"\\u00e9"]}'
    for stranger in (Decimal(1), float("nan"), datetime(2026, 1, 1, tzinfo=UTC)):
        with pytest.raises(CodecError):
            json_text({"a": stranger})


@given(times)
def test_epoch_us_is_exact(at: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch_us(at)) == at
