"""The promises about what a process knows and writes down, judged at each step; see ``invariants``."""

from __future__ import annotations

from typing import Final

from tbh.domain.money import plain
from tbh.domain.order import TABLE, OrderEvent
from tbh.messages.account import SyncStatus
from tbh.messages.orders import OrderStatus
from tbh.simulation import steps
from tbh.simulation.history import History
from tbh.simulation.judging import Invariant, invariant

ENTERED_AGAIN_S: Final = 5.0
"""An acknowledgement is on its way this long at most; a position entered since the flatten is another one, and so is
what others have traded since, or what the exchange lied about."""
AGREES_AGAIN_S: Final = 20.0
"""Book and exchange are compared each 15 s: so long a disagreement may be believed after it is over."""

OTHERS_WORDS: Final = ("Fatal: lease_lost", "Fatal: lease_held", "Fatal: runtime_token_invalid")
"""How an actor says that the database ends its process; the exit code is judged by itself."""

_ENDING_EXITS: Final = frozenset({0, 69, 70, 75, 77, 78})
_LEGAL: Final = {(status, event.value): after for (status, event), after in TABLE.items()}
_PROOF: Final = frozenset(
    event.value
    for event in (
        OrderEvent.ACCEPTED,
        OrderEvent.FILL,
        OrderEvent.LAST_FILL,
        OrderEvent.CANCELED,
        OrderEvent.EXPIRED,
        OrderEvent.FOUND_BEHIND,
    )
)
_SILENT: Final = (OrderEvent.SILENCE.value, OrderEvent.RECOVERED.value)
_ENDS: Final = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED, OrderStatus.ABSENT}
)


# -- what is known


@invariant
def transitions_are_legal(_: History, step: steps.Transition) -> str | None:
    """Every change of an order's status is a row of the table."""
    if step.after is None:
        return None
    expected = _LEGAL.get((step.before.status, step.event))
    if expected is OrderStatus.ACCEPTED and step.before.filled_qty:
        expected = OrderStatus.PARTIALLY_FILLED
    if step.after.status is not expected:
        return f"{step.before.order.client_order_id}: {step.before.status} on {step.event} became {step.after.status}"
    return None


@invariant
def an_end_is_left_only_on_proof(_: History, step: steps.Transition) -> str | None:
    """An order that has ended lives again only on the exchange's own positive word, and silence ends none."""
    after = step.after
    if after is None or after.status is step.before.status:
        return None
    name = step.before.order.client_order_id
    if step.before.status in _ENDS and step.event not in _PROOF:
        return f"{name} left {step.before.status} on {step.event}"
    if after.status in _ENDS and step.event in _SILENT:
        return f"{name} became {after.status} on {step.event}"
    return None


@invariant
def filled_quantity_never_shrinks(_: History, step: steps.Transition) -> str | None:
    """What was filled stays filled, and each change raises the order's version by one."""
    before, after = step.before, step.after
    if after is None:
        return None
    if after.filled_qty < before.filled_qty:
        return f"{before.order.client_order_id}: {plain(before.filled_qty)} filled became {plain(after.filled_qty)}"
    if after.version != before.version + 1:
        return f"{before.order.client_order_id}: version {before.version} became {after.version}"
    return None


@invariant
def a_disagreement_is_never_imagined(past: History, step: steps.PositionTold) -> str | None:
    """A process believes that book and exchange disagree only after somebody else traded, or the exchange lied. What it
    tells again of an older comparison is no new belief."""
    if step.status in (SyncStatus.OK, SyncStatus.UNKNOWN) or past.undisturbed_s() < AGREES_AGAIN_S:
        return None
    if step.at is not None and past.compared.get(step.boot) == step.at:
        return None
    return f"{step.boot} believes {step.status}, {past.quiet()}"


# -- database and processes


@invariant
def the_outbox_is_applied_in_order(past: History, step: steps.Synced) -> str | None:
    """The database applies each entry of a store once, in order, without a gap, as it was committed."""
    store = past.keys(step.store_id)
    last = store.last_applied
    for seq, key in step.keys.items():
        if seq != last + 1:
            return f"{step.store_id}: entry {seq} was applied after {last}"
        if store.written.get(seq) != key:
            return f"{step.store_id}: entry {seq} is {key} there and {store.written.get(seq)} on the disk"
        last = seq
    return None


@invariant
def the_database_refuses_nothing(_: History, step: steps.Synced) -> str | None:
    """No entry that the bot writes is refused by the database for good."""
    if step.refused:
        return f"{step.store_id}: refused {', '.join(step.keys[seq] for seq in step.refused)}"
    return None


@invariant
def an_applied_entry_is_never_rewritten(past: History, step: steps.Committed) -> str | None:
    """A sequence number that the database knows is never given to another entry."""
    if not step.keys:
        return None
    store = past.keys(step.store_id)
    for seq, key in step.keys.items():
        if store.applied.get(seq, key) != key:
            return f"{step.store_id}: entry {seq} is applied as {store.applied[seq]} and now written as {key}"
    return None


@invariant
def one_owner_at_a_time(past: History, step: steps.LeaseTaken) -> str | None:
    """The lease changes hands only when it has ended or its holder is known to be gone, and epochs rise."""
    if step.epoch <= past.epoch:
        return f"{step.boot} got epoch {step.epoch} after {past.epoch}"
    if step.former is not None and step.former != step.boot and step.left_s > 0 and not step.named:
        return f"{step.boot} took the lease of {step.former}, which had {step.left_s:.3f} s left"
    if step.named and step.former != step.boot and step.former not in past.ended:
        return f"{step.boot} took the lease of {step.former}, which lives, as if it had ended"
    return None


@invariant
def the_lease_is_not_believed_in_too_long(_: History, step: steps.LeaseBelieved) -> str | None:
    """By its own clock no process has the lease for longer than by the database's truth.

    Whoever gives it back does so once nothing can be sent any more. A heartbeat of before may be answered only then,
    to an actor that has not stopped while it waited: it tells those who have.
    """
    if step.for_s <= step.left_s or step.for_s <= 0 or step.given_back:
        return None
    return f"{step.boot} believes in the lease for {step.for_s:.3f} s, and has it for {step.left_s:.3f} s"


@invariant
def two_never_believe_in_the_lease(past: History, step: steps.LeaseTaken) -> str | None:
    """A process gets the lease only when no other that lives still believes in its own, unless that gave it back."""
    if step.former is None:
        return None
    for boot, until_ns in past.leases.items():
        if boot != step.boot and boot not in past.ended and until_ns > past.now_ns:
            return (
                f"{step.boot} got the lease, and {boot} believes in its own {(until_ns - past.now_ns) / 1e9:.3f} s more"
            )
    return None


@invariant
def a_flatten_is_done_when_it_is_acknowledged(past: History, step: steps.FlattenAcknowledged) -> str | None:
    """A request to close the position is acknowledged only once nothing was left that the exchange owns up to.

    What has been entered since it was written down as done is another position, however late the database hears of it.
    """
    if f"flatten:{step.version}" in past.carried_out:
        return None
    since_s = min(past.undisturbed_s(), (past.now_ns - past.entered_ns) / 1e9)
    if past.is_dust(past.qty) or since_s < ENTERED_AGAIN_S:
        return None
    return f"{step.boot} acknowledged flatten {step.version} with {plain(past.qty)} still held, {past.quiet()}"


@invariant
def only_the_owner_acknowledges(past: History, step: steps.FlattenAcknowledged) -> str | None:
    """A process that another has taken the bot from tells the database no more what it has carried out."""
    if step.boot == past.owner:
        return None
    return f"{step.boot} acknowledged flatten {step.version}, and the bot was {past.owner}'s"


@invariant
def no_actor_fails_by_itself(past: History, step: steps.ActorFailed) -> str | None:
    """No actor raises, unless the simulation made it, or the database has ended its process: that is by design."""
    others = past.owner not in (None, step.boot)  # what it remembers is not what the account holds any more
    if step.injected or step.error.startswith(OTHERS_WORDS) or (others and step.error.startswith("BrokenInvariant")):
        return None
    return f"{step.actor} of {step.boot}: {step.error}"


@invariant
def a_process_ends_with_a_word(past: History, step: steps.BootEnded) -> str | None:
    """A process that ends by itself says why by its exit code, and 75 means that another one owns the bot."""
    if step.exit_code is None or step.exit_code in _ENDING_EXITS - {75}:
        return None
    if step.exit_code == 75:
        return f"{step.boot} ended with 75 while it owned the bot: {step.reason}" if past.owner == step.boot else None
    return f"{step.boot} ended with {step.exit_code}: {step.reason}"


INVARIANTS: Final[tuple[Invariant, ...]] = (
    transitions_are_legal,
    an_end_is_left_only_on_proof,
    filled_quantity_never_shrinks,
    a_disagreement_is_never_imagined,
    the_outbox_is_applied_in_order,
    the_database_refuses_nothing,
    an_applied_entry_is_never_rewritten,
    one_owner_at_a_time,
    two_never_believe_in_the_lease,
    the_lease_is_not_believed_in_too_long,
    only_the_owner_acknowledges,
    a_flatten_is_done_when_it_is_acknowledged,
    no_actor_fails_by_itself,
    a_process_ends_with_a_word,
)
