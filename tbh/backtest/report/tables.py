"""The trades and the summary of a report, as files for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from tbh import __version__
from tbh.backtest.excursions import excursions, returns_of
from tbh.backtest.figures import Figures
from tbh.backtest.report.subject import Subject, candles_told, options_told
from tbh.backtest.trades import CAUSES
from tbh.infra.candles import iso

COLUMNS = (
    "symbol",
    "side",
    "entry_time",
    "exit_time",
    "entry_price",
    "exit_price",
    "qty",
    "fees",
    "funding",
    "pnl",
    "exit_reason",
    "cause",
    "bars",
    "return",
    "adverse",
    "favourable",
    "layers",
)


def trade_table(subject: Subject) -> list[dict[str, Any]]:
    """Each trade with ``COLUMNS``: what ``--json`` prints of it, and what is known beyond that. Money is exact text;
    ``return``, ``adverse`` and ``favourable`` are fractions as numbers."""
    trades = subject.made.trades
    against, favour = excursions(trades, subject.markets)
    more = zip(
        (subject.symbols[number] for number in trades.symbol.tolist()),
        (CAUSES[number] for number in trades.cause.tolist()),
        (trades.exit_row - trades.entry_row).tolist(),
        returns_of(trades).tolist(),
        against.tolist(),
        favour.tolist(),
        trades.layers.tolist(),
        strict=True,
    )
    rows = []
    for printed, (symbol, cause, bars, gained, adverse, favourable, layers) in zip(
        subject.told["trades"], more, strict=True
    ):
        row = {
            "symbol": symbol,
            "funding": "0",
            **printed,
            "cause": cause,
            "bars": bars,
            "return": _shorter(gained),
            "adverse": _shorter(adverse),
            "favourable": _shorter(favourable),
            "layers": layers,
        }
        rows.append({name: row[name] for name in COLUMNS})
    return rows


def summary(subject: Subject, figures: Figures) -> dict[str, Any]:
    """What ``--json`` prints, and: every statistic with its unit and definition, the deepest drawdowns, the strategy's
    definition, the assumptions, the candles, the version."""
    return {
        **subject.told,
        "statistics": {
            figure.key: {"value": figure.value, "unit": figure.unit, "definition": figure.definition}
            for figure in figures.figures
        },
        "drawdowns": [
            {
                "began": iso(one.began_ms),
                "deepest": iso(one.deepest_ms),
                "ended": iso(one.ended_ms),
                "recovered": one.recovered,
                "depth": one.depth,
            }
            for one in figures.drawdowns
        ],
        "definition": subject.definition,
        "options": options_told(subject.options),
        "candles": candles_told(subject),
        "tbh": __version__,
    }


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """A header and a line for each trade, RFC 4180 with line feeds."""
    target = io.StringIO(newline="")
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue().encode()


def as_json(value: Mapping[str, Any] | list[dict[str, Any]]) -> bytes:
    """One JSON text with a line for each member."""
    if isinstance(value, list):
        body = "[\n" + ",\n".join(_text(row) for row in value) + "\n]\n"
    else:
        body = "{\n" + ",\n".join(f"{_text(name)}: {_text(each)}" for name, each in value.items()) + "\n}\n"
    return body.encode()


def _text(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _shorter(value: float) -> float:
    """Ten digits: what is beyond is the noise of floats."""
    return float(f"{value:.10g}")
