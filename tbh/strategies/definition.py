"""From text to a Definition, or to the list of everything that is wrong with it.

Three looks: is it JSON, has it the shape (``shapes.py``), do its names refer to something (``references.py``). The
last two are both taken before anything is reported, so that one reading of the answer repairs the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ValidationError

from tbh.strategies import shapes, trading
from tbh.strategies.references import MAX_PROBLEMS, Problem, check_references, unknown
from tbh.strategies.shapes import TIMEFRAMES, Definition, json_schema

__all__ = ["TIMEFRAMES", "Definition", "DefinitionError", "Problem", "json_schema", "load_json", "parse_definition"]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
"""Groups within groups."""
_MAX_JSON_DEPTH = 2 * MAX_DEPTH + 6
"""A group is an object with a list in it; two objects stand above the groups, and a condition takes four levels."""

_OPS = ("<", "<=", ">", ">=", "==", "crosses_above", "crosses_below", "between", "rising", "falling")
_SHAPES: Mapping[str, type[BaseModel]] = {
    "$": shapes.Definition,
    "indicators": shapes.IndicatorUse,
    "entry": shapes.Sides,
    "exit": shapes.Sides,
    "pyramid": shapes.Pyramid,
    "stops": trading.Stops,
    "trailing": trading.TrailingStop,
    "cooldown": trading.CooldownRule,
    "orders": trading.Orders,
    "orders.exit": trading.ExitOrder,
    "<market>": trading.MarketEntry,
    "<limit>": trading.LimitEntry,
    "sizing": trading.SizingRule,
    "<shifted>": shapes.Shifted,
    "<comparison>": shapes.Comparison,
    "<between>": shapes.Between,
    "<trend>": shapes.Trend,
    "<all>": shapes.AllOf,
    "<any>": shapes.AnyOf,
    "<not>": shapes.Not,
}
"""Which model a pydantic error's location ends in, by the last name in it, or the last two; the names in <> are its
union tags."""

_MESSAGES = {
    "missing": "is required",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "is_instance_of": "must be a number, or text that holds one",
    "decimal_type": "must be a number, or text that holds one",
}


class DefinitionError(ValueError):
    """A definition is refused; ``problems`` holds every reason, and ``str`` gives one line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def parse_definition(source: str | bytes | Mapping[str, Any]) -> Definition:
    """A checked Definition from JSON text (UTF-8) or an equal mapping. Raises DefinitionError with all problems."""
    raw = load_json(source if isinstance(source, str | bytes) else _text(source))
    if not isinstance(raw, dict):
        raise DefinitionError([Problem("$", "must be an object with name, timeframe, entry and sizing")])
    problems: list[Problem] = []
    made: Definition | None = None
    try:
        made = Definition.model_validate(raw)
    except ValidationError as error:
        problems += [_translate(each) for each in error.errors(include_url=False, include_context=True)]
    problems += check_references(raw)
    if made is None or problems:
        unique = sorted(set(problems), key=lambda problem: problem.path)
        if len(unique) > MAX_PROBLEMS:
            more = len(unique) - MAX_PROBLEMS
            unique = [*unique[:MAX_PROBLEMS], Problem("$", f"and {more} more problems; mend these first")]
        raise DefinitionError(unique)
    return made


def _text(source: Mapping[str, Any]) -> str:
    def default(value: object) -> object:
        if isinstance(value, Decimal):
            return str(value)
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"a definition holds JSON values, not {type(value).__name__}")

    try:
        return json.dumps(source if isinstance(source, dict) else dict(source), default=default)
    except (TypeError, ValueError, RecursionError) as error:
        raise DefinitionError([Problem("$", f"cannot be written as JSON: {error}")]) from error


def load_json(source: str | bytes) -> Any:
    """What a text holds, its fractions as Decimal. DefinitionError for what is too long, too deep or no JSON."""
    data = source.encode("utf-8", errors="surrogatepass") if isinstance(source, str) else source
    if len(data) > MAX_BYTES:
        raise DefinitionError([Problem("$", f"has more than {MAX_BYTES} bytes")])
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                repeated.append(key)
            found[key] = value
        return found

    try:
        # Floats never come to be: money is Decimal from its text, and NaN or Infinity reach the check as Decimals.
        raw = json.loads(
            data.decode("utf-8-sig"), parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=collect
        )
    except UnicodeDecodeError as error:
        raise DefinitionError([Problem("$", f"is not UTF-8 text (byte {error.start})")]) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DefinitionError([Problem("$", f"is not JSON: {error.msg} ({where})")]) from error
    except RecursionError as error:
        raise DefinitionError([Problem("$", f"nests deeper than {MAX_DEPTH} groups")]) from error
    except ValueError as error:
        raise DefinitionError([Problem("$", "is not JSON: a whole number has too many digits")]) from error
    if repeated:
        raise DefinitionError([Problem("$", f"the key {key!r} stands twice in one object") for key in repeated])
    _check_depth(raw)
    return raw


def _check_depth(raw: Any) -> None:
    level = [raw]
    for _ in range(_MAX_JSON_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise DefinitionError([Problem("$", f"nests deeper than {MAX_DEPTH} groups")])


def _translate(error: Any) -> Problem:
    location: tuple[str | int, ...] = error["loc"]
    kind: str = error["type"]
    path = _path(location)
    if kind == "extra_forbidden":
        names = [part for part in location[:-1] if isinstance(part, str)]
        model = _SHAPES.get(".".join(names[-2:])) or _SHAPES[names[-1] if names else "$"]
        known = [field.alias or name for name, field in model.model_fields.items()]
        return Problem(path, unknown("key", str(location[-1]), known))
    if kind == "literal_error":
        given = error["input"]
        if not isinstance(given, str):
            return Problem(path, "must be text")
        if location[-1] == "op":
            return Problem(path, unknown("op", given, _OPS))
        known = [word.strip("'") for word in str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        return Problem(path, unknown(str(location[-1]), given, known))
    if kind == "value_error":
        return Problem(path, str(error["ctx"]["error"]))
    if kind == "string_pattern_mismatch":
        words = "letters and digits, with single _ between" if location[-1] == "id" else "letters, digits and _ . -"
        return Problem(path, f"must begin with a letter and hold {words}" if location[-1] == "id" else f"holds {words}")
    if kind == "too_long":
        return Problem(path, f"holds more than {error['ctx']['max_length']} items")
    message = _MESSAGES.get(kind) or str(error["msg"]).replace("Input should be", "must be", 1)
    return Problem(path, message[0].lower() + message[1:])


def _path(location: Sequence[str | int]) -> str:
    parts = ["$"]
    for part in location:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif not part.startswith("<"):
            parts.append(f".{part}")
    return "".join(parts)
