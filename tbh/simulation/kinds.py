"""The kinds of faults, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    # The way to the exchange and back
    REQUEST_REFUSED = "request_refused"
    REQUEST_LOST = "request_lost"
    REQUEST_LATE = "request_late"
    REQUEST_DOUBLED = "request_doubled"
    REQUESTS_REORDERED = "requests_reordered"
    REPLY_LOST = "reply_lost"
    REPLY_LATE = "reply_late"
    SERVER_ERROR = "server_error"
    RATE_LIMITED = "rate_limited"
    EMPTY_ANSWER = "empty_answer"
    # The exchange
    NOT_FOUND_YET = "not_found_yet"
    FILLS_IN_PARTS = "fills_in_parts"
    FILL_DURING_CANCEL = "fill_during_cancel"
    EXCHANGE_CLOSES = "exchange_closes"
    EXCHANGE_CANCELS = "exchange_cancels"
    EXCHANGE_EXPIRES = "exchange_expires"
    FILL_AFTER_CANCEL = "fill_after_cancel"
    EXCHANGE_AWAY = "exchange_away"
    FOREIGN_ORDER = "foreign_order"
    FOREIGN_TRADE = "foreign_trade"
    FALSE_REFUSAL = "false_refusal"
    FALSE_DENIAL = "false_denial"
    FALSE_STATUS = "false_status"
    FALSE_POSITION = "false_position"
    STOPS_REFUSED = "stops_refused"
    ADAPTER_FAILS = "adapter_fails"
    # The database
    DATABASE_AWAY = "database_away"
    DATABASE_REPLY_LOST = "database_reply_lost"
    DATABASE_SLOW = "database_slow"
    DATABASE_CLOCK_STEPPED = "database_clock_stepped"
    ACCESS_REVOKED = "access_revoked"
    # The disk
    DISK_SLOW = "disk_slow"
    DISK_FULL = "disk_full"
    POWER_LOST = "power_lost"
    DISK_LOST = "disk_lost"
    STORE_DAMAGED = "store_damaged"
    # The process
    ACTOR_FAILED = "actor_failed"
    FILL_FAILED = "fill_failed"
    PROCESS_KILLED = "process_killed"
    PROCESS_KILLED_IN_CALL = "process_killed_in_call"
    PROCESS_STOPPED = "process_stopped"
    CLOCK_STEPPED = "clock_stepped"
    RIVAL_STARTED = "rival_started"
    # People
    OPERATOR_PAUSES = "operator_pauses"
    OPERATOR_KILLS = "operator_kills"
    OPERATOR_FLATTENS = "operator_flattens"
    OPERATOR_RESTARTS = "operator_restarts"


@dataclass(frozen=True, slots=True)
class FaultRule:
    """``what`` happens and what the bot has to ``do`` then, each one line. ``rate`` is the least and the greatest that
    a seed draws: of calls (or deliveries) for what befalls each of them, of seconds for what comes by itself."""

    group: str
    what: str
    do: str
    rate: tuple[float, float]
