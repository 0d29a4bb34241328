"""A definition is taken whole or refused with every reason at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.strategies.definition import (
    TIMEFRAMES,
    Definition,
    DefinitionError,
    Problem,
    json_schema,
    parse_definition,
)
from tbh.strategies.dynamic import DynamicStrategy
from tbh.strategies.indicators import CATALOGUE

DOCUMENT = Path(__file__).parents[2] / "docs" / "STRATEGIES.md"
EXAMPLES = Path(__file__).parents[2] / "examples" / "strategies"
Described = Callable[..., dict[str, Any]]
EMA = {"id": "e", "name": "ema", "params": {"period": 12}}


def problems(source: Any) -> dict[str, str]:
    """Path to message of everything that is refused."""
    with pytest.raises(DefinitionError) as caught:
        parse_definition(source)
    assert str(caught.value).splitlines() == [f"{path}: {message}" for path, message in caught.value.problems]
    return dict(caught.value.problems)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda file: file.stem)
def test_example_is_accepted_and_runs(file: Path) -> None:
    assert DynamicStrategy(parse_definition(file.read_bytes())).warmup > 0


def test_money_is_decimal_from_its_text(described: Described) -> None:
    text = json.dumps(described(stops={"stop_loss": "0.10"})).replace('"2"', "0.10000000000000000001")
    definition = parse_definition(text)
    assert definition.sizing.value == Decimal("0.10000000000000000001")
    assert str(definition.stops.stop_loss) == "0.10"


def test_floats_of_a_mapping_are_taken_by_their_shortest_text(described: Described) -> None:
    definition = parse_definition(described(sizing={"kind": "equity_fraction", "value": 0.1}))
    assert definition.sizing.value == Decimal("0.1")


def test_definition_is_frozen(described: Described) -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_definition(described()).name = "other"  # type: ignore[misc] # what is refused is the point


def test_all_problems_are_reported_at_once_with_their_paths(described: Described) -> None:
    found = problems(
        described(
            timeframe="1min",
            indicators=[
                {"id": "e", "name": "emma", "params": {"period": 1}},
                {"id": "s", "name": "sma", "params": {"perod": 3}},
            ],
            entry={"long": {"all": [{"left": "s_value", "op": "cross_above", "right": 3}]}, "shrt": {}},
            sizing={"kind": "fixed_quantity", "value": "-1"},
        )
    )
    assert found == {
        "$.entry.long.all[0].left": "unknown column 's_value'; nearest: 's__value'",
        "$.entry.long.all[0].op": "unknown op 'cross_above'; nearest: 'crosses_above'",
        "$.entry.shrt": "unknown key 'shrt'; nearest: 'short'",
        "$.indicators[0].name": "unknown indicator 'emma'; nearest: 'ema'",
        "$.indicators[1].params.perod": "unknown parameter of sma 'perod'; nearest: 'period'",
        "$.sizing.value": "must be greater than 0",
        "$.timeframe": "unknown timeframe '1min'; nearest: '1m'",
    }


def test_columns_of_a_doubtful_indicator_are_not_called_unknown_as_well(described: Described) -> None:
    found = problems(
        described(indicators=[{"id": "e", "name": "emma"}], entry={"long": {"left": "e__value", "op": ">", "right": 1}})
    )
    assert list(found) == ["$.indicators[0].name"]


def test_missing_parts_are_named() -> None:
    assert problems({}) == {f"$.{part}": "is required" for part in ("name", "timeframe", "entry", "sizing")}


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"extra": 1}, "$.extra"),
        ({"name": "a/b"}, "$.name"),
        ({"name": 3}, "$.name"),
        ({"indicators": {}}, "$.indicators"),
        ({"indicators": [EMA, EMA]}, "$.indicators[1].id"),
        ({"indicators": [{**EMA, "id": "a__b"}]}, "$.indicators[0].id"),
        ({"indicators": [{**EMA, "params": {"period": 0}}]}, "$.indicators[0].params.period"),
        ({"indicators": [{**EMA, "params": {"period": 1001}}]}, "$.indicators[0].params.period"),
        ({"indicators": [{**EMA, "params": {"period": 2.5}}]}, "$.indicators[0].params.period"),
        ({"indicators": [{**EMA, "params": {"period": True}}]}, "$.indicators[0].params.period"),
        ({"indicators": [{**EMA, "params": {"period": "x"}}]}, "$.indicators[0].params.period"),
        ({"indicators": [{**EMA, "source": "price"}]}, "$.indicators[0].source"),
        ({"indicators": [{**EMA, "source": ["close", "close"]}]}, "$.indicators[0].source[1]"),
        ({"indicators": [{**EMA, "source": []}]}, "$.indicators[0].source"),
        ({"indicators": [{"id": "x", "name": "atr", "source": "close"}]}, "$.indicators[0].source"),
        ({"indicators": [{"id": "m", "name": "macd", "params": {"fast": 26, "slow": 12}}]}, "$.indicators[0].params"),
        ({"indicators": [{"id": f"e{n}", "name": "ema"} for n in range(65)]}, "$.indicators"),
        ({"entry": {}}, "$.entry"),
        ({"entry": {"long": {"all": [{"any": []}]}}}, "$.entry.long.all[0].any"),
        ({"entry": {"long": {"not": {"all": []}}}}, "$.entry.long.not.all"),
        ({"entry": {"long": {"left": 1, "op": "<", "right": 2}}}, "$.entry.long"),
        ({"entry": {"long": {"left": "close", "op": "<"}}}, "$.entry.long.right"),
        ({"entry": {"long": {"left": "close", "op": "<", "right": True}}}, "$.entry.long.right"),
        ({"entry": {"long": {"left": "close", "op": "<", "right": float("nan")}}}, "$.entry.long.right"),
        ({"entry": {"long": {"left": "close", "op": "<", "right": float("inf")}}}, "$.entry.long.right"),
        ({"entry": {"long": {"left": "close", "op": "between", "right": [1]}}}, "$.entry.long.right[1]"),
        ({"entry": {"long": {"left": "close", "op": "between", "right": [2, 1]}}}, "$.entry.long.right"),
        ({"entry": {"long": {"left": "close", "op": "rising", "n": 0}}}, "$.entry.long.n"),
        ({"entry": {"long": {"left": "close", "op": ">", "right": 1, "n": 2}}}, "$.entry.long.n"),
        (
            {"entry": {"long": {"left": {"column": "close", "shift": -1}, "op": ">", "right": 1}}},
            "$.entry.long.left.shift",
        ),
        (
            {"entry": {"long": {"left": {"column": "close", "shift": 1001}, "op": ">", "right": 1}}},
            "$.entry.long.left.shift",
        ),
        ({"entry": {"long": {"all": [{"left": "close", "op": ">", "right": 1}] * 101}}}, "$.entry.long.all"),
        ({"pyramid": {"max_layers": 16}}, "$.pyramid.max_layers"),
        ({"stops": {"stop_loss": "1"}}, "$.stops.stop_loss"),
        ({"stops": {"stop_loss": "0"}}, "$.stops.stop_loss"),
        ({"stops": {"stop_loss": "2%"}}, "$.stops.stop_loss"),
        ({"stops": {"stop_loss": float("nan")}}, "$.stops.stop_loss"),
        ({"stops": {"basis": "fill"}}, "$.stops.basis"),
        ({"stops": {"trailing": {}}}, "$.stops.trailing.distance"),
        ({"orders": {"entry": {"kind": "stop"}}}, "$.orders.entry.kind"),
        ({"orders": {"entry": {"kind": "limit"}}}, "$.orders.entry.offset"),
        ({"orders": {"entry": {"kind": "limit", "offset": "1"}}}, "$.orders.entry.offset"),
        ({"orders": {"entry": {"kind": "limit", "offset": "-0.1"}}}, "$.orders.entry.offset"),
        ({"orders": {"entry": {"kind": "limit", "offset": 0, "expires_bars": 0}}}, "$.orders.entry.expires_bars"),
        ({"orders": {"entry": {"kind": "limit", "offset": 0, "bars": 2}}}, "$.orders.entry.bars"),
        ({"orders": {"entry": {"kind": "market", "offset": "0.1"}}}, "$.orders.entry.offset"),
        ({"orders": {"exit": {"kind": "limit"}}}, "$.orders.exit.kind"),
        ({"orders": {"exit": {"kind": "market", "offset": 0}}}, "$.orders.exit.offset"),
        ({"orders": {"entries": {"kind": "market"}}}, "$.orders.entries"),
        ({"cooldown": {}}, "$.cooldown.bars"),
        ({"cooldown": {"bars": 0}}, "$.cooldown.bars"),
        ({"cooldown": {"bars": 1001}}, "$.cooldown.bars"),
        ({"cooldown": {"bars": "2"}}, "$.cooldown.bars"),
        ({"cooldown": {"bars": 2, "after": "win"}}, "$.cooldown.after"),
        ({"cooldown": {"bars": 2, "minutes": 5}}, "$.cooldown.minutes"),
        ({"sizing": {"kind": "risk_fraction", "value": "0.01"}}, "$.sizing.kind"),
        ({"sizing": {"kind": "equity_fraction", "value": "1.01"}}, "$.sizing.value"),
        ({"sizing": {"kind": "fixed_notional", "value": "1e40"}}, "$.sizing.value"),
        ({"sizing": {"kind": "fixed_notional", "value": "1" * 41}}, "$.sizing.value"),
        ({"sizing": "all"}, "$.sizing"),
    ],
)
def test_wrong_part_is_refused_at_its_path(parts: dict[str, Any], path: str, described: Described) -> None:
    assert list(problems(described(**parts))) == [path]


def test_take_profit_of_a_short_position_stays_below_its_price(described: Described) -> None:
    rule = {"left": "close", "op": "<", "right": 1}
    assert list(problems(described(entry={"short": rule}, stops={"take_profit": 1}))) == ["$.stops.take_profit"]
    assert parse_definition(described(entry={"long": rule}, stops={"take_profit": 1})).stops.take_profit == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '"x"', "NaN", "[" * 100_000, "1" * 5_000, b"\xff\xfe\x00", " " * 300_000, '{"name": 1, "name": 2}'],
    ids=["empty", "list", "cut", "text", "nan", "deep", "digits", "utf16", "large", "repeated-key"],
)
def test_text_that_holds_no_object_is_refused(text: str | bytes) -> None:
    assert list(problems(text)) == ["$"]


def nested(groups: int) -> Any:
    node: Any = {"left": {"column": "close", "shift": 1}, "op": ">", "right": 1}
    for _ in range(groups):
        node = {"all": [node]}
    return node


def test_groups_nest_up_to_their_limit(described: Described) -> None:
    assert parse_definition(described(entry={"long": nested(20)})).entry.long is not None
    assert list(problems(described(entry={"long": nested(21)}))) == ["$"]


def test_a_file_of_nonsense_is_answered_with_a_bounded_list(described: Described) -> None:
    members = [{"left": f"column_{n}", "op": "<<", "right": 1, "x": 1} for n in range(100)]
    with pytest.raises(DefinitionError) as caught:
        parse_definition(described(entry={"long": {"all": members}}))
    assert len(caught.value.problems) == 51
    assert "more problems" in caught.value.problems[-1].message


def test_several_sources_name_their_columns(described: Described) -> None:
    use = {**EMA, "source": ["high", "low"]}
    rule = {"left": "e__high__value", "op": ">", "right": "e__low__value"}
    definition = parse_definition(described(indicators=[use], entry={"long": rule}))
    assert DynamicStrategy(definition).warmup == 11
    single = described(indicators=[{**EMA, "source": ["high"]}], entry={"long": {**rule, "left": "e__value"}})
    assert list(problems(single)) == ["$.entry.long.right"]


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_timeframe_knows_its_seconds(timeframe: str, described: Described) -> None:
    unit = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[timeframe[-1]]
    assert parse_definition(described(timeframe=timeframe)).timeframe_s == int(timeframe[:-1]) * unit


def test_fingerprint_is_the_same_for_all_ways_of_writing_the_same(described: Described) -> None:
    rule = {"left": "b__upper", "op": "<", "right": 60}
    one = described(indicators=[{"id": "b", "name": "bollinger"}], entry={"long": rule}, stops={"stop_loss": 0.02})
    other = described(
        stops={"stop_loss": "2.0e-2", "basis": "entry"},
        entry={"long": {"right": Decimal("60.0"), "left": "b__upper", "op": "<"}},
        indicators=[{"name": "bbands", "id": "b", "params": {"stddev": "2.00", "period": 20}, "source": "close"}],
        exit={},
    )
    # A Decimal in a mapping travels as text, which is a column on a side of a condition.
    other["entry"]["long"]["right"] = 60.0
    assert parse_definition(one).fingerprint() == parse_definition(other).fingerprint()


def test_what_an_exit_by_limit_is_told_says_what_to_do(described: Described) -> None:
    (problem,) = problems(described(orders={"exit": {"kind": "limit"}})).values()
    assert "stops.take_profit rests" in str(problem)


def test_orders_at_market_are_what_a_definition_without_orders_means(described: Described) -> None:
    spelled = {"entry": {"kind": "market"}, "exit": {"kind": "market"}}
    plain, told = parse_definition(described()), parse_definition(described(orders=spelled))
    assert told.fingerprint() == plain.fingerprint()
    assert "orders" not in json.loads(plain.canonical_json())


def test_one_way_to_write_a_resting_entry_is_as_good_as_another(described: Described) -> None:
    one = {"entry": {"kind": "limit", "offset": "1e-3"}}
    other = {"exit": {"kind": "market"}, "entry": {"expires_bars": 1, "offset": "0.0010", "kind": "limit"}}
    made, same = (parse_definition(described(orders=orders)) for orders in (one, other))
    assert made.fingerprint() == same.fingerprint()
    assert parse_definition(made.canonical_json()) == made


def test_fingerprint_changes_with_the_meaning(described: Described) -> None:
    base = parse_definition(described()).fingerprint()
    assert parse_definition(described(timeframe="5m")).fingerprint() != base
    assert parse_definition(described(stops={"stop_loss": "0.01"})).fingerprint() != base
    assert len(base) == 64


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda file: file.stem)
def test_canonical_text_parses_to_the_same_strategy(file: Path) -> None:
    definition = parse_definition(file.read_text())
    assert parse_definition(definition.canonical_json()).canonical_json() == definition.canonical_json()


def test_schema_is_json_and_names_every_part() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Definition.model_fields)
    assert schema["additionalProperties"] is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    part=st.sampled_from(
        ["name", "timeframe", "indicators", "entry", "exit", "pyramid", "stops", "cooldown", "orders", "sizing"]
    ),
    inner=st.sampled_from(
        [None, "long", "short", "all", "id", "name", "params", "source", "stop_loss", "trailing", "kind", "value"]
    ),
    value=json_values,
    listed=st.booleans(),
)
def test_whatever_stands_in_a_part_is_taken_or_refused_in_order(
    part: str, inner: str | None, value: Any, listed: bool, described: Described
) -> None:
    node = value if inner is None else {inner: value}
    refused: tuple[Problem, ...] = ()
    try:
        parse_definition(described(**{part: [node] if listed else node}))
    except DefinitionError as error:
        refused = error.problems or (Problem("nothing", "is said"),)
    assert all(problem.path.startswith("$") and "\n" not in problem.message for problem in refused)


@given(st.binary(max_size=200))
def test_bytes_are_taken_or_refused_in_order(data: bytes) -> None:
    with pytest.raises(DefinitionError):
        parse_definition(data)


def test_reference_documents_its_own_example() -> None:
    assert parse_definition(DOCUMENT.read_text().split("```json")[1].split("```")[0]).name == "ema-cross"


def test_the_document_of_indicators_has_every_one() -> None:
    text = (DOCUMENT.parent / "INDICATORS.md").read_text()
    for entry in CATALOGUE.values():
        (line,) = [each for each in text.splitlines() if each.startswith(f"| `{entry.name}` |")]
        for parameter in entry.parameters:
            bounds = f"`{parameter.name}` {parameter.default} ({parameter.minimum} to {parameter.maximum})"
            assert bounds in line
        assert all(f"`{word}`" in line for word in (*entry.aliases, *entry.outputs))
