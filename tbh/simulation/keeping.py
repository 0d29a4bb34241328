"""An exchange that leaves reduce-only orders on its book when there is nothing left to reduce, as some do."""

from __future__ import annotations

from decimal import Decimal

from tbh.domain.matching import Matcher
from tbh.domain.venue import Resting, reducible


class KeepingMatcher(Matcher):
    """``Matcher``, but a reduce-only order outlives the position: it ends when it is cancelled, or when it is to
    execute and finds nothing to reduce."""

    def _drop_reduce_only(self) -> None:
        """They stay."""

    def _fill(self, order: Resting, price: Decimal, *, maker: bool) -> None:
        stands = order.client_order_id in self._orders
        if stands and order.reduce_only and not reducible(self.market, self.account.qty, order.side):
            self._cancel(order, "reduce_only")
        else:
            super()._fill(order, price, maker=maker)
