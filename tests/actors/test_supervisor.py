"""The supervisor: what an escalation does to the position, and that none of its steps depends on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.escape import ATTEMPTS_MAX, REVISIONS_TRIED_MAX, Outside, PositionPolicy
from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.actors.supervisor import Supervisor
from tbh.domain import ids
from tbh.infra.memory_store import MemoryStore
from tbh.messages.market import Market
from tbh.messages.orders import Fill, Order, OrderState, OrderStatus, OrderType, Protection, Purpose, Side, Trailing
from tbh.ports import AccountEvent, Batch, Fatal, OrderReport, PositionReport, Rejected, Unavailable, Unknown
from tbh.runtime.within import within

BOT = "bot"
SYMBOL = "BTC/USDT"
NOW = datetime.fromisoformat("2026-01-01T00:05:00+00:00")
OPEN = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
MARKET = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.01"),
    taker_fee=Decimal(0),
    maker_fee=Decimal(0),
)
SPOT = replace(MARKET, enforces_reduce_only=False, allows_short=False)
ENTRY_ID = ids.client_order_id(BOT, bar_open=OPEN, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0)
RESTING_ENTRY = ids.client_order_id(BOT, bar_open=NOW, strategy="s", purpose=Purpose.ENTRY, layer=0, attempt=0)
ENTRY = Order(
    client_order_id=ENTRY_ID,
    intent_id="i",
    symbol=SYMBOL,
    side=Side.BUY,
    type=OrderType.MARKET,
    qty=Decimal(2),
    purpose=Purpose.ENTRY,
    strategy="s",
    bar_open=OPEN,
    created_at=OPEN,
    protection=Protection(stop_loss=Decimal("0.1")),
)
FILL = Fill(
    trade_id="t1",
    client_order_id=ENTRY_ID,
    exchange_order_id="x",
    symbol=SYMBOL,
    side=Side.BUY,
    qty=Decimal(2),
    price=Decimal(100),
    fee=Decimal(0),
    fee_asset="USDT",
    maker=False,
    at=OPEN,
    seq=1,
)


def escape_id(number: int) -> str:
    """The supervisor's own ids: the last ones of the second in which it sends (five minutes after the entry's bar)."""
    return stop_id(301 * ids.REVISIONS_PER_SECOND - REVISIONS_TRIED_MAX + number)


def stop_id(revision: int) -> str:
    return ids.protection_order_id(BOT, ENTRY_ID, Purpose.STOP, revision)


def stop(revision: int, qty: int = 2, price: int = 90) -> Order:
    return replace(
        ENTRY,
        client_order_id=stop_id(revision),
        intent_id=ids.intent_id(Purpose.STOP, ENTRY_ID, revision),
        side=Side.SELL,
        type=OrderType.STOP_MARKET,
        qty=Decimal(qty),
        stop_price=Decimal(price),
        reduce_only=True,
        purpose=Purpose.STOP,
    )


class Venue:
    """The account as the escalation finds it; ``failing`` maps methods to what they raise (once per list entry)."""

    def __init__(self, qty: int = 2) -> None:
        self.qty = Decimal(qty)
        self.resting: dict[str, Decimal] = {}
        self.known: set[str] = set()
        self.log: list[AccountEvent] = []
        self.placed: list[Order] = []
        self.canceled: list[str] = []
        self.failing: dict[str, list[BaseException | None]] = {}
        self.window_s = 0.0
        self.opened = self.closed = 0

    def _fail(self, method: str) -> None:
        if self.failing.get(method) and (fault := self.failing[method].pop(0)) is not None:
            raise fault

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        self._fail("place")
        self.placed.append(order)
        return self._report(order.client_order_id)

    def _report(self, client_order_id: str) -> OrderReport:
        return OrderReport(
            client_order_id=client_order_id,
            exchange_order_id="x",
            status=OrderStatus.ACCEPTED,
            filled_qty=self.resting.get(client_order_id, Decimal(0)),
            avg_price=None,
        )

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        self._fail("cancel")
        self.canceled.append(client_order_id)
        return self._report(client_order_id)

    def order(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport | None:
        self._fail("order")
        return self._report(client_order_id) if client_order_id in self.known else None

    def open_orders(self, symbol: str, *, timeout_s: float) -> list[OrderReport]:
        self._fail("open_orders")
        return [self._report(one) for one in self.resting]

    def events(self, after: int, *, timeout_s: float) -> list[AccountEvent]:
        return [event for event in self.log if event.seq > after]

    def position(self, symbol: str, *, timeout_s: float) -> PositionReport:
        self._fail("position")
        return PositionReport(symbol=symbol, qty=self.qty, entry_price=Decimal(100))

    def arrival_window_s(self) -> float:
        return self.window_s

    def close(self) -> None:
        self.closed += 1


class Lines:
    """A log of which one remembers the steps."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None:
        self.done[fields["step"]] = fields["result"]

    def error(self, event: str, **fields: Any) -> None:
        if "step" in fields:
            self.failed[fields["step"]] = fields["error"]


class Rpc:
    def __init__(self) -> None:
        self.health: list[Any] = []
        self.notices: list[Any] = []

    def upsert_health(self, patch: Any) -> None:
        self.health.append(patch)

    def notify(self, *, channel: str, payload: Any, key: str) -> None:
        self.notices.append((channel, payload, key))


class Case:
    """One escalation. The position of 2 is on the disk with its entry and its fill, unless ``empty``."""

    def __init__(self, policy: str = "protect", *, market: Market = MARKET, qty: int = 2, empty: bool = False) -> None:
        self.venue = Venue(qty)
        self.rpc = Rpc()
        self.store = MemoryStore()
        self.log = Lines()
        self.halted: list[tuple[str, int]] = []
        self.halt: Callable[[str, int], None] = lambda reason, exit_code: self.halted.append((reason, exit_code))
        self.drain: Callable[[str, float], bool] = lambda name, timeout_s: True
        self.policy = PositionPolicy(policy)
        self.leased = True
        self.market = market
        self.position_told = ""
        if not empty:
            self.keep(ENTRY, OrderStatus.FILLED, Decimal(2))
            self.store.commit(Batch(fills=[FILL], meta={ACCOUNT_SEQ: "1"}))

    def keep(self, order: Order, status: OrderStatus, filled: Decimal = Decimal(0)) -> None:
        state = OrderState(order=order, status=status, version=3, filled_qty=filled, seen_at=OPEN)
        self.store.commit(Batch(orders=[state]))

    def escalate(self, exit_code: int = 70, *, actor: str = "risk", run: Any = lambda deadline_s, act: act()) -> int:
        outside = Outside(
            exchange=lambda: self.venue,  # type: ignore[arg-type,return-value]  # what an escalation calls of it
            rpc=lambda: self.rpc,  # type: ignore[arg-type,return-value]  # likewise
            store=lambda: self.store,
            halt=self.halt,
            drain=self.drain,
            now=lambda: NOW,
            lease_holds=lambda: self.leased,
        )
        supervisor = Supervisor(
            bot_id=BOT, boot_id="boot", market=self.market, policy=self.policy, outside=outside, log=self.log
        )
        code = supervisor.escalate(actor, "broken", exit_code, run=run)
        self.position_told = supervisor.position_told
        return code


# Every policy


def test_every_step_is_taken_and_the_exit_code_passed_on() -> None:
    case = Case()
    assert case.escalate() == 70
    assert list(case.log.done) == [
        "entries_off", "health", "journal", "notice", "entries_canceled", "position_protect",
    ]  # fmt: skip
    assert case.halted == [("broken", 70)]
    assert case.rpc.health[0]["reason"] == "escalated: risk: broken"
    assert case.rpc.notices == [
        (
            "in_app",
            {"severity": "critical", "kind": "escalated", "text": "risk: broken", "exit_code": 70},
            "escalated:boot",
        )
    ]


@pytest.mark.parametrize("policy", list(PositionPolicy))
def test_resting_entries_are_cancelled_and_strangers_left_alone(policy: str) -> None:
    case = Case(policy)
    case.venue.resting = {RESTING_ENTRY: Decimal(0), "by-hand": Decimal(0)}
    case.escalate()
    assert case.venue.canceled == [RESTING_ENTRY]


def test_an_entry_that_cannot_be_cancelled_does_not_keep_the_others_there() -> None:
    other = ids.client_order_id(BOT, bar_open=OPEN, strategy="s", purpose=Purpose.PYRAMID, layer=1, attempt=0)
    case = Case()
    case.venue.resting = {RESTING_ENTRY: Decimal(0), other: Decimal(0)}
    case.venue.failing["cancel"] = [Rejected("order_done")]
    case.escalate()
    assert case.venue.canceled == [other]
    assert case.log.done["entries_canceled"] == "1 canceled, 1 not"


@pytest.mark.parametrize("policy", list(PositionPolicy))
def test_a_bot_that_is_anothers_touches_nothing(policy: str) -> None:
    """75: whoever owns the bot now owns its position too."""
    case = Case(policy)
    case.venue.resting = {RESTING_ENTRY: Decimal(0)}
    assert case.escalate(75) == 75
    assert case.halted == [("broken", 75)]  # so that the actors touch nothing, either
    assert case.venue.placed == []
    assert case.venue.canceled == []
    assert not [step for step in case.log.done if step.startswith("position")]
    assert not case.position_told


def test_hold_leaves_the_position_alone() -> None:
    case = Case("hold")
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done["position_hold"] == "held"


@pytest.mark.parametrize("policy", ["protect", "flatten"])
def test_a_flat_account_needs_nothing(policy: str) -> None:
    case = Case(policy, qty=0)
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done[f"position_{policy}"] == case.position_told == "flat"


def test_a_position_that_could_not_be_seen_to_is_said() -> None:
    case = Case()
    case.venue.failing.update(position=[Unavailable("dns")])
    assert case.escalate() == 70
    assert case.position_told == "not seen to (Unavailable: dns)"


# No step depends on another


def _broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken")


BREAKS: dict[str, Callable[[Case], None]] = {
    "entries_off": lambda case: setattr(case, "halt", _broken),
    "journal": lambda case: setattr(case, "drain", _broken),
    "health": lambda case: setattr(case.rpc, "upsert_health", _broken),
    "notice": lambda case: setattr(case.rpc, "notify", _broken),
    "entries_canceled": lambda case: case.venue.failing.update(open_orders=[Unavailable("dns")]),
}


@pytest.mark.parametrize("step", list(BREAKS))
def test_a_step_that_fails_does_not_keep_the_next_from_being_taken(step: str) -> None:
    case = Case()
    BREAKS[step](case)
    assert case.escalate() == 70
    assert list(case.log.failed) == [step]
    assert [order.purpose for order in case.venue.placed] == [Purpose.STOP]


@pytest.mark.parametrize("hanging", [1, 2, 3, 4, 5])
def test_a_step_that_hangs_does_not_keep_the_next_from_being_taken(hanging: int) -> None:
    case = Case()
    count = 0

    def run(deadline_s: float, act: Callable[[], str]) -> str:
        nonlocal count
        count += 1
        if count == hanging:
            raise TimeoutError(f"not done within {deadline_s:g} s")
        return act()

    assert case.escalate(run=run) == 70
    assert count == 6
    assert [order.purpose for order in case.venue.placed] == [Purpose.STOP]


def test_each_step_has_its_own_deadline_on_a_thread_of_its_own() -> None:
    deadlines: list[float] = []

    def run(deadline_s: float, act: Callable[[], str]) -> str:
        deadlines.append(deadline_s)
        return within(deadline_s, act)

    case = Case()
    case.escalate(run=run)
    assert len(deadlines) == 6
    assert all(0 < deadline_s <= 10 for deadline_s in deadlines)
    assert case.log.failed == {}


def test_the_journal_is_left_alone_when_it_is_what_failed() -> None:
    case = Case()
    case.escalate(actor="journaler")
    assert case.log.done["journal"].startswith("left alone")


def test_a_journal_that_is_not_flushed_in_time_is_said() -> None:
    case = Case()
    case.drain = lambda name, timeout_s: False
    case.escalate()
    assert case.log.done["journal"] == "not flushed in time"


def test_each_connection_is_closed_again() -> None:
    case = Case("flatten")
    case.venue.failing["position"] = [Unknown("timeout")]
    case.escalate()
    assert case.venue.closed == 2


# Flatten


def test_flatten_closes_what_the_exchange_says_is_held() -> None:
    case = Case("flatten", qty=-3)
    case.escalate()
    (order,) = case.venue.placed
    assert (order.side, order.qty, order.type, order.reduce_only) == (Side.BUY, Decimal(3), OrderType.MARKET, True)
    assert ids.parse(order.client_order_id, BOT).purpose is Purpose.EMERGENCY  # type: ignore[union-attr]  # it is ours


def test_flatten_on_spot_frees_the_coins_first() -> None:
    case = Case("flatten", market=SPOT)
    case.venue.resting = {stop_id(0): Decimal(0)}
    case.escalate()
    assert case.venue.canceled == [stop_id(0)]
    assert [order.qty for order in case.venue.placed] == [Decimal(2)]


def test_a_lost_answer_is_looked_up_and_not_sent_again() -> None:
    case = Case("flatten")
    case.venue.failing["place"] = [Unknown("timeout")]
    first = ids.flatten_order_id(BOT, "escalation:boot", 0, purpose=Purpose.EMERGENCY)
    case.venue.known = {first}
    case.escalate()
    assert case.venue.placed == []
    assert case.log.failed == {}


def test_what_is_proven_absent_is_sent_under_the_next_id() -> None:
    case = Case("flatten")
    case.venue.failing["place"] = [Unknown("timeout")]
    case.escalate()
    assert [order.attempt for order in case.venue.placed] == [1]


def test_what_may_still_arrive_is_not_sent_again() -> None:
    case = Case("flatten")
    case.venue.window_s = 5.0
    case.venue.failing["place"] = [Unknown("timeout")]
    case.escalate()
    assert case.venue.placed == []
    assert "position_flatten" in case.log.failed


def test_the_attempts_are_bounded() -> None:
    case = Case("flatten")
    case.venue.failing["place"] = [Unknown("timeout")] * 10
    case.escalate()
    assert len(case.venue.failing["place"]) == 10 - ATTEMPTS_MAX
    assert "position_flatten" in case.log.failed


# Protect


def test_protect_places_the_stop_that_is_missing() -> None:
    case = Case()
    case.escalate()
    (order,) = case.venue.placed
    assert (order.type, order.side, order.qty, order.stop_price) == (
        OrderType.STOP_MARKET,
        Side.SELL,
        Decimal(2),
        Decimal("90.00"),
    )
    assert order.client_order_id == escape_id(0)


def test_protect_lets_a_stop_that_stands_be() -> None:
    case = Case()
    case.keep(stop(0), OrderStatus.ACCEPTED)
    case.venue.resting = {stop_id(0): Decimal(0)}
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done["position_protect"] == f"its stop stands: {stop_id(0)}"


def test_a_stop_that_is_too_small_does_not_count() -> None:
    """L12: a partial fill came after it."""
    case = Case()
    case.keep(stop(0, qty=1), OrderStatus.ACCEPTED)
    case.venue.resting = {stop_id(0): Decimal(0)}
    case.escalate()
    assert [(order.client_order_id, order.qty) for order in case.venue.placed] == [(escape_id(0), Decimal(2))]


def test_on_spot_only_what_is_bare_gets_a_stop() -> None:
    case = Case(market=SPOT)
    case.keep(stop(0, qty=1), OrderStatus.ACCEPTED)
    case.venue.resting = {stop_id(0): Decimal(0)}
    case.escalate()
    assert [order.qty for order in case.venue.placed] == [Decimal(1)]


def test_a_position_whose_row_was_never_written_is_guarded_from_its_fills() -> None:
    """It was the order manager that failed, at the first fill."""
    case = Case(empty=True)
    case.keep(ENTRY, OrderStatus.RECORDED)
    case.venue.log = [FILL]
    case.escalate()
    assert [order.stop_price for order in case.venue.placed] == [Decimal("90.00")]


def test_a_trailing_stop_is_put_where_it_was_last() -> None:
    case = Case(empty=True)
    guarded = Protection(trailing=Trailing(distance=Decimal("0.1"), activate_at=Decimal(0)))
    case.keep(replace(ENTRY, protection=guarded), OrderStatus.FILLED, Decimal(2))
    case.keep(stop(0, price=95), OrderStatus.CANCELED)
    case.keep(stop(1, price=97), OrderStatus.ABSENT)
    case.store.commit(Batch(fills=[FILL], meta={ACCOUNT_SEQ: "1"}))
    case.escalate()
    assert [(order.client_order_id, order.stop_price) for order in case.venue.placed] == [(escape_id(0), Decimal(97))]


def test_an_id_that_the_exchange_has_seen_is_not_used_again() -> None:
    case = Case()
    case.venue.known = {escape_id(0), escape_id(1)}
    case.escalate()
    assert [order.client_order_id for order in case.venue.placed] == [escape_id(2)]


def test_its_stop_has_an_id_that_the_tree_will_not_use_which_may_still_be_about_to_send_one() -> None:
    case = Case()
    case.keep(stop(0), OrderStatus.CANCELED)
    case.escalate()
    (order,) = case.venue.placed
    assert order.client_order_id not in {stop_id(revision) for revision in range(300)}


def test_a_refused_stop_ends_in_an_exit_at_market() -> None:
    case = Case()
    case.venue.failing["place"] = [Rejected("would_trigger")]
    case.escalate()
    assert [order.purpose for order in case.venue.placed] == [Purpose.EMERGENCY]


def test_a_strategy_without_stops_gets_none() -> None:
    case = Case(empty=True)
    case.keep(replace(ENTRY, protection=None), OrderStatus.FILLED, Decimal(2))
    case.store.commit(Batch(fills=[FILL], meta={ACCOUNT_SEQ: "1"}))
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done["position_protect"] == "no stop is defined for it"


def test_a_position_that_nobody_knows_is_left_alone() -> None:
    case = Case(empty=True)
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done["position_protect"] == "nothing is known of how to guard it"


def test_a_broken_store_does_not_hide_a_stop_that_stands() -> None:
    case = Case()
    case.venue.resting = {stop_id(0): Decimal(0)}
    case.store.orders = lambda **_: (_ for _ in ()).throw(Fatal("row_unreadable"))  # type: ignore[method-assign]  # it breaks
    case.escalate()
    assert case.log.done["position_protect"].startswith("a stop stands")


def test_a_broken_store_without_a_stop_is_a_failed_step() -> None:
    case = Case()
    case.store.orders = lambda **_: (_ for _ in ()).throw(Fatal("row_unreadable"))  # type: ignore[method-assign]  # it breaks
    assert case.escalate() == 70
    assert "position_protect" in case.log.failed


def test_a_refused_token_protects_whatever_the_policy() -> None:
    """77: it may be another's bot by now, and a stop does no harm."""
    case = Case("flatten")
    assert case.escalate(77) == 77
    assert [order.purpose for order in case.venue.placed] == [Purpose.STOP]


# Coins that are not the bot's


@pytest.mark.parametrize("policy", ["protect", "flatten"])
def test_on_spot_the_coins_of_others_are_neither_guarded_nor_sold(policy: str) -> None:
    case = Case(policy, market=SPOT, qty=5)
    case.escalate()
    (order,) = case.venue.placed
    assert (order.side, order.qty) == (Side.SELL, Decimal(2))


def test_on_spot_a_refused_stop_sells_the_bots_coins_alone() -> None:
    case = Case(market=SPOT, qty=5)
    case.venue.failing["place"] = [Rejected("no")]
    case.escalate()
    (order,) = case.venue.placed
    assert (order.type, order.qty) == (OrderType.MARKET, Decimal(2))


def test_on_spot_a_holding_that_is_not_the_bots_is_not_sold() -> None:
    case = Case("flatten", market=SPOT, qty=5, empty=True)
    case.escalate()
    assert case.venue.placed == []
    assert case.log.done["position_flatten"] == "none of what is held is the bot's"


def test_flatten_sends_no_more_at_once_than_one_order_may_have() -> None:
    case = Case("flatten", market=replace(SPOT, amount_max=Decimal("1.5")))
    case.escalate()
    assert [order.qty for order in case.venue.placed] == [Decimal("1.5"), Decimal("0.5")]
    assert len({order.client_order_id for order in case.venue.placed}) == 2


# Beside a rival


@pytest.mark.parametrize("policy", ["protect", "flatten"])
def test_without_the_lease_a_missing_stop_is_sent_and_nothing_else_done(policy: str) -> None:
    case = Case(policy)
    case.leased = False
    case.venue.resting = {ENTRY_ID: Decimal(0)}
    case.escalate()
    assert case.venue.canceled == []
    assert [order.purpose for order in case.venue.placed] == [Purpose.STOP]


def test_without_the_lease_a_refused_stop_closes_nothing() -> None:
    case = Case()
    case.leased = False
    case.venue.failing["place"] = [Rejected("no")]
    case.escalate()
    assert case.venue.placed == []
    assert "not closed: the lease" in case.log.done["position_protect"]


@pytest.mark.parametrize("policy", [PositionPolicy.PROTECT, PositionPolicy.FLATTEN])
def test_what_is_too_little_for_an_order_is_left_alone(policy: PositionPolicy) -> None:
    case = Case(policy, market=replace(MARKET, amount_min=Decimal("2.5")))
    case.escalate()
    assert case.venue.placed == []
    assert "left alone" in case.log.done[f"position_{policy}"]
