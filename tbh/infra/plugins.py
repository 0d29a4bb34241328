"""Strategies that are written in Python, found by name: entry points of installed packages, classes of modules, files.

A bot names its strategy in the database, and so may name no more than what somebody has installed as a strategy; who
types a command may name any module or file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from tbh.strategies.custom import CustomStrategy
from tbh.strategies.definition import TIMEFRAMES, DefinitionError, Problem, load_json, parse_definition
from tbh.strategies.references import unknown
from tbh.strategies.runner import AnyDefinition, Custom, custom_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "tbh.strategies"
KEYS = ("custom", "name", "params", "timeframe")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")

_REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<of_file>\w+)|(?P<module>[A-Za-z_][\w.]*):(?P<of_module>\w+)")


def parse_strategy(source: str | bytes, *, any_code: bool = False) -> AnyDefinition:
    """What a JSON text defines: rules, or a custom strategy (``{"custom": ..., "params": ..., "timeframe": ...}``).

    ``any_code``: ``custom`` may also be ``module:Class`` or ``file.py:Class``. Raises DefinitionError.
    """
    raw = load_json(source)
    if not isinstance(raw, dict) or "custom" not in raw:
        return parse_definition(source)
    problems = [Problem(f"$.{key}", unknown("key", key, KEYS)) for key in raw if key not in KEYS]
    reference, timeframe, params = raw["custom"], raw.get("timeframe"), raw.get("params", {})
    for key, value in (("custom", reference), ("timeframe", timeframe)):
        if not isinstance(value, str):
            problems.append(Problem(f"$.{key}", "is required" if value is None else "must be text"))
    if isinstance(timeframe, str) and timeframe not in TIMEFRAMES:
        problems.append(Problem("$.timeframe", unknown("timeframe", timeframe, TIMEFRAMES)))
    if not isinstance(params, dict):
        problems.append(Problem("$.params", "must be an object"))
    name = raw.get("name")
    if name is not None and (not isinstance(name, str) or not NAME.fullmatch(name)):
        problems.append(Problem("$.name", "holds up to 64 letters, digits and _ . -"))
    if isinstance(reference, str) and not any_code and ":" in reference:
        told = f"{reference[:64]!r} is no name of an installed strategy; a definition names one by its entry point"
        problems.append(Problem("$.custom", told))
    if problems:
        raise DefinitionError(problems)
    return load_custom(reference, params, timeframe=cast(str, timeframe), name=name)


def load_custom(reference: str, params: Mapping[str, Any], *, timeframe: str, name: str | None = None) -> Custom:
    """The strategy that ``reference`` names, with ``params`` checked by its own model. Raises DefinitionError, its
    paths ``$.custom`` and ``$.params...``."""
    kind = _class_of(reference)
    called = name or _name_of(reference)
    checked, plain = _checked(kind, params)
    return custom_of(
        reference=reference,
        name=called,
        timeframe=timeframe,
        params=plain,
        make=lambda: cast(CustomStrategy, kind() if checked is None else kind(checked)),
        package="" if is_reference(reference) else _package_of(installed()[reference]),
    )


def installed() -> dict[str, EntryPoint]:
    """The installed strategies by name. DefinitionError when two packages offer one name."""
    from importlib import metadata  # noqa: PLC0415 - who names no custom strategy doesn't pay for it

    found: dict[str, EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            told = f"{point.name!r} is offered by two packages ({other.value}, {point.value}); uninstall one"
            raise DefinitionError([Problem("$.custom", told)])
    return found


def _package_of(point: EntryPoint) -> str:
    package = point.dist
    return "" if package is None else f"{package.name} {package.version}"


def is_reference(text: str) -> bool:
    """Whether ``text`` is ``module:Class`` or ``file.py:Class``."""
    return _REFERENCE.fullmatch(text) is not None


def _name_of(reference: str) -> str:
    name = reference.rpartition(":")[2]
    if not NAME.fullmatch(name):
        raise DefinitionError([Problem("$.custom", f"{name[:64]!r}: a name holds up to 64 letters, digits and _ . -")])
    return name


def _class_of(reference: str) -> Any:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        points = installed()
        if reference not in points:
            raise DefinitionError([Problem("$.custom", unknown("installed strategy", reference, points))])
        module, attribute = points[reference].module, points[reference].attr
    else:
        module, attribute = found["file"] or found["module"], found["of_file"] or found["of_module"]
    try:
        made = _module_of_file(Path(module)) if found is not None and found["file"] else importlib.import_module(module)
        kind = made
        for part in attribute.split("."):
            kind = getattr(kind, part)
    except AttributeError:
        classes = [name for name, value in vars(made).items() if inspect.isclass(value) and hasattr(value, "on_bar")]
        told = f"{module} has no {attribute!r}: {unknown('class', attribute, classes)}"
        raise DefinitionError([Problem("$.custom", told)]) from None
    except (Exception, SystemExit) as error:  # a stranger's module raises anything
        what = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(
            ": "
        )
        told = f"{module} can't be imported ({what[:200]}); install what it needs, or mend it"
        raise DefinitionError([Problem("$.custom", told)]) from error
    if not inspect.isclass(kind):
        told = f"{module}:{attribute} is a {type(kind).__name__}; it must be a class with on_bar and history"
        raise DefinitionError([Problem("$.custom", told)])
    return kind


def _module_of_file(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    name = f"tbh_strategy_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _checked(kind: Any, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The parameters as the class wants them (None: it wants none), and all of them as JSON has them."""
    model = getattr(kind, "Params", None)
    if model is None:
        if given:
            raise DefinitionError([Problem("$.params", f"{kind.__name__} takes no parameters")])
        return None, {}
    known = _names(model)
    if known is None:
        told = f"{kind.__name__}.Params must be a pydantic model or a dataclass"
        raise DefinitionError([Problem("$.custom", told)])
    endless = [Problem(path, "must be a finite number") for path in _endless("$.params", given)]
    if endless:
        raise DefinitionError(endless)
    strange = [Problem(f"$.params.{name}", unknown("parameter", name, known)) for name in given if name not in known]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        made = adapter.validate_python(dict(given))
        plain = adapter.dump_python(made, mode="json")
    except ValidationError as error:
        problems = [
            Problem(".".join(["$.params", *(str(part) for part in each["loc"])]), _message(each))
            for each in error.errors(include_url=False)
        ]
        raise DefinitionError([*strange, *problems]) from error
    if strange:
        raise DefinitionError(strange)
    return made, plain


def _names(model: Any) -> list[str] | None:
    if not inspect.isclass(model):
        return None
    if issubclass(model, BaseModel):
        return [field.alias or name for name, field in model.model_fields.items()]
    return [field.name for field in fields(model) if field.init] if is_dataclass(model) else None


def _endless(path: str, value: Any) -> Iterator[str]:
    """Where something is infinite or no number."""
    if isinstance(value, Decimal) and not value.is_finite():
        yield path
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _endless(f"{path}.{name}", each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _endless(f"{path}[{index}]", each)


def _message(error: Any) -> str:
    if error["type"] == "missing":
        return "is required"
    text = str(error["msg"]).replace("Input should be", "must be", 1).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
