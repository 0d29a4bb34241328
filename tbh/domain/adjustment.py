"""What operators have corrected the book by, as the store keeps it.

An adjustment is not a fill: nobody traded, no order grew, and no quote changed hands. Coins are there, or are gone, and
the book says so from a certain account event on, valued at the market's price of that moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge

from tbh.domain.money import dec, plain
from tbh.messages.account import Adjustment
from tbh.messages.orders import Fill


def to_text(adjustments: Sequence[Adjustment]) -> str:
    """JSON, money as text, in the order in which they were made."""
    return json.dumps(
        [
            {
                "id": one.adjustment_id,
                "symbol": one.symbol,
                "qty": plain(one.qty),
                "price": plain(one.price),
                "seq": one.seq,
                "at": one.at.isoformat(),
                "reason": one.reason,
            }
            for one in adjustments
        ]
    )


def from_text(text: str | None) -> tuple[Adjustment, ...]:
    """What ``to_text`` was given; none for None. ``ValueError`` for anything that it did not write."""
    if text is None:
        return ()
    try:
        return tuple(
            Adjustment(
                adjustment_id=row["id"],
                symbol=row["symbol"],
                qty=dec(row["qty"]),
                price=dec(row["price"]),
                seq=row["seq"],
                at=datetime.fromisoformat(row["at"]),
                reason=row["reason"],
            )
            for row in json.loads(text)
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of adjustments: {error!r}") from error


def in_order(fills: Iterable[Fill], adjustments: Iterable[Adjustment]) -> Iterator[Fill | Adjustment]:
    """Both by ``seq``; an adjustment comes after the fill that it has seen last. Each must rise by itself."""
    return merge(fills, sorted(adjustments, key=_place), key=_place)


def _place(one: Fill | Adjustment) -> tuple[int, bool]:
    return one.seq, isinstance(one, Adjustment)
