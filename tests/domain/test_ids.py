from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.ids import (
    check_strategies,
    client_order_id,
    decision_id,
    flatten_order_id,
    intent_id,
    parse,
    proposal_id,
    protection_order_id,
    strategy_code,
)
from tbh.messages.orders import Purpose

BOT = "6f1d7c1e-0000-4000-8000-000000000001"
BAR = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)

bars = st.integers(0, 2**32 - 1).map(lambda s: datetime.fromtimestamp(s, UTC))
keys = st.tuples(
    bars,
    st.sampled_from(["ema-cross", "breakout"]),
    st.sampled_from([Purpose.ENTRY, Purpose.PYRAMID, Purpose.EXIT]),
    st.integers(0, 15),
    st.integers(0, 255),
)
Key = tuple[datetime, str, Purpose, int, int]


def order_id(key: Key, bot_id: str = BOT) -> str:
    bar_open, strategy, purpose, layer, attempt = key
    return client_order_id(bot_id, bar_open=bar_open, strategy=strategy, purpose=purpose, layer=layer, attempt=attempt)


ENTRY = order_id((BAR, "ema-cross", Purpose.ENTRY, 0, 0))


@given(keys)
def test_an_id_says_what_it_was_made_of(key: Key) -> None:
    text = order_id(key)
    assert len(text) == 32
    parts = parse(text, BOT)
    assert parts is not None
    assert (parts.bar_open, parts.strategy_code, parts.purpose, parts.layer, parts.attempt) == (
        key[0], strategy_code(key[1]), *key[2:]
    )  # fmt: skip


@given(keys, keys)
def test_two_orders_share_an_id_only_when_they_are_the_same(one: Key, other: Key) -> None:
    assert (order_id(one) == order_id(other)) == (one == other)


def test_an_id_is_the_same_in_every_process_and_version() -> None:
    assert ENTRY == "7b6c2e7f6b0028309610005d2beb3963"


@given(keys, st.uuids().map(str))
def test_another_bots_id_is_foreign(key: Key, other_bot: str) -> None:
    assert parse(order_id(key, other_bot), BOT) is None


@given(keys, st.integers(0, 31), st.sampled_from("0123456789abcdef"))
def test_an_id_with_one_character_changed_is_foreign(key: Key, index: int, digit: str) -> None:
    text = order_id(key)
    changed = text[:index] + digit + text[index + 1 :]
    assert (parse(changed, BOT) is None) == (changed != text)


@given(st.text(max_size=40))
def test_any_other_text_is_foreign(text: str) -> None:
    assert parse(text, BOT) is None


@pytest.mark.parametrize("foreign", ["", ENTRY.upper(), ENTRY + "0", f" {ENTRY[1:]}", "x-" + ENTRY[2:]])
def test_what_only_looks_like_ours_is_foreign(foreign: str) -> None:
    assert parse(foreign, BOT) is None


@pytest.mark.parametrize(
    "bad",
    [
        (BAR, "s", Purpose.STOP, 0, 0),
        (BAR, "s", Purpose.ENTRY, 16, 0),
        (BAR, "s", Purpose.ENTRY, -1, 0),
        (BAR, "s", Purpose.ENTRY, 0, 256),
        (BAR.replace(tzinfo=None), "s", Purpose.ENTRY, 0, 0),
        (BAR + timedelta(microseconds=1), "s", Purpose.ENTRY, 0, 0),
        (datetime(1969, 12, 31, tzinfo=UTC), "s", Purpose.ENTRY, 0, 0),
        (datetime(2107, 1, 1, tzinfo=UTC), "s", Purpose.ENTRY, 0, 0),
    ],
)
def test_what_does_not_fit_the_fields_is_refused(bad: Key) -> None:
    with pytest.raises(ValueError):
        order_id(bad)


def test_the_same_instant_in_another_zone_is_the_same_bar() -> None:
    tokyo = BAR.astimezone(timezone(timedelta(hours=9)))
    assert order_id((tokyo, "ema-cross", Purpose.ENTRY, 0, 0)) == ENTRY


@given(st.lists(st.integers(0, 20_000), min_size=2, max_size=20, unique=True))
def test_each_revision_of_a_positions_stop_has_its_own_id(revisions: list[int]) -> None:
    ids = {protection_order_id(BOT, ENTRY, p, r) for r in revisions for p in (Purpose.STOP, Purpose.TARGET)}
    assert len(ids) == 2 * len(revisions)


def test_a_stop_carries_the_bar_and_strategy_of_its_position() -> None:
    parts = parse(protection_order_id(BOT, ENTRY, Purpose.STOP, 3), BOT)
    assert parts is not None
    assert (parts.bar_open, parts.strategy_code, parts.purpose, parts.attempt) == (
        BAR, strategy_code("ema-cross"), Purpose.STOP, 3
    )  # fmt: skip


@pytest.mark.parametrize(
    ("position", "purpose", "revision"),
    [("foreign", Purpose.STOP, 0), (ENTRY, Purpose.EXIT, 0), (ENTRY, Purpose.STOP, -1)],
)
def test_only_the_bots_own_position_is_protected(position: str, purpose: Purpose, revision: int) -> None:
    with pytest.raises(ValueError):
        protection_order_id(BOT, position, purpose, revision)


@given(st.lists(st.text(max_size=30), min_size=2, max_size=20, unique=True))
def test_each_request_has_its_own_id_and_is_recognised(requests: list[str]) -> None:
    ids = {flatten_order_id(BOT, request, 0) for request in requests}
    assert len(ids) == len(requests)
    for text in ids:
        parts = parse(text, BOT)
        assert parts is not None
        assert parts.purpose is Purpose.FLATTEN


def test_a_strategys_order_is_not_a_request() -> None:
    with pytest.raises(ValueError):
        flatten_order_id(BOT, "control-7", 0, purpose=Purpose.ENTRY)


def test_strategies_that_share_a_code_are_refused() -> None:
    names = [f"s{n}" for n in range(257)]
    with pytest.raises(ValueError, match="rename one"):
        check_strategies(names)
    check_strategies(["ema-cross", "ema-cross", "breakout"])


names = st.text(alphabet="ab|/%:", max_size=6)
decisions = st.tuples(names, names, bars, st.sampled_from(Purpose), st.integers(0, 15))


@given(decisions, decisions)
def test_two_proposals_share_an_id_only_when_they_are_the_same(
    one: tuple[str, str, datetime, Purpose, int], other: tuple[str, str, datetime, Purpose, int]
) -> None:
    def made(of: tuple[str, str, datetime, Purpose, int]) -> str:
        return proposal_id(decision_id(*of[:3]), *of[3:])

    assert (made(one) == made(other)) == (one == other)


def test_attempts_share_their_intent() -> None:
    decision = decision_id("ema-cross", "BTC/USDT", BAR)
    assert proposal_id(decision, Purpose.ENTRY, 0) == intent_id(Purpose.ENTRY, decision)
