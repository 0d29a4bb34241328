"""Steps and messages in one readable line, for the trace of a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from tbh.domain.money import plain
from tbh.messages.orders import Fill, Order, OrderState
from tbh.ports import Batch

LIST_MAX: Final = 6
"""Members of a list that are told; of the others only how many there are."""


def told(value: Any) -> str:
    """``value`` in words: a dataclass by its name and what in it differs from its defaults, orders in short."""
    for kinds, tell in _TELLERS:
        if isinstance(value, kinds):
            return tell(value)
    return _record(value) if is_dataclass(value) else repr(value)


def _record(value: Any) -> str:
    shown = [(field, getattr(value, field.name)) for field in fields(value)]
    inner = ", ".join(f"{field.name}={told(content)}" for field, content in shown if not _is_default(field, content))
    return f"{type(value).__name__}({inner})"


def _is_default(field: Field[Any], content: Any) -> bool:
    if field.default is not MISSING:
        return bool(content == field.default)
    return field.default_factory is not MISSING and not content


def _order(order: Order) -> str:
    price = order.price if order.stop_price is None else order.stop_price
    at = "" if price is None else f" at {plain(price)}"
    until = "" if order.expires_at is None else f" until {told(order.expires_at)}"
    only = " reduce-only" if order.reduce_only else ""
    return (
        f"{order.purpose} {order.client_order_id} {order.side} {plain(order.qty)} {order.type}{at}{only}"
        f" attempt {order.attempt}{until}"
    )


def _many(parts: list[str], brackets: str) -> str:
    more = f", and {len(parts) - LIST_MAX} more" if len(parts) > LIST_MAX else ""
    return f"{brackets[0]}{', '.join(parts[:LIST_MAX])}{more}{brackets[1]}"


def _state(state: OrderState) -> str:
    filled = f" filled {plain(state.filled_qty)}" if state.filled_qty else ""
    return f"[{_order(state.order)} is {state.status} v{state.version}{filled}]"


def _fill(fill: Fill) -> str:
    what = f"{fill.side} {plain(fill.qty)} at {plain(fill.price)}, fee {plain(fill.fee)} {fill.fee_asset}"
    return f"fill {fill.trade_id} of {fill.client_order_id}: {what}, seq {fill.seq}"


_TELLERS: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (Enum, lambda value: str(value.value)),
    ((bool, int, str, type(None)), str),
    (Decimal, plain),
    (float, lambda value: f"{value:.6g}"),
    (datetime, lambda value: value.strftime("%H:%M:%S.%f")[:-3]),
    (Order, _order),
    (OrderState, _state),
    (Fill, _fill),
    (Batch, lambda batch: _record(replace(batch, outbox=[]))),  # its keys are told beside it
    ((tuple, list), lambda values: _many([told(each) for each in values], "()")),
    (Mapping, lambda values: _many([f"{told(key)}: {told(each)}" for key, each in values.items()], "{}")),
)
