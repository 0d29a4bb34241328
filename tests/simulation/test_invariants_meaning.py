"""Each promise about what a process does by what it knows is shown a history that breaks it, and one that does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.messages.account import SyncStatus
from tbh.messages.orders import Order, OrderStatus, Purpose
from tbh.ports import Batch
from tbh.simulation import inside, meaning, steps
from tests.simulation.story import BOOT, MARKET, NOW, RIVAL, TERMS, Story, fill, order, state
from tests.simulation.words import (
    ENTRY,
    ENTRY_F,
    EXIT,
    LATER,
    STOP,
    Case,
    Tell,
    approved,
    breaks,
    ended,
    keeps,
    later,
    lease,
    lie,
)

FLATTEN = order("f0", Purpose.FLATTEN)
CLOSED = inside.ControlsHeard(boot=BOOT, closed=True)
HALT = inside.Halted(boot=BOOT)
OUSTED = inside.DatabaseRefused(boot=BOOT, owned=True)
BUSY = replace(OUSTED, busy=True)
REVOKED = inside.DatabaseRefused(boot=BOOT, owned=False)
ALIVE = state(ENTRY, OrderStatus.ACCEPTED)
UNSENT = state(ENTRY, OrderStatus.RECORDED)
CANCELED = state(ENTRY, OrderStatus.CANCELED, version=2)
DIED = steps.BootEnded(boot=RIVAL, exit_code=None)


def forgets_stop(story: Story, boot: str) -> Story:
    """It has failed to write down what it has sent."""
    return story.signs(STOP, boot, recorded=False, store_faulted=True).arrives(STOP, boot)


def withdraws_stop(story: Story, status: OrderStatus = OrderStatus.DRAFTED) -> Story:
    return story.moves(state(STOP, status), "canceled", state(STOP, OrderStatus.CANCELED, version=2))


def means(of: Order, held: str, closing: str = "0", beside: tuple[str, ...] = ()) -> inside.OrderMeant:
    return inside.OrderMeant(boot=BOOT, order=of, held=Decimal(held), closing=Decimal(closing), beside=beside)


def looks(story: Story, *seconds: float, bare: str | None = None, left: str | None = None) -> Story:
    for each in seconds:
        later(story, each).tell(inside.Looked(boot=BOOT, bare=bare, left=left))
    return story


def holds(story: Story, qty: str) -> Story:
    return story.tell(inside.PositionHeld(boot=BOOT, qty=Decimal(qty)))


def refuses_exit(story: Story) -> Story:
    return story.tell(inside.ExitRefused(boot=BOOT, proposal_id="p", selling=True))


def enters_again(story: Story) -> Story:
    """Nobody has heard of it yet."""
    return story.arrives(ENTRY_F).fills(fill(ENTRY_F, "t3"))


def denied(story: Story, of: Order) -> Story:
    """The exchange does not find it, and that is believed."""
    return story.moves(state(of, OrderStatus.UNKNOWN), "not_found", state(of, OrderStatus.ABSENT, version=2))


def reads(story: Story, qty: str, read: str | None, *, torn: bool = False) -> Story:
    answered = None if read is None else Decimal(read)
    return story.tell(inside.SnapshotTold(boot=BOOT, qty=Decimal(qty), read=answered, torn=torn, at=NOW))


def concludes(story: Story) -> Story:
    return story.tell(steps.PositionTold(boot=BOOT, status=SyncStatus.OK, at=NOW))


def calls_recorded(*, stored: bool, overtaken: bool = False) -> inside.CalledRecorded:
    return inside.CalledRecorded(boot=BOOT, decision_id="d", stored=stored, overtaken=overtaken)


def commits(story: Story, **fields: Any) -> Story:
    made: dict[str, Any] = {"boot": BOOT, "store_id": "d", "batch": Batch(), "keys": {}}
    return story.tell(steps.Committed(**made | fields))


def cancels(story: Story) -> Story:
    return story.tell(inside.CancelSent(boot=BOOT, client_order_id="s0"))


CASES: list[Case] = [
    (
        "closing_orders_fit_the_position",
        lambda s: s.tell(means(EXIT, "0.5")),
        lambda s: s.tell(means(EXIT, "1")),
    ),
    (
        "closing_orders_fit_the_position",
        lambda s: s.tell(means(EXIT, "-1")),
        lambda s: s.tell(means(ENTRY, "0")),
    ),
    (
        "no_entry_stays_beside_an_exit",
        lambda s: s.tell(means(FLATTEN, "1", beside=("e0",))),
        lambda s: s.tell(means(STOP, "1", beside=("e0",))),
    ),
    (
        "a_bare_position_is_seen_to",
        lambda s: looks(s, 0.0, 2.0, 2.0, bare="p"),
        lambda s: looks(looks(s, 0.0, bare="p"), 2.0, 2.0, bare="q"),
    ),
    (
        "a_failed_exit_is_tried_again",
        lambda s: looks(s, 0.0, 2.0, 2.0, left="x0"),
        lambda s: looks(looks(looks(s, 0.0, left="x0"), 2.0), 2.0, left="x0"),
    ),
    (
        "an_exit_is_let_through",
        lambda s: refuses_exit(later(holds(s.bought(ENTRY), "1"), 3.0)),
        lambda s: refuses_exit(holds(s.bought(ENTRY), "1")),
    ),
    (
        "an_exit_is_let_through",
        lambda s: refuses_exit(later(holds(s.bought(ENTRY), "1"), 3.0)),
        lambda s: refuses_exit(later(holds(s, "1"), 3.0)),
    ),
    (
        "an_exit_is_let_through",
        lambda s: refuses_exit(enters_again(later(holds(s.bought(ENTRY), "1"), 3.0))),
        lambda s: refuses_exit(enters_again(later(holds(s.bought(ENTRY), "1"), 3.0).fills(fill(EXIT, "t2")))),
    ),
    (
        "a_snapshot_is_the_exchanges_word",
        lambda s: reads(s, "0", None),
        lambda s: reads(s, "0", "0"),
    ),
    (
        "a_comparison_is_of_one_instant",
        lambda s: concludes(reads(s, "1", "1", torn=True)),
        lambda s: concludes(reads(s, "1", "1")),
    ),
    (
        "what_is_called_recorded_is_on_disk",
        lambda s: s.tell(calls_recorded(stored=False)),
        lambda s: s.tell(calls_recorded(stored=True)),
    ),
    (
        "what_is_called_recorded_is_on_disk",
        lambda s: s.tell(calls_recorded(stored=True), calls_recorded(stored=False)),
        lambda s: s.tell(calls_recorded(stored=True), calls_recorded(stored=False, overtaken=True)),
    ),
    (
        "what_is_called_recorded_is_on_disk",
        lambda s: s.tell(calls_recorded(stored=False, overtaken=True)),
        lambda s: s.tell(calls_recorded(stored=True), calls_recorded(stored=False, overtaken=True)),
    ),
    (
        "the_account_is_read_without_a_gap",
        lambda s: commits(s.bought(ENTRY), read_up_to=1),
        lambda s: commits(s.bought(ENTRY), read_up_to=1, batch=Batch(fills=[fill(ENTRY)])),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: s.arrives(ENTRY).moves(ALIVE, "canceled", CANCELED),
        lambda s: s.arrives(ENTRY).ends(ENTRY, OrderStatus.CANCELED).moves(ALIVE, "canceled", CANCELED),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: s.arrives(ENTRY).moves(ALIVE, "canceled", CANCELED),
        lambda s: s.arrives(ENTRY).tell(lie("e0")).moves(ALIVE, "canceled", CANCELED),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: s.arrives(ENTRY).tell(lease(RIVAL, 2)).moves(ALIVE, "canceled", CANCELED),
        lambda s: s.arrives(ENTRY).tell(lease(RIVAL, 2)).moves(UNSENT, "canceled", CANCELED),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: s.arrives(ENTRY).moves(UNSENT, "canceled", CANCELED),
        lambda s: s.moves(UNSENT, "canceled", CANCELED),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: denied(s.signs(EXIT, RIVAL).arrives(EXIT, RIVAL), EXIT),
        lambda s: denied(s.tell(lease(BOOT, 2)).signs(EXIT, RIVAL).arrives(EXIT, RIVAL), EXIT),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: denied(s.tell(lease(BOOT, 2)).signs(ENTRY, RIVAL).arrives(ENTRY, RIVAL), ENTRY),
        lambda s: denied(s.tell(lease(BOOT, 2)).signs(EXIT, RIVAL).arrives(EXIT, RIVAL), EXIT),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: withdraws_stop(s.signs(STOP, RIVAL).arrives(STOP, RIVAL).tell(DIED)),
        lambda s: withdraws_stop(forgets_stop(s, RIVAL).tell(DIED)),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: withdraws_stop(forgets_stop(s, RIVAL)),
        lambda s: withdraws_stop(forgets_stop(s, RIVAL).tell(DIED)),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: withdraws_stop(forgets_stop(s, BOOT).tell(DIED)),
        lambda s: withdraws_stop(forgets_stop(s, RIVAL).tell(DIED)),
    ),
    (
        "a_standing_order_is_not_taken_for_ended",
        lambda s: withdraws_stop(forgets_stop(s, RIVAL).tell(DIED), OrderStatus.SUBMITTED),
        lambda s: withdraws_stop(forgets_stop(s, RIVAL).tell(DIED)),
    ),
    (
        "no_entry_is_approved_against_the_operator",
        lambda s: approved(later(s.tell(CLOSED), 1.0)),
        lambda s: approved(later(s.tell(CLOSED, replace(CLOSED, closed=False)), 1.0)),
    ),
    (
        "a_halt_is_heeded",
        lambda s: later(s.tell(HALT), 2.0).signs(ENTRY),
        lambda s: later(s.tell(HALT), 2.0).signs(EXIT),
    ),
    (
        "no_entry_is_approved_after_a_halt",
        lambda s: approved(later(s.tell(HALT), 1.0)),
        lambda s: approved(later(approved(s).tell(HALT), 1.0)),
    ),
    (
        "a_refused_process_is_quiet",
        lambda s: later(s.tell(OUSTED), 1.0).signs(EXIT),
        lambda s: later(s.tell(REVOKED), 1.0).signs(EXIT),
    ),
    (
        "a_refused_process_is_quiet",
        lambda s: later(s.tell(REVOKED), 1.0).signs(ENTRY),
        lambda s: s.tell(REVOKED).signs(ENTRY),
    ),
    (
        "a_refused_process_is_quiet",
        lambda s: later(s.tell(BUSY), 1.0).signs(STOP).signs(EXIT),
        lambda s: later(s.tell(BUSY), 1.0).signs(STOP),
    ),
    (
        "an_ousted_process_cancels_nothing",
        lambda s: cancels(later(s.tell(OUSTED), 1.0)),
        lambda s: cancels(later(s.tell(REVOKED), 1.0)),
    ),
    (
        "an_ousted_process_cancels_nothing",
        lambda s: cancels(cancels(later(s.tell(BUSY), 1.0))),
        lambda s: cancels(later(s.tell(BUSY), 1.0)),
    ),
    (
        "a_refused_token_is_the_last_word",
        lambda s: ended(s, 77),
        lambda s: ended(s.tell(REVOKED), 77),
    ),
    (
        "a_refused_token_is_the_last_word",
        lambda s: ended(s.tell(REVOKED), 70),
        lambda s: ended(s.tell(HALT, REVOKED), 70),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "breaking", "_"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_history_that_breaks_the_promise_is_found_out(name: str, breaking: Tell, _: Tell) -> None:
    assert name in breaks(breaking)


@pytest.mark.parametrize(("name", "_", "lawful"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_the_nearest_lawful_history_is_let_pass(name: str, _: Tell, lawful: Tell) -> None:
    assert keeps(lawful, name)


def test_every_promise_about_what_a_process_does_is_shown_a_history_that_breaks_it() -> None:
    assert {name for name, _, _ in CASES} == {each.name for each in meaning.INVARIANTS}


def test_orders_that_close_add_up_only_where_the_exchange_does_not_hold_them_to_reducing() -> None:
    both = means(STOP, "1", closing="0.6")
    assert Story().tell(both).broken == set()
    spot = replace(TERMS, market=replace(MARKET, enforces_reduce_only=False))
    assert Story(spot).tell(both).broken == {"closing_orders_fit_the_position"}
    assert Story(spot).tell(replace(both, closing=Decimal("0.5"))).broken == set()


def test_a_position_that_the_exchange_lies_about_may_be_believed_to_differ() -> None:
    told = steps.PositionTold(boot=BOOT, status=SyncStatus.MISMATCH)
    assert later(Story(), 60.0).tell(told).broken == {"a_disagreement_is_never_imagined"}
    assert later(Story(), 60.0).tell(inside.PositionLied(qty=Decimal(1)), told).broken == set()


def test_a_disagreement_that_is_told_again_is_no_new_one() -> None:
    told = steps.PositionTold(boot=BOOT, status=SyncStatus.MISMATCH, at=NOW)
    story = Story().tell(inside.PositionLied(qty=Decimal(1)), told)
    assert later(story, 60.0).tell(told).broken == set()
    assert story.tell(replace(told, at=LATER)).broken == {"a_disagreement_is_never_imagined"}
