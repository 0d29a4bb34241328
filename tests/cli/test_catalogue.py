"""``tbh indicators``, ``tbh strategy`` and ``tbh topology``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbh.cli import main as cli_main
from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.strategies.definition import parse_definition
from tbh.strategies.indicators import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, list[str]]]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "strategies"
UNSOUND = {
    "name": "x",
    "timeframe": "1m",
    "indicators": [{"id": "a", "name": "emma"}],
    "entry": {"long": {"all": [{"left": "close", "op": "cross_above", "right": 1}]}},
    "sizing": {"kind": "fixed_quantity", "value": "1"},
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, stdout, lines of stderr."""

    def call(*arguments: object) -> tuple[int, str, list[str]]:
        exit_code = cli_main.main([str(each) for each in arguments])
        shown = capsys.readouterr()
        return exit_code, shown.out, shown.err.splitlines()

    return call


def test_the_list_has_every_indicator(run: Run) -> None:
    _, out, _ = run("indicators", "list", "--json")
    assert [entry["name"] for entry in json.loads(out)["indicators"]] == list(CATALOGUE)
    _, out, _ = run("indicators", "list")
    assert [line.split()[0] for line in out.splitlines()] == list(CATALOGUE)


def test_an_alias_shows_the_indicator_it_stands_for(run: Run) -> None:
    _, out, _ = run("indicators", "show", "bollinger", "--json")
    shown = json.loads(out)
    assert shown["name"] == "bbands"
    assert shown["columns"] == ["upper", "middle", "lower"]
    assert shown["null_rows"] == 19
    assert {each["name"]: each["default"] for each in shown["parameters"]} == {"period": 20, "stddev": "2"}


def test_show_says_ranges_and_columns(run: Run) -> None:
    exit_code, out, _ = run("indicators", "show", "macd")
    assert exit_code == 0
    assert "fast = 12 (whole number from 2 to 1000)" in out
    assert "ID__signal" in out
    assert "null rows  33 with these parameters (slow + signal − 2)" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sma", "the last 20 rows with these parameters"),
        ("ema", "all rows, but no digit of what is before the last 360 rows with these parameters"),
        ("obv", "all rows; two starts agree by differences"),
    ],
)
def test_show_says_how_much_an_indicator_remembers(run: Run, name: str, told: str) -> None:
    _, out, _ = run("indicators", "show", name)
    assert f"remembers  {told}" in out.splitlines()


def test_the_memory_of_an_indicator_is_in_its_json(run: Run) -> None:
    _, out, _ = run("indicators", "show", "supertrend", "--json")
    shown = json.loads(out)
    assert (shown["memory"], shown["history"], shown["compared"]) == ("all", None, "turn")
    assert shown["sparse"] == ["upper", "lower"]
    _, out, _ = run("indicators", "show", "rsi", "--json")
    shown = json.loads(out)
    assert (shown["memory"], shown["history"], shown["compared"]) == ("decay", 468, None)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_sound(run: Run, file: Path) -> None:
    exit_code, out, errors = run("strategy", "check", file)
    assert (exit_code, errors) == (0, [])
    assert "sound" in out


def test_the_built_in_strategy_is_the_example_of_that_name() -> None:
    example = parse_definition((EXAMPLES / "ema_cross.json").read_text())
    assert parse_definition(DEFAULT_STRATEGY).fingerprint() == example.fingerprint()


def test_check_tells_every_problem_on_a_line_of_its_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "unsound.json"
    file.write_text(json.dumps(UNSOUND))
    exit_code, out, errors = run("strategy", "check", file)
    assert (exit_code, out) == (78, "")
    assert [line.removeprefix(f"{file}: ").split(":")[0] for line in errors] == [
        "$.entry.long.all[0].op",
        "$.indicators[0].name",
    ]


def test_check_gives_problems_as_json(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "unsound.json"
    file.write_text(json.dumps(UNSOUND))
    exit_code, out, errors = run("strategy", "check", file, "--json")
    assert (exit_code, errors) == (78, [])
    answer = json.loads(out)
    assert answer["ok"] is False
    assert answer["problems"][1] == {
        "path": "$.indicators[0].name",
        "message": "unknown indicator 'emma'; nearest: 'ema'",
    }


def test_check_of_a_sound_one_gives_its_fingerprint(run: Run) -> None:
    _, out, _ = run("strategy", "check", EXAMPLES / "ema_cross.json", "--json")
    answer = json.loads(out)
    assert answer["ok"] is True
    assert answer["fingerprint"] == parse_definition(DEFAULT_STRATEGY).fingerprint()


def test_check_says_how_long_a_start_takes_and_what_depends_on_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "turning.json"
    definition = UNSOUND | {
        "indicators": [{"id": "v", "name": "obv"}, {"id": "t", "name": "supertrend", "timeframe": "5m"}],
        "entry": {"long": {"all": [{"left": "v__value", "op": "rising"}, {"left": "t__trend", "op": ">", "right": 0}]}},
    }
    file.write_text(json.dumps(definition))
    _, out, _ = run("strategy", "check", file, "--json")
    answer = json.loads(out)
    assert (answer["warmup"], answer["history"]) == (5 * 12 - 2, 5 * 201 + 2 * 4)
    assert answer["depends_on_start"] == [
        {"id": "t", "name": "supertrend", "compared": "turn"},
        {"id": "v", "name": "obv", "compared": "differences"},
    ]
    _, out, _ = run("strategy", "check", file)
    assert "first decision after 59 bars; a start loads 1013" in out
    assert "note: v (obv) depends on where the history begins: its changes are the same from any start" in out
    _, out, _ = run("strategy", "check", EXAMPLES / "ema_cross.json", "--json")
    assert json.loads(out)["depends_on_start"] == []


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_strategy_file_that_is_none_is_one_line(run: Run, tmp_path: Path, name: str) -> None:
    exit_code, _, errors = run("strategy", "check", tmp_path / name)
    assert exit_code == 78
    assert len(errors) == 1


def test_the_schema_is_a_schema(run: Run) -> None:
    _, pretty, _ = run("strategy", "schema")
    _, compact, _ = run("strategy", "schema", "--json")
    assert json.loads(pretty) == json.loads(compact)
    assert json.loads(compact)["required"] == ["name", "timeframe", "entry", "sizing"]
    assert compact.count("\n") == 1


def test_the_topology_is_a_flowchart_of_every_actor(run: Run) -> None:
    exit_code, out, _ = run("topology")
    assert exit_code == 0
    assert out.startswith("flowchart LR\n")
    for name in ("feed", "strategy", "risk", "order_manager", "gateway", "journaler", "relay", "watchdog"):
        assert f"supervisor --- {name}" in out


def test_the_topology_follows_an_order(run: Run) -> None:
    _, out, _ = run("topology", "--json")
    answer = json.loads(out)
    edges = {(edge["from"], edge["message"], edge["to"]): edge["kind"] for edge in answer["edges"]}
    assert edges["strategy", "Proposal", "risk"] == "command"
    assert edges["order_manager", "PlaceOrder", "gateway"] == "command"
    assert edges["feed", "Bar", "strategy"] == "fact"
    assert edges["journaler", "Recorded", "order_manager"] == "fact"
    names = [actor["name"] for actor in answer["actors"]]
    assert {edge[0] for edge in edges} | {edge[2] for edge in edges} <= set(names)
    assert len(names) == len(set(names)) == 14
