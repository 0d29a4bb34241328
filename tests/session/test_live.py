"""The live session on an exchange over HTTP: armed and not, on a full disk, without its database, after a damage."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.binance.process import running_exchange
from tbh.infra.ccxt_feed import CcxtFeed
from tbh.infra.clocks import MarketTime, wall_clock
from tbh.ports import Fatal
from tbh.strategies.definition import parse_definition
from tests.session.live_market import BUY, CALM, LEVELS, SELL, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_exchange(seed=5) as market:
        made = Bench(market, tmp_path / "state")
        made.price(CALM)
        yield made
        for session in made.sessions:
            session.close()


def held(bench: Bench) -> Decimal:
    coins = bench.market.ledger()["balances"]["BTC"]
    return Decimal(coins["free"]) + Decimal(coins["locked"])


def log_of(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench.root / "logs" / "tradebothub.log").read_text().splitlines()]


def test_it_enters_guards_and_leaves_and_the_books_agree_with_the_exchange(bench: Bench) -> None:
    session = bench.open()
    bench.buys(session)
    assert session.snapshot().position_qty > 0
    bench.price(SELL)
    bench.until(lambda: not bench.stops() and held(bench) < Decimal("0.0001"), "a closed position")
    bench.price(CALM)
    bench.until(lambda: session.snapshot().trades == 1, "a round trip")
    assert session.close() == 0
    result = session.result()
    ledger = bench.market.ledger()
    assert Decimal(result["cash"]) == Decimal(ledger["balances"]["USDT"]["free"])
    assert set(ledger["refused"]) <= {"GET order -2013"}  # a busy machine asks for an order before it is there
    assert ledger["unscoped"] == 0
    assert result["orders"]["filled"] == 2
    assert result["trading_after_s"] is not None
    (said,) = [line for line in log_of(bench) if line["event"] == "trading"]
    assert said["after_s"] == result["trading_after_s"]


RESTING = LEVELS | {"orders": {"entry": {"kind": "limit", "offset": "0.01", "expires_bars": 60}}}


def resting(bench: Bench) -> list[dict[str, Any]]:
    return [row for row in bench.orders("BUY") if row["status"] == "NEW"]


def test_an_ordered_stop_takes_off_what_would_fill_unwatched(bench: Bench) -> None:
    session = bench.open(definition=parse_definition(RESTING))
    bench.until(lambda: session.trading_after_s is not None, "an open gate")
    bench.price(BUY)
    bench.until(lambda: resting(bench), "an entry on the book")
    assert session.close() == 0
    assert [(row["type"], row["status"]) for row in bench.orders("BUY")] == [("LIMIT", "CANCELED")]
    assert session.result()["orders"]["canceled"] == 1


def test_an_ordered_stop_waits_only_so_long_for_an_exchange_that_does_not_answer(bench: Bench) -> None:
    session = bench.open(definition=parse_definition(RESTING))
    bench.until(lambda: session.trading_after_s is not None, "an open gate")
    bench.price(BUY)
    (row,) = bench.until(lambda: resting(bench), "an entry on the book")
    bench.market.faults({"fault": "drop_request", "p": 1.0, "methods": ["DELETE"]})
    assert session.close() == 0
    (said,) = [line for line in log_of(bench) if line["event"] == "entries_left_resting"]
    assert said["orders"] == [row["client_order_id"]]


def test_a_bot_that_is_not_armed_writes_nothing_to_the_exchange(bench: Bench) -> None:
    session = bench.open(silent_because="LIVE_TRADING is not true", flags=("observe_only",))
    bench.until(lambda: "observe_only" in session.board.gate, "its gate")
    bench.price(BUY)
    bench.until(session.store.proposal_count, "a signal")
    assert session.close() == 0
    assert bench.orders() == []
    assert session.trading_after_s is None


def test_a_start_on_a_machine_whose_clock_is_ahead_goes_by_the_exchanges_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new disk is dated before the exchange is asked; market time would stand still until that hour is over."""
    ahead = partial(MarketTime, wall=lambda: wall_clock() + timedelta(hours=1))
    monkeypatch.setattr("tbh.live.MarketTime", ahead)
    session = bench.open(started=False)
    assert abs(session.now() - wall_clock()) < timedelta(minutes=1)
    moved = session.now()
    assert session.now() > moved


def test_a_later_start_counts_from_where_the_first_one_began(bench: Bench) -> None:
    session = bench.open()
    bench.buys(session)
    first = session.cash
    assert session.close() == 0
    bench.market.tell("foreign", side="BUY", type="MARKET", quantity="0.001")
    session = bench.open(started=False)
    assert session.cash == first == Decimal(10_000)


def test_on_an_empty_disk_the_account_begins_before_the_bots_own_first_trade(bench: Bench) -> None:
    bench.market.tell("foreign", side="BUY", type="MARKET", quantity="0.002")  # somebody else's, before the bot
    before = Decimal(bench.market.ledger()["balances"]["USDT"]["free"])
    reserved = {"reserved": {"BTC": "0.001998"}}
    session = bench.open(options=bench.market.exchange_options(**reserved))
    bench.buys(session)
    assert session.close() == 0
    session = bench.open(root=bench.root.with_name("elsewhere"), options=bench.market.exchange_options(**reserved))
    assert session.cash == before
    bench.until(lambda: session.snapshot().position_qty > 0, "the position")
    bench.until(lambda: session.trading_after_s is not None, "an open gate")


def test_a_key_that_is_refused_at_the_first_start_is_configuration(bench: Bench) -> None:
    with pytest.raises(Fatal) as refusal:
        bench.open(credentials={"api_key": "a" * 64, "api_secret": "b" * 64})
    assert refusal.value.exit_code == 78
    assert "EXCHANGE_API_KEY" in refusal.value.detail


@pytest.mark.parametrize(
    ("use", "bars", "short"),
    [
        ({"name": "ema", "params": {"period": 200}}, 3_447, False),
        ({"name": "sma", "params": {"period": 10}, "timeframe": "1m"}, 718, False),
        ({"name": "ema", "params": {"period": 200}, "timeframe": "1m"}, 50_000, True),
        ({"name": "sma", "params": {"period": 4}, "timeframe": "1d"}, 431_999, True),
    ],
)
def test_a_start_asks_for_as_many_bars_as_the_rules_need(
    bench: Bench, use: dict[str, Any], bars: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def feed(*arguments: Any, history_bars: int, **options: Any) -> CcxtFeed:
        asked.append(history_bars)
        return CcxtFeed(*arguments, history_bars=1, **options)

    monkeypatch.setattr("tbh.live.CcxtFeed", feed)
    above = {"left": "close", "op": ">", "right": "a__value"}
    definition = {**LEVELS, "indicators": [{"id": "a", **use}], "entry": {"long": above}}
    session = bench.open(started=False, definition=parse_definition(definition))
    assert asked == [bars]
    assert any(line["event"] == "history_short" for line in log_of(bench)) is short
    assert session.close() == 0


def test_a_first_start_without_the_exchange_ends_with_69(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbh.live.PAUSE_MAX_S", 0.01)
    with pytest.raises(Fatal) as refusal:
        bench.open(options={"urls": {"api": "http://127.0.0.1:9"}})
    assert (refusal.value.exit_code, refusal.value.reason) == (69, "exchange_unreachable")


def test_a_later_start_without_the_exchange_waits_for_it_with_entries_off(bench: Bench) -> None:
    assert bench.open().close() == 0
    bench.market.faults({"fault": "error_before", "p": 1})
    session = bench.open()
    time.sleep(0.5)
    assert session.trouble is None
    assert session.trading_after_s is None
    bench.market.faults()
    bench.until(lambda: session.trading_after_s is not None, "an open gate")


def test_with_a_full_disk_entries_stop_exits_go_and_are_recorded_when_there_is_room(bench: Bench) -> None:
    session = bench.open()
    bench.buys(session)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        bench.price(SELL)
        bench.until(lambda: held(bench) < Decimal("0.0001"), "a closed position")
        bench.until(lambda: "disk_full" in session.board.gate, "a gate closed for the disk")
        buys = len(bench.orders("BUY"))
        bench.price(BUY)
        time.sleep(1.5)
        assert len(bench.orders("BUY")) == buys
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    bench.until(lambda: len(bench.orders("BUY")) > buys, "an entry once there is room")
    bench.until(lambda: session.store.orders_by_status().get("filled", 0) >= 3, "the exit's record")
    assert session.trouble is None


def test_without_the_database_entries_end_with_the_lease_exits_go_on_and_all_is_told_once(bench: Bench) -> None:
    session = bench.open()
    database = bench.database(session)
    bench.buys(session)
    database.away = True
    bench.until(lambda: "lease_lapsed" in session.board.gate, "a lapsed lease")
    bench.price(SELL)
    bench.until(lambda: held(bench) < Decimal("0.0001"), "a closed position")
    buys = len(bench.orders("BUY"))
    bench.price(BUY)
    time.sleep(1.5)
    assert len(bench.orders("BUY")) == buys
    bench.price(CALM)
    database.away = False
    bench.until(lambda: not session.board.gate, "an open gate")
    bench.until(lambda: session.store.counts().pending == 0, "an empty outbox")
    assert session.store.counts().refused == 0
    assert len(bench.tables.fills) == len(bench.market.ledger()["trades"])


def test_a_damaged_store_is_set_aside_rebuilt_from_the_exchange_and_told(bench: Bench) -> None:
    session = bench.open()
    bench.buys(session)
    qty, cash = session.snapshot().position_qty, session.cash
    assert session.close() == 0
    store = bench.root / "store.sqlite"
    store.write_bytes(b"not a database" * 100)
    session = bench.open()
    assert session.damage is not None
    assert session.damage.kept.read_bytes().startswith(b"not a database")
    bench.until(lambda: session.snapshot().position_qty == qty, "the position")
    assert session.cash == cash
    notices = bench.until(
        lambda: [row for row in bench.tables.notifications.values() if "set aside" in str(row)], "a notice"
    )
    assert str(session.damage.kept) in str(notices)
    assert held(bench) == qty


def test_an_escalation_puts_the_missing_stop_back_over_a_connection_of_its_own(bench: Bench) -> None:
    session = bench.open()
    bench.buys(session)
    (stop,) = bench.stops()
    session.host.escalate("strategy", "a test", 70)  # from here on no actor is waited for
    bench.market.tell("expire", clientOrderId=stop["client_order_id"])
    assert session.close() == 70
    (again,) = bench.stops()
    assert again["client_order_id"] != stop["client_order_id"]
    assert again["stop_price"] == stop["stop_price"]
