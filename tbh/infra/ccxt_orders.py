"""Orders as an exchange tells them, and where to look for one.

An order that a query denies may be in a list, and the other way round: exchanges answer from several copies of their
books. Absence is what all of them say, in the exchange's own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tbh.infra.ccxt_client import CcxtClient
from tbh.infra.ccxt_errors import NotFound, bad_reply
from tbh.ports import OrderReport

NAMES_KEPT_MAX: Final = 10_000
ONE_BY_ONE_MAX: Final = 4
"""More orders than this are cheaper to read as a list than one after the other."""


@contextmanager
def checked(endpoint: str) -> Iterator[None]:
    """A reply of another shape is ``Unknown('bad_reply')``: a gateway's page, an empty object, an API that changed."""
    try:
        yield
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise bad_reply(endpoint, f"{type(error).__name__} {error}") from error


class OrderLookup:
    """One market's orders. Remembers which client id each exchange id stands for; for one thread at a time."""

    def __init__(self, client: CcxtClient, market_id: str) -> None:
        self._client = client
        self._dialect = client.venue.dialect
        self._market_id = market_id
        self._names: dict[str, str] = {}

    def report(self, row: Any, endpoint: str, *, expected: str | None = None) -> OrderReport:
        """The order in a reply; ``Unknown`` when there is none in it, or another than was asked for."""
        with checked(endpoint):
            report = self._dialect.report(row)
        if expected is not None and report.client_order_id != expected:
            raise bad_reply(endpoint, f"asked for {expected}, told {report.client_order_id}")
        self._remember(report)
        return report

    def find(self, client_order_id: str, until_s: float) -> OrderReport | None:
        """Look everywhere. A failure of any of the questions is raised: it proves nothing."""
        report = self.direct(client_order_id, until_s)
        if report is not None:
            return report
        rows = self.open_orders(until_s)
        found = next((one for one in rows if one.client_order_id == client_order_id), None)
        if found is None:
            rows = self._list("orders", self._dialect.orders_from(None, self._market_id), until_s)
            found = next((one for one in reversed(rows) if one.client_order_id == client_order_id), None)
        return found

    def direct(self, client_order_id: str, until_s: float) -> OrderReport | None:
        """The exchange's answer to the question about this one order."""
        try:
            row = self._client.call(
                "order", self._dialect.by_client_id(client_order_id, self._market_id), until_s=until_s
            )
        except NotFound:
            return None
        return self.report(row, "order", expected=client_order_id)

    def open_orders(self, until_s: float, *, poll: bool = False) -> list[OrderReport]:
        return self._list("open_orders", self._dialect.of_market(self._market_id), until_s, poll=poll)

    def names(self, exchange_order_ids: Iterable[str], until_s: float) -> Mapping[str, str]:
        """The client id of each. ``Unknown`` when the exchange does not tell one that it has traded for."""
        wanted = set(exchange_order_ids)
        unknown = sorted((one for one in wanted if one not in self._names), key=int)
        if len(unknown) > ONE_BY_ONE_MAX:
            self._learn_from_lists(unknown, until_s)
            unknown = [one for one in unknown if one not in self._names]
        for one in unknown:
            self._learn(one, until_s)
        return {one: self._names[one] for one in wanted}

    def _learn(self, exchange_order_id: str, until_s: float) -> None:
        params = self._dialect.by_exchange_id(exchange_order_id, self._market_id)
        try:
            self.report(self._client.call("order", params, until_s=until_s), "order")
        except NotFound as error:
            raise bad_reply("order", f"denies {exchange_order_id}, for which it has a trade") from error
        if exchange_order_id not in self._names:
            raise bad_reply("order", f"asked for {exchange_order_id}, told another")

    def _learn_from_lists(self, exchange_order_ids: Sequence[str], until_s: float) -> None:
        """Read pages of all orders, from the oldest that is wanted to the newest."""
        at, last = exchange_order_ids[0], int(exchange_order_ids[-1])
        while int(at) <= last:
            rows = self._list("orders", self._dialect.orders_from(at, self._market_id), until_s)
            if not rows or len(rows) < self._client.venue.page_max:
                return
            at = str(int(rows[-1].exchange_order_id) + 1)

    def _list(self, endpoint: str, params: Any, until_s: float, *, poll: bool = False) -> list[OrderReport]:
        rows = self._client.call(endpoint, params, until_s=until_s, poll=poll)
        if not isinstance(rows, list):
            raise bad_reply(endpoint, "no list")
        return [self.report(row, endpoint) for row in rows]

    def _remember(self, report: OrderReport) -> None:
        self._names[report.exchange_order_id] = report.client_order_id
        if len(self._names) > NAMES_KEPT_MAX:
            del self._names[next(iter(self._names))]
