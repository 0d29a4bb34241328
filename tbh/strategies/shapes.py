"""The shape of a strategy definition: the JSON that is stored with a bot, as frozen values.

``tbh/strategies/definition.py`` is the only way to a Definition that may run: it also checks what a name refers to.

A group is true when all (``all``), or at least one (``any``), of its members are; ``not`` negates what it holds. A
comparison in which either side is null is false, so ``not`` of it is true: negation knows two values, not three. An
empty group at the top of entry, exit or pyramid is never true: an empty ``all`` would otherwise trade on every bar,
and an emptied list is how people switch a rule off. Inside another group an empty one is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from tbh.strategies.indicators import NAMES
from tbh.strategies.trading import BARS_MAX, CooldownRule, Model, Number, Orders, SizingRule, Stops, read_number

MAX_INDICATORS = 64
MAX_MEMBERS = 100
MAX_SHIFT = BARS_MAX
MAX_LAYERS = 15
"""A client order id keeps four bits for the layer."""

TIMEFRAMES: Mapping[str, int] = {
    "1s": 1,
    "5s": 5,
    "10s": 10,
    "15s": 15,
    "30s": 30,
    "1m": 60,
    "2m": 120,
    "3m": 180,
    "5m": 300,
    "10m": 600,
    "15m": 900,
    "30m": 1_800,
    "45m": 2_700,
    "1h": 3_600,
    "2h": 7_200,
    "3h": 10_800,
    "4h": 14_400,
    "6h": 21_600,
    "8h": 28_800,
    "12h": 43_200,
    "1d": 86_400,
    "3d": 259_200,
    "1w": 604_800,
}
"""Seconds of each timeframe, under the exchanges' names."""


def _parameter(value: object) -> object:
    number = value if type(value) is int else read_number(value)
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise ValueError("must be a number")
    return number


def _listed(value: object) -> object:
    """JSON has lists where a frozen value needs tuples."""
    return tuple(value) if isinstance(value, list) else value


def _sources(value: object) -> object:
    return (value,) if isinstance(value, str) else _listed(value)


ParameterValue = Annotated[
    int | Decimal, PlainValidator(_parameter), WithJsonSchema({"type": ["integer", "number", "string"]})
]
Sources = Annotated[
    tuple[str, ...],
    BeforeValidator(_sources),
    Field(min_length=1, max_length=5),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class IndicatorUse(Model):
    """An indicator of the catalogue with its parameters. ``source`` None is close, or what it always reads; it may name
    a column of another indicator.

    ``timeframe`` is a multiple of the definition's own, whose bars are then made of the definition's; None is that.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z](_?[A-Za-z0-9])*$", max_length=40)]
    name: str
    params: dict[str, ParameterValue] = Field(default={}, max_length=16)
    source: Sources | None = None
    timeframe: Annotated[str, WithJsonSchema({"type": "string", "enum": list(TIMEFRAMES)})] | None = None


class Shifted(Model):
    """A column as it stood ``shift`` bars ago."""

    column: str
    shift: Annotated[int, Field(ge=0, le=MAX_SHIFT)] = 0


def _operand_tag(value: object) -> str:
    if isinstance(value, str):
        return "<column>"
    return "<shifted>" if isinstance(value, dict | Shifted) else "<number>"


Operand = Annotated[
    Annotated[str, Tag("<column>")] | Annotated[Shifted, Tag("<shifted>")] | Annotated[Number, Tag("<number>")],
    Discriminator(_operand_tag),
]


class Comparison(Model):
    """``crosses_above``: the bar before was at or below, this one is above; ``crosses_below`` mirrors it."""

    left: Operand
    op: Literal["<", "<=", ">", ">=", "==", "crosses_above", "crosses_below"]
    right: Operand


class Between(Model):
    """``left`` lies within the two bounds of ``right``, bounds included."""

    left: Operand
    op: Literal["between"]
    right: Annotated[tuple[Operand, Operand], BeforeValidator(_listed)]


class Trend(Model):
    """``left`` rose (fell) strictly on each of the last ``n`` bars."""

    left: Operand
    op: Literal["rising", "falling"]
    n: Annotated[int, Field(ge=1, le=MAX_SHIFT)] = 1


class AllOf(Model):
    members: Members = Field(alias="all")


class AnyOf(Model):
    members: Members = Field(alias="any")


class Not(Model):
    member: Node = Field(alias="not")


_TAGS: Mapping[type[object], str] = {
    AllOf: "<all>",
    AnyOf: "<any>",
    Not: "<not>",
    Between: "<between>",
    Trend: "<trend>",
    Comparison: "<comparison>",
}


def _node_tag(value: object) -> str:
    if not isinstance(value, dict):
        return _TAGS.get(type(value), "<comparison>")
    for group in ("all", "any", "not"):
        if group in value:
            return f"<{group}>"
    op = value.get("op")
    if op == "between":
        return "<between>"
    return "<trend>" if op in ("rising", "falling") else "<comparison>"


Node = Annotated[
    Annotated[AllOf, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[Not, Tag("<not>")]
    | Annotated[Between, Tag("<between>")]
    | Annotated[Trend, Tag("<trend>")]
    | Annotated[Comparison, Tag("<comparison>")],
    Discriminator(_node_tag),
]
Members = Annotated[tuple[Node, ...], BeforeValidator(_listed), Field(max_length=MAX_MEMBERS)]


class Sides(Model):
    """A rule for long and one for short positions; None is never true."""

    long: Node | None = None
    short: Node | None = None


class Pyramid(Sides):
    """When to add to a position, at most ``max_layers`` times."""

    max_layers: Annotated[int, Field(ge=0, le=MAX_LAYERS)] = 0


class Definition(Model):
    """A whole strategy."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$", max_length=64)]
    timeframe: str
    indicators: Annotated[tuple[IndicatorUse, ...], BeforeValidator(_listed), Field(max_length=MAX_INDICATORS)] = ()
    entry: Sides
    exit: Sides = Sides()
    pyramid: Pyramid = Pyramid()
    stops: Stops = Stops()
    cooldown: CooldownRule | None = None
    orders: Orders = Orders()
    sizing: SizingRule

    @property
    def timeframe_s(self) -> int:
        return TIMEFRAMES[self.timeframe]

    def canonical_json(self) -> str:
        """The definition with every default spelled out, one text for all ways of writing the same.

        Names are the catalogue's own, money plain text (``"0.02"`` for ``2.0e-2``), keys sorted. It parses to an equal
        strategy.
        """
        shape = self.model_dump(by_alias=True, exclude_none=True)
        if self.orders == Orders():  # as it was written before there were others
            del shape["orders"]
        for use in shape["indicators"]:
            entry = NAMES[use["name"]]
            use["name"] = entry.name
            use["params"] = {each.name: use["params"].get(each.name, each.default) for each in entry.parameters}
            if entry.takes_source:
                use["source"] = use.get("source", ("close",))
            if use.get("timeframe") == self.timeframe:
                del use["timeframe"]
        return json.dumps(_plain(shape), sort_keys=True, separators=(",", ":"))

    def fingerprint(self) -> str:
        """sha256 of ``canonical_json``, 64 hex digits."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Decimal):
        # Text on a side of a condition would be a column; conditions compare floats in any case.
        return float(value) if key in ("left", "right") else format(value.normalize(), "f")
    if isinstance(value, dict):
        return {name: _plain(each, name) for name, each in value.items()}
    return [_plain(each, key) for each in value] if isinstance(value, tuple | list) else value


for _model in (AllOf, AnyOf, Not, Sides, Pyramid, Definition):
    _model.model_rebuild()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a definition (draft 2020-12): its shape; what names refer to is beyond a schema."""
    return Definition.model_json_schema(by_alias=True)
