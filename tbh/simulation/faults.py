"""What can go wrong, and which of it a seed has to live with.

Each kind of fault is a word, a line that says what happens, and a line that says what the bot owes its owner then; the
matrix in ``docs/FAULTS.md`` is made of them. A seed draws its own mix: some kinds, each with its own rate, so that some
seeds are ruled by one fault and others by many at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tbh.simulation.kinds import FaultKind, FaultRule

__all__ = ["RULES", "FaultKind", "FaultRule"]

_CALL: Final = (0.01, 0.1)
_ANY_CALL: Final = (0.005, 0.05)
"""For what befalls reads, too, and leaves nothing behind that others would not."""

RULES: Final[Mapping[FaultKind, FaultRule]] = {
    FaultKind.REQUEST_REFUSED: FaultRule(
        "network",
        "the connection is refused: the request provably never left",
        "an order in doubt stays in doubt until its absence is proven; reads are repeated",
        _ANY_CALL,
    ),
    FaultKind.REQUEST_LOST: FaultRule(
        "network",
        "a request is lost on its way, and nobody answers",
        "an order becomes UNKNOWN, then ABSENT by the exchange's own denial; a new attempt has a new id",
        _ANY_CALL,
    ),
    FaultKind.REQUEST_LATE: FaultRule(
        "network",
        "a request arrives seconds late, perhaps after the caller has given up, or too late to be taken",
        "a denial counts only once the request can no longer arrive",
        _ANY_CALL,
    ),
    FaultKind.REQUEST_DOUBLED: FaultRule(
        "network", "a request arrives twice", "one order: the exchange knows its client id", _CALL
    ),
    FaultKind.REQUESTS_REORDERED: FaultRule(
        "network",
        "a request overtakes one that was sent before it",
        "each order and each cancel stands for itself; a cancel that comes first is repeated",
        _CALL,
    ),
    FaultKind.REPLY_LOST: FaultRule(
        "network",
        "a request takes effect and its answer is lost",
        "the order is UNKNOWN until a query finds it; it is never sent again",
        _CALL,
    ),
    FaultKind.REPLY_LATE: FaultRule(
        "network",
        "an answer comes seconds late, perhaps after the caller has given up",
        "the same as for one that is lost",
        _ANY_CALL,
    ),
    FaultKind.SERVER_ERROR: FaultRule(
        "network",
        "the exchange answers with an error of its own (5xx), before or after the effect",
        "it proves nothing: UNKNOWN, and evidence",
        _ANY_CALL,
    ),
    FaultKind.RATE_LIMITED: FaultRule(
        "network",
        "the exchange asks to come back later",
        "a denial settles it, and the next attempt follows",
        _ANY_CALL,
    ),
    FaultKind.EMPTY_ANSWER: FaultRule(
        "network",
        "an order is answered with 200 and no order id in it",
        "it proves nothing: UNKNOWN, and evidence",
        _CALL,
    ),
    FaultKind.NOT_FOUND_YET: FaultRule(
        "exchange",
        "reads lag behind by seconds: an accepted order is not found yet, fills are not told yet",
        "a denial counts only after the arrival window, a snapshot only when the next agrees",
        (0.05, 0.5),
    ),
    FaultKind.FILLS_IN_PARTS: FaultRule(
        "exchange",
        "an order fills in parts, over several bars",
        "protection follows what has filled; the rest is waited for or cancelled",
        (0.02, 0.5),
    ),
    FaultKind.FILL_DURING_CANCEL: FaultRule(
        "exchange",
        "an order fills while its cancel is on the way",
        "the fill counts, whatever the cancel's answer says",
        (0.2, 1.0),
    ),
    FaultKind.EXCHANGE_CLOSES: FaultRule(
        "exchange",
        "the exchange closes the position (liquidation, auto-deleveraging)",
        "the closing trade is booked as it happened, protection is withdrawn",
        (0.005, 0.03),
    ),
    FaultKind.EXCHANGE_CANCELS: FaultRule(
        "exchange",
        "the exchange takes an order off its book, a resting one or one that has just come",
        "protection is made anew, an exit is tried again",
        (0.006, 0.04),
    ),
    FaultKind.EXCHANGE_EXPIRES: FaultRule(
        "exchange",
        "the exchange lets an order expire, a resting one or one that has just come",
        "protection is made anew, an exit is tried again",
        (0.004, 0.03),
    ),
    FaultKind.FILL_AFTER_CANCEL: FaultRule(
        "exchange",
        "a fill is told after the word that its order was cancelled",
        "the fill counts, and its order is filled as far as it is",
        (0.2, 1.0),
    ),
    FaultKind.EXCHANGE_AWAY: FaultRule(
        "exchange",
        "the exchange goes on to tell prices and refuses all else, for seconds or for long",
        "what was in doubt stays so until it answers again; nothing is sent twice",
        (0.006, 0.03),
    ),
    FaultKind.FOREIGN_ORDER: FaultRule(
        "exchange", "an order of somebody else rests on the account", "it is never touched", (0.003, 0.015)
    ),
    FaultKind.FOREIGN_TRADE: FaultRule(
        "exchange",
        "somebody else trades on the account",
        "the trade is booked as the exchange tells it, people are told",
        (0.0035, 0.014),
    ),
    FaultKind.FALSE_REFUSAL: FaultRule(
        "exchange",
        "an order is answered with a refusal, and stands all the same",
        "its fill reopens it, and people are called",
        (0.02, 0.15),
    ),
    FaultKind.FALSE_DENIAL: FaultRule(
        "exchange",
        "the exchange denies an order that it has, for good or for longer than it admits that its reads lag",
        "its fill reopens it, and people are called",
        (0.6, 1.0),
    ),
    FaultKind.FALSE_STATUS: FaultRule(
        "exchange",
        "the exchange calls an order filled that is filled in part, and fills the rest later",
        "the later fills count all the same",
        (0.4, 1.0),
    ),
    FaultKind.ADAPTER_FAILS: FaultRule(
        "exchange",
        "the exchange's library raises what it never should, before or after the effect of a call",
        "the gateway starts anew; what it had in hand is unknown until evidence comes",
        (0.002, 0.012),
    ),
    FaultKind.DATABASE_AWAY: FaultRule(
        "database",
        "the database is away, for seconds or for long",
        "entries stop when the lease ends, protection and exits go on, all is journaled once it is back",
        (0.004, 0.02),
    ),
    FaultKind.DATABASE_REPLY_LOST: FaultRule(
        "database",
        "a call to the database takes effect and its answer is lost",
        "it is repeated, and changes nothing the second time",
        _ANY_CALL,
    ),
    FaultKind.DATABASE_SLOW: FaultRule(
        "database",
        "the database answers seconds late",
        "a renewal counts from its sending; nothing else waits for it",
        _ANY_CALL,
    ),
    FaultKind.DATABASE_CLOCK_STEPPED: FaultRule(
        "database",
        "the database's clock is stepped by up to an hour",
        "no living bot loses its lease to a rival by that",
        (0.003, 0.012),
    ),
    FaultKind.DISK_SLOW: FaultRule(
        "disk", "a commit takes up to seconds", "entries wait for it, exits and cancels go after 50 ms", (0.01, 0.1)
    ),
    FaultKind.DISK_FULL: FaultRule(
        "disk",
        "the disk is full for a while: no commit succeeds",
        "entries stop, exits and protection go on, what happened is journaled afterwards",
        (0.003, 0.015),
    ),
    FaultKind.POWER_LOST: FaultRule(
        "disk",
        "power fails: the process ends, and what was not flushed is gone",
        "nothing that the exchange or the database was told of is missing",
        (0.003, 0.015),
    ),
    FaultKind.DISK_LOST: FaultRule(
        "disk",
        "the next start is on another machine, with an empty disk",
        "the lease is waited for; orders and position come back from database and exchange",
        (0.3, 0.8),
    ),
    FaultKind.STORE_DAMAGED: FaultRule(
        "disk",
        "the store is found damaged at the next start",
        "it is set aside and built anew from database and exchange",
        (0.3, 0.9),
    ),
    FaultKind.ACTOR_FAILED: FaultRule(
        "process",
        "an actor fails at a message",
        "it starts anew in its place; the message is a dead letter, and nothing is lost by it",
        (0.0002, 0.0015),
    ),
    FaultKind.PROCESS_KILLED: FaultRule(
        "process",
        "the process dies between two instants of its work (kill -9)",
        "the next life finds out what became of everything that was under way",
        (0.003, 0.03),
    ),
    FaultKind.PROCESS_KILLED_IN_CALL: FaultRule(
        "process",
        "the process dies inside a call: before its effect, or between effect and answer",
        "the same",
        (0.0005, 0.005),
    ),
    FaultKind.PROCESS_STOPPED: FaultRule(
        "process",
        "the process stands still (SIGSTOP, a suspended machine), perhaps past its lease, and goes on",
        "no entry after the lease has ended; with a rival in its place it ends",
        (0.002, 0.01),
    ),
    FaultKind.CLOCK_STEPPED: FaultRule(
        "process",
        "the machine's clock is stepped by up to an hour",
        "leases and time-outs run on; no order is believed absent by it, none is sent twice",
        (0.004, 0.02),
    ),
    FaultKind.RIVAL_STARTED: FaultRule(
        "process",
        "a second runtime of the same bot is started on another machine",
        "it takes nothing from a living bot, and the bot over from a dead one",
        (0.003, 0.015),
    ),
    FaultKind.OPERATOR_PAUSES: FaultRule(
        "people", "the operator pauses the bot, and resumes it", "no entries meanwhile", (0.0025, 0.01)
    ),
    FaultKind.OPERATOR_KILLS: FaultRule(
        "people",
        "the operator kills the bot's trading, and releases it",
        "no entries meanwhile; the position keeps its protection",
        (0.0025, 0.015),
    ),
    FaultKind.OPERATOR_FLATTENS: FaultRule(
        "people",
        "the operator has the position closed",
        "it is closed, once, and acknowledged when nothing is left",
        (0.004, 0.02),
    ),
    FaultKind.OPERATOR_RESTARTS: FaultRule(
        "people",
        "the operator stops the process and starts it again",
        "it stops in order, with its journal written and its lease given back",
        (0.003, 0.015),
    ),
    # What follows was added later: a seed draws its kinds in this order, and those above stay as they were.
    FaultKind.FALSE_POSITION: FaultRule(
        "exchange",
        "the exchange tells another position than its own trades have made, for a while",
        "entries close once a second look has said the same, people are told, the book is left as it is",
        (0.003, 0.011),
    ),
    FaultKind.STOPS_REFUSED: FaultRule(
        "exchange",
        "the exchange takes no stops, for seconds or for long",
        "after a few refusals the position is closed at market, and people are told",
        (0.02, 0.12),
    ),
    FaultKind.ACCESS_REVOKED: FaultRule(
        "database",
        "the database refuses the bot's token: it was revoked, and people have to issue another",
        "no entry more, the stop is seen to, and the process ends with 77; the next one has all that this one owed",
        (0.004, 0.011),
    ),
    FaultKind.FILL_FAILED: FaultRule(
        "process",
        "an actor fails at a fill, of all messages",
        "entries wait, the account is read again, and the fill is missing nowhere",
        (0.003, 0.015),
    ),
}
"""Every kind has a rule."""
