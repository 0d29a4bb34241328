"""What goes wrong between a client and the stand-in for Binance, on demand: its ledger holds all the same."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from bench.binance.process import FakeBinance

WITHIN_S = 5.0


def polled(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("fault", ["drop_reply", "error_after", "timeout_after", "html", "empty", "cut"])
def test_when_the_reply_is_spoilt_the_order_is_on_the_book(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str], fault: str
) -> None:
    name = new_id()
    exchange.faults({"fault": fault, "next": 1, "methods": ["POST"]})
    try:
        answer = client.order(name)
    except (ConnectionError, http.client.HTTPException):
        answer = (0, None)
    assert answer[0] != 200 or not isinstance(answer[1], dict)
    assert client.query(name)[1]["status"] == "FILLED"


@pytest.mark.parametrize("fault", ["drop_request", "error_before", "html_before", "rate_limit", "ban"])
def test_what_is_lost_before_the_effect_never_has_one(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str], fault: str
) -> None:
    name = new_id()
    exchange.faults({"fault": fault, "next": 1, "methods": ["POST"]})
    if fault == "drop_request":
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            client.order(name)
    else:
        assert client.order(name)[0] == {"error_before": 503, "html_before": 200, "rate_limit": 429, "ban": 418}[fault]
    assert client.query(name) == (400, {"code": -2013, "msg": "Order does not exist."})


def test_a_late_request_is_judged_by_the_time_it_arrives(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    exchange.faults({"fault": "delay", "next": 2, "ms": 150})
    assert client.order(new_id(), recvWindow=100)[1]["code"] == -1021
    assert client.order(new_id(), recvWindow=5000)[0] == 200


def test_right_after_its_acceptance_an_order_can_be_denied_for_a_while(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    name = new_id()
    exchange.faults({"fault": "not_found", "next": 1, "ms": 300})
    _, placed = client.order(name)
    assert client.query(name)[1]["code"] == -2013
    trade = placed["fills"][0]["tradeId"]
    assert client.ask("GET", "/api/v3/myTrades", fromId=trade)[1] == []
    polled(lambda: client.query(name)[0] == 200)
    assert client.ask("GET", "/api/v3/myTrades", fromId=trade)[1][0]["id"] == trade


def test_on_a_thin_book_the_rest_of_a_market_order_expires(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    exchange.faults({"fault": "thin", "next": 1})
    _, placed = client.order(new_id())
    assert placed["status"] == "EXPIRED"
    assert 0 < Decimal(placed["executedQty"]) < Decimal("0.01")


def test_a_lagging_replica_answers_as_it_did_before(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    before = client.ask("GET", "/api/v3/account")[1]
    client.order(new_id())
    exchange.faults({"fault": "stale", "next": 1, "paths": ["account"]})
    assert client.ask("GET", "/api/v3/account")[1] == before
    assert client.ask("GET", "/api/v3/account")[1] != before


@pytest.mark.parametrize(("when", "effect", "found"), [
    ("before_effect", True, 200), ("before_effect", False, 400), ("after_effect", True, 200),
    ("before_reply", True, 200),
])  # fmt: skip
def test_an_order_kills_the_process_that_is_named(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str], when: str, effect: bool, found: int
) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        exchange.tell("kill", when=when, pid=victim.pid, effect=effect)
        name = new_id()
        try:
            client.order(name)
        except (ConnectionError, http.client.HTTPException):
            assert when != "before_reply"
        assert victim.wait(WITHIN_S) == -9
        assert client.query(name)[0] == found
    finally:
        victim.kill()
        victim.communicate()
    assert exchange.ledger()["kills"][-1]["client_order_id"] == name


def test_a_refused_order_leaves_the_kill_to_the_next_one(
    client: Any, exchange: FakeBinance, new_id: Callable[[], str]
) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        exchange.tell("kill", when="before_reply", pid=victim.pid)
        assert client.order(new_id(), quantity="900")[0] == 400
        assert victim.poll() is None
        assert client.order(new_id())[0] == 200
        assert victim.wait(WITHIN_S) == -9
    finally:
        victim.kill()
        victim.communicate()
