"""Where a live account begins for a bot: the cash it had, and the last trade that is none of the bot's business.

Both are noted in the store at the first start, so that every later one counts from the same point. On an empty disk
they follow from the account itself: it begins just before the first trade of an order that is this bot's by its id, and
its cash is today's less what has happened since. A bot that has never traded begins now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tbh.domain import ids
from tbh.domain.accounting import Account
from tbh.domain.money import EXACT, ZERO, dec, plain
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Purpose
from tbh.ports import AccountEvent, Batch, Exchange, Store, Unknown

CASH: Final = "account_cash"
FIRST_SEQ: Final = "account_first_seq"
TRIES_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStart:
    """``cash`` in quote before the event after ``first_seq``."""

    cash: Decimal
    first_seq: int


def kept_start(store: Store) -> AccountStart | None:
    """What an earlier start has noted."""
    cash, first_seq = store.meta(CASH), store.meta(FIRST_SEQ)
    return None if cash is None or first_seq is None else AccountStart(cash=dec(cash), first_seq=int(first_seq))


def find_start(store: Store, exchange: Exchange, market: Market, bot_id: str, *, timeout_s: float) -> AccountStart:
    """Ask the account, and note the answer. Raises what the exchange and the store raise, and ``Unknown`` for an
    account in which trades fall faster than they can be read."""
    for _ in range(TRIES_MAX):
        events = _all_events(exchange, timeout_s=timeout_s)
        last_seq = max(exchange.last_seq(), events[-1].seq if events else 0)
        balances = exchange.balances(timeout_s=timeout_s)
        if _events_after(exchange, last_seq, timeout_s=timeout_s):
            continue  # whether the balances know of these, nobody can say: once more
        held = sum((one.free + one.locked for one in balances if one.asset == market.quote), ZERO)
        own = next((one.seq for one in events if ids.parse(one.client_order_id, bot_id) is not None), None)
        first_seq = last_seq if own is None else own - 1
        since = Account(ZERO, market.symbol, market.base, market.quote)
        for event in events:
            if isinstance(event, Fill) and event.seq > first_seq:
                since.apply(event, Purpose.MANUAL)
        start = AccountStart(cash=EXACT.subtract(held, since.cash), first_seq=first_seq)
        store.commit(Batch(meta={CASH: plain(start.cash), FIRST_SEQ: str(start.first_seq)}))
        return start
    raise Unknown("account_unsettled", detail=f"new trades {TRIES_MAX} times while the account was read; try again")


def _all_events(exchange: Exchange, *, timeout_s: float) -> list[AccountEvent]:
    found: list[AccountEvent] = []
    while page := _events_after(exchange, found[-1].seq if found else 0, timeout_s=timeout_s):
        found += page
    return found


def _events_after(exchange: Exchange, seq: int, *, timeout_s: float) -> Sequence[AccountEvent]:
    """Those that have a number of their own."""
    return [event for event in exchange.events(seq, timeout_s=timeout_s) if event.seq > seq]


class AccountSince:
    """An account from its start for this bot: what was before is not told."""

    def __init__(self, exchange: Exchange, first_seq: int) -> None:
        self._exchange = exchange
        self._first_seq = first_seq

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        return self._exchange.events(max(after, self._first_seq), timeout_s=timeout_s)

    def last_seq(self) -> int:
        return max(self._exchange.last_seq(), self._first_seq)
