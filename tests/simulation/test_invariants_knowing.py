"""Each promise about what is known and written down is shown a history that breaks it, and one that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tbh.messages.account import SyncStatus
from tbh.messages.orders import OrderStatus
from tbh.ports import Batch
from tbh.simulation import knowing, steps
from tests.simulation.story import BOOT, RIVAL, fill, state
from tests.simulation.words import (
    CANCELED,
    ENTRY,
    EXIT,
    FILLED,
    FOREIGN,
    HALF_SOLD,
    RECORDED,
    Case,
    Tell,
    acknowledged,
    believes,
    breaks,
    committed,
    ended,
    failed,
    keeps,
    later,
    lease,
    lie,
    owns,
    synced,
)

WRITTEN_DONE = steps.Committed(boot=BOOT, store_id="d", batch=Batch(actions=[("flatten:2", "done", "")]), keys={})

CASES: list[Case] = [
    (
        "transitions_are_legal",
        lambda s: s.moves(RECORDED, "rejected", FILLED),
        lambda s: s.moves(replace(RECORDED, status=OrderStatus.SUBMITTED), "last_fill", FILLED),
    ),
    (
        "an_end_is_left_only_on_proof",
        lambda s: s.moves(CANCELED, "silence", state(ENTRY, OrderStatus.UNKNOWN, version=2)),
        lambda s: s.moves(CANCELED, "last_fill", FILLED),
    ),
    (
        "an_end_is_left_only_on_proof",
        lambda s: s.moves(RECORDED, "silence", state(ENTRY, OrderStatus.REJECTED, version=2)),
        lambda s: s.moves(RECORDED, "silence", state(ENTRY, OrderStatus.UNKNOWN, version=2)),
    ),
    (
        "filled_quantity_never_shrinks",
        lambda s: s.moves(state(ENTRY, OrderStatus.PARTIALLY_FILLED, filled="0.5"), "canceled",
                          state(ENTRY, OrderStatus.CANCELED, version=2, filled="0.4")),
        lambda s: s.moves(state(ENTRY, OrderStatus.PARTIALLY_FILLED, filled="0.5"), "canceled",
                          state(ENTRY, OrderStatus.CANCELED, version=2, filled="0.5")),
    ),
    (
        "filled_quantity_never_shrinks",
        lambda s: s.moves(RECORDED, "last_fill", replace(FILLED, version=1)),
        lambda s: s.moves(RECORDED, "last_fill", None),
    ),
    (
        "the_outbox_is_applied_in_order",
        lambda s: s.tell(committed("a", "b"), synced("b", first=2)),
        lambda s: s.tell(committed("a", "b"), synced("a"), synced("b", first=2)),
    ),
    (
        "the_outbox_is_applied_in_order",
        lambda s: s.tell(committed("a"), synced("a"), synced("a")),
        lambda s: s.tell(committed("a"), synced("a"), synced()),
    ),
    (
        "the_outbox_is_applied_in_order",
        lambda s: s.tell(committed("a"), synced("b")),
        lambda s: s.tell(committed("a"), synced("a")),
    ),
    (
        "the_database_refuses_nothing",
        lambda s: s.tell(committed("a"), synced("a", refused=(1,))),
        lambda s: s.tell(committed("a"), synced("a")),
    ),
    (
        "an_applied_entry_is_never_rewritten",
        lambda s: s.tell(committed("a", "b"), synced("a"), committed("c")),
        lambda s: s.tell(committed("a", "b"), synced("a"), committed("c", first=2)),
    ),
    (
        "one_owner_at_a_time",
        lambda s: s.tell(lease(BOOT, 1), lease(RIVAL, 2, former=BOOT, left_s=0.1)),
        lambda s: ended(s.tell(lease(BOOT, 1)), 0).tell(lease(RIVAL, 2, former=BOOT, left_s=0.1, named=True)),
    ),
    (
        "one_owner_at_a_time",
        lambda s: s.tell(lease(BOOT, 2), lease(RIVAL, 2, former=BOOT)),
        lambda s: s.tell(lease(BOOT, 1), lease(RIVAL, 2, former=BOOT)),
    ),
    (
        "one_owner_at_a_time",
        lambda s: s.tell(lease(BOOT, 1), lease(RIVAL, 2, former=BOOT, named=True)),
        lambda s: ended(s.tell(lease(BOOT, 1)), None).tell(lease(RIVAL, 2, former=BOOT, named=True)),
    ),
    (
        "two_never_believe_in_the_lease",
        lambda s: later(s.tell(lease(BOOT, 1), owns(5)), 4.9).tell(lease(RIVAL, 2, former=BOOT)),
        lambda s: later(s.tell(lease(BOOT, 1), owns(5)), 5.1).tell(lease(RIVAL, 2, former=BOOT)),
    ),
    (
        "two_never_believe_in_the_lease",
        lambda s: s.tell(lease(BOOT, 1), owns(5), lease(RIVAL, 2, former=BOOT)),
        lambda s: s.tell(lease(BOOT, 1), owns(5), lease(RIVAL, 2)),
    ),
    (
        "the_lease_is_not_believed_in_too_long",
        lambda s: s.tell(owns(5, left_s=4.9)),
        lambda s: s.tell(owns(4.9, left_s=5), owns(-1, left_s=0)),
    ),
    (
        "the_lease_is_not_believed_in_too_long",
        lambda s: s.tell(owns(4, left_s=0)),
        lambda s: s.tell(owns(4, left_s=0, given_back=True)),
    ),
    (
        "only_the_owner_acknowledges",
        lambda s: acknowledged(s.tell(lease(RIVAL, 2))),
        acknowledged,
    ),
    (
        "a_disagreement_is_never_imagined",
        lambda s: believes(s, SyncStatus.MISSING),
        lambda s: believes(s.tell(FOREIGN), SyncStatus.MISSING),
    ),
    (
        "a_disagreement_is_never_imagined",
        lambda s: believes(later(s.tell(FOREIGN), 21), SyncStatus.MISMATCH),
        lambda s: believes(later(s.tell(FOREIGN), 19), SyncStatus.MISMATCH),
    ),
    (
        "a_disagreement_is_never_imagined",
        lambda s: believes(later(s.bought(ENTRY).tell(lie("e0")), 21), SyncStatus.MISMATCH),
        lambda s: believes(later(s.arrives(ENTRY).tell(lie("e0")), 21), SyncStatus.MISMATCH),
    ),
    (
        "a_flatten_is_done_when_it_is_acknowledged",
        lambda s: acknowledged(later(s.bought(ENTRY).tell(HALF_SOLD), 6)),
        lambda s: acknowledged(later(later(s.bought(ENTRY), 2).tell(HALF_SOLD), 4)),
    ),
    (
        "a_flatten_is_done_when_it_is_acknowledged",
        lambda s: acknowledged(later(s.bought(ENTRY), 6)),
        lambda s: acknowledged(later(s.bought(ENTRY), 4)),
    ),
    (
        "a_flatten_is_done_when_it_is_acknowledged",
        lambda s: acknowledged(later(s.bought(ENTRY), 6).arrives(EXIT)),
        lambda s: acknowledged(later(s.bought(ENTRY), 6).arrives(EXIT).fills(fill(EXIT, "t2", "0.995"))),
    ),
    (
        "a_flatten_is_done_when_it_is_acknowledged",
        lambda s: acknowledged(later(s.bought(ENTRY).tell(WRITTEN_DONE), 6)),
        lambda s: acknowledged(later(s.tell(WRITTEN_DONE).bought(ENTRY), 6)),
    ),
    ("no_actor_fails_by_itself", failed, lambda s: failed(s, injected=True)),
    ("no_actor_fails_by_itself", failed, lambda s: failed(s, "Fatal: lease_lost: stale_epoch")),
    ("a_process_ends_with_a_word", lambda s: ended(s, 1), lambda s: ended(s, None)),
    (
        "a_process_ends_with_a_word",
        lambda s: ended(s.tell(lease(BOOT, 1)), 75),
        lambda s: ended(s.tell(lease(BOOT, 1), lease(RIVAL, 2)), 75),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "breaking", "_"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_history_that_breaks_the_promise_is_found_out(name: str, breaking: Tell, _: Tell) -> None:
    assert name in breaks(breaking)


@pytest.mark.parametrize(("name", "_", "lawful"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_the_nearest_lawful_history_is_let_pass(name: str, _: Tell, lawful: Tell) -> None:
    assert keeps(lawful, name)


def test_every_promise_about_what_is_known_is_shown_a_history_that_breaks_it() -> None:
    assert {name for name, _, _ in CASES} == {each.name for each in knowing.INVARIANTS}
