"""The exchange's own ledger against what the bot has written down: pure functions over rows, money as text.

The ledger is ``bench.binance``'s (``GET /control/ledger``), the journal what the database holds of the bot. Orders and
fills of somebody else on the same account are taken out first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import combinations
from typing import Any

from tbh.domain.ids import parse

Row = Mapping[str, Any]
ZERO = Decimal(0)

_STATUS = {
    "NEW": "accepted",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "canceled",
    "EXPIRED": "expired",
}


WRONG = (
    "duplicates",
    "lost_orders",
    "lost_fills",
    "invented_orders",
    "invented_fills",
    "orders_differing",
    "strange_orders",
    "store_differing",
    "foreign_touched",
)
"""The lists of a verdict; none may hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """``orders`` and ``fills`` as rows of ``bot_trades`` and ``bot_fills``; ``position`` the signed quantity of the
    open position rows; ``cash`` what the bot said last, None when it said nothing. ``stored`` and ``stored_position``
    are the fills and the position of the last store; ``whole`` when that store was there from the beginning."""

    orders: Sequence[Row]
    fills: Sequence[Row]
    position: Decimal
    cash: Decimal | None = None
    stored: Sequence[Row] = ()
    stored_position: Decimal = ZERO
    whole: bool = False


@dataclass(slots=True)
class Verdict:
    """Every list must be empty and every drift 0. ``position_drift`` is base, ``cash_drift`` quote; what is less than
    one step of the market is no position, so a row may differ by it (``dust``)."""

    duplicates: list[str] = field(default_factory=list)
    lost_orders: list[str] = field(default_factory=list)
    lost_fills: list[str] = field(default_factory=list)
    invented_orders: list[str] = field(default_factory=list)
    invented_fills: list[str] = field(default_factory=list)
    orders_differing: list[str] = field(default_factory=list)
    strange_orders: list[str] = field(default_factory=list)
    store_differing: list[str] = field(default_factory=list)
    foreign_touched: list[str] = field(default_factory=list)
    position_drift: Decimal = ZERO
    cash_drift: Decimal = ZERO
    dust: Decimal = ZERO

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(getattr(self, name) for name in (*WRONG, "position_drift", "cash_drift"))

    def to_json(self) -> dict[str, Any]:
        return {
            name: float(value) if isinstance(value := getattr(self, name), Decimal) else value
            for name in self.__slots__
        }


def judge(ledger: Row, journal: Journal, *, bot_id: str, step: Decimal) -> Verdict:
    """``step`` is the market's amount step."""
    ours = [order for order in ledger["orders"] if not order["foreign"]]
    names = {order["client_order_id"] for order in ours}
    trades = [trade for trade in ledger["trades"] if trade["client_order_id"] in names]
    verdict = Verdict(duplicates=duplicates(ours, bot_id=bot_id, now_ms=ledger["now_ms"]))
    verdict.foreign_touched = [
        order["client_order_id"] for order in ledger["orders"] if order["foreign"] and order["status"] == "CANCELED"
    ]
    verdict.strange_orders = sorted(name for name in names if parse(name, bot_id) is None)
    _compare_orders(verdict, ours, journal.orders)
    _compare_fills(verdict, trades, journal.fills)
    _compare_store(verdict, trades, journal)
    _compare_holdings(verdict, ledger, names, journal, step)
    return verdict


def duplicates(orders: Iterable[Row], *, bot_id: str, now_ms: int) -> list[str]:
    """A client id taken twice; two attempts of one intent live at the same time; an intent filled beyond its size."""
    found: list[str] = []
    by_intent: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for order in orders:
        by_intent[_intent(order["client_order_id"], bot_id)].append(order)
    for intent, rows in by_intent.items():
        ids = [row["client_order_id"] for row in rows]
        found += [f"{name}: taken {ids.count(name)} times" for name in sorted(set(ids)) if ids.count(name) > 1]
        for one, other in combinations(sorted(rows, key=lambda row: int(row["at_ms"])), 2):
            if (one["ended_ms"] or now_ms) > other["at_ms"]:
                found.append(f"{one['client_order_id']} and {other['client_order_id']}: live at once for {intent}")
        filled = sum((Decimal(row["executed"]) for row in rows), ZERO)
        if filled > max(Decimal(row["qty"]) for row in rows):
            found.append(f"{', '.join(ids)}: {filled} filled for {intent}")
    return found


def _intent(client_order_id: str, bot_id: str) -> tuple[Any, ...]:
    """What the order serves, whatever its attempt; a revision of a stop is an intent of its own."""
    parts = parse(client_order_id, bot_id)
    if parts is None or parts.purpose.is_protection:
        return (client_order_id,)
    return (parts.purpose.value, parts.bar_seconds, parts.strategy_code, parts.layer)


def _compare_orders(verdict: Verdict, ours: Sequence[Row], rows: Sequence[Row]) -> None:
    by_name = {row["client_order_id"]: row for row in rows}
    for order in ours:
        row = by_name.get(order["client_order_id"])
        if row is None or row["exchange_order_id"] not in (None, str(order["order_id"])):
            verdict.lost_orders.append(f"{order['client_order_id']} ({order['status']}, {order['executed']} filled)")
            continue
        there = (_STATUS[order["status"]], Decimal(order["executed"]))
        here = (row["order_status"], Decimal(row["filled_qty"]))
        if there != here:
            verdict.orders_differing.append(
                f"{order['client_order_id']}: {there[0]} {there[1]} there, {here[0]} {here[1]} here"
            )
    known = {str(order["order_id"]) for order in ours}
    verdict.invented_orders = [
        f"{row['client_order_id']} ({row['exchange_order_id']})"
        for row in rows
        if row["exchange_order_id"] is not None and row["exchange_order_id"] not in known
    ]


def _compare_fills(verdict: Verdict, trades: Sequence[Row], rows: Sequence[Row]) -> None:
    there = {str(trade["trade_id"]): _fill(trade) for trade in trades}
    here = {str(row["trade_id"]): _fill(row) for row in rows}
    verdict.lost_fills = [f"{trade_id}: {fill}" for trade_id, fill in there.items() if here.get(trade_id) != fill]
    verdict.invented_fills = sorted(here.keys() - there.keys())


def _compare_store(verdict: Verdict, trades: Sequence[Row], journal: Journal) -> None:
    there = {str(trade["trade_id"]): _fill(trade) for trade in trades}
    here = {str(row["trade_id"]): _fill(row) for row in journal.stored}
    verdict.store_differing = [f"{trade_id}: {fill}" for trade_id, fill in here.items() if there.get(trade_id) != fill]
    if journal.whole:
        verdict.store_differing += [f"{trade_id}: missing" for trade_id in sorted(there.keys() - here.keys())]
    if journal.stored_position != journal.position:
        verdict.store_differing.append(f"position {journal.stored_position}, {journal.position} in the database")


def _fill(row: Row) -> tuple[Any, ...]:
    numbers = tuple(Decimal(row[name]) for name in ("qty", "price", "fee"))
    return (row["client_order_id"], str(row["side"]).lower(), *numbers, row["fee_asset"])


def _compare_holdings(verdict: Verdict, ledger: Row, names: set[str], journal: Journal, step: Decimal) -> None:
    base, quote = ledger["base"], ledger["quote"]
    foreign = [trade for trade in ledger["trades"] if trade["client_order_id"] not in names]
    moved = _moved(journal.fills, base, quote)
    of_others = _moved(foreign, base, quote)
    held = {
        asset: Decimal(coins["free"]) + Decimal(coins["locked"]) - Decimal(ledger["start"][asset]) - of_others[asset]
        for asset, coins in ledger["balances"].items()
    }
    row_drift = abs(journal.position - held[base])
    verdict.dust = row_drift if row_drift < step else ZERO
    verdict.position_drift = max(abs(moved[base] - held[base]), row_drift - verdict.dust)
    told = ZERO if journal.cash is None else abs(journal.cash - Decimal(ledger["start"][quote]) - held[quote])
    verdict.cash_drift = max(abs(moved[quote] - held[quote]), told)


def _moved(fills: Iterable[Row], base: str, quote: str) -> dict[str, Decimal]:
    """What the fills did to the coins, their fees included."""
    moved: dict[str, Decimal] = defaultdict(lambda: ZERO, {base: ZERO, quote: ZERO})
    for fill in fills:
        qty, cost = Decimal(fill["qty"]), Decimal(fill["qty"]) * Decimal(fill["price"])
        sign = 1 if str(fill["side"]).lower() == "buy" else -1
        moved[base] += sign * qty
        moved[quote] -= sign * cost
        moved[fill["fee_asset"]] -= Decimal(fill["fee"])
    return moved
