"""What a custom strategy may wish, and how its wishes are completed; whatever else it wishes is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tbh.messages.base import replace
from tbh.messages.orders import Protection, Purpose, Side, Trailing
from tbh.messages.strategy import Sizing, SizingKind
from tbh.strategies.base import Wish
from tbh.strategies.custom import BarView, Held
from tbh.strategies.shapes import MAX_LAYERS

_RISES = (Purpose.ENTRY, Purpose.PYRAMID)
_SHARES = (SizingKind.EQUITY_FRACTION, SizingKind.RISK_FRACTION)
_GAIN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What entries have that name no size (None: they must) or no protection (a function of the bar's close)."""

    sizing: Sizing | None
    protect: Callable[[Decimal], Protection | None]


def checked(wishes: object, view: BarView, defaults: Defaults) -> tuple[Wish, ...]:
    """``wishes`` with nothing left open, an exit first. ValueError for what can't be wished on ``view``."""
    if not isinstance(wishes, tuple | list):
        raise ValueError(f"on_bar returned {type(wishes).__name__}; it must return a list of wishes, () for none")
    if not wishes:
        return ()
    exits: list[Wish] = []
    rises: list[Wish] = []
    for wish in wishes:
        if not isinstance(wish, Wish):
            raise ValueError(
                f"on_bar returned a {type(wish).__name__} in its list; use view.enter, view.add, view.leave"
            )
        if wish.purpose is Purpose.EXIT:
            exits.append(wish)
        elif wish.purpose in _RISES:
            rises.append(wish)
        else:
            raise ValueError(f"a strategy can't wish a {wish.purpose}; use view.enter, view.add, view.leave")
    if len(exits) > 1 or len(rises) > 1:
        raise ValueError("more than one exit or more than one entry on a bar")
    held = view.position
    made = [_exit(wish, held) for wish in exits]
    made += [_rise(wish, held, view, defaults, leaves=bool(exits)) for wish in rises]
    return tuple(made)


def _exit(wish: Wish, held: Held | None) -> Wish:
    if held is None:
        raise ValueError("an exit without a position")
    if wish.side is not held.side.opposite or wish.sizing is not None or wish.protection is not None:
        raise ValueError("an exit closes all of the position, and has neither size nor protection")
    return wish


def _rise(wish: Wish, held: Held | None, view: BarView, defaults: Defaults, *, leaves: bool) -> Wish:
    if not isinstance(wish.side, Side):
        raise ValueError("a side is Side.BUY or Side.SELL")
    if wish.limit is not None or wish.cooldown is not None:
        raise ValueError("a strategy in Python enters at the next open, and has neither a limit nor a cool-down")
    layer = 0
    if wish.purpose is Purpose.ENTRY:
        if held is not None and (not leaves or wish.side is held.side):
            raise ValueError("an entry while a position is held; leave it on the same bar and enter the other side")
    else:
        if held is None or leaves or wish.side is not held.side:
            raise ValueError("an addition is for a position of its side that is kept")
        layer = held.layers
        if layer > MAX_LAYERS:
            raise ValueError(f"a position has at most {MAX_LAYERS} additions")
    sizing = wish.sizing if wish.sizing is not None else defaults.sizing
    if sizing is None:
        raise ValueError("an entry without a size; declare a sizing, or give the entry one")
    protection = wish.protection if wish.protection is not None else defaults.protect(view.candle.close)
    _check_size(sizing, protection)
    if protection is not None:
        _check_protection(protection, wish.side)
    return replace(wish, layer=layer, sizing=sizing, protection=protection)


def _check_size(sizing: Sizing, protection: Protection | None) -> None:
    if not _between(sizing.value, 0, None):
        raise ValueError(f"a size is a Decimal above 0, not {sizing.value!r}")
    if sizing.kind in _SHARES and sizing.value > 1:
        raise ValueError(f"{sizing.kind} is a share of equity, at most 1, not {sizing.value}")
    if sizing.kind is SizingKind.RISK_FRACTION and (protection is None or protection.stop_loss is None):
        raise ValueError("risk_fraction needs a stop_loss: without a stop the risk has no size")


def _check_protection(protection: Protection, side: Side) -> None:
    found: list[tuple[str, object, int | None]] = [
        ("stop_loss", protection.stop_loss, 1),
        ("take_profit", protection.take_profit, _GAIN_MAX if side is Side.BUY else 1),
        ("basis_price", protection.basis_price, None),
    ]
    trailing = protection.trailing
    if isinstance(trailing, Trailing):
        found.append(("trailing.distance", trailing.distance, 1))
        if trailing.activate_at:
            found.append(("trailing.activate_at", trailing.activate_at, _GAIN_MAX))
    elif trailing is not None:
        raise ValueError(f"trailing is a Trailing, not {trailing!r}")
    for name, value, below in found:
        if value is not None and not _between(value, 0, below):
            bounds = "above 0" if below is None else f"above 0 and below {below}"
            raise ValueError(f"{name} is a Decimal {bounds}, not {value!r} (see fraction())")


def _between(value: object, above: int, below: int | None) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value > above and (below is None or value < below)
