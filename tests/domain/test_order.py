from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tbh.domain import order as rules
from tbh.domain.order import OPEN, TABLE, TERMINAL, BrokenInvariant, OrderEvent, is_surprise, remaining
from tbh.messages.orders import Fill, Order, OrderFound, OrderState, OrderStatus, OrderType, Purpose, Side

NOW = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
ONE = Decimal(1)
ORDER = Order(
    client_order_id="c1", intent_id="i1", symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal(1),
    purpose=Purpose.ENTRY, strategy="s", bar_open=NOW, created_at=NOW,
)  # fmt: skip


def state(status: OrderStatus, filled: str = "0", *, seen: bool = False) -> OrderState:
    return OrderState(
        order=ORDER, status=status, version=3, filled_qty=Decimal(filled), seen_at=NOW,
        avg_price=Decimal(100) if Decimal(filled) else None, exchange_order_id="x1" if seen else None,
    )  # fmt: skip


def fill(qty: str, price: str = "100", trade_id: str = "t1") -> Fill:
    return Fill(
        trade_id=trade_id, client_order_id="c1", exchange_order_id="x1", symbol="BTC/USDT", side=Side.BUY,
        qty=Decimal(qty), price=Decimal(price), fee=Decimal(0), fee_asset="USDT", maker=False, at=NOW, seq=1,
    )  # fmt: skip


def found(status: OrderStatus, filled: str = "0") -> OrderFound:
    return OrderFound(
        client_order_id="c1", exchange_order_id="x1", status=status, filled_qty=Decimal(filled), avg_price=None
    )


def status_of(after: OrderState | None) -> OrderStatus:
    assert after is not None
    return after.status


def test_an_order_lives_from_draft_to_last_fill() -> None:
    seen = [rules.draft(ORDER, NOW)]
    for after in (
        rules.on_recorded(seen[-1], NOW),
        rules.on_submitted(replace(seen[-1], status=OrderStatus.RECORDED), NOW),
    ):
        assert after is not None
        seen.append(after)
    accepted = rules.on_accepted(seen[-1], "x1", NOW)
    assert accepted is not None
    part = rules.on_fill(accepted, fill("0.4", "100"), NOW)
    assert part is not None
    whole = rules.on_fill(part, fill("0.6", "110", "t2"), NOW)
    assert whole is not None
    assert [s.status for s in (*seen, accepted, part, whole)] == [
        OrderStatus.DRAFTED, OrderStatus.RECORDED, OrderStatus.SUBMITTED,
        OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED,
    ]  # fmt: skip
    assert (whole.filled_qty, whole.avg_price, whole.exchange_order_id) == (Decimal(1), Decimal(106), "x1")


def test_a_draft_of_nothing_is_a_broken_invariant() -> None:
    with pytest.raises(BrokenInvariant):
        rules.draft(replace(ORDER, qty=Decimal(0)), NOW)


def test_an_exit_is_sent_while_the_store_is_silent() -> None:
    assert status_of(rules.on_submitted(state(OrderStatus.DRAFTED), NOW)) is OrderStatus.SUBMITTED
    assert rules.on_recorded(state(OrderStatus.SUBMITTED), NOW) is None


@pytest.mark.parametrize("status", [OrderStatus.DRAFTED, OrderStatus.RECORDED, OrderStatus.SUBMITTED])
def test_an_order_read_back_before_its_answer_is_unknown(status: OrderStatus) -> None:
    assert status_of(rules.on_recovered(state(status), NOW)) is OrderStatus.UNKNOWN


@pytest.mark.parametrize("status", [OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, *sorted(TERMINAL)])
def test_an_order_read_back_after_its_answer_stays_what_it_was(status: OrderStatus) -> None:
    assert rules.on_recovered(state(status), NOW) is None


def test_silence_makes_a_sent_order_unknown() -> None:
    assert status_of(rules.on_silence(state(OrderStatus.SUBMITTED), "timeout", NOW)) is OrderStatus.UNKNOWN


def test_silence_after_the_answer_changes_nothing() -> None:
    assert rules.on_silence(state(OrderStatus.ACCEPTED, seen=True), "timeout", NOW) is None


@pytest.mark.parametrize(
    ("filled", "more", "expected"),
    [("0.4", "0.1", OrderStatus.CANCELED), ("0.4", "0.6", OrderStatus.FILLED), ("0", "1", OrderStatus.FILLED)],
)
def test_fill_after_cancel_is_kept(filled: str, more: str, expected: OrderStatus) -> None:
    after = rules.on_fill(replace(state(OrderStatus.CANCELED, filled), reason="asked"), fill(more), NOW)
    assert after is not None
    assert (after.status, after.filled_qty) == (expected, Decimal(filled) + Decimal(more))
    assert after.reason == ("asked" if expected is OrderStatus.CANCELED else None)


def test_accepted_after_fill_does_not_go_back() -> None:
    assert rules.on_accepted(state(OrderStatus.FILLED, "1", seen=True), "x1", NOW) is None
    assert rules.on_accepted(state(OrderStatus.PARTIALLY_FILLED, "0.4", seen=True), "x1", NOW) is None


def test_an_unknown_order_that_fills_in_part_is_still_asked_for() -> None:
    after = rules.on_fill(state(OrderStatus.UNKNOWN), fill("0.4"), NOW)
    assert after is not None
    assert (after.status, after.filled_qty) == (OrderStatus.UNKNOWN, Decimal("0.4"))
    assert status_of(rules.on_found(after, found(OrderStatus.ACCEPTED, "0.4"), NOW)) is OrderStatus.PARTIALLY_FILLED


def test_an_unknown_order_that_fills_whole_is_filled() -> None:
    assert status_of(rules.on_fill(state(OrderStatus.UNKNOWN), fill("1"), NOW)) is OrderStatus.FILLED


@pytest.mark.parametrize("status", [OrderStatus.ABSENT, OrderStatus.REJECTED])
@pytest.mark.parametrize(("qty", "expected"), [("0.4", OrderStatus.PARTIALLY_FILLED), ("1", OrderStatus.FILLED)])
def test_a_fill_of_an_order_that_did_not_exist_is_kept_and_is_a_surprise(
    status: OrderStatus, qty: str, expected: OrderStatus
) -> None:
    before = state(status)
    after = rules.on_fill(before, fill(qty), NOW)
    assert after is not None
    assert (after.status, after.filled_qty, is_surprise(before, after)) == (expected, Decimal(qty), True)


def test_an_ordinary_fill_is_no_surprise() -> None:
    before = state(OrderStatus.CANCELED, "0.4")
    after = rules.on_fill(before, fill("0.6"), NOW)
    assert after is not None
    assert not is_surprise(before, after)


@pytest.mark.parametrize("status", [OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED])
def test_a_rejection_that_contradicts_the_acceptance_makes_the_order_unknown(status: OrderStatus) -> None:
    assert status_of(rules.on_rejected(state(status, seen=True), "no", NOW)) is OrderStatus.UNKNOWN


def test_a_rejection_does_not_end_an_unknown_order_that_has_filled() -> None:
    assert rules.on_rejected(state(OrderStatus.UNKNOWN, "0.4", seen=True), "no", NOW) is None


def test_absence_needs_a_conclusive_denial() -> None:
    unknown = state(OrderStatus.UNKNOWN)
    assert rules.on_not_found(unknown, False, NOW) is None
    assert status_of(rules.on_not_found(unknown, True, NOW)) is OrderStatus.ABSENT


@pytest.mark.parametrize("status", sorted(set(OrderStatus) - {OrderStatus.UNKNOWN}))
def test_only_an_unknown_order_can_be_absent(status: OrderStatus) -> None:
    assert rules.on_not_found(state(status), True, NOW) is None


@pytest.mark.parametrize("seen", [state(OrderStatus.UNKNOWN, seen=True), state(OrderStatus.UNKNOWN, "0.4")])
def test_an_order_that_was_seen_never_becomes_absent(seen: OrderState) -> None:
    assert rules.on_not_found(seen, True, NOW) is None


@pytest.mark.parametrize("status", [OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED])
@pytest.mark.parametrize("before", [OrderStatus.UNKNOWN, OrderStatus.ACCEPTED, OrderStatus.SUBMITTED])
def test_a_report_with_more_filled_than_our_fills_invents_none(before: OrderStatus, status: OrderStatus) -> None:
    after = rules.on_found(state(before), found(status, "0.7"), NOW)
    assert after is not None
    assert (after.status, after.filled_qty, after.exchange_order_id) == (OrderStatus.UNKNOWN, Decimal(0), "x1")
    assert rules.on_not_found(after, True, NOW) is None


def test_an_order_that_was_behind_ends_once_its_fills_are_here() -> None:
    behind = rules.on_canceled(state(OrderStatus.ACCEPTED, seen=True), Decimal("0.7"), "asked", NOW)
    assert behind is not None
    caught_up = rules.on_fill(behind, fill("0.7"), NOW)
    assert caught_up is not None
    assert caught_up.status in OPEN
    assert status_of(rules.on_found(caught_up, found(OrderStatus.CANCELED, "0.7"), NOW)) is OrderStatus.CANCELED


@pytest.mark.parametrize("status", [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED])
def test_an_unknown_order_found_open_is_accepted(status: OrderStatus) -> None:
    assert status_of(rules.on_found(state(OrderStatus.UNKNOWN), found(status, "0.2"), NOW)) is OrderStatus.ACCEPTED


@pytest.mark.parametrize("status", [OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED])
def test_an_unknown_order_found_ended_has_ended(status: OrderStatus) -> None:
    assert status_of(rules.on_found(state(OrderStatus.UNKNOWN), found(status), NOW)) is status


def test_an_order_filled_in_part_and_found_rejected_is_canceled() -> None:
    after = rules.on_found(state(OrderStatus.UNKNOWN, "0.4", seen=True), found(OrderStatus.REJECTED, "0.4"), NOW)
    assert status_of(after) is OrderStatus.CANCELED


def test_an_order_found_filled_a_little_short_is_filled_when_no_fill_is_missing() -> None:
    after = rules.on_found(state(OrderStatus.UNKNOWN, "0.999"), found(OrderStatus.FILLED, "0.999"), NOW)
    assert status_of(after) is OrderStatus.FILLED


def test_a_fill_of_an_order_found_filled_short_is_kept() -> None:
    after = rules.on_fill(state(OrderStatus.FILLED, "0.9"), fill("0.05"), NOW)
    assert after is not None
    assert (after.status, after.filled_qty) == (OrderStatus.FILLED, Decimal("0.95"))


@pytest.mark.parametrize("status", list(OrderStatus))
@pytest.mark.parametrize("qty", ["0.4", "1"])
def test_no_status_drops_a_fill(status: OrderStatus, qty: str) -> None:
    after = rules.on_fill(state(status), fill(qty), NOW)
    assert after is not None
    assert after.filled_qty == Decimal(qty)


@pytest.mark.parametrize("status", [OrderStatus.DRAFTED, OrderStatus.RECORDED])
def test_what_the_exchange_has_was_sent_even_if_that_was_never_told(status: OrderStatus) -> None:
    before = state(status)
    sent = rules.on_submitted(before, NOW)
    assert sent is not None
    for after, sent_first in (
        (rules.on_accepted(before, "x1", NOW), rules.on_accepted(sent, "x1", NOW)),
        (rules.on_fill(before, fill("0.4"), NOW), rules.on_fill(sent, fill("0.4"), NOW)),
        (rules.on_fill(before, fill("1"), NOW), rules.on_fill(sent, fill("1"), NOW)),
        (rules.on_canceled(before, ONE, "asked", NOW), rules.on_canceled(sent, ONE, "asked", NOW)),
        (
            rules.on_found(before, found(OrderStatus.FILLED, "1"), NOW),
            rules.on_found(sent, found(OrderStatus.FILLED, "1"), NOW),
        ),
    ):
        assert after is not None
        assert after == sent_first
        assert after.version == before.version + 2


def test_a_draft_that_the_gateway_answers_went_without_its_record() -> None:
    before = state(OrderStatus.DRAFTED)
    for after in (rules.on_rejected(before, "no", NOW), rules.on_silence(before, "timeout", NOW)):
        assert after is not None
        assert after.version == before.version + 2
    kept_back = rules.on_rejected(state(OrderStatus.RECORDED), "no", NOW)
    assert kept_back is not None
    assert kept_back.version == before.version + 1


@pytest.mark.parametrize("status", [OrderStatus.UNKNOWN, OrderStatus.ABSENT])
def test_evidence_that_knows_nothing_is_a_broken_invariant(status: OrderStatus) -> None:
    with pytest.raises(BrokenInvariant):
        rules.on_found(state(OrderStatus.UNKNOWN), found(status), NOW)


def test_more_filled_than_ordered_is_a_broken_invariant() -> None:
    with pytest.raises(BrokenInvariant, match=r"1\.1 of 1"):
        rules.on_fill(state(OrderStatus.PARTIALLY_FILLED, "0.9"), fill("0.2"), NOW)


def test_an_overfill_within_a_step_is_taken() -> None:
    after = rules.on_fill(state(OrderStatus.FILLED, "1"), fill("0.01"), NOW, step=Decimal("0.01"))
    assert after is not None
    assert (after.status, after.filled_qty) == (OrderStatus.FILLED, Decimal("1.01"))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(fill("0.1"), client_order_id="c2"),
        replace(fill("0.1"), side=Side.SELL),
        replace(fill("0.1"), symbol="ETH/USDT"),
        fill("0"),
        fill("-0.1"),
        fill("0.1", "0"),
    ],
)
def test_a_fill_that_cannot_be_is_a_broken_invariant(wrong: Fill) -> None:
    with pytest.raises(BrokenInvariant):
        rules.on_fill(state(OrderStatus.ACCEPTED), wrong, NOW)


def test_a_report_on_another_order_is_a_broken_invariant() -> None:
    with pytest.raises(BrokenInvariant):
        rules.on_found(state(OrderStatus.UNKNOWN), replace(found(OrderStatus.FILLED, "1"), client_order_id="c2"), NOW)


def test_a_renamed_order_keeps_the_id_it_was_journaled_under() -> None:
    after = rules.on_accepted(state(OrderStatus.UNKNOWN, seen=True), "x2", NOW)
    assert after is not None
    assert after.exchange_order_id == "x1"


def test_time_of_a_state_never_goes_back() -> None:
    after = rules.on_accepted(state(OrderStatus.SUBMITTED), "x1", NOW - timedelta(hours=1))
    assert after is not None
    assert after.seen_at == NOW


def test_what_may_still_fill_is_nothing_once_the_order_is_terminal() -> None:
    assert remaining(state(OrderStatus.UNKNOWN, "0.4")) == Decimal("0.6")
    assert remaining(state(OrderStatus.CANCELED, "0.4")) == 0


def test_every_status_is_reached_and_no_row_leads_back_to_a_status_before_the_wire() -> None:
    assert set(TABLE.values()) == set(OrderStatus) - {OrderStatus.DRAFTED}
    early = [OrderStatus.DRAFTED, OrderStatus.RECORDED, OrderStatus.SUBMITTED]
    for (before, _), after in TABLE.items():
        if after in early:
            assert before in early
            assert early.index(before) < early.index(after)


WORDS = {
    "recorded": lambda of: rules.on_recorded(of, NOW),
    "submitted": lambda of: rules.on_submitted(of, NOW),
    "accepted": lambda of: rules.on_accepted(of, "x1", NOW),
    "part": lambda of: rules.on_fill(of, fill("0.1"), NOW),
    "rest": lambda of: rules.on_fill(of, fill(str(ORDER.qty - of.filled_qty)), NOW),
    "canceled": lambda of: rules.on_canceled(of, of.filled_qty, "asked", NOW),
    "expired": lambda of: rules.on_expired(of, of.filled_qty, "too late", NOW),
    "rejected": lambda of: rules.on_rejected(of, "no", NOW),
    "silence": lambda of: rules.on_silence(of, "timeout", NOW),
    "behind": lambda of: rules.on_canceled(of, of.filled_qty + 1, "asked", NOW),
    "denied": lambda of: rules.on_not_found(of, True, NOW),
    "recovered": lambda of: rules.on_recovered(of, NOW),
}
LIVES = """
                 recorded submitted accepted part rest canceled expired rejected silence behind denied recovered
drafted          recorded submitted accepted part full canceled expired rejected unknown unknown .     unknown
recorded         .        submitted accepted part full canceled expired rejected unknown unknown .     unknown
submitted        .        .         accepted part full canceled expired rejected unknown unknown .     unknown
accepted         .        .         .        part full canceled expired unknown  .       unknown .     .
partially_filled .        .         .        part full canceled expired unknown  .       unknown .     .
unknown          .        .         accepted unknown full canceled expired rejected .    .       absent .
canceled         .        .         .        canceled full .    .       .        .       .       .      .
expired          .        .         .        expired  full .    .       .        .       .       .      .
rejected         .        .         unknown  part full .        .       .        .       unknown .      .
absent           .        .         accepted part full canceled expired .        .       unknown .      .
"""
SHORT = {"part": "partially_filled", "full": "filled"}
HEADER, *ROWS = [line.split() for line in LIVES.strip().splitlines()]
CASES = [(row[0], word, SHORT.get(to, to)) for row in ROWS for word, to in zip(HEADER, row[1:], strict=True)]


@pytest.mark.parametrize(("status", "word", "expected"), CASES)
def test_each_word_moves_each_status_as_told(status: str, word: str, expected: str) -> None:
    before = state(
        OrderStatus(status),
        "0.4" if status == "partially_filled" else "0",
        seen=status in ("accepted", "partially_filled", "canceled", "expired"),
    )
    after = WORDS[word](before)
    assert (after and after.status.value) == (None if expected == "." else expected)


@pytest.mark.parametrize(("status", "filled"), [(OrderStatus.PARTIALLY_FILLED, "0.4"), (OrderStatus.FILLED, "1")])
def test_an_answer_after_a_fill_still_brings_the_exchanges_id(status: OrderStatus, filled: str) -> None:
    after = rules.on_accepted(state(status, filled), "x1", NOW)
    assert after is not None
    assert (after.status, after.exchange_order_id) == (status, "x1")


FROM_TERMINAL = {
    (before, after) for (before, _), after in TABLE.items() if before in TERMINAL and after is not before
}  # fmt: skip


def test_a_terminal_order_moves_only_by_what_was_filled_or_found_after_all() -> None:
    moving = {(before, event) for (before, event), after in TABLE.items() if before in TERMINAL and after is not before}
    late_fills = {(s, OrderEvent.LAST_FILL) for s in (OrderStatus.CANCELED, OrderStatus.EXPIRED)}
    assert late_fills <= moving
    assert {before for before, _ in moving - late_fills} == {OrderStatus.REJECTED, OrderStatus.ABSENT}


class OrderLife(RuleBasedStateMachine):
    """Any facts in any order: nothing filled is lost, nothing goes back, and a repeat changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.state = rules.draft(ORDER, NOW)
        self.filled = Decimal(0)
        self.fills = 0

    def learn(self, after: OrderState | None) -> None:
        before = self.state
        if after is None:
            return
        unsent = before.status in (OrderStatus.DRAFTED, OrderStatus.RECORDED)
        assert after.version - before.version in ((1, 2) if unsent else (1,)), "or the untold sending first"
        assert after.filled_qty >= before.filled_qty
        assert after != replace(before, version=after.version, seen_at=after.seen_at)
        if before.status in TERMINAL and after.status is not before.status:
            assert (before.status, after.status) in FROM_TERMINAL
        if before.exchange_order_id is not None:
            assert after.exchange_order_id == before.exchange_order_id
        self.state = after

    @rule()
    def recorded(self) -> None:
        self.learn(rules.on_recorded(self.state, NOW))
        assert rules.on_recorded(self.state, NOW) is None

    @rule()
    def submitted(self) -> None:
        self.learn(rules.on_submitted(self.state, NOW))
        assert rules.on_submitted(self.state, NOW) is None

    @rule()
    def accepted(self) -> None:
        self.learn(rules.on_accepted(self.state, "x1", NOW))
        if self.state.status is not OrderStatus.UNKNOWN:
            assert rules.on_accepted(self.state, "x1", NOW) is None

    @rule(tenths=st.integers(1, 10), price=st.integers(90, 110))
    def fill(self, tenths: int, price: int) -> None:
        qty = Decimal(tenths) / 10
        if self.filled + qty > ORDER.qty:
            with pytest.raises(BrokenInvariant):
                rules.on_fill(self.state, fill(str(qty), str(price)), NOW)
            return
        self.fills += 1
        after = rules.on_fill(self.state, fill(str(qty), str(price), f"t{self.fills}"), NOW)
        assert after is not None, "no fill is ever dropped"
        self.filled += qty
        self.learn(after)

    @rule(missing=st.integers(0, 2), expired=st.booleans())
    def ended(self, missing: int, expired: bool) -> None:
        end = rules.on_expired if expired else rules.on_canceled
        qty = self.filled + Decimal(missing) / 10
        self.learn(end(self.state, qty, "asked", NOW))
        assert end(self.state, qty, "asked", NOW) is None

    @rule()
    def silence(self) -> None:
        self.learn(rules.on_silence(self.state, "timeout", NOW))
        assert rules.on_silence(self.state, "timeout", NOW) is None

    @rule()
    def rejected(self) -> None:
        before = self.state.status
        self.learn(rules.on_rejected(self.state, "no", NOW))
        if before is not OrderStatus.ACCEPTED:
            assert rules.on_rejected(self.state, "no", NOW) is None

    @rule(status=st.sampled_from(sorted(set(OrderStatus) - {OrderStatus.UNKNOWN, OrderStatus.ABSENT})))
    def evidence(self, status: OrderStatus) -> None:
        self.learn(rules.on_found(self.state, found(status, str(self.filled)), NOW))

    @rule(conclusive=st.booleans())
    def denied(self, conclusive: bool) -> None:
        self.learn(rules.on_not_found(self.state, conclusive, NOW))
        assert rules.on_not_found(self.state, conclusive, NOW) is None

    @rule()
    def recovered(self) -> None:
        self.learn(rules.on_recovered(self.state, NOW))
        assert rules.on_recovered(self.state, NOW) is None

    @invariant()
    def the_filled_quantity_is_the_sum_of_the_fills(self) -> None:
        assert self.state.filled_qty == self.filled
        assert (self.state.avg_price is not None) == (self.filled > 0)

    @invariant()
    def the_status_fits_the_fills(self) -> None:
        if self.filled >= ORDER.qty:
            assert self.state.status is OrderStatus.FILLED
        if self.state.filled_qty:
            assert self.state.status not in (OrderStatus.ABSENT, OrderStatus.REJECTED)
            assert self.state.status is not OrderStatus.ACCEPTED


TestOrderLife = OrderLife.TestCase
