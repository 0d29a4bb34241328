"""The promises about the whole picture, judged once all has healed and come to rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Final

from tbh.domain.admission import stands_at
from tbh.domain.book import is_dust
from tbh.domain.findings import CLOSERS
from tbh.domain.money import EXACT, ZERO, dec, floor_to_step, plain
from tbh.domain.order import TERMINAL, is_terminal
from tbh.messages.account import Position, SyncStatus
from tbh.messages.orders import Fill, Order, OrderStatus, Purpose
from tbh.simulation.history import History
from tbh.simulation.judging import Invariant, invariant
from tbh.simulation.steps import AtRest, BotRest

_DISAGREES: Final = (SyncStatus.MISMATCH, SyncStatus.MISSING)
_STOP_LEAST: Final = Decimal("0.98")
NOTICE_GRACE_NS: Final = 90_000_000_000
"""What the notifier may still be trying for: longer than its longest back-off."""
DELIVERED_WITHIN_NS: Final = 5_000_000_000
"""What waits for nothing is on its way so long at most."""


@invariant
def it_converges(_: History, step: AtRest) -> str | None:
    """Once everything works again, the system comes to rest in time."""
    return None if step.bot is None else step.bot.unsettled


@invariant
def nothing_stays_unknown(_: History, step: AtRest) -> str | None:
    """No order's fate stays unknown, unless people were called to resolve it."""
    for state in () if step.bot is None else step.bot.orders:
        if state.status is OrderStatus.UNKNOWN and "order_unknown" not in step.bot.gate:  # type: ignore[union-attr]
            return f"{state.order.client_order_id} is unknown: {state.reason}"
    return None


def out_of_reach(past: History, position: Position | None, standing: Iterable[Order]) -> set[str]:
    """What stands and is not the bot's to have: what guards a position whose entry nobody knows, once people have been
    told that it is left as it stands."""
    told = position is not None and f"guard_kept:{position.position_id}" in past.sent
    return {order.client_order_id for order in standing if told and order.purpose.is_protection}


@invariant
def open_orders_agree(past: History, step: AtRest) -> str | None:
    """What the bot holds open stands on the exchange's book, and nothing else of ours within its reach."""
    if step.bot is None:
        return None
    standing = {order.client_order_id for order in step.venue.standing}
    held = {state.order.client_order_id for state in step.bot.orders if state.status not in TERMINAL}
    strays = standing - held - out_of_reach(past, step.bot.position, step.venue.standing)
    if strays or held - standing:
        return f"only on the exchange: {sorted(strays)}; only in the store: {sorted(held - standing)}"
    return None


@invariant
def orders_ended_alike(past: History, step: AtRest) -> str | None:
    """Each order of ours has filled as much in the store as on the exchange, and none of them was never there."""
    for state in () if step.bot is None else step.bot.orders:
        placed = past.orders.get(state.order.client_order_id)
        filled = ZERO if placed is None else placed.filled
        if state.filled_qty != filled:
            return f"{state.order.client_order_id} filled {plain(filled)}, in the store {plain(state.filled_qty)}"
        if placed is not None and state.status in (OrderStatus.ABSENT, OrderStatus.REJECTED):
            # A request that came twice may be refused first and taken then; once it has ended, nobody need know.
            harmless = state.status is OrderStatus.REJECTED and placed.status is not None
            if state.order.client_order_id not in past.lied_about and not harmless:
                return f"{state.order.client_order_id} took effect and is {state.status}"
        elif placed is None and state.status in (OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED):
            return f"{state.order.client_order_id} is {state.status} and never took effect"
    return None


@invariant
def fills_are_stored(past: History, step: AtRest) -> str | None:
    """The store holds the fills of our orders that it was there for, each once, and invents none."""
    if step.bot is None:
        return None
    seen: set[str] = set()
    for fill in step.bot.fills:
        if fill.trade_id in seen:
            return f"{fill.trade_id} is stored twice"
        seen.add(fill.trade_id)
        real = past.fills.get(fill.trade_id)
        if real is None:
            if fill.trade_id in past.foreign_trades:
                continue
            return f"{fill.trade_id} is stored and never happened"
        if _money_of(real) != _money_of(fill):
            return f"{fill.trade_id} is stored as {fill}, and was {real}"
    known = {state.order.client_order_id for state in step.bot.orders}
    for trade_id, real in past.fills.items():
        if trade_id not in seen and real.client_order_id in known:
            return f"{trade_id} of {real.client_order_id} is not stored"
    return None


@invariant
def fills_are_journaled(past: History, step: AtRest) -> str | None:
    """The database holds every fill of our orders, each once, to the last digit, and invents none."""
    if step.bot is None:
        return None
    rows = step.database.fills
    for trade_id, fill in past.fills.items():
        row = rows.get(trade_id)
        if row is None:
            return f"{trade_id} of {fill.client_order_id} is missing"
        for name, value in (("qty", fill.qty), ("price", fill.price), ("fee", fill.fee)):
            if name in row and _dec(row, name) != value:
                return f"{trade_id}: {name} is {row[name]}, and was {plain(value)}"
    invented = sorted(set(rows) - set(past.fills) - past.foreign_trades)
    return f"never happened: {invented}" if invented else None


@invariant
def orders_are_journaled(past: History, step: AtRest) -> str | None:
    """The database holds every order of ours that took effect, with what it filled (of lost disks, if it filled).

    Of one that ended unfilled, and whose disk was lost before it was told, or that was sent without its record (by an
    escalation, say) and is on no disk, only the exchange's word of its end is left, and an actor may fail over that.
    """
    if step.bot is None:
        return None
    beyond = out_of_reach(past, step.bot.position, step.venue.standing)
    for name, placed in past.orders.items():
        row = step.database.trades.get(name)
        if row is None and name in beyond and not placed.filled:
            continue
        if row is None:
            lost = past.machines.get(placed.boot) != past.machines.get(step.bot.boot)
            if (lost or name in past.unrecorded) and placed.status is not None and not placed.filled:
                continue
            return f"{placed.order.purpose} {name} is missing"
        if _dec(row, "filled_qty") != placed.filled:
            return f"{name}: filled {row.get('filled_qty')}, and was {plain(placed.filled)}"
    return None


@invariant
def the_outbox_is_empty(past: History, step: AtRest) -> str | None:
    """Everything committed to the disk that is still there is in the database."""
    if step.bot is None:
        return None
    if step.bot.pending:
        return f"{step.bot.pending} entries wait"
    store_id = past.store_of.get(step.bot.boot)
    applied = step.bot.last_seq if store_id is None else past.keys(store_id).last_applied
    return None if applied == step.bot.last_seq else f"{applied} of {step.bot.last_seq} entries were applied"


@invariant
def the_book_is_the_exchanges(past: History, step: AtRest) -> str | None:
    """The book's position is the exchange's, unless somebody else traded and the bot says that they differ."""
    if step.bot is None:
        return None
    booked = ZERO if step.bot.position is None else step.bot.position.qty
    if booked == step.venue.qty:
        return None
    if past.foreign_trades and (step.bot.sync_status in _DISAGREES or _both_dust(past, step, booked)):
        return None
    return f"the book says {plain(booked)}, the exchange {plain(step.venue.qty)} (believed {step.bot.sync_status})"


def _both_dust(past: History, step: AtRest, booked: Decimal) -> bool:
    market = past.terms.market
    least = max(market.amount_step, market.amount_min or ZERO)
    return abs(EXACT.subtract(booked, step.venue.qty)) < least


@invariant
def the_ledger_adds_up(past: History, step: AtRest) -> str | None:
    """Position and cash of the account are what its trades made of them, and the accountant's cash is the same."""
    cash = EXACT.add(past.own_cash, past.foreign_cash)
    if (step.venue.qty, step.venue.cash) != (past.qty, cash):
        return f"the exchange has {step.venue.qty} and {step.venue.cash}; its trades make {past.qty} and {cash}"
    if step.bot is None or step.bot.cash is None or past.foreign_trades or step.bot.cash == past.own_cash:
        return None
    return f"the accountant has {plain(step.bot.cash)}, our fills make {plain(past.own_cash)}"


@invariant
def a_stop_guards_the_position(past: History, step: AtRest) -> str | None:
    """A position that is to have a stop has exactly one on the exchange's book, for all of it."""
    bot = step.bot
    if bot is None or bot.position is None or bot.position.protection is None or bot.sync_status in _DISAGREES:
        return None
    position, market = bot.position, past.terms.market
    wants_one = bot.position.protection.stop_loss is not None
    # A stop is worth what its own price makes it, a little less than the position.
    with localcontext(EXACT):
        worth = min(position.entry_price, past.last_price or position.entry_price) * _STOP_LEAST
    if not wants_one or is_dust(position.qty, market, worth):
        return None
    stops = [order for order in step.venue.standing if order.purpose is Purpose.STOP]
    if len(stops) != 1:
        return f"{plain(position.qty)} {market.base} has {len(stops)} stops"
    due = floor_to_step(abs(position.qty), market.amount_step)
    left = EXACT.subtract(stops[0].qty, past.orders[stops[0].client_order_id].filled)
    return None if left == due else f"{plain(position.qty)} {market.base} has a stop for {plain(left)}"


@invariant
def orders_stand_as_recorded(_: History, step: AtRest) -> str | None:
    """What stands on the exchange's book stands there for as much, and at the price, that the bot has written down."""
    if step.bot is None:
        return None
    recorded = {state.order.client_order_id: state.order for state in step.bot.orders if not is_terminal(state.status)}
    for order in step.venue.standing:
        told = recorded.get(order.client_order_id, order)
        if (told.qty, stands_at(told)) != (order.qty, stands_at(order)):
            name, at = order.client_order_id, stands_at(order)
            return f"{name} stands for {plain(order.qty)} at {at}; recorded are {plain(told.qty)} at {stands_at(told)}"
    return None


@invariant
def no_guard_outlives_its_position(_: History, step: AtRest) -> str | None:
    """No stop or target stands without a position."""
    if step.bot is None or step.venue.qty or step.bot.position is not None:
        return None
    left = [order.client_order_id for order in step.venue.standing if order.purpose.is_protection]
    return f"flat, and still on the book: {left}" if left else None


@invariant
def book_and_exchange_are_compared(_: History, step: AtRest) -> str | None:
    """The process that has the bot has asked what the exchange holds, and has come to believe something about it."""
    if step.bot is None or step.bot.sync_status is not SyncStatus.UNKNOWN:
        return None
    return f"{step.bot.boot} does not know whether book and exchange agree"


@invariant
def requests_are_carried_out(past: History, step: AtRest) -> str | None:
    """What the operator has asked for is done in the end, and acknowledged.

    A position that has lost in price since its entry may be worth less than an order may be for: it can't be closed
    until the price comes back. Such a request stays open, once people have been told why; and waits for the order that
    was to close it before, be that an exit, an emergency or a former request.
    """
    version = step.database.flatten_version
    if step.bot is None or version is None or _worth_too_little(past, step, step.bot):
        return None
    return f"flatten {version} was never acknowledged"


def _worth_too_little(past: History, step: AtRest, bot: BotRest) -> bool:
    """Whether the exchange has refused the newest order that was to close the position, for all that it may be for, as
    worth too little, and people know."""
    sent = [one.order for one in bot.orders if one.order.purpose in CLOSERS]
    if not sent:
        return False
    newest = max(sent, key=lambda order: (order.created_at, order.attempt))
    whole = floor_to_step(abs(step.venue.qty), past.terms.market.amount_step)
    told = f"attempts:{newest.intent_id}:{newest.attempt}" in past.sent
    return told and newest.qty == whole and past.refused.get(newest.client_order_id) == "notional_below_min"


@invariant
def people_are_told(past: History, step: AtRest) -> str | None:
    """Every notice that became due in a process that lives is delivered; a believed disagreement always becomes due."""
    bot = step.bot
    if bot is None:
        return None
    forgot_ns = past.known.failed.get((bot.boot, "notifier"), -1)
    for key, notice in past.due.items():
        if notice.boot != bot.boot or key in past.sent:
            continue
        since_ns = past.due_ns[key]
        waits = key in bot.undelivered or since_ns <= forgot_ns
        if past.now_ns - since_ns > (NOTICE_GRACE_NS if waits else DELIVERED_WITHIN_NS):
            return f"{notice.kind} {key} was never delivered"
    status = past.believed.get(bot.boot)
    if status in _DISAGREES and not _told_of_position(past, bot):
        return f"the position is believed {status} and nobody was told"
    return None


def _told_of_position(past: History, bot: BotRest) -> bool:
    return any(notice.kind == "position_mismatch" and notice.boot == bot.boot for notice in past.due.values())


def _money_of(fill: Fill) -> tuple[object, ...]:
    return (fill.client_order_id, fill.side, fill.qty, fill.price, fill.fee, fill.fee_asset)


def _dec(row: Mapping[str, object], name: str) -> Decimal | None:
    value = row.get(name)
    return None if value is None else dec(str(value))


INVARIANTS: Final[tuple[Invariant, ...]] = (
    it_converges,
    nothing_stays_unknown,
    open_orders_agree,
    orders_ended_alike,
    fills_are_stored,
    fills_are_journaled,
    orders_are_journaled,
    the_outbox_is_empty,
    the_book_is_the_exchanges,
    the_ledger_adds_up,
    a_stop_guards_the_position,
    orders_stand_as_recorded,
    no_guard_outlives_its_position,
    book_and_exchange_are_compared,
    requests_are_carried_out,
    people_are_told,
)
