"""What must never happen: each promise a pure function of what has happened so far and of the step at hand.

A function answers None, or in one line how its promise is broken. Its docstring's first sentence is the promise, for
people. Here are those about what is sent; ``knowing`` has those about what is known and written down, ``meaning`` those
about what a process does with it, ``at_rest`` those that need the whole picture and judge the last step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tbh.domain.findings import CLOSERS
from tbh.domain.money import EXACT, plain
from tbh.messages.account import SyncStatus
from tbh.messages.orders import Order, Purpose, Side
from tbh.simulation import at_rest, knowing, meaning, steps
from tbh.simulation.history import History
from tbh.simulation.judging import Invariant, Judge, invariant
from tbh.simulation.market import START
from tbh.simulation.records import VenueOrder

__all__ = ["INVARIANTS", "Invariant", "Judge"]

GATE_GRACE_NS: Final = 1_000_000_000
"""How long after the gate has closed an order that was let through before may still be on its way to the wire."""
OBEYED_WITHIN_NS: Final = 20_000_000_000
"""The controls are heard with the heartbeat, each few seconds; some of those get lost."""

LOOKS_FOR_NS: Final = 10_000_000_000
"""How long a process that has taken the bot over looks for what others have sent: a start, and the arrival window."""

# -- sending


@invariant
def recorded_before_sent(_: History, step: steps.OrderSigned) -> str | None:
    """No order is sent before its record is on disk; only with a faulted disk do exits and protection go without."""
    if step.recorded or step.escape:
        return None
    if step.order.purpose.increases_risk:
        return f"{step.order.purpose} {step.order.client_order_id} was sent unrecorded"
    return (
        None if step.store_faulted else f"{step.order.purpose} {step.order.client_order_id} did not wait for the disk"
    )


@invariant
def signed_once(past: History, step: steps.OrderSigned) -> str | None:
    """One client order id is sent once: never twice by one process, nor again by one that reads the same disk."""
    client_order_id, machine = step.order.client_order_id, past.machines.get(step.boot, "")
    for boot, where in past.signed.get(client_order_id, ()):
        if boot == step.boot or where == machine:
            return f"{client_order_id} was sent by {boot} and again by {step.boot}"
    return None


@invariant
def the_dead_send_nothing(past: History, step: steps.OrderSigned) -> str | None:
    """A process sends no order after it has ended."""
    if step.boot in past.ended:
        return f"{step.order.client_order_id} was sent by {step.boot}, which has ended"
    return None


@invariant
def one_effect_per_id(past: History, step: steps.OrderArrived) -> str | None:
    """Of all requests under one client order id, at most one takes effect."""
    if step.effect is steps.Effect.ACCEPTED and step.order.client_order_id in past.orders:
        return f"{step.order.client_order_id} took effect twice"
    return None


@invariant
def one_request_per_id(past: History, step: steps.OrderArrived) -> str | None:
    """One client order id never stands for two requests: it is asked for again unchanged, if at all.

    A process that does not know yet that another has the bot may decide once more what that one has decided. Where it
    was heard first, the owner's request finds its order, as it ended; or an exit as it stands, for as much as the
    exchange then says, unless the owner is so new that it is still to look for such; or a guard as it stands, which the
    owner moves once it hears where (``orders_stand_as_recorded``). What a dead process sent past a faulted disk is
    known to nobody: once over, it is found so, too.

    To look for such is possible once, when the arrival window is over. A former owner that lives goes on sending until
    it hears of its successor: what arrives after that look is met on the way, however soon before sending one asked,
    a guard for whatever it was. And where reduce-only is enforced nobody looks before it serves a bar that was not over
    when it took the bot: who else may have served that one is such a living process.
    """
    if past.owner not in (None, step.boot):
        return None
    known, again = past.orders.get(step.order.client_order_id), step.order
    if known is None or _asks(known.order) == _asks(again):
        return None
    over, ousted = known.status is not None, (known.boot, again.client_order_id) in past.ousted
    if known.boot != step.boot and ousted and (over or _asks(_as_met(past, known, again)) == _asks(again)):
        return None
    if over and meaning.is_forgotten(past, known):
        return None
    return f"{again.client_order_id} is for {plain(known.order.qty)}, and is now to be for {plain(again.qty)}"


def _as_met(past: History, known: VenueOrder, again: Order) -> Order:
    """The order that a former owner has sent, but for those of its terms that its successor can't know."""
    order, terms = known.order, past.terms
    late = known.arrived_ns > past.owned_ns + int(terms.window_s * 1e9)
    if again.purpose.is_protection:
        order = replace(order, price=again.price, stop_price=again.stop_price)
    elif again.purpose in CLOSERS:
        over_ns = int(((again.bar_open - START).total_seconds() + terms.bar_s) * 1e9)
        own_bar = again.purpose is Purpose.EXIT and over_ns > past.owned_ns and terms.market.enforces_reduce_only
        late = late or own_bar or past.now_ns > past.owned_ns + LOOKS_FOR_NS
    else:
        return order
    return replace(order, qty=again.qty) if late else order


def _asks(order: Order) -> tuple[object, ...]:
    return (order.side, order.type, order.qty, order.price, order.stop_price, order.purpose, order.reduce_only)


@invariant
def one_live_order_per_intent(past: History, step: steps.OrderArrived) -> str | None:
    """An intent has one order on the exchange's book at most, unless a faulted disk has forgotten an exit.

    Then the further exit can close no more than what is left: ``exits_never_flip`` holds there, too. An order that the
    exchange has denied does not count, nor one of a process that has lost its lease, does not know of another yet and
    closes what the exchange will let it.
    """
    if step.effect is not steps.Effect.ACCEPTED or _harmless_without_lease(past, step):
        return None
    for other in past.attempts.get(step.order.intent_id, ()):
        name = other.order.client_order_id
        forgotten = name in past.unrecorded and not step.order.purpose.increases_risk
        excused = forgotten or name in past.lied_about
        if other.status is None and name != step.order.client_order_id and not excused:
            return f"{step.order.client_order_id} joins {_named(other)}"
    return None


@invariant
def attempts_follow_each_other(past: History, step: steps.OrderArrived) -> str | None:
    """A new attempt is made only once the former one has ended, or can no longer arrive; by whoever has the lease."""
    if step.effect is not steps.Effect.ACCEPTED or step.order.client_order_id in past.lied_about:
        return None
    if _harmless_without_lease(past, step):
        return None
    for other in past.attempts.get(step.order.intent_id, ()):
        if other.order.attempt > step.order.attempt:
            return f"{step.order.client_order_id} arrives after a later attempt, {_named(other)}"
    return None


def _harmless_without_lease(past: History, step: steps.OrderArrived) -> bool:
    """Exits go on without a lease, since the database may be away; two processes may then close the same position,
    where the exchange itself sees to it that no more is closed than there is."""
    return not step.leased and step.order.reduce_only and past.terms.market.enforces_reduce_only


@invariant
def entries_need_the_lease(_: History, step: steps.OrderArrived) -> str | None:
    """What increases risk takes effect only while its process has the lease."""
    if step.effect is steps.Effect.ACCEPTED and step.order.purpose.increases_risk and not step.leased:
        return f"{step.order.purpose} {step.order.client_order_id} of {step.boot} took effect without the lease"
    return None


@invariant
def entries_come_in_time(_: History, step: steps.OrderArrived) -> str | None:
    """What increases risk never takes effect after its expiry and the arrival window."""
    late = step.late_s is not None and step.late_s > 0 and step.effect is steps.Effect.ACCEPTED
    if late and step.order.purpose.increases_risk:
        return f"{step.order.purpose} {step.order.client_order_id} took effect {step.late_s:.3f} s too late"
    return None


@invariant
def no_entry_is_approved_while_gated(past: History, step: steps.EntryApproved) -> str | None:
    """Nothing that increases risk is let through while the gate is closed."""
    reasons, _ = past.gate.get(step.boot, ((), 0))
    if step.proposal_id in past.approved:
        return None  # the answer of before, to a question that was repeated: it leads to no other order
    return f"{step.proposal_id} was approved while {', '.join(reasons)}" if reasons else None


@invariant
def no_entry_leaves_through_a_closed_gate(past: History, step: steps.OrderSigned) -> str | None:
    """What increases risk is not sent once the operator has closed the gate, or the lease is gone."""
    if not step.order.purpose.increases_risk:
        return None
    reasons, since_ns = past.gate.get(step.boot, ((), 0))
    closing = [reason for reason in reasons if reason in _OPERATORS]
    if closing and past.now_ns - since_ns > GATE_GRACE_NS:
        return f"{step.order.client_order_id} was sent while {', '.join(closing)}"
    return None


_OPERATORS: Final = frozenset(
    {"paused", "killed", "kill_switch", "subscription_inactive", "lease_lapsed", "lease_lost", "token_refused"}
)


@invariant
def no_entry_is_approved_while_the_position_is_in_doubt(past: History, step: steps.EntryApproved) -> str | None:
    """Nothing that increases risk is let through while book and exchange are believed to disagree."""
    status = past.believed.get(step.boot)
    if status not in (SyncStatus.MISMATCH, SyncStatus.MISSING) or step.proposal_id in past.approved:
        return None
    if past.now_ns - past.believed_ns[step.boot] < GATE_GRACE_NS:
        return None
    return f"{step.proposal_id} was approved although the position is believed {status}"


@invariant
def operators_are_obeyed(past: History, step: steps.OrderArrived) -> str | None:
    """What increases risk stops soon after the operator has said so, in a process that hears the database."""
    if step.effect is not steps.Effect.ACCEPTED or not step.order.purpose.increases_risk or not step.leased:
        return None
    silent_ns = past.now_ns - past.closed_ns if past.closed_ns is not None else 0
    if silent_ns > OBEYED_WITHIN_NS:
        return f"{step.order.client_order_id} took effect {silent_ns / 1e9:.1f} s after the operator closed entries"
    return None


@invariant
def foreign_orders_are_left_alone(_: History, step: steps.CancelArrived) -> str | None:
    """An order that is not this bot's is never cancelled."""
    return None if step.ours else f"{step.boot} cancels {step.client_order_id}, which is not its own"


@invariant
def no_order_is_too_small(past: History, step: steps.OrderSigned) -> str | None:
    """No order is sent that the market would not take: residues are left alone."""
    market, qty = past.terms.market, step.order.qty
    if qty < (market.amount_min or market.amount_step) or qty % market.amount_step:
        return f"{step.order.purpose} {step.order.client_order_id} is for {plain(qty)}"
    return None


@invariant
def exits_are_marked(past: History, step: steps.OrderSigned) -> str | None:
    """Where the exchange enforces reduce-only, whatever reduces risk says so."""
    if step.order.purpose.increases_risk or step.order.reduce_only or not past.terms.market.enforces_reduce_only:
        return None
    return f"{step.order.purpose} {step.order.client_order_id} is not reduce-only"


# -- exposure


@invariant
def exposure_stays_within_its_limit(past: History, step: steps.OrderArrived) -> str | None:
    """Position and open entries together never exceed the limit, whichever of them fill."""
    order = step.order
    if step.effect is not steps.Effect.ACCEPTED or not order.purpose.increases_risk:
        return None
    waiting = order.qty
    for other in past.live.values():
        if other.order.purpose.increases_risk and other.order.side is order.side:
            waiting = EXACT.add(waiting, other.remaining)
    # A trade of somebody else's counts where it leaves room, and not where it takes some away; those of positions that
    # are over do neither.
    foreign = past.foreign_open
    helps = (foreign < 0) is (order.side is Side.BUY)
    held = past.qty if helps else EXACT.subtract(past.qty, foreign)
    worst = EXACT.add(waiting, held if order.side is Side.BUY else EXACT.minus(held))
    allowed = EXACT.add(EXACT.add(past.terms.exposure_max, past.lied_qty), past.dust)
    if worst > allowed:
        return f"{order.client_order_id} raises the exposure to {plain(worst)}, at most {plain(allowed)}"
    return None


@invariant
def exits_never_flip(past: History, step: steps.VenueFill) -> str | None:
    """An order that reduces risk never opens or turns a position."""
    placed = past.orders.get(step.fill.client_order_id)
    if placed is None or placed.order.purpose.increases_risk:
        return None
    before = past.qty
    after = EXACT.add(before, step.fill.qty if step.fill.side is Side.BUY else -step.fill.qty)
    if abs(after) > abs(before) or (after and before and (after > 0) is not (before > 0)):
        return f"{placed.order.purpose} {_named(placed)} takes the position from {plain(before)} to {plain(after)}"
    return None


def _named(placed: VenueOrder) -> str:
    return f"{placed.order.client_order_id} ({placed.status or 'live'}, attempt {placed.order.attempt})"


INVARIANTS: Final[tuple[Invariant, ...]] = (
    recorded_before_sent,
    signed_once,
    the_dead_send_nothing,
    one_effect_per_id,
    one_request_per_id,
    one_live_order_per_intent,
    attempts_follow_each_other,
    entries_need_the_lease,
    entries_come_in_time,
    no_entry_is_approved_while_gated,
    no_entry_is_approved_while_the_position_is_in_doubt,
    no_entry_leaves_through_a_closed_gate,
    operators_are_obeyed,
    no_order_is_too_small,
    exits_are_marked,
    foreign_orders_are_left_alone,
    exposure_stays_within_its_limit,
    exits_never_flip,
    *knowing.INVARIANTS,
    *meaning.INVARIANTS,
    *at_rest.INVARIANTS,
)
