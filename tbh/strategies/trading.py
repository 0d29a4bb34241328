"""What a definition says of trading: stops, cool-down, kinds of orders, sizes; and what all of its parts share."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

BARS_MAX = 1_000
"""So many bars back or ahead a definition may reach."""


def read_number(value: object) -> object:
    """Text and JSON numbers alike become Decimal from their text; anything else stays for pydantic to refuse."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return value
    text = str(value)
    if len(text) > 40:
        raise ValueError("has more than 40 characters; write a shorter number")
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError("must be a number, or text that holds one") from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    if number and not -30 <= number.adjusted() <= 30:
        raise ValueError("is too large or too small; a number lies between 1e-30 and 1e30")
    return number


Number = Annotated[Decimal, BeforeValidator(read_number)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]


class Model(BaseModel):
    """A frozen part of a definition that knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrailingStop(Model):
    """Follows the best price at ``distance``, from a gain of ``activate_at`` on (fractions)."""

    distance: Fraction
    activate_at: Annotated[Number, Field(ge=0, le=100)] = Decimal(0)


class Stops(Model):
    """Fractions of the fill price (``entry``) or of the close that gave the signal (``signal_close``)."""

    basis: Literal["entry", "signal_close"] = "entry"
    stop_loss: Fraction | None = None
    take_profit: Annotated[Number, Field(gt=0, le=100)] | None = None
    trailing: TrailingStop | None = None


_NO_LIMIT_EXIT = "an exit is a market order: it has to get out; stops.take_profit rests as a limit order"


def _entry_kind(value: object) -> object:
    if isinstance(value, str) and value != "market":
        raise ValueError(f"unknown kind {value[:64]!r}; known: limit, market")
    return value


def _exit_kind(value: object) -> object:
    if value == "limit":
        raise ValueError(_NO_LIMIT_EXIT)
    return value


class MarketEntry(Model):
    """At the next open."""

    kind: Annotated[Literal["market"], BeforeValidator(_entry_kind)]


class LimitEntry(Model):
    """Rests at ``offset`` (a fraction) below the signal's close for a long, above it for a short, and is taken off
    after ``expires_bars`` bars; what has filled by then is kept."""

    kind: Literal["limit"]
    offset: Annotated[Number, Field(ge=0, lt=1)]
    expires_bars: Annotated[int, Field(ge=1, le=BARS_MAX)] = 1


class ExitOrder(Model):
    """At the next open."""

    kind: Annotated[Literal["market"], BeforeValidator(_exit_kind)]


def _entry_tag(value: object) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", "market")
    return "<limit>" if kind == "limit" else "<market>"


EntryOrder = Annotated[
    Annotated[MarketEntry, Tag("<market>")] | Annotated[LimitEntry, Tag("<limit>")], Discriminator(_entry_tag)
]


class Orders(Model):
    """How it trades. ``entry`` is also for pyramids."""

    entry: EntryOrder = MarketEntry(kind="market")
    exit: ExitOrder = ExitOrder(kind="market")


class CooldownRule(Model):
    """No entry until ``bars`` bars have closed after the one in which a position ended: any, one that lost after fees,
    or one that a stop closed."""

    bars: Annotated[int, Field(ge=1, le=BARS_MAX)]
    after: Literal["any", "loss", "stop"] = "any"


class SizingRule(Model):
    """Base units, quote units, or a fraction (at most 1) of equity; ``risk_fraction`` is what the stop may lose."""

    kind: Literal["fixed_quantity", "fixed_notional", "equity_fraction", "risk_fraction"]
    value: Annotated[Number, Field(gt=0)]
