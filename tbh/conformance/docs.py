"""``docs/INDICATORS.md``, written from the catalogue, and from the last run over the published values.

``python -m tbh.conformance.docs FILE`` (``make docs``) takes that run from ``RUN_FILE`` in FILE's folder, where
``tbh indicators verify MANIFEST --json`` has put it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tbh.strategies.indicators import CATALOGUE, SOURCE, TIME, Indicator

RUN_FILE = "indicators-run.json"

HEAD = """\
# Indicators

Everything a strategy may name. Written by `make docs` from the catalogue itself.

```sh
tbh indicators list
tbh indicators show macd
tbh indicators compute macd --candles btc-1m.csv --param fast=8 --last 5
tbh indicators verify manifest.json
```

Values are TA-Lib's wherever it has the indicator: an EMA is seeded by the simple average of its first `period` values;
RSI, ATR and ADX are Wilder's; bands and `stddev` use the population standard deviation. What TA-Lib lacks is computed
with NumPy, after the source that is named. Its MAVP alone is not offered: its periods are a series of their own.

- **Reads** *source*: one of `open high low close volume` (`close` when left out), or a column of another indicator.
  *time*: the times of the bars.
- **Null rows**: the leading rows without a value, for all columns or for each. Columns in *italics* can be null later
  as well: where a quotient has no divisor, where a line belongs to the other side, until a point is confirmed.
- **Remembers**: how much of the past is in a value, with the defaults. *window n*: the last n rows, exactly.
  *decays n*: all rows, but after n of them the start weighs less than 1e-14. *all*: every row from the first bar on;
  a running bot carries it from the first one that it loaded. Two computations that began at different bars agree in
  their *differences*, in their *ratios*, after a second common *turn* (of the stop, of the swing, of the day), or only
  from a common *start*.
- Longest periods are limited, so that what decays has done so within the 25,000 bars that a running bot always keeps.
- Each can be computed on [bars of a higher timeframe](STRATEGIES.md#higher-timeframes); `bar` gives their prices.
"""

GROUPS = {
    "overlap": "Averages, bands and stops",
    "momentum": "Momentum",
    "volume": "Volume",
    "volatility": "Volatility",
    "statistics": "Statistics",
    "price": "Prices of a bar",
    "candle": "Facts about candles",
    "swing": "Turning points",
    "session": "Days, weeks and months",
    "cycle": "Cycles",
    "math": "Arithmetic",
    "pattern": "Candle patterns",
}

_COLUMNS = "| name | aliases | is | parameters: default (range) | reads | columns | null rows | remembers | source |"


def render(run: Mapping[str, Any] | None) -> str:
    """The document; ``run`` is the JSON of the last run over published values, None when there was none."""
    parts = [HEAD.rstrip()]
    entries = sorted(CATALOGUE.values(), key=lambda entry: list(GROUPS).index(entry.group))
    for group, members in groupby(entries, key=lambda entry: entry.group):
        parts += [f"\n## {GROUPS[group]}\n{_COLUMNS}\n{'| --- ' * 9}|", *(_row(entry) for entry in members)]
    return "\n".join([*parts, *_published(run)]).rstrip() + "\n"


def _row(entry: Indicator) -> str:
    params = entry.resolve({})
    cells = (
        f"`{entry.name}`",
        _code(entry.aliases),
        entry.summary.replace("|", "\\|"),
        ", ".join(f"`{each.name}` {each.default} ({each.minimum} to {each.maximum})" for each in entry.parameters)
        or "none",
        ", ".join({SOURCE: "*source*", TIME: "*time*"}.get(each, each) for each in entry.inputs),
        " ".join(f"*`{each}`*" if each in entry.sparse else f"`{each}`" for each in entry.outputs),
        "; ".join(str(rows) for rows in entry.nulls) if isinstance(entry.nulls, tuple) else str(entry.nulls),
        f"all: {entry.memory.compared}"
        if entry.memory.kind == "all"
        else f"{'window' if entry.memory.kind == 'window' else 'decays'} {entry.history(params)}",
        entry.source,
    )
    return f"| {' | '.join(cells)} |"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _published(run: Mapping[str, Any] | None) -> Iterator[str]:
    if run is None:
        return
    yield "\n## Against published values"
    yield (
        f"{run['passed']} of {run['cases']} published cases (Stock.Indicators, LEAN, StockCharts) and"
        f" {run['talib']['passed']} of {run['talib']['cases']} functions in tables of TA-Lib's own values agree within"
        " their tolerances."
    )
    for found in (*run["failed"], *run["talib"]["failed"]):
        yield f"\n- differs: `{found['id']}`: {found['detail']}"
    for name in (*run["unsupported"], *run["talib"]["unsupported"]):
        yield f"\n- not offered: `{name}`"
    yield "\nWhere a family starts, draws or defines a column otherwise, it is compared in the form named here:\n"
    yield "| case | column | how |\n| --- | --- | --- |"
    for case, members in groupby(run["differing"], key=lambda each: (each["id"], each["what"])):
        yield f"| `{case[0]}` | {_code([each['column'] for each in members])} | {case[1]} |"


def main(arguments: Sequence[str]) -> int:
    """Write the document to the file that is named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tbh.conformance.docs FILE\n")
        return 64
    target = Path(arguments[0])
    recorded = target.parent / RUN_FILE
    run = json.loads(recorded.read_text("utf-8")) if recorded.exists() else None
    target.write_text(render(run), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
