"""Named scenarios: what went wrong in other trading bots, played through on this one.

The ids are rows of the project's list of lessons. Each scenario has its faults, often, and no others; when exactly they
strike is the seed's affair, so that a scenario is as many histories as one runs seeds of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tbh.simulation.faults import FaultKind as K
from tbh.simulation.script import Scenario, Strike


def _scenario(
    name: str, lessons: str, title: str, rates: Mapping[K, float], settings: Mapping[str, str] | None = None
) -> Scenario:
    strikes = {kind.value: Strike(rate=rate) for kind, rate in rates.items()}
    return Scenario(name=name, lessons=tuple(lessons.split()), title=title, strikes=strikes, settings=settings or {})


_ALL: Final[tuple[Scenario, ...]] = (
    _scenario(
        "accepted_orders_in_an_outage",
        "L1",
        "the network fails while exits are being accepted: none is given up, and nothing is held that nobody knows of",
        {K.REPLY_LOST: 0.3, K.REQUEST_REFUSED: 0.2, K.REPLY_LATE: 0.1},
    ),
    _scenario(
        "queries_fail_while_an_order_is_in_doubt",
        "L2",
        "the answer is lost and the questions after it fail too: the order stays in doubt until its client id is found",
        {K.REPLY_LOST: 0.2, K.SERVER_ERROR: 0.35},
    ),
    _scenario(
        "submit_times_out_and_fills",
        "L3",
        "a submit times out and takes effect, or never arrives: nothing is sent again before absence is proven",
        {K.REPLY_LOST: 0.25, K.REPLY_LATE: 0.2, K.REQUEST_LOST: 0.15},
    ),
    _scenario(
        "late_request_after_a_denial",
        "L3 L4",
        "a request arrives seconds late, after the exchange has denied it once: the denial was no proof",
        {K.REQUEST_LATE: 0.35, K.REQUEST_DOUBLED: 0.2},
    ),
    _scenario(
        "not_found_right_after_acceptance",
        "L4",
        "the exchange's reads lag behind: what was just accepted is not found, and is not taken for absent",
        {K.NOT_FOUND_YET: 0.3, K.REPLY_LOST: 0.25},
    ),
    _scenario(
        "timed_out_order_had_filled_and_closed",
        "L5",
        "an order filled at once behind a lost answer: no open order shows it, its fills do",
        {K.REPLY_LOST: 0.35},
    ),
    _scenario(
        "ends_that_nobody_tells",
        "L5",
        "the account's events hold fills alone, and orders are cancelled and expire: what is gone is asked after",
        {
            K.EXCHANGE_CANCELS: 0.08,
            K.EXCHANGE_EXPIRES: 0.06,
            K.FILLS_IN_PARTS: 0.2,
            K.NOT_FOUND_YET: 0.2,
            K.REPLY_LOST: 0.1,
        },
        {"cancels": "silent", "stops": "always"},
    ),
    _scenario(
        "restarts_without_end",
        "L6",
        "the process dies and starts again and again, now and then on another machine: ids are the same each time",
        {K.PROCESS_KILLED: 0.02, K.PROCESS_KILLED_IN_CALL: 0.02, K.DISK_LOST: 0.3, K.OPERATOR_RESTARTS: 0.02},
    ),
    _scenario(
        "stop_replaced_while_disconnected",
        "L7",
        "a stop is replaced while cancels and orders get lost: never do two stops stand for one position for long",
        {K.REQUEST_LOST: 0.2, K.REPLY_LOST: 0.2, K.REQUEST_LATE: 0.1},
    ),
    _scenario(
        "order_fills_while_the_store_is_locked",
        "L8",
        "orders fill while the disk is slow or refuses: every fill is in the journal afterwards",
        {K.DISK_SLOW: 0.1, K.DISK_FULL: 0.02, K.FILLS_IN_PARTS: 0.3},
    ),
    _scenario(
        "disk_full_with_an_open_position",
        "L9",
        "the disk is full while a position is held: it can still be closed, and is",
        {K.DISK_FULL: 0.02, K.OPERATOR_FLATTENS: 0.02},
    ),
    _scenario(
        "power_fails",
        "L8",
        "power fails, and what was not flushed is gone: nothing that others were told of is missing",
        {K.POWER_LOST: 0.02, K.DISK_SLOW: 0.05},
    ),
    _scenario(
        "exchange_liquidates",
        "L10",
        "the exchange closes the position: the book follows by its trades or people are told, and no stop is left",
        {K.EXCHANGE_CLOSES: 0.02},
    ),
    _scenario(
        "book_and_exchange_never_agree",
        "L11",
        "somebody else trades on the account: the bot starts, observes, tells people, and does not loop",
        {K.FOREIGN_TRADE: 0.02, K.PROCESS_KILLED: 0.01},
    ),
    _scenario(
        "entry_fills_in_parts",
        "L12",
        "entries fill in parts: the stop is as large as what has filled, also when its replacement fails at first",
        {K.FILLS_IN_PARTS: 0.2, K.REPLY_LOST: 0.1, K.EXCHANGE_CANCELS: 0.03},
        {"stops": "always"},
    ),
    _scenario(
        "an_entry_that_rests",
        "L12",
        "entries rest at a price, and fill while they are taken off: none is followed by another before that is known",
        {
            K.FILLS_IN_PARTS: 0.2,
            K.FILL_AFTER_CANCEL: 1.0,
            K.REPLY_LOST: 0.15,
            K.NOT_FOUND_YET: 0.5,
            K.PROCESS_KILLED: 0.02,
        },
        {"entries": "resting", "stops": "always"},
    ),
    _scenario(
        "no_stop_outlives_its_position",
        "L13",
        "positions close while their stops are being cancelled, lost and found: none is left over",
        {K.FILL_DURING_CANCEL: 1.0, K.REPLY_LOST: 0.15, K.OPERATOR_FLATTENS: 0.02, K.PROCESS_KILLED: 0.01},
        {"stops": "always"},
    ),
    _scenario(
        "residue_below_the_minimum",
        "L14",
        "fills in parts and fees in the coin leave less than the exchange takes: the residue is the end, and no loop",
        {K.FILLS_IN_PARTS: 0.2, K.EXCHANGE_CANCELS: 0.03},
        {"market": "spot"},
    ),
    _scenario(
        "clocks_are_stepped",
        "L19",
        "the clocks of machine and database are stepped by up to an hour: no lease and no order is lost by it",
        {K.CLOCK_STEPPED: 0.02, K.DATABASE_CLOCK_STEPPED: 0.02, K.REPLY_LOST: 0.1},
    ),
    _scenario(
        "kill_in_the_middle_of_everything",
        "L20",
        "the operator kills and flattens while actors fail and answers are lost: no entry follows, the position closes",
        {K.OPERATOR_KILLS: 0.02, K.OPERATOR_FLATTENS: 0.02, K.ACTOR_FAILED: 0.002, K.REPLY_LOST: 0.1},
    ),
    _scenario(
        "recovery_invents_nothing",
        "L24",
        "recovery meets reads that lag and fills that are not told yet: it waits for trades and never makes one up",
        {K.NOT_FOUND_YET: 0.3, K.PROCESS_KILLED: 0.02, K.FILLS_IN_PARTS: 0.3},
    ),
    _scenario(
        "every_kind_of_error_and_no_denial",
        "L25",
        "the exchange errs in every way it can: none of it counts as 'not found' or 'rejected'",
        {K.SERVER_ERROR: 0.2, K.EMPTY_ANSWER: 0.3, K.RATE_LIMITED: 0.1, K.REQUEST_REFUSED: 0.1},
    ),
    _scenario(
        "fee_in_the_coin_received",
        "L26",
        "the fee is taken in the coin that was bought: what is sold is what was received",
        {K.FILLS_IN_PARTS: 0.2, K.REPLY_LOST: 0.05},
        {"market": "spot"},
    ),
    _scenario(
        "zombie_wakes_up",
        "",
        "a process stands still past its lease, another takes over, and the first wakes up: it sends nothing more",
        {K.PROCESS_STOPPED: 0.02, K.RIVAL_STARTED: 0.02, K.DATABASE_AWAY: 0.04},
    ),
    _scenario(
        "the_refusal_was_a_lie",
        "L2 L5",
        "the exchange refuses or denies an order that it has: its fill is counted, and people are called",
        {K.FALSE_REFUSAL: 0.2, K.FALSE_DENIAL: 1.0, K.REPLY_LOST: 0.35, K.FILLS_IN_PARTS: 0.3},
    ),
    _scenario(
        "closing_goes_on_elsewhere",
        "L6",
        "a closing order outlives its machine and its record: on an empty disk none is sent beside it",
        {
            K.OPERATOR_FLATTENS: 0.03,
            K.DISK_LOST: 0.7,
            K.PROCESS_KILLED: 0.02,
            K.REQUEST_LOST: 0.15,
            K.NOT_FOUND_YET: 0.4,
            K.FILLS_IN_PARTS: 0.15,
            K.DATABASE_AWAY: 0.02,
        },
    ),
    _scenario(
        "flatten_of_a_position_nobody_knows",
        "L13",
        "machine and database are lost with the record of a position: its stop gives way to a flatten",
        {K.OPERATOR_FLATTENS: 0.02, K.DISK_LOST: 0.8, K.PROCESS_KILLED: 0.02, K.DATABASE_AWAY: 0.03},
        {"market": "spot", "stops": "always"},
    ),
    _scenario(
        "database_away_for_long",
        "",
        "the database is away again and again: entries end with the lease, all else goes on and is journaled once",
        {K.DATABASE_AWAY: 0.03, K.DATABASE_REPLY_LOST: 0.1, K.PROCESS_KILLED: 0.01},
    ),
)

SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}

ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "L15": (
        "several bots on one address share a request limit, and one is banned",
        "not held: each process has a budget of its own, and backs off when the exchange says so (`rate_limited`)",
    ),
    "L16": (
        "a stream is silent while it is connected",
        "`tests/actors/test_watchdog.py`, `tests/actors/test_feed.py`: data age closes the gate",
    ),
    "L17": (
        "sockets die in silence",
        "`tests/actors/test_feed.py`: bars are polled, a failed poll is told and repeated, a gap is repaired",
    ),
    "L18": ("memory grows until the process is killed", "not held: there is no soak test yet"),
    "L21": (
        "code from outside runs through a plug-in, panels stand open",
        "not held: there is no panel and no plug-in",
    ),
    "L22": ("a token stands in a traceback", "`tests/infra/test_logs.py`: what is logged is redacted, exceptions too"),
    "L23": (
        "a crash is noticed hours later; a notifier that is down keeps the bot from starting",
        "`tests/actors/test_notifier.py`: nothing waits for a channel; the watch from outside is not held yet",
    ),
}
"""Rows that a simulated world can't express: what went wrong there, and where it is held instead."""
