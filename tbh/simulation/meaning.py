"""The promises about what a process does with what it knows, judged at each step; see ``invariants`` and ``inside``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tbh.domain.money import EXACT, ZERO, plain
from tbh.messages.account import SyncStatus
from tbh.messages.orders import OrderStatus
from tbh.simulation import inside, steps
from tbh.simulation.history import History
from tbh.simulation.judging import Invariant, invariant
from tbh.simulation.records import VenueOrder

SEEN_TO_WITHIN_NS: Final = 2_900_000_000
"""Looks are a bar apart; what two of them that are so far apart have both seen is no passing state."""
KNOWN_WITHIN_NS: Final = 2_000_000_000
"""So long a fact may be on its way from one actor to another."""
QUIET_AFTER_NS: Final = 1_000_000_000
"""So long what was let through before may still be on its way to the wire."""
TOLD_WITHIN_NS: Final = 300_000_000
"""So long a word that ends a process is on its way to those who send."""

_TAKEN_OFF: Final = (OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.ABSENT)
_NOT_SENT: Final = (OrderStatus.DRAFTED, OrderStatus.RECORDED)


@invariant
def closing_orders_fit_the_position(past: History, step: inside.OrderMeant) -> str | None:
    """What closes a position is never for more of it than has filled: each order by itself, and all of them together
    where the exchange does not see to it that they only reduce."""
    order = step.order
    if order.purpose.increases_risk:
        return None
    held = abs(step.held) if (step.held > 0) is (order.side.sign < 0) else ZERO
    others = ZERO if past.terms.market.enforces_reduce_only else step.closing
    if EXACT.add(order.qty, others) <= held:
        return None
    return (
        f"{order.purpose} {order.client_order_id} is for {plain(order.qty)} beside orders for {plain(others)}, "
        f"and {plain(held)} is held"
    )


@invariant
def no_entry_stays_beside_an_exit(_: History, step: inside.OrderMeant) -> str | None:
    """Where a position is to be closed, what is still to fill of its entries is cancelled first."""
    if step.order.purpose.increases_risk or step.order.purpose.is_protection or not step.beside:
        return None
    return f"{step.order.purpose} {step.order.client_order_id} leaves {', '.join(step.beside)} on the book"


@invariant
def a_bare_position_is_seen_to(past: History, step: inside.Looked) -> str | None:
    """A position that is to have a stop and gets none, since the exchange refuses it, is closed."""
    name, since_ns = past.known.bare.get(step.boot, ("", 0))
    if name != step.bare or past.now_ns - since_ns < SEEN_TO_WITHIN_NS:
        return None
    return f"{step.boot} has left {step.bare} without a stop for {(past.now_ns - since_ns) / 1e9:.1f} s"


@invariant
def a_failed_exit_is_tried_again(past: History, step: inside.Looked) -> str | None:
    """An order that was to close a position and has failed is followed by another, until nothing is left of it."""
    name, since_ns = past.known.left.get(step.boot, ("", 0))
    if name != step.left or past.now_ns - since_ns < SEEN_TO_WITHIN_NS:
        return None
    return f"{step.boot} has given up {step.left} for {(past.now_ns - since_ns) / 1e9:.1f} s"


@invariant
def an_exit_is_let_through(past: History, step: inside.ExitRefused) -> str | None:
    """A strategy's exit is never refused for want of a position while the process knows of one.

    Not of the next one: risk may know that the position was closed, and nobody yet that it was entered again.
    """
    qty, since_ns = past.known.held.get(step.boot, (ZERO, 0))
    if not qty or (qty > 0) is not step.selling or past.now_ns - since_ns < KNOWN_WITHIN_NS:
        return None
    if past.is_dust(past.qty) or (past.qty > 0) is not step.selling or past.flat_ns > since_ns:
        return None  # it has been closed, and the order manager is the last to hear of it
    return f"{step.proposal_id} was refused, and {step.boot} holds {plain(qty)}"


@invariant
def a_snapshot_is_the_exchanges_word(_: History, step: inside.SnapshotTold) -> str | None:
    """What is told of the account is what the exchange has answered: a question that failed says nothing."""
    if step.read == step.qty:
        return None
    answered = "has not answered" if step.read is None else f"has said {plain(step.read)}"
    return f"{step.boot} takes the account to hold {plain(step.qty)}, and the exchange {answered}"


@invariant
def a_comparison_is_of_one_instant(past: History, step: steps.PositionTold) -> str | None:
    """Nothing is concluded about the position from a reading into which an event of the account fell."""
    if step.status is SyncStatus.UNKNOWN or step.at not in past.known.torn.get(step.boot, ()):
        return None
    return f"{step.boot} believes {step.status} by a reading that an event fell into"


@invariant
def what_is_called_recorded_is_on_disk(past: History, step: inside.CalledRecorded) -> str | None:
    """No decision is called recorded before the disk has it: a restart would take it anew, about another position.

    One to do nothing gives up its place to the next such; whoever asked a second time meanwhile is told so after that.
    """
    if step.stored or (step.overtaken and (step.boot, step.decision_id) in past.known.recorded):
        return None
    return f"{step.boot} calls decision {step.decision_id} recorded, and it is not"


@invariant
def the_account_is_read_without_a_gap(past: History, step: steps.Committed) -> str | None:
    """The mark of what has been read of the account is never ahead of a fill of ours that the disk does not have."""
    mark = step.read_up_to
    if mark is None:
        return None
    stored: Collection[str] = past.known.stored.get(step.store_id, ())
    new = {fill.trade_id for fill in step.batch.fills}
    for fill in past.fills.values():
        if fill.seq <= mark and fill.trade_id not in stored and fill.trade_id not in new:
            return f"{step.store_id} is marked as read up to {mark}, and has no {fill.trade_id} of {fill.seq}"
    return None


@invariant
def a_standing_order_is_not_taken_for_ended(past: History, step: steps.Transition) -> str | None:
    """No order is taken to be off the book while it stands there, unless the exchange has said so.

    What a process that has lost the bot withdraws unsent may stand there as its owner's, under the same id. So may what
    a dead process has sent past a faulted disk: the next one decides the same, and nothing tells it that this has been
    sent until the exchange lists it. Then it is cancelled there. And a process that has lost the bot, and may not have
    heard so, may send what reduces risk at any time after its owner has asked for it.
    """
    after = step.after
    unsent = step.before.status in _NOT_SENT
    if past.owner not in (None, step.boot) and unsent:
        return None
    if after is None or after.status not in _TAKEN_OFF or step.before.status in _TAKEN_OFF:
        return None
    name = after.order.client_order_id
    if name not in past.live or name in past.lied_about or (unsent and is_forgotten(past, past.live[name])):
        return None
    placed = past.live[name]
    if placed.boot != step.boot and (placed.boot, name) in past.ousted and not placed.order.purpose.increases_risk:
        return None
    return f"{step.boot} takes {name} to be {after.status} on {step.event}, and it stands on the book"


@invariant
def no_entry_is_approved_against_the_operator(past: History, step: steps.EntryApproved) -> str | None:
    """Once a process has heard that its operator wants no entries, it lets nothing through that increases risk."""
    since_ns = past.known.closed.get(step.boot)
    if since_ns is None or step.proposal_id in past.approved or past.now_ns - since_ns < TOLD_WITHIN_NS:
        return None
    heard_s = (past.now_ns - since_ns) / 1e9
    return f"{step.proposal_id} was approved {heard_s:.1f} s after {step.boot} had heard that there are to be none"


@invariant
def a_halt_is_heeded(past: History, step: steps.OrderSigned) -> str | None:
    """Once a process has been told to halt, it sends nothing that increases risk."""
    since_ns = past.known.halted.get(step.boot)
    if not step.order.purpose.increases_risk or since_ns is None or step.boot in past.known.deaf:
        return None
    if past.now_ns - since_ns < QUIET_AFTER_NS:
        return None
    return f"{step.order.client_order_id} was sent {(past.now_ns - since_ns) / 1e9:.1f} s after {step.boot} had to halt"


@invariant
def no_entry_is_approved_after_a_halt(past: History, step: steps.EntryApproved) -> str | None:
    """Once a process has been told to halt, it lets nothing through that increases risk."""
    since_ns = past.known.halted.get(step.boot)
    if since_ns is None or step.proposal_id in past.approved or past.now_ns - since_ns < TOLD_WITHIN_NS:
        return None
    return f"{step.proposal_id} was approved {(past.now_ns - since_ns) / 1e9:.1f} s after {step.boot} had to halt"


@invariant
def a_refused_process_is_quiet(past: History, step: steps.OrderSigned) -> str | None:
    """A process that the database has told that another owns the bot sends no order more; one whose token is refused,
    no entry."""
    since_ns, owned = past.known.refused.get(step.boot, (past.now_ns, False))
    if step.boot in past.known.deaf or (not owned and not step.order.purpose.increases_risk):
        return None
    if past.now_ns - since_ns < TOLD_WITHIN_NS:
        return None
    why = "another owns the bot" if owned else "its token is refused"
    return f"{step.boot} sends {step.order.purpose} {step.order.client_order_id}, and has been told that {why}"


@invariant
def an_ousted_process_cancels_nothing(past: History, step: inside.CancelSent) -> str | None:
    """A process that the database has told that another owns the bot takes no order off the book."""
    since_ns, owned = past.known.refused.get(step.boot, (past.now_ns, False))
    if not owned or step.boot in past.known.deaf or past.now_ns - since_ns < TOLD_WITHIN_NS:
        return None
    return f"{step.boot} cancels {step.client_order_id}, and has been told that another owns the bot"


@invariant
def a_refused_token_is_the_last_word(past: History, step: steps.BootEnded) -> str | None:
    """A process whose token the database has refused ends with 77, and no other does."""
    since_ns, owned = past.known.refused.get(step.boot, (past.now_ns, True))
    if step.exit_code == 77:
        return f"{step.boot} ended with 77, and its token was good" if owned else None
    if owned or step.exit_code in (None, 0) or step.boot in past.known.halted:
        return None
    ago_s = (past.now_ns - since_ns) / 1e9
    return f"{step.boot} ended with {step.exit_code}, {ago_s:.1f} s after its token was refused"


def is_forgotten(past: History, placed: VenueOrder) -> bool:
    """Whether a process that is dead sent it past its faulted disk: nothing that is left but the exchange knows of
    it."""
    signed = past.signed.get(placed.order.client_order_id, ())
    return placed.boot in past.ended and {machine for boot, machine in signed if boot == placed.boot} == {None}


INVARIANTS: Final[tuple[Invariant, ...]] = (
    closing_orders_fit_the_position,
    no_entry_stays_beside_an_exit,
    a_bare_position_is_seen_to,
    a_failed_exit_is_tried_again,
    an_exit_is_let_through,
    a_snapshot_is_the_exchanges_word,
    a_comparison_is_of_one_instant,
    what_is_called_recorded_is_on_disk,
    the_account_is_read_without_a_gap,
    a_standing_order_is_not_taken_for_ended,
    no_entry_is_approved_against_the_operator,
    a_halt_is_heeded,
    no_entry_is_approved_after_a_halt,
    a_refused_process_is_quiet,
    an_ousted_process_cancels_nothing,
    a_refused_token_is_the_last_word,
)
