"""The matrix of faults, as far as it isn't said where the faults are: what stays possible, how it ends, who judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tbh.simulation import at_rest as rest
from tbh.simulation import invariants as now
from tbh.simulation import knowing, meaning
from tbh.simulation.faults import FaultKind
from tbh.simulation.judging import Invariant

_K = FaultKind


@dataclass(frozen=True, slots=True)
class Course:
    """What stays ``possible`` while a fault lasts, how it ``ends``, and which promises it puts to the test."""

    possible: str
    ends: str
    judges: tuple[Invariant, ...]


_ALL = "everything"
_OTHERS = "all but this order: what would add to its risk waits"
_EXITS = "exits, cancels, protection; no entries"
_NEXT = "by the next start"

_ONE_ORDER = (now.one_effect_per_id, now.one_live_order_per_intent, now.attempts_follow_each_other)
_FILLS = (rest.fills_are_stored, rest.fills_are_journaled)
_BOOK = (rest.the_book_is_the_exchanges, rest.the_ledger_adds_up)
_OUTBOX = (knowing.the_outbox_is_applied_in_order, knowing.the_database_refuses_nothing, rest.the_outbox_is_empty)
_GUARD = (rest.a_stop_guards_the_position, rest.no_guard_outlives_its_position)
_LEASE = (
    now.entries_need_the_lease,
    knowing.one_owner_at_a_time,
    knowing.two_never_believe_in_the_lease,
    knowing.the_lease_is_not_believed_in_too_long,
)
_GATE = (now.no_entry_is_approved_while_gated, now.no_entry_leaves_through_a_closed_gate)
_OPERATOR = (now.operators_are_obeyed, *_GATE)

COURSES: Final[Mapping[FaultKind, Course]] = {
    _K.REQUEST_REFUSED: Course(_OTHERS, "by proof of absence", (*_ONE_ORDER, rest.nothing_stays_unknown)),
    _K.REQUEST_LOST: Course(_OTHERS, "by proof of absence", (*_ONE_ORDER, rest.nothing_stays_unknown)),
    _K.REQUEST_LATE: Course(
        _OTHERS, "found, or refused by the exchange as too late", (*_ONE_ORDER, now.entries_come_in_time)
    ),
    _K.REQUEST_DOUBLED: Course(_ALL, "at once", _ONE_ORDER),
    _K.REQUESTS_REORDERED: Course(_ALL, "when both are answered", (rest.open_orders_agree, rest.orders_ended_alike)),
    _K.REPLY_LOST: Course(_OTHERS, "found by a query", (now.signed_once, *_ONE_ORDER, rest.orders_ended_alike)),
    _K.REPLY_LATE: Course(_OTHERS, "by the answer, or found by a query", (now.signed_once, *_ONE_ORDER)),
    _K.SERVER_ERROR: Course(_OTHERS, "found, or proven absent", (*_ONE_ORDER, rest.nothing_stays_unknown)),
    _K.RATE_LIMITED: Course("what the limit leaves", "after the time that the exchange names", (rest.it_converges,)),
    _K.EMPTY_ANSWER: Course(_OTHERS, "found by a query", (now.one_live_order_per_intent, rest.orders_ended_alike)),
    _K.NOT_FOUND_YET: Course(
        _OTHERS,
        "once the exchange's reads have caught up",
        (now.attempts_follow_each_other, knowing.a_disagreement_is_never_imagined, *_BOOK),
    ),
    _K.FILLS_IN_PARTS: Course(
        _ALL, "with the last part, or a cancel", (*_GUARD, knowing.filled_quantity_never_shrinks)
    ),
    _K.FILL_DURING_CANCEL: Course(_ALL, "at once", (knowing.transitions_are_legal, now.exits_never_flip, *_FILLS)),
    _K.EXCHANGE_CLOSES: Course(
        _EXITS, "booked from the account's trades, or adopted by an operator", (*_BOOK, rest.people_are_told)
    ),
    _K.EXCHANGE_CANCELS: Course(_ALL, "with a new stop, or a new attempt", (*_GUARD, rest.open_orders_agree)),
    _K.EXCHANGE_EXPIRES: Course(_ALL, "with a new stop, or a new attempt", (*_GUARD, rest.open_orders_agree)),
    _K.FILL_AFTER_CANCEL: Course(_ALL, "at once", (knowing.transitions_are_legal, *_FILLS, *_BOOK)),
    _K.EXCHANGE_AWAY: Course(
        "nothing; a stop on the exchange stands",
        "found, or proven absent, once it answers again",
        (*_ONE_ORDER, rest.nothing_stays_unknown, rest.a_stop_guards_the_position),
    ),
    _K.FOREIGN_ORDER: Course(_ALL, "by its owner", (now.foreign_orders_are_left_alone,)),
    _K.FOREIGN_TRADE: Course(
        _EXITS, "booked from the account's trades, or adopted by an operator", (*_BOOK, rest.people_are_told)
    ),
    _K.FALSE_REFUSAL: Course(_EXITS, "by its fill, which is counted", (knowing.an_end_is_left_only_on_proof, *_FILLS)),
    _K.FALSE_DENIAL: Course(_EXITS, "by its fill, which is counted", (knowing.an_end_is_left_only_on_proof, *_FILLS)),
    _K.FALSE_STATUS: Course(
        _EXITS, "by its fill, or by the next word that is true", (knowing.transitions_are_legal, *_FILLS)
    ),
    _K.FALSE_POSITION: Course(
        _EXITS,
        "once the exchange tells the position as it is",
        (
            now.no_entry_is_approved_while_the_position_is_in_doubt,
            knowing.a_disagreement_is_never_imagined,
            meaning.a_comparison_is_of_one_instant,
            rest.book_and_exchange_are_compared,
            rest.people_are_told,
        ),
    ),
    _K.STOPS_REFUSED: Course(
        "everything; the position is closed when its stop is refused again and again",
        "by an exit, or with the next stop that is taken",
        (meaning.a_bare_position_is_seen_to, rest.a_stop_guards_the_position),
    ),
    _K.ADAPTER_FAILS: Course(_OTHERS, "found, or proven absent", (*_ONE_ORDER, rest.nothing_stays_unknown)),
    _K.DATABASE_AWAY: Course(
        f"until the lease ends everything, then {_EXITS}", "all is journaled, once", (*_OUTBOX, *_LEASE)
    ),
    _K.DATABASE_REPLY_LOST: Course(_ALL, "by the repetition", _OUTBOX),
    _K.DATABASE_SLOW: Course(_ALL, "at once", _LEASE),
    _K.DATABASE_CLOCK_STEPPED: Course("everything, or the same as without the lease", "with the next renewal", _LEASE),
    _K.ACCESS_REVOKED: Course(
        "the stop is seen to; nothing else",
        "with a new token, and the next start",
        (meaning.a_refused_process_is_quiet, meaning.a_refused_token_is_the_last_word, *_OUTBOX),
    ),
    _K.DISK_SLOW: Course("everything; entries wait for the disk", "with the commit", (now.recorded_before_sent,)),
    _K.DISK_FULL: Course(
        _EXITS, "once there is room: what happened meanwhile is written", (now.recorded_before_sent, *_GATE, *_FILLS)
    ),
    _K.POWER_LOST: Course(
        "nothing, until the next start", _NEXT, (knowing.an_applied_entry_is_never_rewritten, *_FILLS)
    ),
    _K.DISK_LOST: Course(
        "nothing, until the lease is over",
        "rebuilt from database and exchange",
        (now.one_effect_per_id, rest.orders_are_journaled, *_BOOK),
    ),
    _K.STORE_DAMAGED: Course(
        "nothing, until it is rebuilt",
        "rebuilt from database and exchange",
        (now.one_effect_per_id, rest.orders_are_journaled, *_BOOK),
    ),
    _K.ACTOR_FAILED: Course(
        "everything but what this actor does",
        "with its next incarnation, after a back-off",
        (knowing.no_actor_fails_by_itself, rest.it_converges),
    ),
    _K.FILL_FAILED: Course(
        "exits, cancels, protection; entries once book and exchange have been compared",
        "when the account has been read again",
        (meaning.the_account_is_read_without_a_gap, *_FILLS, *_BOOK),
    ),
    _K.PROCESS_KILLED: Course("nothing; a stop on the exchange stands", _NEXT, (now.signed_once, *_ONE_ORDER, *_FILLS)),
    _K.PROCESS_KILLED_IN_CALL: Course(
        "nothing; a stop on the exchange stands", _NEXT, (now.signed_once, *_ONE_ORDER, *_FILLS)
    ),
    _K.PROCESS_STOPPED: Course(
        "nothing; a stop on the exchange stands", "by going on, or by a rival", (*_LEASE, now.entries_come_in_time)
    ),
    _K.CLOCK_STEPPED: Course(
        "exits, cancels, protection; entries as their expiry allows",
        "with the next bar",
        (now.signed_once, *_ONE_ORDER),
    ),
    _K.RIVAL_STARTED: Course(
        _ALL, "the rival waits, or takes over from a dead one", (*_LEASE, knowing.a_process_ends_with_a_word)
    ),
    _K.OPERATOR_PAUSES: Course(_EXITS, "when the operator resumes", _OPERATOR),
    _K.OPERATOR_KILLS: Course(_EXITS, "when the operator releases", _OPERATOR),
    _K.OPERATOR_FLATTENS: Course(
        _ALL,
        "when nothing is left",
        (knowing.a_flatten_is_done_when_it_is_acknowledged, now.exits_never_flip, rest.no_guard_outlives_its_position),
    ),
    _K.OPERATOR_RESTARTS: Course(
        "nothing; a stop on the exchange stands", _NEXT, (knowing.a_process_ends_with_a_word, *_OUTBOX)
    ),
}
