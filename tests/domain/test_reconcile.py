from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.domain.reconcile import Reconciler
from tbh.messages.account import AccountSnapshot, SyncStatus

NOW = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
ONE = Decimal(1)


def snapshot(qty: str, before: int = 5, after: int | None = None, symbol: str = "BTC/USDT") -> AccountSnapshot:
    return AccountSnapshot(
        request_id="r", symbol=symbol, qty=Decimal(qty), entry_price=None, balances=(), seq_before=before,
        seq_after=before if after is None else after, at=NOW, latency_ms=1.0,
    )  # fmt: skip


def reconciler() -> Reconciler:
    return Reconciler("BTC/USDT", Decimal("0.001"), dust=Decimal("0.01"))


def test_nothing_is_believed_before_a_snapshot_counts() -> None:
    verdict = reconciler().judge(snapshot("1", 4, 5), ONE, 5)
    assert (verdict.status, verdict.counts) == (SyncStatus.UNKNOWN, False)


def test_agreement_is_ok_at_once() -> None:
    verdict = reconciler().judge(snapshot("1"), ONE, 5)
    assert (verdict.status, verdict.counts, verdict.suspected) == (SyncStatus.OK, True, False)


@pytest.mark.parametrize(("qty", "expected"), [("0.5", SyncStatus.MISMATCH), ("0", SyncStatus.MISSING)])
def test_a_disagreement_needs_two_snapshots_that_agree(qty: str, expected: SyncStatus) -> None:
    of = reconciler()
    first = of.judge(snapshot(qty), ONE, 5)
    second = of.judge(snapshot(qty), ONE, 5)
    assert (first.status, first.suspected) == (SyncStatus.UNKNOWN, True)
    assert (second.status, second.suspected) == (expected, False)


def test_a_disagreement_is_confirmed_no_sooner_than_it_has_stood_for_some_time() -> None:
    of = Reconciler("BTC/USDT", Decimal("0.001"), confirm_after_s=5.0)
    found = [of.judge(snapshot("0"), ONE, 5, now_s=now_s).status for now_s in (10.0, 12.0, 14.9, 15.0)]
    assert found == [SyncStatus.UNKNOWN, SyncStatus.UNKNOWN, SyncStatus.UNKNOWN, SyncStatus.MISSING]


def test_an_answer_that_is_heard_late_confirms_no_more_than_when_it_was_asked_for() -> None:
    """A process that stood still for 30 s hears then what was read before."""
    of = Reconciler("BTC/USDT", Decimal("0.001"), confirm_after_s=5.0)
    asked = [(9.0, 10.0), (12.0, 42.0), (14.9, 43.0), (15.0, 44.0)]
    found = [of.judge(snapshot("0"), ONE, 5, now_s=now_s, asked_s=asked_s).status for asked_s, now_s in asked]
    assert found == [SyncStatus.UNKNOWN, SyncStatus.UNKNOWN, SyncStatus.UNKNOWN, SyncStatus.MISSING]


def test_two_disagreements_that_differ_confirm_nothing() -> None:
    of = reconciler()
    of.judge(snapshot("1"), ONE, 5)
    of.judge(snapshot("0.5"), ONE, 5)
    verdict = of.judge(snapshot("0.7"), ONE, 5)
    assert (verdict.status, verdict.suspected) == (SyncStatus.OK, True)


def test_a_position_that_the_book_does_not_have_is_a_mismatch() -> None:
    of = reconciler()
    of.judge(snapshot("1"), Decimal(0), 5)
    assert of.judge(snapshot("1"), Decimal(0), 5).status is SyncStatus.MISMATCH


def test_a_disagreement_that_stays_while_both_move_is_confirmed() -> None:
    of = reconciler()
    of.judge(snapshot("0.5"), ONE, 5)
    assert of.judge(snapshot("1.5", 6), Decimal(2), 6).status is SyncStatus.MISMATCH


def test_agreement_between_two_disagreements_starts_anew() -> None:
    of = reconciler()
    for qty in ("0.5", "1", "0.5"):
        verdict = of.judge(snapshot(qty), ONE, 5)
    assert (verdict.status, verdict.suspected) == (SyncStatus.OK, True)


def test_agreement_clears_a_confirmed_mismatch() -> None:
    of = reconciler()
    for qty in ("0.5", "0.5", "1"):
        verdict = of.judge(snapshot(qty), ONE, 5)
    assert (verdict.status, verdict.suspected) == (SyncStatus.OK, False)


@pytest.mark.parametrize(("before", "after", "book"), [(5, 6, 6), (5, 6, 5), (5, 5, 4), (5, 5, 6)])
def test_a_snapshot_with_an_event_under_way_counts_for_nothing(before: int, after: int, book: int) -> None:
    of = reconciler()
    for _ in range(3):
        verdict = of.judge(snapshot("0", before, after), ONE, book)
        assert (verdict.status, verdict.counts, verdict.suspected) == (SyncStatus.UNKNOWN, False, False)


@pytest.mark.parametrize(("qty", "book"), [("1.0009", "1"), ("0", "0.009"), ("-0.009", "0.009")])
def test_what_could_not_be_traded_is_no_disagreement(qty: str, book: str) -> None:
    assert reconciler().judge(snapshot(qty), Decimal(book), 5).status is SyncStatus.OK


def test_a_snapshot_of_another_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="ETH/USDT"):
        reconciler().judge(snapshot("1", symbol="ETH/USDT"), ONE, 5)


@given(st.lists(st.tuples(st.sampled_from(["0", "0.5", "1", "2"]), st.booleans()), max_size=30))
def test_the_status_is_that_of_the_last_word_that_was_said_twice_or_agreed(said: list[tuple[str, bool]]) -> None:
    of = reconciler()
    expected, last = SyncStatus.UNKNOWN, ""
    for qty, counts in said:
        verdict = of.judge(snapshot(qty, 5, 5 if counts else 6), ONE, 5)
        if counts:
            if qty == "1":
                expected = SyncStatus.OK
            elif qty == last:
                expected = SyncStatus.MISSING if qty == "0" else SyncStatus.MISMATCH
            last = qty
        assert verdict.status is expected


def test_another_difference_is_suspected_anew_whatever_was_believed_before() -> None:
    """A reading that lags behind a trade adds to a difference that is true."""
    of = Reconciler("BTC/USDT", Decimal("0.001"), confirm_after_s=5.0)
    of.judge(snapshot("1.3"), ONE, 5, now_s=0.0)
    assert not of.judge(snapshot("1.3"), ONE, 5, now_s=5.0).suspected
    lagging = of.judge(snapshot("1.3"), Decimal(0), 5, now_s=6.0)
    assert (lagging.status, lagging.suspected) == (SyncStatus.MISMATCH, True)
    found = [of.judge(snapshot("0.3"), Decimal(0), 5, now_s=now_s).suspected for now_s in (7.0, 11.9, 12.0)]
    assert found == [True, True, False]
