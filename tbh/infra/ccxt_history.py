"""The account's trades of one market, in their order, as fills.

Trade ids of a market rise; they are the ``seq`` of account events. Each fill names the client id of its order, which
the exchange's trades do not tell: it is known from the order's own answer, or asked for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from tbh.infra.ccxt_client import CcxtClient
from tbh.infra.ccxt_errors import bad_reply
from tbh.infra.ccxt_orders import OrderLookup, checked
from tbh.messages.orders import Fill
from tbh.ports import Unavailable

PAGES_MAX: Final = 20
"""Pages of one call; what is left comes with the next."""


class TradeHistory:
    """``since`` (aware) leaves out what was traded before it, unless a later trade is asked from."""

    def __init__(
        self, client: CcxtClient, lookup: OrderLookup, *, symbol: str, market_id: str, since: datetime | None
    ) -> None:
        self._client = client
        self._lookup = lookup
        self._dialect = client.venue.dialect
        self._symbol = symbol
        self._market_id = market_id
        self._since = since
        self._floor = 0 if since is None else None
        self.newest = 0
        """The highest trade id that was told, asked from, or left out."""

    def after(self, seq: int, until_s: float) -> list[Fill]:
        """The trades with ids above ``seq``, rising. ``Unavailable`` when the answer lacks what was told before: some
        servers of an exchange are behind others, and a gap in the past would never be filled."""
        at = seq if seq > 0 else self._first(until_s)
        fills: list[Fill] = []
        for _ in range(PAGES_MAX):
            rows = self._page(self._dialect.trades_after(at, self._market_id), until_s)
            fills += self._fills(rows, at, until_s)
            if fills:
                at = max(at, fills[-1].seq)
            if len(rows) < self._client.venue.page_max:
                if at < self.newest:
                    raise Unavailable("trades_behind", detail=f"the last one is {at}, and was {self.newest}")
                break
        self.newest = max(self.newest, at)
        return fills

    def _first(self, until_s: float) -> int:
        """The id above which the bot's own time begins."""
        if self._floor is None:
            assert self._since is not None
            since_ms = int(self._since.timestamp() * 1000)
            rows = self._page(self._dialect.trades_since(since_ms, self._market_id), until_s)
            if rows:
                with checked("trades"):
                    self._floor = self._dialect.trade_seq(rows[0]) - 1
            else:
                rows = self._page(self._dialect.newest_trade(self._market_id), until_s)
                with checked("trades"):
                    newest = self._dialect.trade_seq(rows[-1]) if rows else 0
                # A trade may have fallen between the two questions; then the floor is asked for anew.
                if not rows or self._is_before(rows[-1]):
                    self._floor = newest
                else:
                    return self._first(until_s)
        return self._floor

    def _is_before(self, row: Any) -> bool:
        with checked("trades"):
            return self._since is not None and self._dialect.fill(row, "", self._symbol).at < self._since

    def _fills(self, rows: list[Any], after: int, until_s: float) -> list[Fill]:
        with checked("trades"):
            rows = sorted((row for row in rows if self._dialect.trade_seq(row) > after), key=self._dialect.trade_seq)
            orders = [self._dialect.trade_order(row) for row in rows]
        names = self._lookup.names(orders, until_s)
        with checked("trades"):
            return [
                self._dialect.fill(row, names[order], self._symbol) for row, order in zip(rows, orders, strict=True)
            ]

    def _page(self, params: Any, until_s: float) -> list[Any]:
        rows = self._client.call("trades", params, until_s=until_s, poll=True)
        if not isinstance(rows, list):
            raise bad_reply("trades", "no list")
        return rows
