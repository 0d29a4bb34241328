"""Every way in which an exchange fails to answer, and the failure that it is told as."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tbh.infra import ccxt_errors
from tbh.infra.ccxt_budget import Budget
from tbh.infra.ccxt_client import CcxtClient, read_options
from tbh.infra.ccxt_clock import process_s
from tbh.infra.ccxt_errors import ClockOff, Duplicate, KeyRefused, NotFound, Verdict, verdict_of
from tbh.infra.ccxt_library import library
from tbh.infra.ccxt_venues import BINANCE, VENUES, venue_of
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable, Unknown
from tests.infra.scripted_http import ScriptedServer, reply, scripted

WITHIN_S = 5.0
SECRET = "s3cr3t-of-this-test"
KEY = "k3y-of-this-test"


class Venue:
    """A client, and the exchange's next answer to what is signed; the time is always told."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.said: bytes | None = reply({})
        self.at_ms: int | None = None
        server.script = self._answer
        settings = read_options(BINANCE, {"urls": {"api": server.url}})
        self.client = CcxtClient(BINANCE, settings, api_key=KEY, api_secret=SECRET)

    def _answer(self, method: str, path: str, params: dict[str, str]) -> bytes | None:
        if path.endswith("/time"):
            return reply({"serverTime": self.at_ms or int(time.time() * 1000)})
        return self.said

    def call(self, endpoint: str = "place", *, poll: bool = False) -> Any:
        return self.client.call(endpoint, {"symbol": "BTCUSDT"}, until_s=time.monotonic() + WITHIN_S, poll=poll)

    def failure(self, said: bytes | None, endpoint: str = "place") -> Failure:
        self.said = said
        with pytest.raises(Failure) as raised:
            self.call(endpoint)
        return raised.value


@pytest.fixture
def venue() -> Iterator[Venue]:
    with scripted(lambda *_: None) as server:
        made = Venue(server)
        yield made
        made.client.close()


def refusal(code: int, msg: str = "no", *, status: int = 400, **headers: str) -> bytes:
    return reply({"code": code, "msg": msg}, status=status, **headers)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (refusal(-1013, "Filter failure: LOT_SIZE"), Rejected),
        (refusal(-1100), Rejected),
        (refusal(-1121, "Invalid symbol."), Rejected),
        (refusal(-2010, "Account has insufficient balance for requested action."), Rejected),
        (refusal(-2010, "Stop price would trigger immediately."), Rejected),
        (refusal(-2010, "Duplicate order sent."), Duplicate),
        (refusal(-2011, "Unknown order sent."), NotFound),
        (refusal(-2013, "Order does not exist."), NotFound),
        (refusal(-2014, status=401), KeyRefused),
        (refusal(-2015, status=401), KeyRefused),
        (refusal(-1022), KeyRefused),
        (refusal(-1021, "Timestamp for this request is outside of the recvWindow."), ClockOff),
        (refusal(-1000), Unknown),
        (refusal(-1006), Unknown),
        (refusal(-1007), Unknown),
        (refusal(-1015, status=429), Defer),
        (refusal(-1003, status=429), Defer),
        (refusal(-1003, status=418), Defer),
        (refusal(-4116), Unknown),
        (refusal(-987_654), Unknown),
        (refusal(-1013, status=503), Unknown),
        (refusal(-2013, status=500), Unknown),
        (reply({"code": 1, "msg": "System is under maintenance."}, status=400), Defer),
        (reply("<html>Bad gateway</html>", status=502), Unknown),
        (reply("<html>Sorry</html>", status=403), Unknown),
        (reply("<html>Sorry</html>", status=404), Unknown),
        (reply("<html>Hello</html>"), Unknown),
        (reply(""), Unknown),
        (reply("moved", status=302, Location="http://127.0.0.1:1/"), Unknown),
        (None, Unknown),
    ],
)
def test_each_answer_is_told_as_its_failure(venue: Venue, said: bytes | None, kind: type[Failure]) -> None:
    assert type(venue.failure(said)) is kind


def test_a_refused_connection_is_unavailable(venue: Venue) -> None:
    venue.call()
    venue.server.close()
    failure = venue.failure(None)
    assert type(failure) is Unavailable
    assert failure.reason == "exchange_unreachable"


def library_errors() -> dict[str, Any]:
    """Every exception of the library by name."""
    found = library("binance")
    every = vars(found.errors).items()
    return {name: one for name, one in every if isinstance(one, type) and issubclass(one, found.base_error)}


def test_no_word_of_the_table_stands_for_an_exception_that_the_library_lacks() -> None:
    assert set(ccxt_errors.CLASSES) - set(library_errors()) == set()


def test_a_bare_exchange_error_is_no_rejection() -> None:
    verdicts = {name: verdict_of(kind()) for name, kind in library_errors().items()}
    assert verdicts["ExchangeError"] is Verdict.UNKNOWN
    assert verdicts["InsufficientFunds"] is Verdict.REFUSED
    assert verdicts["OrderNotFound"] is Verdict.NOT_FOUND
    assert verdicts["DuplicateOrderId"] is Verdict.DUPLICATE
    assert verdicts["MarketClosed"] is Verdict.REFUSED
    assert verdicts["RequestTimeout"] is Verdict.UNKNOWN
    assert verdict_of(KeyError()) is Verdict.UNKNOWN


def test_the_pause_that_a_limit_names_is_kept(venue: Venue) -> None:
    failure = venue.failure(refusal(-1003, status=429, Retry_After="30"))
    assert isinstance(failure, Defer)
    assert failure.after_s == 30
    asked = len(venue.server.asked)
    again = venue.failure(reply({}), "cancel")
    assert isinstance(again, Defer)
    assert 29 < again.after_s <= 30
    assert len(venue.server.asked) == asked


def test_too_many_orders_close_nothing_but_orders(venue: Venue) -> None:
    venue.failure(refusal(-1015, status=429, Retry_After="10"))
    venue.said = reply({"ok": True})
    assert venue.call("cancel") == {"ok": True}


def test_a_refusal_for_too_many_requests_silences_every_connection_that_shares_the_budget(venue: Venue) -> None:
    """The exchange counts, and bans, by address."""
    settings = read_options(BINANCE, {"urls": {"api": venue.server.url}})
    budget = Budget(weight_header=BINANCE.weight_header, weight_max=BINANCE.weight_max)
    one, other = (CcxtClient(BINANCE, settings, api_key=KEY, api_secret=SECRET, budget=budget) for _ in range(2))
    venue.said = refusal(-1003, status=429, Retry_After="60")
    until_s = time.monotonic() + WITHIN_S
    with pytest.raises(Defer):
        one.call("place", {"symbol": "BTCUSDT"}, until_s=until_s)
    venue.said = reply({})
    with pytest.raises(Defer, match="nothing was sent"):
        other.call("candles", {"symbol": "BTCUSDT"}, until_s=until_s)
    one.close()
    other.close()


def test_polls_leave_the_rest_of_the_budget_to_orders(venue: Venue) -> None:
    venue.at_ms = 1_000 * 60_000
    venue.said = reply({"ok": True}, X_Mbx_Used_Weight_1m="5000")
    venue.call()
    with pytest.raises(Defer, match="rate_budget"):
        venue.call("trades", poll=True)
    assert venue.call() == {"ok": True}


def test_the_budget_is_new_with_each_minute_of_the_exchanges_clock(venue: Venue) -> None:
    venue.at_ms = 1_000 * 60_000 - 5_000
    venue.said = reply({"ok": True}, X_Mbx_Used_Weight_1m="5000")
    venue.call()
    venue.client.clock.take(1_000 * 60_000, asked_s=process_s(), answered_s=process_s())
    venue.client.clock.take(1_000 * 60_000, asked_s=process_s(), answered_s=process_s())
    assert venue.call("trades", poll=True) == {"ok": True}


def test_the_clock_is_read_once_more_when_the_exchange_disagrees(venue: Venue) -> None:
    venue.failure(refusal(-1021))
    assert venue.server.paths() == ["GET /api/v3/time", "POST /api/v3/order", "GET /api/v3/time"]


def test_the_signed_time_is_the_exchanges(venue: Venue) -> None:
    ahead_ms = 3_600_000

    def an_hour_ahead(method: str, path: str, params: dict[str, str]) -> bytes | None:
        return reply({"serverTime": int(time.time() * 1000) + ahead_ms} if path.endswith("/time") else {})

    venue.server.script = an_hour_ahead
    venue.call()
    signed_ms = int(venue.server.asked[-1][2]["timestamp"])
    assert abs(signed_ms - ahead_ms - time.time() * 1000) < 1_000


def test_numbers_in_replies_stay_exact(venue: Venue) -> None:
    venue.said = reply('{"price": 0.12345678901234567890}')
    assert str(venue.call()["price"]) == "0.12345678901234567890"


def test_no_failure_holds_key_or_signature(venue: Venue) -> None:
    venue.call()
    signature = venue.server.asked[-1][2]["signature"]
    for said in (refusal(-1100, f"{KEY} {SECRET}"), reply(f"<p>{KEY} {SECRET}", status=502), None):
        failure = venue.failure(said)
        chain: BaseException | None = failure
        while chain is not None:
            for secret in (KEY, SECRET, signature):
                assert secret not in str(chain)
            chain = chain.__cause__


def test_a_closed_connection_is_unavailable(venue: Venue) -> None:
    venue.client.close()
    assert type(venue.failure(None)) is Unavailable


def test_nothing_is_sent_again_by_the_library() -> None:
    settings = read_options(BINANCE, {"options": {"maxRetriesOnFailure": 3}})
    assert settings.ccxt["options"]["maxRetriesOnFailure"] == 0
    assert settings.ccxt["enableRateLimit"] is False


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"apiKey": "x"}, "apiKey"),
        ({"secret": "x"}, "secret"),
        ({"httpsProxy": "http://127.0.0.1:1"}, "httpsProxy"),
        ({"proxies": {}}, "proxies"),
        ({"urls": {"api": "127.0.0.1:8000"}}, "urls.api"),
        ({"urls": []}, "urls"),
        ({"options": {"recvWindow": 0}}, "recvWindow"),
        ({"options": {"recvWindow": "5000"}}, "recvWindow"),
        ({"reserved": {"BTC": 0.5}}, "reserved.BTC"),
        ({"reserved": {"BTC": "-1"}}, "reserved.BTC"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Fatal) as raised:
        read_options(BINANCE, options)
    assert raised.value.exit_code == 78
    assert named in raised.value.detail


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(Fatal) as raised:
        CcxtClient(BINANCE, read_options(BINANCE, {}), api_key="two\r\nlines", api_secret=SECRET)
    assert raised.value.exit_code == 78
    assert "two" not in str(raised.value)


def test_an_exchange_without_an_entry_is_refused_with_those_that_are_served() -> None:
    with pytest.raises(Fatal) as raised:
        venue_of("mtgox")
    assert raised.value.exit_code == 78
    assert all(name in raised.value.detail for name in ("mtgox", *VENUES))


def test_one_exchange_is_imported_without_the_others_and_leaves_nothing_behind() -> None:
    program = (
        "import sys, tbh.infra.ccxt_exchange, tbh.infra.ccxt_feed\n"
        "from tbh.infra.ccxt_library import library\n"
        "def there(): return [name for name in sys.modules if name.split('.')[0] in ('ccxt', 'requests', 'urllib3')]\n"
        "assert not there(), there()\n"
        "made = library('binance').exchange()\n"
        "assert made.id == 'binance' and not there(), there()\n"
        "import requests\n"
        "assert requests.Session().request\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_an_exchange_that_the_library_lacks_is_a_matter_of_configuration() -> None:
    with pytest.raises(Fatal) as raised:
        library("mtgox")
    assert raised.value.exit_code == 78
