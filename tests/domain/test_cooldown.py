"""When positions ended last, by how, and what risk makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tbh.domain.cooldown import Endings
from tbh.domain.risk import Approval, Refusal, RiskLimits, Standing, judge
from tbh.messages.account import Trade
from tbh.messages.base import replace
from tbh.messages.market import Market
from tbh.messages.orders import Purpose, Side
from tbh.messages.strategy import Cooldown, CooldownAfter, Proposal, Sizing, SizingKind

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
D = Decimal
MARKET = Market(
    symbol="BTC/USDT", base="BTC", quote="USDT", price_step=D("0.01"), amount_step=D("0.001"), taker_fee=D(0),
    maker_fee=D(0),
)  # fmt: skip


def trade(minute: int, pnl: str, reason: str) -> Trade:
    return Trade(
        side="long", symbol="BTC/USDT", entry_time=NOON, exit_time=NOON + minute * MINUTE, entry_price=D(1),
        exit_price=D(1), qty=D(1), fees=D(0), pnl=D(pnl), exit_reason=reason,
    )  # fmt: skip


def endings(*trades: Trade) -> Endings:
    made = Endings()
    for one in trades:
        made.note(one)
    return made


@pytest.mark.parametrize(
    ("one", "after"),
    [
        (trade(1, "1", "exit"), {"any"}),
        (trade(1, "0", "target"), {"any"}),
        (trade(1, "-1", "exit"), {"any", "loss"}),
        (trade(1, "1", "stop"), {"any", "stop"}),
        (trade(1, "-1", "emergency"), {"any", "loss", "stop"}),
    ],
)
def test_an_end_counts_for_what_it_was(one: Trade, after: set[str]) -> None:
    assert set(endings(one).latest()) == after


def test_a_later_end_of_another_kind_leaves_the_earlier_ones() -> None:
    latest = endings(trade(5, "-1", "stop"), trade(3, "1", "exit"), trade(9, "1", "exit")).latest()
    assert {after.value: (at - NOON) // MINUTE for after, at in latest.items()} == {"any": 9, "loss": 5, "stop": 5}


def test_what_ended_but_for_its_dust_counts_without_being_kept() -> None:
    made = endings(trade(5, "1", "exit"))
    assert made.latest(trade(7, "-1", "stop"))[CooldownAfter.STOP] == NOON + 7 * MINUTE
    assert set(made.latest()) == {"any"}


PROPOSAL = Proposal(
    proposal_id="p", strategy="s", symbol="BTC/USDT", bar_open=NOON, bar_index=1, side=Side.BUY, purpose=Purpose.ENTRY,
    reference_price=D(100), sizing=Sizing(kind=SizingKind.FIXED_QUANTITY, value=D(1)),
    cooldown=Cooldown(after=CooldownAfter.STOP, bars=3, since=NOON - 2 * MINUTE),
)  # fmt: skip


@pytest.mark.parametrize(("minute", "refused"), [(-3, False), (-2, True), (0, True), (1, True)])
def test_an_entry_is_refused_for_what_ended_within_its_cool_down(minute: int, refused: bool) -> None:
    standing = Standing(equity=D(1000), ended=endings(trade(minute, "1", "stop")).latest())
    verdict = judge(PROPOSAL, gate=(), limits=RiskLimits(), standing=standing, market=MARKET)
    assert isinstance(verdict, Refusal if refused else Approval)


def test_the_refusal_says_when_the_position_ended_and_how_many_bars_must_close() -> None:
    standing = Standing(equity=D(1000), ended=endings(trade(-1, "-1", "stop")).latest())
    assert judge(PROPOSAL, gate=(), limits=RiskLimits(), standing=standing, market=MARKET) == Refusal(
        rule="cooldown",
        detail="the last position ended by a stop at 2026-11-20T11:59:00Z; 3 bars must close after that",
    )


@pytest.mark.parametrize(
    "wish", [replace(PROPOSAL, cooldown=None), replace(PROPOSAL, purpose=Purpose.EXIT, side=Side.SELL)]
)
def test_what_names_no_cool_down_and_what_reduces_risk_is_not_held_by_one(wish: Proposal) -> None:
    standing = Standing(equity=D(1000), ended=endings(trade(-1, "-1", "stop")).latest())
    verdict = judge(wish, gate=(), limits=RiskLimits(), standing=standing, market=MARKET)
    assert not isinstance(verdict, Refusal) or verdict.rule != "cooldown"
