"""The account of a paper exchange in memory: what ``AccountFile`` does, for a market that is played once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tbh.domain.venue import Standing, VenueState
from tbh.infra.paper_rows import Cursor, OrderRow
from tbh.ports import AccountEvent


class MemoryAccount:
    """Keeps the rows as the frozen values they are; nothing is left of them when the process ends."""

    def __init__(self, venue: VenueState) -> None:
        self.venue = venue
        self.cursor: Cursor | None = None
        self._orders: dict[str, OrderRow] = {}
        self._events: list[AccountEvent] = []

    def commit(
        self,
        *,
        venue: VenueState,
        cursor: Cursor | None,
        touched: Iterable[Standing],
        events: Sequence[AccountEvent],
        accepted: OrderRow | None = None,
    ) -> None:
        """Keep what one call changed."""
        self.venue, self.cursor = venue, cursor
        orders = self._orders
        if accepted is not None:
            orders[accepted.standing.client_order_id] = accepted
        for standing in touched:
            row = orders[standing.client_order_id]
            if row.standing is not standing:
                orders[standing.client_order_id] = replace(row, standing=standing)
        self._events += events

    def order(self, client_order_id: str) -> OrderRow | None:
        return self._orders.get(client_order_id)

    def events(self, after: int) -> tuple[AccountEvent, ...]:
        return tuple(self._events[bisect_right(self._events, after, key=lambda event: event.seq) :])

    def close(self) -> None:
        """Nothing to close."""
