"""Every case of a manifest, computed and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tbh.conformance import lean, skender, stockcharts, talib_tables
from tbh.conformance.readings import Bench, Columns, Unsupported, disagreement, reading
from tbh.conformance.tables import Case, Oracle, Table, TableError, read_parquet
from tbh.strategies.base import FloatArray
from tbh.strategies.indicators import NAMES

FAMILIES: Mapping[str, Callable[[Case], Columns | None]] = {
    "skender": skender.columns,
    "lean": lean.columns,
    "stockcharts": stockcharts.columns,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one case: ``passed``, ``failed`` or ``unsupported``, and why.

    ``notes`` are the columns that are compared in another form than value by value, and in which.
    """

    id: str
    state: Literal["passed", "failed", "unsupported"]
    detail: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def verify_case(case: Case) -> Finding:
    """TableError when a file of the case cannot be read."""
    try:
        return _compared(case, _columns(case), Bench(_series(case)))
    except Unsupported as missing:
        return Finding(case.id, "unsupported", str(missing))


def verify_oracle(oracle: Oracle) -> Iterator[Finding]:
    """One finding for each function of a table of TA-Lib's values. TableError when it cannot be read."""
    table = read_parquet(oracle.file)
    for function in oracle.functions:
        name = str(function["function"])
        ident = f"talib.{oracle.file.stem}.{name}"
        try:
            found = talib_tables.problem(name, function, table, oracle)
        except Unsupported as missing:
            yield Finding(ident, "unsupported", str(missing))
            continue
        yield Finding(ident, "failed" if found else "passed", found or "")


def _columns(case: Case) -> Columns:
    family = FAMILIES.get(case.family)
    try:
        known = None if family is None else family(case)
    except KeyError as missing:
        raise Unsupported(f"the case has no parameter {missing}") from None
    if known is not None:
        return known
    entry = NAMES.get(case.indicator)
    if entry is None:
        raise Unsupported(f"the catalogue has no {case.indicator}")
    # A case by the catalogue's own names: columns are outputs, or anything where there is one output only.
    return {
        column: reading(f"{entry.name}.{column if column in entry.outputs else entry.outputs[0]}", **case.params)
        for column in case.columns
        if column in entry.outputs or len(entry.outputs) == 1
    }


def _series(case: Case) -> dict[str, FloatArray]:
    series: dict[str, FloatArray] = {}
    for number, path in enumerate(case.input_files):
        # The second file is the other market of a comparison.
        made = Table(path).series().items()
        series.update({name if number == 0 else f"other_{name}": values for name, values in made})
    return series


def _compared(case: Case, columns: Columns, bench: Bench) -> Finding:
    expected = Table(case.expected_file)
    notes: dict[str, str] = {}
    for column in case.columns:
        wanted = expected.numbers(column)
        if np.isnan(wanted).all():
            continue
        how = columns.get(column)
        if how is None:
            raise Unsupported(f"nothing of the catalogue is column {column}")
        actual = how.of(bench)
        if len(actual) != len(wanted):
            raise TableError(f"{case.id}: {len(wanted)} rows are expected of {len(actual)} rows of input")
        problem = disagreement(wanted, actual, how, case.absolute, case.relative)
        if problem is not None:
            return Finding(case.id, "failed", f"{column}: {problem}", notes)
        if how.note:
            notes[column] = how.note
    return Finding(case.id, "passed", "", notes)
