"""Where a live account begins for a bot, found from the account alone and then kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tbh.account_start import AccountSince, AccountStart, find_start, kept_start
from tbh.domain.ids import client_order_id
from tbh.infra.memory_store import MemoryStore
from tbh.messages.account import Balance
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Purpose, Side
from tbh.ports import Unknown

BOT = "6f1c2b7e-0000-4000-8000-00000000feed"
AT = datetime(2026, 3, 1, tzinfo=UTC)
MARKET = Market(
    symbol="A/B",
    base="A",
    quote="B",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal("0.001"),
    maker_fee=Decimal("0.001"),
)
OURS = client_order_id(BOT, bar_open=AT, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0)


def trade(seq: int, side: Side, cost: int, *, ours: bool) -> Fill:
    return Fill(
        trade_id=str(seq),
        client_order_id=OURS if ours else "somebody's",
        exchange_order_id=str(seq),
        symbol="A/B",
        side=side,
        qty=Decimal(1),
        price=Decimal(cost),
        fee=Decimal("0.5"),
        fee_asset="B",
        maker=False,
        at=AT,
        seq=seq,
    )


class Account:
    """``free`` and ``locked`` quote now, after ``fills``; ``busy`` makes a trade at each reading of the balances."""

    def __init__(self, *fills: Fill, free: str, locked: str = "0", busy: bool = False) -> None:
        self.fills = list(fills)
        self.free, self.locked, self.busy = Decimal(free), Decimal(locked), busy

    def events(self, after: int, *, timeout_s: float) -> Sequence[Fill]:
        return [fill for fill in self.fills if fill.seq > after][:2]  # in pages

    def last_seq(self) -> int:
        return self.fills[-1].seq if self.fills else 0

    def balances(self, *, timeout_s: float) -> Sequence[Balance]:
        found = [Balance(asset="B", free=self.free, locked=self.locked)]
        if self.busy:
            self.fills.append(trade(self.last_seq() + 1, Side.BUY, 1, ours=False))
        return found


def found(account: Account, store: MemoryStore | None = None) -> AccountStart:
    exchange: Any = account
    return find_start(store or MemoryStore(), exchange, MARKET, BOT, timeout_s=1)


def test_an_account_that_never_traded_begins_now_with_all_its_cash() -> None:
    assert found(Account(free="90", locked="10")) == AccountStart(cash=Decimal(100), first_seq=0)


def test_what_others_traded_before_the_bot_is_left_out() -> None:
    others = [trade(seq, Side.BUY, 10, ours=False) for seq in (3, 5, 8)]
    assert found(Account(*others, free="70")) == AccountStart(cash=Decimal(70), first_seq=8)


def test_it_begins_before_the_bots_first_trade_with_the_cash_of_then() -> None:
    fills = [
        trade(3, Side.BUY, 10, ours=False),
        trade(4, Side.BUY, 20, ours=True),
        trade(5, Side.SELL, 7, ours=False),
        trade(9, Side.SELL, 25, ours=True),
    ]
    # 20.5 and the fee were paid, 7 and 25 less a fee each came back.
    assert found(Account(*fills, free="110.5")) == AccountStart(cash=Decimal(100), first_seq=3)


def test_what_was_found_is_kept() -> None:
    store = MemoryStore()
    assert kept_start(store) is None
    start = found(Account(free="12.34"), store)
    assert kept_start(store) == start


def test_an_account_that_never_rests_is_not_guessed_at() -> None:
    with pytest.raises(Unknown, match="account_unsettled"):
        found(Account(free="100", busy=True))


def test_nothing_before_the_start_is_ever_told() -> None:
    exchange: Any = Account(*(trade(seq, Side.BUY, 1, ours=seq > 2) for seq in (1, 2, 3, 4)), free="1")
    account = AccountSince(exchange, 2)
    assert [event.seq for event in account.events(0, timeout_s=1)] == [3, 4]
    assert [event.seq for event in account.events(3, timeout_s=1)] == [4]
    exchange.fills.clear()
    assert account.last_seq() == 2
