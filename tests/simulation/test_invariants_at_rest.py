"""Each promise about the whole picture is shown one that breaks it, made from one in which nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tbh.messages.account import SyncStatus
from tbh.messages.orders import Order, OrderStatus, Purpose
from tbh.ports import Batch
from tbh.simulation import at_rest, steps
from tests.simulation.story import BOOT, RIVAL, Story, fill, long_at_rest, order, position, state

ENTRY = order("e0")
STOP = order("s0", Purpose.STOP)
GUARDED = position(ENTRY, stop_loss="0.02")
NOTICE = {"boot": BOOT, "kind": "position_mismatch", "key": "k"}

Alter = Callable[[Story, steps.AtRest], steps.AtRest]


def last(rest: steps.AtRest) -> steps.BotRest:
    assert rest.bot is not None
    return rest.bot


def bot(rest: steps.AtRest, **fields: Any) -> steps.AtRest:
    return replace(rest, bot=replace(last(rest), **fields))


def database(rest: steps.AtRest, **fields: Any) -> steps.AtRest:
    return replace(rest, database=replace(rest.database, **fields))


def with_stop(story: Story, rest: steps.AtRest) -> steps.AtRest:
    """A stop for the whole position stands, here and there."""
    story.signs(STOP).arrives(STOP)
    orders = (*last(rest).orders, state(STOP, OrderStatus.ACCEPTED))
    trades = {**rest.database.trades, "s0": {"filled_qty": "0"}}
    stands = replace(rest, venue=replace(rest.venue, standing=(STOP,)))
    return bot(database(stands, trades=trades), orders=orders, position=GUARDED)


def flat_with_stop(story: Story, rest: steps.AtRest) -> steps.AtRest:
    leaves = order("x0", Purpose.EXIT)
    out = fill(leaves, "t2", "1")
    story.signs(leaves).arrives(leaves).fills(out).ends(leaves, OrderStatus.FILLED)
    rest = with_stop(story, rest)
    cash = Decimal("999.8")
    done = state(leaves, OrderStatus.FILLED, filled="1")
    rest = bot(rest, position=None, cash=cash, orders=(*last(rest).orders, done), fills=(*last(rest).fills, out))
    rest = replace(rest, venue=replace(rest.venue, qty=Decimal(0), cash=cash))
    trades = {**rest.database.trades, "x0": {"filled_qty": "1"}}
    return database(rest, trades=trades, fills={**rest.database.fills, "t2": {"qty": "1"}})


def foreign(story: Story, rest: steps.AtRest) -> steps.AtRest:
    """Somebody sold it all, and the bot has no other word on that than its book."""
    story.tell(steps.ForeignTrade(trade_id="f1", qty=Decimal(-1), cash=Decimal(100)))
    return replace(rest, venue=replace(rest.venue, qty=Decimal(0), cash=Decimal("999.9")))


def lied_about(story: Story, rest: steps.AtRest, *, canceled: bool = False) -> steps.AtRest:
    """A stop stands that was refused, beside the one that the bot knows; or it did, until it was cancelled."""
    stray = order("t0", Purpose.STOP)
    story.signs(stray).arrives(stray)
    story.tell(steps.Lied(client_order_id="t0", intent_id="t", qty=Decimal(1)))
    rest = with_stop(story, rest)
    rest = database(rest, trades={**rest.database.trades, "t0": {"filled_qty": "0"}})
    if canceled:
        story.ends(stray, OrderStatus.CANCELED)
        return rest
    return replace(rest, venue=replace(rest.venue, standing=(stray, STOP)))


def ended_untold(story: Story, rest: steps.AtRest) -> steps.AtRest:
    stop = order("s0", Purpose.STOP)
    story.arrives(stop).ends(stop, OrderStatus.CANCELED)
    return rest


def two_keys(story: Story, rest: steps.AtRest) -> steps.AtRest:
    batch = Batch()
    story.tell(steps.Committed(boot=BOOT, store_id="d", batch=batch, keys={1: "a", 2: "b"}))
    story.tell(steps.Synced(boot=BOOT, store_id="d", keys={1: "a"}))
    return bot(rest, last_seq=2)


def notice_due(story: Story, rest: steps.AtRest, ago_s: float = 100) -> steps.AtRest:
    story.tell(steps.NoticeDue(**NOTICE))
    story.now_s += ago_s
    return rest


def notifier_failed(story: Story, rest: steps.AtRest) -> steps.AtRest:
    """It has forgotten what it had to deliver, a moment ago."""
    story.tell(steps.NoticeDue(**NOTICE))
    story.tell(steps.ActorFailed(boot=BOOT, actor="notifier", error="", injected=True))
    story.now_s += 10
    return rest


def mismatch_believed(story: Story, rest: steps.AtRest) -> steps.AtRest:
    story.tell(steps.ForeignTrade(trade_id="f1", qty=Decimal(0), cash=Decimal(0)))
    story.tell(steps.PositionTold(boot=BOOT, status=SyncStatus.MISMATCH))
    return rest


def refused_flatten(
    story: Story, rest: steps.AtRest, *, refusal: str = "notional_below_min", qty: str = "1", told: bool = True
) -> steps.AtRest:
    """The exchange takes no order for what is held, for the price has fallen; the last attempt is a minute old."""
    asked = {"intent_id": "flatten|0|flatten:3", "qty": Decimal(qty)}
    attempts = [order(f"f{number}", Purpose.FLATTEN, **asked) for number in (4, 5)]
    for one in attempts:
        story.signs(one).arrives(one, effect=steps.Effect.REFUSED, refusal=refusal)
    notice = {"boot": BOOT, "kind": "order", "key": "attempts:flatten|0|flatten:3:5"}
    if told:
        story.tell(steps.NoticeDue(**notice), steps.NoticeSent(**notice))
    rejected = [state(one, OrderStatus.REJECTED) for one in attempts]
    return database(bot(rest, orders=(*last(rest).orders, *rejected)), flatten_version=3)


def stop_told(story: Story, rest: steps.AtRest, stop: Order) -> steps.AtRest:
    """The stop stands, and the bot has written down another."""
    rest = with_stop(story, rest)
    return bot(rest, orders=(*last(rest).orders[:-1], state(stop, OrderStatus.ACCEPTED)))


def given_up_flatten(story: Story, rest: steps.AtRest) -> steps.AtRest:
    """One more attempt was made, and not refused by the exchange."""
    rest = refused_flatten(story, rest)
    unsent = order("f6", Purpose.FLATTEN, intent_id="flatten|0|flatten:3")
    return bot(rest, orders=(*last(rest).orders, state(unsent, OrderStatus.REJECTED)))


BREAKS: list[tuple[str, Alter]] = [
    ("it_converges", lambda s, r: bot(r, unsettled="the outbox has 3 entries")),
    ("nothing_stays_unknown", lambda s, r: bot(r, orders=(replace(last(r).orders[0], status=OrderStatus.UNKNOWN),))),
    ("open_orders_agree", lambda s, r: bot(with_stop(s, r), orders=last(r).orders)),
    ("open_orders_agree", lambda s, r: replace(with_stop(s, r), venue=r.venue)),
    ("open_orders_agree", lied_about),
    ("a_stop_guards_the_position", lied_about),
    ("orders_ended_alike", lambda s, r: bot(r, orders=(replace(last(r).orders[0], filled_qty=Decimal("0.9")),))),
    ("orders_ended_alike", lambda s, r: bot(r, orders=(replace(last(r).orders[0], status=OrderStatus.ABSENT),))),
    ("fills_are_stored", lambda s, r: bot(r, fills=())),
    ("fills_are_stored", lambda s, r: bot(r, fills=(*last(r).fills, fill(ENTRY, "t9")))),
    ("fills_are_stored", lambda s, r: bot(r, fills=(fill(ENTRY, price="101"),))),
    ("fills_are_stored", lambda s, r: bot(r, fills=(*last(r).fills, *last(r).fills))),
    ("fills_are_journaled", lambda s, r: database(r, fills={})),
    ("fills_are_journaled", lambda s, r: database(r, fills={"t1": {"qty": "0.9"}})),
    ("fills_are_journaled", lambda s, r: database(r, fills={**r.database.fills, "t9": {"qty": "1"}})),
    ("orders_are_journaled", lambda s, r: database(r, trades={})),
    ("orders_are_journaled", ended_untold),
    ("orders_are_journaled", lambda s, r: database(r, trades={"e0": {"filled_qty": "0.5"}})),
    ("the_outbox_is_empty", lambda s, r: bot(r, pending=1)),
    ("the_outbox_is_empty", two_keys),
    ("the_book_is_the_exchanges", lambda s, r: bot(r, position=position(ENTRY, "0.999"))),
    ("the_book_is_the_exchanges", foreign),
    ("the_ledger_adds_up", lambda s, r: bot(r, cash=Decimal("899.90000001"))),
    ("the_ledger_adds_up", lambda s, r: replace(r, venue=replace(r.venue, cash=Decimal(900)))),
    ("a_stop_guards_the_position", lambda s, r: bot(r, position=GUARDED)),
    ("orders_stand_as_recorded", lambda s, r: stop_told(s, r, replace(STOP, stop_price=Decimal(90)))),
    ("orders_stand_as_recorded", lambda s, r: stop_told(s, r, replace(STOP, qty=Decimal("0.9")))),
    ("no_guard_outlives_its_position", flat_with_stop),
    ("book_and_exchange_are_compared", lambda s, r: bot(r, sync_status=SyncStatus.UNKNOWN)),
    ("requests_are_carried_out", lambda s, r: database(r, flatten_version=3)),
    ("requests_are_carried_out", lambda s, r: database(refused_flatten(s, r, qty="0.5"), flatten_version=4)),
    ("requests_are_carried_out", lambda s, r: database(given_up_flatten(s, r), flatten_version=4)),
    ("requests_are_carried_out", lambda s, r: refused_flatten(s, r, told=False)),
    ("requests_are_carried_out", lambda s, r: refused_flatten(s, r, qty="0.5")),
    ("requests_are_carried_out", lambda s, r: refused_flatten(s, r, refusal="insufficient_position")),
    ("requests_are_carried_out", given_up_flatten),
    ("people_are_told", lambda s, r: notice_due(s, r, ago_s=10)),
    ("people_are_told", lambda s, r: bot(notice_due(s, r), undelivered=frozenset("k"))),
    ("people_are_told", notice_due),
    ("people_are_told", mismatch_believed),
]
KEEPS: list[tuple[str, Alter]] = [
    ("nothing is wrong", lambda s, r: r),
    ("a stop stands for all of it", with_stop),
    ("a flatten of what is worth too little, which people know", refused_flatten),
    ("one that waits for such a flatten of before", lambda s, r: database(refused_flatten(s, r), flatten_version=4)),
    ("no process may run any more", lambda s, r: replace(r, bot=None)),
    ("a stop that the exchange says it refused, since canceled", lambda s, r: lied_about(s, r, canceled=True)),
    ("a foreign trade that is reported", lambda s, r: bot(foreign(s, r), sync_status=SyncStatus.MISSING)),
    ("a notice that was delivered", lambda s, r: (notice_due(s, r), s.tell(steps.NoticeSent(**NOTICE)))[0]),
    ("a notice that is still tried", lambda s, r: bot(notice_due(s, r, ago_s=10), undelivered=frozenset("k"))),
    ("a notice that a failed notifier had", notifier_failed),
    ("a process that died before it could tell", lambda s, r: bot(notice_due(s, r), boot=RIVAL)),
    ("a disagreement that people were told of", lambda s, r: (
        mismatch_believed(s, r), s.tell(steps.NoticeDue(**NOTICE), steps.NoticeSent(**NOTICE)))[0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "alter"), BREAKS, ids=[f"{i}-{case[0]}" for i, case in enumerate(BREAKS)])
def test_a_picture_that_breaks_the_promise_is_found_out(name: str, alter: Alter) -> None:
    story = Story().bought(ENTRY)
    assert name in story.rests(alter(story, long_at_rest(ENTRY))).broken


@pytest.mark.parametrize(("_what", "alter"), KEEPS, ids=[case[0].replace(" ", "_") for case in KEEPS])
def test_a_lawful_picture_is_let_pass(_what: str, alter: Alter) -> None:
    story = Story().bought(ENTRY)
    assert story.rests(alter(story, long_at_rest(ENTRY))).broken == set()


def test_every_promise_about_the_whole_is_shown_a_picture_that_breaks_it() -> None:
    assert {name for name, _ in BREAKS} == {each.name for each in at_rest.INVARIANTS}


def test_a_stop_for_less_than_the_position_is_found_out() -> None:
    story = Story().bought(ENTRY)
    short = order("s0", Purpose.STOP, qty=Decimal("0.5"))
    rest = stop_told(story, long_at_rest(ENTRY), short)
    rest = replace(rest, venue=replace(rest.venue, standing=(short,)))
    assert story.rests(rest).broken == {"a_stop_guards_the_position"}
