"""A live bot's process against its surroundings: stopped by a signal, cut off, overtaken, without a database."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench._stack import wait_until
from bench.binance.process import running_exchange
from tests.session.live_market import BUY, CALM, SELL
from tests.stack.live import Cable, LiveFleet


@pytest.fixture
def live(fleet: Any) -> Iterator[LiveFleet]:
    with running_exchange(seed=3) as market:
        made = LiveFleet(fleet, market)
        made.price(CALM)
        yield made


def log_of(live: LiveFleet, state: str = "state") -> list[dict[str, Any]]:
    lines = (live.fleet.folder / state / "logs" / "tradebothub.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def trading(live: LiveFleet, state: str = "state") -> bool:
    path = live.fleet.folder / state / "status.json"
    return path.exists() and bool(json.loads(path.read_text())["phase"] == "TRADING")


def test_a_bot_that_is_stopped_on_an_order_and_woken_after_its_lease_sends_nothing_and_ends(live: LiveFleet) -> None:
    bot = live.make()
    owner = live.start(bot)
    wait_until(lambda: trading(live), within_s=30, what="an open gate")
    # The exchange itself stops the bot when its order arrives, so that the answer finds nobody.
    live.market.tell("kill", when="after_effect", pid=owner.pid, signal=int(signal.SIGSTOP))
    live.price(BUY)
    wait_until(lambda: live.orders("BUY"), within_s=30, what="an entry")
    live.price(CALM)
    rival = live.start(bot, "elsewhere")
    wait_until(lambda: trading(live, "elsewhere"), within_s=30, what="the rival's gate")
    owner.send_signal(signal.SIGCONT)
    live.price(SELL)  # a reason for both to act
    exit_code, _, _ = live.fleet.ended(owner)
    assert exit_code == 75
    wait_until(lambda: live.held() < 0.0001, within_s=30, what="the rival's exit")
    assert len(live.orders("BUY")) == 1
    assert sum(float(row["executed"]) for row in live.orders("SELL")) <= 0.01
    assert live.fleet.stop(rival)[0] == 0
    assert live.rows(bot, "dead_letters") == 0


def test_a_bot_that_is_cut_off_takes_no_entries_and_never_sells_what_its_rival_has_sold(live: LiveFleet) -> None:
    bot = live.make()
    with Cable(live.fleet.stack.url) as cable:
        owner = live.start(bot, SUPABASE_URL=cable.url)
        live.buys()
        cable.cut()
        rival = live.start(bot, "elsewhere")
        wait_until(lambda: trading(live, "elsewhere"), within_s=30, what="the rival's gate")
        live.price(SELL)
        wait_until(lambda: live.held() < 0.0001, within_s=30, what="an exit")
        live.price(BUY)
        wait_until(lambda: len(live.orders("BUY")) == 2, within_s=30, what="the rival's next entry")
        live.price(CALM)
        time.sleep(1.2)  # a bar more, for the one that is cut off to do what it may not
        assert len(live.orders("BUY")) == 2
        assert sum(float(row["executed"]) for row in live.orders("SELL")) <= 0.01
        cable.mend()
        exit_code, _, _ = live.fleet.ended(owner)
        assert exit_code == 75
        assert live.stops()
        assert live.fleet.stop(rival)[0] == 0


def test_a_start_without_the_database_protects_exits_and_trades_on_when_it_is_back(live: LiveFleet) -> None:
    bot = live.make()
    owner = live.start(bot)
    live.buys()
    wait_until(lambda: live.rows(bot, "bot_fills"), within_s=15, what="the first fill's row")
    live.fleet.stack.server.stop()
    try:
        owner.kill()
        owner.communicate()
        again = live.start(bot)
        assert "protecting what is open" in again.stdout.readline()
        assert "without the lease" in again.stdout.readline()
        live.price(SELL)
        wait_until(lambda: live.held() < 0.0001, within_s=30, what="an exit")
        live.price(BUY)
        time.sleep(2.2)
        assert len(live.orders("BUY")) == 1
    finally:
        live.fleet.stack.server.start()
    wait_until(lambda: len(live.orders("BUY")) == 2, within_s=30, what="an entry")
    wait_until(
        lambda: live.rows(bot, "bot_fills") == len(live.market.ledger()["trades"]), within_s=15, what="every fill's row"
    )
    assert live.fleet.stop(again)[0] == 0
    assert live.rows(bot, "dead_letters") == 0


def test_a_live_bot_without_its_acknowledgement_says_so_and_orders_nothing(live: LiveFleet) -> None:
    bot = live.make()
    process = live.start(bot, LIVE_TRADING_ACK="")
    assert "live orders: not armed (LIVE_TRADING_ACK is not I_UNDERSTAND)" in process.stdout.readline()
    live.price(BUY)
    live.fleet.trades(bot, more_than=2)
    assert live.fleet.stop(process)[0] == 0
    assert live.market.ledger()["orders"] == []
