"""The catalogue against every published case and TA-Lib's own tables, and whether a difference would be noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tbh.conformance.docs import RUN_FILE, main, render
from tbh.conformance.readings import Bench, Reading, Unsupported, disagreement, made
from tbh.conformance.tables import Case, Oracle, Table, TableError, read_manifest
from tbh.conformance.verify import verify_case, verify_oracle

DOCS = Path(__file__).resolve().parents[2] / "docs"
MANIFEST = Path(__file__).resolve().parents[3] / "shared" / "data" / "indicators" / "manifest.json"


def manifest() -> tuple[list[Case], list[Oracle]]:
    return read_manifest(MANIFEST) if MANIFEST.exists() else ([], [])


CASES, ORACLES = manifest()


@pytest.mark.skipif(not CASES, reason=f"{MANIFEST} is absent")
def test_there_is_a_case_for_each_family() -> None:
    assert {case.family for case in CASES} == {"skender", "lean", "stockcharts"}
    assert len(CASES) >= 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_published_case_agrees_within_its_tolerance(case: Case) -> None:
    found = verify_case(case)
    assert (found.state, found.detail) == ("passed", "")


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.file.stem)
def test_every_function_of_a_table_of_talib_agrees(oracle: Oracle) -> None:
    findings = list(verify_oracle(oracle))
    assert len(findings) == 200
    assert [(each.id, each.detail) for each in findings if each.state != "passed"] == []


@pytest.mark.skipif(not CASES, reason=f"{MANIFEST} is absent")
def test_the_document_names_every_other_form_of_comparison() -> None:
    recorded = json.loads((DOCS / RUN_FILE).read_text("utf-8"))
    notes = [
        {"id": found.id, "column": column, "what": what}
        for found in map(verify_case, CASES)
        for column, what in found.notes.items()
    ]
    assert recorded["differing"] == notes
    text = (DOCS / "INDICATORS.md").read_text("utf-8")
    assert all(f"| `{each['id']}` | " in text and each["what"] in text for each in notes)


def test_the_document_is_what_the_catalogue_says(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_bytes((DOCS / RUN_FILE).read_bytes())
    assert main([str(tmp_path / "INDICATORS.md")]) == 0
    if (tmp_path / "INDICATORS.md").read_text("utf-8") != (DOCS / "INDICATORS.md").read_text("utf-8"):
        pytest.fail("docs/INDICATORS.md is not what the catalogue says: run `make docs`", pytrace=False)
    assert "Against published values" not in render(None)
    assert main([]) == 64


VALUES = np.array([np.nan, 1.0, 2.0, 3.0, 4.0])
PLAIN = made(lambda bench: bench.close)


@pytest.mark.parametrize(
    ("actual", "how", "told"),
    [
        ([np.nan, 1, 2, 3, 4], PLAIN, None),
        ([0, 1, 2, 3, 4], PLAIN, None),
        ([np.nan, np.nan, 2, 3, 4], PLAIN, None),
        ([np.nan, 1, 2, 3, 4.1], PLAIN, "1 of 4 values differ, the most on row 4: 4.1, not 4"),
        ([np.nan, 1, np.nan, 3, 4], PLAIN, "row 2 is null, not 2"),
        ([np.nan, np.nan, np.nan, np.nan, 4], PLAIN, "only 1 of 4 values can be compared"),
        ([np.nan] * 5, PLAIN, "only 0 of 4 values can be compared"),
        ([np.nan, 11, 12, 13, 14], PLAIN, "4 of 4 values differ, the most on row 1: 11, not 1"),
        ([np.nan, 11, 12, 13, 14], replace(PLAIN, form="differences"), None),
        ([np.nan, 9, 2, 3, 4], replace(PLAIN, tail=3), None),
        ([np.nan, 1, 2, 3, 4.1], replace(PLAIN, tail=3), "1 of 3 values differ, the most on row 4: 4.1, not 4"),
        ([np.nan, 1, 2, 3, 4.1], replace(PLAIN, within=0.2), None),
        ([np.nan, np.nan, 1, 2, 3], replace(PLAIN, ahead=1), None),
    ],
)
def test_a_difference_is_told_by_its_row(actual: list[float], how: Reading, told: str | None) -> None:
    assert disagreement(VALUES, np.array(actual, dtype=np.float64), how, 1e-6, 1e-9) == told


@pytest.fixture
def made_case(tmp_path: Path) -> Case:
    """A case by the catalogue's own names, with the values of a simple average over two bars."""
    table = tmp_path / "table.csv"
    table.write_text("date,close,mean,word\n2026-01-01,1,,x\n2026-01-02,3,2,x\n01/03/2026,5,4,x\n1767484800,7,6,x\n")
    return Case(
        id="own.sma",
        indicator="sma",
        params={"period": 2},
        input_files=(table,),
        expected_file=table,
        columns=("mean",),
        absolute=1e-9,
        relative=0.0,
    )


def test_a_case_by_the_catalogues_own_names_is_compared(made_case: Case) -> None:
    assert verify_case(made_case).state == "passed"
    failed = verify_case(replace(made_case, params={"period": 3}))
    assert (failed.state, failed.detail) == (
        "failed",
        "mean: 2 of 2 values differ, the most on row 2: 3, not 4",
    )


def test_times_are_read_however_they_are_written(made_case: Case) -> None:
    days = np.diff(Table(made_case.expected_file).series()["time"]) / 86_400_000
    assert days.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"indicator": "moon_phase"}, "the catalogue has no moon_phase"),
        ({"params": {"period": 0}}, "sma.period must be a whole number from 1 to 5000, not 0"),
        ({"params": {"length": 2}}, "sma has no parameter length"),
        ({"indicator": "atr", "params": {}}, "the input has no high"),
        ({"indicator": "macd", "params": {"fast": 30}}, "nothing of the catalogue is column mean"),
        ({"id": "skender.rsi", "indicator": "Rsi", "params": {}}, "the case has no parameter 'lookbackPeriods'"),
        ({"id": "lean.x", "indicator": "Unheard"}, "the catalogue has no Unheard"),
        ({"id": "stockcharts.x", "indicator": "Unheard"}, "the catalogue has no Unheard"),
    ],
)
def test_what_the_catalogue_cannot_do_is_named(made_case: Case, change: dict[str, object], told: str) -> None:
    found = verify_case(replace(made_case, **change))  # type: ignore[arg-type]
    assert (found.state, found.detail) == ("unsupported", told)


def test_a_rule_between_parameters_holds_for_cases_too() -> None:
    with pytest.raises(Unsupported, match="fast must be smaller than slow"):
        Bench({"close": VALUES})("macd.signal", fast=30, slow=20)


def test_a_table_that_cannot_be_read_is_one_line(made_case: Case, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"column 'word': 'x' is no number"):
        verify_case(replace(made_case, columns=("word",)))
    with pytest.raises(TableError, match="has no column 'median'"):
        verify_case(replace(made_case, columns=("median",)))
    with pytest.raises(TableError, match="No such file"):
        verify_case(replace(made_case, expected_file=tmp_path / "absent.csv"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(TableError, match="is empty"):
        verify_case(replace(made_case, expected_file=tmp_path / "empty.csv"))
    (tmp_path / "short.csv").write_text("mean\n1\n")
    with pytest.raises(TableError, match="1 rows are expected of 4 rows of input"):
        verify_case(replace(made_case, expected_file=tmp_path / "short.csv"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [{}]}', '{"cases": 1}'])
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(text)
    with pytest.raises(TableError) as refused:
        read_manifest(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)
