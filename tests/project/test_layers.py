"""The import rules between the layers, read from the sources.

``violations(path, source)`` judges one module without importing it. The first test holds it over the package; the
others feed it one offence each, so that a checker which has gone blind fails too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

# A layer may import from these parts of the package, itself included. Layers that aren't named are composers or
# adapters: what they may not do is in FORBIDDEN_PARTS.
ALLOWED_PARTS = {
    "tbh.messages": ("tbh.messages",),
    "tbh.domain": ("tbh.messages", "tbh.domain"),
    "tbh.strategies": ("tbh.messages", "tbh.strategies"),
    "tbh.ports": ("tbh.messages", "tbh.ports"),
    "tbh.runtime": ("tbh.messages", "tbh.runtime"),
    "tbh.actors": (
        "tbh.messages",
        "tbh.domain",
        "tbh.strategies",
        "tbh.ports",
        "tbh.runtime.actor",
        "tbh.actors",
    ),
    # A backtest reads candle files, and reaches no state, no database and no network.
    "tbh.backtest": (
        "tbh.messages",
        "tbh.domain",
        "tbh.strategies",
        "tbh.infra.candles",
        "tbh.infra.candle_formats",
        "tbh.backtest",
    ),
    # The shim exists so that `python -m tbh.actors.main` starts the composer; it may know that and nothing else.
    "tbh.actors.main": ("tbh.app",),
}
FORBIDDEN_PARTS = {
    "tbh.infra": ("tbh.simulation", "tbh.actors", "tbh.app", "tbh.cli"),
    "tbh.simulation": ("tbh.infra", "tbh.actors", "tbh.app", "tbh.cli"),
}
# Where a library may be imported: in these modules, or packages, alone.
LIBRARY_HOMES = {
    "pykka": "tbh.runtime.threads",
    "greenlet": "tbh.runtime.simulate",
    "ccxt": "tbh.infra",
    "numba": "tbh.backtest",
    "llvmlite": "tbh.backtest",
}
PURE = ("tbh.messages", "tbh.domain", "tbh.strategies")
CLOCKLESS = (*PURE, "tbh.actors")
CLOCK_AND_CHANCE = {"time", "random", "uuid", "threading", "asyncio"}
INPUT_OUTPUT = {
    "os",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "socket",
    "ssl",
    "subprocess",
    "multiprocessing",
    "sqlite3",
}
OTHER_CHANCE = {"secrets", "numpy.random"}
CLOCK_READINGS = {"now", "utcnow", "today"}


def violations(path: str, source: str) -> list[str]:
    """What the module at ``path`` (``tbh/domain/book.py``) does against the rules, one line each, with line numbers."""
    module = _module_name(path)
    tree = ast.parse(source, filename=path)
    found = [
        f"{path}:{line}: {problem}" for line, name in _imports(tree, path) for problem in _import_problems(module, name)
    ]
    if _within(module, CLOCKLESS):
        found += [f"{path}:{line}: reads the clock with {text}" for line, text in _clock_readings(tree)]
    if _within(module, PURE):
        found += [f"{path}:{line}: {text}" for line, text in _impure_uses(tree)]
    return found


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _within(name: str, parts: str | tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the parts or lies below one."""
    return any(name == part or name.startswith(f"{part}.") for part in ([parts] if isinstance(parts, str) else parts))


def _imports(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, also inside functions and by ``import_module("name")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                # One dot is the folder that the file lies in; each further dot goes one up.
                package = path.split("/")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                yield node.lineno, str(node.args[0].value)


def _import_problems(module: str, name: str) -> Iterator[str]:
    # The closest rule decides: the shim in actors has one of its own.
    layer = max((part for part in ALLOWED_PARTS if _within(module, part)), key=len, default=None)
    if layer and _within(name, "tbh") and not _within(name, ("tbh.__version__", *ALLOWED_PARTS[layer])):
        yield f"{layer} may not import {name}"
    for part, forbidden in FORBIDDEN_PARTS.items():
        if _within(module, part) and _within(name, forbidden):
            yield f"{part} may not import {name}"
    for library, home in LIBRARY_HOMES.items():
        if _within(name, library) and not _within(module, home):
            yield f"{library} may be imported in {home} only"
    if _within(module, CLOCKLESS) and _within(name, tuple(CLOCK_AND_CHANCE)):
        yield f"imports {name}: time and chance come from the context"
    if _within(module, PURE) and _within(name, tuple(INPUT_OUTPUT | OTHER_CHANCE)):
        yield f"imports {name}: this layer is pure"


def _clock_readings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """``datetime.now`` and its like, called or handed on, under whatever name ``datetime`` was imported."""
    names = {"datetime", "date"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "datetime":
            names |= {alias.asname for alias in node.names if alias.asname and alias.name in {"datetime", "date"}}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCK_READINGS:
            owner = node.value
            if (isinstance(owner, ast.Name) and owner.id in names) or (
                isinstance(owner, ast.Attribute) and owner.attr in {"datetime", "date"}
            ):
                yield node.lineno, ast.unparse(node)


def _impure_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=("open" | "input" | "print") as called)):
                yield node.lineno, f"calls {called}: this layer does no input or output"
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"):
                yield node.lineno, "uses numpy.random: chance comes from the context"


def test_every_module_keeps_to_its_layer(sources: dict[str, str]) -> None:
    assert sources, "no sources found: this test would pass over nothing"
    assert [problem for path, source in sources.items() for problem in violations(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tbh/messages/base.py", "from tbh.domain.book import Book"),
        ("tbh/messages/base.py", "import tbh.ports"),
        ("tbh/domain/book.py", "from tbh.ports import Exchange"),
        ("tbh/domain/book.py", "from tbh.strategies.base import Strategy"),
        ("tbh/domain/book.py", "from tbh import infra"),
        ("tbh/domain/book.py", "from ..actors import risk"),
        ("tbh/domain/__init__.py", "from ..infra import store"),
        ("tbh/strategies/dynamic.py", "from tbh.domain.book import Book"),
        ("tbh/strategies/dynamic.py", "from tbh.runtime.actor import Context"),
        ("tbh/ports.py", "from tbh.domain.book import Book"),
        ("tbh/runtime/cell.py", "from tbh.actors.risk import Risk"),
        ("tbh/runtime/cell.py", "from tbh.ports import Store"),
        ("tbh/runtime/cell.py", "from tbh import app"),
        ("tbh/actors/risk.py", "from tbh.infra.store import SqliteStore"),
        ("tbh/actors/risk.py", "from tbh.simulation.faults import Fault"),
        ("tbh/actors/risk.py", "from tbh.runtime.threads import ThreadHost"),
        ("tbh/actors/risk.py", "from tbh.runtime import Actor"),
        ("tbh/actors/risk.py", "import tbh.runtime.actors"),
        ("tbh/actors/risk.py", "from tbh.app import run"),
        ("tbh/actors/risk.py", "from tbh import *"),
        ("tbh/actors/risk.py", "import tbh"),
        ("tbh/actors/main.py", "from tbh.infra.settings import Settings"),
        ("tbh/backtest/engine.py", "from tbh.actors.risk import Risk"),
        ("tbh/backtest/engine.py", "from tbh.infra.store import SqliteStore"),
        ("tbh/backtest/engine.py", "from tbh.session import PaperSession"),
        ("tbh/actors/main.py", "from tbh.ports import Store"),
        ("tbh/actors/maintenance.py", "from tbh.app import main"),
        ("tbh/infra/paper.py", "from tbh.simulation.faults import Fault"),
        ("tbh/infra/paper.py", "from tbh.actors.risk import Risk"),
        ("tbh/simulation/exchange.py", "from tbh.infra.paper import PaperExchange"),
        ("tbh/simulation/exchange.py", "from tbh.actors.risk import Risk"),
        ("tbh/simulation/exchange.py", "if TYPE_CHECKING:\n    from tbh.infra.paper import PaperExchange"),
        ("tbh/domain/book.py", "def late():\n    from tbh.infra.store import SqliteStore"),
        ("tbh/domain/book.py", "import importlib\nimportlib.import_module('tbh.infra.store')"),
    ],
)
def test_an_import_across_the_layers_is_caught(path: str, source: str) -> None:
    assert violations(path, source) != []


@pytest.mark.parametrize("library", ["pykka", "greenlet", "ccxt", "numba", "llvmlite"])
@pytest.mark.parametrize(
    "path", ["tbh/actors/risk.py", "tbh/runtime/cell.py", "tbh/app.py", "tbh/cli/main.py", "tbh/web/api.py"]
)
@pytest.mark.parametrize("form", ["import {}", "from {} import x", "import {}.part as y", "__import__('{}')"])
def test_a_library_outside_its_home_is_caught(library: str, path: str, form: str) -> None:
    assert violations(path, form.format(library)) == [
        f"{path}:1: {library} may be imported in {LIBRARY_HOMES[library]} only"
    ]


@pytest.mark.parametrize(
    "path", ["tbh/messages/base.py", "tbh/domain/ids.py", "tbh/strategies/base.py", "tbh/actors/feed.py"]
)
@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import random as chance",
        "import uuid",
        "import threading",
        "import asyncio.events",
        "from datetime import datetime\nx = datetime.now()",
        "from datetime import datetime as dt, UTC\nx = dt.now(UTC)",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nx = date.today()",
        "from datetime import datetime\nx = field(default_factory=datetime.now)",
    ],
)
def test_a_clock_or_chance_of_its_own_is_caught(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize("path", ["tbh/messages/base.py", "tbh/domain/ids.py", "tbh/strategies/base.py"])
@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from pathlib import Path",
        "import sqlite3",
        "import secrets",
        "open('x')",
        "print(1)",
        "np.random.rand()",
    ],
)
def test_input_output_in_a_pure_layer_is_caught(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tbh/messages/orders.py", "from tbh.messages.base import Fact"),
        ("tbh/messages/orders.py", "from .base import Fact"),
        ("tbh/domain/book.py", "from tbh.messages.orders import Fill\nfrom tbh.domain import money"),
        ("tbh/domain/book.py", "from datetime import datetime\nx = datetime.fromtimestamp(0, tz=UTC)"),
        ("tbh/strategies/dynamic.py", "import numpy as np\nimport talib\nfrom tbh.messages.market import Candle"),
        ("tbh/runtime/threads.py", "import pykka\nimport threading\nimport time\nfrom tbh.runtime.cell import Cell"),
        ("tbh/runtime/simulate.py", "from greenlet import greenlet"),
        (
            "tbh/actors/risk.py",
            "from tbh.runtime.actor import Actor\nfrom tbh import ports\nfrom tbh.domain.risk import judge",
        ),
        ("tbh/actors/risk.py", "from tbh.runtime import actor\nfrom tbh import __version__"),
        ("tbh/actors/risk.py", "def on_bar(self):\n    return self.context.now()"),
        ("tbh/actors/main.py", "from tbh.app import main"),
        ("tbh/infra/exchange/binance.py", "import ccxt\nimport time\nfrom tbh.ports import Rejected"),
        (
            "tbh/simulation/exchange.py",
            "from tbh.domain.matching import Matcher\nfrom tbh.runtime.simulate import Simulator",
        ),
        ("tbh/app.py", "from tbh.infra.store import SqliteStore\nfrom tbh.actors.risk import Risk"),
        ("tbh/cli/main.py", "from tbh.app import run\nfrom tbh.simulation import faults"),
    ],
)
def test_what_the_layers_allow_passes(path: str, source: str) -> None:
    assert violations(path, source) == []
