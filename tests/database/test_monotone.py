"""However facts arrive (late, twice, from two processes), the rows end as the ordered history leaves them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tbh.actors.rows import Entry, closed_position_row, open_position_row, order_row
from tbh.domain.order import TABLE, OrderEvent
from tbh.infra.localdb import LocalDatabase
from tbh.messages.account import Position
from tbh.messages.orders import Order, OrderChanged, OrderState, OrderStatus, OrderType, Purpose, Side
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, Row

START = datetime(2026, 1, 1, tzinfo=UTC)
FILLS = frozenset({OrderEvent.FILL, OrderEvent.LAST_FILL})


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    with copy_of(server, migrated) as made:
        yield made


def orders(rng: random.Random) -> list[Entry]:
    """The rows of one order on a walk through the table of its life."""
    order = Order(
        client_order_id=f"{rng.randrange(16**8):032x}",
        intent_id="entry|0|ema|S|1",
        symbol="S",
        side=Side.BUY,
        type=OrderType.LIMIT,
        qty=Decimal(8),
        price=Decimal("100.5"),
        purpose=rng.choice(list(Purpose)),
        strategy=rng.choice(["ema", ""]),
        bar_open=START,
        created_at=START,
    )
    state = OrderState(order=order, status=OrderStatus.DRAFTED, version=0, seen_at=START)
    found = []
    for _ in range(rng.randrange(1, 8)):
        ways = [(event, after) for (before, event), after in TABLE.items() if before is state.status]
        if not ways:
            break
        event, status = rng.choice(ways)
        filled = state.filled_qty + (event in FILLS)
        exchange_id = f"x{order.client_order_id[-8:]}" if event is OrderEvent.ACCEPTED or event in FILLS else None
        state = replace(
            state,
            status=status,
            version=state.version + 1,
            exchange_order_id=state.exchange_order_id or exchange_id,
            filled_qty=filled,
            avg_price=Decimal(100) / filled if filled else None,
            reason=rng.choice([None, f"reason {state.version}"]),
            seen_at=state.seen_at + timedelta(seconds=rng.randrange(2)),
        )
        found.append(order_row(OrderChanged(state=state, event=event.value)))
    return found


def positions(rng: random.Random) -> list[Entry]:
    """The rows of one symbol's positions: opened, added to, closed, and reversed within one account event."""
    found: list[Entry] = []
    held: Position | None = None
    for seq in range(1, rng.randrange(2, 8)):
        what = rng.choice(["grow", "close", "reverse"])
        if held is not None and what != "grow":
            found.append(closed_position_row(held, seq))
        if held is not None and what == "grow":
            held = replace(
                held, qty=held.qty * 2, revision=held.revision + 1, best_price=rng.choice([None, Decimal(seq)])
            )
        elif held is None or what == "reverse":
            sign = -1 if held is not None and held.qty > 0 else 1
            held = Position(
                symbol="S", strategy="ema", position_id=f"p{rng.randrange(10**6)}", qty=Decimal(sign),
                entry_price=Decimal(100 + seq), opened_at=START, bar_open=START,
            )  # fmt: skip
        else:
            held = None
        if held is not None:
            found.append(open_position_row(held, seq))
    return found


def tell(bot: Bot, entry: Entry) -> None:
    fn, args, _ = entry
    bot.call(fn, **args)


def tell_by_exchange_id(bot: Bot, entry: Entry) -> None:
    """The same order as one knows it who only has the exchange's id."""
    args = entry[1]
    if args.get("p_exchange_order_id"):
        payload = {key: value for key, value in args["p_payload"].items() if key != "client_order_id"}
        bot.call("upsert_bot_trade", p_exchange_order_id=args["p_exchange_order_id"], p_payload=payload)


def tell_somehow(bot: Bot, history: list[Entry], rng: random.Random) -> None:
    """Each fact at least once, in any order, by either epoch, alone or in batches whose replies may be lost."""
    bot.claim("boot-1")
    first = dict(bot.headers)
    bot.claim("boot-2", previous="boot-1")
    epochs = {"s1": first, "s2": dict(bot.headers)}
    next_seq = dict.fromkeys(epochs, 1)
    told = history + rng.choices(history, k=rng.randrange(len(history) + 1))
    rng.shuffle(told)
    while told:
        store_id = rng.choice(list(epochs))
        bot.headers = epochs[store_id]
        size = rng.randrange(1, 5)
        batch, told = told[:size], told[size:]
        if rng.random() < 0.5:
            for entry in batch:
                if rng.random() < 0.3:
                    tell_by_exchange_id(bot, entry)
                tell(bot, entry)
            continue
        for _ in range(rng.randrange(1, 3)):
            result = bot.sync(*batch, first_seq=next_seq[store_id], store_id=store_id)
            assert result["refused"] == []
        next_seq[store_id] += len(batch)


def ends(bot: Bot) -> tuple[list[Row], list[Row], list[Row]]:
    """Orders, positions and what bot_state shows of them; whose epoch told it is left out, and so are the bot's ids."""
    left_out = {"bot_id", "epoch", "boot_id", "mark_price", "unrealized_pnl", "payload"}

    def told(table: str, order: str) -> list[Row]:
        return [{k: v for k, v in row.items() if k not in left_out} for row in bot.rows(table, order=order)]

    return told("bot_trades", "client_order_id"), told("bot_positions", "symbol"), told("bot_state", "bot_id")


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_any_interleaving_ends_as_the_ordered_history_does(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    lives: list[list[Entry]] = [orders(rng), orders(rng), positions(rng)]
    history: list[Entry] = []
    while any(lives):
        history.append(rng.choice([life for life in lives if life]).pop(0))
    with database.connected() as connection:
        ordered, mixed = Bot(database, connection), Bot(database, connection)
        for entry in history:
            tell(ordered, entry)
        tell_somehow(mixed, history, rng)
        for one, other in zip(ends(mixed), ends(ordered), strict=True):
            assert one == other


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_unruly_rows_of_one_order_are_joined_the_same_in_any_order(database: Database, data: st.DataObject) -> None:
    money = st.sampled_from(["0", "1", "1.5", "2"])
    row = st.fixed_dictionaries(
        {"symbol": st.just("S"), "order_status": st.sampled_from([*map(str, OrderStatus), "simulated"])},
        optional={
            "filled_qty": money,
            "avg_fill_price": money,
            "order_price": money,
            "version": st.integers(0, 3),
            "changed_at": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
            "change": st.sampled_from(["accepted", "fill"]),
            "reason": st.sampled_from(["a", "b"]),
            "event": st.sampled_from(["entry", "manual"]),
            "reduce_only": st.booleans(),
            "exchange_payload": st.sampled_from([{"a": 1}, {"b": "x"}]),
            "position_id": st.sampled_from(["p1", "p2"]),
            "protection": st.sampled_from([{"stop": "1"}, {"target": None, "stop": "2"}]),
        },
    )
    rows: list[Row] = data.draw(st.lists(row, min_size=1, max_size=6))
    shuffled: list[Row] = data.draw(st.permutations(rows))
    again: list[Any] = data.draw(st.lists(st.sampled_from(rows), max_size=3))
    with database.connected() as connection:
        one, other = Bot(database, connection), Bot(database, connection)
        for payload in rows:
            one.trade("c1", **payload)
        for payload in [*shuffled, *again]:
            other.trade("c1", **payload)
        assert ends(one) == ends(other)
