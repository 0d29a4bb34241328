"""Orders: two ids, a status that only rises, a filled quantity that never shrinks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tbh.infra.localdb import LocalDatabase
from tbh.messages.orders import OrderStatus, Purpose
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, refused


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all: each test has a bot of its own, and no bot sees another's rows."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Iterator[Bot]:
    with database.connected() as connection:
        yield Bot(database, connection)


def test_one_order_is_one_row_under_both_ids(bot: Bot) -> None:
    bot.trade("c1", symbol="S", order_status="submitted")
    bot.trade("c1", "x1", order_status="accepted")
    row = bot.call(
        "upsert_bot_trade", p_exchange_order_id="x1", p_payload={"order_status": "filled", "filled_qty": "1"}
    )
    assert (row["client_order_id"], row["exchange_order_id"], row["order_status"]) == ("c1", "x1", "filled")
    assert len(bot.rows("bot_trades")) == 1


def test_two_rows_become_one_when_it_shows_that_they_are_one_order(bot: Bot) -> None:
    bot.trade("c1", symbol="S", order_status="submitted", strategy="ema")
    bot.call("upsert_bot_trade", p_exchange_order_id="x1", p_payload={"symbol": "S", "filled_qty": "0.5"})
    assert len(bot.rows("bot_trades")) == 2
    row = bot.trade("c1", "x1")
    assert (row["order_status"], row["filled_qty"], row["strategy"]) == ("accepted", "0.5", "ema")
    assert len(bot.rows("bot_trades")) == 1


def test_a_second_exchange_id_for_an_order_is_refused(bot: Bot) -> None:
    bot.trade("c1", "x1", symbol="S", order_status="accepted")
    with refused("PT422", "exchange_order_id_conflict", "p_exchange_order_id"):
        bot.trade("c1", "x2", order_status="accepted")


def test_another_orders_exchange_id_is_refused(bot: Bot) -> None:
    bot.trade("c1", "x1", symbol="S", order_status="accepted")
    with refused("PT422", "exchange_order_id_conflict", "p_exchange_order_id"):
        bot.trade("c2", "x1", symbol="S", order_status="accepted")


def test_two_bots_may_have_orders_of_the_same_ids(bot: Bot) -> None:
    other = Bot(bot.database, bot.connection)
    bot.trade("c1", "x1", symbol="S", order_status="filled", filled_qty="1")
    assert other.trade("c1", "x1", symbol="S", order_status="accepted")["order_status"] == "accepted"


def test_the_status_never_goes_backwards(bot: Bot) -> None:
    bot.trade(
        "c1", "x1", symbol="S", order_status="canceled", filled_qty="0.5", version=7, changed_at="2026-01-02T00:00:00Z"
    )
    standing = bot.rows("bot_trades")
    assert bot.trade("c1", symbol="S", order_status="accepted", version=3)["order_status"] == "canceled"
    assert bot.rows("bot_trades") == standing


def test_a_late_row_leaves_even_the_time_of_writing_alone(bot: Bot) -> None:
    standing = bot.trade("c1", "x1", symbol="S", order_status="filled", filled_qty="1", version=7)
    assert bot.trade("c1", symbol="S", order_status="partially_filled", filled_qty="0.5", version=5) == standing


def test_a_fill_after_a_cancel_raises_the_filled_quantity_and_its_average(bot: Bot) -> None:
    bot.trade("c1", symbol="S", order_status="canceled", filled_qty="0.5", avg_fill_price="100")
    row = bot.trade("c1", order_status="partially_filled", filled_qty="0.7", avg_fill_price="101")
    assert (row["order_status"], row["filled_qty"], row["avg_fill_price"]) == ("canceled", "0.7", "101")


def test_a_filled_order_was_neither_absent_nor_canceled(bot: Bot) -> None:
    for status in ("absent", "rejected", "canceled", "filled", "expired", "absent"):
        row = bot.trade("c1", symbol="S", order_status=status)
    assert row["order_status"] == "filled"


def test_a_late_row_fills_in_what_is_not_known(bot: Bot) -> None:
    bot.trade("c1", "x1", symbol="S", order_status="filled", filled_qty="1")
    row = bot.trade("c1", order_status="recorded", strategy="ema", event="stop", stop_price="90")
    assert (row["strategy"], row["event"], row["stop_price"], row["order_status"]) == ("ema", "stop", "90", "filled")


def test_of_two_sizes_of_an_order_the_greater_stands(bot: Bot) -> None:
    """One process decided it; another saw it fill, and counts it as what it had filled by then."""
    bot.trade("c1", "x1", symbol="S", order_status="partially_filled", filled_qty="0.5", qty="10", version=5)
    assert bot.trade("c1", "x1", order_status="filled", filled_qty="2", qty="2", version=1001)["qty"] == "10"
    assert bot.trade("c1", "x1", order_status="accepted", qty="11", version=3)["qty"] == "11"


def test_the_exchanges_payload_of_the_furthest_row_is_kept(bot: Bot) -> None:
    bot.trade("c1", symbol="S", order_status="filled", filled_qty="1", exchange_payload={"s": "FILLED"})
    row = bot.trade("c1", order_status="accepted", exchange_payload={"s": "NEW"})
    assert row["exchange_payload"] == {"s": "FILLED"}


@pytest.mark.parametrize("status", [*OrderStatus, "simulated"])
def test_every_status_of_the_runtime_is_taken(bot: Bot, status: str) -> None:
    assert bot.trade("c1", symbol="S", order_status=str(status))["order_status"] == status


@pytest.mark.parametrize("purpose", Purpose)
def test_every_purpose_of_the_runtime_is_taken(bot: Bot, purpose: Purpose) -> None:
    assert bot.trade("c1", symbol="S", order_status="drafted", event=purpose.value)["event"] == purpose


def test_an_order_without_a_status_counts_as_accepted_once_the_exchange_has_an_id_for_it(bot: Bot) -> None:
    assert bot.trade("c1", symbol="S")["order_status"] == "drafted"
    assert bot.trade("c1", "x1")["order_status"] == "accepted"


def test_a_new_order_needs_a_symbol(bot: Bot) -> None:
    with refused("PT422", "payload_invalid", "p_payload.symbol"):
        bot.trade("c1", order_status="accepted")


@pytest.mark.parametrize("exchange_order_id", [None, "", " ", "x" * 129])
def test_upsert_bot_trade_refuses_an_empty_or_malformed_exchange_id(bot: Bot, exchange_order_id: str | None) -> None:
    with refused("PT422", "payload_invalid", "p_exchange_order_id"):
        bot.call("upsert_bot_trade", p_exchange_order_id=exchange_order_id, p_payload={"symbol": "S"})


def test_open_trades_are_those_that_may_still_fill(bot: Bot) -> None:
    for status in [*OrderStatus, "simulated"]:
        bot.trade(f"c-{status}", symbol="S", order_status=str(status))
    bot.trade("c-other", symbol="T", order_status="accepted")
    found = [row["client_order_id"] for row in bot.call("bot_runtime_get_open_trades", p_symbol="S")]
    assert found == ["c-drafted", "c-recorded", "c-submitted", "c-accepted", "c-partially_filled", "c-unknown"]
    assert len(bot.call("bot_runtime_get_open_trades")) == 7


@pytest.mark.parametrize("proof", ["absent", "rejected"])
def test_an_order_that_the_exchange_knew_after_all_is_open(bot: Bot, proof: str) -> None:
    bot.trade("c1", symbol="S", order_status=proof, version=4, change="not_found")
    assert bot.call("bot_runtime_get_open_trades") == []
    bot.trade("c1", "x1", order_status="accepted", version=5, change="accepted")
    assert [row["client_order_id"] for row in bot.call("bot_runtime_get_open_trades")] == ["c1"]
    bot.trade("c1", "x1", order_status="canceled", version=6, change="canceled")
    assert bot.call("bot_runtime_get_open_trades") == []


def open_ids(bot: Bot, **arguments: str) -> list[str]:
    return [row["client_order_id"] for row in bot.call("bot_runtime_get_open_trades", **arguments)]


def test_how_an_order_s_position_is_guarded_is_told_back(bot: Bot) -> None:
    guard = {"stop": {"kind": "percent", "value": "2"}, "target": None}
    bot.trade("c1", symbol="S", order_status="accepted", protection=guard)
    assert bot.trade("c1", "x1", order_status="partially_filled", filled_qty="1")["protection"] == guard
    [row] = bot.call("bot_runtime_get_open_trades")
    assert row["protection"] == guard


def test_the_guard_is_an_object(bot: Bot) -> None:
    with refused("PT422", "payload_invalid", "p_payload.protection"):
        bot.trade("c1", symbol="S", order_status="accepted", protection="2 %")


def test_the_entry_of_an_open_position_is_among_the_open_trades_until_the_position_is_closed(bot: Bot) -> None:
    for order in ("c0", "c1", "c2"):
        bot.trade(order, symbol="S", order_status="filled", filled_qty="1")
    assert open_ids(bot) == []
    position = {"position_id": "c1", "symbol": "S", "strategy": "ema"}
    bot.position(**position, status="open", qty="1", seq=1)
    assert (open_ids(bot), open_ids(bot, p_symbol="S"), open_ids(bot, p_symbol="T")) == (["c1"], ["c1"], [])
    bot.position(**position, status="closed", seq=2)
    assert open_ids(bot) == []
    bot.position(**position | {"position_id": "p2"}, status="open", qty="1", entry_client_order_id="c2", seq=3)
    assert open_ids(bot) == ["c2"]


def test_an_entry_that_may_still_fill_is_among_the_open_trades_once(bot: Bot) -> None:
    bot.trade("c1", symbol="S", order_status="partially_filled", filled_qty="1")
    bot.position(position_id="c1", symbol="S", strategy="ema", status="open", qty="1", seq=1)
    assert open_ids(bot) == ["c1"]


def test_another_bot_s_open_position_shows_none_of_this_bot_s_orders(bot: Bot) -> None:
    other = Bot(bot.database, bot.connection)
    bot.trade("c1", symbol="S", order_status="filled", filled_qty="1")
    other.position(position_id="c1", symbol="S", strategy="ema", status="open", qty="1", seq=1)
    assert (open_ids(bot), open_ids(other)) == ([], [])
