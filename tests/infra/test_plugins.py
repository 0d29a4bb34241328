"""Strategies in Python are found by the name under which they were installed, and refused in one line by path."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.plugins import installed, load_custom, parse_strategy
from tbh.infra.simmarket import simulated_market
from tbh.strategies.custom import StrategyError
from tbh.strategies.definition import DefinitionError, parse_definition
from tbh.strategies.runner import AnyDefinition, Custom, strategy_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_strategy"
MODULE = """
import json
from dataclasses import dataclass

@dataclass
class Params:
    period: int = 3
    width: float = 0.5

class Sound:
    Params = Params
    history = 3
    sizing = {"kind": "fixed_quantity", "value": "1"}
    def __init__(self, params):
        if params.period > 100:
            raise ValueError("period must be at most 100")
        self.params = params
    def on_bar(self, view):
        return ()

class Bare:
    history = 1
    def on_bar(self, view):
        return ()

class Deaf:
    history = 3

class Ageless(Bare):
    history = 0

class Unsized(Bare):
    def evaluate_all(self, columns):
        return {}

class Resting(Bare):
    orders = {"entry": {"kind": "limit", "offset": "0.001"}}

class Cooling(Bare):
    cooldown = {"bars": 3}

class Misread(Sound):
    indicators = [{"id": "a", "name": "emma"}]

class Wild(Sound):
    Params = int

class Calling(Bare):
    def on_bar(self, view):
        return json.loads("[")

class Empty(Sound):
    def __init__(self, params):
        raise ValueError

class Broken(Sound):
    def __init__(self, params):
        params.nothing()

value = 3
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install(name, points, **modules)``: a package as pip would leave it, on the path; forgotten afterwards."""
    known = set(sys.modules)

    def make(name: str, points: dict[str, str], **modules: str) -> Path:
        folder = tmp_path / f"site-{name}"
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(
            "[tbh.strategies]\n" + "".join(f"{point} = {value}\n" for point, value in points.items())
        )
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield make
    for module in set(sys.modules) - known:
        if module.startswith(("mine", "broken", "tbh_example", "tbh_strategy_")):
            del sys.modules[module]


@pytest.fixture
def mine(install: Install) -> None:
    install(
        "mine",
        {"my-strategy": "mine:Sound", "lost": "mine.lost:Sound", "gone": "mine:Gone", "value": "mine:value"},
        mine=MODULE,
        broken="import nothing_of_the_sort\n",
    )


def defined(**parts: Any) -> AnyDefinition:
    return parse_strategy(json.dumps({"custom": "my-strategy", "timeframe": "5m", **parts}))


def problems(call: Callable[[], object]) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_the_example_is_found_under_the_names_that_its_project_declares(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (EXAMPLE / "pyproject.toml").read_text().split('[project.entry-points."tbh.strategies"]\n')[1]
    declared = [line.split(" = ") for line in lines.partition("\n\n")[0].splitlines()]
    install("tbh_example", {name: value.strip('"') for name, value in declared})
    monkeypatch.syspath_prepend(str(EXAMPLE))
    assert {"example-ema-cross", "example-atr-breakout"} <= set(installed())
    made = load_custom("example-ema-cross", {"fast": 5}, timeframe="1m")
    assert made.params == {"fast": 5, "slow": 26, "share": 0.5}
    assert strategy_of(made).warmup == 26
    assert strategy_of(load_custom("example-atr-breakout", {}, timeframe="1m")).warmup == 14 + 20


def test_a_definition_names_an_installed_strategy(mine: None) -> None:
    made = defined(params={"period": 7})
    assert isinstance(made, Custom)
    assert (made.name, made.timeframe_s, made.params) == ("my-strategy", 300, {"period": 7, "width": 0.5})
    assert parse_strategy(made.canonical_json()).fingerprint() == made.fingerprint()
    assert defined(params={"period": 7, "width": 0.5}).fingerprint() == made.fingerprint()
    assert defined(params={"period": 8}).fingerprint() != made.fingerprint()
    assert defined(name="of mine").name == "of mine"


def test_an_installed_strategy_names_its_package_and_no_other_does(mine: None) -> None:
    made = [defined(), load_custom("mine:Sound", {}, timeframe="1m")]
    assert [isinstance(each, Custom) and each.package for each in made] == ["mine 1.0", ""]


def test_a_failure_in_a_library_names_the_line_that_called_it(mine: None) -> None:
    strategy = strategy_of(load_custom("mine:Calling", {}, timeframe="1m"))
    strategy.load([simulated_market(1, 2)[0]])
    line = next(n for n, text in enumerate(MODULE.splitlines(), 1) if "json.loads" in text)
    with pytest.raises(StrategyError, match=rf": JSONDecodeError: .* \(mine\.py, line {line}\)$"):
        strategy.on_bar(None)


def test_rules_are_still_rules() -> None:
    text = (EXAMPLE.parent / "strategies" / "ema_cross.json").read_bytes()
    assert parse_strategy(text).fingerprint() == parse_definition(text).fingerprint()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"custom": "my-stratgy"}, "$.custom: unknown installed strategy 'my-stratgy'; nearest: 'my-strategy'"),
        ({"custom": "lost"}, "$.custom: mine.lost can't be imported (ModuleNotFoundError: No module named 'mine.lost'"),
        ({"custom": "gone"}, "$.custom: mine has no 'Gone': unknown class 'Gone'; "),
        ({"custom": "value"}, "$.custom: mine:value is a int; it must be a class with on_bar and history"),
        ({"custom": "mine:Sound"}, "$.custom: 'mine:Sound' is no name of an installed strategy"),
        ({"custom": 3}, "$.custom: must be text"),
        ({"timeframe": "7m"}, "$.timeframe: unknown timeframe '7m'; nearest: "),
        ({"parms": {}}, "$.parms: unknown key 'parms'; nearest: 'params'"),
        ({"params": []}, "$.params: must be an object"),
        ({"params": {"perod": 3}}, "$.params.perod: unknown parameter 'perod'; nearest: 'period'"),
        ({"params": {"period": "many"}}, "$.params.period: must be a valid integer, unable to parse string"),
        ({"params": {"period": 101}}, "$.params: period must be at most 100"),
        ({"params": {"width": float("inf")}}, "$.params.width: must be a finite number"),
        ({"name": "a\nb"}, "$.name: holds up to 64 letters, digits and _ . -"),
    ],
)
def test_a_wrong_definition_of_one_is_refused_by_its_path(mine: None, parts: dict[str, Any], told: str) -> None:
    (line,) = problems(lambda: defined(**parts))
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("mine:Deaf", "$.custom: Deaf has no method on_bar(view); it is no strategy"),
        ("mine:Ageless", "$.custom: history is 0; it must be a whole number of bars from 1 to 25000"),
        ("mine:Unsized", "$.custom: evaluate_all gives no sizes; declare a sizing"),
        ("mine:Resting", "$.orders: is for definitions; a strategy in Python enters at the next open"),
        ("mine:Cooling", "$.cooldown: is for definitions; a strategy in Python enters at the next open"),
        ("mine:Misread", "$.indicators[0].name: unknown indicator 'emma'; nearest: 'ema'"),
        ("mine:Wild", "$.custom: Wild.Params must be a pydantic model or a dataclass"),
        ("mine:Empty", "$.params: ValueError (mine.py, line "),
        (
            "mine:Broken",
            "$.custom: can't be made: AttributeError: 'Params' object has no attribute 'nothing' (mine.py, ",
        ),
        (
            "broken:Any",
            "$.custom: broken can't be imported (ModuleNotFoundError: No module named 'nothing_of_the_sort'",
        ),
        ("none/x.py:Any", "$.custom: none/x.py can't be imported (FileNotFoundError: no such file: none/x.py)"),
    ],
)
def test_a_class_that_is_no_strategy_is_refused_with_what_it_lacks(mine: None, kind: str, told: str) -> None:
    (line,) = problems(lambda: load_custom(kind, {}, timeframe="1m"))
    assert line.startswith(told)


def test_a_class_in_a_file_needs_no_package(tmp_path: Path, install: Install) -> None:
    (tmp_path / "alone.py").write_text(MODULE)
    made = load_custom(f"{tmp_path}/alone.py:Sound", {"period": 4}, timeframe="1m")
    assert (made.name, strategy_of(made).warmup) == ("Sound", 2)


def test_parameters_for_a_class_that_takes_none_are_refused(mine: None) -> None:
    assert problems(lambda: load_custom("mine:Bare", {"a": 1}, timeframe="1m")) == [
        "$.params: Bare takes no parameters"
    ]


def test_one_name_from_two_packages_is_refused_with_both(install: Install, mine: None) -> None:
    install("other", {"my-strategy": "mine:Bare"})
    (line,) = problems(defined)
    assert line.startswith("$.custom: 'my-strategy' is offered by two packages (")
    assert "mine:Sound" in line
    assert "mine:Bare" in line
