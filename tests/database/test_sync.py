"""The outbox in one round trip: nothing twice, nothing lost, nothing in the way of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tbh.actors import rows
from tbh.domain.money import divide
from tbh.infra.localdb import LocalDatabase
from tbh.messages.account import (
    AccountDoubted,
    Adjustment,
    ExternalTrade,
    Finding,
    Origin,
    Position,
    PositionSynced,
    Recovered,
    StrayEnded,
    SyncStatus,
    Trade,
    TradeClosed,
)
from tbh.messages.controls import RequestDone
from tbh.messages.orders import (
    Fill,
    Flattened,
    Order,
    OrderChanged,
    OrderState,
    OrderStatus,
    OrderType,
    Purpose,
    Side,
)
from tbh.messages.strategy import Decision, Proposal, Refused
from tbh.messages.system import DeadLettered
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, Entry, refused

AT = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
BAR = datetime(2026, 1, 31, tzinfo=UTC)
THIRD = divide(Decimal(100), Decimal(3))


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all: each test has a bot of its own, and no bot sees another's rows."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Iterator[Bot]:
    with database.connected() as connection:
        yield Bot(database, connection)


def event(key: str, **payload: Any) -> Entry:
    return "bot_runtime_write_event", {"p_kind": "order", "p_level": "info", "p_payload": payload, "p_key": key}, key


def order(purpose: Purpose, *, number: int = 0, strategy: str = "ema cross 2.1") -> Order:
    return Order(
        client_order_id=f"{number:032x}",
        intent_id=f"{purpose.value}|0|{strategy}|BTC/USDT:USDT|1767225600",
        symbol="BTC/USDT:USDT",
        side=Side.SELL,
        type=OrderType.STOP_MARKET,
        qty=Decimal("0.00000001"),
        price=Decimal("1E+5"),
        stop_price=THIRD,
        reduce_only=True,
        purpose=purpose,
        strategy=strategy,
        bar_open=BAR,
        layer=3,
        attempt=255,
        created_at=AT,
    )


def changed(order: Order, status: OrderStatus) -> OrderChanged:
    state = OrderState(
        order=order,
        status=status,
        version=2,
        exchange_order_id=None if status is OrderStatus.DRAFTED else f"x-{order.client_order_id}",
        filled_qty=Decimal("1E-8"),
        avg_price=THIRD,
        reason="the exchange said: 'no'; \"why\" — незачем 🙂\n\ttwice",
        seen_at=AT,
    )
    return OrderChanged(state=state, event="silence")


def told_by_the_runtime() -> list[Entry]:
    """One of each row that the runtime writes, with what is awkward in it."""
    position = Position(
        symbol="BTC/USDT:USDT", strategy="ema", position_id="0" * 32, qty=-THIRD, entry_price=THIRD, opened_at=AT,
        bar_open=BAR, best_price=THIRD,
    )  # fmt: skip
    fill = Fill(
        trade_id="x1-1", client_order_id="0" * 32, exchange_order_id="x1", symbol="币安人生/USDT", side=Side.BUY,
        qty=THIRD, price=THIRD, fee=Decimal("-0.001"), fee_asset="币安人生", maker=True, at=AT, seq=1,
    )  # fmt: skip
    trade = Trade(
        side="long", symbol="BTC/USDT", entry_time=AT, exit_time=AT, entry_price=THIRD, exit_price=THIRD, qty=THIRD,
        fees=Decimal(0), pnl=-THIRD, exit_reason="stop",
    )  # fmt: skip
    proposal = Proposal(
        proposal_id="entry|0|ema|S|1", strategy="ema", symbol="S", bar_open=BAR, bar_index=1, side=Side.BUY,
        purpose=Purpose.ENTRY, reference_price=THIRD,
    )  # fmt: skip
    decision = Decision(
        decision_id="ema|S|1", strategy="ema", symbol="S", bar_open=BAR, bar_index=1, decided_at=AT,
        proposals=(proposal,),
    )  # fmt: skip
    refusal = Refused(
        proposal_id="entry|0|ema|S|1", strategy="ema", symbol="S", bar_open=BAR, purpose=Purpose.ENTRY,
        rule="max_open_positions", detail="5 of 5",
    )  # fmt: skip
    letter = DeadLettered(actor="risk", seq=1, message_type="Fill", payload="Fill()", reason="Traceback\n  x")
    synced = [
        PositionSynced(symbol="S", status=status, book_qty=THIRD, exchange_qty=None, at=AT, reconcile_ms=1.5)
        for status in SyncStatus
    ]
    adjustment = Adjustment(
        adjustment_id="adopt:7", symbol="币安人生/USDT", qty=-THIRD, price=THIRD, seq=1, at=AT, reason="'withdrawn'",
    )  # fmt: skip
    found = Finding(kind="orphan", subject="0" * 32, detail="незачем 🙂\n\ttwice")
    return [
        rows.adjustment_row(adjustment),
        rows.request_row(RequestDone(request_id="adopt:7", outcome="corrected by -1"), AT),
        rows.external_row(ExternalTrade(fill=fill, origin=Origin.EXCHANGE)),
        rows.recovery_row(Recovered(start="boot-1:0", findings=(found,), at=AT)),
        rows.doubt_row(AccountDoubted(causes=("order x is unresolved",), at=AT)),
        rows.doubt_row(AccountDoubted(causes=(), at=AT)),
        rows.dust_row(position),
        rows.stray_row(
            StrayEnded(
                client_order_id="f" * 32,
                exchange_order_id=None,
                symbol="S",
                purpose=Purpose.STOP,
                status=OrderStatus.CANCELED,
            )
        ),
        rows.fill_row(fill),
        rows.open_position_row(position, 1),
        rows.closed_position_row(position, 2),
        rows.refused_row(refusal),
        rows.cycle_row(decision),
        rows.trade_row(TradeClosed(trade=trade, side=Side.SELL)),
        rows.flattened_row(Flattened(request_id="control:7")),
        rows.dead_letter_row(letter, AT),
        *map(rows.sync_row, synced),
        *(rows.approved_row(order(purpose)) for purpose in Purpose),
        rows.approved_row(order(Purpose.EMERGENCY, strategy="")),
        *(
            rows.order_row(changed(order(purpose, number=16 * number + place), status))
            for number, purpose in enumerate(Purpose)
            for place, status in enumerate(OrderStatus)
        ),
        rows.order_row(changed(order(Purpose.EMERGENCY, number=999, strategy=""), OrderStatus.RECORDED)),
        rows.order_row(replace(changed(order(Purpose.EXIT, number=998), OrderStatus.FILLED), event="adopted")),
    ]


def test_nothing_that_the_runtime_writes_is_refused(bot: Bot) -> None:
    entries = told_by_the_runtime()
    assert {name for name in vars(rows) if name.endswith("_row")} == {
        "fill_row", "open_position_row", "closed_position_row", "refused_row", "cycle_row", "trade_row",
        "flattened_row", "dead_letter_row", "sync_row", "approved_row", "order_row", "adjustment_row", "request_row",
        "external_row", "recovery_row", "doubt_row", "dust_row", "stray_row",
    }  # fmt: skip
    assert bot.sync(*entries) == {"last_seq": len(entries), "refused": []}
    assert bot.rows("dead_letters") == []
    assert len(bot.rows("bot_trades")) == len(Purpose) * len(OrderStatus) + 3


def test_amounts_and_times_come_back_as_they_were_told(bot: Bot) -> None:
    told = rows.order_row(changed(order(Purpose.STOP), OrderStatus.ACCEPTED))
    bot.sync(told)
    (row,) = bot.call("bot_runtime_get_open_trades")
    payload = told[1]["p_payload"]
    assert {name: row[name] for name in payload if not name.endswith(("_at", "bar_open"))} == {
        name: value for name, value in payload.items() if not name.endswith(("_at", "bar_open"))
    }
    assert (row["created_at"], row["bar_open"]) == ("2026-01-01T00:00:00.123456Z", "2026-01-31T00:00:00.000000Z")


def test_entries_at_or_below_the_last_sequence_are_skipped(bot: Bot) -> None:
    assert bot.sync(event("k1"), event("k2"))["last_seq"] == 2
    assert bot.sync(event("k1", other="x"), event("k2", other="x"), event("k3")) == {"last_seq": 3, "refused": []}
    assert [row["key"] for row in bot.rows("bot_events", order="key")] == ["k1", "k2", "k3"]


def test_each_store_has_its_own_sequence(bot: Bot) -> None:
    assert bot.sync(event("k1"), first_seq=5, store_id="s1")["last_seq"] == 5
    assert bot.sync(event("k2"), first_seq=1, store_id="s2")["last_seq"] == 1


def test_a_refused_entry_neither_blocks_the_rest_nor_is_lost(bot: Bot) -> None:
    bad = ("bot_runtime_upsert_trade", {"p_client_order_id": "c1", "p_payload": {"order_status": "sold"}}, "t1")
    unknown: Entry = ("drop_everything", {}, "x")
    result = bot.sync(event("k1"), unknown, event("k2"), bad, event("k1", other="x"), event("k3"))
    assert result["last_seq"] == 6
    assert [entry["seq"] for entry in result["refused"]] == [2, 4, 5]
    assert [entry["reason"].split(": ")[0] for entry in result["refused"]] == [
        "function_unknown", "payload_invalid", "key_conflict",
    ]  # fmt: skip
    assert "p_payload.order_status" in result["refused"][1]["reason"]
    assert [row["key"] for row in bot.rows("bot_events", order="key")] == ["k1", "k2", "k3"]
    letters = bot.rows("dead_letters", order="seq")
    assert [(row["seq"], row["fn"], row["key"], row["status"]) for row in letters] == [
        (2, "drop_everything", "x", "waiting"),
        (4, "bot_runtime_upsert_trade", "t1", "waiting"),
        (5, "bot_runtime_write_event", "k1", "waiting"),
    ]
    assert letters[1]["args"] == bad[1]


def test_a_repeat_tells_the_refusals_again(bot: Bot) -> None:
    batch: list[Entry] = [event("k1"), ("nothing", {}, "x")]
    assert bot.sync(*batch) == bot.sync(*batch)
    assert len(bot.rows("dead_letters")) == 1


def test_two_hundred_refused_entries_are_two_hundred_dead_letters(bot: Bot) -> None:
    assert len(bot.sync(*[("nothing", {}, "x")] * 200)["refused"]) == 200


@pytest.mark.parametrize(
    "entry",
    [
        {"seq": 1},
        {"seq": 1, "fn": None, "args": None, "key": None},
        {"seq": 1, "fn": {"a": 1}, "args": [1], "key": 7},
        {"seq": 1, "fn": "bot_runtime_write_event", "args": {}, "key": "k"},
        {"seq": 1, "fn": "bot_runtime_write_event", "args": {"p_foo": 1}, "key": "k"},
        {"seq": 1, "fn": "bot_runtime_record_fill", "args": {"p_payload": {"trade_id": "t", "qty": 1}}, "key": "k"},
        {"seq": 1, "fn": "bot_runtime_upsert_position", "args": {"p_payload": {"position_id": "p"}}, "key": "k"},
        {"seq": 1, "fn": "bot_runtime_sync", "args": {}, "key": "k"},
        {"seq": 1, "fn": "bot_runtime_claim", "args": {"p_boot_id": "b"}, "key": "k"},
    ],
)
def test_an_entry_that_is_none_is_set_aside(bot: Bot, entry: dict[str, Any]) -> None:
    result = bot.sync_raw([entry, {"seq": 2, "fn": event("k")[0], "args": event("k")[1], "key": "k"}], first_seq=1)
    assert (result["last_seq"], [each["seq"] for each in result["refused"]]) == (2, [1])
    assert len(bot.rows("bot_events")) == 1


def test_another_bots_entry_is_refused(bot: Bot) -> None:
    fn, args, key = event("k1")
    other = (fn, {**args, "p_bot_id": "00000000-0000-0000-0000-000000000001"}, key)
    assert bot.sync(other)["refused"] == [{"seq": 1, "reason": f"not_your_bot: {fn}"}]
    assert bot.sync((fn, {**args, "p_bot_id": bot.id.upper()}, key), first_seq=2)["refused"] == []


def test_a_batch_that_is_none_is_refused_whole(bot: Bot) -> None:
    entry = {"seq": 1, "fn": "nothing", "args": {}, "key": "x"}
    wrong: list[Any] = [
        None, {}, "x", [1], [{}], [entry | {"seq": "1"}], [entry | {"seq": 1.5}], [entry | {"seq": -1}],
        [entry, entry], [entry | {"seq": 2}], [entry, entry | {"seq": 3}, entry | {"seq": 2}],
    ]  # fmt: skip
    for entries in wrong:
        with refused("PT422", "payload_invalid", "p_entries"):
            bot.call("bot_runtime_sync", p_store_id="s1", p_first_seq="1", p_entries=entries)
    for first_seq in (None, "", "0", "x", "1.5", "-1", "9" * 30):
        with refused("PT422", "payload_invalid", "p_first_seq"):
            bot.call("bot_runtime_sync", p_store_id="s1", p_first_seq=first_seq, p_entries=[entry])
    assert bot.rows("sync_streams") == []


def test_a_batch_above_the_limits_is_refused_whole(bot: Bot) -> None:
    with refused("PT422", "batch_too_large", "p_entries"):
        bot.sync(*[event("k")] * 201)
    with refused("PT422", "batch_too_large", "p_entries"):
        bot.sync(event("k1", pad="x" * 130_000), event("k2", pad="x" * 130_000))


def test_a_batch_is_measured_as_the_runtime_writes_it(bot: Bot) -> None:
    # 254 kB as the runtime writes it, 262 kB with the blanks that PostgreSQL prints.
    entries: list[Entry] = [event(f"k{n}", **{f"n{i}": 1 for i in range(160)}) for n in range(160)]
    assert bot.sync(*entries)["refused"] == []


def test_an_entry_above_the_limit_by_itself_is_set_aside_with_how_it_begins(bot: Bot) -> None:
    result = bot.sync(event("k1", pad="x" * 260_000))
    assert result["refused"] == [{"seq": 1, "reason": "entry_too_large: args: more than 256000 bytes"}]
    (letter,) = bot.rows("dead_letters")
    assert letter["args"]["bytes"] > 260_000
    assert letter["args"]["head"].startswith('{"p_key": "k1"')


def test_no_entries_give_the_last_sequence(bot: Bot) -> None:
    bot.sync(event("k1"), first_seq=7)
    assert bot.sync() == {"last_seq": 7, "refused": []}


def test_a_defect_of_the_database_aborts_the_batch_and_sets_nothing_aside(database: Database, bot: Bot) -> None:
    database.query(
        "create function bot_runtime.fail() returns trigger language plpgsql as"
        " $$ begin if new.kind = 'fail' then raise exception 'full' using errcode = '53100'; end if; return new; end $$"
    )
    database.query(
        "create trigger fail before insert on bot_runtime.bot_events for each row execute function bot_runtime.fail()"
    )
    fn, args, key = event("k2")
    with pytest.raises(psycopg.errors.DiskFull):
        bot.sync(event("k1"), (fn, {**args, "p_kind": "fail"}, key))
    database.query("drop trigger fail on bot_runtime.bot_events")
    assert (bot.rows("bot_events"), bot.rows("dead_letters"), bot.rows("sync_streams")) == ([], [], [])
    assert bot.sync(event("k1"), event("k2"))["refused"] == []


def test_a_fenced_epoch_may_still_deliver_its_journal(bot: Bot) -> None:
    bot.claim("boot-1")
    fenced = dict(bot.headers)
    bot.claim("boot-2", previous="boot-1")
    bot.headers = fenced
    assert bot.sync(*told_by_the_runtime())["refused"] == []
