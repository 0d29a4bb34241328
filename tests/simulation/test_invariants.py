"""Each promise about what is sent is shown a history that breaks it, and the nearest one that does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tbh.messages.account import SyncStatus
from tbh.messages.orders import OrderStatus, Purpose, Side
from tbh.simulation import inside, knowing, meaning, steps
from tbh.simulation.invariants import INVARIANTS
from tests.simulation.story import BOOT, RIVAL, Story, fill, order, state
from tests.simulation.words import (
    AGAIN,
    DAMAGED,
    DOUBLE,
    ENTRY,
    ENTRY_F,
    EXIT,
    FILLED,
    FOREIGN,
    HALF_SOLD,
    LATER,
    STOP,
    Case,
    Tell,
    again,
    approved,
    believes,
    breaks,
    controls,
    drafts,
    ended,
    forgets,
    gated,
    keeps,
    later,
    lease,
    lie,
    ousted,
    over,
    restarted,
    unrecorded,
)

CASES: list[Case] = [
    (
        "recorded_before_sent",
        lambda s: s.signs(ENTRY, recorded=False, store_faulted=True),
        lambda s: s.signs(EXIT, recorded=False, store_faulted=True),
    ),
    (
        "recorded_before_sent",
        lambda s: s.signs(EXIT, recorded=False),
        lambda s: s.signs(EXIT, recorded=False, escape=True),
    ),
    ("signed_once", lambda s: s.signs(ENTRY).signs(ENTRY), lambda s: s.signs(ENTRY).signs(AGAIN)),
    (
        "signed_once",
        lambda s: restarted(s.signs(EXIT)).signs(EXIT, boot="b3"),
        lambda s: restarted(s.signs(EXIT, recorded=False, store_faulted=True)).signs(EXIT, boot="b3"),
    ),
    (
        "signed_once",
        lambda s: restarted(s.signs(ENTRY)).signs(ENTRY, boot="b3"),
        lambda s: s.signs(ENTRY).signs(ENTRY, boot=RIVAL),
    ),
    (
        "signed_once",
        lambda s: restarted(s.signs(ENTRY)).signs(ENTRY, boot="b3"),
        lambda s: restarted(s.signs(ENTRY).tell(DAMAGED)).signs(ENTRY, boot="b3"),
    ),
    (
        "one_effect_per_id",
        lambda s: s.arrives(ENTRY).ends(ENTRY, OrderStatus.CANCELED).arrives(ENTRY),
        lambda s: s.arrives(ENTRY).arrives(ENTRY, effect=steps.Effect.REPEATED),
    ),
    (
        "signed_once",
        lambda s: restarted(unrecorded(s).tell(drafts(EXIT))).signs(EXIT, boot="b3"),
        lambda s: restarted(unrecorded(s).tell(drafts(ENTRY))).signs(EXIT, boot="b3"),
    ),
    (
        "signed_once",
        lambda s: unrecorded(s).tell(drafts(EXIT)).signs(EXIT),
        lambda s: unrecorded(s).tell(replace(drafts(EXIT), boot=RIVAL)).signs(EXIT, boot=RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(s.arrives(STOP), DOUBLE),
        lambda s: again(s.arrives(STOP), replace(STOP, created_at=LATER)),
    ),
    (
        "one_request_per_id",
        lambda s: again(s.arrives(STOP), replace(STOP, stop_price=Decimal(90))),
        lambda s: again(over(s.arrives(STOP)), STOP),
    ),
    (
        "one_request_per_id",
        lambda s: again(over(s.arrives(STOP)), replace(STOP, stop_price=Decimal(90))),
        lambda s: again(over(s.arrives(STOP)), replace(STOP, created_at=LATER)),
    ),
    (
        "one_request_per_id",
        lambda s: again(s.arrives(STOP).tell(lease(RIVAL, 1)), DOUBLE, RIVAL),
        lambda s: again(s.arrives(STOP).tell(lease(RIVAL, 1)), DOUBLE),
    ),
    (
        "one_request_per_id",
        lambda s: again(ousted(s, STOP), DOUBLE, RIVAL),
        lambda s: again(over(ousted(s, STOP)), DOUBLE, RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(ousted(s, STOP), replace(STOP, side=Side.BUY), RIVAL),
        lambda s: again(ousted(s, STOP), replace(STOP, stop_price=Decimal(90)), RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(over(s.signs(STOP).tell(lease(RIVAL, 1)).arrives(STOP)), DOUBLE, RIVAL),
        lambda s: again(over(ousted(s, STOP)), STOP, RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(later(ousted(s, EXIT), 11), replace(EXIT, side=Side.BUY), RIVAL),
        lambda s: again(later(ousted(s, EXIT), 11), replace(EXIT, qty=Decimal(2)), RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(later(ousted(later(s, 3), EXIT), 9), replace(EXIT, qty=Decimal(2)), RIVAL),
        lambda s: again(later(ousted(later(s, 3), EXIT), 9), EXIT, RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(ended(forgets(s, STOP), None), DOUBLE, RIVAL),
        lambda s: again(ended(over(forgets(s, STOP)), None), DOUBLE, RIVAL),
    ),
    (
        "one_request_per_id",
        lambda s: again(ended(over(forgets(s, STOP)).tell(drafts(STOP)), None), DOUBLE, RIVAL),
        lambda s: again(ended(over(forgets(s, STOP)), None).tell(replace(drafts(DOUBLE), boot=RIVAL)), DOUBLE, RIVAL),
    ),
    (
        "the_dead_send_nothing",
        lambda s: ended(s, None).signs(EXIT),
        lambda s: ended(s, None).signs(EXIT, boot=RIVAL),
    ),
    (
        "one_live_order_per_intent",
        lambda s: s.arrives(ENTRY).arrives(AGAIN),
        lambda s: s.arrives(ENTRY).ends(ENTRY, OrderStatus.CANCELED).arrives(AGAIN),
    ),
    (
        "one_live_order_per_intent",
        lambda s: s.signs(EXIT).arrives(EXIT).arrives(order("x1", Purpose.EXIT)),
        lambda s: s.signs(EXIT, recorded=False, store_faulted=True).arrives(EXIT).arrives(order("x1", Purpose.EXIT)),
    ),
    (
        "one_live_order_per_intent",
        lambda s: s.arrives(ENTRY).tell(lie("e2")).arrives(AGAIN),
        lambda s: s.arrives(ENTRY).tell(lie("e0")).arrives(AGAIN),
    ),
    (
        "one_live_order_per_intent",
        lambda s: unrecorded(s).arrives(EXIT).tell(drafts(EXIT)).arrives(order("x1", Purpose.EXIT)),
        lambda s: unrecorded(s).arrives(EXIT).arrives(order("x1", Purpose.EXIT)),
    ),
    (
        "attempts_follow_each_other",
        lambda s: s.arrives(AGAIN).ends(AGAIN, OrderStatus.CANCELED).arrives(ENTRY),
        lambda s: s.arrives(AGAIN).ends(AGAIN, OrderStatus.CANCELED).arrives(ENTRY, effect=steps.Effect.REFUSED),
    ),
    (
        "entries_need_the_lease",
        lambda s: s.arrives(ENTRY, leased=False),
        lambda s: s.arrives(EXIT, leased=False),
    ),
    ("entries_come_in_time", lambda s: s.arrives(ENTRY, late_s=0.001), lambda s: s.arrives(ENTRY, late_s=-0.001)),
    (
        "no_entry_is_approved_while_gated",
        lambda s: approved(s.tell(gated("stale_data"))),
        lambda s: approved(s.tell(gated("stale_data"), gated())),
    ),
    (
        "no_entry_is_approved_while_gated",
        lambda s: approved(s.tell(gated("disk_full"))),
        lambda s: approved(approved(s).tell(gated("disk_full"))),
    ),
    (
        "no_entry_leaves_through_a_closed_gate",
        lambda s: later(s.tell(gated("paused")), 1.1).signs(ENTRY),
        lambda s: later(s.tell(gated("paused")), 0.9).signs(ENTRY),
    ),
    (
        "no_entry_leaves_through_a_closed_gate",
        lambda s: later(s.tell(gated("killed", "order_unknown")), 60).signs(ENTRY),
        lambda s: later(s.tell(gated("killed", "order_unknown")), 60).signs(EXIT),
    ),
    (
        "no_entry_is_approved_while_the_position_is_in_doubt",
        lambda s: approved(later(believes(s.tell(FOREIGN), SyncStatus.MISMATCH), 2)),
        lambda s: approved(believes(later(believes(s.tell(FOREIGN), SyncStatus.MISMATCH), 2), SyncStatus.OK)),
    ),
    (
        "operators_are_obeyed",
        lambda s: later(controls(controls(s, paused=True), killed=True), 21).arrives(ENTRY),
        lambda s: later(controls(s, paused=True), 21).arrives(EXIT),
    ),
    (
        "operators_are_obeyed",
        lambda s: later(controls(s, killed=True), 21).arrives(ENTRY),
        lambda s: later(controls(controls(s, killed=True)), 21).arrives(ENTRY),
    ),
    (
        "no_order_is_too_small",
        lambda s: s.signs(order("x0", Purpose.EXIT, qty=Decimal("0.009"))),
        lambda s: s.signs(order("x0", Purpose.EXIT, qty=Decimal("0.01"))),
    ),
    (
        "no_order_is_too_small",
        lambda s: s.signs(order("x0", Purpose.EXIT, qty=Decimal("0.0105"))),
        lambda s: s.signs(order("x0", Purpose.EXIT, qty=Decimal("0.011"))),
    ),
    (
        "exits_are_marked",
        lambda s: s.signs(order("x0", Purpose.EXIT, reduce_only=False)),
        lambda s: s.signs(ENTRY),
    ),
    (
        "foreign_orders_are_left_alone",
        lambda s: s.tell(steps.CancelArrived(boot=BOOT, client_order_id="web_1", ours=False)),
        lambda s: s.tell(steps.CancelArrived(boot=BOOT, client_order_id="e0", ours=True)),
    ),
    (
        "exposure_stays_within_its_limit",
        lambda s: s.bought(ENTRY).arrives(order("p0", Purpose.PYRAMID, qty=Decimal("0.011"))),
        lambda s: s.bought(ENTRY).arrives(order("f0", side=Side.SELL, qty=Decimal(2))),
    ),
    (
        "exposure_stays_within_its_limit",
        lambda s: s.arrives(ENTRY).arrives(order("f0")),
        lambda s: s.arrives(ENTRY).ends(ENTRY, OrderStatus.CANCELED).arrives(order("f0")),
    ),
    (
        "exits_never_flip",
        lambda s: s.bought(ENTRY).arrives(order("x0", Purpose.EXIT, qty=Decimal(2))).fills(fill(EXIT, "t2", "1.001")),
        lambda s: s.bought(ENTRY).arrives(EXIT).fills(fill(EXIT, "t2", "1")),
    ),
    (
        "exposure_stays_within_its_limit",
        lambda s: s.tell(lie("e0")).bought(ENTRY).tell(FOREIGN).arrives(ENTRY_F).arrives(order("g0")),
        lambda s: s.tell(lie("e0")).bought(ENTRY).arrives(ENTRY_F),
    ),
    (
        "exits_never_flip",
        lambda s: s.bought(ENTRY).tell(FOREIGN).arrives(EXIT).fills(fill(EXIT, "t2", "1")),
        lambda s: s.bought(ENTRY).tell(HALF_SOLD).arrives(EXIT).fills(fill(EXIT, "t2", "0.5")),
    ),
    (
        "exits_never_flip",
        lambda s: s.tell(lie("x0")).bought(ENTRY).arrives(EXIT).fills(fill(EXIT, "t2", "1.1")),
        lambda s: s.tell(lie("x0")).bought(ENTRY).arrives(EXIT).fills(fill(EXIT, "t2", "1")),
    ),
    (
        "exits_never_flip",
        lambda s: s.arrives(STOP).fills(fill(STOP, "t2", "0.1")),
        lambda s: s.bought(ENTRY).arrives(STOP).fills(fill(STOP, "t2", "0.1")),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "breaking", "_"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_history_that_breaks_the_promise_is_found_out(name: str, breaking: Tell, _: Tell) -> None:
    assert name in breaks(breaking)


@pytest.mark.parametrize(("name", "_", "lawful"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_the_nearest_lawful_history_is_let_pass(name: str, _: Tell, lawful: Tell) -> None:
    assert keeps(lawful, name)


def test_every_promise_about_a_step_is_shown_a_history_that_breaks_it() -> None:
    of_a_step = {each.name for each in INVARIANTS if each.on is not steps.AtRest}
    elsewhere = {each.name for each in (*knowing.INVARIANTS, *meaning.INVARIANTS)}
    assert {name for name, _, _ in CASES} | elsewhere == of_a_step


def test_every_promise_is_a_sentence_of_its_own() -> None:
    promises = [each.promise for each in INVARIANTS]
    assert len(set(promises)) == len({each.name for each in INVARIANTS}) == len(INVARIANTS)
    assert [promise for promise in promises if not promise.endswith(".")] == []


def test_a_lie_of_the_exchange_excuses_a_second_order_of_its_intent_and_no_other() -> None:
    lie = steps.Lied(client_order_id="e0", intent_id="e", qty=Decimal(1))
    assert Story().arrives(ENTRY).tell(lie).arrives(AGAIN).broken == set()
    assert Story().arrives(ENTRY).tell(lie).arrives(AGAIN).arrives(order("f0")).broken == {
        "exposure_stays_within_its_limit"
    }


def test_a_foreign_trade_makes_room_and_never_takes_it() -> None:
    sold = steps.ForeignTrade(trade_id="f1", qty=Decimal(-1), cash=Decimal(100))
    bought = steps.ForeignTrade(trade_id="f1", qty=Decimal(1), cash=Decimal(-100))
    assert Story().bought(ENTRY).tell(sold).arrives(order("f0")).broken == set()
    assert Story().tell(bought).arrives(ENTRY).broken == set()
    assert Story().tell(bought).bought(ENTRY).arrives(order("f0")).broken == {"exposure_stays_within_its_limit"}


def test_a_foreign_trade_of_a_position_that_was_known_to_be_over_makes_no_room_and_takes_none() -> None:
    sold = steps.ForeignTrade(trade_id="f1", qty=Decimal(-1), cash=Decimal(100))
    bought = steps.ForeignTrade(trade_id="f2", qty=Decimal(1), cash=Decimal(-100))
    flat = inside.PositionHeld(boot=BOOT, qty=Decimal(0))
    limit = {"exposure_stays_within_its_limit"}
    assert Story().bought(ENTRY).tell(sold, flat, bought).arrives(order("f0")).broken == set()
    assert Story().bought(ENTRY).tell(sold, flat).bought(ENTRY_F).arrives(order("g0")).broken == limit
    short, again = (order(name, side=Side.SELL) for name in ("f0", "g0"))
    assert Story().bought(ENTRY).tell(sold, flat).arrives(short).arrives(again).broken == limit
    # Whoever has not heard that it is flat, has heard it too late, or has not the bot, has taken nothing into account.
    assert Story().bought(ENTRY).tell(sold, bought).arrives(ENTRY_F).broken == limit
    assert Story().bought(ENTRY).tell(sold, bought, flat).arrives(ENTRY_F).broken == limit
    ousted = Story().bought(ENTRY).tell(lease(RIVAL, 1), sold, flat, bought)
    assert ousted.arrives(ENTRY_F, boot=RIVAL).broken == limit


def test_violations_are_kept_three_times_and_carry_seed_and_instant() -> None:
    story = later(Story(), 2.5)
    for _ in range(5):
        ended(story, 1)
    assert [(each.seed, each.at_ns) for each in story.watch.violations] == [(7, 2_500_000_000)] * 3


def test_transitions_are_counted_by_their_row_and_doubts_by_their_end() -> None:
    unknown = state(ENTRY, OrderStatus.UNKNOWN)
    story = Story().moves(unknown, "not_found", state(ENTRY, OrderStatus.ABSENT, version=2))
    story.moves(unknown, "last_fill", replace(FILLED, version=2)).moves(FILLED, "accepted", None)
    covered = story.watch.coverage
    assert covered.transitions == {
        "unknown>absent on not_found": 1,
        "unknown>filled on last_fill": 1,
        "filled>filled on accepted": 1,
    }
    assert (covered.unknown_found, covered.unknown_absent) == (1, 1)
